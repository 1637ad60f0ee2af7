// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"encoding/json"
	"os"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// BenchmarkNewPod is what each new version of a pod costs.
func BenchmarkNewPod(b *testing.B) {
	content, err := os.ReadFile("../autoscaler/testdata/captured/per-pod.metric.json")
	if err != nil {
		b.Fatal(err)
	}
	var payload struct {
		Resource corev1.Pod `json:"resource"`
	}
	if err := json.Unmarshal(content, &payload); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := NewPod(&payload.Resource); err != nil {
			b.Fatal(err)
		}
	}
}

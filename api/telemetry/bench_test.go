// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/autoscaler"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

func BenchmarkObserve(b *testing.B) {
	m := New(Options{})
	r := autoscaler.Record{
		ID: id, Time: time.Now(), Current: 3, Bounds: bounds.Bounds{Max: bounds.Limit{Replicas: 10}}, Written: true,
		Trigger: autoscaler.Trigger{Kind: autoscaler.KindInterval, Through: autoscaler.ThroughScale},
		Decision: &scale.Decision{
			Current: 3, Evaluated: new(int32(14)), Desired: 10, Direction: scale.DirectionUp,
			Constraints: []scale.Constraint{constraint(14, 10, scale.ConstraintMax)},
		},
		Durations: map[execute.Stage]time.Duration{},
	}
	for _, stage := range stages {
		r.Durations[stage] = time.Millisecond
	}
	b.ReportAllocs()
	for b.Loop() {
		m.Observe(r)
	}
}

func BenchmarkScrape(b *testing.B) {
	for _, encoding := range []string{"identity", "gzip"} {
		b.Run(encoding, func(b *testing.B) {
			m := New(Options{Version: "1"})
			m.Observe(autoscaler.Record{ID: id, Trigger: autoscaler.Trigger{Kind: autoscaler.KindInterval, Through: autoscaler.ThroughScale}, Decision: &scale.Decision{}})
			r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/metrics", nil)
			r.Header.Set("Accept-Encoding", encoding)
			b.ReportAllocs()
			for b.Loop() {
				answer := httptest.NewRecorder()
				m.serve(answer, r)
				if answer.Code != http.StatusOK {
					b.Fatal(answer.Code)
				}
				b.ReportMetric(float64(answer.Body.Len()), "B/answer")
			}
		})
	}
}

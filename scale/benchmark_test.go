// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// BenchmarkDecide decides and remembers, over random evaluations.
func BenchmarkDecide(b *testing.B) {
	windows := behaving(func(up, down *autoscalingv2.HPAScalingRules) {
		up.StabilizationWindowSeconds, down.StabilizationWindowSeconds = new(int32(3600)), new(int32(3600))
		down.Policies = []autoscalingv2.HPAScalingPolicy{pods(4, 60), percent(10, 1800)}
	}, pods(4, 60), percent(100, 1800))
	for _, variant := range []struct {
		name   string
		config config.Autoscaler
		full   bool
	}{
		{"no behavior", config.Autoscaler{DownscaleStabilization: new(config.Seconds(300))}, false},
		{"behavior", windows, false},
		{"behavior, full", windows, true},
	} {
		b.Run(variant.name, func(b *testing.B) {
			w := newWorld(variant.config, 20, between(1, 40))
			if variant.full {
				fill(w)
			}
			r, wanted := roll(1), make([]int32, 1024)
			for i := range wanted {
				wanted[i] = r.count(50)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				w.evaluated(&wanted[i%len(wanted)])
				w.now = w.now.Add(time.Millisecond)
			}
		})
	}
}

// fill makes as many recommendations and events as are kept at most.
func fill(w *world) {
	for i := range int32(maxExtremes) {
		at := w.now.Add(-time.Hour + time.Duration(i)*1750*time.Millisecond)
		w.history.highs.record(Recommendation{Replicas: 1_000_000 - i, At: at})
		w.history.lows.record(Recommendation{Replicas: i - 1_000_000, At: at})
	}
	for range maxEvents {
		w.kept.Events = append(w.kept.Events, Event{At: w.now, Change: 1}, Event{At: w.now, Change: -1})
	}
	w.kept.Events = w.kept.Events[:maxEvents]
}

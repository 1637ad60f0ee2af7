// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"math"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// FuzzDecide: whatever the numbers, a decision is within the bounds, its
// constraints lead to it, and nothing panics.
func FuzzDecide(f *testing.F) {
	for _, edge := range []int32{0, 1, 5, math.MaxInt32, math.MinInt32} {
		f.Add(edge, edge, int32(1), int32(10), edge, edge, edge, uint8(0))
		f.Add(int32(5), edge, int32(0), int32(math.MaxInt32), int32(7), edge, -edge, uint8(255))
		f.Add(edge, int32(5), int32(5), int32(5), int32(1), int32(7), edge, uint8(85))
	}
	f.Fuzz(func(t *testing.T, current, evaluated, least, most, value, change, before int32, how uint8) {
		least = max(least, 0)
		most = max(most, least)
		policies := []autoscalingv2.HPAScalingPolicy{pods(max(1, value), 15), percent(max(1, value), 60)}
		c := behaving(func(up, down *autoscalingv2.HPAScalingRules) {
			up.StabilizationWindowSeconds, down.StabilizationWindowSeconds = new(int32(60)), new(int32(60))
			down.Policies = policies
			if how&1 != 0 {
				up.SelectPolicy, down.SelectPolicy = new(autoscalingv2.MinChangePolicySelect), new(autoscalingv2.MinChangePolicySelect)
			}
		}, policies...)
		c.Fallback = &config.Fallback{FailureThreshold: 1, Replicas: &value, Behavior: fallbacks[how>>6]}
		if how&2 != 0 {
			c.Behavior, c.DownscaleStabilization = nil, new(config.Seconds(60))
		}
		w := newWorld(c, current, between(least, most))
		w.kept = Kept{Fallback: how&4 != 0, OwnZero: how&8 != 0, Events: []Event{{at(-1), change}, {at(-20), change}, {at(9), -change}}}
		if how&16 != 0 {
			w.kept.Hold = &Hold{Replicas: value, Until: at(1)}
		}
		w.history.record(Recommendation{Replicas: before, At: at(-5)})
		raw := &evaluated
		if how&32 != 0 {
			raw = nil
		}
		d := w.evaluated(raw)
		checkChain(t, d)
		if d.Desired < 0 {
			t.Errorf("%d replicas", d.Desired)
		}
		followed := !d.Disabled && (d.Evaluated != nil || d.Fallback || c.Behavior != nil || w.kept.Hold != nil)
		if followed && (d.Desired < least || d.Desired > most) {
			t.Errorf("%d replicas are out of the bounds %d to %d", d.Desired, least, most)
		}
		_ = d.Explain()
		w.kept.Begin(Write{At: w.now, From: d.Current, To: d.Desired})
		w.rules.Settle(&w.kept, evaluated)
		w.kept.Arrive(w.now.Add(-time.Hour))
	})
}

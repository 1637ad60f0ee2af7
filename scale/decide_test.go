// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/evaluate"
)

var epoch = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

func between(least, most int32) bounds.Bounds {
	return bounds.Bounds{Min: bounds.Limit{Replicas: least}, Max: bounds.Limit{Replicas: most}, BaseMin: least}
}

func newHistory(window time.Duration) *History {
	return NewHistory(config.Autoscaler{DownscaleStabilization: new(config.Seconds(window / time.Second))})
}

func decide(now time.Time, current, evaluated int32, b bounds.Bounds, history *History) Decision {
	return NewRules(config.Autoscaler{}).Decide(Situation{
		Now: now, Current: current, Evaluation: &evaluate.Evaluation{TargetReplicas: evaluated}, Bounds: b, History: history,
	})
}

func TestDecideExplainsItself(t *testing.T) {
	wanted := func(window time.Duration, ago time.Duration, count int32) *History {
		h := newHistory(window)
		h.record(Recommendation{Replicas: count, At: epoch.Add(-ago)})
		return h
	}
	for _, test := range []struct {
		name      string
		current   int32
		evaluated int32
		bounds    bounds.Bounds
		history   *History
		want      Decision
		reason    string
	}{
		{
			name: "as evaluated", current: 2, evaluated: 5, bounds: between(1, 10),
			want:   Decision{Current: 2, Evaluated: new(int32(5)), Desired: 5},
			reason: "evaluated 5",
		},
		{
			name: "above the maximum", current: 2, evaluated: 14, bounds: between(1, 10),
			want: Decision{Current: 2, Evaluated: new(int32(14)), Desired: 10, Constraints: []Constraint{
				{ConstraintMax, 14, 10, "maxReplicas is 10"},
			}},
			reason: "evaluated 14, capped to 10 (maxReplicas is 10)",
		},
		{
			name: "below the minimum", current: 5, evaluated: -3, bounds: between(2, 10),
			want: Decision{Current: 5, Evaluated: new(int32(-3)), Desired: 2, Constraints: []Constraint{
				{ConstraintMin, -3, 2, "minReplicas is 2"},
			}},
			reason: "evaluated -3, raised to 2 (minReplicas is 2)",
		},
		{
			name: "held by the window", current: 8, evaluated: 3, bounds: between(1, 10), history: wanted(5*time.Minute, 40*time.Second, 8),
			want: Decision{Current: 8, Evaluated: new(int32(3)), Desired: 8, Constraints: []Constraint{
				{ConstraintDownscaleStabilization, 3, 8, "8 was wanted 40s ago, within the downscaleStabilization of 5m0s"},
			}},
			reason: "evaluated 3, held at 8 (8 was wanted 40s ago, within the downscaleStabilization of 5m0s)",
		},
		{
			name: "exactly one window ago is out", current: 8, evaluated: 3, bounds: between(1, 10), history: wanted(time.Minute, time.Minute, 8),
			want:   Decision{Current: 8, Evaluated: new(int32(3)), Desired: 3},
			reason: "evaluated 3",
		},
		{
			name: "the window never holds a scale up", current: 2, evaluated: 9, bounds: between(1, 10), history: wanted(time.Minute, 0, 8),
			want:   Decision{Current: 2, Evaluated: new(int32(9)), Desired: 9},
			reason: "evaluated 9",
		},
		{
			name: "what the window holds is clamped too", current: 20, evaluated: 1, bounds: between(3, 10), history: wanted(time.Minute, time.Second, 20),
			want: Decision{Current: 20, Evaluated: new(int32(1)), Desired: 10, Constraints: []Constraint{
				{ConstraintMin, 1, 3, "minReplicas is 3"},
				{ConstraintDownscaleStabilization, 3, 20, "20 was wanted 1s ago, within the downscaleStabilization of 1m0s"},
				{ConstraintMax, 20, 10, "maxReplicas is 10"},
			}},
			reason: "evaluated 1, raised to 3 (minReplicas is 3), held at 20 (20 was wanted 1s ago, within the downscaleStabilization of 1m0s), " +
				"capped to 10 (maxReplicas is 10)",
		},
		{
			name: "disabled at zero", current: 0, evaluated: 4, bounds: between(1, 10),
			want: Decision{Current: 0, Evaluated: new(int32(4)), Desired: 0, Disabled: true, Constraints: []Constraint{
				{ConstraintDisabled, 4, 0, "the target is at 0 replicas and minReplicas is 1, which disables scaling"},
			}},
			reason: "evaluated 4, held at 0 (the target is at 0 replicas and minReplicas is 1, which disables scaling)",
		},
		{
			name: "up from zero", current: 0, evaluated: 4, bounds: between(0, 10),
			want:   Decision{Current: 0, Evaluated: new(int32(4)), Desired: 4},
			reason: "evaluated 4",
		},
		{
			name: "down to zero", current: 4, evaluated: 0, bounds: between(0, 10),
			want:   Decision{Current: 4, Evaluated: new(int32(0)), Desired: 0},
			reason: "evaluated 0",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			history := test.history
			if history == nil {
				history = newHistory(0)
			}
			got := decide(epoch, test.current, test.evaluated, test.bounds, history)
			test.want.direct()
			if diff := cmp.Diff(test.want, got, cmpopts.IgnoreUnexported(Decision{})); diff != "" {
				t.Error("decision (-want +got):\n" + diff)
			}
			if got.Explain() != test.reason {
				t.Errorf("reason %q, want %q", got.Explain(), test.reason)
			}
		})
	}
}

func TestADisabledTargetIsNotRemembered(t *testing.T) {
	history := newHistory(time.Minute)
	history.Record(epoch, decide(epoch, 0, 9, between(1, 10), history))
	if highest, ok := history.highest(epoch); ok {
		t.Errorf("the history remembers %d", highest.Replicas)
	}
}

// Which rule decides, in what order, and what is remembered.
func TestTheOrderOfTheRules(t *testing.T) {
	nights := bounds.Bounds{
		Min: bounds.Limit{Replicas: 2}, Max: bounds.Limit{Replicas: 4, Source: "schedule nights"}, BaseMin: 1, Temporary: true,
	}
	paused, held := Kept{Intents: Intents{Pause: &Pause{}}}, Kept{Intents: Intents{Hold: &Hold{Replicas: 6, Until: epoch.Add(time.Hour), Reason: "load test"}}}
	static := func(count int32) *config.Fallback {
		return &config.Fallback{FailureThreshold: 3, Replicas: &count, Behavior: config.FallbackStatic}
	}
	failing := Kept{Fallback: true}
	fast := behaving(nil)
	for _, test := range []struct {
		name     string
		config   config.Autoscaler
		kept     Kept
		bounds   bounds.Bounds
		current  int32
		raw      *int32
		desired  int32
		reason   string
		remember *int32
	}{
		{
			name: "disabled, though paused at a count", kept: Kept{Intents: Intents{Pause: &Pause{Replicas: new(int32(3))}}},
			bounds: between(1, 10), current: 0, raw: new(int32(4)), desired: 0,
			reason: "evaluated 4, held at 0 (the target is at 0 replicas and minReplicas is 1, which disables scaling)",
		},
		{
			name: "disabled, though the hooks failed", bounds: between(1, 10), current: 0, desired: 0, reason: "not evaluated, held at 0",
		},
		{
			name: "our own zero is not disabled", kept: Kept{OwnZero: true}, bounds: between(1, 10), current: 0, raw: new(int32(4)),
			desired: 4, reason: "evaluated 4", remember: new(int32(4)),
		},
		{
			name: "paused where it is", kept: paused, bounds: between(1, 10), current: 5, raw: new(int32(14)), desired: 5,
			reason: "evaluated 14, kept at 5 (paused)", remember: new(int32(10)),
		},
		{
			name: "paused, with behavior", config: fast, kept: paused, bounds: between(1, 10), current: 5, raw: new(int32(14)), desired: 5,
			reason: "evaluated 14, kept at 5 (paused)", remember: new(int32(14)),
		},
		{
			name: "paused at a count, whatever the bounds and a hold", bounds: between(1, 10), current: 5, raw: new(int32(7)), desired: 20,
			kept:   Kept{Intents: Intents{Pause: &Pause{Replicas: new(int32(20)), Reason: "release freeze"}, Hold: held.Hold}},
			reason: "evaluated 7, kept at 20 (paused: release freeze)", remember: new(int32(7)),
		},
		{
			name: "paused, and the hooks failed", kept: Kept{Intents: paused.Intents, Fallback: true}, config: config.Autoscaler{Fallback: static(8)},
			bounds: between(1, 10), current: 5, desired: 5, reason: "not evaluated, kept at 5 (paused)",
		},
		{
			name: "held", kept: held, bounds: between(1, 10), current: 2, raw: new(int32(9)), desired: 6,
			reason: "evaluated 9, held at 6 (manual hold until 2026-03-01T13:00:00Z: load test)", remember: new(int32(9)),
		},
		{
			name: "held, within the bounds", kept: held, bounds: nights, current: 2, raw: new(int32(9)), desired: 4,
			reason: "evaluated 9, held at 6 (manual hold until 2026-03-01T13:00:00Z: load test), " +
				"capped to 4 (maxReplicas is 4, by schedule nights)", remember: new(int32(4)),
		},
		{
			name: "held, though the hooks failed", config: fast, kept: held, bounds: between(1, 10), current: 12, desired: 6,
			reason: "not evaluated, held at 6 (manual hold until 2026-03-01T13:00:00Z: load test)",
		},
		{
			name: "a hold that has ended", kept: Kept{Intents: Intents{Hold: &Hold{Replicas: 6, Until: epoch}}}, bounds: between(1, 10),
			current: 2, raw: new(int32(9)), desired: 9, reason: "evaluated 9", remember: new(int32(9)),
		},
		{
			name: "outside the bounds, with behavior", config: fast, bounds: nights, current: 20, raw: new(int32(3)), desired: 4,
			reason: "evaluated 3, set to 4 (the current 20 is above maxReplicas, which is 4, by schedule nights)",
		},
		{
			name: "below the bounds, with behavior, and the hooks failed", config: fast, bounds: between(3, 10), current: 1, desired: 3,
			reason: "not evaluated, raised to 3 (the current 1 is below minReplicas, which is 3)",
		},
		{
			name: "outside the bounds, without behavior", bounds: nights, current: 20, raw: new(int32(3)), desired: 3,
			reason: "evaluated 3", remember: new(int32(3)),
		},
		{
			name: "failed", bounds: between(1, 10), current: 12, desired: 12, reason: "not evaluated, held at 12",
		},
		{
			name: "failed, while a schedule is in force", bounds: nights, current: 12, desired: 4,
			reason: "not evaluated, capped to 4 (maxReplicas is 4, by schedule nights)",
		},
		{
			name: "failed too often, without a fallback", kept: failing, bounds: between(1, 10), current: 5, desired: 5,
			reason: "not evaluated, held at 5",
		},
		{
			name: "not failed often enough", config: config.Autoscaler{Fallback: static(8)}, bounds: between(1, 10), current: 5, desired: 5,
			reason: "not evaluated, held at 5",
		},
		{
			name: "the fallback", config: config.Autoscaler{Fallback: static(8)}, kept: failing, bounds: nights, current: 3, desired: 4,
			reason: "not evaluated, fell back to 8 (at least 3 runs in a row failed; fallback.replicas is 8, fallback.behavior static), " +
				"capped to 4 (maxReplicas is 4, by schedule nights)",
		},
		{
			name: "the fallback is where it is already", config: config.Autoscaler{Fallback: static(8)}, kept: failing, bounds: between(1, 10),
			current: 8, desired: 8, reason: "not evaluated, held at 8 by the fallback",
		},
		{
			name: "a run that succeeds is no fallback", config: config.Autoscaler{Fallback: static(8)}, kept: failing, bounds: between(1, 10),
			current: 5, raw: new(int32(4)), desired: 4, reason: "evaluated 4", remember: new(int32(4)),
		},
		{
			name: "the fallback, slowed by behavior", config: with(behaving(nil, pods(2, 60)), static(8)), kept: failing, bounds: between(1, 10),
			current: 3, desired: 5,
			reason: "not evaluated, fell back to 8 (at least 3 runs in a row failed; fallback.replicas is 8, fallback.behavior static), " +
				"slowed to 5 (behavior.scaleUp allows 5: Pods 2 per 60s from 3)",
		},
		{
			name: "nothing below 0", kept: Kept{Intents: Intents{Pause: &Pause{Replicas: new(int32(-2))}}}, bounds: between(0, 10), current: 2,
			raw: new(int32(2)), desired: 0, reason: "evaluated 2, kept at -2 (paused), raised to 0 (there is no count below 0)",
			remember: new(int32(2)),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(test.config, test.current, test.bounds)
			w.kept = test.kept
			d := w.rules.Decide(w.situation(test.raw))
			if d.Desired != test.desired || d.Explain() != test.reason {
				t.Errorf("%d replicas, %s\nwant %d, %s", d.Desired, d.Explain(), test.desired, test.reason)
			}
			if diff := cmp.Diff(test.remember, d.recommendation); diff != "" {
				t.Errorf("remembered (-want +got):\n%s", diff)
			}
			checkChain(t, d)
		})
	}
}

func with(c config.Autoscaler, fallback *config.Fallback) config.Autoscaler {
	c.Fallback = fallback
	return c
}

// checkChain: each constraint goes on where the one before it ended, and all
// but an operator's change the count.
func checkChain(t *testing.T, d Decision) {
	t.Helper()
	count := d.Current
	if d.Evaluated != nil {
		count = *d.Evaluated
	}
	for _, c := range d.Constraints {
		intended := c.Name == ConstraintPaused || c.Name == ConstraintHold
		if c.From != count || c.To == c.From && !intended || c.Detail == "" || verbs[c.Name] == "" {
			t.Errorf("%+v does not follow from %d", c, count)
		}
		count = c.To
	}
	if count != d.Desired {
		t.Errorf("the constraints end at %d, not at %d", count, d.Desired)
	}
}

func TestTheFallbacks(t *testing.T) {
	for _, test := range []struct {
		behavior config.FallbackBehavior
		current  int32
		desired  int32
	}{
		{config.FallbackStatic, 3, 6},
		{config.FallbackStatic, 9, 6},
		{config.FallbackCurrent, 3, 3},
		{config.FallbackCurrent, 9, 9},
		{config.FallbackCurrentIfHigher, 3, 6},
		{config.FallbackCurrentIfHigher, 9, 9},
		{config.FallbackCurrentIfLower, 3, 3},
		{config.FallbackCurrentIfLower, 9, 6},
	} {
		w := newWorld(config.Autoscaler{
			Fallback: &config.Fallback{FailureThreshold: 1, Replicas: new(int32(6)), Behavior: test.behavior},
		}, test.current, between(1, 20))
		w.kept.Fallback = true
		if d := w.evaluated(nil); d.Desired != test.desired || !d.Fallback {
			t.Errorf("%s at %d: %d replicas (%s), want %d", test.behavior, test.current, d.Desired, d.Explain(), test.desired)
		}
	}
	without := newWorld(config.Autoscaler{Fallback: &config.Fallback{Behavior: config.FallbackCurrent}}, 7, between(1, 20))
	without.kept.Fallback = true
	if d := without.evaluated(nil); d.Desired != 7 || !d.Fallback {
		t.Errorf("without a count: %s", d.Explain())
	}
}

func TestTheEvaluationsOwnReason(t *testing.T) {
	w := newWorld(config.Autoscaler{}, 2, between(1, 3))
	s := w.situation(new(int32(5)))
	s.Evaluation.Reason = "42 jobs wait"
	if got := w.rules.Decide(s).Explain(); got != "evaluated 5 (42 jobs wait), capped to 3 (maxReplicas is 3)" {
		t.Error(got)
	}
}

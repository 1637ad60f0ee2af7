// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"math/rand/v2"
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

// The window as a story: 8 is wanted, then 2; 8 is kept until the window has
// passed, and what was wanted meanwhile counts from when it was wanted.
func TestDownscaleWaitsForTheWindow(t *testing.T) {
	history, current := newHistory(30*time.Second), int32(8)
	history.Seed(epoch, current)
	for _, step := range []struct {
		at                time.Duration
		evaluated, expect int32
	}{
		{0, 8, 8},
		{10 * time.Second, 2, 8},
		{20 * time.Second, 5, 8},
		{30 * time.Second, 2, 5},
		{40 * time.Second, 2, 5},
		{50 * time.Second, 2, 2},
		{60 * time.Second, 9, 9},
		{61 * time.Second, 1, 9},
	} {
		now := epoch.Add(step.at)
		decision := decide(now, current, step.evaluated, between(1, 10), history)
		history.Record(now, decision)
		if decision.Desired != step.expect {
			t.Fatalf("at %s: %d replicas, want %d (%s)", step.at, decision.Desired, step.expect, decision.Explain())
		}
		current = decision.Desired
	}
}

func TestARestartKeepsWhatItFinds(t *testing.T) {
	history := newHistory(time.Minute)
	history.Seed(epoch, 7)
	history.Seed(epoch, 9)
	later := epoch.Add(10 * time.Second)
	want := "evaluated 1, held at 7 (7 was found at the start 10s ago, within the downscaleStabilization of 1m0s)"
	if d := decide(later, 7, 1, between(1, 10), history); d.Desired != 7 || d.Explain() != want {
		t.Errorf("just after the start: %d replicas (%s), want the 7 it found", d.Desired, d.Explain())
	}
	if d := decide(epoch.Add(time.Minute), 7, 1, between(1, 10), history); d.Desired != 1 {
		t.Errorf("one window later: %d replicas, want 1", d.Desired)
	}
}

func TestADisabledTargetIsNotRemembered(t *testing.T) {
	history := newHistory(time.Minute)
	history.Record(epoch, decide(epoch, 0, 9, between(1, 10), history))
	if highest, ok := history.highest(epoch); ok {
		t.Errorf("the history remembers %d", highest.Replicas)
	}
}

func TestACloneChangesNothing(t *testing.T) {
	history := newHistory(time.Minute)
	history.record(Recommendation{Replicas: 5, At: epoch})
	clone := history.Clone()
	clone.Seed(epoch, 9)
	clone.record(Recommendation{Replicas: 7, At: epoch})
	history.Seed(epoch, 4)
	if highest, _ := history.highest(epoch); highest.Replicas != 5 {
		t.Errorf("highest is %d, want 5", highest.Replicas)
	}
}

// Over random traces the pruned history answers as one that forgets nothing,
// and stays small.
func TestHistoryAgainstAPlainList(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a trace, not a secret
	for range 200 {
		const window = 60 * time.Second
		history, now := newHistory(window), epoch
		var all []Recommendation
		for range 300 {
			now = now.Add(time.Duration(random.IntN(9000)) * time.Millisecond)
			evaluated := int32(random.IntN(14) - 2) //nolint:gosec // small
			decision := decide(now, 5, evaluated, between(1, 10), history)
			history.Record(now, decision)

			all = append(all, Recommendation{Replicas: min(max(evaluated, 1), 10), At: now})
			want := int32(0)
			for _, r := range all {
				if r.At.After(now.Add(-window)) {
					want = max(want, r.Replicas)
				}
			}
			if decision.Desired != want {
				t.Fatalf("%d replicas, want %d", decision.Desired, want)
			}
			if decision.Desired < 1 || decision.Desired > 10 {
				t.Fatalf("%d replicas is out of bounds", decision.Desired)
			}
			if len(history.recommendations) > 10 {
				t.Fatalf("the history holds %d recommendations of at most 10 counts", len(history.recommendations))
			}
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	history := newHistory(time.Minute)
	history.record(Recommendation{Replicas: 9, At: epoch})
	for b.Loop() {
		decision := decide(epoch, 5, 14, between(1, 10), history)
		history.Record(epoch, decision)
	}
}

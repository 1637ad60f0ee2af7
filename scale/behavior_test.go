// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"math"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

func pods(value, period int32) autoscalingv2.HPAScalingPolicy {
	return autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: value, PeriodSeconds: period}
}

func percent(value, period int32) autoscalingv2.HPAScalingPolicy {
	return autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: value, PeriodSeconds: period}
}

// behaving is a configuration with a behavior that limits nothing but what it is
// told to: scaling up by the policies, and what change changes.
func behaving(change func(up, down *autoscalingv2.HPAScalingRules), policies ...autoscalingv2.HPAScalingPolicy) config.Autoscaler {
	rules := func() *autoscalingv2.HPAScalingRules {
		return &autoscalingv2.HPAScalingRules{
			StabilizationWindowSeconds: new(int32(0)),
			SelectPolicy:               new(autoscalingv2.MaxChangePolicySelect),
			Policies:                   []autoscalingv2.HPAScalingPolicy{pods(math.MaxInt32, 1)},
		}
	}
	b := &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: rules(), ScaleDown: rules()}
	if policies != nil {
		b.ScaleUp.Policies = policies
	}
	if change != nil {
		change(b.ScaleUp, b.ScaleDown)
	}
	return config.Autoscaler{Behavior: b}
}

func TestBehaviorExplainsItself(t *testing.T) {
	type rules = *autoscalingv2.HPAScalingRules
	wanted := func(ago time.Duration, count int32) func(*History) {
		return func(h *History) { h.record(Recommendation{Replicas: count, At: epoch.Add(-ago)}) }
	}
	for _, test := range []struct {
		name    string
		config  config.Autoscaler
		history func(*History)
		events  []Event
		current int32
		raw     int32
		desired int32
		reason  string
	}{
		{
			name: "within the tolerance up", current: 20, raw: 22, desired: 20,
			config: behaving(func(up, _ rules) { up.Tolerance = new(resource.MustParse("100m")) }),
			reason: "evaluated 22, held at 20 (22 is within behavior.scaleUp.tolerance 0.1 of 20)",
		},
		{
			name: "just over the tolerance up", current: 20, raw: 23, desired: 23,
			config: behaving(func(up, _ rules) { up.Tolerance = new(resource.MustParse("0.1")) }),
			reason: "evaluated 23",
		},
		{
			name: "the tolerance up is not that down", current: 20, raw: 19, desired: 19,
			config: behaving(func(up, _ rules) { up.Tolerance = new(resource.MustParse("0.1")) }),
			reason: "evaluated 19",
		},
		{
			name: "within the tolerance down, to the edge", current: 20, raw: 10, desired: 20,
			config: behaving(func(_, down rules) { down.Tolerance = new(resource.MustParse("0.5")) }),
			reason: "evaluated 10, held at 20 (10 is within behavior.scaleDown.tolerance 0.5 of 20)",
		},
		{
			name: "no tolerance is none", current: 20, raw: 21, desired: 21, config: behaving(nil), reason: "evaluated 21",
		},
		{
			name: "nothing is within a tolerance of 0", current: 0, raw: 1, desired: 1,
			config: behaving(func(up, _ rules) { up.Tolerance = new(resource.MustParse("9")) }), reason: "evaluated 1",
		},
		{
			name: "a window up", current: 2, raw: 9, desired: 5, history: wanted(40*time.Second, 5),
			config: behaving(func(up, _ rules) { up.StabilizationWindowSeconds = new(int32(60)) }),
			reason: "evaluated 9, held at 5 (5 was wanted 40s ago, within behavior.scaleUp.stabilizationWindowSeconds 60)",
		},
		{
			name: "a window up never goes down", current: 7, raw: 9, desired: 7, history: wanted(40*time.Second, 5),
			config: behaving(func(up, _ rules) { up.StabilizationWindowSeconds = new(int32(60)) }),
			reason: "evaluated 9, held at 7 (5 was wanted 40s ago, within behavior.scaleUp.stabilizationWindowSeconds 60)",
		},
		{
			name: "a window down", current: 9, raw: 2, desired: 5, history: wanted(40*time.Second, 5),
			config: behaving(func(_, down rules) { down.StabilizationWindowSeconds = new(int32(60)) }),
			reason: "evaluated 2, held at 5 (5 was wanted 40s ago, within behavior.scaleDown.stabilizationWindowSeconds 60)",
		},
		{
			name: "exactly one window ago is out", current: 9, raw: 2, desired: 2, history: wanted(time.Minute, 5),
			config: behaving(func(_, down rules) { down.StabilizationWindowSeconds = new(int32(60)) }), reason: "evaluated 2",
		},
		{
			name: "a percentage", current: 4, raw: 20, desired: 8, config: behaving(nil, percent(100, 15)),
			reason: "evaluated 20, slowed to 8 (behavior.scaleUp allows 8: Percent 100 per 15s from 4)",
		},
		{
			name: "a percentage of which some is used up", current: 6, raw: 20, desired: 8, config: behaving(nil, percent(100, 15)),
			events: []Event{{epoch.Add(-14 * time.Second), 2}, {epoch.Add(-15 * time.Second), 3}},
			reason: "evaluated 20, slowed to 8 (behavior.scaleUp allows 8: Percent 100 per 15s from 4)",
		},
		{
			name: "the policy that allows most", current: 4, raw: 20, desired: 9, config: behaving(nil, percent(100, 15), pods(5, 60)),
			reason: "evaluated 20, slowed to 9 (behavior.scaleUp allows 9: Pods 5 per 60s from 4)",
		},
		{
			name: "the policy that allows least", current: 4, raw: 20, desired: 8,
			config: behaving(func(up, _ rules) { up.SelectPolicy = new(autoscalingv2.MinChangePolicySelect) }, pods(5, 60), percent(100, 15)),
			reason: "evaluated 20, slowed to 8 (behavior.scaleUp allows 8: Percent 100 per 15s from 4)",
		},
		{
			name: "up is disabled", current: 4, raw: 20, desired: 4,
			config: behaving(func(up, _ rules) { up.SelectPolicy = new(autoscalingv2.DisabledPolicySelect) }),
			reason: "evaluated 20, held at 4 (behavior.scaleUp.selectPolicy is Disabled)",
		},
		{
			name: "down is disabled", current: 4, raw: 2, desired: 4,
			config: behaving(func(_, down rules) { down.SelectPolicy = new(autoscalingv2.DisabledPolicySelect) }),
			reason: "evaluated 2, held at 4 (behavior.scaleDown.selectPolicy is Disabled)",
		},
		{
			name: "down, the policy that allows most", current: 20, raw: 2, desired: 15,
			config: behaving(func(_, down rules) { down.Policies = []autoscalingv2.HPAScalingPolicy{pods(1, 30), percent(25, 60)} }),
			reason: "evaluated 2, slowed to 15 (behavior.scaleDown allows 15: Percent 25 per 60s from 20)",
		},
		{
			name: "down, the policy that allows least", current: 20, raw: 2, desired: 19,
			config: behaving(func(_, down rules) {
				down.Policies = []autoscalingv2.HPAScalingPolicy{percent(25, 60), pods(1, 30)}
				down.SelectPolicy = new(autoscalingv2.MinChangePolicySelect)
			}),
			reason: "evaluated 2, slowed to 19 (behavior.scaleDown allows 19: Pods 1 per 30s from 20)",
		},
		{
			name: "the bound is nearer than the policy", current: 30, raw: 99, desired: 40, config: behaving(nil, pods(10, 15)),
			reason: "evaluated 99, capped to 40 (maxReplicas is 40)",
		},
		{
			name: "everything at once", current: 4, raw: 99, desired: 6, history: wanted(10*time.Second, 50),
			config: behaving(func(up, _ rules) { up.StabilizationWindowSeconds = new(int32(60)) }, pods(2, 15)),
			reason: "evaluated 99, held at 50 (50 was wanted 10s ago, within behavior.scaleUp.stabilizationWindowSeconds 60), " +
				"slowed to 6 (behavior.scaleUp allows 6: Pods 2 per 15s from 4)",
		},
		{
			name: "trap 1: what was wanted long ago never scales up", current: 4, raw: 2, desired: 4, history: wanted(10*time.Second, 40),
			config: behaving(func(_, down rules) { down.StabilizationWindowSeconds = new(int32(300)) }),
			reason: "evaluated 2, held at 4 (40 was wanted 10s ago, within behavior.scaleDown.stabilizationWindowSeconds 300)",
		},
		{
			name: "trap 2: 12 percent up from 25", current: 25, raw: 40, desired: 29, config: behaving(nil, percent(12, 15)),
			reason: "evaluated 40, slowed to 29 (behavior.scaleUp allows 29: Percent 12 per 15s from 25)",
		},
		{
			name: "trap 3: one period ago to the second is over", current: 5, raw: 40, desired: 10, config: behaving(nil, percent(100, 15)),
			events: []Event{{epoch.Add(-15 * time.Second), 4}},
			reason: "evaluated 40, slowed to 10 (behavior.scaleUp allows 10: Percent 100 per 15s from 5)",
		},
		{
			name: "trap 3: a moment less is not", current: 5, raw: 40, desired: 5, config: behaving(nil, pods(4, 15)),
			events: []Event{{epoch.Add(-15*time.Second + time.Millisecond), 4}},
			reason: "evaluated 40, held at 5 (behavior.scaleUp allows no change yet: Pods 4 per 15s from 1)",
		},
		{
			name: "trap 4: what others scale down is not given back", current: 2, raw: 40, desired: 2, config: behaving(nil, pods(4, 60)),
			events: []Event{{epoch.Add(-20 * time.Second), 4}},
			reason: "evaluated 40, held at 2 (behavior.scaleUp allows no change yet: Pods 4 per 60s from -2)",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(test.config, test.current, between(0, 40))
			w.kept.Events = test.events
			if test.history != nil {
				test.history(w.history)
			}
			d := w.rules.Decide(w.situation(&test.raw))
			if d.Desired != test.desired || d.Explain() != test.reason {
				t.Errorf("%d replicas, %s\nwant %d, %s", d.Desired, d.Explain(), test.desired, test.reason)
			}
			checkChain(t, d)
		})
	}
}

// What is within the tolerance is remembered as the current count, and nothing
// else of a decision is.
func TestWhatBehaviorRemembers(t *testing.T) {
	c := behaving(func(up, _ *autoscalingv2.HPAScalingRules) { up.Tolerance = new(resource.MustParse("0.1")) }, pods(1, 60))
	for raw, want := range map[int32]int32{21: 20, 99: 99, -3: -3} {
		w := newWorld(c, 20, between(1, 40))
		if d := w.rules.Decide(w.situation(&raw)); d.recommendation == nil || *d.recommendation != want {
			t.Errorf("of %d it remembers %v, want %d", raw, d.recommendation, want)
		}
	}
}

// Trap 2: the HorizontalPodAutoscaler's floats against whole numbers.
func TestPercentagesAreTheFloatsOfTheOriginal(t *testing.T) {
	up, down := direction{up: true}, direction{}
	ups, downs := 0, 0
	for start := range int32(201) {
		for value := int32(1); value <= 200; value++ {
			if up.furthest(new(percent(value, 15)), start) != (start*(100+value)+99)/100 {
				ups++
			}
			if value <= 100 && down.furthest(new(percent(value, 15)), start) != start*(100-value)/100 {
				downs++
			}
		}
	}
	if ups != 113 || downs != 119 {
		t.Errorf("%d pairs differ up and %d down, want 113 and 119", ups, downs)
	}
	if got := down.furthest(new(percent(90, 15)), 10); got != 0 {
		t.Errorf("90%% down from 10 is %d, want 0", got)
	}
}

// The default rules, from 1 to 40 as fast as they allow: every other run when
// each comes a little before its period is over (trap 3), and every run when
// each comes a little later.
func TestTheDefaultRulesStepByStep(t *testing.T) {
	for _, test := range []struct {
		interval time.Duration
		want     []int32
	}{
		{15*time.Second - time.Millisecond, []int32{5, 5, 10, 10, 20, 20, 40}},
		{15*time.Second + time.Millisecond, []int32{5, 10, 20, 40, 40, 40, 40}},
	} {
		w := newWorld(behaving(nil, pods(4, 15), percent(100, 15)), 1, between(1, 40))
		for i, want := range test.want {
			w.write(w.evaluated(new(int32(40))))
			if w.current != want {
				t.Errorf("every %s, run %d: %d replicas, want %d", test.interval, i, w.current, want)
			}
			w.now = w.now.Add(test.interval)
		}
	}
}

// Whatever the numbers, nothing overflows.
func TestTheEdgesOfInt32(t *testing.T) {
	for _, test := range []struct {
		name   string
		policy autoscalingv2.HPAScalingPolicy
		up     bool
		start  int32
		want   int32
	}{
		{"pods up", pods(math.MaxInt32, 1), true, math.MaxInt32, math.MaxInt32},
		{"pods down", pods(math.MaxInt32, 1), false, math.MinInt32, math.MinInt32},
		{"percent up", percent(math.MaxInt32, 1), true, math.MaxInt32, math.MaxInt32},
		{"percent up, below 0", percent(math.MaxInt32, 1), true, math.MinInt32, math.MinInt32},
		{"percent down", percent(math.MaxInt32, 1), false, math.MaxInt32, math.MinInt32},
		{"percent down, below 0", percent(math.MaxInt32, 1), false, math.MinInt32, math.MaxInt32},
		{"percent up, to the very edge", percent(100, 1), true, 1 << 30, math.MaxInt32},
	} {
		d := direction{up: test.up}
		if got := d.furthest(&test.policy, test.start); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
	s := Situation{Now: epoch, Current: 5}
	for range 1000 {
		s.Kept.Events = append(s.Kept.Events, Event{epoch, math.MaxInt32})
	}
	if got := s.startOf(1); got != math.MinInt32 {
		t.Errorf("the start is %d", got)
	}
}

// A behavior that the configuration did not complete limits to where it is, but
// does not fail.
func TestAnIncompleteBehavior(t *testing.T) {
	for _, b := range []autoscalingv2.HorizontalPodAutoscalerBehavior{
		{}, {ScaleUp: &autoscalingv2.HPAScalingRules{}, ScaleDown: &autoscalingv2.HPAScalingRules{}},
	} {
		w := newWorld(config.Autoscaler{Behavior: &b}, 5, between(1, 10))
		for _, raw := range []int32{1, 5, 9} {
			if d := w.evaluated(&raw); d.Desired != 5 {
				t.Errorf("evaluated %d: %s", raw, d.Explain())
			}
		}
	}
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/evaluate"
)

// oracle is what the HorizontalPodAutoscaler does with a behavior, step by
// step, with every recommendation there ever was in a plain list.
type oracle struct {
	behavior        autoscalingv2.HorizontalPodAutoscalerBehavior
	recommendations []sample
	// found are the counts after gaps, which hold back scaling down alone.
	found  []sample
	ups    []sample
	downs  []sample
	missed bool
}

type sample struct {
	at    time.Time
	value int64
}

func (o *oracle) desired(now time.Time, current, evaluated, least, most int64) int64 {
	o.seed(now, current)
	if o.missed && !slices.ContainsFunc(slices.Concat(o.recommendations, o.found), func(r sample) bool {
		return r.at.After(o.since(now, *o.behavior.ScaleDown.StabilizationWindowSeconds))
	}) {
		o.found = append(o.found, sample{now, current})
	}
	o.missed = false
	if current > most {
		return most
	}
	if current < least {
		return least
	}

	raw := evaluated
	if current != 0 {
		ratio := float64(evaluated) / float64(current)
		if 1.0-quantity(o.behavior.ScaleDown.Tolerance) <= ratio && ratio <= 1.0+quantity(o.behavior.ScaleUp.Tolerance) {
			raw = current
		}
	}

	up, down := raw, raw
	for _, r := range o.recommendations {
		if r.at.After(o.since(now, *o.behavior.ScaleUp.StabilizationWindowSeconds)) && r.value < up {
			up = r.value
		}
	}
	for _, r := range slices.Concat(o.recommendations, o.found) {
		if r.at.After(o.since(now, *o.behavior.ScaleDown.StabilizationWindowSeconds)) && r.value > down {
			down = r.value
		}
	}
	s := max(current, up)
	s = min(s, down)
	o.recommendations = append(o.recommendations, sample{now, raw})

	if s > current {
		limit := current
		if *o.behavior.ScaleUp.SelectPolicy != autoscalingv2.DisabledPolicySelect {
			var proposals []int64
			for _, p := range o.behavior.ScaleUp.Policies {
				start := o.start(now, current, p.PeriodSeconds)
				proposal := start + int64(p.Value)
				if p.Type == autoscalingv2.PercentScalingPolicy {
					proposal = int64(math.Ceil(float64(start) * (1 + float64(p.Value)/100)))
				}
				proposals = append(proposals, proposal)
			}
			limit = slices.Max(proposals)
			if *o.behavior.ScaleUp.SelectPolicy == autoscalingv2.MinChangePolicySelect {
				limit = slices.Min(proposals)
			}
		}
		limit = max(limit, current)
		return min(s, most, limit)
	}
	if s < current {
		limit := current
		if *o.behavior.ScaleDown.SelectPolicy != autoscalingv2.DisabledPolicySelect {
			var proposals []int64
			for _, p := range o.behavior.ScaleDown.Policies {
				start := o.start(now, current, p.PeriodSeconds)
				proposal := start - int64(p.Value)
				if p.Type == autoscalingv2.PercentScalingPolicy {
					proposal = int64(float64(start) * (1 - float64(p.Value)/100))
				}
				proposals = append(proposals, proposal)
			}
			limit = slices.Min(proposals)
			if *o.behavior.ScaleDown.SelectPolicy == autoscalingv2.MinChangePolicySelect {
				limit = slices.Max(proposals)
			}
		}
		limit = min(limit, current)
		return max(s, least, limit)
	}
	return s
}

func (o *oracle) seed(now time.Time, current int64) {
	if len(o.recommendations) == 0 {
		o.recommendations = append(o.recommendations, sample{now, current})
	}
}

func (o *oracle) failed(now time.Time, current int64) {
	o.seed(now, current)
	o.missed = true
}

func (o *oracle) since(now time.Time, seconds int32) time.Time {
	return now.Add(-time.Second * time.Duration(seconds))
}

func (o *oracle) start(now time.Time, current int64, period int32) int64 {
	for _, e := range o.ups {
		if e.at.After(o.since(now, period)) {
			current -= e.value
		}
	}
	for _, e := range o.downs {
		if e.at.After(o.since(now, period)) {
			current += e.value
		}
	}
	return current
}

func (o *oracle) wrote(now time.Time, from, to int64) {
	if to > from {
		o.ups = store(o.ups, sample{now, to - from}, o.behavior.ScaleUp.Policies)
	} else {
		o.downs = store(o.downs, sample{now, from - to}, o.behavior.ScaleDown.Policies)
	}
}

// store overwrites the last outdated event, or appends.
func store(events []sample, latest sample, policies []autoscalingv2.HPAScalingPolicy) []sample {
	longest := int32(0)
	for _, p := range policies {
		longest = max(longest, p.PeriodSeconds)
	}
	outdated := -1
	for i, e := range events {
		if e.at.Before(latest.at.Add(-time.Second * time.Duration(longest))) {
			outdated = i
		}
	}
	if outdated < 0 {
		return append(events, latest)
	}
	events[outdated] = latest
	return events
}

func quantity(q *resource.Quantity) float64 {
	if q == nil {
		return 0
	}
	return q.AsApproximateFloat64()
}

// dice are a test's random choices, which it can repeat.
type dice struct{ *rand.Rand }

func roll(seed uint64) dice {
	return dice{rand.New(rand.NewPCG(seed, 7))} //nolint:gosec // a trace, not a secret
}

func (r dice) count(n int) int32 { return int32(r.IntN(n)) } //nolint:gosec // small

func pick[T any](r dice, from ...T) T { return from[r.IntN(len(from))] }

// behavior is any that is valid.
func (r dice) behavior() *autoscalingv2.HorizontalPodAutoscalerBehavior {
	half := func(windows ...int32) *autoscalingv2.HPAScalingRules {
		rules := &autoscalingv2.HPAScalingRules{
			StabilizationWindowSeconds: new(pick(r, windows...)),
			SelectPolicy: new(pick(r, autoscalingv2.MaxChangePolicySelect, autoscalingv2.MaxChangePolicySelect,
				autoscalingv2.MinChangePolicySelect, autoscalingv2.MinChangePolicySelect, autoscalingv2.DisabledPolicySelect)),
			Tolerance: pick(r, nil, nil, new(resource.MustParse("0.1")), new(resource.MustParse("500m"))),
		}
		for range 1 + r.IntN(3) {
			rules.Policies = append(rules.Policies, pick(r,
				autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: 1 + r.count(12), PeriodSeconds: 1 + r.count(180)},
				autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: 1 + r.count(150), PeriodSeconds: 1 + r.count(180)}))
		}
		return rules
	}
	return &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: half(0, 0, 30, 90), ScaleDown: half(0, 60, 60, 300)}
}

// world is a target, and an autoscaler without all that is around deciding.
type world struct {
	rules   Rules
	history *History
	kept    Kept
	now     time.Time
	current int32
	bounds  bounds.Bounds
}

func newWorld(c config.Autoscaler, current int32, b bounds.Bounds) *world {
	return &world{rules: NewRules(c), history: NewHistory(c), now: epoch, current: current, bounds: b}
}

// evaluated runs once; nil is a run that failed.
func (w *world) evaluated(count *int32) Decision {
	s := w.situation(count)
	w.history.Prepare(s)
	d := w.rules.Decide(s)
	w.history.Record(w.now, d)
	return d
}

func (w *world) situation(count *int32) Situation {
	s := Situation{Now: w.now, Current: w.current, Bounds: w.bounds, Kept: w.kept, History: w.history}
	if count != nil {
		s.Evaluation = &evaluate.Evaluation{TargetReplicas: *count}
	}
	return s
}

// write does what was decided.
func (w *world) write(d Decision) {
	if d.Desired == w.current {
		return
	}
	w.kept.Begin(Write{At: w.now, From: w.current, To: d.Desired})
	w.rules.Acknowledge(&w.kept, w.now)
	w.current = d.Desired
}

// Over random behaviors and traces, with failing runs, failing writes, edits by
// hand and bounds that change, the decisions are the oracle's. Times are whole
// seconds, so that many a one is exactly a window or a period ago.
func TestBehaviorAgainstTheOracle(t *testing.T) {
	moved := 0
	for seed := range uint64(100) {
		r := roll(seed)
		c := config.Autoscaler{Behavior: r.behavior()}
		w := newWorld(c, 1+r.count(30), between(1, 40))
		o := &oracle{behavior: *c.Behavior}
		wanted := r.count(50)
		for step := range 300 {
			w.now = w.now.Add(time.Duration(pick(r, 1, 5, 15, 15, 15, 30, 61, 305)) * time.Second)
			switch r.IntN(12) {
			case 0:
				wanted = r.count(60) - 5
			case 1:
				w.current = 1 + r.count(45)
			case 2:
				least := 1 + r.count(10)
				w.bounds = between(least, least+r.count(40))
			case 3:
				w.evaluated(nil)
				o.failed(w.now, int64(w.current))
				continue
			default:
				wanted += r.count(7) - 3
			}
			want := o.desired(w.now, int64(w.current), int64(wanted), int64(w.bounds.Min.Replicas), int64(w.bounds.Max.Replicas))
			d := w.evaluated(&wanted)
			if int64(d.Desired) != want {
				t.Fatalf("seed %d, step %d: from %d %s: %d replicas, the oracle says %d", seed, step, w.current, d.Explain(), d.Desired, want)
			}
			if d.Direction != DirectionNone && r.IntN(10) > 0 {
				moved++
				o.wrote(w.now, int64(w.current), want)
				w.write(d)
			}
		}
	}
	if moved < 3_000 {
		t.Errorf("only %d decisions of the traces change anything", moved)
	}
}

// Without behavior: the clamped evaluations of the window, the highest of them,
// clamped.
func TestTheWindowAgainstAPlainList(t *testing.T) {
	for seed := range uint64(30) {
		r := roll(seed)
		const window = 60 * time.Second
		w := newWorld(config.Autoscaler{DownscaleStabilization: new(config.Seconds(60))}, 5, between(1, 10))
		all := []sample{{epoch, 5}}
		for range 300 {
			wanted := r.count(14) - 2
			d := w.evaluated(&wanted)
			all = append(all, sample{w.now, min(max(int64(wanted), 1), 10)})
			want := int64(0)
			for _, one := range all {
				if one.at.After(w.now.Add(-window)) {
					want = max(want, one.value)
				}
			}
			if int64(d.Desired) != want {
				t.Fatalf("seed %d: %s: %d replicas, want %d", seed, d.Explain(), d.Desired, want)
			}
			w.write(d)
			w.now = w.now.Add(time.Duration(r.IntN(20)) * time.Second)
		}
	}
}

// What must hold of every decision, whatever an operator, a schedule or a
// failing hook does meanwhile.
func TestWhatMustHoldOfEveryDecision(t *testing.T) {
	for seed := range uint64(80) {
		r := roll(seed)
		c := config.Autoscaler{
			Behavior: pick(r, r.behavior(), nil), DownscaleStabilization: new(config.Seconds(r.count(120))),
			Fallback: &config.Fallback{FailureThreshold: 3, Replicas: new(1 + r.count(20)), Behavior: pick(r, fallbacks...)},
		}
		w := newWorld(c, r.count(30), between(r.count(3), 20))
		l := &ledger{config: c}
		for range 200 {
			w.now = w.now.Add(time.Duration(1+r.IntN(40)) * time.Second)
			r.disturb(w)
			var evaluated *int32
			if r.IntN(6) > 0 {
				evaluated = new(r.count(60) - 10)
			}

			s := w.situation(evaluated)
			w.history.Prepare(s)
			before := copyOf(s)
			d := w.rules.Decide(s)
			if !reflect.DeepEqual(before, s) {
				t.Fatalf("seed %d: deciding has changed the situation", seed)
			}
			if again := w.rules.Decide(before); !reflect.DeepEqual(d, again) {
				t.Fatalf("seed %d: decided again from the same it is\n%s\nnot\n%s", seed, again.Explain(), d.Explain())
			}
			l.check(t, s, d)
			w.history.Record(w.now, d)
			l.note(s, d)
			w.write(d)
			if t.Failed() {
				t.Fatalf("seed %d: from %d: %s", seed, s.Current, d.Explain())
			}
		}
	}
}

var fallbacks = []config.FallbackBehavior{
	config.FallbackStatic, config.FallbackCurrent, config.FallbackCurrentIfHigher, config.FallbackCurrentIfLower,
}

// disturb is what happens to an autoscaler.
func (r dice) disturb(w *world) {
	switch r.IntN(20) {
	case 0:
		w.current = r.count(30)
	case 1:
		w.bounds.Min.Replicas = r.count(5)
		w.bounds.Max.Replicas = w.bounds.Min.Replicas + r.count(30)
		w.bounds.Temporary = true
	case 2:
		w.kept.Pause = pick(r, &Pause{}, &Pause{Replicas: new(r.count(40)), Reason: "a release"})
	case 3, 4, 5:
		w.kept.Pause = nil
	case 6:
		w.kept.Hold = &Hold{Replicas: r.count(40) - 5, Until: w.now.Add(time.Minute), Reason: "a test"}
	case 7:
		w.kept.Fallback = !w.kept.Fallback
	}
	w.kept.Expire(w.now)
	w.rules.Settle(&w.kept, w.current)
}

func copyOf(s Situation) Situation {
	s.History = s.History.Clone()
	s.Kept.Events = slices.Clone(s.Kept.Events)
	if s.Evaluation != nil {
		s.Evaluation = new(*s.Evaluation)
	}
	return s
}

// ledger is what the properties are checked against.
type ledger struct {
	config          config.Autoscaler
	recommendations []sample
	changes         []sample
}

func (l *ledger) check(t *testing.T, s Situation, d Decision) {
	t.Helper()
	least, most := s.Bounds.Min.Replicas, s.Bounds.Max.Replicas
	outside := s.Current < least || s.Current > most
	held := s.Kept.Hold != nil && s.Kept.Pause == nil
	switch {
	case d.Disabled:
		if s.Current != 0 || d.Desired != 0 {
			t.Error("disabled at a count that is not 0")
		}
		return
	case s.Kept.Pause != nil:
		if want := s.Kept.Pause.count(s.Current); d.Desired != want {
			t.Errorf("paused at %d, not at %d", want, d.Desired)
		}
		return
	case s.Evaluation == nil && !d.Fallback && l.config.Behavior == nil && !s.Bounds.Temporary && !held:
		if d.Desired != s.Current {
			t.Error("a failed run has scaled")
		}
		return
	case d.Desired < least, d.Desired > most:
		t.Errorf("out of the bounds %d to %d", least, most)
	}
	if held || outside && l.config.Behavior != nil || d.Direction == DirectionNone || s.Evaluation == nil && !d.Fallback {
		return
	}
	l.checkWindow(t, s, d)
	if l.config.Behavior != nil {
		l.checkPolicies(t, s, d)
	}
}

func (l *ledger) checkWindow(t *testing.T, s Situation, d Decision) {
	t.Helper()
	window := l.config.DownscaleStabilization.Duration()
	if l.config.Behavior != nil {
		window = time.Duration(*l.config.Behavior.ScaleDown.StabilizationWindowSeconds) * time.Second
	}
	for _, r := range l.recommendations {
		forbids := min(r.value, int64(s.Current), int64(s.Bounds.Max.Replicas))
		if d.Direction == DirectionDown && s.Now.Sub(r.at) < window && forbids > int64(d.Desired) {
			t.Errorf("scaled down although %d was wanted %s ago", r.value, s.Now.Sub(r.at))
		}
	}
}

// checkPolicies counts what this change comes to with the others of each period.
func (l *ledger) checkPolicies(t *testing.T, s Situation, d Decision) {
	t.Helper()
	rules, percent := l.config.Behavior.ScaleDown, -0.01
	if d.Direction == DirectionUp {
		rules, percent = l.config.Behavior.ScaleUp, 0.01
	}
	within := 0
	for _, p := range rules.Policies {
		net := int64(d.Desired) - int64(s.Current)
		for _, c := range l.changes {
			if s.Now.Sub(c.at) < time.Duration(p.PeriodSeconds)*time.Second {
				net += c.value
			}
		}
		allowed := float64(p.Value)
		if p.Type == autoscalingv2.PercentScalingPolicy {
			start := float64(int64(d.Desired) - net)
			allowed = math.Abs(start*(1+percent*float64(p.Value))-start) + 1
		}
		if math.Copysign(1, percent)*float64(net) <= allowed {
			within++
		}
	}
	needed := 1
	switch *rules.SelectPolicy {
	case autoscalingv2.DisabledPolicySelect:
		t.Error("scaled a way that is disabled")
	case autoscalingv2.MinChangePolicySelect:
		needed = len(rules.Policies)
	case autoscalingv2.MaxChangePolicySelect:
	}
	if within < needed {
		t.Errorf("more change than the policies %v allow", rules.Policies)
	}
}

func (l *ledger) note(s Situation, d Decision) {
	if d.recommendation != nil {
		l.recommendations = append(l.recommendations, sample{s.Now, int64(*d.recommendation)})
	}
	if d.Direction != DirectionNone {
		l.changes = append(l.changes, sample{s.Now, int64(d.Desired) - int64(s.Current)})
	}
}

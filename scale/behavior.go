// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"fmt"
	"math"
	"strconv"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

// behavior is how fast the count may change: the configuration's `behavior`,
// which means exactly what it does for the HorizontalPodAutoscaler of
// Kubernetes 1.36 (pkg/controller/podautoscaler/horizontal.go), rounding
// included.
type behavior struct {
	up, down direction
}

// direction is one half of it.
type direction struct {
	// key is its place in the configuration.
	key       string
	up        bool
	window    time.Duration
	tolerance float64
	choice    autoscalingv2.ScalingPolicySelect
	policies  []autoscalingv2.HPAScalingPolicy
}

// newBehavior reads a complete behavior: nil stays nil.
func newBehavior(b *autoscalingv2.HorizontalPodAutoscalerBehavior) *behavior {
	if b == nil {
		return nil
	}
	return &behavior{up: newDirection("behavior.scaleUp", true, b.ScaleUp), down: newDirection("behavior.scaleDown", false, b.ScaleDown)}
}

func newDirection(key string, up bool, rules *autoscalingv2.HPAScalingRules) direction {
	d := direction{key: key, up: up, choice: autoscalingv2.MaxChangePolicySelect, window: window(rules)}
	if rules == nil {
		return d
	}
	d.policies = rules.Policies
	if rules.SelectPolicy != nil {
		d.choice = *rules.SelectPolicy
	}
	if rules.Tolerance != nil {
		d.tolerance = rules.Tolerance.AsApproximateFloat64()
	}
	return d
}

// window is how long a direction is stabilised.
func window(rules *autoscalingv2.HPAScalingRules) time.Duration {
	if rules == nil || rules.StabilizationWindowSeconds == nil {
		return 0
	}
	return time.Duration(*rules.StabilizationWindowSeconds) * time.Second
}

// tolerate stays at the current count when what is wanted is near enough.
// Nothing is near 0.
func (b *behavior) tolerate(d *Decision) {
	if d.Current == 0 || d.Desired == d.Current {
		return
	}
	ratio := float64(d.Desired) / float64(d.Current)
	if ratio < 1-b.down.tolerance || ratio > 1+b.up.tolerance {
		return
	}
	near := &b.down
	if d.Desired > d.Current {
		near = &b.up
	}
	d.to(d.Current, ConstraintTolerance, fmt.Sprintf("%d is within %s.tolerance %s of %d",
		d.Desired, near.key, strconv.FormatFloat(near.tolerance, 'g', -1, 64), d.Current))
}

// stabilise goes only as far up as the lowest recommendation of the window for
// that, and only as far down as the highest of the other. Between the two it
// stays where it is: a recommendation of long ago never moves the count away
// from what is wanted now.
func (b *behavior) stabilise(s Situation, d *Decision) {
	up, down := d.Desired, d.Desired
	lowest, isLow := s.History.lowest(s.Now)
	if isLow {
		up = min(up, lowest.Replicas)
	}
	highest, isHigh := s.History.highest(s.Now)
	if isHigh {
		down = max(down, highest.Replicas)
	}
	stabilised := min(max(d.Current, up), down)
	if stabilised == d.Desired {
		return
	}
	name, side, because := ConstraintScaleDownStabilization, &b.down, highest
	if d.Desired >= d.Current {
		name, side, because = ConstraintScaleUpStabilization, &b.up, lowest
	}
	d.to(stabilised, name, fmt.Sprintf("%s, within %s.stabilizationWindowSeconds %d",
		because.told(s.Now), side.key, int(side.window/time.Second)))
}

// limit slows a change down to what the policies allow, and stops it at the
// bound. Where the policies and the bound allow the same, the bound is named.
func (b *behavior) limit(s Situation, d *Decision) {
	switch {
	case d.Desired > d.Current:
		allowed := b.up.allows(s)
		// That it allows less than there is, because others have scaled down in
		// the period, is no reason to scale down.
		if most := max(allowed.replicas, d.Current); most < s.Bounds.Max.Replicas && d.Desired > most {
			d.to(most, ConstraintScaleUpLimit, allowed.told(most != d.Current))
		}
	case d.Desired < d.Current:
		allowed := b.down.allows(s)
		if least := min(allowed.replicas, d.Current); least > s.Bounds.Min.Replicas && d.Desired < least {
			d.to(least, ConstraintScaleDownLimit, allowed.told(least != d.Current))
		}
	default:
		return
	}
	d.clamp(s.Bounds)
}

// allowance is how far a direction's policies let the count go.
type allowance struct {
	direction *direction
	replicas  int32
	// policy decided it, from what it takes for the count at the start of its
	// period; nil when none did.
	policy *autoscalingv2.HPAScalingPolicy
	start  int32
}

// told is the allowance in words.
func (a allowance) told(change bool) string {
	if a.policy == nil {
		return fmt.Sprintf("%s.selectPolicy is %s", a.direction.key, a.direction.choice)
	}
	allows := "no change yet"
	if change {
		allows = strconv.Itoa(int(a.replicas))
	}
	return fmt.Sprintf("%s allows %s: %s %d per %ds from %d",
		a.direction.key, allows, a.policy.Type, a.policy.Value, a.policy.PeriodSeconds, a.start)
}

// allows asks the policies: the one that allows the most change decides, or the
// one that allows the least, as selectPolicy says.
func (d *direction) allows(s Situation) allowance {
	chosen := allowance{direction: d, replicas: s.Current}
	if d.choice == autoscalingv2.DisabledPolicySelect {
		return chosen
	}
	for i := range d.policies {
		policy := &d.policies[i]
		start := s.startOf(policy.PeriodSeconds)
		furthest := d.furthest(policy, start)
		if chosen.policy == nil || d.prefers(furthest, chosen.replicas) {
			chosen.replicas, chosen.policy, chosen.start = furthest, policy, start
		}
	}
	return chosen
}

func (d *direction) prefers(one, other int32) bool {
	if d.up == (d.choice == autoscalingv2.MinChangePolicySelect) {
		return one < other
	}
	return one > other
}

// furthest is how far a policy lets the count go from that at the start of its
// period. The float arithmetic is the HorizontalPodAutoscaler's and not exact:
// 12 percent up from 25 is 29, 90 percent down from 10 is 0.
func (d *direction) furthest(policy *autoscalingv2.HPAScalingPolicy, start int32) int32 {
	percent := policy.Type == autoscalingv2.PercentScalingPolicy
	switch {
	case percent && d.up:
		return truncate(math.Ceil(float64(start) * (1 + float64(policy.Value)/100)))
	case percent:
		return truncate(float64(start) * (1 - float64(policy.Value)/100))
	case d.up:
		return saturate(int64(start) + int64(policy.Value))
	default:
		return saturate(int64(start) - int64(policy.Value))
	}
}

// startOf is the count at the start of a period that ends now, going by our own
// writes. What others changed since is taken to have been there: the count may
// come out below 0.
func (s Situation) startOf(periodSeconds int32) int32 {
	period, start := time.Duration(periodSeconds)*time.Second, int64(s.Current)
	for _, event := range s.Kept.Events {
		if s.Now.Sub(event.At) < period {
			start -= int64(event.Change)
		}
	}
	return saturate(start)
}

// saturate is the nearest int32.
func saturate(count int64) int32 { return int32(min(max(count, math.MinInt32), math.MaxInt32)) }

// truncate is a float's int32, towards 0. Go leaves open what a conversion out
// of range gives: here it is the nearest.
func truncate(count float64) int32 { return int32(min(max(count, math.MinInt32), math.MaxInt32)) }

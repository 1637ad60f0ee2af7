// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"math"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

// What the HorizontalPodAutoscaler allows, and the window it scales down with
// where nothing sets one, in seconds.
const (
	maxStabilizationWindow = 3600
	maxPolicyPeriod        = 1800
	defaultScaleDownWindow = 300
)

// maxPolicies is ours: each costs time in every decision.
const maxPolicies = 100

// completeBehavior fills in what `behavior` leaves out, as autoscaling/v2 does:
// each field of each direction by itself. A list of policies, also an empty
// one, replaces the default's.
func (a *Autoscaler) completeBehavior() {
	if a.Behavior == nil {
		return
	}
	const pods, percent = autoscalingv2.PodsScalingPolicy, autoscalingv2.PercentScalingPolicy
	a.Behavior.ScaleUp = completeRules(a.Behavior.ScaleUp, new(int32(0)),
		autoscalingv2.HPAScalingPolicy{Type: pods, Value: 4, PeriodSeconds: 15},
		autoscalingv2.HPAScalingPolicy{Type: percent, Value: 100, PeriodSeconds: 15})
	a.Behavior.ScaleDown = completeRules(a.Behavior.ScaleDown, a.scaleDownWindow(),
		autoscalingv2.HPAScalingPolicy{Type: percent, Value: 100, PeriodSeconds: 15})
}

// scaleDownWindow is that of a `behavior` which sets none. It stays nil when
// downscaleStabilization cannot stand in for it.
func (a *Autoscaler) scaleDownWindow() *int32 {
	switch given := a.DownscaleStabilization; {
	case given == nil:
		return new(int32(defaultScaleDownWindow))
	case *given < 0 || *given > maxStabilizationWindow:
		return nil
	default:
		return new(int32(*given))
	}
}

func completeRules(
	rules *autoscalingv2.HPAScalingRules, window *int32, policies ...autoscalingv2.HPAScalingPolicy,
) *autoscalingv2.HPAScalingRules {
	if rules == nil {
		rules = &autoscalingv2.HPAScalingRules{}
	}
	if rules.StabilizationWindowSeconds == nil {
		rules.StabilizationWindowSeconds = window
	}
	if rules.SelectPolicy == nil {
		rules.SelectPolicy = new(autoscalingv2.MaxChangePolicySelect)
	}
	if rules.Policies == nil {
		rules.Policies = policies
	}
	return rules
}

// behavior checks what autoscaling/v2 does. What is not set is not at fault: it
// has a default.
func (v *validator) behavior(key string, a Autoscaler) {
	if a.Behavior == nil {
		return
	}
	up, down := a.Behavior.ScaleUp, a.Behavior.ScaleDown
	if up != nil {
		v.scalingRules(under(key, "scaleUp"), up)
	}
	if down != nil {
		v.scalingRules(under(key, "scaleDown"), down)
	}
	if given := a.DownscaleStabilization; given != nil && *given > maxStabilizationWindow &&
		(down == nil || down.StabilizationWindowSeconds == nil) {
		v.fault("downscaleStabilization", "must be at most %d where behavior.scaleDown.stabilizationWindowSeconds is not set, got %d: "+
			"set that, or lower this", maxStabilizationWindow, *given)
	}
}

func (v *validator) scalingRules(key string, rules *autoscalingv2.HPAScalingRules) {
	if window := rules.StabilizationWindowSeconds; window != nil {
		v.between(under(key, "stabilizationWindowSeconds"), int64(*window), 0, maxStabilizationWindow)
	}
	if choice := rules.SelectPolicy; choice != nil {
		oneOf(v, under(key, "selectPolicy"), *choice,
			autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect, autoscalingv2.DisabledPolicySelect)
	}
	if tolerance := rules.Tolerance; tolerance != nil && tolerance.Sign() < 0 {
		v.fault(under(key, "tolerance"), "must be at least 0, such as 0.1 for a tenth, got %g", tolerance.AsApproximateFloat64())
	}
	v.policies(under(key, "policies"), rules.Policies)
}

func (v *validator) policies(key string, policies []autoscalingv2.HPAScalingPolicy) {
	if policies != nil && len(policies) == 0 {
		v.fault(key, "must hold at least one policy: leave the key out for the default, or set selectPolicy to Disabled not to scale this way")
	}
	if !v.atMost(key, len(policies), maxPolicies) {
		return
	}
	for i, policy := range policies {
		key := at(key, i)
		oneOf(v, under(key, "type"), policy.Type, autoscalingv2.PodsScalingPolicy, autoscalingv2.PercentScalingPolicy)
		v.between(under(key, "value"), int64(policy.Value), 1, math.MaxInt32)
		v.between(under(key, "periodSeconds"), int64(policy.PeriodSeconds), 1, maxPolicyPeriod)
	}
}

// stuckAtZero says whether the policies for scaling up allow no change from 0:
// a percentage of 0 is 0.
func stuckAtZero(up *autoscalingv2.HPAScalingRules) bool {
	pods, percent := false, false
	for _, policy := range up.Policies {
		pods = pods || policy.Type == autoscalingv2.PodsScalingPolicy
		percent = percent || policy.Type == autoscalingv2.PercentScalingPolicy
	}
	switch *up.SelectPolicy {
	case autoscalingv2.MaxChangePolicySelect:
		return !pods
	case autoscalingv2.MinChangePolicySelect:
		return percent
	default: // Disabled says itself that it never scales up.
		return false
	}
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Package scale turns an evaluation into a decision that explains itself
// (Rules.Decide, pure), tells the user's hooks about it, and writes it.
package scale

import (
	"fmt"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/evaluate"
)

// Rules are how an autoscaler decides. They are safe for concurrent use.
type Rules struct {
	behavior *autoscalingv2.HorizontalPodAutoscalerBehavior
	fallback *config.Fallback
}

// NewRules reads the rules of a validated configuration.
func NewRules(c config.Autoscaler) Rules {
	return Rules{behavior: c.Behavior, fallback: c.Fallback}
}

// Situation is what a decision is taken from.
type Situation struct {
	Now     time.Time
	Current int32
	// Evaluation is nil when the run failed before there was one.
	Evaluation *evaluate.Evaluation
	Bounds     bounds.Bounds
	// Kept and History are only read.
	Kept    Kept
	History *History
}

// Decide takes the decision. It is pure: the first of these that applies says
// which count is desired, and remembering is left to History.Record
// (docs/scaling.md).
//
//  1. disabled: the target is at 0 replicas, and we did not scale it there
//  2. paused: the fixed count, if one was given
//  3. a manual hold: its count, within the bounds
//  4. with behavior, a count outside the bounds: the nearest bound
//  5. not evaluated: hold, or the fallback's count in place of an evaluation
//  6. the evaluation, stabilised, slowed, and within the bounds
func (r Rules) Decide(s Situation) Decision {
	d := Decision{Current: s.Current, Desired: s.Current}
	if e := s.Evaluation; e != nil {
		d.Evaluated, d.Desired = &e.TargetReplicas, e.TargetReplicas
	}
	r.decide(s, &d)
	d.direct()
	return d
}

func (r Rules) decide(s Situation, d *Decision) {
	if s.disabled() {
		d.Disabled = true
		d.to(0, ConstraintDisabled, fmt.Sprintf("the target is at 0 replicas and minReplicas is %d, which disables scaling", s.Bounds.BaseMin))
		return
	}
	if d.Evaluated == nil {
		return
	}
	d.clamp(s.Bounds)
	d.recommendation = new(d.Desired)
	if highest, ok := s.History.highest(s.Now); ok && highest.Replicas > d.Desired {
		d.to(highest.Replicas, ConstraintDownscaleStabilization, fmt.Sprintf("%d was %s %s ago, within the downscaleStabilization of %s",
			highest.Replicas, highest.how(), s.Now.Sub(highest.At).Round(time.Second), s.History.window))
	}
	d.clamp(s.Bounds)
}

// disabled says whether the target is to be left alone, which is how people
// switch an autoscaler off: they scale to 0. As for the
// HorizontalPodAutoscaler, a 0 of its own is not meant.
func (s Situation) disabled() bool { return s.Current == 0 && s.Bounds.BaseMin != 0 && !s.Kept.OwnZero }

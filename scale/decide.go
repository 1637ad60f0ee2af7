// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Package scale turns an evaluation into a decision that explains itself
// (Rules.Decide, pure), tells the user's hooks about it, and writes it.
package scale

import (
	"fmt"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/evaluate"
)

// Rules are how an autoscaler decides. They are safe for concurrent use.
type Rules struct {
	behavior *behavior
	fallback *config.Fallback
}

// NewRules reads the rules of a validated configuration.
func NewRules(c config.Autoscaler) Rules {
	return Rules{behavior: newBehavior(c.Behavior), fallback: c.Fallback}
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
		d.Evaluated, d.Desired, d.Reason = new(e.TargetReplicas), e.TargetReplicas, e.Reason
	}
	r.decide(s, &d)
	if d.Desired < 0 {
		d.to(0, ConstraintMin, "there is no count below 0")
	}
	d.direct()
	return d
}

func (r Rules) decide(s Situation, d *Decision) {
	switch pause, hold := s.Kept.Pause, s.Kept.Hold; {
	case s.Disabled():
		d.Disabled = true
		d.to(0, ConstraintDisabled, fmt.Sprintf("the target is at 0 replicas and minReplicas is %d, which disables scaling", s.Bounds.BaseMin))
	case pause != nil:
		r.remember(s, d)
		d.set(pause.count(s.Current), ConstraintPaused, pause.String())
	case hold != nil && s.Now.Before(hold.Until):
		r.remember(s, d)
		d.set(hold.Replicas, ConstraintHold, hold.String())
		d.clamp(s.Bounds)
	case r.behavior != nil && s.outside():
		d.enter(s.Bounds)
	case s.Evaluation == nil && !r.fallsBack(s):
		if s.Bounds.Temporary {
			d.clamp(s.Bounds)
		}
	default:
		if s.Evaluation == nil {
			r.fallBack(d)
		}
		r.recommend(s, d)
		r.move(s, d)
	}
}

// Disabled says whether the target is to be left alone, which is how people
// switch an autoscaler off: they scale to 0. As for the
// HorizontalPodAutoscaler, a 0 of its own is not meant.
func (s Situation) Disabled() bool { return s.Current == 0 && s.Bounds.BaseMin != 0 && !s.Kept.OwnZero }

func (s Situation) outside() bool {
	return s.Current < s.Bounds.Min.Replicas || s.Current > s.Bounds.Max.Replicas
}

// recommend turns what was evaluated into a recommendation. With behavior that
// is not clamped, as for the HorizontalPodAutoscaler, so that what was wanted
// while other bounds were in force counts in full under the new ones. A
// fallback recommends, but is not remembered: nobody evaluated it.
func (r Rules) recommend(s Situation, d *Decision) {
	if r.behavior == nil {
		d.clamp(s.Bounds)
	} else {
		r.behavior.tolerate(d)
	}
	if s.Evaluation != nil {
		d.recommendation = new(d.Desired)
	}
}

// remember recommends without consequences for now, so that the end of a pause
// or a hold finds the history that there would have been without it.
func (r Rules) remember(s Situation, d *Decision) {
	if s.Evaluation == nil {
		return
	}
	without := *d
	r.recommend(s, &without)
	d.recommendation = without.recommendation
}

// move goes from the current count towards the recommended one.
func (r Rules) move(s Situation, d *Decision) {
	if r.behavior != nil {
		r.behavior.stabilise(s, d)
		r.behavior.limit(s, d)
		return
	}
	if highest, ok := s.History.highest(s.Now); ok && highest.Replicas > d.Desired {
		d.to(highest.Replicas, ConstraintDownscaleStabilization,
			fmt.Sprintf("%s, within the downscaleStabilization of %s", highest.told(s.Now), s.History.highs.window))
	}
	d.clamp(s.Bounds)
}

// fallsBack says whether the fallback stands in for an evaluation.
func (r Rules) fallsBack(s Situation) bool { return s.Kept.Fallback && r.fallback != nil }

func (r Rules) fallBack(d *Decision) {
	d.Fallback = true
	given := r.fallback.Replicas
	if given == nil {
		return
	}
	count := d.Current
	switch r.fallback.Behavior {
	case config.FallbackCurrent:
	case config.FallbackCurrentIfHigher:
		count = max(*given, d.Current)
	case config.FallbackCurrentIfLower:
		count = min(*given, d.Current)
	case config.FallbackStatic:
		count = *given
	}
	d.to(count, ConstraintFallback, fmt.Sprintf("at least %d runs in a row failed; fallback.replicas is %d, fallback.behavior %s",
		r.fallback.FailureThreshold, *given, r.fallback.Behavior))
}

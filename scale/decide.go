// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Package scale turns an evaluation into a decision that explains itself
// (Decide, pure), tells the user's hooks about it, and writes it.
package scale

import (
	"fmt"
	"strings"
	"time"
)

// Bounds limit the count, both included.
type Bounds struct {
	Min, Max int32
}

// ConstraintName names a rule that changed a count.
type ConstraintName string

// The constraints.
const (
	ConstraintDisabled      ConstraintName = "disabled"
	ConstraintMin           ConstraintName = "minReplicas"
	ConstraintMax           ConstraintName = "maxReplicas"
	ConstraintStabilization ConstraintName = "downscaleStabilization"
)

// Constraint is one change of the count on its way from what was evaluated to
// what is desired.
type Constraint struct {
	Name   ConstraintName `json:"name"`
	From   int32          `json:"from"`
	To     int32          `json:"to"`
	Detail string         `json:"detail"`
}

// Decision is how many replicas are desired, and why.
type Decision struct {
	// Current is the count the decision was taken from.
	Current int32 `json:"current"`
	// Evaluated is the count the evaluate hook asked for.
	Evaluated int32 `json:"evaluated"`
	// Constraints are what changed it, in order; those that did not are left
	// out.
	Constraints []Constraint `json:"constraints,omitempty"`
	// Desired is the count that results.
	Desired int32 `json:"desired"`
	// Disabled says that the target is left alone: at 0 replicas while the
	// minimum is not 0. Nothing is recorded and no scale hook runs.
	Disabled bool `json:"disabled,omitempty"`

	// recommendation is what the history is to remember.
	recommendation int32
}

// Reason is the decision in words, the same wherever it is shown:
// "evaluated 14, capped to 10 (maxReplicas is 10)".
func (d Decision) Reason() string {
	words := []string{fmt.Sprintf("evaluated %d", d.Evaluated)}
	for _, c := range d.Constraints {
		words = append(words, fmt.Sprintf("%s %d (%s)", verbs[c.Name], c.To, c.Detail))
	}
	return strings.Join(words, ", ")
}

var verbs = map[ConstraintName]string{
	ConstraintDisabled:      "held at",
	ConstraintMin:           "raised to",
	ConstraintMax:           "capped to",
	ConstraintStabilization: "held at",
}

// to moves the desired count, and says so if that changes it.
func (d *Decision) to(count int32, name ConstraintName, detail string) {
	if count == d.Desired {
		return
	}
	d.Constraints = append(d.Constraints, Constraint{Name: name, From: d.Desired, To: count, Detail: detail})
	d.Desired = count
}

// clamp moves the desired count into the bounds.
func (d *Decision) clamp(bounds Bounds) {
	switch {
	case d.Desired < bounds.Min:
		d.to(bounds.Min, ConstraintMin, fmt.Sprintf("minReplicas is %d", bounds.Min))
	case d.Desired > bounds.Max:
		d.to(bounds.Max, ConstraintMax, fmt.Sprintf("maxReplicas is %d", bounds.Max))
	}
}

// Disabled says whether the target is to be left alone, which is how people
// switch an autoscaler off: they scale to 0.
func Disabled(current int32, bounds Bounds) bool { return current == 0 && bounds.Min != 0 }

// Decide takes the decision: clamp the evaluation to the bounds, remember it,
// take the highest of the window, clamp again (docs/scaling.md, which follows
// the original Custom Pod Autoscaler). A target at 0 while the minimum is not 0
// is disabled, as for the HorizontalPodAutoscaler. It is pure: remembering is
// left to History.Record.
func Decide(now time.Time, current, evaluated int32, bounds Bounds, history *History) Decision {
	d := Decision{Current: current, Evaluated: evaluated, Desired: evaluated}
	if Disabled(current, bounds) {
		d.Disabled = true
		d.to(0, ConstraintDisabled, fmt.Sprintf("the target is at 0 replicas and minReplicas is %d, which disables scaling", bounds.Min))
		return d
	}
	d.clamp(bounds)
	d.recommendation = d.Desired
	if highest, ok := history.highest(now); ok && highest.count > d.Desired {
		d.to(highest.count, ConstraintStabilization, fmt.Sprintf("%d was %s %s ago, within the downscaleStabilization of %s",
			highest.count, highest.how(), now.Sub(highest.at).Round(time.Second), history.window))
	}
	d.clamp(bounds)
	return d
}

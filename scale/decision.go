// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
)

// ConstraintName names a rule that changed a count.
type ConstraintName string

// The constraints.
const (
	ConstraintDisabled               ConstraintName = "disabled"
	ConstraintPaused                 ConstraintName = "paused"
	ConstraintHold                   ConstraintName = "hold"
	ConstraintFallback               ConstraintName = "fallback"
	ConstraintTolerance              ConstraintName = "tolerance"
	ConstraintMin                    ConstraintName = "minReplicas"
	ConstraintMax                    ConstraintName = "maxReplicas"
	ConstraintDownscaleStabilization ConstraintName = "downscaleStabilization"
	ConstraintScaleUpStabilization   ConstraintName = "scaleUpStabilization"
	ConstraintScaleDownStabilization ConstraintName = "scaleDownStabilization"
	ConstraintScaleUpLimit           ConstraintName = "scaleUpLimit"
	ConstraintScaleDownLimit         ConstraintName = "scaleDownLimit"
)

// verbs are how a constraint is told: verb, count, detail in brackets. See also
// Decision.verb.
var verbs = map[ConstraintName]string{
	ConstraintDisabled:               "held at",
	ConstraintPaused:                 "kept at",
	ConstraintHold:                   "held at",
	ConstraintFallback:               "fell back to",
	ConstraintTolerance:              "held at",
	ConstraintMin:                    "raised to",
	ConstraintMax:                    "capped to",
	ConstraintDownscaleStabilization: "held at",
	ConstraintScaleUpStabilization:   "held at",
	ConstraintScaleDownStabilization: "held at",
	ConstraintScaleUpLimit:           "slowed to",
	ConstraintScaleDownLimit:         "slowed to",
}

// ConstraintNames are all of them, in the order of the alphabet.
func ConstraintNames() []ConstraintName { return slices.Sorted(maps.Keys(verbs)) }

// Constraint is one change of the count on its way from what was evaluated to
// what is desired.
type Constraint struct {
	Name   ConstraintName `json:"name"`
	From   int32          `json:"from"`
	To     int32          `json:"to"`
	Detail string         `json:"detail"`
}

// Direction is which way a decision scales.
type Direction string

// The directions.
const (
	DirectionUp   Direction = "up"
	DirectionDown Direction = "down"
	DirectionNone Direction = "none"
)

// Decision is how many replicas are desired, and why.
type Decision struct {
	// Current is the count the decision was taken from.
	Current int32 `json:"current"`
	// Evaluated is the count the evaluate hook asked for; nil when the run
	// failed before it said.
	Evaluated *int32 `json:"evaluated,omitempty"`
	// Reason is the evaluation's own, if it gave one.
	Reason string `json:"reason,omitempty"`
	// Constraints are what changed it, in order; those that did not are left
	// out, but for a pause or a hold, which counts whatever was evaluated.
	Constraints []Constraint `json:"constraints,omitempty"`
	// Desired is the count that results.
	Desired int32 `json:"desired"`
	// Direction is from current to desired.
	Direction Direction `json:"direction"`
	// Disabled says that the target is left alone: at 0 replicas while the
	// minimum is not 0. Nothing is recorded and no scale hook runs.
	Disabled bool `json:"disabled,omitempty"`
	// Fallback says that the hooks have failed so often that the fallback's
	// count stands in for the evaluation.
	Fallback bool `json:"fallback,omitempty"`

	// recommendation is what the history is to remember, if anything.
	recommendation *int32
}

// Explain is the decision in words, the same wherever it is shown:
// "evaluated 14, capped to 10 (maxReplicas is 10)".
func (d Decision) Explain() string {
	words := []string{d.opening()}
	for _, c := range d.Constraints {
		words = append(words, fmt.Sprintf("%s %d (%s)", d.verb(c), c.To, c.Detail))
	}
	return strings.Join(words, ", ")
}

// verb is a constraint's usual one, unless that would sound wrong: what is
// slowed so much that it does not move is held, and where a count outside the
// bounds counts for more than what was evaluated, the maximum may raise that.
func (d Decision) verb(c Constraint) string {
	switch {
	case c.To == d.Current && (c.Name == ConstraintScaleUpLimit || c.Name == ConstraintScaleDownLimit):
		return "held at"
	case c.To > c.From && c.Name == ConstraintMax, c.To < c.From && c.Name == ConstraintMin:
		return "set to"
	}
	return verbs[c.Name]
}

func (d Decision) opening() string {
	switch {
	case d.Fallback && len(d.Constraints) == 0:
		return fmt.Sprintf("not evaluated, held at %d by the fallback", d.Desired)
	case d.Evaluated == nil && len(d.Constraints) == 0:
		return fmt.Sprintf("not evaluated, held at %d", d.Desired)
	case d.Evaluated == nil:
		return "not evaluated"
	case d.Reason == "":
		return fmt.Sprintf("evaluated %d", *d.Evaluated)
	}
	return fmt.Sprintf("evaluated %d (%s)", *d.Evaluated, d.Reason)
}

// to moves the desired count, and says so if that changes it.
func (d *Decision) to(count int32, name ConstraintName, detail string) {
	if count == d.Desired {
		return
	}
	d.Constraints = append(d.Constraints, Constraint{Name: name, From: d.Desired, To: count, Detail: detail})
	d.Desired = count
}

// set makes the desired count what an operator asked for, and says so even if
// that changes nothing.
func (d *Decision) set(count int32, name ConstraintName, detail string) {
	d.Constraints = append(d.Constraints, Constraint{Name: name, From: d.Desired, To: count, Detail: detail})
	d.Desired = count
}

// clamp moves the desired count into the bounds.
func (d *Decision) clamp(b bounds.Bounds) {
	switch {
	case d.Desired < b.Min.Replicas:
		d.to(b.Min.Replicas, ConstraintMin, "minReplicas is "+b.Min.String())
	case d.Desired > b.Max.Replicas:
		d.to(b.Max.Replicas, ConstraintMax, "maxReplicas is "+b.Max.String())
	}
}

// enter moves the count from outside the bounds to the nearest, whatever was
// evaluated.
func (d *Decision) enter(b bounds.Bounds) {
	if d.Current < b.Min.Replicas {
		d.to(b.Min.Replicas, ConstraintMin, fmt.Sprintf("the current %d is below minReplicas, which is %s", d.Current, b.Min))
		return
	}
	d.to(b.Max.Replicas, ConstraintMax, fmt.Sprintf("the current %d is above maxReplicas, which is %s", d.Current, b.Max))
}

// direct fills in the direction.
func (d *Decision) direct() {
	switch {
	case d.Desired > d.Current:
		d.Direction = DirectionUp
	case d.Desired < d.Current:
		d.Direction = DirectionDown
	default:
		d.Direction = DirectionNone
	}
}

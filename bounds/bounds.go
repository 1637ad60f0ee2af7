// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Package bounds says which minimum and maximum are in force at a moment, why,
// and when that changes next: the configuration's own, over them schedules,
// over them an override.
package bounds

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// Bounds are the limits on the replica count at a moment.
type Bounds struct {
	// Min and Max are in force, both included; Min is never above Max.
	Min Limit `json:"min"`
	Max Limit `json:"max"`
	// Conflict tells how a minimum above the maximum was resolved; empty when
	// there was none.
	Conflict string `json:"conflict,omitempty"`
	// BaseMin is the configuration's own minReplicas, whatever is in force: it
	// says whether a target at 0 replicas is disabled.
	BaseMin int32 `json:"-"`
	// Temporary says that a schedule or an override is in force.
	Temporary bool `json:"temporary,omitempty"`
	// NextChange is the first moment after now at which a schedule's start or
	// end comes or the override expires, in now's location; zero when there is
	// none. Nothing changes before it. At it nothing may change either, when
	// the schedule had begun or ended already or another outranks it.
	NextChange time.Time `json:"nextChange,omitzero"`
}

// Limit is one bound.
type Limit struct {
	// Replicas is the count.
	Replicas int32 `json:"replicas"`
	// Source is where it comes from: "" for the configuration's own
	// minReplicas or maxReplicas, "schedule NAME", or "override"; with what
	// moved it, if that contradicted it.
	Source string `json:"source,omitempty"`
}

// Override replaces bounds for a while, at somebody's wish.
type Override struct {
	// MinReplicas and MaxReplicas replace those in force; nil leaves one as it
	// is.
	MinReplicas *int32 `json:"minReplicas,omitempty"`
	MaxReplicas *int32 `json:"maxReplicas,omitempty"`
	// ExpiresAt is when it ends; zero is never.
	ExpiresAt time.Time `json:"expiresAt,omitzero"`
	// Reason is why, for people.
	Reason string `json:"reason,omitempty"`
}

// Limits are the configured bounds. They are safe for concurrent use.
type Limits struct {
	min, max int32
	windows  []*window
}

// New reads the bounds and schedules of a validated configuration. Its error
// names the key of a schedule that cannot be parsed.
func New(c config.Autoscaler) (*Limits, error) {
	limits := &Limits{min: c.MinReplicas, max: c.MaxReplicas}
	for i, schedule := range c.Schedules {
		w, err := newWindow(schedule)
		if err != nil {
			return nil, fmt.Errorf("schedules[%d].%w", i, err)
		}
		limits.windows = append(limits.windows, w)
	}
	return limits, nil
}

// The ranks below and above every schedule's priority.
const (
	rankBase     = math.MinInt64
	rankOverride = math.MaxInt64
)

// claim is a limit that somebody wants in force; the highest rank gets it.
type claim struct {
	Limit
	rank int64
}

// InForce says which bounds are in force now. The override may be nil.
//
// Each of the two bounds comes from the override while that has not expired,
// else from the active schedule of the highest priority, else from the
// configuration's minReplicas or maxReplicas; among schedules of equal priority
// the larger minimum and the smaller maximum count. A minimum above the maximum
// is resolved: the bound of the lower rank moves onto the other, and the maximum
// does where the ranks are equal, since too many replicas do less harm than too
// few.
//
// The answer depends on nothing but the arguments. Asking in the order of time
// is cheap; any other order is as right.
func (l *Limits) InForce(now time.Time, override *Override) Bounds {
	now = now.Round(0) // Schedules go by the wall clock, also when it is set.
	least := claim{Limit{Replicas: l.min}, rankBase}
	most := claim{Limit{Replicas: l.max}, rankBase}
	b := Bounds{BaseMin: l.min}
	for _, w := range l.windows {
		s := w.at(now)
		b.changesAt(s.until)
		if !s.active {
			continue
		}
		b.Temporary = true
		if w.least != nil && w.least.outranks(least, w.least.Replicas > least.Replicas) {
			least = *w.least
		}
		if w.most != nil && w.most.outranks(most, w.most.Replicas < most.Replicas) {
			most = *w.most
		}
	}
	if override.inForce(now) {
		b.Temporary = true
		b.changesAt(override.ExpiresAt)
		if override.MinReplicas != nil {
			least = claim{Limit{*override.MinReplicas, "override"}, rankOverride}
		}
		if override.MaxReplicas != nil {
			most = claim{Limit{*override.MaxReplicas, "override"}, rankOverride}
		}
	}
	if !b.NextChange.IsZero() {
		b.NextChange = b.NextChange.In(now.Location())
	}
	b.Min, b.Max, b.Conflict = reconcile(least, most)
	return b
}

func (c claim) outranks(other claim, amongEquals bool) bool {
	return c.rank > other.rank || c.rank == other.rank && amongEquals
}

// inForce says whether there is an override that has not expired: it ends with
// the very moment ExpiresAt.
func (o *Override) inForce(now time.Time) bool {
	return o != nil && (o.ExpiresAt.IsZero() || now.Before(o.ExpiresAt))
}

// changesAt takes note of a change to come; zero is none.
func (b *Bounds) changesAt(t time.Time) {
	if !t.IsZero() && (b.NextChange.IsZero() || t.Before(b.NextChange)) {
		b.NextChange = t
	}
}

// reconcile resolves a minimum above the maximum, and tells how.
func reconcile(least, most claim) (lower, upper Limit, conflict string) {
	if least.Replicas <= most.Replicas {
		return least.Limit, most.Limit, ""
	}
	conflict = fmt.Sprintf("minReplicas %d, by %s, is above maxReplicas %d, by %s: ",
		least.Replicas, least.origin(), most.Replicas, most.origin())
	switch {
	case least.rank < most.rank:
		return least.moved("lowered", most), most.Limit, conflict + fmt.Sprintf("minReplicas counts less and is lowered to %d", most.Replicas)
	case least.rank > most.rank:
		return least.Limit, most.moved("raised", least), conflict + fmt.Sprintf("maxReplicas counts less and is raised to %d", least.Replicas)
	}
	return least.Limit, most.moved("raised", least), conflict + fmt.Sprintf("both count the same, so maxReplicas is raised to %d", least.Replicas)
}

// moved is a limit that gives way to the other one, and says so.
func (c claim) moved(which string, to claim) Limit {
	return Limit{Replicas: to.Replicas, Source: fmt.Sprintf("%s, %s from %d by %s", c.origin(), which, c.Replicas, to.origin())}
}

// origin is the source, in words even for the configuration's own.
func (l Limit) origin() string {
	if l.Source == "" {
		return "the configuration"
	}
	return l.Source
}

// String is the count, with its source unless that is the configuration's own:
// "10" or "10, by schedule nights".
func (l Limit) String() string {
	if l.Source == "" {
		return strconv.Itoa(int(l.Replicas))
	}
	return fmt.Sprintf("%d, by %s", l.Replicas, l.Source)
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Package bounds says which minimum and maximum are in force at a moment, why,
// and when that changes next: the configuration's own, over them schedules,
// over them an override.
package bounds

import (
	"fmt"
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
	// NextChange is when a schedule or an override next begins or ends; zero
	// when none does.
	NextChange time.Time `json:"nextChange,omitzero"`
}

// Limit is one bound.
type Limit struct {
	// Replicas is the count.
	Replicas int32 `json:"replicas"`
	// Source is where it comes from: "" for the configuration's own
	// minReplicas or maxReplicas, "schedule NAME", or "override".
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
}

// New reads the bounds and schedules of a validated configuration.
func New(c config.Autoscaler) (*Limits, error) {
	return &Limits{min: c.MinReplicas, max: c.MaxReplicas}, nil
}

// InForce says which bounds are in force now. The override may be nil.
func (l *Limits) InForce(_ time.Time, _ *Override) Bounds {
	return Bounds{Min: Limit{Replicas: l.min}, Max: Limit{Replicas: l.max}, BaseMin: l.min}
}

// String is the count, with its source unless that is the configuration's own:
// "10" or "10, by schedule nights".
func (l Limit) String() string {
	if l.Source == "" {
		return strconv.Itoa(int(l.Replicas))
	}
	return fmt.Sprintf("%d, by %s", l.Replicas, l.Source)
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package autoscaler

import (
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/leader"
)

// Leadership says whether this process runs the autoscaler, where several stand
// by for each other.
type Leadership interface {
	// Term is who leads by now.
	Term() leader.Term
	// Changed receives when that may have changed.
	Changed() <-chan struct{}
}

// alone is the Leadership of a process that has no other beside it.
type alone struct{}

func (alone) Term() leader.Term        { return leader.Term{ID: 1} }
func (alone) Changed() <-chan struct{} { return nil }

// StandbyError says that another process runs the autoscaler.
type StandbyError struct {
	// Leader is its identity; empty when nobody is known to lead.
	Leader string
}

// Error names the leader.
func (e *StandbyError) Error() string {
	if e.Leader == "" {
		return "this replica stands by, and no leader is known at the moment"
	}
	return "this replica stands by: " + e.Leader + " leads"
}

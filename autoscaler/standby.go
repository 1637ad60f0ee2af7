// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package autoscaler

import (
	"context"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
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

// within is a context that ends with the term: what is done in it was done by
// the leader.
func within(ctx context.Context, term leader.Term) (context.Context, context.CancelFunc) {
	if term.Until.IsZero() {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, term.Until)
}

// KindStandby is the Kind of a Failure because another process runs the
// autoscaler by now: nothing is wrong, and nothing was written.
const KindStandby execute.Kind = "standby"

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

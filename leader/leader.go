// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Package leader elects which of several replicas of this process runs, by a
// Lease.
package leader

import "time"

// Term is who leads, at a moment.
type Term struct {
	// ID is the term in which this process leads: another one each time it
	// becomes the leader. 0 when it does not lead.
	ID uint64
	// Leader is the identity of whoever leads; empty when nobody is known to.
	Leader string
	// Until is when this process stops being sure that it leads, unless it
	// renews the lease: what it writes must be done by then. Zero when it does
	// not lead.
	Until time.Time
}

// Leading says whether this process leads.
func (t Term) Leading() bool { return t.ID != 0 }

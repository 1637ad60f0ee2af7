// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
)

// Kept is what deciding needs to know from earlier, and what therefore survives
// a restart where a store is configured. It is a value with one owner.
type Kept struct {
	Intents
	// Events are our own writes of late, oldest first.
	Events []Event `json:"events,omitempty"`
	// Pending is a write that was begun and not acknowledged yet.
	Pending *Write `json:"pending,omitempty"`
	// OwnZero says that the target is at 0 replicas because we scaled it
	// there, so that it is not taken to be disabled.
	OwnZero bool `json:"ownZero,omitempty"`
	// Fallback says that the hooks have failed often enough for the fallback.
	Fallback bool `json:"fallback,omitempty"`
}

// Intents are what an operator asked for at run time.
type Intents struct {
	// Pause stops scaling until it is taken back.
	Pause *Pause `json:"pause,omitempty"`
	// Hold keeps a count for a while.
	Hold *Hold `json:"hold,omitempty"`
	// Override replaces the bounds for a while.
	Override *bounds.Override `json:"override,omitempty"`
}

// Pause stops scaling.
type Pause struct {
	// Replicas is the count to keep meanwhile, whatever the bounds; nil keeps
	// the one that is there.
	Replicas *int32 `json:"replicas,omitempty"`
	// Reason is why, for people.
	Reason string `json:"reason,omitempty"`
}

// Hold keeps a count, limited by the bounds alone, until it ends.
type Hold struct {
	Replicas int32 `json:"replicas"`
	// Until is when it ends.
	Until time.Time `json:"until"`
	// Reason is why, for people.
	Reason string `json:"reason,omitempty"`
}

// Event is a change of the count that we wrote and the API server acknowledged.
type Event struct {
	At time.Time `json:"at"`
	// Change is how many replicas came (more than 0) or went (less).
	Change int32 `json:"change"`
}

// Write is a change of the count that was begun.
type Write struct {
	At   time.Time `json:"at"`
	From int32     `json:"from"`
	To   int32     `json:"to"`
}

// maxPeriod is the longest period of a policy: events older than that are
// forgotten.
const maxPeriod = 30 * time.Minute

// Begin notes a write that is about to be sent.
func (k *Kept) Begin(w Write) { k.Pending = &w }

// Acknowledge makes an event of the pending write, which was done at the given
// moment.
func (k *Kept) Acknowledge(at time.Time) {
	pending := k.Pending
	if pending == nil {
		return
	}
	k.Pending = nil
	k.OwnZero = pending.To == 0
	k.Events = append(k.Events, Event{At: at, Change: pending.To - pending.From})
}

// Settle brings what is kept in line with the count as it is: a pending write
// was done if the count is not what it was, and a count above 0 is nobody's
// zero. It says whether anything changed.
func (k *Kept) Settle(live int32) (changed bool) {
	if p := k.Pending; p != nil {
		changed = true
		if live == p.From {
			k.Pending = nil
		} else {
			k.Acknowledge(p.At)
		}
	}
	if k.OwnZero && live != 0 {
		k.OwnZero, changed = false, true
	}
	return changed
}

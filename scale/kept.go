// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"slices"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
)

// Kept is what deciding needs to know from earlier, and what therefore survives
// a restart where a store is configured. It is a value with one owner.
type Kept struct {
	Intents
	// Events are our own writes of late, in no particular order.
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

// count is the one to keep.
func (p Pause) count(current int32) int32 {
	if p.Replicas == nil {
		return current
	}
	return *p.Replicas
}

// String is the pause in words.
func (p Pause) String() string { return because("paused", p.Reason) }

// String is the hold in words.
func (h Hold) String() string {
	return because("manual hold until "+h.Until.Format(time.RFC3339), h.Reason)
}

func because(what, reason string) string {
	if reason == "" {
		return what
	}
	return what + ": " + reason
}

const (
	// maxPeriod is the longest period of a policy: no events older than that
	// are asked for.
	maxPeriod = 30 * time.Minute
	// maxEvents is how many are kept: one every two seconds.
	maxEvents = 1024
)

// Begin notes a write that is about to be sent.
func (k *Kept) Begin(w Write) { k.Pending = &w }

// Acknowledge makes an event of the pending write, which was done at the given
// moment.
func (r Rules) Acknowledge(k *Kept, at time.Time) {
	pending := k.Pending
	if pending == nil {
		return
	}
	k.Pending = nil
	k.OwnZero = pending.To == 0
	if pending.To != pending.From {
		k.Events = r.add(k.Events, Event{At: at, Change: saturate(int64(pending.To) - int64(pending.From))})
	}
}

// add puts an event where the HorizontalPodAutoscaler's controller does: in
// place of the last one of its direction that no policy of that direction can
// ask for any more, else at the end. A policy of the other direction, whose
// period is longer, may lack the one that is replaced; that only makes it
// stricter. Copies of a Kept share the old slice.
func (r Rules) add(events []Event, latest Event) []Event {
	events = slices.Clone(events)
	period := r.longest(latest.Change > 0)
	for i, event := range slices.Backward(events) {
		if (event.Change > 0) == (latest.Change > 0) && latest.At.Sub(event.At) > period {
			events[i] = latest
			return events
		}
	}
	events = append(events, latest)
	if len(events) > maxEvents {
		events = recent(latest.At, events)
	}
	return events
}

// longest is the longest period of a direction's policies.
func (r Rules) longest(up bool) time.Duration {
	if r.behavior == nil {
		return 0
	}
	direction := &r.behavior.down
	if up {
		direction = &r.behavior.up
	}
	var longest int32
	for _, policy := range direction.policies {
		longest = max(longest, policy.PeriodSeconds)
	}
	return time.Duration(longest) * time.Second
}

// Settle brings what is kept in line with the count as it is: a pending write
// was done if the count is not what it was, and a count above 0 is nobody's
// zero. It says whether anything changed.
func (r Rules) Settle(k *Kept, live int32) (changed bool) {
	if p := k.Pending; p != nil {
		changed = true
		if live == p.From {
			k.Pending = nil
		} else {
			r.Acknowledge(k, p.At)
		}
	}
	if k.OwnZero && live != 0 {
		k.OwnZero, changed = false, true
	}
	return changed
}

// Arrive makes what was loaded fit for the clock of this process: from now on
// it ages as the process does, whatever becomes of the wall clock. What is from
// the future, because that was set back since, counts from now.
func (k *Kept) Arrive(now time.Time) {
	k.Events = slices.Clone(k.Events)
	for i := range k.Events {
		k.Events[i].At = arrived(now, k.Events[i].At)
	}
	k.Events = recent(now, k.Events)
	if p := k.Pending; p != nil {
		k.Pending = &Write{At: arrived(now, p.At), From: p.From, To: p.To}
	}
}

// arrived is a loaded moment by the clock that now was read from.
func arrived(now, at time.Time) time.Time { return now.Add(-max(0, now.Round(0).Sub(at))) }

// Expire takes back the hold and the override that have ended. It says whether
// there were any.
func (k *Kept) Expire(now time.Time) (changed bool) {
	if k.Hold != nil && !now.Before(k.Hold.Until) {
		k.Hold, changed = nil, true
	}
	if o := k.Override; o != nil && !o.ExpiresAt.IsZero() && !now.Before(o.ExpiresAt) {
		k.Override, changed = nil, true
	}
	return changed
}

// recent are the events that policies may still ask for, oldest first, in a slice of their own: copies of a Kept share the old one.
func recent(now time.Time, events []Event) []Event {
	kept := make([]Event, 0, len(events))
	for _, event := range events {
		if event.Change == 0 || now.Sub(event.At) >= maxPeriod {
			continue
		}
		kept = append(kept, event)
	}
	slices.SortStableFunc(kept, func(a, b Event) int { return a.At.Compare(b.At) })
	for len(kept) > maxEvents {
		kept = merged(kept)
	}
	if len(kept) == 0 {
		return nil
	}
	return kept
}

// merged is one event fewer: the two oldest of the same direction, which are
// among the first three, become one at the time of the later. So that is never
// forgotten too early, and its direction never too fast.
func merged(events []Event) []Event {
	into, from := 1, 0
	if up := events[0].Change > 0; up != (events[1].Change > 0) {
		into = 2
		if up != (events[2].Change > 0) {
			from = 1
		}
	}
	events[into].Change = saturate(int64(events[into].Change) + int64(events[from].Change))
	copy(events[1:from+1], events[:from])
	return events[1:]
}

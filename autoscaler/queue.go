// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package autoscaler

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// Why a trigger was not run.
var (
	// ErrBusy: too many callers are waiting already.
	ErrBusy = errors.New("too many requests are waiting; try again later")
	// ErrStopping: the autoscaler is stopping, or has stopped.
	ErrStopping = errors.New("the autoscaler is stopping")
)

// maxCallers bounds who waits for a run, and so how many runs wait: each costs
// a connection and some memory for as long as the user's hooks take.
const maxCallers = 100

// queue holds the triggers that wait for the owner of an autoscaler.
type queue struct {
	// ready holds a token while anything may be waiting.
	ready chan struct{}

	mu      sync.Mutex
	waiting []*request
	callers int
	closed  bool
}

// request is a trigger that waits, for one caller or for several that ask for
// the same.
type request struct {
	trigger Trigger
	// callers are those who wait for it.
	callers int
	// done is closed when record or err is set.
	done   chan struct{}
	record Record
	err    error
}

func newQueue() *queue { return &queue{ready: make(chan struct{}, 1)} }

// add queues the trigger, or joins an equal one that still waits. One that is
// running already is not joined: what it read may be older than the request.
func (q *queue) add(trigger Trigger) (*request, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, ErrStopping
	}
	if q.callers == maxCallers {
		return nil, ErrBusy
	}
	q.callers++
	for _, waiting := range q.waiting {
		if waiting.trigger == trigger {
			waiting.callers++
			return waiting, nil
		}
	}
	r := &request{trigger: trigger, callers: 1, done: make(chan struct{})}
	q.waiting = append(q.waiting, r)
	q.signal()
	return r, nil
}

// leave is for a caller who has an answer or waits no longer. A trigger that
// nobody waits for any more is not run.
func (q *queue) leave(r *request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.callers--
	r.callers--
	if r.callers == 0 {
		q.waiting = slices.DeleteFunc(q.waiting, func(waiting *request) bool { return waiting == r })
	}
}

// take is the trigger that has waited longest, or nil.
func (q *queue) take() *request {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		return nil
	}
	r := q.waiting[0]
	q.waiting = q.waiting[1:]
	if len(q.waiting) > 0 {
		q.signal()
	}
	return r
}

// close answers everything that waits, or comes later, with ErrStopping.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for _, r := range q.waiting {
		r.err = ErrStopping
		close(r.done)
	}
	q.waiting = nil
}

func (q *queue) signal() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// Submit has the owner run the trigger and waits for its Record. Triggers that
// are equal and still wait share one run. It answers ErrBusy when too many
// wait, ErrStopping when no run comes any more, a *StandbyError when another
// process leads, and the context's error when the caller gives up; a run that
// has begun goes on then. It is safe for concurrent use.
func (a *Autoscaler) Submit(ctx context.Context, trigger Trigger) (Record, error) {
	if term := a.leadership.Term(); !term.Leading() {
		return Record{}, &StandbyError{Leader: term.Leader}
	}
	r, err := a.queue.add(trigger)
	if err != nil {
		return Record{}, err
	}
	defer a.queue.leave(r)
	select {
	case <-r.done:
		return r.record, r.err
	case <-ctx.Done():
		return Record{}, ctx.Err()
	}
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package leader

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The defaults of the configuration.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
)

var resourceName = schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}

// ledger is where the Lease is kept: what the API server is to all candidates.
type ledger struct {
	mu      sync.Mutex
	lease   *coordinationv1.Lease
	version int
}

// at makes the Lease be what a test wants, as somebody does with kubectl.
func (l *ledger) at(change func(*coordinationv1.LeaseSpec)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lease == nil {
		l.lease = &coordinationv1.Lease{}
	}
	change(&l.lease.Spec)
	l.store(l.lease)
}

func (l *ledger) delete() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lease = nil
}

func (l *ledger) read() record {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lease == nil {
		return record{}
	}
	return recordOf(l.lease)
}

// store keeps a copy. l.mu is held.
func (l *ledger) store(lease *coordinationv1.Lease) {
	l.version++
	l.lease = lease.DeepCopy()
	l.lease.ResourceVersion = strconv.Itoa(l.version)
}

// serve does what a request asks for, at one instant.
func (l *ledger) serve(verb string, lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case verb == "create" && l.lease != nil:
		return nil, apierrors.NewAlreadyExists(resourceName, "web")
	case verb == "create":
		l.store(lease)
	case l.lease == nil:
		return nil, apierrors.NewNotFound(resourceName, "web")
	case verb == "update" && lease.ResourceVersion != l.lease.ResourceVersion:
		return nil, apierrors.NewConflict(resourceName, "web", errors.New("it is another version"))
	case verb == "update":
		l.store(lease)
	}
	return l.lease.DeepCopy(), nil
}

// trouble is what happens to a request: how long it takes to arrive, and its
// answer to come back, and whether they do.
type trouble struct {
	there, back         time.Duration
	lostThere, lostBack bool
	// stuck is how long the process itself stands still when it has its answer,
	// not even heeding deadlines.
	stuck time.Duration
	// refused is what the server says instead of doing it.
	refused error
}

// link is how one candidate reaches the ledger.
type link struct {
	ledger *ledger
	// skew is how far ahead the candidate's calendar is.
	skew time.Duration
	// arriving are the requests under way; they may outlive their callers.
	arriving sync.WaitGroup

	mu      sync.Mutex
	trouble func(verb string) trouble
	asked   int
}

// troubled sets what happens to requests from now on.
func (l *link) troubled(what func(verb string) trouble) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trouble = what
}

// cut loses all requests from now on.
func (l *link) cut() { l.troubled(func(string) trouble { return trouble{lostThere: true} }) }

func (l *link) requests() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked
}

func (l *link) get(ctx context.Context) (*coordinationv1.Lease, error) { return l.do(ctx, "get", nil) }

func (l *link) create(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	return l.do(ctx, "create", lease)
}

func (l *link) update(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	return l.do(ctx, "update", lease)
}

func (l *link) do(ctx context.Context, verb string, lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	l.mu.Lock()
	var what trouble
	if l.trouble != nil {
		what = l.trouble(verb)
	}
	l.asked++
	l.mu.Unlock()
	if lease != nil {
		for _, t := range []*metav1.MicroTime{lease.Spec.AcquireTime, lease.Spec.RenewTime} {
			*t = metav1.NewMicroTime(t.Add(l.skew))
		}
	}
	type answer struct {
		lease *coordinationv1.Lease
		err   error
	}
	answered := make(chan answer, 1)
	l.arriving.Go(func() {
		pass(what.there)
		if what.lostThere {
			return
		}
		a := answer{err: what.refused}
		if what.refused == nil {
			a.lease, a.err = l.ledger.serve(verb, lease)
		}
		pass(what.back)
		if !what.lostBack {
			answered <- a
		}
	})
	select {
	case a := <-answered:
		pass(what.stuck)
		return a.lease, a.err
	case <-ctx.Done():
		pass(what.stuck)
		return nil, ctx.Err()
	}
}

// pass lets virtual time pass.
func pass(d time.Duration) {
	if d > 0 {
		<-time.After(d)
	}
}

// elapse lets virtual time pass for a test, and everybody do what is due then.
func elapse(d time.Duration) {
	pass(d)
	synctest.Wait()
}

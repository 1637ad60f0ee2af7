// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package leader

import (
	"context"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
)

// releaseTimeout bounds the release of the Lease on a stop.
const releaseTimeout = 500 * time.Millisecond

// Run campaigns until ctx ends, then releases the Lease if it holds it, which
// takes half a second at most, and returns nil. No failure ends it: without the
// Lease nobody leads, and it goes on trying. End what the leader does before
// ctx: once the Lease is released another replica leads at once.
func (e *Elector) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		began := time.Now()
		e.report(ctx, e.try(ctx))
		e.announce(ctx)
		e.pause(ctx, began)
	}
	e.end("this process stops")
	e.announce(ctx)
	e.release(ctx)
	return nil
}

// try renews the lease or tries for it, once.
func (e *Elector) try(ctx context.Context) error {
	if term := e.Term(); term.Leading() {
		// So that the end of the term is noticed when it comes.
		limited, cancel := context.WithDeadline(ctx, term.Until)
		defer cancel()
		return e.renew(limited)
	}
	return e.campaign(ctx)
}

// renew updates the Lease as it was left. If it is another now, a renewal may
// have arrived whose answer did not, or the lease was lost.
func (e *Elector) renew(ctx context.Context) error {
	err := e.claim(ctx)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return e.campaign(ctx)
	}
	return err
}

// campaign looks at the Lease and claims it if it may.
func (e *Elector) campaign(ctx context.Context) error {
	lease, err := e.get(ctx)
	switch {
	case apierrors.IsNotFound(err):
		e.lease = nil
		e.end("the lease was deleted")
	case err != nil:
		return err
	default:
		e.note(lease)
	}
	if !e.mayClaim() {
		return nil
	}
	return e.claim(ctx)
}

// get reads the Lease.
func (e *Elector) get(ctx context.Context) (*coordinationv1.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, e.requestTimeout())
	defer cancel()
	return e.leases.get(ctx)
}

// claim writes this process into the Lease, and begins or prolongs its term
// when that succeeds.
func (e *Elector) claim(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, e.requestTimeout())
	defer cancel()
	write := e.leases.update
	if e.lease == nil {
		write = e.leases.create
	}
	e.claimed = true
	sent := time.Now()
	lease, err := write(ctx, held(e.lease, e.o))
	if err != nil {
		return err
	}
	e.note(lease)
	e.hold(sent)
	return nil
}

// requestTimeout leaves time for two more tries when a renewal hangs.
func (e *Elector) requestTimeout() time.Duration {
	return min(resource.RequestTimeout, e.o.RenewDeadline/3)
}

// note takes in what the Lease says. If that is not that this process holds
// it, its term is over.
func (e *Elector) note(lease *coordinationv1.Lease) {
	e.lease = lease
	now := recordOf(lease)
	switch now.holder {
	case e.o.Identity:
	case "":
		e.end("the lease was released by somebody else")
	default:
		e.end(now.holder + " took the lease")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.since.IsZero() || e.seen != now {
		// As late as possible: the change was at this time or before.
		e.seen, e.since = now, time.Now()
	}
}

// end ends the term of this process if there is one.
func (e *Elector) end(reason string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if time.Now().Before(e.until) {
		e.until = time.Time{}
		e.lost = reason
	}
}

// hold begins or prolongs the term, after the request that was sent then has
// succeeded; if its answer was very late, the term is over already. A term that
// has ended stays so: this is another one.
func (e *Elector) hold(sent time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !time.Now().Before(e.until) {
		e.term++
	}
	e.until = sent.Add(e.o.RenewDeadline)
}

// mayClaim says whether the lease that was last seen is free, ours, or has run
// out. That goes for one that has been deleted since as well: its holder does
// not know yet.
func (e *Elector) mayClaim() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.seen.holder == e.o.Identity || !time.Now().Before(e.expiry())
}

// pause waits for the next try: a RetryPeriod since the last one began, up to a
// fifth less so that candidates do not keep step, or until the term or the
// other's lease ends, if that is sooner.
func (e *Elector) pause(ctx context.Context, began time.Time) {
	next := began.Add(wait.Jitter(e.o.RetryPeriod*4/5, 0.25))
	e.mu.Lock()
	for _, end := range []time.Time{e.until, e.expiry()} {
		if end.After(time.Now()) && end.Before(next) {
			next = end
		}
	}
	e.mu.Unlock()
	timer := time.NewTimer(time.Until(next))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// release gives the Lease up if it names this process, so that another replica
// need not wait until it runs out. A request that was under way when ctx ended
// may still arrive, so it looks first.
func (e *Elector) release(ctx context.Context) {
	if !e.claimed {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	for {
		lease, err := e.leases.get(ctx)
		if apierrors.IsNotFound(err) {
			return
		}
		if err == nil {
			e.note(lease)
			if recordOf(lease).holder != e.o.Identity {
				return
			}
			lease, err = e.leases.update(ctx, released(lease))
		}
		if err == nil {
			e.note(lease)
			return
		}
		if !apierrors.IsConflict(err) {
			e.o.Log.WarnContext(ctx, "Releasing the lease failed: another replica leads when it has run out", "after", e.o.LeaseDuration, "error", err)
			return
		}
	}
}

// failure is a kind of failure that is logged when it begins, and not again
// until another one does or all is well.
type failure struct {
	forbidden bool
	err       error
}

// report logs the failure of a try, if it is news. That somebody else was
// faster is none, nor that ctx ended.
func (e *Elector) report(ctx context.Context, err error) {
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || ctx.Err() != nil {
		err = nil
	}
	before, now := e.failure, failure{forbidden: apierrors.IsForbidden(err), err: err}
	e.failure = now
	switch {
	case err == nil:
	case before.err != nil && before.forbidden == now.forbidden:
		e.o.Log.DebugContext(ctx, "The leader election still fails", "error", err)
	case now.forbidden:
		e.o.Log.ErrorContext(ctx, "The leader election is forbidden: allow the service account the verbs get, create and update on "+
			"leases.coordination.k8s.io in the lease's namespace", "error", err)
	default:
		e.o.Log.WarnContext(ctx, "The leader election fails; trying again", "every", e.o.RetryPeriod, "error", err)
	}
}

// announce logs and signals what has changed since it last did.
func (e *Elector) announce(ctx context.Context) {
	before, now := e.announced, e.Term()
	if before.ID == now.ID && before.Leader == now.Leader {
		return
	}
	e.announced = now
	if before.Leading() && before.ID != now.ID {
		e.o.Log.InfoContext(ctx, "Lost the leadership", "identity", e.o.Identity, "reason", e.reasonLost())
	}
	switch {
	case now.Leading():
		e.o.Log.InfoContext(ctx, "Gained the leadership", "identity", e.o.Identity)
	case now.Leader != "" && now.Leader != before.Leader:
		e.o.Log.InfoContext(ctx, "Another replica leads", "leader", now.Leader)
	}
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

// reasonLost is why the last term ended.
func (e *Elector) reasonLost() string {
	reason := e.lost
	e.lost = ""
	if reason != "" {
		return reason
	}
	reason = fmt.Sprintf("the lease could not be renewed within %s", e.o.RenewDeadline)
	if e.failure.err != nil {
		reason += ": " + e.failure.err.Error()
	}
	return reason
}

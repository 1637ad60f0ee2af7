// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package autoscaler

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/leader"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

// Status is an autoscaler as it is at a moment.
type Status struct {
	// ID names the autoscaler.
	ID string
	// Time is the moment.
	Time time.Time
	// Target is what is scaled.
	Target corev1.ObjectReference
	// Term is who leads.
	Term leader.Term
	// Bounds are those in force.
	Bounds bounds.Bounds
	// Intents are what operators asked for; none while another process leads.
	Intents scale.Intents
	// Fallback says that the hooks have failed often enough for it, and Failures
	// how many runs in a row did.
	Fallback bool
	Failures int32
	// DryRun says that nothing is written.
	DryRun bool
	// Last is the latest run, Decided the latest that came to a decision, and
	// Gathered the latest that gathered metrics; nil before there was one. All
	// are compact (Record.Compact).
	Last, Decided, Gathered *Record
	// NextRun is when the next interval begins; zero while none is to come.
	NextRun time.Time
}

// published is what the owner lets everybody read. It is never changed, only
// replaced.
type published struct {
	// firstTick is when the first interval began, or is to; zero without a loop.
	firstTick               time.Time
	failures                int32
	last, decided, gathered *Record
}

// current is the count that the latest decision left; nil before there was one.
func (p *published) current() *int32 {
	if p.decided == nil {
		return nil
	}
	if p.decided.Written {
		return &p.decided.Decision.Desired
	}
	return &p.decided.Decision.Current
}

// begin shows when the first interval of a ticker began, or is to.
func (a *Autoscaler) begin(firstTick time.Time) {
	next := *a.published.Load()
	next.firstTick = firstTick
	a.published.Store(&next)
}

// publish shows a run in the Status.
func (a *Autoscaler) publish(r Record) {
	compact := r.Compact()
	next := *a.published.Load()
	next.failures, next.last = a.failures, &compact
	if compact.Decision != nil && !r.Trigger.DryRun {
		next.decided = &compact
	}
	if compact.MetricsTotal > 0 {
		next.gathered = &compact
	}
	a.published.Store(&next)
}

// Status is the autoscaler as it is now. It never waits for a run, and is safe
// for concurrent use.
func (a *Autoscaler) Status() Status {
	now, term, seen := time.Now(), a.leadership.Term(), a.published.Load()
	kept, _ := a.memory.read()
	if !term.Leading() {
		kept = scale.Kept{}
	}
	kept.Expire(now)
	status := Status{
		ID: a.id, Time: now, Target: a.reference(), Term: term,
		Bounds: a.limits().InForce(now, kept.Override), Intents: kept.Intents,
		Fallback: kept.Fallback, Failures: seen.failures, DryRun: a.config().DryRun,
		Last: seen.last, Decided: seen.decided, Gathered: seen.gathered,
	}
	if term.Leading() && !seen.firstTick.IsZero() {
		status.NextRun = nextTick(seen.firstTick, a.config().Interval.Duration(), now)
	}
	return status
}

// nextTick is the first tick after a moment of a ticker that was started at
// another.
func nextTick(start time.Time, interval time.Duration, now time.Time) time.Time {
	since := now.Sub(start)
	return start.Add(max(since-since%interval, 0) + interval)
}

// advance notes that the owner gets on.
func (a *Autoscaler) advance() {
	now := time.Now()
	a.progress.Store(&now)
}

// Alive is nil while the owner gets on: a run that fails is as good as any, and
// so is standing by. Otherwise it says for how long it has not. It is safe for
// concurrent use.
func (a *Autoscaler) Alive() error {
	if idle := time.Since(*a.progress.Load()); idle > a.patience() {
		return fmt.Errorf("no progress for %s", idle.Round(time.Second))
	}
	return nil
}

// patience is longer than anything may take that is no progress: the wait for
// the next run, a call of a hook, which a worker may be asked twice and each time
// be waited for, or a request to the API server.
func (a *Autoscaler) patience() time.Duration {
	return maxWake + 4*a.config().LongestTimeout() + 3*resource.RequestTimeout
}

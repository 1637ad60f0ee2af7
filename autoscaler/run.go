// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package autoscaler

import (
	"context"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
)

// HookGrace is how long a run that is under way may go on when the process is
// told to stop. Then its hooks are killed.
const HookGrace = 1500 * time.Millisecond

// pushPause is how long after a run that a worker asked for the next such begins
// at the earliest: a worker may hear of every job in a queue, and pods take
// seconds to start anyway.
const pushPause = time.Second

// handOverTimeout bounds keeping what is known at a stop.
const handOverTimeout = 500 * time.Millisecond

// Run runs the loop until the context ends: it waits for the next multiple of
// the start time, then runs at every interval, the first time one interval
// later. Runs never overlap, and an interval that a run overran is skipped.
// Between them it runs, from the beginning, whatever was submitted, at the
// moment a schedule, a hold or an override begins or ends, when an operator
// steps in, when a worker asks for it, and when this process becomes the
// leader. A process that does not lead runs nothing. Call it once. It returns
// nil, after the run under way has ended and what is known was handed over:
// that takes at most HookGrace, the moment it takes to kill a hook, and
// handOverTimeout.
func (a *Autoscaler) Run(ctx context.Context) error {
	defer a.queue.close()
	defer close(a.stopped)
	defer a.deps.Hooks.OnTrigger(a.push)()
	work, cancel := withGrace(ctx, HookGrace)
	defer cancel()
	a.loop(ctx, work)
	a.handOver(context.WithoutCancel(ctx))
	return nil
}

func (a *Autoscaler) loop(ctx, work context.Context) {
	wait := untilMultiple(time.Now(), a.config().StartTime.Duration())
	start := time.NewTimer(wait)
	defer start.Stop()
	a.begin(time.Now().Add(wait))
	wake := time.NewTimer(0)
	defer wake.Stop()
	// Workers are heard from the first interval on, but for a pause after each
	// run of theirs.
	pause := time.NewTimer(0)
	defer pause.Stop()
	var ticker *time.Ticker
	var interval <-chan time.Time
	var pushes <-chan string
	// change is when the bounds or a hold next change after what the last run
	// saw: one that comes during a run is met right after it.
	seen, change := time.Now(), time.Time{}
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-start.C:
			ticker = time.NewTicker(a.config().Interval.Duration())
			defer ticker.Stop()
			a.begin(time.Now())
			interval, pushes = ticker.C, a.pushes
			a.log.Debug("The first interval begins", "interval", a.config().Interval.Duration())
		case <-interval:
			seen = a.scheduled(work, KindInterval, "")
		case <-wake.C:
			if !change.IsZero() && !time.Now().Before(change) {
				seen = a.scheduled(work, KindBounds, "")
				drop(interval)
			}
		case <-a.intended:
			seen = a.scheduled(work, KindIntent, "")
		case change := <-a.changes:
			before := a.config().Interval
			a.reconfigure(change, time.Now())
			if after := a.config().Interval; ticker != nil && after != before {
				ticker.Reset(after.Duration())
				a.begin(time.Now())
			}
			if interval != nil {
				seen = a.scheduled(work, KindConfig, "")
			}
		case reason := <-pushes:
			seen = a.scheduled(work, KindPush, reason)
			drop(interval)
			pushes = nil
			pause.Reset(pushPause)
		case <-pause.C:
			if interval != nil {
				pushes = a.pushes
			}
		case <-a.queue.ready:
			a.requested(work)
		case <-a.leadership.Changed():
			if a.leadership.Term().ID != a.term && interval != nil {
				seen = a.scheduled(work, KindTerm, "")
			}
		}
		a.advance()
		change = a.nextChange(seen)
		wake.Reset(untilChange(change))
	}
}

// drop takes back an interval that began during the run of a change or a push:
// schedules and intervals like to begin with the same minute.
func drop(interval <-chan time.Time) {
	select {
	case <-interval:
	default:
	}
}

// scheduled is a run that nobody waits for. It returns when it began.
func (a *Autoscaler) scheduled(ctx context.Context, kind Kind, reason string) time.Time {
	now := time.Now()
	if !a.leadership.Term().Leading() {
		return now
	}
	record := a.Tick(ctx, now, Trigger{Kind: kind, RunType: execute.RunScaler, Through: ThroughScale, Reason: reason})
	if interval := a.config().Interval.Duration(); record.Duration > interval && ctx.Err() == nil {
		a.log.Warn("The run took longer than the interval: the next one is late",
			"took", record.Duration.Round(time.Millisecond), "interval", interval)
	}
	return now
}

// requested is the run that has waited longest.
func (a *Autoscaler) requested(ctx context.Context) {
	r := a.queue.take()
	if r == nil {
		return
	}
	defer close(r.done)
	if term := a.leadership.Term(); !term.Leading() {
		r.err = &StandbyError{Leader: term.Leader}
		return
	}
	r.record = a.Tick(ctx, time.Now(), r.trigger)
}

// push asks for a run, which begins as soon as the run under way and pushPause
// allow. One that waits already is that of all who ask meanwhile, and has the
// reason of the first.
func (a *Autoscaler) push(reason string) {
	select {
	case a.pushes <- reason:
	default:
	}
}

// nextChange is when the bounds in force or a hold change next after a moment;
// zero when they do not.
func (a *Autoscaler) nextChange(after time.Time) time.Time {
	kept, _ := a.memory.read()
	change := a.limits().InForce(after, kept.Override).NextChange
	if h := kept.Hold; h != nil && h.Until.After(after) && (change.IsZero() || h.Until.Before(change)) {
		change = h.Until
	}
	return change
}

// maxWake is how long the loop relies on a timer for a moment of the wall
// clock, which may be set meanwhile.
const maxWake = time.Minute

func untilChange(change time.Time) time.Duration {
	if change.IsZero() {
		return maxWake
	}
	return min(time.Until(change), maxWake)
}

// handOver keeps what is known for the next process.
func (a *Autoscaler) handOver(ctx context.Context) {
	if a.history == nil || a.leadership.Term().ID != a.term {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, handOverTimeout)
	defer cancel()
	a.memory.handOver(ctx, a.history.Window())
}

// untilMultiple is the time from now to the next multiple of the duration
// since the epoch: at least a little, at most the duration.
func untilMultiple(now time.Time, every time.Duration) time.Duration {
	return every - time.Duration(now.UnixNano()%int64(every))
}

// withGrace is a context that ends a while after its parent does.
func withGrace(parent context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(parent))
	stop := context.AfterFunc(parent, func() {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel(ErrStopping)
		case <-ctx.Done():
		}
	})
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

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

// Run runs the loop until the context ends: it waits for the next multiple of
// the start time, then runs at every interval, the first time one interval
// later. Runs never overlap, and an interval that a run overran is skipped.
// Triggers are run between them, from the beginning. Call it once. It returns
// nil, after the run under way has ended, which takes at most HookGrace and
// the moment it takes to kill a hook.
func (a *Autoscaler) Run(ctx context.Context) error {
	defer a.queue.close()
	work, cancel := withGrace(ctx, HookGrace)
	defer cancel()

	start := time.NewTimer(untilMultiple(time.Now(), a.config.StartTime.Duration()))
	defer start.Stop()
	var interval <-chan time.Time
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-start.C:
			ticker := time.NewTicker(a.config.Interval.Duration())
			defer ticker.Stop()
			interval = ticker.C
			a.log.Debug("The first interval begins", "interval", a.config.Interval.Duration())
		case <-interval:
			a.scheduled(work)
		case <-a.queue.ready:
			a.requested(work)
		}
	}
	return nil
}

// scheduled is the run of an interval.
func (a *Autoscaler) scheduled(ctx context.Context) {
	record := a.Tick(ctx, time.Now(), Trigger{RunType: execute.RunScaler, Through: ThroughScale})
	if interval := a.config.Interval.Duration(); record.Duration > interval && ctx.Err() == nil {
		a.log.Warn("The run took longer than the interval: the next one is late",
			"took", record.Duration.Round(time.Millisecond), "interval", interval)
	}
}

// requested is the run that has waited longest.
func (a *Autoscaler) requested(ctx context.Context) {
	r := a.queue.take()
	if r == nil {
		return
	}
	r.record = a.Tick(ctx, time.Now(), r.trigger)
	close(r.done)
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

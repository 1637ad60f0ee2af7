// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"k8s.io/client-go/util/flowcontrol"
)

// The limit on requests to the API server, watches aside. A run makes one or a
// handful; the limit is there for an interval of a few milliseconds, not for
// ordinary use, where client-go's default of 5 a second would make runs wait
// without a word.
const (
	requestsPerSecond = 50
	requestBurst      = 100
)

const (
	// noticedWait is how long a request may wait for its turn unreported.
	noticedWait = 100 * time.Millisecond
	// waitsReported is how often waits are reported at the most.
	waitsReported = time.Minute
)

// limiter limits requests, and reports when they had to wait. It is safe for
// concurrent use.
type limiter struct {
	flowcontrol.RateLimiter
	log   *slog.Logger
	meter *meter

	mu sync.Mutex
	// waited counts the waits that are not reported yet, of which longest is
	// the longest.
	waited  int
	longest time.Duration
	// silent says that there was a report less than waitsReported ago.
	silent bool
}

func newLimiter(log *slog.Logger, meter *meter) *limiter {
	return &limiter{RateLimiter: flowcontrol.NewTokenBucketRateLimiter(requestsPerSecond, requestBurst), log: log, meter: meter}
}

// Wait waits for the request's turn, or for the end of its context.
func (l *limiter) Wait(ctx context.Context) error {
	began := time.Now()
	err := l.RateLimiter.Wait(ctx)
	if took := time.Since(began); took > noticedWait {
		l.meter.waited(took)
		l.note(took)
	}
	return err
}

// note counts a wait, and reports it unless there was a report lately: then it
// is part of the next one.
func (l *limiter) note(took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waited++
	l.longest = max(l.longest, took)
	if !l.silent {
		l.report()
	}
}

// report reports the waits there were, and those of the next minute when it is
// over.
func (l *limiter) report() {
	l.log.Warn("Requests to the API server waited for their turn: this process makes more than its limit. "+
		"A longer interval, or fewer triggers, make fewer",
		"requests", l.waited, "longest", l.longest.Round(time.Millisecond), "perSecond", requestsPerSecond, "burst", requestBurst)
	l.waited, l.longest, l.silent = 0, 0, true
	time.AfterFunc(waitsReported, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.silent = false
		if l.waited > 0 {
			l.report()
		}
	})
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// load is requests that a program gets while its loop is watched.
type load struct {
	// rate is how many requests a second come, however fast they are answered;
	// 0 has the next one follow each answer.
	rate int
	// connections is how many requests are under way at most; 0 is no load.
	connections int
}

// mostConnections is how many connections to a program are kept open.
const mostConnections = 64

// overtime is how long after the end the requests that are under way, or late,
// may still take.
const overtime = 5 * time.Second

// outcome is what became of requests.
type outcome struct {
	// answers are how long those took that were answered as they should.
	answers []time.Duration
	errors  int
	// elapsed is how long all of it took.
	elapsed time.Duration
}

// add adds what became of others.
func (o *outcome) add(other outcome) {
	o.answers, o.errors, o.elapsed = append(o.answers, other.answers...), o.errors+other.errors, o.elapsed+other.elapsed
}

// run makes the requests for that long.
func (l load) run(ctx context.Context, window time.Duration, request func(context.Context) error) outcome {
	ctx, cancel := context.WithTimeout(ctx, window+overtime)
	defer cancel()
	var (
		began = time.Now()
		next  atomic.Int64
		all   = make([]outcome, l.connections)
		group sync.WaitGroup
	)
	for i := range all {
		group.Go(func() { all[i] = l.keepOn(ctx, began, window, &next, request) })
	}
	group.Wait()
	sleepUntil(ctx, began.Add(window))
	var o outcome
	for _, own := range all {
		o.add(own)
	}
	o.elapsed = time.Since(began)
	return o
}

// keepOn makes one request after another, each when it is due. A late one takes
// as long as it took from when it was due: whoever sent it waits, too.
func (l load) keepOn(ctx context.Context, began time.Time, window time.Duration, next *atomic.Int64, request func(context.Context) error) (o outcome) {
	for {
		due := time.Now()
		if l.rate > 0 {
			due = began.Add(time.Duration(next.Add(1)-1) * time.Second / time.Duration(l.rate))
		}
		if due.Sub(began) >= window || !sleepUntil(ctx, due) {
			return o
		}
		if err := request(ctx); err != nil {
			o.errors++
			continue
		}
		o.answers = append(o.answers, time.Since(due))
	}
}

// sleepUntil reports whether the moment came before the context ended.
func sleepUntil(ctx context.Context, moment time.Time) bool {
	timer := time.NewTimer(time.Until(moment))
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// answers are the requests of a load, as the report has them.
type answers struct {
	PerSecond float64 `json:"perSecond"`
	Errors    int     `json:"errors"`
	Median    float64 `json:"medianMilliseconds"`
	Slow      float64 `json:"p99Milliseconds"`
}

// summary is nil where nothing was answered or went wrong, since nothing was
// asked.
func (o outcome) summary() *answers {
	if len(o.answers)+o.errors == 0 {
		return nil
	}
	a := &answers{Errors: o.errors, PerSecond: float64(len(o.answers)) / o.elapsed.Seconds()}
	if n := len(o.answers); n > 0 {
		slices.Sort(o.answers)
		a.Median, a.Slow = milliseconds(o.answers[n/2]), milliseconds(o.answers[n*99/100])
	}
	return a
}

// newClient is a client that keeps its connections to a program.
func newClient() *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: mostConnections}}
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package autoscaler

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
)

// written are the writes so far.
func (w *world) written() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.writes)
}

// timeline is what ran when, after the moment.
func (w *world) timeline(began time.Time) []string {
	var told []string
	for _, r := range w.seen() {
		told = append(told, fmt.Sprintf("%s %s %q", r.Time.Sub(began), r.Trigger.Kind, r.Trigger.Reason))
	}
	return told
}

func TestPushesRunAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(2)
		a := w.start(testConfig(), wants(`{"targetReplicas": 2}`))
		loop(t, a)
		began := time.Now()
		a.push("too early: it waits for the first interval")
		wait(22 * time.Second)
		a.push("the queue grew")
		wait(300 * time.Millisecond)
		a.push("it grew again") // within a second: it waits for that
		a.push("and again")     // it has a run in common with the one before
		wait(3 * time.Second)
		a.push("")
		wait(10 * time.Second)

		want := []string{
			`1ms push "too early: it waits for the first interval"`,
			`15.001s interval ""`,
			`22s push "the queue grew"`,
			`23s push "it grew again"`,
			`25.3s push ""`,
			`30.001s interval ""`,
		}
		if diff := cmp.Diff(want, w.timeline(began)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// A run that was pushed and takes long is that of the interval too.
func TestAPushIsCoalescedWithTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(2)
		hooks := wants(`{"targetReplicas": 2}`)
		hooks[execute.StageEvaluate] = hook(func(context.Context, execute.Call) (string, error) {
			wait(2 * time.Second)
			return `{"targetReplicas": 2}`, nil
		})
		a := w.start(testConfig(), hooks)
		loop(t, a)
		began := time.Now()
		wait(14 * time.Second)
		a.push("now")
		wait(25 * time.Second)
		want := []string{`14s push "now"`, `30.001s interval ""`}
		if diff := cmp.Diff(want, w.timeline(began)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// The fallback is for hooks that fail for some intervals, however often a worker
// pushes meanwhile.
func TestPushedRunsDoNotHastenTheFallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(2)
		c := testConfig()
		c.Fallback = &config.Fallback{FailureThreshold: 3, Replicas: new(int32(7)), Behavior: config.FallbackStatic}
		hooks := wants(`{"targetReplicas": 2}`)
		hooks[execute.StageEvaluate] = fails()
		a := w.start(c, hooks)
		loop(t, a)
		for range 44 {
			wait(time.Second)
			a.push("the queue grew")
		}
		if runs := len(w.seen()); len(w.written()) > 0 || runs < 30 {
			t.Errorf("wrote %v after %d runs, want nothing yet", w.written(), runs)
		}
		wait(2 * time.Second)
		if diff := cmp.Diff([]string{"2->7"}, w.written()); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
	})
}

// A flood of pushes is a run a second, beside those of the loop.
func TestPushesAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(2)
		c := testConfig()
		c.Interval = 3_600_000
		a := w.start(c, wants(`{"targetReplicas": 2}`))
		stop := loop(t, a)
		for range 10_000 {
			a.push("again")
			wait(time.Millisecond)
		}
		stop()
		if got := len(w.seen()); got != 10 {
			t.Errorf("%d runs in 10 s, want 10", got)
		}
	})
}

// A push during a run is met by the next one, since that run may have asked
// before there was something to learn; an interval that began meanwhile is
// that run too.
func TestPushesDuringARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(2)
		hooks := wants(`{"targetReplicas": 2}`)
		slow := true
		hooks[execute.StageEvaluate] = hook(func(context.Context, execute.Call) (string, error) {
			if slow {
				slow = false
				wait(14 * time.Second)
			}
			return `{"targetReplicas": 2}`, nil
		})
		a := w.start(testConfig(), hooks)
		loop(t, a)
		began := time.Now()
		wait(20 * time.Second)
		a.push("now")
		wait(15 * time.Second)
		want := []string{`15.001s interval ""`, `29.001s push "now"`, `30.001s interval ""`}
		if diff := cmp.Diff(want, w.timeline(began)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

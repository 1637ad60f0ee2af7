// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package autoscaler

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
)

// loop runs an Autoscaler in the background of a synctest bubble.
func loop(t *testing.T, a *Autoscaler) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// seen are the records so far.
func (w *world) seen() []Record {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.records)
}

func TestTheFirstRunIsOneIntervalAfterTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(2)
		c := testConfig()
		c.StartTime, c.Interval = 60_000, 15_000
		began := time.Now() // synctest begins at midnight, a multiple of a minute
		wait(20 * time.Second)
		loop(t, w.start(c, wants(`{"targetReplicas": 2}`)))
		wait(3 * time.Minute)
		records := w.seen()
		if len(records) != 9 {
			t.Fatalf("%d runs, want 9", len(records))
		}
		for i, r := range records {
			if at, want := r.Time.Sub(began), 75*time.Second+time.Duration(i)*15*time.Second; at != want {
				t.Errorf("run %d at %s, want %s", i, at, want)
			}
		}
	})
}

func TestRunsNeverOverlapAndMissedOnesCoalesce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(2, "a")
		hooks := wants(`{"targetReplicas": 2}`)
		slow := true
		hooks[execute.StageMetric] = hook(func(context.Context, execute.Call) (string, error) {
			if slow {
				slow = false
				wait(50 * time.Second)
			}
			return "5", nil
		})
		loop(t, w.start(testConfig(), hooks))
		wait(2 * time.Minute)
		want := []time.Duration{0, 50 * time.Second, 60 * time.Second, 75 * time.Second, 90 * time.Second}
		var got []time.Duration
		for _, r := range w.seen()[:len(want)] {
			got = append(got, r.Time.Sub(w.seen()[0].Time))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error("runs (-want +got):\n" + diff)
		}
	})
}

func TestEqualTriggersThatWaitShareARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(2)
		c := testConfig()
		c.Interval = 3_600_000
		release := make(chan struct{})
		hooks := wants(`{"targetReplicas": 2}`)
		hooks[execute.StageEvaluate] = hook(func(context.Context, execute.Call) (string, error) {
			<-release
			return `{"targetReplicas": 2}`, nil
		})
		a := w.start(c, hooks)
		loop(t, a)
		trigger := Trigger{RunType: execute.RunAPI, Through: ThroughScale}
		var group sync.WaitGroup
		submit := func() {
			group.Go(func() {
				if _, err := a.Submit(t.Context(), trigger); err != nil {
					t.Error(err)
				}
			})
		}
		submit()
		synctest.Wait() // the first is running
		for range 20 {
			submit()
		}
		synctest.Wait() // the others wait
		close(release)
		group.Wait()
		if runs := len(w.seen()); runs != 2 {
			t.Errorf("%d runs, want 2: one that ran, one for the 20 that waited", runs)
		}
	})
}

func TestTooManyCallersAreBusy(t *testing.T) {
	q := newQueue()
	var first *request
	for range maxCallers {
		r, err := q.add(scheduled)
		if err != nil {
			t.Fatal(err)
		}
		first = r
	}
	if _, err := q.add(scheduled); !errors.Is(err, ErrBusy) {
		t.Errorf("got %v, want %v", err, ErrBusy)
	}
	q.leave(first)
	if _, err := q.add(scheduled); err != nil {
		t.Errorf("after one has left: %v", err)
	}
}

func TestWhatNobodyWaitsForIsNotRun(t *testing.T) {
	q := newQueue()
	one, _ := q.add(Trigger{RunType: "one"})
	two, _ := q.add(Trigger{RunType: "two"})
	again, _ := q.add(Trigger{RunType: "one"})
	q.leave(one)
	q.leave(two)
	if one != again || q.take() != one || q.take() != nil {
		t.Error("want the first to be run for who still waits, and the second not")
	}
}

func TestStopping(t *testing.T) {
	waiting := func(ctx context.Context, _ execute.Call) (string, error) {
		<-ctx.Done()
		return "", ctx.Err()
	}
	for _, test := range []struct {
		name  string
		hook  hook
		after time.Duration
		took  time.Duration
	}{
		{name: "in the start delay", after: 0, hook: prints("5")},
		{name: "between two runs", after: 20 * time.Second, hook: prints("5")},
		{name: "in a hook that ends in time", after: 15 * time.Second, took: time.Second, hook: func(context.Context, execute.Call) (string, error) {
			wait(time.Second)
			return "5", nil
		}},
		{name: "in a hook that does not", after: 15 * time.Second, took: HookGrace, hook: waiting},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := testConfig()
				a := newWorld(2, "a").start(c, execute.Hooks{
					execute.StageMetric: test.hook, execute.StageEvaluate: prints(`{"targetReplicas": 2}`),
				})
				stop := loop(t, a)
				wait(test.after + time.Millisecond)
				began := time.Now()
				stop()
				// The hook began a millisecond before the stop.
				if took := time.Since(began); took > test.took || took < test.took-time.Millisecond {
					t.Errorf("stopping took %s, want %s", took, test.took)
				}
				if _, err := a.Submit(t.Context(), scheduled); !errors.Is(err, ErrStopping) {
					t.Errorf("a trigger after the stop: %v, want %v", err, ErrStopping)
				}
			})
		})
	}
}

func TestWhoWaitsAtTheStopIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newWorld(2, "a").start(testConfig(), execute.Hooks{
			execute.StageMetric: hook(func(ctx context.Context, _ execute.Call) (string, error) {
				<-ctx.Done()
				return "", ctx.Err()
			}),
			execute.StageEvaluate: prints(`{"targetReplicas": 2}`),
		})
		stop := loop(t, a)
		results := make(chan error, 2)
		for _, through := range []Through{ThroughMetrics, ThroughScale} {
			go func() {
				record, err := a.Submit(t.Context(), Trigger{RunType: execute.RunAPI, Through: through})
				if err == nil && record.Failure == nil {
					err = errors.New("a record without a failure")
				}
				results <- err
			}()
		}
		synctest.Wait()
		stop()
		first, second := <-results, <-results
		if !errors.Is(errors.Join(first, second), ErrStopping) || (first != nil && second != nil) {
			t.Errorf("answers %v and %v: want one record of a failed run and one %v", first, second, ErrStopping)
		}
	})
}

// hanging is a Reader whose API server does not answer.
type hanging struct{ *world }

func (hanging) Read(ctx context.Context) (resource.Snapshot, error) {
	<-ctx.Done()
	return resource.Snapshot{}, ctx.Err()
}

// Whatever a run was waiting for, a stop is why it failed.
func TestAStopIsTheReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(2)
		a := w.start(testConfig(), wants(`{"targetReplicas": 2}`))
		a.deps.Reader = hanging{w}
		stop := loop(t, a)
		records := make(chan Record, 1)
		go func() {
			record, _ := a.Submit(t.Context(), scheduled)
			records <- record
		}()
		synctest.Wait()
		stop()
		if f := (<-records).Failure; f == nil || f.Stage != execute.StageRead || f.Kind != execute.KindCanceled {
			t.Errorf("failure %+v", f)
		}
	})
}

func TestACallerMayGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newWorld(2).start(testConfig(), wants(`{"targetReplicas": 2}`))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.Submit(ctx, scheduled); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

// wait lets virtual time pass.
func wait(d time.Duration) { <-time.After(d) }

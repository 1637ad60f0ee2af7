// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package autoscaler

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/leader"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/state"
)

// lossy is a shelf that saves, and then loses the answer.
type lossy struct {
	*shelf
	lose bool
}

func (l *lossy) Save(ctx context.Context, record state.Record) error {
	err := l.shelf.Save(ctx, record)
	if l.lose {
		l.lose = false
		return errors.New("the answer was lost")
	}
	return err
}

// A pause that is refused because its answer was lost does not come true after
// a restart.
func TestARefusedPauseIsTakenBack(t *testing.T) {
	m, w, store := mind{}, newWorld(2), &lossy{shelf: &shelf{}}
	a := w.start(testConfig(), m.hooks())
	a.memory.store = store
	ticks(t, w, a, &m, "3")
	store.lose = true
	if err := a.Pause(t.Context(), operator, scale.Pause{}); err == nil {
		t.Fatal("the pause was kept, though the store says it was not")
	}
	if got := ticks(t, w, a, &m, "3"); got[0] != 3 || store.record(t).Pause != nil {
		t.Errorf("%d replicas, kept %+v", got[0], store.record(t))
	}
}

// sluggish is a shelf whose saves take a while, or until the context ends.
type sluggish struct {
	*shelf
	delay time.Duration
}

func (s *sluggish) Save(ctx context.Context, record state.Record) error {
	select {
	case <-time.After(s.delay):
		return s.shelf.Save(ctx, record)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// While the store hangs, and operators wait for it, runs go on and a stop
// stops.
func TestAStoreThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w, store := mind{wanted: "2"}, newWorld(2), &sluggish{shelf: &shelf{}}
		a := w.start(testConfig(), m.hooks())
		a.memory.store = store
		stop := loop(t, a)
		wait(16 * time.Second)
		store.delay = time.Hour
		refused := make(chan error, 3)
		for range cap(refused) {
			go func() { refused <- a.Pause(context.WithoutCancel(t.Context()), operator, scale.Pause{}) }()
		}
		before := len(w.seen())
		wait(10 * time.Second)
		a.trigger(t)
		if len(w.seen()) == before {
			t.Error("no run while an operator waits for the store")
		}
		began := time.Now()
		stop()
		if took := time.Since(began); took > handOverTimeout {
			t.Errorf("the stop took %s", took)
		}
		for range cap(refused) {
			if err := <-refused; err == nil {
				t.Error("a pause was kept in a store that hangs")
			}
		}
	})
}

// trigger submits a run and waits for it.
func (a *Autoscaler) trigger(t *testing.T) {
	t.Helper()
	if _, err := a.Submit(t.Context(), scheduled); err != nil {
		t.Error(err)
	}
}

// The term ends while an intent is kept: its caller is told who leads, and
// nothing is kept behind the new leader's back.
func TestAnIntentEndsWithTheTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w, l, store := mind{wanted: "5"}, newWorld(2), newThrone(), &sluggish{shelf: &shelf{}}
		a := w.start(testConfig(), m.hooks())
		a.leadership, a.memory.store = l, store
		l.set(leader.Term{ID: 1, Leader: "one", Until: time.Now().Add(2 * time.Second)})
		<-l.changed
		a.Tick(t.Context(), time.Now(), scheduled)
		store.delay = 8 * time.Second
		told := make(chan error)
		go func() { told <- a.Pause(t.Context(), operator, scale.Pause{}) }()
		wait(time.Second)
		l.set(leader.Term{Leader: "other"})
		began := time.Now()
		if s, ok := errors.AsType[*StandbyError](<-told); !ok || s.Leader != "other" || time.Since(began) > time.Second {
			t.Errorf("told %v after %s", s, time.Since(began))
		}
		if record := store.record(t); record.Pause != nil {
			t.Error("the pause was kept after the term")
		}
	})
}

// A stop comes as the last hook ends: that is why there is no decision.
func TestAStopBetweenHooksAndDecision(t *testing.T) {
	w := newWorld(2)
	ctx, cancel := context.WithCancelCause(t.Context())
	hooks := wants(`{"targetReplicas": 9}`)
	hooks[execute.StagePostEvaluate] = hook(func(context.Context, execute.Call) (string, error) {
		cancel(ErrStopping)
		return "", nil
	})
	record := w.start(testConfig(), hooks).Tick(ctx, now, scheduled)
	if f := record.Failure; f == nil || f.Kind != execute.KindCanceled || len(w.writes) > 0 {
		t.Errorf("failure %+v, wrote %v", f, w.writes)
	}
}

// An override ends while the hooks run: its bounds are not written any more.
func TestBoundsThatEndDuringARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(2)
		hooks := wants(`{"targetReplicas": 50}`)
		hooks[execute.StagePreMetric] = hook(func(context.Context, execute.Call) (string, error) {
			wait(2 * time.Minute)
			return "", nil
		})
		a := w.start(testConfig(), hooks)
		override := bounds.Override{MaxReplicas: new(int32(40)), ExpiresAt: time.Now().Add(time.Minute)}
		if err := a.Override(t.Context(), operator, &override); err != nil {
			t.Fatal(err)
		}
		a.Tick(t.Context(), time.Now(), scheduled)
		if got := w.count(); got != 10 {
			t.Errorf("%d replicas, want the maximum of 10", got)
		}
	})
}

// A pause that returns has come after the write that was under way.
func TestAPauseWaitsForTheWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(2)
		a := w.start(testConfig(), wants(`{"targetReplicas": 9}`))
		paused := make(chan int32)
		w.before = func(*world) {
			go func() {
				if err := a.Pause(t.Context(), operator, scale.Pause{}); err != nil {
					t.Error(err)
				}
				paused <- w.count()
			}()
			wait(3 * time.Second)
		}
		go a.Tick(t.Context(), time.Now(), scheduled)
		if at := <-paused; at != 9 {
			t.Errorf("the pause returned at %d replicas, before the write of 9", at)
		}
	})
}

// A hold ends while nobody leads: the new leader heeds it at once, and not with
// its next interval.
func TestANewLeaderRunsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w, l, c := mind{wanted: "5"}, newWorld(2), newThrone(), testConfig()
		c.Interval = 3_600_000
		a := w.start(c, m.hooks())
		a.leadership, a.memory.store = l, &shelf{}
		loop(t, a)
		l.set(leader.Term{ID: 1, Leader: "one"})
		wait(2 * time.Hour)
		if err := a.Hold(t.Context(), operator, &scale.Hold{Replicas: 7, Until: time.Now().Add(10 * time.Minute)}); err != nil {
			t.Fatal(err)
		}
		wait(9 * time.Minute)
		l.set(leader.Term{})
		wait(2 * time.Minute)
		l.set(leader.Term{ID: 2, Leader: "one"})
		wait(time.Second)
		if got := w.count(); got != 5 {
			t.Errorf("%d replicas after the hold, want 5", got)
		}
	})
}

// Who stops leading saves nothing any more: neither what a run changed nor at
// the stop.
func TestNothingIsSavedAfterTheTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testConfig()
		c.DownscaleStabilization = new(config.Seconds(60))
		c.Fallback = &config.Fallback{FailureThreshold: 1, Replicas: new(int32(6)), Behavior: config.FallbackCurrent}
		w, l, store := newWorld(2), newThrone(), &shelf{}
		hooks := execute.Hooks{execute.StagePreMetric: hook(func(context.Context, execute.Call) (string, error) {
			l.set(leader.Term{Leader: "other"})
			return "", errBroken
		})}
		a := w.start(c, hooks)
		a.leadership, a.memory.store = l, store
		l.set(leader.Term{ID: 1})
		<-l.changed
		stop := loop(t, a)
		wait(16 * time.Second)
		stop()
		if runs := len(w.seen()); runs != 1 || store.saves > 0 {
			t.Errorf("%d saves after %d runs", store.saves, runs)
		}
	})
}

// Another term begins with what is there, not with what was wanted in an
// earlier one.
func TestAnotherTermBeginsAnew(t *testing.T) {
	c := testConfig()
	c.DownscaleStabilization = new(config.Seconds(300))
	m, w, l := mind{}, newWorld(2), newThrone()
	a := w.start(c, m.hooks())
	a.leadership = l
	l.set(leader.Term{ID: 1})
	<-l.changed
	ticks(t, w, a, &m, "9")
	l.set(leader.Term{ID: 2})
	w.set(4) // by the other leader
	if got := ticks(t, w, a, &m, "3"); got[0] != 4 {
		t.Errorf("%d replicas, want the 4 that were found", got[0])
	}
}

// Somebody else has saved: the next run decides by their record.
func TestAConflictIsFollowedByALoad(t *testing.T) {
	m, w, store := mind{}, newWorld(2), &shelf{}
	a := w.start(testConfig(), m.hooks())
	a.memory.store = store
	ticks(t, w, a, &m, "3")
	theirs := store.record(t)
	theirs.Pause = &scale.Pause{Replicas: new(int32(8))}
	if err := store.Save(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	store.fail(state.ErrConflict)
	if err := a.Pause(t.Context(), operator, scale.Pause{}); !errors.Is(err, state.ErrConflict) {
		t.Errorf("a pause answered %v", err)
	}
	store.fail(nil)
	if got := ticks(t, w, a, &m, "5"); got[0] != 8 {
		t.Errorf("%d replicas, want the 8 of the pause that somebody else kept", got[0])
	}
}

// A record of a process whose clock was ahead does not hold for ever.
func TestARecordFromTheFuture(t *testing.T) {
	c := testConfig()
	c.Behavior = behaviorOf(t, 3, 60)
	m, w, store := mind{}, newWorld(5), &shelf{}
	err := store.Save(t.Context(), state.Record{Kept: scale.Kept{Events: []scale.Event{{At: now.Add(24 * time.Hour), Change: 3}}}})
	if err != nil {
		t.Fatal(err)
	}
	a := w.start(c, m.hooks())
	a.memory.store = store
	if got := ticks(t, w, a, &m, "9", "9", "9", "9", "9", "9"); got[0] != 5 || got[5] != 8 {
		t.Errorf("replicas %v, want 5 for a minute and then 8", got)
	}
}

// behaviorOf scales up by a number of pods per period of seconds.
func behaviorOf(t *testing.T, pods, period int32) *autoscalingv2.HorizontalPodAutoscalerBehavior {
	t.Helper()
	c := config.Autoscaler{Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{}}
	complete(t, &c)
	c.Behavior.ScaleUp.Policies[0].Value, c.Behavior.ScaleUp.Policies[0].PeriodSeconds = pods, period
	return c.Behavior
}

// A process that stood still for longer than the window, as with its machine,
// does not scale down at the first low evaluation.
func TestAProcessThatStoodStill(t *testing.T) {
	c := testConfig()
	c.DownscaleStabilization = new(config.Seconds(60))
	m, w := mind{wanted: "8"}, newWorld(2)
	a := w.start(c, m.hooks())
	a.Tick(t.Context(), now, scheduled)
	m.want("3")
	later := now.Add(10 * time.Minute)
	a.Tick(t.Context(), later, scheduled)
	if got := w.count(); got != 8 {
		t.Errorf("%d replicas right after it went on, want 8", got)
	}
	for i := range 4 {
		a.Tick(t.Context(), later.Add(time.Duration(i+1)*15*time.Second), scheduled)
	}
	if got := w.count(); got != 3 {
		t.Errorf("%d replicas a window later, want 3", got)
	}
}

// A restart in the fallback stays there: the first failed run does not leave
// it, though it is the first that this process counts.
func TestTheFallbackSurvivesARestart(t *testing.T) {
	c := testConfig()
	c.Fallback = &config.Fallback{FailureThreshold: 3, Replicas: new(int32(6)), Behavior: config.FallbackStatic}
	m, w, store := mind{}, newWorld(2), &shelf{}
	for range 2 {
		a := w.start(c, m.hooks())
		a.memory.store = store
		ticks(t, w, a, &m, "", "", "")
		w.set(4)
	}
	if first := w.seen()[3]; !first.Decision.Fallback || first.Decision.Desired != 6 {
		t.Errorf("the first run after the restart: %s", first.Decision.Explain())
	}
}

// A schedule and an interval that begin with the same second are one run.
func TestARunForASchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w, c := mind{wanted: "5"}, newWorld(2), testConfig()
		c.StartTime, c.Interval = 60_000, 30_000
		c.Schedules = []config.Schedule{{Name: "each", Start: "*/2 * * * *", End: "1-59/2 * * * *", MinReplicas: new(int32(6))}}
		loop(t, w.start(c, m.hooks()))
		wait(30*time.Minute + time.Second)
		seen := map[time.Time]int{}
		for _, r := range w.seen() {
			seen[r.Time]++
		}
		for at, runs := range seen {
			if runs > 1 {
				t.Errorf("%d runs at %s", runs, at)
			}
		}
		if len(seen) < 58 {
			t.Errorf("%d runs", len(seen))
		}
	})
}

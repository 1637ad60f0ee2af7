// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package autoscaler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/leader"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/state"
)

// shelf is a Store in memory that survives the autoscalers that use it. It
// keeps what a real one would: text.
type shelf struct {
	mu    sync.Mutex
	text  []byte
	saves int
	// fault is what every Save and Load answers.
	fault error
}

func (s *shelf) Load(context.Context) (state.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var record state.Record
	if s.fault != nil || s.text == nil {
		return record, s.fault
	}
	return record, json.Unmarshal(s.text, &record)
}

func (s *shelf) Save(_ context.Context, record state.Record) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault != nil {
		return s.fault
	}
	s.saves++
	record.Version = state.Version
	s.text, err = json.Marshal(record)
	return err
}

func (s *shelf) record(t *testing.T) state.Record {
	t.Helper()
	record, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return record
}

func (s *shelf) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = err
}

// mind is a hook that evaluates to what it is told to.
type mind struct {
	mu     sync.Mutex
	wanted string
}

func (m *mind) want(evaluation string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wanted = evaluation
}

func (m *mind) hooks() execute.Hooks {
	return execute.Hooks{
		execute.StageMetric: prints("5"),
		execute.StageEvaluate: hook(func(context.Context, execute.Call) (string, error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.wanted == "" {
				return "", errBroken
			}
			return fmt.Sprintf(`{"targetReplicas": %s}`, m.wanted), nil
		}),
	}
}

// ticks runs the autoscaler once for each evaluation, "" being a failure, and
// returns the counts that come of it.
func ticks(t *testing.T, w *world, a *Autoscaler, m *mind, evaluations ...string) []int32 {
	t.Helper()
	var counts []int32
	for i, wanted := range evaluations {
		m.want(wanted)
		a.Tick(t.Context(), now.Add(time.Duration(i)*15*time.Second), scheduled)
		counts = append(counts, w.count())
	}
	return counts
}

func (w *world) count() int32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.replicas
}

func TestFallback(t *testing.T) {
	c := testConfig()
	c.Fallback = &config.Fallback{FailureThreshold: 3, Replicas: new(int32(6)), Behavior: config.FallbackStatic}
	var m mind
	w := newWorld(2)
	a := w.start(c, m.hooks())
	got := ticks(t, w, a, &m, "3", "", "", "", "", "4", "", "")
	if diff := cmp.Diff([]int32{3, 3, 3, 6, 6, 4, 4, 4}, got); diff != "" {
		t.Error("replicas (-want +got):\n" + diff)
	}
	for i, r := range w.seen() {
		if fell := i == 3 || i == 4; r.Decision.Fallback != fell {
			t.Errorf("run %d: fallback is %t", i, r.Decision.Fallback)
		}
		if failed := !slices.Contains([]int{0, 5}, i); (r.Failure != nil) != failed {
			t.Errorf("run %d: failure %+v", i, r.Failure)
		}
	}
}

// The scale hooks run around a write, also one that no evaluation asked for,
// but not in a run that failed and changes nothing.
func TestScaleHooksOfAFailedRun(t *testing.T) {
	c := testConfig()
	c.Fallback = &config.Fallback{FailureThreshold: 2, Replicas: new(int32(6)), Behavior: config.FallbackStatic}
	var m mind
	w := newWorld(2)
	hooks, payloads := m.hooks(), []string(nil)
	tell := hook(func(_ context.Context, call execute.Call) (string, error) {
		var info scale.Info
		if err := json.Unmarshal(call.Payload, &info); err != nil {
			t.Error(err)
		}
		payloads = append(payloads, fmt.Sprintf("%s %d of %d", call.Stage, info.Evaluation.TargetReplicas, info.TargetReplicas))
		return "", nil
	})
	hooks[execute.StagePreScale], hooks[execute.StagePostScale] = tell, tell
	ticks(t, w, w.start(c, hooks), &m, "", "", "")
	if diff := cmp.Diff([]string{"preScale 6 of 6", "postScale 6 of 6"}, payloads); diff != "" {
		t.Error("scale hooks (-want +got):\n" + diff)
	}
}

func TestAFailedRunHoldsWithinItsBounds(t *testing.T) {
	var m mind
	w := newWorld(14)
	if got := ticks(t, w, w.start(testConfig(), m.hooks()), &m, ""); got[0] != 14 {
		t.Errorf("without behavior: %d replicas, want the 14 that were there", got[0])
	}
	c := testConfig()
	c.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{}
	complete(t, &c)
	if got := ticks(t, w, w.start(c, m.hooks()), &m, ""); got[0] != 10 {
		t.Errorf("with behavior: %d replicas, want the maximum of 10", got[0])
	}
}

// complete fills in what package config fills in.
func complete(t *testing.T, c *config.Autoscaler) {
	t.Helper()
	rules := func(policies ...autoscalingv2.HPAScalingPolicy) *autoscalingv2.HPAScalingRules {
		return &autoscalingv2.HPAScalingRules{
			StabilizationWindowSeconds: new(int32(0)), SelectPolicy: new(autoscalingv2.MaxChangePolicySelect), Policies: policies,
		}
	}
	if c.Behavior.ScaleUp == nil {
		c.Behavior.ScaleUp = rules(autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: 100, PeriodSeconds: 15})
	}
	if c.Behavior.ScaleDown == nil {
		c.Behavior.ScaleDown = rules(autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15})
	}
}

func TestADryRunTellsWhatItWouldWrite(t *testing.T) {
	c := testConfig()
	c.DryRun = true
	m, w, store := mind{}, newWorld(2), &shelf{}
	hooks := m.hooks()
	hooks[execute.StagePreScale] = hook(func(context.Context, execute.Call) (string, error) {
		t.Error("preScale ran")
		return "", nil
	})
	a := w.start(c, hooks)
	a.memory.store = store
	if got := ticks(t, w, a, &m, "5", "7"); got[1] != 2 || len(w.writes) > 0 {
		t.Errorf("%d replicas after the writes %v", got[1], w.writes)
	}
	r := w.seen()[1]
	if !r.DryRun || r.Written || r.Decision.Current != 2 || r.Decision.Desired != 7 || r.Failure != nil {
		t.Errorf("the record is %+v", r)
	}
	if store.saves > 0 {
		t.Errorf("%d saves, although nothing happened", store.saves)
	}
}

func TestPause(t *testing.T) {
	m, w, c := mind{}, newWorld(2), testConfig()
	a := w.start(c, m.hooks())
	ask := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	got := ticks(t, w, a, &m, "3")
	ask(a.Pause(t.Context(), operator, scale.Pause{Reason: "an incident"}))
	got = append(got, ticks(t, w, a, &m, "5", "")...)
	ask(a.Pause(t.Context(), operator, scale.Pause{Replicas: new(int32(40))}))
	got = append(got, ticks(t, w, a, &m, "5", "")...)
	ask(a.Resume(t.Context(), operator))
	got = append(got, ticks(t, w, a, &m, "5")...)
	if diff := cmp.Diff([]int32{3, 3, 3, 40, 40, 5}, got); diff != "" {
		t.Error("replicas (-want +got):\n" + diff)
	}
	if words := w.seen()[1].Decision.Explain(); !strings.Contains(words, "an incident") {
		t.Errorf("the pause is told as %q", words)
	}
	if err := a.Pause(t.Context(), operator, scale.Pause{Replicas: new(int32(-1))}); !errors.Is(err, ErrIntent) {
		t.Errorf("a pause at -1: %v", err)
	}
}

// An operator pauses while a hook runs: nothing is written.
func TestAnOperatorIsHeededBeforeTheWrite(t *testing.T) {
	w, c := newWorld(2), testConfig()
	hooks := wants(`{"targetReplicas": 9}`)
	var a *Autoscaler
	hooks[execute.StagePreScale] = hook(func(ctx context.Context, _ execute.Call) (string, error) {
		return "", a.Pause(ctx, operator, scale.Pause{})
	})
	a = w.start(c, hooks)
	record := a.Tick(t.Context(), now, scheduled)
	if record.Written || len(w.writes) > 0 || record.Decision.Desired != 2 || record.Failure != nil {
		t.Errorf("wrote %v, decided %+v, failure %+v", w.writes, record.Decision, record.Failure)
	}
}

func TestAHoldAndAnOverrideEndAtTheirSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w, c := mind{wanted: "5"}, newWorld(2), testConfig()
		c.Interval = 3_600_000
		a := w.start(c, m.hooks())
		began := time.Now()
		if err := a.Hold(t.Context(), operator, &scale.Hold{Replicas: 30, Until: began.Add(90 * time.Second)}); err != nil {
			t.Fatal(err)
		}
		if err := a.Override(t.Context(), operator, &bounds.Override{MaxReplicas: new(int32(20)), ExpiresAt: began.Add(30 * time.Second)}); err != nil {
			t.Fatal(err)
		}
		loop(t, a) // not before: a run between the two would write as well
		wait(10 * time.Minute)
		var got []string
		for _, r := range w.seen() {
			if r.Written {
				got = append(got, fmt.Sprintf("%s %s: %d", r.Time.Sub(began), r.Trigger.Kind, r.Decision.Desired))
			}
		}
		want := []string{"0s intent: 20", "30s bounds: 10", "1m30s bounds: 5"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error("writes (-want +got):\n" + diff)
		}
	})
}

// A change of the bounds that comes while a run is under way is met right
// after it, not an interval later.
func TestAChangeDuringARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w, c := mind{wanted: "5"}, newWorld(2), testConfig()
		c.Interval = 86_400_000
		c.Schedules = []config.Schedule{{Name: "late", Start: "0 1 * * *", End: "0 2 * * *", MinReplicas: new(int32(8))}}
		hooks := m.hooks()
		hooks[execute.StageMetric] = hook(func(context.Context, execute.Call) (string, error) {
			wait(time.Minute)
			return "5", nil
		})
		a := w.start(c, hooks)
		loop(t, a)
		// synctest begins at midnight UTC.
		wait(59*time.Minute + 30*time.Second)
		go func() { _, _ = a.Submit(t.Context(), scheduled) }()
		wait(3 * time.Minute)
		if got := w.count(); got != 8 {
			t.Errorf("%d replicas, want the schedule's 8: %v", got, w.writes)
		}
	})
}

// A day of the loop, with schedules in two timezones and an evaluation that
// goes up and down: at every run the count is inside the bounds, the bounds
// change at their second, and nothing piles up.
func TestADayOfTheLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w, c := mind{wanted: "5"}, newWorld(2), testConfig()
		c.DownscaleStabilization = new(config.Seconds(600))
		c.Schedules = []config.Schedule{
			{Name: "office", Start: "0 8 * * *", End: "30 17 * * *", Timezone: "Europe/Berlin", MinReplicas: new(int32(6))},
			{Name: "night", Start: "0 22 * * *", End: "0 5 * * *", Timezone: "America/New_York", MaxReplicas: new(int32(4))},
		}
		store := &shelf{}
		a := w.start(c, m.hooks())
		a.memory.store = store
		began := time.Now()
		loop(t, a)
		for minute := range 24 * 60 {
			m.want(strconv.Itoa(1 + minute/7%12))
			wait(time.Minute)
		}
		records := w.seen()
		var changes []string
		last := bounds.Bounds{}
		for _, r := range records {
			b := r.Bounds
			if b.Min != last.Min || b.Max != last.Max {
				changes = append(changes, fmt.Sprintf("%s %s..%s", r.Time.UTC().Format("15:04:05"), b.Min, b.Max))
			}
			last = b
			if r.Decision.Desired < b.Min.Replicas || r.Decision.Desired > b.Max.Replicas || r.Failure != nil {
				t.Fatalf("at %s: %+v in %+v", r.Time, r.Decision, b)
			}
		}
		// January 2000: Berlin is one hour ahead of UTC, New York five behind.
		want := []string{
			"00:00:15 1..10", "03:00:00 1..4, by schedule night", "07:00:00 6, by schedule office..6, by schedule night, raised from 4 by schedule office",
			"10:00:00 6, by schedule office..10", "16:30:00 1..10",
		}
		if diff := cmp.Diff(want, changes); diff != "" {
			t.Error("bounds (-want +got):\n" + diff)
		}
		if runs := len(records); runs < 5760 || runs > 5770 {
			t.Errorf("%d runs in %s", runs, time.Since(began))
		}
		if most := 2*len(w.writes) + 2; store.saves > most {
			t.Errorf("%d saves for %d writes", store.saves, len(w.writes))
		}
	})
}

func TestWhatIsKept(t *testing.T) {
	m, w, store := mind{}, newWorld(2), &shelf{}
	c := testConfig()
	a := w.start(c, m.hooks())
	a.memory.store = store
	var pending *scale.Write
	w.before = func(*world) { pending = store.record(t).Pending }
	ticks(t, w, a, &m, "5", "5", "5")
	if pending == nil || pending.From != 2 || pending.To != 5 {
		t.Errorf("before the write, %+v was kept", pending)
	}
	record := store.record(t)
	if record.Pending != nil || len(record.Events) != 1 || record.Events[0].Change != 3 {
		t.Errorf("kept %+v", record)
	}
	if store.saves != 2 {
		t.Errorf("%d saves for one write and two runs that changed nothing, want 2", store.saves)
	}
}

// The process dies between the write and what it would have kept of it.
func TestAPendingWriteIsSettledByTheCount(t *testing.T) {
	for _, test := range []struct {
		name   string
		live   int32
		events int
	}{
		{name: "it was done", live: 5, events: 1},
		{name: "it was not", live: 2, events: 0},
		{name: "it was, and then somebody scaled", live: 9, events: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			store := &shelf{}
			err := store.Save(t.Context(), state.Record{
				Version: state.Version, Kept: scale.Kept{Pending: &scale.Write{At: now.Add(-time.Second), From: 2, To: 5}},
			})
			if err != nil {
				t.Fatal(err)
			}
			m, w := mind{}, newWorld(test.live)
			a := w.start(testConfig(), m.hooks())
			a.memory.store = store
			ticks(t, w, a, &m, "")
			if record := store.record(t); record.Pending != nil || len(record.Events) != test.events {
				t.Errorf("kept %+v", record)
			}
		})
	}
}

func TestACleanStopHandsTheWindowOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testConfig()
		c.DownscaleStabilization = new(config.Seconds(60))
		m, w, store := mind{wanted: "8"}, newWorld(2), &shelf{}
		start := func() (stop func()) {
			a := w.start(c, m.hooks())
			a.memory.store = store
			return loop(t, a)
		}
		stop := start()
		wait(20 * time.Second) // one run, which wants 8
		m.want("3")
		wait(20 * time.Second) // that was 25 s ago
		stop()
		if len(store.record(t).Window) == 0 {
			t.Fatal("no window was handed over")
		}
		stop = start()
		wait(16 * time.Second)
		if got := w.count(); got != 8 {
			t.Errorf("%d replicas 41 s after 8 was wanted, want 8", got)
		}
		if len(store.record(t).Window) != 0 {
			t.Error("the window is still in the store, where a crash would leave it")
		}
		wait(30 * time.Second)
		if got := w.count(); got != 3 {
			t.Errorf("%d replicas 71 s after 8 was wanted, want 3", got)
		}
		stop()

		m.want("7")
		stop = start()
		wait(20 * time.Second)
		store.fail(errors.New("the disk is full")) // the stop is not a clean one
		stop()
		store.fail(nil)
		m.want("2")
		start()
		wait(70 * time.Second)
		if got := w.count(); got != 7 {
			t.Errorf("%d replicas 55 s after the start that found 7", got)
		}
		wait(10 * time.Second)
		if got := w.count(); got != 2 {
			t.Errorf("%d replicas one window after the start, want 2", got)
		}
	})
}

func TestOwnZeroIsNotDisabled(t *testing.T) {
	m, w, c, store := mind{}, newWorld(2), testConfig(), &shelf{}
	c.Schedules = []config.Schedule{{
		Name: "off", Start: "0 12 * * *", End: "30 12 * * *", MinReplicas: new(int32(0)), MaxReplicas: new(int32(0)),
	}}
	start := func() *Autoscaler {
		a := w.start(c, m.hooks())
		a.memory.store = store
		return a
	}
	m.want("3")
	at := func(a *Autoscaler, hour, minute int) int32 {
		a.Tick(t.Context(), time.Date(2026, time.March, 1, hour, minute, 0, 0, time.UTC), scheduled)
		return w.count()
	}
	if got := at(start(), 12, 10); got != 0 {
		t.Fatalf("%d replicas in the window, want 0", got)
	}
	if got := at(start(), 12, 40); got != 3 {
		t.Errorf("%d replicas after the window and a restart, want 3", got)
	}
	w.set(0)
	if got := at(start(), 12, 45); got != 0 {
		t.Errorf("%d replicas where somebody scaled to 0, want 0", got)
	}
}

func TestAStoreThatFails(t *testing.T) {
	m, w, store := mind{}, newWorld(2), &shelf{}
	a := w.start(testConfig(), m.hooks())
	a.memory.store = store
	if got := ticks(t, w, a, &m, "3"); got[0] != 3 {
		t.Fatalf("%d replicas", got[0])
	}
	store.fail(errors.New("the disk is full"))
	if got := ticks(t, w, a, &m, "5"); got[0] != 5 {
		t.Errorf("%d replicas: a full disk is no reason not to scale", got[0])
	}
	if err := a.Pause(t.Context(), operator, scale.Pause{}); err == nil {
		t.Error("a pause that was not kept is no pause")
	}
	if got := ticks(t, w, a, &m, "6"); got[0] != 6 {
		t.Errorf("%d replicas: the pause was refused", got[0])
	}
	store.fail(state.ErrConflict)
	if got := ticks(t, w, a, &m, "7"); got[0] != 6 {
		t.Errorf("%d replicas, although somebody else has written", got[0])
	}
	if f := w.seen()[3].Failure; f == nil || f.Stage != execute.StageWrite {
		t.Errorf("failure %+v", f)
	}
	store.fail(nil)
	if got := ticks(t, w, a, &m, "7"); got[0] != 7 || len(store.record(t).Events) == 0 {
		t.Errorf("%d replicas, kept %+v", got[0], store.record(t))
	}
}

func TestARecordThatCannotBeLoaded(t *testing.T) {
	m, w, store := mind{}, newWorld(2), &shelf{}
	a := w.start(testConfig(), m.hooks())
	a.memory.store = store
	store.fail(errors.New("connection refused"))
	if got := ticks(t, w, a, &m, "5"); got[0] != 2 || w.seen()[0].Failure.Stage != execute.StageState {
		t.Errorf("%d replicas, failure %+v", got[0], w.seen()[0].Failure)
	}
	store.fail(nil)
	if got := ticks(t, w, a, &m, "5"); got[0] != 5 {
		t.Errorf("%d replicas", got[0])
	}

	unreadable := &shelf{}
	a = w.start(testConfig(), m.hooks())
	a.memory.store = corrupt{unreadable}
	if got := ticks(t, w, a, &m, "7"); got[0] != 7 || unreadable.saves == 0 {
		t.Errorf("%d replicas after %d saves: a corrupt record is replaced", got[0], unreadable.saves)
	}
}

// corrupt is a shelf whose record cannot be read.
type corrupt struct{ *shelf }

func (corrupt) Load(context.Context) (state.Record, error) {
	return state.Record{}, fmt.Errorf("a newer version: %w", state.ErrUnreadable)
}

// throne says who leads.
type throne struct {
	mu      sync.Mutex
	term    leader.Term
	changed chan struct{}
}

func newThrone() *throne { return &throne{changed: make(chan struct{}, 1)} }

func (l *throne) Term() leader.Term {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.term
}

func (l *throne) Changed() <-chan struct{} { return l.changed }

func (l *throne) set(term leader.Term) {
	l.mu.Lock()
	l.term = term
	l.mu.Unlock()
	l.changed <- struct{}{}
}

func TestStandingBy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w, l := mind{wanted: "5"}, newWorld(2), newThrone()
		store := &shelf{}
		a := w.start(testConfig(), m.hooks())
		a.leadership, a.memory.store = l, store
		loop(t, a)
		l.set(leader.Term{Leader: "web-0"})
		wait(time.Minute)
		if len(w.seen()) > 0 {
			t.Fatal("a replica that stands by has run")
		}
		standby := func(err error) {
			t.Helper()
			if s, ok := errors.AsType[*StandbyError](err); !ok || s.Leader != "web-0" {
				t.Errorf("got %v, want a StandbyError that names web-0", err)
			}
		}
		_, err := a.Submit(t.Context(), scheduled)
		standby(err)
		standby(a.Pause(t.Context(), operator, scale.Pause{}))

		l.set(leader.Term{ID: 1, Leader: "web-1"})
		wait(15 * time.Second)
		if got := w.count(); got != 5 {
			t.Errorf("%d replicas, want those of the new leader", got)
		}
		l.set(leader.Term{Leader: "web-0"})
		// Meanwhile the other one is paused at 4.
		record := store.record(t)
		record.Pause = &scale.Pause{Replicas: new(int32(4))}
		if err := store.Save(t.Context(), record); err != nil {
			t.Fatal(err)
		}
		wait(time.Minute)
		l.set(leader.Term{ID: 2, Leader: "web-1"})
		wait(15 * time.Second)
		if got := w.count(); got != 4 {
			t.Errorf("%d replicas, want the 4 of the pause that the other leader kept", got)
		}
	})
}

// The term ends while a hook runs: nothing is written. While a write is under
// way, the write ends with it.
func TestNothingIsWrittenAfterTheTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := newWorld(2), newThrone()
		hooks := wants(`{"targetReplicas": 9}`)
		hooks[execute.StagePreScale] = hook(func(context.Context, execute.Call) (string, error) {
			l.set(leader.Term{Leader: "web-0"})
			return "", nil
		})
		a := w.start(testConfig(), hooks)
		a.leadership = l
		l.set(leader.Term{ID: 1, Until: time.Now().Add(time.Minute)})
		<-l.changed
		record := a.Tick(t.Context(), time.Now(), scheduled)
		if len(w.writes) > 0 || record.Failure == nil || record.Failure.Stage != execute.StageWrite {
			t.Errorf("wrote %v, failure %+v", w.writes, record.Failure)
		}

		// One that begins without a term gets none.
		record = a.Tick(t.Context(), time.Now(), scheduled)
		if len(w.writes) > 0 || record.Failure == nil || record.Failure.Stage != execute.StageState {
			t.Errorf("wrote %v, failure %+v", w.writes, record.Failure)
		}

		delete(hooks, execute.StagePreScale)
		<-l.changed
		l.set(leader.Term{ID: 2, Until: time.Now().Add(3 * time.Second)})
		slow := slowWriter{}
		a.deps.Writer = &slow
		began := time.Now()
		a.Tick(t.Context(), time.Now(), scheduled)
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("the write ended after %s, want at the end of the term", took)
		}
	})
}

// slowWriter is an API server that does not answer.
type slowWriter struct{}

func (*slowWriter) Write(ctx context.Context, _ scale.Decision) error {
	<-ctx.Done()
	return ctx.Err()
}

func (*slowWriter) Withdraw() {}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package autoscaler

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mind{wanted: "14"}
		a := newWorld(2, "a").start(testConfig(), m.hooks())
		if s := a.Status(); s.Last != nil || !s.NextRun.IsZero() || s.Bounds.Max.Replicas != 10 || !s.Term.Leading() {
			t.Errorf("before the start: %+v", s)
		}
		began := time.Now()
		loop(t, a)
		wait(20 * time.Second)
		s := a.Status()
		if s.Last.Sequence != 1 || s.Decided.Decision.Desired != 10 || s.Gathered.Metrics[0].Value != "5" || s.Failures != 0 {
			t.Errorf("after a run: %+v", s)
		}
		if next := s.NextRun.Sub(began).Round(time.Second); next != 30*time.Second {
			t.Errorf("the next run is in %s", next)
		}
		m.want("")
		wait(30 * time.Second)
		if s = a.Status(); s.Failures != 2 || s.Last.Failure == nil || s.Gathered.Sequence != 3 || s.Decided.Sequence != 3 {
			t.Errorf("after failures: %+v", s)
		}
	})
}

func TestStatusOfIntents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newWorld(2).start(testConfig(), wants(`{"targetReplicas": 2}`))
		loop(t, a)
		override := &bounds.Override{MaxReplicas: new(int32(5)), ExpiresAt: time.Now().Add(time.Minute)}
		hold := &scale.Hold{Replicas: 3, Until: time.Now().Add(time.Hour)}
		for _, err := range []error{a.Override(t.Context(), operator, override), a.Hold(t.Context(), operator, hold)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if s := a.Status(); s.Bounds.Max != (bounds.Limit{Replicas: 5, Source: "override"}) || s.Intents.Hold.Replicas != 3 {
			t.Errorf("%+v", s)
		}
		wait(time.Minute)
		if s := a.Status(); s.Bounds.Max.Replicas != 10 || s.Intents.Override != nil {
			t.Errorf("after its end: %+v", s)
		}
	})
}

func TestPreview(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(2)
		a := w.start(testConfig(), wants(`{"targetReplicas": 2}`))
		hold := scale.Hold{Replicas: 40, Until: time.Now().Add(time.Hour), Reason: "sale"}
		d, err := a.Preview(t.Context(), hold)
		if err != nil || d.Current != 2 || d.Desired != 10 || !strings.Contains(d.Explain(), "capped to 10 (maxReplicas is 10)") {
			t.Errorf("%+v, %v", d, err)
		}
		if len(w.writes) > 0 || a.Status().Intents.Hold != nil {
			t.Error("it had consequences")
		}
		for _, bad := range []scale.Hold{{Replicas: -1, Until: hold.Until}, {Replicas: 1}} {
			if _, err := a.Preview(t.Context(), bad); !errors.Is(err, ErrIntent) {
				t.Errorf("%+v: %v", bad, err)
			}
		}
	})
}

// A change is in force between two runs: not in the one under way, but in the
// one that follows at once.
func TestConfigure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(2)
		hooks, release := wants(`{"targetReplicas": 14}`), make(chan struct{})
		hooks[execute.StageEvaluate] = hook(func(context.Context, execute.Call) (string, error) {
			<-release
			return `{"targetReplicas": 14}`, nil
		})
		a := w.start(testConfig(), hooks)
		loop(t, a)
		wait(16 * time.Second)
		next := testConfig()
		next.MaxReplicas, next.Interval = 12, 60_000
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := a.Configure(impatient, next); !errors.Is(err, context.DeadlineExceeded) || a.Status().Bounds.Max.Replicas != 10 {
			t.Errorf("during a run: %v, bounds %+v", err, a.Status().Bounds)
		}
		applied := make(chan error, 1)
		go func() { applied <- a.Configure(t.Context(), next) }()
		synctest.Wait()
		close(release)
		if err := <-applied; err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		wait(3*time.Minute + time.Second)
		var kinds []Kind
		var desired []int32
		for _, r := range w.seen() {
			kinds, desired = append(kinds, r.Trigger.Kind), append(desired, r.Decision.Desired)
		}
		if diff := cmp.Diff([]Kind{KindInterval, KindConfig, KindInterval, KindInterval, KindInterval}, kinds); diff != "" {
			t.Error("runs (-want +got):\n" + diff)
		}
		if diff := cmp.Diff([]int32{10, 12, 12, 12, 12}, desired); diff != "" {
			t.Error("desired (-want +got):\n" + diff)
		}
		if at := w.seen()[2].Time.Sub(began); at != time.Minute {
			t.Errorf("the next interval began after %s", at)
		}
	})
}

func TestConfigureAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newWorld(2).start(testConfig(), wants(`{"targetReplicas": 2}`))
		loop(t, a)()
		if err := a.Configure(t.Context(), testConfig()); !errors.Is(err, ErrStopping) {
			t.Error(err)
		}
	})
}

// A longer window holds what is there for its whole length: what was wanted
// before is not known.
func TestConfigureALongerWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w := mind{wanted: "8"}, newWorld(8)
		a := w.start(testConfig(), m.hooks())
		loop(t, a)
		wait(16 * time.Second)
		next := testConfig()
		next.DownscaleStabilization = new(config.Seconds(120))
		if err := a.Configure(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		m.want("3")
		wait(100 * time.Second)
		if count := w.count(); count != 8 {
			t.Errorf("it scaled down to %d within the window", count)
		}
		wait(40 * time.Second)
		if count := w.count(); count != 3 {
			t.Errorf("it is at %d after the window", count)
		}
	})
}

func TestAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hooks, stuck, release := execute.Hooks{}, false, make(chan struct{})
		hooks[execute.StageEvaluate] = hook(func(context.Context, execute.Call) (string, error) {
			if stuck {
				<-release
			}
			stuck = true
			return "", errBroken
		})
		c := testConfig()
		c.Interval = 86_400_000
		a := newWorld(2).start(c, hooks)
		stop := loop(t, a)
		wait(time.Hour)
		if err := a.Alive(); err != nil {
			t.Errorf("while waiting for the next run: %v", err)
		}
		wait(24 * time.Hour)
		if err := a.Alive(); err != nil || a.Status().Failures != 1 {
			t.Errorf("after a failed run: %v", err)
		}
		wait(23*time.Hour + time.Second)
		if err := a.Alive(); err != nil {
			t.Errorf("at the start of a run: %v", err)
		}
		wait(10 * time.Minute)
		if err := a.Alive(); err == nil || !strings.HasPrefix(err.Error(), "no progress for ") {
			t.Errorf("stuck in a hook that has no end: %v", err)
		}
		close(release)
		stop()
	})
}

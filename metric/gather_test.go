// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package metric

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
)

// gauge is a metric hook that takes a second for each pod, and counts how many
// it is asked about at once.
type gauge struct {
	mu          sync.Mutex
	asked, most int
	at          int
	// fails are the pods whose hook fails, after how long.
	fails map[string]time.Duration
}

func (g *gauge) Execute(ctx context.Context, call execute.Call) (execute.Result, error) {
	g.enter(1)
	defer g.enter(-1)
	took, failing := g.fails[call.Subject]
	if !failing {
		took = time.Second
	}
	timer := time.NewTimer(took)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return execute.Result{}, &execute.Error{Kind: execute.KindCanceled, Stage: call.Stage, Subject: call.Subject, Message: "stopped", Err: context.Cause(ctx)}
	}
	if failing {
		return execute.Result{}, &execute.Error{Kind: execute.KindExit, Stage: call.Stage, Subject: call.Subject, Message: "exit status 4"}
	}
	return execute.Result{Output: []byte("of " + call.Subject)}, nil
}

func (g *gauge) enter(one int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.at += one
	if one > 0 {
		g.asked++
	}
	g.most = max(g.most, g.at)
}

// pods are so many, in their order.
func pods(number int) (all []*resource.Pod) {
	for i := range number {
		all = append(all, pod(name(i)))
	}
	return all
}

func name(i int) string { return fmt.Sprintf("p%03d", i) }

func gather(ctx context.Context, g execute.Executor, c config.Autoscaler, pods []*resource.Pod) (Gathered, error) {
	run := execute.NewRun(execute.RunScaler, execute.Hooks{execute.StageMetric: g}, func() {})
	snapshot := resource.Snapshot{Target: &resource.Object{Name: "web", JSON: json.RawMessage(`{}`)}, Pods: pods}
	return Gather(ctx, run, &c, snapshot, nil)
}

// perPod is a configuration whose metric hook may take 5 s.
func perPod(atOnce int) config.Autoscaler {
	return config.Autoscaler{
		RunMode: config.PerPod, Metric: &config.Method{Type: config.MethodShell, Timeout: 5000},
		GatherConcurrency: atOnce, OnPodFailure: config.PodFailureFail,
	}
}

func TestPodsAreAskedSeveralAtOnceAndAnsweredInTheirOrder(t *testing.T) {
	for _, test := range []struct {
		pods, atOnce, most int
		took               time.Duration
	}{
		{10, 1, 1, 10 * time.Second},
		{10, 4, 4, 3 * time.Second},
		{10, 100, 10, time.Second},
		{0, 4, 0, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			var g gauge
			began := time.Now()
			got, err := gather(t.Context(), &g, perPod(test.atOnce), pods(test.pods))
			if err != nil {
				t.Fatal(err)
			}
			var want []ResourceMetric
			for i := range test.pods {
				want = append(want, ResourceMetric{Resource: name(i), Value: "of " + name(i)})
			}
			if diff := cmp.Diff(want, got.Metrics); diff != "" {
				t.Errorf("metrics (-want +got):\n%s", diff)
			}
			if took := time.Since(began); took != test.took || g.most != test.most {
				t.Errorf("%d pods took %s, %d at once; want %s and %d", test.pods, took, g.most, test.took, test.most)
			}
		})
	}
}

func TestTheFirstPodThatFailsEndsTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gauge{fails: map[string]time.Duration{"p002": 1500 * time.Millisecond, "p004": 200 * time.Millisecond}}
		began := time.Now()
		_, err := gather(t.Context(), g, perPod(3), pods(100))
		var failed *execute.Error
		if !errors.As(err, &failed) || failed.Subject != "p004" || failed.Message != "exit status 4" {
			t.Errorf("got %v, want the failure of p004", err)
		}
		if took := time.Since(began); took != 1200*time.Millisecond || g.asked > 7 {
			t.Errorf("it took %s and asked about %d pods; want it to end at once", took, g.asked)
		}
	})
}

func TestPodsThatFailCanBeSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := perPod(3)
		c.OnPodFailure = config.PodFailureSkip
		g := &gauge{fails: map[string]time.Duration{"p001": time.Second, "p003": 0}}
		got, err := gather(t.Context(), g, c, pods(5))
		if err != nil {
			t.Fatal(err)
		}
		var left, skipped []string
		for _, m := range got.Metrics {
			left = append(left, m.Resource)
		}
		for _, fault := range got.Skipped {
			skipped = append(skipped, fault.Subject+" "+fault.Message)
		}
		if diff := cmp.Diff([]string{"p000", "p002", "p004"}, left); diff != "" {
			t.Errorf("metrics (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"p001 exit status 4", "p003 exit status 4"}, skipped); diff != "" {
			t.Errorf("skipped (-want +got):\n%s", diff)
		}

		g.fails = map[string]time.Duration{"p000": time.Second, "p001": 0}
		_, err = gather(t.Context(), g, c, pods(2))
		if failed, ok := errors.AsType[*execute.Error](err); !ok || failed.Subject != "p000" ||
			failed.Message != "the hook failed for all 2 pods; for this one: exit status 4" {
			t.Errorf("all failed: got %v, want the failure of the first", err)
		}

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := gather(ctx, g, c, pods(2)); err == nil {
			t.Error("a run that is stopped skipped its pods")
		}
	})
}

// A stage may take the timeout of a call times the rounds it needs.
func TestGatheringHasADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := perPod(2)
		c.Metric.Timeout = 600
		began := time.Now()
		_, err := gather(t.Context(), &gauge{}, c, pods(5))
		if err == nil || !strings.Contains(fmt.Sprint(err, cause(err)), "asking 5 pods, 2 at once, may take 2.8s") {
			t.Errorf("got %v, want it to run out of time", err)
		}
		if took := time.Since(began); took != 2800*time.Millisecond {
			t.Errorf("it took %s, want 3 rounds of 600 ms, and a second", took)
		}
		c.Metric.Timeout = config.Milliseconds(math.MaxInt64 / int64(time.Millisecond))
		if _, err := gather(t.Context(), &gauge{}, c, pods(5)); err != nil {
			t.Errorf("with as long a timeout as there is: %v", err)
		}
	})
}

// cause is why a call was ended.
func cause(err error) error {
	failed, _ := errors.AsType[*execute.Error](err)
	return failed.Err
}

// A program that takes too long is told of by its own timeout, though the stage
// has a deadline too.
func TestAPodsOwnTimeoutIsToldOf(t *testing.T) {
	t.Parallel()
	c := perPod(2)
	c.Metric = &config.Method{Type: config.MethodShell, Timeout: 200, Shell: &config.Shell{Entrypoint: "sleep", Command: []string{"600"}}}
	pool := execute.NewPool(execute.PoolOptions{})
	defer pool.Close()
	hook, err := execute.New(*c.Metric, pool)
	if err != nil {
		t.Fatal(err)
	}
	_, err = gather(t.Context(), hook, c, pods(2))
	if want := "no answer within 200ms (timeout); killed with its process group"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// Whoever is not asked is no pod without a value.
func TestPodsThatWereNotAskedAreNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := perPod(2)
		c.Metric.Timeout = 100
		_, err := gather(t.Context(), slow{}, c, pods(50))
		if err == nil || !strings.Contains(err.Error(), "asking 50 pods, 2 at once, may take 3.5s") {
			t.Errorf("got %v, want it to run out of time", err)
		}
	})
}

// slow is a hook that takes longer than it may.
type slow struct{}

func (slow) Execute(context.Context, execute.Call) (execute.Result, error) {
	<-time.After(time.Second)
	return execute.Result{Output: []byte("5")}, nil
}

// The pods' payloads are what they were when each was encoded by itself.
func TestPayloadsOfPodsHaveTheOtherKeys(t *testing.T) {
	var payloads []string
	hook := hookFunc(func(call execute.Call) { payloads = append(payloads, string(call.Payload)) })
	p := pod("web-1", in(corev1.PodRunning))
	if _, err := gather(t.Context(), hook, perPod(1), []*resource.Pod{p}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{`{"resource":` + string(p.JSON) + `,"runType":"scaler"}`}, payloads); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

type hookFunc func(execute.Call)

func (f hookFunc) Execute(_ context.Context, call execute.Call) (execute.Result, error) {
	f(call)
	return execute.Result{}, nil
}

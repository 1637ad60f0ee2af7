// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

func TestUsageOfPrograms(t *testing.T) {
	t.Parallel()
	pool := newPool(t, PoolOptions{MaxOutputBytes: 100})
	method := func(script string) *config.Method {
		m := shellMethod(patience, "/bin/sh", "-c", script)
		return &m
	}
	hooks, err := NewHooks(config.Autoscaler{
		Metric: method("cat; echo"), Evaluate: method("exit 3"), PostScale: method("head -c 101 /dev/zero"), PreScale: method("true"),
	}, pool)
	if err != nil {
		t.Fatal(err)
	}
	var calls sync.WaitGroup
	for range 20 {
		calls.Go(func() {
			_, _ = hooks[StageMetric].Execute(t.Context(), Call{Stage: StageMetric, Payload: []byte("1234")})
		})
	}
	for _, stage := range []Stage{StageEvaluate, StagePostScale} {
		calls.Go(func() { _, _ = hooks[stage].Execute(t.Context(), Call{Stage: stage}) })
	}
	calls.Wait()
	want := Usage{Stages: map[Stage]StageUsage{
		StageMetric:    {Calls: 20, OutputBytes: 100},
		StageEvaluate:  {Calls: 1, Failures: map[Kind]int64{KindExit: 1}},
		StagePreScale:  {},
		StagePostScale: {Calls: 1, Failures: map[Kind]int64{KindOutput: 1}},
	}}
	if diff := cmp.Diff(want, pool.Usage(), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("usage (-want +got):\n%s", diff)
	}
}

func TestUsageOfRequests(t *testing.T) {
	t.Parallel()
	pool := newPool(t, PoolOptions{})
	executor := newExecutor(t, httpMethod(serve(t, echo).URL), pool)
	if _, err := executor.Execute(t.Context(), Call{Stage: StageMetric, Payload: []byte(strings.Repeat("x", 1000))}); err != nil {
		t.Fatal(err)
	}
	if got := pool.Usage(); got.Stages[StageMetric].OutputBytes < 1000 || got.Processes != 0 {
		t.Errorf("got %+v, want the bytes of the body, and no process", got)
	}
}

func TestUsageOfWorkers(t *testing.T) {
	t.Parallel()
	s := hire(t, time.Second, config.Worker{MaxRequests: 4}, PoolOptions{})
	s.answers(StageMetric, order{Text: "x"})
	if got := s.pool.Usage().Processes; got != 1 {
		t.Errorf("%d processes, want the one that stays", got)
	}
	for _, deed := range []string{"crash", "print", "kill", "hang"} {
		_, _ = s.ask(StagePreScale, order{Do: deed, Text: "not a message"})
	}
	for range 4 {
		s.answers(StageMetric, order{Text: "x"})
	}
	want := map[Kind]int64{KindExit: 1, KindAnswer: 1, KindSignal: 1, KindTimeout: 1, RestartRequests: 1}
	eventually(t, "all are replaced", func() bool { return cmp.Equal(want, s.pool.Usage().Restarts) })
	s.pool.Close()
	got := s.pool.Usage()
	if diff := cmp.Diff(want, got.Restarts); diff != "" {
		t.Errorf("an end is no restart (-want +got):\n%s", diff)
	}
	if got.Processes != 0 || got.Stages[StagePreScale].Calls != 4 || got.Stages[StageMetric].Calls != 5 {
		t.Errorf("got %+v, want 4 and 5 calls and no process any more", got)
	}
}

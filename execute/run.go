// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// Stage is a step of a run. Those that are hooks are named as their key in the
// configuration.
type Stage string

// The stages, in the order of a run.
const (
	StageState             Stage = "state"
	StageRead              Stage = "read"
	StageKubernetesMetrics Stage = "kubernetesMetrics"
	StagePreMetric         Stage = "preMetric"
	StageMetric            Stage = "metric"
	StagePostMetric        Stage = "postMetric"
	StagePreEvaluate       Stage = "preEvaluate"
	StageEvaluate          Stage = "evaluate"
	StagePostEvaluate      Stage = "postEvaluate"
	StageDecide            Stage = "decide"
	StagePreScale          Stage = "preScale"
	StageWrite             Stage = "write"
	StagePostScale         Stage = "postScale"
)

// RunType tells a hook who asked for the run.
type RunType string

// The run types.
const (
	// RunScaler is a run of the loop.
	RunScaler RunType = "scaler"
	// RunAPI is a run asked for over REST.
	RunAPI RunType = "api"
	// RunAPIDryRun is one asked for over REST that changes nothing.
	RunAPIDryRun RunType = "api_dry_run"
)

// Hooks are the executors of a configuration by stage. A stage that is not
// configured is absent.
type Hooks map[Stage]Executor

// Run is one run's use of the hooks: it times the stages and bounds what the
// hooks print together. It is safe for concurrent use.
type Run struct {
	// Type is handed to every hook.
	Type RunType

	hooks     Hooks
	allowance *allowance

	mu     sync.Mutex
	clocks map[Stage]*clock
}

// NewRun begins a run.
func NewRun(runType RunType, hooks Hooks) *Run {
	return &Run{Type: runType, hooks: hooks, allowance: newAllowance(), clocks: map[Stage]*clock{}}
}

// Has says whether the stage has a hook.
func (r *Run) Has(stage Stage) bool { return r.hooks[stage] != nil }

// Question is what a hook is asked. Its payload is a JSON object with the key
// `resource` and the keys of Rest.
type Question struct {
	// Subject names the pod that the question is about; else it is empty.
	Subject string
	// Resource is the target or the pod, encoded. It goes into the payload as
	// it is: encoding a pod anew for every question would cost more than
	// asking it.
	Resource json.RawMessage
	// Rest is an object, which is encoded, or a json.RawMessage that holds one.
	Rest any
}

// payload is the question as JSON.
func (q Question) payload() ([]byte, error) {
	rest, encoded := q.Rest.(json.RawMessage)
	if !encoded {
		var err error
		if rest, err = json.Marshal(q.Rest); err != nil {
			return nil, err
		}
	}
	payload := make([]byte, 0, len(`{"resource":,`)+len(q.Resource)+len(rest))
	payload = append(append(payload, `{"resource":`...), q.Resource...)
	if string(rest) != "{}" {
		payload = append(payload, ',')
	}
	return append(payload, rest[1:]...), nil
}

// Ask puts the question to the stage's hook and returns what it printed.
// Without a hook it returns nothing. Its error is an *Error.
func (r *Run) Ask(ctx context.Context, stage Stage, question Question) ([]byte, error) {
	hook := r.hooks[stage]
	if hook == nil {
		return nil, nil
	}
	defer r.Time(stage)()
	call := Call{Stage: stage, Subject: question.Subject, allowance: r.allowance}
	payload, err := question.payload()
	if err != nil {
		return nil, call.fault(KindStart, err, "encoding the payload: %v", err)
	}
	call.Payload = payload
	result, err := hook.Execute(ctx, call)
	return result.Output, err
}

// clock is how long a stage has taken.
type clock struct {
	took time.Duration
	// running counts what is being timed, since then.
	running int
	since   time.Time
}

// Time starts timing a stage and returns the function that ends it. A stage
// that is timed again adds up; where two times overlap they count once.
func (r *Run) Time(stage Stage) (end func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.clocks[stage]
	if c == nil {
		c = &clock{}
		r.clocks[stage] = c
	}
	if c.running == 0 {
		c.since = time.Now()
	}
	c.running++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		c.running--
		if c.running == 0 {
			c.took += time.Since(c.since)
		}
	}
}

// Durations are the times of the stages so far. Call it when the run is over.
func (r *Run) Durations() map[Stage]time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	durations := make(map[Stage]time.Duration, len(r.clocks))
	for stage, c := range r.clocks {
		durations[stage] = c.took
	}
	return durations
}

// OnTrigger has trigger called whenever a worker among the hooks asks for a run,
// until that is taken back. It must not keep its caller waiting.
func (h Hooks) OnTrigger(trigger func(reason string)) (takeBack func()) {
	told := map[*crew]func(){}
	for _, executor := range h {
		if w, ok := executor.(*worker); ok && told[w.crew] == nil {
			told[w.crew] = w.crew.onTrigger(trigger)
		}
	}
	return func() {
		for _, takeBack := range told {
			takeBack()
		}
	}
}

// NewHooks makes the executors of a validated configuration.
func NewHooks(c config.Autoscaler, pool *Pool) (Hooks, error) {
	hooks := Hooks{}
	for _, hook := range []struct {
		stage  Stage
		method *config.Method
	}{
		{StagePreMetric, c.PreMetric},
		{StageMetric, c.Metric},
		{StagePostMetric, c.PostMetric},
		{StagePreEvaluate, c.PreEvaluate},
		{StageEvaluate, c.Evaluate},
		{StagePostEvaluate, c.PostEvaluate},
		{StagePreScale, c.PreScale},
		{StagePostScale, c.PostScale},
	} {
		if hook.method == nil {
			continue
		}
		executor, err := New(*hook.method, pool)
		if err != nil {
			return nil, fmt.Errorf("setting up %s: %w", hook.stage, err)
		}
		hooks[hook.stage] = executor
	}
	return hooks, nil
}

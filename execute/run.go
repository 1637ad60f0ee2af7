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

// maxRunOutput bounds what all the hooks of one run print together, in bytes.
const maxRunOutput = 64 << 20

// Hooks are the executors of a configuration by stage. A stage that is not
// configured is absent.
type Hooks map[Stage]Executor

// Run is one run's use of the hooks: it times the stages and bounds what the
// hooks print together. It is safe for concurrent use.
type Run struct {
	// Type is handed to every hook.
	Type RunType

	hooks Hooks

	mu        sync.Mutex
	output    int
	durations map[Stage]time.Duration
}

// NewRun begins a run.
func NewRun(runType RunType, hooks Hooks) *Run {
	return &Run{Type: runType, hooks: hooks, durations: map[Stage]time.Duration{}}
}

// Has says whether the stage has a hook.
func (r *Run) Has(stage Stage) bool { return r.hooks[stage] != nil }

// Ask hands the stage's hook the payload as JSON and returns what it printed.
// The subject names the pod the question is about, else it is empty. Without a
// hook it returns nothing. Its error is an *Error.
func (r *Run) Ask(ctx context.Context, stage Stage, subject string, payload any) ([]byte, error) {
	hook := r.hooks[stage]
	if hook == nil {
		return nil, nil
	}
	defer r.Time(stage)()
	encoded, err := json.Marshal(payload)
	if err != nil {
		return nil, &Error{Kind: KindStart, Stage: stage, Subject: subject, Message: "encoding the payload: " + err.Error(), Err: err}
	}
	result, err := hook.Execute(ctx, Call{Stage: stage, Subject: subject, Payload: encoded})
	if err != nil {
		return nil, err
	}
	if total := r.count(len(result.Output)); total > maxRunOutput {
		return nil, &Error{
			Kind: KindOutput, Stage: stage, Subject: subject,
			Message: fmt.Sprintf("the hooks of this run have printed more than %d MiB together", maxRunOutput>>20),
		}
	}
	return result.Output, nil
}

// Time starts timing a stage and returns the function that ends it. A stage
// that is timed twice adds up.
func (r *Run) Time(stage Stage) (end func()) {
	start := time.Now()
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.durations[stage] += time.Since(start)
	}
}

// Durations are the times of the stages so far. Call it when the run is over.
func (r *Run) Durations() map[Stage]time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.durations
}

func (r *Run) count(printed int) (total int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.output += printed
	return r.output
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

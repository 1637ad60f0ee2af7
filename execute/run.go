// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

import (
	"bytes"
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
	// progress is called whenever the run gets on.
	progress func()

	mu     sync.Mutex
	clocks map[Stage]*clock
}

// NewRun begins a run. Whenever that gets on, a stage begins or a call ends, it
// says so by calling progress, from several goroutines at once.
func NewRun(runType RunType, hooks Hooks, progress func()) *Run {
	return &Run{Type: runType, hooks: hooks, allowance: newAllowance(), progress: progress, clocks: map[Stage]*clock{}}
}

// Has says whether the stage has a hook.
func (r *Run) Has(stage Stage) bool { return r.hooks[stage] != nil }

// Resource stands in a payload for the target or the pod, which is encoded
// already: to encode it anew for every question would cost more than asking it.
type Resource struct{}

// MarshalJSON is what no other resource in a payload is: they are names or
// objects.
func (Resource) MarshalJSON() ([]byte, error) { return []byte("0"), nil }

// Frame is a payload around its resource, encoded once for all that have the
// rest in common.
type Frame struct{ before, after []byte }

// NewFrame encodes a payload that has a Resource under the key `resource`.
func NewFrame(payload any) (Frame, error) {
	encoded, err := json.Marshal(payload)
	if err != nil {
		return Frame{}, err
	}
	const key = `"resource":`
	before, after, found := bytes.Cut(encoded, []byte(key+"0"))
	if !found {
		return Frame{}, fmt.Errorf("%T has no place for a resource", payload)
	}
	return Frame{before: append(before, key...), after: after}, nil
}

// Question is what a hook is asked.
type Question struct {
	// Subject names the pod that the question is about; else it is empty.
	Subject string
	// Frame is the payload, but for the resource.
	Frame Frame
	// Resource is the target or the pod, encoded.
	Resource json.RawMessage
}

// payload is the question as JSON.
func (q Question) payload() []byte {
	payload := make([]byte, 0, len(q.Frame.before)+len(q.Resource)+len(q.Frame.after))
	return append(append(append(payload, q.Frame.before...), q.Resource...), q.Frame.after...)
}

// Tell puts a payload about the resource to the stage's hook and returns what it
// printed. Without a hook it returns nothing. Its error is an *Error.
func (r *Run) Tell(ctx context.Context, stage Stage, resource json.RawMessage, payload any) ([]byte, error) {
	if !r.Has(stage) {
		return nil, nil
	}
	frame, err := NewFrame(payload)
	if err != nil {
		return nil, Call{Stage: stage}.fault(KindStart, err, "encoding the payload: %v", err)
	}
	return r.Ask(ctx, stage, Question{Frame: frame, Resource: resource})
}

// Ask is Tell for a payload that is encoded already.
func (r *Run) Ask(ctx context.Context, stage Stage, question Question) ([]byte, error) {
	hook := r.hooks[stage]
	if hook == nil {
		return nil, nil
	}
	defer r.Time(stage)()
	call := Call{Stage: stage, Subject: question.Subject, Payload: question.payload(), allowance: r.allowance}
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
	r.progress()
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
		r.progress()
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
		counted, _ := executor.(metered)
		if w, ok := counted.Executor.(*worker); ok && told[w.crew] == nil {
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
		pool.meter.know(hook.stage)
	}
	return hooks, nil
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package autoscaler

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/evaluate"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/metric"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

// Trigger is what asks for a run. Two that are equal ask for the same.
type Trigger struct {
	// Kind is who or what asks.
	Kind Kind `json:"kind"`
	// RunType is what the hooks are told.
	RunType execute.RunType `json:"runType"`
	// Through is the last step of the run.
	Through Through `json:"through"`
	// Reason is why, in the words of who asks; empty if nothing is said.
	Reason string `json:"reason,omitempty"`
	// DryRun runs no scale hook and writes nothing; the decision is taken from
	// what the run read at its start, and not remembered.
	DryRun bool `json:"dryRun,omitempty"`
}

// Kind is who or what asks for a run.
type Kind string

// The kinds.
const (
	// KindInterval: its time has come.
	KindInterval Kind = "interval"
	// KindBounds: a schedule, an override or a hold began or ended.
	KindBounds Kind = "bounds"
	// KindIntent: an operator stepped in.
	KindIntent Kind = "intent"
	// KindConfig: the configuration changed.
	KindConfig Kind = "config"
	// KindTerm: this process became the leader.
	KindTerm Kind = "term"
	// KindPush: a worker learned something.
	KindPush Kind = "push"
	// KindRequest: somebody waits for its Record.
	KindRequest Kind = "request"
)

// Through is a step of a run after which it may end.
type Through string

// The steps.
const (
	// ThroughMetrics gathers the metrics only.
	ThroughMetrics Through = "metrics"
	// ThroughScale is the whole journey.
	ThroughScale Through = "scale"
)

// Record is the account of one run, the one value that every face shows.
type Record struct {
	// Sequence counts the runs of an autoscaler in this process, from 1.
	Sequence uint64 `json:"sequence"`
	// ID names the autoscaler.
	ID string `json:"id"`
	// Time is when the run began.
	Time time.Time `json:"time"`
	// Trigger is what asked for it.
	Trigger Trigger `json:"trigger"`
	// Target is what is scaled, at the resource version that the run read; only
	// its name is known until it was read.
	Target corev1.ObjectReference `json:"target"`
	// PodsResourceVersion is which version of the target's pods the run read;
	// empty if it read none.
	PodsResourceVersion string `json:"podsResourceVersion,omitempty"`
	// Bounds are those in force.
	Bounds bounds.Bounds `json:"bounds"`
	// DryRun says that a change is only told of, not written.
	DryRun bool `json:"dryRun,omitempty"`
	// Current is the replica count at the start of the run.
	Current int32 `json:"current"`
	// Metrics are those gathered; nil when the target has no pods.
	Metrics []metric.ResourceMetric `json:"metrics,omitempty"`
	// MetricsTotal is how many there were, of which Metrics may be the first
	// few (Compact).
	MetricsTotal int `json:"metricsTotal,omitempty"`
	// SkippedPods are those whose metric hook failed, which were left out.
	SkippedPods []SkippedPod `json:"skippedPods,omitempty"`
	// Evaluation is what the user's logic wants, if the run got that far.
	Evaluation *evaluate.Evaluation `json:"evaluation,omitempty"`
	// Decision is what was made of it, if the run got that far.
	Decision *scale.Decision `json:"decision,omitempty"`
	// Written says that the count was changed.
	Written bool `json:"written"`
	// Deferred is why the count is written only later, by the Writer itself;
	// empty if it is not.
	Deferred string `json:"deferred,omitempty"`
	// Failure is why the run ended early, nil if it did not. A run that failed
	// after it wrote has scaled all the same.
	Failure *Failure `json:"failure,omitempty"`
	// Durations are how long each stage took, and Duration the whole run; as JSON
	// they are durationSeconds and tookSeconds.
	Durations map[execute.Stage]time.Duration `json:"-"`
	Duration  time.Duration                   `json:"-"`
}

// plain is a Record without its methods, and encoded what is JSON of it besides.
type (
	plain   Record
	encoded struct {
		plain
		// Explanation is the decision in words.
		Explanation     string                    `json:"explanation,omitempty"`
		DurationSeconds map[execute.Stage]float64 `json:"durationSeconds"`
		TookSeconds     float64                   `json:"tookSeconds"`
	}
)

// MarshalJSON encodes the record as every face shows it, with its decision in
// words.
func (r Record) MarshalJSON() ([]byte, error) {
	e := encoded{plain: plain(r), DurationSeconds: make(map[execute.Stage]float64, len(r.Durations)), TookSeconds: r.Duration.Seconds()}
	for stage, took := range r.Durations {
		e.DurationSeconds[stage] = took.Seconds()
	}
	if r.Decision != nil {
		e.Explanation = r.Decision.Explain()
	}
	return json.Marshal(e)
}

// UnmarshalJSON decodes what MarshalJSON encoded.
func (r *Record) UnmarshalJSON(data []byte) error {
	var e encoded
	if err := json.Unmarshal(data, &e); err != nil {
		return err
	}
	*r = Record(e.plain)
	r.Duration, r.Durations = seconds(e.TookSeconds), make(map[execute.Stage]time.Duration, len(e.DurationSeconds))
	for stage, took := range e.DurationSeconds {
		r.Durations[stage] = seconds(took)
	}
	return nil
}

func seconds(s float64) time.Duration { return time.Duration(math.Round(s * float64(time.Second))) }

// SkippedPod is a pod that was left out of the metrics.
type SkippedPod struct {
	Name string `json:"name"`
	// Error is what went wrong with its metric hook, Stderr the beginning of
	// what that said of it.
	Error  string `json:"error"`
	Stderr string `json:"stderr,omitempty"`
}

// maxSkippedStderr is how much is kept of what a skipped pod's hook said, in
// bytes: there may be many.
const maxSkippedStderr = 256

// gathered takes in what the metric hook said.
func (r *Record) gathered(g metric.Gathered) {
	r.Metrics, r.MetricsTotal = g.Metrics, len(g.Metrics)
	for _, fault := range g.Skipped {
		// Of its own memory: the whole of it is much longer.
		stderr := strings.Clone(strings.ToValidUTF8(fault.Stderr[:min(len(fault.Stderr), maxSkippedStderr)], ""))
		r.SkippedPods = append(r.SkippedPods, SkippedPod{Name: fault.Subject, Error: fault.Message, Stderr: stderr})
	}
}

// Failure is why a run ended early.
type Failure struct {
	// Stage is the step that failed.
	Stage execute.Stage `json:"stage"`
	// Subject is the pod concerned, if it was one pod's hook that failed.
	Subject string `json:"subject,omitempty"`
	// Kind is the way a hook failed, execute.KindCanceled when the process is
	// stopping, or KindStandby; else empty for a step that is no hook.
	Kind execute.Kind `json:"kind,omitempty"`
	// Message says what went wrong.
	Message string `json:"message"`
	// Stderr is the end of what a failing program wrote to stderr, or the
	// beginning of a refused response's body.
	Stderr string `json:"stderr,omitempty"`
}

// failure makes a Failure of an error at a stage. A hook's error knows its own
// stage better.
func failure(stage execute.Stage, err error) *Failure {
	if hook, ok := errors.AsType[*execute.Error](err); ok {
		return &Failure{Stage: hook.Stage, Subject: hook.Subject, Kind: hook.Kind, Message: hook.Message, Stderr: hook.Stderr}
	}
	if standby, ok := errors.AsType[*StandbyError](err); ok {
		return &Failure{Stage: stage, Kind: KindStandby, Message: standby.Error()}
	}
	return &Failure{Stage: stage, Message: err.Error()}
}

// Observer is shown every Record. It must not keep the caller waiting.
type Observer interface {
	Observe(Record)
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"slices"
	"strings"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/autoscaler"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

// The results of a run.
const (
	success  = "success"
	failure  = "failure"
	canceled = "canceled"
	standby  = "standby"
)

// stages are those that can fail.
var stages = []execute.Stage{
	execute.StageState, execute.StageRead, execute.StageKubernetesMetrics, execute.StagePreMetric, execute.StageMetric,
	execute.StagePostMetric, execute.StagePreEvaluate, execute.StageEvaluate, execute.StagePostEvaluate, execute.StageDecide,
	execute.StagePreScale, execute.StageWrite, execute.StagePostScale,
}

// directions are those of a write.
var directions = []scale.Direction{scale.DirectionUp, scale.DirectionDown}

// resultOf is how a run ended.
func resultOf(f *autoscaler.Failure) string {
	if f == nil {
		return success
	}
	switch f.Kind {
	case autoscaler.KindStandby:
		return standby
	case execute.KindCanceled:
		return canceled
	default:
		return failure
	}
}

// Observe counts a run. It does not keep the caller waiting.
func (m *Metrics) Observe(r autoscaler.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.account(r.ID)
	result := resultOf(r.Failure)
	m.runs.WithLabelValues(r.ID, result, string(r.Trigger.Kind)).Inc()
	if result == failure {
		m.runFailures.WithLabelValues(r.ID, string(r.Failure.Stage)).Inc()
	}
	if r.Written && r.Decision != nil {
		m.scalings.WithLabelValues(r.ID, string(r.Decision.Direction)).Inc()
	}
	m.skippedPods.WithLabelValues(r.ID).Add(float64(len(r.SkippedPods)))
	m.runSeconds.WithLabelValues(r.ID).Observe(r.Duration.Seconds())
	for stage, took := range r.Durations {
		m.stageSeconds.WithLabelValues(r.ID, string(stage)).Observe(took.Seconds())
	}
	a.take(r, result)
}

// account is what is known of an autoscaler, but for its counters.
type account struct {
	source Source
	// What follows is told by the runs that might have written: somebody's dry
	// run, or a look at the metrics, says nothing about the loop.

	lastRun, lastSuccess time.Time
	failures             int
	// bounds are those in force; nil while unknown.
	bounds *bounds.Bounds
	dryRun bool
	// decision is what was left of the last one; nil before.
	decision *decision
}

// decision is what is shown of a Decision.
type decision struct {
	evaluated *int32
	// current is the count that it left.
	current, desired int32
	fallback         bool
	constraints      []scale.ConstraintName
}

// take takes in a run.
func (a *account) take(r autoscaler.Record, result string) {
	if r.Trigger.DryRun || r.Trigger.Through != autoscaler.ThroughScale {
		return
	}
	a.lastRun = r.Time.Add(r.Duration)
	switch result {
	case success:
		a.lastSuccess, a.failures = a.lastRun, 0
	case failure:
		// As for the fallback, a worker that asks often does not make the failures
		// more.
		if r.Trigger.Kind != autoscaler.KindPush {
			a.failures++
		}
	case standby:
		a.failures = 0
	}
	a.dryRun = r.DryRun
	// Nothing of the Record is kept but copies: it holds all the metrics.
	if r.Failure == nil || r.Failure.Stage != execute.StageState {
		a.bounds = new(r.Bounds)
	}
	if d := r.Decision; d != nil {
		a.decision = &decision{current: d.Current, desired: d.Desired, fallback: d.Fallback}
		if r.Written {
			a.decision.current = d.Desired
		}
		if d.Evaluated != nil {
			a.decision.evaluated = new(*d.Evaluated)
		}
		for _, c := range d.Constraints {
			a.decision.constraints = append(a.decision.constraints, c.Name)
		}
	}
}

// intents are those in force, if that is known: as the source says, else as the
// last decision does.
func (a *account) intents() (Intents, bool) {
	if a.source.Intents != nil {
		return a.source.Intents()
	}
	if a.decision == nil {
		return Intents{}, false
	}
	return Intents{
		Paused:     slices.Contains(a.decision.constraints, scale.ConstraintPaused),
		Held:       slices.Contains(a.decision.constraints, scale.ConstraintHold),
		Overridden: strings.HasPrefix(a.bounds.Min.Source, "override") || strings.HasPrefix(a.bounds.Max.Source, "override"),
	}, true
}

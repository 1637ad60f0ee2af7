// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Package autoscaler takes one target through the journey
//
//	target -> Snapshot -> metrics -> Evaluation -> Decision -> write
//
// at each interval and whenever somebody asks.
package autoscaler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/evaluate"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/metric"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

// maxWrites is how often one run tries to write when somebody else changes the
// count at the same time.
const maxWrites = 3

// Reader reads the target.
type Reader interface {
	// Read takes a snapshot of it.
	Read(ctx context.Context) (resource.Snapshot, error)
	// Scale reads its scale alone, as it is now.
	Scale(ctx context.Context) (resource.Scale, error)
}

// KubernetesMetrics gathers the metrics that Kubernetes knows.
type KubernetesMetrics interface {
	// Gather returns those it could gather, and what became of the others.
	Gather(ctx context.Context, now time.Time, snapshot resource.Snapshot) ([]metric.KubernetesMetric, error)
}

// Spec says what is scaled and how.
type Spec struct {
	// ID names the autoscaler in logs and records.
	ID string
	// Config is validated.
	Config config.Autoscaler
}

// Deps are what an Autoscaler works with. They may be shared by many.
type Deps struct {
	Reader            Reader
	KubernetesMetrics KubernetesMetrics
	Hooks             execute.Hooks
	Writer            scale.Writer
	Observer          Observer
	Log               *slog.Logger
}

// Autoscaler scales one target. Run owns it and its history: everything else
// reaches it through Submit.
type Autoscaler struct {
	id      string
	config  config.Autoscaler
	deps    Deps
	log     *slog.Logger
	rules   scale.Rules
	limits  *bounds.Limits
	history *scale.History
	queue   *queue
	// lastMissing is which Kubernetes metrics the last run went without.
	lastMissing string
}

// New makes an Autoscaler of a validated configuration; Run starts it.
func New(spec Spec, deps Deps) (*Autoscaler, error) {
	limits, err := bounds.New(spec.Config)
	if err != nil {
		return nil, err
	}
	return &Autoscaler{
		id:      spec.ID,
		config:  spec.Config,
		deps:    deps,
		log:     deps.Log.With("autoscaler", spec.ID),
		rules:   scale.NewRules(spec.Config),
		limits:  limits,
		history: scale.NewHistory(spec.Config),
		queue:   newQueue(),
	}, nil
}

// Tick takes the target through the journey once, up to the step the trigger
// asks for:
//
//	read             the target, its scale, its pods
//	kubernetesMetrics
//	preMetric, metric (each pod), postMetric
//	preEvaluate, evaluate, postEvaluate
//	decide           from the count as it is by now
//	preScale, write, postScale
//
// The first step that fails ends it, and the Record says which. Nothing is
// scaled unless every step up to the write went well. Tick is for the
// goroutine that owns the Autoscaler; others use Submit.
func (a *Autoscaler) Tick(ctx context.Context, now time.Time, trigger Trigger) Record {
	start := time.Now()
	run := execute.NewRun(trigger.RunType, a.deps.Hooks)
	record := Record{ID: a.id, Time: now, Trigger: trigger}
	record.Failure = a.journey(ctx, now, run, &record)
	if record.Failure != nil && errors.Is(context.Cause(ctx), ErrStopping) {
		record.Failure.Kind = execute.KindCanceled
	}
	record.Durations, record.Duration = run.Durations(), time.Since(start)
	a.deps.Observer.Observe(record)
	return record
}

func (a *Autoscaler) journey(ctx context.Context, now time.Time, run *execute.Run, record *Record) *Failure {
	snapshot, err := a.read(ctx, run)
	if err != nil {
		return failure(execute.StageRead, err)
	}
	record.Current = snapshot.Scale.Replicas

	kubernetes, err := a.kubernetesMetrics(ctx, now, run, snapshot)
	if err != nil {
		return failure(execute.StageKubernetesMetrics, err)
	}
	record.Metrics, err = metric.Gather(ctx, run, a.config.RunMode, snapshot, kubernetes)
	if err != nil {
		return failure(execute.StageMetric, err)
	}
	if record.Trigger.Through == ThroughMetrics {
		return nil
	}

	evaluation, err := evaluate.Evaluate(ctx, run, snapshot, record.Metrics)
	if err != nil {
		return failure(execute.StageEvaluate, err)
	}
	record.Evaluation = &evaluation

	if record.Trigger.DryRun {
		decision := a.decide(now, snapshot.Scale.Replicas, evaluation, a.history.Clone())
		record.Decision = &decision
		return nil
	}
	return a.scale(ctx, now, run, snapshot, record)
}

// scale decides from the count as it is by now, and writes the decision.
func (a *Autoscaler) scale(ctx context.Context, now time.Time, run *execute.Run, snapshot resource.Snapshot, record *Record) *Failure {
	live, err := a.live(ctx, run)
	if err != nil {
		return failure(execute.StageDecide, err)
	}
	if live != record.Current {
		a.log.Info("The replica count changed during the run: deciding from the new one", "atStart", record.Current, "now", live)
	}
	decision := a.decide(now, live, *record.Evaluation, a.history)
	a.history.Record(now, decision)
	record.Decision = &decision
	if decision.Disabled {
		return nil
	}

	info := scale.Info{
		Resource:       snapshot.Target,
		ScaleTargetRef: a.config.ScaleTargetRef,
		Namespace:      a.config.Namespace,
		MinReplicas:    a.config.MinReplicas,
		MaxReplicas:    a.config.MaxReplicas,
	}
	if err := scale.Tell(ctx, run, execute.StagePreScale, info, decision); err != nil {
		return failure(execute.StagePreScale, err)
	}
	record.Written, err = a.write(ctx, now, run, &decision)
	if err != nil {
		return failure(execute.StageWrite, err)
	}
	if decision.Disabled {
		return nil
	}
	if err := scale.Tell(ctx, run, execute.StagePostScale, info, decision); err != nil {
		return failure(execute.StagePostScale, err)
	}
	return nil
}

// write changes the count to what is desired, if that is a change. When
// somebody else changed it meanwhile it decides again, from theirs.
func (a *Autoscaler) write(ctx context.Context, now time.Time, run *execute.Run, decision *scale.Decision) (written bool, err error) {
	for range maxWrites {
		if decision.Disabled || decision.Desired == decision.Current {
			return false, nil
		}
		err = a.patch(ctx, run, decision)
		if !errors.Is(err, scale.ErrRefused) {
			return err == nil, err
		}
		live, readErr := a.live(ctx, run)
		if readErr != nil {
			return false, readErr
		}
		if live == decision.Current {
			return false, err
		}
		a.log.Info("The replica count changed before it was written: deciding again", "before", decision.Current, "now", live)
		*decision = a.decide(now, live, evaluate.Evaluation{TargetReplicas: *decision.Evaluated}, a.history)
	}
	return false, fmt.Errorf("the replica count was changed by somebody else each of the %d times it was to be written: %w", maxWrites, err)
}

func (a *Autoscaler) decide(now time.Time, current int32, evaluation evaluate.Evaluation, history *scale.History) scale.Decision {
	history.Seed(now, current)
	return a.rules.Decide(scale.Situation{
		Now: now, Current: current, Evaluation: &evaluation, Bounds: a.limits.InForce(now, nil), History: history,
	})
}

func (a *Autoscaler) read(ctx context.Context, run *execute.Run) (resource.Snapshot, error) {
	defer run.Time(execute.StageRead)()
	return a.deps.Reader.Read(ctx)
}

// kubernetesMetrics gathers them if any are configured. Those that cannot be
// had are missed in the log only, unless they are required.
func (a *Autoscaler) kubernetesMetrics(ctx context.Context, now time.Time, run *execute.Run, snapshot resource.Snapshot,
) ([]metric.KubernetesMetric, error) {
	if len(a.config.KubernetesMetricSpecs) == 0 {
		return nil, nil
	}
	defer run.Time(execute.StageKubernetesMetrics)()
	metrics, err := a.deps.KubernetesMetrics.Gather(ctx, now, snapshot)
	if err != nil && !a.config.RequireKubernetesMetrics {
		a.missing(ctx, err)
		return metrics, nil
	}
	a.lastMissing = ""
	return metrics, err
}

// missing logs what could not be gathered, once for as long as it is the same:
// at no replicas, say, that is every run.
func (a *Autoscaler) missing(ctx context.Context, err error) {
	level := slog.LevelWarn
	if err.Error() == a.lastMissing {
		level = slog.LevelDebug
	}
	a.lastMissing = err.Error()
	a.log.Log(ctx, level, "Some Kubernetes metrics could not be gathered: the hooks get the others", "error", err)
}

func (a *Autoscaler) live(ctx context.Context, run *execute.Run) (int32, error) {
	defer run.Time(execute.StageDecide)()
	live, err := a.deps.Reader.Scale(ctx)
	return live.Replicas, err
}

func (a *Autoscaler) patch(ctx context.Context, run *execute.Run, decision *scale.Decision) error {
	defer run.Time(execute.StageWrite)()
	return a.deps.Writer.Write(ctx, decision.Current, decision.Desired)
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Package autoscaler takes one target through the journey
//
//	target -> Snapshot -> metrics -> Evaluation -> Decision -> write
//
// at each interval and whenever somebody asks.
package autoscaler

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/evaluate"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/metric"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/state"
)

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

// Deps are what an Autoscaler works with. They may be shared by many, but for
// the store.
type Deps struct {
	Reader            Reader
	KubernetesMetrics KubernetesMetrics
	Hooks             execute.Hooks
	Writer            scale.Writer
	Store             state.Store
	// Leadership may be nil: then nobody else runs.
	Leadership Leadership
	Observer   Observer
	Log        *slog.Logger
}

// Autoscaler scales one target. Run owns it and its history: everything else
// reaches it through Submit, through the intents of an operator (Pause,
// Resume, Hold, Override), and through Configure; who only looks reads Status.
type Autoscaler struct {
	id         string
	deps       Deps
	leadership Leadership
	log        *slog.Logger
	settings   atomic.Pointer[settings]
	published  atomic.Pointer[published]
	// progress is when the owner last got on.
	progress atomic.Pointer[time.Time]
	queue    *queue
	memory   *memory
	// changes brings the owner another configuration; stopped is closed when it
	// takes no more.
	changes chan change
	stopped chan struct{}
	// intended holds a token when an operator has stepped in.
	intended chan struct{}
	// pushes holds the reason of a worker that asks for a run.
	pushes chan string

	// What follows belongs to the owner.

	// term is the one that history and memory belong to.
	term    uint64
	history *scale.History
	// runs counts the runs.
	runs uint64
	// failures counts the runs in a row that gathered or evaluated nothing.
	failures int32
	// lastEnd is when the last run ended.
	lastEnd time.Time
	// lastMissing is which Kubernetes metrics the last run went without, and
	// lastConflict how its bounds contradicted each other.
	lastMissing, lastConflict string
}

// New makes an Autoscaler of a validated configuration; Run starts it.
func New(spec Spec, deps Deps) (*Autoscaler, error) {
	settings, err := newSettings(spec.Config)
	if err != nil {
		return nil, err
	}
	log := deps.Log.With("autoscaler", spec.ID)
	a := &Autoscaler{
		id:         spec.ID,
		deps:       deps,
		leadership: cmp.Or[Leadership](deps.Leadership, alone{}),
		log:        log,
		queue:      newQueue(),
		memory:     newMemory(deps.Store, log),
		changes:    make(chan change),
		stopped:    make(chan struct{}),
		intended:   make(chan struct{}, 1),
		pushes:     make(chan string, 1),
	}
	a.settings.Store(settings)
	a.published.Store(&published{})
	a.advance()
	return a, nil
}

// Tick takes the target through the journey once, up to the step the trigger
// asks for:
//
//	state            what is known from earlier, in the first run only
//	read             the target, its scale, its pods
//	kubernetesMetrics
//	preMetric, metric (each pod), postMetric
//	preEvaluate, evaluate, postEvaluate
//	decide           from the count as it is by now
//	preScale, write, postScale
//
// The first step that fails ends it, and the Record says which; but when it is
// one of those that gather and evaluate, there is still a decision: to hold,
// unless a bound, an operator or the fallback says otherwise. Tick is for the
// goroutine that owns the Autoscaler; others use Submit.
func (a *Autoscaler) Tick(ctx context.Context, now time.Time, trigger Trigger) Record {
	a.runs++
	j := &journey{
		now: now, began: time.Now(), run: execute.NewRun(trigger.RunType, a.deps.Hooks, a.advance),
		record: Record{Sequence: a.runs, ID: a.id, Time: now, Trigger: trigger, DryRun: trigger.DryRun || a.config().DryRun},
	}
	j.record.Failure = a.travel(ctx, j)
	if j.record.Failure != nil && stopping(ctx) {
		j.record.Failure.Kind = execute.KindCanceled
	}
	j.record.Durations, j.record.Duration = j.run.Durations(), time.Since(j.began)
	a.lastEnd = j.time()
	a.publish(j.record)
	a.deps.Observer.Observe(j.record)
	return j.record
}

// journey is one run under way.
type journey struct {
	// now is when the run began, on the clock it was given; began is the same
	// on the process's own.
	now, began time.Time
	run        *execute.Run
	snapshot   resource.Snapshot
	record     Record
}

// time is the time by now.
func (j *journey) time() time.Time { return j.now.Add(time.Since(j.began)) }

func (a *Autoscaler) travel(ctx context.Context, j *journey) *Failure {
	j.record.Target = a.reference()
	if err := a.remember(ctx, j); err != nil {
		return failure(execute.StageState, err)
	}
	j.record.Bounds = a.inForce(j.now)
	if err := a.read(ctx, j); err != nil {
		return failure(execute.StageRead, err)
	}
	failed := a.consult(ctx, j)
	switch {
	case failed == nil && stopping(ctx):
		return failure(execute.StageDecide, ErrStopping)
	case j.record.Trigger.Through == ThroughMetrics, stopping(ctx):
		return failed
	case j.record.Trigger.DryRun:
		a.preview(j)
		return failed
	}
	a.count(j.record.Trigger.Kind, failed)
	undone := a.scale(ctx, j)
	a.flush(ctx, j)
	if failed != nil {
		return failed
	}
	return undone
}

// read takes the snapshot.
func (a *Autoscaler) read(ctx context.Context, j *journey) (err error) {
	defer j.run.Time(execute.StageRead)()
	j.snapshot, err = a.deps.Reader.Read(ctx)
	if err != nil {
		return err
	}
	j.record.Target.UID, j.record.Current = j.snapshot.Target.UID, j.snapshot.Scale.Replicas
	j.record.Target.ResourceVersion, j.record.PodsResourceVersion = j.snapshot.Target.ResourceVersion, j.snapshot.PodsResourceVersion
	return nil
}

// consult asks the user's logic: it gathers the metrics and evaluates them.
func (a *Autoscaler) consult(ctx context.Context, j *journey) *Failure {
	kubernetes, err := a.kubernetesMetrics(ctx, j)
	if err != nil {
		return failure(execute.StageKubernetesMetrics, err)
	}
	gathered, err := metric.Gather(ctx, j.run, a.config(), j.snapshot, kubernetes)
	if err != nil {
		return failure(execute.StageMetric, err)
	}
	j.record.gathered(gathered)
	if j.record.Trigger.Through == ThroughMetrics {
		return nil
	}
	evaluation, err := evaluate.Evaluate(ctx, j.run, j.snapshot, j.record.Metrics)
	if err != nil {
		return failure(execute.StageEvaluate, err)
	}
	j.record.Evaluation = &evaluation
	return nil
}

// reference names the target.
func (a *Autoscaler) reference() corev1.ObjectReference {
	c := a.config()
	ref := c.ScaleTargetRef
	return corev1.ObjectReference{APIVersion: ref.APIVersion, Kind: ref.Kind, Namespace: c.Namespace, Name: ref.Name}
}

func stopping(ctx context.Context) bool { return errors.Is(context.Cause(ctx), ErrStopping) }

// kubernetesMetrics gathers them if any are configured. Those that cannot be
// had are missed in the log only, unless they are required.
func (a *Autoscaler) kubernetesMetrics(ctx context.Context, j *journey) ([]metric.KubernetesMetric, error) {
	if len(a.config().KubernetesMetricSpecs) == 0 {
		return nil, nil
	}
	defer j.run.Time(execute.StageKubernetesMetrics)()
	metrics, err := a.deps.KubernetesMetrics.Gather(ctx, j.now, j.snapshot)
	if err != nil && !a.config().RequireKubernetesMetrics {
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

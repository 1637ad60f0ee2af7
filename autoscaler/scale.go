// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package autoscaler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

// maxWrites is how often one run tries to write when somebody else changes the
// count, or their mind, at the same time.
const maxWrites = 3

// remember loads what is known from earlier, in the first run of a term.
func (a *Autoscaler) remember(ctx context.Context, j *journey) error {
	defer j.run.Time(execute.StageState)()
	term := a.leadership.Term()
	if !term.Leading() {
		return &StandbyError{Leader: term.Leader}
	}
	if term.ID != a.term {
		a.term, a.history, a.failures = term.ID, nil, 0
	}
	window, err := a.memory.recall(ctx, j.now, a.term)
	if err != nil {
		return err
	}
	if a.history == nil {
		a.history = scale.NewHistory(*a.config())
		a.history.Restore(j.now, window)
	}
	// A process that was stopped for a while has missed runs.
	if !a.lastEnd.IsZero() && j.now.Sub(a.lastEnd) > 2*a.config().Interval.Duration() {
		a.history.Miss()
	}
	return nil
}

// inForce are the bounds by now. It warns once when they contradict each other.
func (a *Autoscaler) inForce(now time.Time) bounds.Bounds {
	kept, _ := a.memory.read()
	b := a.limits().InForce(now, kept.Override)
	if b.Conflict != "" && b.Conflict != a.lastConflict {
		a.log.Warn("The bounds in force contradict each other", "conflict", b.Conflict)
	}
	a.lastConflict = b.Conflict
	return b
}

// count counts the runs in a row that came to no evaluation, and enters or
// leaves the fallback. Those that a worker asked for do not count when they
// fail: there may be one each second.
func (a *Autoscaler) count(kind Kind, failed *Failure) {
	switch {
	case failed == nil:
		a.failures = 0
	case kind != KindPush:
		a.failures++
	}
	a.memory.note(func(k *scale.Kept) bool {
		before := k.Fallback
		switch {
		case failed == nil, a.config().Fallback == nil:
			k.Fallback = false
		case a.failures >= a.config().Fallback.FailureThreshold:
			k.Fallback = true
		}
		return k.Fallback != before
	})
}

// preview decides without consequences, from the count the run began with.
func (a *Autoscaler) preview(j *journey) {
	if j.record.Evaluation == nil {
		return
	}
	decision, _ := a.decide(j, j.record.Current, a.history.Clone())
	j.record.Decision = &decision
}

// scale decides from the count as it is by now, and writes the decision.
func (a *Autoscaler) scale(ctx context.Context, j *journey) *Failure {
	live, err := a.live(ctx, j)
	if err != nil {
		return failure(execute.StageDecide, err)
	}
	if live != j.record.Current {
		a.log.Info("The replica count changed during the run: deciding from the new one", "atStart", j.record.Current, "now", live)
	}
	decision, intended := a.decide(j, live, a.history)
	a.history.Record(j.now, decision)
	j.record.Decision = &decision
	if j.record.DryRun {
		return nil
	}
	unevaluated := decision.Evaluated == nil && decision.Desired == decision.Current
	if decision.Disabled || unevaluated {
		a.stay(decision)
		return nil
	}

	info := scale.Info{
		ScaleTargetRef: a.config().ScaleTargetRef,
		Namespace:      a.config().Namespace,
		MinReplicas:    j.record.Bounds.Min.Replicas,
		MaxReplicas:    j.record.Bounds.Max.Replicas,
	}
	if err := scale.Tell(ctx, j.run, execute.StagePreScale, j.snapshot.Target, info, decision); err != nil {
		return failure(execute.StagePreScale, err)
	}
	if err := a.write(ctx, j, intended); err != nil {
		return failure(execute.StageWrite, err)
	}
	if decision.Disabled {
		return nil
	}
	if err := scale.Tell(ctx, j.run, execute.StagePostScale, j.snapshot.Target, info, decision); err != nil {
		return failure(execute.StagePostScale, err)
	}
	return nil
}

// stay takes back what an earlier write left undone when the count is to stay
// as it is. A run that failed and so holds the count has decided nothing: what
// was decided before it stands.
func (a *Autoscaler) stay(decision scale.Decision) {
	undecided := decision.Evaluated == nil && !decision.Disabled && !decision.Fallback && len(decision.Constraints) == 0
	if !undecided {
		a.deps.Writer.Withdraw()
	}
}

// decide takes the decision. It also returns how often operators had changed
// their intents by then.
func (a *Autoscaler) decide(j *journey, current int32, history *scale.History) (decision scale.Decision, intended int) {
	kept, intended := a.memory.read()
	// The hooks may have taken so long that a schedule has begun or ended.
	j.record.Bounds = a.limits().InForce(j.time(), kept.Override)
	situation := scale.Situation{
		Now: j.now, Current: current, Evaluation: j.record.Evaluation, Bounds: j.record.Bounds, Kept: kept, History: history,
	}
	history.Prepare(situation)
	return a.rules().Decide(situation), intended
}

// write changes the count to what the record's decision desires, if that is a
// change. When somebody else changed it meanwhile, or an operator stepped in,
// it decides again. A write that waits is no failure.
func (a *Autoscaler) write(ctx context.Context, j *journey, intended int) (err error) {
	decision := j.record.Decision
	for range maxWrites {
		if decision.Disabled || decision.Desired == decision.Current {
			a.stay(*decision)
			return nil
		}
		err = a.attempt(ctx, j, intended)
		if err == nil {
			j.record.Written = true
			return nil
		}
		if errors.Is(err, scale.ErrDeferred) {
			j.record.Deferred = err.Error()
			return nil
		}
		refused := errors.Is(err, scale.ErrRefused)
		if !refused && !errors.Is(err, errIntended) {
			return err
		}
		live, readErr := a.live(ctx, j)
		if readErr != nil {
			return readErr
		}
		if refused && live == decision.Current {
			return err
		}
		message := "The replica count changed before it was written: deciding again"
		if !refused {
			message = "An operator stepped in before the replica count was written: deciding again"
		}
		a.log.Info(message, "before", decision.Current, "now", live) //nolint:sloglint // one of two
		*decision, intended = a.decide(j, live, a.history)
	}
	return fmt.Errorf("something else changed each of the %d times the replica count was to be written: %w", maxWrites, err)
}

// attempt sends the write once, within the term in which this process leads.
// An operator who steps in meanwhile waits until it is done.
func (a *Autoscaler) attempt(ctx context.Context, j *journey, intended int) error {
	defer j.run.Time(execute.StageWrite)()
	term := a.leadership.Term()
	if term.ID != a.term {
		return &StandbyError{Leader: term.Leader}
	}
	ctx, cancel := within(ctx, term)
	defer cancel()
	if err := a.memory.take(ctx); err != nil {
		return err
	}
	defer a.memory.give()
	decision := j.record.Decision
	err := a.memory.begin(ctx, intended, scale.Write{At: j.time(), From: decision.Current, To: decision.Desired})
	if err != nil {
		return err
	}
	err = a.deps.Writer.Write(ctx, *decision)
	a.memory.note(func(k *scale.Kept) bool {
		switch {
		case err == nil:
			a.rules().Acknowledge(k, j.time())
		case errors.Is(err, scale.ErrRefused):
			k.Pending = nil
		default:
			// It may have been done all the same, or be done later: the next
			// count read tells.
			return false
		}
		return true
	})
	return err
}

// live reads the count as it is by now, and settles with it what was pending.
func (a *Autoscaler) live(ctx context.Context, j *journey) (int32, error) {
	defer j.run.Time(execute.StageDecide)()
	live, err := a.deps.Reader.Scale(ctx)
	if err != nil {
		return 0, err
	}
	a.memory.note(func(k *scale.Kept) bool {
		settled, expired := a.rules().Settle(k, live.Replicas), k.Expire(j.time())
		return settled || expired
	})
	return live.Replicas, nil
}

// flush saves what this run changed, unless another process leads by now.
func (a *Autoscaler) flush(ctx context.Context, j *journey) {
	defer j.run.Time(execute.StageState)()
	if a.leadership.Term().ID == a.term {
		a.memory.flush(ctx)
	}
}

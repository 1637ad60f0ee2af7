// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

import (
	"context"
	"time"
)

// worker asks processes that stay: the payload is sent to one of them as a
// request, and its answer is the call's.
type worker struct {
	timeout time.Duration
	crew    *crew
}

// Execute waits for its turn, sends the request, and waits for the answer until
// the timeout, which counts from the sending; then the process is killed. When
// the process is lost for another reason, a question that has no effects is put
// once more.
func (w *worker) Execute(ctx context.Context, call Call) (Result, error) {
	if ctx.Err() != nil {
		return Result{}, call.interrupted(ctx, w.timeout, "not asked")
	}
	// What may not be asked twice has a process to itself from the beginning.
	output, fault := w.ask(ctx, call, !repeatable(call.Stage))
	if fault != nil && fault.lost && repeatable(call.Stage) && ctx.Err() == nil {
		output, fault = w.ask(ctx, call, true)
	}
	if fault != nil {
		return Result{}, fault.Error
	}
	return Result{Output: output}, nil
}

// repeatable says whether a stage may be asked twice: metric and evaluate only
// tell something, the others are there for their effects.
func repeatable(stage Stage) bool { return stage == StageMetric || stage == StageEvaluate }

// workerFault is why a request has no answer.
type workerFault struct {
	*Error
	// lost says that its process was lost with the request in flight, which
	// need not be the request's fault.
	lost bool
}

// ask puts the question once. Alone, it has a process to itself: when that is
// lost again, no other question is to blame, and none is harmed.
func (w *worker) ask(ctx context.Context, call Call, alone bool) ([]byte, *workerFault) {
	r := w.crew.submit(call, alone, w.timeout)
	tooLate := time.NewTimer(r.patience)
	defer tooLate.Stop()
	select {
	case <-r.sent:
	case done := <-r.done:
		return done.output, done.fault
	case <-ctx.Done():
		if w.crew.withdraw(r) {
			return nil, &workerFault{Error: call.interrupted(ctx, w.timeout, "not asked")}
		}
	case <-tooLate.C:
		if w.crew.withdraw(r) {
			return nil, &workerFault{Error: call.fault(KindTimeout, nil, "no process of the worker was free within %s: others take too long", r.patience)}
		}
	}
	return w.await(ctx, call, r)
}

// await waits for the answer to a request that was sent.
func (w *worker) await(ctx context.Context, call Call, r *pending) ([]byte, *workerFault) {
	deadline := time.NewTimer(time.Until(r.at.Add(w.timeout)))
	defer deadline.Stop()
	select {
	case done := <-r.done:
		return done.output, done.fault
	case <-deadline.C:
		w.crew.expire(r)
	case <-ctx.Done():
		// The process may still be of use: it is only killed if it has not
		// answered by the deadline that the request has anyhow.
		if w.crew.abandon(r) {
			return nil, &workerFault{Error: call.interrupted(ctx, w.timeout, "no answer")}
		}
	}
	done := <-r.done
	return done.output, done.fault
}

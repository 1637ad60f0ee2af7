// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package autoscaler

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
)

// A Writer that waits, as one does that writes to Git: the run has not failed,
// the write stays pending, and becomes an event once the count is the new one.
func TestAWriteThatWaits(t *testing.T) {
	w, postScales := newWorld(2), 0
	w.deferring = true
	hooks := wants(`{"targetReplicas": 4}`)
	hooks[execute.StagePostScale] = hook(func(context.Context, execute.Call) (string, error) { postScales++; return "", nil })
	a := w.start(testConfig(), hooks)

	record := a.Tick(t.Context(), now, scheduled)
	if record.Failure != nil || record.Written || record.Deferred != "the count is written later: in a minute" || postScales != 1 {
		t.Errorf("failure %+v, written %t, deferred %q, postScale ran %d times", record.Failure, record.Written, record.Deferred, postScales)
	}
	kept, _ := a.memory.read()
	if p := kept.Pending; p == nil || p.From != 2 || p.To != 4 || len(kept.Events) > 0 {
		t.Fatalf("pending %+v, events %+v", p, kept.Events)
	}
	var log bytes.Buffer
	LogObserver{Log: slog.New(slog.NewTextHandler(&log, nil))}.Observe(record)
	if line := log.String(); !strings.Contains(line, `level=INFO msg="To be scaled later"`) || !strings.Contains(line, "in a minute") {
		t.Errorf("the line is %s", line)
	}

	w.set(w.deferred.Desired)
	record = a.Tick(t.Context(), now.Add(time.Minute), scheduled)
	kept, _ = a.memory.read()
	if record.Deferred != "" || kept.Pending != nil || len(kept.Events) != 1 || kept.Events[0].Change != 2 {
		t.Errorf("deferred %q, pending %+v, events %+v", record.Deferred, kept.Pending, kept.Events)
	}
}

// While a write waits the logic changes its mind: what waits is taken back.
func TestAWriteThatWaitsIsTakenBack(t *testing.T) {
	w := newWorld(2)
	w.deferring = true
	a := w.start(testConfig(), wants(`{"targetReplicas": 4}`))
	a.Tick(t.Context(), now, scheduled)
	a.deps.Hooks = wants(`{"targetReplicas": 2}`)
	record := a.Tick(t.Context(), now.Add(time.Minute), scheduled)
	kept, _ := a.memory.read()
	if record.Deferred != "" || w.deferred != nil || kept.Pending != nil || len(kept.Events) > 0 {
		t.Errorf("deferred %q, the Writer still holds %+v, pending %+v, events %+v", record.Deferred, w.deferred, kept.Pending, kept.Events)
	}
}

// While a write waits the hooks fail once, and preScale after that: what was
// decided before stands, and no new count is handed to the Writer.
func TestAWriteThatWaitsOutlivesAFailure(t *testing.T) {
	w := newWorld(2)
	w.deferring = true
	a := w.start(testConfig(), wants(`{"targetReplicas": 4}`))
	a.Tick(t.Context(), now, scheduled)
	a.deps.Hooks = wants(`{}`)
	if record := a.Tick(t.Context(), now.Add(time.Minute), scheduled); record.Failure == nil || w.deferred == nil || w.deferred.Desired != 4 {
		t.Errorf("failure %+v, the Writer holds %+v", record.Failure, w.deferred)
	}
	a.deps.Hooks = execute.Hooks{
		execute.StageMetric: prints("5"), execute.StageEvaluate: prints(`{"targetReplicas": 7}`), execute.StagePreScale: fails(),
	}
	record := a.Tick(t.Context(), now.Add(2*time.Minute), scheduled)
	if f := record.Failure; f == nil || f.Stage != execute.StagePreScale || w.deferred == nil || w.deferred.Desired != 4 {
		t.Errorf("failure %+v, the Writer holds %+v", record.Failure, w.deferred)
	}
}

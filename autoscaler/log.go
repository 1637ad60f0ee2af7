// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package autoscaler

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
)

// Observers show every Record to each of them, in order.
type Observers []Observer

// Observe shows the Record.
func (o Observers) Observe(r Record) {
	for _, observer := range o {
		observer.Observe(r)
	}
}

// LogObserver writes one line a run: a run that failed as an error, the others
// as information.
type LogObserver struct {
	Log *slog.Logger
}

// Observe writes the line.
func (o LogObserver) Observe(r Record) {
	level, message := slog.LevelInfo, "Gathered metrics"
	attributes := []slog.Attr{slog.String("autoscaler", r.ID)}
	if d := r.Decision; d != nil {
		message = outcome(r)
		attributes = append(attributes, slog.Int("from", int(d.Current)), slog.Int("to", int(d.Desired)), slog.String("reason", d.Explain()))
		if r.Deferred != "" {
			attributes = append(attributes, slog.String("deferred", r.Deferred))
		}
		if d.Fallback {
			attributes = append(attributes, slog.Bool("fallback", true))
		}
	}
	if f := r.Failure; f != nil {
		level, message = slog.LevelError, "Run failed"
		switch f.Kind { //nolint:exhaustive // the others are failures
		case KindStandby:
			level, message = slog.LevelInfo, "Run ended, another replica leads"
		case execute.KindCanceled:
			level, message = slog.LevelInfo, "Run ended, the autoscaler is stopping"
		}
		attributes = append(attributes, f.attributes()...)
		attributes = append(attributes, slog.Bool("scaled", r.Written))
	}
	if skipped := len(r.SkippedPods); skipped > 0 {
		attributes = append(attributes, slog.Int("skippedPods", skipped))
	}
	attributes = append(attributes, r.Trigger.attributes()...)
	attributes = append(attributes, slog.Duration("took", r.Duration.Round(time.Millisecond)))
	o.Log.LogAttrs(context.Background(), level, message, attributes...) //nolint:sloglint // one of outcome's few
	if len(r.SkippedPods) > 0 {
		o.skipped(r)
	}
	o.Log.LogAttrs(context.Background(), slog.LevelDebug, "Durations of the stages", slog.String("autoscaler", r.ID), slog.Any("durations", r.Durations))
}

// maxNames is how many of the pods that were left out are named.
const maxNames = 10

// skipped tells of pods that were left out: some names, and why the first was.
func (o LogObserver) skipped(r Record) {
	var names []string
	for _, pod := range r.SkippedPods[:min(len(r.SkippedPods), maxNames)] {
		names = append(names, pod.Name)
	}
	first := r.SkippedPods[0]
	o.Log.Warn("Pods were left out, since their metric hook failed", "autoscaler", r.ID, "pods", len(r.SkippedPods),
		"names", strings.Join(names, " "), "error", first.Error, "stderr", first.Stderr)
}

func outcome(r Record) string {
	switch {
	case r.DryRun:
		return "Dry run"
	case r.Written:
		return "Scaled"
	case r.Deferred != "":
		return "To be scaled later"
	case r.Decision.Disabled:
		return "Left alone, scaling is disabled"
	default:
		return "Nothing to scale"
	}
}

// attributes tell what asked for the run, where that is not plain.
func (t Trigger) attributes() []slog.Attr {
	attributes := []slog.Attr{slog.String("runType", string(t.RunType))}
	if t.Kind == KindPush {
		attributes = append(attributes, slog.String("trigger", string(t.Kind)))
	}
	if t.Reason != "" {
		attributes = append(attributes, slog.String("triggerReason", t.Reason))
	}
	return attributes
}

func (f *Failure) attributes() []slog.Attr {
	attributes := []slog.Attr{slog.String("stage", string(f.Stage))}
	if f.Subject != "" {
		attributes = append(attributes, slog.String("pod", f.Subject))
	}
	attributes = append(attributes, slog.String("error", f.Message))
	switch {
	case f.Stderr == "":
	case f.Kind == execute.KindStatus:
		attributes = append(attributes, slog.String("body", f.Stderr))
	default:
		attributes = append(attributes, slog.String("stderr", f.Stderr))
	}
	return attributes
}

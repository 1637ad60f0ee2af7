// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/autoscaler"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/evaluate"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
)

// The two requests that the original has, answered as it does.

// metrics gathers the metrics and answers with them.
func (h *handler) metrics(w http.ResponseWriter, r *http.Request) {
	record, ok := h.run(w, r, autoscaler.ThroughMetrics)
	if !ok {
		return
	}
	h.write(w, http.StatusOK, record.Metrics)
}

// evaluation runs the whole journey. A dry run answers with what the hook
// wants, the others with the count that resulted.
func (h *handler) evaluation(w http.ResponseWriter, r *http.Request) {
	record, ok := h.run(w, r, autoscaler.ThroughScale)
	if !ok {
		return
	}
	// The count alone, as ever: the reason is in the record.
	answer := evaluate.Evaluation{TargetReplicas: record.Evaluation.TargetReplicas}
	if !record.Trigger.DryRun {
		answer.TargetReplicas = record.Decision.Desired
	}
	h.write(w, http.StatusOK, answer)
}

// scaled is what the audit log tells of an evaluation.
type scaled struct {
	Replicas int32 `json:"replicas"`
}

// run has the autoscaler run for the request. If that fails it answers the
// request itself, and ok is false.
func (h *handler) run(w http.ResponseWriter, r *http.Request, through autoscaler.Through) (record autoscaler.Record, ok bool) {
	trigger := autoscaler.Trigger{Kind: autoscaler.KindRequest, RunType: execute.RunAPI, Through: through}
	dryRun, err := dryRun(r)
	if err != nil {
		h.fail(w, http.StatusBadRequest, err.Error())
		return record, false
	}
	switch {
	case dryRun:
		trigger.RunType, trigger.DryRun = execute.RunAPIDryRun, true
	case through == autoscaler.ThroughScale && h.authenticates && !h.permits(w, r, config.RoleOperate):
		return record, false
	}
	record, err = h.Autoscaler.Submit(r.Context(), trigger)
	switch {
	case record.Written:
		callerOf(r).Audit(h.Log, "evaluation", scaled{record.Decision.Current}, scaled{record.Decision.Desired})
	case errors.Is(err, context.Canceled) && through == autoscaler.ThroughScale && !dryRun:
		callerOf(r).Audit(h.Log, "evaluation", nil, "the caller left before it was known: see the runs")
	}
	if err != nil {
		h.fail(w, statusOf(err), err.Error())
		return record, false
	}
	if f := record.Failure; f != nil {
		switch f.Kind {
		case execute.KindCanceled:
			h.fail(w, http.StatusServiceUnavailable, autoscaler.ErrStopping.Error())
		case autoscaler.KindStandby:
			h.fail(w, http.StatusServiceUnavailable, f.Message)
		default:
			h.fail(w, http.StatusInternalServerError, message(*f))
		}
		return record, false
	}
	return record, true
}

// dryRun reads the query parameter dry_run. Without a value it is false.
func dryRun(r *http.Request) (bool, error) {
	for name := range r.URL.Query() {
		// Whoever misspells it does not mean to scale.
		if name != "dry_run" && strings.EqualFold(strings.NewReplacer("_", "", "-", "").Replace(name), "dryrun") {
			return false, fmt.Errorf("unknown query parameter '%s': it is 'dry_run'", legible(name))
		}
	}
	value, err := parameter(r, "dry_run")
	if value == "" {
		return false, err
	}
	dryRun, err := strconv.ParseBool(value)
	if err != nil {
		return false, fmt.Errorf("Invalid format for 'dry_run' query parameter; '%s' is not a valid boolean value", legible(value)) //nolint:staticcheck // the contract's message
	}
	return dryRun, nil
}

// parameter is the value of a parameter of the query, empty if it is not given.
// What net/http would pass over is a fault: a run that was meant to be dry must
// not scale.
func parameter(r *http.Request, name string) (string, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	switch {
	case err != nil:
		return "", fmt.Errorf("%s: the query cannot be read: put & between its parameters, and encode what they hold", name)
	case len(query[name]) > 1:
		return "", fmt.Errorf("%s: given twice", name)
	}
	return query.Get(name), nil
}

// statusOf is the status that tells why a trigger was not run, or an intent not
// kept.
func statusOf(err error) int {
	if _, standby := errors.AsType[*autoscaler.StandbyError](err); standby {
		return http.StatusServiceUnavailable
	}
	switch {
	case errors.Is(err, autoscaler.ErrIntent):
		return http.StatusBadRequest
	case errors.Is(err, autoscaler.ErrBusy):
		return http.StatusTooManyRequests
	case errors.Is(err, autoscaler.ErrStopping), errors.Is(err, context.Canceled):
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// prefixes are what the contract puts before the error of a stage.
var prefixes = map[execute.Stage]string{
	execute.StageState:             "failed to recall what was kept",
	execute.StageRead:              "failed to get the managed resource",
	execute.StageKubernetesMetrics: "failed to get required Kubernetes metrics",
	execute.StagePreMetric:         "failed to run pre-metric hook",
	execute.StageMetric:            "failed to gather metrics",
	execute.StagePostMetric:        "failed to run post-metric hook",
	execute.StagePreEvaluate:       "failed run pre-evaluate hook",
	execute.StageEvaluate:          "failed to get evaluation",
	execute.StagePostEvaluate:      "failed run post-evaluate hook",
	execute.StageDecide:            "failed to get the current scale",
	execute.StagePreScale:          "failed run pre-scaling hook",
	execute.StageWrite:             "failed to scale resource",
	execute.StagePostScale:         "failed to run post-scaling hook",
}

// message tells a failure in one line. What a hook wrote to stderr stays in
// the log: the API is open by default.
func message(f autoscaler.Failure) string {
	if f.Subject == "" {
		return prefixes[f.Stage] + ": " + f.Message
	}
	return fmt.Sprintf("%s: %s (pod %s)", prefixes[f.Stage], f.Message, f.Subject)
}

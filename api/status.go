// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/autoscaler"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/live"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/metric"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale/gitops"
)

// status is an autoscaler as it is now.
type status struct {
	ID      string                 `json:"id"`
	Time    time.Time              `json:"time"`
	Version string                 `json:"version"`
	Started time.Time              `json:"started"`
	Target  corev1.ObjectReference `json:"target"`
	// Replicas are of the last decision.
	Replicas    replicas      `json:"replicas"`
	Explanation string        `json:"explanation,omitempty"`
	Metrics     *metrics      `json:"metrics,omitempty"`
	Bounds      bounds.Bounds `json:"bounds"`
	// The intents in force.
	scale.Intents
	Fallback bool               `json:"fallback"`
	Failures int32              `json:"failures"`
	DryRun   bool               `json:"dryRun"`
	Leader   leadership         `json:"leader"`
	LastRun  *autoscaler.Record `json:"lastRun,omitempty"`
	NextRun  time.Time          `json:"nextRun,omitzero"`
	Config   live.Notes         `json:"config"`
	Git      *gitops.Status     `json:"git,omitempty"`
}

// replicas are the counts that are known.
type replicas struct {
	Current   *int32 `json:"current,omitempty"`
	Evaluated *int32 `json:"evaluated,omitempty"`
	Desired   *int32 `json:"desired,omitempty"`
}

// metrics are those gathered last, the first few of them.
type metrics struct {
	Time       time.Time               `json:"time"`
	AgeSeconds float64                 `json:"ageSeconds"`
	Values     []metric.ResourceMetric `json:"values"`
	Total      int                     `json:"total"`
}

// leadership says which of several replicas runs the autoscaler.
type leadership struct {
	Leading  bool   `json:"leading"`
	Identity string `json:"identity,omitempty"`
}

func (h *handler) status(w http.ResponseWriter, r *http.Request) {
	now := h.Autoscaler.Status()
	answer := status{
		ID: now.ID, Time: now.Time, Version: h.Version, Started: h.started, Target: now.Target, Bounds: now.Bounds, Intents: now.Intents,
		Fallback: now.Fallback, Failures: now.Failures, DryRun: now.DryRun, NextRun: now.NextRun,
		Config: h.Settings.Notes(),
		Leader: leadership{Leading: now.Term.Leading(), Identity: now.Term.Leader},
	}
	if now.Decided != nil {
		decision := now.Decided.Decision
		answer.Replicas = replicas{Current: &decision.Current, Evaluated: decision.Evaluated, Desired: &decision.Desired}
		if now.Decided.Written {
			answer.Replicas.Current = &decision.Desired
		}
		answer.Explanation = decision.Explain()
	}
	if g := now.Gathered; g != nil {
		answer.Metrics = &metrics{Time: g.Time, AgeSeconds: now.Time.Sub(g.Time).Seconds(), Values: g.Metrics, Total: g.MetricsTotal}
	}
	if now.Last != nil {
		last := h.shown(r, *now.Last)
		answer.LastRun = &last
	}
	if h.Git != nil {
		git := h.Git.Status()
		answer.Git = &git
	}
	h.write(w, http.StatusOK, answer)
}

// shown is a record as the caller may see it.
func (h *handler) shown(r *http.Request, record autoscaler.Record) autoscaler.Record {
	if h.seesStderr(r) {
		return record
	}
	if record.Failure != nil {
		failure := *record.Failure
		failure.Stderr = ""
		record.Failure = &failure
	}
	skipped := make([]autoscaler.SkippedPod, len(record.SkippedPods))
	for i, pod := range record.SkippedPods {
		skipped[i] = autoscaler.SkippedPod{Name: pod.Name, Error: pod.Error}
	}
	record.SkippedPods = skipped
	return record
}

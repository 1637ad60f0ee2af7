// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"encoding/json"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/autoscaler"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/evaluate"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/metric"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

// Status is what an autoscaler does at a moment, and why.
type Status struct {
	ID      string    `json:"id"`
	Time    time.Time `json:"time"`
	Version string    `json:"version"`
	// Started is when its process began.
	Started time.Time `json:"started"`
	Target  Target    `json:"target"`
	// Replicas are the counts of the last run; nil where one is not known.
	Replicas struct {
		Current   *int32 `json:"current,omitempty"`
		Evaluated *int32 `json:"evaluated,omitempty"`
		Desired   *int32 `json:"desired,omitempty"`
	} `json:"replicas"`
	// Explanation is the last decision in words, empty before one.
	Explanation string `json:"explanation,omitempty"`
	// Metrics are the latest, nil before any.
	Metrics  *Metrics         `json:"metrics,omitempty"`
	Bounds   bounds.Bounds    `json:"bounds"`
	Pause    *scale.Pause     `json:"pause,omitempty"`
	Hold     *scale.Hold      `json:"hold,omitempty"`
	Override *bounds.Override `json:"override,omitempty"`
	// Fallback says that it stands in for the hooks, and Failures how many runs
	// failed in a row.
	Fallback bool `json:"fallback"`
	Failures int  `json:"failures"`
	DryRun   bool `json:"dryRun"`
	// Leader is nil without leader election.
	Leader  *Leader    `json:"leader,omitempty"`
	LastRun *Record    `json:"lastRun,omitempty"`
	NextRun *time.Time `json:"nextRun,omitempty"`
	// Config is what differs from the configuration file, nil if nothing does.
	Config *ConfigStatus `json:"config,omitempty"`
	// Git is nil without gitOps.
	Git *GitStatus `json:"git,omitempty"`
}

// ConfigStatus is what differs from the configuration file.
type ConfigStatus struct {
	// Live are the keys that were changed while it runs.
	Live []string `json:"live,omitempty"`
	// NeedsRestart are those that changed in the file, and count only after a
	// restart.
	NeedsRestart []string `json:"needsRestart,omitempty"`
	// FileError is why the file is not heeded, empty if it is.
	FileError string `json:"fileError,omitempty"`
}

// Target is what is scaled.
type Target struct {
	autoscalingv2.CrossVersionObjectReference
	Namespace string `json:"namespace"`
}

// Metrics are what the metric hook gave.
type Metrics struct {
	Time       time.Time `json:"time"`
	AgeSeconds float64   `json:"ageSeconds"`
	// Values are the first of them, of which there are Total.
	Values []metric.ResourceMetric `json:"values"`
	Total  int                     `json:"total"`
}

// Leader says who leads.
type Leader struct {
	// Leading says that the one who answers does.
	Leading bool `json:"leading"`
	// Identity is who leads, empty if nobody is known to.
	Identity string `json:"identity,omitempty"`
}

// GitStatus is how the writes to a repository get on.
type GitStatus struct {
	Repository     string    `json:"repository"`
	Branch         string    `json:"branch"`
	File           string    `json:"file"`
	Mode           string    `json:"mode"`
	LastCommit     string    `json:"lastCommit,omitempty"`
	LastCommitTime time.Time `json:"lastCommitTime,omitzero"`
	// Commits and Failures are how many there were since the process started.
	Commits  uint64 `json:"commits"`
	Failures uint64 `json:"failures"`
	// Pending is what is to be committed, nil if nothing is.
	Pending *GitPending `json:"pending,omitempty"`
	// Arriving is what was pushed and is not in the cluster yet, nil if nothing is.
	Arriving  *GitArriving `json:"arriving,omitempty"`
	LastError string       `json:"lastError,omitempty"`
	// Diff is what a commit would change, in a dry run.
	Diff string `json:"diff,omitempty"`
}

// GitPending is what is to be committed; what is nil stays as it is.
type GitPending struct {
	From   int32     `json:"from"`
	To     *int32    `json:"to,omitempty"`
	Min    *int32    `json:"minReplicas,omitempty"`
	Max    *int32    `json:"maxReplicas,omitempty"`
	Since  time.Time `json:"since"`
	Reason string    `json:"reason,omitempty"`
	// Due is when it is tried, nil if that is not known.
	Due *time.Time `json:"due,omitempty"`
}

// GitArriving is a count that was pushed.
type GitArriving struct {
	Replicas int32 `json:"replicas"`
	// Live is the count that the target has.
	Live  int32     `json:"live"`
	Since time.Time `json:"since"`
}

// Records is the answer of that name.
type Records struct {
	Records []Record `json:"records"`
}

// Record is the account of one run.
type Record struct {
	Sequence            uint64                  `json:"sequence"`
	ID                  string                  `json:"id"`
	Time                time.Time               `json:"time"`
	Trigger             autoscaler.Trigger      `json:"trigger"`
	Target              corev1.ObjectReference  `json:"target"`
	PodsResourceVersion string                  `json:"podsResourceVersion,omitempty"`
	Bounds              bounds.Bounds           `json:"bounds"`
	DryRun              bool                    `json:"dryRun,omitempty"`
	Current             int32                   `json:"current"`
	Metrics             []metric.ResourceMetric `json:"metrics,omitempty"`
	// MetricsTotal is how many there were; Metrics are the first of them.
	MetricsTotal int                     `json:"metricsTotal,omitempty"`
	SkippedPods  []autoscaler.SkippedPod `json:"skippedPods,omitempty"`
	Evaluation   *evaluate.Evaluation    `json:"evaluation,omitempty"`
	Decision     *scale.Decision         `json:"decision,omitempty"`
	// Explanation is the decision in words.
	Explanation string `json:"explanation,omitempty"`
	Written     bool   `json:"written"`
	// Deferred is why the change waits, empty if it does not.
	Deferred string              `json:"deferred,omitempty"`
	Failure  *autoscaler.Failure `json:"failure,omitempty"`
	// DurationSeconds are by stage, TookSeconds is the whole run.
	DurationSeconds map[string]float64 `json:"durationSeconds"`
	TookSeconds     float64            `json:"tookSeconds"`
}

// Scale asks for a manual hold.
type Scale struct {
	Replicas int32 `json:"replicas"`
	// Duration is how long, more than 0 and at most 8760 hours.
	Duration Duration `json:"duration"`
	Reason   string   `json:"reason,omitempty"`
	// DryRun only asks what would come of it.
	DryRun bool `json:"dryRun,omitempty"`
	// Resource and Namespace are the target's, for those who would make sure.
	Resource  string `json:"resource,omitempty"`
	Namespace string `json:"namespace,omitempty"`
}

// Held is what comes of it.
type Held struct {
	Hold        scale.Hold     `json:"hold"`
	Decision    scale.Decision `json:"decision"`
	Explanation string         `json:"explanation"`
	Bounds      bounds.Bounds  `json:"bounds"`
	DryRun      bool           `json:"dryRun"`
}

type holding struct {
	Hold *scale.Hold `json:"hold"`
}

type pausing struct {
	Pause *scale.Pause `json:"pause"`
}

// SetOverride asks for an override of one bound or both, until ExpiresAt, for
// Duration, or for ever.
type SetOverride struct {
	MinReplicas *int32    `json:"minReplicas,omitempty"`
	MaxReplicas *int32    `json:"maxReplicas,omitempty"`
	ExpiresAt   time.Time `json:"expiresAt,omitzero"`
	Duration    Duration  `json:"duration,omitzero"`
	Reason      string    `json:"reason,omitempty"`
}

// Overridden is the override in force, nil if there is none, and the bounds.
type Overridden struct {
	Override *bounds.Override `json:"override"`
	Bounds   bounds.Bounds    `json:"bounds"`
}

// Duration is written as text, such as 1h30m0s.
type Duration time.Duration

// MarshalText writes it.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads it.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = Duration(parsed)
	return err
}

// ConfigView is the configuration in force.
type ConfigView struct {
	// Config has every key, as in the configuration file.
	Config map[string]json.RawMessage `json:"config"`
	// Sources say where each key comes from.
	Sources map[string]string `json:"sources"`
	// Live are the keys that can be changed.
	Live []string `json:"live"`
	// Lasts is how long such a change does, in words.
	Lasts string `json:"lasts"`
	// ETag says which configuration it is, for ChangeConfig.
	ETag string `json:"-"`
}

// ConfigChange is what changed.
type ConfigChange struct {
	Changed map[string]Change `json:"changed"`
	Lasts   string            `json:"lasts"`
	ETag    string            `json:"etag"`
}

// Change is a key's value before and after.
type Change struct {
	Before json.RawMessage `json:"before"`
	After  json.RawMessage `json:"after"`
}

// GitUpdate asks for a commit of one file.
type GitUpdate struct {
	FilePath      string `json:"file_path"`
	NewContent    string `json:"new_content"`
	CommitMessage string `json:"commit_message"`
}

// GitUpdated is what became of it: Status is "success" or "unchanged".
type GitUpdated struct {
	Status    string `json:"status"`
	CommitOID string `json:"commit_oid"`
}

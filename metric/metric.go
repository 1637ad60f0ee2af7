// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Package metric gathers the values that an evaluation is made from: those the
// user's hook prints (Gatherer) and those Kubernetes knows (Kubernetes).
package metric

import "github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"

// ResourceMetric is a value gathered for one resource: a pod in the run mode
// per-pod, the target in per-resource.
type ResourceMetric struct {
	// Resource is its name.
	Resource string `json:"resource,omitempty"`
	// Value is what the metric hook printed, untrimmed.
	Value string `json:"value,omitempty"`
}

// Info is the payload of the stages preMetric, metric and postMetric.
type Info struct {
	// Metrics are those gathered; only postMetric gets them.
	Metrics []ResourceMetric `json:"metrics,omitempty"`
	// Resource is the whole target, or the whole pod in the stage metric of
	// the run mode per-pod.
	Resource execute.Resource `json:"resource"`
	// RunType says who asked for the run.
	RunType execute.RunType `json:"runType"`
	// KubernetesMetrics are those of the configuration's
	// kubernetesMetricSpecs that could be gathered.
	KubernetesMetrics []KubernetesMetric `json:"kubernetesMetrics,omitempty"`
}

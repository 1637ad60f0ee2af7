// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package metric

import (
	"context"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
)

// Gather runs the hooks preMetric, metric and postMetric. In the run mode
// per-pod the metrics are in the order of the snapshot's pods, one for each,
// and nil if there are none; in per-resource there is one, of the target. The
// first hook that fails ends it; the error is its *execute.Error.
func Gather(ctx context.Context, run *execute.Run, mode config.RunMode, snapshot resource.Snapshot, kubernetes []KubernetesMetric,
) ([]ResourceMetric, error) {
	info := Info{Resource: snapshot.Target, RunType: run.Type, KubernetesMetrics: kubernetes}
	if _, err := run.Ask(ctx, execute.StagePreMetric, "", info); err != nil {
		return nil, err
	}
	metrics, err := ask(ctx, run, mode, snapshot, info)
	if err != nil {
		return nil, err
	}
	info.Metrics = metrics
	if _, err := run.Ask(ctx, execute.StagePostMetric, "", info); err != nil {
		return nil, err
	}
	return metrics, nil
}

// ask runs the metric hook for each pod, or once for the target.
func ask(ctx context.Context, run *execute.Run, mode config.RunMode, snapshot resource.Snapshot, info Info) ([]ResourceMetric, error) {
	if mode == config.PerResource {
		value, err := run.Ask(ctx, execute.StageMetric, "", info)
		if err != nil {
			return nil, err
		}
		return []ResourceMetric{{Resource: snapshot.Target.GetName(), Value: string(value)}}, nil
	}
	var metrics []ResourceMetric
	for i := range snapshot.Pods {
		pod := &snapshot.Pods[i]
		info.Resource = pod
		value, err := run.Ask(ctx, execute.StageMetric, pod.Name, info)
		if err != nil {
			return nil, err
		}
		metrics = append(metrics, ResourceMetric{Resource: pod.Name, Value: string(value)})
	}
	return metrics, nil
}

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
	info := Info{RunType: run.Type, KubernetesMetrics: kubernetes}
	question := execute.Question{Resource: snapshot.Target.JSON, Rest: info}
	if _, err := run.Ask(ctx, execute.StagePreMetric, question); err != nil {
		return nil, err
	}
	metrics, err := ask(ctx, run, mode, snapshot, info)
	if err != nil {
		return nil, err
	}
	info.Metrics = metrics
	question.Rest = info
	if _, err := run.Ask(ctx, execute.StagePostMetric, question); err != nil {
		return nil, err
	}
	return metrics, nil
}

// ask runs the metric hook for each pod, or once for the target.
func ask(ctx context.Context, run *execute.Run, mode config.RunMode, snapshot resource.Snapshot, info Info) ([]ResourceMetric, error) {
	if mode == config.PerResource {
		value, err := run.Ask(ctx, execute.StageMetric, execute.Question{Resource: snapshot.Target.JSON, Rest: info})
		if err != nil {
			return nil, err
		}
		return []ResourceMetric{{Resource: snapshot.Target.Name, Value: string(value)}}, nil
	}
	var metrics []ResourceMetric
	for _, pod := range snapshot.Pods {
		value, err := run.Ask(ctx, execute.StageMetric, execute.Question{Subject: pod.Name, Resource: pod.JSON, Rest: info})
		if err != nil {
			return nil, err
		}
		metrics = append(metrics, ResourceMetric{Resource: pod.Name, Value: string(value)})
	}
	return metrics, nil
}

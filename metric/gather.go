// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package metric

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
)

// Gathered is what the metric hook said.
type Gathered struct {
	// Metrics are in the order of the snapshot's pods, one for each that was
	// not skipped, in the run mode per-pod, and nil if there are no pods; in
	// per-resource there is one, of the target.
	Metrics []ResourceMetric
	// Skipped are the failures of the pods that were left out, in that order.
	Skipped []*execute.Error
}

// Gather runs the hooks preMetric, metric and postMetric of a valid
// configuration. The first that fails ends it, unless it is that of a pod which
// may be skipped; the error is its *execute.Error.
func Gather(ctx context.Context, run *execute.Run, c *config.Autoscaler, snapshot resource.Snapshot, kubernetes []KubernetesMetric,
) (Gathered, error) {
	info := Info{RunType: run.Type, KubernetesMetrics: kubernetes}
	if _, err := run.Tell(ctx, execute.StagePreMetric, snapshot.Target.JSON, info); err != nil {
		return Gathered{}, err
	}
	gathered, err := ask(ctx, run, c, snapshot, info)
	if err != nil {
		return Gathered{}, err
	}
	info.Metrics = gathered.Metrics
	_, err = run.Tell(ctx, execute.StagePostMetric, snapshot.Target.JSON, info)
	return gathered, err
}

// ask runs the metric hook for each pod, or once for the target.
func ask(ctx context.Context, run *execute.Run, c *config.Autoscaler, snapshot resource.Snapshot, info Info) (Gathered, error) {
	if c.RunMode == config.PerResource {
		value, err := run.Tell(ctx, execute.StageMetric, snapshot.Target.JSON, info)
		return Gathered{Metrics: []ResourceMetric{{Resource: snapshot.Target.Name, Value: string(value)}}}, err
	}
	if len(snapshot.Pods) == 0 {
		return Gathered{}, nil
	}
	frame, err := execute.NewFrame(info)
	if err != nil {
		return Gathered{}, fmt.Errorf("encoding the payload: %w", err)
	}
	return askPods(ctx, run, c, snapshot.Pods, frame)
}

// answer is a pod's.
type answer struct {
	value []byte
	fault *execute.Error
}

// askPods runs the metric hook for several pods at once. The first that fails
// ends the others, unless it may be skipped.
func askPods(ctx context.Context, run *execute.Run, c *config.Autoscaler, pods []*resource.Pod, frame execute.Frame) (Gathered, error) {
	limited, cancel := withDeadline(ctx, c, len(pods))
	defer cancel()
	group, asking := errgroup.WithContext(limited)
	group.SetLimit(c.Concurrency())
	answers := make([]answer, len(pods))
	for i, pod := range pods {
		group.Go(func() error {
			if c.OnPodFailure == config.PodFailureFail && asking.Err() != nil {
				return context.Cause(asking)
			}
			value, err := run.Ask(asking, execute.StageMetric, execute.Question{Subject: pod.Name, Frame: frame, Resource: pod.JSON})
			if fault, ok := errors.AsType[*execute.Error](err); ok && c.OnPodFailure == config.PodFailureSkip && ctx.Err() == nil {
				answers[i].fault = fault
				return nil
			}
			answers[i].value = value
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return Gathered{}, err
	}
	return collect(pods, answers)
}

// withDeadline bounds asking so many pods: by the timeout of one call times the
// rounds it takes, and as long again, at least a second, so that it is a call's
// own timeout that is told of, and a worker can be asked once more.
func withDeadline(ctx context.Context, c *config.Autoscaler, pods int) (context.Context, context.CancelFunc) {
	rounds := (pods + c.Concurrency() - 1) / c.Concurrency()
	timeout := c.Metric.Timeout.Duration()
	if timeout > math.MaxInt64/time.Duration(rounds+2) {
		return context.WithCancel(ctx)
	}
	deadline := timeout*time.Duration(rounds) + max(timeout, time.Second)
	why := fmt.Errorf("asking %d pods, %d at once, may take %s", pods, c.Concurrency(), deadline)
	return context.WithTimeoutCause(ctx, deadline, why)
}

// collect puts the answers into the order of the pods. When there is none at
// all, it fails as the first pod did: an evaluation would take that for a target
// without pods.
func collect(pods []*resource.Pod, answers []answer) (Gathered, error) {
	var gathered Gathered
	for i, answer := range answers {
		if answer.fault != nil {
			gathered.Skipped = append(gathered.Skipped, answer.fault)
			continue
		}
		gathered.Metrics = append(gathered.Metrics, ResourceMetric{Resource: pods[i].Name, Value: string(answer.value)})
	}
	if len(gathered.Metrics) == 0 {
		fault := *gathered.Skipped[0]
		if len(pods) > 1 {
			fault.Message = fmt.Sprintf("the hook failed for all %d pods; for this one: %s", len(pods), fault.Message)
		}
		return Gathered{}, &fault
	}
	return gathered, nil
}

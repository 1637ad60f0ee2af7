// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"context"

	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/evaluate"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
)

// Info is the payload of the stages preScale and postScale.
type Info struct {
	// Evaluation holds the count that is desired, after every constraint.
	Evaluation evaluate.Evaluation `json:"evaluation"`
	// Resource is the whole target, as it was at the start of the run.
	Resource execute.Resource `json:"resource"`
	// ScaleTargetRef and Namespace say where it is.
	ScaleTargetRef autoscalingv2.CrossVersionObjectReference `json:"scaleTargetRef"`
	Namespace      string                                    `json:"namespace"`
	// MinReplicas and MaxReplicas are the bounds in force.
	MinReplicas int32 `json:"minReplicas"`
	MaxReplicas int32 `json:"maxReplicas"`
	// TargetReplicas is the count as the evaluate hook gave it; the desired one
	// if it gave none.
	TargetReplicas int32 `json:"targetReplicas"`
	// RunType says who asked for the run.
	RunType execute.RunType `json:"runType"`
}

// Tell runs a scale hook, preScale or postScale, for a decision about the
// target. Info gives what does not depend on the decision.
func Tell(ctx context.Context, run *execute.Run, stage execute.Stage, target *resource.Object, info Info, decision Decision) error {
	info.Evaluation.TargetReplicas = decision.Desired
	info.TargetReplicas = decision.Desired
	if decision.Evaluated != nil {
		info.TargetReplicas = *decision.Evaluated
	}
	info.RunType = run.Type
	_, err := run.Tell(ctx, stage, target.JSON, info)
	return err
}

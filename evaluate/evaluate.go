// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Package evaluate asks the user's logic how many replicas are wanted.
package evaluate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/metric"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
)

// Evaluation is the answer of the evaluate hook.
type Evaluation struct {
	// TargetReplicas is the count the hook asks for, before any limit.
	TargetReplicas int32 `json:"targetReplicas"`
	// Reason is why, in the hook's own words; empty if it gave none.
	Reason string `json:"reason,omitempty"`
	// Active says whether there is work at all, for those who scale to and
	// from zero on that; nil if the hook did not say.
	Active *bool `json:"active,omitempty"`
}

// Info is the payload of the stages preEvaluate, evaluate and postEvaluate.
type Info struct {
	// Metrics are those gathered, null when the target has no pods.
	Metrics []metric.ResourceMetric `json:"metrics"`
	// Resource is the whole target.
	Resource execute.Resource `json:"resource"`
	// Evaluation is the hook's answer; only postEvaluate gets it.
	Evaluation *Evaluation `json:"evaluation,omitempty"`
	// RunType says who asked for the run.
	RunType execute.RunType `json:"runType"`
}

// Evaluate runs the hooks preEvaluate, evaluate and postEvaluate. The first
// that fails, or an answer that is no evaluation, ends it; the error is an
// *execute.Error.
func Evaluate(ctx context.Context, run *execute.Run, snapshot resource.Snapshot, metrics []metric.ResourceMetric) (Evaluation, error) {
	info := Info{Metrics: metrics, RunType: run.Type}
	if _, err := run.Tell(ctx, execute.StagePreEvaluate, snapshot.Target.JSON, info); err != nil {
		return Evaluation{}, err
	}
	output, err := run.Tell(ctx, execute.StageEvaluate, snapshot.Target.JSON, info)
	if err != nil {
		return Evaluation{}, err
	}
	evaluation, err := Parse(output)
	if err != nil {
		return Evaluation{}, &execute.Error{Kind: execute.KindAnswer, Stage: execute.StageEvaluate, Message: err.Error(), Err: err}
	}
	// Hooks are told the count alone, as ever.
	info.Evaluation = &Evaluation{TargetReplicas: evaluation.TargetReplicas}
	if _, err := run.Tell(ctx, execute.StagePostEvaluate, snapshot.Target.JSON, info); err != nil {
		return Evaluation{}, err
	}
	return evaluation, nil
}

// Parse reads what an evaluate hook printed: a JSON object with a whole 32-bit
// number `targetReplicas`, whose case does not matter. White space around it
// and other fields are fine. Nothing is guessed: an object without the number
// is an error, because reading it as 0 would scale down on a hook's mistake.
// `reason` counts when it is text and `active` when it is a truth value: hooks
// from before these had a meaning may print something else there.
func Parse(output []byte) (Evaluation, error) {
	var answer struct {
		TargetReplicas *int32          `json:"targetReplicas"`
		Reason         json.RawMessage `json:"reason"`
		Active         json.RawMessage `json:"active"`
	}
	if len(bytes.TrimSpace(output)) == 0 {
		return Evaluation{}, errors.New("failed to parse JSON evaluation: nothing was printed")
	}
	if err := json.Unmarshal(output, &answer); err != nil {
		return Evaluation{}, fmt.Errorf("failed to parse JSON evaluation, got %s: %w", shorten(output), explain(err))
	}
	if answer.TargetReplicas == nil {
		return Evaluation{}, fmt.Errorf("failed to parse JSON evaluation, got %s: it has no number `targetReplicas`, as in "+
			`{"targetReplicas": 3}`, shorten(output))
	}
	evaluation := Evaluation{TargetReplicas: *answer.TargetReplicas}
	var reason string
	if json.Unmarshal(answer.Reason, &reason) == nil {
		evaluation.Reason = oneLine(reason)
	}
	var active *bool
	if json.Unmarshal(answer.Active, &active) == nil {
		evaluation.Active = active
	}
	return evaluation, nil
}

// maxReason is how much of a reason is kept, in bytes.
const maxReason = 256

// oneLine makes text fit for a log line and an Event.
func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "") + "..."
	}
	return text
}

// explain says what is wrong in the words of the hook's author, not of Go.
func explain(err error) error {
	var wrongType *json.UnmarshalTypeError
	if !errors.As(err, &wrongType) {
		return fmt.Errorf(`%w; print an object such as {"targetReplicas": 3} and nothing else`, err)
	}
	if wrongType.Field == "" {
		return fmt.Errorf(`a JSON %s is not an evaluation; print an object such as {"targetReplicas": 3}`, wrongType.Value)
	}
	return fmt.Errorf("`targetReplicas` must be a whole number from -2147483648 to 2147483647, not a %s", wrongType.Value)
}

// shownOutput is how much of an unusable answer an error shows, in bytes.
const shownOutput = 256

func shorten(output []byte) string {
	text := strings.ToValidUTF8(string(output[:min(len(output), shownOutput)]), "\uFFFD")
	if len(output) > shownOutput {
		return fmt.Sprintf("'%s...' (%d bytes)", text, len(output))
	}
	return "'" + text + "'"
}

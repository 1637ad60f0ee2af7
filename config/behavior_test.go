// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

func pods(value, period int32) autoscalingv2.HPAScalingPolicy {
	return autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: value, PeriodSeconds: period}
}

func percent(value, period int32) autoscalingv2.HPAScalingPolicy {
	return autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: value, PeriodSeconds: period}
}

// The defaults are those of autoscaling/v2, each field by itself.
func TestLoadCompletesBehavior(t *testing.T) {
	type behavior = autoscalingv2.HorizontalPodAutoscalerBehavior
	tests := map[string]struct {
		file string
		// change is what differs from the defaults.
		change func(*behavior)
	}{
		"an empty block":     {file: "behavior: {}"},
		"empty directions":   {file: "behavior: {scaleUp: {}, scaleDown: {}}"},
		"unset values":       {file: "behavior: {scaleUp: null, scaleDown: {policies: null, selectPolicy: null, stabilizationWindowSeconds: null}}"},
		"an unset flag":      {file: "downscaleStabilization:\nbehavior: {}"},
		"a window for up":    {file: "behavior: {scaleUp: {stabilizationWindowSeconds: 3600}}", change: func(b *behavior) { *b.ScaleUp.StabilizationWindowSeconds = 3600 }},
		"no window for down": {file: "behavior: {scaleDown: {stabilizationWindowSeconds: 0}}", change: func(b *behavior) { *b.ScaleDown.StabilizationWindowSeconds = 0 }},
		"policies replace all of the default's": {
			file:   "behavior: {scaleUp: {policies: [{type: Percent, value: 10, periodSeconds: 60}]}}",
			change: func(b *behavior) { b.ScaleUp.Policies = []autoscalingv2.HPAScalingPolicy{percent(10, 60)} },
		},
		"policies of the other direction": {
			file:   "behavior: {scaleDown: {policies: [{type: Pods, value: 1, periodSeconds: 60}]}}",
			change: func(b *behavior) { b.ScaleDown.Policies = []autoscalingv2.HPAScalingPolicy{pods(1, 60)} },
		},
		"another choice": {
			file: "behavior: {scaleUp: {selectPolicy: Min}, scaleDown: {selectPolicy: Disabled}}",
			change: func(b *behavior) {
				*b.ScaleUp.SelectPolicy, *b.ScaleDown.SelectPolicy = autoscalingv2.MinChangePolicySelect, autoscalingv2.DisabledPolicySelect
			},
		},
		"a tolerance of one direction": {
			file:   "behavior: {scaleDown: {tolerance: 0.1}}",
			change: func(b *behavior) { b.ScaleDown.Tolerance = new(resource.MustParse("0.1")) },
		},
		"the flag's window": {
			file:   "downscaleStabilization: 60\nbehavior: {}",
			change: func(b *behavior) { *b.ScaleDown.StabilizationWindowSeconds = 60 },
		},
		"the flag's longest window": {
			file:   "downscaleStabilization: 3600\nbehavior: {scaleUp: {}}",
			change: func(b *behavior) { *b.ScaleDown.StabilizationWindowSeconds = 3600 },
		},
		"the flag's window of 0": {
			file:   "downscaleStabilization: 0\nbehavior: {}",
			change: func(b *behavior) { *b.ScaleDown.StabilizationWindowSeconds = 0 },
		},
		"its own window, whatever the flag": {
			file:   "downscaleStabilization: 86400\nbehavior: {scaleDown: {stabilizationWindowSeconds: 120}}",
			change: func(b *behavior) { *b.ScaleDown.StabilizationWindowSeconds = 120 },
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			want := &behavior{
				ScaleUp: &autoscalingv2.HPAScalingRules{
					StabilizationWindowSeconds: new(int32(0)),
					SelectPolicy:               new(autoscalingv2.MaxChangePolicySelect),
					Policies:                   []autoscalingv2.HPAScalingPolicy{pods(4, 15), percent(100, 15)},
				},
				ScaleDown: &autoscalingv2.HPAScalingRules{
					StabilizationWindowSeconds: new(int32(300)),
					SelectPolicy:               new(autoscalingv2.MaxChangePolicySelect),
					Policies:                   []autoscalingv2.HPAScalingPolicy{percent(100, 15)},
				},
			}
			if test.change != nil {
				test.change(want)
			}
			loaded, err := load(t, required+test.file, nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, loaded.Config.Behavior); diff != "" {
				t.Errorf("unexpected behavior (-want +got):\n%s", diff)
			}
			if len(loaded.Warnings) > 0 {
				t.Errorf("unexpected warnings: %q", loaded.Warnings)
			}
		})
	}
}

func TestLoadLeavesBehaviorUnset(t *testing.T) {
	for _, file := range []string{"", "behavior:", "downscaleStabilization: 86400"} {
		loaded, err := load(t, required+file, nil)
		if err != nil || loaded.Config.Behavior != nil {
			t.Errorf("%q: got %v and the error %v, want no behavior", file, loaded.Config.Behavior, err)
		}
	}
}

func TestValidateBehavior(t *testing.T) {
	const atLeastOne = "must hold at least one policy: leave the key out for the default, or set selectPolicy to Disabled not to scale this way"
	tests := map[string]struct {
		file string
		want []string
	}{
		"the longest of everything": {
			file: "behavior: {scaleDown: {stabilizationWindowSeconds: 3600, policies: [{type: Pods, value: 2147483647, periodSeconds: 1800}]}}",
		},
		"the smallest of everything": {
			file: "behavior: {scaleUp: {stabilizationWindowSeconds: 0, tolerance: 0, policies: [{type: Percent, value: 1, periodSeconds: 1}]}}",
		},
		"windows out of range": {
			file: "behavior: {scaleUp: {stabilizationWindowSeconds: -1}, scaleDown: {stabilizationWindowSeconds: 3601}}",
			want: []string{
				"behavior.scaleDown.stabilizationWindowSeconds: must be from 0 to 3600, got 3601",
				"behavior.scaleUp.stabilizationWindowSeconds: must be from 0 to 3600, got -1",
			},
		},
		"the flag is too long for a window": {
			file: "downscaleStabilization: 3601\nbehavior: {scaleDown: {selectPolicy: Min}}",
			want: []string{
				"downscaleStabilization: must be at most 3600 where behavior.scaleDown.stabilizationWindowSeconds is not set, got 3601: " +
					"set that, or lower this",
			},
		},
		"the flag is below 0": {
			file: "downscaleStabilization: -1\nbehavior: {}",
			want: []string{"downscaleStabilization: must be at least 0, got -1"},
		},
		"choices that are none": {
			file: `behavior: {scaleUp: {selectPolicy: max}, scaleDown: {selectPolicy: ""}}`,
			want: []string{
				`behavior.scaleDown.selectPolicy: is required: "Max", "Min" or "Disabled"`,
				`behavior.scaleUp.selectPolicy: must be "Max", "Min" or "Disabled", got "max"`,
			},
		},
		"tolerances below 0": {
			file: "behavior: {scaleUp: {tolerance: -0.1}, scaleDown: {tolerance: -1m}}",
			want: []string{
				"behavior.scaleDown.tolerance: must be at least 0, such as 0.1 for a tenth, got -0.001",
				"behavior.scaleUp.tolerance: must be at least 0, such as 0.1 for a tenth, got -0.1",
			},
		},
		"no policies": {
			file: "behavior: {scaleUp: {policies: []}, scaleDown: {policies: []}}",
			want: []string{"behavior.scaleDown.policies: " + atLeastOne, "behavior.scaleUp.policies: " + atLeastOne},
		},
		"an empty policy": {
			file: "behavior: {scaleUp: {policies: [{}]}}",
			want: []string{
				"behavior.scaleUp.policies[0].periodSeconds: must be from 1 to 1800, got 0",
				`behavior.scaleUp.policies[0].type: is required: "Pods" or "Percent"`,
				"behavior.scaleUp.policies[0].value: must be from 1 to 2147483647, got 0",
			},
		},
		"a policy out of range": {
			file: "behavior: {scaleDown: {policies: [{type: Pods, value: 1, periodSeconds: 1}, {type: Replicas, value: -1, periodSeconds: 1801}]}}",
			want: []string{
				"behavior.scaleDown.policies[1].periodSeconds: must be from 1 to 1800, got 1801",
				`behavior.scaleDown.policies[1].type: must be "Pods" or "Percent", got "Replicas"`,
				"behavior.scaleDown.policies[1].value: must be from 1 to 2147483647, got -1",
			},
		},
		"the most policies": {file: "behavior: {scaleUp: {policies: [" + strings.Repeat("{type: Pods, value: 1, periodSeconds: 1},", 100) + "]}}"},
		"too many policies": {
			file: "behavior: {scaleUp: {policies: [" + strings.Repeat("{},", 101) + "]}}",
			want: []string{"behavior.scaleUp.policies: must hold at most 100 elements, got 101"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, required+test.file, nil)
			wantFaults(t, err, test.want)
		})
	}
}

// What Load would complete is not at fault before.
func TestValidateTakesAnIncompleteBehavior(t *testing.T) {
	for _, behavior := range []autoscalingv2.HorizontalPodAutoscalerBehavior{
		{},
		{ScaleUp: &autoscalingv2.HPAScalingRules{}, ScaleDown: &autoscalingv2.HPAScalingRules{}},
	} {
		wantFaults(t, with(func(c *config.Config) { c.Behavior = &behavior }).Validate(), nil)
	}
}

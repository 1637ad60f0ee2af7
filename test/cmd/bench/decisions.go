// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math/rand/v2"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/evaluate"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

// decision is what a decision costs.
type decision struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
	// Nanoseconds are the mean of one, ScalePercent is how many scaled.
	Nanoseconds  int64 `json:"nanoseconds"`
	ScalePercent int   `json:"scalePercent"`
}

// measureDecisions measures deciding alone, in this process: no hook, no API
// server.
func measureDecisions(count int) []decision {
	measure := func(name string, c config.Autoscaler) decision {
		took, scaled := decide(c, count)
		return decision{Name: name, Count: count, Nanoseconds: took.Nanoseconds() / int64(count), ScalePercent: 100 * scaled / count}
	}
	return []decision{
		measure("a decision with a window", config.Autoscaler{DownscaleStabilization: new(config.Seconds(300))}),
		measure("a decision with behavior", config.Autoscaler{Behavior: slow()}),
	}
}

// slow is a behavior with both windows, and two policies each way.
func slow() *autoscalingv2.HorizontalPodAutoscalerBehavior {
	rules := func(window, pods, percent int32) *autoscalingv2.HPAScalingRules {
		return &autoscalingv2.HPAScalingRules{
			StabilizationWindowSeconds: &window,
			SelectPolicy:               new(autoscalingv2.MaxChangePolicySelect),
			Policies: []autoscalingv2.HPAScalingPolicy{
				{Type: autoscalingv2.PodsScalingPolicy, Value: pods, PeriodSeconds: 60},
				{Type: autoscalingv2.PercentScalingPolicy, Value: percent, PeriodSeconds: 600},
			},
		}
	}
	return &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: rules(45, 4, 100), ScaleDown: rules(120, 2, 50)}
}

// decide follows a load that wanders, and does what it decides. It returns how
// long that took, and how many of the decisions scaled.
func decide(c config.Autoscaler, decisions int) (took time.Duration, scaled int) {
	rules, history := scale.NewRules(c), scale.NewHistory(c)
	s := scale.Situation{
		Now: time.Now(), Current: 20, History: history,
		Bounds: bounds.Bounds{Min: bounds.Limit{Replicas: 1}, Max: bounds.Limit{Replicas: 100}, BaseMin: 1},
	}
	load, random := int32(20), rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a load, not a secret
	start := time.Now()
	for range decisions {
		load = min(max(load+random.Int32N(13)-6, 0), 110)
		s.Now = s.Now.Add(15 * time.Second)
		s.Evaluation = &evaluate.Evaluation{TargetReplicas: load}
		history.Prepare(s)
		d := rules.Decide(s)
		_ = d.Explain()
		history.Record(s.Now, d)
		if d.Desired != s.Current {
			scaled++
			s.Kept.Begin(scale.Write{At: s.Now, From: s.Current, To: d.Desired})
			rules.Acknowledge(&s.Kept, s.Now)
			s.Current = d.Desired
		}
	}
	return time.Since(start), scaled
}

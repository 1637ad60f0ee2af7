// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/autoscaler"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/evaluate"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/metric"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

// settled is an autoscaler that has run.
type settled struct {
	unasked
	status autoscaler.Status
}

func (s settled) Status() autoscaler.Status { return s.status }

// afterRun is the status after a run with so many metrics.
func afterRun(metrics int) autoscaler.Status {
	now := time.Now()
	limits := bounds.Bounds{Min: bounds.Limit{Replicas: 1}, Max: bounds.Limit{Replicas: 10}}
	target := corev1.ObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: "web", ResourceVersion: "123456"}
	record := autoscaler.Record{
		Sequence: 17, ID: "shop/deployment/web", Time: now, Target: target, Bounds: limits, Current: 3,
		Trigger:    autoscaler.Trigger{Kind: autoscaler.KindInterval, RunType: execute.RunScaler, Through: autoscaler.ThroughScale},
		Evaluation: &evaluate.Evaluation{TargetReplicas: 14},
		Decision: &scale.Decision{
			Current: 3, Evaluated: new(int32(14)), Desired: 10, Direction: scale.DirectionUp,
			Constraints: []scale.Constraint{{Name: scale.ConstraintMax, From: 14, To: 10, Detail: "maxReplicas is 10"}},
		},
		Written:      true,
		Durations:    map[execute.Stage]time.Duration{execute.StageMetric: time.Millisecond, execute.StageEvaluate: time.Millisecond},
		Duration:     3 * time.Millisecond,
		MetricsTotal: metrics,
	}
	for range metrics {
		record.Metrics = append(record.Metrics, metric.ResourceMetric{Resource: "web-5d4f8c7b9-x2x4z", Value: "5\n"})
	}
	record = record.Compact()
	return autoscaler.Status{
		ID: record.ID, Time: now, Target: target, Bounds: limits, Last: &record, Decided: &record, Gathered: &record, NextRun: now.Add(time.Second),
	}
}

// The whole way through the port, without limits and without a network.
func BenchmarkStatus(b *testing.B) {
	for _, test := range []struct {
		name    string
		metrics int
	}{{"per-resource", 1}, {"per-pod", 1000}} {
		b.Run(test.name, func(b *testing.B) {
			c := config.API{RateLimit: config.RateLimit{PerCaller: new(0), Total: new(0)}}
			handler := newHandler(c, backend(b, settled{status: afterRun(test.metrics)}), authenticate(b, c), nil)
			r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/api/v1/status", nil)
			b.ReportAllocs()
			for b.Loop() {
				r.Header.Del(requestID)
				answer := httptest.NewRecorder()
				handler.ServeHTTP(answer, r)
				if answer.Code != http.StatusOK || !strings.Contains(answer.Body.String(), "maxReplicas is 10") {
					b.Fatalf("%d: %s", answer.Code, answer.Body)
				}
				b.ReportMetric(float64(answer.Body.Len()), "B/answer")
			}
		})
	}
}

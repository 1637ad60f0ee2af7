// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package autoscaler

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/evaluate"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/metric"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

var now = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

var scheduled = Trigger{RunType: execute.RunScaler, Through: ThroughScale}

// wants are hooks that gather "5" and want the count.
func wants(evaluation string) execute.Hooks {
	return execute.Hooks{execute.StageMetric: prints("5"), execute.StageEvaluate: prints(evaluation)}
}

func TestTick(t *testing.T) {
	for _, test := range []struct {
		name    string
		world   *world
		config  func(*config.Autoscaler)
		hooks   execute.Hooks
		trigger Trigger
		want    Record
		writes  []string
	}{
		{
			name: "scales", world: newWorld(2, "a"), hooks: wants(`{"targetReplicas": 4}`), trigger: scheduled,
			want: Record{
				Current: 2, Metrics: []metric.ResourceMetric{{Resource: "a", Value: "5"}},
				Evaluation: &evaluate.Evaluation{TargetReplicas: 4},
				Decision:   &scale.Decision{Direction: scale.DirectionUp, Current: 2, Evaluated: new(int32(4)), Desired: 4}, Written: true,
			},
			writes: []string{"2->4"},
		},
		{
			name: "writes nothing when nothing changes", world: newWorld(4), hooks: wants(`{"targetReplicas": 4}`), trigger: scheduled,
			want: Record{
				Current: 4, Evaluation: &evaluate.Evaluation{TargetReplicas: 4},
				Decision: &scale.Decision{Direction: scale.DirectionNone, Current: 4, Evaluated: new(int32(4)), Desired: 4},
			},
		},
		{
			name: "gathers metrics only", world: newWorld(2, "a", "b"), hooks: wants(`{"targetReplicas": 4}`),
			trigger: Trigger{RunType: execute.RunAPI, Through: ThroughMetrics},
			want: Record{
				Current: 2, Metrics: []metric.ResourceMetric{{Resource: "a", Value: "5"}, {Resource: "b", Value: "5"}},
			},
		},
		{
			name: "a dry run writes nothing", world: newWorld(2), hooks: wants(`{"targetReplicas": 14}`),
			trigger: Trigger{RunType: execute.RunAPIDryRun, Through: ThroughScale, DryRun: true},
			want: Record{
				Current: 2, Evaluation: &evaluate.Evaluation{TargetReplicas: 14},
				Decision: &scale.Decision{Direction: scale.DirectionUp, Current: 2, Evaluated: new(int32(14)), Desired: 10, Constraints: []scale.Constraint{
					{Name: scale.ConstraintMax, From: 14, To: 10, Detail: "maxReplicas is 10"},
				}},
			},
		},
		{
			name: "the evaluation is broken", world: newWorld(2), hooks: wants(`{}`), trigger: scheduled,
			want: Record{Current: 2, Decision: held(2), Failure: &Failure{
				Stage: execute.StageEvaluate, Kind: execute.KindAnswer,
				Message: "failed to parse JSON evaluation, got '{}': it has no number `targetReplicas`, as in {\"targetReplicas\": 3}",
			}},
		},
		{
			name: "a pod's metric fails", world: newWorld(2, "a", "b"),
			hooks: execute.Hooks{
				execute.StageMetric: hook(func(_ context.Context, call execute.Call) (string, error) {
					if call.Subject == "b" {
						return "", errBroken
					}
					return "5", nil
				}),
				execute.StageEvaluate: prints(`{"targetReplicas": 4}`),
			},
			trigger: scheduled,
			want: Record{Current: 2, Decision: held(2), Failure: &Failure{
				Stage: execute.StageMetric, Subject: "b", Kind: execute.KindExit, Message: "exit status 4",
			}},
		},
		{
			name: "preScale fails: nothing is scaled", world: newWorld(2), trigger: scheduled,
			hooks: execute.Hooks{
				execute.StageMetric: prints("5"), execute.StageEvaluate: prints(`{"targetReplicas": 4}`),
				execute.StagePreScale: fails(), execute.StagePostScale: fails(),
			},
			want: Record{
				Current: 2, Evaluation: &evaluate.Evaluation{TargetReplicas: 4},
				Decision: &scale.Decision{Direction: scale.DirectionUp, Current: 2, Evaluated: new(int32(4)), Desired: 4},
				Failure:  &Failure{Stage: execute.StagePreScale, Kind: execute.KindExit, Message: "exit status 4"},
			},
		},
		{
			name: "postScale fails: it is scaled, and reported", world: newWorld(2), trigger: scheduled,
			hooks: execute.Hooks{
				execute.StageMetric: prints("5"), execute.StageEvaluate: prints(`{"targetReplicas": 4}`),
				execute.StagePostScale: fails(),
			},
			want: Record{
				Current: 2, Evaluation: &evaluate.Evaluation{TargetReplicas: 4},
				Decision: &scale.Decision{Direction: scale.DirectionUp, Current: 2, Evaluated: new(int32(4)), Desired: 4}, Written: true,
				Failure: &Failure{Stage: execute.StagePostScale, Kind: execute.KindExit, Message: "exit status 4"},
			},
			writes: []string{"2->4"},
		},
		{
			name: "a disabled target is left alone", world: newWorld(0), trigger: scheduled,
			hooks: execute.Hooks{
				execute.StageMetric: prints("5"), execute.StageEvaluate: prints(`{"targetReplicas": 4}`),
				execute.StagePreScale: fails(), execute.StagePostScale: fails(),
			},
			want: Record{
				Evaluation: &evaluate.Evaluation{TargetReplicas: 4},
				Decision: &scale.Decision{Direction: scale.DirectionNone, Evaluated: new(int32(4)), Disabled: true, Constraints: []scale.Constraint{
					{Name: scale.ConstraintDisabled, From: 4, To: 0, Detail: "the target is at 0 replicas and minReplicas is 1, which disables scaling"},
				}},
			},
		},
		{
			name: "up from zero", world: newWorld(0), hooks: wants(`{"targetReplicas": 3}`), trigger: scheduled,
			config: func(c *config.Autoscaler) { c.MinReplicas = 0 },
			want: Record{
				Evaluation: &evaluate.Evaluation{TargetReplicas: 3},
				Decision:   &scale.Decision{Direction: scale.DirectionUp, Evaluated: new(int32(3)), Desired: 3}, Written: true,
			},
			writes: []string{"0->3"},
		},
		{
			name: "the target cannot be read", trigger: scheduled, hooks: wants(`{"targetReplicas": 4}`),
			world: func() *world { w := newWorld(2); w.fault = errors.New("the server is away"); return w }(),
			want:  Record{Failure: &Failure{Stage: execute.StageRead, Message: "the server is away"}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := testConfig()
			if test.config != nil {
				test.config(&c)
			}
			got := test.world.start(c, test.hooks).Tick(t.Context(), now, test.trigger)
			test.want.Sequence, test.want.MetricsTotal = 1, len(test.want.Metrics)
			test.want.ID, test.want.Time, test.want.Trigger, test.want.DryRun = "shop/deployment/web", now, test.trigger, test.trigger.DryRun
			test.want.Target = corev1.ObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: "web"}
			test.want.Bounds = bounds.Bounds{
				Min: bounds.Limit{Replicas: c.MinReplicas}, Max: bounds.Limit{Replicas: c.MaxReplicas}, BaseMin: c.MinReplicas,
			}
			if diff := cmp.Diff(test.want, got, cmpopts.IgnoreUnexported(scale.Decision{}),
				cmpopts.IgnoreFields(Record{}, "Durations", "Duration")); diff != "" {
				t.Error("record (-want +got):\n" + diff)
			}
			if diff := cmp.Diff(test.writes, test.world.writes); diff != "" {
				t.Error("writes (-want +got):\n" + diff)
			}
			if diff := cmp.Diff([]Record{got}, test.world.records, cmpopts.IgnoreUnexported(scale.Decision{})); diff != "" {
				t.Error("observed (-want +got):\n" + diff)
			}
		})
	}
}

// held is the decision of a run that failed before it evaluated.
func held(count int32) *scale.Decision {
	return &scale.Decision{Current: count, Desired: count, Direction: scale.DirectionNone}
}

// Somebody scales to 6 while the hooks run: the decision is taken from 6.
func TestDecidesFromTheCountAsItIsByNow(t *testing.T) {
	w := newWorld(2)
	hooks := wants(`{"targetReplicas": 4}`)
	hooks[execute.StagePostEvaluate] = hook(func(context.Context, execute.Call) (string, error) { w.set(6); return "", nil })
	record := w.start(testConfig(), hooks).Tick(t.Context(), now, scheduled)
	if record.Current != 2 || record.Decision.Current != 6 || record.Decision.Desired != 4 {
		t.Errorf("at the start %d, decided from %d to %d", record.Current, record.Decision.Current, record.Decision.Desired)
	}
	if diff := cmp.Diff([]string{"6->4"}, w.writes); diff != "" {
		t.Error(diff)
	}
}

func TestARecordSaysWhatItWasTakenFrom(t *testing.T) {
	w := newWorld(2)
	w.target.SetResourceVersion("11")
	w.podsVersion = "12"
	record := w.start(testConfig(), wants(`{"targetReplicas": 4}`)).Tick(t.Context(), now, scheduled)
	if record.Target.ResourceVersion != "11" || record.PodsResourceVersion != "12" {
		t.Errorf("the target is of %q, the pods of %q", record.Target.ResourceVersion, record.PodsResourceVersion)
	}
}

// Somebody scales just before the write: it is refused, and decided again
// without running preScale again.
func TestDecidesAgainWhenTheWriteIsRefused(t *testing.T) {
	for _, test := range []struct {
		name     string
		counts   []int32
		writes   []string
		disabled bool
		failed   bool
	}{
		{name: "once", counts: []int32{7}, writes: []string{"7->4"}},
		{name: "to what is wanted", counts: []int32{4}},
		{name: "to zero, which disables", counts: []int32{0}, disabled: true},
		{name: "twice", counts: []int32{7, 8}, writes: []string{"8->4"}},
		{name: "each time", counts: []int32{7, 8, 9}, failed: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(2)
			w.before = func(w *world) {
				if len(test.counts) > 0 {
					w.set(test.counts[0])
					test.counts = test.counts[1:]
				}
			}
			hooks, preScales, postScales := wants(`{"targetReplicas": 4}`), 0, 0
			hooks[execute.StagePreScale] = hook(func(context.Context, execute.Call) (string, error) { preScales++; return "", nil })
			hooks[execute.StagePostScale] = hook(func(context.Context, execute.Call) (string, error) { postScales++; return "", nil })
			record := w.start(testConfig(), hooks).Tick(t.Context(), now, scheduled)

			if failed := record.Failure != nil; failed != test.failed {
				t.Errorf("failure: %+v", record.Failure)
			}
			if record.Decision.Disabled != test.disabled {
				t.Errorf("decision: %+v", record.Decision)
			}
			if diff := cmp.Diff(test.writes, w.writes); diff != "" {
				t.Error("writes (-want +got):\n" + diff)
			}
			if record.Written != (test.writes != nil) {
				t.Errorf("written is %t", record.Written)
			}
			if preScales != 1 {
				t.Errorf("preScale ran %d times", preScales)
			}
			if ran := postScales == 1; ran == (test.failed || test.disabled) {
				t.Errorf("postScale ran %d times", postScales)
			}
		})
	}
}

// A refusal that is no change of the count is told as it is, not tried again.
func TestARefusalOfAnotherKind(t *testing.T) {
	w := newWorld(2)
	w.before = func(w *world) { w.fault = nil }
	refusing := refusingWriter{err: errors.Join(scale.ErrRefused, errors.New("the webhook says no"))}
	a := w.start(testConfig(), wants(`{"targetReplicas": 4}`))
	a.deps.Writer = &refusing
	record := a.Tick(t.Context(), now, scheduled)
	if record.Failure == nil || record.Failure.Stage != execute.StageWrite || refusing.calls != 1 {
		t.Errorf("failure %+v after %d writes", record.Failure, refusing.calls)
	}
}

type refusingWriter struct {
	err   error
	calls int
}

func (w *refusingWriter) Write(context.Context, scale.Decision) error {
	w.calls++
	return w.err
}

func (*refusingWriter) Withdraw() {}

// A run that decides that the count is to stay takes back what an earlier write
// left undone. One that fails decides nothing.
func TestWithdrawing(t *testing.T) {
	for _, test := range []struct {
		name      string
		world     *world
		hooks     execute.Hooks
		intents   scale.Intents
		fallback  *config.Fallback
		dryRun    bool
		withdrawn int
	}{
		{name: "a change", world: newWorld(2), hooks: wants(`{"targetReplicas": 4}`)},
		{name: "no change", world: newWorld(4), hooks: wants(`{"targetReplicas": 4}`), withdrawn: 1},
		{name: "a failed run", world: newWorld(2), hooks: wants(`{}`)},
		{name: "a failed run while paused", world: newWorld(2), hooks: wants(`{}`), intents: scale.Intents{Pause: &scale.Pause{}}, withdrawn: 1},
		{name: "a failed run while held", world: newWorld(2), hooks: wants(`{}`), intents: scale.Intents{Hold: &scale.Hold{Replicas: 2, Until: now.Add(time.Hour)}}, withdrawn: 1},
		{name: "a failed run, and the fallback leaves the count", world: newWorld(2), hooks: wants(`{}`), fallback: &config.Fallback{FailureThreshold: 1}, withdrawn: 1},
		{name: "a failed run of a disabled target", world: newWorld(0), hooks: wants(`{}`), withdrawn: 1},
		{name: "a disabled target", world: newWorld(0), hooks: wants(`{"targetReplicas": 4}`), withdrawn: 1},
		{name: "preScale objects", world: newWorld(2), hooks: execute.Hooks{
			execute.StageMetric: prints("5"), execute.StageEvaluate: prints(`{"targetReplicas": 4}`), execute.StagePreScale: fails(),
		}},
		{name: "a dry run", world: newWorld(4), hooks: wants(`{"targetReplicas": 4}`), dryRun: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			trigger := scheduled
			trigger.DryRun = test.dryRun
			c := testConfig()
			c.Fallback = test.fallback
			a := test.world.start(c, test.hooks)
			if _, _, err := a.memory.intend(t.Context(), now, a.leadership.Term().ID, func(i *scale.Intents) { *i = test.intents }); err != nil {
				t.Fatal(err)
			}
			a.Tick(t.Context(), now, trigger)
			if test.world.withdrawn != test.withdrawn {
				t.Errorf("withdrawn %d times, want %d", test.world.withdrawn, test.withdrawn)
			}
		})
	}
}

func TestDryRunsAreNotRemembered(t *testing.T) {
	w := newWorld(2)
	c := testConfig()
	c.DownscaleStabilization = new(config.Seconds(300))
	a := w.start(c, wants(`{"targetReplicas": 9}`))
	a.Tick(t.Context(), now, Trigger{RunType: execute.RunAPIDryRun, Through: ThroughScale, DryRun: true})
	a.deps.Hooks = wants(`{"targetReplicas": 3}`)
	if record := a.Tick(t.Context(), now.Add(time.Second), scheduled); record.Decision.Desired != 3 {
		t.Errorf("scaled to %d, want 3: the dry run was remembered", record.Decision.Desired)
	}
}

func TestKubernetesMetrics(t *testing.T) {
	missing := errors.New("no metrics returned")
	for _, test := range []struct {
		name     string
		required bool
		failed   bool
	}{
		{name: "the others are handed on", required: false},
		{name: "required ones fail the run before preMetric", required: true, failed: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			var r recorder
			w := newWorld(2)
			c := testConfig()
			c.RunMode, c.RequireKubernetesMetrics = config.PerResource, test.required
			c.KubernetesMetricSpecs = append(c.KubernetesMetricSpecs, metric.KubernetesMetric{}.Spec)
			a := w.start(c, r.hooks(`{"targetReplicas": 4}`))
			a.deps.KubernetesMetrics = kubernetesMetrics{metrics: []metric.KubernetesMetric{{CurrentReplicas: 2}}, err: missing}
			record := a.Tick(t.Context(), now, scheduled)
			if test.failed {
				want := &Failure{Stage: execute.StageKubernetesMetrics, Message: "no metrics returned"}
				if diff := cmp.Diff(want, record.Failure); diff != "" || r.order != nil {
					t.Errorf("ran %v, failure (-want +got):\n%s", r.order, diff)
				}
				return
			}
			if record.Failure != nil || r.payloads["metric"] == nil {
				t.Errorf("ran %v: %+v", r.order, record.Failure)
			}
		})
	}
}

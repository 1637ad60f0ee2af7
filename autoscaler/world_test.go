// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package autoscaler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"go.uber.org/goleak"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a target in memory, for stories that run on virtual time; the
// acceptance tests tell the same ones against a real API server. It is the
// Reader, the Writer and the Observer.
type world struct {
	target *unstructured.Unstructured
	pods   []corev1.Pod
	// podsVersion is the resource version of the pods.
	podsVersion string

	mu       sync.Mutex
	replicas int32
	fault    error
	// before is called before a write, to interfere.
	before func(w *world)
	// deferring answers writes with ErrDeferred.
	deferring bool
	deferred  *scale.Decision
	writes    []string
	// withdrawn counts the calls of Withdraw.
	withdrawn int
	records   []Record
}

func newWorld(replicas int32, pods ...string) *world {
	w := &world{
		replicas: replicas,
		target: &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "apps/v1", "kind": "Deployment",
			"metadata": map[string]any{"name": "web", "namespace": "shop"},
			"spec":     map[string]any{"replicas": int64(replicas)},
		}},
	}
	for _, name := range pods {
		w.pods = append(w.pods, corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop"}})
	}
	return w
}

func (w *world) Read(context.Context) (resource.Snapshot, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	target, err := resource.NewObject(w.target)
	if err != nil {
		return resource.Snapshot{}, err
	}
	pods := make([]*resource.Pod, len(w.pods))
	for i := range w.pods {
		if pods[i], err = resource.NewPod(&w.pods[i]); err != nil {
			return resource.Snapshot{}, err
		}
	}
	return resource.Snapshot{
		Target: target, Scale: resource.Scale{Replicas: w.replicas, Selector: "app=web"}, Pods: pods, PodsResourceVersion: w.podsVersion,
	}, w.fault
}

func (w *world) Scale(context.Context) (resource.Scale, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return resource.Scale{Replicas: w.replicas}, w.fault
}

func (w *world) Write(_ context.Context, d scale.Decision) error {
	from, to := d.Current, d.Desired
	if w.before != nil {
		w.before(w)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fault != nil {
		return w.fault
	}
	if w.deferring {
		w.deferred = &d
		return fmt.Errorf("%w: in a minute", scale.ErrDeferred)
	}
	if w.replicas != from {
		return fmt.Errorf("from %d: %w", from, scale.ErrRefused)
	}
	w.replicas = to
	w.writes = append(w.writes, fmt.Sprintf("%d->%d", from, to))
	return nil
}

func (w *world) Withdraw() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deferred = nil
	w.withdrawn++
}

func (w *world) Observe(r Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.records = append(w.records, r)
}

func (w *world) set(replicas int32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.replicas = replicas
}

// hook answers calls.
type hook func(ctx context.Context, call execute.Call) (string, error)

func (h hook) Execute(ctx context.Context, call execute.Call) (execute.Result, error) {
	output, err := h(ctx, call)
	if err != nil {
		return execute.Result{}, &execute.Error{Kind: execute.KindExit, Stage: call.Stage, Subject: call.Subject, Message: err.Error(), Err: err}
	}
	return execute.Result{Output: []byte(output)}, nil
}

// prints is a hook that always prints the same.
func prints(output string) hook {
	return func(context.Context, execute.Call) (string, error) { return output, nil }
}

var errBroken = errors.New("exit status 4")

// fails is a hook that always fails.
func fails() hook {
	return func(context.Context, execute.Call) (string, error) { return "", errBroken }
}

func testConfig() config.Autoscaler {
	c := config.Default().Autoscaler
	c.ScaleTargetRef = autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "web"}
	c.Namespace = "shop"
	c.Metric = &config.Method{Type: config.MethodShell, Timeout: config.DefaultTimeout}
	c.GatherConcurrency = 1
	return c
}

// start makes an Autoscaler of the world with the hooks.
func (w *world) start(c config.Autoscaler, hooks execute.Hooks) *Autoscaler {
	store, err := state.New(context.Background(), config.State{Store: config.StateNone}, nil, "", "")
	if err != nil {
		panic(err.Error())
	}
	a, err := New(Spec{ID: "shop/deployment/web", Config: c},
		Deps{Reader: w, Hooks: hooks, Writer: w, Store: store, Observer: w, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		panic(err.Error())
	}
	return a
}

// operator is who steps in.
var operator = Caller{Name: "operator", Request: "1"}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package autoscaler

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/metric"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
)

var update = flag.Bool("update", false, "write the golden files anew")

var stages = []execute.Stage{
	execute.StagePreMetric, execute.StageMetric, execute.StagePostMetric,
	execute.StagePreEvaluate, execute.StageEvaluate, execute.StagePostEvaluate,
	execute.StagePreScale, execute.StagePostScale,
}

// recorder is hooks for every stage that keep what they were given.
type recorder struct {
	order    []string
	payloads map[string][]byte
}

func (r *recorder) hooks(evaluation string) execute.Hooks {
	r.payloads = map[string][]byte{}
	hooks := execute.Hooks{}
	for _, stage := range stages {
		hooks[stage] = hook(func(_ context.Context, call execute.Call) (string, error) {
			name := string(call.Stage)
			if call.Subject != "" {
				name += "." + call.Subject
			}
			r.order = append(r.order, name)
			r.payloads[name] = call.Payload
			switch call.Stage {
			case execute.StageMetric:
				return "5\n", nil
			case execute.StageEvaluate:
				return evaluation, nil
			default:
				return "ignored", nil
			}
		})
	}
	return hooks
}

// The JSON that scripts receive is our true interface: each stage's is kept in
// a file, in both run modes.
func TestPayloads(t *testing.T) {
	for _, test := range []struct {
		mode  config.RunMode
		order []string
	}{
		{config.PerPod, []string{
			"preMetric", "metric.web-1", "metric.web-2", "postMetric",
			"preEvaluate", "evaluate", "postEvaluate", "preScale", "postScale",
		}},
		{config.PerResource, []string{
			"preMetric", "metric", "postMetric", "preEvaluate", "evaluate", "postEvaluate", "preScale", "postScale",
		}},
	} {
		t.Run(string(test.mode), func(t *testing.T) {
			w := newWorld(2, "web-1", "web-2")
			c := testConfig()
			c.RunMode = test.mode
			var r recorder
			record := w.start(c, r.hooks(`{"targetReplicas": 12, "reason": "kept to itself"}`)).
				Tick(t.Context(), time.Now(), Trigger{RunType: execute.RunScaler, Through: ThroughScale})
			if record.Failure != nil {
				t.Fatalf("the run failed: %+v", record.Failure)
			}
			if diff := cmp.Diff(test.order, r.order); diff != "" {
				t.Error("order of the stages (-want +got):\n" + diff)
			}
			for name, payload := range r.payloads {
				golden(t, filepath.Join("testdata", "payloads", string(test.mode), name+".json"), payload)
			}
		})
	}
}

func TestPayloadsWithoutPods(t *testing.T) {
	var r recorder
	newWorld(0).start(testConfig(), r.hooks(`{"targetReplicas": 1}`)).
		Tick(t.Context(), time.Now(), Trigger{RunType: execute.RunAPIDryRun, Through: ThroughScale, DryRun: true})
	for _, name := range []string{"postMetric", "evaluate"} {
		golden(t, filepath.Join("testdata", "payloads", "no-pods", name+".json"), r.payloads[name])
	}
}

// What the original Custom Pod Autoscaler handed its hooks, captured from it,
// is what ours get from the same objects.
func TestCapturedPayloads(t *testing.T) {
	var evaluate struct {
		Metrics  []metric.ResourceMetric
		Resource map[string]any
	}
	var gather struct{ Resource corev1.Pod }
	read(t, "testdata/captured/per-pod.evaluate.json", &evaluate)
	read(t, "testdata/captured/per-pod.metric.json", &gather)

	w := newWorld(2)
	w.target = &unstructured.Unstructured{Object: evaluate.Resource}
	for _, m := range evaluate.Metrics {
		pod := gather.Resource.DeepCopy()
		pod.Name = m.Resource
		w.pods = append(w.pods, *pod)
	}
	c := testConfig()
	c.Namespace = "default"
	var r recorder
	w.start(c, r.hooks(`{"targetReplicas": 20}`)).
		Tick(t.Context(), time.Now(), Trigger{RunType: execute.RunScaler, Through: ThroughScale})

	same(t, "testdata/captured/per-pod.metric.json", r.payloads["metric."+gather.Resource.Name])
	same(t, "testdata/captured/per-pod.evaluate.json", r.payloads["evaluate"])
	same(t, "testdata/captured/per-pod.preScale.json", r.payloads["preScale"])
	// Scripts without a JSON reader may go by the order.
	for stage, want := range map[string]string{
		"preMetric": "resource runType", "postMetric": "metrics resource runType", "metric." + gather.Resource.Name: "resource runType",
		"evaluate": "metrics resource runType", "postEvaluate": "metrics resource evaluation runType",
		"preScale": "evaluation resource scaleTargetRef namespace minReplicas maxReplicas targetReplicas runType",
	} {
		if got := keys(t, r.payloads[stage]); got != want {
			t.Errorf("%s: the keys are %s, want %s", stage, got, want)
		}
	}
}

// keys are those of a JSON object, in their order.
func keys(t *testing.T, object []byte) string {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(object))
	if _, err := decoder.Token(); err != nil {
		t.Fatal(err)
	}
	var all []string
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprint(key))
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			t.Fatal(err)
		}
	}
	return strings.Join(all, " ")
}

// kubernetesMetrics answers with what it holds.
type kubernetesMetrics struct {
	metrics []metric.KubernetesMetric
	err     error
}

func (k kubernetesMetrics) Gather(context.Context, time.Time, resource.Snapshot) ([]metric.KubernetesMetric, error) {
	return k.metrics, k.err
}

func TestCapturedKubernetesMetrics(t *testing.T) {
	const file = "testdata/captured/per-resource.metric.k8smetrics.json"
	var captured struct {
		Resource          map[string]any
		KubernetesMetrics []metric.KubernetesMetric
	}
	read(t, file, &captured)
	w := newWorld(3)
	w.target = &unstructured.Unstructured{Object: captured.Resource}
	c := testConfig()
	c.RunMode = config.PerResource
	for _, m := range captured.KubernetesMetrics {
		c.KubernetesMetricSpecs = append(c.KubernetesMetricSpecs, m.Spec)
	}
	var r recorder
	a := w.start(c, r.hooks(`{"targetReplicas": 3}`))
	a.deps.KubernetesMetrics = kubernetesMetrics{metrics: captured.KubernetesMetrics}
	a.Tick(t.Context(), time.Now(), Trigger{RunType: execute.RunScaler, Through: ThroughScale})
	same(t, file, r.payloads["metric"])
}

// golden compares JSON with a file, as parsed JSON.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		var value any
		if err := json.Unmarshal(got, &value); err != nil {
			t.Fatalf("%s: %q is no JSON: %v", file, got, err)
		}
		indented, err := json.MarshalIndent(value, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, append(indented, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	same(t, file, got)
}

// same compares JSON with a file, as parsed JSON.
func same(t *testing.T, file string, got []byte) {
	t.Helper()
	var wanted, parsed any
	read(t, file, &wanted)
	if err := json.Unmarshal(got, &parsed); err != nil {
		t.Errorf("%s: %q is no JSON: %v", file, got, err)
		return
	}
	if diff := cmp.Diff(wanted, parsed); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
	if len(got) > 0 && got[len(got)-1] == '\n' {
		t.Errorf("%s: the payload ends in a newline", file)
	}
}

func read(t *testing.T, file string, into any) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(content, into)
	}
	if err != nil {
		t.Fatal(fmt.Errorf("reading %s: %w", file, err))
	}
}

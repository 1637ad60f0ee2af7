// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package metric

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
)

// The requests of the recorded answers.
const (
	pathPods       = "/api/v1/namespaces/default/pods?labelSelector=app%3Dweb"
	pathPodMetrics = "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods?labelSelector=app%3Dweb"
	pathPPS        = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/pods/%2A/pps?labelSelector=app%3Dweb"
	pathOldPPS     = "/apis/custom.metrics.k8s.io/v1beta1/namespaces/default/pods/%2A/pps?labelSelector=app%3Dweb"
	pathRPS        = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/deployments.apps/web/rps"
	pathQ          = "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/q"
	pathQOfB       = pathQ + "?labelSelector=a%3Db"
)

// recorded are the answers that stand in testdata/kubernetes.
var recorded = map[string]string{
	"/api/v1":       "v1.json",
	"/apis/apps/v1": "apps-v1.json",
	pathPods:        "pods.json",
	pathPodMetrics:  "podmetrics.json",
	pathPPS:         "pps.json",
	pathRPS:         "rps.json",
	pathQ:           "q.json",
	pathQOfB:        "q.json",
}

var (
	now = time.Date(2026, 11, 21, 20, 0, 10, 0, time.UTC)
	web = resource.Snapshot{Scale: resource.Scale{Replicas: 3, Selector: "app=web"}}
)

func TestKubernetesMatchesTheCapturedPayload(t *testing.T) {
	var sample struct {
		KubernetesMetrics []json.RawMessage `json:"kubernetesMetrics"`
	}
	read(t, "per-resource.metric.k8smetrics.json", &sample)
	var specs []autoscalingv2.MetricSpec
	for _, entry := range sample.KubernetesMetrics {
		var metric KubernetesMetric
		if err := json.Unmarshal(entry, &metric); err != nil {
			t.Fatal(err)
		}
		specs = append(specs, metric.Spec)
	}
	api := serve(t, nil)

	got, err := api.kubernetes(t, specs).Gather(t.Context(), now, web)
	if err != nil {
		t.Fatal(err)
	}

	if diff := cmp.Diff(parsed(t, sample.KubernetesMetrics), parsed(t, got)); diff != "" {
		t.Errorf("kubernetesMetrics (-captured +got):\n%s", diff)
	}
	want := slices.Sorted(slices.Values([]string{pathPods, pathPodMetrics, pathPPS, pathRPS, pathRPS, pathQ, pathQOfB}))
	asked := slices.DeleteFunc(api.asked(), func(path string) bool { return path == "/apis/apps/v1" })
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("requests (-want +got): pods and their usage are asked for once:\n%s", diff)
	}
}

func TestKubernetesPayloads(t *testing.T) {
	for _, test := range []struct {
		name    string
		spec    string
		answers map[string]string
		want    string
	}{
		{
			name: "one container's use and request, under the key resource",
			spec: `{type: ContainerResource, containerResource: {name: cpu, container: log, target: {type: Utilization}}}`,
			want: `
resource:
  pod_metrics_info:
    web-a: {Timestamp: "2026-11-21T20:00:00Z", Window: 30000000000, Value: 1}
    web-r1: {Timestamp: "2026-11-21T20:00:00Z", Window: 30000000000, Value: 1}
    web-r2: {Timestamp: "2026-11-21T20:00:00Z", Window: 30000000000, Value: 1}
  requests: {web-r1: 50, web-r2: 50, web-r3: 50}
  ready_pod_count: 2
  ignored_pods: {}
  missing_pods: {web-r3: {}}
  total_pods: 3
  timestamp: "2026-11-21T20:00:00Z"`,
		},
		{
			name: "an API server that serves only v1beta1 of the custom metrics",
			spec: `{type: Pods, pods: {metric: {name: pps}, target: {type: AverageValue}}}`,
			answers: map[string]string{
				pathPPS:    "",
				pathOldPPS: file("pps-v1beta1.json"),
			},
			want: `
pods:
  pod_metrics_info:
    web-r1: {Timestamp: "2026-11-21T20:00:00Z", Window: 15000000000, Value: 1500}
    web-r2: {Timestamp: "2026-11-21T20:00:00Z", Window: 15000000000, Value: 2000}
  ready_pod_count: 2
  ignored_pods: null
  missing_pods: {web-r3: {}}
  total_pods: 3
  timestamp: "2026-11-21T20:00:00Z"`,
		},
		{
			name: "labels of the metric, and a window",
			spec: `{type: Pods, pods: {metric: {name: pps, selector: {matchLabels: {verb: GET}}}, target: {type: AverageValue}}}`,
			answers: map[string]string{
				pathPPS + "&metricLabelSelector=verb%3DGET": `{"items": [{"describedObject": {"kind": "Pod", "name": "web-r1"},
					"timestamp": "2026-11-21T19:59:00Z", "windowSeconds": 90, "value": "12345u"}]}`,
			},
			want: `
pods:
  pod_metrics_info:
    web-r1: {Timestamp: "2026-11-21T19:59:00Z", Window: 90000000000, Value: 13}
  ready_pod_count: 1
  ignored_pods: null
  missing_pods: {web-r2: {}, web-r3: {}}
  total_pods: 3
  timestamp: "2026-11-21T19:59:00Z"`,
		},
		{
			name: "a metric of the namespace, which is that of the target",
			spec: `{type: Object, object: {describedObject: {kind: Namespace, name: other}, metric: {name: Jobs}, target: {type: Value}}}`,
			answers: map[string]string{
				"/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/metrics/Jobs": file("rps.json"),
			},
			want: `object: {current: {value: 7000}, ready_pod_count: 3, timestamp: "2026-11-21T20:00:00Z"}`,
		},
		{
			name: "a metric of an object whose apiVersion is left out, with labels",
			spec: `{type: Object, object: {describedObject: {kind: service, name: web},
				metric: {name: rps, selector: {matchExpressions: [{key: verb, operator: Exists}]}}, target: {type: AverageValue}}}`,
			answers: map[string]string{
				"/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/services/web/rps?metricLabelSelector=verb": file("rps.json"),
			},
			want: `object: {current: {average_value: 7000}, timestamp: "2026-11-21T20:00:00Z"}`,
		},
		{
			name:    "no pods are no ready pods",
			spec:    `{type: External, external: {metric: {name: q}, target: {type: Value}}}`,
			answers: map[string]string{pathPods: `{"kind": "PodList", "apiVersion": "v1"}`},
			want:    `external: {current: {value: 5500}, ready_pod_count: 0, timestamp: "2026-11-21T20:00:00Z"}`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			specs := parseSpecs(t, test.spec)
			got, err := serve(t, test.answers).kubernetes(t, specs).Gather(t.Context(), now, web)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]any{}
			decode(t, test.want, &want)
			want["current_replicas"] = 3
			want["spec"] = specs[0]
			if diff := cmp.Diff(parsed(t, []any{want}), parsed(t, got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestKubernetesTakesTheSnapshotsPods(t *testing.T) {
	specs := parseSpecs(t, `{type: Resource, resource: {name: memory, target: {type: AverageValue}}}`)
	api := serve(t, nil)
	snapshot := web
	snapshot.Pods = []*resource.Pod{pod("web-r2", running)}

	got, err := api.kubernetes(t, specs).Gather(t.Context(), now, snapshot)
	if err != nil {
		t.Fatal(err)
	}

	if got[0].Resource.ReadyPodCount != 1 || got[0].Resource.TotalPods != 1 {
		t.Errorf("got %d ready pods of %d, want the one of the snapshot", got[0].Resource.ReadyPodCount, got[0].Resource.TotalPods)
	}
	if diff := cmp.Diff([]string{pathPodMetrics}, api.asked()); diff != "" {
		t.Errorf("requests (-want +got): the pods are known already:\n%s", diff)
	}
}

func TestKubernetesDeliversWhatItCan(t *testing.T) {
	specs := parseSpecs(t,
		`{type: External, external: {metric: {name: gone}, target: {type: Value}}}`,
		`{type: Resource, resource: {name: cpu, target: {type: Utilization}}}`,
		`{type: Object, object: {describedObject: {apiVersion: apps/v1, kind: Robot, name: web}, metric: {name: rps}, target: {type: Value}}}`,
		`{type: External, external: {metric: {name: q}, target: {type: AverageValue}}}`,
	)
	api := serve(t, map[string]string{
		"/apis/external.metrics.k8s.io/v1beta1/namespaces/default/gone": `{"kind": "Status", "apiVersion": "v1", "status": "Failure",
			"message": "the server could not find the metric gone for namespace default", "reason": "NotFound", "code": 404}`,
	})

	got, err := api.kubernetes(t, specs).Gather(t.Context(), now, web)

	var names []string
	for _, metric := range got {
		names = append(names, describe(metric.Spec))
	}
	if diff := cmp.Diff([]string{"Resource cpu", "External q"}, names); diff != "" {
		t.Errorf("delivered (-want +got), in the order of the specs:\n%s", diff)
	}
	want := "kubernetesMetricSpecs[0] (External gone): asking external.metrics.k8s.io: " +
		"the server could not find the metric gone for namespace default\n" +
		`kubernetesMetricSpecs[2] (Object rps): resolving describedObject: the API server knows no kind "Robot" in apps/v1`
	if err == nil || err.Error() != want {
		t.Errorf("got the error\n%v\nwant\n%s", err, want)
	}
}

func TestKubernetesErrors(t *testing.T) {
	const (
		cpu = `{type: Resource, resource: {name: cpu, target: {type: Utilization}}}`
		log = `{type: ContainerResource, containerResource: {name: cpu, container: log, target: {type: Utilization}}}`
		pps = `{type: Pods, pods: {metric: {name: pps}, target: {type: AverageValue}}}`
		rps = `{type: Object, object: {describedObject: {apiVersion: apps/v1, kind: Deployment, name: web},
			metric: {name: rps}, target: {type: Value}}}`
		q = `{type: External, external: {metric: {name: q}, target: {type: Value}}}`

		pathOldRPS = "/apis/custom.metrics.k8s.io/v1beta1/namespaces/default/deployments.apps/web/rps"
	)
	type answers map[string]string
	for _, test := range []struct {
		name    string
		spec    string
		answers answers
		want    string
	}{
		{"no usage", cpu, answers{pathPodMetrics: list("PodMetricsList", "metrics.k8s.io/v1beta1")}, "no metrics returned by metrics.k8s.io"},
		{"no custom metrics", pps, answers{pathPPS: `{"items": []}`}, "no metrics returned by custom.metrics.k8s.io"},
		{
			"no series", q,
			answers{pathQ: list("ExternalMetricValueList", "external.metrics.k8s.io/v1beta1")},
			"no metrics returned by external.metrics.k8s.io",
		},
		{"no metrics-server", cpu, answers{pathPodMetrics: ""}, "the API server does not serve metrics.k8s.io: install metrics-server"},
		{
			"no custom metrics adapter", rps,
			answers{pathRPS: "", pathOldRPS: ""},
			"the API server does not serve custom.metrics.k8s.io: install a metrics adapter",
		},
		{
			"no external metrics adapter", q,
			answers{pathQ: ""},
			"the API server does not serve external.metrics.k8s.io: install a metrics adapter",
		},
		{
			"no such metric, which is no reason to ask another version", rps,
			answers{pathRPS: status(404, "NotFound", "no metric rps"), pathOldRPS: file("rps.json")},
			"asking custom.metrics.k8s.io/v1beta2: no metric rps",
		},
		{
			"not allowed", cpu,
			answers{pathPodMetrics: status(403, "Forbidden", "pods.metrics.k8s.io is forbidden")},
			"asking metrics.k8s.io: pods.metrics.k8s.io is forbidden",
		},
		{"two values for one object", rps, answers{pathRPS: file("pps.json")}, `returned 2 values for Deployment "web" where one is wanted`},
		{"an answer of another form", rps, answers{pathRPS: `{"items": 3}`}, "asking custom.metrics.k8s.io/v1beta2: reading the answer"},
		{"no pods to measure", cpu, answers{pathPods: list("PodList", "v1")}, "the target has no pods to measure"},
		{"no pods to measure by a custom metric", pps, answers{pathPods: list("PodList", "v1")}, "the target has no pods to measure"},
		{
			"pods cannot be listed", q,
			answers{pathPods: status(403, "Forbidden", "pods is forbidden")},
			"listing the target's pods: pods is forbidden",
		},
		{
			"a container that is not there", strings.Replace(log, "log,", "lgo,", 1), nil,
			`metrics.k8s.io has no container "lgo" of the pod "web-a"`,
		},
		{"no request", strings.Replace(cpu, "cpu", "memory", 1), nil, `the container "c" of the pod "web-r1" requests no memory`},
		{
			"no request of the container", strings.Replace(log, "cpu", "memory", 1), nil,
			`the container "log" of the pod "web-r1" requests no memory`,
		},
		{
			"target type of Resource", strings.Replace(cpu, "Utilization", "Value", 1), nil,
			`target.type is "Value": write Utilization or AverageValue`,
		},
		{"target type of Pods", strings.Replace(pps, "AverageValue", "Value", 1), nil, `target.type is "Value": write AverageValue`},
		{
			"target type of Object", strings.Replace(rps, "Value", "Utilization", 1), nil,
			`target.type is "Utilization": write Value or AverageValue`,
		},
		{"target type of External", strings.Replace(q, "Value", "", 1), nil, `target.type is "": write Value or AverageValue`},
		{
			"selector of Pods", strings.Replace(pps, "name: pps", "name: pps, selector: {matchExpressions: [{key: a, operator: Like}]}", 1), nil,
			`reading metric.selector: "Like" is not a valid label selector operator`,
		},
		{
			"selector of External", strings.Replace(q, "name: q", "name: q, selector: {matchExpressions: [{key: a, operator: Like}]}", 1), nil,
			`reading metric.selector: "Like" is not a valid label selector operator`,
		},
		{
			"a name that would leave its path", strings.Replace(q, "name: q", "name: ../../secrets", 1), nil,
			`invalid resource "../../secrets"`,
		},
		{"unknown type", `{type: Moon}`, nil, "kubernetesMetricSpecs[0] (Moon): unknown type of metric"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := serve(t, test.answers).kubernetes(t, parseSpecs(t, test.spec)).Gather(t.Context(), now, web)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got the error %v, want %q in it", err, test.want)
			}
			if len(got) != 0 {
				t.Errorf("got %v besides the error", got)
			}
		})
	}
}

func TestKubernetesWithoutASelectorStillGathersWhatNeedsNoPods(t *testing.T) {
	specs := parseSpecs(t,
		`{type: Resource, resource: {name: cpu, target: {type: Utilization}}}`,
		`{type: Object, object: {describedObject: {apiVersion: apps/v1, kind: Deployment, name: web}, metric: {name: rps}, target: {type: AverageValue}}}`,
	)
	api := serve(t, nil)

	got, err := api.kubernetes(t, specs).Gather(t.Context(), now, resource.Snapshot{})

	if err == nil || len(got) != 1 || got[0].Object == nil {
		t.Errorf("got %v and the error %v, want the metric of the object and an error for the other", got, err)
	}
	for _, path := range api.asked() {
		if strings.Contains(path, "pods") {
			t.Errorf("asked for %s, which would be every pod of the namespace", path)
		}
	}
}

func TestKubernetesEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	api := &apiServer{url: server.URL}

	_, err := api.kubernetes(t, parseSpecs(t, `{type: External, external: {metric: {name: q}, target: {type: Value}}}`)).Gather(ctx, now, web)

	if err == nil || !strings.Contains(err.Error(), context.Canceled.Error()) {
		t.Errorf("got the error %v, want that it was cancelled", err)
	}
}

// apiServer answers requests with recorded answers.
type apiServer struct {
	url     string
	answers map[string]string

	mu       sync.Mutex
	requests []string
}

// serve starts an API server that gives the recorded answers, except for those
// paths that have another: an answer of "" means the path is not served.
func serve(t *testing.T, answers map[string]string) *apiServer {
	t.Helper()
	s := &apiServer{answers: map[string]string{}}
	for path, name := range recorded {
		s.answers[path] = file(name)
	}
	maps.Copy(s.answers, answers)
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// Every request says how long the client waits.
	query := r.URL.Query()
	query.Del("timeout")
	r.URL.RawQuery = query.Encode()
	path := r.URL.RequestURI()
	s.mu.Lock()
	s.requests = append(s.requests, path)
	s.mu.Unlock()
	answer := s.answers[path]
	if answer == "" {
		// What a kube-apiserver says of a group it does not know.
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	var outcome struct {
		Code int `json:"code"`
	}
	if err := json.Unmarshal([]byte(answer), &outcome); err == nil && outcome.Code != 0 {
		w.WriteHeader(outcome.Code)
	}
	_, _ = w.Write([]byte(answer))
}

// asked are the requests so far, sorted.
func (s *apiServer) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(slices.Values(s.requests))
}

// kubernetes gathers the specs from the API server through the real clients.
func (s *apiServer) kubernetes(t *testing.T, specs []autoscalingv2.MetricSpec) *Kubernetes {
	t.Helper()
	clients, err := resource.Connect(&rest.Config{Host: s.url}, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	target := resource.NewTarget(clients, autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "web"}, "default")
	// Closed, so that each list is a request.
	watches := resource.NewWatches(clients, slog.New(slog.DiscardHandler))
	watches.Close()
	return NewKubernetes(clients, resource.NewReader(target, watches, false), KubernetesOptions{
		Specs: specs, Namespace: "default", InitialReadinessDelay: 30 * time.Second, CPUInitializationPeriod: 300 * time.Second,
	})
}

// file is a recorded answer.
func file(name string) string {
	answer, err := os.ReadFile(filepath.Join("testdata", "kubernetes", name))
	if err != nil {
		return err.Error()
	}
	return string(answer)
}

// list is an empty list.
func list(kind, apiVersion string) string {
	return fmt.Sprintf(`{"kind": %q, "apiVersion": %q, "items": []}`, kind, apiVersion)
}

// status is a refusal.
func status(code int, reason, message string) string {
	answer, _ := json.Marshal(map[string]any{
		"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message,
	})
	return string(answer)
}

func parseSpecs(t *testing.T, texts ...string) []autoscalingv2.MetricSpec {
	t.Helper()
	specs := make([]autoscalingv2.MetricSpec, len(texts))
	for i, text := range texts {
		decode(t, text, &specs[i])
	}
	return specs
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(text), into); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}

func read(t *testing.T, name string, into any) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, into); err != nil {
		t.Fatal(err)
	}
}

// parsed is what a script sees of a value: its JSON, parsed.
func parsed(t *testing.T, value any) any {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var seen any
	if err := json.Unmarshal(text, &seen); err != nil {
		t.Fatal(err)
	}
	return seen
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package acceptance

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/metric"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/cluster"
)

// TestKubernetesResourceMetrics reads what the real metrics-server says of a
// Deployment's pods, before and after a pod comes that it knows nothing of yet.
func TestKubernetesResourceMetrics(t *testing.T) {
	c := cluster.ForTest(t)
	namespace := c.Namespace(t)
	if err := c.Deploy(t.Context(), namespace, cluster.Workload{Name: "web", Replicas: 2, CPURequest: "200m", CPUUsage: "80m"}); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitForUsage(t.Context(), namespace, "web", "80m"); err != nil {
		t.Fatal(err)
	}
	gather := gathering(t, c, namespace,
		`{type: Resource, resource: {name: cpu, target: {type: Utilization}}}`,
		`{type: ContainerResource, containerResource: {name: cpu, container: main, target: {type: Utilization}}}`,
		`{type: Resource, resource: {name: memory, target: {type: AverageValue}}}`,
	)

	// A pod's cpu counts from one window after it became ready.
	var metrics []metric.KubernetesMetric
	eventually(t, "both pods to count", func(ctx context.Context) (err error) {
		metrics, err = gather(ctx)
		if err == nil && metrics[0].Resource.ReadyPodCount != 2 {
			err = fmt.Errorf("%+v", metrics[0].Resource)
		}
		return err
	})
	pods := podNames(t, c, namespace)
	for i, of := range []string{"the pods", "their only container"} {
		cpu := metrics[i].Resource
		if diff := cmp.Diff(pods, slices.Sorted(maps.Keys(cpu.Values))); diff != "" {
			t.Errorf("pods measured by %s (-want +got):\n%s", of, diff)
		}
		for pod, value := range cpu.Values {
			if value.Value < 72 || value.Value > 88 {
				t.Errorf("%s uses %dm by %s, want about 80m", pod, value.Value, of)
			}
			if value.Window <= 0 || time.Since(value.Timestamp).Abs() > 5*time.Minute {
				t.Errorf("%s was measured at %s over %s by %s", pod, value.Timestamp, value.Window, of)
			}
		}
		if diff := cmp.Diff(map[string]int64{pods[0]: 200, pods[1]: 200}, cpu.Requests); diff != "" {
			t.Errorf("requests by %s (-want +got):\n%s", of, diff)
		}
	}
	memory := metrics[2].Resource
	if memory.Requests != nil || memory.ReadyPodCount != 2 || memory.Values[pods[0]].Value <= 0 {
		t.Errorf("got the memory %+v", memory)
	}

	scaleTo(t, c, namespace, 3)
	if err := c.WaitForReplicas(t.Context(), namespace, "web", 3); err != nil {
		t.Fatal(err)
	}
	metrics, err := gather(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cpu := metrics[0].Resource
	if cpu.TotalPods != 3 || cpu.ReadyPodCount != 2 || len(cpu.MissingPods)+len(cpu.IgnoredPods) != 1 || metrics[0].CurrentReplicas != 3 {
		t.Errorf("with a new pod got %+v", metrics[0])
	}
}

// TestKubernetesCustomAndExternalMetrics reads metrics that an adapter serves
// behind the real API aggregation: first none, then one that knows the older
// version only, then one that knows the newer too.
func TestKubernetesCustomAndExternalMetrics(t *testing.T) {
	c := cluster.ForTest(t)
	namespace := c.Namespace(t)
	if err := c.Deploy(t.Context(), namespace, cluster.Workload{Name: "web", Replicas: 2}); err != nil {
		t.Fatal(err)
	}
	gather := gathering(t, c, namespace,
		`{type: Pods, pods: {metric: {name: pps, selector: {matchLabels: {verb: GET}}}, target: {type: AverageValue}}}`,
		`{type: Object, object: {describedObject: {apiVersion: apps/v1, kind: Deployment, name: web}, metric: {name: rps}, target: {type: Value}}}`,
		`{type: Object, object: {describedObject: {apiVersion: v1, kind: Namespace, name: any}, metric: {name: jobs}, target: {type: AverageValue}}}`,
		`{type: External, external: {metric: {name: queue, selector: {matchLabels: {a: b}}}, target: {type: Value}}}`,
	)

	got, err := gather(t.Context())
	want := `kubernetesMetricSpecs[0] (Pods pps): the API server does not serve custom.metrics.k8s.io: install a metrics adapter that does
kubernetesMetricSpecs[1] (Object rps): the API server does not serve custom.metrics.k8s.io: install a metrics adapter that does
kubernetesMetricSpecs[2] (Object jobs): the API server does not serve custom.metrics.k8s.io: install a metrics adapter that does
kubernetesMetricSpecs[3] (External queue): the API server does not serve external.metrics.k8s.io: install a metrics adapter that does`
	if err == nil || err.Error() != want || len(got) != 0 {
		t.Fatalf("without an adapter got %v and the error\n%v\nwant\n%s", got, err, want)
	}

	pods := podNames(t, c, namespace)
	register := adapter(t, c, namespace, map[string]string{
		"custom.metrics.k8s.io/v1beta1/namespaces/" + namespace + "/pods/*/pps?labelSelector=app.kubernetes.io/name=web&metricLabelSelector=verb=GET": `{
			"kind": "MetricValueList", "apiVersion": "custom.metrics.k8s.io/v1beta1", "metadata": {}, "items": [{
				"describedObject": {"kind": "Pod", "name": "` + pods[0] + `"}, "metricName": "pps",
				"timestamp": "2026-11-21T20:00:00Z", "window": 15, "value": "1500m", "selector": null}]}`,
		"custom.metrics.k8s.io/v1beta1/namespaces/" + namespace + "/deployments.apps/web/rps": customValue("v1beta1", "7"),
		"custom.metrics.k8s.io/v1beta2/namespaces/" + namespace + "/deployments.apps/web/rps": customValue("v1beta2", "8"),
		"custom.metrics.k8s.io/v1beta1/namespaces/" + namespace + "/metrics/jobs":             customValue("v1beta1", "3"),
		"external.metrics.k8s.io/v1beta1/namespaces/" + namespace + "/queue?labelSelector=a=b": `{
			"kind": "ExternalMetricValueList", "apiVersion": "external.metrics.k8s.io/v1beta1", "metadata": {}, "items": [
				{"metricName": "queue", "metricLabels": {"shard": "0"}, "timestamp": "2026-11-21T20:00:00Z", "value": "5"},
				{"metricName": "queue", "metricLabels": {"shard": "1"}, "timestamp": "2026-11-21T20:00:00Z", "value": "500m"}]}`,
	})
	register("custom.metrics.k8s.io", "v1beta1")
	register("external.metrics.k8s.io", "v1beta1")
	eventually(t, "the adapter's metrics", func(ctx context.Context) (err error) {
		got, err = gather(ctx)
		return err
	})
	at := time.Date(2026, 11, 21, 20, 0, 0, 0, time.UTC)
	type values struct {
		PPS                    *metric.PodValues
		RPS, Jobs, QueueLength *metric.SingleValue
	}
	ready := int64(2)
	number := func(n int64) *int64 { return &n }
	if diff := cmp.Diff(values{
		PPS: &metric.PodValues{
			Values:        map[string]metric.PodValue{pods[0]: {Timestamp: at, Window: 15 * time.Second, Value: 1500}},
			ReadyPodCount: 1, MissingPods: metric.PodSet{pods[1]: {}}, TotalPods: 2, Timestamp: at,
		},
		RPS:         &metric.SingleValue{Current: metric.CurrentValue{Value: number(7000)}, ReadyPodCount: &ready, Timestamp: at},
		Jobs:        &metric.SingleValue{Current: metric.CurrentValue{AverageValue: number(3000)}, Timestamp: at},
		QueueLength: &metric.SingleValue{Current: metric.CurrentValue{Value: number(5500)}, ReadyPodCount: &ready, Timestamp: at},
	}, values{got[0].Pods, got[1].Object, got[2].Object, got[3].External}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	register("custom.metrics.k8s.io", "v1beta2")
	eventually(t, "the newer version to go first, and the adapter's own words for what that lacks", func(ctx context.Context) error {
		got, err := gather(ctx)
		if err == nil || !strings.Contains(err.Error(), "kubernetesMetricSpecs[2] (Object jobs): asking custom.metrics.k8s.io/v1beta2: nothing there") ||
			len(got) != 2 || got[0].Object == nil || *got[0].Object.Current.Value != 8000 {
			return fmt.Errorf("got %v and the error %w", got, err)
		}
		return nil
	})
}

// gathering is a gatherer of the specs for the Deployment web, and the snapshot
// it needs.
func gathering(t *testing.T, c *cluster.Cluster, namespace string, specs ...string) func(context.Context) ([]metric.KubernetesMetric, error) {
	t.Helper()
	clients, err := resource.Connect(c.RESTConfig(), "acceptance", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	options := metric.KubernetesOptions{
		Namespace: namespace, InitialReadinessDelay: 30 * time.Second, CPUInitializationPeriod: 5 * time.Minute,
	}
	for _, text := range specs {
		var spec autoscalingv2.MetricSpec
		if err := yaml.UnmarshalStrict([]byte(text), &spec); err != nil {
			t.Fatal(err)
		}
		options.Specs = append(options.Specs, spec)
	}
	target := resource.NewTarget(clients, autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "web"}, namespace)
	watches := resource.NewWatches(clients, slog.New(slog.DiscardHandler))
	t.Cleanup(watches.Close)
	reader := resource.NewReader(target, watches, false)
	kubernetes := metric.NewKubernetes(clients, reader, options)
	return func(ctx context.Context) ([]metric.KubernetesMetric, error) {
		snapshot, err := reader.Read(ctx)
		if err != nil {
			return nil, err
		}
		return kubernetes.Gather(ctx, time.Now(), snapshot)
	}
}

// adapter starts a metrics API server with an answer for each path, and returns
// what has the API server serve a version of a group by it.
func adapter(t *testing.T, c *cluster.Cluster, namespace string, answers map[string]string) (register func(group, version string)) {
	t.Helper()
	return serveMetrics(t, c, namespace, func(path string) (string, bool) {
		answer, ok := answers[path]
		return answer, ok
	})
}

// serveMetrics is adapter with answers that may change.
func serveMetrics(t *testing.T, c *cluster.Cluster, namespace string, answers func(path string) (string, bool)) (register func(group, version string)) {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		path := request(r)
		answer, ok := answers(path)
		switch {
		case strings.Count(path, "/") == 1:
			// An API counts as available once it says what it serves.
			answer = fmt.Sprintf(`{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": %q, "resources": []}`, path)
		case !ok:
			w.WriteHeader(http.StatusNotFound)
			answer = `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404, "message": "nothing there"}`
		}
		_, _ = w.Write([]byte(answer))
	}))
	t.Cleanup(server.Close)
	address, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(address.Port())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Client().CoreV1().Services(namespace).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "adapter"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "localhost"},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return func(group, version string) {
		t.Helper()
		services := c.Dynamic().Resource(schema.GroupVersionResource{Group: "apiregistration.k8s.io", Version: "v1", Resource: "apiservices"})
		name := version + "." + group
		if _, err := services.Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": map[string]any{"name": name},
			"spec": map[string]any{
				"group": group, "version": version, "groupPriorityMinimum": 100, "versionPriority": 100, "insecureSkipTLSVerify": true,
				"service": map[string]any{"namespace": namespace, "name": "adapter", "port": port},
			},
		}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		// An API whose server is gone would hold up the deletion of namespaces.
		t.Cleanup(func() {
			if err := services.Delete(context.WithoutCancel(t.Context()), name, metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
}

// request is the path of a request below /apis/, with its query in plain text.
func request(r *http.Request) string {
	query := r.URL.Query()
	query.Del("timeout")
	path := strings.TrimPrefix(r.URL.Path, "/apis/")
	if len(query) == 0 {
		return path
	}
	plain, err := url.QueryUnescape(query.Encode())
	if err != nil {
		return path
	}
	return path + "?" + plain
}

func customValue(version, value string) string {
	text, _ := json.Marshal(map[string]any{
		"kind": "MetricValueList", "apiVersion": "custom.metrics.k8s.io/" + version, "metadata": map[string]any{},
		"items": []any{map[string]any{"describedObject": map[string]any{"name": "web"}, "timestamp": "2026-11-21T20:00:00Z", "value": value}},
	})
	return string(text)
}

func podNames(t *testing.T, c *cluster.Cluster, namespace string) []string {
	t.Helper()
	pods, err := c.Client().CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range pods.Items {
		names = append(names, pods.Items[i].Name)
	}
	return names
}

func scaleTo(t *testing.T, c *cluster.Cluster, namespace string, replicas int32) {
	t.Helper()
	deployments := c.Client().AppsV1().Deployments(namespace)
	scale, err := deployments.GetScale(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	scale.Spec.Replicas = replicas
	if _, err := deployments.UpdateScale(t.Context(), "web", scale, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

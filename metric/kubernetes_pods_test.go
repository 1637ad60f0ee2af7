// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package metric

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	externalmetrics "k8s.io/metrics/pkg/apis/external_metrics/v1beta1"
	podmetrics "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
)

// A pod of these tests starts at 0 s and is looked at 100 s later, unless a
// story says otherwise; the cpu's initialisation takes 300 s, the initial
// readiness 30 s.
var start = now.Add(-100 * time.Second)

func TestPodsAreGroupedAsTheHorizontalPodAutoscalerDoes(t *testing.T) {
	longAgo := startedAt(now.Add(-time.Hour))
	for _, test := range []struct {
		name string
		of   corev1.ResourceName
		pod  *resource.Pod
		// sample is when the pod's value was taken, with a window of 30 s; zero
		// is never.
		sample time.Time
		want   string
	}{
		{"a running pod with a value", "memory", pod("p", running), now, "ready"},
		{"a running pod without one", "memory", pod("p", running), time.Time{}, "missing"},
		{"a pending pod", "memory", pod("p", in(corev1.PodPending)), now, "ignored"},
		{"a pending pod without a value", "cpu", pod("p", in(corev1.PodPending)), time.Time{}, "ignored"},
		{"a failed pod", "memory", pod("p", in(corev1.PodFailed)), now, "gone"},
		{"a failed pod without a value", "cpu", pod("p", in(corev1.PodFailed)), time.Time{}, "gone"},
		{"a pod that is going", "memory", pod("p", running, going), now, "gone"},
		{"a pod that is going without a value", "memory", pod("p", running, going), time.Time{}, "gone"},
		{"a pending pod that is going", "memory", pod("p", in(corev1.PodPending), going), now, "gone"},
		{"a pod that is not ready counts for the memory", "memory", pod("p", running, ready(corev1.ConditionFalse, start)), now, "ready"},
		{"and for a custom metric", "", pod("p", running, ready(corev1.ConditionFalse, start)), now, "ready"},

		{"cpu: no Ready condition", "cpu", pod("p", in(corev1.PodRunning), startedAt(start)), now, "ignored"},
		{"cpu: no start time", "cpu", pod("p", in(corev1.PodRunning), ready(corev1.ConditionTrue, start)), now, "ignored"},
		{"cpu: neither, nor a value", "cpu", pod("p", in(corev1.PodRunning)), time.Time{}, "missing"},

		{"cpu, starting: not ready", "cpu", pod("p", running, ready(corev1.ConditionFalse, start)), now, "ignored"},
		{
			"cpu, starting: ready, sampled before a window had passed", "cpu",
			pod("p", running, ready(corev1.ConditionTrue, start.Add(40*time.Second))), start.Add(69 * time.Second), "ignored",
		},
		{
			"cpu, starting: ready, sampled when a window had passed", "cpu",
			pod("p", running, ready(corev1.ConditionTrue, start.Add(40*time.Second))), start.Add(70 * time.Second), "ready",
		},
		{"cpu, starting: unknown whether it is ready", "cpu", pod("p", running, ready(corev1.ConditionUnknown, start)), now, "ready"},
		{
			"cpu, one second before the end of the initialisation", "cpu",
			pod("p", running, startedAt(now.Add(-299*time.Second)), ready(corev1.ConditionFalse, now.Add(-200*time.Second))), now, "ignored",
		},
		{
			"cpu, at the end of the initialisation", "cpu",
			pod("p", running, startedAt(now.Add(-300*time.Second)), ready(corev1.ConditionFalse, now.Add(-200*time.Second))), now, "ready",
		},

		{
			"cpu, later: ready, sampled before a window had passed", "cpu",
			pod("p", running, longAgo, ready(corev1.ConditionTrue, now)), now, "ready",
		},
		{
			"cpu, later: not ready, and never was", "cpu",
			pod("p", running, longAgo, ready(corev1.ConditionFalse, now.Add(-time.Hour+29*time.Second))), now, "ignored",
		},
		{
			"cpu, later: no longer ready", "cpu",
			pod("p", running, longAgo, ready(corev1.ConditionFalse, now.Add(-time.Hour+30*time.Second))), now, "ready",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := &gathering{now: now, Kubernetes: NewKubernetes(nil, nil, KubernetesOptions{
				InitialReadinessDelay: 30 * time.Second, CPUInitializationPeriod: 300 * time.Second,
			})}
			values := map[string]PodValue{"other": {Value: 1}}
			if !test.sample.IsZero() {
				values["p"] = PodValue{Timestamp: test.sample, Window: 30 * time.Second, Value: 1}
			}

			got := g.group([]*resource.Pod{test.pod}, values, test.of)

			want := PodValues{
				Values:      map[string]PodValue{"other": {Value: 1}},
				IgnoredPods: PodSet{}, MissingPods: PodSet{}, TotalPods: 1,
			}
			switch test.want {
			case "ready":
				want.ReadyPodCount = 1
				want.Values["p"] = PodValue{Timestamp: test.sample, Window: 30 * time.Second, Value: 1}
			case "ignored":
				want.IgnoredPods["p"] = struct{}{}
			case "missing":
				want.MissingPods["p"] = struct{}{}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("want it %s (-want +got):\n%s", test.want, diff)
			}
		})
	}
}

func TestReadyPodsAreRunningAndReady(t *testing.T) {
	pods := []*resource.Pod{
		pod("ready", running),
		pod("not ready", running, ready(corev1.ConditionFalse, start)),
		pod("no condition", in(corev1.PodRunning)),
		pod("pending", running, in(corev1.PodPending)),
		pod("going", running, going),
	}
	if got := countReady(pods); got != 2 {
		t.Errorf("got %d ready pods, want 2: one that is going still serves", got)
	}
}

func TestUsage(t *testing.T) {
	for _, test := range []struct {
		name       string
		container  string
		containers []podmetrics.ContainerMetrics
		want       map[string]int64
	}{
		{
			"a pod uses what its containers do", "",
			[]podmetrics.ContainerMetrics{used("a", "cpu", "3m"), used("b", "cpu", "1500u")},
			map[string]int64{"p": 5},
		},
		{"one container alone", "b", []podmetrics.ContainerMetrics{used("a", "cpu", "3m"), used("b", "cpu", "2")}, map[string]int64{"p": 2000}},
		{"a container without the figure", "", []podmetrics.ContainerMetrics{used("a", "cpu", "3m"), used("b", "memory", "1")}, map[string]int64{}},
		{"the container without the figure", "b", []podmetrics.ContainerMetrics{used("a", "cpu", "3m"), used("b", "memory", "1")}, map[string]int64{}},
		{"no containers", "", nil, map[string]int64{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			values, err := usageOf([]podmetrics.PodMetrics{{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Containers: test.containers}}, "cpu", test.container)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]int64{}
			for pod, value := range values {
				got[pod] = value.Value
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestRequests(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	sidecar := requesting("sidecar", "20m")
	sidecar.RestartPolicy = &always
	whole := requesting("", "500m").Resources
	for _, test := range []struct {
		name      string
		container string
		spec      corev1.PodSpec
		want      int64
		wantErr   string
	}{
		{name: "the containers' together", spec: corev1.PodSpec{Containers: []corev1.Container{requesting("a", "100m"), requesting("b", "1")}}, want: 1100},
		{name: "one container alone", container: "b", spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a"}, requesting("b", "1")}}, want: 1000},
		{
			name: "sidecars run as long as the pod, other init containers do not", want: 120,
			spec: corev1.PodSpec{
				InitContainers: []corev1.Container{{Name: "setup"}, sidecar}, Containers: []corev1.Container{requesting("a", "100m")},
			},
		},
		{
			name: "a sidecar alone", container: "sidecar", want: 20,
			spec: corev1.PodSpec{InitContainers: []corev1.Container{sidecar}, Containers: []corev1.Container{{Name: "a"}}},
		},
		{
			name: "a request of the pod itself goes before those of its containers", want: 500,
			spec: corev1.PodSpec{Resources: &whole, Containers: []corev1.Container{requesting("a", "100m"), {Name: "b"}}},
		},
		{
			name: "but not before that of a named container", container: "a", want: 100,
			spec: corev1.PodSpec{Resources: &whole, Containers: []corev1.Container{requesting("a", "100m")}},
		},
		{
			name: "none", wantErr: `the container "b" of the pod "p" requests no cpu`,
			spec: corev1.PodSpec{Containers: []corev1.Container{requesting("a", "100m"), {Name: "b"}}},
		},
		{
			name: "no such container", container: "c", wantErr: `the pod "p" has no container "c"`,
			spec: corev1.PodSpec{Containers: []corev1.Container{requesting("a", "100m")}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := requests([]*resource.Pod{pod("p", func(p *corev1.Pod) { p.Spec = test.spec })}, "cpu", test.container)
			if test.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), test.wantErr) {
					t.Errorf("got the error %v, want %q in it", err, test.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(map[string]int64{"p": test.want}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSeriesAddUp(t *testing.T) {
	for _, test := range []struct {
		name   string
		values []string
		want   int64
	}{
		{"in milli-units", []string{"3", "2500m", "-1"}, 4500},
		{"up to the largest number", []string{"5e15", "5e15", "-1"}, math.MaxInt64},
	} {
		t.Run(test.name, func(t *testing.T) {
			var series []externalmetrics.ExternalMetricValue
			for _, value := range test.values {
				series = append(series, externalmetrics.ExternalMetricValue{Value: apiresource.MustParse(value)})
			}
			if got := sum(series); got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
}

// pod makes a pod with the properties, applied in order.
func pod(name string, properties ...func(*corev1.Pod)) *resource.Pod {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}}
	for _, apply := range properties {
		apply(&p)
	}
	made, err := resource.NewPod(&p)
	if err != nil {
		panic(err)
	}
	return made
}

// running is a pod that is Running since start and Ready since then.
func running(p *corev1.Pod) {
	in(corev1.PodRunning)(p)
	startedAt(start)(p)
	ready(corev1.ConditionTrue, start)(p)
}

func going(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: now} }

func in(phase corev1.PodPhase) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.Phase = phase }
}

func startedAt(at time.Time) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.StartTime = &metav1.Time{Time: at} }
}

func ready(status corev1.ConditionStatus, since time.Time) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.Conditions = []corev1.PodCondition{
			{Type: corev1.PodInitialized, Status: corev1.ConditionTrue},
			{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.Time{Time: since}},
		}
	}
}

func used(container string, resource corev1.ResourceName, quantity string) podmetrics.ContainerMetrics {
	return podmetrics.ContainerMetrics{Name: container, Usage: corev1.ResourceList{resource: apiresource.MustParse(quantity)}}
}

func requesting(container, cpu string) corev1.Container {
	return corev1.Container{Name: container, Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: apiresource.MustParse(cpu)},
	}}
}

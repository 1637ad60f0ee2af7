// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package metric

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	podmetrics "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
)

// defaultWindow is taken for custom metrics that name none.
const defaultWindow = time.Minute

// group says how each pod is to be taken, given the values there are of the
// resource; of a custom metric the resource is "". It drops the values of pods
// that do not count. Pods that are going or have failed count nowhere: an
// evaluation reckons ignored pods as using nothing, and an evicted pod, which
// may stay for days, would then hold up scaling.
func (g *gathering) group(pods []*resource.Pod, values map[string]PodValue, of corev1.ResourceName) PodValues {
	m := PodValues{Values: values, IgnoredPods: PodSet{}, MissingPods: PodSet{}, TotalPods: len(pods)}
	for _, pod := range pods {
		value, measured := values[pod.Name]
		switch {
		case pod.Going || pod.Phase == corev1.PodFailed:
			delete(values, pod.Name)
		case pod.Phase == corev1.PodPending:
			m.IgnoredPods[pod.Name] = struct{}{}
			delete(values, pod.Name)
		case !measured:
			m.MissingPods[pod.Name] = struct{}{}
		case of == corev1.ResourceCPU && g.starting(pod, value):
			m.IgnoredPods[pod.Name] = struct{}{}
			delete(values, pod.Name)
		default:
			m.ReadyPodCount++
		}
	}
	return m
}

// starting says whether a pod's use of the cpu is that of its start rather than
// of its work.
func (g *gathering) starting(pod *resource.Pod, value PodValue) bool {
	if pod.Ready == nil || pod.Started.IsZero() {
		return true
	}
	unready := pod.Ready.Status == corev1.ConditionFalse
	if pod.Started.Add(g.options.CPUInitializationPeriod).After(g.now) {
		return unready || value.Timestamp.Before(pod.Ready.Since.Add(value.Window))
	}
	// Later on, a pod that is not ready counts unless it never was.
	return unready && pod.Started.Add(g.options.InitialReadinessDelay).After(pod.Ready.Since)
}

func countReady(pods []*resource.Pod) int64 {
	var count int64
	for _, pod := range pods {
		if pod.Phase == corev1.PodRunning && pod.Ready != nil && pod.Ready.Status == corev1.ConditionTrue {
			count++
		}
	}
	return count
}

// usageOf is what each pod, or its one named container, uses of a resource. A
// pod that lacks the figure of a container has none.
func usageOf(pods []podmetrics.PodMetrics, of corev1.ResourceName, container string) (map[string]PodValue, error) {
	values := make(map[string]PodValue, len(pods))
	for i := range pods {
		pod := &pods[i]
		measured := pod.Containers
		if container != "" {
			one := containerMetrics(pod, container)
			if one == nil {
				return nil, fmt.Errorf("metrics.k8s.io has no container %q of the pod %q: check the container's name", container, pod.Name)
			}
			measured = []podmetrics.ContainerMetrics{*one}
		}
		if total, ok := totalUsage(measured, of); ok {
			values[pod.Name] = PodValue{Timestamp: pod.Timestamp.UTC(), Window: pod.Window.Duration, Value: total}
		}
	}
	return values, nil
}

func containerMetrics(pod *podmetrics.PodMetrics, name string) *podmetrics.ContainerMetrics {
	for i := range pod.Containers {
		if pod.Containers[i].Name == name {
			return &pod.Containers[i]
		}
	}
	return nil
}

// totalUsage is not ok when a container has no figure, or there is none.
func totalUsage(containers []podmetrics.ContainerMetrics, of corev1.ResourceName) (total int64, ok bool) {
	for _, c := range containers {
		used, measured := c.Usage[of]
		if !measured {
			return 0, false
		}
		total += used.MilliValue()
	}
	return total, len(containers) > 0
}

// requests is what each pod, or its one named container, requests of a
// resource.
func requests(pods []*resource.Pod, of corev1.ResourceName, container string) (map[string]int64, error) {
	all := make(map[string]int64, len(pods))
	for _, pod := range pods {
		request, err := podRequest(pod, of, container)
		if err != nil {
			return nil, err
		}
		all[pod.Name] = request
	}
	return all, nil
}

func podRequest(pod *resource.Pod, of corev1.ResourceName, container string) (int64, error) {
	if request, ok := pod.Requests[of]; ok && container == "" {
		return request.MilliValue(), nil
	}
	var total int64
	found := false
	for _, c := range pod.Containers {
		if container != "" && container != c.Name {
			continue
		}
		request, ok := c.Requests[of]
		if !ok {
			return 0, fmt.Errorf("the container %q of the pod %q requests no %s, which Utilization is a share of: "+
				"set the request in the pod template, or use AverageValue", c.Name, pod.Name, of)
		}
		total += request.MilliValue()
		found = true
	}
	if !found {
		return 0, fmt.Errorf("the pod %q has no container %q: check the container's name", pod.Name, container)
	}
	return total, nil
}

func customValues(metrics []customMetric) map[string]PodValue {
	values := make(map[string]PodValue, len(metrics))
	for _, m := range metrics {
		values[m.DescribedObject.Name] = PodValue{Timestamp: m.Timestamp.UTC(), Window: m.window(), Value: m.Value.MilliValue()}
	}
	return values
}

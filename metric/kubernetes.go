// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package metric

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	podmetrics "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
)

// KubernetesMetric is one entry of `kubernetesMetrics`: a metric spec of the
// configuration and what was gathered for it, under the key of its type. All
// numbers are milli-units: 4m is 4, 10Mi is 10485760000.
type KubernetesMetric struct {
	// CurrentReplicas is the count the target's scale asks for.
	CurrentReplicas int32 `json:"current_replicas"`
	// Spec is the metric spec as it was configured.
	Spec autoscalingv2.MetricSpec `json:"spec"`
	// Resource is set for the types Resource and ContainerResource.
	Resource *ResourceUsage `json:"resource,omitempty"`
	// Pods is set for the type Pods.
	Pods *PodValues `json:"pods,omitempty"`
	// Object is set for the type Object.
	Object *SingleValue `json:"object,omitempty"`
	// External is set for the type External.
	External *SingleValue `json:"external,omitempty"`
}

// ResourceUsage is what pods use of a resource, such as cpu.
type ResourceUsage struct {
	PodValues
	// Requests is what each pod requests of it. Nil for the target type
	// AverageValue.
	Requests map[string]int64 `json:"requests"`
}

// PodValues is a metric that has a value for each pod, and how the pods are to
// be taken, grouped as the HorizontalPodAutoscaler groups them.
type PodValues struct {
	// Values are those of the metrics API, by pod, except for pods that are
	// ignored, going or gone.
	Values map[string]PodValue `json:"pod_metrics_info"`
	// ReadyPodCount counts the pods whose value is to be taken as it is.
	ReadyPodCount int64 `json:"ready_pod_count"`
	// IgnoredPods are not ready yet: Pending, or for the cpu still starting.
	// Nil for the type Pods.
	IgnoredPods PodSet `json:"ignored_pods"`
	// MissingPods run but have no value.
	MissingPods PodSet `json:"missing_pods"`
	// TotalPods counts all pods of the target, in whatever phase.
	TotalPods int `json:"total_pods"`
	// Timestamp is when the first of the values was taken.
	Timestamp time.Time `json:"timestamp"`
}

// PodValue is the value of one pod. Its keys are those that scripts know.
type PodValue struct {
	// Timestamp is the end of the time it was taken over.
	Timestamp time.Time
	// Window is the length of that time; in JSON, nanoseconds.
	Window time.Duration
	// Value is in milli-units.
	Value int64
}

// PodSet is a set of pod names; in JSON, `{"name": {}}`.
type PodSet map[string]struct{}

// SingleValue is a metric that has one value, whatever the number of pods.
type SingleValue struct {
	// Current is the value.
	Current CurrentValue `json:"current"`
	// ReadyPodCount counts the pods that are Running and Ready. Nil unless the
	// target type is Value.
	ReadyPodCount *int64 `json:"ready_pod_count,omitempty"`
	// Timestamp is when it was taken.
	Timestamp time.Time `json:"timestamp"`
}

// CurrentValue is the same number under the key of the target type.
type CurrentValue struct {
	// Value is set for the target type Value.
	Value *int64 `json:"value,omitempty"`
	// AverageValue is set for the target type AverageValue. It is the total:
	// dividing it by the replicas is left to the evaluation.
	AverageValue *int64 `json:"average_value,omitempty"`
}

// KubernetesOptions say which metrics are gathered, and how.
type KubernetesOptions struct {
	// Specs are the metrics, each with the block of its type.
	Specs []autoscalingv2.MetricSpec
	// Namespace is that of the target.
	Namespace string
	// InitialReadinessDelay is how long after its start a pod that is not
	// ready is taken never to have been; for the cpu, once
	// CPUInitializationPeriod is over.
	InitialReadinessDelay time.Duration
	// CPUInitializationPeriod is how long after its start a pod's cpu counts
	// only from one window after it became ready.
	CPUInitializationPeriod time.Duration
}

// Kubernetes gathers the metrics that Kubernetes knows, from its metrics APIs.
// It is safe for concurrent use, and bounds each request by
// resource.RequestTimeout.
type Kubernetes struct {
	clients *resource.Clients
	reader  *resource.Reader
	options KubernetesOptions
}

// NewKubernetes makes a Kubernetes that lists the target's pods with the reader
// when a snapshot has none.
func NewKubernetes(clients *resource.Clients, reader *resource.Reader, options KubernetesOptions) *Kubernetes {
	return &Kubernetes{clients: clients, reader: reader, options: options}
}

// Gather returns what could be gathered, in the order of the specs, and the
// joined errors of what could not, each naming its spec. The specs are gathered
// side by side; what several need is asked for once.
func (k *Kubernetes) Gather(ctx context.Context, now time.Time, snapshot resource.Snapshot) ([]KubernetesMetric, error) {
	g := k.gathering(ctx, now, snapshot)
	all := make([]KubernetesMetric, len(k.options.Specs))
	errs := make([]error, len(all))
	var specs sync.WaitGroup
	for i, spec := range k.options.Specs {
		specs.Go(func() {
			all[i], errs[i] = g.metric(ctx, spec)
		})
	}
	specs.Wait()

	var gathered []KubernetesMetric
	for i, err := range errs {
		if err == nil {
			gathered = append(gathered, all[i])
			continue
		}
		errs[i] = fmt.Errorf("kubernetesMetricSpecs[%d] (%s): %w", i, describe(k.options.Specs[i]), err)
	}
	return gathered, errors.Join(errs...)
}

// gathering is one Gather under way.
type gathering struct {
	*Kubernetes
	now      time.Time
	snapshot resource.Snapshot
	// pods and usage are asked for by the first spec that needs them.
	pods  func() ([]*resource.Pod, error)
	usage func() ([]podmetrics.PodMetrics, error)
}

func (k *Kubernetes) gathering(ctx context.Context, now time.Time, snapshot resource.Snapshot) *gathering {
	return &gathering{
		Kubernetes: k, now: now, snapshot: snapshot,
		pods: sync.OnceValues(func() ([]*resource.Pod, error) {
			if snapshot.Pods != nil {
				return snapshot.Pods, nil
			}
			return k.reader.Pods(ctx, snapshot.Scale.Selector)
		}),
		usage: sync.OnceValues(func() ([]podmetrics.PodMetrics, error) {
			return k.podMetrics(ctx, snapshot.Scale.Selector)
		}),
	}
}

func (g *gathering) metric(ctx context.Context, spec autoscalingv2.MetricSpec) (KubernetesMetric, error) {
	m := KubernetesMetric{CurrentReplicas: g.snapshot.Scale.Replicas, Spec: spec}
	var err error
	switch spec.Type {
	case autoscalingv2.ResourceMetricSourceType:
		m.Resource, err = g.resource(spec.Resource.Name, "", spec.Resource.Target.Type)
	case autoscalingv2.ContainerResourceMetricSourceType:
		m.Resource, err = g.resource(spec.ContainerResource.Name, spec.ContainerResource.Container, spec.ContainerResource.Target.Type)
	case autoscalingv2.PodsMetricSourceType:
		m.Pods, err = g.podsMetric(ctx, spec.Pods)
	case autoscalingv2.ObjectMetricSourceType:
		m.Object, err = g.object(ctx, spec.Object)
	case autoscalingv2.ExternalMetricSourceType:
		m.External, err = g.external(ctx, spec.External)
	default:
		err = errors.New("unknown type of metric")
	}
	return m, err
}

// resource gathers the use of a resource by whole pods or, if a container is
// named, by that one alone.
func (g *gathering) resource(name corev1.ResourceName, container string, target autoscalingv2.MetricTargetType) (*ResourceUsage, error) {
	if target != autoscalingv2.UtilizationMetricType && target != autoscalingv2.AverageValueMetricType {
		return nil, fmt.Errorf("target.type is %q: write Utilization or AverageValue", target)
	}
	pods, err := g.somePods()
	if err != nil {
		return nil, err
	}
	usage, err := g.usage()
	if err != nil {
		return nil, err
	}
	values, err := usageOf(usage, name, container)
	if err != nil {
		return nil, err
	}
	m := &ResourceUsage{PodValues: g.group(pods, values, name)}
	m.Timestamp = usage[0].Timestamp.UTC()
	if target == autoscalingv2.UtilizationMetricType {
		m.Requests, err = requests(pods, name, container)
	}
	return m, err
}

// podsMetric gathers a custom metric of each pod.
func (g *gathering) podsMetric(ctx context.Context, source *autoscalingv2.PodsMetricSource) (*PodValues, error) {
	if source.Target.Type != autoscalingv2.AverageValueMetricType {
		return nil, fmt.Errorf("target.type is %q: write AverageValue", source.Target.Type)
	}
	pods, err := g.somePods()
	if err != nil {
		return nil, err
	}
	custom, err := g.customPodMetrics(ctx, source.Metric, g.snapshot.Scale.Selector)
	if err != nil {
		return nil, err
	}
	m := g.group(pods, customValues(custom), "")
	m.IgnoredPods = nil
	m.Timestamp = custom[0].Timestamp.UTC()
	return &m, nil
}

// object gathers a custom metric of one object.
func (g *gathering) object(ctx context.Context, source *autoscalingv2.ObjectMetricSource) (*SingleValue, error) {
	custom, err := g.customObjectMetric(ctx, source.Metric, source.DescribedObject)
	if err != nil {
		return nil, err
	}
	return g.single(custom.Value.MilliValue(), custom.Timestamp, source.Target.Type)
}

// external gathers a metric from outside the cluster: the sum of its series.
func (g *gathering) external(ctx context.Context, source *autoscalingv2.ExternalMetricSource) (*SingleValue, error) {
	series, err := g.externalMetrics(ctx, source.Metric)
	if err != nil {
		return nil, err
	}
	return g.single(sum(series), series[0].Timestamp, source.Target.Type)
}

func (g *gathering) single(value int64, timestamp metav1.Time, target autoscalingv2.MetricTargetType) (*SingleValue, error) {
	m := &SingleValue{Timestamp: timestamp.UTC()}
	switch target {
	case autoscalingv2.AverageValueMetricType:
		m.Current.AverageValue = &value
		return m, nil
	case autoscalingv2.ValueMetricType:
		pods, err := g.pods()
		ready := countReady(pods)
		m.Current.Value, m.ReadyPodCount = &value, &ready
		return m, err
	default:
		return nil, fmt.Errorf("target.type is %q: write Value or AverageValue", target)
	}
}

// somePods are the target's pods, of which there must be some.
func (g *gathering) somePods() ([]*resource.Pod, error) {
	pods, err := g.pods()
	if err == nil && len(pods) == 0 {
		return nil, errors.New("the target has no pods to measure")
	}
	return pods, err
}

// describe names a spec: its type and the metric.
func describe(spec autoscalingv2.MetricSpec) string {
	name := ""
	switch spec.Type {
	case autoscalingv2.ResourceMetricSourceType:
		name = string(spec.Resource.Name)
	case autoscalingv2.ContainerResourceMetricSourceType:
		name = string(spec.ContainerResource.Name)
	case autoscalingv2.PodsMetricSourceType:
		name = spec.Pods.Metric.Name
	case autoscalingv2.ObjectMetricSourceType:
		name = spec.Object.Metric.Name
	case autoscalingv2.ExternalMetricSourceType:
		name = spec.External.Metric.Name
	}
	return strings.TrimSpace(string(spec.Type) + " " + name)
}

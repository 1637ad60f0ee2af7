// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// metricSpec checks a MetricSpec as the HorizontalPodAutoscaler would, but
// leaves the target's values to the user: the hooks, not Kubernetes, compare
// with them.
func (v *validator) metricSpec(key string, spec *autoscalingv2.MetricSpec) {
	if !oneOf(v, under(key, "type"), spec.Type,
		autoscalingv2.ResourceMetricSourceType, autoscalingv2.ContainerResourceMetricSourceType,
		autoscalingv2.PodsMetricSourceType, autoscalingv2.ObjectMetricSourceType, autoscalingv2.ExternalMetricSourceType) {
		return
	}
	const utilization, value, average = autoscalingv2.UtilizationMetricType, autoscalingv2.ValueMetricType, autoscalingv2.AverageValueMetricType
	switch {
	case spec.Type == autoscalingv2.ResourceMetricSourceType && spec.Resource != nil:
		key = under(key, "resource")
		v.metricName(key, string(spec.Resource.Name))
		v.targetType(key, spec.Resource.Target, utilization, average)
	case spec.Type == autoscalingv2.ContainerResourceMetricSourceType && spec.ContainerResource != nil:
		key = under(key, "containerResource")
		v.metricName(key, string(spec.ContainerResource.Name))
		if spec.ContainerResource.Container == "" {
			v.fault(under(key, "container"), "is required: the name of the container")
		}
		v.targetType(key, spec.ContainerResource.Target, utilization, average)
	case spec.Type == autoscalingv2.PodsMetricSourceType && spec.Pods != nil:
		key = under(key, "pods")
		v.metric(key, spec.Pods.Metric)
		v.targetType(key, spec.Pods.Target, average)
	case spec.Type == autoscalingv2.ObjectMetricSourceType && spec.Object != nil:
		key = under(key, "object")
		v.reference(under(key, "describedObject"), spec.Object.DescribedObject)
		v.metric(key, spec.Object.Metric)
		v.targetType(key, spec.Object.Target, value, average)
	case spec.Type == autoscalingv2.ExternalMetricSourceType && spec.External != nil:
		key = under(key, "external")
		v.metric(key, spec.External.Metric)
		v.targetType(key, spec.External.Target, value, average)
	default:
		block := string(spec.Type[0]|0x20) + string(spec.Type[1:])
		v.fault(under(key, block), "is required for a metric of the type %s", spec.Type)
	}
}

func (v *validator) metric(key string, metric autoscalingv2.MetricIdentifier) {
	key = under(key, "metric")
	v.metricName(key, metric.Name)
	if _, err := metav1.LabelSelectorAsSelector(metric.Selector); err != nil {
		v.fault(under(key, "selector"), "must be a label selector: %v", err)
	}
}

func (v *validator) metricName(key, name string) {
	if name == "" {
		v.fault(under(key, "name"), "is required: the name of the metric")
	}
}

func (v *validator) targetType(key string, target autoscalingv2.MetricTarget, known ...autoscalingv2.MetricTargetType) {
	oneOf(v, under(under(key, "target"), "type"), target.Type, known...)
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package metric

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	externalmetrics "k8s.io/metrics/pkg/apis/external_metrics/v1beta1"
	podmetrics "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
)

// podMetrics asks metrics.k8s.io for the usage of the pods that the selector
// matches; it gives at least one.
func (k *Kubernetes) podMetrics(ctx context.Context, selector string) ([]podmetrics.PodMetrics, error) {
	ctx, cancel := context.WithTimeout(ctx, resource.RequestTimeout)
	defer cancel()
	var list podmetrics.PodMetricsList
	err := k.clients.PodMetrics.Get().Namespace(k.options.Namespace).Resource("pods").
		Param("labelSelector", selector).Do(ctx).Into(&list)
	switch {
	case notServed(err):
		return nil, errors.New("the API server does not serve metrics.k8s.io: install metrics-server")
	case err != nil:
		return nil, fmt.Errorf("asking metrics.k8s.io: %w", err)
	case len(list.Items) == 0:
		return nil, errors.New("no metrics returned by metrics.k8s.io: new pods have none for a while; if that lasts, check metrics-server")
	}
	return list.Items, nil
}

// externalMetrics asks external.metrics.k8s.io for the series of a metric; it
// gives at least one.
func (k *Kubernetes) externalMetrics(ctx context.Context, metric autoscalingv2.MetricIdentifier,
) ([]externalmetrics.ExternalMetricValue, error) {
	ctx, cancel := context.WithTimeout(ctx, resource.RequestTimeout)
	defer cancel()
	request := k.clients.ExternalMetrics.Get().Namespace(k.options.Namespace).Resource(metric.Name)
	if err := selectSeries(request, "labelSelector", metric.Selector); err != nil {
		return nil, err
	}
	var list externalmetrics.ExternalMetricValueList
	err := request.Do(ctx).Into(&list)
	switch {
	case notServed(err):
		return nil, errors.New("the API server does not serve external.metrics.k8s.io: install a metrics adapter that does")
	case err != nil:
		return nil, fmt.Errorf("asking external.metrics.k8s.io: %w", err)
	case len(list.Items) == 0:
		return nil, errors.New("no metrics returned by external.metrics.k8s.io: check the metric's name and selector")
	}
	return list.Items, nil
}

// sum adds up a metric's series and stops at the largest number there is.
func sum(series []externalmetrics.ExternalMetricValue) int64 {
	var total int64
	for i := range series {
		value := series[i].Value.MilliValue()
		if value > 0 && total > math.MaxInt64-value {
			return math.MaxInt64
		}
		total += value
	}
	return total
}

// customMetric is the value of a metric for one object. The versions of the API
// differ, in what matters here, in one key only.
type customMetric struct {
	DescribedObject corev1.ObjectReference `json:"describedObject"`
	Timestamp       metav1.Time            `json:"timestamp"`
	// WindowSeconds is of v1beta2, Window of v1beta1.
	WindowSeconds *int64               `json:"windowSeconds"`
	Window        *int64               `json:"window"`
	Value         apiresource.Quantity `json:"value"`
}

func (m *customMetric) window() time.Duration {
	seconds := cmp.Or(m.WindowSeconds, m.Window)
	if seconds == nil {
		return defaultWindow
	}
	return time.Duration(*seconds) * time.Second
}

// customPodMetrics asks for a metric of every pod that the selector matches; it
// gives at least one.
func (k *Kubernetes) customPodMetrics(ctx context.Context, metric autoscalingv2.MetricIdentifier, selector string) ([]customMetric, error) {
	items, err := k.customMetrics(ctx, metric, func(request *rest.Request) *rest.Request {
		return request.Resource("pods").Name("*").SubResource(metric.Name).Param("labelSelector", selector)
	})
	if err == nil && len(items) == 0 {
		return nil, errors.New("no metrics returned by custom.metrics.k8s.io: check the metric's name, and that the pods publish it")
	}
	return items, err
}

// customObjectMetric asks for a metric of one object of the target's namespace,
// or of that namespace itself, whatever its name is said to be.
func (k *Kubernetes) customObjectMetric(ctx context.Context, metric autoscalingv2.MetricIdentifier,
	object autoscalingv2.CrossVersionObjectReference,
) (*customMetric, error) {
	mapping, err := k.clients.Mapper.Map(ctx, cmp.Or(object.APIVersion, "v1"), object.Kind)
	if err != nil {
		return nil, fmt.Errorf("resolving describedObject: %w", err)
	}
	kind := mapping.Resource.GroupResource().String()
	items, err := k.customMetrics(ctx, metric, func(request *rest.Request) *rest.Request {
		if kind == "namespaces" {
			return request.Resource("metrics").Name(metric.Name)
		}
		return request.Resource(kind).Name(object.Name).SubResource(metric.Name)
	})
	if err == nil && len(items) != 1 {
		return nil, fmt.Errorf("custom.metrics.k8s.io returned %d values for %s %q where one is wanted", len(items), object.Kind, object.Name)
	}
	if err != nil {
		return nil, err
	}
	return &items[0], nil
}

// customMetrics asks custom.metrics.k8s.io, in the newest version there is.
func (k *Kubernetes) customMetrics(ctx context.Context, metric autoscalingv2.MetricIdentifier, of func(*rest.Request) *rest.Request,
) ([]customMetric, error) {
	for _, version := range []string{"v1beta2", "v1beta1"} {
		request := k.clients.CustomMetrics.Get().AbsPath("/apis/custom.metrics.k8s.io", version).Namespace(k.options.Namespace)
		if err := selectSeries(request, "metricLabelSelector", metric.Selector); err != nil {
			return nil, err
		}
		items, err := customItems(ctx, of(request))
		if notServed(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("asking custom.metrics.k8s.io/%s: %w", version, err)
		}
		return items, nil
	}
	return nil, errors.New("the API server does not serve custom.metrics.k8s.io: install a metrics adapter that does")
}

func customItems(ctx context.Context, request *rest.Request) ([]customMetric, error) {
	ctx, cancel := context.WithTimeout(ctx, resource.RequestTimeout)
	defer cancel()
	result := request.SetHeader("Accept", "application/json").Do(ctx)
	raw, err := result.Raw()
	if err != nil {
		// Raw's own error lacks the words of the Status that was sent.
		return nil, result.Error()
	}
	var list struct {
		Items []customMetric `json:"items"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	return list.Items, nil
}

// selectSeries adds the selector of a metric's labels to a request, if there is
// one.
func selectSeries(request *rest.Request, param string, selector *metav1.LabelSelector) error {
	series, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return fmt.Errorf("reading metric.selector: %w", err)
	}
	if text := series.String(); text != "" {
		request.Param(param, text)
	}
	return nil
}

// notServed says whether the API server knows nothing by that path, as opposed
// to an API that answers that it has no such metric: only the latter sends a
// Status.
func notServed(err error) bool {
	return apierrors.IsNotFound(err) && apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}

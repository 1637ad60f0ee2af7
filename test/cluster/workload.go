// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// UsageAnnotation is the annotation of a pod that says how much CPU each of its
// containers uses, as a quantity; 1m without it.
const UsageAnnotation = "kwok.x-k8s.io/usage-cpu"

// nameLabel selects the pods of a Workload.
const nameLabel = "app.kubernetes.io/name"

// patchesAtOnce bounds the requests of SetUsage.
const patchesAtOnce = 16

// Workload describes a Deployment of pods with one container each.
type Workload struct {
	Name     string
	Replicas int32
	// CPURequest is what each pod requests; 100m when empty.
	CPURequest string
	// CPUUsage is what each pod uses from its start; 1m when empty.
	CPUUsage string
}

// Deploy creates the Deployment of a workload and waits until all its pods are
// Ready. Its pods carry the label app.kubernetes.io/name: NAME.
func (c *Cluster) Deploy(ctx context.Context, namespace string, w Workload) error {
	deployment, err := w.deployment()
	if err != nil {
		return err
	}
	if _, err := c.client.AppsV1().Deployments(namespace).Create(ctx, deployment, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating the deployment %s/%s: %w", namespace, w.Name, err)
	}
	return c.WaitForReplicas(ctx, namespace, w.Name, w.Replicas)
}

func (w Workload) deployment() (*appsv1.Deployment, error) {
	request := w.CPURequest
	if request == "" {
		request = "100m"
	}
	quantity, err := resource.ParseQuantity(request)
	if err != nil {
		return nil, fmt.Errorf("deploying %s: CPU request %q: %w", w.Name, request, err)
	}
	template := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{nameLabel: w.Name}, Annotations: map[string]string{}},
		Spec:       podSpec(quantity),
	}
	if w.CPUUsage != "" {
		template.Annotations[UsageAnnotation] = w.CPUUsage
	}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: w.Name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &w.Replicas,
			Selector: &metav1.LabelSelector{MatchLabels: template.Labels},
			Template: template,
		},
	}, nil
}

// podSpec is a pod on the fake node, whatever that node's taints are.
func podSpec(cpuRequest resource.Quantity) corev1.PodSpec {
	return corev1.PodSpec{
		NodeName:    NodeName,
		Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
		Containers: []corev1.Container{{
			Name: "main", Image: "none",
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: cpuRequest}},
		}},
	}
}

// WaitForReplicas waits until a Deployment asks for that many replicas, has
// exactly that many pods, and all of them are Ready; two minutes at most. It
// sits out an API server that does not answer.
func (c *Cluster) WaitForReplicas(ctx context.Context, namespace, deployment string, replicas int32) error {
	what := fmt.Sprintf("%d ready replicas of %s/%s", replicas, namespace, deployment)
	return c.wait(ctx, what, func(ctx context.Context) error {
		seen, err := c.client.AppsV1().Deployments(namespace).Get(ctx, deployment, metav1.GetOptions{})
		if err != nil {
			return err
		}
		// The API server fills in a count that is not given.
		asked, status := *seen.Spec.Replicas, seen.Status
		if asked != replicas || status.ObservedGeneration < seen.Generation || status.Replicas != replicas || status.ReadyReplicas != replicas {
			return fmt.Errorf("%d asked for, %d there, %d ready", asked, status.Replicas, status.ReadyReplicas)
		}
		return nil
	})
}

// Scale asks for that many replicas of a Deployment, as a person would who does
// it by hand, and does not wait for them.
func (c *Cluster) Scale(ctx context.Context, namespace, deployment string, replicas int32) error {
	patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)
	deployments := c.client.AppsV1().Deployments(namespace)
	if _, err := deployments.Patch(ctx, deployment, types.MergePatchType, patch, metav1.PatchOptions{}, "scale"); err != nil {
		return fmt.Errorf("scaling %s/%s: %w", namespace, deployment, err)
	}
	return nil
}

// SetUsage sets how much CPU each present pod of a Deployment uses. Pods that
// come later start with the usage that the Workload named. metrics-server shows
// it in full after at most two scrapes.
func (c *Cluster) SetUsage(ctx context.Context, namespace, deployment, cpu string) error {
	pods, err := c.client.CoreV1().Pods(namespace).List(ctx, ofWorkload(deployment))
	if err != nil {
		return fmt.Errorf("setting the usage of %s/%s: %w", namespace, deployment, err)
	}
	patches, ctx := errgroup.WithContext(ctx)
	patches.SetLimit(patchesAtOnce)
	for _, pod := range pods.Items {
		patches.Go(func() error { return c.SetPodUsage(ctx, namespace, pod.Name, cpu) })
	}
	return patches.Wait()
}

// SetPodUsage sets how much CPU one pod uses.
func (c *Cluster) SetPodUsage(ctx context.Context, namespace, pod, cpu string) error {
	if _, err := resource.ParseQuantity(cpu); err != nil {
		return fmt.Errorf("setting the usage of pod %s/%s to %q: %w", namespace, pod, cpu, err)
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{UsageAnnotation: cpu}}})
	if err != nil {
		return fmt.Errorf("setting the usage of pod %s/%s: %w", namespace, pod, err)
	}
	if _, err := c.client.CoreV1().Pods(namespace).Patch(ctx, pod, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("setting the usage of pod %s/%s: %w", namespace, pod, err)
	}
	return nil
}

// Usage returns the CPU that metrics-server shows for each pod of a
// Deployment, in thousandths of a core. A pod without a figure is not in it.
func (c *Cluster) Usage(ctx context.Context, namespace, deployment string) (map[string]int64, error) {
	figures, err := c.metrics.MetricsV1beta1().PodMetricses(namespace).List(ctx, ofWorkload(deployment))
	if err != nil {
		return nil, fmt.Errorf("reading the usage of %s/%s: %w", namespace, deployment, err)
	}
	usage := map[string]int64{}
	for _, pod := range figures.Items {
		for _, container := range pod.Containers {
			usage[pod.Name] += container.Usage.Cpu().MilliValue()
		}
	}
	return usage, nil
}

// WaitForUsage waits until metrics-server shows about that much CPU, within a
// tenth, for every pod of a Deployment; two minutes at most. A new pod takes
// about 20 seconds.
func (c *Cluster) WaitForUsage(ctx context.Context, namespace, deployment, cpu string) error {
	wanted, err := resource.ParseQuantity(cpu)
	if err != nil {
		return fmt.Errorf("waiting for a usage of %q: %w", cpu, err)
	}
	what := fmt.Sprintf("metrics-server to show %s for every pod of %s/%s", cpu, namespace, deployment)
	return c.wait(ctx, what, func(ctx context.Context) error {
		pods, err := c.client.CoreV1().Pods(namespace).List(ctx, ofWorkload(deployment))
		if err != nil {
			return err
		}
		usage, err := c.Usage(ctx, namespace, deployment)
		if err != nil {
			return err
		}
		return near(pods.Items, usage, wanted.MilliValue())
	})
}

// near reports whether every pod has a figure within a tenth of wanted.
func near(pods []corev1.Pod, usage map[string]int64, wanted int64) error {
	if len(pods) == 0 {
		return errors.New("there are no pods")
	}
	for _, pod := range pods {
		seen, found := usage[pod.Name]
		if !found {
			return fmt.Errorf("no figure for pod %s", pod.Name)
		}
		if 10*max(seen-wanted, wanted-seen) > wanted {
			return fmt.Errorf("%dm for pod %s", seen, pod.Name)
		}
	}
	return nil
}

func ofWorkload(name string) metav1.ListOptions {
	return metav1.ListOptions{LabelSelector: nameLabel + "=" + name}
}

// wait is await with the deadline of the helpers.
func (c *Cluster) wait(ctx context.Context, what string, probe func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	return await(ctx, what, probe)
}

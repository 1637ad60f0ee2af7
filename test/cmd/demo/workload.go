// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/cluster"
)

const (
	// deployment is what is scaled; config.yaml names it too.
	deployment = "web"
	// minReplicas is what it starts with; config.yaml has it too.
	minReplicas = 2
	// readyTimeout is how long the first pods may take, an image pull
	// included, and measuredTimeout their first figures.
	readyTimeout    = 3 * time.Minute
	measuredTimeout = 4 * time.Minute
)

// burn is the script that a real pod runs.
//
//go:embed burn.sh
var burn string

// deploy makes the Deployment and waits for its first pods.
func (p *place) deploy(ctx context.Context, s *screen, image string) error {
	created := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: deployment},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(minReplicas)),
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": deployment}},
			Template: p.podTemplate(image),
		},
	}
	if _, err := p.client.AppsV1().Deployments(p.namespace).Create(ctx, created, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating the Deployment: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return poll(ctx, s, "the Deployment's first pods", func(ctx context.Context) error {
		pods, err := p.pods(ctx)
		if err != nil {
			return err
		}
		if ready := countReady(pods); ready < minReplicas {
			return fmt.Errorf("%d of %d are ready%s", ready, minReplicas, whyNot(pods))
		}
		return nil
	})
}

// podTemplate is a pod that uses as much CPU as its annotation says: kwok reads
// it when it plays the pod, and a real pod's script finds it in a file.
func (p *place) podTemplate(image string) corev1.PodTemplateSpec {
	request := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("50m"), corev1.ResourceMemory: resource.MustParse("16Mi")}
	template := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{
			Labels:      map[string]string{"app": deployment},
			Annotations: map[string]string{cluster.UsageAnnotation: "1m"},
		},
		Spec: corev1.PodSpec{
			NodeName: p.node,
			Containers: []corev1.Container{{
				Name: "main", Image: image, Command: []string{"/bin/sh", "-c", burn, "burn", "/load/cpu"},
				Resources:    corev1.ResourceRequirements{Requests: request},
				VolumeMounts: []corev1.VolumeMount{{Name: "load", MountPath: "/load"}},
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false),
					Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
			Volumes: []corev1.Volume{{Name: "load", VolumeSource: corev1.VolumeSource{
				DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{{
					Path:     "cpu",
					FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.annotations['" + cluster.UsageAnnotation + "']"},
				}}},
			}}},
			// What namespaces that enforce the restricted standard ask for.
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: new(true), RunAsUser: new(int64(65534)),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			AutomountServiceAccountToken:  new(false),
			TerminationGracePeriodSeconds: new(int64(1)),
		},
	}
	if p.node != "" {
		template.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	}
	return template
}

// pods lists the Deployment's pods, without those that are being deleted.
func (p *place) pods(ctx context.Context) ([]corev1.Pod, error) {
	list, err := p.client.CoreV1().Pods(p.namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + deployment})
	if err != nil {
		return nil, fmt.Errorf("listing the pods: %w", err)
	}
	var staying []corev1.Pod
	for _, pod := range list.Items {
		if pod.DeletionTimestamp == nil {
			staying = append(staying, pod)
		}
	}
	return staying, nil
}

// readySince is when a pod became ready; zero if it is not.
func readySince(pod *corev1.Pod) time.Time {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue {
			return condition.LastTransitionTime.Time
		}
	}
	return time.Time{}
}

func countReady(pods []corev1.Pod) int {
	count := 0
	for i := range pods {
		if !readySince(&pods[i]).IsZero() {
			count++
		}
	}
	return count
}

// whyNot is what kubelet or scheduler says of the first pod that is not ready.
func whyNot(pods []corev1.Pod) string {
	for _, pod := range pods {
		for _, container := range pod.Status.ContainerStatuses {
			if waiting := container.State.Waiting; waiting != nil {
				return fmt.Sprintf(" (%s: %s %s)", pod.Name, waiting.Reason, waiting.Message)
			}
		}
		for _, condition := range pod.Status.Conditions {
			if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse {
				return fmt.Sprintf(" (%s: %s %s)", pod.Name, condition.Reason, condition.Message)
			}
		}
	}
	return ""
}

// spread sets what each pod uses so that all of them together meet the demand,
// and returns how many are ready. Only the ready ones share it, as behind a
// Service.
func (p *place) spread(ctx context.Context, demand int64) (ready int, err error) {
	pods, err := p.pods(ctx)
	if err != nil {
		return 0, err
	}
	ready = countReady(pods)
	each := fmt.Sprintf("%dm", share(demand, ready))
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, cluster.UsageAnnotation, each)
	for i := range pods {
		if readySince(&pods[i]).IsZero() || pods[i].Annotations[cluster.UsageAnnotation] == each {
			continue
		}
		_, err := p.client.CoreV1().Pods(p.namespace).Patch(ctx, pods[i].Name, types.MergePatchType, patch, metav1.PatchOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return ready, fmt.Errorf("setting a pod's use of CPU: %w", err)
		}
	}
	return ready, nil
}

// waitForMetrics waits until metrics-server has measured the first pods over a
// whole window, from which on the autoscaler takes them into account.
func (p *place) waitForMetrics(ctx context.Context, s *screen) error {
	ctx, cancel := context.WithTimeout(ctx, measuredTimeout)
	defer cancel()
	return poll(ctx, s, "metrics-server's first figures", func(ctx context.Context) error {
		pods, err := p.pods(ctx)
		if err != nil {
			return err
		}
		for i := range pods {
			measured, err := p.metrics.MetricsV1beta1().PodMetricses(p.namespace).Get(ctx, pods[i].Name, metav1.GetOptions{})
			if err != nil {
				return fmt.Errorf("no figure yet: %w", err)
			}
			if measured.Timestamp.Add(-measured.Window.Duration).Before(readySince(&pods[i])) {
				return errors.New("no figure yet that is not that of a pod's start")
			}
		}
		return nil
	})
}

// replicas is the count that the Deployment asks for.
func (p *place) replicas(ctx context.Context) (int32, error) {
	scale, err := p.client.AppsV1().Deployments(p.namespace).GetScale(ctx, deployment, metav1.GetOptions{})
	if err != nil {
		return 0, fmt.Errorf("reading the Deployment's scale: %w", err)
	}
	return scale.Spec.Replicas, nil
}

// scale asks for another count, as somebody would who does it by hand.
func (p *place) scale(ctx context.Context, replicas int) error {
	patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)
	_, err := p.client.AppsV1().Deployments(p.namespace).Patch(ctx, deployment, types.MergePatchType, patch, metav1.PatchOptions{}, "scale")
	if err != nil {
		return fmt.Errorf("scaling the Deployment by hand: %w", err)
	}
	return nil
}

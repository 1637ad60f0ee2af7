// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// Object is a target as hooks are shown it. It is made once for each version of
// the target and then shared: nobody may change it.
type Object struct {
	Name            string
	UID             types.UID
	ResourceVersion string
	// JSON is the whole object, as the API server has it.
	JSON json.RawMessage
}

// NewObject encodes a target.
func NewObject(object *unstructured.Unstructured) (*Object, error) {
	encoded, err := json.Marshal(object.Object)
	if err != nil {
		return nil, fmt.Errorf("encoding the target: %w", err)
	}
	return &Object{Name: object.GetName(), UID: object.GetUID(), ResourceVersion: object.GetResourceVersion(), JSON: encoded}, nil
}

// Pod is a pod as hooks are shown it, and what Kubernetes metrics go by. The
// whole pod is held encoded only: decoded it would take several times the
// memory. It is made once for each version of the pod and then shared: nobody
// may change it.
type Pod struct {
	Name            string
	ResourceVersion string
	// JSON is the whole pod: its metadata, spec and status.
	JSON json.RawMessage

	Phase corev1.PodPhase
	// Going says that it is being deleted.
	Going bool
	// Started is when a node acknowledged it; zero before that.
	Started time.Time
	// Ready is its condition of that type; nil when it has none.
	Ready *Readiness
	// Requests are those of the pod itself, in place of its containers'; nil
	// when it has none.
	Requests corev1.ResourceList
	// Containers are those that run as long as the pod does: the sidecars
	// among its init containers too.
	Containers []Container
}

// Readiness is whether a pod is ready, and since when.
type Readiness struct {
	Status corev1.ConditionStatus
	Since  time.Time
}

// Container is what a container requests.
type Container struct {
	Name     string
	Requests corev1.ResourceList
}

// NewPod encodes a pod.
func NewPod(pod *corev1.Pod) (*Pod, error) {
	encoded, err := json.Marshal(pod)
	if err != nil {
		return nil, fmt.Errorf("encoding the pod %s: %w", pod.Name, err)
	}
	p := &Pod{
		Name: pod.Name, ResourceVersion: pod.ResourceVersion, JSON: encoded,
		Phase: pod.Status.Phase, Going: pod.DeletionTimestamp != nil,
	}
	if pod.Status.StartTime != nil {
		p.Started = pod.Status.StartTime.Time
	}
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == corev1.PodReady {
			p.Ready = &Readiness{Status: c.Status, Since: c.LastTransitionTime.Time}
			break
		}
	}
	if pod.Spec.Resources != nil {
		p.Requests = pod.Spec.Resources.Requests
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			p.Containers = append(p.Containers, Container{Name: c.Name, Requests: c.Resources.Requests})
		}
	}
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		p.Containers = append(p.Containers, Container{Name: c.Name, Requests: c.Resources.Requests})
	}
	return p, nil
}

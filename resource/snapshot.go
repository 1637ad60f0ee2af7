// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Package resource reads the thing being scaled: the target with its scale
// subresource, and its pods. It holds the Kubernetes clients of the process.
package resource

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Snapshot is what a run knows of its target: read once, at its start.
type Snapshot struct {
	// Target is the whole object.
	Target *Object
	// Scale is its scale subresource.
	Scale Scale
	// Pods are those the scale's selector matches, by name, in whatever phase
	// they are. Nil when they were not asked for, empty when there are none.
	Pods []*Pod
}

// Reader takes snapshots of one target. It is safe for concurrent use.
type Reader struct {
	target   *Target
	withPods bool
}

// NewReader makes a Reader of the target. Its snapshots list pods only if
// withPods says so: the list of a thousand is the dearest request of a run.
func NewReader(target *Target, withPods bool) *Reader {
	return &Reader{target: target, withPods: withPods}
}

// Read takes a snapshot.
func (r *Reader) Read(ctx context.Context) (Snapshot, error) {
	object, err := r.target.object(ctx)
	if err != nil {
		return Snapshot{}, err
	}
	scale, err := r.target.Scale(ctx)
	if err != nil {
		return Snapshot{}, err
	}
	snapshot := Snapshot{Target: object, Scale: scale}
	if r.withPods {
		snapshot.Pods, err = r.Pods(ctx, scale.Selector)
	}
	return snapshot, err
}

// Scale reads the target's scale as it is now.
func (r *Reader) Scale(ctx context.Context) (Scale, error) { return r.target.Scale(ctx) }

// Pods lists the target's pods, by name; none is an empty slice, never nil. An
// empty selector would match every pod of the namespace, so it is an error
// instead.
func (r *Reader) Pods(ctx context.Context, selector string) ([]*Pod, error) {
	if selector == "" {
		return nil, errors.New("listing the target's pods: its scale has an empty selector (status.selector), so its pods cannot be told " +
			"from the others of the namespace; have the target's controller publish one, or do without the pods (run mode per-resource, " +
			"no metrics of pods)")
	}
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	var list corev1.PodList
	err := r.target.clients.Core.Get().Namespace(r.target.namespace).Resource("pods").
		VersionedParams(&metav1.ListOptions{LabelSelector: selector}, metav1.ParameterCodec).
		Do(ctx).Into(&list)
	if err != nil {
		return nil, fmt.Errorf("listing the target's pods: %w", err)
	}
	pods := make([]*Pod, len(list.Items))
	for i := range list.Items {
		if pods[i], err = NewPod(&list.Items[i]); err != nil {
			return nil, err
		}
	}
	return pods, nil
}

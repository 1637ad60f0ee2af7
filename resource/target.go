// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"sync"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// Target is the object being scaled, whatever its kind. It is safe for
// concurrent use, and bounds each request by RequestTimeout.
type Target struct {
	clients   *Clients
	ref       autoscalingv2.CrossVersionObjectReference
	namespace string

	mu sync.Mutex
	// seen is what the API server last answered: the scale at a resource
	// version, which is the object's own. The object is kept so that it is
	// encoded once.
	seen struct {
		version string
		scale   Scale
		object  *Object
	}
	// unanswered is when a request last got no answer: a watch that was last
	// heard of before that is not relied on.
	unanswered time.Time
}

// NewTarget names an object; nothing is asked yet.
func NewTarget(clients *Clients, ref autoscalingv2.CrossVersionObjectReference, namespace string) *Target {
	return &Target{clients: clients, ref: ref, namespace: namespace}
}

// Scale is a scale subresource.
type Scale struct {
	// Replicas is the count asked for, spec.replicas.
	Replicas int32
	// Selector matches the target's pods, status.selector. Empty when the
	// target publishes none.
	Selector string
}

// Scale reads the scale subresource.
func (t *Target) Scale(ctx context.Context) (Scale, error) {
	object, err := t.get(ctx, "scale")
	if err != nil {
		return Scale{}, fmt.Errorf("getting the target's scale in the namespace %s: %w", t.namespace, err)
	}
	scale, err := parseScale(object)
	if err != nil {
		return Scale{}, fmt.Errorf("reading the target's scale: %w", err)
	}
	t.see(object.GetResourceVersion(), scale)
	return scale, nil
}

// PatchScale applies a JSON patch to the scale subresource, the one kind of
// patch that every API server accepts there for built-in and custom resources
// alike.
func (t *Target) PatchScale(ctx context.Context, patch []byte) error {
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	objects, err := t.objects(ctx)
	if err != nil {
		return err
	}
	object, err := objects.Patch(ctx, t.ref.Name, types.JSONPatchType, patch, metav1.PatchOptions{}, "scale")
	t.heed(err)
	if err != nil {
		return err
	}
	// It is done; an answer that cannot be read is only not remembered.
	if scale, err := parseScale(object); err == nil {
		t.see(object.GetResourceVersion(), scale)
	}
	return nil
}

// see remembers what the API server answered.
func (t *Target) see(version string, scale Scale) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen.version, t.seen.scale = version, scale
}

// scaleAt is the scale of the object at a resource version, if it is the one
// that was last seen.
func (t *Target) scaleAt(version string) (Scale, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seen.scale, version != "" && version == t.seen.version
}

// heed notes that a request got no answer, if that is the error.
func (t *Target) heed(err error) {
	if _, unanswered := errors.AsType[*url.Error](err); !unanswered {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unanswered = time.Now()
}

// heardAfter is since when a watch must have shown a sign of life.
func (t *Target) heardAfter() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.unanswered
}

// lastVersion is the resource version of the scale that was last seen, empty if
// none was.
func (t *Target) lastVersion() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seen.version
}

// object reads the whole object.
func (t *Target) object(ctx context.Context) (*Object, error) {
	got, err := t.get(ctx)
	if err != nil {
		return nil, t.getting(err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if version := got.GetResourceVersion(); version != "" && t.seen.object != nil && version == t.seen.object.ResourceVersion {
		return t.seen.object, nil
	}
	t.seen.object, err = NewObject(got)
	return t.seen.object, err
}

func (t *Target) getting(err error) error {
	return fmt.Errorf("getting the target in the namespace %s: %w", t.namespace, err)
}

func (t *Target) get(ctx context.Context, subresources ...string) (*unstructured.Unstructured, error) {
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	objects, err := t.objects(ctx)
	if err != nil {
		return nil, err
	}
	object, err := objects.Get(ctx, t.ref.Name, metav1.GetOptions{}, subresources...)
	t.heed(err)
	if apierrors.IsNotFound(err) {
		// Perhaps the kind itself was replaced.
		t.clients.Mapper.Forget()
	}
	return object, err
}

func (t *Target) objects(ctx context.Context) (dynamic.ResourceInterface, error) {
	mapping, err := t.mapping(ctx)
	if err != nil {
		return nil, err
	}
	return t.clients.Dynamic.Resource(mapping.Resource).Namespace(t.namespace), nil
}

// mapping is the resource of the target, which can be scaled.
func (t *Target) mapping(ctx context.Context) (Mapping, error) {
	mapping, err := t.clients.Mapper.Map(ctx, t.ref.APIVersion, t.ref.Kind)
	t.heed(err)
	if err != nil {
		return Mapping{}, fmt.Errorf("resolving scaleTargetRef: %w", err)
	}
	if !mapping.Namespaced || !mapping.Scalable {
		// Its definition may be corrected before the next run.
		t.clients.Mapper.Forget()
	}
	switch {
	case !mapping.Namespaced:
		return Mapping{}, fmt.Errorf("resolving scaleTargetRef: %s belongs to no namespace, so it cannot be scaled", mapping.Kind)
	case !mapping.Scalable:
		return Mapping{}, fmt.Errorf("resolving scaleTargetRef: %s of %s has no scale subresource, so it cannot be scaled",
			mapping.Kind, t.ref.APIVersion)
	}
	return mapping, nil
}

func parseScale(object *unstructured.Unstructured) (Scale, error) {
	// An absent count is 0: the field is omitempty.
	replicas, _, err := unstructured.NestedInt64(object.Object, "spec", "replicas")
	if err != nil {
		return Scale{}, err
	}
	if replicas < 0 || replicas > math.MaxInt32 {
		return Scale{}, fmt.Errorf("spec.replicas is %d, which is no replica count", replicas)
	}
	selector, _, err := unstructured.NestedString(object.Object, "status", "selector")
	if err != nil {
		return Scale{}, err
	}
	return Scale{Replicas: int32(replicas), Selector: selector}, nil
}

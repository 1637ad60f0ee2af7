// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	apiwatch "k8s.io/apimachinery/pkg/watch"
)

// kept is what is kept of an object.
type kept interface{ *Object | *Pod }

// contents are the objects of a collection that match a selector, encoded, as
// they were at a resource version. They are not safe for concurrent use.
type contents[T kept] struct {
	version string
	objects map[string]entry[T]
	// sorted are the objects by name, as the API server lists them; nil when
	// they have to be sorted anew. It is handed out, and so never changed.
	sorted []T
}

// entry is an object at a version of it.
type entry[T kept] struct {
	version string
	value   T
}

// change takes in an event that adds, modifies or deletes an object.
func (c *contents[T]) change(event apiwatch.Event, encode func(runtime.Object) (T, error), earlier contents[T]) error {
	switch event.Type {
	case apiwatch.Added, apiwatch.Modified:
		return c.put(event.Object, encode, earlier)
	case apiwatch.Deleted:
		return c.remove(event.Object)
	default:
		return nil // a bookmark changes nothing
	}
}

// put keeps an object. One that is the same as in earlier contents is not
// encoded again, but shared with them.
func (c *contents[T]) put(object runtime.Object, encode func(runtime.Object) (T, error), earlier contents[T]) error {
	accessor, err := meta.Accessor(object)
	if err != nil {
		return fmt.Errorf("the API server sent what is no object (%T): %w", object, err)
	}
	name, version := accessor.GetName(), accessor.GetResourceVersion()
	e := earlier.objects[name]
	if e.version != version || version == "" {
		e.version = version
		if e.value, err = encode(object); err != nil {
			return err
		}
	}
	if c.objects == nil {
		c.objects = map[string]entry[T]{}
	}
	c.objects[name], c.sorted = e, nil
	return nil
}

// remove forgets an object.
func (c *contents[T]) remove(object runtime.Object) error {
	accessor, err := meta.Accessor(object)
	if err != nil {
		return fmt.Errorf("the API server sent what is no object (%T): %w", object, err)
	}
	delete(c.objects, accessor.GetName())
	c.sorted = nil
	return nil
}

// list returns the objects by name; none is an empty slice, never nil. Nobody
// may change it.
func (c *contents[T]) list() []T {
	if c.sorted == nil {
		c.sorted = make([]T, 0, len(c.objects))
		for _, name := range slices.Sorted(maps.Keys(c.objects)) {
			c.sorted = append(c.sorted, c.objects[name].value)
		}
	}
	return c.sorted
}

// behind says that a resource version is older than another one of the same
// collection. Of versions that have no order, as some API servers make them, it
// does not say so.
func behind(version, other string) bool {
	order, err := resourceversion.CompareResourceVersion(version, other)
	return err == nil && order < 0
}

// newer is the newer of two resource versions of the same collection, the
// second if they have no order.
func newer(version, other string) string {
	if behind(other, version) {
		return version
	}
	return cmp.Or(other, version)
}

func encodePod(object runtime.Object) (*Pod, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return nil, fmt.Errorf("the API server sent a %T instead of a pod", object)
	}
	return NewPod(pod)
}

func encodeTarget(object runtime.Object) (*Object, error) {
	target, ok := object.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("the API server sent a %T instead of the target", object)
	}
	return NewObject(target)
}

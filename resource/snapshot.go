// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Package resource reads the thing being scaled: the target with its scale
// subresource, and its pods. It holds the Kubernetes clients of the process,
// and the watches that spare a run its requests.
package resource

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Snapshot is what a run knows of its target: read once, at its start.
type Snapshot struct {
	// Target is the whole object.
	Target *Object
	// Scale is its scale subresource.
	Scale Scale
	// Pods are those the scale's selector matches, by name, in whatever phase
	// they are. Nil when they were not asked for, empty when there are none.
	// They are shared by all who read: nobody may change the slice.
	Pods []*Pod
	// PodsResourceVersion is which version of them it is; empty without Pods.
	PodsResourceVersion string
}

// Reader takes snapshots of one target. It is safe for concurrent use.
//
// It reads from watches, which begin with the first snapshot, and asks the API
// server for what they do not have: when they are not permitted, not connected,
// silent for 2 minutes, or known to be behind.
type Reader struct {
	target   *Target
	watches  *Watches
	withPods bool

	mu   sync.Mutex
	of   *watch[*Object]
	pods *watch[*Pod]
	// behindSince is since when the target's watch is behind what the API
	// server answered; zero when it is not.
	behindSince time.Time
}

// NewReader makes a Reader of the target. Its snapshots have pods only if
// withPods says so: those of a large target take time and memory.
func NewReader(target *Target, watches *Watches, withPods bool) *Reader {
	return &Reader{target: target, watches: watches, withPods: withPods}
}

// Close leaves the watches. The Reader must not be used afterwards.
func (r *Reader) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	leave(r.watches, r.watches.targets, r.of)
	leave(r.watches, r.watches.pods, r.pods)
	r.of, r.pods = nil, nil
}

// Read takes a snapshot. While the watches are in step and the target did not
// change it takes no request; else one for each of target, scale and pods that
// is not known. The first one waits for the watches, at most RequestTimeout
// each.
func (r *Reader) Read(ctx context.Context) (Snapshot, error) {
	object, err := r.object(ctx)
	if err != nil {
		return Snapshot{}, err
	}
	scale, known := r.target.scaleAt(object.ResourceVersion)
	if !known {
		if scale, err = r.Scale(ctx); err != nil {
			return Snapshot{}, err
		}
	}
	snapshot := Snapshot{Target: object, Scale: scale}
	if r.withPods {
		snapshot.Pods, snapshot.PodsResourceVersion, err = r.list(ctx, scale.Selector)
	}
	return snapshot, err
}

// Scale reads the target's scale as it is now, always from the API server.
func (r *Reader) Scale(ctx context.Context) (Scale, error) {
	return r.target.Scale(ctx)
}

// Pods returns the pods that the selector matches, by name; none is an empty
// slice, never nil. Nobody may change it. An empty selector would match every
// pod of the namespace, so it is an error instead.
func (r *Reader) Pods(ctx context.Context, selector string) ([]*Pod, error) {
	pods, _, err := r.list(ctx, selector)
	return pods, err
}

func (r *Reader) list(ctx context.Context, selector string) (pods []*Pod, version string, err error) {
	if selector == "" {
		return nil, "", errors.New("listing the target's pods: its scale has an empty selector (status.selector), so its pods cannot be told " +
			"from the others of the namespace; have the target's controller publish one, or do without the pods (run mode per-resource, " +
			"no metrics of pods)")
	}
	watch := r.watchPods(ctx, selector)
	watch.await(ctx)
	if pods, version, ok := watch.read(r.target.heardAfter()); ok {
		return pods, version, nil
	}
	pods, version, err = watch.readLive(ctx)
	if err != nil {
		r.target.heed(err)
		return nil, "", fmt.Errorf("listing the target's pods: %w", err)
	}
	watch.doubt(r.target.heardAfter())
	return pods, version, nil
}

// object is the target from its watch, or else from the API server.
func (r *Reader) object(ctx context.Context) (*Object, error) {
	watch, err := r.watchTarget(ctx)
	if err != nil {
		return nil, r.target.getting(err)
	}
	watch.await(ctx)
	// One that is not there may just have been made.
	if objects, version, ok := watch.read(r.target.heardAfter()); ok && len(objects) == 1 && !r.isBehind(watch, version) {
		return objects[0], nil
	}
	object, err := r.target.object(ctx)
	if err != nil {
		return nil, err
	}
	watch.doubt(r.target.heardAfter())
	return object, nil
}

// watchTarget is the watch of the target, another one when its kind is found
// elsewhere by now.
func (r *Reader) watchTarget(ctx context.Context) (*watch[*Object], error) {
	mapping, err := r.target.mapping(ctx)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	k := key{resource: mapping.Resource, namespace: r.target.namespace, name: r.target.ref.Name}
	if r.of == nil || r.of.key != k {
		leave(r.watches, r.watches.targets, r.of)
		r.of = r.watches.ofTarget(ctx, k)
	}
	return r.of, nil
}

// watchPods is the watch of the pods, another one when the target's selector
// has changed.
func (r *Reader) watchPods(ctx context.Context, selector string) *watch[*Pod] {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := key{resource: podResource, namespace: r.target.namespace, selector: selector}
	if r.pods == nil || r.pods.key != k {
		leave(r.watches, r.watches.pods, r.pods)
		r.pods = r.watches.ofPods(ctx, k)
	}
	return r.pods
}

// isBehind says that the target's watch does not know yet what the API server
// answered. One that has been behind for RequestTimeout is started anew.
func (r *Reader) isBehind(watch *watch[*Object], version string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !behind(version, r.target.lastVersion()):
		r.behindSince = time.Time{}
		return false
	case r.behindSince.IsZero():
		r.behindSince = time.Now()
	case time.Since(r.behindSince) > RequestTimeout:
		r.behindSince = time.Time{}
		watch.renew(errLags)
	}
	return true
}

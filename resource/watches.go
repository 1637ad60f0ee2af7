// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiwatch "k8s.io/apimachinery/pkg/watch"
)

// Watches are the watches of the process, shared by all readers: those of the
// same target, or of the same pods, use one. A watch begins with its first
// reader, ends with its last, and holds one connection to the API server and
// the objects it is about, encoded. Watches are safe for concurrent use.
type Watches struct {
	clients *Clients
	log     *slog.Logger
	running sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	targets map[key]*watch[*Object]
	pods    map[key]*watch[*Pod]
}

// NewWatches makes Watches; nothing is watched yet. The log gets a warning when
// a watch is not permitted or fails for long.
func NewWatches(clients *Clients, log *slog.Logger) *Watches {
	return &Watches{clients: clients, log: log, targets: map[key]*watch[*Object]{}, pods: map[key]*watch[*Pod]{}}
}

// Close ends all watches and waits for that. Readers may go on: they ask the
// API server each time.
func (w *Watches) Close() {
	w.mu.Lock()
	w.closed = true
	for _, watch := range w.targets {
		watch.stop()
	}
	for _, watch := range w.pods {
		watch.stop()
	}
	w.mu.Unlock()
	w.running.Wait()
}

// key tells watches apart.
type key struct {
	resource  schema.GroupVersionResource
	namespace string
	// selector of labels for a collection, or the name of the only object.
	selector, name string
}

// String names the objects of the key in the log.
func (k key) String() string {
	return fmt.Sprintf("%s %s/%s", k.resource.GroupResource(), k.namespace, cmp.Or(k.name, k.selector))
}

// options limit a request to the objects of the key.
func (k key) options() metav1.ListOptions {
	options := metav1.ListOptions{LabelSelector: k.selector}
	if k.name != "" {
		options.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, k.name).String()
	}
	return options
}

var podResource = corev1.SchemeGroupVersion.WithResource("pods")

// ofTarget joins the watch of a target. Its reader has to leave it.
func (w *Watches) ofTarget(ctx context.Context, k key) *watch[*Object] {
	return join(ctx, w, w.targets, k, source[*Object]{
		list: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return w.clients.Dynamic.Resource(k.resource).Namespace(k.namespace).List(ctx, options)
		},
		watch: func(ctx context.Context, options metav1.ListOptions) (apiwatch.Interface, error) {
			return w.clients.watchDynamic.Resource(k.resource).Namespace(k.namespace).Watch(ctx, options)
		},
		encode:  encodeTarget,
		without: "each run gets the target from the API server instead",
	})
}

// ofPods joins the watch of pods. Its reader has to leave it.
func (w *Watches) ofPods(ctx context.Context, k key) *watch[*Pod] {
	return join(ctx, w, w.pods, k, source[*Pod]{
		list: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			var list corev1.PodList
			err := w.clients.Core.Get().Namespace(k.namespace).Resource(k.resource.Resource).
				VersionedParams(&options, metav1.ParameterCodec).Do(ctx).Into(&list)
			return &list, err
		},
		watch: func(ctx context.Context, options metav1.ListOptions) (apiwatch.Interface, error) {
			return w.clients.watchCore.Get().Namespace(k.namespace).Resource(k.resource.Resource).
				VersionedParams(&options, metav1.ParameterCodec).Watch(ctx)
		},
		encode:  encodePod,
		without: "each run lists all pods instead, the dearest request of a run",
	})
}

// join joins the watch of the key, which begins if it is not there.
func join[T kept](ctx context.Context, w *Watches, all map[key]*watch[T], k key, source source[T]) *watch[T] {
	w.mu.Lock()
	defer w.mu.Unlock()
	joined := all[k]
	if joined == nil {
		// It may outlive the run that it begins with.
		ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
		joined = newWatch(k, source, w.log, stop)
		all[k] = joined
		if w.closed {
			stop()
			joined.attempted()
		} else {
			w.running.Go(func() { joined.run(ctx) })
		}
	}
	joined.readers++
	return joined
}

// leave leaves a watch, which ends if nobody else uses it. Nil is none.
func leave[T kept](w *Watches, all map[key]*watch[T], left *watch[T]) {
	if left == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if left.readers--; left.readers == 0 {
		left.stop()
		delete(all, left.key)
	}
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	apiwatch "k8s.io/apimachinery/pkg/watch"
)

const (
	// maxSilence is how long what a watch holds is used without a sign of life,
	// an event or a bookmark. The API server sends a bookmark about every minute,
	// but for a kind of object that nobody changes in the whole cluster.
	maxSilence = 2 * time.Minute
	// renewal is after what silence a watch is connected anew, early enough for
	// runs not to have to do without it.
	renewal = 90 * time.Second
	// steady is how long a watch must have been in step for its end to be
	// ordinary: the API server ends each after half an hour or more.
	steady = time.Minute
	// deniedPause is how long it takes until a watch that is not permitted is
	// tried again.
	deniedPause = 10 * time.Minute
	// failuresTold is after how many failures in a row a warning tells of them:
	// about half a minute.
	failuresTold = 5
	// pageSize is how many objects a list before a watch is given at a time, so
	// that few are decoded at once.
	pageSize = 100
)

// newBackoff is how long it takes until a watch that failed is tried again: 1 s
// at first, 30 s in the end, and up to half as much again, so that many do not
// try all at once.
func newBackoff() wait.Backoff {
	return wait.Backoff{Duration: time.Second, Factor: 2, Jitter: 0.5, Steps: 6, Cap: 30 * time.Second}
}

var (
	errSilent  = errors.New("nothing was heard of it in time")
	errLags    = errors.New("it lags behind what the API server answers")
	errDoubted = errors.New("the API server had not answered another request")
	errEnded   = errors.New("the API server ended it")
)

// source is how the objects of a watch are asked for.
type source[T kept] struct {
	list   func(context.Context, metav1.ListOptions) (runtime.Object, error)
	watch  func(context.Context, metav1.ListOptions) (apiwatch.Interface, error)
	encode func(runtime.Object) (T, error)
	// without says what each run costs without the watch.
	without string
}

// watch holds the objects that match a key as the API server has them, for any
// number of readers. What it holds is used only while it is in step: from the
// moment the API server said that this is all, until the connection ends or is
// silent for maxSilence. Whatever went wrong, it begins again from nothing but
// keeps what it encoded. It is safe for concurrent use.
type watch[T kept] struct {
	key    key
	source source[T]
	log    *slog.Logger
	stop   context.CancelFunc
	// readers counts those who use it. It belongs to the Watches.
	readers int
	// first is closed when the first attempt has come to something, if only to
	// an error.
	first chan struct{}

	mu       sync.Mutex
	contents contents[T]
	// inStep says that contents are what the API server has; lastSign is when
	// it last said so. Only run changes inStep, and contents while it is so.
	inStep   bool
	lastSign time.Time
	// end ends the attempt under way, nil between two.
	end context.CancelCauseFunc

	// What follows belongs to run.

	// listFirst says that the API server refused to send what there is on a
	// watch, as those before Kubernetes 1.34 may: it is listed before.
	listFirst bool
	// since is since when it is in step, through silences.
	since time.Time
	// heard is when the attempt under way last came further.
	heard time.Time
	// fresh is what the attempt under way was sent so far; nil once that is all,
	// and it is what is read.
	fresh    *contents[T]
	backoff  wait.Backoff
	failures int
	// told is what people were last told is wrong, empty when they were told
	// nothing, or that it works again.
	told string
}

func newWatch[T kept](key key, source source[T], log *slog.Logger, stop context.CancelFunc) *watch[T] {
	return &watch[T]{key: key, source: source, log: log, stop: stop, first: make(chan struct{}), backoff: newBackoff()}
}

// await waits until the first attempt has come to something, at most
// RequestTimeout. Later there is nothing to wait for.
func (w *watch[T]) await(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	select {
	case <-w.first:
	case <-ctx.Done():
	}
}

// read returns the objects by name, which nobody may change, and their resource
// version, if the watch is in step and showed a sign of life after the given
// time.
func (w *watch[T]) read(after time.Time) (objects []T, version string, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.inStep || time.Since(w.lastSign) >= maxSilence || !w.lastSign.After(after) {
		return nil, "", false
	}
	return w.contents.list(), w.contents.version, true
}

// readLive lists the objects without the watch. What did not change is shared
// with the watch and with earlier lists.
func (w *watch[T]) readLive(ctx context.Context) (objects []T, version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	listed, err := w.list(ctx, 0)
	if err != nil {
		return nil, "", err
	}
	objects = listed.list()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.inStep {
		w.contents = listed
	}
	return objects, listed.version, nil
}

// renew begins the watch again.
func (w *watch[T]) renew(why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.end != nil {
		w.end(why)
	}
}

// doubt begins the watch again unless it showed a sign of life after the given
// time, when a request got no answer: its connection may not have survived
// what happened to that one.
func (w *watch[T]) doubt(after time.Time) {
	w.mu.Lock()
	doubtful := w.inStep && !w.lastSign.After(after)
	w.mu.Unlock()
	if doubtful {
		w.renew(errDoubted)
	}
}

// run watches until the context ends.
func (w *watch[T]) run(ctx context.Context) {
	defer w.attempted()
	for ctx.Err() == nil {
		err := w.attempt(ctx)
		if ctx.Err() != nil {
			return
		}
		w.settle(ctx)
		if w.isQuiet(err) {
			continue // what it holds is used meanwhile
		}
		pause := w.judge(ctx, err, w.leaveStep())
		if pause > 0 {
			w.attempted()
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// attempted says that the first attempt has come to something. Only run calls
// it.
func (w *watch[T]) attempted() {
	select {
	case <-w.first:
	default:
		close(w.first)
	}
}

// isQuiet says that the watch was in step until nothing was heard of it.
func (w *watch[T]) isQuiet(err error) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.inStep && errors.Is(err, errSilent) && time.Since(w.lastSign) < maxSilence
}

// isInStep is for run, which alone changes it.
func (w *watch[T]) isInStep() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.inStep
}

// leaveStep says for how long it was in step until then, 0 if it was not.
func (w *watch[T]) leaveStep() (lasted time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.inStep {
		lasted = time.Since(w.since)
	}
	w.inStep, w.end = false, nil
	return lasted
}

// judge says how long to wait after a watch that was in step for so long, and
// tells what people should know.
func (w *watch[T]) judge(ctx context.Context, err error, lasted time.Duration) (pause time.Duration) {
	w.log.DebugContext(ctx, "A watch ended", "what", w.key.String(), "lasted", lasted, "reason", err)
	listed := w.listFirst
	if lasted == 0 {
		w.listFirst = false
	}
	switch {
	case apierrors.IsForbidden(err), apierrors.IsMethodNotSupported(err):
		verbs := "verb watch"
		if listed {
			verbs = "verbs list and watch"
		}
		w.tell(ctx, "A watch is not permitted: "+w.source.without+". Allow the service account the "+verbs+", see docs/rbac.md", err)
		return deniedPause
	case !listed && (apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)):
		w.listFirst = true
		return 0
	case errors.Is(err, errLags):
		w.log.WarnContext(ctx, "A watch lags behind what the API server answers: it is started anew, and runs read without it until then",
			"resource", w.key.resource.GroupResource().String(), "namespace", w.key.namespace)
	case lasted >= steady:
		return rand.N(time.Second) //nolint:gosec // it spreads load, it keeps no secret
	}
	if w.failures++; w.failures == failuresTold {
		w.tell(ctx, "A watch fails again and again: "+w.source.without, err)
	}
	return w.backoff.Step()
}

// tell warns, once until the watch has recovered or something else is wrong.
func (w *watch[T]) tell(ctx context.Context, what string, err error) {
	if w.told != what {
		w.log.WarnContext(ctx, what, "resource", w.key.resource.GroupResource().String(), //nolint:sloglint // one of four
			"namespace", w.key.namespace, "error", err)
	}
	w.told = what
}

// settle forgets the failures once the watch has been in step for long enough.
// One that works for less, again and again, has not recovered.
func (w *watch[T]) settle(ctx context.Context) {
	if !w.isInStep() || time.Since(w.since) < steady {
		return
	}
	if w.told != "" {
		w.log.InfoContext(ctx, "A watch works again", "resource", w.key.resource.GroupResource().String(), "namespace", w.key.namespace)
	}
	w.failures, w.backoff, w.told = 0, newBackoff(), ""
}

// attempt watches until the connection ends or goes silent, and says why.
func (w *watch[T]) attempt(ctx context.Context) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	w.mu.Lock()
	w.end = end
	w.mu.Unlock()
	w.fresh, w.heard = &contents[T]{}, time.Now()
	silence := time.AfterFunc(w.patience(), func() { end(errSilent) })
	defer silence.Stop()

	stream, listed, err := w.open(ctx)
	if err != nil {
		return because(ctx, err)
	}
	defer func() {
		stream.Stop()
		for range stream.ResultChan() {
			// Until its goroutine has ended.
		}
	}()
	if err := w.notice(silence); err != nil {
		return err
	}
	if listed {
		w.enterStep(ctx)
		silence.Reset(w.patience())
	}
	return because(ctx, w.receive(ctx, stream, silence))
}

// notice puts off the silence for an answer or an event, unless that comes too
// late for it, whatever the timer has come to: it may have lain here while the
// process was stopped.
func (w *watch[T]) notice(silence *time.Timer) error {
	if time.Since(w.heard) > w.patience() {
		return errSilent
	}
	w.heard = time.Now()
	silence.Reset(w.patience())
	return nil
}

// receive takes in events until there are no more.
func (w *watch[T]) receive(ctx context.Context, stream apiwatch.Interface, silence *time.Timer) error {
	for event := range stream.ResultChan() {
		if err := w.notice(silence); err != nil {
			return err
		}
		if err := w.take(ctx, event); err != nil {
			return err
		}
		w.settle(ctx)
		silence.Reset(w.patience())
	}
	return errEnded
}

// because is why the attempt was ended, if that is why it failed.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// patience is how long it may take until the next sign of life.
func (w *watch[T]) patience() time.Duration {
	if w.fresh == nil {
		return renewal
	}
	return RequestTimeout
}

// open begins to watch: what there is comes as the first events, the end of
// which a bookmark tells, or else is listed before. Pods are listed after a
// silence as well: a list is compressed, events are not, and a connection that
// goes on from what is held would prove nothing by saying nothing.
func (w *watch[T]) open(ctx context.Context) (stream apiwatch.Interface, listed bool, err error) {
	options := w.key.options()
	options.Watch, options.AllowWatchBookmarks = true, true
	listed = w.listFirst || (w.key.name == "" && w.isInStep())
	if listed {
		if *w.fresh, err = w.list(ctx, pageSize); err != nil {
			return nil, listed, err
		}
		options.ResourceVersion = w.fresh.version
	} else {
		// Without a resource version it is what is there by now, not what some
		// cache of the API server's remembers.
		all := true
		options.SendInitialEvents, options.ResourceVersionMatch = &all, metav1.ResourceVersionMatchNotOlderThan
	}
	stream, err = w.source.watch(ctx, options)
	return stream, listed, err
}

// take takes one event in: into fresh until all there is has come, and then
// into what is read.
func (w *watch[T]) take(ctx context.Context, event apiwatch.Event) error {
	if event.Type == apiwatch.Error {
		return apierrors.FromObject(event.Object)
	}
	accessor, err := meta.Accessor(event.Object)
	if err != nil {
		return fmt.Errorf("an event has no object (%T): %w", event.Object, err)
	}
	switch {
	case w.fresh == nil:
		return w.update(event, accessor.GetResourceVersion())
	case event.Type == apiwatch.Bookmark && accessor.GetAnnotations()[metav1.InitialEventsAnnotationKey] == "true":
		w.fresh.version = accessor.GetResourceVersion()
		w.enterStep(ctx)
		return nil
	default:
		w.mu.Lock()
		held := w.contents
		w.mu.Unlock()
		return w.fresh.change(event, w.source.encode, held)
	}
}

// update takes in an event while in step.
func (w *watch[T]) update(event apiwatch.Event, version string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.contents.change(event, w.source.encode, w.contents); err != nil {
		return err
	}
	w.contents.version, w.lastSign = newer(w.contents.version, version), time.Now()
	return nil
}

// enterStep makes what was sent what is read.
func (w *watch[T]) enterStep(ctx context.Context) {
	w.log.DebugContext(ctx, "A watch is in step", "what", w.key.String(), "objects", len(w.fresh.objects), "resourceVersion", w.fresh.version)
	w.mu.Lock()
	if !w.inStep {
		w.since = time.Now()
	}
	w.contents, w.inStep, w.lastSign = *w.fresh, true, time.Now()
	w.mu.Unlock()
	w.fresh = nil
	w.attempted()
}

// list lists the objects, in pages if the limit is not 0.
func (w *watch[T]) list(ctx context.Context, limit int64) (contents[T], error) {
	options := w.key.options()
	options.Limit = limit
	var listed contents[T]
	for {
		page, err := w.source.list(ctx, options)
		if err != nil {
			return listed, err
		}
		if err := w.keep(&listed, page); err != nil {
			return listed, err
		}
		about, err := meta.ListAccessor(page)
		if err != nil {
			return listed, err
		}
		listed.version, options.Continue = about.GetResourceVersion(), about.GetContinue()
		if options.Continue == "" {
			return listed, nil
		}
	}
}

// keep takes a page of a list in. Objects that were held before are shared.
func (w *watch[T]) keep(listed *contents[T], page runtime.Object) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return meta.EachListItem(page, func(object runtime.Object) error { return listed.put(object, w.source.encode, w.contents) })
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package autoscaler

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

const (
	// reporter is the component that Events are from.
	reporter = "custom-pod-autoscaler"
	// eventSpacing is how long it takes until one more Event of the same
	// reason may be told of an autoscaler.
	eventSpacing = time.Minute
	// eventRefresh is how often what lasts is told again, so that it is still
	// seen when the API server forgets: after eventLife, unless its
	// --event-ttl says otherwise.
	eventRefresh = 30 * time.Minute
	eventLife    = time.Hour
	// eventQueue is how many Events wait to be sent; more are dropped.
	eventQueue = 100
	// eventTimeout bounds each request, eventGrace all that are left when the
	// process is told to stop.
	eventTimeout = 5 * time.Second
	eventGrace   = 300 * time.Millisecond
	// forbiddenPause is how long nothing is sent to a namespace that refused.
	forbiddenPause = time.Hour
	// maxEventMessage is the longest message the API server takes, in bytes.
	maxEventMessage = 1024
	// maxAccounts is of how many autoscalers Events are told at the most.
	maxAccounts = 4096
)

// reason is one of the few things that Events tell of.
type reason struct {
	name      string
	eventType string
	// burst is how many may be told at once; then it is one every
	// eventSpacing. Those between are counted in the next one.
	burst int
	// lasts says that it is a condition: told when it begins, again every
	// eventRefresh while it holds, each run counted.
	lasts bool
	// ends are the conditions whose end it tells, if they were told.
	ends []string
	// of says what a run shows: what tells one occurrence from another, and is
	// empty for none; words are for people. A run that cannot say is not known.
	of func(Record) (what, words string, known bool)
}

// The names are the HorizontalPodAutoscaler's where it has one. Whatever stage
// failed, it is one reason, so that failures that take turns are told as one.
const (
	successfulRescale = "SuccessfulRescale"
	failedRescale     = "FailedRescale"
	runFailed         = "RunFailed"
	runRecovered      = "RunRecovered"
	scalingLimited    = "ScalingLimited"
	fallbackEntered   = "FallbackEntered"
	fallbackLeft      = "FallbackLeft"
)

// reasons are all there are. What ends something stands behind it.
var reasons = []reason{
	{name: successfulRescale, eventType: corev1.EventTypeNormal, burst: 25, of: rescaled},
	{name: failedRescale, eventType: corev1.EventTypeWarning, burst: 1, lasts: true, of: notWritten},
	{name: runFailed, eventType: corev1.EventTypeWarning, burst: 1, lasts: true, of: notFinished},
	{name: runRecovered, eventType: corev1.EventTypeNormal, burst: 1, ends: []string{failedRescale, runFailed}, of: recovered},
	{name: scalingLimited, eventType: corev1.EventTypeNormal, burst: 1, lasts: true, of: limited},
	{name: fallbackEntered, eventType: corev1.EventTypeWarning, burst: 1, lasts: true, of: fellBack},
	{name: fallbackLeft, eventType: corev1.EventTypeNormal, burst: 1, ends: []string{fallbackEntered}, of: cameBack},
}

func rescaled(r Record) (what, words string, known bool) {
	if !r.Written || r.Decision == nil {
		return "", "", true
	}
	return r.Time.Format(time.RFC3339Nano), fmt.Sprintf("New size: %d; reason: %s", r.Decision.Desired, r.Decision.Explain()), true
}

func notWritten(r Record) (what, words string, known bool) {
	if r.Failure == nil || r.Failure.Stage != execute.StageWrite {
		return "", "", true
	}
	return broken(r.Failure)
}

func notFinished(r Record) (what, words string, known bool) {
	if r.Failure == nil || r.Failure.Stage == execute.StageWrite {
		return "", "", true
	}
	return broken(r.Failure)
}

// broken tells of a failure, and nothing of a run that was cut short by a stop.
func broken(f *Failure) (what, words string, known bool) {
	where := string(f.Stage)
	if f.Subject != "" {
		where += " (pod " + f.Subject + ")"
	}
	return string(f.Stage) + " " + string(f.Kind), where + ": " + f.guarded(), f.Kind != execute.KindCanceled && f.Kind != KindStandby
}

// guarded is the message as more people may see it than the log: without what
// a hook or a server answered, which may hold a secret.
func (f *Failure) guarded() string {
	switch f.Kind {
	case execute.KindAnswer:
		return "the hook's answer cannot be used; the log shows it"
	case execute.KindTransport:
		return "no answer, or not all of it; the log shows why"
	default:
		return f.Message
	}
}

func recovered(r Record) (what, words string, known bool) {
	if r.Failure != nil {
		return "", "", true
	}
	return "recovered", "Runs succeed again", true
}

// limited tells of the limit that the count ended at. Where something else
// moved it on, such as a stabilisation window, the limit is not what holds it;
// nor does a run know that came to no evaluation.
func limited(r Record) (what, words string, known bool) {
	if r.DryRun || r.Decision == nil || r.Decision.Evaluated == nil {
		return "", "", false
	}
	if count := len(r.Decision.Constraints); count > 0 {
		what = limit(r, r.Decision.Constraints[count-1].Name)
	}
	return what, r.Decision.Explain(), true
}

// limit tells one limit from another; it is empty for other constraints.
func limit(r Record, name scale.ConstraintName) string {
	switch name {
	case scale.ConstraintMin:
		return string(name) + " " + r.Bounds.Min.String()
	case scale.ConstraintMax:
		return string(name) + " " + r.Bounds.Max.String()
	case scale.ConstraintScaleUpLimit, scale.ConstraintScaleDownLimit:
		return string(name)
	default:
		return ""
	}
}

func fellBack(r Record) (what, words string, known bool) {
	if r.Decision == nil || !r.Decision.Fallback {
		return "", "", r.Decision != nil
	}
	return "fallback", "Runs keep failing, so that the fallback's replica count applies: " + r.Decision.Explain(), true
}

func cameBack(r Record) (what, words string, known bool) {
	if r.Decision == nil || r.Decision.Fallback {
		return "", "", r.Decision != nil
	}
	return "left", "The fallback's replica count applies no longer: " + r.Decision.Explain(), true
}

// EventObserver tells of changes as Kubernetes Events on the target, which
// kubectl describe shows: a rescale, a limit reached, runs that fail and
// succeed again, a fallback entered and left. It tells when something begins,
// not on each run: what lasts is told again every 30 minutes, and what comes
// and goes at most once a minute (rescales: 25 at once, then one a minute), the
// occurrences between counted in the next Event. So an autoscaler makes at most
// one request a minute for each of the seven reasons, whatever its interval,
// and two where the Event told last is gone or may not be patched.
//
// Autoscalers may share one; it is safe for concurrent use. Its service account
// needs create and patch on events. Without, it logs one warning, and tries
// again every hour.
type EventObserver struct {
	sink     eventSink
	log      *slog.Logger
	instance string
	queue    chan telling
	dropped  atomic.Int64

	mu       sync.Mutex
	accounts map[string]*account
	swept    time.Time

	// forbidden is until when nothing is sent to a namespace. Only Run uses it.
	forbidden map[string]time.Time
}

// eventSink is the API server.
type eventSink interface {
	create(ctx context.Context, event *corev1.Event) error
	patch(ctx context.Context, event *corev1.Event, patch []byte) error
}

// telling is an Event on its way: a new one, or one that is told again.
type telling struct {
	event corev1.Event
	again bool
}

// NewEventObserver makes one that sends with the client of the core group; Run
// has it send.
func NewEventObserver(client rest.Interface, log *slog.Logger) *EventObserver {
	return newEventObserver(apiSink{client}, log)
}

func newEventObserver(sink eventSink, log *slog.Logger) *EventObserver {
	hostname, _ := os.Hostname() // it is only shown
	return &EventObserver{
		sink: sink, log: log, instance: hostname,
		queue: make(chan telling, eventQueue), accounts: map[string]*account{}, forbidden: map[string]time.Time{},
	}
}

// Observe tells what is new in a record. It does not wait: when the queue is
// full the Event is dropped. Runs that consider only, and those that do not go
// all the way, are not told of.
func (o *EventObserver) Observe(r Record) {
	if r.Trigger.DryRun || r.Trigger.Through != ThroughScale {
		return
	}
	now := r.Time.Add(r.Duration)
	o.mu.Lock()
	defer o.mu.Unlock()
	a := o.account(r.ID, now)
	if a == nil {
		return
	}
	for _, t := range a.observe(r, now) {
		t.event.Source.Component, t.event.ReportingController, t.event.ReportingInstance = reporter, reporter, o.instance
		select {
		case o.queue <- t:
		default:
			o.dropped.Add(1)
		}
	}
}

// account is that of an autoscaler, nil when there are too many.
func (o *EventObserver) account(id string, now time.Time) *account {
	a := o.accounts[id]
	if a == nil {
		if len(o.accounts) >= maxAccounts {
			o.sweep(now)
		}
		if len(o.accounts) >= maxAccounts {
			return nil
		}
		a = &account{series: map[string]*series{}}
		o.accounts[id] = a
	}
	a.seen = now
	return a
}

// sweep forgets autoscalers that have not run for so long that their Events
// are gone.
func (o *EventObserver) sweep(now time.Time) {
	if now.Sub(o.swept) < eventSpacing {
		return
	}
	o.swept = now
	for id, a := range o.accounts {
		if now.Sub(a.seen) > eventLife {
			delete(o.accounts, id)
		}
	}
}

// account is what was told of one autoscaler.
type account struct {
	seen   time.Time
	target corev1.ObjectReference
	series map[string]*series
}

// observe takes note of a run, and returns what is to be told now.
func (a *account) observe(r Record, now time.Time) []telling {
	a.identify(r.Target)
	if a.target.Name == "" {
		return nil
	}
	var due []telling
	for i := range reasons {
		reason := &reasons[i]
		what, words, known := reason.of(r)
		if !known {
			continue
		}
		if len(reason.ends) > 0 && !a.open(reason.ends) {
			what = ""
		}
		if what != "" {
			what += " " + string(a.target.UID) // a target made anew starts anew
		}
		s := a.of(reason.name)
		if !s.see(reason, what, now) {
			continue
		}
		for _, name := range reason.ends {
			a.of(name).open = false
		}
		due = append(due, s.tell(reason, a.target, words, now))
	}
	return due
}

// identify keeps what was last known of the target: a run that could not read
// it knows less.
func (a *account) identify(target corev1.ObjectReference) {
	if target.Name == "" {
		return
	}
	// An Event is about the target, not about one version of it.
	target.ResourceVersion = ""
	if target.Name == a.target.Name {
		target.UID = cmp.Or(target.UID, a.target.UID)
	}
	a.target = target
}

func (a *account) of(name string) *series {
	if a.series[name] == nil {
		a.series[name] = &series{}
	}
	return a.series[name]
}

// open says whether one of the conditions was told and not yet its end.
func (a *account) open(names []string) bool {
	for _, name := range names {
		if a.of(name).open {
			return true
		}
	}
	return false
}

// series is what was told of an autoscaler for one reason.
type series struct {
	// holds is what the last run showed, empty for nothing.
	holds string
	// untold is how often it occurred since an Event told of it, first at
	// since; owed says that one of these began something.
	untold int32
	since  time.Time
	owed   bool
	// full is when the bucket of tokens is full again.
	full time.Time
	// told is the Event that was last told, and what it tells of. Open says
	// that its end is not told yet.
	told *corev1.Event
	what string
	open bool
}

// see takes note of what a run shows, and says whether to tell of it now.
func (s *series) see(r *reason, what string, now time.Time) bool {
	began := what != s.holds
	s.holds = what
	if what == "" {
		return false
	}
	if began && !s.owed && what != s.what {
		s.untold = 0 // what is left is the last Event's own
	}
	if began || r.lasts {
		if s.untold == 0 {
			s.since = now
		}
		s.untold++
	}
	s.owed = s.owed || began
	stale := r.lasts && s.told != nil && now.Sub(s.told.LastTimestamp.Time) >= eventRefresh
	return (s.owed || stale) && s.take(r.burst, now)
}

// take takes a token of the bucket, which gets one back every eventSpacing.
func (s *series) take(burst int, now time.Time) bool {
	if s.full.Before(now) {
		s.full = now
	}
	if s.full.Sub(now) > time.Duration(burst-1)*eventSpacing {
		return false
	}
	s.full = s.full.Add(eventSpacing)
	return true
}

// tell makes the Event: the last one, brought up to date, if it tells of the
// same and should still be there; else a new one.
func (s *series) tell(r *reason, target corev1.ObjectReference, words string, now time.Time) telling {
	again := s.told != nil && s.what == s.holds && now.Sub(s.told.LastTimestamp.Time) < eventLife
	event := corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: target.Namespace, Name: eventName(target.Name)},
		InvolvedObject: target,
		Reason:         r.name,
		Type:           r.eventType,
		FirstTimestamp: metav1.NewTime(s.since),
	}
	if again {
		event.Name, event.FirstTimestamp, event.Count = s.told.Name, s.told.FirstTimestamp, s.told.Count
	}
	event.Message, event.LastTimestamp = eventMessage(words), metav1.NewTime(now)
	event.Count += s.untold
	s.told, s.what, s.open, s.owed, s.untold = &event, s.holds, true, false, 0
	return telling{event: event, again: again}
}

// eventName is a name that no other Event has.
func eventName(target string) string {
	suffix := make([]byte, 8)
	_, _ = rand.Read(suffix) // it never fails
	room := validation.DNS1123SubdomainMaxLength - len(".") - 2*len(suffix)
	name := strings.TrimRight(target[:min(len(target), room)], ".-")
	if len(validation.IsDNS1123Subdomain(name)) > 0 {
		name = reporter // not every kind is named as strictly as Events are
	}
	return fmt.Sprintf("%s.%x", name, suffix)
}

// eventMessage is the words as the API server takes them.
func eventMessage(words string) string {
	const more = "..."
	words = strings.ToValidUTF8(words, "?")
	if len(words) <= maxEventMessage {
		return words
	}
	end := maxEventMessage - len(more)
	for !utf8.RuneStart(words[end]) {
		end--
	}
	return words[:end] + more
}

// Run sends what Observe tells until the context ends, and then what is left,
// for at most 300 ms. It returns nil. Call it once; its context had better end
// after the autoscalers have, whose last runs it would miss.
func (o *EventObserver) Run(ctx context.Context) error {
	work, cancel := withGrace(ctx, eventGrace)
	defer cancel()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case t := <-o.queue:
			o.send(work, t)
		}
	}
	for work.Err() == nil {
		select {
		case t := <-o.queue:
			o.send(work, t)
		default:
			return nil
		}
	}
	return nil
}

// send sends one, in one request or, when the Event to patch is gone or may
// not be patched, in two. What cannot be sent is dropped.
func (o *EventObserver) send(ctx context.Context, t telling) {
	if dropped := o.dropped.Swap(0); dropped > 0 {
		o.log.Warn("Events were dropped: the API server is slower to take them than they come", "dropped", dropped)
	}
	namespace := t.event.Namespace
	if time.Now().Before(o.forbidden[namespace]) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, eventTimeout)
	defer cancel()
	err := o.request(ctx, t)
	switch {
	case err == nil:
		delete(o.forbidden, namespace)
	case apierrors.IsForbidden(err) && !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		if _, known := o.forbidden[namespace]; !known {
			o.log.Warn("No Events are made: the service account may not. Grant it the verbs create and patch on the resource events "+
				`of the API group "" in the target's namespace (docs/rbac.md)`, "namespace", namespace, "error", err)
		}
		o.forbidden[namespace] = time.Now().Add(forbiddenPause)
	default:
		o.log.Debug("An Event was dropped", "reason", t.event.Reason, "target", t.event.InvolvedObject.Name, "error", err)
	}
}

func (o *EventObserver) request(ctx context.Context, t telling) error {
	if t.again {
		patch, err := json.Marshal(map[string]any{
			"count": t.event.Count, "lastTimestamp": t.event.LastTimestamp, "message": t.event.Message,
		})
		if err != nil {
			return fmt.Errorf("encoding the patch: %w", err)
		}
		err = o.sink.patch(ctx, &t.event, patch)
		if !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err) {
			return err
		}
	}
	return o.sink.create(ctx, &t.event)
}

// apiSink sends to the API server. It does not repeat a request: there is
// nothing less important than an Event.
type apiSink struct{ client rest.Interface }

func (s apiSink) create(ctx context.Context, event *corev1.Event) error {
	return s.client.Post().Namespace(event.Namespace).Resource("events").Body(event).MaxRetries(0).Do(ctx).Error()
}

func (s apiSink) patch(ctx context.Context, event *corev1.Event, patch []byte) error {
	return s.client.Patch(types.MergePatchType).Namespace(event.Namespace).Resource("events").Name(event.Name).
		Body(patch).MaxRetries(0).Do(ctx).Error()
}

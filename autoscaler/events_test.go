// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package autoscaler

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

var eventResource = schema.GroupResource{Resource: "events"}

// board keeps Events as the API server does.
type board struct {
	// refuse answers in its place.
	refuse func(ctx context.Context, verb string, event *corev1.Event) error

	mu       sync.Mutex
	events   []*corev1.Event
	requests []string
}

func (b *board) asked(ctx context.Context, verb string, event *corev1.Event) error {
	b.mu.Lock()
	b.requests = append(b.requests, verb+" "+event.Reason)
	b.mu.Unlock()
	if b.refuse == nil {
		return nil
	}
	return b.refuse(ctx, verb, event)
}

func (b *board) create(ctx context.Context, event *corev1.Event) error {
	if err := b.asked(ctx, "create", event); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, event.DeepCopy())
	return nil
}

func (b *board) patch(ctx context.Context, event *corev1.Event, patch []byte) error {
	if err := b.asked(ctx, "patch", event); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, there := range b.events {
		if there.Name == event.Name {
			return json.Unmarshal(patch, there)
		}
	}
	return apierrors.NewNotFound(eventResource, event.Name)
}

func (b *board) clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events, b.requests = nil, nil
}

// announcer is an EventObserver at work in a synctest bubble.
type announcer struct {
	*board
	t        *testing.T
	observer *EventObserver
	began    time.Time
	log      bytes.Buffer
	stop     func()
}

func announce(t *testing.T) *announcer {
	t.Helper()
	a := &announcer{board: &board{}, t: t, began: time.Now()}
	a.observer = newEventObserver(a.board, slog.New(slog.NewTextHandler(&a.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.observer.Run(ctx) }()
	a.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(a.stop)
	return a
}

// run is a run that evaluated 5 replicas where there are 5, with changes.
func (a *announcer) run(changes ...func(*Record)) {
	a.t.Helper()
	a.observer.Observe(aRecord(changes...))
	synctest.Wait()
}

func aRecord(changes ...func(*Record)) Record {
	r := Record{
		ID: "shop/deployment/web", Time: time.Now(), Trigger: Trigger{RunType: execute.RunScaler, Through: ThroughScale},
		Target: corev1.ObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: "web", UID: "u1", ResourceVersion: "7"},
		Bounds: bounds.Bounds{Min: bounds.Limit{Replicas: 1}, Max: bounds.Limit{Replicas: 10}}, Current: 5,
		Decision: &scale.Decision{Current: 5, Evaluated: new(int32(5)), Desired: 5},
	}
	for _, change := range changes {
		change(&r)
	}
	return r
}

// want compares what is on the board: "type reason xCOUNT FIRST-LAST message".
func (a *announcer) want(lines ...string) {
	a.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	got := make([]string, 0, len(a.events))
	for _, e := range a.events {
		got = append(got, fmt.Sprintf("%s %s x%d %s-%s %s", e.Type, e.Reason, e.Count,
			e.FirstTimestamp.Sub(a.began), e.LastTimestamp.Sub(a.began), e.Message))
	}
	if diff := cmp.Diff(lines, got); diff != "" {
		a.t.Errorf("events (-want +got):\n%s", diff)
	}
}

// logged is how often the log says so.
func (a *announcer) logged(text string) int { return strings.Count(a.log.String(), text) }

func scaledTo(count int32) func(*Record) {
	return func(r *Record) {
		r.Decision = &scale.Decision{Current: r.Current, Evaluated: &count, Desired: count}
		r.Written = true
	}
}

// failing fails at a stage, which leaves no decision.
func failing(stage execute.Stage, kind execute.Kind, message string) func(*Record) {
	return func(r *Record) {
		r.Decision = nil
		r.Failure = &Failure{Stage: stage, Kind: kind, Message: message, Stderr: "the password is 1234"}
	}
}

var exits = failing(execute.StageEvaluate, execute.KindExit, "exit status 4")

// limitedBy ends at a constraint.
func limitedBy(name scale.ConstraintName, detail string) func(*Record) {
	return func(r *Record) {
		r.Decision.Evaluated = new(int32(14))
		r.Decision.Constraints = append(r.Decision.Constraints, scale.Constraint{Name: name, From: 14, To: 10, Detail: detail})
	}
}

var capped = limitedBy(scale.ConstraintMax, "maxReplicas is 10")

func inFallback(r *Record) {
	exits(r)
	r.Decision = &scale.Decision{Current: 5, Desired: 7, Fallback: true, Constraints: []scale.Constraint{
		{Name: scale.ConstraintFallback, From: 5, To: 7, Detail: "3 runs failed"},
	}}
}

func TestEventsOfRescales(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := announce(t)
		a.run()
		a.run(scaledTo(7))
		wait(15 * time.Second)
		a.run(scaledTo(5), func(r *Record) { r.Duration = 2 * time.Second })
		a.want(
			"Normal SuccessfulRescale x1 0s-0s New size: 7; reason: evaluated 7",
			"Normal SuccessfulRescale x1 17s-17s New size: 5; reason: evaluated 5",
		)
		e := a.events[0]
		if e.Namespace != "shop" || !strings.HasPrefix(e.Name, "web.") || e.Name == a.events[1].Name {
			t.Errorf("named %s/%s and %s", e.Namespace, e.Name, a.events[1].Name)
		}
		if want := (corev1.ObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: "web", UID: "u1"}); e.InvolvedObject != want {
			t.Errorf("about %v", e.InvolvedObject)
		}
		if e.ReportingController != "custom-pod-autoscaler" || e.Source.Component != e.ReportingController || e.ReportingInstance == "" {
			t.Errorf("from %q, %q, %q", e.Source.Component, e.ReportingController, e.ReportingInstance)
		}
	})
}

func TestRunsThatMakeNoEvent(t *testing.T) {
	for name, changes := range map[string][]func(*Record){
		"nothing new":               {},
		"a dry run":                 {func(r *Record) { r.DryRun = true; r.Decision.Desired = 7 }},
		"a requested dry run":       {capped, func(r *Record) { r.Trigger.DryRun = true }},
		"a request for the metrics": {exits, func(r *Record) { r.Trigger.Through = ThroughMetrics }},
		"cut short by a stop":       {failing(execute.StageMetric, execute.KindCanceled, "killed")},
		"a write cut short":         {failing(execute.StageWrite, execute.KindCanceled, "killed")},
		"no target known":           {exits, func(r *Record) { r.Target = corev1.ObjectReference{} }},
		"held by a window":          {capped, limitedBy(scale.ConstraintScaleDownStabilization, "12 was asked for")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := announce(t)
				a.run(changes...)
				a.want([]string{}...)
			})
		})
	}
}

// A dry run by configuration says that it fails. What it would have done stays
// in the log: on the target it would look as if it had been done.
func TestEventsOfADryRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := announce(t)
		dry := func(r *Record) { r.DryRun = true }
		a.run(capped, dry)
		a.run(exits, dry)
		a.want("Warning RunFailed x1 0s-0s evaluate: exit status 4")
	})
}

func TestAFailureIsToldOnceAndItsEndToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := announce(t)
		for range 20 {
			a.run(exits)
			wait(time.Second)
		}
		first := "Warning RunFailed x1 0s-0s evaluate: exit status 4"
		a.want(first)
		a.run(failing(execute.StageEvaluate, execute.KindCanceled, "stopped")) // says nothing
		a.run()
		recovered := "Normal RunRecovered x1 20s-20s Runs succeed again"
		a.want(first, recovered)
		for range 20 {
			wait(time.Minute)
			a.run()
		}
		a.want(first, recovered)
	})
}

func TestAnotherFailureIsToldAfterAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := announce(t)
		a.run(exits)
		for range 8 {
			wait(10 * time.Second)
			a.run(failing(execute.StageMetric, execute.KindTimeout, "no answer within 5s (timeout)"), func(r *Record) { r.Failure.Subject = "web-1" })
		}
		wait(10 * time.Second)
		a.run(failing(execute.StageWrite, "", "scaling from 5 to 7: forbidden"))
		wait(10 * time.Second)
		a.run()
		a.want(
			"Warning RunFailed x1 0s-0s evaluate: exit status 4",
			"Warning RunFailed x6 10s-1m0s metric (pod web-1): no answer within 5s (timeout)",
			"Warning FailedRescale x1 1m30s-1m30s write: scaling from 5 to 7: forbidden",
			"Normal RunRecovered x1 1m40s-1m40s Runs succeed again",
		)
	})
}

// More people may read Events than the log.
func TestEventsHoldNothingThatWasAnswered(t *testing.T) {
	for kind, want := range map[execute.Kind]string{
		execute.KindAnswer:    "evaluate: the hook's answer cannot be used; the log shows it",
		execute.KindTransport: "evaluate: no answer, or not all of it; the log shows why",
	} {
		synctest.Test(t, func(t *testing.T) {
			a := announce(t)
			a.run(failing(execute.StageEvaluate, kind, "got 'the token is abcd'"))
			a.want("Warning RunFailed x1 0s-0s " + want)
		})
	}
}

func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := announce(t)
		for range 10 {
			a.run(limitedBy(scale.ConstraintScaleUpLimit, "4 in 15s"))
			wait(15 * time.Second)
		}
		for range 10 {
			a.run(capped)
			wait(15 * time.Second)
		}
		a.run(exits) // does not know
		a.run(exits, func(r *Record) { r.Decision = &scale.Decision{Current: 10, Desired: 10} })
		a.run(capped)
		nightly := func(r *Record) { r.Bounds.Max.Source = "schedule nights" }
		for range 10 {
			a.run(limitedBy(scale.ConstraintMax, "maxReplicas is 10, by schedule nights"), nightly)
			wait(15 * time.Second)
		}
		a.run()
		a.run(limitedBy(scale.ConstraintMax, "maxReplicas is 10, by schedule nights"), nightly)
		a.want(
			"Normal ScalingLimited x1 0s-0s evaluated 14, slowed to 10 (4 in 15s)",
			"Normal ScalingLimited x1 2m30s-2m30s evaluated 14, capped to 10 (maxReplicas is 10)",
			"Warning RunFailed x1 5m0s-5m0s evaluate: exit status 4",
			"Normal RunRecovered x1 5m0s-5m0s Runs succeed again",
			// the ten runs, and that it began anew
			"Normal ScalingLimited x11 5m0s-7m30s evaluated 14, capped to 10 (maxReplicas is 10, by schedule nights)",
		)
	})
}

func TestFallbackEnteredAndLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := announce(t)
		for range 2 {
			a.run(exits)
			wait(15 * time.Second)
		}
		for range 5 {
			a.run(inFallback)
			wait(15 * time.Second)
		}
		a.run(failing(execute.StageRead, "", "the API server is away")) // does not know
		wait(15 * time.Second)
		a.run(scaledTo(6))
		a.run()
		a.want(
			"Warning RunFailed x1 0s-0s evaluate: exit status 4",
			"Warning FallbackEntered x1 30s-30s Runs keep failing, so that the fallback's replica count applies: not evaluated, fell back to 7 (3 runs failed)",
			"Warning RunFailed x1 1m45s-1m45s read: the API server is away",
			"Normal SuccessfulRescale x1 2m0s-2m0s New size: 6; reason: evaluated 6",
			"Normal RunRecovered x1 2m0s-2m0s Runs succeed again",
			"Normal FallbackLeft x1 2m0s-2m0s The fallback's replica count applies no longer: evaluated 6",
		)
	})
}

// What lasts stays on the board, though the API server forgets after an hour,
// in one request every half hour.
func TestWhatLastsIsRefreshed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := announce(t)
		for range 24 * 60 * 4 {
			a.run(exits, cappedLate)
			wait(15 * time.Second)
		}
		a.want(
			"Warning RunFailed x5641 0s-23h30m0s evaluate: exit status 4",
			"Normal ScalingLimited x5641 0s-23h30m0s evaluated 14, capped to 10 (maxReplicas is 10)",
		)
		if len(a.requests) != 2*48 {
			t.Errorf("%d requests", len(a.requests))
		}
		a.clear() // as the API server does
		a.run(exits, cappedLate)
		a.want(
			"Warning RunFailed x5761 0s-24h0m0s evaluate: exit status 4",
			"Normal ScalingLimited x5761 0s-24h0m0s evaluated 14, capped to 10 (maxReplicas is 10)",
		)
		wait(2 * time.Hour) // too long ago to patch
		a.clear()
		a.run(exits)
		if diff := cmp.Diff([]string{"create RunFailed"}, a.requests); diff != "" {
			t.Errorf("requests (-want +got):\n%s", diff)
		}
	})
}

// cappedLate is capped for a run that failed later.
func cappedLate(r *Record) {
	r.Decision = &scale.Decision{Current: 10, Desired: 10}
	capped(r)
}

// What comes and goes on every run is one request a minute, counted.
func TestFlappingIsFolded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := announce(t)
		for range 5 * 60 {
			a.run(exits)
			wait(500 * time.Millisecond)
			a.run()
			wait(500 * time.Millisecond)
		}
		a.want(
			"Warning RunFailed x241 0s-4m0s evaluate: exit status 4",
			"Normal RunRecovered x5 500ms-4m0s Runs succeed again",
		)
		if len(a.requests) != 10 {
			t.Errorf("%d requests: %v", len(a.requests), a.requests)
		}
	})
}

// The last word is said, a minute late at the most.
func TestTheLastStateIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := announce(t)
		for _, change := range []func(*Record){exits, func(*Record) {}, exits, func(*Record) {}} {
			a.run(change)
		}
		for range 59 {
			wait(time.Second)
			a.run(exits)
		}
		recovered := "Normal RunRecovered x1 0s-0s Runs succeed again"
		a.want("Warning RunFailed x1 0s-0s evaluate: exit status 4", recovered)
		wait(time.Second)
		a.run(exits)
		a.want("Warning RunFailed x62 0s-1m0s evaluate: exit status 4", recovered)
	})
}

func TestRescalesComeInABurstThenOneAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := announce(t)
		for i := range 120 {
			a.run(scaledTo(int32(i)))
			wait(time.Second)
		}
		if len(a.events) != 26 {
			t.Fatalf("%d events", len(a.events))
		}
		last := a.events[25]
		if last.Count != 36 || last.Message != "New size: 60; reason: evaluated 60" {
			t.Errorf("the last is x%d %s", last.Count, last.Message)
		}
	})
}

func TestATargetMadeAnewStartsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := announce(t)
		a.run(exits)
		wait(2 * time.Minute)
		a.run(exits, func(r *Record) { r.Target.UID = "" }) // was not read: it is the same
		a.run(exits, func(r *Record) { r.Target.UID = "u2" })
		a.want("Warning RunFailed x1 0s-0s evaluate: exit status 4", "Warning RunFailed x1 2m0s-2m0s evaluate: exit status 4")
		if a.events[1].InvolvedObject.UID != types.UID("u2") {
			t.Errorf("about %v", a.events[1].InvolvedObject)
		}
	})
}

func TestAutoscalersShareAnObserver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := announce(t)
		for range 3 {
			for _, name := range []string{"web", "api"} {
				a.run(exits, func(r *Record) { r.ID, r.Target.Name = name, name })
			}
		}
		if len(a.events) != 2 || a.events[0].InvolvedObject.Name != "web" || a.events[1].InvolvedObject.Name != "api" {
			t.Errorf("got %d events", len(a.events))
		}
		for i := range 3 * maxAccounts {
			a.run(func(r *Record) { r.ID = strconv.Itoa(i) })
		}
		if count := len(a.observer.accounts); count != maxAccounts {
			t.Errorf("%d accounts", count)
		}
		wait(2 * time.Hour)
		a.run()
		if count := len(a.observer.accounts); count != 1 {
			t.Errorf("%d accounts two hours later", count)
		}
	})
}

func TestEventsForbidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := announce(t)
		forbidden := apierrors.NewForbidden(eventResource, "", errors.New("no rights"))
		a.refuse = func(_ context.Context, _ string, event *corev1.Event) error {
			if event.Namespace == "shop" {
				return forbidden
			}
			return nil
		}
		for range 150 {
			a.run(exits)
			a.run()
			wait(time.Minute)
		}
		const warning = `level=WARN msg="No Events are made: the service account may not. Grant it the verbs create and patch on the resource events ` +
			`of the API group \"\" in the target's namespace (docs/rbac.md)" namespace=shop`
		if a.logged(warning) != 1 || a.logged("\n") != 1 {
			t.Errorf("logged:\n%s", a.log.String())
		}
		// One at first; an hour, and two hours later, the patch and the new one.
		if diff := cmp.Diff([]string{"create RunFailed", "patch RunFailed", "create RunFailed", "patch RunFailed", "create RunFailed"}, a.requests); diff != "" {
			t.Errorf("requests (-want +got):\n%s", diff)
		}
		a.run(scaledTo(3), func(r *Record) { r.ID, r.Target.Namespace = "other", "other" })
		a.want("Normal SuccessfulRescale x1 2h30m0s-2h30m0s New size: 3; reason: evaluated 3")

		a.refuse = nil
		wait(time.Hour)
		a.run(scaledTo(3))
		if len(a.events) != 2 {
			t.Error("not tried again")
		}
		wait(15 * time.Second)
		a.refuse = func(context.Context, string, *corev1.Event) error { return forbidden }
		a.run(scaledTo(4))
		if a.logged(warning) != 2 {
			t.Errorf("logged:\n%s", a.log.String())
		}
	})
}

// A Role that grants create only costs Events, but works.
func TestEventsThatMayNotBePatchedAreMadeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := announce(t)
		a.refuse = func(_ context.Context, verb string, event *corev1.Event) error {
			if verb == "patch" {
				return apierrors.NewForbidden(eventResource, event.Name, errors.New("no rights"))
			}
			return nil
		}
		for range 61 {
			a.run(exits)
			wait(time.Minute)
		}
		if len(a.events) != 3 || a.events[2].Count != 61 || a.log.Len() > 0 {
			t.Errorf("%d events; logged:\n%s", len(a.events), a.log.String())
		}
	})
}

func TestANamespaceThatGoesIsNoMatterOfRights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := announce(t)
		a.refuse = func(context.Context, string, *corev1.Event) error {
			err := apierrors.NewForbidden(eventResource, "", errors.New("being terminated"))
			err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
			return err
		}
		a.run(scaledTo(3))
		wait(15 * time.Second)
		a.run(scaledTo(4))
		if a.logged("level=WARN") != 0 || len(a.requests) != 2 {
			t.Errorf("%v; logged:\n%s", a.requests, a.log.String())
		}
	})
}

// While the API server is away, runs go on, and what cannot be sent is dropped.
func TestTheAPIServerIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := announce(t)
		a.refuse = func(ctx context.Context, _ string, _ *corev1.Event) error {
			<-ctx.Done()
			return ctx.Err()
		}
		for i := range 40 * 25 { // forty autoscalers, all at once
			a.run(scaledTo(3), func(r *Record) { r.ID, r.Time = strconv.Itoa(i/25), r.Time.Add(time.Duration(i)) })
		}
		if took := time.Since(a.began); took != 0 {
			t.Errorf("Observe waited %s", took)
		}
		wait(time.Hour)
		synctest.Wait()
		if len(a.requests) != eventQueue+1 {
			t.Errorf("%d requests", len(a.requests))
		}
		if a.logged("level=WARN") != 1 || a.logged("dropped=899") != 1 || a.logged("level=DEBUG") != eventQueue+1 {
			t.Errorf("logged:\n%s", a.log.String())
		}
		a.refuse = nil
		a.run(exits)
		if len(a.events) != 1 {
			t.Errorf("%d events when it is back", len(a.events))
		}
	})
}

func TestWhatIsQueuedAtTheStopIsSent(t *testing.T) {
	for _, test := range []struct {
		takes time.Duration
		want  int
		after time.Duration
	}{
		{takes: 0, want: 10, after: 0},
		{takes: 70 * time.Millisecond, want: 4, after: eventGrace},
		{takes: time.Minute, want: 0, after: eventGrace},
	} {
		synctest.Test(t, func(t *testing.T) {
			a := announce(t)
			a.refuse = func(ctx context.Context, _ string, _ *corev1.Event) error {
				select {
				case <-time.After(test.takes):
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			for i := range 10 {
				a.observer.Observe(aRecord(scaledTo(3), func(r *Record) { r.ID = strconv.Itoa(i) }))
			}
			a.stop()
			if took := time.Since(a.began); len(a.events) != test.want || took != test.after {
				t.Errorf("%d sent in %s, want %d in %s", len(a.events), took, test.want, test.after)
			}
		})
	}
}

// A random day of an autoscaler that runs every second costs what the limits
// say, whatever happens in it.
func TestADayOfEventsIsBounded(t *testing.T) {
	seed := rand.Uint64() //nolint:gosec // a story, not a secret
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a story, not a secret
	happenings := []func(*Record){
		func(*Record) {}, exits, capped, inFallback,
		func(r *Record) { scaledTo(random.Int32N(9))(r) },
		failing(execute.StageMetric, execute.KindTimeout, "no answer"), failing(execute.StageWrite, "", "forbidden"),
		failing(execute.StageRead, "", "away"), failing(execute.StageEvaluate, execute.KindCanceled, "stopped"),
		limitedBy(scale.ConstraintScaleUpLimit, "4 in 15s"), limitedBy(scale.ConstraintMin, "minReplicas is 1"),
		func(r *Record) { r.Target.UID = []types.UID{"u1", "u2"}[random.IntN(2)] },
		func(r *Record) { r.Trigger.DryRun = true; capped(r) },
	}
	synctest.Test(t, func(t *testing.T) {
		a := announce(t)
		at := map[string][]time.Time{}
		a.refuse = func(_ context.Context, _ string, event *corev1.Event) error {
			at[event.Reason] = append(at[event.Reason], time.Now())
			return nil
		}
		now := happenings[0]
		for i := range 24 * 60 * 60 {
			stay := []int{1, 2, 10, 600}[i/600%4] // how many runs a happening lasts on average
			if random.IntN(stay) == 0 {
				now = happenings[random.IntN(len(happenings))]
			}
			a.observer.Observe(aRecord(now))
			wait(time.Second)
		}
		a.stop()
		for _, r := range reasons {
			times := at[r.name]
			if len(times) == 0 || len(times) > r.burst+24*60 {
				t.Errorf("%d of %s", len(times), r.name)
			}
			for i := r.burst; i < len(times); i++ {
				if apart := times[i].Sub(times[i-r.burst]); apart < eventSpacing {
					t.Fatalf("%d of %s within %s", r.burst+1, r.name, apart)
				}
			}
		}
	})
}

func TestEventNames(t *testing.T) {
	for target, prefix := range map[string]string{
		"web":                           "web.",
		strings.Repeat("a", 253):        strings.Repeat("a", 236) + ".",
		strings.Repeat("a", 235) + ".b": strings.Repeat("a", 235) + ".",
		"system:web":                    "custom-pod-autoscaler.",
		"":                              "custom-pod-autoscaler.",
	} {
		name := eventName(target)
		if !strings.HasPrefix(name, prefix) || len(validation.IsDNS1123Subdomain(name)) > 0 || name == eventName(target) {
			t.Errorf("%q: %q", target, name)
		}
	}
}

func TestEventMessages(t *testing.T) {
	for words, want := range map[string]string{
		"short":                           "short",
		strings.Repeat("a", 1024):         strings.Repeat("a", 1024),
		strings.Repeat("a", 1025):         strings.Repeat("a", 1021) + "...",
		strings.Repeat("\u00e4", 1000):    strings.Repeat("\u00e4", 510) + "...",
		"a\xff" + strings.Repeat("b", 9):  "a?bbbbbbbbb",
		strings.Repeat("\xff\u20ac", 999): strings.Repeat("?\u20ac", 255) + "?...",
	} {
		got := eventMessage(words)
		if got != want || !utf8.ValidString(got) || len(got) > 1024 {
			t.Errorf("%d bytes %q, want %q", len(got), got, want)
		}
	}
}

// What ends a condition is looked at after it.
func TestReasonsAreInOrder(t *testing.T) {
	var before []string
	for _, r := range reasons {
		for _, name := range r.ends {
			if !slices.Contains(before, name) {
				t.Errorf("%s stands before %s", r.name, name)
			}
		}
		before = append(before, r.name)
	}
}

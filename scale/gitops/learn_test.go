// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package gitops

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

// A process ends after a push that what applies the repository has not applied
// yet. The next one waits for it as the first would have.
func TestARestartAfterAPush(t *testing.T) {
	manually := map[string]string{manifestPath: strings.Replace(manifest, "replicas: 3", "replicas: 9", 1)}
	for name, start := range map[string]func(t *testing.T) *place{"https": overHTTPSServer, "local": onThisMachine} {
		for _, test := range []struct {
			name    string
			between map[string]string
			after   time.Duration
			live    int32
			current int32
			// deep is what it is where the history is there.
			deep int32
		}{
			{name: "not applied yet", live: 3, current: 10, deep: 10},
			{name: "applied by now", live: 10, current: 10, deep: 10},
			{name: "somebody has changed another file", live: 3, between: map[string]string{"README.md": "x"}, current: 3, deep: 10},
			{name: "somebody has changed the count", live: 3, between: manually, current: 3, deep: 3},
			{name: "long ago", live: 3, after: arrival, current: 3, deep: 3},
		} {
			t.Run(name+" "+test.name, func(t *testing.T) {
				t.Parallel()
				p := start(t)
				clock := &clock{now: time.Now()}
				r := made(t, p.settings, Options{Now: clock.read})
				stop := begin(t, r)
				r.Current(t.Context(), 3)
				if err := r.Write(t.Context(), decision(3, 10)); err != nil {
					t.Fatal(err)
				}
				stop()
				if test.between != nil {
					commitFiles(t, p.repository, "Meanwhile", test.between)
				}
				clock.pass(test.after)
				want := test.current
				if name == "local" {
					want = test.deep
				}
				r = open(t, p.settings, Options{Now: clock.read})
				if got := r.Current(t.Context(), test.live); got != want {
					t.Errorf("current is %d, want %d", got, want)
				}
				waits := r.Status().Arriving
				if (waits != nil) != (want != test.live) || waits != nil && (waits.Replicas != 10 || waits.Live != test.live) {
					t.Errorf("arriving %+v", waits)
				}
			})
		}
	}
}

// The 15 minutes count from the commit, and another autoscaler's commit is no
// concern of ours.
func TestWhatAnotherAutoscalerPushed(t *testing.T) {
	repository := bare(t)
	clock := &clock{now: time.Now()}
	c := settings(repository)
	other := made(t, c, Options{ID: "shop/deployment/other", Now: clock.read})
	stop := begin(t, other)
	if err := other.Write(t.Context(), decision(3, 8)); err != nil {
		t.Fatal(err)
	}
	stop()
	r := made(t, c, Options{Now: clock.read})
	stop = begin(t, r)
	if got := r.Current(t.Context(), 3); got != 3 {
		t.Errorf("current is %d", got)
	}
	if err := r.Write(t.Context(), decision(3, 10)); err != nil {
		t.Fatal(err)
	}
	stop()
	clock.pass(arrival - time.Minute)
	r = open(t, c, Options{Now: clock.read})
	if got := r.Current(t.Context(), 3); got != 10 {
		t.Errorf("current is %d", got)
	}
	clock.pass(time.Minute)
	if got := r.Current(t.Context(), 3); got != 3 {
		t.Errorf("current is %d", got)
	}
}

// The server is down at the start: the live count is gone on with. What was
// decided from that is refused once it is known what was pushed, to be decided
// again.
func TestARestartWhileTheServerIsDown(t *testing.T) {
	p := overHTTPSServer(t)
	r := made(t, p.settings, Options{})
	stop := begin(t, r)
	if err := r.Write(t.Context(), decision(3, 10)); err != nil {
		t.Fatal(err)
	}
	stop()
	p.interfere.set(func(i *interference) { i.down = true })
	var log locked
	r = open(t, p.settings, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if got := r.Current(t.Context(), 3); got != 3 {
		t.Errorf("current is %d", got)
	}
	eventually(t, "the log says so", func() bool { return strings.Contains(log.String(), "going on with the live one") })
	p.interfere.set(func(i *interference) { i.down = false })
	if err := r.Write(t.Context(), decision(3, 4)); !errors.Is(err, scale.ErrRefused) {
		t.Errorf("got %v", err)
	}
	if got := r.Current(t.Context(), 3); got != 10 || commits(t, p.repository) != 2 {
		t.Errorf("current is %d after %d commits", got, commits(t, p.repository))
	}
	if err := r.Write(t.Context(), decision(10, 11)); err != nil {
		t.Error(err)
	}
	if got := r.Current(t.Context(), 3); got != 11 {
		t.Errorf("current is %d", got)
	}
}

// A server that says nothing holds nobody up for longer than the patience.
func TestARestartWhileTheServerSaysNothing(t *testing.T) {
	var log locked
	r := made(t, settings("https://"+silent(t)+"/repo.git"), Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	r.pace.patience = 50 * time.Millisecond
	begin(t, r)
	for range 2 {
		if got := r.Current(t.Context(), 3); got != 3 {
			t.Errorf("current is %d", got)
		}
	}
	if got := strings.Count(log.String(), "has not answered whether a count that was pushed earlier is on its way"); got != 1 {
		t.Errorf("the log says so %d times:\n%s", got, log.String())
	}
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/rest"
)

// A process's CPU time is in its stat file, that of hooks that ended with it,
// that of hooks that stay in theirs.
func TestUsage(t *testing.T) {
	t.Parallel()
	proc := t.TempDir()
	write := func(file, content string) {
		t.Helper()
		path := filepath.Join(proc, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("stat", "cpu 1 2 3")
	write("7/stat", "7 (a (strange) name) S 1 7 7 0 -1 0 0 0 0 0 10 2 30 4 20 0 1 0")
	write("7/status", "Name:\ta\nVmHWM:\t    3072 kB\nVmRSS:\t    2048 kB\n")
	write("8/stat", "8 (worker) S 7 7 7 0 -1 0 0 0 0 0 100 0 0 0 20 0 1 0")
	write("9/stat", "9 (its child) S 8 7 7 0 -1 0 0 0 0 0 1000 0 0 5 20 0 1 0")
	write("11/stat", "11 (another) S 1 7 7 0 -1 0 0 0 0 0 5000 0 0 0 20 0 1 0")
	got, err := readUsage(proc, 7)
	if err != nil {
		t.Fatal(err)
	}
	want := usage{process: 120 * time.Millisecond, children: (34 + 100 + 1005) * 10 * time.Millisecond, resident: 2 << 20, peak: 3 << 20}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if _, err := readUsage(proc, 10); err == nil {
		t.Error("the usage of a process that is not there was read")
	}
	if got, err := readUsage(filepath.Join(proc, "none"), 7); err != nil || got != (usage{}) {
		t.Errorf("where there is no /proc: %+v, %v", got, err)
	}
	write("12/stat", "12 (short) S 7")
	if _, err := readUsage(proc, 7); err == nil {
		t.Error("a stat file was read that is not one")
	}
}

func TestWarmUps(t *testing.T) {
	t.Parallel()
	second := func(seconds ...float64) (all []time.Duration) {
		for _, s := range seconds {
			all = append(all, time.Duration(s*float64(time.Second)))
		}
		return all
	}
	for _, test := range []struct {
		name    string
		runs    []time.Duration
		counted []time.Duration
	}{
		{"two, then as many as asked for", second(1, 1, .5, .5, .5), second(.5, .5, .5)},
		{"until the budget is spent", second(2, 2, 3, 3), second(3, 3)},
		{"one, when two are too much", second(6, 6), second(6)},
		{"none, when one is too much", second(20), second(20)},
		{"more than asked for, of short runs", second(.1, .1, .4, .3, .2, .3, .2), second(.4, .3, .2, .3, .2)},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			g := &gauge{runs: 3, budget: 5 * time.Second}
			for i, took := range test.runs {
				if !g.warm(took) {
					g.took, g.total = append(g.took, took), g.total+took
				}
				enough := len(g.took) > 0 && g.enough()
				if last := i == len(test.runs)-1; enough != last {
					t.Fatalf("after %d runs: enough is %t", i+1, enough)
				}
			}
			if diff := cmp.Diff(test.counted, g.took); diff != "" {
				t.Errorf("counted (-want +got):\n%s", diff)
			}
		})
	}
}

// The proxy passes what comes when it comes, counts it, and tells of writes
// that were made.
func TestProxy(t *testing.T) {
	t.Parallel()
	more := make(chan string)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Authorization") != "":
			t.Error("the program's token was passed on")
		case r.URL.Path == "/conflict/scale":
			w.WriteHeader(http.StatusConflict)
		case r.URL.Path == "/watch":
			for text := range more {
				_, _ = io.WriteString(w, text)
				_ = http.NewResponseController(w).Flush()
			}
		}
	}))
	t.Cleanup(server.Close)
	p, err := startProxy(t.Context(), &rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.stop)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: p.identity.trust()}, Timeout: 30 * time.Second}
	t.Cleanup(client.CloseIdleConnections)
	request := func(method, path string) io.ReadCloser {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, p.url()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer bench")
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		return response.Body
	}

	for _, r := range [][2]string{{http.MethodPatch, "/conflict/scale"}, {http.MethodGet, "/web/scale"}, {http.MethodPatch, "/web/events"}, {http.MethodPatch, "/web/scale"}} {
		_ = request(r[0], r[1]).Close()
	}
	select {
	case w := <-p.writes:
		if !w.answered.After(w.arrived) {
			t.Errorf("answered at %s, arrived at %s", w.answered, w.arrived)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no write was told")
	}
	p.tell(write{})
	p.forget()
	if len(p.writes) > 0 {
		t.Error("a write was told that was not made, or not forgotten")
	}

	go func() { more <- "first" }()
	watch := request(http.MethodGet, "/watch")
	t.Cleanup(func() { _ = watch.Close() })
	for i, text := range []string{"first", "second"} {
		if i > 0 {
			more <- text
		}
		got := make([]byte, len(text))
		if _, err := io.ReadFull(watch, got); err != nil || string(got) != text {
			t.Fatalf("read %q, %v", got, err)
		}
	}
	close(more)
	if got := p.bytes.Load(); got != int64(len("firstsecond")) {
		t.Errorf("%d bytes were counted", got)
	}
	if got := p.requests.Load(); got != 5 {
		t.Errorf("%d requests were counted", got)
	}
}

func TestTail(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, written, want string }{
		{"nothing", "", "(nothing)"},
		{"the last line", "one\n  two\n\n", "two"},
		{"a panic", "one\npanic: no target\n\ngoroutine 1 [running]:\nmain.main()\n", "panic: no target"},
		{"long", strings.Repeat("x", 2*tailBytes) + "\nend", "end"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			kept := &tail{}
			for line := range strings.Lines(test.written) {
				if _, err := kept.Write([]byte(line)); err != nil {
					t.Fatal(err)
				}
			}
			if got := kept.String(); got != test.want || len(kept.kept) > tailBytes {
				t.Errorf("got %q of %d bytes, want %q", got, len(kept.kept), test.want)
			}
		})
	}
}

// What is stripped and what is not are the same size when they are compared.
func TestStrippedSize(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	source := filepath.Join(directory, "main.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() { println() }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	size := func(flags string) binary {
		t.Helper()
		file := filepath.Join(directory, "program"+flags)
		command := exec.CommandContext(t.Context(), "go", "build", "-ldflags", flags, "-o", file, source)
		if output, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, output)
		}
		b, err := newBinary(file)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	whole, stripped := size(""), size("-s -w")
	if whole.Bytes <= stripped.Bytes {
		t.Fatalf("nothing was stripped: %d and %d bytes", whole.Bytes, stripped.Bytes)
	}
	if off := whole.StrippedBytes - stripped.StrippedBytes; max(off, -off) > stripped.Bytes/50 {
		t.Errorf("stripped %d, as if stripped %d bytes", stripped.StrippedBytes, whole.StrippedBytes)
	}
	if _, err := newBinary(filepath.Join(directory, "none")); err == nil {
		t.Error("a program was found that is not there")
	}
}

// Without root a program finds the API server by KUBECONFIG; the moment it
// begins is told as well.
func TestKubeconfigAccess(t *testing.T) {
	t.Parallel()
	p, err := startProxy(t.Context(), &rest.Config{Host: "http://" + loopback})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.stop)
	directory := t.TempDir()
	environment, run, err := access{}.lead(directory, p)
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig, found := strings.CutPrefix(environment[0], "KUBECONFIG=")
	if content, err := os.ReadFile(kubeconfig); !found || err != nil || !bytes.Contains(content, []byte(p.url())) {
		t.Errorf("%v leads to %s, %v", environment, content, err)
	}
	s := &subject{binary: binary{file: "/bin/echo"}, run: run, directory: directory, proxy: p}
	program, err := s.start(t.Context(), map[string]any{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(program.stop)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := program.ready(ctx); err == nil || !strings.Contains(err.Error(), "it ended: exit status 0") {
		t.Errorf("got %v", err)
	}
	if program.began.IsZero() {
		t.Error("the moment it began is not known")
	}
}

// Requests come when they are due, whether those before are answered or not;
// without a rate each follows the answer before it.
func TestLoad(t *testing.T) {
	t.Parallel()
	errRefused := errors.New("refused")
	for _, test := range []struct {
		name string
		load load
		// each answers the requests, of which there were so many before.
		each func(ctx context.Context, before int) error
		want answers
	}{
		{"at a rate", load{rate: 100, connections: 4}, takes(10 * time.Millisecond), answers{100, 0, 10, 10}},
		{"at a rate that the answers just bear", load{rate: 100, connections: 4}, takes(40 * time.Millisecond), answers{100, 0, 40, 40}},
		{"one after another", load{connections: 2}, takes(10 * time.Millisecond), answers{200, 0, 10, 10}},
		{"with errors", load{rate: 100, connections: 4}, func(_ context.Context, before int) error {
			if before%2 == 0 {
				return errRefused
			}
			return nil
		}, answers{50, 50, 0, 0}},
		{"not answered", load{rate: 100, connections: 4}, func(ctx context.Context, _ int) error {
			<-ctx.Done()
			return ctx.Err()
		}, answers{0, 4, 0, 0}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var asked atomic.Int64
				o := test.load.run(t.Context(), time.Second, func(ctx context.Context) error { return test.each(ctx, int(asked.Add(1)-1)) })
				got := o.summary()
				got.PerSecond = math.Round(float64(len(o.answers)) / time.Second.Seconds())
				if diff := cmp.Diff(&test.want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				if o.elapsed < time.Second || o.elapsed > time.Second+overtime {
					t.Errorf("it took %s", o.elapsed)
				}
			})
		})
	}
}

func takes(d time.Duration) func(context.Context, int) error {
	return func(context.Context, int) error {
		time.Sleep(d)
		return nil
	}
}

// A late request is counted from when it was due, so that a program that stalls
// cannot hide that.
func TestLoadStalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := load{rate: 10, connections: 1}.run(t.Context(), time.Second, func(ctx context.Context) error { return takes(500*time.Millisecond)(ctx, 0) })
		slices.Sort(o.answers)
		if len(o.answers) != 10 || o.answers[9] != 4100*time.Millisecond {
			t.Errorf("%v", o.answers)
		}
	})
}

func TestDelay(t *testing.T) {
	t.Parallel()
	tick := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, test := range []struct{ since, want time.Duration }{
		{0, 0},
		{3 * time.Millisecond, 3 * time.Millisecond},
		{-time.Millisecond, -time.Millisecond},
		{10*time.Second + 3*time.Millisecond, 3 * time.Millisecond},
		{-10*time.Second + 3*time.Millisecond, 3 * time.Millisecond},
		{10*time.Second - time.Millisecond, -time.Millisecond},
		{150 * time.Millisecond, 150 * time.Millisecond},
	} {
		if got := delay(tick.Add(test.since), tick, 200*time.Millisecond); got != test.want {
			t.Errorf("%s after a moment: got %s, want %s", test.since, got, test.want)
		}
	}
}

// A phase has the figures of its turns, and of the runs that began in them.
func TestFiguresOf(t *testing.T) {
	t.Parallel()
	tick := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(milliseconds int) time.Time { return tick.Add(time.Duration(milliseconds) * time.Millisecond) }
	spans := []span{
		{at(-10), at(990), outcome{[]time.Duration{time.Millisecond, 3 * time.Millisecond}, 1, time.Second}, 100 * time.Millisecond, 2e6},
		{at(1990), at(2990), outcome{[]time.Duration{2 * time.Millisecond}, 0, time.Second}, 300 * time.Millisecond, 1e6},
	}
	var runs []loopRun
	for _, r := range []struct {
		at   int
		took float64
	}{{1, .010}, {205, .030}, {999, 1}, {2003, .020}, {3000, 1}} {
		runs = append(runs, loopRun{Time: at(r.at), TookSeconds: r.took})
	}
	got, err := figuresOf(spans, runs, at(5000))
	if err != nil {
		t.Fatal(err)
	}
	want := &statusFigures{
		Answers: &answers{PerSecond: 1.5, Errors: 1, Median: 2, Slow: 3},
		Runs:    3, Late: 3, Latest: 5, Time: 20, Process: 20, Resident: 2e6,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := figuresOf(spans[:1], nil, tick); err == nil || err.Error() != "the loop had no run in 1s" {
		t.Errorf("got %v", err)
	}
}

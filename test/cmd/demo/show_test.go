// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWave(t *testing.T) {
	w := wave{low: 40, high: 600, period: 100 * time.Second}
	for at, want := range map[time.Duration]int64{
		0: 40, 25 * time.Second: 320, 50 * time.Second: 600, 75 * time.Second: 320, 100 * time.Second: 40, 150 * time.Second: 600,
	} {
		if got := w.at(at); got != want {
			t.Errorf("after %s the demand is %d, want %d", at, got, want)
		}
	}
}

func TestNeededAndShare(t *testing.T) {
	for demand, want := range map[int64]int{1: 1, 50: 1, 51: 2, 600: 12} {
		if got := needed(demand); got != want {
			t.Errorf("a demand of %d needs %d pods, want %d", demand, got, want)
		}
	}
	for _, c := range []struct {
		demand int64
		pods   int
		want   int64
	}{{600, 4, 150}, {600, 7, 86}, {1, 10, 1}, {600, 0, 600}} {
		if got := share(c.demand, c.pods); got != c.want {
			t.Errorf("of %d each of %d pods has %d, want %d", c.demand, c.pods, got, c.want)
		}
	}
}

// The rows as somebody sees them, on a terminal and elsewhere.
func TestRows(t *testing.T) {
	var out bytes.Buffer
	s := &screen{out: &out}
	at := func(demand int64, ready int) sample {
		return sample{at: 65 * time.Second, demand: demand, ready: ready}
	}
	s.live(at(10, 1)) // Not for what is no terminal.
	s.row(row{sample: at(54, 2), measured: "40m", line: line{
		Msg: "Nothing to scale", From: 2, To: 2, Reason: "evaluated 1, raised to 2 (minReplicas is 2)",
	}})
	s.row(row{sample: at(233, 2), measured: "120m 2/5", line: line{Msg: msgScaled, From: 2, To: 7, Reason: "evaluated 7"}})
	s.row(row{sample: at(600, 10), measured: "110m", line: line{
		Msg: "Nothing to scale", From: 10, To: 10,
		Reason: "evaluated 3, held at 10 (10 was wanted 20s ago, within the downscaleStabilization of 20s)",
	}})
	s.row(row{sample: at(600, 12), line: line{Level: "ERROR", Msg: msgFailed, Stage: "metric", Error: "exit status 1"}})
	s.event(65*time.Second, "somebody did something")
	want := `
1:05  54m       40m      1       2     2 █┃·········· evaluated 1, raised to 2 (minReplicas is 2)
1:05 233m  120m 2/5      7   2 → 7     2 ██░░┃░░····· evaluated 7
1:05 600m      110m      3      10    10 ██████████·┃ evaluated 3, held at 10 (10 was wanted 20s
                                                      ago, within the downscaleStabilization of 20s)
1:05 600m                             12 ███████████┃ run failed at metric: exit status 1
1:05 ── somebody did something
`
	if diff := cmp.Diff(want, "\n"+out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	out.Reset()
	s.terminal = true
	s.live(at(10, 1))
	s.event(65*time.Second, "somebody did something")
	if said := out.String(); !strings.Contains(said, "\r\x1b[K\x1b[33m1:05 ── somebody did something\x1b[0m\n") {
		t.Errorf("on a terminal: %q", said)
	}
}

// Progress comes in pieces, and what only says that it goes on passes.
func TestProgress(t *testing.T) {
	var out bytes.Buffer
	s := &screen{out: &out, terminal: true}
	for _, piece := range []string{"building", " etcd\n  still", " building etcd\nbuilt etcd\n"} {
		if _, err := s.Write([]byte(piece)); err != nil {
			t.Fatal(err)
		}
	}
	want := "    building etcd\n      still building etcd\r\x1b[K    built etcd\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSummary(t *testing.T) {
	var m summary
	for second, now := range []sample{{demand: 40, ready: 2}, {demand: 101, ready: 2}, {demand: 201, ready: 2}, {demand: 100, ready: 4}} {
		now.at = time.Duration(second) * time.Second
		m.sampled(now)
	}
	for _, l := range []line{
		{RunType: "scaler", Msg: msgScaled, From: 2, To: 4},
		{RunType: "scaler", Msg: msgScaled, From: 4, To: 2},
		{RunType: "scaler", Msg: msgScaled, From: 2, To: 3},
		{RunType: "scaler", Msg: "Nothing to scale", From: 3, To: 3},
		{RunType: "scaler", Msg: msgFailed},
		{RunType: "api_dry_run", Msg: "Would scale, but this is a dry run", From: 3, To: 9},
	} {
		m.ran(l)
	}
	m.byHand, m.memory, m.cpu, m.watched = 1, 21<<20, 320*time.Millisecond, 120*time.Second
	var out bytes.Buffer
	(&screen{out: &out}).summary(m)
	want := `
==> After 2m
    load           40m to 201m
    ready pods     2 to 4
    runs           5, of which 1 failed
    scalings       3 written: 2 up, 1 down; and 1 by somebody else
    overload       the load was more than 50m a ready pod for 2s, more than twice that for 1s
    the runtime    used 320ms of CPU time, hooks included, and 21 MiB of memory at most

`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := m.verdict(); err != nil {
		t.Error(err)
	}
	if err := (&summary{runs: 2, failed: 2}).verdict(); err == nil {
		t.Error("a demo of which every run failed went well")
	}
}

// The hooks on payloads such as they get, and on some they should refuse.
func TestHooks(t *testing.T) {
	const metrics = `{"resource":{"metadata":{"annotations":{"a":"{\"Value\":9}","b":",\"kubernetesMetrics\":[{\"Value\":7"}}},"runType":"scaler",` +
		`"kubernetesMetrics":[{"current_replicas":3,"spec":{"type":"Resource","resource":{"name":"cpu","target":{"type":"AverageValue"}}},` +
		`"resource":{"pod_metrics_info":{%PODS%},"requests":null,"ready_pod_count":2,"ignored_pods":{},"missing_pods":{"web-c":{}},"total_pods":3}}]}`
	const pod = `{"Timestamp":"2026-11-21T20:00:00Z","Window":10000000000,"Value":30}`
	measured := func(pods string) string { return strings.ReplaceAll(metrics, "%PODS%", pods) }
	for name, c := range map[string]struct {
		hook, payload, want, stderr string
		status                      int
	}{
		"two of three pods": {
			hook: "metric.sh", payload: measured(`"web-a":` + pod + `,"web-b":` + pod),
			want: "110", stderr: "measured 60m in 2 of 3 pods\n",
		},
		"no pod measured": {
			hook: "metric.sh", payload: measured(""),
			stderr: "metrics-server has measured no pod yet\n", status: 1,
		},
		"a metric": {
			hook: "evaluate.sh", payload: `{"metrics":[{"resource":"web","value":"110"}],"resource":{"value":"9"},"runType":"scaler"}`,
			want: `{"targetReplicas": 3}` + "\n",
		},
		"no metric": {
			hook: "evaluate.sh", payload: `{"metrics":[{"resource":"web"}],"resource":{}}`,
			stderr: "the metric is no whole number: \n", status: 1,
		},
		"a metric in words": {
			hook: "evaluate.sh", payload: `{"metrics":[{"resource":"web","value":"many"}],"resource":{}}`,
			stderr: "the metric is no whole number: many\n", status: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			hook := exec.CommandContext(t.Context(), "/bin/sh", "hooks/"+c.hook)
			hook.Env = append(os.Environ(), "millicoresPerPod=50")
			hook.Stdin = strings.NewReader(c.payload)
			var stdout, stderr bytes.Buffer
			hook.Stdout, hook.Stderr = &stdout, &stderr
			var failed *exec.ExitError
			if err := hook.Run(); err != nil && !errors.As(err, &failed) {
				t.Fatal(err)
			}
			if stdout.String() != c.want || stderr.String() != c.stderr || hook.ProcessState.ExitCode() != c.status {
				t.Errorf("it prints %q and %q and exits with %d", &stdout, &stderr, hook.ProcessState.ExitCode())
			}
		})
	}
}

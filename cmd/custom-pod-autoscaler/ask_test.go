// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/api"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/api/client"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/openapi"
)

var update = flag.Bool("update", false, "write the golden files of testdata/print")

var document = sync.OnceValues(func() (*openapi.Document, error) { return openapi.Read(api.OpenAPI) })

func described(t *testing.T) *openapi.Document {
	t.Helper()
	d, err := document()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// answer serves the control socket of shop/deployment/web by a handler, whose
// exchanges must be as the document describes them.
func answer(t *testing.T, store string, handler http.Handler) (config string) {
	t.Helper()
	config = configure(t, store)
	folder := filepath.Join(os.TempDir(), "custom-pod-autoscaler-"+strconv.Itoa(os.Geteuid()))
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("shop/deployment/web"))
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", filepath.Join(folder, hex.EncodeToString(sum[:8])+".sock"))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(described(t).Handler(t, handler))
	_ = server.Listener.Close()
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	return config
}

// asked notes the requests it passes on.
type asked struct {
	next http.Handler
	mu   sync.Mutex
	// requests are method, path, query and body.
	requests []string
}

func (a *asked) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	a.requests = append(a.requests, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+string(body)))
	a.mu.Unlock()
	a.next.ServeHTTP(w, r)
}

// What is asked of the process, and what is printed of its answer.
func TestCommandsAsk(t *testing.T) {
	const store = "state: {store: configMap}"
	const held = "Held at 8 replicas until 2026-03-02 15:35:13 CET: sale at noon\n"
	tomorrow := time.Now().Add(24 * time.Hour).UTC().Format(time.RFC3339)
	const overridden = "Override: minReplicas 5 and maxReplicas 20 until 2026-03-02 17:05:13 CET: sale at noon\n" +
		"Bounds: 5 to 20 (minReplicas by override, maxReplicas by override)\n"
	for _, test := range []struct {
		command  string
		examples map[string]string
		config   string
		// asks has a request a line.
		asks   string
		prints string
	}{
		{"pause --replicas 5", nil, store, `POST /api/v1/pause {"replicas":5}`, "Paused at 5 replicas\n"},
		{"resume", map[string]string{"paused": "pausing"}, store, "GET /api/v1/pause\nPOST /api/v1/resume", "Resumed\n"},
		{"resume", map[string]string{"paused": "notPaused"}, store, "GET /api/v1/pause\nPOST /api/v1/resume", "There was no pause\n"},
		{"scale", nil, store, `GET /api/v1/scale`, "Hold: 8 replicas until 2026-03-02 15:35:13 CET: sale at noon\n"},
		{"scale", map[string]string{"hold": "noHold"}, "", `GET /api/v1/scale`, "No manual hold\n"},
		{
			"scale 8 --for 30m --reason sale", nil, store, `POST /api/v1/scale {"replicas":8,"duration":"30m0s","reason":"sale"}` + "\nGET /api/v1/status",
			held + "evaluated 4, held at 8 (manual hold until 2026-03-02T14:35:13Z: sale at noon)\n",
		},
		{
			"scale 8 --for 2d", nil, "", `POST /api/v1/scale {"replicas":8,"duration":"48h0m0s"}` + "\nGET /api/v1/status",
			"Held at 8 replicas until 2026-03-02 15:35:13 CET or until the process ends (state.store is none): sale at noon\n" +
				"evaluated 4, held at 8 (manual hold until 2026-03-02T14:35:13Z: sale at noon)\n",
		},
		{
			"scale --dry-run 80 --for=8760h",
			map[string]string{"scale": "heldDryRun"},
			store,
			`POST /api/v1/scale {"replicas":80,"duration":"8760h0m0s","dryRun":true}`,
			"Would be held at 10 replicas until 2026-03-02 15:35:13 CET: asked for 80, capped to 10 (maxReplicas is 10)\n" +
				"evaluated 4, held at 80 (manual hold until 2026-03-02T14:35:13Z), capped to 10 (maxReplicas is 10)\n",
		},
		{"scale --end", nil, "", "GET /api/v1/scale\nDELETE /api/v1/scale", "Ended the manual hold\n"},
		{"scale --end", map[string]string{"hold": "noHold"}, "", "GET /api/v1/scale\nDELETE /api/v1/scale", "There was no manual hold\n"},
		{"override", map[string]string{"override": "overridden"}, store, `GET /api/v1/override`, overridden},
		{"override", map[string]string{"override": "notOverridden"}, "", `GET /api/v1/override`, "No override\nBounds: 2 to 10\n"},
		{
			"override --min 5 --max 20 --for 2h --reason sale", nil, store,
			`PUT /api/v1/override {"minReplicas":5,"maxReplicas":20,"duration":"2h0m0s","reason":"sale"}`, overridden,
		},
		{"override --max 0", nil, store, `PUT /api/v1/override {"maxReplicas":0}`, overridden},
		{
			"override --min 5 --until " + tomorrow, nil, store,
			`PUT /api/v1/override {"minReplicas":5,"expiresAt":"` + tomorrow + `"}`, overridden,
		},
		{
			"override --end",
			map[string]string{"override": "overridden"},
			"",
			"GET /api/v1/override\nDELETE /api/v1/override", "Ended the override\nBounds: 2 to 10\n",
		},
		{
			"override --end",
			map[string]string{"override": "notOverridden"},
			"",
			"GET /api/v1/override\nDELETE /api/v1/override", "There was no override\nBounds: 2 to 10\n",
		},
	} {
		t.Run(test.command, func(t *testing.T) {
			a := &asked{next: described(t).Mock(test.examples)}
			printed, err := command(t, append(strings.Fields(test.command), "--config", answer(t, test.config, a))...)
			if err != nil || printed != test.prints {
				t.Errorf("it failed with %v and printed\n%swant\n%s", err, printed, test.prints)
			}
			if diff := cmp.Diff(strings.Split(test.asks, "\n"), a.requests); diff != "" {
				t.Errorf("(-want +asked):\n%s", diff)
			}
		})
	}
}

// What is printed as JSON is the answer of the API.
func TestJSON(t *testing.T) {
	for command, example := range map[string]string{"status -o json": "status", "records -o json": "records"} {
		printed := asks(t, described(t).Mock(map[string]string{"status": "status", "records": "records"}), command)
		want, err := described(t).Example(example)
		if err != nil {
			t.Fatal(err)
		}
		if printed != string(want)+"\n" {
			t.Errorf("%s printed\n%swant\n%s", command, printed, want)
		}
	}
}

// asks runs a command that must succeed.
func asks(t *testing.T, handler http.Handler, line string) (printed string) {
	t.Helper()
	printed, err := command(t, append(strings.Fields(line), "--config", answer(t, "", handler))...)
	if err != nil {
		t.Fatal(err)
	}
	return printed
}

// golden compares what is printed with a file.
func golden(t *testing.T, name, printed string) {
	t.Helper()
	file := filepath.Join("testdata", "print", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(printed), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), printed); diff != "" {
		t.Errorf("%s (-want +printed):\n%s", file, diff)
	}
}

func TestStatus(t *testing.T) {
	golden(t, "status", printed(t, example(t)))
	golden(t, "status-fresh", asks(t, described(t).Mock(map[string]string{"status": "freshStatus"}), "status"))
}

// example is the status of the document.
func example(t *testing.T) client.Status {
	t.Helper()
	example, err := described(t).Example("status")
	if err != nil {
		t.Fatal(err)
	}
	return decode[client.Status](t, string(example))
}

func printed(t *testing.T, status client.Status) string {
	t.Helper()
	var b strings.Builder
	if err := printStatus(&b, status); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The counts are told once if they are one.
func TestCounts(t *testing.T) {
	for replicas, want := range map[string]string{
		`{}`:                        "not known yet",
		`{"current":3}`:             "3",
		`{"current":3,"desired":3}`: "3",
		`{"current":3,"desired":3,"evaluated":3}`:  "3 (evaluated 3)",
		`{"current":3,"desired":10,"evaluated":4}`: "3 -> 10 (evaluated 4)",
	} {
		if got := counts(decode[client.Status](t, `{"replicas":`+replicas+`}`)); got != want {
			t.Errorf("%s is told as %s, want %s", replicas, got, want)
		}
	}
}

// What differs from the configuration file, and what is on its way through a
// repository, is told only if there is something.
func TestStatusOfWhatIsOnItsWay(t *testing.T) {
	status := decode[client.Status](t, `{
		"time":"2026-03-02T14:05:13Z","started":"2026-03-02T14:00:13Z","version":"1.2",
		"target":{"apiVersion":"apps/v1","kind":"Deployment","namespace":"shop","name":"web"},
		"replicas":{"current":6,"evaluated":2,"desired":2},"bounds":{"min":{"replicas":1},"max":{"replicas":10}},
		"config":{"live":["maxReplicas","interval"],"needsRestart":["metric"],"fileError":"maxReplicas: must be \u001b[2J a number\ninterval: too"},
		"git":{"repository":"https://git.example/shop.git","branch":"main","file":"apps/web/values.yaml","mode":"instead",
			"pending":{"from":6,"to":2,"since":"2026-03-02T14:04:13Z","reason":"evaluated 2","due":"2026-03-02T14:06:03Z"},
			"arriving":{"replicas":2,"live":6,"since":"2026-03-02T14:04:33Z"}}}`)
	status.Git.Diff = "--- a/apps/web/values.yaml\n+++ b/apps/web/values.yaml\n@@ -1,3 +1,3 @@\n-replicas: 6\x1b[31m\n+replicas: 2\r\n" +
		strings.Repeat(" \tx\n", 20)
	golden(t, "status-on-its-way", printed(t, status))

	status.Config = &client.ConfigStatus{}
	status.Git = &client.GitStatus{Mode: "record"}
	if got := printed(t, status); strings.Contains(got, "Config") || strings.Contains(got, "change") || strings.Contains(got, "pending") {
		t.Errorf("it tells of nothing:\n%s", got)
	}
	status.Config.NeedsRestart = []string{"metric"}
	if got, want := printed(t, status), "Config:    changed in the file, takes a restart: metric\n"; !strings.Contains(got, want) {
		t.Errorf("it printed\n%swhich lacks %s", got, want)
	}
}

// What a failing hook said is cut to its last words.
func TestLastWords(t *testing.T) {
	for _, test := range []struct {
		stderr     string
		most, left int
		want       []string
	}{
		{"", 5, 500, nil},
		{"\n \r\n", 5, 500, nil},
		{"one\r\n\n  two\n", 5, 500, []string{"one", "  two"}},
		{"1\n2\n3\n4\n5\n6\n", 5, 500, []string{"2", "3", "4", "5", "6"}},
		{"one\ntwo", 1, 500, []string{"two"}},
		{"größer\nlong", 5, 7, []string{"...ßer", "long"}},
		{"first\n0123456789", 5, 4, []string{"...6789"}},
		{"one\x1b[2J\ttwo", 5, 500, []string{`one\x1b[2J\ttwo`}},
		{strings.Repeat("\x00", 500), 5, 8, []string{`...\x00\x00`}},
	} {
		if diff := cmp.Diff(test.want, lastWords(test.stderr, test.most, test.left)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.stderr, diff)
		}
	}
}

func TestParsePeriod(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"30m": 30 * time.Minute, "2h45m": 165 * time.Minute, "2d": 2 * day, "1d12h": 36 * time.Hour, "0d": 0, "65535d": 65535 * day, "-1h": -time.Hour,
		"": -1, "d": -1, "2": -1, "-2d": -1, "1.5d": -1, "2d-1h": -1, "1h2d": -1, "2d3": -1, "1d1d": -1, "65536d": -1, "65535d2000000h": -1,
	} {
		got, err := parsePeriod(text)
		if want == -1 && err == nil || want != -1 && (err != nil || got != want) {
			t.Errorf("%q is %s, %v", text, got, err)
		}
	}
}

// What comes of a hold is told first, whatever was asked for.
func TestHeld(t *testing.T) {
	const capped = `{"name":"hold","from":4,"to":500,"detail":"manual hold"},{"name":"maxReplicas","from":500,"to":10,"detail":"maxReplicas is 10"}`
	for _, test := range []struct{ decision, dry, want string }{
		{`{"desired":500,"constraints":[{"name":"hold","from":4,"to":500}]}`, "", "Held at 500 replicas until 2026-03-02 15:35:13 CET: sale"},
		{
			`{"desired":10,"constraints":[` + capped + `]}`, "",
			"Held at 10 replicas until 2026-03-02 15:35:13 CET: asked for 500, capped to 10 (maxReplicas is 10)",
		},
		{
			`{"desired":10,"constraints":[` + capped + `]}`, "asked",
			"Would be held at 10 replicas until 2026-03-02 15:35:13 CET: asked for 500, capped to 10 (maxReplicas is 10)",
		},
		{
			`{"desired":10,"constraints":[` + capped + `]}`, "configured",
			"Only told of, since the autoscaler is in a dry run: would be held at 10 replicas until 2026-03-02 15:35:13 CET: " +
				"asked for 500, capped to 10 (maxReplicas is 10)",
		},
		{
			`{"current":15,"desired":15,"constraints":[{"name":"paused","from":4,"to":15,"detail":"paused"}]}`, "",
			"Not held while paused: kept at 15 replicas; asked for 500 until 2026-03-02 15:35:13 CET",
		},
		{
			`{"current":15,"desired":15,"constraints":[{"name":"paused","from":4,"to":15,"detail":"paused"}]}`, "asked",
			"Would not be held while paused: kept at 15 replicas; asked for 500 until 2026-03-02 15:35:13 CET",
		},
		{
			`{"disabled":true,"constraints":[{"name":"disabled","from":4,"to":0,"detail":"at 0"}]}`, "",
			"Not held while the target is disabled: left at 0 replicas; asked for 500 until 2026-03-02 15:35:13 CET",
		},
		{
			`{"disabled":true}`, "configured",
			"Only told of, since the autoscaler is in a dry run: would not be held while the target is disabled: " +
				"left at 0 replicas; asked for 500 until 2026-03-02 15:35:13 CET",
		},
	} {
		t.Run(test.want, func(t *testing.T) {
			dry := strconv.FormatBool(test.dry == "asked")
			held := `{"hold":{"replicas":500,"until":"2026-03-02T14:35:13Z","reason":"sale"},"explanation":"so","bounds":{},"dryRun":` + dry + `,"decision":` + test.decision + `}`
			p := &process{store: config.StateFile}
			if got := p.outcome(decode[client.Held](t, held), test.dry == "configured"); got != test.want {
				t.Errorf("it is told as\n%s", got)
			}
		})
	}
}

// A status that has everything, and worse: text that a terminal would obey.
func TestStatusOfEverything(t *testing.T) {
	status := example(t)
	at := func(d time.Duration) time.Time { return status.Time.Add(d) }
	status.Explanation = "evaluated 14 (\x1b[2J\x1b]0;owned\x07), paused"
	status.Bounds.Conflict = "minReplicas 20, by override, is above maxReplicas 10, by the configuration: maxReplicas counts less and is raised to 20"
	status.Pause = &scale.Pause{Reason: "release 4.2\r\nHold: none"}
	status.Hold = &scale.Hold{Replicas: 1, Until: at(30 * time.Minute), Reason: "\u202esale"}
	status.Override = decode[client.Overridden](t, `{"override":{"minReplicas":20},"bounds":{}}`).Override
	status.Fallback, status.Failures, status.DryRun = true, 7, true
	status.Leader = &client.Leader{Identity: "web-0_1"}
	status.Metrics.Values[0].Value = strings.Repeat("x", 100) + "\n"
	status.Metrics.Values[0].Resource = "web\u009b31m"
	status.Metrics.Total, status.Metrics.AgeSeconds = 1000, 200
	status.LastRun.Written = false
	status.LastRun.Failure = decode[client.Record](t, `{"failure":{"stage":"metric","subject":"web-1","message":"exit status 4\u0000","stderr":"1\n2\nTraceback:\r\n\n  File \"metric.py\"\n\u001b[31mno route\tto the queue\n4\n5\n"}}`).Failure
	status.Git = &client.GitStatus{
		Repository: "https://git.example/shop.git", Branch: "main", File: "apps/web/values.yaml", Mode: "instead",
		LastCommit: "3b18e512dba79e4c8300dd08aeb37f8e728b8dad", LastCommitTime: at(-26 * time.Hour), LastError: "pushing: rejected",
		Pending: &client.GitPending{From: 3, To: new(int32(10)), Since: at(-5 * time.Minute), Reason: "evaluated 14"},
	}
	encoded, err := json.Marshal(status)
	if err != nil {
		t.Fatal(err)
	}
	serves := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Request-Id", "a-1")
		_, _ = w.Write(encoded)
	})
	golden(t, "status-everything", asks(t, serves, "status"))

	printed := asks(t, serves, "status -o json")
	if i := strings.IndexFunc(strings.TrimSuffix(printed, "\n"), func(r rune) bool { return r < ' ' || r >= 0x7f && r <= 0x9f }); i >= 0 {
		t.Errorf("JSON has a control character: %q", printed[i:])
	}
	if diff := cmp.Diff(decode[any](t, string(encoded)), decode[any](t, printed)); diff != "" {
		t.Errorf("JSON means something else (-answer +printed):\n%s", diff)
	}
}

func decode[T any](t *testing.T, content string) (value T) {
	t.Helper()
	if err := json.Unmarshal([]byte(content), &value); err != nil {
		t.Fatal(err)
	}
	return value
}

var ages = regexp.MustCompile(`(:\d\d)  \d+\S*  +`)

func TestRecords(t *testing.T) {
	mock := described(t).Mock(nil)
	a := &asked{next: described(t).Mock(map[string]string{"records": "records"})}
	golden(t, "records", ages.ReplaceAllString(asks(t, a, "records --limit 5 --since 2026-03-02T14:00:00Z"), "$1  4s     "))
	if diff := cmp.Diff([]string{"GET /api/v1/records?limit=5&since=2026-03-02T14%3A00%3A00Z"}, a.requests); diff != "" {
		t.Errorf("(-want +asked):\n%s", diff)
	}
	if printed := asks(t, mock, "records"); printed != "No runs\n" {
		t.Errorf("it printed %s", printed)
	}
}

// Each outcome has its word.
func TestOutcomes(t *testing.T) {
	var b strings.Builder
	now := time.Date(2026, 3, 2, 15, 5, 13, 0, time.Local)
	lines := table{to: &b, now: now}
	for i, record := range []string{
		`"decision":{"current":3,"desired":3},"evaluation":{"targetReplicas":3},"explanation":"evaluated 3"`,
		`"decision":{"current":3,"desired":10},"evaluation":{"targetReplicas":14},"written":true,"explanation":"evaluated 14, capped to 10 (maxReplicas is 10)"`,
		`"decision":{"current":3,"desired":10},"evaluation":{"targetReplicas":10},"dryRun":true,"explanation":"evaluated 10"`,
		`"decision":{"current":3,"desired":10},"evaluation":{"targetReplicas":10},"deferred":"the next commit is in 4m"`,
		`"decision":{"current":3,"desired":10},"evaluation":{"targetReplicas":14},"deferred":"the next commit is in 4m","explanation":"evaluated 14, capped to 10 (maxReplicas is 10)"`,
		`"decision":{"current":3,"desired":4},"failure":{"stage":"metric","message":"exit status 1"},"explanation":"not evaluated, held at 4 (manual hold until 2026-03-02T14:35:13Z)"`,
		`"decision":{"current":3,"desired":3},"failure":{"stage":"metric","message":"exit status 1","stderr":"Traceback:\nno route\u0007\n\n"},"explanation":"not evaluated, held at 3"`,
		`"failure":{"stage":"read","message":"no such deployment"}`,
		`"failure":{"stage":"metric","subject":"web-1","message":"exit\nstatus 4"}`,
		`"decision":{"current":3,"desired":10},"evaluation":{"targetReplicas":10},"written":true,"failure":{"stage":"postScale","message":"exit status 1"}`,
		`"trigger":{"kind":"request","through":"metrics"}`,
	} {
		r := decode[client.Record](t, `{"current":3,"trigger":{"kind":"interval"},`+record+`}`)
		r.Time = now.Add(-time.Duration(i*i*i) * time.Minute)
		if err := lines.print(r); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "outcomes", b.String())
}

// Following shows what is kept and then what comes, beginning after that, and
// goes on when the stream breaks.
func TestFollow(t *testing.T) {
	for _, format := range []string{"table", "json"} {
		t.Run(format, func(t *testing.T) {
			s := &breaking{t: t, next: described(t).Mock(map[string]string{"records": "records"})}
			config := answer(t, "", s)
			read, write := io.Pipe()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			c := newCommand()
			c.SetArgs([]string{"records", "-f", "-o", format, "--config", config})
			c.SetOut(write)
			go func() { done <- c.ExecuteContext(ctx) }()
			var printed strings.Builder
			lines := bufio.NewScanner(read)
			for want := map[string]int{"table": 5, "json": 4}[format]; want > 0 && lines.Scan(); want-- {
				printed.WriteString(lines.Text() + "\n")
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff([]string{"17", "18"}, s.after); diff != "" {
				t.Errorf("(-want +after):\n%s", diff)
			}
			if format == "table" {
				golden(t, "follow", printed.String())
				return
			}
			for line := range strings.Lines(printed.String()) {
				if err := described(t).CheckSchema("Record", []byte(line)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// breaking is a process whose first stream breaks after a record, and whose
// second stays after one.
type breaking struct {
	t    *testing.T
	next http.Handler
	// after are the events that the streams begin after.
	after []string
}

func (s *breaking) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != client.PathStream {
		s.next.ServeHTTP(w, r)
		return
	}
	s.after = append(s.after, r.Header.Get("Last-Event-ID"))
	record := decode[client.Records](s.t, recordsOf(s.t)).Records[1]
	record.Sequence = uint64(17 + len(s.after))
	encoded, err := json.Marshal(record)
	if err != nil {
		s.t.Error(err)
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Request-Id", "a-1")
	fmt.Fprintf(w, "id: %d\nevent: record\ndata: %s\n\n", record.Sequence, encoded)
	if len(s.after) == 2 {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
}

func recordsOf(t *testing.T) string {
	t.Helper()
	example, err := described(t).Example("records")
	if err != nil {
		t.Fatal(err)
	}
	return string(example)
}

// What the process refuses is told in its words, and what it does not answer is
// told, too.
func TestCommandsFail(t *testing.T) {
	refuses := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Request-Id", "a-1")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"message":"this replica stands by: web\u001b-1_x leads","code":503}`)
	})
	for _, line := range []string{"status", "records", "records -f", "scale 5 --for 1h", "scale", "scale --end", "override", "override --end", "override --min 5"} {
		t.Run(line, func(t *testing.T) {
			printed, err := command(t, append(strings.Fields(line), "--config", answer(t, "", refuses))...)
			if err == nil || err.Error() != `this replica stands by: web\x1b-1_x leads` || printed != "" {
				t.Errorf("it printed %q and failed with %v", printed, err)
			}
			if _, refused := errors.AsType[refusal](err); refused {
				t.Error("it exits as if the command line were wrong")
			}
		})
	}
}

func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"evaluated 14, größer – 10 €": "evaluated 14, größer – 10 €",
		"a\x1b[31mb":                  `a\x1b[31mb`,
		"a\nb\tc\r":                   `a\nb\tc\r`,
		"\u009b31m":                   `\u009b31m`,
		"\xff\x9b":                    `\xff\x9b`,
		"\u202e\u200b\ufeff":          `\u202e\u200b\ufeff`,
		"\x00\x7f":                    `\x00\x7f`,
	} {
		if got := printable(text); got != want {
			t.Errorf("%q is printed as %s, want %s", text, got, want)
		}
	}
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/google/go-cmp/cmp"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/api/auth"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/autoscaler"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/live"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale/gitops"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/state"
)

// deployment is a target in memory: the Reader and the Writer of an Autoscaler.
type deployment struct{ replicas atomic.Int32 }

func (d *deployment) Read(ctx context.Context) (resource.Snapshot, error) {
	target, err := resource.NewObject(&unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": "web", "namespace": "shop"},
	}})
	if err != nil {
		return resource.Snapshot{}, err
	}
	s, err := d.Scale(ctx)
	return resource.Snapshot{Target: target, Scale: s}, err
}

func (d *deployment) Scale(context.Context) (resource.Scale, error) {
	return resource.Scale{Replicas: d.replicas.Load(), Selector: "app=web"}, nil
}

func (d *deployment) Write(_ context.Context, decision scale.Decision) error {
	if !d.replicas.CompareAndSwap(decision.Current, decision.Desired) {
		return scale.ErrRefused
	}
	return nil
}

func (*deployment) Withdraw() {}

// mind is the user's logic: what it says, unless it is to fail.
type mind struct {
	output string
	broken *atomic.Bool
}

func (m mind) Execute(_ context.Context, call execute.Call) (execute.Result, error) {
	if m.broken.Load() {
		return execute.Result{}, &execute.Error{Kind: execute.KindExit, Stage: call.Stage, Message: "exit status 4", Stderr: "secret of <b>the</b> hook"}
	}
	return execute.Result{Output: []byte(m.output)}, nil
}

// served is a whole autoscaler behind the API: all real, but for the target, the
// hooks and the repository.
type served struct {
	*autoscaler.Autoscaler
	target  *deployment
	broken  *atomic.Bool
	git     *repository
	handler http.Handler
	log     *safeBuffer
	backend Backend
	t       testing.TB

	mu sync.Mutex
	// tallied counts the requests.
	tallied map[string]int
}

func (s *served) tally(method, path string, code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tallied[fmt.Sprint(method, " ", path, " ", code)]++
}

// safeBuffer is a buffer for several writers.
type safeBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// repository is a Git repository that notes what it is asked.
type repository struct{ err error }

func (*repository) Status() gitops.Status {
	return gitops.Status{Repository: "ssh://git@host/r", Branch: "main", File: "web.yaml", Mode: config.GitRecord}
}

func (*repository) Limit() int64 { return 1 << 10 }

func (r *repository) Update(_ context.Context, f gitops.File) (gitops.Outcome, error) {
	return gitops.Outcome{OID: strings.Repeat("a", 40), Changed: f.Path != "same"}, r.err
}

// serveAll starts an autoscaler of 2 replicas that wants 14, and serves it on the
// port, or on the control socket where the configuration is nil.
func serveAll(t testing.TB, c *config.API) *served {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(`
namespace: shop
scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
runMode: per-resource
interval: 3600000
metric: {type: shell, shell: {entrypoint: metric}}
evaluate: {type: shell, shell: {entrypoint: evaluate}}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := config.Load(path, func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	s := &served{target: &deployment{}, broken: &atomic.Bool{}, git: &repository{}, log: &safeBuffer{}, t: t, tallied: map[string]int{}}
	s.target.replicas.Store(2)
	log := slog.New(slog.NewTextHandler(s.log, nil))
	store, err := state.New(t.Context(), loaded.Config.State, nil, "", "")
	if err != nil {
		t.Fatal(err)
	}
	journal := autoscaler.NewJournal()
	s.Autoscaler, err = autoscaler.New(autoscaler.Spec{ID: "shop/deployment/web", Config: loaded.Config.Autoscaler}, autoscaler.Deps{
		Reader: s.target, Writer: s.target, Store: store, Observer: journal, Log: log,
		Hooks: execute.Hooks{
			execute.StageMetric: mind{"5", s.broken}, execute.StageEvaluate: mind{`{"targetReplicas": 14, "reason": "busy"}`, s.broken},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	b := Backend{
		Requests:   s.tally,
		Autoscaler: s.Autoscaler, Journal: journal, Git: s.git, Version: "1.2.3", Log: log,
		Settings: live.New(live.Options{Path: path, Loaded: loaded, Log: log, Apply: func(ctx context.Context, c config.Config) error {
			return s.Configure(ctx, c.Autoscaler)
		}}),
		Ready: NewChecks(log, Check{Name: "target", Fails: func(context.Context) error {
			if s.broken.Load() {
				return errors.New("the server is away")
			}
			return nil
		}}),
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
			fmt.Fprintln(w, "up 1")
		}),
	}
	s.backend = b
	s.handle(c)
	return s
}

// handle has the backend served.
func (s *served) handle(c *config.API) {
	s.t.Helper()
	if c == nil {
		s.handler = newControlHandler(s.backend, nil)
		return
	}
	authenticator, err := auth.New(*c, auth.Target{Namespace: "shop", Name: "web"}, nil, s.backend.Log)
	if err != nil {
		s.t.Fatal(err)
	}
	s.handler = newHandler(*c, s.backend, authenticator, nil)
}

// ask makes a request, and holds it and the answer to the document.
func (s *served) ask(method, target, body string, headers ...string) (int, string, http.Header) {
	s.t.Helper()
	r := httptest.NewRequestWithContext(s.t.Context(), method, target, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
		r.GetBody = nil
	}
	for header := range slices.Chunk(headers, 2) {
		r.Header.Set(header[0], header[1])
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	conforms(s.t, r, w.Result())
	return w.Code, w.Body.String(), w.Header()
}

// want makes a request whose answer must have that status and hold these words.
func (s *served) want(status int, method, target, body string, words ...string) string {
	s.t.Helper()
	got, answer, _ := s.ask(method, target, body)
	if got != status {
		s.t.Errorf("%s %s %s: got %d %s, want %d", method, target, body, got, answer, status)
	}
	for _, word := range words {
		if !strings.Contains(answer, word) {
			s.t.Errorf("%s %s %s: got %s, want %s", method, target, body, answer, word)
		}
	}
	return answer
}

func TestLook(t *testing.T) {
	s := serveAll(t, &config.API{})
	s.want(200, "GET", "/livez", "", "ok\n")
	s.want(200, "GET", "/readyz?verbose", "", "[+]loop ok\n[+]target ok\n")
	s.want(200, "GET", "/health", "", `{"status":"ok","timestamp":"`)
	s.want(200, "GET", "/metrics", "", "up 1")
	s.want(200, "GET", "/openapi.yaml", "", "openapi: 3.1")
	s.want(200, "GET", "/api/v1/status", "", `"id":"shop/deployment/web"`, `"replicas":{}`, `"version":"1.2.3"`, `"leader":{"leading":true}`, `"git":{"repository":"ssh://git@host/r"`)
	s.want(200, "GET", "/api/v1/records", "", `{"records":[]}`)

	s.want(200, "POST", "/api/v1/evaluation", "", `{"targetReplicas":10}`)
	s.want(200, "GET", "/api/v1/status", "", `"replicas":{"current":10,"evaluated":14,"desired":10}`,
		`"explanation":"evaluated 14 (busy), capped to 10 (maxReplicas is 10)"`, `"values":[{"resource":"web","value":"5"}],"total":1`)
	s.want(200, "GET", "/api/v1/records?limit=1", "", `"sequence":1,`, `"written":true`, `"explanation":"evaluated 14 (busy), capped`, `"durationSeconds":{`)
	s.want(200, "GET", "/api/v1/records?since=2100-01-01T00:00:00Z", "", `{"records":[]}`)
	for query, says := range map[string]string{
		"limit=0": "limit: must be a whole number from 1 to 1000", "limit=1001": "limit:", "limit=ten": "limit:", "since=yesterday": "since: must be such as", "sinze=1": "unknown query parameter",
	} {
		s.want(400, "GET", "/api/v1/records?"+query, "", says)
	}
}

// What hooks wrote to stderr is not for whoever reaches an open port.
func TestStderrIsNotForEverybody(t *testing.T) {
	for _, test := range []struct {
		name    string
		config  *config.API
		headers []string
		sees    bool
	}{
		{"anybody", &config.API{}, nil, false},
		{"a reader", withTokens(t), []string{"Authorization", "Bearer readers"}, true},
		{"the control socket", nil, nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serveAll(t, test.config)
			s.broken.Store(true)
			s.ask("POST", "/api/v1/evaluation?dry_run=true", "", test.headers...)
			for _, path := range []string{"/api/v1/status", "/api/v1/records"} {
				status, answer, _ := s.ask("GET", path, "", test.headers...)
				if status != 200 || !strings.Contains(answer, "exit status 4") || strings.Contains(answer, "secret of") != test.sees {
					t.Errorf("%s: got %d %s", path, status, answer)
				}
			}
		})
	}
}

func TestNotReady(t *testing.T) {
	s := serveAll(t, &config.API{})
	s.broken.Store(true)
	// Everybody may ask, so that why is in the log alone.
	s.want(503, "GET", "/readyz", "", "failed: target: reason withheld, see the log\n")
	s.broken.Store(false)
	// Probes are many: the outcome counts for a while.
	s.want(503, "GET", "/readyz?verbose", "", "[+]loop ok\n[-]target failed: reason withheld, see the log\n")
	if log := s.log.String(); strings.Count(log, `msg="Not ready" error="the server is away"`) != 1 {
		t.Errorf("the log says %s", log)
	}
	local := serveAll(t, nil)
	local.broken.Store(true)
	local.want(503, "GET", "/readyz", "", "failed: target: the server is away\n")
}

func TestScale(t *testing.T) {
	s := serveAll(t, nil)
	s.want(200, "POST", "/api/v1/scale", `{"replicas": 4, "duration": "30m", "dryRun": true}`, `"desired":4`, `"dryRun":true`)
	s.want(200, "GET", "/api/v1/scale", "", `{"hold":null}`)
	s.want(200, "POST", "/api/v1/scale", `{"replicas": 40, "duration": "30m", "reason": "sale", "resource": "deployment/web", "namespace": "shop"}`,
		`"hold":{"replicas":40,"until":"`, `"desired":10`, `capped to 10 (maxReplicas is 10)`, `"reason":"sale"`)
	eventually(t, "the count is held", func() bool { return s.target.replicas.Load() == 10 })
	s.want(200, "GET", "/api/v1/scale", "", `"replicas":40`)
	s.want(200, "DELETE", "/api/v1/scale", "", `{"hold":null}`)
	s.want(200, "GET", "/api/v1/status", "", `"lastRun":`)
	if log := s.log.String(); strings.Count(log, "msg=Audit") != 2 || !strings.Contains(log, `what=hold who=local request=`) ||
		!strings.Contains(log, `before={} after="{\"hold\":{\"replicas\":40`) {
		t.Errorf("the log says %s", log)
	}
	for body, says := range map[string]string{
		``:                                                   "replicas: is required",
		`{"duration": "1h"}`:                                 "replicas: is required",
		`{"replicas": 4}`:                                    "duration: is required",
		`{"replicas": null, "duration":""}`:                  "replicas: is required",
		`{"replicas": -1, "duration":"1h"}`:                  "replicas: must be at least 0",
		`{"replicas": 4, "duration": "1"}`:                   "duration: must be such as 30m",
		`{"replicas": 4, "duration": "-1h"}`:                 "duration: must be above 0",
		`{"replicas": 4, "duration": "9000h"}`:               "duration: must be above 0 and at most 8760h",
		`{"replicas": 4, "duration": 5}`:                     "duration: must be text",
		`{"replicas": 4, "duration": "1h", "dryRun": "yes"}`: "dryRun: must be true or false",
		`{"replicas": 4, "duration": "1h", "for": "1h"}`:     `\"for\": unknown field`,
		`{"replicas": 4, "duration": "1h", "reason": "a` + "\u0085" + `b"}`: "reason: must be one line",
	} {
		s.want(400, "POST", "/api/v1/scale", body, says)
	}
	s.want(404, "POST", "/api/v1/scale", `{"replicas": 4, "duration": "1h", "resource": "api"}`, "this autoscaler scales deployment/web in the namespace shop")
	s.want(404, "POST", "/api/v1/scale", `{"replicas": 4, "duration": "1h", "namespace": "other"}`, "this autoscaler scales")
}

func TestOverride(t *testing.T) {
	s := serveAll(t, nil)
	s.want(200, "GET", "/api/v1/override", "", `{"override":null,"bounds":{"min":{"replicas":1},"max":{"replicas":10}}}`)
	s.want(200, "PUT", "/api/v1/override", `{"maxReplicas": 12, "duration": "2h", "reason": "sale"}`, `"maxReplicas":12`, `"max":{"replicas":12,"source":"override"}`, `"expiresAt":"`)
	eventually(t, "the override is in force", func() bool { return s.target.replicas.Load() == 12 })
	s.want(200, "PUT", "/api/v1/override", `{"minReplicas": 3, "expiresAt": "`+time.Now().Add(time.Hour).Format(time.RFC3339)+`"}`, `"min":{"replicas":3,`)
	s.want(200, "DELETE", "/api/v1/override", "", `"override":null`)
	for body, says := range map[string]string{
		``:                                     "minReplicas or maxReplicas is required",
		`{"minReplicas": 5, "maxReplicas": 4}`: "minReplicas must not be above maxReplicas",
		`{"minReplicas": -5}`:                  "minReplicas must be at least 0",
		`{"minReplicas": 5, "expiresAt": ""}`:  "expiresAt: must be such as",
		`{"minReplicas": 5, "duration": ""}`:   "duration: must be such as",
		`{"minReplicas": 5, "expiresAt": "2001-01-01T00:00:00Z"}`:                   "expiresAt must be in the future",
		`{"minReplicas": 5, "expiresAt": "tonight"}`:                                "expiresAt: must be such as",
		`{"minReplicas": 5, "expiresAt": "2901-01-01T00:00:00Z"}`:                   "expiresAt: must be within a year",
		`{"minReplicas": 5, "expiresAt": "2901-01-01T00:00:00Z", "duration": "1h"}`: "duration: cannot be given together",
	} {
		s.want(400, "PUT", "/api/v1/override", body, says)
	}
}

// A time that Go would read but JSON cannot hold would make the status unreadable
// for as long as the override lasts.
func TestTimesAreReadStrictly(t *testing.T) {
	s := serveAll(t, nil)
	soon := time.Now().UTC().Add(30 * time.Hour).Format("2006-01-02T15:04:05")
	for _, text := range []string{soon + "+24:00", soon + "-23:60", soon + "+05:60", soon + ",5Z", soon} {
		s.want(400, "PUT", "/api/v1/override", `{"maxReplicas": 12, "expiresAt": "`+text+`"}`, "expiresAt: must be such as")
		s.want(400, "GET", "/api/v1/records?since="+url.QueryEscape(text), "", "since: must be such as")
	}
	s.want(200, "PUT", "/api/v1/override", `{"maxReplicas": 12, "expiresAt": "`+soon+`.5+23:59"}`, "+23:59")
	s.want(200, "GET", "/api/v1/status", "", "+23:59")
}

// A query that is not understood must not make a real run of a dry one.
func TestQueriesThatAreNotUnderstood(t *testing.T) {
	s := serveAll(t, nil)
	for query, says := range map[string]string{
		"dry_run=true;x=1": "dry_run: the query cannot be read", "dry_run=%zz": "dry_run: the query cannot be read",
		"%zz&dry_run=true": "dry_run: the query cannot be read", "dry_run=false&dry_run=true": "dry_run: given twice",
	} {
		s.want(400, "POST", "/api/v1/evaluation?"+query, "", says)
	}
	if got := s.target.replicas.Load(); got != 2 {
		t.Errorf("it was scaled to %d", got)
	}
	s.want(400, "GET", "/api/v1/records?limit=1&limit=2", "", "limit: given twice")
	s.want(400, "GET", "/api/v1/records?limit=1;since=x", "", "limit: the query cannot be read")
	s.want(400, "GET", "/api/v1/records?since=&since=", "", "since: given twice")
}

// Every path answers every method, however odd, and says what it has.
func TestOddMethodsAndPaths(t *testing.T) {
	s := serveAll(t, &config.API{})
	for request, want := range map[string]string{
		"FOO /api/v1/scale":                            "405 GET, POST, DELETE Method 'FOO' not allowed on resource '/api/v1/scale'",
		"get /api/v1/scale":                            "405 GET, POST, DELETE Method 'get' not allowed",
		"FOO /nope":                                    "404  Resource '/nope' not found",
		"GET /api/v1/%73cale":                          "404  Resource '/api/v1/scale' not found",
		"FOO /api/v1/%73cale":                          "404  Resource '/api/v1/scale' not found",
		"GET /nope%0a%e2%80%aex":                       "404  Resource '/nope\ufffd\ufffdx' not found",
		"POST /page/app.js":                            "405 GET Method 'POST' not allowed",
		"POST /page/a/b":                               "404  Resource '/page/a/b' not found",
		"POST /page/":                                  "404  Resource '/page/' not found",
		"GET /" + strings.Repeat("a", 9000):            "404  Resource '/" + strings.Repeat("a", 255) + "...' not found",
		strings.Repeat("A", 9000) + " /api/v1/pause":   "405 GET, POST Method '" + strings.Repeat("A", 256) + "...' not allowed on resource '/api/v1/pause'",
		"POST /api/v1/evaluation?dry_run=%1b" + "[31m": "400  Invalid format for 'dry_run' query parameter; '\ufffd[31m' is not",
	} {
		method, target, _ := strings.Cut(request, " ")
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, target, nil))
		var answer failed
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%d %s %s", w.Code, w.Header().Get("Allow"), answer.Message); !strings.HasPrefix(got, want) {
			t.Errorf("%.40s: got %.400s, want %.400s", request, got, want)
		}
	}
}

// The shortest time that can be asked for is not over when it begins.
func TestShortestDuration(t *testing.T) {
	s := serveAll(t, nil)
	s.want(200, "POST", "/api/v1/scale", `{"replicas": 4, "duration": "1ns"}`, `"replicas":4`)
	s.want(200, "PUT", "/api/v1/override", `{"maxReplicas": 12, "duration": "1ns"}`, `"maxReplicas":12`)
	now := time.Date(2026, 3, 2, 14, 0, 0, 1, time.UTC)
	for duration, want := range map[time.Duration]int{1: 1, time.Second - 1: 1, time.Second: 2, 30 * time.Second: 31} {
		if got := until(now, duration); !got.Equal(now.Truncate(time.Second).Add(time.Duration(want) * time.Second)) {
			t.Errorf("%s from %s is until %s", duration, now, got)
		}
	}
}

func TestPauseIsSeen(t *testing.T) {
	s := serveAll(t, nil)
	s.want(200, "GET", "/api/v1/pause", "", `{"pause":null}`)
	s.want(200, "POST", "/api/v1/pause", `{"replicas": 5, "reason": "release"}`, `{"pause":{"replicas":5,"reason":"release"}}`)
	s.want(200, "GET", "/api/v1/pause", "", `{"pause":{"replicas":5,"reason":"release"}}`)
	eventually(t, "the count is kept", func() bool { return s.target.replicas.Load() == 5 })
	s.want(200, "POST", "/api/v1/resume", "", `{"pause":null}`)
	s.want(200, "GET", "/api/v1/pause", "", `{"pause":null}`)
}

// What scales is audited, whatever becomes of the answer; what does not is not.
func TestEvaluationsAreAudited(t *testing.T) {
	s := serveAll(t, withTokens(t))
	for range 2 {
		s.ask("POST", "/api/v1/evaluation", "", "Authorization", "Bearer operators", "X-Request-Id", "r1")
	}
	if log := s.log.String(); strings.Count(log, "msg=Audit") != 1 ||
		!strings.Contains(log, `what=evaluation who=token:ben request=r1 before="{\"replicas\":2}" after="{\"replicas\":10}"`) {
		t.Errorf("the log says %s", log)
	}
}

func TestConfig(t *testing.T) {
	s := serveAll(t, nil)
	_, answer, headers := s.ask("GET", "/api/v1/config", "")
	etag := headers.Get("ETag")
	if !strings.Contains(answer, `"maxReplicas":10`) || !strings.Contains(answer, `"interval":"file"`) || etag == "" {
		t.Errorf("got %s with %s", answer, etag)
	}
	status, answer, headers := s.ask("PUT", "/api/v1/config", `{"maxReplicas": 12}`, "If-Match", etag)
	if status != 200 || !strings.Contains(answer, `"changed":{"maxReplicas":{"before":10,"after":12}}`) || headers.Get("ETag") == etag {
		t.Errorf("got %d %s", status, answer)
	}
	eventually(t, "the bounds are in force", func() bool { return s.Status().Bounds.Max.Replicas == 12 })
	for _, tag := range []string{etag, "", `"other"`} {
		if status, answer, _ := s.ask("PUT", "/api/v1/config", `{"maxReplicas": 13}`, "If-Match", tag); status != 412 {
			t.Errorf("%s: got %d %s", tag, status, answer)
		}
	}
	s.want(400, "PUT", "/api/v1/config", `{"maxReplicas": -1, "minReplicas": "x"}`, "nothing was changed", "maxReplicas: must be at least 0", "minReplicas: must be a whole number")
	s.want(400, "PUT", "/api/v1/config", `{"namespace": "other"}`, "namespace: cannot change while the program runs")
	s.want(413, "PUT", "/api/v1/config", strings.Repeat(" ", maxBodyBytes+1), "too large")
	s.want(200, "DELETE", "/api/v1/config", "", `"changed":{"maxReplicas":{"before":12,"after":10}}`)
}

func TestGitUpdate(t *testing.T) {
	s := serveAll(t, nil)
	s.want(200, "POST", "/api/v1/git/update", `{"file_path": "web.yaml", "new_content": "a: 1\n", "commit_message": "Raise a"}`,
		`{"status":"success","commit_oid":"aaaaaaaa`)
	s.want(200, "POST", "/api/v1/git/update", `{"file_path": "same", "new_content": "a: 1\n", "commit_message": "Raise a"}`, `"status":"unchanged"`)
	if log := s.log.String(); strings.Count(log, `msg=Audit what=git who=local`) != 1 || !strings.Contains(log, `\"file\":\"web.yaml\"`) {
		t.Errorf("the log says %s", log)
	}
	for body, says := range map[string]string{
		`{"new_content": "", "commit_message": "m"}`: "file_path: is required",
		`{"file_path": "x", "commit_message": "m"}`:  "new_content: is required",
		`{"file_path": "x", "new_content": ""}`:      "commit_message: is required",
		``:                                           "file_path: is required",
	} {
		s.want(400, "POST", "/api/v1/git/update", body, says)
	}
	s.git.err = fmt.Errorf("%w: no", gitops.ErrRefused)
	s.want(400, "POST", "/api/v1/git/update", `{"file_path": "../x", "new_content": "", "commit_message": "m"}`, "no")
	s.git.err = errors.New("the repository is away")
	s.want(502, "POST", "/api/v1/git/update", `{"file_path": "x", "new_content": "", "commit_message": "m"}`, "the repository is away")
	s.want(413, "POST", "/api/v1/git/update", strings.Repeat(" ", 6<<10+maxBodyBytes+1), "too large")
}

// withTokens is a port for those who have a token of a role, which is called as
// those who have it.
func withTokens(t *testing.T) *config.API {
	t.Helper()
	write := func(content string) string {
		file := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	return &config.API{Auth: config.Auth{Token: config.TokenAuth{
		ReadFile: write("readers ann\n"), OperateFile: write("operators ben\n"), ConfigureFile: write("configurers cem\n"),
	}}}
}

// Every request needs the role that the document says, whether it comes from
// nobody, from somebody with a token, or where nobody is asked.
func TestRolesOfCallers(t *testing.T) {
	documented := map[string]string{}
	for _, o := range described(t).Operations() {
		documented[o.Method+" "+o.Path] = o.Role
	}
	ranks := map[string]int{"none": 0, "read": 1, "operate": 2, "configure": 3}
	open, closed := serveAll(t, &config.API{}), serveAll(t, withTokens(t))
	for _, route := range (&handler{Backend: Backend{Metrics: http.NotFoundHandler()}}).routes() {
		if strings.HasSuffix(route.path, "/stream") {
			continue // it has no end; it is in the same table
		}
		role := documented[route.method+" "+route.path]
		if _, ok := ranks[role]; !ok {
			t.Errorf("%s %s is not documented", route.method, route.path)
		}
		allowed := func(s *served, token string) bool {
			headers := []string{}
			if token != "" {
				headers = []string{"Authorization", "Bearer " + token}
			}
			status, answer, header := s.ask(route.method, route.path, "", headers...)
			if status == 401 && header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s %s does not say how to authenticate: %s", route.method, route.path, answer)
			}
			return status != 401 && status != 403
		}
		for token, rank := range map[string]int{"": 0, "readers": 1, "operators": 2, "configurers": 3} {
			if got := allowed(closed, token); got != (rank >= ranks[role]) {
				t.Errorf("with the token %q %s %s is allowed: %t", token, route.method, route.path, got)
			}
		}
		if ranks[role] > 0 && allowed(closed, "guessed") {
			t.Errorf("with a wrong token %s %s is allowed", route.method, route.path)
		}
		if got := allowed(open, ""); got != (route.contract || ranks[role] <= 1) {
			t.Errorf("without authentication %s %s is allowed: %t", route.method, route.path, got)
		}
	}
}

func TestRequestsAreCounted(t *testing.T) {
	s := serveAll(t, &config.API{})
	for _, request := range []string{"GET /livez", "GET /api/v1/status", "GET /api/v1/records?limit=x", "GET /page/app.js", "GET /nope/1", "GET /nope/2", "DELETE /livez", "PURGE /livez", "POST /api/v1/resume"} {
		method, path, _ := strings.Cut(request, " ")
		s.handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), method, path, nil))
	}
	want := map[string]int{
		"GET /livez 200": 1, "GET /api/v1/status 200": 1, "GET /api/v1/records 400": 1, "GET /page/{file:[^/]+} 200": 1, "GET none 404": 2,
		"DELETE none 405": 1, "other none 405": 1, "POST /api/v1/resume 403": 1,
	}
	if diff := cmp.Diff(want, s.tallied); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRequestIDs(t *testing.T) {
	s := serveAll(t, &config.API{})
	for given, kept := range map[string]bool{"a-1.b_C": true, "": false, "a b": false, "a\tb": false, strings.Repeat("a", 129): false, "ä": false} {
		_, _, headers := s.ask("GET", "/livez", "", "X-Request-Id", given)
		if got := headers.Get("X-Request-Id"); got == "" || (got == given) != kept {
			t.Errorf("%q became %q", given, got)
		}
	}
}

// A page of another origin may have a browser send its user's certificate, but
// change nothing with it.
func TestOtherOriginsChangeNothing(t *testing.T) {
	s := serveAll(t, withTokens(t))
	status, answer, _ := s.ask("POST", "/api/v1/resume", "", "Authorization", "Bearer operators", "Sec-Fetch-Site", "cross-site")
	if status != 403 || !strings.Contains(answer, "another origin") {
		t.Errorf("got %d %s", status, answer)
	}
	if status, answer, _ := s.ask("POST", "/api/v1/resume", "", "Authorization", "Bearer operators", "Sec-Fetch-Site", "same-origin"); status != 200 {
		t.Errorf("got %d %s", status, answer)
	}
}

// What the page and the document are answered with is described, too.
func TestPagesAreDescribed(t *testing.T) {
	s := serveAll(t, withTokens(t))
	for _, path := range []string{"/", "/page/app.js", "/openapi.yaml"} {
		_, _, header := s.ask("GET", path, "")
		s.ask("GET", path, "", "If-None-Match", header.Get("ETag"))
		s.ask("GET", path, "", "Range", "bytes=99999999-")
		s.ask("GET", path, "", "Authorization", "Bearer x")
	}
	s.want(404, "GET", "/page/nope", "")
}

func TestThePageCanBeTurnedOff(t *testing.T) {
	on, off := serveAll(t, &config.API{}), serveAll(t, &config.API{Page: new(false)})
	for _, path := range []string{"/", "/page/app.js"} {
		if status, answer := plainly(on, path); status != 200 {
			t.Errorf("%s: got %d %s", path, status, answer)
		}
		if status, answer := plainly(off, path); status != 404 {
			t.Errorf("%s: got %d %s", path, status, answer)
		}
	}
}

// plainly asks for what the document leaves out.
func plainly(s *served, path string) (int, string) {
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, httptest.NewRequestWithContext(s.t.Context(), http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

// A handler that panics costs its caller an answer, and the others nothing.
func TestAFaultOfTheProgram(t *testing.T) {
	var log bytes.Buffer
	h := &handler{Backend: Backend{Log: slog.New(slog.NewTextHandler(&log, nil))}}
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	h.number(h.recover(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("secret") }))).ServeHTTP(w, r)
	var answer failed
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != 500 || strings.Contains(answer.Message, "secret") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if !strings.Contains(log.String(), "fault=secret") || !strings.Contains(log.String(), w.Header().Get("X-Request-Id")) {
		t.Errorf("the log says %s", &log)
	}
}

// Who may not do what they ask for takes nothing of what there is in all.
func TestRefusedRequestsDoNotCountToTheTotal(t *testing.T) {
	c := withTokens(t)
	c.RateLimit = config.RateLimit{PerCaller: new(0), Total: new(3)}
	s := serveAll(t, c)
	for range 10 {
		if status, answer, _ := s.ask("GET", "/api/v1/status", ""); status != 401 {
			t.Fatalf("got %d %s", status, answer)
		}
	}
	for i, want := range []int{200, 200, 200, 429} {
		if status, answer, _ := s.ask("GET", "/api/v1/status", "", "Authorization", "Bearer readers"); status != want {
			t.Errorf("request %d: got %d %s, want %d", i, status, answer, want)
		}
	}
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package live

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/autoscaler"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

//nolint:gosec // the credentials are there to be left out
const file = `
scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
metric: {type: http, http: {url: 'http://ann:hush@queue/length?key=hush', headers: {Authorization: hush}, successCodes: [200], parameterMode: query}}
evaluate: {type: shell, shell: {entrypoint: evaluate}}
minReplicas: 2
maxReplicas: 10
`

// process is one whose configuration is in force.
type process struct {
	*Settings
	path string
	log  *bytes.Buffer

	// term is the one in which it leads.
	term atomic.Uint64

	mu      sync.Mutex
	applied []config.Config
	refuses error
}

func start(t *testing.T, environment map[string]string) *process {
	t.Helper()
	p := &process{path: filepath.Join(t.TempDir(), "config.yaml"), log: &bytes.Buffer{}}
	p.write(t, file)
	loaded, err := config.Load(p.path, func(name string) (string, bool) { value, ok := environment[name]; return value, ok })
	if err != nil {
		t.Fatal(err)
	}
	p.Settings = New(Options{Path: p.path, Loaded: loaded, Apply: p.apply, Term: p.term.Load, Log: slog.New(slog.NewTextHandler(p.log, nil))})
	return p
}

func (p *process) write(t *testing.T, content string) {
	t.Helper()
	if err := os.WriteFile(p.path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (p *process) apply(_ context.Context, c config.Config) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuses == nil {
		p.applied = append(p.applied, c)
	}
	return p.refuses
}

func (p *process) view(t *testing.T) View {
	t.Helper()
	return p.View()
}

// bounds are those in force by the view.
func (p *process) bounds(t *testing.T) string {
	t.Helper()
	v := p.view(t)
	return fmt.Sprintf("%v (%s) to %v (%s)", v.Config["minReplicas"], v.Sources["minReplicas"], v.Config["maxReplicas"], v.Sources["maxReplicas"])
}

var ann = autoscaler.Caller{Name: "token:ann", Request: "r1"}

func TestView(t *testing.T) {
	p := start(t, map[string]string{"maxReplicas": "20", "CPA_dryRun": "true"})
	v := p.view(t)
	for key, want := range map[string]string{
		"minReplicas": "file", "maxReplicas": "environment maxReplicas", "dryRun": "environment CPA_dryRun", "interval": "default",
	} {
		if v.Sources[key] != want {
			t.Errorf("%s comes from %q, want %q", key, v.Sources[key], want)
		}
	}
	for _, key := range v.Live {
		if _, ok := v.Config[key]; !ok {
			t.Errorf("%s is not shown", key)
		}
	}
	if shown := fmt.Sprintf("%+v", v.Config["metric"].(*config.Method).HTTP); strings.Contains(shown, "hush") ||
		!strings.Contains(shown, "Authorization:(redacted)") || !strings.Contains(shown, "http://queue/(redacted)") {
		t.Errorf("the hook is shown as %s", shown)
	}
}

func TestPut(t *testing.T) {
	p := start(t, nil)
	before := p.view(t)
	change, err := p.Put(t.Context(), ann, []byte(`{"maxReplicas": 30, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}}`), []string{before.ETag})
	if err != nil {
		t.Fatal(err)
	}
	if v := change.Changed["maxReplicas"]; len(change.Changed) != 2 || v != (Values{Before: int32(10), After: int32(30)}) {
		t.Errorf("changed %v", change.Changed)
	}
	if change.ETag == before.ETag || change.ETag != p.view(t).ETag {
		t.Errorf("the ETag is %s, after %s", change.ETag, []string{before.ETag})
	}
	if got := p.bounds(t); got != "2 (file) to 30 (live)" {
		t.Error(got)
	}
	if len(p.applied) != 1 || p.applied[0].MaxReplicas != 30 || *p.applied[0].Behavior.ScaleDown.StabilizationWindowSeconds != 60 || p.applied[0].Behavior.ScaleUp == nil {
		t.Errorf("applied %+v", p.applied)
	}
	if log := p.log.String(); !strings.Contains(log, `msg=Audit what=configuration who=token:ann request=r1`) ||
		!strings.Contains(log, `\"maxReplicas\":10`) || !strings.Contains(log, `\"maxReplicas\":30`) {
		t.Errorf("the log says %s", log)
	}
	// What is not named stays, and a null takes back.
	if _, err := p.Put(t.Context(), ann, []byte(`{"minReplicas": 3, "behavior": null}`), nil); err != nil {
		t.Fatal(err)
	}
	if got := p.bounds(t); got != "3 (live) to 30 (live)" || p.view(t).Sources["behavior"] != "default" {
		t.Error(got)
	}
	reset, err := p.Reset(t.Context(), ann, nil)
	if err != nil || len(reset.Changed) != 2 || reset.ETag != before.ETag {
		t.Errorf("reset %+v, %v", reset, err)
	}
	if got := p.bounds(t); got != "2 (file) to 10 (file)" {
		t.Error(got)
	}
}

// A change of nothing is none, and takes no run.
func TestPutOfTheSame(t *testing.T) {
	p := start(t, nil)
	change, err := p.Put(t.Context(), ann, []byte(`{"maxReplicas": 10}`), nil)
	if err != nil || len(change.Changed) > 0 || len(p.applied) > 0 {
		t.Errorf("%+v, %v", change, err)
	}
}

func TestPutRefuses(t *testing.T) {
	for body, want := range map[string]string{
		`{"minReplicas": 11}`:                                   "minReplicas: must not be above maxReplicas: 11 is above 10",
		`{"minReplicas": "two"}`:                                "minReplicas: must be a whole number",
		`{"minReplicas": 2.5}`:                                  "minReplicas: must be",
		`{"namespace": "other"}`:                                "namespace: cannot change while the program runs",
		`{"minreplicas": 3}`:                                    "minreplicas: unknown key; did you mean minReplicas?",
		`{"schedules": [{"nme": "nights"}]}`:                    "schedules[0].nme: unknown key; did you mean name?",
		`{"schedules": [{"name": "nights"}]}`:                   "schedules[0].start",
		`{"interval": 0}`:                                       "interval: must be",
		`{"fallback": {"failureThreshold": 3, "replicas": 99}}`: "fallback.replicas: must be from 2 to 10",
		`{"maxReplicas": 5, "maxReplicas": 6}`:                  "maxReplicas: give each key once",
		`{"maxReplicas": 5, "schedules": [{"name": "<<"}], "maxReplicas": 6}`:             "maxReplicas: give each key once",
		`{"schedules": [{"name": "\ud83d\ude00", "timezone": "UTC", "timezone": "UTC"}]}`: "timezone: give each key once",
		`{"behavior": {"scaleup": {}}}`:                                                   "behavior.scaleup: unknown key; did you mean scaleUp?",
		`{"behavior": {"scaleUp": {}, "SCALEUP": {}}}`:                                    "behavior.SCALEUP: unknown key",
		`{"schedules": [{"name": 5, "start": true}]}`:                                     "schedules[0].name: must be text, got a number",
		`[]`:                    "must be one JSON object",
		``:                      "must be one JSON object",
		`{"maxReplicas": 5} {}`: "must be one JSON object",
		`maxReplicas: 5`:        "must be one JSON object",
	} {
		p := start(t, nil)
		_, err := p.Put(t.Context(), ann, []byte(body), nil)
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", body, err, want)
		}
		if got := p.bounds(t); got != "2 (file) to 10 (file)" || len(p.applied) > 0 || p.log.Len() > 0 {
			t.Errorf("%s left %s, applied %d, logged %s", body, got, len(p.applied), p.log)
		}
	}
}

func TestPutOfAnotherVersion(t *testing.T) {
	p := start(t, nil)
	etag := p.view(t).ETag
	var group sync.WaitGroup
	results := make([]error, 8)
	for i := range results {
		group.Go(func() {
			_, results[i] = p.Put(t.Context(), ann, fmt.Appendf(nil, `{"maxReplicas": %d}`, 20+i), []string{etag})
		})
	}
	group.Wait()
	slices.SortFunc(results, func(a, b error) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	if results[0] != nil {
		t.Fatal(results[0])
	}
	for _, err := range results[1:] {
		if !errors.Is(err, ErrConflict) {
			t.Errorf("got %v", err)
		}
	}
}

func TestPutThatCannotBeApplied(t *testing.T) {
	p := start(t, nil)
	p.refuses = autoscaler.ErrStopping
	if _, err := p.Put(t.Context(), ann, []byte(`{"maxReplicas": 30}`), nil); !errors.Is(err, autoscaler.ErrStopping) {
		t.Error(err)
	}
	if got := p.bounds(t); got != "2 (file) to 10 (file)" || p.log.Len() > 0 {
		t.Error(got, p.log)
	}
}

func TestTheFileChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, map[string]string{"CPA_dryRun": "true"})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		changes := func(content, bounds, says string) {
			t.Helper()
			p.write(t, content)
			time.Sleep(2 * lookEvery)
			synctest.Wait()
			if got := p.bounds(t); got != bounds || !strings.Contains(p.log.String(), says) {
				t.Errorf("%s\n%s", got, p.log)
			}
			p.log.Reset()
		}
		if _, err := p.Put(ctx, ann, []byte(`{"minReplicas": 4}`), nil); err != nil {
			t.Fatal(err)
		}
		changes(file, "4 (live) to 10 (file)", "Audit")
		changes(file+"  bad", "4 (live) to 10 (file)", "is not valid: what was read before stays in force")
		if n := p.Notes(); !slices.Equal(n.Live, []string{"minReplicas"}) || n.FileError == "" {
			t.Errorf("%+v", n)
		}
		changes(file+"maxReplicas: -5\n", "4 (live) to 10 (file)", "maxReplicas: must be at least 0")
		changes("", "4 (live) to 10 (file)", "cannot be read")
		changes(strings.Replace(file, "10", "15", 1), "2 (file) to 15 (file)", "What was changed while running is taken back")
		changes(strings.Replace(file, "name: web", "name: other", 1), "2 (file) to 10 (file)", `need a restart" keys=scaleTargetRef`)
		if v := p.view(t); !slices.Equal(v.NeedsRestart, []string{"scaleTargetRef"}) || fmt.Sprint(v.Config["scaleTargetRef"]) != "{Deployment web apps/v1}" {
			t.Errorf("%+v", v)
		}
		if n := p.Notes(); n.Live != nil || !slices.Equal(n.NeedsRestart, []string{"scaleTargetRef"}) || n.FileError != "" {
			t.Errorf("%+v", n)
		}
		// A change of a live key leaves what needs a restart alone.
		if _, err := p.Put(ctx, ann, []byte(`{"minReplicas": 4}`), nil); err != nil {
			t.Fatal(err)
		}
		if last := p.applied[len(p.applied)-1]; last.ScaleTargetRef.Name != "web" || last.MinReplicas != 4 || !last.DryRun {
			t.Errorf("applied %+v", last)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A file that cannot be put in force, because a run takes so long, is tried
// again.
func TestTheFileIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, nil)
		p.refuses = context.DeadlineExceeded
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		p.write(t, strings.Replace(file, "10", "15", 1))
		time.Sleep(3 * lookEvery)
		synctest.Wait()
		if got := p.bounds(t); got != "2 (file) to 10 (file)" {
			t.Error(got)
		}
		p.mu.Lock()
		p.refuses = nil
		p.mu.Unlock()
		time.Sleep(2 * lookEvery)
		synctest.Wait()
		if got := p.bounds(t); got != "2 (file) to 15 (file)" {
			t.Error(got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// What was changed while running ends with the term: another replica may have led
// since, with what its file says.
func TestAnotherTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, nil)
		p.term.Store(1)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		if _, err := p.Put(ctx, ann, []byte(`{"minReplicas": 4}`), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * lookEvery)
		synctest.Wait()
		if got := p.bounds(t); got != "4 (live) to 10 (file)" {
			t.Errorf("in the term: %s", got)
		}
		p.term.Store(0)
		time.Sleep(2 * lookEvery)
		synctest.Wait()
		if got := p.bounds(t); got != "2 (file) to 10 (file)" {
			t.Errorf("after the term: %s", got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A file that is being written is not met half.
func TestAFileThatIsBeingWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		for range 3 {
			p.write(t, strings.Replace(file, "maxReplicas: 10\n", "", 1))
			time.Sleep(lookEvery)
			p.write(t, strings.Replace(file, "10", "15", 1))
			time.Sleep(lookEvery)
		}
		time.Sleep(lookEvery)
		synctest.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.applied) != 1 || p.applied[0].MaxReplicas != 15 {
			t.Errorf("applied %d", len(p.applied))
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A file that is away for a moment takes nothing back when it is there again.
func TestTheFileIsAwayForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		if _, err := p.Put(ctx, ann, []byte(`{"minReplicas": 4}`), nil); err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			content string
			fails   bool
		}{{"", true}, {file, false}, {file + "maxReplicas: -5\n", true}, {"", true}, {file + "maxReplicas: -5\n", true}} {
			p.write(t, step.content)
			time.Sleep(3 * lookEvery)
			synctest.Wait()
			if got, n := p.bounds(t), p.Notes(); got != "4 (live) to 10 (file)" || (n.FileError != "") != step.fails {
				t.Errorf("%q: %s, %+v", step.content, got, n)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

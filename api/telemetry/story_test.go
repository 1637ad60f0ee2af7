// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/autoscaler"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/metric"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

var update = flag.Bool("update", false, "write testdata and docs/metrics.md")

const id = "shop/deployment/web"

// story has Records observed, a minute after another.
type story struct {
	*testing.T
	*Metrics
	now time.Time
}

func begin(t *testing.T, o Options) *story {
	t.Helper()
	return &story{T: t, Metrics: New(o), now: time.Date(2030, 1, 2, 8, 0, 0, 0, time.UTC)}
}

// run has a run of the loop observed, that is like the others but for the change.
func (s *story) run(change func(*autoscaler.Record)) {
	s.now = s.now.Add(time.Minute)
	r := autoscaler.Record{
		ID: id, Time: s.now,
		Trigger:    autoscaler.Trigger{Kind: autoscaler.KindInterval, RunType: execute.RunScaler, Through: autoscaler.ThroughScale},
		Bounds:     bounds.Bounds{Min: bounds.Limit{Replicas: 1}, Max: bounds.Limit{Replicas: 10}},
		Current:    3,
		Decision:   &scale.Decision{Current: 3, Evaluated: new(int32(3)), Desired: 3, Direction: scale.DirectionNone},
		Durations:  map[execute.Stage]time.Duration{execute.StageMetric: 120 * time.Millisecond, execute.StageDecide: 2 * time.Millisecond},
		Duration:   250 * time.Millisecond,
		Evaluation: nil,
	}
	if change != nil {
		change(&r)
	}
	s.Observe(r)
}

// scrape is what the handler answers.
func (s *story) scrape() string {
	s.Helper()
	answer := httptest.NewRecorder()
	s.Handler().ServeHTTP(answer, httptest.NewRequestWithContext(s.Context(), http.MethodGet, "/metrics", nil))
	if answer.Code != http.StatusOK {
		s.Fatalf("the scrape got %d: %s", answer.Code, answer.Body)
	}
	return answer.Body.String()
}

// own are the lines of a scrape that are about autoscalers, without comments.
func own(scrape string) (lines []string) {
	for line := range strings.Lines(scrape) {
		if strings.HasPrefix(line, prefix) && !strings.Contains(line, "_bucket{") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// shows are the values of a metric, as they stand in a scrape: what follows its
// name in each line.
func (s *story) shows(name string) (values []string) {
	for _, line := range own(s.scrape()) {
		if rest, found := strings.CutPrefix(line, prefix+name); found && (rest[0] == '{' || rest[0] == ' ') {
			values = append(values, strings.TrimSpace(strings.Replace(rest, `autoscaler="`+id+`"`, "", 1)))
		}
	}
	return values
}

func constraint(from, to int32, name scale.ConstraintName) scale.Constraint {
	return scale.Constraint{Name: name, From: from, To: to}
}

// whole is a story in which everything occurs that is shown.
func whole(t *testing.T) *story {
	t.Helper()
	s := begin(t, Options{
		Version: "1.2.3",
		Hooks: func() execute.Usage {
			return execute.Usage{
				Stages: map[execute.Stage]execute.StageUsage{
					execute.StageMetric:   {Calls: 12, Failures: map[execute.Kind]int64{execute.KindTimeout: 1, execute.KindExit: 2}, OutputBytes: 340},
					execute.StageEvaluate: {Calls: 5, OutputBytes: 120},
				},
				Restarts:  map[execute.Kind]int64{execute.KindSignal: 1, execute.RestartRequests: 4},
				Processes: 2,
			}
		},
		Requests: func() resource.Traffic {
			return resource.Traffic{
				Requests: map[resource.RequestKind]int64{{Verb: "get", Code: "200"}: 20, {Verb: "patch", Code: "200"}: 2, {Verb: "watch", Code: resource.CodeNone}: 1},
				Waits:    3, Waited: 1500 * time.Millisecond,
			}
		},
	})
	s.Add(id, Source{
		Leading: func() bool { return true },
		Git: func() Git {
			return Git{Pending: true, Failing: true, LastCommit: s.now.Add(-time.Hour), Commits: 7, Failures: 2}
		},
	})
	s.Request(http.MethodGet, "/api/v1/status", http.StatusOK)
	night := s.now.Add(10 * time.Hour)
	s.run(nil)
	s.run(func(r *autoscaler.Record) { // up, as far as it may
		r.Decision = &scale.Decision{
			Current: 3, Evaluated: new(int32(14)), Desired: 10, Direction: scale.DirectionUp,
			Constraints: []scale.Constraint{constraint(14, 10, scale.ConstraintMax)},
		}
		r.Written = true
	})
	s.run(func(r *autoscaler.Record) { // a hook fails
		r.Current = 10
		r.Decision = &scale.Decision{Current: 10, Desired: 10, Direction: scale.DirectionNone}
		r.Failure = &autoscaler.Failure{Stage: execute.StageMetric, Kind: execute.KindTimeout, Message: "no answer within 5s (timeout)"}
	})
	s.run(func(r *autoscaler.Record) { // the API server is away
		r.Current, r.Decision = 0, nil
		r.Failure = &autoscaler.Failure{Stage: execute.StageRead, Message: "connection refused"}
	})
	s.run(func(r *autoscaler.Record) { // somebody looks
		r.Trigger = autoscaler.Trigger{Kind: autoscaler.KindRequest, RunType: execute.RunAPIDryRun, Through: autoscaler.ThroughScale, DryRun: true}
		r.DryRun = true
		r.Decision = &scale.Decision{Current: 10, Evaluated: new(int32(1)), Desired: 1, Direction: scale.DirectionDown}
	})
	s.run(func(r *autoscaler.Record) { // a schedule has begun
		r.Trigger.Kind = autoscaler.KindBounds
		r.Bounds = bounds.Bounds{
			Min: bounds.Limit{Replicas: 0, Source: "schedule nights"}, Max: bounds.Limit{Replicas: 4, Source: "override"},
			Temporary: true, NextChange: night,
		}
		r.SkippedPods = []autoscaler.SkippedPod{{Name: "web-7"}, {Name: "web-8"}}
		r.Decision = &scale.Decision{
			Current: 10, Evaluated: new(int32(5)), Desired: 9, Direction: scale.DirectionDown,
			Constraints: []scale.Constraint{constraint(5, 4, scale.ConstraintMax), constraint(4, 9, scale.ConstraintScaleDownLimit)},
		}
		r.Written = true
	})
	return s
}

func TestStory(t *testing.T) {
	got := strings.Join(own(whole(t).scrape()), "\n") + "\n"
	got = regexp.MustCompile(`goversion="[^"]*"`).ReplaceAllString(got, `goversion="GO"`)
	file := filepath.Join("testdata", "story.txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("the metrics are others, see that they are right and run `go generate ./api/telemetry` (-want +got):\n%s", diff)
	}
}

func TestNamesAreAsPrometheusWantsThem(t *testing.T) {
	scrape := whole(t).scrape()
	problems, err := promlint.New(strings.NewReader(scrape)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
	for _, standard := range []string{"go_goroutines ", "process_cpu_seconds_total "} {
		if !strings.Contains(scrape, "\n"+standard) {
			t.Errorf("%s is missing", standard)
		}
	}
}

// Before anything is known, nothing is claimed; counters begin with 0.
func TestWhatIsUnknownIsAbsent(t *testing.T) {
	s := begin(t, Options{Version: "1.2.3"})
	if got := own(s.scrape()); len(got) != 1 || !strings.HasPrefix(got[0], prefix+"build_info{") {
		t.Errorf("without an autoscaler there is %q", got)
	}
	s.Add(id, Source{Leading: func() bool { return true }})
	for _, line := range own(s.scrape()) {
		name, _, _ := strings.Cut(strings.TrimPrefix(line, prefix), "{")
		switch {
		case name == "build_info", name == "leader":
		case strings.HasSuffix(name, "_total"), strings.HasPrefix(name, "run_duration_seconds_"):
			if !strings.HasSuffix(line, " 0") {
				t.Errorf("before the first run: %s", line)
			}
		default:
			t.Errorf("nobody knows yet: %s", line)
		}
	}
	s.run(func(r *autoscaler.Record) {
		*r = autoscaler.Record{ID: id, Time: r.Time, Trigger: r.Trigger, Failure: &autoscaler.Failure{Stage: execute.StageState}}
	})
	s.run(func(r *autoscaler.Record) {
		r.Trigger.Through, r.Decision = autoscaler.ThroughMetrics, nil
	})
	for _, name := range []string{"current_replicas", "desired_replicas", "bounds_min_replicas", "bounds_max_replicas", "constraint_in_force", "paused", "last_success_timestamp_seconds"} {
		if got := s.shows(name); got != nil {
			t.Errorf("%s is %q after a run that knew nothing", name, got)
		}
	}
	if got := s.shows("consecutive_failed_runs"); !cmp.Equal(got, []string{"{} 1"}) {
		t.Errorf("consecutive_failed_runs is %q, want 1", got)
	}
}

// What a process decided that stands by now is history; another one decides.
func TestStandby(t *testing.T) {
	leading := true
	s := begin(t, Options{})
	s.Add(id, Source{Leading: func() bool { return leading }})
	s.run(nil)
	if got := s.shows("desired_replicas"); !cmp.Equal(got, []string{"{} 3"}) {
		t.Errorf("the leader shows %q", got)
	}
	leading = false
	s.run(func(r *autoscaler.Record) {
		r.Failure = &autoscaler.Failure{Stage: execute.StageWrite, Kind: autoscaler.KindStandby}
	})
	for name, want := range map[string][]string{
		"leader": {"{} 0"}, "desired_replicas": nil, "paused": nil, "last_run_timestamp_seconds": nil, "skipped_pods_total": {"{} 0"},
	} {
		if diff := cmp.Diff(want, s.shows(name)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestResults(t *testing.T) {
	s := begin(t, Options{})
	for _, f := range []*autoscaler.Failure{
		nil,
		{Stage: execute.StageRead},
		{Stage: execute.StageRead},
		{Stage: execute.StageEvaluate, Kind: execute.KindCanceled},
		{Stage: execute.StageWrite, Kind: autoscaler.KindStandby},
	} {
		s.run(func(r *autoscaler.Record) { r.Failure = f })
	}
	want := []string{
		`{,result="canceled",trigger="interval"} 1`, `{,result="failure",trigger="interval"} 2`,
		`{,result="standby",trigger="interval"} 1`, `{,result="success",trigger="interval"} 1`,
	}
	if diff := cmp.Diff(want, s.shows("runs_total")); diff != "" {
		t.Errorf("runs (-want +got):\n%s", diff)
	}
	for _, line := range s.shows("run_failures_total") {
		if strings.Contains(line, `"read"`) != strings.HasSuffix(line, " 2") || !strings.Contains(line, `"read"`) && !strings.HasSuffix(line, " 0") {
			t.Errorf("run_failures_total%s", line)
		}
	}
}

// The count is that of the status: what a run wrote, and otherwise what it found.
func TestCurrentIsWhatWasLeft(t *testing.T) {
	s := begin(t, Options{})
	up := func(r *autoscaler.Record) {
		r.Decision.Desired = 5
	}
	for _, step := range []struct {
		what   string
		change func(*autoscaler.Record)
		want   string
	}{
		{"a dry run", func(r *autoscaler.Record) { up(r); r.DryRun = true }, "3"},
		{"a write", func(r *autoscaler.Record) { up(r); r.Written = true }, "5"},
		{"a write that a hook failed after", func(r *autoscaler.Record) {
			r.Decision.Desired, r.Written = 6, true
			r.Failure = &autoscaler.Failure{Stage: execute.StagePostScale}
		}, "6"},
		{"nothing read", func(r *autoscaler.Record) {
			r.Current, r.Decision = 0, nil
			r.Failure = &autoscaler.Failure{Stage: execute.StageRead}
		}, "6"},
		{"nothing to do", nil, "3"},
	} {
		s.run(step.change)
		if got := s.shows("current_replicas"); !cmp.Equal(got, []string{"{} " + step.want}) {
			t.Errorf("after %s current_replicas is %q, want %s", step.what, got, step.want)
		}
	}
}

// A worker that asks often does not bring the fallback nearer, nor the alert.
func TestFailedPushesAreNotCounted(t *testing.T) {
	s := begin(t, Options{})
	fails := func(kind autoscaler.Kind) func(*autoscaler.Record) {
		return func(r *autoscaler.Record) {
			r.Trigger.Kind, r.Failure = kind, &autoscaler.Failure{Stage: execute.StageMetric}
		}
	}
	expect := func(want string) {
		t.Helper()
		if got := s.shows("consecutive_failed_runs"); !cmp.Equal(got, []string{"{} " + want}) {
			t.Errorf("consecutive_failed_runs is %q, want %s", got, want)
		}
	}
	s.run(fails(autoscaler.KindInterval))
	s.run(fails(autoscaler.KindPush))
	expect("1")
	s.run(fails(autoscaler.KindRequest))
	expect("2")
	s.run(func(r *autoscaler.Record) { r.Trigger.Kind = autoscaler.KindPush })
	expect("0")
}

// Of Git there is nothing without it, and in a process that stands by only
// what it counts itself.
func TestGit(t *testing.T) {
	leading := true
	git := Git{Commits: 1}
	s := begin(t, Options{})
	s.Add(id, Source{Leading: func() bool { return leading }, Git: func() Git { return git }})
	s.Add("plain", Source{})
	expect := func(pending, failing, last []string) {
		t.Helper()
		for name, want := range map[string][]string{
			"git_pending": pending, "git_failing": failing, "git_last_commit_timestamp_seconds": last,
			"git_commits_total": {"{} 1"}, "git_failures_total": {"{} 0"},
		} {
			if diff := cmp.Diff(want, s.shows(name)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	}
	expect([]string{"{} 0"}, []string{"{} 0"}, nil)
	git.Pending, git.LastCommit = true, time.Unix(1000, 0)
	expect([]string{"{} 1"}, []string{"{} 0"}, []string{"{} 1000"})
	leading = false
	expect(nil, nil, nil)
}

func TestIntents(t *testing.T) {
	paused := func(r *autoscaler.Record) {
		r.Decision.Constraints = []scale.Constraint{constraint(3, 3, scale.ConstraintPaused)}
	}
	t.Run("as the last decision tells", func(t *testing.T) {
		s := begin(t, Options{})
		s.run(paused)
		s.run(func(r *autoscaler.Record) { // knows no more than before
			r.Decision, r.Failure = nil, &autoscaler.Failure{Stage: execute.StageRead}
		})
		if got := s.shows("paused"); !cmp.Equal(got, []string{"{} 1"}) {
			t.Errorf("paused is %q", got)
		}
		s.run(nil)
		if got := s.shows("paused"); !cmp.Equal(got, []string{"{} 0"}) {
			t.Errorf("after it was resumed, paused is %q", got)
		}
	})
	t.Run("as the source tells", func(t *testing.T) {
		known := false
		s := begin(t, Options{})
		s.Add(id, Source{Intents: func() (Intents, bool) { return Intents{Held: true}, known }})
		s.run(paused)
		if got := s.shows("paused"); got != nil {
			t.Errorf("paused is %q, which the source does not know", got)
		}
		known = true
		for name, want := range map[string]string{"paused": "{} 0", "manual_hold": "{} 1", "bounds_override": "{} 0"} {
			if got := s.shows(name); !cmp.Equal(got, []string{want}) {
				t.Errorf("%s is %q, want %s", name, got, want)
			}
		}
	})
}

func TestDryRunAndFallback(t *testing.T) {
	s := begin(t, Options{})
	s.run(func(r *autoscaler.Record) { r.DryRun, r.Decision.Fallback = true, true })
	for _, name := range []string{"dry_run", "fallback_active"} {
		if got := s.shows(name); !cmp.Equal(got, []string{"{} 1"}) {
			t.Errorf("%s is %q", name, got)
		}
	}
}

// However many pods there are and runs, there are as many series.
func TestSeriesAreBounded(t *testing.T) {
	s := begin(t, Options{})
	many := func(r *autoscaler.Record) {
		for i := range 1000 {
			name := "web-" + r.Time.Format("1504") + "-" + string(rune('a'+i%26))
			r.Metrics = append(r.Metrics, metric.ResourceMetric{Resource: name, Value: "5"})
			r.SkippedPods = append(r.SkippedPods, autoscaler.SkippedPod{Name: name})
		}
		r.Failure = &autoscaler.Failure{Stage: execute.StageMetric, Subject: r.SkippedPods[0].Name, Message: r.Time.String()}
		r.Trigger.Reason = r.Time.String()
	}
	s.run(many)
	before := len(own(s.scrape()))
	for range 100 {
		s.run(many)
	}
	if after := len(own(s.scrape())); after != before {
		t.Errorf("%d series became %d", before, after)
	}
	if before > 100 {
		t.Errorf("%d series, buckets aside, for one autoscaler", before)
	}
}

// Each has its own; what is taken away leaves nothing.
func TestManyAutoscalers(t *testing.T) {
	s := begin(t, Options{Version: "1"})
	empty := own(s.scrape())
	var remove []func()
	for _, name := range []string{"a", "b", "c"} {
		remove = append(remove, s.Add(name, Source{}))
		for range len(name) {
			s.run(func(r *autoscaler.Record) { r.ID = name })
		}
	}
	if got := s.shows("desired_replicas"); !cmp.Equal(got, []string{`{autoscaler="a"} 3`, `{autoscaler="b"} 3`, `{autoscaler="c"} 3`}) {
		t.Errorf("desired_replicas is %q", got)
	}
	for _, r := range remove {
		r()
	}
	if diff := cmp.Diff(empty, own(s.scrape())); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Package example_test runs every example as its README says, against a real
// control plane: the runtime with the example's own configuration and hooks, in
// the example's folder, with the rights that the example's Role gives it.
package example_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/cluster"
)

// stories are the examples, with the programs that each needs, the command that
// builds its hooks if they must be built, and what must come true of it.
var stories = map[string]struct {
	programs  []string
	build     []string
	comesTrue func(*story)
}{
	"getting-started":         {programs: []string{"python3"}, comesTrue: followsNumPods},
	"per-pod/python":          {programs: []string{"python3"}, comesTrue: perPod},
	"per-pod/go":              {programs: []string{"go"}, build: []string{"go", "build", "-o", "hooks", "."}, comesTrue: perPod},
	"per-pod/node":            {programs: []string{"node"}, comesTrue: perPod},
	"per-pod/java":            {programs: []string{"java", "javac"}, build: []string{"javac", "Metric.java", "Evaluate.java"}, comesTrue: perPod},
	"per-pod/bash":            {programs: []string{"bash", "jq"}, comesTrue: perPod},
	"worker/python":           {programs: []string{"python3"}, comesTrue: perPodOfWorker},
	"worker/go":               {programs: []string{"go"}, build: []string{"go", "build", "-o", "worker", "."}, comesTrue: perPodOfWorker},
	"worker/node":             {programs: []string{"node"}, comesTrue: perPodOfWorker},
	"worker/java":             {programs: []string{"java", "javac"}, build: []string{"javac", "Worker.java"}, comesTrue: perPodOfWorker},
	"worker/bash":             {programs: []string{"bash", "jq"}, comesTrue: perPodOfWorker},
	"push":                    {programs: []string{"python3"}, comesTrue: push},
	"cpu":                     {programs: []string{"python3"}, comesTrue: cpu},
	"match-expressions":       {programs: []string{"python3"}, comesTrue: matchExpressions},
	"http-request":            {programs: []string{"python3"}, comesTrue: httpRequest},
	"thresholds":              {programs: []string{"bash", "jq"}, comesTrue: thresholds},
	"downscale-stabilisation": {programs: []string{"python3"}, comesTrue: downscaleStabilisation},
	"working-hours":           {programs: []string{"python3"}, comesTrue: workingHours},
	"zero-scaler":             {programs: []string{"python3"}, comesTrue: zeroScaler},
	"scale-hooks":             {programs: []string{"python3"}, comesTrue: scaleHooks},
	"argo-rollout":            {programs: []string{"python3"}, comesTrue: followsNumPods},
	"custom-image":            {programs: []string{"perl"}, comesTrue: followsNumPods},
}

func TestExamples(t *testing.T) {
	t.Parallel()
	installRollouts(t, cluster.ForTest(t))
	for example, told := range stories {
		t.Run(example, func(t *testing.T) {
			t.Parallel()
			s := prepare(t, example, told.programs)
			if len(told.build) > 0 {
				s.build(told.build)
			}
			told.comesTrue(s)
		})
	}
}

// followsNumPods tells of an example that wants as many replicas as the
// target's label says, which the manifest sets to 3.
func followsNumPods(s *story) {
	s.run()
	s.becomes(3)
	s.setNumPods("5")
	s.becomes(5)
	s.setNumPods("2")
	s.becomes(2)

	s.setNumPods("many")
	failure := s.says("the failure of a hook that cannot read the label", failedIn("evaluate"))
	if !strings.Contains(failure.Stderr, "many") {
		s.Errorf("the log shows %q of the hook, want why it failed", failure.Stderr)
	}
	s.setNumPods("4")
	s.becomes(4)
}

// perPod tells of an example that wants one replica for every 10 sessions that
// its pods have together.
func perPod(s *story) {
	const pods = "app.kubernetes.io/name=web"
	s.becomes(2)
	s.labelPods(pods, 1, "sessions", "25")
	s.run()
	s.becomes(3)
	s.labelPods(pods, 3, "sessions", "25")
	s.becomes(8)
	s.labelPods(pods, 0, "sessions", "0")
	s.becomes(1)
}

// perPodOfWorker tells the same of a worker, and that it goes on when a hook has
// failed.
func perPodOfWorker(s *story) {
	const pods = "app.kubernetes.io/name=web"
	perPod(s)
	s.labelPods(pods, 0, "sessions", nil)
	failure := s.says("the failure of a hook that finds no label", failedIn("metric"))
	if !strings.Contains(failure.Error, "has no label sessions") {
		s.Errorf("the log shows the error %q, want what the hook said", failure.Error)
	}
	s.labelPods(pods, 0, "sessions", "15")
	s.becomes(2)
}

// push waits for the first run, which starts the worker. From then on the test
// would be over before the next one on the interval.
func push(s *story) {
	queue := s.serve("python3", "server.py")
	s.environment["QUEUE"] = queue
	s.environment["interval"] = "10000"
	s.run()
	s.says("the first run", line.endsRun)
	for _, then := range []struct {
		jobs     string
		replicas int32
	}{{"25", 3}, {"61", 7}, {"0", 1}} {
		s.putJobs(queue, then.jobs)
		s.says("a pushed run with "+then.jobs+" jobs", func(l line) bool { return l.Trigger == "push" && l.To == int(then.replicas) })
		s.becomes(then.replicas)
	}
}

// cpu uses all that two pods request, twice the target, until it uses almost
// nothing. The pods that come in between use nothing, so that the utilisation
// then is the target.
func cpu(s *story) {
	s.becomes(2)
	s.use("100m")
	s.run()
	s.becomes(4)
	s.use("10m")
	s.becomes(1)
}

// TestCPUFormula asks the CPU example's evaluate hook about what is hard to bring
// about in a cluster. Every pod requests 100m, and the target is 50 %.
func TestCPUFormula(t *testing.T) {
	t.Parallel()
	need(t, "python3")
	for _, test := range []struct {
		name             string
		current          int
		usage            map[string]int
		missing, ignored []string
		want             int
	}{
		{name: "twice the target", current: 2, usage: map[string]int{"a": 100, "b": 100}, want: 4},
		{name: "rounded up", current: 2, usage: map[string]int{"a": 60, "b": 60}, want: 3},
		{name: "within the tolerance above", current: 2, usage: map[string]int{"a": 55, "b": 55}, want: 2},
		{name: "within the tolerance below", current: 2, usage: map[string]int{"a": 45, "b": 45}, want: 2},
		{name: "idle", current: 5, usage: map[string]int{"a": 0, "b": 0, "c": 0, "d": 0, "e": 0}, want: 0},
		{
			name: "a scale-up is not repeated while its pods start", current: 4,
			usage: map[string]int{"a": 100, "b": 100}, missing: []string{"c"}, ignored: []string{"d"}, want: 4,
		},
		{
			name: "more load than the starting pods can take", current: 4,
			usage: map[string]int{"a": 200, "b": 200}, missing: []string{"c"}, ignored: []string{"d"}, want: 8,
		},
		{
			name: "a pod without a figure is reckoned busy before a scale-down", current: 3,
			usage: map[string]int{"a": 10, "b": 10}, missing: []string{"c"}, want: 3,
		},
		{
			name: "enough idle pods beside it", current: 4,
			usage: map[string]int{"a": 0, "b": 0, "c": 0}, missing: []string{"d"}, want: 2,
		},
		{
			name: "starting pods do not speak against a scale-down", current: 3,
			usage: map[string]int{"a": 10, "b": 10}, ignored: []string{"c"}, want: 1,
		},
		{name: "fewer pods than replicas", current: 8, usage: map[string]int{"a": 100, "b": 100}, want: 8},
		{name: "more pods than replicas", current: 1, usage: map[string]int{"a": 30, "b": 30}, want: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := cpuReplicas(t, test.current, test.usage, test.missing, test.ignored)
			if err != nil {
				t.Fatal(err)
			}
			if got != test.want {
				t.Errorf("%d replicas, want %d", got, test.want)
			}
		})
	}
	t.Run("no figures", func(t *testing.T) {
		_, err := cpuReplicas(t, 2, nil, []string{"a", "b"}, nil)
		if err == nil || !strings.Contains(err.Error(), "no pod has a CPU figure yet") {
			t.Errorf("the hook ended with %v, want it to fail and say why", err)
		}
	})
}

// cpuReplicas asks the hook with the payload that the runtime would make.
func cpuReplicas(t *testing.T, current int, usage map[string]int, missing, ignored []string) (int, error) {
	t.Helper()
	figures, requests := map[string]any{"gone": map[string]int{"Value": 900}}, map[string]int{}
	for pod, value := range usage {
		figures[pod], requests[pod] = map[string]int{"Value": value}, 100
	}
	missingSet, ignoredSet := map[string]any{}, map[string]any{}
	for _, pod := range missing {
		missingSet[pod], requests[pod] = struct{}{}, 100
	}
	for _, pod := range ignored {
		ignoredSet[pod], requests[pod] = struct{}{}, 100
	}
	metric, err := json.Marshal(map[string]any{
		"current_replicas": current,
		"spec":             map[string]any{"resource": map[string]any{"target": map[string]any{"averageUtilization": 50}}},
		"resource": map[string]any{
			"pod_metrics_info": figures, "requests": requests, "missing_pods": missingSet, "ignored_pods": ignoredSet,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(map[string]any{"metrics": []any{map[string]any{"resource": "web", "value": string(metric)}}})
	if err != nil {
		t.Fatal(err)
	}
	hook := exec.CommandContext(t.Context(), "python3", "evaluate.py")
	hook.Dir = "cpu"
	hook.Stdin = bytes.NewReader(payload)
	var stderr bytes.Buffer
	hook.Stderr = &stderr
	output, err := hook.Output()
	if err != nil {
		return 0, fmt.Errorf("%w: %s", err, stderr.String())
	}
	var evaluation struct{ TargetReplicas int }
	if err := json.Unmarshal(output, &evaluation); err != nil {
		t.Fatalf("the hook printed %q: %v", output, err)
	}
	return evaluation.TargetReplicas, nil
}

// use sets what each pod of the target uses of the CPU, and waits until
// metrics-server shows it.
func (s *story) use(usage string) {
	s.Helper()
	if err := s.cluster.SetUsage(s.Context(), s.namespace, s.target.Name, usage); err != nil {
		s.Fatal(err)
	}
	if err := s.cluster.WaitForUsage(s.Context(), s.namespace, s.target.Name, usage); err != nil {
		s.Fatal(err)
	}
}

// matchExpressions keeps one idle pod among those that the expressions match;
// the canaries, which are busy, they do not.
func matchExpressions(s *story) {
	s.run()
	s.becomes(1)
	s.stays(1)
	s.labelPods("track=stable", 1, "busy", "true")
	s.becomes(2)
	s.labelPods("track=stable", 2, "busy", "true")
	s.becomes(3)
	s.labelPods("track=stable", 0, "busy", "false")
	s.becomes(1)
}

// httpRequest runs the server of the folder, which would stand beside the
// autoscaler in its pod.
func httpRequest(s *story) {
	server := s.serve("python3", "server.py")
	s.configure("http://localhost:8080", server)
	s.putJobs(server, "25")
	s.run()
	s.becomes(3)
	s.putJobs(server, "61")
	s.becomes(7)
	s.putJobs(server, "0")
	s.becomes(1)
}

// serve starts a server on a free port and returns its URL, which it prints.
func (s *story) serve(command ...string) string {
	s.Helper()
	server := exec.Command(command[0], command[1:]...) //nolint:noctx // stop ends it
	server.Dir = s.directory
	server.Env = append(os.Environ(), "PORT=0")
	first := make(chan string, 1)
	stop := start(s.T, server, server.StdoutPipe, func(stdout io.Reader) {
		line, _ := bufio.NewReader(stdout).ReadString('\n')
		first <- line
		_, _ = io.Copy(io.Discard, stdout)
	})
	s.Cleanup(func() {
		if err := stop(); err != nil {
			s.Errorf("the server ended with %v", err)
		}
	})
	address, found := strings.CutPrefix(strings.TrimSpace(<-first), "listening on ")
	if !found {
		s.Fatalf("%s did not say where it listens", strings.Join(command, " "))
	}
	return "http://" + address
}

func (s *story) putJobs(server, jobs string) {
	s.Helper()
	request, err := http.NewRequestWithContext(s.Context(), http.MethodPut, server+"/jobs", strings.NewReader(jobs))
	if err != nil {
		s.Fatal(err)
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.Fatal(err)
	}
	if err := response.Body.Close(); err != nil {
		s.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		s.Fatalf("putting %s jobs: %s", jobs, response.Status)
	}
}

// configure replaces a text in the configuration of the copied folder.
func (s *story) configure(before, after string) {
	s.Helper()
	file := filepath.Join(s.directory, "config.yaml")
	text := readFile(s.T, file)
	if !strings.Contains(text, before) {
		s.Fatalf("%s has no %s", file, before)
	}
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, before, after)), 0o600); err != nil {
		s.Fatal(err)
	}
}

// thresholds goes a step at a time. Its cool-down is longer than this test, and
// over when the test says so.
func thresholds(s *story) {
	s.environment["COOLDOWN"] = "3600"
	s.environment["STATE_FILE"] = filepath.Join(s.directory, "state")
	coolDownEnds := func() {
		s.Helper()
		// Renamed into its place, so that the hook does not read half of it.
		long := filepath.Join(s.directory, "long-ago")
		if err := errors.Join(os.WriteFile(long, []byte("1000000000\n"), 0o600), os.Rename(long, s.environment["STATE_FILE"])); err != nil {
			s.Fatal(err)
		}
	}
	s.annotate("load", "95")
	s.run()
	s.becomes(2)
	s.stays(2) // a fresh start cools down
	coolDownEnds()
	s.becomes(3)
	s.stays(3)
	coolDownEnds()
	s.becomes(4)
	s.annotate("load", "50")
	s.settles()
	coolDownEnds()
	s.stays(4) // between the thresholds
	s.annotate("load", "10.5")
	s.becomes(3)
	s.stays(3)
	coolDownEnds()
	s.becomes(2)
	coolDownEnds()
	s.stays(2) // minReplicas
	s.annotate("load", "95")
	s.becomes(3) // the runs at the minimum changed nothing, so there is nothing to cool down from
}

// downscaleStabilisation shortens the window, so that a test can wait for its
// end.
func downscaleStabilisation(s *story) {
	s.configure("downscaleStabilization: 300", "downscaleStabilization: 10")
	s.run()
	s.annotate("requests-per-second", "450")
	s.becomes(5)
	s.annotate("requests-per-second", "120.5")
	held := s.says("a scale-down that is held back", func(l line) bool { return strings.Contains(l.Reason, "downscaleStabilization") })
	if held.To != 5 || !strings.HasPrefix(held.Reason, "evaluated 2,") {
		s.Errorf("a run within the window ended with %+v, want 2 evaluated and 5 kept", held)
	}
	s.becomes(2)
	s.annotate("requests-per-second", "700")
	s.becomes(7)
}

// workingHours begins within working hours, whenever the test does, without a
// metric, and with policies whose periods outlast it.
func workingHours(s *story) {
	hour := func(from time.Duration) string { return time.Now().UTC().Add(from).Format("4 15 * * *") }
	s.configure("start: 30 7 * * mon-fri", "start: "+hour(-6*time.Hour))
	s.configure("end: 0 19 * * mon-fri", "end: "+hour(6*time.Hour))
	s.configure("Europe/Berlin", "UTC")
	s.configure("periodSeconds: 60", "periodSeconds: 1800")
	s.configure("stabilizationWindowSeconds: 300", "stabilizationWindowSeconds: 20")
	s.annotate("requests-per-second", nil)
	s.run()
	s.decides("not evaluated, raised to 4 (the current 2 is below minReplicas, which is 4, by schedule working hours)")
	s.decides("not evaluated, held at 4")
	s.decides("not evaluated, fell back to 6 (at least 3 runs in a row failed; fallback.replicas is 6, fallback.behavior currentReplicasIfHigher)")
	s.becomes(6)
	s.annotate("requests-per-second", "900")
	s.decides("evaluated 9 (900 requests per second), held at 6 (behavior.scaleUp allows no change yet: Pods 4 per 1800s from 2)")
	s.annotate("requests-per-second", "50")
	held := s.says("a scale-down that is held back", func(l line) bool { return strings.Contains(l.Reason, "scaleDown.stabilizationWindowSeconds") })
	if held.To != 6 || !strings.HasPrefix(held.Reason, "evaluated 1 (50 requests per second), held at 6 (9 was wanted") {
		s.Errorf("a run within the window ended with %+v, want 1 evaluated and 6 kept", held)
	}
	s.becomes(4)
	s.decides("evaluated 1 (50 requests per second), raised to 4 (minReplicas is 4, by schedule working hours)")
}

// decides waits for a run that gives this reason.
func (s *story) decides(reason string) {
	s.Helper()
	s.says("a run that decides: "+reason, func(l line) bool { return l.Reason == reason })
}

func zeroScaler(s *story) {
	s.run()
	s.becomes(0)
	s.stays(0)
	s.annotate("jobs", "12")
	s.becomes(3)
	s.annotate("jobs", "1")
	s.becomes(1)
	s.annotate("jobs", "0")
	s.becomes(0)
}

func scaleHooks(s *story) {
	s.run()
	s.becomes(3)
	s.annotate("freeze", "release 1.4 until noon")
	s.setNumPods("6")
	failure := s.says("a preScale that refuses", failedIn("preScale"))
	if want := "web stays at 3 replicas instead of 6, it is frozen: release 1.4 until noon"; strings.TrimSpace(failure.Stderr) != want {
		s.Errorf("the log shows %q of the hook, want %q", failure.Stderr, want)
	}
	s.annotate("freeze", nil)
	s.says("postScale's account of the change", func(l line) bool {
		return l.Line == s.namespace+"/web went from 3 to 6 replicas"
	})
	s.becomes(6)
	s.stays(6)
}

// failedIn finds a run that failed in a stage.
func failedIn(stage string) func(line) bool {
	return func(l line) bool { return l.Message == failed && l.Stage == stage }
}

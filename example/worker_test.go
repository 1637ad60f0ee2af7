// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package example_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// workers are the examples that are a worker in some language: the file with
// the hooks, the line that begins the hook metric, and lines to put after it
// that print what nobody asked for.
var workers = map[string]struct{ file, begins, stray string }{
	"worker/python": {"worker.py", "def metric(params):\n", "    print('stray')\n    os.system('echo stray child')\n"},
	"worker/node":   {"worker.mjs", "function metric(params) {\n", "console.log('stray'); process.stdout.write('stray too\\n');\n"},
	"worker/go":     {"main.go", "func metric(params json.RawMessage) (any, error) {\n", "fmt.Println(\"stray\")\n"},
	"worker/bash":   {"worker.sh", "metric() { # NAME SESSIONS\n", "echo stray; cat; date\n"},
	"worker/java":   {"Worker.java", "    private static String metric(Object params) {\n", "System.out.println(\"stray\");\n"},
}

// TestWorkers speaks the protocol with every worker, as the runtime would: as it
// is, and with hooks that print.
func TestWorkers(t *testing.T) {
	t.Parallel()
	for example, of := range workers {
		t.Run(example, func(t *testing.T) {
			t.Parallel()
			converse(startWorker(t, builtCopy(t, example, nil)))

			w := startWorker(t, builtCopy(t, example, func(directory string) {
				replaceIn(t, filepath.Join(directory, of.file), of.begins, of.begins+of.stray)
			}))
			converse(w)
			if !strings.Contains(w.stderr.String(), "stray") {
				t.Errorf("on stderr is %q, want what the hook printed", w.stderr.String())
			}
		})
	}
}

// TestWorkersPushed is the first test's counterpart for the example that pushes.
func TestWorkersPushed(t *testing.T) {
	t.Parallel()
	need(t, "python3")
	s := &story{T: t, directory: "push"}
	queue := s.serve("python3", "server.py")
	w := startWorker(t, "push", "QUEUE="+queue)
	w.answers("metric", `{}`, `"0"`)
	w.pushes("0 jobs wait")
	for _, jobs := range []string{"25", "61", "0"} {
		s.putJobs(queue, jobs)
		w.pushes(jobs + " jobs wait")
		w.answers("metric", `{}`, `"`+jobs+`"`)
	}
	w.answers("evaluate", `{"metrics": [{"resource": "web", "value": "25"}]}`, `{"targetReplicas": 3}`)
	w.fails("evaluate", `{"metrics": [{"resource": "web"}]}`, "value")
	w.ends()
}

// TestWorkerWhoseQueueIsAway must say so, and must end all the same.
func TestWorkerWhoseQueueIsAway(t *testing.T) {
	t.Parallel()
	need(t, "python3")
	w := startWorker(t, "push", "QUEUE=http://127.0.0.1:1")
	w.fails("metric", `{}`, "refused")
	w.answers("evaluate", `{"metrics": [{"resource": "web", "value": "0"}]}`, `{"targetReplicas": 0}`)
	w.ends()
}

// TestTranscript holds the conversation that docs/workers.md shows against what
// the worker in Python says.
func TestTranscript(t *testing.T) {
	t.Parallel()
	need(t, "python3")
	w := startWorker(t, filepath.Join("worker", "python"))
	for line := range strings.Lines(readFile(t, filepath.Join("testdata", "worker.txt"))) {
		if request, ok := strings.CutPrefix(line, "--> "); ok {
			w.send(request)
			continue
		}
		if got, want := <-w.lines, strings.TrimPrefix(strings.TrimSpace(line), "<-- "); got != want {
			t.Errorf("the worker says\n%s, want\n%s", got, want)
		}
	}
	w.ends()
}

// TestFromShellToWorker holds the change that docs/workers.md shows to what it
// changes, and to what becomes of it.
func TestFromShellToWorker(t *testing.T) {
	t.Parallel()
	need(t, "python3")
	var before, after strings.Builder
	for _, block := range regexp.MustCompile("(?s)```diff\n(.*?)```").FindAllStringSubmatch(readFile(t, "../docs/workers.md"), -1) {
		if !strings.Contains(block[1], "import json") {
			continue // the configuration
		}
		for line := range strings.Lines(block[1]) {
			if !strings.HasPrefix(line, "+") {
				before.WriteString(strings.TrimLeft(line[:1], "- ") + line[1:])
			}
			if !strings.HasPrefix(line, "-") {
				after.WriteString(strings.TrimLeft(line[:1], "+ ") + line[1:])
			}
		}
	}
	if diff := cmp.Diff(readFile(t, filepath.Join("per-pod", "python", "metric.py")), before.String()); diff != "" {
		t.Errorf("what the page changes is not the example (-example +page):\n%s", diff)
	}
	directory := t.TempDir()
	if err := os.WriteFile(filepath.Join(directory, "metric.py"), []byte(after.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	w := startProgram(t, directory, nil, "python3", "metric.py")
	w.answers("metric", `{"resource": {"metadata": {"name": "web-1", "labels": {"sessions": "25"}}}}`, `"25"`)
	w.fails("metric", `{"resource": {"metadata": {"name": "web-1"}}}`, "the pod web-1 has no label sessions")
	w.ends()
}

// converse asks about all that the logic of the per-pod examples does.
func converse(w *worker) {
	w.Helper()
	pod := func(labels, annotation string) string {
		return `{"resource": {"metadata": {"annotations": {"note": "` + annotation + `"}, "name": "web-1", "labels": ` + labels + `}}, "runType": "scaler"}`
	}
	w.answers("metric", pod(`{"sessions": "25"}`, ""), `"25"`)
	w.answers("metric", pod(`{"sessions": "0"}`, ""), `"0"`)
	// What may not be taken for the end of a message or of a text.
	w.answers("metric", pod(`{"sessions": "zw\u00f6lf \"\\ zwölf"}`, `a\nb\r\u2028\"]}`+"\u2028\u0085"), `"zwölf \"\\ zwölf"`)
	w.answers("metric", pod(`{"sessions": "7"}`, strings.Repeat("long ", 60_000)), `"7"`)
	w.fails("metric", pod(`{"app": "web"}`, ""), "the pod web-1 has no label sessions")
	w.fails("metric", `{"resource": {"metadata": {"name": "web-1"}}, "runType": "scaler"}`, "the pod web-1 has no label sessions")

	w.answers("evaluate", `{"metrics": [{"resource": "web-1", "value": "25"}]}`, `{"targetReplicas": 3}`)
	w.answers("evaluate", `{"metrics": [{"resource": "web-1", "value": "25"}, {"resource": "web-2", "value": "05"}]}`, `{"targetReplicas": 3}`)
	w.answers("evaluate", `{"metrics": [{"resource": "web-1", "value": "0"}]}`, `{"targetReplicas": 0}`)
	w.fails("evaluate", `{"metrics": null, "runType": "scaler"}`, "there are no pods to go by yet")
	w.fails("evaluate", `{"metrics": [{"resource": "web-1", "value": "many"}]}`, "many")
	w.fails("evaluate", `{"metrics": [{"resource": "web-1"}]}`, "")

	w.fails("preScale", `{"resource": {}}`, "")
	// Later than any number of 32 bits.
	w.id = 1 << 40
	w.answers("metric", pod(`{"sessions": "25"}`, ""), `"25"`)
	w.ends()
}

// builtCopy copies an example to a folder of its own, where it may be changed
// before it is built as its Dockerfile does.
func builtCopy(t *testing.T, example string, change func(directory string)) string {
	t.Helper()
	need(t, stories[example].programs...)
	s := &story{T: t, directory: t.TempDir()}
	if err := os.CopyFS(s.directory, os.DirFS(example)); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(s.directory)
	}
	if build := stories[example].build; len(build) > 0 {
		s.build(build)
	}
	return s.directory
}

func replaceIn(t *testing.T, file, before, after string) {
	t.Helper()
	text := readFile(t, file)
	if strings.Count(text, before) != 1 {
		t.Fatalf("%s has %q not exactly once", file, before)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(text, before, after, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// worker is a worker's process, with the runtime's end of the protocol.
type worker struct {
	*testing.T
	stdin  io.WriteCloser
	id     int64
	stderr bytes.Buffer // to be read when the process has ended
	// lines are its answers, pushed are the reasons of its pushes. Both are
	// closed at the end of stdout, also when the test has taken too long.
	lines, pushed chan string
	ended         chan error
}

// startWorker starts a worker as the config.yaml in its folder says.
func startWorker(t *testing.T, directory string, environment ...string) *worker {
	t.Helper()
	method := methodOf(t, directory)
	return startProgram(t, directory, environment, method.Entrypoint, method.Command...)
}

func startProgram(t *testing.T, directory string, environment []string, entrypoint string, arguments ...string) *worker {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	command := exec.CommandContext(ctx, entrypoint, arguments...)
	w := &worker{T: t, lines: make(chan string, 64), pushed: make(chan string, 64), ended: make(chan error, 1)}
	command.Dir = directory
	command.Env = append(os.Environ(), environment...)
	command.Stderr = &w.stderr
	// When it takes too long, what it has started is killed with it.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = 10 * time.Second
	var err error
	if w.stdin, err = command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		w.read(stdout)
		w.ended <- command.Wait()
	}()
	return w
}

func (w *worker) read(stdout io.Reader) {
	defer close(w.lines)
	defer close(w.pushed)
	scanner := bufio.NewScanner(stdout)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		var notification struct {
			Method string
			Params struct{ Reason string }
		}
		if json.Unmarshal(scanner.Bytes(), &notification) == nil && notification.Method == "trigger" {
			w.pushed <- notification.Params.Reason
			continue
		}
		w.lines <- scanner.Text()
	}
}

// answers asks, and fails unless the answer is that. The text of an answer to
// evaluate counts as what it says.
func (w *worker) answers(hook, params, want string) {
	w.Helper()
	result, failure := w.ask(hook, params)
	var got any
	if err := json.Unmarshal(result, &got); err != nil || failure != nil {
		w.Fatalf("%s of %.300s fails with %v, want %s", hook, params, errors.Join(failure, err), want)
	}
	if text, ok := got.(string); ok && hook == "evaluate" {
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			w.Fatalf("%s of %.300s answers %q: %v", hook, params, text, err)
		}
	}
	var wanted any
	if err := json.Unmarshal([]byte(want), &wanted); err != nil {
		w.Fatal(err)
	}
	if diff := cmp.Diff(wanted, got); diff != "" {
		w.Errorf("the answer of %s to %.300s (-want +got):\n%s", hook, params, diff)
	}
}

// fails asks, and fails unless the answer is an error that says that.
func (w *worker) fails(hook, params, says string) {
	w.Helper()
	result, failure := w.ask(hook, params)
	if failure == nil || !strings.Contains(failure.Error(), says) {
		w.Errorf("%s of %.300s ends with %s and the error %v, want one that says %q", hook, params, result, failure, says)
	}
}

// pushes waits for the next push.
func (w *worker) pushes(reason string) {
	w.Helper()
	if got := <-w.pushed; got != reason {
		w.Fatalf("the worker pushes %q, want %q", got, reason)
	}
}

func (w *worker) send(line string) {
	w.Helper()
	if _, err := io.WriteString(w.stdin, line); err != nil {
		w.Fatalf("the worker does not take the request: %v", err)
	}
}

// ask sends a request and takes its answer, which must be one to the letter.
func (w *worker) ask(hook, params string) (result json.RawMessage, failure error) {
	w.Helper()
	w.id++
	w.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"%s","params":%s}`+"\n", w.id, hook, params))
	line, ok := <-w.lines
	if !ok {
		w.Fatalf("the worker ended at %s of %.300s with %v: %s", hook, params, <-w.ended, w.stderr.String())
	}
	var answer struct {
		JSONRPC string          `json:"jsonrpc"`
		ID      int64           `json:"id"`
		Result  json.RawMessage `json:"result"`
		Error   *struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	decoder := json.NewDecoder(strings.NewReader(line))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&answer)
	if err != nil || decoder.More() || answer.JSONRPC != "2.0" || answer.ID != w.id || (answer.Result == nil) == (answer.Error == nil) {
		w.Fatalf("this is no answer to the request %d: %q (%v)", w.id, line, err)
	}
	if answer.Error == nil {
		return answer.Result, nil
	}
	if answer.Error.Code == 0 || answer.Error.Message == "" {
		w.Errorf("this error says too little: %s", line)
	}
	return nil, errors.New(answer.Error.Message)
}

// ends closes stdin, at which the worker must end by itself, having said all.
func (w *worker) ends() {
	w.Helper()
	if err := w.stdin.Close(); err != nil {
		w.Fatal(err)
	}
	for line := range w.lines {
		w.Errorf("the worker says what nobody asked: %q", line)
	}
	if err := <-w.ended; err != nil {
		w.Errorf("at the end of stdin the worker ends with %v: %s", err, w.stderr.String())
	}
}

// workerMethod is how a worker is started.
type workerMethod struct {
	Entrypoint string
	Command    []string
}

// methodOf reads it from the configuration. Both hooks must have the same, as
// the process would not be shared otherwise.
func methodOf(t *testing.T, directory string) workerMethod {
	t.Helper()
	var configuration struct {
		Metric, Evaluate struct {
			Type    string
			Timeout int
			Worker  workerMethod
		}
	}
	if err := yaml.Unmarshal([]byte(readFile(t, filepath.Join(directory, "config.yaml"))), &configuration); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(configuration.Metric, configuration.Evaluate); diff != "" || configuration.Metric.Type != "worker" {
		t.Fatalf("%s: the hooks do not share a worker (-metric +evaluate):\n%s", directory, diff)
	}
	return configuration.Metric.Worker
}

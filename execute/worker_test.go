// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// staff is a worker under test.
type staff struct {
	t      testing.TB
	folder string
	pool   *Pool
	log    *syncBuffer
	Executor
}

// hire sets a worker up. Those that are not told otherwise wait long.
func hire(t testing.TB, timeout time.Duration, settings config.Worker, options PoolOptions) *staff {
	t.Helper()
	s := &staff{t: t, folder: t.TempDir(), log: &syncBuffer{}}
	options.Log = textLog(s.log)
	s.pool = newPool(t, options)
	s.Executor = newExecutor(t, workerMethod(t, timeout, s.folder, settings), s.pool)
	return s
}

// ask has the worker do something at a stage.
func (s *staff) ask(stage Stage, o order) (string, error) {
	result, err := s.Execute(s.t.Context(), o.call(stage))
	return string(result.Output), err
}

// answers asks and wants an answer.
func (s *staff) answers(stage Stage, o order) {
	s.t.Helper()
	want := string(stage) + " " + o.Text
	if got, err := s.ask(stage, o); err != nil || got != want {
		s.t.Errorf("%+v: got %q, %v; want %q", o, got, err, want)
	}
}

// processes are the IDs of all processes there have been.
func (s *staff) processes() []int {
	s.t.Helper()
	entries, err := os.ReadDir(s.folder)
	if err != nil {
		s.t.Fatal(err)
	}
	var ids []int
	for _, entry := range entries {
		if id, err := strconv.Atoi(entry.Name()); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// file is a path in a folder of the test's own.
func file(t testing.TB, name string) string {
	t.Helper()
	return filepath.Join(t.TempDir(), name)
}

func TestWorkerAnswers(t *testing.T) {
	t.Parallel()
	s := hire(t, patience, config.Worker{}, PoolOptions{})
	large := strings.Repeat("é\n\"", 300<<10) // more than a pipe holds, and longer once encoded
	for _, text := range []string{"5", "", " 5\n\n", large} {
		s.answers(StageMetric, order{Text: text})
	}
	s.answers(StagePostScale, order{Text: "it knows its stage"})
	if started := s.processes(); len(started) != 1 {
		t.Errorf("%d processes answered, want 1", len(started))
	}
}

// What stands in `result` is what a program would have printed, and JSON is
// taken as it is.
func TestWorkerResults(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ result, want string }{
		{`"5\n"`, "5\n"},
		{`""`, ""},
		{`null`, ""},
		{`5`, "5"},
		{`{"targetReplicas": 3}`, `{"targetReplicas": 3}`},
		{`[1, "a"]`, `[1, "a"]`},
		{`"\u00e9\ud83d\ude00"`, "é😀"},
	} {
		m, err := parseMessage([]byte(`{"jsonrpc":"2.0","id":7,"result":` + test.result + `}`))
		if err != nil {
			t.Fatal(err)
		}
		output, err := m.output()
		if err != nil || string(output) != test.want {
			t.Errorf("%s: got %q, %v; want %q", test.result, output, err, test.want)
		}
	}
}

// Each of these is the fault of the one request there is. Metric and evaluate
// are asked once more, by another process.
func TestWorkerFaults(t *testing.T) {
	t.Parallel()
	const bound = 5000
	for _, test := range []struct {
		name    string
		order   order
		timeout time.Duration
		want    Error
		// repeated says that the question is put again.
		repeated bool
	}{
		{"it crashes", order{Do: "crash"}, patience, Error{Kind: KindExit, Message: "the worker ended before it answered: exit status 3", Stderr: "on my way\n"}, true},
		{"it ends", order{Do: "exit"}, patience, Error{Kind: KindExit, Message: "the worker ended before it answered: exit status 0"}, true},
		{"it is killed", order{Do: "kill"}, patience, Error{
			Kind:    KindSignal,
			Message: "the worker ended before it answered: killed by SIGKILL; not sent by the autoscaler: perhaps the kernel's, because the container ran out of memory",
		}, true},
		{"it prints", order{Do: "print", Text: "a debugging print"}, patience, Error{
			Kind:    KindAnswer,
			Message: `the worker printed something that is no JSON-RPC message: "a debugging print"; only messages may go to stdout, print to stderr`,
		}, true},
		{"it prints other JSON", order{Do: "print", Text: `{"id": 1, "result": "5"}`}, patience, Error{
			Kind:    KindAnswer,
			Message: `the worker printed a message without "jsonrpc":"2.0": "{\"id\": 1, \"result\": \"5\"}"`,
		}, true},
		{"it prints half a line and ends", order{Do: "half", Text: `{"jsonrpc":`}, patience, Error{Kind: KindExit, Message: "the worker ended before it answered: exit status 3"}, true},
		{"it prints JSON of its own", order{Do: "print", Text: `{"level": "debug"}`}, patience, Error{
			Kind:    KindAnswer,
			Message: `the worker printed something that is no JSON-RPC message: "{\"level\": \"debug\"}"; only messages may go to stdout, print to stderr`,
		}, true},
		{"it answers what was not asked", order{Do: "unasked"}, patience, Error{Kind: KindAnswer, Message: "the worker answered the id 99, which was not asked"}, true},
		{"it closes its stdout", order{Do: "mute"}, patience, Error{Kind: KindAnswer, Message: "the worker closed its stdout before it answered"}, true},
		{"it forks and ends", order{Do: "fork"}, patience, Error{Kind: KindExit, Message: "the worker ended before it answered: exit status 3", Stderr: "PID\n"}, true},
		{"it floods with notifications", order{Do: "flood", Text: `{"jsonrpc":"2.0","method":"trigger"}~`}, patience, Error{
			Kind: KindAnswer, Message: "the worker printed more than 1000 messages within a second that answer nothing",
		}, true},
		{"it floods with nothing", order{Do: "flood", Text: `~`}, patience, Error{
			Kind: KindAnswer, Message: "the worker printed more than 1000 messages within a second that answer nothing",
		}, true},
		{"its message has no end", order{Do: "endless"}, patience, Error{
			Kind: KindOutput, Message: "the worker printed a message longer than 5000 bytes, the limit set by maxOutputBytes",
		}, true},
		{"its message is too long", order{Text: strings.Repeat("x", bound)}, patience, Error{
			Kind: KindOutput, Message: "the worker printed a message longer than 5000 bytes, the limit set by maxOutputBytes",
		}, true},
		{"it hangs", order{Do: "hang"}, time.Second, Error{Kind: KindTimeout, Message: "no answer within 1s (timeout); the worker was killed with its process group"}, false},
		{"it says neither", order{Do: "neither"}, patience, Error{Kind: KindAnswer, Message: "the worker answered the id 1 with neither a result nor an error"}, false},
		{"it reports an error", order{Do: "error", Text: "cannot reach the queue"}, patience, Error{
			Kind: KindReported, Message: "error -32000: cannot reach the queue", Stderr: `{"at":"the door"}`,
		}, false},
		{"it did not even read the id", order{Do: "confused", Text: "what?"}, patience, Error{
			Kind: KindReported, Message: "error -32000: what?", Stderr: `{"at":"the door"}`,
		}, false},
	} {
		for _, stage := range []Stage{StageMetric, StagePreScale} {
			t.Run(test.name+" at "+string(stage), func(t *testing.T) {
				t.Parallel()
				s := hire(t, test.timeout, config.Worker{}, PoolOptions{MaxOutputBytes: bound})
				_, err := s.ask(stage, test.order)
				got := fault(t, err)
				got.Stderr = regexp.MustCompile(`^\d+`).ReplaceAllString(got.Stderr, "PID")
				want := test.want
				want.Stage, want.Subject = stage, test.order.Text
				if diff := cmp.Diff(&want, got, cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "Err" }, cmp.Ignore())); diff != "" {
					t.Errorf("error (-want +got):\n%s", diff)
				}
				s.answers(stage, order{Text: "and others are answered"})
				switch asked := len(s.processes()); {
				case test.want.Kind == KindReported && asked != 1:
					t.Errorf("%d processes: reporting an error is no reason to replace one", asked)
				case test.repeated && stage == StageMetric && asked < 3:
					t.Errorf("%d processes: a metric is to be asked for again", asked)
				case test.want.Kind != KindReported && (!test.repeated || stage == StagePreScale) && asked > 2:
					t.Errorf("%d processes: this must not be asked again", asked)
				}
			})
		}
	}
}

// A question is put again when the process was lost, and succeeds.
func TestWorkerIsAskedOnceMore(t *testing.T) {
	t.Parallel()
	for _, deed := range []string{"crash", "print", "unasked", "mute", "fork"} {
		for _, stage := range []Stage{StageMetric, StageEvaluate} {
			s := hire(t, patience, config.Worker{}, PoolOptions{})
			s.answers(stage, order{Do: deed, Text: "x", Once: file(t, "once")})
		}
	}
}

// An answer that comes twice does not harm the one it is for, nor the next.
func TestWorkerAnswersTwice(t *testing.T) {
	t.Parallel()
	s := hire(t, patience, config.Worker{}, PoolOptions{})
	for i := range 5 {
		if _, err := s.ask(StageMetric, order{Do: "twice", Text: strconv.Itoa(i)}); err != nil {
			t.Errorf("answer %d: %v", i, err)
		}
	}
	eventually(t, "the log says so", func() bool {
		return strings.Contains(s.log.String(), `msg="A worker is replaced" `) && strings.Contains(s.log.String(), `reason="the worker answered the id 1 twice"`)
	})
}

// Only what is to blame fails: what was in flight beside it is asked again, by
// a process that it has to itself.
func TestWorkerOthersSurvive(t *testing.T) {
	t.Parallel()
	for _, deed := range []string{"crash", "print", "hang", "neither"} {
		t.Run(deed, func(t *testing.T) {
			t.Parallel()
			s := hire(t, 2*time.Second, config.Worker{Processes: 2, MaxInFlight: 8}, PoolOptions{})
			gate := file(t, "gate")
			var calls sync.WaitGroup
			for i := range 16 {
				calls.Go(func() {
					o := order{Text: strconv.Itoa(i), Gate: gate}
					if i == 5 {
						o.Do = deed
						if _, err := s.ask(StageMetric, o); err == nil {
							t.Errorf("the %s succeeded", deed)
						}
						return
					}
					s.answers(StageMetric, o)
				})
			}
			write(t, gate)
			calls.Wait()
		})
	}
}

// Answers may come in any order, and a process is given no more than it takes.
func TestWorkerInFlight(t *testing.T) {
	t.Parallel()
	s := hire(t, patience, config.Worker{MaxInFlight: 2}, PoolOptions{})
	first, second := file(t, "first"), file(t, "second")
	answered := make(chan string, 3)
	ask := func(text, gate string) {
		s.answers(StageMetric, order{Text: text, Gate: gate})
		answered <- text
	}
	var calls sync.WaitGroup
	calls.Go(func() { ask("first", first) })
	crew := s.Executor.(metered).Executor.(*worker).crew
	waitUntil := func(inFlight, waiting int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d in flight, %d waiting", inFlight, waiting), func() bool {
			crew.mu.Lock()
			defer crew.mu.Unlock()
			return len(crew.processes) == 1 && len(crew.processes[0].inFlight) == inFlight && len(crew.waiting) == waiting
		})
	}
	waitUntil(1, 0)
	calls.Go(func() { ask("second", second) })
	waitUntil(2, 0)
	calls.Go(func() { ask("third", "") })
	waitUntil(2, 1)
	write(t, second)
	var order []string
	order = append(order, <-answered, <-answered)
	write(t, first)
	order = append(order, <-answered)
	calls.Wait()
	if order[2] != "first" {
		t.Errorf("answered %v, want the first last", order)
	}
}

// Processes are started as they are needed, and no more of them.
func TestWorkerProcesses(t *testing.T) {
	t.Parallel()
	s := hire(t, patience, config.Worker{Processes: 3}, PoolOptions{})
	for range 5 {
		s.answers(StageMetric, order{Text: "one after another"})
	}
	if started := s.processes(); len(started) != 1 {
		t.Errorf("%d processes for one request at a time, want 1", len(started))
	}
	gate := file(t, "gate")
	var calls sync.WaitGroup
	for i := range 10 {
		calls.Go(func() { s.answers(StageMetric, order{Text: strconv.Itoa(i), Gate: gate}) })
	}
	eventually(t, "there are three processes", func() bool { return len(s.processes()) == 3 })
	write(t, gate)
	calls.Wait()
	if started := s.processes(); len(started) != 3 {
		t.Errorf("%d processes for ten requests, want 3", len(started))
	}
	s.pool.Close()
	eventuallyGone(t, s.processes()...)
}

// After its number of requests a process ends by itself, and another is there.
func TestWorkerIsRecycled(t *testing.T) {
	t.Parallel()
	s := hire(t, patience, config.Worker{MaxRequests: 3}, PoolOptions{})
	for range 9 {
		s.answers(StageMetric, order{Text: "x"})
	}
	eventually(t, "there are four processes", func() bool { return len(s.processes()) == 4 })
	s.pool.Close()
	eventuallyGone(t, s.processes()...)
	if log := s.log.String(); log != "" {
		t.Errorf("nothing is wrong, but the log says\n%s", log)
	}
}

func TestMethodsOfOneCommandShareTheirWorker(t *testing.T) {
	t.Parallel()
	s := hire(t, patience, config.Worker{}, PoolOptions{})
	same := newExecutor(t, workerMethod(t, time.Hour, s.folder, config.Worker{Processes: 1, MaxInFlight: 1}), s.pool)
	s.answers(StageMetric, order{Text: "a"})
	if _, err := same.Execute(t.Context(), order{}.call(StageEvaluate)); err != nil {
		t.Error(err)
	}
	if started := s.processes(); len(started) != 1 {
		t.Errorf("%d processes, want 1", len(started))
	}
	other := newExecutor(t, workerMethod(t, patience, s.folder, config.Worker{MaxInFlight: 2}), s.pool)
	if _, err := other.Execute(t.Context(), order{}.call(StageEvaluate)); err != nil {
		t.Error(err)
	}
	if started := s.processes(); len(started) != 2 {
		t.Errorf("%d processes of two kinds, want 2", len(started))
	}
}

// A worker that never works is started less and less often, and whoever asks is
// told so at once.
func TestWorkerBackoff(t *testing.T) {
	t.Parallel()
	pool := newPool(t, PoolOptions{})
	broken := newExecutor(t, config.Method{
		Type: config.MethodWorker, Timeout: 500, Worker: &config.Worker{Entrypoint: "/bin/sh", Command: []string{"-c", "exit 7"}},
	}, pool)
	eventually(t, "it is given up on", func() bool {
		_, err := broken.Execute(t.Context(), order{}.call(StageMetric))
		failed := fault(t, err)
		if failed.Kind == KindExit && failed.Message == "the worker ended before it answered: exit status 7" {
			return false
		}
		if !regexp.MustCompile(`^the worker keeps ending \(exit status 7\); it is started again in [\d.]+m?s$`).MatchString(failed.Message) {
			t.Fatalf("got %q", failed.Message)
		}
		return true
	})
	crew := broken.(metered).Executor.(*worker).crew
	crew.mu.Lock()
	defer crew.mu.Unlock()
	if crew.failures > 6 {
		t.Errorf("it was started %d times before that", crew.failures)
	}
}

func TestWorkerThatCannotBeStarted(t *testing.T) {
	t.Parallel()
	absent := newExecutor(t, config.Method{Type: config.MethodWorker, Worker: &config.Worker{Entrypoint: "no-such-program"}}, newPool(t, PoolOptions{}))
	for range 3 {
		_, err := absent.Execute(t.Context(), order{}.call(StageMetric))
		if failed := fault(t, err); failed.Kind != KindStart || !strings.HasPrefix(failed.Message, `the program "no-such-program" is not in PATH (`) {
			t.Errorf("got kind %q, message %q", failed.Kind, failed.Message)
		}
	}
}

// Whoever gives up waiting leaves the process to its work, for as long as it
// may take; the next one waits for that.
func TestWorkerIsAbandoned(t *testing.T) {
	t.Parallel()
	s := hire(t, patience, config.Worker{}, PoolOptions{})
	gate := file(t, "gate")
	ctx, cancel := context.WithCancelCause(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := s.Execute(ctx, order{Text: "a", Gate: gate}.call(StageMetric))
		failed <- err
	}()
	eventually(t, "it is asked", func() bool { return len(s.processes()) == 1 })
	cancel(errors.New("shutting down"))
	if got := fault(t, <-failed); got.Kind != KindCanceled || got.Message != "no answer before the call was cancelled: shutting down" {
		t.Errorf("got kind %q, message %q", got.Kind, got.Message)
	}
	write(t, gate)
	s.answers(StageMetric, order{Text: "b"})
	if started := s.processes(); len(started) != 1 {
		t.Errorf("%d processes, want the same to answer", len(started))
	}
	if _, err := s.Execute(ctx, order{}.call(StageMetric)); fault(t, err).Message != "not asked before the call was cancelled: shutting down" {
		t.Errorf("got %v", err)
	}
}

func TestWorkerThatWasAbandonedAndHangsIsKilled(t *testing.T) {
	t.Parallel()
	s := hire(t, 500*time.Millisecond, config.Worker{}, PoolOptions{})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := s.Execute(ctx, order{Do: "hang"}.call(StageMetric))
	if got := fault(t, err); got.Message != "no answer before the caller's deadline" {
		t.Errorf("got %q", got.Message)
	}
	eventually(t, "another process is there", func() bool { return len(s.processes()) == 2 })
	s.answers(StageMetric, order{Text: "and answers"})
}

// Behind a process that is busy with what nobody waits for any more, a call
// waits no longer than that may take.
func TestWorkerTurnsDoNotLastForever(t *testing.T) {
	t.Parallel()
	s := hire(t, patience, config.Worker{}, PoolOptions{})
	brief := newExecutor(t, workerMethod(t, 50*time.Millisecond, s.folder, config.Worker{}), s.pool)
	gate := file(t, "gate")
	var calls sync.WaitGroup
	calls.Go(func() { s.answers(StageMetric, order{Text: "long", Gate: gate}) })
	eventually(t, "it is busy", func() bool { return len(s.processes()) == 1 })
	_, err := brief.Execute(t.Context(), order{Text: "short"}.call(StageMetric))
	if got := fault(t, err); got.Kind != KindTimeout || got.Message != "no process of the worker was free within 50ms: others take too long" {
		t.Errorf("got kind %q, message %q", got.Kind, got.Message)
	}
	write(t, gate)
	calls.Wait()
}

func TestWorkerTimeoutsKillTheGroup(t *testing.T) {
	t.Parallel()
	pool := newPool(t, PoolOptions{})
	hanging := newExecutor(t, config.Method{Type: config.MethodWorker, Timeout: 1000, Worker: &config.Worker{
		Entrypoint: "/bin/sh", Command: []string{"-c", "sleep 600 & echo $$ $! >&2; read line; wait"},
	}}, pool)
	_, err := hanging.Execute(t.Context(), order{}.call(StagePreScale))
	eventuallyGone(t, pids(t, fault(t, err).Stderr)...)
}

// A process that does not end with its stdin is killed when we end.
func TestClosingThePoolEndsWorkers(t *testing.T) {
	t.Parallel()
	pool := NewPool(PoolOptions{})
	deaf := newExecutor(t, config.Method{Type: config.MethodWorker, Worker: &config.Worker{
		Entrypoint: "/bin/sh", Command: []string{"-c", `read line; echo '{"jsonrpc":"2.0","id":1,"result":"'$$'"}'; exec sleep 600`},
	}}, pool)
	result, err := deaf.Execute(t.Context(), order{}.call(StageMetric))
	if err != nil {
		t.Fatal(err)
	}
	pool.Close()
	for _, pid := range pids(t, string(result.Output)) {
		if running(pid) {
			t.Errorf("process %d is still there", pid)
		}
	}
	_, err = deaf.Execute(t.Context(), order{}.call(StageMetric))
	if got := fault(t, err); got.Kind != KindCanceled {
		t.Errorf("after the end: got kind %q, message %q", got.Kind, got.Message)
	}
}

func TestWorkerStderrIsLogged(t *testing.T) {
	t.Parallel()
	s := hire(t, patience, config.Worker{}, PoolOptions{})
	s.answers(StageMetric, order{Do: "stderr", Text: "a line"})
	eventually(t, "the line is logged", func() bool { return strings.Contains(s.log.String(), `line="a line"`) })
}

func TestWorkerTriggers(t *testing.T) {
	t.Parallel()
	s := hire(t, patience, config.Worker{}, PoolOptions{})
	reasons := make(chan string, 10)
	hooks := Hooks{StageMetric: s.Executor, StageEvaluate: s.Executor}
	hooks.OnTrigger(func(reason string) { reasons <- reason })
	s.answers(StageMetric, order{Do: "trigger", Text: "the queue grew"})
	s.answers(StageMetric, order{Do: "print", Text: `{"jsonrpc":"2.0","method":"trigger"}`})
	s.answers(StageMetric, order{Do: "print", Text: `{"jsonrpc":"2.0","method":"trigger","params":["x"]}`})
	s.answers(StageMetric, order{Do: "print", Text: `{"jsonrpc":"2.0","id":5,"method":"whoAreYou"}`})
	close(reasons)
	var got []string
	for reason := range reasons {
		got = append(got, reason)
	}
	if diff := cmp.Diff([]string{"the queue grew", "", ""}, got); diff != "" {
		t.Errorf("triggers (-want +got):\n%s", diff)
	}
	if log := s.log.String(); strings.Count(log, "method=whoAreYou") != 1 {
		t.Errorf("the unknown method is to be logged:\n%s", log)
	}
}

func write(t testing.TB, name string) {
	t.Helper()
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// syncBuffer is a bytes.Buffer for several at once.
type syncBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

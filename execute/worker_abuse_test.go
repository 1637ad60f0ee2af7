// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// answering is a worker in sh; text runs for each request, of which it is given
// the line and its ID, before the answer.
func answering(text string) string {
	return `while read -r line; do id=${line#*'"id":'} id=${id%%,*}; ` + text + `
printf '{"jsonrpc":"2.0","id":%s,"result":"5"}\n' "$id"; done`
}

// shWorker is a worker that is a script in /bin/sh.
func shWorker(t *testing.T, timeout time.Duration, script string, settings config.Worker, pool *Pool) *worker {
	t.Helper()
	settings.Entrypoint, settings.Command = "/bin/sh", []string{"-c", script}
	executor := newExecutor(t, config.Method{
		Type: config.MethodWorker, Timeout: config.Milliseconds(timeout.Milliseconds()), Worker: &settings,
	}, pool)
	return executor.(metered).Executor.(*worker)
}

// asks puts a question of so many bytes.
func (w *worker) asks(t *testing.T, stage Stage, size int) error {
	t.Helper()
	_, err := w.Execute(t.Context(), Call{Stage: stage, Payload: []byte(`"` + strings.Repeat("x", size) + `"`)})
	return err
}

// A worker that guesses what it will be asked reads nothing: what is sent to it
// piles up, and must not hold up anybody.
func TestWorkerThatAnswersWithoutReading(t *testing.T) {
	t.Parallel()
	pool := NewPool(PoolOptions{})
	gate := file(t, "gate")
	oracle := shWorker(t, time.Second, `n=0; while :; do n=$((n+1))
while [ ! -e `+gate+`.$n ]; do sleep 0.01; done
printf '{"jsonrpc":"2.0","id":%s,"result":"5"}\n' $n; done`, config.Worker{}, pool)
	var err error
	for i := 1; err == nil && i < 1000; i++ {
		write(t, gate+"."+strconv.Itoa(i))
		err = oracle.asks(t, StagePreScale, 30_000)
	}
	if got := fault(t, err); got.Kind != KindAnswer && got.Kind != KindTimeout {
		t.Errorf("got kind %q, message %q", got.Kind, got.Message)
	}
	closed := make(chan struct{})
	go func() {
		pool.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
}

// Several that time out together have each used up their time: none is asked
// again.
func TestWorkerTimeoutsAreNotAskedAgain(t *testing.T) {
	t.Parallel()
	asked := file(t, "asked")
	hanging := shWorker(t, time.Second, `while read -r line; do echo asked >>`+asked+`; done`, config.Worker{MaxInFlight: 4}, newPool(t, PoolOptions{}))
	var calls sync.WaitGroup
	for range 4 {
		calls.Go(func() {
			if got := fault(t, hanging.asks(t, StageMetric, 1)); got.Kind != KindTimeout {
				t.Errorf("got kind %q, message %q", got.Kind, got.Message)
			}
		})
	}
	calls.Wait()
	content, err := os.ReadFile(asked)
	if err != nil {
		t.Fatal(err)
	}
	// One that was sent a moment later may have been asked again.
	if n := strings.Count(string(content), "\n"); n > 5 {
		t.Errorf("4 questions were put %d times", n)
	}
}

// Recycled processes that do not end are no more than those that work.
func TestWorkersThatLinger(t *testing.T) {
	t.Parallel()
	lingering := shWorker(t, patience, answering("")+"; exec sleep 600", config.Worker{Processes: 2, MaxRequests: 2}, newPool(t, PoolOptions{}))
	most := 0
	for range 100 {
		if err := lingering.asks(t, StageMetric, 1); err != nil {
			t.Fatal(err)
		}
		lingering.crew.mu.Lock()
		most = max(most, len(lingering.crew.processes))
		lingering.crew.mu.Unlock()
	}
	// Two that work, two that linger, and one that is being killed for that.
	if most > 6 {
		t.Errorf("there were %d processes at once", most)
	}
}

// When no more processes can be started, those that are there do the work.
func TestWorkerThatCannotBeStartedBesideOthers(t *testing.T) {
	t.Parallel()
	gate := file(t, "gate")
	program := writeFile(t, "worker", "#!/bin/sh\n"+answering("while [ ! -e "+gate+" ]; do sleep 0.01; done"), 0o755)
	pool := newPool(t, PoolOptions{})
	w := newExecutor(t, config.Method{
		Type: config.MethodWorker, Timeout: config.Milliseconds(patience.Milliseconds()), Worker: &config.Worker{Entrypoint: program, Processes: 2, MaxInFlight: 2},
	}, pool).(metered).Executor.(*worker)
	var calls sync.WaitGroup
	ask := func() {
		calls.Go(func() {
			if err := w.asks(t, StageMetric, 1); err != nil {
				t.Error(err)
			}
		})
	}
	ask()
	eventually(t, "it is there", func() bool { return w.crew.count() == 1 })
	if err := os.Remove(program); err != nil { // as if no more processes were allowed
		t.Fatal(err)
	}
	ask()
	ask()
	eventually(t, "they wait", func() bool {
		w.crew.mu.Lock()
		defer w.crew.mu.Unlock()
		return len(w.crew.processes[0].inFlight) == 2 && len(w.crew.waiting) == 1
	})
	write(t, gate)
	calls.Wait()
}

func (c *crew) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.processes)
}

// A process that has ended, and of which only a pipe is left, is not asked.
func TestWorkerThatIsGoneIsNotAsked(t *testing.T) {
	t.Parallel()
	once := file(t, "once")
	leaving := shWorker(t, patience, `if mkdir `+once+` 2>/dev/null; then
read -r line; printf '{"jsonrpc":"2.0","id":1,"result":"5"}\n'; setsid sleep 600 & echo $! >`+once+`/pid; exit 0; fi
`+answering(""), config.Worker{}, newPool(t, PoolOptions{}))
	if err := leaving.asks(t, StageEvaluate, 1); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		content, err := os.ReadFile(filepath.Join(once, "pid"))
		if err != nil {
			t.Fatal(err)
		}
		kill(t, pids(t, string(content))[0])
	})
	eventually(t, "it is known to be gone", func() bool {
		leaving.crew.mu.Lock()
		defer leaving.crew.mu.Unlock()
		return len(leaving.crew.processes) == 0 || leaving.crew.processes[0].gone || leaving.crew.failures > 0
	})
	if err := leaving.asks(t, StagePreScale, 1); err != nil {
		t.Error(err)
	}
}

// What must not be asked twice is not put to a process that may be killed for
// another question.
func TestWorkerStagesWithEffectsAreAlone(t *testing.T) {
	t.Parallel()
	hanging := shWorker(t, time.Second, answering(`case $line in *hang*) sleep 600 ;; esac`), config.Worker{MaxInFlight: 8}, newPool(t, PoolOptions{}))
	ctx, cancel := context.WithCancelCause(t.Context())
	abandoned := make(chan error, 1)
	go func() {
		_, err := hanging.Execute(ctx, Call{Stage: StageMetric, Payload: []byte(`"hang"`)})
		abandoned <- err
	}()
	eventually(t, "it is asked", func() bool { return hanging.crew.count() == 1 })
	cancel(errors.New("enough"))
	if got := fault(t, <-abandoned); got.Kind != KindCanceled {
		t.Errorf("got kind %q, message %q", got.Kind, got.Message)
	}
	if err := hanging.asks(t, StagePreScale, 1); err != nil {
		t.Error(err)
	}
}

// However many wait, each has the time that those before it may take.
func TestWorkerQueuesAreServed(t *testing.T) {
	t.Parallel()
	slow := shWorker(t, 3*time.Second, answering("sleep 1"), config.Worker{}, newPool(t, PoolOptions{}))
	var calls sync.WaitGroup
	for range 6 {
		calls.Go(func() {
			if err := slow.asks(t, StageEvaluate, 1); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
}

func TestWorkerMistakesAreNamed(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ answer, want string }{
		{`{"jsonrpc":"2.0","id":ID,"error":"boom"}`, "error \"boom\", which is no object with a whole number `code` and a text `message`"},
		{`{"jsonrpc":"2.0","id":ID,"error":{"message":"boom"}}`, "error {\"message\":\"boom\"}, which is no object with a whole number `code` and a text `message`"},
		{`{"jsonrpc":"2.0","id":ID,"error":{"code":"E1","message":"boom"}}`, "error {\"code\":\"E1\",\"message\":\"boom\"}, which is no object with a whole number `code` and a text `message`"},
		{`{"jsonrpc":"2.0","id":ID,"error":null,"result":"5"}`, ""},
		{`{"jsonrpc":"2.0","id":ID,"method":"metric","params":1,"result":"5"}`, ""},
		{`{"jsonrpc":"2.0","id":ID,"result":"5"}\n`, ""}, // an empty line follows
	} {
		script := `while read -r line; do id=${line#*'"id":'} id=${id%%,*}; printf '` + strings.Replace(test.answer, "ID", "%s", 1) + `\n' "$id"; done`
		w := shWorker(t, patience, script, config.Worker{}, newPool(t, PoolOptions{}))
		err := w.asks(t, StagePreScale, 1)
		if test.want == "" && err != nil || test.want != "" && (err == nil || err.Error() != test.want) {
			t.Errorf("%s: got %v, want %q", test.answer, err, test.want)
		}
		if w.crew.count() != 1 {
			t.Errorf("%s: the process was replaced", test.answer)
		}
	}
}

// Empty lines between answers are no flood, however many there are of both.
func TestWorkerAnswersWithEmptyLines(t *testing.T) {
	t.Parallel()
	w := shWorker(t, patience, answering("echo"), config.Worker{}, newPool(t, PoolOptions{}))
	for range 2 * maxUnasked {
		if err := w.asks(t, StagePreScale, 1); err != nil {
			t.Fatal(err)
		}
	}
}

// Processes that die together, as when memory is short, are all replaced at once:
// that they are many is no sign that they will die again.
func TestWorkersThatDieTogetherAreReplacedTogether(t *testing.T) {
	t.Parallel()
	s := hire(t, patience, config.Worker{Processes: 8}, PoolOptions{})
	gate := file(t, "gate")
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() { s.answers(StageMetric, order{Gate: gate}) })
	}
	eventually(t, "they are there", func() bool { return len(s.processes()) == 8 })
	write(t, gate)
	calls.Wait()
	for _, pid := range s.processes() {
		kill(t, pid)
	}
	crew := s.Executor.(metered).Executor.(*worker).crew
	eventually(t, "they are replaced", func() bool { return len(s.processes()) == 16 && crew.count() == 8 })
	crew.mu.Lock()
	defer crew.mu.Unlock()
	if crew.failures > 1 || !crew.notBefore.IsZero() {
		t.Errorf("%d failures were counted", crew.failures)
	}
	if log := s.log.String(); !strings.Contains(log, `reason="the worker ended while it was idle: killed by SIGKILL`) {
		t.Errorf("the log says\n%s", log)
	}
}

// What a failure shows of stderr was written since the process was last idle.
func TestWorkerFailuresShowTheirOwnStderr(t *testing.T) {
	t.Parallel()
	s := hire(t, patience, config.Worker{}, PoolOptions{})
	s.answers(StagePreScale, order{Do: "stderr", Text: "long ago"})
	eventually(t, "it is read", func() bool { return strings.Contains(s.log.String(), "long ago") })
	_, err := s.ask(StagePreScale, order{Do: "crash"})
	if got := fault(t, err); got.Stderr != "on my way\n" {
		t.Errorf("got %q", got.Stderr)
	}
}

// Closing answers those who wait.
func TestClosingThePoolAnswersWhoWaits(t *testing.T) {
	t.Parallel()
	pool := NewPool(PoolOptions{})
	busy := shWorker(t, patience, "sleep 600", config.Worker{}, pool)
	failed := make(chan error, 2)
	for range 2 {
		go func() { failed <- busy.asks(t, StagePreScale, 1) }()
	}
	eventually(t, "one is asked, one waits", func() bool {
		busy.crew.mu.Lock()
		defer busy.crew.mu.Unlock()
		return len(busy.crew.processes) == 1 && len(busy.crew.waiting) == 1
	})
	pool.Close()
	for range 2 {
		if err := <-failed; err == nil {
			t.Error("one of them has an answer")
		}
	}
}

// When what was next in turn gives up, those behind it go on.
func TestWorkerTurnsGoOn(t *testing.T) {
	t.Parallel()
	gate := file(t, "gate")
	w := shWorker(t, patience, answering("while [ ! -e "+gate+" ]; do sleep 0.01; done"), config.Worker{MaxInFlight: 2}, newPool(t, PoolOptions{}))
	var calls sync.WaitGroup
	calls.Go(func() {
		if err := w.asks(t, StageMetric, 1); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "one is asked", func() bool { return w.crew.count() == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error, 1)
	go func() { // it wants the process for itself
		_, err := w.Execute(ctx, Call{Stage: StagePreScale, Payload: []byte("1")})
		gaveUp <- err
	}()
	waiting := func(number int) func() bool {
		return func() bool {
			w.crew.mu.Lock()
			defer w.crew.mu.Unlock()
			return len(w.crew.waiting) == number
		}
	}
	eventually(t, "it waits", waiting(1))
	calls.Go(func() {
		if err := w.asks(t, StageMetric, 1); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "two wait", waiting(2))
	cancel()
	if err := <-gaveUp; err == nil {
		t.Error("it has an answer")
	}
	eventually(t, "the one behind it is asked", func() bool {
		w.crew.mu.Lock()
		defer w.crew.mu.Unlock()
		return len(w.crew.waiting) == 0 && len(w.crew.processes[0].inFlight) == 2
	})
	write(t, gate)
	calls.Wait()
}

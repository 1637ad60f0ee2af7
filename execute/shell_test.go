// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

func TestShellAnswers(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("0123456789abcde\n", 64<<10) // 1 MiB, more than pipes hold
	for _, test := range []struct{ name, script, payload, want string }{
		{"stdout is the value, untrimmed", `echo " 5 "; echo`, "", " 5 \n\n"},
		{"no output is an empty value", "true", "{}", ""},
		{"the payload is stdin, without a line break", "od -An -c", `{"a":1}`, "   {   \"   a   \"   :   1   }\n"},
		{"stderr is not part of the value", "echo no >&2; echo yes", "", "yes\n"},
		{"a large payload comes back", "cat", large, large},
		{"a large payload is read after answering", "echo first; cat >/dev/null", large, "first\n"},
		{"a large payload may be ignored", "echo 5", large, "5\n"},
		{"a large payload may be refused", "exec <&-; echo 5", large, "5\n"},
		{"stdout may be closed early", "echo 5; exec >&-; cat >/dev/null", large, "5\n"},
		{"both pipes at once", "cat >&2; echo 5", large, "5\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			result, err := script(t, patience, test.script).Execute(t.Context(), Call{Stage: StageMetric, Payload: []byte(test.payload)})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, string(result.Output)); diff != "" {
				t.Errorf("output (-want +got):\n%s", diff)
			}
		})
	}
}

func TestShellGetsItsArgumentsEnvironmentAndDirectoryUntouched(t *testing.T) {
	t.Setenv("HOOK_SETTING", "from the operator")
	directory := t.TempDir()
	t.Chdir(directory)
	writeHere(t, "hook.sh", "#!/bin/sh\nprintf '%s|' \"$@\" \"$HOOK_SETTING\" \"$(pwd -P)\"\n")
	resolved, err := filepath.EvalSymlinks(directory)
	if err != nil {
		t.Fatal(err)
	}
	executor := newExecutor(t, shellMethod(patience, "./hook.sh", "$HOME", "a b", "*"), newPool(t, PoolOptions{}))
	result, err := executor.Execute(t.Context(), Call{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("$HOME|a b|*|from the operator|"+resolved+"|", string(result.Output)); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

func TestShellFailures(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, script string
		want         Error
	}{
		{"exit status", "echo out; echo err >&2; exit 4", Error{Kind: KindExit, Message: "exit status 4", Stderr: "err\n"}},
		{"exit status of a shell whose child was killed", "exit 137", Error{Kind: KindExit, Message: "exit status 137"}},
		{"a failure with a background process", "sleep 600 & exit 1", Error{Kind: KindExit, Message: "exit status 1"}},
		{"killed", "kill -9 $$", Error{
			Kind:    KindSignal,
			Message: "killed by SIGKILL; not sent by the autoscaler: perhaps the kernel's, because the container ran out of memory",
		}},
		{"terminated", "echo on my way >&2; kill $$", Error{
			Kind: KindSignal, Message: "killed by SIGTERM; not sent by the autoscaler", Stderr: "on my way\n",
		}},
		{"crashed", "ulimit -c 0; kill -SEGV $$", Error{
			Kind: KindSignal, Message: "killed by SIGSEGV; the program crashed",
		}},
		{"stderr that is not UTF-8", `printf 'a\377b' >&2; exit 1`, Error{Kind: KindExit, Message: "exit status 1", Stderr: "a?b"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := script(t, patience, test.script).Execute(t.Context(), Call{Stage: StageMetric, Subject: "pod-1", Payload: []byte("{}")})
			test.want.Stage, test.want.Subject = StageMetric, "pod-1"
			if diff := cmp.Diff(&test.want, fault(t, err)); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

func TestShellKeepsTheEndOfALongStderr(t *testing.T) {
	t.Parallel()
	_, err := script(t, patience, "head -c 100000 /dev/zero | tr '\\0' x >&2; echo the reason >&2; exit 1").Execute(t.Context(), Call{})
	stderr := fault(t, err).Stderr
	if len(stderr) != maxTail || !strings.HasSuffix(stderr, "xxxthe reason\n") {
		t.Errorf("got %d bytes of stderr that end in %q", len(stderr), stderr[max(0, len(stderr)-20):])
	}
}

func TestShellLogsStderrLineByLine(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	method := shellMethod(patience, "/bin/sh", "-c", "echo one >&2; echo >&2; printf 'two\\r\\nno end' >&2; exit 1")
	method.Shell.LogStderr = true
	executor := newExecutor(t, method, newPool(t, PoolOptions{Log: textLog(&log)}))
	_, err := executor.Execute(t.Context(), Call{Stage: StageMetric, Subject: "pod-1"})
	if stderr := fault(t, err).Stderr; stderr != "" {
		t.Errorf("stderr %q is in the error too", stderr)
	}
	want := `level=INFO msg="hook wrote to stderr" stage=metric pod=pod-1 line=one
level=INFO msg="hook wrote to stderr" stage=metric pod=pod-1 line=two
level=INFO msg="hook wrote to stderr" stage=metric pod=pod-1 line="no end"
`
	if diff := cmp.Diff(want, log.String()); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

func TestShellTimeout(t *testing.T) {
	t.Parallel()
	const timeout = 3 * time.Second
	for _, test := range []struct{ name, script, want string }{
		{
			"nothing comes", "echo $$ >&2; sleep 600",
			"no answer within 3s (timeout); killed with its process group",
		},
		{
			"it ignores polite signals", "trap '' TERM INT HUP; echo $$ >&2; while :; do sleep 1; done",
			"no answer within 3s (timeout); killed with its process group",
		},
		{
			"a grandchild holds stdout", "sleep 600 2>/dev/null & echo $! >&2",
			"exited, but a process it started holds its stdout open: no end of the answer within 3s (timeout); killed with its process group",
		},
		{
			"a grandchild holds stderr", "sleep 600 >/dev/null & echo $! >&2",
			"exited, but a process it started holds its stderr open: no end of that within 3s (timeout); killed with its process group",
		},
		{
			"it is stopped", "echo $$ >&2; kill -STOP $$",
			"no answer within 3s (timeout); killed with its process group",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := script(t, timeout, test.script).Execute(t.Context(), Call{Payload: make([]byte, 1<<20)})
			failed := fault(t, err)
			if diff := cmp.Diff(test.want, failed.Message); diff != "" || failed.Kind != KindTimeout {
				t.Errorf("kind %q, message (-want +got):\n%s", failed.Kind, diff)
			}
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the cause is %v", failed.Err)
			}
			eventuallyGone(t, pids(t, failed.Stderr)...)
		})
	}
}

func TestShellKillsItsWholeGroup(t *testing.T) {
	t.Parallel()
	ids := filepath.Join(t.TempDir(), "ids")
	executor := script(t, patience, fmt.Sprintf(`exec 2>>'%s'
		sleep 600 & echo $! >&2
		sh -c 'sleep 600 & echo $! >&2; wait' & echo $! >&2
		(trap "" TERM; sleep 600 & echo $! >&2; wait) & echo $$ >&2
		wait`, ids))
	ctx, cancel := context.WithCancelCause(t.Context())
	failed := make(chan error)
	go func() {
		_, err := executor.Execute(ctx, Call{Stage: StageEvaluate})
		failed <- err
	}()
	var text []byte
	eventually(t, "all processes run", func() bool {
		text, _ = os.ReadFile(ids)
		return bytes.Count(text, []byte("\n")) == 5
	})
	for _, pid := range pids(t, string(text)) {
		if !running(pid) {
			t.Errorf("process %d has ended too early", pid)
		}
	}
	cancel(errors.New("shutting down"))
	got := fault(t, <-failed)
	want := "no answer before the call was cancelled: shutting down; killed with its process group"
	if got.Kind != KindCanceled || got.Message != want {
		t.Errorf("got kind %q, message %q", got.Kind, got.Message)
	}
	eventuallyGone(t, pids(t, string(text))...)
}

func TestShellKillsWhatAFailureLeavesBehind(t *testing.T) {
	t.Parallel()
	_, err := script(t, patience, "sleep 600 >/dev/null 2>&1 & echo $! >&2; exit 1").Execute(t.Context(), Call{})
	eventuallyGone(t, pids(t, fault(t, err).Stderr)...)
}

func TestShellLeavesAloneWhatASuccessLeavesBehind(t *testing.T) {
	t.Parallel()
	result, err := script(t, patience, "sleep 600 >/dev/null 2>&1 & echo $!").Execute(t.Context(), Call{})
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids(t, string(result.Output)) {
		if !running(pid) {
			t.Errorf("process %d has been killed", pid)
		}
		kill(t, pid)
	}
}

// A process in a session of its own is out of our reach, but not able to keep
// us waiting.
func TestShellIsNotHeldByAnotherSession(t *testing.T) {
	t.Parallel()
	executor := newExecutor(t, shellMethod(3*time.Second, self(t), "leave-session"), newPool(t, PoolOptions{}))
	_, err := executor.Execute(t.Context(), Call{})
	failed := fault(t, err)
	for _, pid := range pids(t, failed.Stderr) {
		defer kill(t, pid)
		if !running(pid) {
			t.Errorf("process %d was not out of reach: the test tests nothing", pid)
		}
	}
	if failed.Kind != KindTimeout || !strings.Contains(failed.Message, "holds its stdout open") {
		t.Errorf("got kind %q, message %q", failed.Kind, failed.Message)
	}
}

func TestShellKillsAProgramThatChangedItsGroup(t *testing.T) {
	t.Parallel()
	executor := newExecutor(t, shellMethod(3*time.Second, self(t), "change-group"), newPool(t, PoolOptions{}))
	_, err := executor.Execute(t.Context(), Call{})
	failed := fault(t, err)
	if want := "no answer within 3s (timeout); killed with its process group"; failed.Message != want {
		t.Errorf("got message %q", failed.Message)
	}
	ids := pids(t, failed.Stderr)
	eventuallyGone(t, ids[0])
	kill(t, ids[1])
	eventuallyGone(t, ids[1])
}

func TestShellOutputIsBounded(t *testing.T) {
	t.Parallel()
	pool := newPool(t, PoolOptions{MaxOutputBytes: 100_000})
	for size, fails := range map[int]bool{99_999: false, 100_000: false, 100_001: true} {
		method := shellMethod(patience, "/bin/sh", "-c", fmt.Sprintf("head -c %d /dev/zero", size))
		result, err := newExecutor(t, method, pool).Execute(t.Context(), Call{})
		if !fails && (err != nil || len(result.Output) != size) {
			t.Errorf("%d bytes: got %d, error %v", size, len(result.Output), err)
		}
		if want := "printed more than 100000 bytes, the limit set by maxOutputBytes; killed"; fails &&
			(fault(t, err).Kind != KindOutput || err.Error() != want) {
			t.Errorf("%d bytes: got %v", size, err)
		}
	}
	boundless := newPool(t, PoolOptions{MaxOutputBytes: math.MaxInt64})
	if result, err := newExecutor(t, shellMethod(patience, "echo", "5"), boundless).Execute(t.Context(), Call{}); string(result.Output) != "5\n" {
		t.Errorf("without a bound: got %q, %v", result.Output, err)
	}
	endless := newExecutor(t, shellMethod(patience, "/bin/sh", "-c", "echo $$ >&2; while :; do echo more; done"), pool)
	_, err := endless.Execute(t.Context(), Call{})
	eventuallyGone(t, pids(t, fault(t, err).Stderr)...)
}

func TestShellDoesNotStartWhatWouldBeTooLate(t *testing.T) {
	t.Parallel()
	trace := filepath.Join(t.TempDir(), "trace")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("shutting down"))
	_, err := script(t, patience, "echo >"+trace).Execute(ctx, Call{})
	if failed := fault(t, err); failed.Kind != KindCanceled || failed.Message != "not started before the call was cancelled: shutting down" {
		t.Errorf("got kind %q, message %q", failed.Kind, failed.Message)
	}
	if _, err := os.Stat(trace); err == nil {
		t.Error("it was started")
	}
}

func TestShellHeedsTheCallersDeadline(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := script(t, patience, "sleep 600").Execute(ctx, Call{})
	want := "no answer before the caller's deadline; killed with its process group"
	if failed := fault(t, err); failed.Kind != KindTimeout || failed.Message != want {
		t.Errorf("got kind %q, message %q", failed.Kind, failed.Message)
	}
}

func TestShellConcurrently(t *testing.T) {
	t.Parallel()
	executor := script(t, patience, "cat; exit $(cat /dev/null)0")
	var calls sync.WaitGroup
	for i := range 64 {
		calls.Go(func() {
			result, err := executor.Execute(t.Context(), Call{Payload: []byte(strconv.Itoa(i))})
			if err != nil || string(result.Output) != strconv.Itoa(i) {
				t.Errorf("call %d: got %q, %v", i, result.Output, err)
			}
		})
	}
	calls.Wait()
}

// A program that outlives its killing, as one that hangs in the kernel does,
// must not keep the call waiting; it is reaped when it does end.
func TestShellAbandonsAProgramThatCannotBeKilled(t *testing.T) {
	t.Parallel()
	var known children
	hanging, err := startGroup(&known, "sleep", []string{"600"})
	if err != nil {
		t.Fatal(err)
	}
	// All of converse but waiting for the exit, which never comes.
	for _, ended := range []chan struct{}{hanging.stdoutEnded, hanging.stderrEnded, hanging.fed} {
		close(ended)
	}
	hanging.kill()
	if hanging.end(t.Context()) {
		t.Error("it is said to have ended")
	}
	close(hanging.exited)
	eventually(t, "it is reaped", func() bool {
		_, there := known.known.Load(hanging.leader.Process.Pid)
		return !there
	})
}

func TestNewRefusesWhatItCannotRun(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		method config.Method
		want   string
	}{
		{config.Method{Type: "grpc"}, `the method's type "grpc" is unknown`},
		{config.Method{Type: config.MethodShell, HTTP: &config.HTTP{}}, `the method has the type "shell" but no block "shell"`},
		{config.Method{Type: config.MethodWorker, Shell: &config.Shell{}}, `the method has the type "worker" but no block "worker"`},
		{config.Method{Type: config.MethodHTTP}, `the method has the type "http" but no block "http"`},
		{config.Method{Type: config.MethodHTTP, HTTP: &config.HTTP{Method: "G ET", URL: "http://a"}}, `http: net/http: invalid method "G ET"`},
		{config.Method{Type: config.MethodHTTP, HTTP: &config.HTTP{URL: "http://a b"}}, `http: parse "http://a b": invalid character " " in host name`},
	} {
		if _, err := New(test.method, newPool(t, PoolOptions{})); err == nil || err.Error() != test.want {
			t.Errorf("got %v, want %s", err, test.want)
		}
	}
}

func TestMethodsWithoutATimeoutGetTheDefault(t *testing.T) {
	t.Parallel()
	executor, ok := script(t, 0, "true").(metered).Executor.(*shell)
	if !ok || executor.timeout != 5*time.Second {
		t.Errorf("got %+v", executor)
	}
}

func TestFloodsLeaveTheProcessSmall(t *testing.T) {
	t.Parallel()
	child := exec.CommandContext(t.Context(), self(t), "flooded")
	child.Stderr = os.Stderr
	output, err := child.Output()
	if err != nil {
		t.Fatal(err)
	}
	peak, err := strconv.ParseUint(string(output), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if t.Logf("peak memory %d MiB", peak>>20); peak >= 100_000_000 {
		t.Error("that is 100 MB or more")
	}
}

// flooded asks hooks that write 300 MB, and prints what memory that took at
// most, in bytes. It is what Go took from the system: the resident set is less,
// except under the race detector, which multiplies it.
func flooded([]string) {
	pool := NewPool(PoolOptions{})
	for _, flood := range []struct {
		script string
		logged bool
	}{
		{"head -c 300000000 /dev/zero", false},
		{"head -c 300000000 /dev/zero >&2; exit 1", false},
		{"head -c 300000000 /dev/zero >&2; exit 1", true},
		{"yes 'a line of stderr' | head -c 30000000 >&2; exit 1", true},
	} {
		method := shellMethod(5*time.Minute, "/bin/sh", "-c", flood.script)
		method.Shell.LogStderr = flood.logged
		executor, err := New(method, pool)
		must(err)
		_, err = executor.Execute(context.Background(), Call{})
		if failed, ok := errors.AsType[*Error](err); !ok || failed.Kind != KindOutput && failed.Message != "exit status 1" {
			must(fmt.Errorf("%s: got %w", flood.script, err))
		}
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	fmt.Print(memory.Sys)
}

func kill(t *testing.T, pid int) {
	t.Helper()
	process, err := os.FindProcess(pid)
	if err == nil {
		err = process.Kill()
	}
	if err != nil {
		t.Errorf("killing process %d: %v", pid, err)
	}
}

func TestShellBoundsWhatItLogs(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	method := shellMethod(patience, "/bin/sh", "-c", "yes line | head -n 100000 >&2")
	method.Shell.LogStderr = true
	executor := newExecutor(t, method, newPool(t, PoolOptions{Log: slog.New(slog.NewTextHandler(&log, nil))}))
	if _, err := executor.Execute(t.Context(), Call{Stage: StageMetric}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Count(log.String(), "line=line")
	if lines != maxLogged {
		t.Errorf("%d lines are logged, want %d", lines, maxLogged)
	}
	if want := "lines=100000 logged=1000"; !strings.Contains(log.String(), want) {
		t.Errorf("the log does not say %q", want)
	}
}

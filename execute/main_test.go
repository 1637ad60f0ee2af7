// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// roles are what this test binary does when it is started as another process:
// a hook that a shell cannot be, or a process whose figures are to be its own.
var roles = map[string]func(args []string){
	"leave-session": leaveSession,
	"change-group":  changeGroup,
	"flooded":       flooded,
	"worker":        beWorker,
	"ask":           ask,
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if play, ok := roles[os.Args[1]]; ok {
			play(os.Args[2:])
			return
		}
	}
	// With the race detector a process sleeps for a second before it ends.
	must(os.Setenv("GORACE", "atexit_sleep_ms=0"))
	goleak.VerifyTestMain(m)
}

// self is this test binary, to be started in a role.
func self(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// must ends a role that cannot go on.
func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// leaveSession leaves a process behind that has its own session and group and
// holds our stdout, and prints its ID.
func leaveSession([]string) {
	left := exec.CommandContext(context.Background(), "sleep", "600")
	left.Stdout = os.Stdout
	left.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	must(left.Start())
	fmt.Fprintln(os.Stderr, left.Process.Pid)
}

// changeGroup starts a process in a group of its own, joins that group, prints
// the IDs of both, and stays.
func changeGroup([]string) {
	other := exec.CommandContext(context.Background(), "sleep", "600")
	other.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	must(other.Start())
	must(syscall.Setpgid(0, other.Process.Pid))
	fmt.Fprintln(os.Stderr, os.Getpid(), other.Process.Pid)
	must(other.Wait())
}

func newPool(t testing.TB, options PoolOptions) *Pool {
	t.Helper()
	pool := NewPool(options)
	t.Cleanup(pool.Close)
	return pool
}

func newExecutor(t testing.TB, method config.Method, pool *Pool) Executor {
	t.Helper()
	executor, err := New(method, pool)
	if err != nil {
		t.Fatal(err)
	}
	return executor
}

// program is a method that starts a program.
func shellMethod(timeout time.Duration, entrypoint string, command ...string) config.Method {
	return config.Method{
		Type: config.MethodShell, Timeout: config.Milliseconds(timeout.Milliseconds()),
		Shell: &config.Shell{Entrypoint: entrypoint, Command: command},
	}
}

// script is an executor that runs a script in /bin/sh.
func script(t testing.TB, timeout time.Duration, text string) Executor {
	t.Helper()
	return newExecutor(t, shellMethod(timeout, "/bin/sh", "-c", text), newPool(t, PoolOptions{}))
}

// fault is the Error that err must be.
func fault(t testing.TB, err error) *Error {
	t.Helper()
	var failed *Error
	if !errors.As(err, &failed) {
		t.Fatalf("got %T %v, want an *Error", err, err)
	}
	return failed
}

// eventually waits until something holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	tooLate := time.After(patience)
	for !holds() {
		select {
		case <-again.C:
		case <-tooLate:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// pids are the process IDs in a text, of which there must be some.
func pids(t testing.TB, text string) []int {
	t.Helper()
	var all []int
	for field := range strings.FieldsSeq(text) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, pid)
	}
	if len(all) == 0 {
		t.Fatal("no process IDs")
	}
	return all
}

// running says whether a process is there. A zombie that nobody has waited for
// yet is not.
func running(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err == nil && !bytes.Contains(stat, []byte(") Z "))
}

func eventuallyGone(t testing.TB, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		eventually(t, fmt.Sprintf("process %d is gone", pid), func() bool { return !running(pid) })
	}
}

// writeFile writes an executable file. No other test may start a process while
// it is open: that would inherit it, and an open program cannot be executed.
func writeFile(t testing.TB, name, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// textLog is a logger into a text without times.
func textLog(into io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(into, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

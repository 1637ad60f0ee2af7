// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// notPermitted is the exit status of a process that may not see its namespace.
const notPermitted = 77

func init() { roles["adopt"] = adopt }

// TestReap runs adopt in a process that orphans are handed to: as PID 1 of a
// namespace where that is permitted, as a "subreaper" in any case.
func TestReap(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		attr *syscall.SysProcAttr
	}{
		{"as a subreaper", nil},
		{"as PID 1", &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			child := exec.CommandContext(t.Context(), self(t), "adopt")
			child.SysProcAttr = test.attr
			output, err := child.CombinedOutput()
			if test.attr != nil && (errors.Is(err, syscall.EPERM) || child.ProcessState.ExitCode() == notPermitted) {
				t.Log("this user may not make namespaces; the other case does nearly the same")
				return
			}
			if err != nil {
				t.Errorf("%v:\n%s", err, output)
			}
			t.Logf("%s", output)
		})
	}
}

// A hook that has exited, but whose status is not taken yet, looks just like an
// orphan. The test is not parallel: to it the hooks of other tests are orphans.
func TestSweepLeavesHooksAlone(t *testing.T) {
	var known children
	hook := exec.CommandContext(t.Context(), "/bin/sh", "-c", "exit 4")
	hook.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}

	// One that is being started is waited for.
	known.starting.RLock()
	if err := hook.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the hook has exited", func() bool { return isEndedOrphan(hook.Process.Pid) })
	swept := make(chan error, 1)
	go func() { swept <- known.sweep() }()
	eventually(t, "the sweep waits", func() bool {
		waits := !known.starting.TryRLock()
		if !waits {
			known.starting.RUnlock()
		}
		return waits
	})
	known.known.Store(hook.Process.Pid, hook)
	known.starting.RUnlock()
	if err := <-swept; err != nil {
		t.Fatal(err)
	}

	// One that is known is passed over.
	if err := hook.Wait(); err == nil || err.Error() != "exit status 4" {
		t.Errorf("the exit status is lost: %v", err)
	}
}

// adopt reaps orphans while many hooks run that each leave one behind, beside a
// process that was started by plain means. No exit status may be lost, and no
// orphan may stay.
func adopt([]string) {
	pool := NewPool(PoolOptions{})
	reap := pool.Reap
	if os.Getpid() == 1 {
		if syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "") != nil || syscall.Mount("proc", "/proc", "proc", 0, "") != nil {
			os.Exit(notPermitted)
		}
	} else {
		must(reap(context.Background())) // returns at once
		must(unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
		reap = pool.children.reapOrphans
	}
	ctx, stop := context.WithCancel(context.Background())
	reaped := make(chan error, 1)
	go func() { reaped <- reap(ctx) }()

	plain := exec.CommandContext(ctx, "true") // a zombie until the end
	must(plain.Start())
	var busy sync.WaitGroup
	for i := range 8 {
		busy.Go(func() {
			for range 25 {
				must(askForStatus(ctx, pool, i))
			}
		})
	}
	busy.Wait()
	left := awaitChildren(1)
	must(plain.Wait())
	stop()
	must(<-reaped)
	if len(left) > 1 {
		must(fmt.Errorf("children that nobody waited for: %v", left))
	}
	fmt.Printf("process %d reaped all\n", os.Getpid())
}

// askForStatus asks a hook that orphans a process and exits with the status.
func askForStatus(ctx context.Context, pool *Pool, status int) error {
	method := shellMethod(patience, "/bin/sh", "-c", fmt.Sprintf("(sh -c 'exec >&- 2>&-; sleep 0.05' &); exit %d", status))
	executor, err := New(method, pool)
	if err != nil {
		return err
	}
	want := ""
	if status != 0 {
		want = fmt.Sprintf("exit status %d", status)
	}
	got := ""
	if _, err := executor.Execute(ctx, Call{}); err != nil {
		got = err.Error()
	}
	if got != want {
		return fmt.Errorf("a hook with the status %d failed with %q", status, got)
	}
	return nil
}

// awaitChildren waits until no more than so many children are left, living or
// zombies, and returns what is known of those that are.
func awaitChildren(number int) []string {
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	tooLate := time.After(patience)
	for {
		left := childrenLeft()
		if len(left) <= number {
			return left
		}
		select {
		case <-again.C:
		case <-tooLate:
			return left
		}
	}
}

func childrenLeft() (states []string) {
	processes, err := os.ReadDir("/proc")
	must(err)
	for _, process := range processes {
		if _, err := strconv.Atoi(process.Name()); err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + process.Name() + "/stat")
		if err != nil {
			continue
		}
		if fields := strings.Fields(string(stat)); fields[3] == strconv.Itoa(os.Getpid()) {
			states = append(states, string(stat))
		}
	}
	return states
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// drainTime is how long the pipes of a killed group are read on. They end
	// at once, unless a process that left the group holds them; what was
	// written is worth the wait on a machine so busy that reading it takes a
	// while. hastyDrainTime is for when the call's time is over.
	drainTime      = 2 * time.Second
	hastyDrainTime = 200 * time.Millisecond
	// killTime is how long a killed program may take to be gone. It takes no
	// time, unless it hangs in the kernel or belongs to another user.
	killTime = time.Second
)

// group is a running program, the leader, with everything it started that has
// not left its process group.
//
// The leader is reaped at the very end only: until then its process ID, which
// is the group's too, cannot be given to others, so that no stranger is killed.
type group struct {
	leader                *exec.Cmd
	children              *children
	stdin, stdout, stderr *os.File

	exited  chan struct{} // closed when the following are set
	status  syscall.WaitStatus
	waitErr error

	// fed, stdoutEnded and stderrEnded are closed when what converse was given
	// for that pipe has returned.
	fed, stdoutEnded, stderrEnded chan struct{}
}

// startGroup starts a program as the leader of a new process group, with pipes
// as its stdin, stdout and stderr.
func startGroup(children *children, entrypoint string, args []string) (*group, error) {
	ours, theirs, err := openPipes()
	if err != nil {
		return nil, err
	}
	defer closeAll(theirs)
	//nolint:gosec,noctx // running the user's program is the purpose; the whole group is killed, not just the leader
	leader := exec.Command(entrypoint, args...)
	leader.Stdin, leader.Stdout, leader.Stderr = theirs[0], theirs[1], theirs[2]
	leader.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := children.start(leader); err != nil {
		closeAll(ours)
		return nil, err
	}
	return &group{
		leader: leader, children: children, stdin: ours[0], stdout: ours[1], stderr: ours[2],
		exited: make(chan struct{}), stdoutEnded: make(chan struct{}), stderrEnded: make(chan struct{}), fed: make(chan struct{}),
	}, nil
}

// converse begins to feed the program's stdin, which it closes at the end of
// that, to read its stdout and stderr, and to wait for its exit. All at once,
// since a program may do these in any order, and each of them or none.
func (g *group) converse(feed func(io.Writer), readStdout, readStderr func(io.Reader)) {
	go func() {
		defer close(g.fed)
		feed(g.stdin)
		_ = g.stdin.Close()
	}()
	go func() {
		defer close(g.stdoutEnded)
		readStdout(g.stdout)
	}()
	go func() {
		defer close(g.stderrEnded)
		readStderr(g.stderr)
	}()
	go func() {
		defer close(g.exited)
		g.status, g.waitErr = awaitExit(g.leader)
	}()
}

// kill kills the group.
func (g *group) kill() {
	_ = syscall.Kill(-g.leader.Process.Pid, syscall.SIGKILL)
	_ = g.leader.Process.Kill() // it may have joined another group
}

// end waits for everything that converse began, closes the pipes and reaps the
// leader. It reads the pipes on for a while at most, which ends soon after the
// context does, and reports false when the leader outlives being killed.
func (g *group) end(ctx context.Context) bool {
	g.drainFor(drainTime)
	defer context.AfterFunc(ctx, func() { g.drainFor(hastyDrainTime) })()
	<-g.stdoutEnded
	<-g.stderrEnded
	return g.finish()
}

// finish is the rest of end, once stdout and stderr have been read.
func (g *group) finish() bool {
	closeAll([]*os.File{g.stdin, g.stdout, g.stderr})
	<-g.fed
	select {
	case <-g.exited:
		g.children.reap(g.leader)
		return true
	case <-time.After(killTime):
		go func() {
			<-g.exited
			g.children.reap(g.leader)
		}()
		return false
	}
}

// drainFor ends the reading of the pipes after a while.
func (g *group) drainFor(d time.Duration) {
	until := time.Now().Add(d)
	_ = g.stdout.SetReadDeadline(until)
	_ = g.stderr.SetReadDeadline(until)
}

// openPipes opens the pipes of stdin, stdout and stderr.
func openPipes() (ours, theirs []*os.File, err error) {
	for fd := range 3 {
		read, write, err := os.Pipe()
		if err != nil {
			closeAll(ours)
			closeAll(theirs)
			return nil, nil, fmt.Errorf("opening a pipe: %w", err)
		}
		if fd == 0 {
			ours, theirs = append(ours, write), append(theirs, read)
		} else {
			ours, theirs = append(ours, read), append(theirs, write)
		}
	}
	return ours, theirs, nil
}

func closeAll(files []*os.File) {
	for _, file := range files {
		_ = file.Close()
	}
}

// exitFault says why a program's end is a failure; nothing when it is none.
func exitFault(status syscall.WaitStatus, err error) (Kind, string) {
	switch {
	case err != nil:
		return KindExit, fmt.Sprintf("its exit status is unknown: %v", err)
	case status.Signaled():
		return KindSignal, signalFault(status)
	case status.ExitStatus() != 0:
		return KindExit, fmt.Sprintf("exit status %d", status.ExitStatus())
	default:
		return "", ""
	}
}

// signalFault says which signal ended a program and who may have sent it: it
// was not us.
func signalFault(status syscall.WaitStatus) string {
	message := "killed by " + unix.SignalName(status.Signal())
	if status.CoreDump() {
		message += " (core dumped)"
	}
	switch status.Signal() {
	case syscall.SIGKILL:
		message += "; not sent by the autoscaler: perhaps the kernel's, because the container ran out of memory"
	case syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGILL, syscall.SIGFPE, syscall.SIGABRT, syscall.SIGSYS, syscall.SIGTRAP:
		message += "; the program crashed"
	default:
		message += "; not sent by the autoscaler"
	}
	return message
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// process is one running program of the control plane. Its output goes to a
// file, and it is reaped as soon as it ends.
type process struct {
	name, log string
	command   *exec.Cmd
	// exited is closed when the process has ended and been reaped; err then
	// says how.
	exited chan struct{}
	err    error
}

// launch starts a program in the process group of the watchdog.
func launch(name, file, log string, group int, arguments ...string) (*process, error) {
	output, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	defer output.Close() //nolint:errcheck // The process has its own copy; nothing was written through this one.
	p := &process{name: name, log: log, exited: make(chan struct{})}
	p.command = &exec.Cmd{
		Path: file, Args: append([]string{file}, arguments...),
		Stdout: output, Stderr: output,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pgid: group},
	}
	if err := p.command.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		p.err = p.command.Wait()
		close(p.exited)
	}()
	return p, nil
}

// running reports whether the process has not ended. A paused one is running.
func (p *process) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// failure says how a process ended that should not have, with the end of its
// log.
func (p *process) failure() error {
	how := errors.New("exit status 0")
	if p.err != nil {
		how = p.err
	}
	text, err := os.ReadFile(p.log)
	if err != nil {
		return fmt.Errorf("%s ended: %w (its log cannot be read: %v)", p.name, how, err) //nolint:errorlint // How it ended is the cause, not this.
	}
	return fmt.Errorf("%s ended: %w; the end of its log:\n%s", p.name, how, tail(text, 4096))
}

// stop asks the process to end and kills it when it has not within grace.
func (p *process) stop(grace time.Duration) {
	if !p.running() {
		return
	}
	p.signal(syscall.SIGTERM)
	p.signal(syscall.SIGCONT) // A paused process cannot act on the first.
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.exited:
		return
	case <-timer.C:
	}
	p.signal(syscall.SIGKILL)
	<-p.exited
}

// signal sends s; that the process is no more is not an error.
func (p *process) signal(s os.Signal) {
	_ = p.command.Process.Signal(s)
}

// watchdog is a shell that waits for its input to end, which happens when we
// close it and also when this process ends in whatever way, a kill -9
// included. It then removes the directory of the control plane and kills its
// own process group, where all programs of the control plane are. So nothing
// outlives a test that was killed or ran into its deadline. A parent death
// signal would not do: Linux sends it when the *thread* that forked ends, and
// other systems have none.
type watchdog struct {
	command *exec.Cmd
	input   *os.File
}

const watchdogScript = `trap '' HUP INT TERM
while read -r line; do :; done
rm -rf -- "$1"
kill -s KILL 0`

// startWatchdog starts the watchdog of a directory.
func startWatchdog(directory string) (*watchdog, error) {
	shell, err := exec.LookPath("sh")
	if err != nil {
		return nil, fmt.Errorf("starting the watchdog: %w", err)
	}
	// Go opens pipes close-on-exec, so that no other child of this process
	// holds the writing end open.
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("starting the watchdog: %w", err)
	}
	defer read.Close() //nolint:errcheck // Nothing was written through it.
	command := &exec.Cmd{
		Path: shell, Args: []string{"sh", "-c", watchdogScript, "watchdog", directory},
		Dir: "/", Stdin: read, SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
	}
	if err := command.Start(); err != nil {
		_ = write.Close()
		return nil, fmt.Errorf("starting the watchdog: %w", err)
	}
	return &watchdog{command: command, input: write}, nil
}

// group is the process group that ends with the watchdog.
func (w *watchdog) group() int {
	return w.command.Process.Pid
}

// release lets the watchdog do its work and waits until it has.
func (w *watchdog) release() {
	_ = w.input.Close()
	_ = w.command.Wait() // Always "signal: killed", by itself; an error when called again.
}

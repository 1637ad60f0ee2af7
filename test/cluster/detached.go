// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Detached is a control plane that a shell starts and another stops: a process
// of its own holds it (Serve), so that it is as safe there as in a test. Its
// directory holds
//
//	lock        locked by that process for as long as it lives; its process ID
//	kubeconfig  of the administrator, once the control plane is ready
//	state.json  what runs, for Status
//	log         what that process says
type Detached struct {
	directory string
}

// downTimeout is how long Down waits for the control plane to stop before it
// kills it.
const downTimeout = 30 * time.Second

// NewDetached returns the detached control plane of a directory, which is the
// repository's .cache/cluster when empty.
func NewDetached(directory string) (*Detached, error) {
	if directory == "" {
		root, err := repositoryRoot()
		if err != nil {
			return nil, err
		}
		directory = filepath.Join(root, ".cache", "cluster")
	}
	directory, err := filepath.Abs(directory)
	if err != nil {
		return nil, fmt.Errorf("finding the state of the control plane: %w", err)
	}
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return nil, fmt.Errorf("making the directory for the state of the control plane: %w", err)
	}
	return &Detached{directory: directory}, nil
}

// KubeconfigFile returns the administrator's kubeconfig, which is there while
// the control plane is ready.
func (d *Detached) KubeconfigFile() string { return d.file("kubeconfig") }

// Directory returns the directory of the state.
func (d *Detached) Directory() string { return d.directory }

func (d *Detached) file(name string) string { return filepath.Join(d.directory, name) }

// ErrRunning says that the control plane runs already.
var ErrRunning = errors.New("the control plane is running already")

// Up builds what is missing, starts the control plane in a process of its own
// and returns when it is ready, or with ErrRunning. That process is this
// program with the given arguments, with which it must call Serve. Cancelling
// ctx before it is ready stops it.
func (d *Detached) Up(ctx context.Context, progress io.Writer, arguments ...string) error {
	running, err := d.running()
	if err != nil {
		return err
	}
	if running {
		return ErrRunning
	}
	if _, err := Build(ctx, progress); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startAttempts*startTimeout)
	defer cancel()
	log, err := os.OpenFile(d.file("log"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("starting the control plane: %w", err)
	}
	defer log.Close() //nolint:errcheck // The server has its own copy; nothing was written through this one.
	server, ready, err := startServer(log, arguments)
	if err != nil {
		return fmt.Errorf("starting the control plane: %w", err)
	}
	defer ready.Close() //nolint:errcheck // It is only read.
	release := context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Now()) })
	defer release()
	if _, err := bufio.NewReader(ready).ReadString('\n'); err != nil {
		return d.startFailed(ctx, server)
	}
	return server.Release()
}

// startServer starts this program again with other arguments, in a session of
// its own, where nothing that happens to our terminal reaches it. It reports on
// its file descriptor 3.
func startServer(log *os.File, arguments []string) (server *os.Process, ready *os.File, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	ready, write, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer write.Close() //nolint:errcheck // The server has its own copy.
	command := &exec.Cmd{
		Path: self, Args: append([]string{self}, arguments...),
		Stdout: log, Stderr: log, ExtraFiles: []*os.File{write},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := command.Start(); err != nil {
		_ = ready.Close()
		return nil, nil, err
	}
	return command.Process, ready, nil
}

// startFailed ends a server that did not become ready and says why it did not.
func (d *Detached) startFailed(ctx context.Context, server *os.Process) error {
	_ = server.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(downTimeout, func() { _ = server.Kill() })
	defer kill.Stop()
	_, _ = server.Wait()
	if ctx.Err() != nil {
		return fmt.Errorf("starting the control plane: %w", context.Cause(ctx))
	}
	said, err := os.ReadFile(d.file("log"))
	if err != nil {
		return fmt.Errorf("starting the control plane: it ended, and why cannot be read: %w", err)
	}
	return fmt.Errorf("starting the control plane: it ended and said:\n%s", tail(said, 8192))
}

// ServerReady returns the file on which the process that Up starts reports that
// it is ready.
func ServerReady() *os.File { return os.NewFile(3, "ready") }

// Serve runs the control plane until ctx ends, and removes it then. It writes a
// line to ready, and closes it, when everything is up. Programs that end on the
// way are logged and shown by Status; the others run on.
func (d *Detached) Serve(ctx context.Context, ready io.WriteCloser, log io.Writer) error {
	held, err := d.hold(ctx)
	if err != nil {
		return err
	}
	defer held.Close() //nolint:errcheck // Closing ends the lock, whatever it returns.
	// What one that was killed left would be taken for this one's.
	d.clean()
	c, err := Start(ctx, Options{Progress: log})
	if err != nil {
		return err
	}
	defer c.Stop()
	defer d.clean()
	if err := d.publish(c); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(ready, "ready")
	_ = ready.Close()
	return d.watch(ctx, c, log)
}

// hold takes the lock and leaves the process ID in it. Others hold it for a
// moment only, to see whether it is free, so one that is held longer is that of
// a control plane.
func (d *Detached) hold(ctx context.Context) (*os.File, error) {
	attempt, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	held, err := lock(attempt, d.file("lock"), nil)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, ErrRunning
	}
	if err != nil {
		return nil, err
	}
	if err = held.Truncate(0); err == nil {
		_, err = held.WriteString(strconv.Itoa(os.Getpid()))
	}
	if err != nil {
		_ = held.Close()
		return nil, fmt.Errorf("writing the process ID: %w", err)
	}
	return held, nil
}

// watch keeps the state up to date until ctx ends.
func (d *Detached) watch(ctx context.Context, c *Cluster, log io.Writer) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	running := c.Running()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		now := c.Running()
		if maps.Equal(now, running) {
			continue
		}
		for name := range running {
			if _, found := now[name]; !found {
				say(log, "%v", c.program(name).failure())
			}
		}
		running = now
		if err := d.writeState(c); err != nil {
			return err
		}
	}
}

// state is what Status shows.
type state struct {
	Server   string         `json:"server"`
	Logs     string         `json:"logs"`
	Running  map[string]int `json:"running"`
	Programs []string       `json:"programs"`
}

// publish writes what others use: the kubeconfig and the state.
func (d *Detached) publish(c *Cluster) error {
	kubeconfig, err := os.ReadFile(c.KubeconfigFile())
	if err != nil {
		return fmt.Errorf("publishing the kubeconfig: %w", err)
	}
	if err := writeWhole(d.KubeconfigFile(), kubeconfig); err != nil {
		return fmt.Errorf("publishing the kubeconfig: %w", err)
	}
	return d.writeState(c)
}

func (d *Detached) writeState(c *Cluster) error {
	content, err := json.Marshal(state{
		Server: c.config.Host, Logs: c.Directory(), Running: c.Running(), Programs: c.programNames(),
	})
	if err != nil {
		return fmt.Errorf("writing the state: %w", err)
	}
	if err := writeWhole(d.file("state.json"), content); err != nil {
		return fmt.Errorf("writing the state: %w", err)
	}
	return nil
}

// writeWhole replaces a file so that nobody sees half of it.
func writeWhole(file string, content []byte) error {
	partial := file + ".partial"
	if err := os.WriteFile(partial, content, 0o600); err != nil {
		return err
	}
	return os.Rename(partial, file)
}

// clean removes what publish wrote.
func (d *Detached) clean() {
	_ = os.Remove(d.KubeconfigFile())
	_ = os.Remove(d.file("state.json"))
}

// running reports whether a process holds the control plane.
func (d *Detached) running() (bool, error) {
	held, err := tryLock(d.file("lock"))
	if err != nil {
		return false, err
	}
	if held == nil {
		return true, nil
	}
	return false, held.Close()
}

// Down stops the control plane and waits until it is gone, killing it when that
// takes more than half a minute. It reports whether there was one; what one
// that was killed left behind is removed in any case.
func (d *Detached) Down(ctx context.Context) (found bool, err error) {
	found, err = d.running()
	if err != nil {
		return false, err
	}
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if found {
			if err := d.signal(signal); err != nil {
				return true, err
			}
		}
		attempt, cancel := context.WithTimeout(ctx, downTimeout)
		held, err := lock(attempt, d.file("lock"), nil)
		cancel()
		if err == nil {
			d.clean()
			return found, held.Close()
		}
		if ctx.Err() != nil {
			return found, fmt.Errorf("stopping the control plane: %w", err)
		}
	}
	return found, fmt.Errorf("stopping the control plane: its process does not end; see %s", d.file("log"))
}

// signal signals the process that holds the lock. Its ID is only believed
// because the lock is held: nobody else writes it.
func (d *Detached) signal(signal syscall.Signal) error {
	content, err := os.ReadFile(d.file("lock"))
	if err != nil {
		return fmt.Errorf("stopping the control plane: %w", err)
	}
	pid, err := strconv.Atoi(string(content))
	if err != nil {
		return errors.New("stopping the control plane: it is only just starting; try again")
	}
	if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stopping the control plane (process %d): %w", pid, err)
	}
	return nil
}

// Status describes the control plane and reports whether it is up with all of
// its programs.
func (d *Detached) Status() (description string, up bool, err error) {
	running, err := d.running()
	if err != nil {
		return "", false, err
	}
	if !running {
		return "no control plane is running\n", false, nil
	}
	content, err := os.ReadFile(d.file("state.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return "the control plane is starting; see " + d.file("log") + "\n", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("reading the state: %w", err)
	}
	var s state
	if err := json.Unmarshal(content, &s); err != nil {
		return "", false, fmt.Errorf("reading the state %s: %w", d.file("state.json"), err)
	}
	return s.describe(d.KubeconfigFile()), len(s.Running) == len(s.Programs), nil
}

func (s state) describe(kubeconfig string) string {
	var text strings.Builder
	say(&text, "the control plane runs at %s", s.Server)
	say(&text, "kubeconfig: %s", kubeconfig)
	for _, name := range s.Programs {
		if pid, found := s.Running[name]; found {
			say(&text, "%s: process %d", name, pid)
		} else {
			say(&text, "%s: ended; see %s", name, filepath.Join(s.Logs, name+".log"))
		}
	}
	return text.String()
}

// programNames returns the names of the programs that were started, sorted.
func (c *Cluster) programNames() []string {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return slices.Sorted(maps.Keys(c.processes))
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"syscall"
	"time"
)

const (
	module = "github.com/custom-pod-autoscaler/custom-pod-autoscaler"
	// tailLines is how much of its log is shown when it fails.
	tailLines = 20
	// stopTimeout is how long it may take to end.
	stopTimeout = 10 * time.Second
)

// files are what lies in the autoscaler's working directory.
//
//go:embed config.yaml hooks
var files embed.FS

// workshop is the demo's temporary directory and a shell that watches over it.
// The shell waits for its input to end, which happens when we close it and also
// when this process ends in whatever way. It then removes the directory and
// kills its own process group, where the runtime is.
type workshop struct {
	directory string
	guard     *exec.Cmd
	input     *os.File
}

const guardScript = `trap '' HUP INT TERM
while read -r line; do :; done
rm -rf -- "$1"
kill -s KILL 0`

func openWorkshop() (*workshop, error) {
	directory, err := os.MkdirTemp("", "custom-pod-autoscaler-demo-")
	if err != nil {
		return nil, fmt.Errorf("making a directory: %w", err)
	}
	read, write, err := os.Pipe()
	if err == nil {
		defer read.Close() //nolint:errcheck // Nothing is written through it.
		w := &workshop{directory: directory, input: write}
		w.guard = &exec.Cmd{
			Path: "/bin/sh", Args: []string{"sh", "-c", guardScript, "guard", directory},
			Dir: "/", Stdin: read, SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
		}
		if err = w.guard.Start(); err == nil {
			return w, nil
		}
		_ = write.Close()
	}
	_ = os.RemoveAll(directory)
	return nil, fmt.Errorf("starting the guard of the directory: %w", err)
}

// close lets the guard do its work and waits until it has.
func (w *workshop) close() {
	_ = w.input.Close()
	_ = w.guard.Wait() // Always "signal: killed", by itself.
}

// command is one that the guard ends if we cannot.
func (w *workshop) command(path string, args ...string) *exec.Cmd {
	return &exec.Cmd{
		Path: path, Args: append([]string{path}, args...),
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pgid: w.guard.Process.Pid},
	}
}

// build builds the program and puts its hooks and configuration beside it.
func (w *workshop) build(ctx context.Context) error {
	if err := os.CopyFS(w.directory, files); err != nil {
		return fmt.Errorf("writing the hooks: %w", err)
	}
	tool, err := exec.LookPath("go")
	if err != nil {
		return fmt.Errorf("building the runtime: %w", err)
	}
	build := w.command(tool, "build", "-o", w.program(), module+"/cmd/custom-pod-autoscaler")
	// What an interrupted build leaves behind is removed with the directory.
	build.Env = append(os.Environ(), "GOTMPDIR="+w.directory)
	var output bytes.Buffer
	build.Stdout, build.Stderr = &output, &output
	if err := build.Start(); err != nil {
		return fmt.Errorf("building the runtime: %w", err)
	}
	release := context.AfterFunc(ctx, func() { _ = build.Process.Signal(os.Interrupt) })
	defer release()
	if err := build.Wait(); err != nil {
		return fmt.Errorf("building the runtime: %w\n%s", err, &output)
	}
	return nil
}

func (w *workshop) program() string { return filepath.Join(w.directory, "custom-pod-autoscaler") }

// runtime is the program, running.
type runtime struct {
	command *exec.Cmd
	// lines are what it logs; closed when it has ended, and err and tail are
	// set by then.
	lines   chan line
	err     error
	tail    []string
	address string
}

// line is what a line of its log may say.
type line struct {
	Level, Msg, Error, Stage, Reason, RunType string
	From, To                                  int
	// Line is what a hook wrote to stderr.
	Line string
	// Address is where the REST API listens.
	Address string
}

// What the lines of interest are called.
const (
	msgServing = "Serving the REST API"
	msgStderr  = "hook wrote to stderr"
	msgFailed  = "Run failed"
	msgScaled  = "Scaled"
)

// start starts the program.
func (w *workshop) start(p *place, environment []string) (*runtime, error) {
	r := &runtime{lines: make(chan line, 100)}
	r.command = w.command(w.program(), "--config", "config.yaml", "--kubeconfig", p.kubeconfig)
	r.command.Dir = w.directory
	// Its control socket goes with the workshop, also when it is killed.
	r.command.Env = append(os.Environ(), "TMPDIR="+w.directory,
		"namespace="+p.namespace, fmt.Sprintf("millicoresPerPod=%d", millicoresPerPod))
	r.command.Env = append(r.command.Env, environment...)
	log, err := r.command.StderrPipe()
	if err == nil {
		err = r.command.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("starting the runtime: %w", err)
	}
	go func() {
		defer close(r.lines)
		r.follow(log)
		r.err = r.command.Wait()
	}()
	return r, nil
}

// follow reads the log until it ends.
func (r *runtime) follow(log io.Reader) {
	scanner := bufio.NewScanner(log)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		r.tail = append(r.tail, scanner.Text())
		r.tail = r.tail[max(0, len(r.tail)-tailLines):]
		var l line
		if json.Unmarshal(scanner.Bytes(), &l) == nil {
			r.lines <- l
		}
	}
	_, _ = io.Copy(io.Discard, log)
}

// stop asks it to end, kills it if it does not, and says how that went.
func (r *runtime) stop() error {
	_ = r.command.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(stopTimeout, func() { _ = r.command.Process.Kill() })
	defer kill.Stop()
	for range r.lines {
		continue // What it says while it ends is in the tail.
	}
	if r.err != nil {
		return fmt.Errorf("the runtime ended: %w", r.err)
	}
	return nil
}

// dryRun asks it, by the REST API, what it would do.
func (r *runtime) dryRun(ctx context.Context) (answer string, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+r.address+dryRunPath, http.NoBody)
	if err != nil {
		return "", fmt.Errorf("asking for a dry run: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", fmt.Errorf("asking for a dry run: %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // It is only read.
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<16))
	if err != nil {
		return "", fmt.Errorf("asking for a dry run: %w", err)
	}
	return string(body), nil
}

const dryRunPath = "/api/v1/evaluation?dry_run=true"

// peakMemory is the most memory that the running program has used, in bytes; 0
// where the system does not tell. What wait tells is not asked: on Linux it
// counts what this process had in memory when it started the other.
func (r *runtime) peakMemory() (int64, error) {
	file := fmt.Sprintf("/proc/%d/status", r.command.Process.Pid)
	status, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && goruntime.GOOS != "linux" {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading the runtime's memory: %w", err)
	}
	for entry := range strings.Lines(string(status)) {
		var kibibytes int64
		if _, err := fmt.Sscanf(entry, "VmHWM: %d kB", &kibibytes); err == nil {
			return kibibytes << 10, nil
		}
	}
	return 0, fmt.Errorf("reading the runtime's memory: no VmHWM in %s", file)
}

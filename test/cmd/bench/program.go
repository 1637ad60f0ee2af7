// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// subject is a program that is measured, with what is its own: the proxy that
// counts for it, and a Deployment that it may scale.
type subject struct {
	label       string
	binary      binary
	directory   string
	deployment  string
	proxy       *proxy
	access      access
	run         string
	environment []string
}

// newSubject gives a program its proxy and its folder.
func newSubject(label string, b binary, directory string, a access, p *proxy) (*subject, error) {
	s := &subject{
		label: label, binary: b, directory: filepath.Join(directory, label),
		deployment: "scaled-" + strings.ToLower(label), proxy: p, access: a,
	}
	if err := os.MkdirAll(s.directory, 0o755); err != nil {
		return nil, fmt.Errorf("making the folder of program %s: %w", label, err)
	}
	var err error
	s.environment, s.run, err = a.lead(s.directory, p)
	// Nothing else of this process's environment: a variable that has the name
	// of a key would configure the program.
	s.environment = append(s.environment, "PATH="+os.Getenv("PATH"), "HOME="+os.Getenv("HOME"),
		"TMPDIR="+s.directory, "configPath="+s.configFile())
	return s, err
}

func (s *subject) configFile() string { return filepath.Join(s.directory, "config.json") }

// program is a subject that runs.
type program struct {
	*subject
	command *exec.Cmd
	// began is when the process became the program.
	began  time.Time
	output *tail
	url    string
	client *http.Client
	// exited is closed when it has ended; err then says how.
	exited chan struct{}
	err    error
}

// The waits for a program.
const (
	execTimeout   = 10 * time.Second
	answerTimeout = 30 * time.Second
	stopTimeout   = 5 * time.Second
)

// start starts the program with a configuration, whose REST API it adds.
func (s *subject) start(ctx context.Context, config map[string]any) (*program, error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	config["apiConfig"] = map[string]any{
		"enabled": true, "host": loopback, "port": port,
		"rateLimit": map[string]any{"perCaller": 0, "total": 0}, // programs that do not know it have none
	}
	content, err := json.Marshal(config)
	if err != nil {
		return nil, fmt.Errorf("writing the configuration: %w", err)
	}
	if err := os.WriteFile(s.configFile(), content, 0o600); err != nil {
		return nil, fmt.Errorf("writing the configuration: %w", err)
	}
	p := &program{
		subject: s, output: &tail{}, exited: make(chan struct{}),
		url: fmt.Sprintf("http://%s:%d", loopback, port), client: newClient(),
	}
	return p, p.launch(ctx)
}

// launch starts the process and returns when it has become the program.
func (p *program) launch(ctx context.Context) error {
	wrapped := p.access.wrap(p.run, p.binary.file)
	p.command = exec.CommandContext(ctx, wrapped[0], wrapped[1:]...)
	p.command.Cancel = func() error { return p.command.Process.Signal(syscall.SIGTERM) }
	p.command.WaitDelay = stopTimeout
	p.command.Dir, p.command.Env = p.directory, p.environment
	p.command.Stdout, p.command.Stderr = p.output, p.output
	read, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("starting the program: %w", err)
	}
	defer func() { _ = read.Close() }()
	p.command.ExtraFiles = []*os.File{write}
	err = p.command.Start()
	_ = write.Close()
	if err != nil {
		return fmt.Errorf("starting the program: %w", err)
	}
	go func() {
		p.err = p.command.Wait()
		close(p.exited)
	}()
	_ = read.SetReadDeadline(time.Now().Add(execTimeout))
	if _, err := read.Read(make([]byte, 1)); err != nil {
		p.stop()
		return fmt.Errorf("starting the program: %s", p.output)
	}
	p.began = time.Now()
	return nil
}

// stop ends the program, and kills it if it does not end.
func (p *program) stop() {
	_ = p.command.Process.Signal(syscall.SIGTERM)
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-p.exited:
	case <-timer.C:
		_ = p.command.Process.Kill()
		<-p.exited
	}
	p.client.CloseIdleConnections()
}

// ended says how a program ended that should not have.
func (p *program) ended() error {
	if p.err == nil {
		return fmt.Errorf("it ended: exit status 0: %s", p.output)
	}
	return fmt.Errorf("it ended: %w: %s", p.err, p.output)
}

// ready waits until the REST API answers.
func (p *program) ready(ctx context.Context) error {
	return p.await(ctx, answerTimeout, "the REST API answers", func(ctx context.Context) error {
		// There is nothing at the root, and that costs nothing.
		_, err := p.request(ctx, http.MethodGet, "/")
		return err
	})
}

// await asks until probe returns nil; in vain when the program ends or the time
// is up.
func (p *program) await(ctx context.Context, patience time.Duration, what string, probe func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := probe(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			return p.ended()
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w: %w; its output ends with: %s", what, context.Cause(ctx), err, p.output)
		case <-ticker.C:
		}
	}
}

// leeway is how many times longer a run may take than the longest that is
// expected.
const leeway = 5

// evaluate asks for a run, scaling and all, and returns how long that took.
func (p *program) evaluate(ctx context.Context, longest time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, leeway*longest)
	defer cancel()
	began := time.Now()
	status, err := p.request(ctx, http.MethodPost, "/api/v1/evaluation")
	took := time.Since(began)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d", status)
	}
	if err != nil {
		return took, fmt.Errorf("asking for a run: %w; its output ends with: %s", err, p.output)
	}
	return took, nil
}

// request makes a request and reads the answer to its end.
func (p *program) request(ctx context.Context, method, path string) (status int, err error) {
	r, err := http.NewRequestWithContext(ctx, method, p.url+path, nil)
	if err != nil {
		return 0, err
	}
	response, err := p.client.Do(r)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
}

// get reads what a path answers with.
func (p *program) get(ctx context.Context, path string, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path, nil)
	if err != nil {
		return err
	}
	response, err := p.client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: status %d", path, response.StatusCode)
	}
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	return nil
}

// nextWrite waits until the program has changed a count. A write that the proxy
// tells late, of before since, is not the one.
func (p *program) nextWrite(ctx context.Context, since time.Time, patience time.Duration) (write, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case w := <-p.proxy.writes:
			if w.arrived.After(since) {
				return w, nil
			}
		case <-p.exited:
			return write{}, p.ended()
		case <-timer.C:
			return write{}, fmt.Errorf("it did not scale within %s; its output ends with: %s", patience, p.output)
		case <-ctx.Done():
			return write{}, context.Cause(ctx)
		}
	}
}

// freePort finds a port that nobody listens on now.
func freePort(ctx context.Context) (int, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", loopback+":0")
	if err != nil {
		return 0, fmt.Errorf("finding a free port: %w", err)
	}
	return listener.Addr().(*net.TCPAddr).Port, listener.Close()
}

// tailBytes is how much of a program's output is kept: a panic's, with all its
// goroutines.
const tailBytes = 64 << 10

var panicLine = regexp.MustCompile(`(?m)^panic: .*$`)

// tail keeps the end of what is written to it.
type tail struct {
	mutex sync.Mutex
	kept  []byte
}

func (t *tail) Write(content []byte) (int, error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.kept = append(t.kept, content...)
	if cut := len(t.kept) - tailBytes; cut > 0 {
		t.kept = append(t.kept[:0], t.kept[cut:]...)
	}
	return len(content), nil
}

// String is the line that says what happened: that of a panic, or the last.
func (t *tail) String() string {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	text := bytes.TrimSpace(t.kept)
	if len(text) == 0 {
		return "(nothing)"
	}
	if panicked := panicLine.Find(text); panicked != nil {
		return string(panicked)
	}
	return string(bytes.TrimSpace(text[bytes.LastIndexByte(text, '\n')+1:]))
}

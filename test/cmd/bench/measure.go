// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// kind is a kind of autoscaler that is measured.
type kind struct {
	name    string
	mode    string
	program string
	// metric and evaluate are the hooks' arguments. The hooks read their
	// payload and answer with next to nothing, so that the cost is the calls'.
	metric, evaluate []string
}

var kinds = []kind{
	{
		"sh, per-pod", "per-pod", "/bin/sh",
		[]string{"-c", "cat >/dev/null; echo 5"},
		[]string{"-c", `cat >/dev/null; echo '{"targetReplicas": PODS}'`},
	},
	{
		"python, per-pod", "per-pod", "python3",
		[]string{"-c", "import json, sys; json.load(sys.stdin); print(5)"},
		[]string{"-c", `import json, sys; json.load(sys.stdin); print('{"targetReplicas": PODS}')`},
	},
	{
		"sh, per-resource", "per-resource", "/bin/sh",
		[]string{"-c", "cat >/dev/null; echo 5"},
		[]string{"-c", `cat >/dev/null; echo '{"targetReplicas": PODS}'`},
	},
	{
		// Each run scales, one up or one down.
		"sh, scaling", "per-resource", "/bin/sh",
		[]string{"-c", "cat >/dev/null; echo 5"},
		[]string{"-c", `cat >/dev/null; if rm up 2>/dev/null; then n=PODS; else : >up; n=$((PODS - 1)); fi; echo "{\"targetReplicas\": $n}"`},
	},
}

// interpreter is the program itself: what PATH finds first may be a script of
// a version manager that looks for it, and costs more than the hook.
func (k kind) interpreter(ctx context.Context) (string, error) {
	if k.program != "python3" {
		return k.program, nil
	}
	output, err := exec.CommandContext(ctx, k.program, "-c", "import sys; print(sys.executable, end='')").Output()
	return string(output), err
}

// result is what a run of a kind costs. Times and counts are of one run.
type result struct {
	kind string
	wall time.Duration
	// stages are the medians of each stage.
	stages map[string]time.Duration
	// process is the CPU time of the program itself, children that of hooks.
	process, children time.Duration
	requests, bytes   float64
	// peak is the most memory the program itself had resident, in bytes.
	peak int64
}

// line is a line of the program's log that tells the durations of a run.
type line struct {
	Level     string                   `json:"level"`
	Msg       string                   `json:"msg"`
	Error     string                   `json:"error"`
	Took      time.Duration            `json:"took"`
	Durations map[string]time.Duration `json:"durations"`
}

// patience is when no further run of a kind is measured.
const patience = time.Minute

// measure runs the program until it has run that often, or for a minute, and
// reads the figures between the end of the first run, which warms it up, and
// that of the last.
func measure(ctx context.Context, binary, directory string, p *proxy, k kind, pods, runs int) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	command, lines, err := launch(ctx, binary, directory, p, k, pods)
	if err != nil {
		return result{}, err
	}
	defer func() {
		cancel()
		_ = command.Wait()
	}()

	if _, err := readRun(lines); err != nil {
		return result{}, err
	}
	before, err := readUsage(command.Process.Pid)
	if err != nil {
		return result{}, err
	}
	requests, bytes := p.requests.Load(), p.bytes.Load()
	var walls []time.Duration
	stages := map[string][]time.Duration{}
	for began := time.Now(); len(walls) < runs && (walls == nil || time.Since(began) < patience); {
		run, err := readRun(lines)
		if err != nil {
			return result{}, err
		}
		walls = append(walls, run.Took)
		for stage, took := range run.Durations {
			stages[stage] = append(stages[stage], took)
		}
	}
	after, err := readUsage(command.Process.Pid)
	if err != nil {
		return result{}, err
	}
	n := time.Duration(len(walls))
	r := result{
		kind: k.name, wall: median(walls), stages: map[string]time.Duration{},
		process: (after.process - before.process) / n, children: (after.children - before.children) / n,
		requests: float64(p.requests.Load()-requests) / float64(n),
		bytes:    float64(p.bytes.Load()-bytes) / float64(n),
		peak:     after.peak,
	}
	for stage, took := range stages {
		r.stages[stage] = median(took)
	}
	return r, nil
}

// launch starts the program with an interval so short that runs follow each
// other closely, but not so that it never rests.
func launch(ctx context.Context, binary, directory string, p *proxy, k kind, pods int) (*exec.Cmd, *bufio.Scanner, error) {
	interpreter, err := k.interpreter(ctx)
	if err != nil {
		return nil, nil, err
	}
	method := func(args []string) map[string]any {
		return map[string]any{"type": "shell", "timeout": 60_000, "shell": map[string]any{"entrypoint": interpreter, "command": args}}
	}
	evaluate := []string{k.evaluate[0], strings.ReplaceAll(k.evaluate[1], "PODS", strconv.Itoa(pods))}
	config, err := json.Marshal(map[string]any{
		"scaleTargetRef": map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment},
		"runMode":        k.mode, "interval": 200, "maxReplicas": pods, "logVerbosity": 1, "logFormat": "json",
		"apiConfig": map[string]any{"enabled": false},
		"metric":    method(k.metric), "evaluate": method(evaluate),
	})
	if err != nil {
		return nil, nil, err
	}
	file := filepath.Join(directory, "config.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return nil, nil, err
	}
	command := exec.CommandContext(ctx, binary, "--config", file, "--kubeconfig", p.kubeconfig)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = 5 * time.Second
	command.Dir = directory
	output, err := command.StderrPipe()
	if err != nil {
		return nil, nil, err
	}
	lines := bufio.NewScanner(output)
	lines.Buffer(nil, 1<<20)
	return command, lines, command.Start()
}

// readRun reads the log up to the end of a run.
func readRun(lines *bufio.Scanner) (line, error) {
	var run line
	for lines.Scan() {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return line{}, fmt.Errorf("the program says %s", lines.Text())
		}
		switch {
		case l.Level == "ERROR":
			return line{}, fmt.Errorf("the program says %s: %s", l.Msg, l.Error)
		case l.Took > 0 && l.Level == "INFO":
			run = l
		case l.Durations != nil:
			run.Durations = l.Durations
			return run, nil
		}
	}
	return line{}, errors.Join(errors.New("the program ended early"), lines.Err(), io.ErrUnexpectedEOF)
}

// usage is what a process has used so far.
type usage struct {
	process, children time.Duration
	peak              int64
}

// clockTick is the unit of the kernel's figures, 100 a second on every Linux.
const clockTick = 10 * time.Millisecond

// readUsage reads /proc: proc_pid_stat(5), proc_pid_status(5).
func readUsage(pid int) (usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, err
	}
	// The fields after the name, which may hold anything, in parentheses.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	const user = 14 - 3
	var ticks [4]time.Duration
	for i := range ticks {
		n, err := strconv.Atoi(fields[user+i])
		if err != nil {
			return usage{}, fmt.Errorf("reading the CPU time: %w", err)
		}
		ticks[i] = time.Duration(n) * clockTick
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return usage{}, err
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	var kibibytes int64
	if _, err := fmt.Sscan(rest, &kibibytes); err != nil {
		return usage{}, fmt.Errorf("reading the peak memory: %w", err)
	}
	return usage{process: ticks[0] + ticks[1], children: ticks[2] + ticks[3], peak: kibibytes << 10}, nil
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

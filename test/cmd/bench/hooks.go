// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// latency is how long the hooks of the waiting kinds take without working.
const latency = 100 * time.Millisecond

// method is a method of the configuration.
type method map[string]any

// hookTimeout is what a call of a hook may take, in milliseconds.
const hookTimeout = 60_000

// hooks is what hooks of all kinds need.
type hooks struct {
	// python is the interpreter itself: what PATH finds first may be a script
	// of a version manager that looks for it, and costs more than the hook. It
	// is empty where there is none.
	python string
	// worker is the file of the worker.
	worker string
	// url leads to the server of the http hooks.
	url    string
	server *http.Server
}

//go:embed worker.py
var workerSource []byte

// newHooks writes the worker to a folder and starts the server.
func newHooks(ctx context.Context, directory string) (*hooks, error) {
	h := &hooks{worker: filepath.Join(directory, "worker.py"), python: findPython(ctx)}
	if err := os.WriteFile(h.worker, workerSource, 0o644); err != nil {
		return nil, fmt.Errorf("writing the worker: %w", err)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", loopback+":0")
	if err != nil {
		return nil, fmt.Errorf("starting the server of http hooks: %w", err)
	}
	h.url = "http://" + listener.Addr().String()
	h.server = &http.Server{
		Handler: http.HandlerFunc(answer), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	go func() { _ = h.server.Serve(listener) }()
	return h, nil
}

func (h *hooks) stop() { _ = h.server.Close() }

func findPython(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	output, err := exec.CommandContext(ctx, "python3", "-c", "import sys; print(sys.executable, end='')").Output()
	if err != nil {
		return ""
	}
	return string(output)
}

// answer is the server of the http hooks. It reads the payload and answers with
// what the query says, after that many milliseconds.
func answer(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	if wait, err := time.ParseDuration(r.URL.Query().Get("wait")); err == nil {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			return
		}
	}
	_, _ = io.WriteString(w, r.URL.Query().Get("answer"))
}

// hookPair makes the hooks metric and evaluate of one kind. They read their
// payload and answer with next to nothing, so that the cost is the calls'.
type hookPair func(h *hooks, replicas int) (metric, evaluate method)

// figureAnswer is what every metric hook answers.
const figureAnswer = "5"

func evaluation(replicas int) string { return fmt.Sprintf(`{"targetReplicas": %d}`, replicas) }

func command(entrypoint string, arguments ...string) method {
	return method{
		"type": "shell", "timeout": hookTimeout,
		"shell": map[string]any{"entrypoint": entrypoint, "command": arguments},
	}
}

func sh(script string) method { return command("/bin/sh", "-c", script) }

const answerPod = "cat >/dev/null; echo " + figureAnswer

func answerEvaluation(replicas int) method {
	return sh("cat >/dev/null; echo '" + evaluation(replicas) + "'")
}

func shellHooks(_ *hooks, replicas int) (metric, evaluate method) {
	return sh(answerPod), answerEvaluation(replicas)
}

// waitingShell waits for something else, as for an answer from a network.
func waitingShell(_ *hooks, replicas int) (metric, evaluate method) {
	return sh("sleep " + strconv.FormatFloat(latency.Seconds(), 'f', -1, 64) + "; " + answerPod), answerEvaluation(replicas)
}

// busyShell works for some ten milliseconds.
func busyShell(_ *hooks, replicas int) (metric, evaluate method) {
	return sh("i=0; while [ $i -lt 5000 ]; do i=$((i + 1)); done; " + answerPod), answerEvaluation(replicas)
}

// scalingShell asks for one more than replicas and for replicas, in turn.
func scalingShell(_ *hooks, replicas int) (metric, evaluate method) {
	return sh(answerPod), sh(fmt.Sprintf("cat >/dev/null; if rm up 2>/dev/null; then echo '%s'; else : >up; echo '%s'; fi",
		evaluation(replicas), evaluation(replicas+1)))
}

func pythonHooks(h *hooks, replicas int) (metric, evaluate method) {
	hook := func(answer string) method {
		return command(h.python, "-c", "import json, sys; json.load(sys.stdin); print('"+answer+"')")
	}
	return hook(figureAnswer), hook(evaluation(replicas))
}

// httpHooks are answered after a wait, which may be none.
func httpHooks(wait time.Duration) hookPair {
	return func(h *hooks, replicas int) (metric, evaluate method) {
		hook := func(answer string, wait time.Duration) method {
			query := strings.NewReplacer(" ", "", "{", "%7B", "}", "%7D", `"`, "%22").Replace(answer)
			return method{
				"type": "http", "timeout": hookTimeout,
				"http": map[string]any{
					"method": http.MethodPost, "url": h.url + "/?wait=" + wait.String() + "&answer=" + query,
					"successCodes": []int{http.StatusOK}, "parameterMode": "body",
				},
			}
		}
		return hook(figureAnswer, wait), hook(evaluation(replicas), 0)
	}
}

// workerHooks are a python process each that stays and is asked that often
// before it has answered.
func workerHooks(maxInFlight int) hookPair {
	return func(h *hooks, replicas int) (metric, evaluate method) {
		return h.workerMethod(maxInFlight), h.workerMethod(1, "--replicas", strconv.Itoa(replicas))
	}
}

func (h *hooks) workerMethod(maxInFlight int, arguments ...string) method {
	return method{
		"type": "worker", "timeout": hookTimeout,
		"worker": map[string]any{
			"entrypoint": h.python, "command": append([]string{"-u", h.worker}, arguments...),
			"processes": 1, "maxInFlight": maxInFlight, "maxRequests": 0,
		},
	}
}

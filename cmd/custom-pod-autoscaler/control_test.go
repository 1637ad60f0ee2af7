// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/api"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/api/client"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/autoscaler"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

// operated is an autoscaler that notes what an operator asks for.
type operated struct {
	mu      sync.Mutex
	asked   []any
	err     error
	intents scale.Intents
}

func (o *operated) Submit(context.Context, autoscaler.Trigger) (autoscaler.Record, error) {
	return autoscaler.Record{}, errors.New("it was to run")
}

func (o *operated) Pause(_ context.Context, _ autoscaler.Caller, pause scale.Pause) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked = append(o.asked, pause)
	return o.err
}

func (o *operated) Status() autoscaler.Status { return autoscaler.Status{Intents: o.intents} }

func (*operated) Alive() error { return nil }

func (*operated) Preview(context.Context, scale.Hold) (scale.Decision, error) {
	return scale.Decision{}, nil
}

func (*operated) Hold(context.Context, autoscaler.Caller, *scale.Hold) error { return nil }

func (*operated) Override(context.Context, autoscaler.Caller, *bounds.Override) error { return nil }

func (o *operated) Resume(context.Context, autoscaler.Caller) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked = append(o.asked, "resume")
	return o.err
}

// configure has the control sockets in a folder of the test's, and returns the
// configuration of the autoscaler shop/deployment/web.
func configure(t *testing.T, more string) (config string) {
	t.Helper()
	folder, err := os.MkdirTemp("", "cpa") //nolint:usetesting // t.TempDir's are long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	t.Setenv("TMPDIR", folder)
	config = filepath.Join(folder, "config.yaml")
	content := `
namespace: shop
scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
metric: {type: shell, shell: {entrypoint: ./metric.sh}}
evaluate: {type: shell, shell: {entrypoint: ./evaluate.sh}}
` + more
	if err := os.WriteFile(config, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return config
}

// operate serves the control socket of the autoscaler shop/deployment/web for
// the test, and returns the configuration that leads to it.
func operate(t *testing.T, o *operated, more string) (config string) {
	t.Helper()
	config = configure(t, more)
	server := listenControl(t.Context(), "shop/deployment/web", backend(o, slog.New(slog.DiscardHandler)))
	if server == nil {
		t.Fatal("there is no socket")
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return config
}

// command runs a command line and returns what it prints.
func command(t *testing.T, args ...string) (printed string, err error) {
	t.Helper()
	printed, _, err = commandBeside(t, args...)
	return printed, err
}

// commandBeside also returns what it warns of.
func commandBeside(t *testing.T, args ...string) (printed, warned string, err error) {
	t.Helper()
	var out, warnings bytes.Buffer
	c := newCommand()
	c.SetArgs(args)
	c.SetOut(&out)
	c.SetErr(&warnings)
	err = c.ExecuteContext(t.Context())
	return out.String(), warnings.String(), err
}

func TestPauseAndResume(t *testing.T) {
	for _, test := range []struct {
		name, config, command string
		asked                 any
		prints                string
	}{
		{"pause", "", "pause", scale.Pause{}, "Paused, until the process ends (state.store is none)\n"},
		{"kept", "state: {store: configMap}", "pause", scale.Pause{}, "Paused\n"},
		{"at a count", "state: {store: configMap}", "pause --replicas 5", scale.Pause{Replicas: new(int32(5))}, "Paused at 5 replicas\n"},
		{"at one", "state: {store: configMap}", "pause --replicas=1", scale.Pause{Replicas: new(int32(1))}, "Paused at 1 replica\n"},
		{"at none", "", "pause --replicas 0", scale.Pause{Replicas: new(int32(0))}, "Paused at 0 replicas, until the process ends (state.store is none)\n"},
		{"for a reason", "state: {store: configMap}", "pause --reason moving", scale.Pause{Reason: "moving"}, "Paused\n"},
		{"resume", "", "resume", "resume", "Resumed\n"},
		{"nothing to resume", "", "resume", "resume", "There was no pause\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := &operated{}
			if test.name == "resume" {
				o.intents.Pause = &scale.Pause{}
			}
			config := operate(t, o, test.config)
			printed, err := command(t, append(strings.Fields(test.command), "--config", config)...)
			if err != nil || printed != test.prints {
				t.Errorf("it printed %q, %v; want %q", printed, err, test.prints)
			}
			if diff := cmp.Diff([]any{test.asked}, o.asked); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Without a configuration that can be used, whoever is the only one here is
// asked, and it is said why and whom.
func TestCommandsWithoutAConfiguration(t *testing.T) {
	const who = "warning: asking the only autoscaler that runs here (shop/deployment/web), since the configuration cannot be used: "
	for _, test := range []struct{ name, content, why string }{
		{"missing", "", "reading the configuration file: open CONFIG: no such file or directory: put it there, " +
			"or name another with --config or the environment variable configPath\n"},
		{"no YAML", "metric: [", "loading CONFIG: "},
		{"invalid", "minReplicas: 5\nmaxReplicas: 2\nmetric: {type: shel}\n", "loading CONFIG: the configuration is invalid: evaluate: is required: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := &asked{next: described(t).Mock(nil)}
			config := answer(t, "", a)
			if err := os.Remove(config); err != nil {
				t.Fatal(err)
			}
			if test.content != "" {
				if err := os.WriteFile(config, []byte(test.content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			printed, warned, err := commandBeside(t, "pause", "--replicas", "5", "--config", config)
			if err != nil || printed != "Paused at 5 replicas\n" {
				t.Errorf("it printed %q, %v", printed, err)
			}
			if want := who + strings.ReplaceAll(test.why, "CONFIG", config); !strings.HasPrefix(warned, want) || strings.Count(warned, "\n") != 1 {
				t.Errorf("it warned\n%swant\n%s", warned, want)
			}
			if diff := cmp.Diff([]string{"GET /api/v1/status", "GET /api/v1/config", `POST /api/v1/pause {"replicas":5}`}, a.requests); diff != "" {
				t.Errorf("(-want +asked):\n%s", diff)
			}
		})
	}
}

// That a pause ends with the process is the process's to say.
func TestStoreWithoutAConfiguration(t *testing.T) {
	mock := described(t).Mock(nil)
	config := answer(t, "", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != client.PathConfig {
			mock.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Request-Id", "a-1")
		w.Header().Set("ETag", `"a"`)
		_, _ = io.WriteString(w, `{"config":{"state":{"store":"none"}},"sources":{},"live":[],"lasts":"until a restart"}`)
	}))
	if err := os.Remove(config); err != nil {
		t.Fatal(err)
	}
	printed, err := command(t, "pause", "--config", config)
	if want := "Paused at 5 replicas, until the process ends (state.store is none)\n"; err != nil || printed != want {
		t.Errorf("it printed %q, %v", printed, err)
	}
}

// Of several it cannot be told which is meant.
func TestSeveralWithoutAConfiguration(t *testing.T) {
	o := &operated{}
	config := operate(t, o, "")
	other, err := api.ListenControl(t.Context(), "shop/deployment/api", backend(o, slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- other.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	printed, err := command(t, "pause", "--config", config+"x")
	const want = "several autoscalers run here, and only the configuration says which is meant: fix it, or name another with --config"
	if err == nil || err.Error() != want || printed != "" || len(o.asked) > 0 {
		t.Errorf("it printed %q and failed with %v, want %s", printed, err, want)
	}
	if _, refused := errors.AsType[refusal](err); !refused {
		t.Error("it does not exit as if the configuration were wrong")
	}
}

// What makes a folder of sockets unfit does so for whoever only looks, too.
func TestOpenFolderWithoutAConfiguration(t *testing.T) {
	config := operate(t, &operated{}, "")
	folders, err := filepath.Glob(filepath.Join(os.TempDir(), "custom-pod-autoscaler-*"))
	if err != nil || len(folders) != 1 {
		t.Fatal(folders, err)
	}
	if err := os.Chmod(folders[0], 0o755); err != nil {
		t.Fatal(err)
	}
	_, err = command(t, "pause", "--config", config+"x")
	if err == nil || !strings.Contains(err.Error(), "is open to other users (mode 0755), so it is not used") {
		t.Errorf("it failed with %v", err)
	}
}

func TestPauseIsRefused(t *testing.T) {
	for _, test := range []struct {
		name    string
		err     error
		command []string
		want    string
	}{
		{
			"another process leads", &autoscaler.StandbyError{Leader: "web-1_x"},
			[]string{"pause"},
			"this replica stands by: web-1_x leads: run this in its pod",
		},
		{
			"another process leads the resumed", &autoscaler.StandbyError{Leader: "web-1_x"},
			[]string{"resume"},
			"this replica stands by: web-1_x leads: run this in its pod",
		},
		{"the store fails", errors.New("saving: disk full"), []string{"pause"}, "saving: disk full"},
	} {
		t.Run(test.name, func(t *testing.T) {
			config := operate(t, &operated{err: test.err}, "")
			printed, err := command(t, append(test.command, "--config", config)...)
			if err == nil || err.Error() != test.want || printed != "" {
				t.Errorf("it printed %q and failed with %v, want %s", printed, err, test.want)
			}
			if _, refused := errors.AsType[refusal](err); refused {
				t.Error("it exits as if the command line were wrong")
			}
		})
	}
}

// Where no socket can be, the autoscaler runs all the same, and says once what
// that means.
func TestNoControlSocket(t *testing.T) {
	t.Setenv("TMPDIR", "/nowhere")
	var log bytes.Buffer
	var server *api.Server
	if server = listenControl(t.Context(), "shop/deployment/web", backend(&operated{}, slog.New(slog.NewTextHandler(&log, nil)))); server != nil {
		t.Error("there is a socket")
	}
	if lines := strings.Count(log.String(), "\n"); lines != 1 || !strings.Contains(log.String(), "Commands such as status and pause will not reach this process") {
		t.Errorf("it logged %s", log.String())
	}
}

// backend has nothing but an autoscaler.
func backend(o *operated, log *slog.Logger) api.Backend {
	return api.Backend{Autoscaler: o, Metrics: http.NotFoundHandler(), Log: log}
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/viper"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/api"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/api/client"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// controlTimeout is how long a command waits for the running process: longer
// than that may wait for its store.
const controlTimeout = 15 * time.Second

// process is the running one that a command asks, over its control socket.
type process struct {
	*client.Client
	// id is its autoscaler's; empty as long as that is not known.
	id string
	// store is where it keeps intents; empty if that is not known.
	store   config.StateStore
	command string
}

// reach finds the process that runs here with the same configuration. Whether
// it runs shows when it is asked. Without a configuration that can be used it is
// the only process that runs here: it may have been started with another.
func reach(cmd *cobra.Command, settings *viper.Viper) (*process, error) {
	loaded, err := load(settings)
	if err != nil {
		return reachOnly(cmd, err)
	}
	id, _ := names(loaded.Config.Autoscaler)
	p := &process{id: id, store: loaded.Config.State.Store, command: cmd.Name()}
	return p, p.connect()
}

// reachOnly finds the only process that runs here, and says which one it is.
func reachOnly(cmd *cobra.Command, broken error) (*process, error) {
	p := &process{command: cmd.Name()}
	if err := p.connect(); err != nil {
		return nil, err
	}
	status, err := answerTo(cmd.Context(), p, false, p.Status)
	// From now on it is this one, whatever else starts.
	p.id = status.ID
	cmd.PrintErrf("warning: asking the only autoscaler that runs here%s, since the configuration cannot be used: %s\n", p.named(), inALine(broken))
	if err != nil {
		return nil, err
	}
	if view, err := answerTo(cmd.Context(), p, false, p.Config); err == nil {
		var state config.State
		// What cannot be understood is not known.
		_ = json.Unmarshal(view.Config["state"], &state)
		p.store = state.Store
	}
	return p, nil
}

// connect makes the client. The host is not looked up: the connection is the
// socket's.
func (p *process) connect() (err error) {
	p.Client, err = client.New(client.Options{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			if p.id == "" {
				return api.DialOnlyControl(ctx)
			}
			return api.DialControl(ctx, p.id)
		},
	}})
	return err
}

// named says whose autoscaler it is, if that is known.
func (p *process) named() string {
	if p.id == "" {
		return ""
	}
	return " (" + printable(p.id) + ")"
}

// inALine is an error that may list several faults, the first of them.
func inALine(err error) string {
	lines := strings.Split(err.Error(), "\n")
	words := printable(lines[0])
	if len(lines) > 1 {
		words += " " + printable(strings.TrimSpace(lines[1]))
	}
	if more := len(lines) - 2; more > 0 {
		words += fmt.Sprintf(" (and %d more)", more)
	}
	return words
}

// answerTo asks a process within controlTimeout. What the question may change
// can come about though nobody was told.
func answerTo[T any](ctx context.Context, p *process, changes bool, question func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	answer, err := question(ctx)
	switch {
	case errors.Is(err, context.DeadlineExceeded) && changes:
		err = fmt.Errorf("the autoscaler did not answer within %s; it may do this all the same: see its log", controlTimeout)
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("the autoscaler did not answer within %s: see its log", controlTimeout)
	case err != nil:
		err = p.explain(err)
	}
	return answer, err
}

// explain says what to do about an error.
func (p *process) explain(err error) error {
	if answered, ok := errors.AsType[*client.Error](err); ok {
		return errors.New(printable(answered.Message))
	}
	if errors.Is(err, api.ErrSeveralRun) {
		return refusal{fmt.Errorf("%w, and only the configuration says which is meant: fix it, or name another with --config", err)}
	}
	if errors.Is(err, api.ErrNotRunning) && p.id == "" {
		return fmt.Errorf("no autoscaler runs here: run this beside it and as its user, such as kubectl exec POD -- custom-pod-autoscaler %s", p.command)
	}
	if errors.Is(err, api.ErrNotRunning) {
		return fmt.Errorf("no autoscaler of %s runs here: run this beside it, with its configuration and as its user, such as kubectl exec POD -- custom-pod-autoscaler %s",
			p.id, p.command)
	}
	return fmt.Errorf("asking the autoscaler%s: %w", p.named(), err)
}

// untilTheEnd says that without a store an intent ends with the process, which
// may be sooner than anybody expects.
func (p *process) untilTheEnd(words string) string {
	if p.store != config.StateNone {
		return ""
	}
	return words + " the process ends (state.store is none)"
}

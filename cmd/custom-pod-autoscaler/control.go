// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
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
	id      string
	store   config.StateStore
	command string
}

// reach finds the process that runs here with the same configuration. Whether
// it runs shows when it is asked.
func reach(cmd *cobra.Command, settings *viper.Viper) (*process, error) {
	loaded, err := load(settings)
	if err != nil {
		warn(cmd, loaded)
		return nil, err
	}
	id, _ := names(loaded.Config.Autoscaler)
	// The host is not looked up: the connection is the socket's.
	c, err := client.New(client.Options{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return api.DialControl(ctx, id) },
	}})
	if err != nil {
		return nil, err
	}
	return &process{Client: c, id: id, store: loaded.Config.State.Store, command: cmd.Name()}, nil
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
	if errors.Is(err, api.ErrNotRunning) {
		return fmt.Errorf("no autoscaler of %s runs here: run this beside it, with its configuration and as its user, such as kubectl exec POD -- custom-pod-autoscaler %s",
			p.id, p.command)
	}
	return fmt.Errorf("asking the autoscaler of %s: %w", p.id, err)
}

// untilTheEnd says that without a store an intent ends with the process, which
// may be sooner than anybody expects.
func (p *process) untilTheEnd(words string) string {
	if p.store != config.StateNone {
		return ""
	}
	return words + " the process ends (state.store is none)"
}

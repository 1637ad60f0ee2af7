// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/viper"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/api"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

// controlTimeout is how long a command waits for the running process: longer
// than that may wait for its store.
const controlTimeout = 15 * time.Second

// maxAnswerBytes bounds what the running process answers.
const maxAnswerBytes = 64 << 10

func newPauseCommand(settings *viper.Viper) *cobra.Command {
	var pause scale.Pause
	var replicas int32
	command := &cobra.Command{
		Use:   "pause",
		Short: "Stop scaling, at the count that is there or at a fixed one",
		Long: "Asks the autoscaler that runs here with the same configuration to stop scaling,\n" +
			"until resume. A second pause replaces the first. Run it beside the autoscaler:\n" +
			"kubectl exec POD -- custom-pod-autoscaler pause",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("replicas") {
				if replicas < 0 {
					return misused("--replicas must be at least 0, got %d", replicas)
				}
				pause.Replicas = &replicas
			}
			return ask(cmd, settings, pause)
		},
	}
	command.Flags().Int32Var(&replicas, "replicas", 0, "the count to keep meanwhile, whatever the bounds (default: the one that is there)")
	command.Flags().StringVar(&pause.Reason, "reason", "", "why, for the log")
	return command
}

func newResumeCommand(settings *viper.Viper) *cobra.Command {
	return &cobra.Command{
		Use:   "resume",
		Short: "End a pause",
		Long: "Asks the autoscaler that runs here with the same configuration to scale again:\n" +
			"kubectl exec POD -- custom-pod-autoscaler resume",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return ask(cmd, settings, nil) },
	}
}

// ask has the running process do what the command says, which is also the name
// of the request, and prints what came of it.
func ask(cmd *cobra.Command, settings *viper.Viper, body any) error {
	loaded, err := load(settings)
	if err != nil {
		warn(cmd, loaded)
		return err
	}
	id, _ := names(loaded.Config.Autoscaler)
	pause, err := request(cmd.Context(), id, cmd.Name(), body)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), outcome(pause, loaded.Config.State.Store))
	return err
}

// outcome tells the state of affairs. Without a store a pause ends with the
// process, which may be sooner than anybody resumes.
func outcome(pause *scale.Pause, store config.StateStore) string {
	if pause == nil {
		return "Resumed"
	}
	told := "Paused"
	switch {
	case pause.Replicas == nil:
	case *pause.Replicas == 1:
		told += " at 1 replica"
	default:
		told += fmt.Sprintf(" at %d replicas", *pause.Replicas)
	}
	if store == config.StateNone {
		told += ", until the process ends (state.store is none)"
	}
	return told
}

// request makes a request over the control socket, and returns the pause that
// is in force after it.
func request(ctx context.Context, id, command string, body any) (*scale.Pause, error) {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	status, content, err := post(ctx, id, command, body)
	switch {
	case errors.Is(err, api.ErrNotRunning):
		return nil, fmt.Errorf("no autoscaler of %s runs here: run this beside it, with its configuration and as its user, such as kubectl exec POD -- custom-pod-autoscaler %s",
			id, command)
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("the autoscaler did not answer within %s; it may do this all the same: see its log", controlTimeout)
	case err != nil:
		return nil, fmt.Errorf("asking the autoscaler of %s: %w", id, err)
	}
	var answer struct {
		Pause   *scale.Pause `json:"pause"`
		Message string       `json:"message"`
	}
	if err := json.Unmarshal(content, &answer); err != nil {
		return nil, fmt.Errorf("reading the autoscaler's answer (status %d): %w", status, err)
	}
	if status != http.StatusOK {
		return nil, errors.New(answer.Message)
	}
	return answer.Pause, nil
}

func post(ctx context.Context, id, command string, body any) (status int, content []byte, err error) {
	var encoded []byte
	if body != nil {
		if encoded, err = json.Marshal(body); err != nil {
			return 0, nil, err
		}
	}
	// The host is not looked up: the connection is the socket's.
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/api/v1/"+command, bytes.NewReader(encoded))
	if err != nil {
		return 0, nil, err
	}
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return api.DialControl(ctx, id) },
	}}
	response, err := client.Do(r)
	if err != nil {
		return 0, nil, errors.Unwrap(err) // Without the URL, which leads nowhere.
	}
	defer func() { _ = response.Body.Close() }()
	content, err = io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes))
	return response.StatusCode, content, err
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Command hooks is both hooks of an autoscaler: `hooks metric` prints the label
// sessions of one pod, `hooks evaluate` asks for as many pods as the sessions of
// all pods need.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
)

const sessionsPerPod = 10

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		// A hook that fails ends the run, and nothing is scaled. What it says
		// on stderr is in the log.
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string, stdin io.Reader, stdout io.Writer) error {
	switch {
	case len(args) == 1 && args[0] == "metric":
		return metric(stdin, stdout)
	case len(args) == 1 && args[0] == "evaluate":
		return evaluate(stdin, stdout)
	default:
		return errors.New("usage: hooks metric|evaluate")
	}
}

// metric reads one pod, since the run mode is per-pod.
func metric(stdin io.Reader, stdout io.Writer) error {
	var payload struct {
		// The whole pod is here; a client that knows Kubernetes' types would
		// make it a corev1.Pod.
		Resource struct {
			Metadata struct {
				Name   string            `json:"name"`
				Labels map[string]string `json:"labels"`
			} `json:"metadata"`
		} `json:"resource"`
	}
	if err := json.NewDecoder(stdin).Decode(&payload); err != nil {
		return fmt.Errorf("reading the pod: %w", err)
	}
	pod := payload.Resource.Metadata
	sessions, ok := pod.Labels["sessions"]
	if !ok {
		return fmt.Errorf("the pod %s has no label sessions", pod.Name)
	}
	_, err := io.WriteString(stdout, sessions)
	return err
}

// evaluate reads one metric a pod. While the target has no pods yet, there are
// none.
func evaluate(stdin io.Reader, stdout io.Writer) error {
	var payload struct {
		Metrics []struct {
			Resource string `json:"resource"`
			Value    string `json:"value"`
		} `json:"metrics"`
	}
	if err := json.NewDecoder(stdin).Decode(&payload); err != nil {
		return fmt.Errorf("reading the metrics: %w", err)
	}
	if len(payload.Metrics) == 0 {
		return errors.New("there are no pods to go by yet")
	}
	total := 0
	for _, m := range payload.Metrics {
		sessions, err := strconv.Atoi(m.Value)
		if err != nil {
			return fmt.Errorf("reading the sessions of the pod %s: %w", m.Resource, err)
		}
		total += sessions
	}
	replicas := (total + sessionsPerPod - 1) / sessionsPerPod // rounded up
	return json.NewEncoder(stdout).Encode(map[string]int{"targetReplicas": replicas})
}

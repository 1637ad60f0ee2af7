// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Command worker is both hooks of an autoscaler, in one process that stays: metric
// answers with the label sessions of one pod, evaluate with as many pods as the
// sessions of all pods need.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
)

const sessionsPerPod = 10

// metric is given one pod, since the run mode is per-pod.
func metric(params json.RawMessage) (any, error) {
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
	if err := json.Unmarshal(params, &payload); err != nil {
		return nil, fmt.Errorf("reading the pod: %w", err)
	}
	pod := payload.Resource.Metadata
	sessions, ok := pod.Labels["sessions"]
	if !ok {
		return nil, fmt.Errorf("the pod %s has no label sessions", pod.Name)
	}
	return sessions, nil
}

// evaluate is given one metric a pod. While the target has no pods yet, there are
// none.
func evaluate(params json.RawMessage) (any, error) {
	var payload struct {
		Metrics []struct {
			Resource string `json:"resource"`
			Value    string `json:"value"`
		} `json:"metrics"`
	}
	if err := json.Unmarshal(params, &payload); err != nil {
		return nil, fmt.Errorf("reading the metrics: %w", err)
	}
	if len(payload.Metrics) == 0 {
		return nil, errors.New("there are no pods to go by yet")
	}
	total := 0
	for _, m := range payload.Metrics {
		sessions, err := strconv.Atoi(m.Value)
		if err != nil {
			return nil, fmt.Errorf("reading the sessions of the pod %s: %w", m.Resource, err)
		}
		total += sessions
	}
	replicas := (total + sessionsPerPod - 1) / sessionsPerPod // rounded up
	return map[string]int{"targetReplicas": replicas}, nil
}

// call calls a hook by its name.
func call(method string, params json.RawMessage) (any, error) {
	switch method {
	case "metric":
		return metric(params)
	case "evaluate":
		return evaluate(params)
	default:
		return nil, fmt.Errorf("there is no hook %s", method)
	}
}

// From here on it is the protocol, the same for any hooks.

func main() {
	// Answers have the real stdout for themselves. What anything else prints,
	// such as fmt.Println, goes to stderr, and so to the log.
	requests, answers := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	os.Stdout = os.Stderr
	for {
		var request struct {
			ID     int64           `json:"id"`
			Method string          `json:"method"`
			Params json.RawMessage `json:"params"`
		}
		if err := requests.Decode(&request); err != nil {
			return // the autoscaler closed it
		}
		answer := map[string]any{"jsonrpc": "2.0", "id": request.ID}
		if result, err := call(request.Method, request.Params); err != nil {
			answer["error"] = map[string]any{"code": 1, "message": err.Error()} // fails the hook; the process goes on
		} else {
			answer["result"] = result
		}
		_ = answers.Encode(answer) // once nobody reads it, stdin ends too
	}
}

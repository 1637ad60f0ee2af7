// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import "strings"

// kind is a kind of autoscaler that is measured.
type kind struct {
	name  string
	hooks hookPair
	// perPod has a metric hook for each pod. A kind without it is measured at
	// one size only: what its hooks are given does not depend on the pods.
	perPod bool
	// concurrency is how many metric hooks run at once; the program's own
	// default when 0. Programs that do not know the key ignore it.
	concurrency int
	// python says that the hooks are written in it.
	python bool
	// scales says that each run changes a count: of the program's own
	// Deployment, since two would meet on one.
	scales bool
}

// The names that are compared within one program.
const (
	shellPerPod        = "shell, per-pod"
	shellOneByOne      = "shell, one after another, per-pod"
	busyPerPod         = "shell, busy, per-pod"
	busyOneByOne       = "shell, busy, one after another, per-pod"
	pythonPerPod       = "python, per-pod"
	pythonOneByOne     = "python, one after another, per-pod"
	workerPerPod       = "worker, per-pod"
	workerManyInFlight = "worker, 16 in flight, per-pod"
)

var kinds = []kind{
	{name: shellPerPod, hooks: shellHooks, perPod: true},
	{name: shellOneByOne, hooks: shellHooks, perPod: true, concurrency: 1},
	{name: "shell, waiting 100 ms, 50 at once, per-pod", hooks: waitingShell, perPod: true, concurrency: 50},
	{name: busyPerPod, hooks: busyShell, perPod: true},
	{name: busyOneByOne, hooks: busyShell, perPod: true, concurrency: 1},
	{name: pythonPerPod, hooks: pythonHooks, perPod: true, python: true},
	{name: pythonOneByOne, hooks: pythonHooks, perPod: true, concurrency: 1, python: true},
	{name: workerPerPod, hooks: workerHooks(1), perPod: true, python: true},
	{name: workerManyInFlight, hooks: workerHooks(16), perPod: true, python: true},
	{name: "http, per-pod", hooks: httpHooks(0), perPod: true},
	{name: "http, 100 ms, per-pod", hooks: httpHooks(latency), perPod: true},
	{name: "shell, per-resource", hooks: shellHooks},
	{name: "python, per-resource", hooks: pythonHooks, python: true},
	{name: "worker, per-resource", hooks: workerHooks(1), python: true},
	{name: "http, per-resource", hooks: httpHooks(0)},
	{name: "http, 100 ms, per-resource", hooks: httpHooks(latency)},
	{name: "shell, scaling, per-resource", hooks: scalingShell, scales: true},
}

// kindNames lists them.
func kindNames() string {
	var names []string
	for _, k := range kinds {
		names = append(names, k.name)
	}
	return strings.Join(names, "; ")
}

// An interval of an hour leaves the runs to those who ask for them, one of a
// millisecond has the first run at once.
const (
	never  = 3_600_000
	atOnce = 1
)

// config is the configuration of a kind for a Deployment of that many pods.
func (k kind) config(h *hooks, deployment string, replicas, interval int) map[string]any {
	metric, evaluate := k.hooks(h, replicas)
	config := map[string]any{
		"scaleTargetRef": map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment},
		"namespace":      namespace, "runMode": "per-resource",
		"interval": interval, "startTime": 1,
		"minReplicas": 1, "maxReplicas": replicas + 1,
		"metric": metric, "evaluate": evaluate,
	}
	if k.perPod {
		config["runMode"] = "per-pod"
	}
	if k.concurrency > 0 {
		config["gatherConcurrency"] = k.concurrency
	}
	return config
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import "runtime"

// shellConcurrency is how many pods a shell hook is asked about at once at most,
// however many CPUs there are: each is an interpreter with its memory, in a
// container whose limit may be from when there was one at a time.
const shellConcurrency = 4

// httpConcurrency is how many pods an http hook is asked about at once: waiting
// for a response costs next to nothing.
const httpConcurrency = 64

// Concurrency is how many pods the metric hook of a valid configuration is asked
// about at once: GatherConcurrency, or what suits the method.
func (a *Autoscaler) Concurrency() int {
	most := a.Metric.atOnce()
	switch {
	case a.GatherConcurrency == 0:
		return most
	case a.Metric.Type == MethodWorker:
		return min(a.GatherConcurrency, most)
	default:
		return a.GatherConcurrency
	}
}

// atOnce is how many calls of a method suit it at once. More programs than CPUs
// would take more memory and no less time, unless they wait for something.
func (m *Method) atOnce() int {
	switch m.Type {
	case MethodHTTP:
		return httpConcurrency
	case MethodWorker:
		return m.Worker.Processes * m.Worker.MaxInFlight
	case MethodShell:
	}
	return min(runtime.GOMAXPROCS(0), shellConcurrency)
}

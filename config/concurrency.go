// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import "runtime"

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

// atOnce is how many calls of a method suit it at once. A program is started for
// each call of a shell hook: more of them than CPUs would take more memory and no
// less time, unless they wait for something.
func (m *Method) atOnce() int {
	switch m.Type {
	case MethodHTTP:
		return httpConcurrency
	case MethodWorker:
		return m.Worker.Processes * m.Worker.MaxInFlight
	case MethodShell:
	}
	return runtime.GOMAXPROCS(0)
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

import (
	"context"
	"errors"
	"maps"
	"sync"
)

// Usage is what the hooks of a Pool have been up to since it was made.
type Usage struct {
	// Stages are the calls of each stage that has a hook.
	Stages map[Stage]StageUsage
	// Restarts counts the worker processes that ended and are replaced, by the
	// way in which they ended: as the Kind of the failure, or RestartRequests.
	Restarts map[Kind]int64
	// Processes is how many hook programs run now, their own children aside.
	Processes int
}

// RestartRequests is why a worker process is replaced that has had its number
// of requests (maxRequests): nothing is wrong.
const RestartRequests Kind = "requests"

// StageUsage are the calls of one stage.
type StageUsage struct {
	// Calls counts all that have ended, Failures those that failed by Kind.
	Calls    int64
	Failures map[Kind]int64
	// OutputBytes is how long the answers were together.
	OutputBytes int64
}

// Usage is what the hooks have been up to so far. It is safe for concurrent use.
func (p *Pool) Usage() Usage {
	u := p.meter.read()
	p.children.known.Range(func(any, any) bool {
		u.Processes++
		return true
	})
	return u
}

// meter counts what hooks do. It is safe for concurrent use.
type meter struct {
	mu       sync.Mutex
	stages   map[Stage]*StageUsage
	restarts map[Kind]int64
}

func newMeter() *meter { return &meter{stages: map[Stage]*StageUsage{}, restarts: map[Kind]int64{}} }

// read copies what was counted.
func (m *meter) read() Usage {
	m.mu.Lock()
	defer m.mu.Unlock()
	u := Usage{Stages: make(map[Stage]StageUsage, len(m.stages)), Restarts: maps.Clone(m.restarts)}
	for stage, s := range m.stages {
		u.Stages[stage] = StageUsage{Calls: s.Calls, Failures: maps.Clone(s.Failures), OutputBytes: s.OutputBytes}
	}
	return u
}

// know has a stage counted from 0 on, so that it is there before its first call.
func (m *meter) know(stage Stage) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stage(stage)
}

// stage is what is counted of a stage. The lock is held.
func (m *meter) stage(stage Stage) *StageUsage {
	s := m.stages[stage]
	if s == nil {
		s = &StageUsage{Failures: map[Kind]int64{}}
		m.stages[stage] = s
	}
	return s
}

// called counts a call that ended.
func (m *meter) called(stage Stage, result Result, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stage(stage)
	s.Calls++
	s.OutputBytes += int64(len(result.Output))
	if fault, ok := errors.AsType[*Error](err); ok {
		s.Failures[fault.Kind]++
	}
}

// restarted counts a worker process that is replaced.
func (m *meter) restarted(reason Kind) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.restarts[reason]++
}

// metered is an executor whose calls are counted.
type metered struct {
	Executor
	meter *meter
}

// Execute asks the hook.
func (m metered) Execute(ctx context.Context, call Call) (Result, error) {
	result, err := m.Executor.Execute(ctx, call)
	m.meter.called(call.Stage, result, err)
	return result, err
}

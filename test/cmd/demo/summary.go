// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// summary is what is told at the end.
type summary struct {
	runs, failed, ups, downs, byHand int
	watched                          time.Duration
	samples                          []sample
	// memory is the runtime's peak in bytes, 0 if unknown, and cpu the time
	// that it and its hooks had of the processor.
	memory int64
	cpu    time.Duration
}

// ran counts a run. Dry runs are not the loop's.
func (m *summary) ran(l line) {
	if l.RunType != "scaler" {
		return
	}
	m.runs++
	switch {
	case l.Msg == msgFailed:
		m.failed++
	case l.Msg == msgScaled && l.To > l.From:
		m.ups++
	case l.Msg == msgScaled:
		m.downs++
	}
}

// sampled takes note of what there was.
func (m *summary) sampled(s sample) { m.samples = append(m.samples, s) }

// above is how long the ready pods had to use more than that each.
func (m *summary) above(each int64) time.Duration {
	var above time.Duration
	for i := 1; i < len(m.samples); i++ {
		if now := m.samples[i]; now.demand > each*int64(now.ready) {
			above += now.at - m.samples[i-1].at
		}
	}
	return above.Round(time.Second)
}

// used takes note of what the runtime used, once it has ended.
func (m *summary) used(state *os.ProcessState) {
	m.cpu = state.UserTime() + state.SystemTime()
	if usage, ok := state.SysUsage().(*syscall.Rusage); ok && m.memory == 0 {
		m.memory = usage.Maxrss // In bytes where there is no /proc.
	}
}

// verdict fails a demo that did not show what it is for.
func (m *summary) verdict() error {
	if m.runs == m.failed {
		return errors.New("no run went well")
	}
	return nil
}

// summary shows it.
func (s *screen) summary(m summary) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	var low, high sample
	for i, now := range m.samples {
		if i == 0 {
			low, high = now, now
		}
		low.demand, high.demand = min(low.demand, now.demand), max(high.demand, now.demand)
		low.ready, high.ready = min(low.ready, now.ready), max(high.ready, now.ready)
	}
	s.print(
		"",
		s.styled(bold, "==> ")+"After "+short(m.watched.Round(time.Second)),
		fmt.Sprintf("    load           %dm to %dm", low.demand, high.demand),
		fmt.Sprintf("    ready pods     %d to %d", low.ready, high.ready),
		fmt.Sprintf("    runs           %d, of which %d failed", m.runs, m.failed),
		fmt.Sprintf("    scalings       %d written: %d up, %d down; and %d by somebody else", m.ups+m.downs, m.ups, m.downs, m.byHand),
		fmt.Sprintf("    overload       the load was more than %dm a ready pod for %s, more than twice that for %s",
			millicoresPerPod, short(m.above(millicoresPerPod)), short(m.above(2*millicoresPerPod))),
		fmt.Sprintf("    the runtime    used %s of CPU time, hooks included, and %.0f MiB of memory at most", m.cpu.Round(10*time.Millisecond), float64(m.memory)/(1<<20)),
		"",
	)
}

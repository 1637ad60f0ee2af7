// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A run is measured from outside, as one request for an evaluation: any program
// answers that, whatever it logs, and the next follows at once. Nothing has to
// be timed in the loop.

// warmUps are the first runs, which are not counted: a program looks up its
// target, opens connections, starts workers. Where they take too long there
// are fewer.
const warmUps = 2

// measure has each program that can run a kind do so, in turn, so that what
// disturbs one disturbs the other.
func (s *session) measure(ctx context.Context, k kind, pods int) (row[figures], error) {
	measured := row[figures]{Kind: k.name, Programs: map[string]*figures{}}
	var all []*gauge
	defer func() {
		for _, g := range all {
			g.program.stop()
		}
	}()
	for _, subject := range s.subjects {
		g, err := s.begin(ctx, subject, k, pods)
		if ctx.Err() != nil {
			return measured, context.Cause(ctx)
		}
		if err != nil {
			s.note(subject, k.name, err)
			continue
		}
		all = append(all, g)
	}
	for running := slices.Clone(all); len(running) > 0; {
		running = slices.DeleteFunc(running, func(g *gauge) bool { return g.next(ctx) })
	}
	for _, g := range all {
		if ctx.Err() != nil {
			return measured, context.Cause(ctx)
		}
		if g.err != nil {
			s.note(g.program.subject, k.name, g.err)
			continue
		}
		measured.Programs[g.program.label] = g.figures()
	}
	measured.Ratio = ratios(columns, measured.Programs)
	return measured, nil
}

// begin starts a program with a kind.
func (s *session) begin(ctx context.Context, subject *subject, k kind, pods int) (*gauge, error) {
	if k.python && s.hooks.python == "" {
		return nil, errNoPython
	}
	if expected := s.expect(subject, k, pods); expected > s.longest {
		return nil, fmt.Errorf("with %d pods a run would take about %s", pods, expected.Round(time.Second))
	}
	target, replicas := deployment, pods
	if k.scales {
		target, replicas = subject.deployment, fewPods
		if err := s.reset(ctx, target, fewPods); err != nil {
			return nil, err
		}
	}
	program, err := subject.start(ctx, k.config(s.hooks, target, replicas, never))
	if err != nil {
		return nil, err
	}
	if err := program.ready(ctx); err != nil {
		program.stop()
		return nil, err
	}
	return &gauge{program: program, runs: s.runs, budget: s.budget, longest: s.longest}, nil
}

var errNoPython = errors.New("python3 is not here")

// expect is how long a run will take, after one with fewer pods.
func (s *session) expect(subject *subject, k kind, pods int) time.Duration {
	for _, size := range slices.Backward(s.report.Sizes) {
		for _, r := range size.Rows {
			if f := r.Programs[subject.label]; r.Kind == k.name && f != nil {
				return time.Duration(f.Time * float64(time.Millisecond) * float64(pods) / float64(size.Pods))
			}
		}
	}
	return 0
}

// gauge measures one program.
type gauge struct {
	program         *program
	runs            int
	budget, longest time.Duration

	// warming are the runs that do not count, spent what they took.
	warming int
	spent   time.Duration
	// took are the runs that count, total what they took.
	took  []time.Duration
	total time.Duration
	// opened is the reading before the first run that counts, closed that after
	// the last.
	opened, closed reading
	err            error
}

// reading is what was used up to a moment.
type reading struct {
	usage
	requests, bytes int64
}

func (g *gauge) read() (reading, error) {
	used, err := readUsage("/proc", g.program.command.Process.Pid)
	return reading{usage: used, requests: g.program.proxy.requests.Load(), bytes: g.program.proxy.bytes.Load()}, err
}

// next makes another run and reports whether it was the last, for whatever
// reason.
func (g *gauge) next(ctx context.Context) (last bool) {
	if len(g.took) == 0 {
		if g.opened, g.err = g.read(); g.err != nil {
			return true
		}
	}
	took, err := g.program.evaluate(ctx, g.longest)
	if err != nil {
		g.err = err
		return true
	}
	if g.warm(took) {
		return false
	}
	g.took, g.total = append(g.took, took), g.total+took
	if !g.enough() {
		return false
	}
	g.closed, g.err = g.read()
	return true
}

// warm reports whether a run does not count: one of the first, unless another
// like it would be too much to wait for.
func (g *gauge) warm(took time.Duration) bool {
	if len(g.took) > 0 || g.warming == warmUps || g.spent+took > 2*g.budget {
		return false
	}
	g.warming, g.spent = g.warming+1, g.spent+took
	return true
}

// enough reports whether no further run is needed: there are as many as asked
// for, and enough of them that CPU time, which is counted in hundredths of a
// second, means something; or the budget is spent.
func (g *gauge) enough() bool {
	return g.total >= g.budget || len(g.took) >= g.runs && g.total >= g.budget/4
}

// figures are those of one run.
func (g *gauge) figures() *figures {
	n := float64(len(g.took))
	slices.Sort(g.took)
	return &figures{
		Runs:     len(g.took),
		Time:     milliseconds(g.took[len(g.took)/2]),
		Fastest:  milliseconds(g.took[0]),
		Process:  milliseconds(g.closed.process-g.opened.process) / n,
		Children: milliseconds(g.closed.children-g.opened.children) / n,
		Requests: float64(g.closed.requests-g.opened.requests) / n,
		Bytes:    float64(g.closed.bytes-g.opened.bytes) / n,
		Resident: g.closed.resident,
		Peak:     g.closed.peak,
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

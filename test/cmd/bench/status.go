// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// statusName is the name of what is measured here.
const statusName = "status"

const (
	statusPath  = "/api/v1/status"
	recordsPath = "/api/v1/records?limit=1000"
)

const (
	// loopInterval is short, so that many runs tell how late they begin.
	loopInterval = 200 * time.Millisecond
	// mostWindow is how long each phase may be watched: a program keeps a
	// thousand records.
	mostWindow = time.Minute
	// turns is how often the phases are gone through: what disturbs one then
	// disturbs the others.
	turns = 5
)

// phase is a load beside which the loop is watched.
type phase struct {
	name string
	load load
}

var (
	quiet  = phase{name: "quiet"}
	steady = phase{name: "1000 a second", load: load{rate: 1000, connections: mostConnections}}
	full   = phase{name: "4 at a time", load: load{connections: 4}}
	phases = []phase{quiet, steady, full}
)

// measureStatus measures how many requests for the status a program answers,
// and how late its loop is meanwhile.
func (s *session) measureStatus(ctx context.Context) error {
	var measured statusReport
	for _, p := range phases {
		measured.Rows = append(measured.Rows, row[statusFigures]{Kind: p.name, Programs: map[string]*statusFigures{}})
	}
	for _, subject := range s.subjects {
		s.say("measuring %s of %s", statusName, subject.label)
		all, err := s.watchLoop(ctx, subject)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			s.note(subject, statusName, err)
			continue
		}
		for i, f := range all {
			measured.Rows[i].Programs[subject.label] = f
		}
	}
	for i, r := range measured.Rows {
		measured.Rows[i].Ratio = ratios(statusColumns, r.Programs)
	}
	measured.Targets = measured.targets()
	s.report.Status = measured
	return nil
}

// watchLoop has a program run its loop through all phases, by turns, and
// returns the figures of each.
func (s *session) watchLoop(ctx context.Context, subject *subject) ([]*statusFigures, error) {
	if err := s.reset(ctx, subject.deployment, fewPods); err != nil {
		return nil, err
	}
	k := kind{name: statusName, hooks: shellHooks}
	program, err := subject.start(ctx, k.config(s.hooks, subject.deployment, fewPods, int(loopInterval.Milliseconds())))
	if err != nil {
		return nil, err
	}
	defer program.stop()
	tick, err := program.warmUp(ctx)
	if err != nil {
		return nil, err
	}
	spans := make([][]span, len(phases))
	for range turns {
		for i, p := range phases {
			watched, err := program.watch(ctx, p.load, s.window/turns)
			if err != nil {
				return nil, err
			}
			spans[i] = append(spans[i], watched)
		}
	}
	runs, err := program.runs(ctx)
	if err != nil {
		return nil, err
	}
	var all []*statusFigures
	for i, p := range phases {
		f, err := figuresOf(spans[i], runs, tick)
		if err != nil {
			return nil, fmt.Errorf("%s: %w; its output ends with: %s", p.name, err, program.output)
		}
		all = append(all, f)
	}
	return all, nil
}

// warmUp waits for the first runs, and returns a moment of the schedule.
func (p *program) warmUp(ctx context.Context) (tick time.Time, err error) {
	if err := p.ready(ctx); err != nil {
		return tick, err
	}
	if tick, err = p.nextRun(ctx); err != nil {
		return tick, err
	}
	return tick, p.await(ctx, answerTimeout, "the loop runs", func(ctx context.Context) error {
		runs, err := p.runs(ctx)
		if err == nil && len(runs) < warmUps {
			err = fmt.Errorf("%d runs", len(runs))
		}
		return err
	})
}

// span is one turn of a phase.
type span struct {
	began, ended time.Time
	load         outcome
	// used is the CPU time of the program itself.
	used     time.Duration
	resident int64
}

// watch lets the loop run beside a load.
func (p *program) watch(ctx context.Context, l load, window time.Duration) (span, error) {
	before, err := readUsage("/proc", p.command.Process.Pid)
	if err != nil {
		return span{}, err
	}
	s := span{began: time.Now()}
	s.load = l.run(ctx, window, p.askStatus)
	s.ended = time.Now()
	after, err := readUsage("/proc", p.command.Process.Pid)
	s.used, s.resident = after.process-before.process, after.resident
	return s, err
}

func (p *program) askStatus(ctx context.Context) error {
	status, err := p.request(ctx, http.MethodGet, statusPath)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d", status)
	}
	return err
}

// nextRun is a moment of the loop's schedule.
func (p *program) nextRun(ctx context.Context) (time.Time, error) {
	var answer struct {
		NextRun time.Time `json:"nextRun"`
	}
	err := p.get(ctx, statusPath, &answer)
	if err == nil && answer.NextRun.IsZero() {
		err = fmt.Errorf("GET %s tells no nextRun", statusPath)
	}
	return answer.NextRun, err
}

// loopRun is what a record tells of a run.
type loopRun struct {
	Time    time.Time `json:"time"`
	Trigger struct {
		Kind string `json:"kind"`
	} `json:"trigger"`
	TookSeconds float64 `json:"tookSeconds"`
}

// runs are the runs of the loop so far.
func (p *program) runs(ctx context.Context) ([]loopRun, error) {
	var answer struct {
		Records []loopRun `json:"records"`
	}
	err := p.get(ctx, recordsPath, &answer)
	return slices.DeleteFunc(answer.Records, func(r loopRun) bool { return r.Trigger.Kind != "interval" }), err
}

// figuresOf makes the figures of a phase.
func figuresOf(spans []span, runs []loopRun, tick time.Time) (*statusFigures, error) {
	var load outcome
	var elapsed, used time.Duration
	var delays, took []time.Duration
	f := &statusFigures{}
	for _, s := range spans {
		load.add(s.load)
		elapsed, used, f.Resident = elapsed+s.ended.Sub(s.began), used+s.used, max(f.Resident, s.resident)
		for _, r := range runs {
			if !r.Time.Before(s.began) && r.Time.Before(s.ended) {
				delays, took = append(delays, delay(r.Time, tick, loopInterval)), append(took, time.Duration(r.TookSeconds*float64(time.Second)))
			}
		}
	}
	if len(delays) == 0 {
		return nil, fmt.Errorf("the loop had no run in %s", elapsed.Round(time.Millisecond))
	}
	slices.Sort(delays)
	slices.Sort(took)
	f.Runs, f.Answers = len(delays), load.summary()
	f.Late, f.Latest = milliseconds(delays[len(delays)/2]), milliseconds(delays[len(delays)-1])
	f.Time = milliseconds(took[len(took)/2])
	f.Process = 100 * used.Seconds() / elapsed.Seconds()
	return f, nil
}

// early is how long before its moment a run may seem to begin: a ticker starts
// a little before the program notes when.
const early = 5 * time.Millisecond

// delay is how long after its moment of the schedule, of which tick is one, a
// run began. One that is late by a whole interval took the place of the next.
func delay(began, tick time.Time, interval time.Duration) time.Duration {
	since := (began.Sub(tick) + early) % interval
	if since < 0 {
		since += interval
	}
	return since - early
}

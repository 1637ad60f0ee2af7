// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// The names of what is measured here.
const (
	startName = "start"
	pushName  = "push"
)

// samples are measured latencies by label. A program that fails has none.
type samples map[string][]time.Duration

// summary is the row of the report.
func (s samples) summary(what string) latencyRow {
	r := latencyRow{What: what, Programs: map[string]*latencies{}}
	for label, all := range s {
		slices.Sort(all)
		r.Programs[label] = &latencies{
			Samples: len(all), Median: milliseconds(all[len(all)/2]),
			Fastest: milliseconds(all[0]), Slowest: milliseconds(all[len(all)-1]),
		}
	}
	if a, b := r.Programs[labels[0]], r.Programs[labels[1]]; a != nil && b != nil {
		r.Ratio = b.Median / a.Median
	}
	return r
}

// startKinds have the cheapest hooks, so that the start is what is measured.
var startKinds = []kind{
	{name: startName + ", per-resource", hooks: shellHooks},
	{name: startName + ", per-pod", hooks: shellHooks, perPod: true},
}

// firstWriteTimeout is how long a start may take.
const firstWriteTimeout = 30 * time.Second

// measureStarts measures from the start of the process to the first run that
// is done. Its write tells that, since the interval is so short that nobody
// could ask in time.
func (s *session) measureStarts(ctx context.Context) error {
	for _, k := range startKinds {
		s.say("measuring %s", k.name)
		measured := samples{}
		for _, subject := range s.interleave(s.starts) {
			if s.noted(subject, k.name) {
				continue
			}
			took, err := s.measureStart(ctx, subject, k)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil {
				s.note(subject, k.name, err)
				delete(measured, subject.label)
				continue
			}
			measured[subject.label] = append(measured[subject.label], took)
		}
		s.report.Starts = append(s.report.Starts, measured.summary(k.name))
	}
	return nil
}

// measureStart measures one start.
func (s *session) measureStart(ctx context.Context, subject *subject, k kind) (time.Duration, error) {
	if err := s.reset(ctx, subject.deployment, fewPods); err != nil {
		return 0, err
	}
	subject.proxy.forget()
	program, err := subject.start(ctx, k.config(s.hooks, subject.deployment, fewPods+1, atOnce))
	if err != nil {
		return 0, err
	}
	defer program.stop()
	first, err := program.nextWrite(ctx, program.began, firstWriteTimeout)
	return first.answered.Sub(program.began), err
}

// interleave is each program that often, in turn.
func (s *session) interleave(times int) []*subject {
	return slices.Repeat(s.subjects, times)
}

func (s *session) noted(subject *subject, what string) bool {
	return slices.ContainsFunc(s.report.Notes, func(n note) bool { return n.Program == subject.label && n.What == what })
}

const (
	// pushSpacing is the time between pushes: a program may limit them to one
	// a second.
	pushSpacing = 1200 * time.Millisecond
	pushTimeout = 5 * time.Second
)

// measurePushes measures from a signal outside, which a worker takes up and
// tells the program, to the write of the run that this starts.
func (s *session) measurePushes(ctx context.Context) error {
	s.say("measuring %s", pushName)
	pushers := map[*subject]*pusher{}
	defer func() {
		for _, p := range pushers {
			p.close()
		}
	}()
	measured := samples{}
	ticker := time.NewTicker(pushSpacing)
	defer ticker.Stop()
	for range s.pushes {
		for _, subject := range s.subjects {
			if s.noted(subject, pushName) {
				continue
			}
			took, err := s.measurePush(ctx, pushers, subject)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil {
				s.note(subject, pushName, err)
				delete(measured, subject.label)
				continue
			}
			measured[subject.label] = append(measured[subject.label], took)
		}
		if len(measured) > 0 {
			<-ticker.C
		}
	}
	s.report.Pushes = measured.summary(pushName)
	return nil
}

// measurePush measures one push, the first time of a program that it starts.
func (s *session) measurePush(ctx context.Context, pushers map[*subject]*pusher, subject *subject) (time.Duration, error) {
	if pushers[subject] == nil {
		p, err := s.newPusher(ctx, subject)
		if err != nil {
			return 0, err
		}
		pushers[subject] = p
	}
	return pushers[subject].push(ctx)
}

// pusher is a program with a worker that takes signals.
type pusher struct {
	program *program
	signals net.Conn
}

func (s *session) newPusher(ctx context.Context, subject *subject) (*pusher, error) {
	if s.hooks.python == "" {
		return nil, errNoPython
	}
	if err := s.reset(ctx, subject.deployment, fewPods); err != nil {
		return nil, err
	}
	socket := filepath.Join(subject.directory, "signals")
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	k := kind{name: pushName, hooks: func(h *hooks, _ int) (metric, evaluate method) {
		return h.workerMethod(1, "--trigger", socket),
			h.workerMethod(1, "--replicas", strconv.Itoa(fewPods+1), strconv.Itoa(fewPods))
	}}
	program, err := subject.start(ctx, k.config(s.hooks, subject.deployment, fewPods, never))
	if err != nil {
		return nil, err
	}
	p := &pusher{program: program}
	if err := p.connect(ctx, socket, s.longest); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// connect has one run made, for programs that start workers only then, and
// waits for the worker's socket.
func (p *pusher) connect(ctx context.Context, socket string, longest time.Duration) error {
	if err := p.program.ready(ctx); err != nil {
		return err
	}
	if _, err := p.program.evaluate(ctx, longest); err != nil {
		return err
	}
	return p.program.await(ctx, answerTimeout, "the worker takes signals", func(ctx context.Context) (err error) {
		p.signals, err = new(net.Dialer).DialContext(ctx, "unixgram", socket)
		return err
	})
}

// push gives a signal and waits for the write.
func (p *pusher) push(ctx context.Context) (time.Duration, error) {
	p.program.proxy.forget()
	began := time.Now()
	if _, err := p.signals.Write([]byte("bench")); err != nil {
		return 0, fmt.Errorf("signalling the worker: %w", err)
	}
	w, err := p.program.nextWrite(ctx, began, pushTimeout)
	return w.arrived.Sub(began), err
}

func (p *pusher) close() {
	if p.signals != nil {
		_ = p.signals.Close()
	}
	p.program.stop()
}

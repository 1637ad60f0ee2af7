// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// pace is how fast the demo goes.
type pace struct {
	wave     wave
	duration time.Duration
	// spread is how often the pods' use is brought up to date.
	spread time.Duration
	// environment is what the autoscaler's configuration has otherwise.
	environment []string
}

// The demand goes beyond what the pods may become, at both ends, and so shows
// both bounds. Measuring takes its time: our metrics-server looks every 10 s,
// and has a figure of a new pod after three looks. Where kubelets measure
// before it does, and it looks every 15 s as by default, all goes half as fast.
var (
	pretended = pace{
		wave:     wave{low: 40, high: 600, period: 100 * time.Second},
		duration: 2 * time.Minute, spread: time.Second,
	}
	contained = pace{
		wave:     wave{low: 40, high: 600, period: 200 * time.Second},
		duration: 4 * time.Minute, spread: 3 * time.Second,
		environment: []string{"interval=10000", "downscaleStabilization=40"},
	}
)

// maxFailures is how many requests of our own in a row may fail.
const maxFailures = 10

// demo is one that runs.
type demo struct {
	pace    pace
	place   *place
	runtime *runtime
	screen  *screen
	summary summary

	started  time.Time
	now      sample
	failures int
	measured string
}

// leftBehindError says that something could not be removed.
type leftBehindError struct{ error }

// run is the demo from its beginning to its end. Whatever happens on the way,
// what was made is removed.
func run(ctx context.Context, o options, s *screen) (err error) {
	interrupted := context.AfterFunc(ctx, s.interrupted)
	defer interrupted()
	work, err := openWorkshop()
	if err != nil {
		return err
	}
	defer work.close()
	p, err := reach(ctx, o.kubeconfig, s)
	defer func() {
		if left := p.leave(ctx, s); left != nil {
			err = errors.Join(err, leftBehindError{left})
		}
	}()
	if err != nil {
		return err
	}
	d := &demo{pace: pretended, place: p, screen: s}
	if p.node == "" {
		d.pace = contained
	}
	if o.duration > 0 {
		d.pace.duration = o.duration
	}
	if err := d.prepare(ctx, work, o.image); err != nil {
		return err
	}
	if d.runtime, err = work.start(p, d.pace.environment); err != nil {
		return err
	}
	err = errors.Join(d.perform(ctx), d.runtime.stop())
	if err == nil {
		d.summary.used(d.runtime.command.ProcessState)
		s.summary(d.summary)
		err = d.summary.verdict()
	}
	if err != nil {
		return fmt.Errorf("%w; the end of the runtime's log:\n%s", err, strings.Join(d.runtime.tail, "\n"))
	}
	return nil
}

// prepare makes everything that the autoscaler finds.
func (d *demo) prepare(ctx context.Context, work *workshop, image string) error {
	d.screen.step("Creating the Deployment web")
	if err := d.place.deploy(ctx, d.screen, image); err != nil {
		return err
	}
	if _, err := d.place.spread(ctx, d.pace.wave.at(0)); err != nil {
		return err
	}
	d.screen.step("Building the runtime")
	if err := work.build(ctx); err != nil {
		return err
	}
	d.screen.step("Waiting for metrics-server to measure the first pods, which takes up to half a minute")
	return d.place.waitForMetrics(ctx, d.screen)
}

// perform shows the runs as they come, then asks for one by the REST API.
func (d *demo) perform(ctx context.Context) error {
	d.screen.begin(d.pace)
	d.started = time.Now()
	if err := d.watch(ctx); err != nil {
		return err
	}
	d.summary.watched = time.Since(d.started)
	if err := d.askForDryRun(ctx); err != nil {
		return err
	}
	memory, err := d.runtime.peakMemory()
	d.summary.memory = memory
	return err
}

// watch keeps up the load and shows a line for every run.
func (d *demo) watch(ctx context.Context) error {
	load := time.NewTicker(d.pace.spread)
	defer load.Stop()
	somebody := time.NewTimer(d.pace.duration * 45 / 100) // The load is at its highest.
	defer somebody.Stop()
	end := time.NewTimer(d.pace.duration + time.Second) // A run that is due at the end is not cut off.
	defer end.Stop()
	for {
		var err error
		select {
		case <-load.C:
			err = d.tolerate(d.keepUpLoad(ctx))
		case l, running := <-d.runtime.lines:
			if !running {
				return errors.New("the runtime ended by itself")
			}
			d.show(l)
		case <-somebody.C:
			err = d.scaleByHand(ctx)
		case <-end.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// tolerate lets a few failures in a row pass, as the autoscaler does.
func (d *demo) tolerate(err error) error {
	if err == nil {
		d.failures = 0
		return nil
	}
	if d.failures++; d.failures < maxFailures {
		return nil
	}
	return err
}

// sample is what the demo itself sees.
type sample struct {
	at     time.Duration
	demand int64
	ready  int
}

// keepUpLoad has the pods that there are meet the demand that there is.
func (d *demo) keepUpLoad(ctx context.Context) error {
	at := time.Since(d.started)
	demand := d.pace.wave.at(at)
	ready, err := d.place.spread(ctx, demand)
	if err != nil {
		return err
	}
	d.now = sample{at: at, demand: demand, ready: ready}
	d.summary.sampled(d.now)
	d.screen.live(d.now)
	return nil
}

// show makes a row of a line of the log, if that is what it tells.
func (d *demo) show(l line) {
	switch {
	case l.Msg == msgServing:
		d.runtime.address = l.Address
	case l.Msg == msgStderr && l.Stage == "metric":
		d.measured = measured(l.Line)
	case l.RunType != "":
		d.summary.ran(l)
		d.screen.row(row{sample: d.now, measured: d.measured, line: l})
		d.measured = ""
	}
}

// measured is what the metric hook says, in short: how many pods it is about
// goes without saying when it is all of them.
func measured(said string) string {
	var use, known, pods int
	if _, err := fmt.Sscanf(said, "measured %dm in %d of %d pods", &use, &known, &pods); err != nil {
		return ""
	}
	if known == pods {
		return fmt.Sprintf("%dm", use)
	}
	return fmt.Sprintf("%dm %d/%d", use, known, pods)
}

// scaleByHand does what the autoscaler has to find out by itself.
func (d *demo) scaleByHand(ctx context.Context) error {
	const replicas = minReplicas
	if err := d.place.scale(ctx, replicas); err != nil {
		return err
	}
	d.summary.byHand++
	d.screen.event(time.Since(d.started), fmt.Sprintf("somebody else: kubectl scale deployment %s --replicas=%d", deployment, replicas))
	return nil
}

// askForDryRun asks what would be done now, and shows that nothing was.
func (d *demo) askForDryRun(ctx context.Context) error {
	d.screen.event(time.Since(d.started), "somebody asks: POST "+dryRunPath)
	answer, err := d.runtime.dryRun(ctx)
	if err != nil {
		return err
	}
	for waiting := true; waiting; {
		select {
		case l, running := <-d.runtime.lines: // The line is logged before the answer is given.
			d.show(l)
			waiting = running && l.RunType != "api_dry_run"
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	replicas, err := d.place.replicas(ctx)
	if err != nil {
		return err
	}
	d.screen.event(time.Since(d.started), fmt.Sprintf("it answers %s, and the Deployment stays at %d", answer, replicas))
	return nil
}

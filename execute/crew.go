// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

const (
	// firstBackoff is how long the second process in a row that ends without
	// having answered anything is not replaced; the first is at once, each
	// further one after twice as long, up to maxBackoff.
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = 30 * time.Second
	// maxShownCommand is how much of a worker's command is logged, in bytes.
	maxShownCommand = 128
	// startPause is how long it takes until another process is started beside
	// others when one could not be.
	startPause = 10 * time.Second
	// leaveTime is how long a process that is replaced may take to end once its
	// stdin has, and stopTime the same when we end ourselves.
	leaveTime = 5 * time.Second
	stopTime  = 200 * time.Millisecond
)

// crew are the processes of one command, which may be several methods', and the
// requests that wait for them. Each process takes requests until it ends, breaks
// the protocol, lets one time out, or has had its number of them:
//
//	started on first use -> answers -> leaving: its stdin is closed
//	                          |            |
//	                          +-> lost <---+-> gone
//
// What was in flight when a process was lost is told so, and may be submitted
// again.
type crew struct {
	settings config.Worker
	limit    int64
	children *children
	meter    *meter
	log      *slog.Logger
	// running are the processes that anything is left of.
	running sync.WaitGroup

	mu        sync.Mutex
	processes []*process
	// waiting are the requests in the order of their coming.
	waiting  []*pending
	triggers []*func(reason string)
	// wanted is how many processes are to be there: as many as were needed so
	// far. A worker that asks for runs must be there in between.
	wanted int
	// failures counts how often in a row a process ended without an answer. Those
	// that were there already when another one ended count with that: they may
	// all have been killed for want of memory. lastLoss is when that was, how it
	// was and what it said, and notBefore is when the next may start.
	failures              int
	lastLoss              time.Time
	lastFault, lastStderr string
	notBefore             time.Time
	restart               *time.Timer
	closed                bool
}

// pending is a call on its way through a crew.
type pending struct {
	call    Call
	alone   bool
	timeout time.Duration
	// patience is how long it waits to be sent, until when.
	patience time.Duration
	until    time.Time
	// sent is closed when it is, at that moment.
	sent chan struct{}
	at   time.Time
	// done holds what became of it.
	done chan outcome

	// What follows is guarded by the crew.

	process *process
	id      int64
	// fault is why its process was killed, if that is its own fault.
	fault *Error
	// expiry kills the process of an abandoned request.
	expiry *time.Timer
}

// outcome is what became of a request: what was answered, or why nothing was.
type outcome struct {
	output []byte
	fault  *workerFault
}

// crewKey tells crews apart.
type crewKey struct {
	command                             string
	processes, maxInFlight, maxRequests int
}

// crew is the one with these settings.
func (p *Pool) crew(settings config.Worker) *crew {
	settings.Processes, settings.MaxInFlight = max(settings.Processes, 1), max(settings.MaxInFlight, 1)
	key := crewKey{
		command:   strings.Join(append([]string{settings.Entrypoint}, settings.Command...), "\x00"),
		processes: settings.Processes, maxInFlight: settings.MaxInFlight, maxRequests: settings.MaxRequests,
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.crews[key]
	if c == nil {
		c = &crew{settings: settings, limit: p.limit, children: &p.children, meter: p.meter, log: p.log.With("worker", shortened(strings.Join(append([]string{settings.Entrypoint}, settings.Command...), " "), maxShownCommand))}
		p.crews[key] = c
	}
	return c
}

// onTrigger has trigger called when one of the processes asks for a run, until
// it is taken back.
func (c *crew) onTrigger(trigger func(reason string)) (takeBack func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	one := &trigger
	c.triggers = append(c.triggers, one)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.triggers = slices.DeleteFunc(c.triggers, func(other *func(string)) bool { return other == one })
	}
}

// submit queues a request. How long it waits to be sent depends on the timeout:
// each of those before it may take that long, one after another in each process
// if they are to be alone.
func (c *crew) submit(call Call, alone bool, timeout time.Duration) *pending {
	r := &pending{call: call, alone: alone, timeout: timeout, sent: make(chan struct{}), done: make(chan outcome, 1)}
	c.mu.Lock()
	defer c.mu.Unlock()
	r.patience = timeout * time.Duration(c.settings.MaxInFlight+len(c.waiting)/c.settings.Processes)
	r.until = time.Now().Add(r.patience)
	if c.closed {
		r.finish(outcome{fault: r.ending()})
		return r
	}
	c.waiting = append(c.waiting, r)
	c.proceed()
	return r
}

// withdraw takes back a request that was not sent yet; else it returns false.
func (c *crew) withdraw(r *pending) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.waiting, r)
	if i < 0 {
		return false
	}
	c.waiting = slices.Delete(c.waiting, i, i+1)
	c.proceed() // it may have been what the others waited behind
	return true
}

// expire ends the process of a request that has no answer yet though its time is
// over.
func (c *crew) expire(r *pending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.inFlight() {
		r.process.blame(r, r.overdue())
	}
}

// overdue is the fault of a request whose time is over.
func (r *pending) overdue() *Error {
	return r.call.fault(KindTimeout, context.DeadlineExceeded, "no answer within %s (timeout); the worker was killed with its process group", r.timeout)
}

// abandon leaves a request that has no answer yet to its process, which is
// killed if it does not answer in time. It returns false when the request has an
// answer.
func (c *crew) abandon(r *pending) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !r.inFlight() {
		return false
	}
	r.expiry = time.AfterFunc(time.Until(r.at.Add(r.timeout)), func() { c.expire(r) })
	return true
}

func (r *pending) inFlight() bool { return r.process != nil && r.process.inFlight[r.id] == r }

// ending is the fault of a request that comes too late.
func (r *pending) ending() *workerFault {
	return &workerFault{Error: r.call.fault(KindCanceled, nil, "not asked: the workers are being ended")}
}

// finish tells what became of a request.
func (r *pending) finish(done outcome) {
	if r.expiry != nil {
		r.expiry.Stop()
	}
	r.done <- done
}

// proceed sends what waits, in its order, to processes that are free, and starts
// those that are missing. The lock is held.
func (c *crew) proceed() {
	for len(c.waiting) > 0 {
		r := c.waiting[0]
		p, err := c.free(r.alone)
		switch {
		case err != nil:
			r.finish(outcome{fault: &workerFault{Error: r.call.fault(KindStart, err, "%s", startFault(c.settings.Entrypoint, err))}})
		case p != nil:
			p.send(r)
		case c.taking() == 0 && c.notBefore.After(r.until):
			fault := r.call.fault(KindStart, nil, "the worker keeps ending (%s); it is started again in %s",
				c.lastFault, time.Until(c.notBefore).Round(100*time.Millisecond))
			fault.Stderr = c.lastStderr
			r.finish(outcome{fault: &workerFault{Error: fault}})
		default:
			if wait := time.Until(c.notBefore); wait > 0 && !c.full() {
				c.resume(wait)
			}
			return
		}
		c.waiting = c.waiting[1:]
	}
	c.replace()
}

// free is a process that can be sent a request: an idle one, else a new one,
// else the one with the least in flight. It is nil when there is none by now.
func (c *crew) free(alone bool) (*process, error) {
	p := c.leastBusy(alone)
	if p != nil && len(p.inFlight) == 0 || c.full() || time.Now().Before(c.notBefore) {
		return p, nil
	}
	started, err := c.start()
	if err != nil && c.taking() > 0 {
		// Those that are there have to do for a while.
		c.log.Warn("A worker could not be started beside those that are there", "error", startFault(c.settings.Entrypoint, err))
		c.notBefore = time.Now().Add(startPause)
		return p, nil
	}
	return started, err
}

// leastBusy is the process with the least in flight that takes one more.
func (c *crew) leastBusy(alone bool) (least *process) {
	for _, p := range c.processes {
		switch {
		case !p.takes(), p.alone, alone && len(p.inFlight) > 0, len(p.inFlight) == c.settings.MaxInFlight:
		case least == nil || len(p.inFlight) < len(least.inFlight):
			least = p
		}
	}
	return least
}

// taking counts the processes that take requests.
func (c *crew) taking() (count int) {
	for _, p := range c.processes {
		if p.takes() {
			count++
		}
	}
	return count
}

// full says that no more processes may be started: there are as many as take
// requests, or as many again that linger and that are being killed.
func (c *crew) full() bool {
	return c.taking() >= c.settings.Processes || len(c.processes) >= 3*c.settings.Processes
}

// start starts a process.
func (c *crew) start() (*process, error) {
	p, err := startProcess(c)
	if err != nil {
		c.wanted = c.taking()
		return nil, err
	}
	c.processes = append(c.processes, p)
	c.wanted = max(c.wanted, c.taking())
	return p, nil
}

// replace starts the processes that are missing, or sees to it that they are
// when their time has come.
func (c *crew) replace() {
	for !c.closed && c.taking() < c.wanted && !c.full() {
		if wait := time.Until(c.notBefore); wait > 0 {
			c.resume(wait)
			return
		}
		if _, err := c.start(); err != nil {
			c.log.Warn("A worker could not be started: that is tried again when it is needed", "error", startFault(c.settings.Entrypoint, err))
		}
	}
}

// resume proceeds after a while.
func (c *crew) resume(wait time.Duration) {
	if c.restart != nil {
		c.restart.Stop()
	}
	c.restart = time.AfterFunc(wait, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.closed {
			c.proceed()
		}
	})
}

// answered is for the answer to the request with the ID. It returns what is
// wrong with that.
func (c *crew) answered(p *process, m *message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	id, ok := m.number()
	if m.Error != nil && string(m.ID) == "null" {
		id = p.only() // it could not even read the ID
	}
	r := p.inFlight[id]
	switch {
	case r == nil && ok && id >= 1 && id <= p.sent:
		p.broken = true
		return fmt.Errorf("the worker answered the id %d twice", id)
	case r == nil:
		p.broken = true
		return fmt.Errorf("the worker answered the id %s, which was not asked", shortened(string(m.ID), maxShownMessage))
	}
	done, err := m.outcome(r.call)
	p.broken = p.broken || err != nil
	c.failures = 0
	delete(p.inFlight, r.id)
	p.alone = false
	r.finish(done)
	if p.leaving && len(p.inFlight) == 0 {
		c.dismiss(p)
	}
	c.proceed()
	return err
}

// dismiss has a process end that has had its number of requests. Of those that
// do not, no more are left to linger than there are processes.
func (c *crew) dismiss(p *process) {
	var lingering []*process
	for _, other := range c.processes {
		if other.closed && !isClosed(other.condemned) {
			lingering = append(lingering, other)
		}
	}
	if len(lingering) >= c.settings.Processes {
		lingering[0].condemn()
	}
	p.leave(leaveTime)
}

// gone is for a process that takes no more requests, whatever is left of it.
func (c *crew) gone(p *process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.gone = true
}

// triggered asks for a run.
func (c *crew) triggered(reason string) {
	c.mu.Lock()
	triggers := slices.Clone(c.triggers)
	c.mu.Unlock()
	for _, trigger := range triggers {
		(*trigger)(reason)
	}
}

// lost is for a process that takes no more requests and answers none: kind and
// reason say why, stderr what it said last.
func (c *crew) lost(p *process, kind Kind, reason, stderr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.processes = slices.DeleteFunc(c.processes, func(other *process) bool { return other == p })
	p.closeQueue()
	if p.leaving && !p.broken && len(p.inFlight) == 0 {
		if !c.closed {
			c.meter.restarted(RestartRequests)
		}
		c.proceed()
		return
	}
	c.delay(p)
	c.lastFault, c.lastStderr = strings.TrimPrefix(reason, endedEarly), stderr
	if !c.closed {
		c.meter.restarted(kind)
		c.log.Warn("A worker is replaced", "reason", p.told(reason), "pid", p.group.leader.Process.Pid, "inFlight", len(p.inFlight))
	}
	for _, r := range p.inFlight {
		done := outcome{fault: &workerFault{Error: r.call.fault(kind, nil, "%s", reason), lost: true}}
		switch {
		case r.fault != nil:
			done.fault = &workerFault{Error: r.fault}
		case time.Since(r.at) >= r.timeout: // which it was about to say itself
			done.fault = &workerFault{Error: r.overdue()}
		}
		done.fault.Stderr = cmp.Or(done.fault.Stderr, stderr)
		r.finish(done)
	}
	clear(p.inFlight)
	c.proceed()
}

// delay puts off the next start when processes keep ending.
func (c *crew) delay(lost *process) {
	if lost.started.Before(c.lastLoss) {
		return
	}
	c.lastLoss = time.Now()
	c.failures++
	if c.failures > 1 {
		// Beyond the 10th doubling the most is reached long since.
		c.notBefore = c.lastLoss.Add(min(firstBackoff<<min(c.failures-2, 10), maxBackoff))
	}
}

// close ends the processes, and returns when they have ended.
func (c *crew) close() {
	c.mu.Lock()
	c.closed = true
	if c.restart != nil {
		c.restart.Stop()
	}
	for _, r := range c.waiting {
		r.finish(outcome{fault: r.ending()})
	}
	c.waiting = nil
	for _, p := range c.processes {
		p.leaving = true
		p.leave(stopTime)
	}
	c.mu.Unlock()
	c.running.Wait()
}

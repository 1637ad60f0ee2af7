// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// exitGrace is how long a process that closed its stdout may take to exit,
	// which is the better explanation.
	exitGrace = 100 * time.Millisecond
	// readSize is how much of stdout is read at once, in bytes: what a pipe
	// holds.
	readSize = 64 << 10
	// maxUnasked is how many messages that answer nothing a process may print
	// in a second. More is a flood, which costs us time that the hooks need.
	maxUnasked = 1000
)

// process is a running worker.
type process struct {
	crew  *crew
	group *group
	log   *slog.Logger
	// queue holds the requests on their way to its stdin. There is room for as
	// many as may be in flight, so that it is only full when the process answers
	// what it has not read.
	queue chan *pending
	// condemned is closed when it is to be killed, and ended when nothing is
	// left of it.
	condemned chan struct{}
	condemn   func()
	ended     chan struct{}
	started   time.Time

	// What follows belongs to the reader of its stdout; others may look when
	// that has ended.

	violation     error
	violationKind Kind
	unasked       int
	unaskedSince  time.Time
	warned        bool

	// said is what it wrote to stderr since it was last idle.
	said lockedTail

	// What follows is guarded by the crew.

	inFlight map[int64]*pending
	// sent counts the requests, and is the ID of the last one.
	sent int64
	// alone says that the request in flight is to stay the only one.
	alone bool
	// leaving says that it gets no more requests since it has had its number of
	// them, broken that it gets none since it is to be killed, gone that it has
	// ended.
	leaving, broken, gone bool
	// closed says that the queue is.
	closed bool
}

// startProcess starts a process of the crew, whose lock is held.
func startProcess(c *crew) (*process, error) {
	running, err := startGroup(c.children, c.settings.Entrypoint, c.settings.Command)
	if err != nil {
		return nil, err
	}
	p := &process{
		crew: c, group: running, log: c.log.With("pid", running.leader.Process.Pid),
		queue:     make(chan *pending, c.settings.MaxInFlight),
		condemned: make(chan struct{}), ended: make(chan struct{}),
		inFlight: map[int64]*pending{}, started: time.Now(),
	}
	p.condemn = sync.OnceFunc(func() { close(p.condemned) })
	running.converse(p.feed, p.read, p.readStderr)
	c.running.Go(p.attend)
	return p, nil
}

// send sends a request. The crew's lock is held.
func (p *process) send(r *pending) {
	if len(p.inFlight) == 0 {
		p.said.reset()
	}
	p.sent++
	r.process, r.id, r.at = p, p.sent, time.Now()
	p.inFlight[r.id] = r
	p.alone = r.alone
	close(r.sent)
	select {
	case p.queue <- r:
	default:
		p.blame(r, r.call.fault(KindAnswer, nil, "the worker answers what it has not read"))
	}
	if most := int64(p.crew.settings.MaxRequests); most > 0 && p.sent >= most {
		p.leaving = true
	}
}

// blame has the process killed for a request that is in flight. The crew's lock
// is held.
func (p *process) blame(r *pending, fault *Error) {
	r.fault = fault
	p.broken = true
	p.condemn()
}

// leave closes its stdin, and has it killed if it does not end within the time.
// The crew's lock is held.
func (p *process) leave(within time.Duration) {
	p.closeQueue()
	timer := time.AfterFunc(within, func() {
		p.log.Warn("A worker did not end when its stdin did: it is killed")
		p.condemn()
	})
	go func() {
		<-p.ended
		timer.Stop()
	}()
}

// takes says whether it takes requests.
func (p *process) takes() bool { return !p.leaving && !p.broken && !p.gone }

// only is the ID of the one request in flight, if there is just one. The crew's
// lock is held.
func (p *process) only() int64 {
	if len(p.inFlight) != 1 {
		return 0
	}
	return slices.Collect(maps.Keys(p.inFlight))[0]
}

func (p *process) closeQueue() {
	if !p.closed {
		p.closed = true
		close(p.queue)
	}
}

// feed writes the requests to its stdin until the queue is closed.
func (p *process) feed(stdin io.Writer) {
	failed := false
	for r := range p.queue {
		if !failed {
			// A process that reads no more is found out by what it does not
			// answer.
			_, err := stdin.Write(encodeRequest(r.id, r.call))
			failed = err != nil
		}
	}
}

// read reads its messages until they end, or until one is none.
func (p *process) read(stdout io.Reader) {
	lines := bufio.NewReaderSize(stdout, readSize)
	for {
		line, err := readLine(lines, p.crew.limit)
		if errors.Is(err, errTooMuch) || int64(len(line)) > p.crew.limit {
			p.violation, p.violationKind = tooLong(p.crew.limit), KindOutput
			return
		}
		fault := p.heed(bytes.TrimSpace(line))
		if err != nil {
			return // half a line says less than how the process ended
		}
		if fault != nil {
			p.violation, p.violationKind = fault, KindAnswer
			return
		}
	}
}

func tooLong(limit int64) error {
	return fmt.Errorf("the worker printed a message longer than %d bytes, the limit set by maxOutputBytes", limit)
}

// heed acts on a line. It returns what is wrong with it.
func (p *process) heed(line []byte) error {
	if len(line) == 0 {
		return p.unaskedFor()
	}
	m, err := parseMessage(line)
	if err != nil {
		return err
	}
	if m.isAnswer() {
		p.unasked = 0
		return p.crew.answered(p, &m)
	}
	if m.Method == methodTrigger {
		p.crew.triggered(m.reason())
	} else if !p.warned {
		p.warned = true
		p.log.Warn("A worker sent a message whose method is unknown, which is ignored", "method", shortened(m.Method, maxShownMessage))
	}
	return p.unaskedFor()
}

// unaskedFor counts a message that answers nothing, after the last that did.
func (p *process) unaskedFor() error {
	if now := time.Now(); now.Sub(p.unaskedSince) > time.Second {
		p.unasked, p.unaskedSince = 0, now
	}
	p.unasked++
	if p.unasked > maxUnasked {
		return fmt.Errorf("the worker printed more than %d messages within a second that answer nothing", maxUnasked)
	}
	return nil
}

// readStderr logs its stderr and keeps the end of it.
func (p *process) readStderr(stderr io.Reader) {
	var since time.Time
	lines := 0
	forEachLine(stderr, func(line string) {
		p.said.add(line + "\n")
		if now := time.Now(); now.Sub(since) > time.Minute {
			since, lines = now, 0
		}
		lines++
		switch {
		case lines <= maxLogged:
			p.log.Info("hook wrote to stderr", "line", line)
		case lines == maxLogged+1:
			p.log.Warn("hook writes more to stderr than is logged of a worker in a minute", "logged", maxLogged)
		}
	})
}

// attend waits for the end of the process, or brings it about, and clears up.
func (p *process) attend() {
	defer close(p.ended)
	g := p.group
	select {
	case <-g.exited:
	case <-p.condemned:
	case <-g.stdoutEnded:
		if p.violation == nil {
			within(exitGrace, g.exited)
		}
	}
	exited := isClosed(g.exited)
	p.crew.gone(p)
	g.kill()
	// What it printed before is read to the end, which comes at once unless a
	// process that left the group holds the pipes.
	g.drainFor(hastyDrainTime)
	<-g.stdoutEnded
	<-g.stderrEnded
	kind, reason := p.verdict(exited)
	p.crew.lost(p, kind, reason, p.said.String())
	if !g.finish() {
		p.log.Warn("A worker could not be killed and is still there")
	}
}

const endedEarly = "the worker ended before it answered: "

// verdict says why the process is lost.
func (p *process) verdict(exited bool) (Kind, string) {
	switch {
	case p.violation != nil:
		return p.violationKind, p.violation.Error()
	case exited:
		kind, how := exitFault(p.group.status, p.group.waitErr)
		if how == "" {
			kind, how = KindExit, "exit status 0"
		}
		return kind, endedEarly + how
	case isClosed(p.condemned):
		return KindTimeout, "the worker was killed because another request timed out"
	default:
		return KindAnswer, "the worker closed its stdout before it answered"
	}
}

// told is the reason as the log has it. The crew's lock is held.
func (p *process) told(reason string) string {
	if len(p.inFlight) == 0 {
		return strings.Replace(reason, endedEarly, "the worker ended while it was idle: ", 1)
	}
	for _, r := range p.inFlight {
		if r.fault != nil {
			return r.fault.Message
		}
	}
	return reason
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// within waits until the channel is closed, for a while at most.
func within(d time.Duration, c <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c:
	case <-timer.C:
	}
}

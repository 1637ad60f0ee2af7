// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The style of a piece of text on a terminal.
const (
	plain  = ""
	bold   = "\x1b[1m"
	dim    = "\x1b[2m"
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	cyan   = "\x1b[36m"
)

// screen is what the user sees: on a terminal with colours and a last line that
// is kept up to date, elsewhere plain lines only.
type screen struct {
	// mutex guards the rest: a Ctrl-C is noted whatever goes on.
	mutex    sync.Mutex
	out      io.Writer
	terminal bool
	// partial is the beginning of a line of progress.
	partial []byte
	// passing says that the last line is to be written over.
	passing bool
}

func newScreen(out *os.File) *screen {
	info, err := out.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	return &screen{out: out, terminal: terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

// styled gives a text a style where there are styles.
func (s *screen) styled(style, text string) string {
	if !s.terminal || style == plain {
		return text
	}
	return style + text + "\x1b[0m"
}

// print shows lines that stay.
func (s *screen) print(lines ...string) {
	s.clear()
	for _, l := range lines {
		_, _ = fmt.Fprintln(s.out, strings.TrimRight(l, " "))
	}
}

// pass shows a line that the next one is written over, if this is a terminal.
func (s *screen) pass(text string) {
	if s.terminal {
		s.clear()
		_, _ = io.WriteString(s.out, text)
		s.passing = true
	}
}

func (s *screen) clear() {
	if s.passing {
		_, _ = io.WriteString(s.out, "\r\x1b[K")
		s.passing = false
	}
}

// step says what is done next.
func (s *screen) step(text string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.print(s.styled(bold, "==> ") + text)
}

// detail says more about a step.
func (s *screen) detail(format string, arguments ...any) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.print("    " + fmt.Sprintf(format, arguments...))
}

// waiting shows for how long something is waited for, and what it lacks.
func (s *screen) waiting(since time.Duration, lacks error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	text := []rune(fmt.Sprintf("    %s %v", clock(since), lacks))
	s.pass(s.styled(dim, string(text[:min(len(text), lineLength-1)])))
}

// waited ends that.
func (s *screen) waited() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.clear()
}

// Write takes the lines in which a step tells of its progress. Those that are
// indented only say that it goes on. It never fails.
func (s *screen) Write(p []byte) (int, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.partial = append(s.partial, p...)
	for {
		text, rest, whole := bytes.Cut(s.partial, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		s.partial = rest
		if text := "    " + string(text); s.terminal && strings.HasPrefix(text, "      ") {
			s.pass(text)
		} else {
			s.print(text)
		}
	}
}

// interrupted says what happens after a Ctrl-C.
func (s *screen) interrupted() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.print("", s.styled(bold, "==> ")+"Stopping, and removing what was made (a second Ctrl-C does not wait for that)")
}

// The table. Its bar has a cell for each pod: one that is ready, one that was
// asked for and is not ready yet, and a mark up to which there should be some.
const (
	barCells   = 12
	whyColumn  = 54
	lineLength = 100
	cellReady  = "█"
	cellAsked  = "░"
	cellNone   = "·"
	cellNeeded = "┃"
)

// begin shows the head of the table.
func (s *screen) begin(p pace) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.print(
		s.styled(bold, "==> ")+"Watching for "+short(p.duration),
		"",
		fmt.Sprintf("    load      what all pods have to do: %dm to %dm of CPU (1000m is a core) and back in %s",
			p.wave.low, p.wave.high, short(p.wave.period)),
		"    measured  what metrics-server says that they use, and how many it has measured if not all",
		fmt.Sprintf("    wanted    what the hooks ask for, so that no pod uses more than %dm", millicoresPerPod),
		"    decided   what the autoscaler makes of it, and why",
		fmt.Sprintf("    pods      %s ready  %s asked for  %s what the load needs", cellReady, cellAsked, cellNeeded),
		"",
		s.styled(bold, columns("time", "load", "measured", "wanted", "decided", "ready", fmt.Sprintf("%-*s why", barCells, "pods"))),
	)
}

func columns(at, load, measured, wanted, decided, ready, rest string) string {
	return fmt.Sprintf("%4s %4s %9s %6s %7s %5s %s", at, load, measured, wanted, decided, ready, rest)
}

// row is one run.
type row struct {
	sample   sample
	measured string
	line     line
}

// row shows a run.
func (s *screen) row(r row) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	style, decided, wanted, asked := s.decision(r.line)
	left := columns(clock(r.sample.at), milli(r.sample.demand), r.measured, wanted, decided, strconv.Itoa(r.sample.ready), "")
	why := wrap(r.line.why(), lineLength-whyColumn)
	text := s.styled(style, left) + s.bar(r.sample, asked) + " " + s.styled(style, why[0])
	s.print(text)
	for _, more := range why[1:] {
		s.print(strings.Repeat(" ", whyColumn) + s.styled(style, more))
	}
}

// decision is what the columns say of it.
func (s *screen) decision(l line) (style, decided, wanted string, asked int) {
	switch {
	case l.Reason == "":
		return red, "", "", 0
	case l.Msg == msgFailed:
		style = red
	case l.Msg == msgScaled:
		style = green
	}
	decided = strconv.Itoa(l.To)
	if l.From != l.To {
		decided = fmt.Sprintf("%d → %d", l.From, l.To)
	}
	var evaluated int
	if _, err := fmt.Sscanf(l.Reason, "evaluated %d", &evaluated); err == nil {
		wanted = strconv.Itoa(evaluated)
	}
	return style, decided, wanted, l.To
}

// why is the reason in the autoscaler's own words.
func (l line) why() string {
	if l.Msg == msgFailed {
		return "run failed at " + l.Stage + ": " + l.Error
	}
	return l.Reason
}

// bar draws the pods that there are, and those that the load needs.
func (s *screen) bar(now sample, asked int) string {
	var bar strings.Builder
	need := needed(now.demand)
	for pod := 1; pod <= barCells; pod++ {
		cell, style := cellNone, dim
		switch {
		case pod == need:
			cell, style = cellNeeded, yellow
		case pod <= now.ready:
			cell, style = cellReady, cyan
		case pod <= asked:
			cell, style = cellAsked, cyan
		}
		bar.WriteString(s.styled(style, cell))
	}
	return bar.String()
}

// live keeps the last line up to date.
func (s *screen) live(now sample) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.pass(s.styled(dim, columns(clock(now.at), milli(now.demand), "", "", "", strconv.Itoa(now.ready), "")) + s.bar(now, 0))
}

// event shows what somebody else did.
func (s *screen) event(at time.Duration, text string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.print(s.styled(yellow, fmt.Sprintf("%4s ── %s", clock(at), text)))
}

// clock is a duration as minutes and seconds.
func clock(d time.Duration) string {
	seconds := int(d.Round(time.Second).Seconds())
	return fmt.Sprintf("%d:%02d", seconds/60, seconds%60)
}

// short is a duration without the units that are nought: 2m, not 2m0s.
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	return text
}

func milli(value int64) string { return fmt.Sprintf("%dm", value) }

// wrap breaks a text into lines, at spaces where it can.
func wrap(text string, width int) []string {
	var lines []string
	for len(text) > width {
		cut := strings.LastIndex(text[:width+1], " ")
		if cut <= 0 {
			cut = width
		}
		lines = append(lines, text[:cut])
		text = strings.TrimLeft(text[cut:], " ")
	}
	return append(lines, text)
}

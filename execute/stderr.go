// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

import (
	"bufio"
	"bytes"
	"io"
	"strings"
	"sync"
	"unicode/utf8"
)

const (
	// maxTail is how much of a program's stderr an Error keeps, in bytes.
	maxTail = 8 << 10
	// maxLine is the longest piece of stderr that is logged at once, in bytes.
	maxLine = 8 << 10
	// maxLogged is how many lines of a call's stderr are logged: a hook that
	// writes without end must not fill the node's disk.
	maxLogged = 1000
)

// tail keeps the end of what is written to it.
type tail struct {
	data []byte
}

// Write takes all of p. It never fails.
func (t *tail) Write(p []byte) (int, error) {
	if len(p) >= maxTail {
		t.data = append(t.data[:0], p[len(p)-maxTail:]...)
		return len(p), nil
	}
	if excess := len(t.data) + len(p) - maxTail; excess > 0 {
		t.data = append(t.data[:0], t.data[excess:]...)
	}
	t.data = append(t.data, p...)
	return len(p), nil
}

// String is the end of what was written as valid UTF-8, at most maxTail bytes.
func (t *tail) String() string {
	data := t.data
	if len(data) == maxTail { // the first rune may have been cut
		for cut := 1; cut < utf8.UTFMax && !utf8.RuneStart(data[0]); cut++ {
			data = data[1:]
		}
	}
	return strings.ToValidUTF8(string(data), "?")
}

// lockedTail is a tail for one who writes and others who look.
type lockedTail struct {
	mu   sync.Mutex
	tail tail
}

func (t *lockedTail) add(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _ = t.tail.Write([]byte(text))
}

func (t *lockedTail) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tail.data = t.tail.data[:0]
}

// String is the end of what was added.
func (t *lockedTail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tail.String()
}

// forEachLine hands on each line of r without its line break, and a line
// longer than maxLine in pieces. Empty lines are left out.
func forEachLine(r io.Reader, each func(line string)) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, maxLine), maxLine)
	lines.Split(splitLine)
	for lines.Scan() {
		if line := strings.TrimRight(lines.Text(), "\r"); line != "" {
			each(strings.ToValidUTF8(line, "?"))
		}
	}
}

// splitLine is a bufio.SplitFunc that never asks for more than maxLine bytes.
func splitLine(data []byte, atEOF bool) (advance int, token []byte, err error) {
	switch end := bytes.IndexByte(data, '\n'); {
	case end >= 0:
		return end + 1, data[:end], nil
	case len(data) >= maxLine:
		cut := wholeRunes(data)
		return cut, data[:cut], nil
	case atEOF && len(data) > 0:
		return len(data), data, nil
	default:
		return 0, nil, nil
	}
}

// wholeRunes is the length of data without a rune that is cut at its end.
func wholeRunes(data []byte) int {
	for cut := len(data) - 1; cut > 0 && cut > len(data)-utf8.UTFMax; cut-- {
		if utf8.RuneStart(data[cut]) {
			if !utf8.FullRune(data[cut:]) {
				return cut
			}
			break
		}
	}
	return len(data)
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"
)

// maxEventBytes bounds a record of a stream.
const maxEventBytes = 8 << 20

// silence is how long a stream may say nothing, in which it would have said that
// it is alive three times.
const silence = 45 * time.Second

var errSilent = fmt.Errorf("the stream of records said nothing for %s", silence)

// Event is a record that comes over a stream.
type Event struct {
	// ID is what to begin after, to go on with a new stream.
	ID string
	// Data is the record as it came.
	Data   json.RawMessage
	Record Record
}

// StreamRecords yields each run as it ends, until the context does, the loop is
// left, or the stream ends, which is the last error: io.EOF if the autoscaler
// ended it. It begins with what comes next, or with what is kept after an event.
// To connect again is the caller's to do.
func (c *Client) StreamRecords(ctx context.Context, after string) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		alarm := time.AfterFunc(silence, func() { cancel(errSilent) })
		defer alarm.Stop()
		left := false
		err := c.stream(ctx, after, func() { alarm.Reset(silence) }, func(e Event) bool {
			left = !yield(e, nil)
			return !left
		})
		if left {
			return
		}
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		yield(Event{}, err)
	}
}

// stream reads events until there are no more, which is an error, or they are
// not wanted any more, which is none.
func (c *Client) stream(ctx context.Context, after string, alive func(), yield func(Event) bool) error {
	response, err := c.send(ctx, Request{Path: PathStream, after: after}, "text/event-stream")
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, maxEventBytes)
	var event Event
	var kind string
	for lines.Scan() {
		alive()
		name, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "id":
			event.ID = value
		case "event":
			kind = value
		case "data":
			if event.Data = append(event.Data, value...); len(event.Data) > maxEventBytes {
				return fmt.Errorf("reading the stream of records: a record has more than %d bytes", maxEventBytes)
			}
		}
		if lines.Text() != "" {
			continue
		}
		// Other kinds are a later version's.
		if kind == "record" {
			if err := json.Unmarshal(event.Data, &event.Record); err != nil {
				return fmt.Errorf("reading the stream of records: %w", err)
			}
			if !yield(event) {
				return nil
			}
		}
		event, kind = Event{}, ""
	}
	if err := lines.Err(); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("reading the stream of records: %w", err)
	}
	return io.EOF
}

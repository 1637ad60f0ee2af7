// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/autoscaler"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// reader reads the events of a stream.
type reader struct {
	response *http.Response
	lines    *bufio.Scanner
}

// follow opens the stream of a server.
func follow(t *testing.T, server *httptest.Server, lastEventID string) *reader {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/api/v1/records/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	if lastEventID != "" {
		r.Header.Set("Last-Event-ID", lastEventID)
	}
	response, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	return &reader{response: response, lines: bufio.NewScanner(response.Body)}
}

// next is the next event, without what it holds, or the next comment.
func (r *reader) next(t *testing.T) string {
	t.Helper()
	var event []string
	for r.lines.Scan() {
		if r.lines.Text() == "" {
			return strings.Join(event, "|")
		}
		line, _, _ := strings.Cut(r.lines.Text(), `,"id"`)
		event = append(event, line)
	}
	t.Fatalf("the stream ended: %v", r.lines.Err())
	return ""
}

// streaming is a server of the journal alone.
func streaming(t *testing.T, closing chan struct{}) (*autoscaler.Journal, *httptest.Server) {
	t.Helper()
	b := backend(t, unasked{})
	server := httptest.NewServer(newHandler(config.API{}, b, authenticate(t, config.API{}), closing))
	t.Cleanup(server.Close)
	return b.Journal, server
}

func TestStream(t *testing.T) {
	journal, server := streaming(t, nil)
	journal.Observe(autoscaler.Record{Sequence: 1})
	journal.Observe(autoscaler.Record{Sequence: 2})
	from, fresh := follow(t, server, "1"), follow(t, server, "")
	if got := from.response.Header.Get("Content-Type"); got != "text/event-stream; charset=utf-8" {
		t.Errorf("the type is %s", got)
	}
	if got := from.next(t); got != ": ping" {
		t.Errorf("got %s", got)
	}
	if got := from.next(t); got != `id: 2|event: record|data: {"sequence":2` {
		t.Errorf("got %s", got)
	}
	if got := fresh.next(t); got != ": ping" {
		t.Errorf("got %s", got)
	}
	journal.Observe(autoscaler.Record{Sequence: 3})
	for _, stream := range []*reader{from, fresh} {
		if got := stream.next(t); got != `id: 3|event: record|data: {"sequence":3` {
			t.Errorf("got %s", got)
		}
	}
}

// A stop ends the streams: otherwise each would be waited for.
func TestAStopEndsStreams(t *testing.T) {
	closing := make(chan struct{})
	_, server := streaming(t, closing)
	stream := follow(t, server, "")
	stream.next(t)
	close(closing)
	if _, err := io.Copy(io.Discard, stream.response.Body); err != nil {
		t.Error(err)
	}
}

// Whoever follows holds a place, and gives it back by leaving.
func TestStreamsAreBounded(t *testing.T) {
	_, server := streaming(t, nil)
	var streams []*reader
	for {
		stream := follow(t, server, "")
		if stream.response.StatusCode != http.StatusOK {
			if stream.response.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("got %d", stream.response.StatusCode)
			}
			break
		}
		streams = append(streams, stream)
		if len(streams) > 100 {
			t.Fatal("there is no bound")
		}
	}
	_ = streams[0].response.Body.Close()
	eventually(t, "a place is free", func() bool {
		stream := follow(t, server, "")
		defer func() { _ = stream.response.Body.Close() }()
		return stream.response.StatusCode == http.StatusOK
	})
}

func TestStreamAfterNonsense(t *testing.T) {
	s := serveAll(t, &config.API{})
	if status, answer, _ := s.ask("GET", "/api/v1/records/stream", "", "Last-Event-ID", "x"); status != 400 {
		t.Errorf("got %d %s", status, answer)
	}
}

// Over HTTP/2 a stream outlasts the silence between its events.
func TestAStreamOverHTTP2(t *testing.T) {
	b := backend(t, unasked{})
	server := httptest.NewUnstartedServer(newHandler(config.API{}, b, authenticate(t, config.API{}), nil))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	stream := follow(t, server, "")
	if stream.response.ProtoMajor != 2 {
		t.Fatalf("it speaks %s", stream.response.Proto)
	}
	stream.next(t)
	w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	p := newPunctual(w)
	for range 2 {
		if _, err := p.Write([]byte("a")); err != nil {
			t.Fatal(err)
		}
		if err := p.FlushError(); err != nil {
			t.Fatal(err)
		}
		if len(w.set) != 2 || w.set[0].IsZero() || !w.set[1].IsZero() {
			t.Errorf("the deadlines are %v", w.set)
		}
		w.set = nil
	}
}

// deadlines notes those of a connection.
type deadlines struct {
	*httptest.ResponseRecorder
	set []time.Time
}

func (d *deadlines) SetWriteDeadline(at time.Time) error {
	d.set = append(d.set, at)
	return nil
}

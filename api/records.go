// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/api/auth"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/autoscaler"
)

const (
	// defaultRecords is how many records are answered with when nobody says.
	defaultRecords = 100
	// pingEvery is how often a stream shows that it is still there.
	pingEvery = 15 * time.Second
	// maxStream is how long a stream lasts: who follows then asks anew, and is
	// asked anew for credentials.
	maxStream = 10 * time.Minute
)

func (h *handler) records(w http.ResponseWriter, r *http.Request) {
	for name := range r.URL.Query() {
		if name != "limit" && name != "since" {
			h.fail(w, http.StatusBadRequest, legible(name)+": unknown query parameter; there are limit and since")
			return
		}
	}
	limit, since, err := which(r)
	if err != nil {
		h.fail(w, http.StatusBadRequest, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if err := h.list(w, r, h.Journal.Latest(limit, since)); err != nil {
		h.Log.Debug("Writing an answer", "error", err)
	}
}

// list writes records as {"records":[...]}, one by one: as JSON all of them may
// be ten megabytes, for each caller who reads slowly.
func (h *handler) list(w io.Writer, r *http.Request, records []autoscaler.Record) error {
	part := []byte(`{"records":[`)
	for i, record := range records {
		encoded, err := asJSON(h.shown(r, record))
		if err != nil {
			return err
		}
		if i > 0 {
			part = []byte(",")
		}
		if _, err := w.Write(append(part, encoded...)); err != nil {
			return err
		}
		part = nil
	}
	_, err := w.Write(append(part, "]}"...))
	return err
}

// which records are asked for: how many at most, and after when they began.
func which(r *http.Request) (limit int, since time.Time, err error) {
	limit = defaultRecords
	text, err := parameter(r, "limit")
	if err != nil {
		return 0, since, err
	}
	if text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > autoscaler.MaxRecords {
			return 0, since, fmt.Errorf("limit: must be a whole number from 1 to %d, got %q", autoscaler.MaxRecords, shorten(text))
		}
	}
	if text, err = parameter(r, "since"); err == nil && text != "" {
		since, err = moment("since", text)
	}
	return limit, since, err
}

// stream sends the records as they come, as Server-Sent Events (the HTML
// standard, 9.2), first those after the one that the caller had last.
func (h *handler) stream(w http.ResponseWriter, r *http.Request) {
	var after *uint64
	if text := r.Header.Get("Last-Event-ID"); text != "" {
		sequence, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			h.fail(w, http.StatusBadRequest, fmt.Sprintf("Last-Event-ID: must be the ID of an event, got %q", shorten(text)))
			return
		}
		after = &sequence
	}
	// While a body is unread net/http does not see the caller leave.
	if _, ok := h.read(w, r, maxBodyBytes); !ok {
		return
	}
	who := streamerOf(r)
	if !h.join(who) {
		h.fail(w, http.StatusServiceUnavailable, fmt.Sprintf("%d streams of this caller are open already: close one", maxStreams))
		return
	}
	defer h.leave(who)
	missed, follower, err := h.Journal.Follow(after)
	if err != nil {
		h.fail(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	defer follower.Stop()
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	// Proxies such as nginx's would keep the events together.
	w.Header().Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	to := feed{w: w, flush: http.NewResponseController(w).Flush}
	to.ping()
	for _, record := range missed {
		to.send(h.shown(r, record))
	}
	h.follow(r, follower, &to)
}

// maxStreams is how many a caller may have open, so that one cannot keep the
// others from theirs. Who is anonymous shares them with their address.
const maxStreams = 8

// streamerOf is whose streams are counted together.
func streamerOf(r *http.Request) string {
	caller := auth.CallerFrom(r.Context())
	if caller.Anonymous() {
		return addressOf(r.RemoteAddr)
	}
	return caller.Name()
}

// join counts a stream of a caller, until leave, unless there are too many.
func (h *handler) join(who string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams[who] == maxStreams {
		return false
	}
	h.streams[who]++
	return true
}

func (h *handler) leave(who string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams[who]--; h.streams[who] == 0 {
		delete(h.streams, who)
	}
}

// follow sends records until the caller leaves, falls behind, or has been there
// long enough, or the server stops.
func (h *handler) follow(r *http.Request, follower *autoscaler.Follower, to *feed) {
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	end := time.NewTimer(maxStream)
	defer end.Stop()
	for to.err == nil {
		select {
		case record, ok := <-follower.Records:
			if !ok {
				return
			}
			to.send(h.shown(r, record))
		case <-ping.C:
			to.ping()
		case <-end.C:
			return
		case <-h.closing:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// feed writes to a stream until that fails.
type feed struct {
	w     http.ResponseWriter
	flush func() error
	err   error
}

func (f *feed) send(record autoscaler.Record) {
	data, err := asJSON(record)
	if err != nil {
		f.err = err
		return
	}
	f.write("id: %d\nevent: record\ndata: %s\n\n", record.Sequence, data)
}

func (f *feed) ping() { f.write(": ping\n\n") }

func (f *feed) write(format string, args ...any) {
	if f.err != nil {
		return
	}
	if _, f.err = fmt.Fprintf(f.w, format, args...); f.err == nil {
		f.err = f.flush()
	}
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

const (
	// scrapeTimeout bounds gathering the metrics, and writeTimeout sending them.
	scrapeTimeout = 5 * time.Second
	writeTimeout  = 10 * time.Second
	// maxScrapes is how many are gathered at once. More are refused.
	maxScrapes = 4
	// contentType is the text format of Prometheus, which every scraper reads.
	contentType = "text/plain; version=" + expfmt.TextVersion + "; charset=utf-8"
)

// Handler answers GET and HEAD with the metrics in the text format, compressed
// if the scraper takes gzip. It answers 503 when they cannot be gathered within
// 5 s, or when 4 scrapes are under way already.
//
// promhttp would do the same, and link compression that is not needed.
func (m *Metrics) Handler() http.Handler { return http.HandlerFunc(m.serve) }

func (m *Metrics) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed, "the metrics can only be read")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), scrapeTimeout)
	defer cancel()
	zip := takesGzip(r.Header)
	w.Header().Set("Vary", "Accept-Encoding")
	select {
	case m.scrapes <- struct{}{}:
	default:
		refuse(w, http.StatusServiceUnavailable, "too many scrapes at once")
		return
	}
	// What is asked may hang: then the scrape keeps its place until that ends,
	// but nobody waits for it.
	done := make(chan scrape, 1)
	go func() {
		var s scrape
		s.err = m.scrape(&s.body, zip)
		<-m.scrapes // first: whoever has the answer may ask again
		done <- s
	}()
	select {
	case s := <-done:
		s.answer(w, r, zip)
	case <-ctx.Done():
		refuse(w, http.StatusServiceUnavailable, "the metrics could not be gathered in time")
	}
}

// scrape is what a scrape is answered.
type scrape struct {
	body bytes.Buffer
	err  error
}

// scrape gathers and encodes. What cannot be gathered is left out, if there is
// anything else.
func (m *Metrics) scrape(to io.Writer, zip bool) error {
	families, err := m.registry.Gather()
	if len(families) == 0 {
		return err
	}
	if err != nil {
		m.log.Warn("Some metrics could not be gathered", "error", err)
	}
	if !zip {
		return encode(to, families)
	}
	compressor := compressors.Get().(*gzip.Writer) //nolint:forcetypeassert // the pool's New makes no other
	defer compressors.Put(compressor)
	compressor.Reset(to)
	return errors.Join(encode(compressor, families), compressor.Close())
}

func encode(to io.Writer, families []*dto.MetricFamily) error {
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(to, family); err != nil {
			return err
		}
	}
	return nil
}

// compressors are used again: one takes 0.8 MB.
var compressors = sync.Pool{New: func() any { return gzip.NewWriter(io.Discard) }}

// answer sends it, to a scraper that reads slowly for a while at most.
func (s *scrape) answer(w http.ResponseWriter, r *http.Request, zip bool) {
	if s.err != nil {
		refuse(w, http.StatusInternalServerError, "the metrics could not be gathered: "+s.err.Error())
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(s.body.Len()))
	if zip {
		w.Header().Set("Content-Encoding", "gzip")
	}
	if r.Method == http.MethodHead {
		return
	}
	connection := http.NewResponseController(w)
	_ = connection.SetWriteDeadline(time.Now().Add(writeTimeout)) // where there is a connection
	_, _ = w.Write(s.body.Bytes())                                // a scraper that went away misses nothing
	_ = connection.Flush()
	_ = connection.SetWriteDeadline(time.Time{})
}

// refuse answers as the REST API does.
func refuse(w http.ResponseWriter, code int, message string) {
	body, _ := json.Marshal(map[string]any{"message": message, "code": code}) // cannot fail
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write(body)
}

// takesGzip says whether the answer may be compressed.
func takesGzip(header http.Header) bool {
	for _, value := range header.Values("Accept-Encoding") {
		for coding := range strings.SplitSeq(value, ",") {
			name, parameters, _ := strings.Cut(coding, ";")
			weight, weighed := strings.CutPrefix(strings.ReplaceAll(parameters, " ", ""), "q=")
			q, err := strconv.ParseFloat(weight, 64)
			if strings.TrimSpace(name) == "gzip" && (!weighed || err == nil && q > 0) {
				return true
			}
		}
	}
	return false
}

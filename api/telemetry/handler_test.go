// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/autoscaler"
)

// get is a scrape with this Accept-Encoding.
func (s *story) get(method, encoding string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(s.Context(), method, "/metrics", nil)
	if encoding != "" {
		r.Header.Set("Accept-Encoding", encoding)
	}
	answer := httptest.NewRecorder()
	s.Handler().ServeHTTP(answer, r)
	return answer
}

func TestAnswerIsCompressedOnDemand(t *testing.T) {
	s := whole(t)
	plain := own(s.get(http.MethodGet, "").Body.String())
	for _, test := range []struct {
		accept string
		want   bool
	}{
		{"", false},
		{"gzip", true},
		{"deflate, gzip;q=1.0, *;q=0.5", true},
		{"zstd,  gzip ; q=0.2", true},
		{"gzip;q=0", false},
		{"gzip; q=0.0", false},
		{"gzip;q=x", false},
		{"x-gzip", false},
		{"identity", false},
	} {
		for range 2 { // the second time with what the first left
			answer := s.get(http.MethodGet, test.accept)
			body := io.Reader(answer.Body)
			if got := answer.Header().Get("Content-Encoding") == "gzip"; got != test.want {
				t.Errorf("%q: compressed is %t", test.accept, got)
				continue
			}
			if test.want {
				var err error
				if body, err = gzip.NewReader(body); err != nil {
					t.Fatal(err)
				}
			}
			content, err := io.ReadAll(body)
			if err != nil || len(own(string(content))) != len(plain) {
				t.Errorf("%q: got %d lines, %v; want %d", test.accept, len(own(string(content))), err, len(plain))
			}
			if got := answer.Header().Get("Content-Type"); got != "text/plain; version=0.0.4; charset=utf-8" {
				t.Errorf("the type is %q", got)
			}
		}
	}
}

func TestMethods(t *testing.T) {
	s := whole(t)
	if answer := s.get(http.MethodHead, ""); answer.Code != http.StatusOK || answer.Body.Len() != 0 || answer.Header().Get("Content-Length") == "0" {
		t.Errorf("HEAD: got %d, %d bytes of %s", answer.Code, answer.Body.Len(), answer.Header().Get("Content-Length"))
	}
	if answer := s.get(http.MethodPost, ""); answer.Code != http.StatusMethodNotAllowed || answer.Header().Get("Allow") != "GET, HEAD" ||
		answer.Body.String() != `{"code":405,"message":"the metrics can only be read"}` {
		t.Errorf("POST: got %d, %v", answer.Code, answer.Header())
	}
}

// The deadline of one answer is not that of the next on the same connection.
func TestConnectionsAreUsedAgain(t *testing.T) {
	s := whole(t)
	var connections sync.Map
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connections.Store(r.RemoteAddr, nil)
		s.serve(w, r)
	}))
	defer server.Close()
	client := server.Client()
	for range 3 {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || len(own(string(content))) == 0 {
			t.Errorf("got %d bytes, %v", len(content), err)
		}
	}
	count := 0
	connections.Range(func(any, any) bool { count++; return true })
	if count != 1 {
		t.Errorf("%d connections, want 1", count)
	}
}

// What hangs is not waited for, nor piles up, nor keeps runs from being
// observed; afterwards all is well.
func TestAScrapeThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, Options{})
		gate := make(chan struct{})
		s.Add(id, Source{Leading: func() bool { <-gate; return true }})
		began := time.Now()
		var scrapes sync.WaitGroup
		for range maxScrapes {
			scrapes.Go(func() {
				if answer := s.get(http.MethodGet, ""); answer.Code != http.StatusServiceUnavailable || !strings.Contains(answer.Body.String(), "in time") {
					t.Errorf("got %d: %s", answer.Code, answer.Body)
				}
			})
		}
		synctest.Wait()
		if answer := s.get(http.MethodGet, ""); answer.Code != http.StatusServiceUnavailable || !strings.Contains(answer.Body.String(), "too many") {
			t.Errorf("one too many got %d: %s", answer.Code, answer.Body)
		}
		s.run(nil)
		if took := time.Since(began); took != 0 {
			t.Errorf("a run waited for %s", took)
		}
		scrapes.Wait()
		if took := time.Since(began); took != scrapeTimeout {
			t.Errorf("the answer came after %s", took)
		}
		close(gate)
		synctest.Wait()
		if got := s.shows("desired_replicas"); len(got) != 1 {
			t.Errorf("afterwards there is %q", got)
		}
	})
}

type broken struct{}

func (broken) Describe(to chan<- *prometheus.Desc) { to <- currentDesc }
func (broken) Collect(to chan<- prometheus.Metric) {
	to <- prometheus.NewInvalidMetric(currentDesc, errors.New("out of order"))
}

// One metric that is out of order does not take the others along.
func TestAMetricThatFails(t *testing.T) {
	s := whole(t)
	s.registry.Unregister(states{s.Metrics})
	s.registry.MustRegister(broken{})
	if got := s.shows("hook_processes"); len(got) != 1 {
		t.Errorf("hook_processes is %q", got)
	}
}

func TestScrapesAndRunsAtOnce(t *testing.T) {
	s := begin(t, Options{})
	var all sync.WaitGroup
	for _, name := range []string{"a", "b", "c", "d"} {
		remove := s.Add(name, Source{})
		all.Go(func() {
			for range 200 {
				s.Observe(autoscaler.Record{ID: name, Trigger: autoscaler.Trigger{Kind: autoscaler.KindInterval, Through: autoscaler.ThroughScale}})
			}
			remove()
		})
	}
	for range maxScrapes {
		all.Go(func() {
			for range 20 {
				if answer := s.get(http.MethodGet, "gzip"); answer.Code != http.StatusOK {
					t.Errorf("got %d: %s", answer.Code, answer.Body)
				}
			}
		})
	}
	all.Wait()
}

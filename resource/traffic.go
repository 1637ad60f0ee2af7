// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Traffic is what the clients have asked the API server since they were made.
type Traffic struct {
	// Requests counts those that were answered, or will not be any more.
	Requests map[RequestKind]int64
	// Waits counts those that waited for their turn longer than a moment, and
	// Waited is how long they did so together.
	Waits  int64
	Waited time.Duration
}

// RequestKind is a request by what becomes of it.
type RequestKind struct {
	// Verb is Kubernetes' own, as in a Role: get, list, watch, create, update,
	// patch, delete.
	Verb string
	// Code is the status of the answer; CodeNone when there was none.
	Code string
}

// CodeNone stands for the status of a request without an answer.
const CodeNone = "none"

// Traffic is what was asked so far. It is safe for concurrent use.
func (c *Clients) Traffic() Traffic { return c.meter.read() }

// meter counts requests. It is safe for concurrent use.
type meter struct {
	mu      sync.Mutex
	traffic Traffic
}

func newMeter() *meter { return &meter{traffic: Traffic{Requests: map[RequestKind]int64{}}} }

// read copies what was counted.
func (m *meter) read() Traffic {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.traffic
	t.Requests = maps.Clone(t.Requests)
	return t
}

// waited counts a wait.
func (m *meter) waited(took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.traffic.Waits++
	m.traffic.Waited += took
}

// requestMeter counts each request when its answer begins.
type requestMeter struct {
	next  http.RoundTripper
	meter *meter
}

// WrappedRoundTripper is what makes the requests, for those who look for the
// connections behind it.
func (r requestMeter) WrappedRoundTripper() http.RoundTripper { return r.next }

// RoundTrip makes the request.
func (r requestMeter) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := r.next.RoundTrip(request)
	kind := RequestKind{Verb: verb(request), Code: CodeNone}
	if err == nil {
		kind.Code = strconv.Itoa(response.StatusCode)
	}
	r.meter.mu.Lock()
	defer r.meter.mu.Unlock()
	r.meter.traffic.Requests[kind]++
	return response, err
}

// verbs are those that the method tells alone.
var verbs = map[string]string{
	http.MethodPost: "create", http.MethodPut: "update", http.MethodPatch: "patch", http.MethodDelete: "delete",
}

// verb is what a Role would have to allow.
func verb(request *http.Request) string {
	if v, ok := verbs[request.Method]; ok {
		return v
	}
	switch {
	case request.URL.Query().Has("watch"):
		return "watch"
	case namesOne(request.URL.Path):
		return "get"
	default:
		return "list"
	}
}

// namesOne says whether the path is that of one object, or of no object at all,
// rather than of a collection of them.
func namesOne(path string) bool {
	// The API server may be behind a path of its own.
	root, version := "/api/", 1
	if strings.Contains(path, "/apis/") {
		root, version = "/apis/", 2
	}
	_, path, _ = strings.Cut(path, root)
	parts := strings.Split(strings.Trim(path, "/"), "/")
	parts = parts[min(version, len(parts)):]
	if len(parts) > 2 && parts[0] == "namespaces" {
		parts = parts[2:]
	}
	return len(parts) != 1
}

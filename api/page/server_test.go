// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package page_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/api/page"
)

// object is a JSON object of the REST API.
type object map[string]any

// with is a copy with other values; nil leaves a key out.
func (o object) with(key string, value any) object {
	changed := maps.Clone(o)
	changed[key] = value
	if value == nil {
		delete(changed, key)
	}
	return changed
}

// server answers as an autoscaler does. It is safe for concurrent use.
type server struct {
	URL  string
	http *httptest.Server

	mu      sync.Mutex
	status  object
	records []object
	// token is what is asked for, if it is not empty.
	token string
	// failing is the status of every answer with data, 0 for none.
	failing int
	// streamless refuses the streams only.
	streamless bool
	// streams are those open; each is closed to end it.
	streams map[chan object]bool
	// asked counts the answers with data by path.
	asked map[string]int
}

func newServer(t testing.TB, status object, records ...object) *server {
	t.Helper()
	s := &server{status: status, records: records, streams: map[chan object]bool{}, asked: map[string]int{}}
	mux := http.NewServeMux()
	static := page.Handler()
	mux.Handle("GET /{$}", static)
	mux.Handle("GET /page/", static)
	mux.Handle("GET /api/v1/status", s.allowed(s.answerStatus))
	mux.Handle("GET /api/v1/records", s.allowed(s.answerRecords))
	mux.Handle("GET /api/v1/records/stream", s.allowed(s.answerStream))
	mux.Handle("/some/proxy/", http.StripPrefix("/some/proxy", mux))
	s.http = httptest.NewServer(mux)
	s.URL = s.http.URL + "/"
	t.Cleanup(func() {
		s.fail(http.StatusServiceUnavailable)
		s.http.CloseClientConnections()
		s.http.Close()
	})
	return s
}

func (s *server) allowed(answer http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		token, failing := s.token, s.failing
		s.asked[r.URL.Path]++
		s.mu.Unlock()
		switch {
		case failing != 0:
			fail(w, failing, "the autoscaler is not ready")
		case token != "" && r.Header.Get("Authorization") != "Bearer "+token:
			w.Header().Set("WWW-Authenticate", "Bearer")
			fail(w, http.StatusUnauthorized, "give a token that may read")
		default:
			answer(w, r)
		}
	})
}

func fail(w http.ResponseWriter, code int, message string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(code)
	fmt.Fprintf(w, `{"message":%q,"code":%d}`, message, code)
}

func (s *server) answerStatus(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer(w, s.status.with("time", time.Now().Format(time.RFC3339Nano)))
}

func (s *server) answerRecords(w http.ResponseWriter, r *http.Request) {
	limit, err := strconv.Atoi(r.URL.Query().Get("limit"))
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	since, _ := time.Parse(time.RFC3339, r.URL.Query().Get("since")) // zero without
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := slices.DeleteFunc(slices.Clone(s.records), func(record object) bool { return !timeOf(record).After(since) })
	answer(w, object{"records": append([]object{}, kept[max(0, len(kept)-limit):]...)})
}

func timeOf(record object) time.Time {
	at, err := time.Parse(time.RFC3339, record["time"].(string))
	if err != nil {
		panic(err)
	}
	return at
}

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if err := json.NewEncoder(w).Encode(value); err != nil {
		panic(err)
	}
}

func (s *server) answerStream(w http.ResponseWriter, r *http.Request) {
	records := make(chan object, 16)
	last, err := strconv.Atoi(r.Header.Get("Last-Event-ID"))
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	s.mu.Lock()
	if s.streamless {
		s.mu.Unlock()
		fail(w, http.StatusServiceUnavailable, "there are 32 already")
		return
	}
	var kept []object
	for _, record := range s.records {
		if record["sequence"].(int) > last {
			kept = append(kept, record)
		}
	}
	s.streams[records] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.streams, records)
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, ": ping\n\n")
	for _, record := range kept {
		writeEvent(w, record)
	}
	w.(http.Flusher).Flush()
	for {
		select {
		case record, open := <-records:
			if !open {
				return
			}
			writeEvent(w, record)
			w.(http.Flusher).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

func writeEvent(w http.ResponseWriter, record object) {
	data, err := json.Marshal(record)
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(w, "id: %d\nevent: record\ndata: %s\n\n", record["sequence"], data)
}

// run has a run happen: the streams tell of it, and the status is another.
func (s *server) run(record, status object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.records = status, append(s.records, record)
	for stream := range s.streams {
		stream <- record
	}
}

// fail has every answer fail with a status and ends the streams; 0 ends that.
func (s *server) fail(code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing = code
	if code != 0 {
		s.end()
	}
}

// ask has a token be needed.
func (s *server) ask(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token = token
	s.end()
}

// refuseStreams has no stream be given.
func (s *server) refuseStreams() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streamless = true
}

func (s *server) end() {
	for stream := range s.streams {
		delete(s.streams, stream)
		close(stream)
	}
}

// count is how often a path was asked for.
func (s *server) count(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[path]
}

// began is when the autoscaler of these tests makes its last run.
var began = time.Now().Add(-10 * time.Second).Truncate(time.Millisecond)

// recordOf is a run that went well. ago is how long before the last.
func recordOf(sequence int, ago time.Duration, current, evaluated, desired int) object {
	explanation := fmt.Sprintf("evaluated %d", evaluated)
	var constraints []object
	if desired < evaluated {
		explanation += fmt.Sprintf(", capped to %d (maxReplicas is %d)", desired, desired)
		constraints = []object{{"name": "maxReplicas", "from": evaluated, "to": desired, "detail": fmt.Sprintf("maxReplicas is %d", desired)}}
	}
	return object{
		"sequence": sequence, "id": "shop/deployment/web", "time": began.Add(-ago).Format(time.RFC3339Nano),
		"trigger":    object{"kind": "interval", "runType": "scaler", "through": "scale"},
		"target":     object{"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": "web"},
		"bounds":     boundsOf(1, 10),
		"current":    current,
		"metrics":    []object{{"resource": "web", "value": fmt.Sprintf("%d\n", evaluated*7)}},
		"evaluation": object{"targetReplicas": evaluated}, "metricsTotal": 1,
		"decision": object{
			"current": current, "evaluated": evaluated, "constraints": constraints, "desired": desired, "direction": "up",
		},
		"explanation": explanation, "written": current != desired,
		"durationSeconds": object{"read": 0.004, "metric": 0.12, "evaluate": 0.05, "decide": 0.0001, "write": 0.02}, "tookSeconds": 0.21,
	}
}

func boundsOf(low, high int) object {
	return object{"min": object{"replicas": low}, "max": object{"replicas": high}}
}

// statusOf is the status after a run.
func statusOf(last object) object {
	status := object{
		"id": "shop/deployment/web", "version": "1.2", "started": began.Add(-26 * time.Hour).Format(time.RFC3339),
		"target": object{"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": "web"},
		"bounds": boundsOf(1, 10), "fallback": false, "failures": 0, "dryRun": false,
		"nextRun": time.Now().Add(time.Hour).Format(time.RFC3339Nano),
	}
	if last == nil {
		return status
	}
	status["lastRun"], status["explanation"], status["bounds"] = last, last["explanation"], last["bounds"]
	status["replicas"] = object{"current": last["current"]}
	if decision, ok := last["decision"].(object); ok {
		status["replicas"] = object{"current": decision["current"], "evaluated": decision["evaluated"], "desired": decision["desired"]}
	}
	if metrics, ok := last["metrics"].([]object); ok {
		status["metrics"] = object{"values": metrics, "total": len(metrics)}
	}
	return status
}

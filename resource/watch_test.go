// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// controlPlane is an API server without a network, so that time can be told:
// the Gadget web in the namespace shop, and its pods. The acceptance tests ask
// a real one.
type controlPlane struct {
	mu sync.Mutex
	// requests are those so far: method, resource, and how they ask.
	requests []string
	version  int
	gadget   map[string]any
	scale    map[string]any
	pods     map[string]map[string]any
	streams  []*stream
	// history are the events so far.
	history []happened
	// stalled is the resource whose watches are begun and then sent nothing.
	stalled string
	// sent counts the events that watches began with.
	sent int
	// refuse answers a request instead, if it has one that begins so.
	refuse map[string]answer
	// before is called with each request, by who asks.
	before func(request string)
	// patched is the count that any patch sets.
	patched int
	// hang is the kind of request that is not answered; away says that none is.
	hang string
	away bool
}

// happened is an event, at a version.
type happened struct {
	version               int
	what, selector, event string
	object                map[string]any
}

type answer struct {
	code   int
	reason string
}

// stream is a watch under way.
type stream struct {
	what, selector string
	body           *io.PipeWriter
	gone           chan struct{}
}

func newControlPlane() *controlPlane {
	c := &controlPlane{pods: map[string]map[string]any{}, refuse: map[string]answer{}, version: 100}
	c.setTarget(2, "app=web")
	c.setPod("web-1", "app=web")
	c.setPod("web-0", "app=web")
	return c
}

func (c *controlPlane) next() string {
	c.version++
	return strconv.Itoa(c.version)
}

func (c *controlPlane) setTarget(replicas int, selector string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.putTarget(replicas, selector)
}

// putTarget sets the target. The lock is held.
func (c *controlPlane) putTarget(replicas int, selector string) {
	version := c.next()
	c.gadget = map[string]any{
		"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": map[string]any{"name": "web", "resourceVersion": version},
	}
	c.scale = map[string]any{
		"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": map[string]any{"name": "web", "resourceVersion": version},
		"spec": map[string]any{"replicas": replicas}, "status": map[string]any{"selector": selector},
	}
	c.tell("gadgeti", "", "MODIFIED", c.gadget)
}

func (c *controlPlane) setPod(name, selector string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pods[name] = map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"name": name, "resourceVersion": c.next(), "labels": map[string]any{"selected-by": selector}},
	}
	c.tell("pods", selector, "MODIFIED", c.pods[name])
}

func (c *controlPlane) deletePod(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	pod := c.pods[name]
	delete(c.pods, name)
	pod["metadata"].(map[string]any)["resourceVersion"] = c.next()
	c.tell("pods", selectedBy(pod), "DELETED", pod)
}

func selectedBy(pod map[string]any) string {
	return pod["metadata"].(map[string]any)["labels"].(map[string]any)["selected-by"].(string)
}

// bookmark sends one on every watch of the resource.
func (c *controlPlane) bookmark(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.streams {
		if s.what == what {
			s.send("BOOKMARK", c.bookmarkOf(what, false))
		}
	}
}

func (c *controlPlane) bookmarkOf(what string, initial bool) map[string]any {
	object := map[string]any{"apiVersion": "v1", "kind": "Pod"}
	if what == "gadgeti" {
		object = map[string]any{"apiVersion": "example.com/v1", "kind": "Gadget"}
	}
	metadata := map[string]any{"resourceVersion": strconv.Itoa(c.version)}
	if initial {
		metadata["annotations"] = map[string]any{"k8s.io/initial-events-end": "true"}
	}
	object["metadata"] = metadata
	return object
}

// tell sends an event on the watches concerned. The lock is held.
func (c *controlPlane) tell(what, selector, event string, object map[string]any) {
	c.history = append(c.history, happened{c.version, what, selector, event, object})
	for _, s := range c.streams {
		if s.what == what && s.selector == selector {
			s.send(event, object)
		}
	}
}

// send writes an event unless the reader is gone.
func (s *stream) send(event string, object map[string]any) {
	line, _ := json.Marshal(map[string]any{"type": event, "object": object})
	_, _ = s.body.Write(append(line, '\n'))
}

// end ends all watches of the resource, after the last words if there are any.
func (c *controlPlane) end(what, words string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var others []*stream
	for _, s := range c.streams {
		if s.what != what {
			others = append(others, s)
			continue
		}
		if words != "" {
			_, _ = io.WriteString(s.body, words+"\n")
		}
		_ = s.body.Close()
	}
	c.streams = others
}

// mute lets the watches of the resource go on without a word.
func (c *controlPlane) mute(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.streams {
		if s.what == what {
			s.what += ", muted"
		}
	}
}

// stall lets the watches of the resource begin and go on without a word.
func (c *controlPlane) stall(what string) {
	c.mute(what)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stalled = what
}

// watched counts the watches of the resource that somebody reads.
func (c *controlPlane) watched(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	count := 0
	for _, s := range c.streams {
		select {
		case <-s.gone:
		default:
			if s.what == what {
				count++
			}
		}
	}
	return count
}

// asked returns the requests since it was last called, without discovery.
func (c *controlPlane) asked() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	asked := strings.Join(c.requests, ", ")
	c.requests = nil
	return asked
}

func (c *controlPlane) RoundTrip(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.URL.Path == "/apis/example.com/v1" {
		return respond(r, http.StatusOK, json.RawMessage(gadgets)), nil
	}
	what, asks := "gadgeti", "get"
	if strings.HasSuffix(r.URL.Path, "/pods") {
		what, asks = "pods", "list"
	}
	query := r.URL.Query()
	switch {
	case r.Method == http.MethodPatch:
		asks = "patch"
	case strings.HasSuffix(r.URL.Path, "/scale"):
		asks = "scale"
	case query.Get("watch") != "":
		asks = "watch"
	case strings.HasSuffix(r.URL.Path, "/gadgeti"):
		asks = "list"
	}
	c.requests = append(c.requests, asks+" "+what)
	if c.before != nil {
		c.before(asks + " " + what)
	}
	if c.away || c.hang == asks+" "+what {
		c.mu.Unlock()
		<-r.Context().Done()
		c.mu.Lock()
		return nil, r.Context().Err()
	}
	if refusal, ok := c.refuse[asks+" "+what]; ok && (refusal.code != http.StatusUnprocessableEntity || query.Get("sendInitialEvents") != "") {
		return respond(r, refusal.code, map[string]any{
			"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": refusal.reason, "code": refusal.code, "message": "no " + asks + " of " + what,
		}), nil
	}
	selector := query.Get("labelSelector")
	switch asks + " " + what {
	case "patch gadgeti":
		c.putTarget(c.patched, "app=web")
		return respond(r, http.StatusOK, c.scale), nil
	case "scale gadgeti":
		return respond(r, http.StatusOK, c.scale), nil
	case "get gadgeti":
		return respond(r, http.StatusOK, c.gadget), nil
	case "list pods", "list gadgeti":
		return respond(r, http.StatusOK, map[string]any{
			"apiVersion": map[string]string{"pods": "v1", "gadgeti": "example.com/v1"}[what],
			"kind":       map[string]string{"pods": "PodList", "gadgeti": "GadgetList"}[what],
			"metadata":   map[string]any{"resourceVersion": strconv.Itoa(c.version)}, "items": c.matching(what, selector),
		}), nil
	default:
		return c.stream(r, what, selector), nil
	}
}

// CloseIdleConnections closes none: there are none.
func (c *controlPlane) CloseIdleConnections() {}

func (c *controlPlane) matching(what, selector string) []map[string]any {
	if what == "gadgeti" {
		return []map[string]any{c.gadget}
	}
	matching := []map[string]any{}
	for _, pod := range c.pods {
		if selectedBy(pod) == selector {
			matching = append(matching, pod)
		}
	}
	return matching
}

// stream begins a watch: all there is, then a bookmark.
func (c *controlPlane) stream(r *http.Request, what, selector string) *http.Response {
	reader, writer := io.Pipe()
	s := &stream{what: what, selector: selector, body: writer, gone: make(chan struct{})}
	var first []happened
	if what != c.stalled {
		first = c.firstEvents(r, what, selector)
	}
	c.sent += len(first)
	written := make(chan struct{})
	go func() {
		defer close(written)
		for _, e := range first {
			s.send(e.event, e.object)
		}
	}()
	go func() {
		<-r.Context().Done()
		close(s.gone)
		_ = reader.CloseWithError(r.Context().Err())
		<-written
	}()
	if what == c.stalled {
		s.what += ", muted"
	}
	c.streams = append(c.streams, s)
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: reader, Request: r,
	}
}

// firstEvents are what a watch begins with: all there is and a bookmark, or what
// happened since a version.
func (c *controlPlane) firstEvents(r *http.Request, what, selector string) (events []happened) {
	if r.URL.Query().Get("sendInitialEvents") != "" {
		for _, object := range c.matching(what, selector) {
			events = append(events, happened{event: "ADDED", object: object})
		}
		return append(events, happened{event: "BOOKMARK", object: c.bookmarkOf(what, true)})
	}
	since, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	for _, e := range c.history {
		if e.what == what && e.selector == selector && e.version > since {
			events = append(events, e)
		}
	}
	return events
}

func respond(r *http.Request, code int, body any) *http.Response {
	encoded, _ := json.Marshal(body)
	return &http.Response{
		StatusCode: code, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(encoded)), Request: r,
	}
}

// story is an API server, and Readers that share the Watches of it.
type story struct {
	*testing.T
	*controlPlane
	clients *Clients
	watches *Watches
	log     writings
}

// writings is what was written, safe for concurrent use.
type writings struct {
	mu   sync.Mutex
	text []byte
}

func (w *writings) Write(text []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, text...)
	return len(text), nil
}

func (w *writings) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.text)
}

// tell tells a story on virtual time.
func tell(t *testing.T, what string, of func(s *story)) {
	t.Helper()
	t.Run(what, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &story{T: t, controlPlane: newControlPlane()}
			log := slog.New(slog.NewTextHandler(&s.log, nil))
			var err error
			if s.clients, err = Connect(&rest.Config{Host: "http://api", Transport: s.controlPlane}, "test", log); err != nil {
				t.Fatal(err)
			}
			s.watches = NewWatches(s.clients, log)
			defer s.watches.Close()
			of(s)
		})
	})
}

// logged is the log so far.
func (s *story) logged() string {
	synctest.Wait()
	return s.log.String()
}

func (s *story) reader() *Reader {
	target := NewTarget(s.clients, autoscalingv2.CrossVersionObjectReference{APIVersion: "example.com/v1", Kind: "Gadget", Name: "web"}, "shop")
	return NewReader(target, s.watches, true)
}

// run is what a run reads: a snapshot, then its scale. It wants these pods, and
// these requests for it.
func (s *story) run(r *Reader, pods, requests string) Snapshot {
	s.Helper()
	synctest.Wait()
	s.asked()
	snapshot, err := r.Read(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	var names []string
	for _, pod := range snapshot.Pods {
		names = append(names, pod.Name)
	}
	if got := strings.Join(names, " "); got != pods {
		s.Errorf("the pods are %s, not %s", got, pods)
	}
	if _, err := r.Scale(s.Context()); err != nil {
		s.Fatal(err)
	}
	if got := s.asked(); got != requests {
		s.Errorf("asked: %s\nwant:  %s", got, requests)
	}
	return snapshot
}

const (
	begins   = "watch gadgeti, scale gadgeti, watch pods, scale gadgeti"
	steadily = "scale gadgeti"
)

func TestWatch(t *testing.T) {
	tell(t, "a steady run asks for the scale only", func(s *story) {
		r := s.reader()
		first := s.run(r, "web-0 web-1", begins)
		second := s.run(r, "web-0 web-1", steadily)
		if &first.Pods[0] != &second.Pods[0] || first.Target != second.Target {
			s.Error("what did not change is not shared")
		}
		if second.PodsResourceVersion != "103" || second.Target.ResourceVersion != "101" || second.Scale != (Scale{Replicas: 2, Selector: "app=web"}) {
			s.Errorf("got %+v", second)
		}
	})
	tell(t, "what changes is seen, and only that is made anew", func(s *story) {
		r := s.reader()
		before := s.run(r, "web-0 web-1", begins)
		s.setPod("web-2", "app=web")
		s.deletePod("web-0")
		after := s.run(r, "web-1 web-2", steadily)
		if after.Pods[0] != before.Pods[1] {
			s.Error("a pod that did not change was made anew")
		}
		if len(before.Pods) != 2 || before.Pods[0].Name != "web-0" {
			s.Error("the earlier snapshot changed")
		}
		s.setTarget(5, "app=web")
		if got := s.run(r, "web-1 web-2", "scale gadgeti, scale gadgeti"); got.Scale.Replicas != 5 {
			s.Errorf("got %+v", got.Scale)
		}
		s.run(r, "web-1 web-2", steadily)
	})
	tell(t, "another selector is another watch", func(s *story) {
		r := s.reader()
		s.run(r, "web-0 web-1", begins)
		s.setPod("blue-0", "app=blue")
		s.setTarget(2, "app=blue")
		s.run(r, "blue-0", "scale gadgeti, watch pods, scale gadgeti")
		synctest.Wait()
		if got := s.watched("pods"); got != 1 {
			s.Errorf("%d watches of pods", got)
		}
	})
	tell(t, "two readers share, and the last one ends it", func(s *story) {
		one, other := s.reader(), s.reader()
		first := s.run(one, "web-0 web-1", begins)
		second := s.run(other, "web-0 web-1", "scale gadgeti, scale gadgeti")
		if &first.Pods[0] != &second.Pods[0] || first.Target != second.Target {
			s.Error("they do not share")
		}
		one.Close()
		s.run(other, "web-0 web-1", steadily)
		other.Close()
		synctest.Wait()
		if s.watched("pods")+s.watched("gadgeti") != 0 {
			s.Error("watches are left")
		}
	})
	tell(t, "bookmarks keep a quiet watch alive", func(s *story) {
		r := s.reader()
		s.run(r, "web-0 web-1", begins)
		for range 10 {
			time.Sleep(time.Minute)
			s.bookmark("pods")
			s.bookmark("gadgeti")
			s.run(r, "web-0 web-1", steadily)
		}
	})
	tell(t, "a quiet watch goes on without a run that notices, and without an event", func(s *story) {
		r := s.reader()
		before := s.run(r, "web-0 web-1", begins)
		sent := s.sent
		for range 20 {
			time.Sleep(renewal / 2)
			s.run(r, "web-0 web-1", steadily)
		}
		// The target's is one object and a bookmark each time.
		if s.sent != sent+20 {
			s.Errorf("%d events were sent though nothing happened", s.sent-sent)
		}
		if after := s.run(r, "web-0 web-1", steadily); after.Pods[0] != before.Pods[0] {
			s.Error("a pod that did not change was made anew")
		}
		if s.watched("pods") != 1 || s.watched("gadgeti") != 1 {
			s.Error("there is more than one watch of each")
		}
	})
	tell(t, "a silent watch is used for as long as is admitted", func(s *story) {
		r := s.reader()
		s.run(r, "web-0 web-1", begins)
		s.mute("pods")
		s.deletePod("web-1")
		s.run(r, "web-0 web-1", steadily) // as old as is admitted
		time.Sleep(renewal)
		s.run(r, "web-0", steadily)
	})
	tell(t, "an API server that goes on in silence for ever is never believed for longer", func(s *story) {
		for _, old := range []bool{false, true} {
			if old {
				s.refuse["watch pods"] = answer{http.StatusUnprocessableEntity, "Invalid"}
			}
			r := s.reader()
			if _, err := r.Read(s.Context()); err != nil {
				s.Fatal(err)
			}
			s.stall("pods")
			for range 20 {
				s.deletePod("web-1")
				time.Sleep(maxSilence)
				s.run(r, "web-0", steadily)
				s.setPod("web-1", "app=web")
				time.Sleep(maxSilence)
				s.run(r, "web-0 web-1", steadily)
			}
			s.stall("")
			r.Close()
		}
	})
	tell(t, "a quiet watch that is not permitted any more is not used", func(s *story) {
		r := s.reader()
		s.run(r, "web-0 web-1", begins)
		s.mute("pods")
		s.deletePod("web-1")
		s.mu.Lock()
		s.refuse["watch pods"] = answer{http.StatusForbidden, "Forbidden"}
		s.mu.Unlock()
		time.Sleep(renewal)
		s.run(r, "web-0", "list pods, scale gadgeti")
		s.mu.Lock()
		clear(s.refuse)
		s.mu.Unlock()
		time.Sleep(deniedPause)
		s.run(r, "web-0", steadily)
	})
	tell(t, "a watch that cannot begin anew is not used", func(s *story) {
		r := s.reader()
		s.run(r, "web-0 web-1", begins)
		s.mute("pods")
		s.deletePod("web-1")
		s.mu.Lock()
		s.hang = "watch pods"
		s.mu.Unlock()
		time.Sleep(maxSilence - time.Second)
		s.run(r, "web-0 web-1", steadily)
		time.Sleep(time.Second)
		s.run(r, "web-0", "list pods, scale gadgeti")
		s.mu.Lock()
		s.hang = ""
		s.mu.Unlock()
		time.Sleep(RequestTimeout + 2*time.Second)
		s.run(r, "web-0", steadily)
	})
	tell(t, "what is too old because the process itself was stopped is not used", func(s *story) {
		r := s.reader()
		s.run(r, "web-0 web-1", begins)
		stopped := func(since time.Duration) {
			r.pods.mu.Lock()
			defer r.pods.mu.Unlock()
			r.pods.lastSign, r.pods.heard = r.pods.lastSign.Add(-since), r.pods.heard.Add(-since)
		}
		stopped(maxSilence)
		s.run(r, "web-0 web-1", "list pods, scale gadgeti")
		s.bookmark("pods") // had lain there since
		s.run(r, "web-0 web-1", "list pods, scale gadgeti")
		time.Sleep(2 * time.Second)
		s.run(r, "web-0 web-1", steadily)

		// It may have been stopped while the watch was about to be in step.
		s.end("pods", "")
		s.stall("pods")
		time.Sleep(2 * time.Second)
		stopped(RequestTimeout)
		s.mu.Lock()
		last := s.streams[len(s.streams)-1]
		last.send("BOOKMARK", s.bookmarkOf("pods", true))
		s.mu.Unlock()
		s.run(r, "web-0 web-1", "list pods, scale gadgeti")
	})
	tell(t, "a watch that ends begins again", func(s *story) {
		for name, words := range map[string]string{
			"ordinarily": "",
			"gone":       `{"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "code": 410, "reason": "Expired", "message": "too old"}}`,
			"garbage":    `{"type": "ADDED", "object": {"kind": "Status", "apiVersion": "v1"}}`,
			"noise":      `}{`,
		} {
			r := s.reader()
			before := s.run(r, "web-0 web-1", begins)
			s.end("pods", words)
			s.run(r, "web-0 web-1", "list pods, scale gadgeti")
			time.Sleep(2 * time.Second)
			after := s.run(r, "web-0 web-1", steadily)
			if after.Pods[0] != before.Pods[0] {
				s.Errorf("%s: a pod that did not change was made anew", name)
			}
			r.Close()
		}
	})
	tell(t, "what is not permitted is told once and tried again", func(s *story) {
		denied := answer{http.StatusForbidden, "Forbidden"}
		s.refuse["watch pods"], s.refuse["watch gadgeti"] = denied, answer{http.StatusMethodNotAllowed, "MethodNotAllowed"}
		r := s.reader()
		before := s.run(r, "web-0 web-1", "watch gadgeti, get gadgeti, scale gadgeti, watch pods, list pods, scale gadgeti")
		for range 4 {
			after := s.run(r, "web-0 web-1", "get gadgeti, list pods, scale gadgeti")
			if after.Pods[0] != before.Pods[0] || after.Target != before.Target {
				s.Error("what did not change was made anew")
			}
			time.Sleep(deniedPause + time.Second)
		}
		for _, resource := range []string{"resource=pods namespace=shop", "resource=gadgeti.example.com namespace=shop"} {
			if strings.Count(s.logged(), resource) != 1 {
				s.Errorf("the log is\n%s", s.logged())
			}
		}
		s.mu.Lock()
		clear(s.refuse)
		s.mu.Unlock()
		time.Sleep(deniedPause + time.Second)
		s.run(r, "web-0 web-1", steadily)
	})
	tell(t, "an API server that does not send what there is gets asked", func(s *story) {
		old := answer{http.StatusUnprocessableEntity, "Invalid"}
		s.refuse["watch pods"], s.refuse["watch gadgeti"] = old, old
		r := s.reader()
		s.run(r, "web-0 web-1", "watch gadgeti, list gadgeti, watch gadgeti, scale gadgeti, watch pods, list pods, watch pods, scale gadgeti")
		s.deletePod("web-1")
		s.run(r, "web-0", steadily)
	})
	tell(t, "a list before a watch lasts through a silence, but not through a stop", func(s *story) {
		s.refuse["watch pods"] = answer{http.StatusUnprocessableEntity, "Invalid"}
		r := s.reader()
		s.run(r, "web-0 web-1", "watch gadgeti, scale gadgeti, watch pods, list pods, watch pods, scale gadgeti")
		time.Sleep(renewal - time.Second)
		if asked := s.asked(); asked != "" {
			s.Errorf("asked: %s", asked)
		}
		s.mu.Lock()
		s.before = func(request string) {
			if request == "list pods" { // stopped until long after its answer
				r.pods.heard = r.pods.heard.Add(-time.Hour)
			}
		}
		s.mu.Unlock()
		s.end("pods", "")
		time.Sleep(2 * time.Second)
		s.mu.Lock()
		s.before = nil
		s.mu.Unlock()
		s.run(r, "web-0 web-1", "list pods, scale gadgeti")
	})
	tell(t, "a watch that lags is not believed", func(s *story) {
		r := s.reader()
		s.run(r, "web-0 web-1", begins)
		s.mute("gadgeti")
		s.setTarget(7, "app=web")
		s.run(r, "web-0 web-1", steadily) // the scale it decides from is the new one
		if got := s.run(r, "web-0 web-1", "get gadgeti, scale gadgeti"); got.Scale.Replicas != 7 {
			s.Errorf("got %+v", got.Scale)
		}
		time.Sleep(RequestTimeout + time.Second)
		s.run(r, "web-0 web-1", "get gadgeti, scale gadgeti")
		time.Sleep(2 * time.Second)
		s.run(r, "web-0 web-1", steadily)
		if !strings.Contains(s.logged(), "A watch lags behind") {
			s.Error("nobody was told")
		}
	})
	tell(t, "an API server that is away fails the run", func(s *story) {
		r := s.reader()
		s.run(r, "web-0 web-1", begins)
		s.mu.Lock()
		s.away = true
		s.mu.Unlock()
		if _, err := r.Scale(s.Context()); err == nil {
			s.Error("it answered")
		}
		if _, err := r.Read(s.Context()); err == nil || !strings.Contains(err.Error(), "getting the target in the namespace shop: ") {
			s.Errorf("got %v", err)
		}
		s.mu.Lock()
		s.away = false
		s.mu.Unlock()
		s.run(r, "web-0 web-1", "get gadgeti, list pods, scale gadgeti")
		time.Sleep(2 * time.Second)
		s.run(r, "web-0 web-1", steadily)
		if s.watched("pods") != 1 || s.watched("gadgeti") != 1 {
			s.Error("there is more than one watch of each")
		}
	})
	tell(t, "a watch that does not begin is waited for, but not for long", func(s *story) {
		s.away = true
		began := time.Now()
		if _, err := s.reader().Read(s.Context()); err == nil {
			s.Error("it answered")
		}
		if took := time.Since(began); took != 2*RequestTimeout {
			s.Errorf("it took %s", took)
		}
	})
	tell(t, "failures are told after a while", func(s *story) {
		s.refuse["watch pods"] = answer{http.StatusInternalServerError, "InternalError"}
		r := s.reader()
		s.run(r, "web-0 web-1", "watch gadgeti, scale gadgeti, watch pods, list pods, scale gadgeti")
		time.Sleep(10 * time.Minute)
		if strings.Count(s.logged(), "A watch fails again and again") != 1 {
			s.Errorf("the log is\n%s", s.logged())
		}
	})
	tell(t, "a watch that works for less than a minute at a time is told of once, and when it has recovered", func(s *story) {
		r := s.reader()
		s.run(r, "web-0 web-1", begins)
		for episode := range 2 {
			for range 30 {
				time.Sleep(50 * time.Second)
				s.end("pods", "")
			}
			if strings.Count(s.logged(), "A watch fails again and again") != episode+1 || strings.Count(s.logged(), "works again") != episode {
				s.Errorf("the log is\n%s", s.logged())
			}
			if episode == 0 {
				time.Sleep(50*time.Second + steady)
				s.bookmark("pods")
			} else {
				time.Sleep(50*time.Second + renewal)
			}
			if strings.Count(s.logged(), "A watch works again") != episode+1 {
				s.Errorf("the log is\n%s", s.logged())
			}
			for range 2 { // the first ends ordinarily, the second is the first failure
				s.end("pods", "")
				time.Sleep(2 * time.Second)
				s.run(r, "web-0 web-1", steadily)
			}
		}
	})
	tell(t, "a watch that ends soon after a silence has lasted for longer", func(s *story) {
		r := s.reader()
		s.run(r, "web-0 web-1", begins)
		for range 2 * failuresTold {
			time.Sleep(renewal + time.Second)
			s.end("pods", "")
			s.end("gadgeti", "")
			time.Sleep(time.Second) // after a failure it would take longer
			s.run(r, "web-0 web-1", steadily)
		}
		if s.logged() != "" {
			s.Errorf("the log is\n%s", s.logged())
		}
	})
	tell(t, "where there is a list before a watch it has to be permitted as well", func(s *story) {
		old, denied := answer{http.StatusUnprocessableEntity, "Invalid"}, answer{http.StatusForbidden, "Forbidden"}
		s.refuse["watch gadgeti"], s.refuse["list gadgeti"], s.refuse["watch pods"] = old, denied, denied
		s.run(s.reader(), "web-0 web-1", "watch gadgeti, list gadgeti, get gadgeti, scale gadgeti, watch pods, list pods, scale gadgeti")
		for _, want := range []string{
			"Allow the service account the verbs list and watch, see docs/rbac.md\" resource=gadgeti", "Allow the service account the verb watch, see docs/rbac.md\" resource=pods",
		} {
			if !strings.Contains(s.logged(), want) {
				s.Errorf("the log is\n%s", s.logged())
			}
		}
	})
	tell(t, "a write of our own answers for the scale", func(s *story) {
		r := s.reader()
		s.run(r, "web-0 web-1", begins)
		s.patched = 4
		if err := r.target.PatchScale(s.Context(), []byte("[]")); err != nil {
			s.Fatal(err)
		}
		if got := s.run(r, "web-0 web-1", steadily); got.Scale.Replicas != 4 {
			s.Errorf("got %+v", got.Scale)
		}
	})
	tell(t, "a write without an answer casts doubt on all watches", func(s *story) {
		r := s.reader()
		s.run(r, "web-0 web-1", begins)
		s.mu.Lock()
		s.hang = "patch gadgeti"
		s.mu.Unlock()
		if err := r.target.PatchScale(s.Context(), []byte("[]")); err == nil {
			s.Error("it was answered")
		}
		s.run(r, "web-0 web-1", "get gadgeti, list pods, scale gadgeti")
		time.Sleep(2 * time.Second)
		s.run(r, "web-0 web-1", steadily)
	})
	tell(t, "a list without an answer casts doubt on the target's watch", func(s *story) {
		s.refuse["watch pods"] = answer{http.StatusForbidden, "Forbidden"}
		r := s.reader()
		s.run(r, "web-0 web-1", "watch gadgeti, scale gadgeti, watch pods, list pods, scale gadgeti")
		s.mu.Lock()
		s.hang = "list pods"
		s.mu.Unlock()
		if _, err := r.Read(s.Context()); err == nil {
			s.Error("it was answered")
		}
		s.mu.Lock()
		s.hang = ""
		s.mu.Unlock()
		s.run(r, "web-0 web-1", "get gadgeti, list pods, scale gadgeti")
	})
	tell(t, "closed watches are done without", func(s *story) {
		s.watches.Close()
		s.run(s.reader(), "web-0 web-1", "get gadgeti, scale gadgeti, list pods, scale gadgeti")
		_, err := s.reader().Pods(s.Context(), "")
		if err == nil || errors.Unwrap(err) != nil {
			s.Errorf("got %v", err)
		}
	})
}

// A storm of other requests does not delay the renewal of a Lease.
func TestLeasesHaveALimitOfTheirOwn(t *testing.T) {
	tell(t, "a storm", func(s *story) {
		r := s.reader()
		s.run(r, "web-0 web-1", begins)
		var storm sync.WaitGroup
		for range requestBurst + 5*requestsPerSecond {
			storm.Go(func() { _, _ = r.Scale(s.Context()) })
		}
		synctest.Wait()
		began := time.Now()
		_ = s.clients.Coordination.Get().Namespace("shop").Resource("leases").Name("web").Do(s.Context()).Error()
		if took := time.Since(began); took != 0 {
			s.Errorf("the Lease waited for %s", took)
		}
		if _, _ = r.Scale(s.Context()); time.Since(began) == 0 {
			s.Error("there was no storm")
		}
		storm.Wait()
		time.Sleep(2 * waitsReported) // until the limit has said all it has to say
	})
}

func TestNewer(t *testing.T) {
	for _, test := range []struct{ one, other, want string }{
		{"9", "10", "10"},
		{"10", "9", "10"},
		{"10", "10", "10"},
		{"", "7", "7"},
		{"7", "", "7"},
		{"a", "b", "b"},
		{"b", "a", "a"},
	} {
		if got := newer(test.one, test.other); got != test.want {
			t.Errorf("of %q and %q it is %q, not %q", test.one, test.other, got, test.want)
		}
	}
}

// An object without a resource version may be another one each time.
func TestAnObjectWithoutAVersionIsNotShared(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web-0", Labels: map[string]string{"color": "green"}}}
	var earlier, later contents[*Pod]
	if err := earlier.put(pod, encodePod, contents[*Pod]{}); err != nil {
		t.Fatal(err)
	}
	pod.Labels["color"] = "blue"
	if err := later.put(pod, encodePod, earlier); err != nil {
		t.Fatal(err)
	}
	if got := later.list()[0].JSON; !strings.Contains(string(got), "blue") {
		t.Errorf("it is still %s", got)
	}
}

func TestWaitsAreReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		meter := newMeter()
		l := newLimiter(slog.New(slog.NewTextHandler(&log, nil)), meter)
		for range requestBurst {
			_ = l.Wait(t.Context())
		}
		var all sync.WaitGroup
		for range 2 * requestsPerSecond {
			all.Go(func() { _ = l.Wait(t.Context()) })
		}
		all.Wait()
		time.Sleep(2 * waitsReported)
		synctest.Wait()
		if strings.Count(log.String(), "\n") != 2 || !strings.Contains(log.String(), "requests=94 longest=2s") {
			t.Errorf("the log is\n%s", log.String())
		}
		// The first that waited longer than a moment was told of alone.
		if got := meter.read(); got.Waits != 95 || got.Waited != 100700*time.Millisecond {
			t.Errorf("counted %+v", got)
		}
	})
}

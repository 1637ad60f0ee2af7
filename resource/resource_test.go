// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/freezer"
)

// answers is an API server that answers each path with the same JSON, and
// keeps which it was asked for. The acceptance tests ask a real one.
type answers struct {
	paths map[string]string

	mu    sync.Mutex
	asked []string
}

func (a *answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, r.URL.Path)
	w.Header().Set("Content-Type", "application/json")
	answer, ok := a.paths[r.URL.Path]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		answer = `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404, "message": "not found"}`
	}
	w.Header().Set("Warning", `299 - "gadgets are deprecated"`)
	_, _ = w.Write([]byte(answer))
}

const gadgets = `{"kind": "APIResourceList", "groupVersion": "example.com/v1", "resources": [
	{"name": "gadgeti", "kind": "Gadget", "namespaced": true},
	{"name": "gadgeti/status", "kind": "Gadget", "namespaced": true},
	{"name": "gadgeti/scale", "kind": "Scale", "group": "autoscaling", "version": "v1", "namespaced": true},
	{"name": "fixtures", "kind": "Fixture", "namespaced": true},
	{"name": "planets", "kind": "Planet", "namespaced": false},
	{"name": "planets/scale", "kind": "Scale", "namespaced": false}
]}`

func connect(t *testing.T, server *answers, log *slog.Logger) *Clients {
	t.Helper()
	s := httptest.NewServer(server)
	t.Cleanup(s.Close)
	clients, err := Connect(&rest.Config{Host: s.URL}, "test", log)
	if err != nil {
		t.Fatal(err)
	}
	return clients
}

func TestMap(t *testing.T) {
	server := &answers{paths: map[string]string{"/apis/example.com/v1": gadgets}}
	mapper := connect(t, server, slog.New(slog.DiscardHandler)).Mapper
	want := Mapping{
		Resource: schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "gadgeti"},
		Kind:     "Gadget", Namespaced: true, Scalable: true,
	}
	for _, kind := range []string{"Gadget", "gadget", "GADGET"} {
		got, err := mapper.Map(t.Context(), "example.com/v1", kind)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", kind, err, diff)
		}
	}
	if len(server.asked) != 1 {
		t.Errorf("asked %v, want once", server.asked)
	}
	mapper.Forget()
	if _, err := mapper.Map(t.Context(), "example.com/v1", "Gadget"); err != nil || len(server.asked) != 2 {
		t.Errorf("after Forget: asked %v, %v", server.asked, err)
	}

	for _, test := range []struct{ apiVersion, kind, want string }{
		{"example.com/v1", "Gizmo", `the API server knows no kind "Gizmo" in example.com/v1`},
		{"example.com/v2", "Gadget", `the API server does not serve "example.com/v2": check the apiVersion`},
		{"a/b/c", "Gadget", `apiVersion "a/b/c" is not of the form group/version`},
	} {
		if _, err := mapper.Map(t.Context(), test.apiVersion, test.kind); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s %s: %v, want %s", test.apiVersion, test.kind, err, test.want)
		}
	}
}

func TestTarget(t *testing.T) {
	const object = "/apis/example.com/v1/namespaces/shop/gadgeti/"
	server := &answers{paths: map[string]string{
		"/apis/example.com/v1":  gadgets,
		object + "web":          `{"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": "web"}}`,
		object + "web/scale":    `{"kind": "Scale", "apiVersion": "autoscaling/v1", "spec": {"replicas": 3}, "status": {"selector": "app=web"}}`,
		object + "zero/scale":   `{"kind": "Scale", "apiVersion": "autoscaling/v1", "spec": {}, "status": {}}`,
		object + "broken/scale": `{"kind": "Scale", "apiVersion": "autoscaling/v1", "spec": {"replicas": -1}}`,
	}}
	clients := connect(t, server, slog.New(slog.DiscardHandler))
	target := func(kind, name string) *Target {
		return NewTarget(clients, autoscalingv2.CrossVersionObjectReference{APIVersion: "example.com/v1", Kind: kind, Name: name}, "shop")
	}
	for name, want := range map[string]Scale{"web": {Replicas: 3, Selector: "app=web"}, "zero": {}} {
		if got, err := target("Gadget", name).Scale(t.Context()); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, want)
		}
	}
	for _, test := range []struct{ kind, name, want string }{
		{"Gadget", "broken", "spec.replicas is -1, which is no replica count"},
		{"Gadget", "none", "getting the target's scale in the namespace shop: not found"},
		{"Fixture", "web", "Fixture of example.com/v1 has no scale subresource, so it cannot be scaled"},
		{"Planet", "web", "Planet belongs to no namespace, so it cannot be scaled"},
	} {
		if _, err := target(test.kind, test.name).Scale(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s %s: %v, want %s", test.kind, test.name, err, test.want)
		}
	}

	// Closed, so that each read is a request.
	watches := NewWatches(clients, slog.New(slog.DiscardHandler))
	watches.Close()
	snapshot, err := NewReader(target("Gadget", "web"), watches, false).Read(t.Context())
	if err != nil || snapshot.Target.Name != "web" || snapshot.Scale.Replicas != 3 || snapshot.Pods != nil {
		t.Errorf("snapshot %+v, %v", snapshot, err)
	}
	// A target that is not found may be of a kind that was replaced.
	asked := len(server.asked)
	_, err = NewReader(target("Gadget", "none"), watches, false).Read(t.Context())
	if !apierrors.IsNotFound(errors.Unwrap(err)) {
		t.Errorf("got %v", err)
	}
	if _, err := target("Gadget", "web").Scale(t.Context()); err != nil || server.asked[asked+1] != "/apis/example.com/v1" {
		t.Errorf("asked %v, %v: the kind was not looked up again", server.asked[asked:], err)
	}
}

// Requests are logged by what and how long, at their level only, and never
// with what they carry.
func TestRequestsInTheLog(t *testing.T) {
	server := &answers{paths: map[string]string{"/apis/example.com/v1": gadgets}}
	for level, want := range map[slog.Level]bool{LevelRequest: true, slog.LevelDebug: false} {
		var log bytes.Buffer
		clients := connect(t, server, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level})))
		if _, err := clients.Mapper.Map(t.Context(), "example.com/v1", "Gadget"); err != nil {
			t.Fatal(err)
		}
		logged := strings.Contains(log.String(), `msg="Request to the API server" method=GET path=/apis/example.com/v1`)
		if logged != want || strings.Contains(log.String(), "gadgeti") {
			t.Errorf("at level %d:\n%s", level, log.String())
		}
		if !strings.Contains(log.String(), `msg="The API server warns" warning="gadgets are deprecated"`) {
			t.Errorf("the warning is not logged:\n%s", log.String())
		}
	}
}

func TestClientConfig(t *testing.T) {
	kubeconfig := func(name, server string) string {
		file := filepath.Join(t.TempDir(), name)
		content := `{"apiVersion": "v1", "kind": "Config", "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c"}}],
			"clusters": [{"name": "c", "cluster": {"server": "` + server + `"}}]}`
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	named, environment := kubeconfig("named", "https://named"), kubeconfig("environment", "https://environment")
	for _, test := range []struct {
		name, flag, environment, host, port string
		want, fault                         string
	}{
		{name: "the flag goes first", flag: named, environment: environment, host: "10.0.0.1", port: "443", want: "https://named"},
		{name: "KUBECONFIG outside a pod", environment: environment, want: "https://environment"},
		{
			name: "a pod without a service account is told so", environment: environment, host: "10.0.0.1", port: "443",
			fault: "reading the service account of this pod: open /var/run/secrets/kubernetes.io/serviceaccount/token",
		},
		{name: "a file that is not there", flag: "/none", fault: "reading the kubeconfig /none: "},
		{name: "a file of the environment that is not there", environment: "/none", fault: "KUBECONFIG names /none, which is not there or empty"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("KUBECONFIG", test.environment)
			t.Setenv("KUBERNETES_SERVICE_HOST", test.host)
			t.Setenv("KUBERNETES_SERVICE_PORT", test.port)
			config, err := ClientConfig(test.flag)
			if test.fault != "" {
				if err == nil || !strings.Contains(err.Error(), test.fault) {
					t.Errorf("got %v, want %s", err, test.fault)
				}
				return
			}
			if err != nil || config.Host != test.want {
				t.Errorf("got %v, %v", config, err)
			}
		})
	}
}

// The API server's machine disappears: one request finds out, not one for each
// connection there is.
func TestSilentConnectionsAreDroppedTogether(t *testing.T) {
	server := &answers{paths: map[string]string{"/apis/example.com/v1": gadgets}}
	s := httptest.NewServer(server)
	t.Cleanup(s.Close)
	between := freezer.Start(t, s.Listener.Addr().String())
	clients, err := Connect(&rest.Config{Host: "http://" + between.Addr()}, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ask := func(timeout time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		clients.Mapper.Forget()
		_, err := clients.Mapper.Map(ctx, "example.com/v1", "Gadget")
		return err
	}
	const many = 5
	server.mu.Lock() // so that they need a connection each
	var group sync.WaitGroup
	for range many {
		group.Go(func() {
			if err := ask(20 * time.Second); err != nil {
				t.Error(err)
			}
		})
	}
	for between.Connections() < many && t.Context().Err() == nil {
		runtime.Gosched()
	}
	server.mu.Unlock()
	group.Wait()

	between.Freeze()
	if err := ask(200 * time.Millisecond); err == nil {
		t.Error("a silent connection answered")
	}
	if err := ask(20 * time.Second); err != nil {
		t.Errorf("the next request failed too: %v", err)
	}
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/freezer"
)

const payload = `{"resource":"a b&c=d","runType":"scaler"}`

// httpMethod is a method that makes a request in the mode body.
func httpMethod(url string) config.Method {
	return config.Method{
		Type: config.MethodHTTP, Timeout: config.Milliseconds(patience.Milliseconds()),
		HTTP: &config.HTTP{Method: http.MethodPost, URL: url, SuccessCodes: []int{200}, ParameterMode: config.ParameterBody},
	}
}

// serve serves the answer until the end of the test.
func serve(t testing.TB, answer http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return server
}

// echo answers with the request as it was received.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, " %s %s?%s %d\n", r.Method, r.URL.Path, r.URL.RawQuery, r.ContentLength)
	for _, name := range []string{"Content-Type", "X-Token"} {
		for _, value := range r.Header.Values(name) {
			fmt.Fprintf(w, "%s: %s\n", name, value)
		}
	}
	fmt.Fprintf(w, "%s\n", body)
}

func TestHTTPRequests(t *testing.T) {
	t.Parallel()
	server := serve(t, echo)
	const escaped = "%7B%22resource%22%3A%22a+b%26c%3Dd%22%2C%22runType%22%3A%22scaler%22%7D"
	for _, test := range []struct {
		name, method, path string
		mode               config.ParameterMode
		headers            map[string]string
		want               string
	}{
		{"query", "GET", "/m", config.ParameterQuery, nil, " GET /m?value=" + escaped + " 0\n\n"},
		{"the query that is there stays as it is", "GET", "/m?z=1&a=%2F&a=x+y", config.ParameterQuery, nil, " GET /m?z=1&a=%2F&a=x+y&value=" + escaped + " 0\n\n"},
		{"query, with another method", "PUT", "/", config.ParameterQuery, nil, " PUT /?value=" + escaped + " 0\n\n"},
		{"body", "POST", "/m?a=1", config.ParameterBody, nil, " POST /m?a=1 41\n" + payload + "\n"},
		{"body of a GET", "GET", "/", config.ParameterBody, nil, " GET /? 41\n" + payload + "\n"},
		{
			"headers", "POST", "/", config.ParameterBody,
			map[string]string{"content-type": "application/json", "X-Token": "t"},
			" POST /? 41\nContent-Type: application/json\nX-Token: t\n" + payload + "\n",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			method := httpMethod(server.URL + test.path)
			method.HTTP.Method, method.HTTP.ParameterMode, method.HTTP.Headers = test.method, test.mode, test.headers
			executor := newExecutor(t, method, newPool(t, PoolOptions{}))
			for range 2 { // a call must leave nothing behind in the next
				result, err := executor.Execute(t.Context(), Call{Payload: []byte(payload)})
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(test.want, string(result.Output)); diff != "" {
					t.Errorf("request (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestHTTPHostHeader(t *testing.T) {
	t.Parallel()
	server := serve(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Host) })
	method := httpMethod(server.URL)
	method.HTTP.Headers = map[string]string{"host": "metrics.example"}
	result, err := newExecutor(t, method, newPool(t, PoolOptions{})).Execute(t.Context(), Call{})
	if err != nil || string(result.Output) != "metrics.example" {
		t.Errorf("got %q, %v", result.Output, err)
	}
}

func TestHTTPRedirects(t *testing.T) {
	t.Parallel()
	routes := http.NewServeMux()
	routes.HandleFunc("/end", echo)
	routes.Handle("/307", http.RedirectHandler("/end", http.StatusTemporaryRedirect))
	routes.Handle("/302", http.RedirectHandler("/end", http.StatusFound))
	routes.Handle("/absent", http.RedirectHandler("/nowhere", http.StatusFound))
	routes.Handle("/loop", http.RedirectHandler("/loop?value=secret", http.StatusFound))
	server := serve(t, routes.ServeHTTP)
	for _, test := range []struct{ path, want, fails string }{
		{"/307", " POST /end? 41\n" + payload + "\n", ""},
		{"/302", " GET /end? 0\n\n", ""},
		{"/absent", "", "the status 404 Not Found is not in successCodes"},
		{"/loop", "", "POST " + server.URL + "/loop: no response: stopped after 10 redirects"},
	} {
		result, err := newExecutor(t, httpMethod(server.URL+test.path), newPool(t, PoolOptions{})).
			Execute(t.Context(), Call{Payload: []byte(payload)})
		if diff := cmp.Diff(test.want, string(result.Output)); diff != "" {
			t.Errorf("%s: answer (-want +got):\n%s", test.path, diff)
		}
		if test.fails == "" && err != nil || test.fails != "" && fault(t, err).Message != test.fails {
			t.Errorf("%s: got %v, want %q", test.path, err, test.fails)
		}
	}
}

func TestHTTPFailures(t *testing.T) {
	t.Parallel()
	routes := http.NewServeMux()
	routes.HandleFunc("/refused", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no\xff such metric", http.StatusTeapot) })
	routes.HandleFunc("/refused-at-length", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		for { // until the connection is closed
			if _, err := w.Write(bytes.Repeat([]byte("x"), 1<<10)); err != nil {
				return
			}
		}
	})
	routes.HandleFunc("/cut", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		fmt.Fprint(w, "part")
	})
	routes.HandleFunc("/elsewhere", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "http://[?"+r.URL.RawQuery)
		w.WriteHeader(http.StatusFound)
	})
	server := serve(t, routes.ServeHTTP)
	closed := httptest.NewServer(routes)
	closed.Close()
	for _, test := range []struct {
		name, url string
		want      Error
	}{
		{"refused", server.URL + "/refused", Error{
			Kind: KindStatus, Message: "the status 418 I'm a teapot is not in successCodes", Stderr: "no? such metric\n",
		}},
		{"refused at length", server.URL + "/refused-at-length", Error{
			Kind: KindStatus, Message: "the status 502 Bad Gateway is not in successCodes", Stderr: strings.Repeat("x", maxRefusal),
		}},
		{"cut", server.URL + "/cut", Error{
			Kind: KindTransport, Message: "GET " + server.URL + "/cut: no end of the response: unexpected EOF",
		}},
		{"nobody there", strings.Replace(closed.URL, "http://", "http://user:secret@", 1) + "/path?token=secret#part", Error{
			Kind:    KindTransport,
			Message: "GET " + closed.URL + "/path: no response: dial tcp " + closed.Listener.Addr().String() + ": connect: connection refused",
		}},
		{"a redirect that cannot be followed", server.URL + "/elsewhere", Error{
			Kind: KindTransport,
			Message: "GET " + server.URL + `/elsewhere: no response: failed to parse Location header "http://[?value=...": ` +
				`parse "http://[?value=...": missing ']' in host`,
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			method := httpMethod(test.url)
			method.HTTP.Method, method.HTTP.ParameterMode = http.MethodGet, config.ParameterQuery
			_, err := newExecutor(t, method, newPool(t, PoolOptions{})).
				Execute(t.Context(), Call{Stage: StageMetric, Subject: "pod-1", Payload: []byte(payload)})
			got := *fault(t, err)
			if (got.Err == nil) != (got.Kind == KindStatus) {
				t.Errorf("the cause is %v", got.Err)
			}
			test.want.Stage, test.want.Subject, got.Err = StageMetric, "pod-1", nil
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

// Everything of a response is within the timeout, its body too.
func TestHTTPTimeout(t *testing.T) {
	t.Parallel()
	routes := http.NewServeMux()
	routes.HandleFunc("/silent", func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then does the server notice that the client goes
		<-r.Context().Done()
	})
	routes.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_ = http.NewResponseController(w).Flush()
		drip := time.NewTicker(10 * time.Millisecond)
		defer drip.Stop()
		for r.Context().Err() == nil {
			<-drip.C
			fmt.Fprint(w, "x")
			_ = http.NewResponseController(w).Flush()
		}
	})
	server := serve(t, routes.ServeHTTP)
	deaf := listenOnly(t)
	for _, test := range []struct{ url, want string }{
		{server.URL + "/silent", "no response within 300ms (timeout)"},
		{server.URL + "/slow", "no end of the response within 300ms (timeout)"},
		{"http://" + deaf, "no response within 300ms (timeout)"},
		{"https://" + deaf, "no response within 300ms (timeout)"},
	} {
		t.Run(test.url, func(t *testing.T) {
			t.Parallel()
			method := httpMethod(test.url)
			method.Timeout = 300
			_, err := newExecutor(t, method, newPool(t, PoolOptions{})).Execute(t.Context(), Call{Payload: []byte(payload)})
			want := "POST " + test.url + ": " + test.want
			if failed := fault(t, err); failed.Kind != KindTimeout || failed.Message != want || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got kind %q, cause %v, message %q", failed.Kind, failed.Err, failed.Message)
			}
		})
	}
}

// listenOnly is the address of a server that accepts connections, and no more.
func listenOnly(t testing.TB) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}

func TestHTTPGivesUpWithItsCaller(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	server := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-asked
		cancel(errors.New("shutting down"))
	}()
	method := httpMethod(server.URL)
	method.HTTP.Method, method.HTTP.ParameterMode = http.MethodGet, config.ParameterQuery
	_, err := newExecutor(t, method, newPool(t, PoolOptions{})).Execute(ctx, Call{})
	want := "GET " + server.URL + ": no response before the call was cancelled: shutting down"
	if failed := fault(t, err); failed.Kind != KindCanceled || failed.Message != want {
		t.Errorf("got kind %q, message %q", failed.Kind, failed.Message)
	}
}

func TestHTTPResponseIsBounded(t *testing.T) {
	t.Parallel()
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		size, err := strconv.Atoi(r.URL.Query().Get("size"))
		if err != nil {
			t.Error(err)
		}
		if r.URL.Query().Has("packed") {
			w.Header().Set("Content-Encoding", "gzip")
			packed := gzip.NewWriter(w)
			_, _ = packed.Write(make([]byte, size))
			_ = packed.Close()
			return
		}
		_, _ = w.Write(make([]byte, size))
	})
	pool := newPool(t, PoolOptions{MaxOutputBytes: 100_000})
	for _, test := range []struct {
		query string
		size  int
		fails bool
	}{
		{"size=100000", 100_000, false},
		{"size=100000&packed", 100_000, false},
		{"size=100001", 0, true},
		{"size=100001&packed", 0, true},
		{"size=3000000", 0, true},
		{"size=3000000&packed", 0, true},
	} {
		result, err := newExecutor(t, httpMethod(server.URL+"?"+test.query), pool).Execute(t.Context(), Call{})
		if len(result.Output) != test.size {
			t.Errorf("%s: got %d bytes, error %v", test.query, len(result.Output), err)
		}
		want := "the response is longer than 100000 bytes, the limit set by maxOutputBytes"
		if test.fails && (fault(t, err).Kind != KindOutput || err.Error() != want) {
			t.Errorf("%s: got %v", test.query, err)
		}
	}
}

func TestHTTPUsesItsConnectionsAgain(t *testing.T) {
	t.Parallel()
	var made, open atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refused" {
			w.WriteHeader(http.StatusNotFound)
		}
		echo(w, r)
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			made.Add(1)
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		case http.StateActive, http.StateIdle, http.StateHijacked:
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	pool := newPool(t, PoolOptions{})
	for path, succeeds := range map[string]bool{"/": true, "/refused": false} {
		made.Store(0)
		executor := newExecutor(t, httpMethod(server.URL+path), pool)
		for range 20 {
			if _, err := executor.Execute(t.Context(), Call{Payload: []byte(payload)}); (err == nil) != succeeds {
				t.Fatal(err)
			}
		}
		if made.Load() != 1 {
			t.Errorf("%s: 20 calls made %d connections", path, made.Load())
		}
		var calls sync.WaitGroup
		for range 20 {
			calls.Go(func() { _, _ = executor.Execute(t.Context(), Call{Payload: []byte(payload)}) })
		}
		calls.Wait()
		made.Store(0)
		for range 20 {
			calls.Go(func() { _, _ = executor.Execute(t.Context(), Call{Payload: []byte(payload)}) })
		}
		calls.Wait()
		if made.Load() == 20 {
			t.Errorf("%s: none of 20 connections was kept for the next calls", path)
		}
	}
	pool.Close()
	eventually(t, "all connections are closed", func() bool { return open.Load() == 0 })
}

// The proxy settings are read once in a process, hence one of its own.
func TestHTTPUsesTheProxyOfTheEnvironment(t *testing.T) {
	t.Parallel()
	proxy := serve(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "proxied "+r.URL.String()) })
	child := exec.CommandContext(t.Context(), self(t), "ask", "http://hook.example/metric")
	child.Env = append(os.Environ(), "HTTP_PROXY="+proxy.URL, "NO_PROXY=", "no_proxy=")
	child.Stderr = os.Stderr
	output, err := child.Output()
	if want := "proxied http://hook.example/metric"; err != nil || string(output) != want {
		t.Errorf("got %q, %v", output, err)
	}
}

// ask makes a request to a URL and prints the answer.
func ask(args []string) {
	executor, err := New(httpMethod(args[0]), NewPool(PoolOptions{}))
	must(err)
	result, err := executor.Execute(context.Background(), Call{})
	must(err)
	fmt.Print(string(result.Output))
}

// The server's machine disappears and another takes its place: one call finds
// out, however many connections there are and whatever they speak.
func TestHTTPRecoversFromSilentConnections(t *testing.T) {
	t.Parallel()
	asked, release := make(chan struct{}), make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		select {
		case asked <- struct{}{}:
			<-release
		case <-release:
		}
		fmt.Fprint(w, "5")
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	between := freezer.Start(t, server.Listener.Addr().String())
	method := httpMethod("https://" + between.Addr())
	method.Timeout = 5000
	method.HTTP.CACert = writeFile(t, "ca.crt",
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})), 0o600)
	executor := newExecutor(t, method, newPool(t, PoolOptions{}))

	const many = 3
	var calls sync.WaitGroup
	for range many {
		calls.Go(func() {
			if _, err := executor.Execute(t.Context(), Call{}); err != nil {
				t.Error(err)
			}
		})
	}
	for range many {
		<-asked
	}
	close(release)
	calls.Wait()

	between.Freeze()
	if _, err := executor.Execute(t.Context(), Call{}); fault(t, err).Kind != KindTimeout {
		t.Errorf("a silent connection gave %v", err)
	}
	if _, err := executor.Execute(t.Context(), Call{}); err != nil {
		t.Errorf("the next call failed too: %v", err)
	}
}

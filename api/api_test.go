// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/autoscaler"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/evaluate"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/metric"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func scaledTo(evaluated, desired int32) Autoscaler {
	return answers(func(context.Context, autoscaler.Trigger) (autoscaler.Record, error) {
		return autoscaler.Record{
			Metrics:    []metric.ResourceMetric{{Resource: "web-1", Value: "5\n"}},
			Evaluation: &evaluate.Evaluation{TargetReplicas: evaluated},
			Decision:   &scale.Decision{Desired: desired},
		}, nil
	})
}

func failing(f autoscaler.Failure) Autoscaler {
	return answers(func(context.Context, autoscaler.Trigger) (autoscaler.Record, error) {
		return autoscaler.Record{Failure: &f}, nil
	})
}

func refusing(err error) Autoscaler {
	return answers(func(context.Context, autoscaler.Trigger) (autoscaler.Record, error) { return autoscaler.Record{}, err })
}

func TestAnswers(t *testing.T) {
	never := answers(func(context.Context, autoscaler.Trigger) (autoscaler.Record, error) {
		t.Error("the autoscaler was asked")
		return autoscaler.Record{}, nil
	})
	for _, test := range []struct {
		name, method, target string
		autoscaler           Autoscaler
		status               int
		body                 string
	}{
		{"metrics", "GET", "/api/v1/metrics", scaledTo(14, 10), 200, `[{"resource":"web-1","value":"5\n"}]`},
		{
			"metrics of no pods", "GET", "/api/v1/metrics",
			answers(func(context.Context, autoscaler.Trigger) (autoscaler.Record, error) { return autoscaler.Record{}, nil }), 200, `null`,
		},
		{"an evaluation answers with the count that resulted", "POST", "/api/v1/evaluation", scaledTo(14, 10), 200, `{"targetReplicas":10}`},
		{"a dry run as the hook gave it", "POST", "/api/v1/evaluation?dry_run=true", scaledTo(14, 10), 200, `{"targetReplicas":14}`},
		{"dry_run takes Go's spellings", "POST", "/api/v1/evaluation?dry_run=T", scaledTo(14, 10), 200, `{"targetReplicas":14}`},
		{"dry_run may be empty", "POST", "/api/v1/evaluation?dry_run=", scaledTo(14, 10), 200, `{"targetReplicas":10}`},
		{
			"dry_run of another kind", "GET", "/api/v1/metrics?dry_run=maybe", never, 400,
			`{"message":"Invalid format for 'dry_run' query parameter; 'maybe' is not a valid boolean value","code":400}`,
		},
		{
			"dry_run misspelt", "POST", "/api/v1/evaluation?dryRun=true", never, 400,
			`{"message":"unknown query parameter 'dryRun': it is 'dry_run'","code":400}`,
		},
		{"an unknown path", "GET", "/p", never, 404, `{"message":"Resource '/p' not found","code":404}`},
		{"a wrong method", "DELETE", "/api/v1/metrics", never, 405, `{"message":"Method 'DELETE' not allowed on resource '/api/v1/metrics'","code":405}`},
		{
			"a hook fails", "GET", "/api/v1/metrics",
			failing(autoscaler.Failure{Stage: execute.StageMetric, Kind: execute.KindExit, Message: "exit status 4", Stderr: "secret"}),
			500, `{"message":"failed to gather metrics: exit status 4","code":500}`,
		},
		{
			"a pod's hook fails", "GET", "/api/v1/metrics",
			failing(autoscaler.Failure{Stage: execute.StageMetric, Subject: "web-1", Message: "exit status 4"}),
			500, `{"message":"failed to gather metrics: exit status 4 (pod web-1)","code":500}`,
		},
		{
			"the process stops in the middle", "POST", "/api/v1/evaluation",
			failing(autoscaler.Failure{Stage: execute.StageMetric, Kind: execute.KindCanceled, Message: "ended"}),
			503, `{"message":"the autoscaler is stopping","code":503}`,
		},
		{
			"too many wait", "GET", "/api/v1/metrics", refusing(autoscaler.ErrBusy),
			429, `{"message":"too many requests are waiting; try again later","code":429}`,
		},
		{
			"no run comes any more", "GET", "/api/v1/metrics", refusing(autoscaler.ErrStopping),
			503, `{"message":"the autoscaler is stopping","code":503}`,
		},
		{
			"another process leads", "GET", "/api/v1/metrics", refusing(&autoscaler.StandbyError{Leader: "web-1_x"}),
			503, `{"message":"this replica stands by: web-1_x leads","code":503}`,
		},
		{
			"another process leads, and this one was to scale", "POST", "/api/v1/evaluation", refusing(&autoscaler.StandbyError{Leader: "web-1_x"}),
			503, `{"message":"this replica stands by: web-1_x leads","code":503}`,
		},
		{
			"nobody is known to lead", "POST", "/api/v1/evaluation?dry_run=true", refusing(&autoscaler.StandbyError{}),
			503, `{"message":"this replica stands by, and no leader is known at the moment","code":503}`,
		},
		{
			"the lead is lost in the middle", "POST", "/api/v1/evaluation",
			failing(autoscaler.Failure{Stage: execute.StageWrite, Message: "this replica stands by: web-1_x leads"}),
			500, `{"message":"failed to scale resource: this replica stands by: web-1_x leads","code":500}`,
		},
		{
			"the store is away", "POST", "/api/v1/evaluation",
			failing(autoscaler.Failure{Stage: execute.StageState, Message: "loading what was kept: no"}),
			500, `{"message":"failed to recall what was kept: loading what was kept: no","code":500}`,
		},
		{
			"it scales, and a hook fails after it", "POST", "/api/v1/evaluation",
			answers(func(context.Context, autoscaler.Trigger) (autoscaler.Record, error) {
				return autoscaler.Record{
					Decision: &scale.Decision{Desired: 4}, Written: true,
					Failure: &autoscaler.Failure{Stage: execute.StagePostScale, Message: "exit status 4"},
				}, nil
			}),
			500, `{"message":"failed to run post-scaling hook: exit status 4","code":500}`,
		},
		{
			"a pause from the network", "POST", "/api/v1/pause", never, 403,
			refusedWithoutAuth,
		},
		{
			"a resume from the network", "POST", "/api/v1/resume", never, 403,
			refusedWithoutAuth,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(t.Context(), test.method, test.target, nil)
			port(t, config.API{}, test.autoscaler).ServeHTTP(w, r)
			if w.Code != test.status || w.Body.String() != test.body {
				t.Errorf("got %d %s\nwant %d %s", w.Code, w.Body, test.status, test.body)
			}
			for key, want := range map[string]string{
				"Content-Type": "application/json; charset=utf-8", "X-Content-Type-Options": "nosniff",
			} {
				if got := w.Header().Get(key); got != want {
					t.Errorf("%s is %q, want %q", key, got, want)
				}
			}
			if w.Code != http.StatusNotFound {
				conforms(t, r, w.Result())
			}
			if allow := w.Header().Get("Allow"); test.status == 405 && allow != "GET" {
				t.Errorf("Allow is %q, want GET", allow)
			}
		})
	}
}

// Every hook's failure has the contract's words in front.
func TestEveryStageHasItsWords(t *testing.T) {
	for _, stage := range []execute.Stage{
		execute.StageState, execute.StageRead, execute.StageKubernetesMetrics, execute.StagePreMetric, execute.StageMetric, execute.StagePostMetric,
		execute.StagePreEvaluate, execute.StageEvaluate, execute.StagePostEvaluate, execute.StageDecide,
		execute.StagePreScale, execute.StageWrite, execute.StagePostScale,
	} {
		if got := message(autoscaler.Failure{Stage: stage, Message: "x"}); !strings.HasPrefix(got, "failed ") || !strings.HasSuffix(got, ": x") {
			t.Errorf("%s: %q", stage, got)
		}
	}
}

func TestTriggers(t *testing.T) {
	for target, want := range map[string]autoscaler.Trigger{
		"GET /api/v1/metrics":               {Kind: autoscaler.KindRequest, RunType: execute.RunAPI, Through: autoscaler.ThroughMetrics},
		"GET /api/v1/metrics?dry_run=1":     {Kind: autoscaler.KindRequest, RunType: execute.RunAPIDryRun, Through: autoscaler.ThroughMetrics, DryRun: true},
		"POST /api/v1/evaluation":           {Kind: autoscaler.KindRequest, RunType: execute.RunAPI, Through: autoscaler.ThroughScale},
		"POST /api/v1/evaluation?dry_run=1": {Kind: autoscaler.KindRequest, RunType: execute.RunAPIDryRun, Through: autoscaler.ThroughScale, DryRun: true},
	} {
		var got autoscaler.Trigger
		h := port(t, config.API{}, answers(func(ctx context.Context, trigger autoscaler.Trigger) (autoscaler.Record, error) {
			got = trigger
			return scaledTo(1, 1).Submit(ctx, trigger)
		}))
		method, path, _ := strings.Cut(target, " ")
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), method, path, nil))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", target, diff)
		}
	}
}

// serve runs a Server until stop is called or the test ends.
func serve(t *testing.T, c config.API, a Autoscaler) (address string, stop func()) {
	t.Helper()
	server, err := Listen(t.Context(), c, backend(t, a), authenticate(t, c))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return server.Addr().String(), stop
}

func get(t *testing.T, client *http.Client, url string) (status int, answer string, err error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

func newClient(t *testing.T, transport *http.Transport) *http.Client {
	t.Helper()
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// A request that is under way when the stop comes is answered, and the stop
// waits for it.
func TestAStopAnswersWhoWaits(t *testing.T) {
	running, release := make(chan struct{}), make(chan struct{})
	address, stop := serve(t, config.API{Host: "127.0.0.1"}, answers(func(ctx context.Context, trigger autoscaler.Trigger) (autoscaler.Record, error) {
		close(running)
		<-release
		return scaledTo(3, 3).Submit(ctx, trigger)
	}))
	type result struct {
		body string
		err  error
	}
	results := make(chan result, 1)
	client := newClient(t, &http.Transport{})
	go func() {
		_, body, err := get(t, client, "http://"+address+"/api/v1/metrics")
		results <- result{body, err}
	}()
	<-running
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	untilRefused(t, address)
	close(release)
	if r := <-results; r.err != nil || r.body != `[{"resource":"web-1","value":"5\n"}]` {
		t.Errorf("got %q, %v", r.body, r.err)
	}
	<-stopped
}

// A request that nobody answers does not keep the process.
func TestAStopDoesNotWaitForever(t *testing.T) {
	running, release := make(chan struct{}), make(chan struct{})
	address, stop := serve(t, config.API{Host: "127.0.0.1"}, answers(func(context.Context, autoscaler.Trigger) (autoscaler.Record, error) {
		close(running)
		<-release
		return autoscaler.Record{}, nil
	}))
	client := newClient(t, &http.Transport{})
	failed := make(chan error, 1)
	go func() {
		_, _, err := get(t, client, "http://"+address+"/api/v1/metrics")
		failed <- err
	}()
	<-running
	stop()
	if err := <-failed; err == nil {
		t.Error("the request was answered")
	}
	close(release)
}

// A connection that never sent anything does not hold up the stop.
func TestAStopClosesSilentConnections(t *testing.T) {
	address, stop := serve(t, config.API{Host: "127.0.0.1"}, scaledTo(3, 3))
	silent, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	// Another request shows that the first connection was accepted.
	if _, _, err := get(t, newClient(t, &http.Transport{}), "http://"+address+"/api/v1/metrics"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	stop()
	if took := time.Since(began); took >= drainTimeout {
		t.Errorf("the stop took all its time, %s", took)
	}
}

// untilRefused waits until the address takes no connections any more.
func untilRefused(t *testing.T, address string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		connection, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if ctx.Err() != nil {
			t.Fatal("it still listens")
		}
		if err != nil {
			return
		}
		_ = connection.Close()
	}
}

func TestHTTPS(t *testing.T) {
	certFile, keyFile, roots := certificate(t)
	address, _ := serve(t, config.API{Host: "127.0.0.1", UseHTTPS: true, CertFile: certFile, KeyFile: keyFile}, scaledTo(3, 3))
	client := newClient(t, &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}})
	status, body, err := get(t, client, "https://"+address+"/api/v1/metrics")
	if err != nil || status != http.StatusOK {
		t.Errorf("got %d %s, %v", status, body, err)
	}
}

func TestFaultsShowAtTheStart(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	for _, test := range []struct {
		name   string
		config config.API
		want   string
	}{
		{
			"the port is taken",
			config.API{Host: "127.0.0.1", Port: taken.Addr().(*net.TCPAddr).Port},
			"serving the REST API on apiConfig.host and apiConfig.port: listen tcp " + taken.Addr().String() + ": bind: address already in use",
		},
		{
			"no certificate",
			config.API{Host: "127.0.0.1", UseHTTPS: true, CertFile: "/none.crt", KeyFile: "/none.key"},
			"reading apiConfig.certFile: stat /none.crt: no such file or directory",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Listen(t.Context(), test.config, backend(t, scaledTo(1, 1)), authenticate(t, test.config))
			if err == nil || err.Error() != test.want {
				t.Errorf("got %v\nwant %s", err, test.want)
			}
		})
	}
}

// certificate makes a certificate for 127.0.0.1 that signs itself.
func certificate(t *testing.T) (certFile, keyFile string, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	directory := t.TempDir()
	write := func(name, kind string, content []byte) string {
		var encoded bytes.Buffer
		if err := pem.Encode(&encoded, &pem.Block{Type: kind, Bytes: content}); err != nil {
			t.Fatal(err)
		}
		roots.AppendCertsFromPEM(encoded.Bytes())
		file := filepath.Join(directory, name)
		if err := os.WriteFile(file, encoded.Bytes(), 0o600); err != nil {
			t.Fatal(fmt.Errorf("writing %s: %w", name, err))
		}
		return file
	}
	return write("tls.crt", "CERTIFICATE", der), write("tls.key", "PRIVATE KEY", keyDER), roots
}

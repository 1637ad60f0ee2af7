// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/api/client"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/autoscaler"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/evaluate"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/metric"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/openapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var document = sync.OnceValues(func() (*openapi.Document, error) {
	content, err := os.ReadFile("../openapi.yaml")
	if err != nil {
		return nil, err
	}
	return openapi.Read(content)
})

func described(t *testing.T) *openapi.Document {
	t.Helper()
	d, err := document()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// ask makes a client of what a handler answers.
func ask(t *testing.T, handler http.Handler) *client.Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	transport := &http.Transport{DisableKeepAlives: true}
	c, err := client.New(client.Options{BaseURL: server.URL, Token: "secret", Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// elsewhere are the requests that this client leaves to others.
var elsewhere = []string{"health", "livez", "openAPI", "page", "pageFile", "prometheus", "readyz"}

func TestEveryRequestHasAMethod(t *testing.T) {
	var methods, want []string
	for method := range reflect.TypeFor[*client.Client]().Methods() {
		if method.Name != "Do" {
			methods = append(methods, method.Name)
		}
	}
	for _, o := range described(t).Operations() {
		if !slices.Contains(elsewhere, o.ID) {
			want = append(want, strings.ToUpper(o.ID[:1])+o.ID[1:])
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, methods); diff != "" {
		t.Errorf("(-operations +methods):\n%s", diff)
	}
}

// The types have the fields that the document gives them.
func TestTypesMirrorTheDocument(t *testing.T) {
	d := described(t)
	for _, test := range []struct {
		value     any
		component string
		path      []string
	}{
		{client.Status{}, "Status", nil},
		{client.Status{}.Replicas, "Status", []string{"replicas"}},
		{client.Metrics{}, "Status", []string{"metrics"}},
		{client.Leader{}, "Status", []string{"leader"}},
		{client.Target{}, "Target", nil},
		{client.GitStatus{}, "GitStatus", nil},
		{client.GitPending{}, "GitStatus", []string{"pending"}},
		{client.GitArriving{}, "GitStatus", []string{"arriving"}},
		{client.ConfigStatus{}, "ConfigNotes", nil},
		{client.Records{}, "Records", nil},
		{client.Record{}, "Record", nil},
		{client.Record{}.Target, "ObjectReference", nil},
		{client.Scale{}, "Scale", nil},
		{client.Held{}, "Held", nil},
		{client.SetOverride{}, "SetOverride", nil},
		{client.Overridden{}, "Overridden", nil},
		{client.ConfigView{}, "ConfigView", nil},
		{client.ConfigChange{}, "ConfigChange", nil},
		{client.GitUpdate{}, "GitUpdate", nil},
		{client.GitUpdated{}, "GitUpdated", nil},
		{autoscaler.Trigger{}, "Trigger", nil},
		{autoscaler.Failure{}, "Failure", nil},
		{autoscaler.SkippedPod{}, "SkippedPod", nil},
		{bounds.Bounds{}, "Bounds", nil},
		{bounds.Limit{}, "Limit", nil},
		{bounds.Override{}, "Override", nil},
		{evaluate.Evaluation{}, "Evaluation", nil},
		{metric.ResourceMetric{}, "Metric", nil},
		{scale.Pause{}, "Pause", nil},
		{scale.Hold{}, "Hold", nil},
		{scale.Decision{}, "Decision", nil},
		{scale.Constraint{}, "Constraint", nil},
	} {
		t.Run(fmt.Sprintf("%T", test.value), func(t *testing.T) {
			got := keys(reflect.TypeOf(test.value))
			slices.Sort(got)
			want := d.Properties(test.component, test.path...)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-document +type):\n%s", diff)
			}
		})
	}
}

func keys(of reflect.Type) (names []string) {
	for field := range of.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case field.Anonymous:
			names = append(names, keys(field.Type)...)
		case field.IsExported() && name != "-":
			names = append(names, name)
		}
	}
	return names
}

// Each method makes a request that the document describes, and understands the
// answer: written again it is the same.
func TestMethods(t *testing.T) {
	five := int32(5)
	until := time.Date(2026, 3, 2, 16, 5, 13, 0, time.UTC)
	for _, test := range []struct {
		operation, example string
		ask                func(context.Context, *client.Client) (any, error)
	}{
		{"metrics", "metrics", func(ctx context.Context, c *client.Client) (any, error) { return c.Metrics(ctx, true) }},
		{"evaluate", "evaluation", func(ctx context.Context, c *client.Client) (any, error) { return c.Evaluate(ctx, true) }},
		{"status", "status", func(ctx context.Context, c *client.Client) (any, error) { return c.Status(ctx) }},
		{"status", "freshStatus", func(ctx context.Context, c *client.Client) (any, error) { return c.Status(ctx) }},
		{"records", "records", func(ctx context.Context, c *client.Client) (any, error) {
			records, err := c.Records(ctx, client.RecordsOptions{Limit: 20, Since: until})
			return client.Records{Records: records}, err
		}},
		{"streamRecords", "records", func(ctx context.Context, c *client.Client) (any, error) {
			var records []client.Record
			for event, err := range c.StreamRecords(ctx, "15") {
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					return nil, err
				}
				records = append(records, event.Record)
			}
			return client.Records{Records: records}, nil
		}},
		{"hold", "holding", func(ctx context.Context, c *client.Client) (any, error) {
			hold, err := c.Hold(ctx)
			return map[string]any{"hold": hold}, err
		}},
		{"hold", "noHold", func(ctx context.Context, c *client.Client) (any, error) {
			hold, err := c.Hold(ctx)
			return map[string]any{"hold": hold}, err
		}},
		{"scale", "held", func(ctx context.Context, c *client.Client) (any, error) {
			held, err := c.Scale(ctx, client.Scale{Replicas: 8, Duration: client.Duration(90 * time.Minute), Reason: "sale", Resource: "web", Namespace: "shop"})
			return held, err
		}},
		{"scale", "heldDryRun", func(ctx context.Context, c *client.Client) (any, error) {
			return c.Scale(ctx, client.Scale{Duration: client.Duration(time.Nanosecond), DryRun: true})
		}},
		{"endHold", "noHold", func(ctx context.Context, c *client.Client) (any, error) {
			return map[string]any{"hold": nil}, c.EndHold(ctx)
		}},
		{"override", "notOverridden", func(ctx context.Context, c *client.Client) (any, error) { return c.Override(ctx) }},
		{"setOverride", "overridden", func(ctx context.Context, c *client.Client) (any, error) {
			return c.SetOverride(ctx, client.SetOverride{MinReplicas: &five, Duration: client.Duration(2 * time.Hour), Reason: "sale"})
		}},
		{"setOverride", "overridden", func(ctx context.Context, c *client.Client) (any, error) {
			return c.SetOverride(ctx, client.SetOverride{MaxReplicas: &five, ExpiresAt: until})
		}},
		{"endOverride", "notOverridden", func(ctx context.Context, c *client.Client) (any, error) { return c.EndOverride(ctx) }},
		{"paused", "pausing", func(ctx context.Context, c *client.Client) (any, error) {
			pause, err := c.Paused(ctx)
			return map[string]any{"pause": pause}, err
		}},
		{"pause", "pausing", func(ctx context.Context, c *client.Client) (any, error) {
			pause, err := c.Pause(ctx, scale.Pause{Replicas: &five, Reason: "release 4.2"})
			return map[string]any{"pause": pause}, err
		}},
		{"resume", "notPaused", func(ctx context.Context, c *client.Client) (any, error) {
			return map[string]any{"pause": nil}, c.Resume(ctx)
		}},
		{"config", "configView", func(ctx context.Context, c *client.Client) (any, error) {
			view, err := c.Config(ctx)
			if view.ETag != `"5d41402abc4b2a76"` {
				t.Errorf("the ETag is %s", view.ETag)
			}
			return view, err
		}},
		{"changeConfig", "configChange", func(ctx context.Context, c *client.Client) (any, error) {
			return c.ChangeConfig(ctx, map[string]any{"maxReplicas": 30, "fallback": nil}, `"5d41402abc4b2a76"`)
		}},
		{"resetConfig", "configReset", func(ctx context.Context, c *client.Client) (any, error) {
			return c.ResetConfig(ctx, `"5d41402abc4b2a76"`)
		}},
		{"gitUpdate", "gitUpdated", func(ctx context.Context, c *client.Client) (any, error) {
			return c.GitUpdate(ctx, client.GitUpdate{FilePath: "values.yaml", CommitMessage: "web: 5 replicas"})
		}},
	} {
		t.Run(test.operation+"/"+test.example, func(t *testing.T) {
			d := described(t)
			c := ask(t, d.Handler(t, authorized(t, d.Mock(map[string]string{test.operation: test.example}))))
			answer, err := test.ask(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.Marshal(answer)
			if err != nil {
				t.Fatal(err)
			}
			want, err := d.Example(test.example)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(parse(t, want), parse(t, got)); diff != "" {
				t.Errorf("(-answered +understood):\n%s", diff)
			}
		})
	}
}

func authorized(t *testing.T, next http.Handler) http.Handler {
	t.Helper()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got != "Bearer secret" {
			t.Errorf("Authorization is %q", got)
		}
		next.ServeHTTP(w, r)
	})
}

func parse(t *testing.T, content []byte) (value any) {
	t.Helper()
	if err := json.Unmarshal(content, &value); err != nil {
		t.Fatal(err)
	}
	return value
}

// What a later version says besides is ignored, on every level.
func TestUnknownFieldsAreIgnored(t *testing.T) {
	c := ask(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, _ = io.WriteString(w, `{"id":"a/b/c","mood":"good","bounds":{"min":{"replicas":2,"by":"x"},"soft":1},
			"lastRun":{"sequence":5,"decision":{"desired":3,"odds":0.5},"trigger":{"kind":"tide"}},"leader":null}`)
	}))
	status, err := c.Status(t.Context())
	if err != nil || status.ID != "a/b/c" || status.Bounds.Min.Replicas != 2 || status.LastRun.Decision.Desired != 3 || status.LastRun.Trigger.Kind != "tide" {
		t.Errorf("got %+v, %v", status, err)
	}
}

func TestErrors(t *testing.T) {
	for _, test := range []struct {
		name, contentType string
		status            int
		body              string
		want              client.Error
	}{
		{
			"an answer", "application/json", 503, `{"message":"this replica stands by: web-1_x leads","code":503,"hint":"x"}`,
			client.Error{Code: 503, Message: "this replica stands by: web-1_x leads", RequestID: "a-1"},
		},
		{"a proxy's", "text/html", 502, "<h1>Bad gateway</h1>\n", client.Error{Code: 502, Message: "status 502: <h1>Bad gateway</h1>", RequestID: "a-1"}},
		{"a redirection", "text/html", 302, "", client.Error{Code: 302, Message: "status 302: ", RequestID: "a-1"}},
		{"endless", "text/html", 500, strings.Repeat("a", 1<<20), client.Error{Code: 500, Message: "status 500: " + strings.Repeat("a", 200), RequestID: "a-1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := ask(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", test.contentType)
				w.Header().Set("X-Request-Id", "a-1")
				w.Header().Set("Location", "http://elsewhere.example/")
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.body)
			}))
			_, err := c.Status(t.Context())
			got, ok := errors.AsType[*client.Error](err)
			if !ok {
				t.Fatalf("got %v", err)
			}
			if diff := cmp.Diff(test.want, *got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			for _, err := range c.StreamRecords(t.Context(), "") {
				if streamed, ok := errors.AsType[*client.Error](err); !ok || streamed.Code != test.status {
					t.Errorf("the stream fails with %v", err)
				}
			}
		})
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	for name, test := range map[string]struct{ contentType, body, want string }{
		"a page":      {"text/html", "<h1>Welcome</h1>", `it must be application/json, got "text/html": is this an autoscaler?`},
		"half of one": {"application/json", `{"id":`, "unexpected end of JSON input"},
		"another":     {"application/json", `[]`, "cannot unmarshal array"},
	} {
		t.Run(name, func(t *testing.T) {
			c := ask(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", test.contentType)
				_, _ = io.WriteString(w, test.body)
			}))
			if _, err := c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

// transport answers without a network.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func through(t *testing.T, f transport) *client.Client {
	t.Helper()
	c, err := client.New(client.Options{Transport: f})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// endless is a body without an end.
type endless struct{ read int64 }

func (e *endless) Read(p []byte) (int, error) {
	e.read += int64(len(p))
	return len(p), nil
}

func (*endless) Close() error { return nil }

func TestAnEndlessAnswer(t *testing.T) {
	body := &endless{}
	c := through(t, func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: body}, nil
	})
	if _, err := c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "more than 67108864 bytes") {
		t.Errorf("got %v", err)
	}
	if body.read > 128<<20 {
		t.Errorf("%d bytes were read", body.read)
	}
	body.read = 0
	c = through(t, func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: body}, nil
	})
	for _, err := range c.StreamRecords(t.Context(), "") {
		if err == nil || !strings.Contains(err.Error(), "token too long") {
			t.Errorf("got %v", err)
		}
	}
}

// A stream that says nothing, not even that it is alive, is given up.
func TestASilentStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to := io.Pipe()
		c := through(t, func(r *http.Request) (*http.Response, error) {
			context.AfterFunc(r.Context(), func() { _ = to.CloseWithError(context.Cause(r.Context())) }) //nolint:contextcheck // it has ended
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: from}, nil
		})
		go func() {
			for range 10 {
				_, _ = io.WriteString(to, ": ping\n\n")
				time.Sleep(15 * time.Second)
			}
		}()
		began := time.Now()
		for _, err := range c.StreamRecords(t.Context(), "") {
			if err == nil || err.Error() != "the stream of records said nothing for 45s" {
				t.Errorf("got %v", err)
			}
		}
		if took := time.Since(began); took != 9*15*time.Second+45*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// Whoever leaves the loop, or ends the context, ends the stream.
func TestLeavingAStream(t *testing.T) {
	d := described(t)
	c := ask(t, d.Mock(nil))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var ids []string
	for event, err := range c.StreamRecords(ctx, "") {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, event.ID)
		cancel()
		break
	}
	if diff := cmp.Diff([]string{"16"}, ids); diff != "" {
		t.Error(diff)
	}
	for _, err := range c.StreamRecords(ctx, "") {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	if _, err := c.Status(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestNew(t *testing.T) {
	for _, base := range []string{"web:5000", "ftp://web", "http://", "http://a b"} {
		if _, err := client.New(client.Options{BaseURL: base}); err == nil || !strings.Contains(err.Error(), "the base URL") {
			t.Errorf("%s: got %v", base, err)
		}
	}
}

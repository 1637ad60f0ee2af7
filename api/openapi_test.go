// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/openapi"
)

var update = flag.Bool("update", false, "write the table of docs/rest.md")

// document is openapi.yaml, with its schemas closed.
var document = sync.OnceValues(func() (*openapi.Document, error) { return openapi.Read(OpenAPI) })

func described(t testing.TB) *openapi.Document {
	t.Helper()
	d, err := document()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// conforms has the test fail if openapi.yaml does not describe the exchange. The
// body of the request is looked at if it can be had again. A handler that is
// asked more than once is better wrapped: described(t).Handler(t, handler).
func conforms(t testing.TB, request *http.Request, response *http.Response) {
	t.Helper()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	e := openapi.Exchange{Request: request, Status: response.StatusCode, Header: response.Header, Body: body}
	if request.GetBody != nil {
		again, err := request.GetBody()
		if err != nil {
			t.Fatal(err)
		}
		if e.RequestBody, err = io.ReadAll(again); err != nil {
			t.Fatal(err)
		}
	}
	if err := described(t).Check(e); err != nil {
		t.Errorf("%s %s, answered with %d %s:\n%v", request.Method, request.URL, e.Status, body, err)
	}
}

// The headers of an answer that is right.
var (
	usual  = "Content-Type: application/json; charset=utf-8\nX-Content-Type-Options: nosniff\nX-Request-Id: a-1"
	plain  = "Content-Type: text/plain; charset=utf-8\nX-Request-Id: a-1"
	events = "Content-Type: text/event-stream\nX-Request-Id: a-1"
)

const record = `{"sequence":17,"id":"shop/deployment/web","time":"2026-03-02T14:05:09Z",` +
	`"trigger":{"kind":"interval","runType":"scaler","through":"scale"},` +
	`"target":{"kind":"Deployment","name":"web"},"bounds":{"min":{"replicas":1},"max":{"replicas":10}},` +
	`"current":3,"written":false,"durationSeconds":{"metric":0.1},"tookSeconds":0.2}`

// What conforms lets pass, and what it finds fault with.
func TestConforms(t *testing.T) {
	changed := func(old, with string) string { return strings.Replace(record, old, with, 1) }
	for _, test := range []struct {
		name, request, sent string
		status              int
		header, body        string
		fault               string
	}{
		{"no pause", "GET /api/v1/pause", "", 200, usual, `{"pause":null}`, ""},
		{"a pause", "POST /api/v1/pause", `{"replicas":5}`, 200, usual, `{"pause":{"replicas":5}}`, ""},
		{"a pause of nothing in particular", "POST /api/v1/pause", "", 200, usual, `{"pause":{}}`, ""},
		{"a refused body", "POST /api/v1/pause", `{"replicas":"5"}`, 400, usual, `{"message":"no","code":400}`, ""},
		{"metrics of no pods", "GET /api/v1/metrics?dry_run=T", "", 200, usual, `null`, ""},
		{"an evaluation", "POST /api/v1/evaluation?dry_run=", "", 200, usual, `{"targetReplicas":5}`, ""},
		{"an unknown path", "GET /p", "", 404, usual, `{"message":"no","code":404}`, ""},
		{"another method", "PATCH /api/v1/scale", "", 405, usual + "\nAllow: POST, GET, DELETE", `{"message":"no","code":405}`, ""},
		{"records", "GET /api/v1/records?limit=5&since=2026-03-02T14:00:00Z", "", 200, usual, `{"records":[` + record + `]}`, ""},
		{"a stream", "GET /api/v1/records/stream", "", 200, events, ": ping\n\nid: 17\nevent: record\ndata: " + record + "\n\n: pi", ""},
		{"a probe", "GET /livez?verbose", "", 200, plain, "[+]loop ok\n", ""},
		{"a page's file", "GET /page/app.js", "", 200, "Content-Type: text/javascript; charset=utf-8\nX-Request-Id: a-1\nETag: \"1\"", "1", ""},
		{"who are you", "GET /api/v1/status", "", 401, usual + "\nWWW-Authenticate: Bearer", `{"message":"no","code":401}`, ""},
		{
			"a configuration", "GET /api/v1/config", "", 200, usual + "\nETag: \"1\"",
			`{"config":{"minReplicas":1},"sources":{},"live":[],"lasts":"until a restart"}`, "",
		},
		{
			"a change", "PUT /api/v1/config", `{"maxReplicas":30,"behavior":null}`, 200, usual + "\nETag: \"1\"",
			`{"changed":{"maxReplicas":{"before":10,"after":30}},"lasts":"until a restart","etag":"\"1\""}`, "",
		},

		{"a field is missing", "GET /api/v1/pause", "", 200, usual, `{}`, `property "pause" is missing`},
		{"a field too much", "GET /api/v1/pause", "", 200, usual, `{"pause":null,"hold":null}`, `property "hold" is unsupported`},
		{"a field too much below", "GET /api/v1/records", "", 200, usual, `{"records":[` + changed(`"kind":`, `"sort":1,"kind":`) + `]}`, `/records/0/trigger: property "sort" is unsupported`},
		{"a wrong type", "POST /api/v1/evaluation", "", 200, usual, `{"targetReplicas":"5"}`, `got string, want integer`},
		{"null for a number", "POST /api/v1/evaluation", "", 200, usual, `{"targetReplicas":null}`, `got null, want integer`},
		{"a count out of range", "GET /api/v1/scale", "", 200, usual, `{"hold":{"replicas":2147483648,"until":"2026-03-02T14:05:09Z"}}`, `/hold: doesn't match any schema`},
		{"a time that is none", "GET /api/v1/records", "", 200, usual, `{"records":[` + changed("2026-03-02T14:05:09Z", "noon") + `]}`, `date-time`},
		{"a direction that is none", "GET /api/v1/records", "", 200, usual, `{"records":[` + changed(`"current":3,`, `"current":3,"decision":{"current":3,"desired":3,"direction":"left"},`) + `]}`, `value is not one of the allowed values`},
		{"null for a list", "GET /api/v1/records", "", 200, usual, `{"records":null}`, `/records: Value is not nullable`},
		{"no JSON", "GET /api/v1/pause", "", 200, usual, `pause`, `invalid character`},
		{"an undescribed status", "GET /api/v1/pause", "", 418, usual, `{"message":"no","code":418}`, `the status 418 is not described`},
		{"an undescribed success", "POST /api/v1/pause", "", 202, usual, `{"pause":{}}`, `the status 202 is not described`},
		{"not modified", "GET /api/v1/config", "", 304, "ETag: \"1\"", ``, `the status 304 is not described`},
		{"an undescribed path", "GET /p", "", 200, usual, `{}`, `this is not described, so it must be answered with 404`},
		{"an undescribed method", "DELETE /api/v1/metrics", "", 200, usual + "\nAllow: GET", `{}`, `this is not described, so it must be answered with 405`},
		{"not all methods", "PATCH /api/v1/scale", "", 405, usual + "\nAllow: GET", `{"message":"no","code":405}`, `the methods of /api/v1/scale are DELETE, GET, POST`},
		{"an undescribed header", "GET /api/v1/pause", "", 200, usual + "\nX-Powered-By: Go", `{"pause":null}`, `the header X-Powered-By is not described`},
		{"a header of another status", "GET /api/v1/pause", "", 200, usual + "\nETag: \"1\"", `{"pause":null}`, `the header Etag is not described`},
		{"no request ID", "GET /api/v1/pause", "", 200, "Content-Type: application/json", `{"pause":null}`, `X-Request-Id`},
		{"no ETag", "GET /api/v1/config", "", 200, usual, `{"config":{},"sources":{},"live":[],"lasts":"x"}`, `ETag`},
		{"no challenge", "GET /api/v1/status", "", 401, usual, `{"message":"no","code":401}`, `WWW-Authenticate`},
		{"a wrong request ID", "GET /api/v1/pause", "", 200, "Content-Type: application/json\nX-Request-Id: a b", `{"pause":null}`, `X-Request-Id`},
		{"another content type", "GET /api/v1/pause", "", 200, plain, `{"pause":null}`, `the content type "text/plain" is not described`},
		{"JSON for text", "GET /livez", "", 200, usual, `"ok"`, `application/json`},
		{"no content type", "GET /api/v1/pause", "", 200, "X-Request-Id: a", `{"pause":null}`, `the content type "" is not described`},
		{"an error without its code", "GET /api/v1/pause", "", 500, usual, `{"message":"no"}`, `missing property 'code'`},
		{"a bad body that was taken", "POST /api/v1/pause", `{"replicas":"5"}`, 200, usual, `{"pause":{}}`, `the request: /replicas: doesn't match`},
		{"an unknown field that was taken", "POST /api/v1/scale", `{"replicas":5,"duration":"1h","until":1}`, 200, usual, ``, `property "until" is unsupported`},
		{"no duration", "POST /api/v1/scale", `{"replicas":5}`, 200, usual, ``, `property "duration" is missing`},
		{"a duration in words", "POST /api/v1/scale", `{"replicas":5,"duration":"1 hour"}`, 200, usual, ``, `/duration: string doesn't match`},
		{"a novel of a reason", "POST /api/v1/pause", `{"reason":"` + strings.Repeat("a", 257) + `"}`, 200, usual, ``, `maximum string length is 256`},
		{"two ends", "PUT /api/v1/override", `{"minReplicas":5,"duration":"1h","expiresAt":"2026-03-02T14:05:09Z"}`, 200, usual, ``, `breaks the rule "not"`},
		{"an override of nothing", "PUT /api/v1/override", `{"duration":"1h"}`, 200, usual, ``, `anyOf`},
		{"a body that has no place", "POST /api/v1/resume", `{"replicas":5}`, 200, usual, `{"pause":null}`, `request body`},
		{"no body", "PUT /api/v1/config", "", 200, usual + "\nETag: \"1\"", ``, `value is required`},
		{"a key that cannot change", "PUT /api/v1/config", `{"namespace":"x"}`, 200, usual + "\nETag: \"1\"", ``, `property "namespace" is unsupported`},
		{"an unknown parameter", "GET /api/v1/records?number=5", "", 200, usual, `{"records":[]}`, `the query parameter "number" is not described`},
		{"a limit out of range", "GET /api/v1/records?limit=1001", "", 200, usual, `{"records":[]}`, `maximum`},
		{"a wrong truth value", "GET /api/v1/metrics?dry_run=maybe", "", 200, usual, `null`, `dry_run`},
		{"an event without its id", "GET /api/v1/records/stream", "", 200, events, "event: record\ndata: " + record + "\n\n", `an event must have data, id`},
		{"an event of another id", "GET /api/v1/records/stream", "", 200, events, "id: 16\nevent: record\ndata: " + record + "\n\n", `the event "16" has the record 17`},
		{"an event that is no record", "GET /api/v1/records/stream", "", 200, events, "id: 17\nevent: record\ndata: {}\n\n", `property "sequence" is missing`},
	} {
		t.Run(test.name, func(t *testing.T) {
			method, target, _ := strings.Cut(test.request, " ")
			request, err := http.NewRequestWithContext(t.Context(), method, "http://localhost"+target, strings.NewReader(test.sent))
			if err != nil {
				t.Fatal(err)
			}
			header := http.Header{}
			for line := range strings.SplitSeq(test.header, "\n") {
				name, value, _ := strings.Cut(line, ": ")
				header.Set(name, value)
			}
			if test.fault == "" {
				conforms(t, request, &http.Response{StatusCode: test.status, Header: header, Body: io.NopCloser(strings.NewReader(test.body))})
				return
			}
			err = described(t).Check(openapi.Exchange{
				Request: request, RequestBody: []byte(test.sent), Status: test.status, Header: header, Body: []byte(test.body),
			})
			if err == nil || !strings.Contains(err.Error(), test.fault) {
				t.Errorf("the fault is %v, want %s", err, test.fault)
			}
		})
	}
}

// The examples are what they are examples of, also with the schemas closed.
func TestExamplesConform(t *testing.T) {
	for name, schema := range map[string]string{
		"metrics": "Metrics", "evaluation": "Evaluation", "status": "Status", "freshStatus": "Status", "records": "Records",
		"pausing": "Pausing", "notPaused": "Pausing", "holding": "Holding", "held": "Held", "heldDryRun": "Held",
		"overridden": "Overridden", "notOverridden": "Overridden", "configView": "ConfigView", "configChange": "ConfigChange",
		"gitUpdated": "GitUpdated", "healthy": "Health", "pause": "Pause", "scale": "Scale", "setOverride": "SetOverride",
		"configPatch": "ConfigPatch", "gitUpdate": "GitUpdate",
	} {
		example, err := described(t).Example(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := described(t).CheckSchema(schema, example); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Roles are ordered, and every operation needs one.
func TestRoles(t *testing.T) {
	for _, o := range described(t).Operations() {
		if !slices.Contains([]string{"none", "read", "operate", "configure"}, o.Role) || o.ID == "" || o.Summary == "" {
			t.Errorf("%s %s: %+v", o.Method, o.Path, o)
		}
	}
}

const (
	referencePath = "../docs/rest.md"
	tableBegins   = "<!-- Made from api/openapi.yaml by `make generate`. -->\n"
	tableEnds     = "<!-- Until here. -->\n"
)

// The table of requests in docs/rest.md is made of openapi.yaml.
func TestReferenceIsCurrent(t *testing.T) {
	content, err := os.ReadFile(referencePath)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begins := strings.Cut(string(content), tableBegins)
	_, after, ends := strings.Cut(rest, tableEnds)
	if !begins || !ends {
		t.Fatalf("%s has no place for the table", referencePath)
	}
	want := before + tableBegins + table(described(t)) + tableEnds + after
	if *update {
		if err := os.WriteFile(referencePath, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(content)); diff != "" {
		t.Errorf("docs/rest.md is stale, run `go generate ./api` (-want +got):\n%s", diff)
	}
}

func table(d *openapi.Document) string {
	var b strings.Builder
	b.WriteString("\n| request | does | role |\n|---|---|---|\n")
	for _, o := range d.Operations() {
		role := "`" + o.Role + "`"
		switch {
		case o.Role == "none":
			role = "none"
		case o.RoleWithoutAuth == "none":
			role += ", but none without `auth`"
		}
		fmt.Fprintf(&b, "| `%s %s` | %s | %s |\n", o.Method, o.Path, o.Summary, role)
	}
	b.WriteString("\n")
	return b.String()
}

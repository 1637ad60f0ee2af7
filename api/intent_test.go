// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/autoscaler"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/state"
)

// control makes a request of the control socket's handler.
func control(t *testing.T, a Autoscaler, method, path, body string) (status int, answer string) {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	newControlHandler(backend(t, a), nil).ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestPause(t *testing.T) {
	for _, test := range []struct {
		name, body string
		want       scale.Pause
		answer     string
	}{
		{"without a count", ``, scale.Pause{}, `{"pause":{}}`},
		{"with nothing but space", " \r\n\t", scale.Pause{}, `{"pause":{}}`},
		{"with nothing in it", `{}`, scale.Pause{}, `{"pause":{}}`},
		{"at a count", `{"replicas": 5}`, scale.Pause{Replicas: new(int32(5))}, `{"pause":{"replicas":5}}`},
		{"at none", ` {"replicas":0} ` + "\n", scale.Pause{Replicas: new(int32(0))}, `{"pause":{"replicas":0}}`},
		{"at the most", `{"replicas":2147483647}`, scale.Pause{Replicas: new(int32(2147483647))}, `{"pause":{"replicas":2147483647}}`},
		{"at no count in particular", `{"replicas":null}`, scale.Pause{}, `{"pause":{}}`},
		{"for a reason", `{"reason":"we move"}`, scale.Pause{Reason: "we move"}, `{"pause":{"reason":"we move"}}`},
		{
			"for the longest reason", `{"reason":"` + strings.Repeat("ä", 256) + `"}`,
			scale.Pause{Reason: strings.Repeat("ä", 256)},
			`{"pause":{"reason":"` + strings.Repeat("ä", 256) + `"}}`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := &operated{}
			if status, answer := control(t, a, http.MethodPost, "/api/v1/pause", test.body); status != http.StatusOK || answer != test.answer {
				t.Errorf("got %d %s, want %s", status, answer, test.answer)
			}
			if diff := cmp.Diff([]scale.Pause{test.want}, a.pauses); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestResume(t *testing.T) {
	a := &operated{}
	status, answer := control(t, a, http.MethodPost, "/api/v1/resume", "")
	if status != http.StatusOK || answer != `{"pause":null}` || a.resumes != 1 {
		t.Errorf("got %d %s after %d resumes", status, answer, a.resumes)
	}
}

// badBodies are what a pause may be asked with, and what is said about it.
var badBodies = []struct {
	body   string
	status int
	says   string
}{
	{`[]`, 400, "must be a JSON object"},
	{`null`, 400, "must be a JSON object"},
	{`5`, 400, "must be a JSON object"},
	{`replicas=5`, 400, "must be a JSON object"},
	{`{`, 400, "must be JSON: unexpected EOF"},
	{`{"replicas": 5,}`, 400, "must be JSON: invalid character"},
	{`{"replicas": "5"}`, 400, "replicas: must be a whole number from 0 to 2147483647, got string"},
	{`{"replicas": 5.5}`, 400, "replicas: must be a whole number from 0 to 2147483647, got number 5.5"},
	{`{"replicas": 2147483648}`, 400, "replicas: must be a whole number from 0 to 2147483647, got number 2147483648"},
	{`{"replicas": ` + strings.Repeat("9", 60_000) + `}`, 400, "to 2147483647, got number " + strings.Repeat("9", 57) + "..."},
	{"\u00a0", 400, "must be a JSON object"},
	{"\v{}", 400, "must be a JSON object"},
	{"{}\u2003", 400, "must end after the JSON object"},
	{`{"replicas": true}`, 400, "replicas: must be a whole number from 0 to 2147483647, got bool"},
	{`{"reason": ["a"]}`, 400, "reason: must be text, got array"},
	{`{"reason": {"because": 1}}`, 400, "reason: must be text, got object"},
	{`{"replica": 5}`, 400, `"replica": unknown field; the fields are replicas, reason`},
	{`{"replicas": 5, "until": "noon"}`, 400, `"until": unknown field`},
	{`{"replicas": 5} {"replicas": 6}`, 400, "must end after the JSON object"},
	{`{"replicas": 5}x`, 400, "must end after the JSON object"},
	{`{"reason": "` + strings.Repeat("a", 257) + `"}`, 400, "reason: must be at most 256 characters, got 257"},
	{`{"reason": ` + strings.Repeat("[", 20_000), 400, "must be JSON"},
	{`{"Reason": "a"}`, 400, `"Reason": unknown field`},
	{`{"reason": "a", "reason": "b"}`, 400, "reason: given twice"},
	{`{"reason": "a\nwho=root"}`, 400, "reason: must be one line"},
	{`{"reason": "a\u0085b"}`, 400, "reason: must be one line"},
	{`{"reason": "\u009b31mred"}`, 400, "reason: must be one line"},
	{`{"reason": "a\u2028b"}`, 400, "reason: must be one line"},
	{`{"reason": "a\u202eb"}`, 400, "reason: must be one line"},
	{"{\"reason\": \"\xff\"}", 400, "the body must be UTF-8"},
	{`{"reason": "` + strings.Repeat("a", 64<<10) + `"}`, 413, "too large"},
	{strings.Repeat(" ", 64<<10+1), 413, "too large"},
}

func TestBadBodies(t *testing.T) {
	for i, test := range badBodies {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			a := &operated{}
			status, answer := control(t, a, http.MethodPost, "/api/v1/pause", test.body)
			var quoted strings.Builder
			fmt.Fprintf(&quoted, "%q", test.says)
			if status != test.status || !strings.Contains(answer, strings.Trim(quoted.String(), `"`)) {
				t.Errorf("got %d %s, want %d %s", status, answer, test.status, test.says)
			}
			if len(a.pauses) > 0 {
				t.Errorf("it was paused all the same: %v", a.pauses)
			}
		})
	}
}

func TestIntentsThatFail(t *testing.T) {
	for _, test := range []struct {
		name   string
		err    error
		status int
		answer string
	}{
		{
			"nonsense", fmt.Errorf("%w: replicas must be at least 0, got -1", autoscaler.ErrIntent),
			400, `{"message":"this cannot be asked for: replicas must be at least 0, got -1","code":400}`,
		},
		{
			"another process leads", &autoscaler.StandbyError{Leader: "web-1_x"},
			503, `{"message":"this replica stands by: web-1_x leads: run this in its pod","code":503}`,
		},
		{
			"nobody is known to lead", &autoscaler.StandbyError{},
			503, `{"message":"this replica stands by, and no leader is known at the moment: try again in a moment","code":503}`,
		},
		{
			"the store fails", errors.New("saving: disk full"),
			500, `{"message":"saving: disk full","code":500}`,
		},
		{
			"the store is somebody else's by now", fmt.Errorf("saving: %w", state.ErrConflict),
			500, `{"message":"saving: somebody else has saved a record","code":500}`,
		},
	} {
		for _, path := range []string{"/api/v1/pause", "/api/v1/resume"} {
			t.Run(test.name+path, func(t *testing.T) {
				status, answer := control(t, &operated{err: test.err}, http.MethodPost, path, "")
				if status != test.status || answer != test.answer {
					t.Errorf("got %d %s\nwant %d %s", status, answer, test.status, test.answer)
				}
			})
		}
	}
}

// A caller who leaves while an intent is being kept does not have it half kept.
func TestAnIntentOutlivesItsCaller(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, path := range []string{"/api/v1/pause", "/api/v1/resume"} {
		w := httptest.NewRecorder()
		newControlHandler(backend(t, &operated{}), nil).
			ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodPost, path, nil))
		if w.Code != http.StatusOK {
			t.Errorf("%s: got %d %s", path, w.Code, w.Body)
		}
	}
}

// The control socket serves everything that the port does.
func TestControlServesTheRest(t *testing.T) {
	for request, want := range map[string]string{
		"GET /api/v1/metrics":     `200 [{"resource":"web-1","value":"5\n"}]`,
		"POST /api/v1/evaluation": `200 {"targetReplicas":3}`,
		"GET /api/v1/pause":       `200 {"pause":null}`,
		"POST /api/v1/nothing":    `404 {"message":"Resource '/api/v1/nothing' not found","code":404}`,
	} {
		method, path, _ := strings.Cut(request, " ")
		if status, answer := control(t, &operated{runs: scaledTo(3, 3).(runs)}, method, path, ""); fmt.Sprint(status, " ", answer) != want {
			t.Errorf("%s: got %d %s", request, status, answer)
		}
	}
}

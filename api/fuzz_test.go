// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

// FuzzDecode: whatever a body is, it is refused in a few legible words, or says
// the same when it is written down and read again.
func FuzzDecode(f *testing.F) {
	for _, bad := range badBodies {
		f.Add([]byte(bad.body))
	}
	for _, operation := range described(f).Operations() {
		for _, body := range bodiesOf(f, operation) {
			f.Add([]byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		readAgain[scale.Pause](t, body)
		readAgain[scaling](t, body)
		readAgain[overriding](t, body)
		readAgain[updating](t, body)
	})
}

func readAgain[T any](t *testing.T, body []byte) {
	t.Helper()
	var first, second T
	if err := decode(body, &first); err != nil {
		if text := err.Error(); len(text) > 1000 || strings.ContainsFunc(text, forges) || strings.Contains(text, "json:") {
			t.Errorf("%T: %q", first, text)
		}
		return
	}
	written, err := json.Marshal(first)
	if err != nil {
		t.Fatal(err)
	}
	if err := decode(written, &second); err != nil {
		t.Fatalf("%T: %s is not read again: %v", first, written, err)
	}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("%T reads differently again (-first +again):\n%s", first, diff)
	}
}

// FuzzRequests: whatever comes as a request, to whom it may concern, is answered
// as it should be, and changes nothing if it is refused.
func FuzzRequests(f *testing.F) {
	h := beset(f, nil)
	for i, s := range malformed(f) {
		if i%250 == 0 && len(s.body) < 4000 {
			f.Add(s.method, s.target, strings.Join(s.headers, "\n"), s.body)
		}
	}
	operations := described(f).Operations()
	f.Fuzz(func(t *testing.T, method, target, headers, body string) {
		h.t = t
		s := shot{about: "noise", method: method, target: target, body: body}
		if headers != "" {
			s.headers = strings.Split(headers, "\n")
		}
		if s.has("Content-Length") || s.has("Transfer-Encoding") || bytes.ContainsAny([]byte(target), " \r\n") {
			return
		}
		path, _, _ := strings.Cut(target, "?")
		for _, operation := range operations {
			if operation.Path == path && (s.operation.ID == "" || operation.Method == method) {
				s.operation = operation
			}
		}
		h.fire(s)
	})
}

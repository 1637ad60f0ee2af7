// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"bytes"
	"io"
	"net/http"
	"testing"
)

// Handler passes requests on, and has the test fail for each exchange that the
// document does not describe. A stream is checked when it has ended.
func (d *Document) Handler(t testing.TB, next http.Handler) http.Handler {
	t.Helper()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("reading the body of %s %s: %v", r.Method, r.URL, err)
		}
		asked := r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
		kept := &tee{ResponseWriter: w, status: http.StatusOK}
		defer func() { //nolint:contextcheck // Check has the request's
			e := Exchange{Request: asked, RequestBody: append([]byte{}, body...), Status: kept.status, Header: kept.header, Body: kept.body.Bytes()}
			if e.Header == nil {
				e.Header = w.Header().Clone()
			}
			if err := d.Check(e); err != nil {
				t.Errorf("%s %s, answered with %d %s:\n%v", r.Method, r.URL, kept.status, kept.body.Bytes(), err)
			}
		}()
		next.ServeHTTP(kept, r)
	})
}

// tee keeps what it passes on.
type tee struct {
	http.ResponseWriter
	status int
	header http.Header
	body   bytes.Buffer
}

// WriteHeader keeps the status, and the headers as they are sent.
func (t *tee) WriteHeader(status int) {
	if t.header == nil {
		t.status, t.header = status, t.Header().Clone()
	}
	t.ResponseWriter.WriteHeader(status)
}

// Write keeps the content.
func (t *tee) Write(content []byte) (int, error) {
	if t.header == nil {
		t.WriteHeader(http.StatusOK)
	}
	t.body.Write(content)
	return t.ResponseWriter.Write(content)
}

// Unwrap is for http.ResponseController.
func (t *tee) Unwrap() http.ResponseWriter { return t.ResponseWriter }

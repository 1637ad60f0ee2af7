// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/http"
	"time"
)

// writeTimeout bounds writing an answer to a caller who is slow to read, or one
// event of a stream. Runs are waited for without such a bound: their hooks have
// deadlines of their own.
const writeTimeout = 20 * time.Second

// failed is the body of every answer that is not a success.
type failed struct {
	// Message says what went wrong.
	Message string `json:"message"`
	// Code is the HTTP status.
	Code int `json:"code"`
}

// maxMessage bounds a message, in bytes.
const maxMessage = 2000

func (h *handler) fail(w http.ResponseWriter, code int, message string) {
	h.write(w, code, failed{Message: cut(message, maxMessage), Code: code})
}

// write answers with a value as JSON. The value is encoded first, so that a
// status is never followed by half a body.
func (h *handler) write(w http.ResponseWriter, code int, value any) {
	body, err := asJSON(value)
	if err != nil {
		h.Log.Error("Encoding an answer", "error", err)
		code, body = http.StatusInternalServerError, []byte(`{"message":"failed to encode the answer","code":500}`)
	}
	h.send(w, code, "application/json; charset=utf-8", body)
}

// asJSON is a value as JSON, with < and > as they are: it is no HTML.
func asJSON(value any) ([]byte, error) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(value)
	return bytes.TrimSuffix(body.Bytes(), []byte("\n")), err
}

// send answers with a body, which nobody may keep.
func (h *handler) send(w http.ResponseWriter, code int, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	if _, err := w.Write(body); err != nil {
		h.Log.Debug("Writing an answer", "error", err)
	}
}

// punctual gives an answer its deadline, from the first write of it to the last,
// or to the next flush: a stream begins anew then.
type punctual struct {
	http.ResponseWriter
	controller *http.ResponseController
	begun      bool
	// code is the status, 0 before there is one.
	code int
}

func newPunctual(w http.ResponseWriter) *punctual {
	return &punctual{ResponseWriter: w, controller: http.NewResponseController(w)}
}

// WriteHeader begins the answer.
func (p *punctual) WriteHeader(code int) {
	if p.code == 0 {
		p.code = code
	}
	p.ResponseWriter.WriteHeader(code)
}

// Write writes a part of the answer.
func (p *punctual) Write(content []byte) (int, error) {
	p.begin()
	p.code = cmp.Or(p.code, http.StatusOK)
	return p.ResponseWriter.Write(content)
}

// FlushError sends what was written. Over HTTP/2 a deadline ends a stream that
// has nothing to write, so there is none until it has.
func (p *punctual) FlushError() error {
	p.begin()
	err := p.controller.Flush()
	p.begun = false
	_ = p.controller.SetWriteDeadline(time.Time{})
	return err
}

// begin sets the deadline. Only a connection has one: a test's recorder does not.
func (p *punctual) begin() {
	if !p.begun {
		p.begun = true
		_ = p.controller.SetWriteDeadline(time.Now().Add(writeTimeout))
	}
}

// Unwrap is for http.ResponseController.
func (p *punctual) Unwrap() http.ResponseWriter { return p.ResponseWriter }

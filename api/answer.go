// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"net/http"
)

// failed is the body of every answer that is not a success.
type failed struct {
	// Message says what went wrong.
	Message string `json:"message"`
	// Code is the HTTP status.
	Code int `json:"code"`
}

func (h *handler) fail(w http.ResponseWriter, code int, message string) {
	h.write(w, code, failed{Message: message, Code: code})
}

// write answers with a value as JSON. The value is encoded first, so that a
// status is never followed by half a body.
func (h *handler) write(w http.ResponseWriter, code int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		h.log.Error("Encoding an answer", "error", err)
		code, body = http.StatusInternalServerError, []byte(`{"message":"failed to encode the answer","code":500}`)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	if _, err := w.Write(body); err != nil {
		h.log.Debug("Writing an answer", "error", err)
	}
}

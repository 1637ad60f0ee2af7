// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/autoscaler"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

// maxBodyBytes bounds a request's body.
const maxBodyBytes = 64 << 10

// maxReason bounds a pause's reason, in characters: it is told in every line of
// the log for as long as the pause lasts.
const maxReason = 256

// paused is the answer to a pause, and with null to a resume.
type paused struct {
	Pause *scale.Pause `json:"pause"`
}

// local is who uses the control socket.
var local = autoscaler.Caller{Name: "local"}

// onlyHere refuses on the port what the control socket takes.
func (h *handler) onlyHere(command string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		h.fail(w, http.StatusForbidden, fmt.Sprintf(
			"this is not done over the network: run `custom-pod-autoscaler %s` beside the autoscaler, such as with kubectl exec in its pod", command))
	}
}

// pause stops scaling. A caller who leaves does not end that: an intent would
// be half kept. The store has a deadline.
func (h *handler) pause(w http.ResponseWriter, r *http.Request) {
	var pause scale.Pause
	if err := decode(http.MaxBytesReader(w, r.Body, maxBodyBytes), &pause); err != nil {
		status := http.StatusBadRequest
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			status = http.StatusRequestEntityTooLarge
		}
		h.fail(w, status, err.Error())
		return
	}
	if length := utf8.RuneCountInString(pause.Reason); length > maxReason {
		h.fail(w, http.StatusBadRequest, fmt.Sprintf("reason: must be at most %d characters, got %d", maxReason, length))
		return
	}
	h.intend(w, h.autoscaler.Pause(context.WithoutCancel(r.Context()), local, pause), paused{Pause: &pause})
}

// resume ends a pause, in the same way. It has no use for a body, and reads
// none.
func (h *handler) resume(w http.ResponseWriter, r *http.Request) {
	h.intend(w, h.autoscaler.Resume(context.WithoutCancel(r.Context()), local), paused{})
}

// intend answers what became of an intent.
func (h *handler) intend(w http.ResponseWriter, err error, answer paused) {
	if err == nil {
		h.write(w, http.StatusOK, answer)
		return
	}
	message := err.Error()
	if standby, ok := errors.AsType[*autoscaler.StandbyError](err); ok {
		if standby.Leader == "" {
			message += ": try again in a moment"
		} else {
			message += ": run this in its pod"
		}
	}
	h.fail(w, statusOf(err), message)
}

// decode reads a body that is one JSON object, or nothing.
func decode(body io.Reader, into *scale.Pause) error {
	content, err := io.ReadAll(body)
	if err != nil {
		return fmt.Errorf("reading the body: %w", err)
	}
	content = bytes.TrimSpace(content)
	if len(content) == 0 {
		return nil
	}
	if content[0] != '{' {
		return errors.New(`the body must be a JSON object such as {"replicas": 5, "reason": "..."}, or empty`)
	}
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return explain(err)
	}
	if decoder.InputOffset() != int64(len(content)) {
		return errors.New("the body must end after the JSON object")
	}
	return nil
}

// explain says in the caller's words what encoding/json did not like.
func explain(err error) error {
	if field, unknown := strings.CutPrefix(err.Error(), "json: unknown field "); unknown {
		return fmt.Errorf("%s: unknown field; the fields are replicas and reason", field)
	}
	mistyped, ok := errors.AsType[*json.UnmarshalTypeError](err)
	switch {
	case !ok:
		return fmt.Errorf("the body must be JSON: %w", err)
	case mistyped.Field == "replicas":
		return fmt.Errorf("replicas: must be a whole number from 0 to %d, got %s", math.MaxInt32, mistyped.Value)
	default:
		return fmt.Errorf("%s: must be text, got %s", mistyped.Field, mistyped.Value)
	}
}

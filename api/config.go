// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/autoscaler"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/live"
)

func (h *handler) getConfig(w http.ResponseWriter, _ *http.Request) {
	view := h.Settings.View()
	w.Header().Set("ETag", view.ETag)
	h.write(w, http.StatusOK, view)
}

func (h *handler) putConfig(w http.ResponseWriter, r *http.Request) {
	body, ok := h.read(w, r, maxBodyBytes)
	if !ok {
		return
	}
	h.reconfigure(w, r, func(ctx context.Context) (live.Change, error) {
		return h.Settings.Put(ctx, callerOf(r), body, r.Header.Values("If-Match"))
	})
}

func (h *handler) deleteConfig(w http.ResponseWriter, r *http.Request) {
	h.reconfigure(w, r, func(ctx context.Context) (live.Change, error) {
		return h.Settings.Reset(ctx, callerOf(r), r.Header.Values("If-Match"))
	})
}

// reconfigure changes the configuration where this process leads: another would
// not know of it. A caller who leaves before it is in force takes it back.
func (h *handler) reconfigure(w http.ResponseWriter, r *http.Request, change func(context.Context) (live.Change, error)) {
	if term := h.Autoscaler.Status().Term; !term.Leading() {
		h.intend(w, &autoscaler.StandbyError{Leader: term.Leader})
		return
	}
	changed, err := change(r.Context())
	switch {
	case err == nil:
		w.Header().Set("ETag", changed.ETag)
		h.write(w, http.StatusOK, changed)
	case errors.Is(err, live.ErrConflict):
		h.fail(w, http.StatusPreconditionFailed, err.Error())
	case errors.Is(err, live.ErrRefused):
		h.fail(w, http.StatusBadRequest, err.Error())
	default:
		h.fail(w, http.StatusServiceUnavailable, err.Error())
	}
}

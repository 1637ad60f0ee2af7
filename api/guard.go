// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/api/auth"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/autoscaler"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// requestID is the header that identifies a request, in the answer and in the
// audit log.
const requestID = "X-Request-Id"

// number gives every request an ID, unless it brings a sound one, and every
// write of its answer a deadline.
func (h *handler) number(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isSound(r.Header.Get(requestID)) {
			r.Header.Set(requestID, rand.Text())
		}
		w.Header().Set(requestID, r.Header.Get(requestID))
		w.Header().Set("X-Content-Type-Options", "nosniff")
		answer := newPunctual(w)
		defer func() { h.tally(r, answer.code) }()
		next.ServeHTTP(answer, r)
	})
}

// tally counts a request that was answered. Its names are those of the routes:
// callers make up others without end.
func (h *handler) tally(r *http.Request, code int) {
	if h.Requests == nil {
		return
	}
	method, path := r.Method, cmp.Or(chi.RouteContext(r.Context()).RoutePattern(), "none")
	if !slices.Contains(methods, method) {
		method = "other"
	}
	h.Requests(method, path, code)
}

// isSound says whether an ID can stand in a header and in a line of the log.
func isSound(id string) bool {
	const most = 128
	return id != "" && len(id) <= most && !strings.ContainsFunc(id, func(r rune) bool {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		digit := '0' <= r && r <= '9'
		return !letter && !digit && !strings.ContainsRune("._-", r)
	})
}

// recover answers a request whose handler panics: a fault in one is none of the
// others'.
func (h *handler) recover(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			fault := recover()
			if fault == nil {
				return
			}
			if fault == http.ErrAbortHandler { //nolint:errorlint,err113 // the value itself is the signal
				panic(fault)
			}
			h.Log.Error("A request failed by a fault of this program", "request", r.Header.Get(requestID),
				"fault", fmt.Sprint(fault), "stack", string(debug.Stack()))
			h.fail(w, http.StatusInternalServerError, "this request failed by a fault of the autoscaler; its log has more, under "+r.Header.Get(requestID))
		}()
		next.ServeHTTP(w, r)
	})
}

// isLocal says who uses the control socket.
func isLocal(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(auth.WithCaller(r.Context(), auth.Local())))
	})
}

// exempt has a middleware leave the probes alone.
func exempt(middleware func(http.Handler) http.Handler) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		through := middleware(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if isProbe(r) {
				next.ServeHTTP(w, r)
				return
			}
			through.ServeHTTP(w, r)
		})
	}
}

// sameOrigin refuses what a page of another host has a browser ask for, which
// shows its user's certificate without being told to. Without authentication
// there is nothing to lose by it.
func (h *handler) sameOrigin(next http.Handler) http.Handler {
	if !h.authenticates {
		return next
	}
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h.fail(w, http.StatusForbidden, "this request comes from a page of another origin, which may change nothing here")
	}))
	return protection.Handler(next)
}

// permits says whether the caller has a role. If not, it answers the request.
func (h *handler) permits(w http.ResponseWriter, r *http.Request, needs config.Role) bool {
	if h.auth == nil {
		return true
	}
	err := h.auth.Permit(r.Context(), auth.CallerFrom(r.Context()), needs)
	if err != nil {
		h.limits.refuseCaller(w, err)
	}
	return err == nil
}

// seesStderr says whether the caller may see what hooks wrote to stderr, which
// may hold anything: not whoever reaches an open port.
func (h *handler) seesStderr(r *http.Request) bool {
	return h.auth == nil || h.authenticates && !auth.CallerFrom(r.Context()).Anonymous()
}

// callerOf is who makes a request, for the audit log.
func callerOf(r *http.Request) autoscaler.Caller {
	name := auth.CallerFrom(r.Context()).Name()
	return autoscaler.Caller{Name: name, Request: r.Header.Get(requestID)}
}

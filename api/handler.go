// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/api/auth"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/api/page"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/autoscaler"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/live"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

// Autoscaler is what the API shows, asks, and tells the operator's intents.
type Autoscaler interface {
	Status() autoscaler.Status
	Alive() error
	Submit(ctx context.Context, trigger autoscaler.Trigger) (autoscaler.Record, error)
	Preview(ctx context.Context, hold scale.Hold) (scale.Decision, error)
	Pause(ctx context.Context, by autoscaler.Caller, pause scale.Pause) error
	Resume(ctx context.Context, by autoscaler.Caller) error
	Hold(ctx context.Context, by autoscaler.Caller, hold *scale.Hold) error
	Override(ctx context.Context, by autoscaler.Caller, override *bounds.Override) error
}

// Backend is what the API is a face of. It is shared by the port and the control
// socket.
type Backend struct {
	Autoscaler Autoscaler
	// Journal holds the records.
	Journal *autoscaler.Journal
	// Settings are the configuration in force.
	Settings *live.Settings
	// Git is nil without gitOps.
	Git Git
	// Ready are what must hold for the process to do its work.
	Ready *Checks
	// Metrics answers Prometheus.
	Metrics http.Handler
	// Requests counts those that were answered, with the status; nil counts none.
	Requests func(method, path string, code int)
	// Version is the program's.
	Version string
	Log     *slog.Logger
}

// handler answers requests. It is safe for concurrent use.
type handler struct {
	Backend
	router *chi.Mux
	// auth says who may do what; nil is the control socket, where everybody may
	// do everything.
	auth   *auth.Authenticator
	limits *limits
	// authenticates says whether callers are told apart.
	authenticates bool
	started       time.Time
	// closing is closed when the server stops.
	closing <-chan struct{}

	mu sync.Mutex
	// streams counts those of a caller that are open.
	streams map[string]int
}

// route is one request that is answered.
type route struct {
	method, path string
	// needs is the role that the caller must have; none is needed where it is
	// empty. The contract's own are open until authentication is configured.
	needs    config.Role
	contract bool
	handle   http.HandlerFunc
}

func (h *handler) routes() []route {
	const read, operate, configure = config.RoleRead, config.RoleOperate, config.RoleConfigure
	return []route{
		{method: "GET", path: "/livez", handle: h.livez},
		{method: "GET", path: "/readyz", handle: h.readyz},
		{method: "GET", path: "/health", handle: h.health},
		{method: "GET", path: "/openapi.yaml", handle: h.openapi},
		{method: "GET", path: "/metrics", needs: read, handle: h.Metrics.ServeHTTP},

		{method: "GET", path: "/api/v1/metrics", needs: read, contract: true, handle: h.metrics},
		{method: "POST", path: "/api/v1/evaluation", needs: read, contract: true, handle: h.evaluation},

		{method: "GET", path: "/api/v1/status", needs: read, handle: h.status},
		{method: "GET", path: "/api/v1/records", needs: read, handle: h.records},
		{method: "GET", path: "/api/v1/records/stream", needs: read, handle: h.stream},

		{method: "GET", path: "/api/v1/pause", needs: read, handle: h.getPause},
		{method: "POST", path: "/api/v1/pause", needs: operate, handle: h.pause},
		{method: "POST", path: "/api/v1/resume", needs: operate, handle: h.resume},
		{method: "GET", path: "/api/v1/scale", needs: read, handle: h.getHold},
		{method: "POST", path: "/api/v1/scale", needs: operate, handle: h.scale},
		{method: "DELETE", path: "/api/v1/scale", needs: operate, handle: h.release},
		{method: "GET", path: "/api/v1/override", needs: read, handle: h.getOverride},
		{method: "PUT", path: "/api/v1/override", needs: operate, handle: h.putOverride},
		{method: "DELETE", path: "/api/v1/override", needs: operate, handle: h.deleteOverride},

		{method: "GET", path: "/api/v1/config", needs: configure, handle: h.getConfig},
		{method: "PUT", path: "/api/v1/config", needs: configure, handle: h.putConfig},
		{method: "DELETE", path: "/api/v1/config", needs: configure, handle: h.deleteConfig},

		{method: "POST", path: "/api/v1/git/update", needs: configure, handle: h.updateGit},
	}
}

// newHandler answers whoever reaches the port.
func newHandler(c config.API, b Backend, a *auth.Authenticator, closing <-chan struct{}) http.Handler {
	h := newRouter(b, closing)
	h.auth, h.authenticates, h.limits = a, c.AuthConfigured(), newLimits(c.RateLimit, h.fail)
	h.router.Use(h.number, h.recover, exempt(h.limits.identify(a.Identify)), h.sameOrigin)
	h.route()
	if c.ServesPage() {
		shown := h.counted(page.Handler())
		h.router.Method(http.MethodGet, "/", shown)
		h.router.Method(http.MethodGet, "/page/{file:[^/]+}", shown)
	}
	return h.router
}

// newControlHandler answers whoever may act for the operator.
func newControlHandler(b Backend, closing <-chan struct{}) http.Handler {
	h := newRouter(b, closing)
	h.router.Use(h.number, h.recover, isLocal)
	h.route()
	return h.router
}

func newRouter(b Backend, closing <-chan struct{}) *handler {
	return &handler{Backend: b, router: chi.NewRouter(), started: time.Now(), closing: closing, streams: map[string]int{}}
}

func (h *handler) route() {
	h.router.NotFound(h.notFound)
	h.router.MethodNotAllowed(h.methodNotAllowed)
	for _, route := range h.routes() {
		h.router.Method(route.method, route.path, h.guarded(route))
	}
}

// guarded answers a route's request if the caller may make it.
func (h *handler) guarded(route route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		open := route.needs == "" || route.contract && !h.authenticates
		if open || h.permits(w, r, route.needs) {
			h.counted(route.handle).ServeHTTP(w, r)
		}
	})
}

// counted answers what there may be in all. Who may not do what they ask for
// takes nothing of that from the others.
func (h *handler) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.limits == nil || isProbe(r) || h.limits.count(w, r) {
			next.ServeHTTP(w, r)
		}
	})
}

// probes are what no flood of other requests is to keep from their answer.
var probes = []string{"/livez", "/readyz", "/health"}

func isProbe(r *http.Request) bool { return slices.Contains(probes, routedPath(r)) }

func (h *handler) notFound(w http.ResponseWriter, r *http.Request) {
	h.fail(w, http.StatusNotFound, fmt.Sprintf("Resource '%s' not found", legible(r.URL.Path)))
}

// methodNotAllowed is also asked about methods that nobody has heard of,
// whatever the path.
func (h *handler) methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	allowed := h.allowed(routedPath(r))
	if allowed == "" {
		h.notFound(w, r)
		return
	}
	w.Header().Set("Allow", allowed)
	h.fail(w, http.StatusMethodNotAllowed, fmt.Sprintf("Method '%s' not allowed on resource '%s'", legible(r.Method), legible(r.URL.Path)))
}

// routedPath is the path that decides who answers, as it is written: one that is
// encoded without need is another.
func routedPath(r *http.Request) string { return cmp.Or(r.URL.RawPath, r.URL.Path, "/") }

// allowed lists the methods a path has.
func (h *handler) allowed(path string) string {
	var allowed []string
	for _, method := range methods {
		if h.router.Match(chi.NewRouteContext(), method, path) {
			allowed = append(allowed, method)
		}
	}
	return strings.Join(allowed, ", ")
}

// methods are those that any path has.
var methods = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete}

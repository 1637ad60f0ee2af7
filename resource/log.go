// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"context"
	"log/slog"
	"net/http"
	"time"
)

// LevelRequest is the level at which requests to the API server are logged:
// below slog's debug, since a run makes several.
const LevelRequest = slog.LevelDebug - 4

// requestLogger logs each request to the API server: what and how long, never
// what was sent or came back.
type requestLogger struct {
	next http.RoundTripper
	log  *slog.Logger
}

// WrappedRoundTripper is what makes the requests, for those who look for the
// connections behind it.
func (l requestLogger) WrappedRoundTripper() http.RoundTripper { return l.next }

// RoundTrip makes the request.
func (l requestLogger) RoundTrip(request *http.Request) (*http.Response, error) {
	if !l.log.Enabled(request.Context(), LevelRequest) {
		return l.next.RoundTrip(request)
	}
	start := time.Now()
	response, err := l.next.RoundTrip(request)
	attributes := []slog.Attr{
		slog.String("method", request.Method), slog.String("path", request.URL.Path), slog.Duration("took", time.Since(start)),
	}
	if request.URL.Query().Has("watch") {
		// It took that long until it began.
		attributes = append(attributes, slog.Bool("watch", true))
	}
	if err != nil {
		attributes = append(attributes, slog.String("error", err.Error()))
	} else {
		attributes = append(attributes, slog.Int("status", response.StatusCode))
	}
	l.log.LogAttrs(request.Context(), LevelRequest, "Request to the API server", attributes...)
	return response, err
}

// warningLogger logs the warnings that the API server sends, such as for a
// deprecated version of the target's API.
type warningLogger struct{ log *slog.Logger }

// HandleWarningHeaderWithContext logs one warning.
func (l warningLogger) HandleWarningHeaderWithContext(ctx context.Context, code int, _, message string) {
	// 299 is the one code that Kubernetes sends.
	if code == 299 && message != "" {
		l.log.WarnContext(ctx, "The API server warns", "warning", message)
	}
}

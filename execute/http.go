// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

const (
	// maxRefusal is how much of a refused response's body an Error keeps, in
	// bytes.
	maxRefusal = 8 << 10
	// maxCause is how much of what a failed request says is shown, in bytes:
	// it may quote what the server sent.
	maxCause = 1 << 10
)

// request makes a request for each call: it carries the payload, and the body
// of its response is the answer.
type request struct {
	template     *http.Request
	inQuery      bool
	successCodes []int
	timeout      time.Duration
	limit        int64
	client       *client
}

func newRequest(method config.HTTP, timeout time.Duration, pool *Pool) (*request, error) {
	template, err := http.NewRequest(method.Method, method.URL, nil) //nolint:noctx // each call clones it with a context
	if err != nil {
		return nil, fmt.Errorf("http: %w", err)
	}
	for name, value := range method.Headers {
		if strings.EqualFold(name, "Host") {
			template.Host = value // net/http looks for it there only
		} else {
			template.Header.Set(name, value)
		}
	}
	return &request{
		template: template, inQuery: method.ParameterMode == config.ParameterQuery, successCodes: method.SuccessCodes,
		timeout: timeout, limit: pool.limit, client: pool.newClient(method, timeout),
	}, nil
}

// Execute makes the request and reads the response, all within the timeout.
func (r *request) Execute(ctx context.Context, call Call) (Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, r.timeout, errTimeout)
	defer cancel()
	client, err := r.client.current()
	if err != nil {
		return Result{}, call.fault(KindStart, err, "%v", err)
	}
	response, err := client.Do(r.carrying(ctx, call.Payload))
	if err != nil {
		// Whatever happened to this connection happened to those beside it.
		client.CloseIdleConnections()
		return Result{}, r.transportFault(ctx, call, "no response", err)
	}
	defer func() { _ = response.Body.Close() }()
	if !slices.Contains(r.successCodes, response.StatusCode) {
		return Result{}, refused(call, response)
	}
	// Reading to the end is also what lets the connection be used again.
	output, err := call.readAtMost(response.Body, r.limit)
	switch {
	case errors.Is(err, errRunOutput):
		return Result{}, call.fault(KindOutput, err, "%v", err)
	case errors.Is(err, errTooMuch):
		return Result{}, call.fault(KindOutput, err, "the response is longer than %d bytes, the limit set by maxOutputBytes", r.limit)
	case err != nil:
		return Result{}, r.transportFault(ctx, call, "no end of the response", err)
	}
	return Result{Output: output}, nil
}

// carrying is the request with the payload in its place.
func (r *request) carrying(ctx context.Context, payload []byte) *http.Request {
	request := r.template.Clone(ctx)
	if r.inQuery {
		request.URL.RawQuery = strings.TrimPrefix(request.URL.RawQuery+"&", "&") + "value=" + url.QueryEscape(string(payload))
		return request
	}
	request.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(payload)), nil }
	request.Body, _ = request.GetBody()
	request.ContentLength = int64(len(payload))
	return request
}

// transportFault is the Error of a request that got no, or no whole, response.
// It shows neither the query nor the payload.
func (r *request) transportFault(ctx context.Context, call Call, what string, err error) *Error {
	target := *r.template.URL
	if outer, ok := errors.AsType[*url.Error](err); ok {
		err = outer.Err
		if last, parseErr := target.Parse(outer.URL); parseErr == nil {
			target = *last // after redirects
		}
	}
	target.User, target.RawQuery, target.Fragment = nil, "", ""
	what = r.template.Method + " " + target.String() + ": " + what
	if ctx.Err() != nil {
		return call.interrupted(ctx, r.timeout, what)
	}
	cause := err.Error()
	if len(call.Payload) > 0 { // a server may send it back, as in a redirect
		cause = strings.ReplaceAll(cause, url.QueryEscape(string(call.Payload)), "...")
	}
	return call.fault(KindTransport, err, "%s: %s", what, shortened(cause, maxCause))
}

// refused is the Error of a response whose status does not mean success, with
// the beginning of its body.
func refused(call Call, response *http.Response) *Error {
	fault := call.fault(KindStatus, nil, "the status %s is not in successCodes", response.Status)
	body, _ := io.ReadAll(io.LimitReader(response.Body, maxRefusal)) // what there is
	fault.Stderr = shortened(string(body), maxRefusal)
	return fault
}

// shortened is at most limit bytes of text, as valid UTF-8.
func shortened(text string, limit int) string {
	if len(text) > limit {
		text = text[:limit]
	}
	return strings.ToValidUTF8(text, "?")
}

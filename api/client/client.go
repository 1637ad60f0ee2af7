// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Package client asks an autoscaler over its REST API. The types mirror
// api/openapi.yaml; fields that a later version answers with besides are
// ignored.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
)

// Limits on what is read of an answer, in bytes.
const (
	maxAnswerBytes = 64 << 20
	maxErrorBytes  = 64 << 10
)

// Options say how to reach an autoscaler.
type Options struct {
	// BaseURL is where it is, such as https://web-autoscaler:5000; by default
	// http://localhost, for a Transport that knows better.
	BaseURL string
	// Token says who asks, as a bearer token; empty says nothing.
	Token string
	// Transport makes the requests, by default http.DefaultTransport. One for the
	// control socket dials with api.DialControl.
	Transport http.RoundTripper
}

// Client asks an autoscaler. Each call waits for as long as its context lets it.
// It is safe for concurrent use.
type Client struct {
	base  *url.URL
	token string
	http  *http.Client
}

// New makes a Client; it does not connect yet. The error is about BaseURL.
func New(o Options) (*Client, error) {
	if o.BaseURL == "" {
		o.BaseURL = "http://localhost"
	}
	base, err := url.Parse(o.BaseURL)
	if err != nil {
		return nil, fmt.Errorf("the base URL: %w", err)
	}
	if base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return nil, fmt.Errorf("the base URL must be http:// or https://, then a host, got %q", o.BaseURL)
	}
	return &Client{base: base, token: o.Token, http: &http.Client{
		Transport: o.Transport,
		// There are none in the API, and a token would go with it.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Error is an answer that is not a success.
type Error struct {
	// Code is the HTTP status.
	Code int
	// Message says what went wrong and what to do, in the autoscaler's words.
	Message string
	// RequestID is what the request is called in the autoscaler's log.
	RequestID string
}

// Error is the message.
func (e *Error) Error() string { return e.Message }

// Request is one that Do makes.
type Request struct {
	// Method is GET by default.
	Method string
	// Path begins with a slash; Query may be nil.
	Path  string
	Query url.Values
	// Body is encoded as JSON; nil is none.
	Body any
	// IfMatch is an ETag; empty is none.
	IfMatch string

	// after is the last event that was received.
	after string
}

// Do makes a request, and returns the JSON of its answer as it came. It is for
// what has no method of its own. The error is an *Error if the autoscaler
// answered with one.
func (c *Client) Do(ctx context.Context, r Request) (json.RawMessage, error) {
	content, _, err := c.do(ctx, r)
	return content, err
}

// call makes a request and decodes the answer.
func (c *Client) call(ctx context.Context, r Request, into any) (http.Header, error) {
	content, header, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(content, into); err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	return header, nil
}

func (c *Client) do(ctx context.Context, r Request) (json.RawMessage, http.Header, error) {
	response, err := c.send(ctx, r, "application/json")
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	content, err := read(response.Body, maxAnswerBytes)
	return content, response.Header, err
}

// send makes a request, and returns a response that is a success. Its body must
// be closed.
func (c *Client) send(ctx context.Context, r Request, accept string) (*http.Response, error) {
	request, err := c.request(ctx, r)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", accept)
	response, err := c.http.Do(request)
	if err != nil {
		// Without the URL, which need not lead anywhere.
		if failed, ok := errors.AsType[*url.Error](err); ok {
			err = failed.Err
		}
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		defer func() { _ = response.Body.Close() }()
		return nil, failure(response)
	}
	media, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if media != accept {
		_ = response.Body.Close()
		return nil, fmt.Errorf("reading the answer: it must be %s, got %q: is this an autoscaler?", accept, media)
	}
	return response, nil
}

func (c *Client) request(ctx context.Context, r Request) (*http.Request, error) {
	var body io.Reader
	if r.Body != nil {
		encoded, err := json.Marshal(r.Body)
		if err != nil {
			return nil, fmt.Errorf("encoding the request: %w", err)
		}
		body = bytes.NewReader(encoded)
	}
	to := c.base.JoinPath(r.Path)
	to.RawQuery = r.Query.Encode()
	request, err := http.NewRequestWithContext(ctx, r.Method, to.String(), body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	if r.IfMatch != "" {
		request.Header.Set("If-Match", r.IfMatch)
	}
	if r.after != "" {
		request.Header.Set("Last-Event-ID", r.after)
	}
	return request, nil
}

// failure reads an answer that is no success. One that is not the autoscaler's,
// such as a proxy's, is told by its beginning.
func failure(response *http.Response) error {
	e := &Error{Code: response.StatusCode, RequestID: response.Header.Get("X-Request-Id")}
	content, err := io.ReadAll(io.LimitReader(response.Body, maxErrorBytes))
	if err != nil {
		return fmt.Errorf("reading the answer (status %d): %w", e.Code, err)
	}
	var answer struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(content, &answer) == nil && answer.Message != "" {
		e.Message = answer.Message
		return e
	}
	e.Message = fmt.Sprintf("status %d: %.200s", e.Code, strings.TrimSpace(string(content)))
	return e
}

// read reads up to so many bytes; more is an error.
func read(from io.Reader, most int64) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(from, most+1))
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	if int64(len(content)) > most {
		return nil, fmt.Errorf("reading the answer: it has more than %d bytes", most)
	}
	return content, nil
}

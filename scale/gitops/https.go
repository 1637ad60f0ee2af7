// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package gitops

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// statusError is an answer that is none of git's: the server refuses, whatever
// was asked.
type statusError struct{ message string }

func (e *statusError) Error() string { return e.message }

// overHTTPS reaches a server by git's smart HTTP protocol.
type overHTTPS struct {
	base   string
	access config.GitHTTPS
}

// check reads the files, so that a start tells of those that are missing.
func (t *overHTTPS) check() error {
	client, err := t.client()
	if err == nil {
		client.CloseIdleConnections()
		_, err = readSecret("gitOps.https.passwordFile", t.access.PasswordFile)
	}
	return err
}

// client is one for a single exchange: the next reads the files anew.
func (t *overHTTPS) client() (*http.Client, error) {
	settings := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.access.CAFile != "" {
		text, err := readFile("gitOps.https.caFile", t.access.CAFile)
		if err != nil {
			return nil, err
		}
		settings.RootCAs = x509.NewCertPool()
		if !settings.RootCAs.AppendCertsFromPEM(text) {
			return nil, errors.New("gitOps.https.caFile: holds no PEM certificate")
		}
	}
	return &http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: settings, ForceAttemptHTTP2: true},
		CheckRedirect: func(next *http.Request, via []*http.Request) error {
			if first := via[0].URL; next.URL.Scheme != first.Scheme || next.URL.Host != first.Host {
				return &statusError{fmt.Sprintf("the server sends us on to the host %s, which gets no credentials: name it in gitOps.repository", next.URL.Host)}
			}
			if len(via) >= 5 {
				return &statusError{"the server sends us on and on"}
			}
			return nil
		},
	}, nil
}

func (t *overHTTPS) open(ctx context.Context, service string) (conversation, error) {
	client, err := t.client()
	if err != nil {
		return nil, err
	}
	password, err := readSecret("gitOps.https.passwordFile", t.access.PasswordFile)
	if err != nil {
		return nil, err
	}
	talk := &requests{client: client, username: t.access.Username, password: string(password), service: service, ctx: ctx}
	response, err := talk.send(http.MethodGet, t.base+"/info/refs?service="+service, nil, "application/x-"+service+"-advertisement") //nolint:bodyclose // close does
	if err != nil {
		talk.close()
		return nil, err
	}
	talk.greets = response.Body
	talk.base = strings.TrimSuffix(strings.TrimSuffix(response.Request.URL.String(), "?"+response.Request.URL.RawQuery), "/info/refs")
	return talk, nil
}

// requests is a conversation of two requests.
type requests struct {
	client             *http.Client
	username, password string
	service, base      string
	// ctx bounds both.
	ctx    context.Context //nolint:containedctx // A conversation is one exchange.
	greets io.ReadCloser
	answer io.ReadCloser
}

func (t *requests) greeting() io.Reader { return t.greets }

func (t *requests) ask(request []byte) (io.Reader, error) {
	response, err := t.send(http.MethodPost, t.base+"/"+t.service, request, "application/x-"+t.service+"-result") //nolint:bodyclose // close does
	if err != nil {
		return nil, err
	}
	t.answer = response.Body
	return t.answer, nil
}

func (*requests) said() string { return "" }

func (t *requests) close() {
	for _, body := range []io.ReadCloser{t.greets, t.answer} {
		if body != nil {
			_ = body.Close()
		}
	}
	t.client.CloseIdleConnections()
}

func (t *requests) send(method, address string, body []byte, expected string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(t.ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("User-Agent", "git/custom-pod-autoscaler")
	request.Header.Set("Accept", expected)
	if body != nil {
		request.Header.Set("Content-Type", "application/x-"+t.service+"-request")
	}
	if t.password != "" {
		request.SetBasicAuth(t.username, t.password)
	}
	response, err := t.client.Do(request)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err
		}
		return nil, fmt.Errorf("reaching %s: %w", request.URL.Host, err)
	}
	kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if response.StatusCode == http.StatusOK && kind == expected {
		return response, nil
	}
	defer response.Body.Close() //nolint:errcheck // It is of no use.
	switch {
	case response.StatusCode == http.StatusOK:
		return nil, &statusError{fmt.Sprintf("%s answers with %q and not as a git server: is gitOps.repository right?", request.URL.Host, shorten(kind))}
	case response.StatusCode == http.StatusUnauthorized:
		return nil, &statusError{request.URL.Host + " answers 401: it does not take the credentials, see gitOps.https.username and passwordFile"}
	case response.StatusCode == http.StatusForbidden:
		return nil, &statusError{request.URL.Host + " answers 403: who the credentials of gitOps.https belong to may not do that"}
	case response.StatusCode == http.StatusNotFound:
		return nil, &statusError{request.URL.Host + " answers 404: there is no such repository, or not for these credentials"}
	case response.StatusCode >= http.StatusInternalServerError:
		// A proxy may answer so after the server has done it.
		return nil, fmt.Errorf("%s answers %s", request.URL.Host, response.Status)
	}
	return nil, &statusError{fmt.Sprintf("%s answers %s", request.URL.Host, response.Status)}
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/rotate"
)

const (
	// maxIdle is how many connections to a host are kept for the next calls.
	maxIdle = 64
	// dialAllowance is how much longer than a call a connection may take to be
	// made: net/http goes on with that for the next call.
	dialAllowance = time.Second
	// maxResponseHeader bounds a response's headers, in bytes.
	maxResponseHeader = 1 << 20
)

// client is the http.Client of a method. It is made anew when the method's
// certificates change, with connections of its own, since those that exist
// were trusted with the old ones.
type client struct {
	method  config.HTTP
	timeout time.Duration

	mu    sync.Mutex
	files [][]byte // what the current client was made from
	http  *http.Client
}

func newClient(method config.HTTP, timeout time.Duration) *client {
	return &client{method: method, timeout: timeout}
}

// current is the client for the certificates as they are now. The files are
// compared as a whole: times and sizes may stay the same when they change.
func (c *client) current() (*http.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	files, err := c.readFiles()
	if err != nil {
		return nil, err
	}
	if c.http != nil && slices.EqualFunc(files, c.files, bytes.Equal) {
		return c.http, nil
	}
	settings, err := tlsSettings(c.method, files[0], files[1], files[2])
	if err != nil {
		return nil, err
	}
	if c.http != nil {
		c.http.CloseIdleConnections()
	}
	c.files, c.http = files, &http.Client{Transport: transport(settings, c.timeout)}
	return c.http, nil
}

func (c *client) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.http != nil {
		c.http.CloseIdleConnections()
	}
}

// readFiles is the content of caCert, clientCert and clientKey; nothing for one
// that is not set.
func (c *client) readFiles() ([][]byte, error) {
	var contents [][]byte
	for _, file := range []struct{ key, name string }{
		{"caCert", c.method.CACert}, {"clientCert", c.method.ClientCert}, {"clientKey", c.method.ClientKey},
	} {
		content, err := readPEM(file.name)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", file.key, err)
		}
		contents = append(contents, content)
	}
	return contents, nil
}

func readPEM(name string) ([]byte, error) {
	if name == "" {
		return nil, nil
	}
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if err := rotate.Whole(content); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return content, nil
}

// tlsSettings are the settings that a method's certificates amount to.
func tlsSettings(method config.HTTP, ca, cert, key []byte) (*tls.Config, error) {
	settings := &tls.Config{MinVersion: tls.VersionTLS12}
	if method.CACert != "" {
		settings.RootCAs = x509.NewCertPool()
		if !settings.RootCAs.AppendCertsFromPEM(ca) {
			return nil, fmt.Errorf("caCert %s holds no PEM certificate", method.CACert)
		}
	}
	if method.ClientCert != "" || method.ClientKey != "" {
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("clientCert %s with clientKey %s: %w", method.ClientCert, method.ClientKey, err)
		}
		settings.Certificates = []tls.Certificate{pair}
	}
	return settings, nil
}

// transport is what http.DefaultTransport is, but bounded by the method, and
// without HTTP/2: a call that times out then closes the connection it was on.
// One that HTTP/2 shares would be kept, and every call after it fail, when the
// server went away without a word.
func transport(settings *tls.Config, timeout time.Duration) *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: timeout + dialAllowance}).DialContext,
		TLSClientConfig:        settings,
		TLSHandshakeTimeout:    timeout + dialAllowance,
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        90 * time.Second,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: maxResponseHeader,
	}
}

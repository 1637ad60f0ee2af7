// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"
)

// proxy stands between one program and the API server and counts, so that any
// program can be measured, whatever it says of itself.
type proxy struct {
	server   *http.Server
	identity identity
	port     int
	// requests have begun, bytes of answers have gone through: those of a watch
	// as they come.
	requests, bytes atomic.Int64
	// writes are the changes of a count that the API server has made, for whom
	// waits for one. What nobody waits for is dropped.
	writes chan write
}

// write is a change of a count by the program.
type write struct{ arrived, answered time.Time }

// startProxy starts a proxy for the API server that config leads to. It speaks
// TLS as the API server does, since that is part of what a run costs.
func startProxy(ctx context.Context, config *rest.Config) (*proxy, error) {
	target, err := url.Parse(config.Host)
	if err != nil {
		return nil, fmt.Errorf("reading the API server's address: %w", err)
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		return nil, fmt.Errorf("connecting the proxy to the API server: %w", err)
	}
	p := &proxy{writes: make(chan write, 16)}
	if p.identity, err = newIdentity(); err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", loopback+":0")
	if err != nil {
		return nil, fmt.Errorf("starting the proxy: %w", err)
	}
	p.port = listener.Addr().(*net.TCPAddr).Port
	// A program that is stopped leaves requests behind; that is no news.
	silent := slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	forward := &httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1,
		ErrorLog:      silent,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			// The program's token is good for nothing; the proxy has its own
			// credentials.
			r.Out.Header.Del("Authorization")
		},
	}
	p.server = &http.Server{
		Handler:           p.count(forward),
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{p.identity.certificate}, MinVersion: tls.VersionTLS12},
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          silent,
	}
	go func() { _ = p.server.ServeTLS(listener, "", "") }()
	return p, nil
}

// count counts what next handles.
func (p *proxy) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived := time.Now()
		p.requests.Add(1)
		counting := &countingWriter{ResponseWriter: w, bytes: &p.bytes}
		next.ServeHTTP(counting, r)
		if r.Method == http.MethodPatch && strings.HasSuffix(r.URL.Path, "/scale") && counting.status == http.StatusOK {
			p.tell(write{arrived: arrived, answered: time.Now()})
		}
	})
}

func (p *proxy) tell(w write) {
	select {
	case p.writes <- w:
	default:
	}
}

// forget drops the writes that nobody waited for.
func (p *proxy) forget() {
	for {
		select {
		case <-p.writes:
		default:
			return
		}
	}
}

// url leads to the proxy.
func (p *proxy) url() string { return fmt.Sprintf("https://%s:%d", loopback, p.port) }

func (p *proxy) stop() { _ = p.server.Close() }

// countingWriter counts the bytes of a response's body, compressed as they
// travel, and keeps its status.
type countingWriter struct {
	http.ResponseWriter
	bytes  *atomic.Int64
	status int
}

func (w *countingWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *countingWriter) Write(content []byte) (int, error) {
	n, err := w.ResponseWriter.Write(content)
	w.bytes.Add(int64(n))
	return n, err
}

// Unwrap lets the reverse proxy flush.
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

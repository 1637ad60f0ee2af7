// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// proxy stands between the program and the API server and counts, so that any
// program can be measured, whatever it says of itself.
type proxy struct {
	server *http.Server
	// kubeconfig leads to the proxy.
	kubeconfig string
	requests   atomic.Int64
	bytes      atomic.Int64
}

func startProxy(ctx context.Context, config *rest.Config, directory string) (*proxy, error) {
	target, err := url.Parse(config.Host)
	if err != nil {
		return nil, fmt.Errorf("reading the API server's address: %w", err)
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		return nil, fmt.Errorf("connecting the proxy to the API server: %w", err)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("starting the proxy: %w", err)
	}
	p := &proxy{kubeconfig: filepath.Join(directory, "kubeconfig")}
	forward := &httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1,
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
	}
	p.server = &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p.requests.Add(1)
			forward.ServeHTTP(&countingWriter{ResponseWriter: w, bytes: &p.bytes}, r)
		}),
	}
	go func() { _ = p.server.Serve(listener) }()
	return p, clientcmd.WriteToFile(api.Config{
		Clusters:       map[string]*api.Cluster{"bench": {Server: "http://" + listener.Addr().String()}},
		Contexts:       map[string]*api.Context{"bench": {Cluster: "bench"}},
		CurrentContext: "bench",
	}, p.kubeconfig)
}

func (p *proxy) stop() { _ = p.server.Close() }

// countingWriter counts the bytes of a response's body.
type countingWriter struct {
	http.ResponseWriter
	bytes *atomic.Int64
}

func (w *countingWriter) Write(content []byte) (int, error) {
	n, err := w.ResponseWriter.Write(content)
	w.bytes.Add(int64(n))
	return n, err
}

// Unwrap lets the reverse proxy flush.
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Package freezer stands between a client and a server, and lets connections go
// silent as they do when a machine on the way disappears: nothing is closed,
// nothing arrives any more.
package freezer

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
)

// Freezer forwards connections until they are frozen.
type Freezer struct {
	listener net.Listener
	server   string

	mu    sync.Mutex
	pairs []*pair
}

// pair is a forwarded connection.
type pair struct {
	client, server net.Conn

	mu     sync.Mutex
	frozen bool
}

// Start forwards what comes to Addr to the server until the test ends.
func Start(t testing.TB, server string) *Freezer {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &Freezer{listener: listener, server: server}
	var done sync.WaitGroup
	done.Go(func() { f.accept(context.WithoutCancel(t.Context()), &done) })
	t.Cleanup(func() {
		_ = listener.Close()
		f.each(func(p *pair) { _, _ = p.client.Close(), p.server.Close() })
		done.Wait()
	})
	return f
}

// Addr is where it listens, host and port.
func (f *Freezer) Addr() string { return f.listener.Addr().String() }

// Freeze silences the connections there are. Later ones work.
func (f *Freezer) Freeze() {
	f.each(func(p *pair) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.frozen = true
	})
}

// Connections is how many were made so far.
func (f *Freezer) Connections() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.pairs)
}

func (f *Freezer) each(do func(*pair)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.pairs {
		do(p)
	}
}

func (f *Freezer) accept(ctx context.Context, done *sync.WaitGroup) {
	for {
		client, err := f.listener.Accept()
		if err != nil {
			return
		}
		server, err := new(net.Dialer).DialContext(ctx, "tcp", f.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		p := &pair{client: client, server: server}
		f.mu.Lock()
		f.pairs = append(f.pairs, p)
		f.mu.Unlock()
		done.Go(func() { p.forward(client, server) })
		done.Go(func() { p.forward(server, client) })
	}
}

// forward copies until an end, which it hands on unless it is frozen.
func (p *pair) forward(from, to net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if p.isFrozen() {
			_, _ = io.Copy(io.Discard, from)
			return
		}
		if n > 0 {
			_, _ = to.Write(buffer[:n])
		}
		if err != nil {
			_ = to.Close()
			return
		}
	}
}

func (p *pair) isFrozen() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.frozen
}

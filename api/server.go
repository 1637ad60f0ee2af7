// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Package api serves the REST API. It gathers and decides nothing itself: it
// shows what the autoscaler published, Status and Records; it hands it triggers,
// and tells the answer from the Record that comes back; and it hands it what
// operators intend, which the autoscaler keeps.
//
// What everybody may do who reaches the port is to look, and what the original
// has; the rest needs authentication (package auth). On a Unix socket that
// belongs to the runtime's user everything is served to that user.
package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/api/auth"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/autoscaler"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// Limits on a connection. There is none on writing an answer: it comes when
// the run has ended, whose hooks have deadlines of their own.
const (
	readTimeout    = 10 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 64 << 10
)

// drainTimeout is how long a stop waits for the requests under way: as long as
// the run they wait for may go on, and the moment to write the answers.
const drainTimeout = autoscaler.HookGrace + 300*time.Millisecond

// Server serves the API, on its port or on the control socket.
type Server struct {
	server   *http.Server
	listener net.Listener
	// secure says that it speaks HTTPS, control that it is the control socket.
	secure, control bool
	log             *slog.Logger
	// closing is closed when it stops.
	closing chan struct{}
	// silent are the connections that have sent nothing yet.
	silent sync.Map
}

// Listen opens the port and reads the certificate, so that a fault in either
// shows before anything runs; Run then serves.
func Listen(ctx context.Context, c config.API, b Backend, a *auth.Authenticator) (*Server, error) {
	closing := make(chan struct{})
	handler := newHandler(c, b, a, closing)
	var settings *tls.Config
	if c.UseHTTPS {
		var err error
		if settings, handler, err = secure(c, handler, b.Log); err != nil {
			return nil, err
		}
	}
	address := net.JoinHostPort(c.Host, strconv.Itoa(c.Port))
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("serving the REST API on apiConfig.host and apiConfig.port: %w", err)
	}
	if !c.AuthConfigured() {
		b.Log.Warn("Whoever reaches the REST API may have the hooks run and the target scaled, within the bounds: see apiConfig.auth, or turn it off")
	}
	s := newServer(listener, handler, b.Log, closing)
	s.server.TLSConfig, s.secure = settings, c.UseHTTPS
	return s, nil
}

func newServer(listener net.Listener, handler http.Handler, log *slog.Logger, closing chan struct{}) *Server {
	s := &Server{listener: listener, log: log, closing: closing}
	s.server = &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		// Otherwise OPTIONS * would be answered without us.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnState:                    s.watch,
	}
	return s
}

// watch keeps the connections that have sent nothing yet.
func (s *Server) watch(connection net.Conn, state http.ConnState) {
	if state == http.StateNew {
		s.silent.Store(connection, nil)
	} else {
		s.silent.Delete(connection)
	}
}

// Addr is the address it listens on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Run serves until the context ends; then it answers the requests under way
// and returns nil, within 2 s. Call it once.
func (s *Server) Run(ctx context.Context) error {
	if s.control {
		s.log.Info("Serving commands such as pause", "socket", s.Addr().String())
	} else {
		s.log.Info("Serving the REST API", "address", s.Addr().String(), "https", s.secure)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := s.serve(); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serving requests on %s: %w", s.Addr(), err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		s.drain(context.WithoutCancel(ctx))
		return nil
	})
	return group.Wait()
}

func (s *Server) serve() error {
	if s.secure {
		return s.server.ServeTLS(s.listener, "", "")
	}
	return s.server.Serve(s.listener)
}

// drain waits for the requests under way, then closes what is left. Shutdown
// looks less and less often whether they are done, up to twice a second, which
// is too coarse here: so it is asked anew. It also waits 5 s for a connection
// that never sent anything, such as a probe's, which is closed instead.
func (s *Server) drain(ctx context.Context) {
	close(s.closing)
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	for ctx.Err() == nil {
		look, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		err := s.server.Shutdown(look)
		cancel()
		if err == nil {
			return
		}
		s.silent.Range(func(connection, _ any) bool {
			_ = connection.(net.Conn).Close() //nolint:forcetypeassert // only watch stores
			return true
		})
	}
	s.log.Warn("Some REST requests were not answered before the stop")
	_ = s.server.Close()
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"
)

// The tools below break the API server as it breaks in life: gone, and
// connections are refused; or hung, and they are accepted but not answered.
// On a cluster that tests share, only a test that runs alone may use them, and
// must undo what it did.

const (
	// apiServerGrace is how long the API server may finish what it is doing. It
	// waits up to a minute for its clients otherwise.
	apiServerGrace = 2 * time.Second
	// silence is how long an API server that stopped in its tracks is listened
	// to, and pauseTimeout how long it may take to stop.
	silence      = 200 * time.Millisecond
	pauseTimeout = 10 * time.Second
)

// StopAPIServer ends the API server; the rest runs on. It does nothing when
// the API server does not run.
func (c *Cluster) StopAPIServer() {
	c.program("kube-apiserver").stop(apiServerGrace)
}

// StartAPIServer starts the API server that StopAPIServer ended, on the same
// port with the same data, and returns when it is ready. The programs around it
// find it again by themselves, within a few seconds.
func (c *Cluster) StartAPIServer(ctx context.Context) error {
	if c.program("kube-apiserver").running() {
		return errors.New("starting the API server: it is running")
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := c.startAPIServer(ctx); err != nil {
		return fmt.Errorf("starting the API server again: %w", err)
	}
	return nil
}

// PauseAPIServer stops the API server in its tracks: connections stay open and
// new ones are accepted by the system, but nothing is answered. Its threads stop
// one by one, a moment after the signal, so it returns when that is so.
func (c *Cluster) PauseAPIServer() error {
	if err := c.signalAPIServer(syscall.SIGSTOP); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), pauseTimeout)
	defer cancel()
	return await(ctx, "the API server to stop in its tracks", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, silence)
		defer cancel()
		if err := c.apiServerReady(ctx); !errors.Is(err, context.DeadlineExceeded) {
			return errors.Join(errors.New("it still answers"), err)
		}
		return nil
	})
}

// ResumeAPIServer lets the API server go on where it was paused.
func (c *Cluster) ResumeAPIServer() error { return c.signalAPIServer(syscall.SIGCONT) }

func (c *Cluster) signalAPIServer(signal syscall.Signal) error {
	p := c.program("kube-apiserver")
	if !p.running() {
		return errors.New("signalling the API server: it is not running")
	}
	if err := p.command.Process.Signal(signal); err != nil {
		return fmt.Errorf("signalling the API server: %w", err)
	}
	return nil
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Command custom-pod-autoscaler scales a Kubernetes workload by somebody's own
// logic. Without arguments it runs; images rely on that.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// version is set by the build.
var version = "dev"

// lastResort is how long after a signal the process ends in any case. A stop
// takes 2.8 s at most: the grace of the hooks, half a second each to hand over the
// state and to release the lease, and the moment that workers have to end.
const lastResort = 3 * time.Second

// What the exit status says.
const (
	exitFailed  = 1
	exitRefused = 2
)

func main() {
	// A second signal changes nothing: the first one ends the process within
	// lastResort, and its hooks with it.
	ctx, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// Whatever may hang, such as a log that nobody reads, the process ends.
	context.AfterFunc(ctx, func() { time.AfterFunc(lastResort, func() { os.Exit(0) }) })
	os.Exit(start(ctx, os.Args[1:]))
}

// start runs a command line and returns the exit status.
func start(ctx context.Context, args []string) int {
	command := newCommand() //nolint:contextcheck // cobra hands each command the context of ExecuteContext
	command.SetArgs(args)
	err := command.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "custom-pod-autoscaler: "+err.Error())
	if _, refused := errors.AsType[refusal](err); refused {
		return exitRefused
	}
	return exitFailed
}

// refusal is an error of whoever called: a command line or a configuration
// that cannot be used. Trying again is no use.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

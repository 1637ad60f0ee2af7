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
)

// version is set by the build.
var version = "dev"

// What the exit status says.
const (
	exitFailed  = 1
	exitRefused = 2
)

func main() {
	// The second signal ends the process at once: the first gives it up to 2 s.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
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

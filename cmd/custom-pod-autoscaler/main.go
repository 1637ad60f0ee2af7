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

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// version is set by the build.
var version = "dev"

// What the exit status says.
const (
	exitFailed        = 1
	exitInvalidConfig = 2
)

func main() {
	// The second signal ends the process at once: the first gives it up to 2 s.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(start(ctx, os.Args[1:]))
}

// start runs a command line and returns the exit status.
func start(ctx context.Context, args []string) int {
	command := newCommand()
	command.SetArgs(args)
	err := command.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "custom-pod-autoscaler: "+err.Error())
	var faults config.Faults
	if errors.As(err, &faults) || errors.Is(err, errUsage) || errors.Is(err, errConfig) {
		return exitInvalidConfig
	}
	return exitFailed
}

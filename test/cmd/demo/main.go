// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Command demo shows an autoscaler at work: pods whose CPU use follows a wave,
// the real program with two shell hooks that read metrics-server's figures, and
// a line for every run that says what was decided and why. It runs on a control
// plane of its own on this machine, or on the user's cluster in a namespace of
// its own, and removes what it made, also after Ctrl-C. docs/demo.md tells the
// user about it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// What the exit status says.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// options are the command line.
type options struct {
	kubeconfig string
	image      string
	duration   time.Duration
}

func main() {
	// `make demo | head` is an orderly end too: once anybody listens to this
	// signal, writing to nobody is only an error.
	pipe, _ := signal.NotifyContext(context.Background(), syscall.SIGPIPE)
	// The second signal ends the process at once, and what watches over its
	// children ends those.
	ctx, stop := signal.NotifyContext(pipe, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop)
	os.Exit(start(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// start runs a command line and returns the exit status.
func start(ctx context.Context, args []string, stdout *os.File, stderr io.Writer) int {
	var o options
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "run on the cluster of this kubeconfig's current context, in a namespace of its own")
	flags.StringVar(&o.image, "image", "busybox:1.37", "an image with /bin/sh, for the pods on a cluster that runs containers")
	flags.DurationVar(&o.duration, "duration", 0, "how long to watch (default 2m; 4m on a cluster that runs containers)")
	if err := flags.Parse(args); err != nil {
		return exitUsage
	}
	if flags.NArg() > 0 || o.duration < 0 {
		flags.Usage()
		return exitUsage
	}
	err := run(ctx, o, newScreen(stdout))
	switch {
	case ctx.Err() != nil:
		if left := (leftBehindError{}); errors.As(err, &left) {
			_, _ = fmt.Fprintln(stderr, "demo:", left)
		}
		return exitInterrupted
	case err != nil:
		_, _ = fmt.Fprintln(stderr, "demo:", err)
		return exitFailed
	default:
		return 0
	}
}

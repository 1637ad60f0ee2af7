// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Command cluster runs a local control plane from the shell: `up` builds and
// starts it, `status` shows it, `down` stops it and removes everything, and
// `build` only builds it. Package test/cluster says what it is made of.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/cluster"
)

func main() {
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		return 1
	}
	return 0
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use: "cluster", Short: "Run a local Kubernetes control plane",
		SilenceUsage: true, SilenceErrors: true,
	}
	directory := root.PersistentFlags().String("state", "", "directory of the kubeconfig and the state (default .cache/cluster of the repository)")
	add := func(use, short string, hidden bool, run func(*cobra.Command, *cluster.Detached) error) {
		root.AddCommand(&cobra.Command{
			Use: use, Short: short, Hidden: hidden, Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				detached, err := cluster.NewDetached(*directory)
				if err != nil {
					return err
				}
				return run(c, detached)
			},
		})
	}
	add("build", "Build its programs, unless they are built", false, build)
	add("up", "Build and start it, and say how to reach it", false, up)
	add("status", "Show what runs; exit with 1 unless all of it does", false, status)
	add("down", "Stop it and remove what it left", false, down)
	add("serve", "Run it until a signal comes; `up` uses this", true, serve)
	return root
}

func build(c *cobra.Command, _ *cluster.Detached) error {
	_, err := cluster.Build(c.Context(), c.ErrOrStderr())
	return err
}

// up prints nothing but the shell command that leads there to the standard
// output, so that a shell can evaluate it.
func up(c *cobra.Command, detached *cluster.Detached) error {
	err := detached.Up(c.Context(), c.ErrOrStderr(), "serve", "--state", detached.Directory())
	if err != nil && !errors.Is(err, cluster.ErrRunning) {
		return err
	}
	description, _, statusErr := detached.Status()
	if statusErr != nil {
		return statusErr
	}
	if err != nil {
		c.PrintErrln(err.Error() + ":")
	}
	c.PrintErr(description)
	c.PrintErrln("reach it with kubectl, or anything else that takes a kubeconfig, after:")
	_, err = fmt.Fprintln(c.OutOrStdout(), "export KUBECONFIG="+shellQuoted(detached.KubeconfigFile()))
	return err
}

func status(c *cobra.Command, detached *cluster.Detached) error {
	description, allUp, err := detached.Status()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprint(c.OutOrStdout(), description); err != nil {
		return err
	}
	if !allUp {
		return errors.New("not everything runs")
	}
	return nil
}

func down(c *cobra.Command, detached *cluster.Detached) error {
	found, err := detached.Down(c.Context())
	if err != nil {
		return err
	}
	message := "the control plane is stopped and removed"
	if !found {
		message = "no control plane is running"
	}
	_, err = fmt.Fprintln(c.OutOrStdout(), message)
	return err
}

func serve(c *cobra.Command, detached *cluster.Detached) error {
	return detached.Serve(c.Context(), cluster.ServerReady(), c.ErrOrStderr())
}

// shellQuoted quotes a path for the shell.
func shellQuoted(path string) string {
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

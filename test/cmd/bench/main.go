// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Command bench measures what a run costs: the real program against a real
// control plane, with a Deployment of running pods; and what a decision alone
// costs. Figures of one call may be compared with each other; those of
// different calls or machines hardly.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/cluster"
)

const deployment = "web"

func main() {
	ctx, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	pods := flag.Int("pods", 200, "how many pods the Deployment has")
	runs := flag.Int("runs", 10, "how many runs are measured of each kind; the median is shown")
	decisions := flag.Int("decisions", 1_000_000, "how many decisions are measured")
	binary := flag.String("binary", "", "the program to measure instead of the one of this checkout")
	flag.Parse()
	if err := bench(ctx, *binary, *pods, *runs, *decisions, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench measures each kind and reports.
func bench(ctx context.Context, binary string, pods, runs, decisions int, to io.Writer) error {
	directory, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(directory) }()
	if binary == "" {
		binary = filepath.Join(directory, "custom-pod-autoscaler")
		if err := build(ctx, binary); err != nil {
			return err
		}
	}
	size, err := os.Stat(binary)
	if err != nil {
		return fmt.Errorf("measuring the program: %w", err)
	}

	control, err := cluster.Start(ctx, cluster.Options{WithoutMetrics: true, Progress: os.Stderr})
	if err != nil {
		return err
	}
	defer control.Stop()
	fmt.Fprintf(os.Stderr, "waiting for %d running pods\n", pods)
	workload := cluster.Workload{Name: deployment, Replicas: int32(pods)} //nolint:gosec // a number of pods
	if err := control.Deploy(ctx, "default", workload); err != nil {
		return err
	}
	proxy, err := startProxy(ctx, control.RESTConfig(), directory)
	if err != nil {
		return err
	}
	defer proxy.stop()

	var results []result
	for _, kind := range kinds {
		if _, err := exec.LookPath(kind.program); err != nil {
			fmt.Fprintf(os.Stderr, "%s is not measured: %v\n", kind.name, err)
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s\n", kind.name)
		r, err := measure(ctx, binary, directory, proxy, kind, pods, runs)
		if err != nil {
			return fmt.Errorf("measuring %s: %w", kind.name, err)
		}
		results = append(results, r)
	}
	if err := report(to, pods, runs, size.Size(), results); err != nil {
		return err
	}
	return reportDecisions(to, decisions)
}

// build builds the program as it is released: stripped.
func build(ctx context.Context, file string) error {
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", file,
		"github.com/custom-pod-autoscaler/custom-pod-autoscaler/cmd/custom-pod-autoscaler")
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("building the program: %w\n%s", err, output)
	}
	return nil
}

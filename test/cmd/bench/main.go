// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Command bench measures what a run costs, from outside: any program that
// follows the contract, or two of them side by side, against a real control
// plane with Deployments of running pods. It also measures what a decision
// alone costs. Figures of one call may be compared with each other; those of
// different calls or machines hardly.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	os.Exit(run())
}

// run returns the exit status.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 2
	}
	if err := bench(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

// options say what is measured, and for how long.
type options struct {
	// binaries are the programs: none for that of this checkout, one, or two
	// that are compared.
	binaries []string
	// pods are the sizes of the Deployment, the smallest first.
	pods []int
	// runs is how many runs of a kind are measured at least, and budget how
	// long at most, in each program.
	runs   int
	budget time.Duration
	// longest is how long a run may take that is tried at all. A program that
	// waits for a thousand pods one after another would hold up everything.
	longest time.Duration
	// starts and pushes are how many of those are measured in each program.
	starts, pushes int
	decisions      int
	// window is how long the loop is watched beside each load on the status.
	window time.Duration
	// only chooses by name what is measured.
	only *regexp.Regexp
	// json is the file for the report as JSON; none if empty.
	json string
}

// mostBinaries is how many programs one report has columns for.
const mostBinaries = 2

// parse reads the command line.
func parse(args []string) (options, error) {
	o := options{pods: []int{10, 200, 1000}, starts: 9, pushes: 20, only: regexp.MustCompile("")}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.Func("binary", "a `program` to measure instead of that of this checkout; given twice, both side by side", func(file string) error {
		o.binaries = append(o.binaries, file)
		return nil
	})
	flags.Func("pods", "the `sizes` of the Deployment, by commas (default 10,200,1000)", func(list string) (err error) {
		o.pods, err = parseSizes(list)
		return err
	})
	flags.Func("only", "measure only what this `regexp` finds in its name: kinds, start, push, status, decisions", func(expression string) (err error) {
		o.only, err = regexp.Compile(expression)
		return err
	})
	flags.IntVar(&o.runs, "runs", 10, "how many runs of each kind are measured at least, unless that takes longer than the budget")
	flags.DurationVar(&o.budget, "budget", 5*time.Second, "how long runs of one kind go on at most, in each program; the last one ends")
	flags.DurationVar(&o.longest, "longest", time.Minute, "skip a kind when a run with fewer pods tells that one would take longer than this")
	flags.IntVar(&o.decisions, "decisions", 1_000_000, "how many decisions are measured")
	flags.DurationVar(&o.window, "window", 10*time.Second, "how long the loop is watched without requests, beside some, and beside as many as are answered")
	flags.StringVar(&o.json, "json", "", "write the report as JSON to this `file` as well")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("%q is no argument; see --help", flags.Arg(0))
	case len(o.binaries) > mostBinaries:
		return o, fmt.Errorf("--binary was given %d times; at most %d programs are compared", len(o.binaries), mostBinaries)
	case o.runs < 1 || o.decisions < 1 || o.budget <= 0 || o.longest <= 0:
		return o, errors.New("--runs, --decisions, --budget and --longest must be positive")
	case o.window < loopInterval || o.window > mostWindow:
		return o, fmt.Errorf("--window must be from %s to %s", loopInterval, mostWindow)
	}
	return o, nil
}

// mostPods bounds a size: the control plane of one machine takes no more.
const mostPods = 10_000

// parseSizes reads numbers of pods and sorts them.
func parseSizes(list string) ([]int, error) {
	var sizes []int
	for text := range strings.SplitSeq(list, ",") {
		size, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || size < 1 || size > mostPods {
			return nil, fmt.Errorf("%q is not a number of pods from 1 to %d", text, mostPods)
		}
		sizes = append(sizes, size)
	}
	slices.Sort(sizes)
	return slices.Compact(sizes), nil
}

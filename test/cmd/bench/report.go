// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// stages are shown in the order of a run.
var stages = []string{"read", "metric", "evaluate", "decide", "write"}

func report(to io.Writer, pods, runs int, binarySize int64, results []result) error {
	fmt.Fprintf(to, "\n%d pods; medians and means of at most %d runs; the program is %.1f MB\n\n", pods, runs, float64(binarySize)/1e6)
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string, figure func(result) string) {
		fmt.Fprint(table, name+"\t")
		for _, r := range results {
			fmt.Fprint(table, figure(r)+"\t")
		}
		fmt.Fprintln(table)
	}
	row("", func(r result) string { return r.kind })
	row("wall time of a run", func(r result) string { return milliseconds(r.wall) })
	row("against the first", func(r result) string { return fmt.Sprintf("%.2fx", float64(r.wall)/float64(results[0].wall)) })
	for _, stage := range stages {
		row("stage "+stage, func(r result) string {
			if took, ok := r.stages[stage]; ok {
				return milliseconds(took)
			}
			return "-"
		})
	}
	row("CPU time of the program", func(r result) string { return milliseconds(r.process) })
	row("CPU time of the hooks", func(r result) string { return milliseconds(r.children) })
	row("API requests", func(r result) string { return fmt.Sprintf("%.1f", r.requests) })
	row("bytes from the API server", func(r result) string { return fmt.Sprintf("%.0f kB", r.bytes/1e3) })
	row("peak memory", func(r result) string { return fmt.Sprintf("%.1f MB", float64(r.peak)/1e6) })
	return table.Flush()
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

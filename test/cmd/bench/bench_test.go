// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"regexp"
	"testing"
)

// The whole of it, small: every figure of every kind is there.
func TestBench(t *testing.T) {
	var report bytes.Buffer
	if err := bench(t.Context(), "", 3, 2, 1000, &report); err != nil {
		t.Fatal(err)
	}
	t.Log(report.String())
	for _, row := range []string{
		`3 pods; medians and means of at most 2 runs; the program is \d+\.\d MB`,
		`sh, per-pod +python, per-pod +sh, per-resource +sh, scaling`,
		`wall time of a run( +[1-9]\d*\.\d ms){4}`,
		`stage read( +\d+\.\d ms){4}`,
		`stage metric( +\d+\.\d ms){4}`,
		`stage write( +-){3} +\d+\.\d ms`,
		`CPU time of the program( +\d+\.\d ms){4}`,
		`API requests( +[3-5]\.\d){4}`,
		`bytes from the API server( +[1-9]\d* kB){4}`,
		`peak memory( +[1-9]\d*\.\d MB){4}`,
		`1000 decisions over a random load`,
		`a decision with a window +[1-9]\d* ns +[1-9]\d* % scale`,
		`a decision with behavior +[1-9]\d* ns +[1-9]\d* % scale`,
	} {
		if !regexp.MustCompile(row).Match(report.Bytes()) {
			t.Errorf("no row %s", row)
		}
	}
}

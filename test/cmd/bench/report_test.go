// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// example is a report of two programs, the second of which knows no workers.
func example() report {
	python := &figures{Runs: 3, Time: 400, Fastest: 390, Process: 10, Children: 350, Requests: 4, Bytes: 30_000, Resident: 24e6, Peak: 25e6}
	worker := &figures{Runs: 10, Time: 20, Fastest: 19, Process: 5, Children: 13, Requests: 4, Bytes: 30_000, Resident: 24e6, Peak: 25e6}
	shell := &figures{Runs: 10, Time: 10, Fastest: 9, Process: 5, Requests: 2, Bytes: 5_000, Resident: 20e6, Peak: 21e6}
	other := &figures{Runs: 10, Time: 15, Fastest: 14, Process: 10, Requests: 4, Bytes: 20_000, Resident: 30e6, Peak: 42e6}
	size := sizeReport{Pods: 10, PodList: podList{Protobuf: 20_000, JSON: 31_000}}
	for _, measured := range []struct {
		kind string
		a, b *figures
	}{{shellPerPod, shell, other}, {pythonOneByOne, python, python}, {workerPerPod, worker, nil}} {
		programs := map[string]*figures{"A": measured.a}
		if measured.b != nil {
			programs["B"] = measured.b
		}
		size.Rows = append(size.Rows, row[figures]{Kind: measured.kind, Programs: programs, Ratio: ratios(columns, programs)})
	}
	size.Targets = targets(size)
	status := statusReport{}
	for _, measured := range []struct {
		load string
		a, b *statusFigures
	}{
		{"quiet", &statusFigures{nil, 50, .5, 2, 10, 1, 20e6}, &statusFigures{nil, 50, 1, 2, 20, 2, 30e6}},
		{"1000 a second", &statusFigures{&answers{1000, 0, .5, 4}, 49, .75, 5, 15, 20, 25e6}, &statusFigures{&answers{500, 2, 1, 8}, 40, 2, 10, 20, 40, 50e6}},
	} {
		programs := map[string]*statusFigures{"A": measured.a, "B": measured.b}
		status.Rows = append(status.Rows, row[statusFigures]{Kind: measured.load, Programs: programs, Ratio: ratios(statusColumns, programs)})
	}
	status.Targets = status.targets()
	return report{
		CPUs: 2, Access: "the service account of a pod",
		Programs: map[string]binary{
			"A": {Path: "./a", Bytes: 20e6, StrippedBytes: 20e6},
			"B": {Path: "./b", Bytes: 60e6, StrippedBytes: 40e6},
		},
		Starts: []latencyRow{{
			What: "start, per-pod", Ratio: 2,
			Programs: map[string]*latencies{"A": {9, 40, 35, 61.5}, "B": {9, 80, 70, 123}},
		}},
		Pushes:    latencyRow{What: "push", Programs: map[string]*latencies{"A": {20, 5, 4, 9}}},
		Status:    status,
		Sizes:     []sizeReport{size},
		Decisions: []decision{{"a decision with a window", 1000, 3000, 17}},
		Notes: []note{
			{"B", "worker, per-pod", "it ended: exit status 2"},
			{"B", "worker, per-pod", "it ended: exit status 2"},
		},
	}
}

const printedExample = `
     program  size, stripped  as it is
A    ./a             20.0 MB   20.0 MB
B    ./b             40.0 MB   60.0 MB
B/A                     2.00      3.00

2 CPUs; the API server is reached by the service account of a pod

Start: from the start of the process until its first write is done. Push: from a signal outside a
worker until the write arrives at the API server. Medians, with the fastest and the slowest.

                      A  fastest  slowest        B  fastest   slowest   B/A
start, per-pod  40.0 ms  35.0 ms  61.5 ms  80.0 ms  70.0 ms  123.0 ms  2.00
push             5.0 ms   4.0 ms   9.0 ms        -        -         -     -

Requests for the status, and the loop beside them: a run every 200 ms, how long after its moment it
begins (the median, and at most), and how long it takes

                    answers/s  errors   median     99th  runs     late   at most      run  own CPU   memory
quiet          A            -       -        -        -    50  0.50 ms   2.00 ms  10.0 ms    1.0 %  20.0 MB
               B            -       -        -        -    50  1.00 ms   2.00 ms  20.0 ms    2.0 %  30.0 MB
               B/A          -                -        -           2.00      1.00     2.00     2.00     1.50
1000 a second  A         1000       0  0.50 ms  4.00 ms    49  0.75 ms   5.00 ms  15.0 ms   20.0 %  25.0 MB
               B          500       2  1.00 ms  8.00 ms    40  2.00 ms  10.00 ms  20.0 ms   40.0 %  50.0 MB
               B/A       0.50             2.00     2.00           2.67      2.00     1.33     2.00     2.00

The loop beside requests, within one program

                                         A     B
late, 1000 a second / quiet           1.50  2.00
late at most, 1000 a second / quiet   2.50  5.00
time of a run, 1000 a second / quiet  1.50  1.00

10 pods; a list of them is 20.0 kB in protobuf and 31.0 kB in JSON, as it travels

                                         runs      time   fastest  own CPU  hooks' CPU  requests  received   memory     peak
shell, per-pod                      A      10   10.0 ms    9.0 ms   5.0 ms      0.0 ms       2.0    5.0 kB  20.0 MB  21.0 MB
                                    B      10   15.0 ms   14.0 ms  10.0 ms      0.0 ms       4.0   20.0 kB  30.0 MB  42.0 MB
                                    B/A            1.50      1.56     2.00           -      2.00      4.00     1.50     2.00
python, one after another, per-pod  A       3  400.0 ms  390.0 ms  10.0 ms    350.0 ms       4.0   30.0 kB  24.0 MB  25.0 MB
                                    B       3  400.0 ms  390.0 ms  10.0 ms    350.0 ms       4.0   30.0 kB  24.0 MB  25.0 MB
                                    B/A            1.00      1.00     1.00        1.00      1.00      1.00     1.00     1.00
worker, per-pod                     A      10   20.0 ms   19.0 ms   5.0 ms     13.0 ms       4.0   30.0 kB  24.0 MB  25.0 MB
                                    B       -         -         -        -           -         -         -        -        -
                                    B/A               -         -        -           -         -         -        -        -

10 pods, within one program

                                                                     A     B
time, python, one after another, per-pod / worker, per-pod       20.00     -
CPU, python, one after another, per-pod / worker, per-pod        20.00     -
requests of a run, shell, per-pod                                 2.00  4.00
bytes of a run / a list of the pods in protobuf, shell, per-pod   0.25  1.00

1000 decisions of this checkout over a random load, 15 s apart; the mean of one, with its words and what
it remembers

a decision with a window  3000 ns  17 % scale

Not measured

B, worker, per-pod: it ended: exit status 2
`

func TestPrint(t *testing.T) {
	t.Parallel()
	var printed bytes.Buffer
	if err := example().print(&printed); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(printedExample, "\n"+printed.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// One program has no ratios, and no line of them.
func TestPrintOneProgram(t *testing.T) {
	t.Parallel()
	r := example()
	delete(r.Programs, "B")
	var printed bytes.Buffer
	if err := r.print(&printed); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(printed.String(), ratioTitle) || !strings.Contains(printed.String(), "push             5.0 ms   4.0 ms   9.0 ms\n") {
		t.Error(printed.String())
	}
}

func TestRatios(t *testing.T) {
	t.Parallel()
	got := ratios(columns, example().Sizes[0].Rows[0].Programs)
	want := map[string]float64{"time": 1.5, "fastest": 14.0 / 9, "processCPU": 2, "requests": 2, "bytes": 4, "resident": 1.5, "peak": 2}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := ratios(columns, map[string]*figures{"B": {Time: 1}}); got != nil {
		t.Errorf("the ratio to nothing is %v", got)
	}
}

// A report can be read again.
func TestWrite(t *testing.T) {
	t.Parallel()
	want, file := example(), t.TempDir()+"/report.json"
	if err := want.write(file); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, readReport(t, file), cmp.AllowUnexported(binary{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

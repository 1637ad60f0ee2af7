// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// toy is the whole of it, small.
func toy(t *testing.T, programs ...string) options {
	t.Helper()
	return options{
		binaries: programs, pods: []int{2, 3}, runs: 2, budget: 200 * time.Millisecond, longest: time.Minute,
		starts: 2, pushes: 3, decisions: 1000, window: time.Second,
		only: regexp.MustCompile(""), json: filepath.Join(t.TempDir(), "report.json"),
	}
}

// The program of this checkout beside another that follows the contract: every
// figure of every kind is there.
func TestBench(t *testing.T) {
	t.Parallel()
	built := filepath.Join(t.TempDir(), "custom-pod-autoscaler")
	if err := build(t.Context(), built); err != nil {
		t.Fatal(err)
	}
	o := toy(t, built, "testdata/follower.py")
	var printed bytes.Buffer
	if err := bench(t.Context(), o, &printed); err != nil {
		t.Fatal(err)
	}
	t.Log(printed.String())
	for _, row := range []string{
		`(?m)^A +/.*custom-pod-autoscaler +\d+\.\d MB +\d+\.\d MB$`,
		`(?m)^B +testdata/follower.py +0\.0 MB +0\.0 MB$`,
		`the API server is reached by \S+`,
		`start, per-resource( +[1-9]\d*\.\d ms){6} +\d+\.\d\d`,
		`start, per-pod( +[1-9]\d*\.\d ms){6} +\d+\.\d\d`,
		`push +.*( +\d+\.\d ms){3} +(-|\d+\.\d\d)\n`,
		`quiet +A +- +- +- +- +[1-9]\d* +.* ms +.*%`,
		`1000 a second +A +[1-9]\d* +\d+ +\d+\.\d\d ms +\d+\.\d\d ms +[1-9]\d* +.* ms +.*%`,
		`4 at a time +A +[1-9]\d* +\d+ +\d+\.\d\d ms +\d+\.\d\d ms +[1-9]\d* +.* ms +.*%`,
		`time of a run, 1000 a second / quiet +\d+\.\d\d +-\n`,
		`B, status: GET /api/v1/status: status 404`,
		`2 pods; a list of them is [1-9]\d*\.\d kB in protobuf and [1-9]\d*\.\d kB in JSON`,
		`3 pods; a list of them`,
		`runs +time +fastest +own CPU +hooks' CPU +requests +received +memory +peak\n`,
		`3 pods, within one program\n`,
		`time, python, one after another, per-pod / worker, per-pod +\d+\.\d\d +\d+\.\d\d`,
		`time, shell, one after another, per-pod / shell, per-pod +\d+\.\d\d +\d+\.\d\d`,
		`requests of a run, shell, per-pod +[1-9]\.\d\d +3\.00`,
		`bytes of a run / a list of the pods in protobuf, shell, per-pod +\d+\.\d\d +[1-9]\.\d\d`,
		`1000 decisions of this checkout over a random load`,
		`a decision with a window +[1-9]\d* ns +[1-9]\d* % scale`,
		`a decision with behavior +[1-9]\d* ns +[1-9]\d* % scale`,
		`B, http, per-pod: it ended: exit status 2: this program knows no http hooks`,
	} {
		if !regexp.MustCompile(row).Match(printed.Bytes()) {
			t.Errorf("no row %s", row)
		}
	}
	checkRows(t, readReport(t, o.json))
}

func readReport(t *testing.T, file string) report {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(content, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// checkRows checks that every kind is there at the sizes that it is measured
// at, with figures, or a note that says why not.
func checkRows(t *testing.T, r report) {
	t.Helper()
	want := map[int][]string{}
	for _, k := range kinds {
		want[2] = append(want[2], k.name)
		if k.perPod {
			want[3] = append(want[3], k.name)
		}
	}
	got := map[int][]string{}
	for _, size := range r.Sizes {
		for _, row := range size.Rows {
			got[size.Pods] = append(got[size.Pods], row.Kind)
			for label := range r.Programs {
				checkFigures(t, r, row, label)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("kinds (-want +got):\n%s", diff)
	}
}

func checkFigures(t *testing.T, r report, row row[figures], label string) {
	t.Helper()
	f := row.Programs[label]
	if f == nil {
		noted := false
		for _, n := range r.Notes {
			noted = noted || n.Program == label && n.What == row.Kind && n.Why != ""
		}
		if !noted {
			t.Errorf("%s of %s: neither figures nor a note", row.Kind, label)
		}
		return
	}
	if f.Runs < 1 || f.Time <= 0 || f.Requests < 1 || f.Bytes < 1 || f.Resident < 1 || f.Peak < f.Resident {
		t.Errorf("%s of %s: %+v", row.Kind, label, *f)
	}
}

// Only what is asked for is measured; decisions take no control plane.
func TestOnly(t *testing.T) {
	t.Parallel()
	o := toy(t, "testdata/follower.py")
	o.only = regexp.MustCompile("^decisions$")
	var printed bytes.Buffer
	if err := bench(t.Context(), o, &printed); err != nil {
		t.Fatal(err)
	}
	r := readReport(t, o.json)
	if len(r.Decisions) != 2 || r.Sizes != nil || r.Starts != nil || !r.Status.IsZero() || !r.Pushes.IsZero() || r.Access != "" {
		t.Errorf("it measured more:\n%s", printed.String())
	}
	o.only = regexp.MustCompile("nothing has this name")
	if err := bench(t.Context(), o, &printed); err != errNothing { //nolint:errorlint // it is that
		t.Errorf("got %v, want %v", err, errNothing)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	o, err := parse([]string{"--binary", "a", "--binary", "b", "--pods", "20, 5,20", "--runs", "3", "--only", "^http", "--window", "30s", "--json", "r.json"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "b"}, o.binaries); diff != "" {
		t.Errorf("binaries (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int{5, 20}, o.pods); diff != "" {
		t.Errorf("pods (-want +got):\n%s", diff)
	}
	if o.runs != 3 || !o.only.MatchString("http, per-pod") || o.only.MatchString("shell") || o.json != "r.json" || o.decisions != 1_000_000 || o.window != 30*time.Second {
		t.Errorf("%+v", o)
	}
	for _, wrong := range [][]string{
		{"--binary", "a", "--binary", "b", "--binary", "c"},
		{"--pods", "0"},
		{"--pods", "10,many"},
		{"--pods", "100000"},
		{"--runs", "0"},
		{"--budget", "0s"},
		{"--window", "1ms"},
		{"--window", "5m"},
		{"--only", "("},
		{"more"},
	} {
		if _, err := parse(wrong); err == nil {
			t.Errorf("%v was accepted", wrong)
		}
	}
}

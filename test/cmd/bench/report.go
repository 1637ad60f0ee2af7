// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
)

// labels name the programs, in the order of the command line.
var labels = [mostBinaries]string{"A", "B"}

// report is all that was measured, as --json writes it. Programs are maps by
// label; what could not be measured is not in them.
type report struct {
	CPUs int `json:"cpus"`
	// Access is how the programs reached the API server.
	Access   string            `json:"access,omitempty"`
	Programs map[string]binary `json:"programs"`
	Starts   []latencyRow      `json:"starts,omitempty"`
	Pushes   latencyRow        `json:"pushes,omitzero"`
	Status   statusReport      `json:"status,omitzero"`
	Sizes    []sizeReport      `json:"sizes,omitempty"`
	// Decisions are those of this checkout, whatever the programs are.
	Decisions []decision `json:"decisions,omitempty"`
	Notes     []note     `json:"notes,omitempty"`
}

// empty reports whether there is not a single figure of what was to be measured.
func (r report) empty() bool {
	measured := len(r.Decisions) > 0 || len(r.Pushes.Programs) > 0
	for _, row := range r.Starts {
		measured = measured || len(row.Programs) > 0
	}
	for _, row := range r.Status.Rows {
		measured = measured || len(row.Programs) > 0
	}
	for _, size := range r.Sizes {
		for _, row := range size.Rows {
			measured = measured || len(row.Programs) > 0
		}
	}
	return !measured
}

// latencyRow is a latency of each program.
type latencyRow struct {
	What     string                `json:"what"`
	Programs map[string]*latencies `json:"programs"`
	Ratio    float64               `json:"ratio,omitzero"`
}

// IsZero reports whether it was not to be measured.
func (r latencyRow) IsZero() bool { return r.What == "" }

type latencies struct {
	Samples int     `json:"samples"`
	Median  float64 `json:"medianMilliseconds"`
	Fastest float64 `json:"fastestMilliseconds"`
	Slowest float64 `json:"slowestMilliseconds"`
}

// sizeReport is what was measured with so many pods.
type sizeReport struct {
	Pods    int            `json:"pods"`
	PodList podList        `json:"podList"`
	Rows    []row[figures] `json:"kinds"`
	Targets []target       `json:"targets,omitempty"`
}

// row is a kind, with the second program's figures over the first's.
type row[F any] struct {
	Kind     string             `json:"kind"`
	Programs map[string]*F      `json:"programs"`
	Ratio    map[string]float64 `json:"ratio,omitempty"`
}

// figures are those of one run of one program: the median of the time, means of
// what was used, and the memory of the settled process.
type figures struct {
	Runs     int     `json:"runs"`
	Time     float64 `json:"timeMilliseconds"`
	Fastest  float64 `json:"fastestMilliseconds"`
	Process  float64 `json:"processCPUMilliseconds"`
	Children float64 `json:"childrenCPUMilliseconds"`
	Requests float64 `json:"requests"`
	Bytes    float64 `json:"bytes"`
	Resident int64   `json:"residentBytes"`
	Peak     int64   `json:"peakBytes"`
}

// statusReport is how many requests for its status a program answers, and what
// becomes of its loop.
type statusReport struct {
	Rows    []row[statusFigures] `json:"loads"`
	Targets []target             `json:"targets,omitempty"`
}

// IsZero reports whether it was not to be measured.
func (s statusReport) IsZero() bool { return s.Rows == nil }

// statusFigures are those of one program beside one load: how long after its
// moment a run begins, the median and the most, how long it takes, the median,
// and the CPU time of the program itself in percent of one CPU.
type statusFigures struct {
	// Answers is nil without a load.
	Answers  *answers `json:"answers,omitempty"`
	Runs     int      `json:"runs"`
	Late     float64  `json:"lateMilliseconds"`
	Latest   float64  `json:"latestMilliseconds"`
	Time     float64  `json:"timeMilliseconds"`
	Process  float64  `json:"processCPUPercent"`
	Resident int64    `json:"residentBytes"`
}

var statusColumns = []column[statusFigures]{
	{"answers/s", "perSecond", ofAnswers(func(a *answers) float64 { return a.PerSecond }), "%.0f"},
	{"errors", "", ofAnswers(func(a *answers) float64 { return float64(a.Errors) }), "%.0f"},
	{"median", "median", ofAnswers(func(a *answers) float64 { return a.Median }), "%.2f ms"},
	{"99th", "p99", ofAnswers(func(a *answers) float64 { return a.Slow }), "%.2f ms"},
	{"runs", "", func(f *statusFigures) float64 { return float64(f.Runs) }, "%.0f"},
	{"late", "late", func(f *statusFigures) float64 { return f.Late }, "%.2f ms"},
	{"at most", "latest", func(f *statusFigures) float64 { return f.Latest }, "%.2f ms"},
	{"run", "time", func(f *statusFigures) float64 { return f.Time }, "%.1f ms"},
	{"own CPU", "processCPU", func(f *statusFigures) float64 { return f.Process }, "%.1f %%"},
	{"memory", "resident", func(f *statusFigures) float64 { return float64(f.Resident) / 1e6 }, "%.1f MB"},
}

// ofAnswers is a figure that there is only beside a load.
func ofAnswers(of func(*answers) float64) func(*statusFigures) float64 {
	return func(f *statusFigures) float64 {
		if f.Answers == nil {
			return math.NaN()
		}
		return of(f.Answers)
	}
}

// targets compare the loop beside each load with the quiet one.
func (s statusReport) targets() []target {
	figures := []struct {
		name string
		of   func(*statusFigures) float64
	}{
		{"late", func(f *statusFigures) float64 { return f.Late }},
		{"late at most", func(f *statusFigures) float64 { return f.Latest }},
		{"time of a run", func(f *statusFigures) float64 { return f.Time }},
	}
	calm, loaded := s.Rows[0], s.Rows[1:]
	var all []target
	for _, r := range loaded {
		for _, figure := range figures {
			t := target{Name: figure.name + ", " + r.Kind + " / " + calm.Kind, Programs: map[string]float64{}}
			for label, f := range r.Programs {
				if c := calm.Programs[label]; c != nil && figure.of(c) > 0 {
					t.Programs[label] = figure.of(f) / figure.of(c)
				}
			}
			if len(t.Programs) > 0 {
				all = append(all, t)
			}
		}
	}
	return all
}

// note says why something was not measured.
type note struct {
	Program string `json:"program"`
	What    string `json:"what"`
	Why     string `json:"why"`
}

// column is a figure of the table.
type column[F any] struct {
	// title is for people, key for the ratios in JSON; without one there is no
	// ratio.
	title, key string
	of         func(*F) float64
	format     string
}

var columns = []column[figures]{
	{"runs", "", func(f *figures) float64 { return float64(f.Runs) }, "%.0f"},
	{"time", "time", func(f *figures) float64 { return f.Time }, "%.1f ms"},
	{"fastest", "fastest", func(f *figures) float64 { return f.Fastest }, "%.1f ms"},
	{"own CPU", "processCPU", func(f *figures) float64 { return f.Process }, "%.1f ms"},
	{"hooks' CPU", "childrenCPU", func(f *figures) float64 { return f.Children }, "%.1f ms"},
	{"requests", "requests", func(f *figures) float64 { return f.Requests }, "%.1f"},
	{"received", "bytes", func(f *figures) float64 { return f.Bytes / 1e3 }, "%.1f kB"},
	{"memory", "resident", func(f *figures) float64 { return float64(f.Resident) / 1e6 }, "%.1f MB"},
	{"peak", "peak", func(f *figures) float64 { return float64(f.Peak) / 1e6 }, "%.1f MB"},
}

// ratios are the second program's figures over the first's; none where there
// are not two, or the first has nothing.
func ratios[F any](columns []column[F], programs map[string]*F) map[string]float64 {
	a, b := programs[labels[0]], programs[labels[1]]
	if a == nil || b == nil {
		return nil
	}
	r := map[string]float64{}
	for _, c := range columns {
		if c.key != "" && c.of(a) > 0 {
			r[c.key] = c.of(b) / c.of(a)
		}
	}
	return r
}

// target is a comparison within each program.
type target struct {
	Name     string             `json:"name"`
	Programs map[string]float64 `json:"programs"`
}

// targets compares the ways to gather figures for pods with each other, and
// what a run reads with what there is to read.
func targets(size sizeReport) []target {
	time := func(f *figures) float64 { return f.Time }
	cpu := func(f *figures) float64 { return f.Process + f.Children }
	all := []target{
		size.against("time", pythonOneByOne, workerPerPod, time),
		size.against("CPU", pythonOneByOne, workerPerPod, cpu),
		size.against("time", pythonOneByOne, workerManyInFlight, time),
		size.against("time", pythonOneByOne, pythonPerPod, time),
		size.against("time", shellOneByOne, shellPerPod, time),
		size.against("time", busyOneByOne, busyPerPod, time),
		size.each("requests of a run, "+shellPerPod, shellPerPod, func(f *figures) float64 { return f.Requests }),
		size.each("bytes of a run / a list of the pods in protobuf, "+shellPerPod, shellPerPod,
			func(f *figures) float64 { return f.Bytes / float64(size.PodList.Protobuf) }),
	}
	var measured []target
	for _, t := range all {
		if len(t.Programs) > 0 {
			measured = append(measured, t)
		}
	}
	return measured
}

// each is a figure of a kind in each program.
func (s sizeReport) each(name, kind string, of func(*figures) float64) target {
	t := target{Name: name, Programs: map[string]float64{}}
	for label, f := range s.kind(kind) {
		t.Programs[label] = of(f)
	}
	return t
}

// against is a figure of one kind over that of another in each program.
func (s sizeReport) against(figure, kind, other string, of func(*figures) float64) target {
	t := target{Name: figure + ", " + kind + " / " + other, Programs: map[string]float64{}}
	others := s.kind(other)
	for label, f := range s.kind(kind) {
		if o := others[label]; o != nil && of(o) > 0 {
			t.Programs[label] = of(f) / of(o)
		}
	}
	return t
}

func (s sizeReport) kind(name string) map[string]*figures {
	for _, r := range s.Rows {
		if r.Kind == name {
			return r.Programs
		}
	}
	return nil
}

// write writes the report as JSON to a file, if one is named.
func (r report) write(file string) error {
	if file == "" {
		return nil
	}
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	if err := os.WriteFile(file, append(content, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

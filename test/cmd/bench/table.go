// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// print writes the report for people.
func (r report) print(to io.Writer) error {
	w := &writer{to: to}
	r.printPrograms(w)
	r.printLatencies(w)
	r.printStatus(w)
	for _, size := range r.Sizes {
		r.printSize(w, size)
		r.printTargets(w, fmt.Sprintf("%d pods, within one program", size.Pods), size.Targets)
	}
	r.printDecisions(w)
	r.printNotes(w)
	return w.err
}

// labels are those of the programs there are.
func (r report) labels() []string { return labels[:len(r.Programs)] }

// compares reports whether there is a ratio to show.
func (r report) compares() bool { return len(r.Programs) == mostBinaries }

var ratioTitle = labels[1] + "/" + labels[0]

func (r report) printPrograms(w *writer) {
	t := table{{"", "program", "size, stripped", "as it is"}}
	for _, label := range r.labels() {
		b := r.Programs[label]
		t = append(t, []string{label, b.Path, megabytes(b.StrippedBytes), megabytes(b.Bytes)})
	}
	if r.compares() {
		a, b := r.Programs[labels[0]], r.Programs[labels[1]]
		t = append(t, []string{
			ratioTitle, "", ratio(float64(b.StrippedBytes) / float64(a.StrippedBytes)), ratio(float64(b.Bytes) / float64(a.Bytes)),
		})
	}
	w.table(t, 2)
	if r.Access != "" {
		w.printf("\n%d CPUs; the API server is reached by %s\n", r.CPUs, r.Access)
	}
}

func (r report) printLatencies(w *writer) {
	rows := r.Starts
	if !r.Pushes.IsZero() {
		rows = append(slices.Clip(rows), r.Pushes)
	}
	if rows == nil {
		return
	}
	w.printf("\nStart: from the start of the process until its first write is done. Push: from a signal outside a\n" +
		"worker until the write arrives at the API server. Medians, with the fastest and the slowest.\n\n")
	head := []string{""}
	for _, label := range r.labels() {
		head = append(head, label, "fastest", "slowest")
	}
	t := table{r.withRatio(head, ratioTitle)}
	for _, row := range rows {
		line := []string{row.What}
		for _, label := range r.labels() {
			line = append(line, row.Programs[label].cells()...)
		}
		t = append(t, r.withRatio(line, ratio(row.Ratio)))
	}
	w.table(t, 1)
}

func (l *latencies) cells() []string {
	if l == nil {
		return []string{missing, missing, missing}
	}
	return []string{fmt.Sprintf("%.1f ms", l.Median), fmt.Sprintf("%.1f ms", l.Fastest), fmt.Sprintf("%.1f ms", l.Slowest)}
}

// withRatio adds the last column where there is one.
func (r report) withRatio(line []string, ratio string) []string {
	if r.compares() {
		line = append(line, ratio)
	}
	return line
}

func (r report) printStatus(w *writer) {
	if r.Status.IsZero() {
		return
	}
	w.printf("\nRequests for the status, and the loop beside them: a run every %d ms, how long after its moment it\n"+
		"begins (the median, and at most), and how long it takes\n\n", loopInterval.Milliseconds())
	printRows(w, r, statusColumns, r.Status.Rows)
	r.printTargets(w, "The loop beside requests, within one program", r.Status.Targets)
}

func (r report) printSize(w *writer, size sizeReport) {
	w.printf("\n%d pods; a list of them is %s in protobuf and %s in JSON, as it travels\n\n",
		size.Pods, kilobytes(size.PodList.Protobuf), kilobytes(size.PodList.JSON))
	printRows(w, r, columns, size.Rows)
}

// printRows prints rows under their columns.
func printRows[F any](w *writer, r report, columns []column[F], rows []row[F]) {
	head := []string{"", ""}
	for _, c := range columns {
		head = append(head, c.title)
	}
	t := table{head}
	for _, row := range rows {
		t = append(t, rowLines(r, columns, row)...)
	}
	w.table(t, 2)
}

// rowLines are a line for each program, and one of ratios.
func rowLines[F any](r report, columns []column[F], row row[F]) [][]string {
	var lines [][]string
	name := row.Kind
	for _, label := range r.labels() {
		lines = append(lines, append([]string{name, label}, cells(columns, row.Programs[label])...))
		name = ""
	}
	if !r.compares() {
		return lines
	}
	last := []string{"", ratioTitle}
	for _, c := range columns {
		if c.key == "" {
			last = append(last, "")
		} else {
			last = append(last, ratio(row.Ratio[c.key]))
		}
	}
	return append(lines, last)
}

func cells[F any](columns []column[F], f *F) []string {
	var all []string
	for _, c := range columns {
		cell := missing
		if f != nil && !math.IsNaN(c.of(f)) {
			cell = fmt.Sprintf(c.format, c.of(f))
		}
		all = append(all, cell)
	}
	return all
}

// printTargets prints comparisons within each program.
func (r report) printTargets(w *writer, title string, targets []target) {
	if targets == nil {
		return
	}
	w.printf("\n%s\n\n", title)
	t := table{append([]string{""}, r.labels()...)}
	for _, target := range targets {
		line := []string{target.Name}
		for _, label := range r.labels() {
			line = append(line, ratio(target.Programs[label]))
		}
		t = append(t, line)
	}
	w.table(t, 1)
}

func (r report) printDecisions(w *writer) {
	if r.Decisions == nil {
		return
	}
	w.printf("\n%d decisions of this checkout over a random load, 15 s apart; the mean of one, with its words and what\n"+
		"it remembers\n\n", r.Decisions[0].Count)
	var t table
	for _, d := range r.Decisions {
		t = append(t, []string{d.Name, fmt.Sprintf("%d ns", d.Nanoseconds), fmt.Sprintf("%d %% scale", d.ScalePercent)})
	}
	w.table(t, 1)
}

// printNotes prints each reason once: a program that does not know a kind does
// not know it at any size.
func (r report) printNotes(w *writer) {
	printed := map[note]bool{}
	for _, n := range r.Notes {
		if printed[n] {
			continue
		}
		if len(printed) == 0 {
			w.printf("\nNot measured\n\n")
		}
		printed[n] = true
		w.printf("%s, %s: %s\n", n.Program, n.What, n.Why)
	}
}

// missing is what is shown where there is no figure.
const missing = "-"

func ratio(r float64) string {
	if r == 0 {
		return missing
	}
	return fmt.Sprintf("%.2f", r)
}

func megabytes(bytes int64) string { return fmt.Sprintf("%.1f MB", float64(bytes)/1e6) }

func kilobytes(bytes int64) string { return fmt.Sprintf("%.1f kB", float64(bytes)/1e3) }

// writer keeps the first error.
type writer struct {
	to  io.Writer
	err error
}

func (w *writer) printf(format string, arguments ...any) {
	_, err := fmt.Fprintf(w.to, format, arguments...)
	w.err = cmp.Or(w.err, err)
}

// table is lines of equally many cells.
type table [][]string

// table prints lines: the first columns, of words, from the left, the others,
// of figures, from the right.
func (w *writer) table(t table, words int) {
	widths := map[int]int{}
	for _, line := range t {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, line := range t {
		var text strings.Builder
		for i, cell := range line {
			gap := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i < words {
				text.WriteString(cell + gap + "  ")
			} else {
				text.WriteString(gap + cell + "  ")
			}
		}
		w.printf("%s\n", strings.TrimRight(text.String(), " "))
	}
}

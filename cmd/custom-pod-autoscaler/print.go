// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
)

// output is the form in which a command prints what it learned.
type output string

const (
	outputTable output = "table"
	outputJSON  output = "json"
)

// flag adds -o to a command.
func (o *output) flag(cmd *cobra.Command) {
	*o = outputTable
	cmd.Flags().VarP(o, "output", "o", "table for people, or json for the API's own answer")
}

// String, Set and Type make it a flag.
func (o *output) String() string { return string(*o) }

// Set takes what the command line says.
func (o *output) Set(text string) error {
	if *o = output(text); *o != outputTable && *o != outputJSON {
		return fmt.Errorf("it must be %s or %s", outputTable, outputJSON)
	}
	return nil
}

// Type is how the help calls it.
func (*output) Type() string { return "FORMAT" }

// printable is text with everything that does not print escaped. It comes from
// hooks, and whoever reads it sits at a terminal, which would obey.
func printable(text string) string {
	var b strings.Builder
	for i, r := range text {
		switch _, size := utf8.DecodeRuneInString(text[i:]); {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}

// cut is the beginning of a text, at most so many characters.
func cut(text string, most int) string {
	if shown := []rune(text); len(shown) > most {
		return string(shown[:most]) + "..."
	}
	return text
}

// printJSON prints an answer as it came, in a line. JSON has only those control
// characters in it that it does not name; as escapes they mean the same.
func printJSON(to io.Writer, answer json.RawMessage) error {
	var b strings.Builder
	for _, r := range string(answer) {
		if r >= 0x7f && r <= 0x9f {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	_, err := fmt.Fprintln(to, b.String())
	return err
}

// because is a reason behind what it is for.
func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + printable(reason)
}

// clock is a moment in the reader's zone.
func clock(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 MST") }

// age is how long something takes or is ago, as kubectl tells it.
func age(d time.Duration) string { return duration.HumanDuration(max(0, d)) }

// limits are bounds in words.
func limits(b bounds.Bounds) string {
	words := fmt.Sprintf("%d to %d", b.Min.Replicas, b.Max.Replicas)
	var sources []string
	if b.Min.Source != "" {
		sources = append(sources, "minReplicas by "+printable(b.Min.Source))
	}
	if b.Max.Source != "" {
		sources = append(sources, "maxReplicas by "+printable(b.Max.Source))
	}
	if len(sources) > 0 {
		words += " (" + strings.Join(sources, ", ") + ")"
	}
	return words
}

// overriding is an override in words, without its reason.
func overriding(o *bounds.Override) string {
	var parts []string
	if o.MinReplicas != nil {
		parts = append(parts, fmt.Sprintf("minReplicas %d", *o.MinReplicas))
	}
	if o.MaxReplicas != nil {
		parts = append(parts, fmt.Sprintf("maxReplicas %d", *o.MaxReplicas))
	}
	words := strings.Join(parts, " and ")
	if o.ExpiresAt.IsZero() {
		return words + " until it is ended"
	}
	return words + " until " + clock(o.ExpiresAt)
}

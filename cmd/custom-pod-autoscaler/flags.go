// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flagFault says in clear words what is wrong with a flag.
func flagFault(_ *cobra.Command, err error) error {
	invalid, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return misused("%w", err)
	}
	must := map[string]string{
		"int":      "a whole number",
		"int32":    fmt.Sprintf("a whole number from 0 to %d", math.MaxInt32),
		"bool":     "true or false",
		periodType: "a duration such as 30m, 2h45m or 2d",
	}[invalid.GetFlag().Value.Type()]
	if must == "" {
		return misused("%w", err)
	}
	return misused("--%s must be %s, got %q", invalid.GetFlag().Name, must, invalid.GetValue())
}

// period is a flag for a duration, in which days are understood as well.
type period time.Duration

const periodType = "duration"

// String, Set and Type make it a flag. Nothing is no default to tell of.
func (p *period) String() string {
	if *p == 0 {
		return ""
	}
	return time.Duration(*p).String()
}

// Set takes what the command line says.
func (p *period) Set(text string) error {
	d, err := parsePeriod(text)
	*p = period(d)
	return err
}

// Type is how the help calls it.
func (*period) Type() string { return periodType }

// parsePeriod reads a duration of Go's, before which there may be whole days of
// 24 hours: 36h, 2d, 1d12h.
func parsePeriod(text string) (time.Duration, error) {
	days, rest, ok := strings.Cut(text, "d")
	if !ok {
		return time.ParseDuration(text)
	}
	count, err := strconv.ParseUint(days, 10, 16) // far below the longest time.Duration
	if err != nil {
		return 0, fmt.Errorf("reading the days: %w", err)
	}
	whole := time.Duration(count) * 24 * time.Hour
	if rest == "" {
		return whole, nil
	}
	more, err := time.ParseDuration(rest)
	if err == nil && (more < 0 || more > math.MaxInt64-whole) {
		err = fmt.Errorf("%q cannot follow days", rest)
	}
	return whole + more, err
}

// maxReason is the longest reason, in characters.
const maxReason = 256

// checkReason refuses what the autoscaler would: the reason stands in lines of
// its log.
func checkReason(reason string) error {
	if length := utf8.RuneCountInString(reason); length > maxReason {
		return misused("--reason must be at most %d characters, got %d", maxReason, length)
	}
	if strings.ContainsFunc(reason, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return misused("--reason must be one line, without control characters")
	}
	return nil
}

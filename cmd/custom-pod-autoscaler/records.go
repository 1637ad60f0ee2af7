// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/viper"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/api"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/api/client"
)

// Limits of the records that are asked for, and how many fit a screen.
const (
	fewRecords = 20
	maxRecords = 1000
)

func newRecordsCommand(settings *viper.Viper) *cobra.Command {
	var as output
	var since string
	var follows bool
	selected := client.RecordsOptions{}
	command := &cobra.Command{
		Use:   "records",
		Short: "Show what the latest runs did, and why",
		Long: "Asks the autoscaler that runs here with the same configuration:\n" +
			"kubectl exec POD -- custom-pod-autoscaler records --since 15m --follow",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if selected.Limit < 1 || selected.Limit > maxRecords {
				return misused("--limit must be from 1 to %d, got %d", maxRecords, selected.Limit)
			}
			if selected.Since, err = moment(since, time.Now()); err != nil {
				return err
			}
			p, err := reach(cmd, settings)
			if err != nil {
				return err
			}
			if !follows {
				return listRecords(cmd, p, selected, as)
			}
			return followRecords(cmd, p, selected, as)
		},
	}
	command.Flags().IntVar(&selected.Limit, "limit", fewRecords, "how many, the latest")
	command.Flags().StringVar(&since, "since", "", "only those that began after this: a duration such as 15m or 2d, or a time such as 2026-03-02T14:00:00Z")
	command.Flags().BoolVarP(&follows, "follow", "f", false, "go on with those that come; with -o json one a line")
	as.flag(command)
	return command
}

// moment is a time, or that long before now; nothing is zero.
func moment(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := parsePeriod(text); err == nil && ago > 0 {
		return now.Add(-ago), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, misused("--since must be a duration such as 15m or 2d, or a time such as 2026-03-02T14:00:00Z, got %q", text)
	}
	return t, nil
}

func listRecords(cmd *cobra.Command, p *process, selected client.RecordsOptions, as output) error {
	answer, err := answerTo(cmd.Context(), p, false, func(ctx context.Context) (json.RawMessage, error) { return p.Do(ctx, selected.Request()) })
	if err != nil {
		return err
	}
	if as == outputJSON {
		return printJSON(cmd.OutOrStdout(), answer)
	}
	var records client.Records
	if err := json.Unmarshal(answer, &records); err != nil {
		return fmt.Errorf("reading the autoscaler's answer: %w", err)
	}
	if len(records.Records) == 0 {
		return say(cmd, "No runs")
	}
	t := table{to: cmd.OutOrStdout(), now: time.Now()}
	return t.print(records.Records...)
}

// followRecords prints the selected records and then those that come, until the
// context ends.
func followRecords(cmd *cobra.Command, p *process, selected client.RecordsOptions, as output) error {
	t := table{to: cmd.OutOrStdout()}
	show := func(record json.RawMessage, decoded client.Record) error {
		if as == outputJSON {
			return printJSON(cmd.OutOrStdout(), record)
		}
		return t.print(decoded)
	}
	last, err := showKept(cmd.Context(), p, selected, show)
	if err != nil {
		return err
	}
	return p.follow(cmd.Context(), last, show)
}

// showKept shows what is kept, and returns the sequence of the last run, empty
// if there was none.
func showKept(ctx context.Context, p *process, selected client.RecordsOptions, show func(json.RawMessage, client.Record) error) (last string, err error) {
	answer, err := answerTo(ctx, p, false, func(ctx context.Context) (json.RawMessage, error) { return p.Do(ctx, selected.Request()) })
	if err != nil {
		return "", err
	}
	var raw struct {
		Records []json.RawMessage `json:"records"`
	}
	var records client.Records
	if err := errors.Join(json.Unmarshal(answer, &raw), json.Unmarshal(answer, &records)); err != nil {
		return "", fmt.Errorf("reading the autoscaler's answer: %w", err)
	}
	for i, record := range records.Records {
		if err := show(raw.Records[i], record); err != nil {
			return "", err
		}
		last = strconv.FormatUint(record.Sequence, 10)
	}
	if last == "" && !selected.Since.IsZero() {
		// What comes begins after the last that is kept, though it was not asked for.
		return showKept(ctx, p, client.RecordsOptions{Limit: 1}, func(json.RawMessage, client.Record) error { return nil })
	}
	return last, nil
}

// A stream that breaks is tried again so often in a row, after that time each;
// one that has lasted does not count, since the autoscaler ends them all in time.
const (
	maxBreaks  = 5
	breakPause = time.Second
	lasted     = 30 * time.Second
)

// follow shows the records after the last, until the context ends.
func (p *process) follow(ctx context.Context, last string, show func(json.RawMessage, client.Record) error) error {
	for breaks := 0; ; breaks++ {
		var broken error
		began := time.Now()
		for event, err := range p.StreamRecords(ctx, last) {
			if err != nil {
				broken = err
				break
			}
			if err := show(event.Data, event.Record); err != nil {
				return err
			}
			last, breaks = event.ID, 0
		}
		if time.Since(began) > lasted {
			breaks = 0
		}
		_, refused := errors.AsType[*client.Error](broken)
		switch {
		case ctx.Err() != nil:
			return nil // whoever looked on has seen enough
		case errors.Is(broken, api.ErrNotRunning) && breaks > 0:
			return fmt.Errorf("the autoscaler of %s has ended", printable(p.id))
		case refused, errors.Is(broken, api.ErrNotRunning):
			return p.explain(broken)
		case breaks == maxBreaks:
			return fmt.Errorf("following the records of %s: %w", p.id, cmp.Or(broken, io.EOF))
		}
		select {
		case <-time.After(breakPause):
		case <-ctx.Done():
		}
	}
}

// table prints records, a line each.
type table struct {
	to io.Writer
	// now is what ages are told from; zero leaves them out.
	now    time.Time
	headed bool
}

func (t *table) print(records ...client.Record) error {
	if !t.headed {
		t.headed = true
		if err := t.row("TIME", "AGE", "BY", "EVALUATED", "REPLICAS", "RESULT", "WHY"); err != nil {
			return err
		}
	}
	for _, r := range records {
		evaluated, count := "-", strconv.Itoa(int(r.Current))
		if r.Evaluation != nil {
			evaluated = strconv.Itoa(int(r.Evaluation.TargetReplicas))
		}
		if r.Decision != nil {
			count = fmt.Sprintf("%d -> %d", r.Decision.Current, r.Decision.Desired)
		}
		err := t.row(r.Time.Local().Format("Jan _2 15:04:05"), age(t.now.Sub(r.Time)), printable(string(r.Trigger.Kind)), evaluated, count, outcome(r), why(r))
		if err != nil {
			return err
		}
	}
	return nil
}

// why is a run's decision in words, with what failed before it, or what it waits
// for after it.
func why(r client.Record) string {
	decided := printable(r.Explanation)
	if r.Failure == nil {
		return joined(decided, trouble(r))
	}
	failed := trouble(r)
	if last := lastWords(r.Failure.Stderr, 1, maxLastLine); len(last) > 0 {
		failed += ": " + strings.TrimSpace(last[0])
	}
	// That it was not evaluated goes without saying.
	return joined(failed, strings.TrimPrefix(decided, "not evaluated, "))
}

func joined(one, other string) string {
	if one == "" || other == "" {
		return one + other
	}
	return one + "; " + other
}

// row prints a line. The widths are fixed, since the lines to come are not known.
func (t *table) row(at, age, by, evaluated, count, result, why string) error {
	if !t.now.IsZero() {
		at = fmt.Sprintf("%-15s  %-5s", at, age)
	}
	line := fmt.Sprintf("%-15s  %-8s  %-9s  %-8s  %-8s  %s", at, by, evaluated, count, result, why)
	_, err := fmt.Fprintln(t.to, strings.TrimRight(line, " "))
	return err
}

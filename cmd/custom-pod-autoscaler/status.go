// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/viper"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/api/client"
)

func newStatusCommand(settings *viper.Viper) *cobra.Command {
	var as output
	command := &cobra.Command{
		Use:   "status",
		Short: "Show what the autoscaler does at the moment, and why",
		Long: "Asks the autoscaler that runs here with the same configuration:\n" +
			"kubectl exec POD -- custom-pod-autoscaler status",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := reach(cmd, settings)
			if err != nil {
				return err
			}
			answer, err := answerTo(cmd.Context(), p, false, func(ctx context.Context) (json.RawMessage, error) {
				return p.Do(ctx, client.Request{Path: client.PathStatus})
			})
			if err != nil {
				return err
			}
			if as == outputJSON {
				return printJSON(cmd.OutOrStdout(), answer)
			}
			var status client.Status
			if err := json.Unmarshal(answer, &status); err != nil {
				return fmt.Errorf("reading the autoscaler's answer: %w", err)
			}
			return printStatus(cmd.OutOrStdout(), status)
		},
	}
	as.flag(command)
	return command
}

// block prints lines that begin with what they are about.
type block struct{ to *tabwriter.Writer }

func (b block) line(about, format string, args ...any) {
	if about != "" {
		about += ":"
	}
	fmt.Fprintf(b.to, about+"\t"+format+"\n", args...)
}

// printStatus is for people. All times are told from the moment of the status.
func printStatus(to io.Writer, s client.Status) error {
	b := block{tabwriter.NewWriter(to, 0, 8, 2, ' ', 0)}
	b.line("Target", "%s %s %s/%s", printable(s.Target.APIVersion), printable(s.Target.Kind), printable(s.Target.Namespace), printable(s.Target.Name))
	b.line("Replicas", "%s", counts(s))
	if s.Explanation != "" {
		b.line("Why", "%s", printable(s.Explanation))
	}
	b.bounds(s)
	b.intents(s)
	b.config(s.Config)
	b.condition(s)
	b.runs(s)
	b.metrics(s)
	b.git(s)
	b.line("Version", "%s, up %s", printable(s.Version), age(s.Time.Sub(s.Started)))
	return b.to.Flush()
}

// counts are the count that is known, the one that is desired if it is another,
// and the evaluated.
func counts(s client.Status) string {
	r := s.Replicas
	if r.Current == nil {
		return "not known yet"
	}
	words := strconv.Itoa(int(*r.Current))
	if r.Desired != nil && *r.Desired != *r.Current {
		words += fmt.Sprintf(" -> %d", *r.Desired)
	}
	if r.Evaluated != nil {
		words += fmt.Sprintf(" (evaluated %d)", *r.Evaluated)
	}
	return words
}

func (b block) bounds(s client.Status) {
	b.line("Bounds", "%s", limits(s.Bounds))
	if s.Bounds.Conflict != "" {
		b.line("", "%s", printable(s.Bounds.Conflict))
	}
	if next := s.Bounds.NextChange; !next.IsZero() {
		b.line("", "next change in %s, %s", age(next.Sub(s.Time)), clock(next))
	}
}

// intents are what an operator asked for.
func (b block) intents(s client.Status) {
	if s.Pause != nil {
		b.line("Paused", "%s", strings.TrimPrefix(cmp.Or(pausedAt(s.Pause), " at the count that is there"), " ")+because(s.Pause.Reason))
	}
	if h := s.Hold; h != nil {
		b.line("Hold", "%s until %s (%s left)%s", replicas(h.Replicas), clock(h.Until), age(h.Until.Sub(s.Time)), because(h.Reason))
	}
	if o := s.Override; o != nil {
		b.line("Override", "%s%s", overriding(o), because(o.Reason))
	}
}

// config is what differs from the configuration file.
func (b block) config(c *client.ConfigStatus) {
	if c == nil {
		return
	}
	about := "Config"
	tell := func(format, words string) {
		if words != "" {
			b.line(about, format, printable(words))
			about = ""
		}
	}
	tell("changed while running: %s", strings.Join(c.Live, ", "))
	tell("changed in the file, takes a restart: %s", strings.Join(c.NeedsRestart, ", "))
	fault, _, _ := strings.Cut(c.FileError, "\n")
	tell("the file has changed but is not valid, so it is not heeded: %s", fault)
}

// condition is what is not as it should be, or as usual.
func (b block) condition(s client.Status) {
	switch {
	case s.Fallback:
		b.line("Fallback", "in force, since %s failed in a row", runs(s.Failures))
	case s.Failures > 0:
		b.line("Failures", "%s failed in a row", runs(s.Failures))
	}
	if s.DryRun {
		b.line("Dry run", "changes are only told of")
	}
	switch l := s.Leader; {
	case l == nil, l.Leading && l.Identity == "":
	case l.Leading:
		b.line("Leader", "this replica, %s", printable(l.Identity))
	case l.Identity == "":
		b.line("Leader", "not known; this replica stands by")
	default:
		b.line("Leader", "%s; this replica stands by", printable(l.Identity))
	}
}

func (b block) runs(s client.Status) {
	if r := s.LastRun; r == nil {
		b.line("Last run", "none yet")
	} else {
		b.line("Last run", "%s ago (%s), took %s: %s", age(s.Time.Sub(r.Time)), printable(string(r.Trigger.Kind)), seconds(r.TookSeconds), outcome(*r))
		if r.Written && r.Failure != nil {
			b.line("", "after that it failed")
		}
		if why := trouble(*r); why != "" {
			b.line("", "%s", why)
		}
		if r.Failure != nil {
			for _, line := range lastWords(r.Failure.Stderr, maxLastLines, maxLastCharacters) {
				b.line("", "| %s", line)
			}
		}
	}
	if s.NextRun != nil {
		b.line("Next run", "in %s", age(s.NextRun.Sub(s.Time)))
	}
}

// maxValue is how much of a metric's value is shown, in characters.
const maxValue = 80

func (b block) metrics(s client.Status) {
	m := s.Metrics
	if m == nil {
		return
	}
	b.line("Metrics", "%d, %s old", m.Total, age(time.Duration(m.AgeSeconds*float64(time.Second))))
	for _, value := range m.Values {
		b.line("", "%s: %s", printable(value.Resource), cut(printable(strings.TrimRight(value.Value, "\r\n")), maxValue))
	}
	if more := m.Total - len(m.Values); more > 0 {
		b.line("", "and %d more", more)
	}
}

func (b block) git(s client.Status) {
	g := s.Git
	if g == nil {
		return
	}
	does := "records what is written"
	if g.Mode == "instead" {
		does = "is written instead of the target"
	}
	b.line("Git", "%s of %s, branch %s, %s", printable(g.File), printable(g.Repository), printable(g.Branch), does)
	if g.LastCommit != "" {
		b.line("", "last commit %.12s, %s ago", printable(g.LastCommit), age(s.Time.Sub(g.LastCommitTime)))
	}
	if p := g.Pending; p != nil {
		b.line("", "pending for %s: %s%s%s", age(s.Time.Sub(p.Since)), wanted(*p), due(p.Due, s.Time), because(p.Reason))
	}
	if a := g.Arriving; a != nil {
		b.line("", "pushed %d, the target still has %d, for %s: whoever applies the repository is waited for", a.Replicas, a.Live, age(s.Time.Sub(a.Since)))
	}
	if g.LastError != "" {
		b.line("", "failed: %s", printable(g.LastError))
	}
	b.diff(g.Diff)
}

// wanted is what is to be committed.
func wanted(p client.GitPending) string {
	var words []string
	if p.To != nil {
		words = append(words, fmt.Sprintf("%d -> %d", p.From, *p.To))
	}
	if p.Min != nil {
		words = append(words, fmt.Sprintf("minReplicas %d", *p.Min))
	}
	if p.Max != nil {
		words = append(words, fmt.Sprintf("maxReplicas %d", *p.Max))
	}
	return strings.Join(words, ", ")
}

// due says when something is tried.
func due(at *time.Time, now time.Time) string {
	switch {
	case at == nil || at.IsZero():
		return ""
	case !at.After(now):
		return ", tried now"
	}
	return ", tried in " + age(at.Sub(now))
}

// maxDiff is how much of a diff is shown, in lines, and maxDiffLine how much of
// each, in characters.
const (
	maxDiff     = 20
	maxDiffLine = 200
)

// diff is what the next commit would change.
func (b block) diff(diff string) {
	if strings.TrimSpace(diff) == "" {
		return
	}
	lines := strings.Split(strings.TrimRight(diff, "\n"), "\n")
	b.line("", "would change:")
	for _, line := range lines[:min(len(lines), maxDiff)] {
		b.line("", "  %s", cut(printable(strings.TrimRight(line, "\r")), maxDiffLine))
	}
	if more := len(lines) - maxDiff; more > 0 {
		b.line("", "  and %d more lines", more)
	}
}

// outcome is what came of a run, in a word or two. One that has scaled may have
// failed after that.
func outcome(r client.Record) string {
	switch {
	case r.Written:
		return "scaled"
	case r.Failure != nil:
		return "failed"
	case r.Deferred != "":
		return "waits"
	case r.Decision == nil:
		return "gathered"
	case r.DryRun:
		return "dry run"
	default:
		return "kept"
	}
}

// trouble is why a run failed or what it waits for.
func trouble(r client.Record) string {
	f := r.Failure
	switch {
	case f != nil && f.Subject != "":
		return fmt.Sprintf("%s of %s: %s", printable(string(f.Stage)), printable(f.Subject), printable(f.Message))
	case f != nil:
		return fmt.Sprintf("%s: %s", printable(string(f.Stage)), printable(f.Message))
	}
	return printable(r.Deferred)
}

// How much is shown of what a failing hook said: in the status of its last
// lines, among records of the last one. Characters are counted as printed.
const (
	maxLastLines      = 5
	maxLastCharacters = 500
	maxLastLine       = 200
)

// lastWords are the last lines that are not empty, at most so many and so many
// characters together, as they can be printed.
func lastWords(stderr string, most, left int) []string {
	var last []string
	for line := range strings.Lines(stderr) {
		if strings.TrimSpace(line) != "" {
			last = append(last, strings.TrimRightFunc(line, unicode.IsSpace))
		}
	}
	last = last[max(0, len(last)-most):]
	for i := len(last) - 1; i >= 0; i-- {
		shown := []rune(printable(last[i]))
		if len(shown) > left {
			last[i] = "..." + string(shown[len(shown)-left:])
			return last[i:]
		}
		last[i], left = string(shown), left-len(shown)
	}
	return last
}

// seconds is a short duration.
func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Millisecond).String()
}

func runs(n int) string {
	if n == 1 {
		return "1 run"
	}
	return fmt.Sprintf("%d runs", n)
}

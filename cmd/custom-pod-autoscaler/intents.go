// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/api/client"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

// maxDuration is the longest that a hold or an override is asked for.
const maxDuration = 8760 * time.Hour

func newScaleCommand(settings *viper.Viper) *cobra.Command {
	var asked client.Scale
	var lasts period
	var ends bool
	command := &cobra.Command{
		Use:   "scale [REPLICAS --for DURATION]",
		Short: "Scale by hand, and keep that count for a while",
		Long: "Asks the autoscaler that runs here with the same configuration to keep a count,\n" +
			"within the bounds in force, and to go on by itself after that. Without REPLICAS it\n" +
			"shows what is kept: kubectl exec POD -- custom-pod-autoscaler scale 8 --for 30m",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return misused("%s takes one number of replicas", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case ends && (len(args) > 0 || alsoGiven(cmd, "for", "reason", "dry-run")):
				return misused("--end goes without REPLICAS and other flags")
			case ends:
				return endHold(cmd, settings)
			case len(args) == 0 && alsoGiven(cmd, "for", "reason", "dry-run"):
				return misused("the number of replicas is missing, as in %s 8 --for 30m", cmd.CommandPath())
			case len(args) == 0:
				return showHold(cmd, settings)
			}
			count, err := strconv.ParseInt(args[0], 10, 32)
			if err != nil || count < 0 {
				return noCount(args[0])
			}
			if err := errors.Join(checkDuration(cmd, time.Duration(lasts)), checkReason(asked.Reason)); err != nil {
				return err
			}
			asked.Replicas, asked.Duration = int32(count), client.Duration(lasts)
			return hold(cmd, settings, asked)
		},
	}
	// A negative number looks like a flag.
	command.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
			if _, err := strconv.ParseFloat(unknown.GetSpecifiedShortnames(), 64); err == nil {
				return noCount("-" + unknown.GetSpecifiedShortnames())
			}
		}
		return flagFault(cmd, err)
	})
	command.Flags().Var(&lasts, "for", "how long, such as 30m or 2d; required")
	command.Flags().StringVar(&asked.Reason, "reason", "", "why, for the log")
	command.Flags().BoolVar(&asked.DryRun, "dry-run", false, "only tell what would come of it")
	command.Flags().BoolVar(&ends, "end", false, "end it now")
	return command
}

func noCount(text string) error {
	return misused("%q is no number of replicas: it must be a whole number from 0 to %d", text, math.MaxInt32)
}

// alsoGiven says whether one of the flags was given.
func alsoGiven(cmd *cobra.Command, flags ...string) bool {
	for _, name := range flags {
		if cmd.Flags().Changed(name) {
			return true
		}
	}
	return false
}

func checkDuration(cmd *cobra.Command, lasts time.Duration) error {
	if !cmd.Flags().Changed("for") {
		return misused("--for is required, such as --for 30m")
	}
	if lasts <= 0 || lasts > maxDuration {
		return misused("--for must be more than 0 and at most 365d, got %s", lasts)
	}
	return nil
}

func hold(cmd *cobra.Command, settings *viper.Viper, asked client.Scale) error {
	p, err := reach(cmd, settings)
	if err != nil {
		return err
	}
	held, err := answerTo(cmd.Context(), p, !asked.DryRun, func(ctx context.Context) (client.Held, error) { return p.Scale(ctx, asked) })
	if err != nil {
		return err
	}
	var status client.Status
	if !held.DryRun {
		// The hold is kept, so what cannot be learned besides is no failure.
		status, _ = answerTo(cmd.Context(), p, false, p.Status)
	}
	return say(cmd, p.outcome(held, status.DryRun)+"\n"+printable(held.Explanation))
}

// outcome tells what comes of a hold; dry says that the autoscaler only tells.
func (p *process) outcome(h client.Held, dry bool) string {
	does, doesNot := "Held", "Not held"
	switch {
	case h.DryRun:
		does, doesNot = "Would be held", "Would not be held"
	case dry:
		const told = "Only told of, since the autoscaler is in a dry run: would "
		does, doesNot = told+"be held", told+"not be held"
	}
	d, until := h.Decision, p.until(h.Hold)
	asked := fmt.Sprintf("; asked for %d%s", h.Hold.Replicas, until)
	at := func(name scale.ConstraintName) int {
		return slices.IndexFunc(d.Constraints, func(c scale.Constraint) bool { return c.Name == name })
	}
	after := at(scale.ConstraintHold) + 1
	switch {
	case d.Disabled:
		return doesNot + " while the target is disabled: left at " + replicas(d.Desired) + asked
	case at(scale.ConstraintPaused) >= 0:
		return doesNot + " while paused: kept at " + replicas(d.Desired) + asked
	case d.Desired == h.Hold.Replicas:
		return does + " at " + replicas(d.Desired) + until + because(h.Hold.Reason)
	}
	// What changed it, in the same words as if it had been evaluated.
	limited := scale.Decision{Current: d.Current, Evaluated: &h.Hold.Replicas, Constraints: d.Constraints[after:]}
	return does + " at " + replicas(d.Desired) + until + ": asked for" + printable(strings.TrimPrefix(limited.Explain(), "evaluated"))
}

// until tells how long a hold lasts.
func (p *process) until(h scale.Hold) string {
	return " until " + clock(h.Until) + p.untilTheEnd(" or until")
}

func showHold(cmd *cobra.Command, settings *viper.Viper) error {
	p, err := reach(cmd, settings)
	if err != nil {
		return err
	}
	hold, err := answerTo(cmd.Context(), p, false, p.Hold)
	if err != nil {
		return err
	}
	if hold == nil {
		return say(cmd, "No manual hold")
	}
	return say(cmd, "Hold: "+replicas(hold.Replicas)+p.until(*hold)+because(hold.Reason))
}

func endHold(cmd *cobra.Command, settings *viper.Viper) error {
	p, err := reach(cmd, settings)
	if err != nil {
		return err
	}
	before, err := answerTo(cmd.Context(), p, false, p.Hold)
	if err != nil {
		return err
	}
	if _, err := answerTo(cmd.Context(), p, true, func(ctx context.Context) (any, error) { return nil, p.EndHold(ctx) }); err != nil {
		return err
	}
	if before == nil {
		return say(cmd, "There was no manual hold")
	}
	return say(cmd, "Ended the manual hold")
}

func newOverrideCommand(settings *viper.Viper) *cobra.Command {
	var asked client.SetOverride
	var least, most int32
	var lasts period
	var until string
	var ends bool
	command := &cobra.Command{
		Use:   "override",
		Short: "Override minReplicas and maxReplicas for a while",
		Long: "Asks the autoscaler that runs here with the same configuration to take other bounds\n" +
			"for its own. Without flags it shows the override in force:\n" +
			"kubectl exec POD -- custom-pod-autoscaler override --min 5 --for 2h",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			given := cmd.Flags().Changed
			switch {
			case ends && alsoGiven(cmd, "min", "max", "for", "until", "reason"):
				return misused("--end goes without other flags")
			case ends:
				return endOverride(cmd, settings)
			case !given("min") && !given("max") && alsoGiven(cmd, "for", "until", "reason"):
				return misused("--min or --max is required")
			case !given("min") && !given("max"):
				return showOverride(cmd, settings)
			case given("for") && given("until"):
				return misused("--for and --until exclude each other")
			case least < 0 || most < 0:
				return misused("--min and --max must be at least 0, got %d", min(least, most))
			case given("min") && given("max") && least > most:
				return misused("--min must not be above --max: %d is above %d", least, most)
			}
			if given("min") {
				asked.MinReplicas = &least
			}
			if given("max") {
				asked.MaxReplicas = &most
			}
			if err := checkReason(asked.Reason); err != nil {
				return err
			}
			if given("for") {
				if err := checkDuration(cmd, time.Duration(lasts)); err != nil {
					return err
				}
				asked.Duration = client.Duration(lasts)
			}
			if given("until") {
				var err error
				if asked.ExpiresAt, err = end(until, time.Now()); err != nil {
					return err
				}
			}
			return override(cmd, settings, asked)
		},
	}
	command.Flags().Int32Var(&least, "min", 0, "instead of minReplicas")
	command.Flags().Int32Var(&most, "max", 0, "instead of maxReplicas")
	command.Flags().Var(&lasts, "for", "how long, such as 2h or 2d (default: until it is ended)")
	command.Flags().StringVar(&until, "until", "", "until when, such as 2026-03-02T14:00:00Z")
	command.Flags().StringVar(&asked.Reason, "reason", "", "why, for the log")
	command.Flags().BoolVar(&ends, "end", false, "end it now")
	return command
}

// end is a time to come.
func end(text string, now time.Time) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	switch {
	case err != nil:
		return t, misused("--until must be a time such as 2026-03-02T14:00:00Z, got %q", text)
	case !t.After(now):
		return t, misused("--until must be in the future, got %s", text)
	case t.Sub(now) > maxDuration:
		return t, misused("--until must be within a year, got %s", text)
	}
	return t, nil
}

func override(cmd *cobra.Command, settings *viper.Viper, asked client.SetOverride) error {
	p, err := reach(cmd, settings)
	if err != nil {
		return err
	}
	answer, err := answerTo(cmd.Context(), p, true, func(ctx context.Context) (client.Overridden, error) { return p.SetOverride(ctx, asked) })
	if err != nil {
		return err
	}
	return say(cmd, p.overriding(answer.Override)+"\nBounds: "+inForce(answer.Bounds))
}

func showOverride(cmd *cobra.Command, settings *viper.Viper) error {
	p, err := reach(cmd, settings)
	if err != nil {
		return err
	}
	answer, err := answerTo(cmd.Context(), p, false, p.Override)
	if err != nil {
		return err
	}
	return say(cmd, p.overriding(answer.Override)+"\nBounds: "+inForce(answer.Bounds))
}

func endOverride(cmd *cobra.Command, settings *viper.Viper) error {
	p, err := reach(cmd, settings)
	if err != nil {
		return err
	}
	before, err := answerTo(cmd.Context(), p, false, p.Override)
	if err != nil {
		return err
	}
	answer, err := answerTo(cmd.Context(), p, true, p.EndOverride)
	if err != nil {
		return err
	}
	told := "Ended the override"
	if before.Override == nil {
		told = "There was no override"
	}
	return say(cmd, told+"\nBounds: "+inForce(answer.Bounds))
}

func (p *process) overriding(o *bounds.Override) string {
	if o == nil {
		return "No override"
	}
	return "Override: " + overriding(o) + p.untilTheEnd(" or until") + because(o.Reason)
}

// inForce are the bounds in force, with what contradicted them.
func inForce(b bounds.Bounds) string {
	if b.Conflict == "" {
		return limits(b)
	}
	return fmt.Sprintf("%s\n%s", limits(b), printable(b.Conflict))
}

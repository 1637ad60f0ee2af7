// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/viper"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/api/client"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

// maxDuration is the longest that a hold or an override is asked for.
const maxDuration = 8760 * time.Hour

func newScaleCommand(settings *viper.Viper) *cobra.Command {
	var asked client.Scale
	var lasts time.Duration
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
				return misused("%q is no number of replicas: it must be a whole number from 0 to %d", args[0], math.MaxInt32)
			}
			if err := checkDuration(cmd, lasts); err != nil {
				return err
			}
			asked.Replicas, asked.Duration = int32(count), client.Duration(lasts)
			return hold(cmd, settings, asked)
		},
	}
	command.Flags().DurationVar(&lasts, "for", 0, "how long, such as 30m; required")
	command.Flags().StringVar(&asked.Reason, "reason", "", "why, for the log")
	command.Flags().BoolVar(&asked.DryRun, "dry-run", false, "only tell what would come of it")
	command.Flags().BoolVar(&ends, "end", false, "end it now")
	return command
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
		return misused("--for must be more than 0 and at most %s, got %s", maxDuration, lasts)
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
	told := "Held at "
	if held.DryRun {
		told = "Dry run: would be held at "
	}
	return say(cmd, told+p.holding(held.Hold)+"\n"+printable(held.Explanation))
}

// holding tells how many replicas are kept for how long.
func (p *process) holding(h scale.Hold) string {
	return replicas(h.Replicas) + " until " + clock(h.Until) + p.untilTheEnd(" or until") + because(h.Reason)
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
	return say(cmd, "Held at "+p.holding(*hold))
}

func endHold(cmd *cobra.Command, settings *viper.Viper) error {
	p, err := reach(cmd, settings)
	if err != nil {
		return err
	}
	if _, err := answerTo(cmd.Context(), p, true, func(ctx context.Context) (any, error) { return nil, p.EndHold(ctx) }); err != nil {
		return err
	}
	return say(cmd, "Ended the manual hold")
}

func newOverrideCommand(settings *viper.Viper) *cobra.Command {
	var asked client.SetOverride
	var least, most int32
	var lasts time.Duration
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
				return override(cmd, settings, true, (*client.Client).EndOverride)
			case !given("min") && !given("max") && alsoGiven(cmd, "for", "until", "reason"):
				return misused("--min or --max is required")
			case !given("min") && !given("max"):
				return override(cmd, settings, false, (*client.Client).Override)
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
			if given("for") {
				if err := checkDuration(cmd, lasts); err != nil {
					return err
				}
				asked.Duration = client.Duration(lasts)
			}
			if given("until") {
				var err error
				if asked.ExpiresAt, err = time.Parse(time.RFC3339, until); err != nil {
					return misused("--until must be a time such as 2026-03-02T14:00:00Z, got %q", until)
				}
			}
			return override(cmd, settings, true, func(c *client.Client, ctx context.Context) (client.Overridden, error) {
				return c.SetOverride(ctx, asked)
			})
		},
	}
	command.Flags().Int32Var(&least, "min", 0, "instead of minReplicas")
	command.Flags().Int32Var(&most, "max", 0, "instead of maxReplicas")
	command.Flags().DurationVar(&lasts, "for", 0, "how long, such as 2h (default: until it is ended)")
	command.Flags().StringVar(&until, "until", "", "until when, such as 2026-03-02T14:00:00Z")
	command.Flags().StringVar(&asked.Reason, "reason", "", "why, for the log")
	command.Flags().BoolVar(&ends, "end", false, "end it now")
	return command
}

// override asks something about the override and shows the one in force.
func override(cmd *cobra.Command, settings *viper.Viper, changes bool, question func(*client.Client, context.Context) (client.Overridden, error)) error {
	p, err := reach(cmd, settings)
	if err != nil {
		return err
	}
	answer, err := answerTo(cmd.Context(), p, changes, func(ctx context.Context) (client.Overridden, error) { return question(p.Client, ctx) })
	if err != nil {
		return err
	}
	return say(cmd, p.overriding(answer.Override)+"\nBounds: "+inForce(answer.Bounds))
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

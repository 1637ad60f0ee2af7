// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/viper"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

func newPauseCommand(settings *viper.Viper) *cobra.Command {
	var pause scale.Pause
	var replicas int32
	command := &cobra.Command{
		Use:   "pause",
		Short: "Stop scaling, at the count that is there or at a fixed one",
		Long: "Asks the autoscaler that runs here with the same configuration to stop scaling,\n" +
			"until resume. A second pause replaces the first. Run it beside the autoscaler:\n" +
			"kubectl exec POD -- custom-pod-autoscaler pause",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("replicas") {
				if replicas < 0 {
					return misused("--replicas must be at least 0, got %d", replicas)
				}
				pause.Replicas = &replicas
			}
			if err := checkReason(pause.Reason); err != nil {
				return err
			}
			p, err := reach(cmd, settings)
			if err != nil {
				return err
			}
			paused, err := answerTo(cmd.Context(), p, true, func(ctx context.Context) (*scale.Pause, error) { return p.Pause(ctx, pause) })
			if err != nil {
				return err
			}
			return say(cmd, "Paused"+pausedAt(paused)+p.untilTheEnd(", until"))
		},
	}
	command.Flags().Int32Var(&replicas, "replicas", 0, "the count to keep meanwhile, whatever the bounds (default: the one that is there)")
	command.Flags().StringVar(&pause.Reason, "reason", "", "why, for the log")
	return command
}

func newResumeCommand(settings *viper.Viper) *cobra.Command {
	return &cobra.Command{
		Use:   "resume",
		Short: "End a pause",
		Long: "Asks the autoscaler that runs here with the same configuration to scale again:\n" +
			"kubectl exec POD -- custom-pod-autoscaler resume",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := reach(cmd, settings)
			if err != nil {
				return err
			}
			before, err := answerTo(cmd.Context(), p, false, p.Paused)
			if err != nil {
				return err
			}
			if _, err := answerTo(cmd.Context(), p, true, func(ctx context.Context) (any, error) { return nil, p.Resume(ctx) }); err != nil {
				return err
			}
			if before == nil {
				return say(cmd, "There was no pause")
			}
			return say(cmd, "Resumed")
		},
	}
}

// pausedAt tells the count of a pause, if it has one.
func pausedAt(pause *scale.Pause) string {
	if pause == nil || pause.Replicas == nil {
		return ""
	}
	return " at " + replicas(*pause.Replicas)
}

func replicas(count int32) string {
	if count == 1 {
		return "1 replica"
	}
	return fmt.Sprintf("%d replicas", count)
}

// say prints a line.
func say(cmd *cobra.Command, line string) error {
	_, err := fmt.Fprintln(cmd.OutOrStdout(), line)
	return err
}

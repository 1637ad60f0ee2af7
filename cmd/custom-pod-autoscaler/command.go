// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/viper"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
)

// newCommand is the command line: the root runs, the others look.
func newCommand() *cobra.Command {
	settings := viper.New()
	var printsVersion bool
	root := &cobra.Command{
		Use:   "custom-pod-autoscaler",
		Short: "Scale a Kubernetes workload by your own logic",
		Long: "Without a command it runs the autoscaler that the configuration file describes,\n" +
			"until SIGTERM or SIGINT.",
		Args:          noArguments,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if printsVersion {
				return printVersion(cmd)
			}
			loaded, err := load(settings)
			if err != nil {
				// A key that is missing may be one that is misspelt.
				warn(cmd, loaded)
				return err
			}
			return run(cmd.Context(), loaded, settings.GetString("config"), settings.GetString("kubeconfig"), os.Stderr)
		},
	}
	root.SetFlagErrorFunc(flagFault)
	root.PersistentFlags().String("config", config.DefaultPath, "the configuration file, YAML or JSON; also the environment variable "+config.PathVariable)
	root.Flags().String("kubeconfig", "", "the kubeconfig to use instead of the pod's service account, KUBECONFIG or ~/.kube/config")
	// Binding a flag that exists cannot fail.
	_ = settings.BindPFlag("config", root.PersistentFlags().Lookup("config"))
	_ = settings.BindPFlag("kubeconfig", root.Flags().Lookup("kubeconfig"))
	_ = settings.BindEnv("config", config.PathVariable)
	root.AddCommand(
		newValidateCommand(settings), newStatusCommand(settings), newRecordsCommand(settings), newPauseCommand(settings), newResumeCommand(settings),
		newScaleCommand(settings), newOverrideCommand(settings), newVersionCommand())
	// Not by cobra's template: the linker keeps every exported method of the
	// program for one, which is 4 MB.
	root.Flags().BoolVarP(&printsVersion, "version", "v", false, "print the version")
	root.CompletionOptions.HiddenDefaultCmd = true
	return root
}

func newValidateCommand(settings *viper.Viper) *cobra.Command {
	var strict bool
	command := &cobra.Command{
		Use:   "validate [file]",
		Short: "Check a configuration file, and the environment with it",
		Long: "Prints every fault with its key, and warns of every unknown key, with the nearest\n" +
			"known name. Exits with 2 if there is a fault, with --strict also for a warning.",
		Args: atMostOneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				settings.Set("config", args[0])
			}
			loaded, err := load(settings)
			warn(cmd, loaded)
			if err != nil {
				return err
			}
			if strict && len(loaded.Warnings) > 0 {
				return refusal{fmt.Errorf("%s has warnings, and --strict was given", settings.GetString("config"))}
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is valid\n", settings.GetString("config"))
			return err
		},
	}
	command.Flags().BoolVar(&strict, "strict", false, "fail on warnings, such as of unknown keys")
	return command
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return printVersion(cmd) },
	}
}

func printVersion(cmd *cobra.Command) error {
	_, err := fmt.Fprintln(cmd.OutOrStdout(), version)
	return err
}

// warn prints what in the configuration may not do what it is meant to.
func warn(cmd *cobra.Command, loaded config.Loaded) {
	for _, warning := range loaded.Warnings {
		cmd.PrintErrln("warning: " + warning)
	}
}

// load reads the configuration file and the environment.
func load(settings *viper.Viper) (config.Loaded, error) {
	loaded, err := config.Load(settings.GetString("config"), os.LookupEnv)
	loaded.Warnings = append(loaded.Warnings, config.Stray(os.Environ())...)
	if err != nil {
		return loaded, refusal{err}
	}
	return loaded, nil
}

// misused is an error about the command line.
func misused(format string, args ...any) error {
	return refusal{fmt.Errorf(format+": see --help", args...)}
}

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var commands []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			commands = append(commands, c.Name())
		}
	}
	if len(commands) == 0 {
		return misused("%q is no argument of %s", args[0], cmd.CommandPath())
	}
	return misused("%q is no command of %s%s (the commands are %s)", args[0], cmd.CommandPath(), meant(cmd, args[0]), strings.Join(commands, ", "))
}

// misspelt is how many letters a word may be away from the command it was meant
// to be.
const misspelt = 2

// meant asks whether it was one of the commands that are spelt alike.
func meant(cmd *cobra.Command, word string) string {
	cmd.SuggestionsMinimumDistance = misspelt
	alike := cmd.SuggestionsFor(word)
	if word == "" || len(alike) == 0 {
		return ""
	}
	return ": did you mean " + strings.Join(alike, " or ") + "?"
}

func atMostOneArgument(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return misused("%s takes one file", cmd.CommandPath())
	}
	return nil
}

// levelOf is the level of a logVerbosity: 0 is information, 1 detail, and
// everything above the requests to the API server.
func levelOf(verbosity int32) slog.Level {
	levels := []slog.Level{slog.LevelInfo, slog.LevelDebug, resource.LevelRequest}
	return levels[max(0, min(int(verbosity), len(levels)-1))]
}

// newLog makes a logger.
func newLog(format config.LogFormat, level slog.Leveler, to *os.File) *slog.Logger {
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: nameLevel}
	if format == config.LogJSON {
		return slog.New(slog.NewJSONHandler(to, options))
	}
	return slog.New(slog.NewTextHandler(to, options))
}

// nameLevel names the level that slog has no name for.
func nameLevel(groups []string, a slog.Attr) slog.Attr {
	if level, ok := a.Value.Any().(slog.Level); ok && len(groups) == 0 && level == resource.LevelRequest {
		a.Value = slog.StringValue("TRACE")
	}
	return a
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	// What is printed is in the reader's zone.
	time.Local = time.FixedZone("CET", 60*60)
	testscript.Main(m, map[string]func(){"custom-pod-autoscaler": main})
}

// Each script is a story of somebody at the command line.
func TestCommandLine(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("LONG", strings.Repeat("a", 257))
			env.Setenv("LINES", "one\ntwo")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

// exits runs a command that must end with a status: exits STATUS COMMAND...
func exits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	status := "0"
	if failed := new(exec.ExitError); errors.As(err, &failed) {
		status = strconv.Itoa(failed.ExitCode())
	}
	if status != args[0] {
		ts.Fatalf("exit status %s, want %s: %v", status, args[0], err)
	}
}

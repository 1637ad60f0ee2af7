// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"log/slog"
	"math"
	"runtime/debug"
	"testing"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

func TestGarbageIsLimited(t *testing.T) {
	before := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	for environment, want := range map[string]int{"": 50, "200": 100} { // what the runtime made of 200 is left alone
		debug.SetGCPercent(100)
		t.Setenv("GOGC", environment)
		limitMemory(memlimit.Limit(1<<30), slog.New(slog.DiscardHandler))
		if got := debug.SetGCPercent(100); got != want {
			t.Errorf("with GOGC=%q it is %d, want %d", environment, got, want)
		}
	}
}

func TestMemoryIsLimitedByTheContainer(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	broken := func() (uint64, error) { return 0, errors.New("no cgroup here") }
	unlimited := func() (uint64, error) { return 0, memlimit.ErrNoLimit }
	for _, test := range []struct {
		name        string
		container   memlimit.Provider
		environment string
		want        int64
	}{
		{name: "half of it is left to the hooks", container: memlimit.Limit(128 << 20), want: 64 << 20},
		{name: "never less than it needs", container: memlimit.Limit(40 << 20), want: 32 << 20},
		{name: "none", container: unlimited, want: math.MaxInt64},
		{name: "one that cannot be read", container: broken, want: 77 << 20},
		{name: "one that the environment sets", container: memlimit.Limit(128 << 20), environment: "77MiB", want: 77 << 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			debug.SetMemoryLimit(77 << 20)
			if test.environment != "" {
				t.Setenv("GOMEMLIMIT", test.environment)
			}
			limitMemory(test.container, slog.New(slog.DiscardHandler))
			if got := debug.SetMemoryLimit(-1); got != test.want {
				t.Errorf("GOMEMLIMIT is %d, want %d", got, test.want)
			}
		})
	}
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

const (
	// ownShare is how much of the container's memory this process means to get
	// along with: hooks run in the same container, and a shell hook that the
	// kernel kills for want of memory is worse than a collector that works more.
	ownShare = 0.5
	// leastMemory is less than it needs in any case, in bytes: below it the
	// collector would never rest.
	leastMemory = 32 << 20
	// garbage is GOGC: how much garbage may gather, in percent of what is in
	// use. Go's own 100 would save a few milliseconds of CPU in a run, which are
	// rare, for memory that is there all the time (docs/decisions/0009-memory.md).
	garbage = 50
)

// limitMemory sets GOGC, and GOMEMLIMIT by the container's memory limit, unless
// the environment sets them.
func limitMemory(container memlimit.Provider, log *slog.Logger) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbage)
	}
	limit, err := memlimit.Set(memlimit.WithProvider(container), memlimit.WithRatio(ownShare), memlimit.WithMin(leastMemory))
	if err != nil {
		log.Debug("GOMEMLIMIT is left as it is: the container's memory limit cannot be read", "error", err)
		return
	}
	log.Debug("GOMEMLIMIT", "bytes", limit)
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"

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
)

// limitMemory sets GOMEMLIMIT by the container's memory limit, unless the
// environment sets it.
func limitMemory(container memlimit.Provider, log *slog.Logger) {
	limit, err := memlimit.Set(memlimit.WithProvider(container), memlimit.WithRatio(ownShare), memlimit.WithMin(leastMemory))
	if err != nil {
		log.Debug("GOMEMLIMIT is left as it is: the container's memory limit cannot be read", "error", err)
		return
	}
	log.Debug("GOMEMLIMIT", "bytes", limit)
}

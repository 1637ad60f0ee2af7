// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"time"
)

// wave is a CPU demand, in thousandths of a core, that swings between low and
// high. It begins at its lowest.
type wave struct {
	low, high int64
	period    time.Duration
}

// at is the demand that long after the beginning.
func (w wave) at(t time.Duration) int64 {
	height := (1 - math.Cos(2*math.Pi*t.Seconds()/w.period.Seconds())) / 2
	return w.low + int64(math.Round(height*float64(w.high-w.low)))
}

// millicoresPerPod is what a pod is meant to use at most. The evaluate hook is
// told.
const millicoresPerPod = 50

// needed is how many pods it takes for none to be above that.
func needed(demand int64) int {
	return int((demand + millicoresPerPod - 1) / millicoresPerPod)
}

// share is what each of the pods uses of a demand.
func share(demand int64, pods int) int64 {
	return max(1, (demand+int64(pods)/2)/int64(max(1, pods)))
}

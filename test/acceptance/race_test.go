// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build race

package acceptance

// raceDetector says that the tests run with the race detector; so does the
// program then.
const raceDetector = true

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !race

package acceptance

const raceDetector = false

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

// startFault says why a program could not be started and what to do.
func startFault(entrypoint string, err error) string {
	return err.Error()
}

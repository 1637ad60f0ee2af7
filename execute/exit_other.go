// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package execute

import (
	"errors"
	"os/exec"
	"syscall"
)

// awaitExit waits until the program has exited. Off Linux, where this program
// is only developed, that reaps it.
func awaitExit(program *exec.Cmd) (syscall.WaitStatus, error) {
	_ = program.Wait() // the status says the same
	status, ok := program.ProcessState.Sys().(syscall.WaitStatus)
	if !ok {
		return 0, errors.New("no wait status")
	}
	return status, nil
}

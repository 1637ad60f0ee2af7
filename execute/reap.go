// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

import (
	"os/exec"
	"sync"
)

// children are the running programs that calls have started. It keeps reaping
// orphans from taking their exit statuses.
type children struct {
	// starting is read-held from before a program starts until it is known,
	// and write-held while orphans are reaped.
	starting sync.RWMutex
	known    sync.Map // process ID to *exec.Cmd
}

// start starts a program and knows it from then on.
func (c *children) start(program *exec.Cmd) error {
	c.starting.RLock()
	defer c.starting.RUnlock()
	if err := program.Start(); err != nil {
		return err
	}
	c.known.Store(program.Process.Pid, program)
	return nil
}

// reap waits for a program that has exited and forgets it. Its ID may be in
// use again by then, hence the comparison.
func (c *children) reap(program *exec.Cmd) {
	_ = program.Wait() // its status is known from awaitExit
	c.known.CompareAndDelete(program.Process.Pid, program)
}

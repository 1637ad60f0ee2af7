// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

import (
	"errors"
	"os/exec"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const is64bit = ^uint(0) >> 63

// childInfo is the siginfo_t that waitid fills in for a child.
type childInfo struct {
	_      [2]int32 // signal and errno
	code   int32
	_      [is64bit]int32
	_      [2]int32 // process and user
	status int32
	_      [128 - (6+is64bit)*4]byte
}

// The codes of a child that has ended, of sigaction(2).
const (
	codeExited = 1
	codeKilled = 2
	codeDumped = 3
)

// awaitExit waits until the program has exited, and leaves it unreaped.
func awaitExit(program *exec.Cmd) (syscall.WaitStatus, error) {
	var info childInfo
	if err := waitid(unix.P_PID, program.Process.Pid, unix.WEXITED|unix.WNOWAIT, &info); err != nil {
		return 0, err
	}
	return info.waitStatus()
}

// waitid is waitid(2), begun again when a signal interrupts it.
func waitid(kind, id, options int, info *childInfo) error {
	for {
		//nolint:gosec // a childInfo is a siginfo_t, of which unix.Siginfo names the beginning only
		err := unix.Waitid(kind, id, (*unix.Siginfo)(unsafe.Pointer(info)), options, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// waitStatus is what wait4 would have returned.
func (c *childInfo) waitStatus() (syscall.WaitStatus, error) {
	status := syscall.WaitStatus(uint32(c.status)) //nolint:gosec // an exit status or a signal: 0 to 255
	switch c.code {
	case codeExited:
		return status << 8, nil
	case codeKilled:
		return status, nil
	case codeDumped:
		return status | 0x80, nil
	default:
		return 0, errors.New("neither exited nor killed")
	}
}

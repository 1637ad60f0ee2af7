// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// reapPause is the least time between two looks for orphans. Until then an
// orphan that ended takes up a process ID, and nothing else.
const reapPause = 200 * time.Millisecond

// Reap waits for processes that were orphaned and have ended, until ctx does.
// The kernel hands those to the process with the ID 1, which a container's
// command is; in any other process Reap returns at once. An error means that
// orphans are no longer reaped; calls are not affected.
//
// Children of this process that are no hooks of this pool keep their exit
// status as long as they stay in its process group.
func (p *Pool) Reap(ctx context.Context) error {
	if os.Getpid() != 1 {
		return nil
	}
	return p.children.reapOrphans(ctx)
}

func (c *children) reapOrphans(ctx context.Context) error {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	defer signal.Stop(ended)
	for {
		if err := c.sweep(); err != nil {
			return fmt.Errorf("reaping orphans: %w", err)
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return nil
		}
		select {
		case <-time.After(reapPause):
		case <-ctx.Done():
			return nil
		}
	}
}

// sweep reaps the orphans that have ended. No program may start meanwhile: one
// that is not known yet would look like an orphan.
func (c *children) sweep() error {
	c.starting.Lock()
	defer c.starting.Unlock()
	if !anyEnded() {
		return nil
	}
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, process := range processes {
		pid, err := strconv.Atoi(process.Name())
		if err != nil || !isEndedOrphan(pid) {
			continue
		}
		if _, known := c.known.Load(pid); !known {
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
		}
	}
	return nil
}

// anyEnded says whether there is a child to wait for at all.
func anyEnded() bool {
	var info childInfo
	return waitid(unix.P_ALL, 0, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, &info) == nil && info.code != 0
}

// isEndedOrphan says whether a process is a child of this one that has ended
// and is not of its process group, as its own are unless they are hooks.
func isEndedOrphan(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false // gone
	}
	// The name, in parentheses, may contain anything; after it come the state,
	// the parent and the process group.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	return len(fields) > 2 && string(fields[0]) == "Z" &&
		string(fields[1]) == strconv.Itoa(os.Getpid()) && string(fields[2]) != strconv.Itoa(syscall.Getpgrp())
}

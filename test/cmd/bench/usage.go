// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// usage is what a process has used so far.
type usage struct {
	// process is the CPU time of the program itself, children that of the hooks:
	// those that ended and those that stay.
	process, children time.Duration
	// resident is the memory that the program itself has now, peak the most it
	// had, in bytes.
	resident, peak int64
}

// clockTick is the unit of the kernel's figures, 100 a second on every Linux.
const clockTick = 10 * time.Millisecond

// readUsage reads /proc: proc_pid_stat(5), proc_pid_status(5). Where there is
// none it returns nothing used.
func readUsage(proc string, pid int) (usage, error) {
	own, err := readStat(proc, pid)
	if errors.Is(err, fs.ErrNotExist) && !exists(filepath.Join(proc, "stat")) {
		return usage{}, nil
	}
	if err != nil {
		return usage{}, err
	}
	staying, err := descendantsTime(proc, pid)
	if err != nil {
		return usage{}, err
	}
	u := usage{process: own.used, children: own.waitedFor + staying}
	status, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "status"))
	if err != nil {
		return usage{}, fmt.Errorf("reading the memory: %w", err)
	}
	if u.peak, err = memory(string(status), "VmHWM:"); err != nil {
		return usage{}, err
	}
	u.resident, err = memory(string(status), "VmRSS:")
	return u, err
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// memory reads a line of a status file.
func memory(status, name string) (int64, error) {
	_, rest, _ := strings.Cut(status, name)
	var kibibytes int64
	if _, err := fmt.Sscan(rest, &kibibytes); err != nil {
		return 0, fmt.Errorf("reading the memory, %s: %w", name, err)
	}
	return kibibytes << 10, nil
}

// stat is what is read of a process's stat file.
type stat struct {
	parent int
	// used is the CPU time of the process, waitedFor that of its children that
	// have ended.
	used, waitedFor time.Duration
}

func readStat(proc string, pid int) (stat, error) {
	content, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "stat"))
	if err != nil {
		return stat{}, fmt.Errorf("reading the CPU time: %w", err)
	}
	return parseStat(string(content))
}

// parseStat reads the fields after the name, which may hold anything, in
// parentheses.
func parseStat(content string) (stat, error) {
	fields := strings.Fields(content[strings.LastIndexByte(content, ')')+1:])
	const parent, user, end = 4 - 3, 14 - 3, 18 - 3
	if len(fields) < end {
		return stat{}, fmt.Errorf("reading the CPU time: %q has too few fields", content)
	}
	var numbers [5]int
	for i, field := range append([]string{fields[parent]}, fields[user:end]...) {
		n, err := strconv.Atoi(field)
		if err != nil {
			return stat{}, fmt.Errorf("reading the CPU time: %w", err)
		}
		numbers[i] = n
	}
	ticks := func(i int) time.Duration { return time.Duration(numbers[i]+numbers[i+1]) * clockTick }
	return stat{parent: numbers[0], used: ticks(1), waitedFor: ticks(3)}, nil
}

// descendantsTime is the CPU time of the children that live, such as workers,
// and of theirs. It goes over to waitedFor of their parents when they end.
func descendantsTime(proc string, ancestor int) (time.Duration, error) {
	folders, err := os.ReadDir(proc)
	if err != nil {
		return 0, fmt.Errorf("looking for hooks that stay: %w", err)
	}
	all := map[int]stat{}
	for _, folder := range folders {
		pid, err := strconv.Atoi(folder.Name())
		if err != nil {
			continue
		}
		s, err := readStat(proc, pid)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // It has ended meanwhile.
		}
		if err != nil {
			return 0, err
		}
		all[pid] = s
	}
	var total time.Duration
	for _, s := range all {
		if descends(all, s, ancestor) {
			total += s.used + s.waitedFor
		}
	}
	return total, nil
}

// descends reports whether the process of s is below ancestor.
func descends(all map[int]stat, s stat, ancestor int) bool {
	// Processes came and went while they were listed: at most so many steps.
	for range all {
		if s.parent == ancestor {
			return true
		}
		above, found := all[s.parent]
		if !found {
			return false
		}
		s = above
	}
	return false
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package gitops

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// home is the folder in which the copy of a repository is made. It is the same
// one for each process of an autoscaler, so that what one leaves behind that is
// killed is removed by the next.
type home struct {
	path string
	// lock keeps others away, until it is closed or the process ends; nil for a
	// folder that nobody else knows of.
	lock *os.File
}

// homeName is that of the folder of an autoscaler, for a user.
func homeName(id, repository string) string {
	sum := sha256.Sum256([]byte(id + "\x00" + repository))
	return fmt.Sprintf("custom-pod-autoscaler-git-%d-%x", os.Getuid(), sum[:8])
}

// openHome makes the folder, or empties it. Where another process has it, such
// as a replica on the same host, or another user, one of a random name is made.
func openHome(parent, name string) (*home, error) {
	path := filepath.Join(cmp.Or(parent, os.TempDir()), name)
	// Whoever had it may remove it between two steps.
	for range 3 {
		lock, mine := lockHome(path)
		if !mine {
			continue
		}
		h := &home{path: path, lock: lock}
		if err := h.empty(); err != nil {
			_ = lock.Close()
			break
		}
		return h, nil
	}
	path, err := os.MkdirTemp(parent, name+"-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for the copy of the repository (TMPDIR says where): %w", err)
	}
	return &home{path: path}, nil
}

// lockHome makes the folder unless it is there. It is ours if nobody else can
// write to it, or has it locked.
func lockHome(path string) (lock *os.File, mine bool) {
	_ = os.Mkdir(path, 0o700)                                                               //nolint:gosec // TMPDIR is the user's own; opening the folder tells what is wrong
	folder, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0) //nolint:gosec // as above
	if err != nil {
		return nil, false
	}
	defer func() {
		if !mine {
			_ = folder.Close()
		}
	}()
	info, err := folder.Stat()
	if err != nil || info.Mode().Perm()&0o077 != 0 {
		return nil, false
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); !ok || int(owner.Uid) != os.Getuid() {
		return nil, false
	}
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, false
	}
	now, err := os.Lstat(path) //nolint:gosec // as above
	return folder, err == nil && os.SameFile(info, now)
}

func (h *home) empty() error {
	left, err := os.ReadDir(h.path)
	if err != nil {
		return err
	}
	for _, entry := range left {
		if err := os.RemoveAll(filepath.Join(h.path, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// close removes the folder.
func (h *home) close() error {
	err := os.RemoveAll(h.path)
	if h.lock != nil {
		_ = h.lock.Close()
	}
	return err
}

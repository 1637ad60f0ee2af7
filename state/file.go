// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
)

// file keeps the record in a file that only this process writes.
type file struct {
	path string
	// busy while the disk is at work, perhaps for a call that was given up.
	busy atomic.Bool
}

var errBusy = errors.New("the disk still hangs on an earlier attempt")

// newFile refuses a path that cannot be written, while there is somebody who
// looks at what was configured.
func newFile(ctx context.Context, path string) (*file, error) {
	f := &file{path: path}
	if err := f.access(ctx, func() error { return try(path) }); err != nil {
		return nil, fmt.Errorf("state.path: %s must be a file in a folder that exists and can be written: %w", path, err)
	}
	return f, nil
}

// try leaves the name alone that replace writes to: during a rolling update the
// process before may be about to rename it.
func try(path string) error {
	info, err := os.Lstat(path)
	if err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("there is something else (%s)", info.Mode())
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	trial := path + ".try"
	if err := write(trial, nil); err != nil {
		return err
	}
	if err := os.Remove(trial); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil // Another process that starts has tried as well.
}

// Load reads the file; one that is not there is no record.
func (f *file) Load(ctx context.Context) (Record, error) {
	var content []byte
	err := f.access(ctx, func() (err error) {
		content, err = read(f.path)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, nil
	}
	var record Record
	if err == nil {
		record, err = decode(content)
	}
	if err != nil {
		return Record{}, fmt.Errorf("loading the state from the file %s: %w", f.path, err)
	}
	return record, nil
}

// Save replaces the file at one stroke: whenever the process or the machine
// dies, the old record is there or the new one.
func (f *file) Save(ctx context.Context, record Record) error {
	content, err := encode(record)
	if err == nil {
		err = f.access(ctx, func() error { return replace(f.path, content) })
	}
	if err != nil {
		return fmt.Errorf("saving the state in the file %s: %w", f.path, err)
	}
	return nil
}

// access goes to the disk and waits for it until the context ends. Nothing
// interrupts a disk that hangs: the attempt goes on in its goroutine, and until
// it ends others are refused, so that they neither pile up nor overtake it.
func (f *file) access(ctx context.Context, attempt func() error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return err
	}
	if !f.busy.CompareAndSwap(false, true) {
		return errBusy
	}
	done := make(chan error, 1)
	go func() {
		err := attempt()
		// First this: who hears that it is done may call again at once.
		f.busy.Store(false)
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("waiting for the disk: %w", ctx.Err())
	}
}

// read reads no more than decode needs to see that it is too much.
func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, maxSize+1))
}

// replace uses one temporary name, so that what killed processes leave does not
// add up.
func replace(path string, content []byte) error {
	temporary := path + ".tmp"
	err := write(temporary, content)
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		_ = os.Remove(temporary)
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// write makes a new file in place of any there is: one that was left may be a
// link to elsewhere, or readable for others.
func write(path string, content []byte) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncFolder has the new name survive a power failure.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = folder.Close() }()
	err = folder.Sync()
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL) {
		return nil // Some file systems sync no folders, network ones for example.
	}
	return err
}

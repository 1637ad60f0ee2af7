// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Package rotate keeps what is made from files that are replaced while the
// process runs: certificates, keys and tokens, such as Kubernetes replaces
// where a Secret is mounted.
package rotate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
)

// MaxFileBytes is the largest file read: what fits into a Secret.
const MaxFileBytes = 1 << 20

// lookAgain is how long what was read is taken for current. It bounds what a
// flood of requests reads.
const lookAgain = time.Second

// File is a file with the key that configures it, which errors name.
type File struct {
	Key, Path string
}

// Value is made from files, and again when one of them changes. It is safe for
// concurrent use.
type Value[T any] struct {
	files []File
	from  func(contents [][]byte) (T, error)
	log   *slog.Logger

	mu     sync.Mutex
	looked time.Time
	// contents is what value was made from, and tried what was last found.
	contents, tried [][]byte
	value           T
	// err says why what was last found is of no use, and failures how often
	// that was found in a row.
	err      error
	failures int
}

// New reads the files and makes the value, from their contents in that order.
// The log gets a line when that works no more, and when it works again.
func New[T any](log *slog.Logger, from func(contents [][]byte) (T, error), files ...File) (*Value[T], error) {
	v := &Value[T]{files: files, from: from, log: log}
	if v.look(); v.err != nil {
		return nil, v.err
	}
	return v, nil
}

// Current is the value for the files as they are, or were less than a second
// ago. When they are of no use now, which err says, it is the last one that
// was good: whether that still counts is for the caller to decide.
//
// The files are compared as a whole: times and sizes may stay the same when
// they change.
func (v *Value[T]) Current() (value T, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if time.Since(v.looked) >= lookAgain {
		v.look()
	}
	return v.value, v.err
}

func (v *Value[T]) look() {
	v.looked = time.Now()
	contents, err := v.read()
	switch {
	case err != nil:
		v.fail(err)
	case v.contents != nil && slices.EqualFunc(contents, v.contents, bytes.Equal):
		v.succeed(false)
	case v.tried != nil && slices.EqualFunc(contents, v.tried, bytes.Equal):
		v.fail(v.err)
	default:
		v.tried = contents
		value, err := v.from(contents)
		if err != nil {
			v.fail(err)
			return
		}
		changed := v.contents != nil
		v.value, v.contents = value, contents
		v.succeed(changed)
	}
}

// fail keeps the value. It warns the second time only: files that belong
// together are not replaced at once.
func (v *Value[T]) fail(err error) {
	v.err = err
	if v.failures++; v.failures == 2 {
		v.log.Warn("Files that changed cannot be used", "error", err)
	}
}

func (v *Value[T]) succeed(changed bool) {
	if v.failures > 1 || changed {
		v.log.Info("Files were read again", "files", v.paths())
	}
	v.err, v.failures, v.tried = nil, 0, nil
}

func (v *Value[T]) paths() []string {
	paths := make([]string, len(v.files))
	for i, file := range v.files {
		paths[i] = file.Path
	}
	return paths
}

func (v *Value[T]) read() ([][]byte, error) {
	contents := make([][]byte, len(v.files))
	for i, file := range v.files {
		content, err := readFile(file.Path)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", file.Key, err)
		}
		contents[i] = content
	}
	return contents, nil
}

func readFile(path string) ([]byte, error) {
	// A pipe would be waited for.
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // Nothing was written.
	content, err := io.ReadAll(io.LimitReader(file, MaxFileBytes+1))
	switch {
	case err != nil:
		return nil, err
	case len(content) > MaxFileBytes:
		return nil, fmt.Errorf("%s is larger than %d bytes", path, MaxFileBytes)
	default:
		return content, nil
	}
}

// Whole is a fault when a file of PEM blocks is cut off in the last of them, as
// while it is being written: what is before it would be taken for all there is.
func Whole(content []byte) error {
	if bytes.LastIndex(content, []byte("-----BEGIN ")) > bytes.LastIndex(content, []byte("-----END ")) {
		return errors.New("it is cut off in its last block, as while it is being written")
	}
	return nil
}

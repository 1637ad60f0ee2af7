// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// startFault says why a program could not be started and what to do about it.
// The system's own words ("no such file or directory" when it is the
// interpreter that is missing) send people the wrong way.
func startFault(entrypoint string, err error) string {
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return notInPath(entrypoint)
	case errors.Is(err, exec.ErrDot):
		return fmt.Sprintf("the program %q is only found in the current directory; write it as %q", entrypoint, "./"+entrypoint)
	case errors.Is(err, fs.ErrNotExist):
		return notThere(program(entrypoint), err)
	case errors.Is(err, fs.ErrPermission):
		return notExecutable(program(entrypoint), err)
	case errors.Is(err, syscall.ENOEXEC):
		return notAProgram(program(entrypoint))
	case errors.Is(err, syscall.E2BIG):
		return fmt.Sprintf("starting %q: its arguments and the environment are together longer than the system allows", entrypoint)
	case errors.Is(err, syscall.EAGAIN):
		return fmt.Sprintf("starting %q: no more processes may be started, as by the container's limit: %v", entrypoint, err)
	default:
		return fmt.Sprintf("starting %q: %v", entrypoint, err)
	}
}

// program is the path of the file that was to be started.
func program(entrypoint string) string {
	if path, err := exec.LookPath(entrypoint); err == nil {
		return path
	}
	return entrypoint
}

func notInPath(entrypoint string) string {
	message := fmt.Sprintf("the program %q is not in PATH (%s)", entrypoint, os.Getenv("PATH"))
	if strings.ContainsAny(entrypoint, " \t") {
		return message + "; entrypoint is the program alone, its arguments belong into command"
	}
	if _, err := os.Stat(entrypoint); err == nil {
		return message + fmt.Sprintf("; it is in the working directory: write it as %q", "./"+entrypoint)
	}
	return message
}

// notThere is about a program of which something does not exist: itself, or
// what is to run it.
func notThere(path string, err error) string {
	_, statErr := os.Stat(path)
	absent := statErr != nil
	start, _ := beginning(path)
	switch interpreter := shebang(start); {
	case absent && strings.ContainsAny(path, " \t"):
		return fmt.Sprintf("the program %q does not exist; entrypoint is the program alone, its arguments belong into command", path)
	case absent && !filepath.IsAbs(path):
		directory, _ := os.Getwd() // only to help
		return fmt.Sprintf("the program %q does not exist in the working directory %q", path, directory)
	case absent:
		return fmt.Sprintf("the program %q does not exist", path)
	case strings.HasSuffix(interpreter, "\r"):
		return fmt.Sprintf("the first line of %q ends in a carriage return, so that its interpreter is not found: save it with Unix line ends (LF)", path)
	case interpreter != "":
		return fmt.Sprintf("the interpreter %q in the first line of %q does not exist: install it, or correct that line", interpreter, path)
	case isELF(start):
		return fmt.Sprintf("the program %q is there, but the loader of its C library is not: was it built for another distribution, such as Debian's glibc on Alpine's musl?", path)
	default:
		return fmt.Sprintf("starting %q: %v", path, err)
	}
}

// notExecutable is about a program that may not be executed.
func notExecutable(path string, err error) string {
	info, statErr := os.Stat(path)
	if statErr != nil {
		return fmt.Sprintf("%q cannot be reached by the user %d: %v", path, os.Geteuid(), statErr)
	}
	if info.IsDir() {
		return fmt.Sprintf("%q is a directory, not a program", path)
	}
	if !info.Mode().IsRegular() {
		return fmt.Sprintf("%q is not a regular file, so it cannot be executed", path)
	}
	if info.Mode()&0o111 == 0 {
		return fmt.Sprintf("%q is not executable: chmod +x it, or give its interpreter as entrypoint and it as command", path)
	}
	start, _ := beginning(path)
	if interpreter := shebang(start); interpreter != "" {
		if info, err := os.Stat(interpreter); err == nil && (info.IsDir() || info.Mode()&0o111 == 0) {
			return fmt.Sprintf("the interpreter %q in the first line of %q is not executable", interpreter, path)
		}
	}
	return fmt.Sprintf("%q has mode %v, which does not let the user %d execute it, or its file system is mounted noexec: %v",
		path, info.Mode(), os.Geteuid(), err)
}

// notAProgram is about an executable file that the system cannot run.
func notAProgram(path string) string {
	start, readable := beginning(path)
	switch {
	case !readable:
		return fmt.Sprintf("%q is not a program for %s/%s, or a script without a first line that names its interpreter", path, runtime.GOOS, runtime.GOARCH)
	case len(start) == 0:
		return fmt.Sprintf("%q is empty", path)
	case isELF(start):
		return fmt.Sprintf("%q was built for another processor than this machine's (%s)", path, runtime.GOARCH)
	case bytes.HasPrefix(start, []byte("\ufeff#!")):
		return fmt.Sprintf("%q begins with a byte order mark, which hides its first line: save it as UTF-8 without", path)
	default:
		return fmt.Sprintf("%q is a script whose first line does not name its interpreter: begin it with, for example, #!/bin/sh", path)
	}
}

// beginning is the first bytes of a regular file, if they can be read.
func beginning(path string) (start []byte, readable bool) {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return nil, false
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, false
	}
	defer func() { _ = file.Close() }()
	start = make([]byte, 256) // as much as the kernel looks at
	n, _ := file.Read(start)
	return start[:n], true
}

// shebang is the interpreter that a script's first line names, else empty. It
// ends in a carriage return if that is part of what the kernel looks for.
func shebang(start []byte) string {
	rest, ok := bytes.CutPrefix(start, []byte("#!"))
	if !ok {
		return ""
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	fields := strings.FieldsFunc(string(line), func(r rune) bool { return r == ' ' || r == '\t' })
	if len(fields) == 0 {
		return ""
	}
	return fields[0]
}

func isELF(start []byte) bool { return bytes.HasPrefix(start, []byte("\x7fELF")) }

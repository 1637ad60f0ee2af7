// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// binary is a program that is measured.
type binary struct {
	// Path is where it lies, or what it was built from.
	Path string `json:"path"`
	// Bytes is the size of the file, and StrippedBytes what it would be without
	// symbols and debugging information, so that builds can be compared
	// whichever way they were linked.
	Bytes         int64 `json:"bytes"`
	StrippedBytes int64 `json:"strippedBytes"`
	file          string
}

// findBinaries finds the programs to measure, and builds that of this checkout
// when none is named.
func findBinaries(ctx context.Context, named []string, directory string) ([]binary, error) {
	if len(named) == 0 {
		file := filepath.Join(directory, "custom-pod-autoscaler")
		if err := build(ctx, file); err != nil {
			return nil, err
		}
		b, err := newBinary(file)
		b.Path = "this checkout"
		return []binary{b}, err
	}
	var found []binary
	for _, path := range named {
		b, err := newBinary(path)
		if err != nil {
			return nil, err
		}
		found = append(found, b)
	}
	return found, nil
}

// build builds the program as it is released: stripped.
func build(ctx context.Context, file string) error {
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", file,
		"github.com/custom-pod-autoscaler/custom-pod-autoscaler/cmd/custom-pod-autoscaler")
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("building the program: %w\n%s", err, output)
	}
	return nil
}

func newBinary(path string) (binary, error) {
	// The programs do not run in this process's working directory.
	file, err := filepath.Abs(path)
	if err != nil {
		return binary{}, fmt.Errorf("finding the program %s: %w", path, err)
	}
	if _, err := exec.LookPath(file); err != nil {
		return binary{}, fmt.Errorf("finding the program: %w; --binary takes the path of a program that can be executed", err)
	}
	info, err := os.Stat(file)
	if err != nil {
		return binary{}, fmt.Errorf("measuring the program: %w", err)
	}
	unneeded, err := unneededBytes(file)
	if err != nil {
		return binary{}, err
	}
	return binary{Path: path, file: file, Bytes: info.Size(), StrippedBytes: info.Size() - unneeded}, nil
}

// unneededBytes is how much of a program's file strip(1) would remove. Other
// files than ELF are taken as they are.
func unneededBytes(file string) (int64, error) {
	program, err := elf.Open(file)
	if err != nil {
		if _, ok := err.(*elf.FormatError); ok { //nolint:errorlint // elf returns it as it is
			return 0, nil
		}
		return 0, fmt.Errorf("measuring the program: %w", err)
	}
	defer func() { _ = program.Close() }()
	var unneeded int64
	for _, section := range program.Sections {
		if isUnneeded(section) {
			unneeded += int64(section.FileSize) //nolint:gosec // part of a file
		}
	}
	return unneeded, nil
}

// isUnneeded reports whether a program runs without a section.
func isUnneeded(section *elf.Section) bool {
	if section.Flags&elf.SHF_ALLOC != 0 || section.Type == elf.SHT_NOBITS {
		return false
	}
	return section.Name == ".symtab" || section.Name == ".strtab" ||
		strings.HasPrefix(section.Name, ".debug_") || strings.HasPrefix(section.Name, ".zdebug_")
}

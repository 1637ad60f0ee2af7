// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

func TestStartFaults(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	workingDirectory, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(directory, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(pipe, 0o755); err != nil {
		t.Fatal(err)
	}
	file := func(name, content string) string { return writeFile(t, name, content, 0o755) }
	for _, test := range []struct{ name, entrypoint, want string }{
		{"not in PATH", "no-such-hook", `the program "no-such-hook" is not in PATH (` + os.Getenv("PATH") + `)`},
		{
			"arguments in the entrypoint", "sh -c true",
			`the program "sh -c true" is not in PATH (` + os.Getenv("PATH") + `); entrypoint is the program alone, its arguments belong into command`,
		},
		{"absent", directory + "/absent", `the program "` + directory + `/absent" does not exist`},
		{
			"absent, with arguments", "/absent -c true",
			`the program "/absent -c true" does not exist; entrypoint is the program alone, its arguments belong into command`,
		},
		{"absent from here", "./absent", `the program "./absent" does not exist in the working directory "` + workingDirectory + `"`},
		{"a directory", directory, `"` + directory + `" is a directory, not a program`},
		{"a pipe", pipe, `"` + pipe + `" is not a regular file, so it cannot be executed`},
		{
			"no execute bit", writeFile(t, "hook.py", "#!/bin/sh\n", 0o644),
			`"PATH" is not executable: chmod +x it, or give its interpreter as entrypoint and it as command`,
		},
		{
			"no interpreter", file("hook.py", "#! /no/such/python -u\nprint(5)\n"),
			`the interpreter "/no/such/python" in the first line of "PATH" does not exist: install it, or correct that line`,
		},
		{
			"an interpreter that is none", file("hook.py", "#!"+directory+"\n"),
			`the interpreter "` + directory + `" in the first line of "PATH" is not executable`,
		},
		{
			"a script from Windows", file("hook.py", "#!/bin/sh\r\necho 5\r\n"),
			`the first line of "PATH" ends in a carriage return, so that its interpreter is not found: save it with Unix line ends (LF)`,
		},
		{
			"a script with a byte order mark", file("hook.py", "\ufeff#!/bin/sh\n"),
			`"PATH" begins with a byte order mark, which hides its first line: save it as UTF-8 without`,
		},
		{
			"a script without a first line", file("hook.py", "print(5)\n"),
			`"PATH" is a script whose first line does not name its interpreter: begin it with, for example, #!/bin/sh`,
		},
		{"an empty file", file("hook.py", ""), `"PATH" is empty`},
		{
			"another processor", file("hook", "\x7fELF\x02\x01\x01"+strings.Repeat("\x00", 100)),
			`"PATH" was built for another processor than this machine's (` + runtime.GOARCH + `)`,
		},
		{
			"another C library", file("hook", string(withoutLoader(t))),
			`the program "PATH" is there, but the loader of its C library is not: was it built for another distribution, such as Debian's glibc on Alpine's musl?`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := newExecutor(t, shellMethod(patience, test.entrypoint), newPool(t, PoolOptions{})).Execute(t.Context(), Call{})
			failed := fault(t, err)
			want := strings.ReplaceAll(test.want, "PATH\"", test.entrypoint+"\"")
			if failed.Kind != KindStart || failed.Message != want || failed.Err == nil {
				t.Errorf("got kind %q, cause %v, message\n%s\nwant\n%s", failed.Kind, failed.Err, failed.Message, want)
			}
		})
	}
}

func TestStartFaultOfTooMuch(t *testing.T) {
	t.Parallel()
	_, err := newExecutor(t, shellMethod(patience, "true", strings.Repeat("x", 1<<20)), newPool(t, PoolOptions{})).Execute(t.Context(), Call{})
	want := `starting "true": its arguments and the environment are together longer than the system allows`
	if failed := fault(t, err); failed.Kind != KindStart || failed.Message != want {
		t.Errorf("got kind %q, message %q", failed.Kind, failed.Message)
	}
}

func TestStartFaultOfTheCurrentDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("PATH", ".")
	writeHere(t, "hook", "#!/bin/sh\n")
	_, err := newExecutor(t, shellMethod(patience, "hook"), newPool(t, PoolOptions{})).Execute(t.Context(), Call{})
	want := `the program "hook" is only found in the current directory; write it as "./hook"`
	if failed := fault(t, err); failed.Kind != KindStart || failed.Message != want {
		t.Errorf("got kind %q, message %q", failed.Kind, failed.Message)
	}
}

// withoutLoader is a program for this machine whose loader does not exist.
func withoutLoader(t *testing.T) []byte {
	t.Helper()
	own, err := os.ReadFile(self(t))
	if err != nil {
		t.Fatal(err)
	}
	const loader, header, entry = "/no/such/ld.so\x00", 64, 56
	var program bytes.Buffer
	program.Write(own[:20]) // magic, class, byte order, type, machine
	binary.LittleEndian.PutUint16(program.Bytes()[16:], 2)
	for _, field := range []any{
		uint32(1), uint64(0), uint64(header), uint64(0), uint32(0), uint16(header), uint16(entry), uint16(1), uint16(0), uint16(0), uint16(0),
		uint32(3), uint32(4), uint64(header + entry), uint64(0), uint64(0), uint64(len(loader)), uint64(len(loader)), uint64(1),
	} {
		if err := binary.Write(&program, binary.LittleEndian, field); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Fprint(&program, loader)
	return program.Bytes()
}

// writeHere writes a program into the working directory; see writeFile.
func writeHere(t *testing.T, name, content string) {
	t.Helper()
	if err := os.Rename(writeFile(t, name, content, 0o755), name); err != nil {
		t.Fatal(err)
	}
}

func FuzzShebang(f *testing.F) {
	for _, start := range []string{"", "#!", "#!/bin/sh\n", "#! /usr/bin/env python3\r\n", "#!\t \n", "\x7fELF"} {
		f.Add([]byte(start))
	}
	f.Fuzz(func(t *testing.T, start []byte) {
		interpreter := shebang(start)
		if interpreter != "" && (!bytes.HasPrefix(start, []byte("#!")) || strings.ContainsAny(interpreter, " \t\n")) {
			t.Errorf("%q names %q", start, interpreter)
		}
	})
}

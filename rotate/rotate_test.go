// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package rotate

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The story of two files that belong together.
func TestFilesAreReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		directory := t.TempDir()
		one, two := filepath.Join(directory, "one"), filepath.Join(directory, "two")
		write(t, one, "1")
		write(t, two, "1")
		made := 0
		var log bytes.Buffer
		value, err := New(slog.New(slog.NewTextHandler(&log, nil)), func(contents [][]byte) (string, error) {
			made++
			if !bytes.Equal(contents[0], contents[1]) {
				return "", errors.New("they do not match")
			}
			return string(contents[0]), nil
		}, File{Key: "one", Path: one}, File{Key: "two", Path: two})
		if err != nil {
			t.Fatal(err)
		}
		want := func(moment, want, fault string, times int) {
			t.Helper()
			got, err := value.Current()
			if got != want || (err == nil) != (fault == "") || err != nil && !strings.Contains(err.Error(), fault) {
				t.Errorf("%s: got %q, %v; want %q, %q", moment, got, err, want, fault)
			}
			if made != times {
				t.Errorf("%s: made %d times, want %d", moment, made, times)
			}
		}
		logged := func(moment string, warnings, infos int) {
			t.Helper()
			if strings.Count(log.String(), "level=WARN") != warnings || strings.Count(log.String(), "level=INFO") != infos {
				t.Errorf("%s: want %d warnings and %d lines, got\n%s", moment, warnings, infos, &log)
			}
		}
		want("at first", "1", "", 1)
		time.Sleep(lookAgain)
		want("unchanged", "1", "", 1)
		write(t, one, "2")
		want("changed, not looked at yet", "1", "", 1)
		time.Sleep(lookAgain)
		want("the first of two", "1", "they do not match", 2)
		write(t, two, "2")
		time.Sleep(lookAgain)
		want("both", "2", "", 3)
		logged("a change in two steps", 0, 1)

		for range 5 {
			write(t, two, "3")
			time.Sleep(lookAgain)
			want("broken", "2", "they do not match", 4)
		}
		logged("broken", 1, 1)
		if err := os.Remove(one); err != nil {
			t.Fatal(err)
		}
		time.Sleep(lookAgain)
		want("removed", "2", "reading one: ", 4)
		logged("still broken", 1, 1)
		write(t, one, "2")
		write(t, two, "2")
		time.Sleep(lookAgain)
		want("as they were", "2", "", 4)
		logged("put right", 1, 2)
	})
}

// Kubernetes replaces the folder of a mounted Secret, by a link to it.
func TestAMountedSecretIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		directory := t.TempDir()
		for _, version := range []string{"..1", "..2"} {
			if err := os.Mkdir(filepath.Join(directory, version), 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(directory, version, "token"), version)
		}
		data, path := filepath.Join(directory, "..data"), filepath.Join(directory, "token")
		if err := errors.Join(os.Symlink("..1", data), os.Symlink(filepath.Join("..data", "token"), path)); err != nil {
			t.Fatal(err)
		}
		value, err := New(slog.New(slog.DiscardHandler), func(contents [][]byte) (string, error) { return string(contents[0]), nil },
			File{Key: "token", Path: path})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Symlink("..2", data+"_tmp"), os.Rename(data+"_tmp", data)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(lookAgain)
		if got, err := value.Current(); got != "..2" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

func TestFaultsShowAtTheStart(t *testing.T) {
	directory := t.TempDir()
	large := filepath.Join(directory, "large")
	write(t, large, strings.Repeat("x", MaxFileBytes+1))
	for name, test := range map[string]struct{ path, want string }{
		"missing":   {filepath.Join(directory, "none"), "no such file or directory"},
		"a folder":  {directory, "is not a regular file"},
		"no end":    {"/dev/zero", "is not a regular file"},
		"too large": {large, "is larger than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			value, err := New(slog.New(slog.DiscardHandler), func([][]byte) (int, error) { return 1, nil }, File{Key: "a.key", Path: test.path})
			if err == nil || !strings.HasPrefix(err.Error(), "reading a.key: ") || !strings.Contains(err.Error(), test.want) || value != nil {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestManyLook(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, "0")
	value, err := New(slog.New(slog.DiscardHandler), func(contents [][]byte) (string, error) { return string(contents[0]), nil },
		File{Key: "file", Path: path})
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for range 100 {
				if _, err := value.Current(); err != nil {
					t.Error(err)
				}
			}
		})
		write(t, path+"_tmp", strconv.Itoa(i))
		if err := os.Rename(path+"_tmp", path); err != nil {
			t.Fatal(err)
		}
	}
	group.Wait()
}

func TestWhole(t *testing.T) {
	const block = "-----BEGIN X-----\nYQ==\n-----END X-----\n"
	for content, whole := range map[string]bool{
		"": true, "text": true, block: true, block + block: true, "a\n" + block + "b": true,
		block[:len(block)-20]: false, block + block[:20]: false,
	} {
		if err := Whole([]byte(content)); (err == nil) != whole {
			t.Errorf("%q: got %v", content, err)
		}
	}
}

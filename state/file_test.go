// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package state

import (
	"bufio"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// fileStore is a store in a folder of its own.
func fileStore(t *testing.T) (store Store, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "state.json")
	store, err := New(t.Context(), config.State{Store: config.StateFile, Path: path}, nil, "", "")
	if err != nil {
		t.Fatal(err)
	}
	return store, path
}

func save(t *testing.T, store Store, record Record) {
	t.Helper()
	if err := store.Save(t.Context(), record); err != nil {
		t.Fatal(err)
	}
}

func load(t *testing.T, store Store) Record {
	t.Helper()
	record, err := store.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return record
}

// wantFiles checks what is in the folder of the state.
func wantFiles(t *testing.T, path string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("in the folder are %q, want %q", got, want)
	}
}

func TestFile(t *testing.T) {
	store, path := fileStore(t)
	wantFiles(t, path)
	wantRecord(t, load(t, store), Record{})

	save(t, store, Record{Kept: everything().Kept, Window: everything().Window})
	save(t, store, everything())
	wantFiles(t, path, "state.json")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("the mode is %s, want 0600", info.Mode())
	}

	next, err := newFile(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	wantRecord(t, load(t, next), everything())
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	wantRecord(t, load(t, next), Record{})
}

func TestFileThatCannotBeWritten(t *testing.T) {
	folder := t.TempDir()
	regular := filepath.Join(folder, "regular")
	if err := os.WriteFile(regular, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(regular, filepath.Join(folder, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(folder, "used.try"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "used.try", "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(folder, "none", "state.json"): "no such file or directory",
		filepath.Join(regular, "state.json"):        "not a directory",
		folder:                                      "there is something else (d",
		filepath.Join(folder, "link"):               "there is something else (L",
		filepath.Join(folder, "used"):               "directory not empty",
		// Nobody, root neither, makes files there.
		"/proc/self/state.json": "/proc/self/state.json.try: ",
	} {
		_, err := New(t.Context(), config.State{Store: config.StateFile, Path: path}, nil, "", "")
		wantError(t, err, "state.path: "+path+" must be a file in a folder that exists and can be written: ")
		wantError(t, err, want)
	}
	wantFiles(t, regular, "link", "regular", "used.try")
}

func TestFileThatIsUnreadable(t *testing.T) {
	store, path := fileStore(t)
	for name, content := range map[string]string{
		"text": "hello", "newer": `{"version": 7}`, "endless": `{"version": 1, "more": "` + strings.Repeat("x", 3*maxSize) + `"}`, "empty": "",
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := store.Load(t.Context())
			if !errors.Is(err, ErrUnreadable) {
				t.Errorf("got the error %v, want ErrUnreadable", err)
			}
			wantError(t, err, "loading the state from the file "+path+": ")
			save(t, store, everything())
			wantRecord(t, load(t, store), everything())
		})
	}
}

// The folder goes away under a store, and comes back.
func TestFileWhoseFolderIsReplaced(t *testing.T) {
	store, path := fileStore(t)
	folder := filepath.Dir(path)
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	wantRecord(t, load(t, store), Record{})
	wantError(t, store.Save(t.Context(), everything()), "saving the state in the file "+path+": ")
	if err := os.WriteFile(folder, []byte("a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantError(t, store.Save(t.Context(), everything()), "not a directory")
	switch _, err := store.Load(t.Context()); {
	case errors.Is(err, ErrUnreadable):
		t.Errorf("%v: but there is no record that could be replaced", err)
	default:
		wantError(t, err, "not a directory")
	}
	if err := errors.Join(os.Remove(folder), os.Mkdir(folder, 0o700)); err != nil {
		t.Fatal(err)
	}
	save(t, store, everything())
	wantRecord(t, load(t, store), everything())
}

// A folder in place of the record is not replaced, and nothing is left.
func TestFileWhosePlaceIsTaken(t *testing.T) {
	store, path := fileStore(t)
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	wantError(t, store.Save(t.Context(), everything()), "file exists")
	wantFiles(t, path, "state.json")
}

// What lies under the temporary name is not written through: it may be a link.
func TestFileReplacesLeftovers(t *testing.T) {
	store, path := fileStore(t)
	precious := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(precious, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(precious, path+".tmp"); err != nil {
		t.Fatal(err)
	}
	save(t, store, everything())
	wantRecord(t, load(t, store), everything())
	wantFiles(t, path, "state.json")
	content, err := os.ReadFile(precious)
	if err != nil || string(content) != "precious" {
		t.Errorf("the file that the link led to holds %q, %v", content, err)
	}
}

func TestFileWithoutSpace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	if output, err := child(t, "fill", path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	wantFiles(t, path, "state.json")
	store, err := newFile(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	wantRecord(t, load(t, store), numbered(1))
}

func TestFileWhenTheContextHasEnded(t *testing.T) {
	store, path := fileStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := store.Save(ctx, everything()); !errors.Is(err, context.Canceled) {
		t.Errorf("saving: %v", err)
	}
	if _, err := store.Load(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("loading: %v", err)
	}
	wantFiles(t, path)
}

// A pipe that nobody writes to hangs as a disk does: whoever opens it waits, and
// no context helps.
func TestFileOnADiskThatHangs(t *testing.T) {
	store, path := fileStore(t)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := store.Load(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("loading: %v", err)
	}
	for range 100 {
		_, err := store.Load(t.Context())
		for _, err := range []error{err, store.Save(t.Context(), everything())} {
			if !errors.Is(err, errBusy) {
				t.Fatalf("got the error %v while the disk hangs, want errBusy", err)
			}
		}
	}

	pipe, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := pipe.Close(); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(time.Minute)
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for err := errBusy; errors.Is(err, errBusy); err = store.Save(t.Context(), everything()) {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatal("the disk works again, the store does not")
		}
	}
	wantRecord(t, load(t, store), everything())
}

func TestFileWaitsNoLongerThanItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		hanging := make(chan struct{})
		f := &file{}
		if err := f.access(t.Context(), func() error { <-hanging; return nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got the error %v", err)
		}
		if waited := time.Since(start); waited != timeout {
			t.Errorf("waited %s, want %s", waited, timeout)
		}
		if err := f.access(t.Context(), func() error { return nil }); !errors.Is(err, errBusy) {
			t.Errorf("got the error %v, want errBusy", err)
		}
		close(hanging)
		synctest.Wait()
		if err := f.access(t.Context(), func() error { return nil }); err != nil {
			t.Error(err)
		}
	})
}

// A process that saves on and on is killed 100 times, at any moment. Each time
// there is the record that it last knew to be saved, or the next, whole.
func TestFileOutlivesItsProcess(t *testing.T) {
	store, path := fileStore(t)
	leftovers := 0
	for range 100 {
		saved := killedWhileSaving(t, path)
		record := load(t, store)
		n := number(record)
		if n != saved && n != saved+1 {
			t.Fatalf("the record is number %d, saved was %d", n, saved)
		}
		wantRecord(t, record, numbered(n))
		if _, err := os.Lstat(path + ".tmp"); err == nil {
			leftovers++
		}
	}
	t.Logf("killed in %d of 100 cases between the start of a save and its end", leftovers)
	save(t, store, everything())
	wantFiles(t, path, "state.json")
}

// killedWhileSaving runs a process that saves, kills it after a few records, and
// returns the number of the last it told of.
func killedWhileSaving(t *testing.T, path string) (saved int32) {
	t.Helper()
	saving := child(t, "save", path)
	output, err := saving.StdoutPipe()
	if err == nil {
		err = saving.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(output)
	for range 1 + rand.IntN(5) { //nolint:gosec // any moment will do
		lines.Scan()
	}
	// Some microseconds later, so that it is not always just after a save.
	<-time.After(rand.N(2 * time.Millisecond)) //nolint:gosec // any moment will do
	if err := saving.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for last := lines.Text(); ; last = lines.Text() {
		n, err := strconv.ParseInt(last, 10, 32)
		if err != nil {
			t.Fatalf("it prints %q", last)
		}
		saved = int32(n)
		if !lines.Scan() {
			break
		}
	}
	_ = saving.Wait() // It was killed.
	return saved
}

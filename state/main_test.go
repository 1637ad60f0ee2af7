// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

// childEnv has the test program be a child that does something to the file
// state.json in its folder.
const childEnv = "STATE_TEST_CHILD"

func TestMain(m *testing.M) {
	act := map[string]func(*file) error{"save": saveOnAndOn, "fill": saveWithoutSpace}[os.Getenv(childEnv)]
	if act == nil {
		goleak.VerifyTestMain(m)
	}
	store, err := newFile(context.Background(), "state.json")
	if err == nil {
		err = act(store)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

func child(t *testing.T, what, path string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), self)
	command.Dir = filepath.Dir(path)
	command.Env = append(os.Environ(), childEnv+"="+what)
	return command
}

// saveOnAndOn saves the numbered records from the one after that which is there,
// and prints the number of each that is saved.
func saveOnAndOn(store *file) error {
	record, err := store.Load(context.Background())
	for n := number(record) + 1; err == nil; n++ {
		if err = store.Save(context.Background(), numbered(n)); err == nil {
			_, err = fmt.Println(n)
		}
	}
	return err
}

// saveWithoutSpace saves a record, and fails to save a larger one.
func saveWithoutSpace(store *file) error {
	if err := store.Save(context.Background(), numbered(1)); err != nil {
		return err
	}
	// A limit on the size of files stops a write in its middle as a full disk
	// does, and unlike one needs no rights.
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 1 << 10, Max: 1 << 10}); err != nil {
		return err
	}
	if err := store.Save(context.Background(), numbered(99)); !errors.Is(err, syscall.EFBIG) {
		return fmt.Errorf("saved without space: %w", err)
	}
	return nil
}

// numbered is a record that knows its number, of a size that depends on it.
func numbered(n int32) Record {
	record := Record{Version: Version, Kept: scale.Kept{Pending: &scale.Write{At: noon, From: n, To: n + 1}}}
	for i := range n % 100 {
		record.Events = append(record.Events, scale.Event{At: noon.Add(time.Duration(i) * time.Second), Change: n})
	}
	return record
}

func number(record Record) int32 {
	if record.Pending == nil {
		return 0
	}
	return record.Pending.From
}

var noon = time.Date(2026, time.June, 1, 12, 0, 0, 0, time.UTC)

// everything is a record with a value everywhere.
func everything() Record {
	return Record{
		Version: Version,
		Kept: scale.Kept{
			Intents: scale.Intents{
				Pause:    &scale.Pause{Replicas: new(int32(0)), Reason: "migration <1>"},
				Hold:     &scale.Hold{Replicas: 4, Until: noon.Add(time.Hour), Reason: "a sale"},
				Override: &bounds.Override{MinReplicas: new(int32(2)), MaxReplicas: new(int32(8)), ExpiresAt: noon, Reason: "launch"},
			},
			Events:   []scale.Event{{At: noon, Change: 3}, {At: noon.Add(time.Nanosecond), Change: -2}},
			Pending:  &scale.Write{At: noon, From: 5, To: 0},
			OwnZero:  true,
			Fallback: true,
		},
		Window: scale.Window{{At: noon, Replicas: 5, Found: true}, {At: noon.Add(time.Minute), Replicas: 3}},
	}
}

func wantRecord(t *testing.T, got, want Record) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("another record (-want +got):\n%s", diff)
	}
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got the error %v, want one with %q", err, want)
	}
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Package images builds the images, on bases made on the spot because no
// registry need be in reach, and runs autoscalers from them. It needs root,
// buildah and debootstrap.
package images

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/cluster"
)

// What `make images` is told to build.
const (
	version = "v0.0.0-test"
	tag     = "test"
)

// store is a folder with a container storage of its own, so that the tests
// neither see nor touch the images of the machine.
type store struct{ directory string }

var images store

func TestMain(m *testing.M) {
	var err error
	if images, err = newStore(); err != nil {
		fmt.Fprintln(os.Stderr, "making a container storage:", err)
		os.Exit(1)
	}
	status := cluster.Run(m)
	if err := os.RemoveAll(images.directory); err != nil {
		fmt.Fprintln(os.Stderr, "removing the container storage:", err)
		status = 1
	}
	os.Exit(status)
}

// newStore makes a storage that works on every file system, without mounts.
func newStore() (store, error) {
	directory, err := os.MkdirTemp("", "images-")
	if err != nil {
		return store{}, err
	}
	config := fmt.Sprintf("[storage]\ndriver = \"vfs\"\ngraphroot = %q\nrunroot = %q\n",
		filepath.Join(directory, "storage"), filepath.Join(directory, "run"))
	return store{directory}, os.WriteFile(filepath.Join(directory, "storage.conf"), []byte(config), 0o600)
}

// command is a program that uses this storage. Whatever it mounts is seen by it
// alone and gone with it, so that nothing of the machine lies in a folder that
// is removed later.
func (s store) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, name, args...)
	// A make above this test must not pass its flags to the one below.
	command.Env = slices.DeleteFunc(os.Environ(), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return slices.Contains([]string{"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"}, name)
	})
	command.Env = append(command.Env, "CONTAINERS_STORAGE_CONF="+filepath.Join(s.directory, "storage.conf"),
		"BUILDAH_ISOLATION=chroot", "TMPDIR="+s.directory)
	command.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	return command
}

// run runs a program to its end and returns what it prints, trimmed.
func (s store) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	command := s.command(t.Context(), name, args...)
	var stderr strings.Builder
	command.Stderr = &stderr
	output, err := command.Output()
	if err != nil {
		const most = 4000
		said := string(output) + stderr.String()
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, said[max(0, len(said)-most):])
	}
	return strings.TrimSpace(string(output))
}

func (s store) buildah(t *testing.T, args ...string) string {
	t.Helper()
	return s.run(t, "buildah", args...)
}

// make builds variants of the images on a base, as a person would.
func (s store) make(t *testing.T, base, platforms string, variants ...string) {
	t.Helper()
	s.run(t, "make", "--directory", root(t), "images", "ENGINE=buildah", "PLATFORMS="+platforms, "BASE="+base, "TAG="+tag, "VERSION="+version,
		"DIST="+filepath.Join(s.directory, "dist"), "VARIANTS="+strings.Join(variants, " "))
}

// scratch makes an image of one platform from a folder or a tar file.
func (s store) scratch(t *testing.T, image, architecture, content string) {
	t.Helper()
	container := s.buildah(t, "from", "--arch", architecture, "scratch")
	s.buildah(t, "add", "--quiet", container, content, "/")
	// Bases bring commands of their own, which must not be left.
	s.buildah(t, "config", "--entrypoint", `["/bin/entrypoint"]`, "--cmd", "interpreter", container)
	s.buildah(t, "commit", "--quiet", "--rm", container, image)
}

// container makes a container of an image and returns its name and where its
// files are.
func (s store) container(t *testing.T, image, architecture string) (name, files string) {
	t.Helper()
	name = s.buildah(t, "from", "--arch", architecture, image)
	t.Cleanup(func() {
		if err := s.command(context.WithoutCancel(t.Context()), "buildah", "rm", name).Run(); err != nil {
			t.Errorf("removing the container %s: %v", name, err)
		}
	})
	return name, s.buildah(t, "mount", name)
}

// description is what an image says of itself.
type description struct {
	Architecture string
	Config       struct {
		User       string
		Entrypoint []string
		Cmd        []string
		WorkingDir string
		Labels     map[string]string
	}
}

func (s store) inspect(t *testing.T, image string) description {
	t.Helper()
	var inspected struct{ OCIv1 description }
	if err := json.Unmarshal([]byte(s.buildah(t, "inspect", "--type", "image", image)), &inspected); err != nil {
		t.Fatalf("inspecting the image %s: %v", image, err)
	}
	return inspected.OCIv1
}

// debian makes the image localhost/debian of this machine's platform from
// Debian's packages. They are fetched once; .cache keeps what came of it.
func (s store) debian(t *testing.T) (image string) {
	t.Helper()
	const suite = "stable"
	cached := filepath.Join(root(t), ".cache", "images", "debian-"+suite+"-slim-"+runtime.GOARCH+".tar")
	if _, err := os.Stat(cached); err != nil {
		system := t.TempDir()
		s.run(t, "debootstrap", "--variant=minbase", suite, system)
		if err := os.MkdirAll(filepath.Dir(cached), 0o755); err != nil {
			t.Fatal(err)
		}
		partial := fmt.Sprintf("%s.%d", cached, os.Getpid())
		// Debian's slim images leave the same out.
		s.run(t, "tar", "--directory", system, "--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*",
			"--exclude=./usr/share/doc/*", "--exclude=./usr/share/locale/*", "--exclude=./usr/share/man/*",
			"--create", "--file", partial, ".")
		if err := os.Rename(partial, cached); err != nil {
			t.Fatal(err)
		}
	}
	s.scratch(t, "localhost/debian", runtime.GOARCH, cached)
	return "localhost/debian"
}

// root is the repository's.
func root(t *testing.T) string {
	t.Helper()
	directory, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return directory
}

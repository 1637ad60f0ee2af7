// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// CacheVariable names the environment variable that moves the cache of built
// programs out of the repository's .cache/control-plane.
const CacheVariable = "TEST_CONTROL_PLANE_CACHE"

// AssetsVariable names the environment variable of controller-runtime's envtest
// that points at a directory of ready programs. What is found there is used as
// it is, what is not is built.
const AssetsVariable = "KUBEBUILDER_ASSETS"

// binariesModule is the module that pins the programs, from the repository's
// root.
const binariesModule = "test/cluster/binaries"

// Binaries maps the name of a program of the control plane (etcd,
// kube-apiserver, kube-controller-manager, kwok, metrics-server) or of a file
// of kwok's configuration to where it lies.
type Binaries map[string]string

// part is one file of the cache: a program, or what a program prints.
type part struct {
	name string
	// module is where the version shown to the reader comes from.
	module string
	// pkg is the package to build, or with args, to run for its output.
	pkg  string
	args []string
}

// The two files of kwok's configuration.
const (
	kwokCRDs   = "kwok-crds.yaml"
	kwokStages = "kwok-stages.yaml"
)

var parts = []part{
	{name: "etcd", module: "go.etcd.io/etcd/server/v3", pkg: "go.etcd.io/etcd/server/v3"},
	{name: "kube-apiserver", module: "k8s.io/kubernetes", pkg: "k8s.io/kubernetes/cmd/kube-apiserver"},
	{name: "kube-controller-manager", module: "k8s.io/kubernetes", pkg: "k8s.io/kubernetes/cmd/kube-controller-manager"},
	{name: "kwok", module: "sigs.k8s.io/kwok", pkg: "sigs.k8s.io/kwok/cmd/kwok"},
	{name: "metrics-server", module: "sigs.k8s.io/metrics-server", pkg: "sigs.k8s.io/metrics-server/cmd/metrics-server"},
	{name: kwokCRDs, module: "sigs.k8s.io/kwok", pkg: "./kwokconfig", args: []string{"crds"}},
	{name: kwokStages, module: "sigs.k8s.io/kwok", pkg: "./kwokconfig", args: []string{"stages"}},
}

// Build returns the programs of the control plane, building those that are in
// neither the directory named by KUBEBUILDER_ASSETS nor the cache. It must be
// called from within the repository and needs only Go and a module proxy.
//
// The first build takes about ten minutes on two cores and shows on progress
// what it does and how long that took; later calls return at once. Processes
// that build at the same time wait for one another. Cancelling ctx ends a
// build; what was built until then is kept.
func Build(ctx context.Context, progress io.Writer) (Binaries, error) {
	root, err := repositoryRoot()
	if err != nil {
		return nil, err
	}
	builder, err := newBuilder(root, progress)
	if err != nil {
		return nil, err
	}
	return builder.build(ctx)
}

// repositoryRoot walks up from the working directory, which for a test is the
// directory of its package.
func repositoryRoot() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the repository: %w", err)
	}
	for directory := start; ; directory = filepath.Dir(directory) {
		if _, err := os.Stat(filepath.Join(directory, binariesModule, "go.mod")); err == nil {
			return directory, nil
		}
		if directory == filepath.Dir(directory) {
			return "", fmt.Errorf("finding the repository: no %s in %s or above it; run this from within the repository", binariesModule, start)
		}
	}
}

// builder builds into one directory of the cache.
type builder struct {
	module   string
	cache    string
	versions map[string]string
	flags    []string
	progress io.Writer
}

func newBuilder(root string, progress io.Writer) (*builder, error) {
	if progress == nil {
		progress = io.Discard
	}
	module := filepath.Join(root, binariesModule)
	goMod, err := os.ReadFile(filepath.Join(module, "go.mod"))
	if err != nil {
		return nil, fmt.Errorf("reading the pinned versions: %w", err)
	}
	b := &builder{module: module, versions: pinnedVersions(goMod), progress: progress}
	b.flags = linkerFlags(b.versions["k8s.io/kubernetes"])
	key, err := b.key()
	if err != nil {
		return nil, err
	}
	cache := os.Getenv(CacheVariable)
	if cache == "" {
		cache = filepath.Join(root, ".cache", "control-plane")
	}
	b.cache, err = filepath.Abs(filepath.Join(cache, key))
	if err != nil {
		return nil, fmt.Errorf("finding the cache: %w", err)
	}
	return b, nil
}

var requirement = regexp.MustCompile(`(?m)^(?:require |\t)(\S+) (v\S+)`)

// pinnedVersions reads the module versions that a go.mod requires.
func pinnedVersions(goMod []byte) map[string]string {
	versions := map[string]string{}
	for _, match := range requirement.FindAllSubmatch(goMod, -1) {
		versions[string(match[1])] = string(match[2])
	}
	return versions
}

// linkerFlags strips the programs and gives those of Kubernetes their version,
// without which they call themselves v0.0.0-master and clients cannot parse it.
func linkerFlags(version string) []string {
	const variable = " -X k8s.io/component-base/version."
	major, rest, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	minor, _, _ := strings.Cut(rest, ".")
	return []string{
		"-mod=readonly", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w" + variable + "gitVersion=" + version + variable + "gitMajor=" + major + variable + "gitMinor=" + minor,
	}
}

// key names the cache directory by everything that decides what is built, so
// that a changed pin never meets an old program.
func (b *builder) key() (string, error) {
	sum := sha256.New()
	for _, name := range []string{"go.mod", "go.sum", "kwokconfig/main.go"} {
		content, err := os.ReadFile(filepath.Join(b.module, name))
		if err != nil {
			return "", fmt.Errorf("reading the pinned versions: %w", err)
		}
		_, _ = fmt.Fprintf(sum, "%s %d\n%s", name, len(content), content) // A hash takes everything.
	}
	_, _ = fmt.Fprintln(sum, b.flags)
	platform := runtime.GOOS + "-" + runtime.GOARCH
	return b.versions["k8s.io/kubernetes"] + "-" + platform + "-" + hex.EncodeToString(sum.Sum(nil))[:12], nil
}

// build finds or builds every part, holding the cache's lock only where
// something is missing.
func (b *builder) build(ctx context.Context) (Binaries, error) {
	binaries, missing := b.find()
	if len(missing) == 0 {
		return binaries, nil
	}
	if _, err := exec.LookPath("go"); err != nil {
		return nil, fmt.Errorf("building %s: the go command is not in PATH; install Go, or point %s at ready programs",
			missing[0].name, AssetsVariable)
	}
	if err := os.MkdirAll(b.cache, 0o755); err != nil {
		return nil, fmt.Errorf("making the cache: %w", err)
	}
	held, err := lock(ctx, filepath.Join(b.cache, "lock"), func() {
		say(b.progress, "waiting for another process that builds the control plane")
	})
	if err != nil {
		return nil, err
	}
	defer held.Close() //nolint:errcheck // Closing ends the lock, whatever it returns.
	_, missing = b.find()
	for i, a := range missing {
		if err := b.buildOne(ctx, a, i+1, len(missing)); err != nil {
			return nil, err
		}
	}
	binaries, _ = b.find()
	return binaries, nil
}

// find returns the parts that exist and those that must be built.
func (b *builder) find() (found Binaries, missing []part) {
	found = Binaries{}
	for _, a := range parts {
		for _, directory := range []string{os.Getenv(AssetsVariable), b.cache} {
			file := filepath.Join(directory, a.name)
			if info, err := os.Stat(file); directory != "" && err == nil && info.Mode().IsRegular() {
				found[a.name] = file
				break
			}
		}
		if found[a.name] == "" {
			missing = append(missing, a)
		}
	}
	return found, missing
}

// buildOne writes one part beside its place and renames it, so that a file
// under its final name is always whole.
func (b *builder) buildOne(ctx context.Context, a part, position, total int) error {
	start := time.Now()
	title := fmt.Sprintf("%s %s (%d of %d)", a.name, b.versions[a.module], position, total)
	say(b.progress, "building %s", title)
	stop := b.showElapsed(a.name, start)
	partial := filepath.Join(b.cache, "."+a.name+".partial")
	err := b.goCommand(ctx, a, partial)
	stop()
	if err == nil {
		err = os.Rename(partial, filepath.Join(b.cache, a.name))
	}
	if err != nil {
		return fmt.Errorf("building %s: %w", title, err)
	}
	say(b.progress, "built %s in %s", a.name, time.Since(start).Round(time.Second))
	return nil
}

// goCommand builds the program a into file, or runs it and keeps its output
// there.
func (b *builder) goCommand(ctx context.Context, a part, file string) error {
	verb, rest := "build", []string{"-o", file, a.pkg}
	if a.args != nil {
		verb, rest = "run", append([]string{a.pkg}, a.args...)
	}
	arguments := slices.Concat([]string{verb, "-C", b.module}, b.flags, rest)
	command := exec.CommandContext(ctx, "go", arguments...)
	// GOFLAGS and a workspace of the caller's must not change what is built
	// under this key.
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=", "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGINT) }
	command.WaitDelay = 10 * time.Second
	var output, messages bytes.Buffer
	command.Stdout, command.Stderr = &output, &messages
	if err := command.Run(); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("it was cut short (%w); run `go run ./test/cmd/cluster build`, which has no deadline, and try again", context.Cause(ctx))
		}
		return fmt.Errorf("go %s: %w: %s", verb, err, tail(messages.Bytes(), 4096))
	}
	if a.args != nil {
		return os.WriteFile(file, output.Bytes(), 0o644)
	}
	return nil
}

// showElapsed shows every ten seconds that a build is still going on, until
// the function it returns is called.
func (b *builder) showElapsed(name string, start time.Time) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(10 * time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				say(b.progress, "  still building %s, %s", name, time.Since(start).Round(time.Second))
			case <-done:
				return
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

// lock takes the lock of a file, which is held until the file is closed or the
// process ends, however that ends. It calls waiting once if it has to wait.
func lock(ctx context.Context, file string, waiting func()) (*os.File, error) {
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		locked, err := tryLock(file)
		if err != nil {
			return nil, err
		}
		if locked != nil {
			return locked, nil
		}
		if waiting != nil {
			waiting()
			waiting = nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the lock %s: %w", file, context.Cause(ctx))
		}
	}
}

// tryLock takes the lock of a file as lock does, and returns nil if somebody
// else holds it.
func tryLock(file string) (*os.File, error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("locking: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return f, nil
	}
	_ = f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
		return nil, nil
	}
	return nil, fmt.Errorf("locking %s: %w", file, err)
}

// say shows a line of progress. That nobody reads it stops nothing.
func say(progress io.Writer, format string, arguments ...any) {
	_, _ = fmt.Fprintf(progress, format+"\n", arguments...)
}

// tail returns the last lines of a text, at most limit bytes of them.
func tail(text []byte, limit int) string {
	text = bytes.TrimSpace(text)
	if len(text) <= limit {
		return string(text)
	}
	text = text[len(text)-limit:]
	if _, rest, found := bytes.Cut(text, []byte("\n")); found {
		text = rest
	}
	return "... " + string(text)
}

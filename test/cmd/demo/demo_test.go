// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/cluster"
)

// patience is how long a test waits for what should come soon.
const patience = 4 * time.Minute

// asDemo is the environment variable with which the test's own program is the
// demo.
const asDemo = "DEMO_TEST_IS_THE_DEMO"

func TestMain(m *testing.M) {
	if os.Getenv(asDemo) != "" {
		main()
	}
	// Demos take their time and little else, so all may go on side by side.
	if err := flag.Set("test.parallel", "8"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	cluster.Main(m)
}

// show is a demo that runs. All that it makes on this machine is in a
// temporary folder of its own, so that one sees what it leaves.
type show struct {
	t       *testing.T
	command *exec.Cmd
	temp    string
	ended   chan struct{}

	mutex          sync.Mutex
	stdout, stderr bytes.Buffer
	changed        chan struct{}
}

// begin starts a demo and kills it when the test ends.
func begin(t *testing.T, args ...string) *show {
	t.Helper()
	return beginInto(t, nil, args...)
}

// beginInto starts one that writes elsewhere.
func beginInto(t *testing.T, elsewhere *os.File, args ...string) *show {
	t.Helper()
	file, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	d := &show{t: t, temp: t.TempDir(), ended: make(chan struct{}), changed: make(chan struct{})}
	d.command = exec.Command(file, args...) //nolint:noctx // It is stopped by signals.
	d.command.Env = append(os.Environ(), asDemo+"=1", "TMPDIR="+d.temp)
	d.command.Stdout, d.command.Stderr = writer{d, &d.stdout}, writer{d, &d.stderr}
	if elsewhere != nil {
		d.command.Stdout = elsewhere
	}
	d.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := d.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(d.ended)
		_ = d.command.Wait()
	}()
	t.Cleanup(func() {
		_ = d.command.Process.Kill()
		<-d.ended
		if t.Failed() {
			t.Logf("the demo said:\n%s\n%s", d.stdout.String(), d.stderr.String())
		}
	})
	return d
}

// writer notes what the demo says.
type writer struct {
	show *show
	into *bytes.Buffer
}

func (w writer) Write(p []byte) (int, error) {
	w.show.mutex.Lock()
	defer w.show.mutex.Unlock()
	w.into.Write(p)
	close(w.show.changed)
	w.show.changed = make(chan struct{})
	return len(p), nil
}

// waitFor waits until the demo said what matches.
func (d *show) waitFor(pattern string) {
	d.t.Helper()
	wanted := regexp.MustCompile(pattern)
	timeout := time.After(patience)
	for {
		d.mutex.Lock()
		said, changed := wanted.Match(d.stdout.Bytes()), d.changed
		d.mutex.Unlock()
		if said {
			return
		}
		select {
		case <-changed:
		case <-d.ended:
			d.t.Fatalf("the demo ended before it said %s", pattern)
		case <-timeout:
			d.t.Fatalf("the demo did not say %s", pattern)
		}
	}
}

// signal sends a signal to the demo alone.
func (d *show) signal(signal os.Signal) {
	d.t.Helper()
	if err := d.command.Process.Signal(signal); err != nil {
		d.t.Fatal(err)
	}
}

// endsWith waits for the end and checks the exit status, and that the machine
// is as it was.
func (d *show) endsWith(status int) {
	d.t.Helper()
	select {
	case <-d.ended:
	case <-time.After(patience):
		d.t.Fatal("the demo does not end")
	}
	if got := d.command.ProcessState.ExitCode(); got != status {
		d.t.Errorf("the exit status is %d, want %d", got, status)
	}
	d.leavesNothing()
}

// killRuntime kills the program that the demo is about.
func (d *show) killRuntime() {
	d.t.Helper()
	found, err := processes(d.temp)
	if err != nil {
		d.t.Fatal(err)
	}
	for pid, arguments := range found {
		if strings.Contains(arguments, "/custom-pod-autoscaler --config") {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				d.t.Fatal(err)
			}
		}
	}
}

// leavesNothing waits for what was killed to be gone, which takes a moment.
func (d *show) leavesNothing() {
	d.t.Helper()
	eventually(d.t, "nothing to be left on this machine", func(context.Context) error {
		files, err := os.ReadDir(d.temp)
		if err == nil && len(files) > 0 {
			err = fmt.Errorf("there is %s", files[0].Name())
		}
		return errors.Join(err, noProcess(d.temp))
	})
}

// noProcess fails if a process has to do with a folder.
func noProcess(folder string) error {
	found, err := processes(folder)
	for pid, arguments := range found {
		err = errors.Join(err, fmt.Errorf("there is the process %d: %s", pid, arguments))
	}
	return err
}

// processes finds those with a folder in their arguments or, where there is
// /proc, as their working directory.
func processes(folder string) (found map[int]string, err error) {
	found = map[int]string{}
	entries, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		// One that has ended by now cannot be read.
		arguments, _ := os.ReadFile(filepath.Join(entry, "cmdline"))
		directory, _ := os.Readlink(filepath.Join(entry, "cwd"))
		if pid, err := strconv.Atoi(filepath.Base(entry)); err == nil && (bytes.Contains(arguments, []byte(folder)) || strings.HasPrefix(directory, folder)) {
			found[pid] = strings.ReplaceAll(string(arguments), "\x00", " ")
		}
	}
	if len(entries) > 0 {
		return found, nil
	}
	list, err := exec.Command("ps", "-A", "-o", "pid=,args=").Output() //nolint:noctx // It does not wait.
	for entry := range strings.Lines(string(list)) {
		text, arguments, _ := strings.Cut(strings.TrimSpace(entry), " ")
		if pid, err := strconv.Atoi(text); err == nil && strings.Contains(arguments, folder) {
			found[pid] = arguments
		}
	}
	return found, err
}

// eventually polls until the probe succeeds.
func eventually(t *testing.T, what string, probe func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := poll(ctx, &screen{}, what, probe); err != nil {
		t.Fatal(err)
	}
}

// noNamespace checks that the demos leave no namespace.
func noNamespace(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	eventually(t, "the demos' namespaces to be gone", func(ctx context.Context) error {
		namespaces, err := c.Client().CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, namespace := range namespaces.Items {
			if strings.HasPrefix(namespace.Name, namespacePrefix) {
				return fmt.Errorf("there is %s, %s", namespace.Name, namespace.Status.Phase)
			}
		}
		return nil
	})
}

// TestDemo watches one from its beginning to its end, as `make demo` runs it.
func TestDemo(t *testing.T) {
	t.Parallel()
	d := begin(t, "--duration", "30s")
	d.endsWith(0)
	said := d.stdout.String()
	for _, pattern := range []string{
		`==> Starting a Kubernetes control plane`,
		`(?m)^time +load +measured +wanted +decided +ready +pods +why$`,
		`(?m)^0:\d\d +\d+m +\d+m +1 +2 +2 [█┃]+·+ evaluated 1, raised to 2 \(minReplicas is 2\)$`,
		`(?m)^0:\d\d +\d+m +\d+m +(\d+) +2 → \d +2 .* evaluated \d$`,
		`somebody else: kubectl scale deployment web --replicas=2`,
		`somebody asks: POST /api/v1/evaluation\?dry_run=true`,
		`it answers \{"targetReplicas":\d+\}, and the Deployment stays at \d+`,
		`runs +\d+, of which 0 failed`,
		`scalings +[1-9]\d* written: [1-9]\d* up, \d+ down; and 1 by somebody else`,
		`the runtime +used \S+ of CPU time, hooks included, and [1-9]\d* MiB of memory`,
	} {
		if !regexp.MustCompile(pattern).MatchString(said) {
			t.Errorf("it does not say %s", pattern)
		}
	}
	if strings.Contains(said, "\x1b") {
		t.Error("there are escape sequences in what is no terminal")
	}
	for text := range strings.Lines(said) {
		if len([]rune(text)) > lineLength+1 {
			t.Errorf("this line is too long: %s", text)
		}
	}
	if d.stderr.Len() > 0 {
		t.Errorf("it complains: %s", &d.stderr)
	}
}

// TestOwnCluster runs demos on a cluster that was there before, and ends them
// in every way.
func TestOwnCluster(t *testing.T) {
	c := cluster.ForTest(t)
	t.Run("demos", func(t *testing.T) {
		for name, at := range map[string]string{
			"interrupted while it prepares": `Creating the Deployment`,
			"interrupted while it waits":    `Waiting for metrics-server`,
			"interrupted while it shows":    `evaluated 1`,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				d := begin(t, "--kubeconfig", c.KubeconfigFile())
				d.waitFor(at)
				d.signal(os.Interrupt)
				d.endsWith(exitInterrupted)
			})
		}
		t.Run("interrupted twice", func(t *testing.T) {
			t.Parallel()
			d := begin(t, "--kubeconfig", c.KubeconfigFile())
			d.waitFor(`evaluated 1`)
			d.signal(os.Interrupt)
			d.waitFor(`Deleting the namespace`)
			d.signal(os.Interrupt)
			<-d.ended
			d.leavesNothing()
			// But the namespace, whose end nobody waits for, or asks for.
			name := regexp.MustCompile(namespacePrefix + `\w+`).FindString(d.stdout.String())
			err := c.Client().CoreV1().Namespaces().Delete(t.Context(), name, metav1.DeleteOptions{})
			if err != nil && !apierrors.IsNotFound(err) {
				t.Error(err)
			}
		})
		t.Run("whose runtime somebody kills", func(t *testing.T) {
			t.Parallel()
			d := begin(t, "--kubeconfig", c.KubeconfigFile())
			d.waitFor(`evaluated 1`)
			d.killRuntime()
			d.endsWith(exitFailed)
			want := regexp.MustCompile(`^demo: the runtime ended by itself\nthe runtime ended: signal: killed; the end of the runtime's log:\n(\{.*\}\n)+$`)
			if got := d.stderr.Bytes(); !want.Match(got) {
				t.Errorf("it says %s", got)
			}
		})
		t.Run("to its end", func(t *testing.T) {
			t.Parallel()
			d := begin(t, "--kubeconfig", c.KubeconfigFile(), "--duration", "12s")
			d.endsWith(0)
		})
		t.Run("nobody reads, as with `make demo | head`", func(t *testing.T) {
			t.Parallel()
			read, write, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			_ = read.Close()
			d := beginInto(t, write, "--kubeconfig", c.KubeconfigFile())
			_ = write.Close()
			d.endsWith(exitInterrupted)
		})
	})
	noNamespace(t, c)
}

// TestInterruptedWhileStarting ends it while the control plane starts.
func TestInterruptedWhileStarting(t *testing.T) {
	t.Parallel()
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		d := begin(t)
		d.waitFor(`Starting a Kubernetes control plane`)
		eventually(t, "the control plane's directory", func(context.Context) error {
			if found, err := filepath.Glob(filepath.Join(d.temp, "control-plane-*")); err != nil || len(found) == 0 {
				return fmt.Errorf("there is none (%w)", err)
			}
			return nil
		})
		d.signal(signal)
		d.endsWith(exitInterrupted)
	}
}

// TestKilled kills it on a control plane of its own while the runtime runs:
// nobody is left to clean up but the guards.
func TestKilled(t *testing.T) {
	t.Parallel()
	d := begin(t)
	d.waitFor(`evaluated 1`)
	d.signal(os.Kill)
	<-d.ended
	d.leavesNothing()
}

func TestClusterWithoutMetrics(t *testing.T) {
	t.Parallel()
	c, err := cluster.Start(t.Context(), cluster.Options{WithoutMetrics: true, WithoutPods: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	d := begin(t, "--kubeconfig", c.KubeconfigFile())
	d.endsWith(exitFailed)
	want := "demo: the cluster does not serve metrics.k8s.io/v1beta1: install metrics-server (https://github.com/kubernetes-sigs/metrics-server)\n"
	if got := d.stderr.String(); got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
	noNamespace(t, c)
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Package acceptance tells the product's behaviour as timelines: the real
// program, against a real control plane, with hooks that are real programs.
package acceptance

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/cluster"
)

// patience is how long a test waits for what should come soon.
const patience = 60 * time.Second

// built is the folder of the program that is tested.
var built string

func TestMain(m *testing.M) {
	var err error
	if built, err = os.MkdirTemp("", "custom-pod-autoscaler-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := cluster.Run(m)
	_ = os.RemoveAll(built)
	os.Exit(status)
}

// program builds the program once.
var program = sync.OnceValues(func() (string, error) {
	file := filepath.Join(built, "custom-pod-autoscaler")
	args := []string{"build", "-o", file}
	if raceDetector {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "github.com/custom-pod-autoscaler/custom-pod-autoscaler/cmd/custom-pod-autoscaler")...)
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the program: %w\n%s", err, output)
	}
	return file, nil
})

// process is the program, running.
type process struct {
	t       testing.TB
	command *exec.Cmd
	// ended is closed when it has ended; state is set by then.
	ended chan struct{}

	mu      sync.Mutex
	lines   []string
	changed chan struct{}
}

// settings are how the program is started.
type settings struct {
	// cluster and namespace are where the target is.
	cluster   *cluster.Cluster
	namespace string
	// kubeconfig is used instead of the administrator's.
	kubeconfig string
	// config is the configuration file, environment what is set besides.
	config      string
	environment []string
}

// start starts the program and kills it when the test ends. Its hooks run in
// a folder of their own.
func start(t testing.TB, s settings) *process {
	t.Helper()
	file, err := program()
	if err != nil {
		t.Fatal(err)
	}
	directory := t.TempDir()
	config := filepath.Join(directory, "config.yaml")
	write(t, config, s.config)
	if s.kubeconfig == "" {
		s.kubeconfig = s.cluster.KubeconfigFile()
	}
	p := &process{t: t, ended: make(chan struct{}), changed: make(chan struct{})}
	p.command = exec.Command(file, "--config", config, "--kubeconfig", s.kubeconfig) //nolint:noctx // it is stopped by signals
	p.command.Dir = directory
	p.command.Env = append(os.Environ(), "namespace="+s.namespace, "interval=300", `apiConfig={"enabled":true,"host":"127.0.0.1","port":0}`)
	p.command.Env = append(p.command.Env, s.environment...)
	p.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stderr, err := p.command.StderrPipe()
	if err == nil {
		err = p.command.Start()
	}
	if err != nil {
		t.Fatalf("starting the program: %v", err)
	}
	go func() {
		defer close(p.ended)
		p.collect(stderr)
		_ = p.command.Wait()
	}()
	t.Cleanup(func() {
		// Asked to end, it takes its hooks with it.
		_ = p.command.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.ended:
		case <-time.After(10 * time.Second):
			_ = p.command.Process.Kill()
			<-p.ended
		}
		if t.Failed() {
			t.Logf("the program's log:\n%s", strings.Join(p.log(), "\n"))
		}
	})
	return p
}

func (p *process) collect(from io.Reader) {
	scanner := bufio.NewScanner(from)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		p.mu.Lock()
		p.lines = append(p.lines, scanner.Text())
		close(p.changed)
		p.changed = make(chan struct{})
		p.mu.Unlock()
	}
	_, _ = io.Copy(io.Discard, from)
}

// log is what it logged so far.
func (p *process) log() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.lines...)
}

// mark is a place in the log: what comes after it is new.
func (p *process) mark() int { return len(p.log()) }

// waitForLine waits for a line after the mark that matches, and returns it.
func (p *process) waitForLine(mark int, pattern string) string {
	p.t.Helper()
	wanted := regexp.MustCompile(pattern)
	timeout := time.After(patience)
	for {
		p.mu.Lock()
		lines, changed := p.lines[mark:], p.changed
		p.mu.Unlock()
		for _, line := range lines {
			if wanted.MatchString(line) {
				return line
			}
		}
		mark += len(lines)
		select {
		case <-changed:
		case <-p.ended:
			p.t.Fatalf("the program ended before it logged %s", pattern)
		case <-timeout:
			p.t.Fatalf("no log line %s", pattern)
		}
	}
}

// stop sends the signal, waits for the end, and returns the exit status and
// how long it took.
func (p *process) stop(signal syscall.Signal) (status int, took time.Duration) {
	p.t.Helper()
	began := time.Now()
	if err := p.command.Process.Signal(signal); err != nil {
		p.t.Fatalf("signalling the program: %v", err)
	}
	return p.waitForEnd(), time.Since(began)
}

// waitForEnd waits for the program to end by itself.
func (p *process) waitForEnd() (status int) {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatal("the program does not end")
	}
	return p.command.ProcessState.ExitCode()
}

var addressInLog = regexp.MustCompile(`Serving the REST API".* address=(\S+)`)

// request makes a request to its REST API.
func (p *process) request(method, path string) (status int, body string) {
	p.t.Helper()
	address := addressInLog.FindStringSubmatch(p.waitForLine(0, addressInLog.String()))[1]
	request, err := http.NewRequestWithContext(p.t.Context(), method, "http://"+address+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return response.StatusCode, string(content)
}

// file is the path of a file in the folder its hooks run in.
func (p *process) file(name string) string { return filepath.Join(p.command.Dir, name) }

// wants has the hooks of wantsConfig ask for an evaluation.
func (p *process) wants(evaluation string) {
	p.t.Helper()
	write(p.t, p.file("new"), evaluation)
	if err := os.Rename(p.file("new"), p.file("wanted")); err != nil {
		p.t.Fatal(err)
	}
}

// touch makes an empty file that a hook waits for.
func (p *process) touch(name string) {
	p.t.Helper()
	write(p.t, p.file(name), "")
}

// waitForFile waits until a hook made a file.
func (p *process) waitForFile(name string) {
	p.t.Helper()
	eventually(p.t, "the file "+name, func(context.Context) error {
		_, err := os.Stat(p.file(name))
		return err
	})
}

func write(t testing.TB, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// eventually polls until the probe succeeds.
func eventually(t testing.TB, what string, probe func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := probe(ctx)
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("waiting for %s: %v", what, err)
		}
	}
}

// wantsConfig is an autoscaler whose evaluation is what the file `wanted` in
// the hooks' folder holds, by default nothing.
func wantsConfig(more string) string {
	return `
scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
metric:
  type: shell
  shell: {entrypoint: echo, command: ["5"]}
evaluate:
  type: shell
  shell: {entrypoint: cat, command: [wanted]}
` + more
}

// deployment is a Deployment with running pods.
type deployment struct {
	t         testing.TB
	cluster   *cluster.Cluster
	client    kubernetes.Interface
	namespace string
}

// deploy makes the Deployment web in a namespace of the test's own.
func deploy(t testing.TB, c *cluster.Cluster, replicas int32) deployment {
	t.Helper()
	d := deployment{t: t, cluster: c, client: c.Client(), namespace: c.Namespace(t)}
	if err := c.Deploy(t.Context(), d.namespace, cluster.Workload{Name: "web", Replicas: replicas}); err != nil {
		t.Fatal(err)
	}
	return d
}

// start starts the program for it.
func (d deployment) start(config string, environment ...string) *process {
	d.t.Helper()
	return start(d.t, settings{cluster: d.cluster, namespace: d.namespace, config: config, environment: environment})
}

// replicas is the count it asks for.
func (d deployment) replicas() int32 {
	d.t.Helper()
	scale, err := d.client.AppsV1().Deployments(d.namespace).GetScale(d.t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		d.t.Fatal(err)
	}
	return scale.Spec.Replicas
}

// scale changes the count by hand.
func (d deployment) scale(replicas int32) {
	d.t.Helper()
	_, err := d.client.AppsV1().Deployments(d.namespace).UpdateScale(d.t.Context(), "web", &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: d.namespace}, Spec: autoscalingv1.ScaleSpec{Replicas: replicas},
	}, metav1.UpdateOptions{})
	if err != nil {
		d.t.Fatal(err)
	}
}

// waitForReplicas waits until it asks for the count.
func (d deployment) waitForReplicas(want int32) {
	d.t.Helper()
	eventually(d.t, fmt.Sprintf("%d replicas", want), func(ctx context.Context) error {
		scale, err := d.client.AppsV1().Deployments(d.namespace).GetScale(ctx, "web", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if scale.Spec.Replicas != want {
			return fmt.Errorf("there are %d", scale.Spec.Replicas)
		}
		return nil
	})
}

func read(t testing.TB, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/cluster"
)

// patience is how long a test waits for what should come soon.
const patience = 60 * time.Second

// The Deployment that is scaled, from how many replicas to how many.
const (
	deployment = "web"
	before     = 1
	after      = 3
)

// An autoscaler as people build it runs in its image with nothing but what a
// pod gives it, scales, and ends well when it is told to.
func TestAutoscaler(t *testing.T) {
	control := cluster.ForTest(t)
	images.make(t, images.debian(t), "linux/"+runtime.GOARCH, "debian-slim")
	const image = "custom-pod-autoscaler/debian-slim:" + tag
	asRoot := build(t, image, "Dockerfile")

	t.Run("as root", func(t *testing.T) {
		c := newContainer(t, control, asRoot)
		c.start(images.command(t.Context(), "buildah", append(c.buildahRun(), "/app/custom-pod-autoscaler")...))
		c.scales("0 in /app wants 3")
		c.ends()
	})
	t.Run("not as root", func(t *testing.T) {
		c := newContainer(t, control, build(t, image+"-nonroot", "nonroot.Dockerfile"))
		c.start(images.command(t.Context(), "buildah", append(c.buildahRun(), "/app/custom-pod-autoscaler")...))
		c.scales("65532 in /app wants 3")
		c.ends()
	})
	t.Run("as the first process", func(t *testing.T) {
		c := newContainer(t, control, asRoot)
		c.start(c.firstProcess(t.Context()))
		c.scales("0 in /app wants 3")
		c.reaps()
		c.ends()
	})
}

// build builds a user's image on one of ours.
func build(t *testing.T, from, dockerfile string) (image string) {
	t.Helper()
	const context = "testdata/autoscaler"
	image = "localhost/" + strings.ToLower(dockerfile)
	images.buildah(t, "build", "--build-arg", "FROM="+from, "--tag", image, "--file", filepath.Join(context, dockerfile), context)
	return image
}

// container is an autoscaler's container.
type container struct {
	t         *testing.T
	cluster   *cluster.Cluster
	namespace string
	name      string
	files     string

	command *exec.Cmd
	output  output
	ended   chan struct{}
}

// newContainer makes a container of a user's image, and in a namespace of its
// own a Deployment and a service account that may scale it.
func newContainer(t *testing.T, control *cluster.Cluster, image string) *container {
	t.Helper()
	c := &container{t: t, cluster: control, namespace: control.Namespace(t), ended: make(chan struct{})}
	c.name, c.files = images.container(t, image, runtime.GOARCH)
	if err := control.Deploy(t.Context(), c.namespace, cluster.Workload{Name: deployment, Replicas: before}); err != nil {
		t.Fatal(err)
	}
	c.allow("autoscaler")
	c.writeCredentials("autoscaler")
	return c
}

// allow gives a service account the least that an autoscaler needs.
func (c *container) allow(account string) {
	c.t.Helper()
	meta := metav1.ObjectMeta{Name: account}
	role := &rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{"apps"}, Resources: []string{"deployments"}, Verbs: []string{"get"}},
		{APIGroups: []string{"apps"}, Resources: []string{"deployments/scale"}, Verbs: []string{"get", "patch"}},
	}}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: meta,
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: account},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Name: account}},
	}
	rbac := c.cluster.Client().RbacV1()
	if _, err := rbac.Roles(c.namespace).Create(c.t.Context(), role, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
	if _, err := rbac.RoleBindings(c.namespace).Create(c.t.Context(), binding, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

// writeCredentials writes the files that Kubernetes mounts into a pod.
func (c *container) writeCredentials(account string) {
	c.t.Helper()
	token, err := c.cluster.ServiceAccountToken(c.t.Context(), c.namespace, account)
	if err != nil {
		c.t.Fatal(err)
	}
	authority, err := os.ReadFile(c.cluster.CAFile())
	if err != nil {
		c.t.Fatal(err)
	}
	// Debian's /var/run is a link to /run.
	directory := filepath.Join(c.files, "run", "secrets", "kubernetes.io", "serviceaccount")
	if err := os.MkdirAll(directory, 0o755); err != nil {
		c.t.Fatal(err)
	}
	for name, content := range map[string]string{"token": token, "ca.crt": string(authority), "namespace": c.namespace} {
		if err := os.WriteFile(filepath.Join(directory, name), []byte(content), 0o644); err != nil {
			c.t.Fatal(err)
		}
	}
}

// environment is what Kubernetes and the operator set.
func (c *container) environment() []string {
	host, port := c.cluster.Address()
	return []string{
		"KUBERNETES_SERVICE_HOST=" + host, "KUBERNETES_SERVICE_PORT=" + port,
		`scaleTargetRef={"apiVersion":"apps/v1","kind":"Deployment","name":"` + deployment + `"}`, "namespace=" + c.namespace,
	}
}

// buildahRun are buildah's arguments to run something in the container, on the
// machine's network and among its processes.
func (c *container) buildahRun() []string {
	args := []string{"run"}
	for _, variable := range c.environment() {
		args = append(args, "--env", variable)
	}
	return append(args, c.name, "--")
}

// firstProcess runs the image's command on the container's files as what it is
// in a pod: the first process of its own process namespace.
func (c *container) firstProcess(ctx context.Context) *exec.Cmd {
	command := exec.CommandContext(ctx, "/bin/sh", "-c", "mount -t proc proc /proc && exec /app/custom-pod-autoscaler")
	command.Dir = "/app"
	command.Env = append(c.environment(), "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	command.SysProcAttr = &syscall.SysProcAttr{
		Chroot: c.files, Cloneflags: syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS,
	}
	return command
}

// start starts the container's process, and ends it when the test ends.
func (c *container) start(command *exec.Cmd) {
	c.t.Helper()
	c.command = command
	command.Stdout, command.Stderr = &c.output, &c.output
	if err := command.Start(); err != nil {
		c.t.Fatal(err)
	}
	go func() {
		defer close(c.ended)
		_ = command.Wait()
	}()
	c.t.Cleanup(func() {
		if program := c.program(); program != 0 {
			_ = syscall.Kill(program, syscall.SIGKILL)
		}
		_ = command.Process.Kill()
		<-c.ended
		if c.t.Failed() {
			c.t.Logf("the log of the container:\n%s", c.output.String())
		}
	})
}

// scales waits until the Deployment has the wanted replicas, and looks at what
// the hooks told each other.
func (c *container) scales(want string) {
	c.t.Helper()
	if err := c.cluster.WaitForReplicas(c.t.Context(), c.namespace, deployment, after); err != nil {
		c.t.Fatal(err)
	}
	var given struct{ Metrics []struct{ Value string } }
	eventually(c.t, "what evaluate was given", func() error {
		// The hook may be writing the file anew just now.
		content, err := os.ReadFile(filepath.Join(c.files, "tmp", "given"))
		if err != nil {
			return err
		}
		return json.Unmarshal(content, &given)
	})
	if len(given.Metrics) != 1 || given.Metrics[0].Value != want {
		c.t.Errorf("evaluate was given the metrics %+v, want the one value %q", given.Metrics, want)
	}
}

// reaps waits until the hooks have left some orphans, and none of those that
// ended is left to the container's first process.
func (c *container) reaps() {
	c.t.Helper()
	eventually(c.t, "a few orphans that ended and were reaped", func() error {
		orphans, err := os.ReadFile(filepath.Join(c.files, "tmp", "orphans"))
		if count := strings.Count(string(orphans), "\n"); err != nil || count < 5 {
			return fmt.Errorf("%d orphans so far (%w)", count, err)
		}
		for _, child := range children(c.command.Process.Pid) {
			if state(child) == "Z" {
				return fmt.Errorf("process %d ended and is not reaped", child)
			}
		}
		return nil
	})
}

// ends tells the program to end, as Kubernetes does, and expects it to.
func (c *container) ends() {
	c.t.Helper()
	program := c.program()
	if program == 0 {
		c.t.Fatal("the program does not run any more")
	}
	if err := syscall.Kill(program, syscall.SIGTERM); err != nil {
		c.t.Fatal(err)
	}
	select {
	case <-c.ended:
	case <-time.After(patience):
		c.t.Fatalf("the program still runs %s after SIGTERM", patience)
	}
	if status := c.command.ProcessState.ExitCode(); status != 0 {
		c.t.Errorf("after SIGTERM the program ended with the status %d, want 0", status)
	}
}

// program is the process ID of the program: the started process, or what that
// started. 0 means that it does not run.
func (c *container) program() int {
	next := []int{c.command.Process.Pid}
	for len(next) > 0 {
		process := next[0]
		if file, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", process)); err == nil && filepath.Base(file) == "custom-pod-autoscaler" {
			return process
		}
		next = append(next[1:], children(process)...)
	}
	return 0
}

// children are the processes that a process started or inherited.
func children(process int) []int {
	var all []int
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", process))
	for _, list := range lists {
		// A thread that ended meanwhile has none.
		content, _ := os.ReadFile(list)
		for field := range strings.FieldsSeq(string(content)) {
			if child, err := strconv.Atoi(field); err == nil {
				all = append(all, child)
			}
		}
	}
	return all
}

// state is the letter that tells a process's state, empty when it is gone.
func state(process int) string {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", process))
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	_, rest, _ := strings.Cut(string(content), ") ")
	letter, _, _ := strings.Cut(rest, " ")
	return letter
}

// output collects what a process prints.
type output struct {
	mutex sync.Mutex
	text  strings.Builder
}

func (o *output) Write(p []byte) (int, error) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	return o.text.String()
}

// eventually asks until there is no error any more.
func eventually(t *testing.T, what string, probe func() error) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := probe()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited %s for %s: %v", patience, what, err)
		}
	}
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package example_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/cluster"
)

// patience is how long a story waits for what must come. It is far more than
// it takes, and short of what go test allows the package.
const patience = 2 * time.Minute

// debian is the package that brings a program which the hooks need.
var debian = map[string]string{
	"bash": "bash", "go": "golang", "java": "default-jdk-headless", "javac": "default-jdk-headless", "jq": "jq", "node": "nodejs",
	"perl": "perl", "python3": "python3",
}

// story is one example at work: its folder, copied to a place where it may be
// built and written to, its workload in a namespace of its own, and the runtime
// with the rights that the example's Role gives it.
type story struct {
	*testing.T
	cluster   *cluster.Cluster
	namespace string
	directory string
	target    types.NamespacedName
	resource  dynamic.ResourceInterface
	kind      string
	// environment is what the runtime and its hooks are given beside what
	// this process has.
	environment map[string]string
	log         *journal
}

// prepare copies an example, and applies its manifests but for the Deployment
// that would run the autoscaler in the cluster. The programs are those that its
// hooks need.
func prepare(t *testing.T, example string, programs []string) *story {
	t.Helper()
	need(t, programs...)
	c := cluster.ForTest(t)
	s := &story{
		T: t, cluster: c, namespace: c.Namespace(t), directory: t.TempDir(), log: newJournal(),
		environment: map[string]string{
			// Sooner than an example's own, which is made for a real cluster.
			"interval": "1000",
			// The examples of other tests run at the same time.
			"apiConfig":     `{"enabled": true, "host": "127.0.0.1", "port": 0}`,
			"CPA_logFormat": "json",
		},
	}
	s.environment["namespace"] = s.namespace
	if err := os.CopyFS(s.directory, os.DirFS(example)); err != nil {
		t.Fatal(err)
	}
	s.apply()
	s.findTarget()
	return s
}

// need fails the test when a program is missing, since without it nothing would
// have been tested.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("the example needs %s: install the Debian package %s (.ci/install does) or what brings it elsewhere", program, debian[program])
		}
	}
}

// apply applies the manifests in the folder. Pods are put on the node that is
// there, since no scheduler runs.
func (s *story) apply() {
	s.Helper()
	for _, object := range manifests(s.T, s.directory) {
		switch kind := object.GetKind(); {
		case kind == "Deployment" && object.GetName() == accountOf(s.T, s.directory):
			continue // the autoscaler, which runs here instead
		case kind == "Deployment":
			onNode(s.T, object)
		}
		if err := apply(s.Context(), s.cluster, s.namespace, object, false); err != nil {
			s.Fatal(err)
		}
	}
}

func onNode(t *testing.T, workload *unstructured.Unstructured) {
	t.Helper()
	pod := map[string]any{
		"nodeName":    cluster.NodeName,
		"tolerations": []any{map[string]any{"operator": "Exists"}},
	}
	for key, value := range pod {
		if err := unstructured.SetNestedField(workload.Object, value, "spec", "template", "spec", key); err != nil {
			t.Fatal(err)
		}
	}
}

// findTarget finds what the configuration names as the target.
func (s *story) findTarget() {
	s.Helper()
	loaded, err := config.Load(filepath.Join(s.directory, "config.yaml"), func(string) (string, bool) { return "", false })
	if err != nil {
		s.Fatal(err)
	}
	ref := loaded.Config.ScaleTargetRef
	s.kind = ref.Kind
	s.target = types.NamespacedName{Namespace: s.namespace, Name: ref.Name}
	s.resource, err = resourceOf(s.cluster, s.namespace, schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind))
	if err != nil {
		s.Fatal(err)
	}
}

// build runs a command in the folder, as the example's Dockerfile does.
func (s *story) build(command []string) {
	s.Helper()
	build := exec.CommandContext(s.Context(), command[0], command[1:]...)
	build.Dir = s.directory
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if output, err := build.CombinedOutput(); err != nil {
		s.Fatalf("building the hooks: %s: %v\n%s", strings.Join(command, " "), err, output)
	}
}

// run starts the runtime, in the folder and with the example's own
// configuration and service account. It must end well with the test.
func (s *story) run() {
	s.Helper()
	kubeconfig := filepath.Join(s.TempDir(), "kubeconfig")
	if err := s.cluster.WriteServiceAccountKubeconfig(s.Context(), kubeconfig, s.namespace, accountOf(s.T, s.directory)); err != nil {
		s.Fatal(err)
	}
	command := exec.Command(runtimeFile(s.T), "--config", "config.yaml", "--kubeconfig", kubeconfig) //nolint:noctx // stop ends it
	command.Dir = s.directory
	command.Env = os.Environ()
	for _, key := range slices.Sorted(maps.Keys(s.environment)) {
		command.Env = append(command.Env, key+"="+s.environment[key])
	}
	stop := start(s.T, command, command.StderrPipe, s.log.read)
	s.Cleanup(func() {
		if err := stop(); err != nil {
			s.Errorf("the runtime ended with %v", err)
		}
		if s.Failed() {
			s.Logf("the runtime said:\n%s", s.log.tail(40))
		}
	})
}

// start starts a process with a reader of one of its outputs, and returns what
// ends it with SIGTERM and waits for it, at most 10 s.
func start(t *testing.T, command *exec.Cmd, pipe func() (io.ReadCloser, error), read func(io.Reader)) (stop func() error) {
	t.Helper()
	output, err := pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		read(output)
		ended <- command.Wait()
	}()
	return func() error {
		_ = command.Process.Signal(syscall.SIGTERM) // or it has ended already, which Wait tells
		timer := time.NewTimer(10 * time.Second)
		defer timer.Stop()
		select {
		case err := <-ended:
			return err
		case <-timer.C:
			_ = command.Process.Kill()
			return errors.Join(errors.New("no end within 10s of SIGTERM; killed"), <-ended)
		}
	}
}

// setNumPods sets the label of the target that many examples go by.
func (s *story) setNumPods(value string) {
	s.Helper()
	s.setMetadata(s.resource, s.target.Name, "labels", "numPods", value)
}

// annotate sets an annotation of the target, or removes it when the value is
// nil.
func (s *story) annotate(key string, value any) {
	s.Helper()
	s.setMetadata(s.resource, s.target.Name, "annotations", key, value)
}

// labelPods sets a label of the first pods of those that a selector matches, or
// removes it when the value is nil; of all pods when count is 0.
func (s *story) labelPods(selector string, count int, key string, value any) {
	s.Helper()
	pods, err := resourceOf(s.cluster, s.namespace, schema.GroupVersionKind{Version: "v1", Kind: "Pod"})
	if err != nil {
		s.Fatal(err)
	}
	list, err := pods.List(s.Context(), metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		s.Fatal(err)
	}
	if len(list.Items) == 0 || len(list.Items) < count {
		s.Fatalf("%d pods match %s, want at least %d", len(list.Items), selector, max(count, 1))
	}
	if count == 0 {
		count = len(list.Items)
	}
	for _, pod := range list.Items[:count] {
		s.setMetadata(pods, pod.GetName(), "labels", key, value)
	}
}

// setMetadata patches one object. That it has gone meanwhile is no fault: the
// autoscaler may have removed a pod.

func (s *story) setMetadata(resource dynamic.ResourceInterface, name, field, key string, value any) {
	s.Helper()
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{field: map[string]any{key: value}}})
	if err != nil {
		s.Fatal(err)
	}
	if _, err := resource.Patch(s.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil && !apierrors.IsNotFound(err) {
		s.Fatal(err)
	}
}

// becomes waits until the target has that many replicas: of a Deployment, until
// they are all there and ready.
func (s *story) becomes(replicas int32) {
	s.Helper()
	s.log.mark()
	var err error
	if s.kind == "Deployment" {
		err = s.cluster.WaitForReplicas(s.Context(), s.namespace, s.target.Name, replicas)
	} else {
		err = s.waitForCount(int64(replicas))
	}
	if err != nil {
		s.Fatal(err)
	}
}

func (s *story) waitForCount(replicas int64) error {
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		object, err := s.resource.Get(ctx, s.target.Name, metav1.GetOptions{})
		if err == nil {
			var count int64
			count, _, err = unstructured.NestedInt64(object.Object, "spec", "replicas")
			if count == replicas {
				return err
			}
			err = errors.Join(err, fmt.Errorf("%d are asked for", count))
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %d replicas of %s: %w", replicas, s.target, err)
		}
	}
}

// stays waits for two whole runs that do not fail, and fails unless they leave
// the target at that many replicas.
func (s *story) stays(replicas int) {
	s.Helper()
	s.settles()
	for range 2 {
		run := s.says("the end of a run", func(l line) bool { return l.endsRun() && l.Message != failed })
		if run.From != replicas || run.To != replicas {
			s.Fatalf("a run ended with %+v, want %d replicas to stay", run, replicas)
		}
	}
}

// settles waits until the run that is under way has ended, if there is one:
// what was changed before is known to all later ones.
func (s *story) settles() {
	s.Helper()
	s.log.mark()
	s.says("the end of a run", line.endsRun)
}

// says waits for a line of the runtime's log after those seen before.
func (s *story) says(what string, is func(line) bool) line {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	defer cancel()
	found, err := s.log.next(ctx, is)
	if err != nil {
		s.Fatalf("waiting for %s in the log: %v", what, err)
	}
	return found
}

// line is a line of the runtime's log.
type line struct {
	Message string `json:"msg"`
	// Of the end of a run.
	From    int    `json:"from"`
	To      int    `json:"to"`
	Reason  string `json:"reason"`
	Trigger string `json:"trigger"`
	// Of a run that failed.
	Stage  string `json:"stage"`
	Error  string `json:"error"`
	Stderr string `json:"stderr"`
	// Line is what a hook wrote to stderr, with logStderr.
	Line string `json:"line"`
}

// failed is the message of a run that failed.
const failed = "Run failed"

func (l line) endsRun() bool {
	return l.Reason != "" || l.Message == failed
}

// journal keeps the runtime's log and lets one reader wait for its lines.
type journal struct {
	mutex sync.Mutex
	raw   []string
	lines []line
	seen  int
	ended bool
	// grew is closed, and made anew, when there is more.
	grew chan struct{}
}

func newJournal() *journal {
	return &journal{grew: make(chan struct{})}
}

// read takes the log until it ends.
func (j *journal) read(from io.Reader) {
	scanner := bufio.NewScanner(from)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		var parsed line
		_ = json.Unmarshal(scanner.Bytes(), &parsed) // what is no JSON is kept in raw
		j.add(func() {
			j.raw = append(j.raw, scanner.Text())
			j.lines = append(j.lines, parsed)
		})
	}
	j.add(func() { j.ended = true })
	_, _ = io.Copy(io.Discard, from)
}

func (j *journal) add(what func()) {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	what()
	close(j.grew)
	j.grew = make(chan struct{})
}

// mark passes over what was said until now.
func (j *journal) mark() {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	j.seen = len(j.lines)
}

// next waits for a line and passes over all before it.
func (j *journal) next(ctx context.Context, is func(line) bool) (line, error) {
	for {
		found, ok, ended, grew := j.look(is)
		switch {
		case ok:
			return found, nil
		case ended:
			return line{}, errors.New("the runtime has ended")
		}
		select {
		case <-grew:
		case <-ctx.Done():
			return line{}, context.Cause(ctx)
		}
	}
}

func (j *journal) look(is func(line) bool) (found line, ok, ended bool, grew <-chan struct{}) {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	for ; j.seen < len(j.lines); j.seen++ {
		if is(j.lines[j.seen]) {
			j.seen++
			return j.lines[j.seen-1], true, false, nil
		}
	}
	return line{}, false, j.ended, j.grew
}

// tail is the last lines of the log.
func (j *journal) tail(count int) string {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	return strings.Join(j.raw[max(0, len(j.raw)-count):], "\n")
}

// runtimeFile is the program, built for the first test that asks.
func runtimeFile(t *testing.T) string {
	t.Helper()
	file, err := buildRuntime()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

var buildRuntime = sync.OnceValues(func() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	file := filepath.Join(scratch, "custom-pod-autoscaler")
	build := exec.CommandContext(ctx, "go", "build", "-o", file, "../cmd/custom-pod-autoscaler")
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the runtime: %w\n%s", err, bytes.TrimSpace(output))
	}
	return file, nil
})

// scratch is a directory that goes with the tests.
var scratch string

func TestMain(m *testing.M) {
	os.Exit(withScratch(m))
}

func withScratch(m *testing.M) int {
	var err error
	if scratch, err = os.MkdirTemp("", "example"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	return cluster.Run(m)
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// victimVariable makes this test binary a process that starts a control plane
// and waits to be killed.
const victimVariable = "CPA_TEST_VICTIM"

func TestMain(m *testing.M) {
	if os.Getenv(victimVariable) != "" {
		os.Exit(victim())
	}
	Main(m)
}

// victim says where its control plane is, and waits for as long as the one who
// started it holds its input open.
func victim() int {
	c, err := Start(context.Background(), Options{WithoutMetrics: true, WithoutPods: true, Progress: os.Stderr})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(c.Directory(), c.config.Host)
	_, _ = os.Stdin.Read(make([]byte, 1))
	c.Stop()
	return 0
}

func TestAllProgramsRun(t *testing.T) {
	c := ForTest(t)
	want := []string{"etcd", "kube-apiserver", "kube-controller-manager", "kwok", "metrics-server"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(c.Running()))); diff != "" {
		t.Errorf("running programs (-want +got):\n%s", diff)
	}
	version, err := c.Client().Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	if want := "v1.36.3"; version.GitVersion != want && os.Getenv(AssetsVariable) == "" {
		t.Errorf("the API server calls itself %s, want %s", version.GitVersion, want)
	}
}

func TestForTestSharesOne(t *testing.T) {
	first, second := ForTest(t), ForTest(t)
	if first != second {
		t.Error("two calls gave two control planes")
	}
}

func TestPodsBecomeReadyAndUseCPU(t *testing.T) {
	t.Parallel()
	c := ForTest(t)
	namespace := c.Namespace(t)
	if err := c.Deploy(t.Context(), namespace, Workload{Name: "web", Replicas: 3, CPURequest: "100m", CPUUsage: "80m"}); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitForUsage(t.Context(), namespace, "web", "80m"); err != nil {
		t.Fatal(err)
	}
	if err := c.SetUsage(t.Context(), namespace, "web", "40m"); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitForUsage(t.Context(), namespace, "web", "40m"); err != nil {
		t.Fatal(err)
	}
}

func TestScalingADeployment(t *testing.T) {
	t.Parallel()
	c := ForTest(t)
	namespace := c.Namespace(t)
	if err := c.Deploy(t.Context(), namespace, Workload{Name: "web", Replicas: 4}); err != nil {
		t.Fatal(err)
	}
	for _, replicas := range []int32{7, 2, 0} {
		if err := c.Scale(t.Context(), namespace, "web", replicas); err != nil {
			t.Fatal(err)
		}
		if err := c.WaitForReplicas(t.Context(), namespace, "web", replicas); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWaitSaysWhatWasSeenLast(t *testing.T) {
	t.Parallel()
	c := ForTest(t)
	namespace := c.Namespace(t)
	if err := c.Deploy(t.Context(), namespace, Workload{Name: "web", Replicas: 1}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := c.WaitForReplicas(ctx, namespace, "web", 2)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "1 asked for, 1 there, 1 ready") {
		t.Errorf("waiting for too many replicas ended with %v", err)
	}
}

func TestNamespaceGoesWithItsTest(t *testing.T) {
	t.Parallel()
	c := ForTest(t)
	var namespace string
	t.Run("the test", func(t *testing.T) {
		namespace = c.Namespace(t)
		if err := c.Deploy(t.Context(), namespace, Workload{Name: "web", Replicas: 2}); err != nil {
			t.Fatal(err)
		}
	})
	err := c.wait(t.Context(), "the namespace to go", func(ctx context.Context) error {
		_, err := c.Client().CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(errors.New("it is there"), err)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestServiceAccountMayDoWhatItsRoleAllows(t *testing.T) {
	t.Parallel()
	c := ForTest(t)
	namespace := c.Namespace(t)
	kubeconfig := t.TempDir() + "/kubeconfig"
	if err := c.WriteServiceAccountKubeconfig(t.Context(), kubeconfig, namespace, "autoscaler"); err != nil {
		t.Fatal(err)
	}
	fromFile, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	token, err := c.ServiceAccountToken(t.Context(), namespace, "autoscaler")
	if err != nil {
		t.Fatal(err)
	}
	host, port := c.Address()
	asInPod := &rest.Config{
		Host: "https://" + net.JoinHostPort(host, port), BearerToken: token,
		TLSClientConfig: rest.TLSClientConfig{CAFile: c.CAFile()},
	}
	for _, config := range []*rest.Config{fromFile, asInPod} {
		if err := listPods(t.Context(), t, config, namespace); !apierrors.IsForbidden(err) {
			t.Errorf("listing pods without a role ended with %v", err)
		}
	}
	allowPods(t, c, namespace, "autoscaler")
	for _, config := range []*rest.Config{fromFile, asInPod} {
		err := c.wait(t.Context(), "the role to count", func(ctx context.Context) error {
			return listPods(ctx, t, config, namespace)
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func listPods(ctx context.Context, t *testing.T, config *rest.Config, namespace string) error {
	t.Helper()
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	defer httpClient.CloseIdleConnections()
	client, err := kubernetes.NewForConfigAndClient(config, httpClient)
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	return err
}

func allowPods(t *testing.T, c *Cluster, namespace, account string) {
	t.Helper()
	meta := metav1.ObjectMeta{Name: "pods"}
	role := &rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list"}}}}
	if _, err := c.Client().RbacV1().Roles(namespace).Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: meta,
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "pods"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: account}},
	}
	if _, err := c.Client().RbacV1().RoleBindings(namespace).Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestAPIServerGoesAndComesBack(t *testing.T) {
	t.Parallel()
	c := startOwn(t, Options{WithoutMetrics: true})
	namespace := c.Namespace(t)
	if err := c.Deploy(t.Context(), namespace, Workload{Name: "web", Replicas: 2}); err != nil {
		t.Fatal(err)
	}

	c.StopAPIServer()
	if err := c.apiServerReady(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("asking the stopped API server ended with %v, want a refused connection", err)
	}
	if err := c.PauseAPIServer(); err == nil {
		t.Error("pausing a stopped API server succeeded")
	}
	if err := c.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.StartAPIServer(t.Context()); err == nil {
		t.Error("starting a running API server succeeded")
	}
	if err := c.WaitForReplicas(t.Context(), namespace, "web", 2); err != nil {
		t.Errorf("the deployment is not what it was: %v", err)
	}
	if err := c.Deploy(t.Context(), namespace, Workload{Name: "after", Replicas: 2}); err != nil {
		t.Errorf("the controllers and kwok do not work on: %v", err)
	}
}

func TestAPIServerHangsAndGoesOn(t *testing.T) {
	t.Parallel()
	c := startOwn(t, Options{WithoutMetrics: true, WithoutPods: true})
	if err := c.PauseAPIServer(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := c.apiServerReady(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("asking the paused API server ended with %v, want no answer until the deadline", err)
	}
	if err := c.ResumeAPIServer(); err != nil {
		t.Fatal(err)
	}
	if err := c.wait(t.Context(), "the API server", c.apiServerReady); err != nil {
		t.Error(err)
	}
}

// startOwn starts a control plane for one test.
func startOwn(t *testing.T, options Options) *Cluster {
	t.Helper()
	c, err := Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	return c
}

func TestStopLeavesNothing(t *testing.T) {
	// Others may be starting and stopping things: not parallel.
	before := goleak.IgnoreCurrent()
	for _, paused := range []bool{false, true} {
		c, err := Start(t.Context(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		pids := c.Running()
		if len(pids) != 5 {
			t.Fatalf("running are %v, want five programs", pids)
		}
		pids["watchdog"] = c.watchdog.group()
		if paused {
			if err := c.PauseAPIServer(); err != nil {
				t.Fatal(err)
			}
		}
		c.Stop()
		c.Stop()
		for name, pid := range pids {
			if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
				t.Errorf("%s (process %d) is there after Stop: %v", name, pid, err)
			}
		}
		if _, err := os.Stat(c.Directory()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the directory %s is there after Stop: %v", c.Directory(), err)
		}
	}
	goleak.VerifyNone(t, before)
}

func TestNothingOutlivesAKilledTest(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), self)
	command.Env = append(os.Environ(), victimVariable+"=1")
	command.Stderr = os.Stderr
	// Held open until the end, so that the victim waits.
	if _, err := command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	directory, server, found := strings.Cut(strings.TrimSpace(line), " ")
	if err != nil || !found {
		t.Fatalf("the victim said %q (%v), want its directory and its server", line, err)
	}
	address := strings.TrimPrefix(server, "https://")
	if err := dial(t.Context(), address); err != nil {
		t.Fatalf("the victim's API server is not there: %v", err)
	}

	if err := command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait() // "signal: killed".

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err = await(ctx, "the victim's control plane to end", func(ctx context.Context) error {
		_, statErr := os.Stat(directory)
		dialErr := dial(ctx, address)
		if errors.Is(statErr, fs.ErrNotExist) && errors.Is(dialErr, syscall.ECONNREFUSED) {
			return nil
		}
		return fmt.Errorf("looking for its directory gives %v, and dialling its API server %v", statErr, dialErr) //nolint:errorlint // Either may be nil.
	})
	if err != nil {
		t.Error(err)
	}
}

func dial(ctx context.Context, address string) error {
	connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return connection.Close()
}

func TestAProgramThatEndsFailsTheStart(t *testing.T) {
	t.Parallel()
	c := prepared(t)
	c.binaries["kube-apiserver"] = "/bin/sh" // Which does not know the options.
	if err := c.startEtcd(); err != nil {
		t.Fatal(err)
	}
	err := c.startAPIServer(t.Context())
	if err == nil || !strings.Contains(err.Error(), "waiting for the API server: kube-apiserver ended: exit status 2; the end of its log:\n") ||
		!strings.Contains(err.Error(), "llegal option") {
		t.Errorf("a broken API server ended with %v, want its exit status and its log", err)
	}
}

func TestATakenPortIsTriedAgain(t *testing.T) {
	t.Parallel()
	for _, taken := range []func(ports) string{
		func(p ports) string { return p.etcd },
		func(p ports) string { return p.apiServer },
	} {
		c := prepared(t)
		thief, err := net.Listen("tcp", net.JoinHostPort(loopback, taken(c.ports))) //nolint:noctx // Listening on a local port does not wait.
		if err != nil {
			t.Fatal(err)
		}
		defer thief.Close() //nolint:errcheck // Nothing was sent.
		if err := c.startEtcd(); err != nil {
			t.Fatal(err)
		}
		if err := c.startAPIServer(t.Context()); err == nil || !portTaken(err) {
			t.Errorf("a start with a taken port ended with %v, which would not be tried again", err)
		}
	}
}

// prepared returns a control plane of which nothing runs yet.
func prepared(t *testing.T) *Cluster {
	t.Helper()
	binaries, err := Build(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{processes: map[string]*process{}, binaries: binaries}
	t.Cleanup(c.Stop)
	if err := c.prepare(); err != nil {
		t.Fatal(err)
	}
	return c
}

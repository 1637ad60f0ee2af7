// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	metricsclient "k8s.io/metrics/pkg/client/clientset/versioned"
)

// startTimeout bounds a start, and waitTimeout each wait of the helpers, where
// the caller's context does not end sooner.
const (
	startTimeout = 2 * time.Minute
	waitTimeout  = 2 * time.Minute
)

// startAttempts is how often a start is tried when another process takes a
// port between our finding it free and the server's opening it.
const startAttempts = 3

// Options say how a control plane is started. The zero value is what tests
// want.
type Options struct {
	// WithoutMetrics leaves out metrics-server and its API.
	WithoutMetrics bool
	// WithoutPods leaves out kwok and its node: pods stay pending.
	WithoutPods bool
	// HPASyncPeriod is how often the HorizontalPodAutoscaler controller
	// decides; 1s when zero.
	HPASyncPeriod time.Duration
	// Progress is told what is built and started; nobody when nil.
	Progress io.Writer
}

// Cluster is a running control plane. Its methods are safe for concurrent use;
// those that stop, start and pause the API server concern everybody who uses
// it.
type Cluster struct {
	options   Options
	binaries  Binaries
	directory string
	watchdog  *watchdog
	ports     ports

	config     *rest.Config
	httpClient *http.Client
	client     kubernetes.Interface
	dynamic    dynamic.Interface
	metrics    metricsclient.Interface

	// mutex guards processes.
	mutex     sync.Mutex
	processes map[string]*process
}

// Start builds what is missing (see Build), starts a control plane on free
// ports of 127.0.0.1 and returns when all of it works: the API server is
// ready, the default namespace has its service account, the node is Ready and
// the metrics API is available. Metrics of a pod need two scrapes, ten seconds
// apart, more. ctx ends with the start; the control plane runs until Stop, or
// until this process ends in whatever way.
func Start(ctx context.Context, options Options) (*Cluster, error) {
	if options.Progress == nil {
		options.Progress = io.Discard
	}
	if options.HPASyncPeriod == 0 {
		options.HPASyncPeriod = time.Second
	}
	binaries, err := Build(ctx, options.Progress)
	if err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		c := &Cluster{options: options, binaries: binaries, processes: map[string]*process{}}
		err := c.start(ctx)
		if err == nil {
			return c, nil
		}
		c.Stop()
		if attempt == startAttempts || !portTaken(err) {
			return nil, fmt.Errorf("starting the control plane: %w", err)
		}
		say(options.Progress, "another process took a port of the control plane; starting it again")
	}
}

// portTaken reports whether a server ended because its port was in use.
func portTaken(err error) bool {
	return strings.Contains(err.Error(), "address already in use")
}

func (c *Cluster) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	began := time.Now()
	if err := c.prepare(); err != nil {
		return err
	}
	if err := c.startEtcd(); err != nil {
		return err
	}
	if err := c.startAPIServer(ctx); err != nil {
		return err
	}
	rest, restCtx := errgroup.WithContext(ctx)
	rest.Go(func() error { return c.startControllers(restCtx) })
	if !c.options.WithoutPods {
		rest.Go(func() error { return c.startNode(restCtx) })
	}
	if !c.options.WithoutMetrics {
		rest.Go(func() error { return c.startMetrics(restCtx) })
	}
	if err := rest.Wait(); err != nil {
		return err
	}
	say(c.options.Progress, "the control plane at %s is ready after %.1fs", c.config.Host, time.Since(began).Seconds())
	return nil
}

// prepare makes everything that the programs find when they start.
func (c *Cluster) prepare() (err error) {
	if c.directory, err = os.MkdirTemp("", "control-plane-"); err != nil {
		return fmt.Errorf("making the data directory: %w", err)
	}
	if c.watchdog, err = startWatchdog(c.directory); err != nil {
		return err
	}
	if c.ports, err = freePorts(); err != nil {
		return err
	}
	if err := c.writeCredentials(); err != nil {
		return err
	}
	return c.connect()
}

// writeCredentials makes all certificates and keys, and the admin's kubeconfig.
func (c *Cluster) writeCredentials() error {
	authority, err := newAuthority(c.directory)
	if err != nil {
		return err
	}
	if err := errors.Join(
		authority.writeServing(),
		authority.writeClient(adminName, "system:masters"),
		authority.writeClient(aggregatorName),
	); err != nil {
		return err
	}
	if _, err := writeKey(c.file("service-account.key")); err != nil {
		return err
	}
	return c.writeAdminKubeconfig()
}

// connect makes the admin's clients. They share one HTTP client of our own so
// that Stop can close its connections.
func (c *Cluster) connect() (err error) {
	if c.config, err = adminConfig(c.KubeconfigFile()); err != nil {
		return err
	}
	if c.httpClient, err = rest.HTTPClientFor(c.config); err != nil {
		return fmt.Errorf("connecting to the API server: %w", err)
	}
	if c.client, err = kubernetes.NewForConfigAndClient(c.config, c.httpClient); err != nil {
		return fmt.Errorf("connecting to the API server: %w", err)
	}
	if c.dynamic, err = dynamic.NewForConfigAndClient(c.config, c.httpClient); err != nil {
		return fmt.Errorf("connecting to the API server: %w", err)
	}
	if c.metrics, err = metricsclient.NewForConfigAndClient(c.config, c.httpClient); err != nil {
		return fmt.Errorf("connecting to the API server: %w", err)
	}
	return nil
}

// Stop ends every process of the control plane, its clients first and etcd
// last, removes its directory and closes its connections. It takes a few
// seconds at most, kills what does not end by itself, and may be called again.
func (c *Cluster) Stop() {
	var clients sync.WaitGroup
	for _, name := range []string{metricsServerName, "kwok", "kube-controller-manager"} {
		clients.Go(func() { c.program(name).stop(time.Second) })
	}
	clients.Wait()
	if c.httpClient != nil {
		utilnet.CloseIdleConnectionsFor(c.httpClient.Transport)
	}
	// Nobody is served any more and the data is thrown away: no grace needed.
	c.program("kube-apiserver").stop(0)
	c.program("etcd").stop(0)
	if c.watchdog != nil {
		c.watchdog.release()
	}
	if c.directory != "" {
		_ = os.RemoveAll(c.directory) // The watchdog has removed it, unless it never started.
	}
}

// program returns the process of a program; nil, which counts as one that has
// ended, if it was never started.
func (c *Cluster) program(name string) *process {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.processes[name]
}

// run starts a program and notes it.
func (c *Cluster) run(name string, arguments ...string) (*process, error) {
	p, err := launch(name, c.binaries[name], c.LogFile(name), c.watchdog.group(), arguments...)
	if err != nil {
		return nil, err
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.processes[name] = p
	return p, nil
}

// Directory returns the directory of the data, the credentials and the logs.
// Stop removes it.
func (c *Cluster) Directory() string { return c.directory }

// LogFile returns the log of a program, such as kube-apiserver.
func (c *Cluster) LogFile(program string) string { return c.file(program + ".log") }

// KubeconfigFile returns a kubeconfig of the administrator that refers to no
// other file.
func (c *Cluster) KubeconfigFile() string { return c.file("kubeconfig") }

// CAFile returns the certificate authority that signed the API server's
// certificate, as a pod finds it beside its token.
func (c *Cluster) CAFile() string { return c.file("ca.crt") }

// Address returns host and port of the API server, as a pod finds them in
// KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT.
func (c *Cluster) Address() (host, port string) { return loopback, c.ports.apiServer }

// RESTConfig returns the administrator's configuration for client-go, without
// a limit on requests. Each call returns a copy of its own.
func (c *Cluster) RESTConfig() *rest.Config { return rest.CopyConfig(c.config) }

// Client returns the administrator's client.
func (c *Cluster) Client() kubernetes.Interface { return c.client }

// Dynamic returns the administrator's client for resources without Go types.
func (c *Cluster) Dynamic() dynamic.Interface { return c.dynamic }

// Running returns the process IDs of the programs that run, by name.
func (c *Cluster) Running() map[string]int {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	pids := map[string]int{}
	for name, p := range c.processes {
		if p.running() {
			pids[name] = p.command.Process.Pid
		}
	}
	return pids
}

func (c *Cluster) file(name string) string { return filepath.Join(c.directory, name) }

// loopback is the address of every server.
const loopback = "127.0.0.1"

// ports are those of the servers, as text since they go into arguments.
type ports struct {
	etcd, apiServer, kwok, metricsServer string
}

// freePorts finds ports that nobody listens on now.
func freePorts() (ports, error) {
	var found [4]string
	for i := range found {
		// Each listener stays open until all are found, so that they differ.
		listener, err := net.Listen("tcp", loopback+":0") //nolint:noctx // Listening on a local port does not wait.
		if err != nil {
			return ports{}, fmt.Errorf("finding free ports: %w", err)
		}
		defer listener.Close() //nolint:errcheck // Nothing was sent.
		found[i] = strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	}
	return ports{found[0], found[1], found[2], found[3]}, nil
}

// await asks probe again and again until it returns nil. It fails at once when
// one of the watched processes ends, and otherwise when ctx does, with what the
// probe said last.
func await(ctx context.Context, what string, probe func(context.Context) error, watched ...*process) error {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	var last error
	for {
		err := attempt(ctx, probe, watched)
		for _, p := range watched {
			// Checked even when the probe succeeded: it may have asked
			// somebody else's server on a port that ours did not get.
			if !p.running() {
				return fmt.Errorf("waiting for %s: %w", what, p.failure())
			}
		}
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err // Not what the probe says only because the time is up.
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w; last seen: %w", what, context.Cause(ctx), last)
		}
	}
}

// attempt gives one probe a deadline of its own, so that a request that hangs
// does not use up the whole wait, and ends it when a watched process ends.
func attempt(ctx context.Context, probe func(context.Context) error, watched []*process) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, p := range watched {
		go func() {
			select {
			case <-p.exited:
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	return probe(ctx)
}

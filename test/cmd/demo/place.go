// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	metricsapi "k8s.io/metrics/pkg/apis/metrics/v1beta1"
	metricsclient "k8s.io/metrics/pkg/client/clientset/versioned"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/cluster"
)

const (
	// namespacePrefix is how the demo's namespaces begin.
	namespacePrefix = "custom-pod-autoscaler-demo-"
	// requestTimeout bounds every request to the API server.
	requestTimeout = 10 * time.Second
	// leaveTimeout bounds the wait for the namespace to go.
	leaveTimeout = 90 * time.Second
)

// place is where the demo runs: a namespace of its own, on a control plane of
// its own or on the user's cluster.
type place struct {
	kubeconfig string
	client     kubernetes.Interface
	metrics    metricsclient.Interface
	// node is the one to name in pods where kwok plays all nodes; empty where
	// kubelets run containers.
	node      string
	namespace string
	// own is the control plane of our own; nil on the user's cluster.
	own *cluster.Cluster
}

// reach starts a control plane, or connects to the user's cluster, and makes a
// namespace. Whatever it returns must be left.
func reach(ctx context.Context, kubeconfig string, s *screen) (*place, error) {
	p := &place{kubeconfig: kubeconfig}
	if kubeconfig == "" {
		s.step("Starting a Kubernetes control plane on this machine (its first build takes about ten minutes)")
		own, err := cluster.Start(ctx, cluster.Options{Progress: s})
		if err != nil {
			return p, err
		}
		p.own, p.kubeconfig = own, own.KubeconfigFile()
	}
	if err := p.connect(ctx, s); err != nil {
		return p, err
	}
	return p, p.createNamespace(ctx, s)
}

// connect makes the clients and looks whether the cluster has what it takes.
func (p *place) connect(ctx context.Context, s *screen) error {
	file, err := expand(p.kubeconfig)
	if err != nil {
		return fmt.Errorf("finding the kubeconfig %s: %w", p.kubeconfig, err)
	}
	p.kubeconfig = file
	config, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		return fmt.Errorf("reading the kubeconfig %s: %w", file, err)
	}
	config.QPS, config.Timeout = -1, requestTimeout
	if p.client, err = kubernetes.NewForConfig(config); err != nil {
		return fmt.Errorf("connecting to %s: %w", config.Host, err)
	}
	if p.metrics, err = metricsclient.NewForConfig(config); err != nil {
		return fmt.Errorf("connecting to %s: %w", config.Host, err)
	}
	if p.own == nil {
		s.step("Using the cluster at " + config.Host + ", the current context of " + file)
	}
	if err := p.servesMetrics(ctx); err != nil {
		return err
	}
	p.node, err = p.fakeNode(ctx)
	return err
}

// expand makes a path absolute, and does what shells do not all do to the ~ in
// KUBECONFIG=~/.kube/config when it is make's argument.
func expand(file string) (string, error) {
	if rest, found := strings.CutPrefix(file, "~/"); found {
		home, err := os.UserHomeDir()
		return filepath.Join(home, rest), err
	}
	return filepath.Abs(file)
}

// servesMetrics fails unless the API server serves the pods' CPU use. An API
// that does not answer yet, as just after a start, is waited for.
func (p *place) servesMetrics(ctx context.Context) error {
	served := metricsapi.SchemeGroupVersion.String()
	var err error
	_ = wait.PollUntilContextTimeout(ctx, time.Second, time.Minute, true, func(context.Context) (bool, error) {
		_, err = p.client.Discovery().ServerResourcesForGroupVersion(served)
		return !apierrors.IsServiceUnavailable(err), nil
	})
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("the cluster does not serve %s: install metrics-server (https://github.com/kubernetes-sigs/metrics-server)", served)
	case apierrors.IsServiceUnavailable(err):
		return fmt.Errorf("the cluster's %s does not work: see `kubectl get apiservice v1beta1.metrics.k8s.io`: %w", served, err)
	case err != nil:
		return fmt.Errorf("asking whether the cluster serves %s: %w", served, err)
	}
	return nil
}

// fakeNode is a node to put pods on if kwok plays all of them. Who may not list
// nodes has real ones.
func (p *place) fakeNode(ctx context.Context) (string, error) {
	nodes, err := p.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if apierrors.IsForbidden(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("listing the nodes: %w", err)
	}
	var fake string
	for _, node := range nodes.Items {
		if node.Annotations["kwok.x-k8s.io/node"] != "fake" {
			return "", nil
		}
		fake = node.Name
	}
	return fake, nil
}

// createNamespace makes the namespace under a name chosen here, so that it can
// be deleted even when the answer got lost.
func (p *place) createNamespace(ctx context.Context, s *screen) error {
	name := namespacePrefix + rand.String(5)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	_, err := p.client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
	if refused := apierrors.APIStatus(nil); !errors.As(err, &refused) {
		p.namespace = name
	}
	if err != nil {
		return fmt.Errorf("creating a namespace: %w", err)
	}
	if p.own == nil {
		s.detail("in the namespace %s, and nowhere else; it is deleted at the end", name)
	}
	return nil
}

// leave removes the control plane or the namespace. It works after a Ctrl-C
// too.
func (p *place) leave(ctx context.Context, s *screen) error {
	if p.own != nil {
		s.step("Stopping the control plane")
		p.own.Stop()
		return nil
	}
	if p.namespace == "" {
		return nil
	}
	s.step("Deleting the namespace " + p.namespace)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	err := p.client.CoreV1().Namespaces().Delete(ctx, p.namespace, metav1.DeleteOptions{})
	if err == nil {
		err = poll(ctx, s, "its end", p.namespaceGone)
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting the namespace; see to it with `kubectl delete namespace %s`: %w", p.namespace, err)
	}
	return nil
}

func (p *place) namespaceGone(ctx context.Context) error {
	_, err := p.client.CoreV1().Namespaces().Get(ctx, p.namespace, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err == nil {
		err = errors.New("it is still there")
	}
	return err
}

// poll asks again and again until probe returns nil or the context ends.
// The screen shows what it waits for.
func poll(ctx context.Context, s *screen, what string, probe func(context.Context) error) error {
	began := time.Now()
	ticker := time.NewTicker(500 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := probe(ctx)
		if err == nil {
			s.waited()
			return nil
		}
		s.waiting(time.Since(began), err)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w; last seen: %w", what, context.Cause(ctx), err)
		}
	}
}

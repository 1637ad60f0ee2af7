// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

const (
	systemNamespace   = metav1.NamespaceSystem
	metricsServerName = "metrics-server"
)

// NodeName is the node on which kwok plays the pods. No scheduler runs: a pod
// must name it.
const NodeName = "fake-node"

var (
	definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	apiServices = schema.GroupVersionResource{Group: "apiregistration.k8s.io", Version: "v1", Resource: "apiservices"}
)

// startEtcd starts the store. Its data is thrown away with the cluster, so it
// need not wait for the disk. Clients must show a certificate of this control
// plane, and so does etcd: two that start at the same time can never take one
// another's for their own.
func (c *Cluster) startEtcd() error {
	url := c.etcdURL()
	_, err := c.run("etcd",
		"--data-dir="+c.file("etcd"),
		"--listen-client-urls="+url, "--advertise-client-urls="+url,
		"--listen-peer-urls=http://"+loopback+":0",
		"--cert-file="+c.file("serving.crt"), "--key-file="+c.file("serving.key"),
		"--client-cert-auth", "--trusted-ca-file="+c.CAFile(),
		"--unsafe-no-fsync", "--log-level=warn")
	return err
}

func (c *Cluster) etcdURL() string {
	return "https://" + net.JoinHostPort(loopback, c.ports.etcd)
}

// startAPIServer starts the API server and waits until it is ready; also again
// after it was stopped. It waits for etcd itself.
func (c *Cluster) startAPIServer(ctx context.Context) error {
	apiServer, err := c.run("kube-apiserver",
		"--etcd-servers="+c.etcdURL(), "--etcd-cafile="+c.CAFile(),
		"--etcd-certfile="+c.file(adminName+".crt"), "--etcd-keyfile="+c.file(adminName+".key"),
		"--bind-address="+loopback, "--secure-port="+c.ports.apiServer,
		"--tls-cert-file="+c.file("serving.crt"), "--tls-private-key-file="+c.file("serving.key"),
		"--client-ca-file="+c.CAFile(),
		"--authorization-mode=RBAC",
		"--service-cluster-ip-range="+serviceNetwork, "--endpoint-reconciler-type=none",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+c.file("service-account.key"),
		"--service-account-signing-key-file="+c.file("service-account.key"),
		// Without it a pod needs no service account, which a new namespace
		// gets a moment after its creation.
		"--disable-admission-plugins=ServiceAccount",
		"--allow-privileged=true",
		"--requestheader-client-ca-file="+c.CAFile(), "--requestheader-allowed-names="+aggregatorName,
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file="+c.file(aggregatorName+".crt"), "--proxy-client-key-file="+c.file(aggregatorName+".key"),
	)
	if err != nil {
		return err
	}
	return await(ctx, "the API server", c.apiServerReady, c.program("etcd"), apiServer)
}

func (c *Cluster) apiServerReady(ctx context.Context) error {
	_, err := c.client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
	return err
}

// startControllers starts the controllers and waits until they have given the
// default namespace what they give each.
func (c *Cluster) startControllers(ctx context.Context) error {
	controllers, err := c.run("kube-controller-manager",
		"--kubeconfig="+c.KubeconfigFile(),
		"--authentication-kubeconfig="+c.KubeconfigFile(), "--authorization-kubeconfig="+c.KubeconfigFile(),
		"--service-account-private-key-file="+c.file("service-account.key"), "--root-ca-file="+c.CAFile(),
		"--leader-elect=false", "--secure-port=0",
		// The default of 20 requests a second is what takes the time when a
		// Deployment of hundreds of pods is created.
		"--kube-api-qps=500", "--kube-api-burst=1000",
		"--horizontal-pod-autoscaler-sync-period="+c.options.HPASyncPeriod.String(),
	)
	if err != nil {
		return err
	}
	return await(ctx, "the controllers", func(ctx context.Context) error {
		return c.namespaceReady(ctx, metav1.NamespaceDefault)
	}, controllers)
}

// namespaceReady reports whether the controllers have made a namespace's
// service account and the authority for its pods.
func (c *Cluster) namespaceReady(ctx context.Context, namespace string) error {
	if _, err := c.client.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{}); err != nil {
		return err
	}
	_, err := c.client.CoreV1().ConfigMaps(namespace).Get(ctx, "kube-root-ca.crt", metav1.GetOptions{})
	return err
}

// startNode starts kwok, which plays the kubelet of a node and its pods, and
// waits until that node is Ready.
func (c *Cluster) startNode(ctx context.Context) error {
	if err := c.createDefinitions(ctx); err != nil {
		return err
	}
	kwok, err := c.run("kwok",
		"--kubeconfig="+c.KubeconfigFile(), "--config="+c.binaries[kwokStages], "--manage-all-nodes=true",
		"--node-ip="+loopback, "--node-port="+c.ports.kwok, "--server-address="+net.JoinHostPort(loopback, c.ports.kwok),
		"--tls-cert-file="+c.file("serving.crt"), "--tls-private-key-file="+c.file("serving.key"),
	)
	if err != nil {
		return err
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name:   NodeName,
		Labels: map[string]string{corev1.LabelHostname: NodeName},
		Annotations: map[string]string{
			"kwok.x-k8s.io/node":                   "fake",
			"metrics.k8s.io/resource-metrics-path": "/metrics/nodes/" + NodeName + "/metrics/resource",
		},
	}}
	if _, err := c.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating the node: %w", err)
	}
	return await(ctx, "the node", c.nodeReady, kwok)
}

// createDefinitions creates kwok's own kinds, without which it does not start,
// and waits until they are served.
func (c *Cluster) createDefinitions(ctx context.Context) error {
	content, err := os.ReadFile(c.binaries[kwokCRDs])
	if err != nil {
		return fmt.Errorf("reading kwok's definitions: %w", err)
	}
	for document := range bytes.SplitSeq(content, []byte("\n---\n")) {
		definition := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(document, &definition.Object); err != nil {
			return fmt.Errorf("decoding kwok's definitions: %w", err)
		}
		if len(definition.Object) == 0 {
			continue
		}
		if _, err := c.dynamic.Resource(definitions).Create(ctx, definition, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("creating kwok's definition %s: %w", definition.GetName(), err)
		}
		if err := await(ctx, "kwok's definition "+definition.GetName(), func(ctx context.Context) error {
			seen, err := c.dynamic.Resource(definitions).Get(ctx, definition.GetName(), metav1.GetOptions{})
			return conditionTrue(seen, "Established", err)
		}); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) nodeReady(ctx context.Context) error {
	node, err := c.client.CoreV1().Nodes().Get(ctx, NodeName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
			return nil
		}
	}
	return errors.New("the node is not Ready")
}

// startMetrics starts metrics-server and has the API server ask it for
// metrics.k8s.io.
func (c *Cluster) startMetrics(ctx context.Context) error {
	server, err := c.run(metricsServerName,
		"--kubeconfig="+c.KubeconfigFile(),
		"--authentication-kubeconfig="+c.KubeconfigFile(), "--authorization-kubeconfig="+c.KubeconfigFile(),
		"--bind-address="+loopback, "--secure-port="+c.ports.metricsServer,
		"--tls-cert-file="+c.file("serving.crt"), "--tls-private-key-file="+c.file("serving.key"),
		"--kubelet-certificate-authority="+c.CAFile(),
		"--kubelet-preferred-address-types=InternalIP", "--kubelet-use-node-status-port",
		// The shortest that metrics-server accepts.
		"--metric-resolution="+MetricsResolution.String(), "--kubelet-request-timeout=5s",
	)
	if err != nil {
		return err
	}
	if err := c.serveFrom(ctx, metricsServerName, "metrics.k8s.io", "v1beta1", c.ports.metricsServer); err != nil {
		return err
	}
	return await(ctx, "the metrics API", func(ctx context.Context) error {
		seen, err := c.dynamic.Resource(apiServices).Get(ctx, "v1beta1.metrics.k8s.io", metav1.GetOptions{})
		return conditionTrue(seen, "Available", err)
	}, server)
}

// MetricsResolution is how often metrics-server scrapes. A figure needs two
// scrapes, so a changed usage shows in full after at most twice as long.
const MetricsResolution = 10 * time.Second

// serveFrom registers a group of the API as served by a process of this machine
// at port.
func (c *Cluster) serveFrom(ctx context.Context, name, group, version, port string) error {
	number, err := strconv.ParseInt(port, 10, 32)
	if err != nil {
		return fmt.Errorf("registering %s: %w", group, err)
	}
	ca, err := os.ReadFile(c.CAFile())
	if err != nil {
		return fmt.Errorf("registering %s: %w", group, err)
	}
	// An address outside the cluster cannot be reached through a Service with
	// endpoints, since no proxy runs, but through a name that the API server
	// resolves itself.
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: systemNamespace},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeExternalName, ExternalName: "localhost",
			Ports: []corev1.ServicePort{{Port: int32(number)}},
		},
	}
	// The API server makes the namespace itself, a moment after it is ready.
	if err := await(ctx, "the namespace "+systemNamespace, func(ctx context.Context) error {
		_, err := c.client.CoreV1().Services(systemNamespace).Create(ctx, service, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	}); err != nil {
		return err
	}
	registration := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
		"metadata": map[string]any{"name": version + "." + group},
		"spec": map[string]any{
			"group": group, "version": version, "groupPriorityMinimum": int64(100), "versionPriority": int64(100),
			"caBundle": base64.StdEncoding.EncodeToString(ca),
			"service":  map[string]any{"namespace": systemNamespace, "name": name, "port": number},
		},
	}}
	if _, err := c.dynamic.Resource(apiServices).Create(ctx, registration, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("registering %s: %w", group, err)
	}
	return nil
}

// conditionTrue reports whether an object that was read, unless err says it
// was not, has the condition.
func conditionTrue(object *unstructured.Unstructured, condition string, err error) error {
	if err != nil {
		return err
	}
	conditions, _, err := unstructured.NestedSlice(object.Object, "status", "conditions")
	if err != nil {
		return err
	}
	for _, entry := range conditions {
		fields, _ := entry.(map[string]any)
		if fields["type"] != condition {
			continue
		}
		if fields["status"] == "True" {
			return nil
		}
		return fmt.Errorf("%s is not %s: %v", object.GetName(), condition, fields["message"])
	}
	return fmt.Errorf("%s is not %s", object.GetName(), condition)
}

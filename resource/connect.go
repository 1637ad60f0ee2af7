// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	custommetrics "k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	externalmetrics "k8s.io/metrics/pkg/apis/external_metrics/v1beta1"
	podmetrics "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// RequestTimeout bounds every request to the API server, its retries included;
// of a watch, its beginning.
const RequestTimeout = 10 * time.Second

// Clients are all the Kubernetes clients of the process, made once and shared.
// They are safe for concurrent use.
//
// They are plain REST clients over one connection pool and a scheme of just the
// types we decode: client-go's clientset and discovery would link every API
// group and double the binary (docs/decisions/0002-small-clients.md).
type Clients struct {
	// Dynamic reads targets and their scale, whatever kind they are.
	Dynamic dynamic.Interface
	// Core reads pods, keeps state in ConfigMaps, and makes Events.
	Core rest.Interface
	// Coordination reads and writes Leases.
	Coordination rest.Interface
	// Authentication and Authorization have tokens, and what they allow, reviewed.
	Authentication, Authorization rest.Interface
	// PodMetrics, CustomMetrics and ExternalMetrics read metrics.k8s.io,
	// custom.metrics.k8s.io and external.metrics.k8s.io.
	PodMetrics, CustomMetrics, ExternalMetrics rest.Interface
	// Mapper finds the resource behind a kind.
	Mapper *Mapper

	// watchDynamic and watchCore watch: what bounds a request would end a watch
	// after 10 s.
	watchDynamic dynamic.Interface
	watchCore    rest.Interface

	meter *meter
}

// ClientConfig says how the API server is reached: the kubeconfig file if one
// is named, else the service account of the pod, else what KUBECONFIG or
// ~/.kube/config say. A pod's own service account goes before KUBECONFIG
// because images carry that variable for their hooks.
func ClientConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		config, err := rest.InClusterConfig()
		if err == nil {
			return config, nil
		}
		if !errors.Is(err, rest.ErrNotInCluster) {
			return nil, fmt.Errorf("reading the service account of this pod: %w", err)
		}
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	rules.WarnIfAllMissing = false
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if list := os.Getenv(clientcmd.RecommendedConfigPathEnvVar); clientcmd.IsEmptyConfig(err) && list != "" {
		return nil, fmt.Errorf("no way to reach an API server: this is not a pod with a service account, and KUBECONFIG names %s, "+
			"which is not there or empty", list)
	}
	if clientcmd.IsEmptyConfig(err) {
		return nil, errors.New("no way to reach an API server: this is not a pod with a service account, and neither --kubeconfig, " +
			"KUBECONFIG nor ~/.kube/config names one")
	}
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig %s: %w", kubeconfigName(kubeconfig), err)
	}
	return config, nil
}

func kubeconfigName(explicit string) string {
	if explicit != "" {
		return explicit
	}
	if list := os.Getenv(clientcmd.RecommendedConfigPathEnvVar); list != "" {
		return list
	}
	return clientcmd.RecommendedHomeFile
}

// Connect makes the clients. It sends nothing: a run finds out whether the API
// server answers, so that one that is away at the start is no reason to exit.
// The log gets each request at LevelRequest, and the API server's warnings.
func Connect(config *rest.Config, userAgent string, log *slog.Logger) (*Clients, error) {
	config = rest.CopyConfig(config)
	config.UserAgent = userAgent
	config.Timeout = RequestTimeout
	c := &Clients{meter: newMeter()}
	config.RateLimiter = newLimiter(log, c.meter)
	config.WarningHandlerWithContext = warningLogger{log}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return requestLogger{next: requestMeter{next: dropConnections{next}, meter: c.meter}, log: log}
	})
	// One connection per request under way, dropped when it times out. A
	// multiplexed HTTP/2 connection to an API server that went away silently
	// would go on failing every run until its own health check, 45 s later.
	config.NextProtos = []string{"http/1.1"}

	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("reading the API server's credentials: %w", err)
	}
	// The same connections, without the time limit.
	watching := &http.Client{Transport: httpClient.Transport}
	if c.Dynamic, err = dynamic.NewForConfigAndClient(config, httpClient); err != nil {
		return nil, fmt.Errorf("setting up the dynamic client: %w", err)
	}
	if c.watchDynamic, err = dynamic.NewForConfigAndClient(config, watching); err != nil {
		return nil, fmt.Errorf("setting up the dynamic client: %w", err)
	}
	// Renewing a Lease must not wait behind a storm of other requests: the
	// leadership would be lost. There are few of them, whatever happens.
	leases := rest.CopyConfig(config)
	leases.RateLimiter = newLimiter(log, c.meter)
	// Nor must a run wait behind those who try tokens on the REST API.
	reviews := rest.CopyConfig(config)
	reviews.RateLimiter = newLimiter(log, c.meter)
	for _, client := range []struct {
		to     *rest.Interface
		config *rest.Config
		http   *http.Client
		group  schema.GroupVersion
		add    func(*runtime.Scheme) error
	}{
		{&c.Core, config, httpClient, corev1.SchemeGroupVersion, corev1.AddToScheme},
		{&c.watchCore, config, watching, corev1.SchemeGroupVersion, corev1.AddToScheme},
		{&c.Coordination, leases, httpClient, coordinationv1.SchemeGroupVersion, coordinationv1.AddToScheme},
		{&c.Authentication, reviews, httpClient, authenticationv1.SchemeGroupVersion, authenticationv1.AddToScheme},
		{&c.Authorization, reviews, httpClient, authorizationv1.SchemeGroupVersion, authorizationv1.AddToScheme},
		{&c.PodMetrics, config, httpClient, podmetrics.SchemeGroupVersion, podmetrics.AddToScheme},
		{&c.CustomMetrics, config, httpClient, custommetrics.SchemeGroupVersion, custommetrics.AddToScheme},
		{&c.ExternalMetrics, config, httpClient, externalmetrics.SchemeGroupVersion, externalmetrics.AddToScheme},
	} {
		*client.to, err = typedClient(client.config, client.http, client.group, client.add)
		if err != nil {
			return nil, fmt.Errorf("setting up the client of %s: %w", client.group, err)
		}
	}
	c.Mapper = NewMapper(c.Core)
	return c, nil
}

// dropConnections closes the idle connections when a request fails without an
// answer: whatever happened to its connection happened to theirs, and each
// would cost another request its whole timeout to find out.
type dropConnections struct{ next http.RoundTripper }

// WrappedRoundTripper is what makes the requests.
func (d dropConnections) WrappedRoundTripper() http.RoundTripper { return d.next }

// RoundTrip makes the request.
func (d dropConnections) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := d.next.RoundTrip(request)
	if err != nil {
		utilnet.CloseIdleConnectionsFor(d.next)
	}
	return response, err
}

// typedClient is a client that decodes the types of one API group. It asks for
// protobuf, which the built-in groups and metrics-server offer and which costs
// a fraction of JSON, and takes JSON from those that do not.
func typedClient(config *rest.Config, httpClient *http.Client, group schema.GroupVersion, add func(*runtime.Scheme) error,
) (rest.Interface, error) {
	scheme := runtime.NewScheme()
	if err := add(scheme); err != nil {
		return nil, err
	}
	metav1.AddToGroupVersion(scheme, group)
	config = rest.CopyConfig(config)
	config.GroupVersion = &group
	config.APIPath = "/apis"
	if group.Group == "" {
		config.APIPath = "/api"
	}
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	return rest.RESTClientForConfigAndClient(config, httpClient)
}

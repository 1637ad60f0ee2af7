// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/rest"
)

func TestVerbs(t *testing.T) {
	for _, test := range []struct{ method, url, want string }{
		{"GET", "/api/v1/namespaces/shop/pods?labelSelector=app%3Dweb", "list"},
		{"GET", "/api/v1/namespaces/shop/pods?watch=true", "watch"},
		{"GET", "/api/v1/namespaces/shop/pods/web-0", "get"},
		{"GET", "/api/v1/namespaces/shop", "get"},
		{"GET", "/api/v1/namespaces", "list"},
		{"GET", "/api/v1", "get"},
		{"GET", "/version", "get"},
		{"GET", "/apis/apps/v1", "get"},
		{"GET", "/apis/apps/v1/namespaces/shop/deployments/web/scale", "get"},
		{"GET", "/k8s/clusters/c-1/apis/apps/v1/namespaces/shop/deployments/web", "get"},
		{"GET", "/k8s/clusters/c-1/apis/apps/v1/deployments", "list"},
		{"GET", "/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/pods/*/requests", "get"},
		{"GET", "/apis/external.metrics.k8s.io/v1beta1/namespaces/shop/queue", "list"},
		{"GET", "/", "get"},
		{"POST", "/api/v1/namespaces/shop/events", "create"},
		{"PUT", "/apis/coordination.k8s.io/v1/namespaces/shop/leases/web", "update"},
		{"PATCH", "/apis/apps/v1/namespaces/shop/deployments/web/scale", "patch"},
		{"DELETE", "/api/v1/namespaces/shop/configmaps/web", "delete"},
	} {
		if got := verb(httptest.NewRequestWithContext(t.Context(), test.method, test.url, nil)); got != test.want {
			t.Errorf("%s %s: got %s, want %s", test.method, test.url, got, test.want)
		}
	}
}

func TestTraffic(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPatch {
			w.WriteHeader(http.StatusConflict)
		}
		_, _ = io.WriteString(w, `{"kind": "PodList", "apiVersion": "v1"}`)
	}))
	clients, err := Connect(&rest.Config{Host: server.URL}, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_ = clients.Core.Get().Namespace("shop").Resource("pods").Do(t.Context())
	}
	_ = clients.Coordination.Patch("").Namespace("shop").Resource("leases").Name("web").Do(t.Context())
	server.Close()
	_ = clients.Core.Delete().Namespace("shop").Resource("pods").Name("web-0").Do(t.Context())
	want := Traffic{Requests: map[RequestKind]int64{{"list", "200"}: 2, {"patch", "409"}: 1, {"delete", CodeNone}: 1}}
	if diff := cmp.Diff(want, clients.Traffic()); diff != "" {
		t.Errorf("traffic (-want +got):\n%s", diff)
	}
}

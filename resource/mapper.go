// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
)

// Mapping is the resource behind a kind.
type Mapping struct {
	// Resource is where objects of the kind are found.
	Resource schema.GroupVersionResource
	// Kind as the API server spells it.
	Kind string
	// Namespaced says whether objects of the kind belong to a namespace.
	Namespaced bool
	// Scalable says whether they have a scale subresource.
	Scalable bool
}

// Mapper finds the resource behind a kind by asking the API server for the one
// group and version concerned: cheaper than discovering the whole cluster, and
// not disturbed by some other API that is down. It remembers what it found, and
// is safe for concurrent use.
type Mapper struct {
	client rest.Interface

	mu    sync.Mutex
	known map[schema.GroupVersionKind]Mapping
}

// NewMapper makes a Mapper that asks through the client.
func NewMapper(client rest.Interface) *Mapper {
	return &Mapper{client: client, known: map[schema.GroupVersionKind]Mapping{}}
}

// Map finds the resource of a kind, which may be written in any case.
func (m *Mapper) Map(ctx context.Context, apiVersion, kind string) (Mapping, error) {
	version, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		return Mapping{}, fmt.Errorf("apiVersion %q is not of the form group/version: %w", apiVersion, err)
	}
	key := version.WithKind(strings.ToLower(kind))
	if mapping, ok := m.recall(key); ok {
		return mapping, nil
	}
	list, err := m.discover(ctx, version)
	if err != nil {
		return Mapping{}, err
	}
	mapping, err := find(list, version, kind)
	if err != nil {
		return Mapping{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known[key] = mapping
	return mapping, nil
}

// Forget drops what is remembered, so that the next Map asks again: a custom
// resource's definition may have been replaced.
func (m *Mapper) Forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.known)
}

func (m *Mapper) recall(key schema.GroupVersionKind) (Mapping, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	mapping, ok := m.known[key]
	return mapping, ok
}

func (m *Mapper) discover(ctx context.Context, version schema.GroupVersion) (metav1.APIResourceList, error) {
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	path := "/apis/" + version.String()
	if version.Group == "" {
		path = "/api/" + version.Version
	}
	var list metav1.APIResourceList
	result := m.client.Get().AbsPath(path).SetHeader("Accept", "application/json").Do(ctx)
	raw, err := result.Raw()
	if err != nil {
		// Raw's own error lacks the words of the Status that was sent.
		err = result.Error()
	}
	if apierrors.IsNotFound(err) {
		return list, fmt.Errorf("the API server does not serve %q: check the apiVersion, or install the definition of the custom resource",
			version)
	}
	if err != nil {
		return list, fmt.Errorf("asking the API server what it serves in %s: %w", version, err)
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return list, fmt.Errorf("reading what the API server serves in %s: %w", version, err)
	}
	return list, nil
}

func find(list metav1.APIResourceList, version schema.GroupVersion, kind string) (Mapping, error) {
	var found *Mapping
	scalable := map[string]bool{}
	for _, r := range list.APIResources {
		if name, ok := strings.CutSuffix(r.Name, "/scale"); ok {
			scalable[name] = true
		}
		if found == nil && strings.EqualFold(r.Kind, kind) && !strings.Contains(r.Name, "/") {
			found = &Mapping{Resource: version.WithResource(r.Name), Kind: r.Kind, Namespaced: r.Namespaced}
		}
	}
	if found == nil {
		return Mapping{}, fmt.Errorf("the API server knows no kind %q in %s", kind, version)
	}
	found.Scalable = scalable[found.Resource.Resource]
	return *found, nil
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package example_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/cluster"
)

// fieldManager applies the manifests.
const fieldManager = "example-test"

// TestReadmesListTheFiles holds the table of each example's README.md against
// the folder.
func TestReadmesListTheFiles(t *testing.T) {
	t.Parallel()
	for _, example := range examples(t) {
		var there, listed []string
		for _, entry := range readDir(t, example) {
			if name := entry.Name(); !strings.HasPrefix(name, ".") && name != "README.md" {
				there = append(there, name)
			}
		}
		for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(readFile(t, filepath.Join(example, "README.md")), -1) {
			listed = append(listed, row[1])
		}
		slices.Sort(there)
		slices.Sort(listed)
		if diff := cmp.Diff(there, listed); diff != "" {
			t.Errorf("%s: the files (-) and those that README.md lists (+):\n%s", example, diff)
		}
	}
}

// TestEveryExampleHasAStory fails for an example that no story tells.
func TestEveryExampleHasAStory(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff(examples(t), slices.Sorted(maps.Keys(stories))); diff != "" {
		t.Errorf("the examples (-) and those with a story (+):\n%s", diff)
	}
}

// TestIndexListsEveryExample holds the table in README.md against the folders.
func TestIndexListsEveryExample(t *testing.T) {
	t.Parallel()
	index, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, link := range regexp.MustCompile(`(?m)^\|.*?\]\(([a-z/-]+)/\)`).FindAllSubmatch(index, -1) {
		listed = append(listed, string(link[1]))
	}
	slices.Sort(listed)
	if diff := cmp.Diff(examples(t), listed); diff != "" {
		t.Errorf("the examples (-) and those of README.md's table (+):\n%s", diff)
	}
}

func TestEveryConfigurationIsValid(t *testing.T) {
	t.Parallel()
	for _, example := range examples(t) {
		validate := exec.CommandContext(t.Context(), runtimeFile(t), "validate", "--strict", filepath.Join(example, "config.yaml"))
		// A variable of this process's environment may be named like a key.
		validate.Env = []string{}
		if output, err := validate.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, output)
		}
	}
}

// TestManifestsAreAccepted has the API server check every object of every
// manifest, the autoscaler's Deployment included, without creating it.
func TestManifestsAreAccepted(t *testing.T) {
	t.Parallel()
	c := cluster.ForTest(t)
	installRollouts(t, c)
	namespace := c.Namespace(t)
	for _, example := range examples(t) {
		t.Run(example, func(t *testing.T) {
			for _, object := range manifests(t, example) {
				if err := apply(t.Context(), c, namespace, object, true); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestManifestsRunTheAutoscalerAsItsServiceAccount(t *testing.T) {
	t.Parallel()
	for _, example := range examples(t) {
		account := accountOf(t, example)
		i := slices.IndexFunc(manifests(t, example), func(o *unstructured.Unstructured) bool {
			used, _, _ := unstructured.NestedString(o.Object, "spec", "template", "spec", "serviceAccountName")
			return o.GetKind() == "Deployment" && o.GetName() == account && used == account
		})
		if i < 0 {
			t.Errorf("%s: no Deployment %s that runs as the ServiceAccount of that name", example, account)
		}
	}
}

// TestManifestsAllowWatches holds each Role to docs/rbac.md: what the autoscaler
// reads for each run it may watch, so that it need not.
func TestManifestsAllowWatches(t *testing.T) {
	t.Parallel()
	for _, example := range examples(t) {
		verbs := map[string][]string{}
		for _, object := range manifests(t, example) {
			var role rbacv1.Role
			if object.GetKind() != "Role" {
				continue
			}
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &role); err != nil {
				t.Fatalf("%s: %v", example, err)
			}
			for _, rule := range role.Rules {
				for _, resource := range rule.Resources {
					name := schema.GroupResource{Group: rule.APIGroups[0], Resource: resource}.String()
					verbs[name] = append(verbs[name], rule.Verbs...)
				}
			}
		}
		// The target is that whose scale it writes.
		var watched []string
		for resource := range verbs {
			if target, isScale := strings.CutSuffix(strings.Replace(resource, "/scale.", ".", 1), "/scale"); isScale || target != resource {
				watched = append(watched, target)
			}
		}
		if len(watched) != 1 {
			t.Errorf("%s: the Role is for the targets %q, not for one", example, watched)
		}
		if verbs["pods"] != nil {
			watched = append(watched, "pods")
		}
		for _, resource := range watched {
			if !slices.Contains(verbs[resource], "watch") {
				t.Errorf("%s: the Role allows %q on %s, but not watch", example, verbs[resource], resource)
			}
		}
	}
}

// TestDockerfilesCopyWhatIsThere checks every Dockerfile's sources against the
// folder, the configuration's hooks against what is copied, and the base against
// the images that there are.
func TestDockerfilesCopyWhatIsThere(t *testing.T) {
	t.Parallel()
	bases := images(t)
	for _, example := range examples(t) {
		dockerfile := readFile(t, filepath.Join(example, "Dockerfile"))
		copied := copies(dockerfile)
		if len(copied) == 0 || !slices.Contains(copied, "config.yaml") {
			t.Errorf("%s: the Dockerfile copies %q, which lacks config.yaml", example, copied)
		}
		for _, source := range copied {
			if _, err := os.Stat(filepath.Join(example, source)); err != nil {
				t.Errorf("%s: the Dockerfile copies what is not there: %v", example, err)
			}
		}
		for _, hook := range hookFiles(t, example) {
			if !slices.Contains(copied, hook) {
				t.Errorf("%s: the Dockerfile does not copy %s", example, hook)
			}
		}
		base := regexp.MustCompile(`(?m)^ARG \w+=custom-pod-autoscaler/([^:]+):latest$`).FindStringSubmatch(dockerfile)
		if base == nil || !slices.Contains(bases, base[1]) {
			t.Errorf("%s: the Dockerfile must begin with one of the images %q as an argument", example, bases)
		}
	}
}

// copies are the sources that a Dockerfile copies from the folder.
func copies(dockerfile string) []string {
	var sources []string
	for _, match := range regexp.MustCompile(`(?m)^COPY ([^-].*) \S+$`).FindAllStringSubmatch(dockerfile, -1) {
		sources = append(sources, strings.Fields(match[1])...)
	}
	return sources
}

// hookFiles are the scripts that the example has.
func hookFiles(t *testing.T, example string) []string {
	t.Helper()
	var hooks []string
	for _, entry := range readDir(t, example) {
		switch path.Ext(entry.Name()) {
		case ".py", ".sh", ".mjs", ".java", ".pl", ".go", ".mod":
			hooks = append(hooks, entry.Name())
		}
	}
	return hooks
}

// images are the names of the images that `make images` builds.
func images(t *testing.T) []string {
	t.Helper()
	var names []string
	for line := range strings.Lines(readFile(t, filepath.Join("..", "images", "variants"))) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] != "#" {
			names = append(names, fields[0])
		}
	}
	return names
}

// examples are the folders that have a configuration.
func examples(t *testing.T) []string {
	t.Helper()
	var found []string
	err := fs.WalkDir(os.DirFS("."), ".", func(file string, _ fs.DirEntry, err error) error {
		if path.Base(file) == "config.yaml" {
			found = append(found, path.Dir(file))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		t.Fatal("there are no examples here")
	}
	slices.Sort(found)
	return found
}

// manifests are the objects of all manifests in a folder, in the order of the
// files' names.
func manifests(t *testing.T, directory string) []*unstructured.Unstructured {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(directory, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var objects []*unstructured.Unstructured
	for _, file := range files {
		if filepath.Base(file) != "config.yaml" {
			objects = append(objects, readObjects(t, file)...)
		}
	}
	return objects
}

func readObjects(t *testing.T, file string) []*unstructured.Unstructured {
	t.Helper()
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewBufferString(readFile(t, file)), 4096)
	var objects []*unstructured.Unstructured
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil || object.GetKind() == "" {
			t.Fatalf("%s: a document is no object: %v", file, err)
		}
		objects = append(objects, object)
	}
}

// accountOf is the name of the example's ServiceAccount, which the autoscaler's
// other objects share.
func accountOf(t *testing.T, directory string) string {
	t.Helper()
	for _, object := range manifests(t, directory) {
		if object.GetKind() == "ServiceAccount" {
			return object.GetName()
		}
	}
	t.Fatalf("%s has no ServiceAccount", directory)
	return ""
}

// apply applies one object, as `kubectl apply --server-side` does, or only has
// the API server check it.
func apply(ctx context.Context, c *cluster.Cluster, namespace string, object *unstructured.Unstructured, dryRun bool) error {
	resource, err := resourceOf(c, namespace, object.GroupVersionKind())
	if err != nil {
		return err
	}
	data, err := object.MarshalJSON()
	if err != nil {
		return err
	}
	options := metav1.PatchOptions{FieldManager: fieldManager, FieldValidation: metav1.FieldValidationStrict}
	if dryRun {
		options.DryRun = []string{metav1.DryRunAll}
	}
	if _, err := resource.Patch(ctx, object.GetName(), types.ApplyPatchType, data, options); err != nil {
		return fmt.Errorf("applying the %s %s: %w", object.GetKind(), object.GetName(), err)
	}
	return nil
}

// resourceOf is the client of a kind's objects, those of the namespace if it is
// namespaced.
func resourceOf(c *cluster.Cluster, namespace string, kind schema.GroupVersionKind) (dynamic.ResourceInterface, error) {
	groups, err := restmapper.GetAPIGroupResources(c.Client().Discovery())
	if err != nil {
		return nil, err
	}
	mapping, err := restmapper.NewDiscoveryRESTMapper(groups).RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return nil, err
	}
	resource := c.Dynamic().Resource(mapping.Resource)
	if mapping.Scope.Name() == "root" {
		return resource, nil
	}
	return resource.Namespace(namespace), nil
}

// installRollouts has the API server serve Rollouts, in place of Argo. Tests
// may do so at the same time, for one another.
func installRollouts(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, crd := range readObjects(t, filepath.Join("testdata", "rollout-crd.yaml")) {
		if err := apply(ctx, c, "", crd, false); err != nil {
			t.Fatal(err)
		}
	}
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		_, err := resourceOf(c, "any", schema.GroupVersionKind{Group: "argoproj.io", Version: "v1alpha1", Kind: "Rollout"})
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("waiting for the API server to serve Rollouts: %v", err)
		}
	}
}

func readFile(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func readDir(t *testing.T, directory string) []os.DirEntry {
	t.Helper()
	entries, err := os.ReadDir(directory)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package acceptance

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/state"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/cluster"
)

const recordName = "custom-pod-autoscaler.web.deployment.apps"

// keeper is where the tests of the ConfigMap store work.
type keeper struct {
	t          testing.TB
	cluster    *cluster.Cluster
	namespace  string
	configMaps corev1client.ConfigMapInterface
}

func keep(t testing.TB, c *cluster.Cluster) keeper {
	t.Helper()
	namespace := c.Namespace(t)
	return keeper{t: t, cluster: c, namespace: namespace, configMaps: c.Client().CoreV1().ConfigMaps(namespace)}
}

// store is one process's store; change may change how it reaches the API
// server.
func (k keeper) store(change func(*rest.Config)) state.Store {
	k.t.Helper()
	to := k.cluster.RESTConfig()
	if change != nil {
		change(to)
	}
	clients, err := resource.Connect(to, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { clients.Core.(*rest.RESTClient).Client.CloseIdleConnections() })
	store, err := state.New(k.t.Context(), config.State{Store: config.StateConfigMap}, clients, k.namespace, recordName)
	if err != nil {
		k.t.Fatal(err)
	}
	return store
}

// stored is the ConfigMap there is.
func (k keeper) stored() *corev1.ConfigMap {
	k.t.Helper()
	found, err := k.configMaps.Get(k.t.Context(), recordName, metav1.GetOptions{})
	if err != nil {
		k.t.Fatal(err)
	}
	return found
}

// edit changes the ConfigMap by hand.
func (k keeper) edit(change func(*corev1.ConfigMap)) {
	k.t.Helper()
	found := k.stored()
	change(found)
	if _, err := k.configMaps.Update(k.t.Context(), found, metav1.UpdateOptions{}); err != nil {
		k.t.Fatal(err)
	}
}

func (k keeper) delete() {
	k.t.Helper()
	if err := k.configMaps.Delete(k.t.Context(), recordName, metav1.DeleteOptions{}); err != nil {
		k.t.Fatal(err)
	}
}

func (k keeper) save(store state.Store, reason string) {
	k.t.Helper()
	if err := store.Save(k.t.Context(), paused(reason)); err != nil {
		k.t.Fatal(err)
	}
}

func (k keeper) wantConflict(store state.Store, reason string) {
	k.t.Helper()
	err := store.Save(k.t.Context(), paused(reason))
	if !errors.Is(err, state.ErrConflict) {
		k.t.Errorf("saving %q: got the error %v, want ErrConflict", reason, err)
	}
}

// wantLoaded checks what a store loads; "" is no record.
func (k keeper) wantLoaded(store state.Store, reason string) {
	k.t.Helper()
	record, err := store.Load(k.t.Context())
	if err != nil {
		k.t.Fatal(err)
	}
	want := paused(reason)
	if reason == "" {
		want = state.Record{}
	}
	if diff := cmp.Diff(want, record); diff != "" {
		k.t.Errorf("another record (-want +got):\n%s", diff)
	}
}

// paused is a record that tells which it is.
func paused(reason string) state.Record {
	return state.Record{
		Version: state.Version,
		Kept:    scale.Kept{Intents: scale.Intents{Pause: &scale.Pause{Reason: reason}}},
		Window:  scale.Window{{At: time.Date(2026, time.June, 1, 12, 0, 0, 1, time.UTC), Replicas: 3}},
	}
}

func TestStoreInAConfigMap(t *testing.T) {
	k := keep(t, cluster.ForTest(t))
	store := k.store(nil)
	k.wantLoaded(store, "")
	k.save(store, "one")
	created := k.stored()
	if diff := cmp.Diff(map[string]string{"app.kubernetes.io/managed-by": "custom-pod-autoscaler"}, created.Labels); diff != "" {
		t.Errorf("other labels (-want +got):\n%s", diff)
	}
	want := map[string]string{
		"state": `{"version":1,"pause":{"reason":"one"},"window":[{"at":"2026-06-01T12:00:00.000000001Z","replicas":3}]}`,
	}
	if diff := cmp.Diff(want, created.Data); diff != "" {
		t.Errorf("other data (-want +got):\n%s", diff)
	}

	k.save(store, "two")
	k.wantLoaded(k.store(nil), "two")

	// What people add stays, and is no other record.
	k.edit(func(c *corev1.ConfigMap) {
		c.Labels["team"] = "shop"
		c.Data["notes"] = "do not delete"
		c.BinaryData = map[string][]byte{"logo": {0xff}}
	})
	k.save(store, "three")
	k.save(store, "four")
	k.wantLoaded(store, "four")
	found := k.stored()
	if found.Labels["team"] != "shop" || found.Data["notes"] != "do not delete" || string(found.BinaryData["logo"]) != "\xff" {
		t.Errorf("what was added is not there any more: %v", found)
	}
	if found.UID != created.UID {
		t.Error("it was replaced by another object")
	}
}

func TestStoreConflict(t *testing.T) {
	k := keep(t, cluster.ForTest(t))
	first, second := k.store(nil), k.store(nil)
	k.wantLoaded(first, "")
	k.wantLoaded(second, "")
	k.save(first, "first")
	k.wantConflict(second, "second")
	k.wantConflict(second, "second")
	k.wantLoaded(second, "first")
	k.save(second, "second")
	k.save(second, "second again")
	k.wantConflict(first, "first again")
	k.wantLoaded(first, "second again")

	// One that saves without having loaded does not overwrite what it does not
	// know either.
	k.wantConflict(k.store(nil), "third")
}

func TestStoreWhoseConfigMapIsDeleted(t *testing.T) {
	k := keep(t, cluster.ForTest(t))
	store, other := k.store(nil), k.store(nil)
	k.save(store, "one")
	k.delete()
	k.save(store, "two")
	k.wantLoaded(other, "two")
	k.delete()
	k.wantLoaded(store, "")
	k.save(store, "three")

	// Deleted, and made again by somebody else.
	k.delete()
	k.save(other, "theirs")
	k.wantConflict(store, "four")
	k.wantLoaded(store, "theirs")
}

func TestStoreUnreadable(t *testing.T) {
	k := keep(t, cluster.ForTest(t))
	for name, content := range map[string]string{
		"text": "hello", "cut": `{"version": 1, "pause": {`, "newer": `{"version": 2, "pause": []}`, "negative": `{"version": 1, "hold": {"replicas": -1}}`,
	} {
		t.Run(name, func(t *testing.T) {
			k := k
			k.t = t
			store := k.store(nil)
			k.wantLoaded(store, "")
			k.save(store, "one")
			k.edit(func(c *corev1.ConfigMap) { c.Data["state"] = content })
			k.wantUnreadable(store)
			k.save(store, "two")
			k.wantLoaded(store, "two")
			k.delete()
		})
	}

	t.Run("bytes that are no text", func(t *testing.T) {
		k := k
		k.t = t
		_, err := k.configMaps.Create(t.Context(), &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: recordName}, BinaryData: map[string][]byte{"state": {0xff, 0}},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		store := k.store(nil)
		k.wantUnreadable(store)
		k.save(store, "two")
		k.wantLoaded(store, "two")
		k.delete()
	})

	t.Run("somebody else's ConfigMap of the name", func(t *testing.T) {
		k := k
		k.t = t
		_, err := k.configMaps.Create(t.Context(), &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: recordName, Labels: map[string]string{"app.kubernetes.io/managed-by": "Helm"}},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		store := k.store(nil)
		k.wantLoaded(store, "")
		k.save(store, "one")
		k.wantLoaded(store, "one")
		if label := k.stored().Labels["app.kubernetes.io/managed-by"]; label != "Helm" {
			t.Errorf("its label is %q now", label)
		}
	})
}

func (k keeper) wantUnreadable(store state.Store) {
	k.t.Helper()
	_, err := store.Load(k.t.Context())
	if !errors.Is(err, state.ErrUnreadable) {
		k.t.Fatalf("got the error %v, want ErrUnreadable", err)
	}
	if want := "loading the state from the ConfigMap " + k.namespace + "/" + recordName + ": the record cannot be read: "; !strings.HasPrefix(err.Error(), want) {
		k.t.Errorf("got the error %v, want one that begins with %q", err, want)
	}
}

func TestStoreForbidden(t *testing.T) {
	k := keep(t, cluster.ForTest(t))
	token, err := k.cluster.ServiceAccountToken(t.Context(), k.namespace, "web")
	if err != nil {
		t.Fatal(err)
	}
	store := k.store(func(c *rest.Config) {
		c.TLSClientConfig = rest.TLSClientConfig{CAFile: k.cluster.CAFile()}
		c.BearerToken = token
	})
	want := "is forbidden: .* (the service account needs the verbs get, create and update on configmaps in this namespace; " +
		"to do without them set state.store to none)"
	_, loading := store.Load(t.Context())
	for what, err := range map[string]error{
		"loading the state from": loading, "saving the state in": store.Save(t.Context(), paused("one")),
	} {
		before, after, _ := strings.Cut(want, ".*")
		if err == nil || !strings.HasPrefix(err.Error(), what+" the ConfigMap "+k.namespace+"/"+recordName+": ") ||
			!strings.Contains(err.Error(), before) || !strings.HasSuffix(err.Error(), after) {
			t.Errorf("got the error %v, want one like %q", err, want)
		}
	}

	// What the error asks for is enough.
	k.grant("web", "get", "create", "update")
	eventually(t, "the rights", func(ctx context.Context) error {
		_, err := store.Load(ctx)
		return err
	})
	k.save(store, "one")
	k.save(store, "two")
	k.delete()
	k.save(store, "three")
	k.wantLoaded(store, "three")
}

// grant lets a service account use ConfigMaps.
func (k keeper) grant(account string, verbs ...string) {
	k.t.Helper()
	meta := metav1.ObjectMeta{Name: account}
	roles := k.cluster.Client().RbacV1()
	_, err := roles.Roles(k.namespace).Create(k.t.Context(), &rbacv1.Role{
		ObjectMeta: meta,
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: verbs}},
	}, metav1.CreateOptions{})
	if err != nil {
		k.t.Fatal(err)
	}
	_, err = roles.RoleBindings(k.namespace).Create(k.t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: meta,
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: account},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: k.namespace, Name: account}},
	}, metav1.CreateOptions{})
	if err != nil {
		k.t.Fatal(err)
	}
}

// wire is what a store's requests go through, with faults.
type wire struct {
	next http.RoundTripper
	// fault makes the next request that writes, instead of next.
	fault func(next http.RoundTripper, request *http.Request) (*http.Response, error)
}

func (w *wire) wrap(c *rest.Config) {
	c.Wrap(func(next http.RoundTripper) http.RoundTripper { w.next = next; return w })
}

func (w *wire) RoundTrip(request *http.Request) (*http.Response, error) {
	if fault := w.fault; fault != nil && request.Method != http.MethodGet {
		w.fault = nil
		return fault(w.next, request)
	}
	return w.next.RoundTrip(request)
}

var errLost = errors.New("the connection broke")

// loseAnswer has the request done and its answer lost.
func loseAnswer(next http.RoundTripper, request *http.Request) (*http.Response, error) {
	response, err := next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	return nil, errLost
}

// loseRequest loses the request itself.
func loseRequest(http.RoundTripper, *http.Request) (*http.Response, error) { return nil, errLost }

// afterAnother has another request done, whose answer nobody waits for, and then
// this one.
func afterAnother(next http.RoundTripper, another, request *http.Request) (*http.Response, error) {
	if _, err := loseAnswer(next, another); !errors.Is(err, errLost) {
		return nil, err
	}
	return next.RoundTrip(request)
}

// A store that does not know whether its save arrived takes its own for its own,
// and somebody else's for somebody else's.
func TestStoreWhoseAnswerIsLost(t *testing.T) {
	c := cluster.ForTest(t)
	lose := func(k keeper, w *wire, store state.Store, reason string, fault func(http.RoundTripper, *http.Request) (*http.Response, error)) {
		k.t.Helper()
		w.fault = fault
		if err := store.Save(k.t.Context(), paused(reason)); !errors.Is(err, errLost) {
			k.t.Fatalf("saving: got the error %v, want errLost", err)
		}
	}
	stories := map[string]func(k keeper, w *wire, store state.Store){
		"a create that arrived": func(k keeper, w *wire, store state.Store) {
			lose(k, w, store, "one", loseAnswer)
			k.save(store, "two")
		},
		"a create that did not": func(k keeper, w *wire, store state.Store) {
			lose(k, w, store, "one", loseRequest)
			k.save(store, "two")
		},
		"an update that arrived": func(k keeper, w *wire, store state.Store) {
			k.save(store, "zero")
			lose(k, w, store, "one", loseAnswer)
			k.save(store, "two")
		},
		"an update that did not": func(k keeper, w *wire, store state.Store) {
			k.save(store, "zero")
			lose(k, w, store, "one", loseRequest)
			k.save(store, "two")
		},
		"the same again": func(k keeper, w *wire, store state.Store) {
			lose(k, w, store, "two", loseAnswer)
			k.save(store, "two")
		},
		"many in a row": func(k keeper, w *wire, store state.Store) {
			for _, reason := range []string{"one", "one and a half", "one and three quarters"} {
				lose(k, w, store, reason, loseAnswer)
			}
			k.save(store, "two")
		},
		"and then deleted": func(k keeper, w *wire, store state.Store) {
			k.save(store, "zero")
			lose(k, w, store, "one", loseAnswer)
			k.delete()
			k.save(store, "two")
		},
		"and then a label was added": func(k keeper, w *wire, store state.Store) {
			lose(k, w, store, "one", loseAnswer)
			k.edit(func(c *corev1.ConfigMap) { c.Labels["team"] = "shop" })
			k.save(store, "two")
			if k.stored().Labels["team"] != "shop" {
				k.t.Error("the label is gone")
			}
		},
		"and then loaded": func(k keeper, w *wire, store state.Store) {
			lose(k, w, store, "one", loseAnswer)
			k.wantLoaded(store, "one")
			k.save(store, "two")
		},
		"and somebody else saved": func(k keeper, w *wire, store state.Store) {
			lose(k, w, store, "one", loseAnswer)
			other := k.store(nil)
			k.wantLoaded(other, "one")
			k.save(other, "theirs")
			k.wantConflict(store, "mine")
			k.wantConflict(store, "mine")
			k.wantLoaded(store, "theirs")
			k.save(store, "two")
		},
		"and somebody else saved before it arrived": func(k keeper, w *wire, store state.Store) {
			lose(k, w, store, "one", loseRequest)
			k.save(k.store(nil), "theirs")
			k.wantConflict(store, "mine")
			k.wantLoaded(store, "theirs")
			k.save(store, "two")
		},
		"the client repeats what had arrived": func(k keeper, w *wire, store state.Store) {
			k.save(store, "zero")
			w.fault = func(next http.RoundTripper, request *http.Request) (*http.Response, error) {
				again := request.Clone(request.Context())
				again.Body, _ = request.GetBody()
				return afterAnother(next, request, again)
			}
			k.save(store, "two")
		},
		// The save sits somewhere on its way and arrives when the next has
		// seen that it is not there.
		"an update that arrives late": func(k keeper, w *wire, store state.Store) {
			k.save(store, "zero")
			var late *http.Request
			lose(k, w, store, "one", func(next http.RoundTripper, request *http.Request) (*http.Response, error) {
				late = request.Clone(k.t.Context())
				late.Body, _ = request.GetBody()
				return loseRequest(next, request)
			})
			w.fault = func(next http.RoundTripper, request *http.Request) (*http.Response, error) {
				return afterAnother(next, late, request)
			}
			k.save(store, "two")
		},
	}
	for name, story := range stories {
		t.Run(name, func(t *testing.T) {
			k, w := keep(t, c), &wire{}
			store := k.store(w.wrap)
			k.wantLoaded(store, "")
			story(k, w, store)
			k.save(store, "two")
			k.wantLoaded(k.store(nil), "two")
			if w.fault != nil {
				t.Error("the fault did not happen")
			}
		})
	}
}

// An API server that does not answer holds nobody up beyond the context.
func TestStoreWhoseAPIServerHangs(t *testing.T) {
	k := keep(t, cluster.ForTest(t))
	w := &wire{}
	store := k.store(w.wrap)
	k.save(store, "one")
	ctx, cancel := context.WithCancel(t.Context())
	w.fault = func(_ http.RoundTripper, request *http.Request) (*http.Response, error) {
		cancel()
		<-request.Context().Done()
		return nil, request.Context().Err()
	}
	if err := store.Save(ctx, paused("two")); !errors.Is(err, context.Canceled) {
		t.Errorf("got the error %v, want that of the context", err)
	}
	if err := store.Save(ctx, paused("two")); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: got the error %v, want that of the context", err)
	}
	k.wantLoaded(k.store(nil), "one")
	k.save(store, "two")
}

// A record that does not fit is refused, and the one before stays.
func TestStoreTooLarge(t *testing.T) {
	k := keep(t, cluster.ForTest(t))
	store := k.store(nil)
	k.save(store, "one")
	if err := store.Save(t.Context(), paused(strings.Repeat("x", 1<<20))); err == nil || !strings.Contains(err.Error(), "more than 1048576 (1 MiB)") {
		t.Errorf("got the error %v", err)
	}
	// It would fit alone, but there is more in the ConfigMap.
	k.edit(func(c *corev1.ConfigMap) { c.Data["notes"] = strings.Repeat("y", 500<<10) })
	k.wantLoaded(store, "one")
	if err := store.Save(t.Context(), paused(strings.Repeat("x", 900<<10))); !apierrors.IsInvalid(err) && !apierrors.IsRequestEntityTooLargeError(err) {
		t.Errorf("got the error %v", err)
	}
	k.wantLoaded(store, "one")
	k.save(store, "two")
}

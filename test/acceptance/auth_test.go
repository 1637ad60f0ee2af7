// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package acceptance

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/api/auth"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/cluster"
)

// authority is a namespace with an autoscaler that asks the API server about
// its callers, as the service account autoscaler.
type authority struct {
	t         *testing.T
	cluster   *cluster.Cluster
	namespace string
}

// allow gives a service account verbs on the autoscaler of a target.
func (a authority) allow(namespace, account, target string, verbs ...string) {
	a.t.Helper()
	meta := metav1.ObjectMeta{GenerateName: account + "-"}
	rbac := a.cluster.Client().RbacV1()
	role, err := rbac.Roles(namespace).Create(a.t.Context(), &rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{{
		APIGroups: []string{"custompodautoscaler.com"}, Resources: []string{"custompodautoscalers"}, ResourceNames: []string{target}, Verbs: verbs,
	}}}, metav1.CreateOptions{})
	if err != nil {
		a.t.Fatal(err)
	}
	_, err = rbac.RoleBindings(namespace).Create(a.t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role.Name},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: a.namespace, Name: account}},
	}, metav1.CreateOptions{})
	if err != nil {
		a.t.Fatal(err)
	}
}

// delegate lets the autoscaler's own service account have others reviewed.
func (a authority) delegate() {
	a.t.Helper()
	bindings := a.cluster.Client().RbacV1().ClusterRoleBindings()
	binding, err := bindings.Create(a.t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "auth-test-"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "system:auth-delegator"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: a.namespace, Name: "autoscaler"}},
	}, metav1.CreateOptions{})
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(a.t.Context()), patience)
		defer cancel()
		if err := bindings.Delete(ctx, binding.Name, metav1.DeleteOptions{}); err != nil {
			a.t.Error(err)
		}
	})
}

// token is one of a service account, which is created if need be.
func (a authority) token(account string, audiences ...string) string {
	a.t.Helper()
	token, err := a.cluster.ServiceAccountToken(a.t.Context(), a.namespace, account)
	if err != nil {
		a.t.Fatal(err)
	}
	if len(audiences) == 0 {
		return token
	}
	answer, err := a.cluster.Client().CoreV1().ServiceAccounts(a.namespace).CreateToken(a.t.Context(), account, &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{Audiences: audiences},
	}, metav1.CreateOptions{})
	if err != nil {
		a.t.Fatal(err)
	}
	return answer.Status.Token
}

// signed is a token again, signed by the cluster's key, that expires then.
func (a authority) signed(token string, expires time.Time) string {
	a.t.Helper()
	parts := strings.Split(token, ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		a.t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		a.t.Fatal(err)
	}
	claims["iat"], claims["nbf"], claims["exp"] = expires.Add(-time.Hour).Unix(), expires.Add(-time.Hour).Unix(), expires.Unix()
	if payload, err = json.Marshal(claims); err != nil {
		a.t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(a.cluster.Directory(), "service-account.key"))
	if err != nil {
		a.t.Fatal(err)
	}
	block, _ := pem.Decode(content)
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		a.t.Fatal(err)
	}
	text := parts[0] + "." + base64.RawURLEncoding.EncodeToString(payload)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		a.t.Fatal(err)
	}
	signature := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// open is the Authenticator of the target web.
func (a authority) open(c config.KubernetesAuth, log *slog.Logger) *auth.Authenticator {
	a.t.Helper()
	host, port := a.cluster.Address()
	asInPod := &rest.Config{
		Host: "https://" + host + ":" + port, BearerToken: a.token("autoscaler"),
		TLSClientConfig: rest.TLSClientConfig{CAFile: a.cluster.CAFile()},
	}
	clients, err := resource.Connect(asInPod, "auth-test", log)
	if err != nil {
		a.t.Fatal(err)
	}
	c.Enabled = true
	authenticator, err := auth.New(config.API{Auth: config.Auth{Kubernetes: c}}, auth.Target{Namespace: a.namespace, Name: "web"}, clients, log)
	if err != nil {
		a.t.Fatal(err)
	}
	return authenticator
}

// permitted is the status of a request with a token that needs a role, and who
// makes it or why it is refused.
func permitted(ctx context.Context, t *testing.T, a *auth.Authenticator, token string, needed config.Role) (status int, says string) {
	t.Helper()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	caller, err := a.Identify(r)
	if err == nil {
		err = a.Permit(ctx, caller, needed)
	}
	if refused, ok := errors.AsType[*auth.Error](err); ok {
		return refused.Status, refused.Message
	}
	if err != nil {
		t.Fatal(err)
	}
	return http.StatusOK, caller.Name()
}

func TestTheAPIServerReviewsCallers(t *testing.T) {
	t.Parallel()
	c := cluster.ForTest(t)
	a := authority{t: t, cluster: c, namespace: c.Namespace(t)}
	elsewhere := c.Namespace(t)
	a.delegate()
	reader, operator, other, stranger, absent := a.token("reader"), a.token("operator"), a.token("other"), a.token("stranger"), a.token("absent")
	a.allow(a.namespace, "reader", "web", "get")
	a.allow(a.namespace, "operator", "web", "get", "operate")
	a.allow(a.namespace, "other", "api", "*")
	a.allow(elsewhere, "stranger", "web", "*")
	bound := a.token("reader", "autoscaler")
	accounts := c.Client().CoreV1().ServiceAccounts(a.namespace)
	if err := accounts.Delete(t.Context(), "absent", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}

	const unknown = "the token is not known, or not valid any more"
	name := func(account string) string { return "system:serviceaccount:" + a.namespace + ":" + account }
	lacks := func(verb, account string) string {
		return fmt.Sprintf("this needs the verb %s on custompodautoscalers.custompodautoscaler.com web in the namespace %s, which a Role must give to %q",
			verb, a.namespace, name(account))
	}
	authenticator := a.open(config.KubernetesAuth{}, slog.New(slog.DiscardHandler))
	// A Role counts a moment after it was made.
	for _, token := range []string{reader, operator} {
		waitPermitted(t, authenticator, token, http.StatusOK)
	}
	for _, test := range []struct {
		name, token string
		needed      config.Role
		status      int
		says        string
	}{
		{"who may read", reader, config.RoleRead, 200, name("reader")},
		{"may not operate", reader, config.RoleOperate, 403, lacks("operate", "reader")},
		{"who may operate", operator, config.RoleOperate, 200, name("operator")},
		{"may not configure", operator, config.RoleConfigure, 403, lacks("configure", "operator")},
		{"a right on another target", other, config.RoleRead, 403, lacks("get", "other")},
		{"a right in another namespace", stranger, config.RoleRead, 403, lacks("get", "stranger")},
		{"an account that is gone", absent, config.RoleRead, 401, unknown},
		{"an expired token", a.signed(reader, time.Now().Add(-time.Minute)), config.RoleRead, 401, unknown},
		{"which would be good otherwise", a.signed(reader, time.Now().Add(time.Hour)), config.RoleRead, 200, name("reader")},
		{"one that somebody else signed", reader[:len(reader)-8] + "AAAAAAAA", config.RoleRead, 401, unknown},
		{"one for somebody else", bound, config.RoleRead, 401, unknown},
		{"no token of a cluster", "guessed", config.RoleRead, 401, unknown},
	} {
		if status, says := permitted(t.Context(), t, authenticator, test.token, test.needed); status != test.status || says != test.says {
			t.Errorf("%s: got %d %s\nwant %d %s", test.name, status, says, test.status, test.says)
		}
	}

	own := a.open(config.KubernetesAuth{Audiences: []string{"autoscaler"}}, slog.New(slog.DiscardHandler))
	if status, says := permitted(t.Context(), t, own, bound, config.RoleRead); status != http.StatusOK {
		t.Errorf("a token for our audience: got %d %s", status, says)
	}
	if status, says := permitted(t.Context(), t, own, reader, config.RoleRead); status != http.StatusUnauthorized {
		t.Errorf("a token for the API server: got %d %s", status, says)
	}

	// What is remembered does not last.
	if err := accounts.Delete(t.Context(), "operator", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	waitPermitted(t, authenticator, operator, http.StatusUnauthorized)
}

// waitPermitted waits until who has a token may read, or not.
func waitPermitted(t *testing.T, a *auth.Authenticator, token string, want int) {
	t.Helper()
	eventually(t, "the right of a caller", func(ctx context.Context) error {
		if status, says := permitted(ctx, t, a, token, config.RoleRead); status != want {
			return fmt.Errorf("got %d %s, want %d", status, says, want)
		}
		return nil
	})
}

func TestReviewsThatAreForbidden(t *testing.T) {
	t.Parallel()
	c := cluster.ForTest(t)
	a := authority{t: t, cluster: c, namespace: c.Namespace(t)}
	var log bytes.Buffer
	authenticator := a.open(config.KubernetesAuth{}, slog.New(slog.NewTextHandler(&log, nil)))
	for range 2 {
		status, says := permitted(t.Context(), t, authenticator, a.token("reader"), config.RoleRead)
		if status != http.StatusServiceUnavailable || strings.Contains(says, "forbidden") {
			t.Errorf("got %d %s", status, says)
		}
	}
	if strings.Count(log.String(), "level=WARN") != 1 || !strings.Contains(log.String(), "system:auth-delegator") {
		t.Errorf("want one warning with the remedy, got\n%s", &log)
	}
}

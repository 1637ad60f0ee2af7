// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
)

// apiServer reviews tokens as it is told, without a network, so that time can be
// virtual. The acceptance tests ask a real one.
type apiServer struct {
	t *testing.T

	mu sync.Mutex
	// users are who has a token, audiences whom it is meant for, and rights
	// what users may do, as "user verb".
	users     map[string]authenticationv1.UserInfo
	audiences map[string][]string
	rights    []string
	// takes is how long an answer takes, away what it fails with.
	takes time.Duration
	away  error
	// asked are the reviews there were.
	asked []string
	// reviews are those of rights as they came.
	reviews []authorizationv1.SubjectAccessReviewSpec
}

func newAPIServer(t *testing.T) *apiServer {
	t.Helper()
	return &apiServer{
		t: t,
		users: map[string]authenticationv1.UserInfo{
			"ann": {Username: "ann", UID: "7", Groups: []string{"shop"}, Extra: map[string]authenticationv1.ExtraValue{"scopes": {"a", "b"}}},
			"bot": {Username: "system:serviceaccount:shop:bot"},
		},
		audiences: map[string][]string{},
		rights:    []string{"ann get", "system:serviceaccount:shop:bot operate"},
	}
}

var codecs = func() serializer.CodecFactory {
	scheme := runtime.NewScheme()
	if err := errors.Join(authenticationv1.AddToScheme(scheme), authorizationv1.AddToScheme(scheme)); err != nil {
		panic(err)
	}
	return serializer.NewCodecFactory(scheme)
}()

// RoundTrip answers a request.
func (s *apiServer) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	takes, away := s.takes, s.away
	s.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if away != nil {
		return nil, away
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	review, _, err := codecs.UniversalDeserializer().Decode(body, nil, nil)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch review := review.(type) {
	case *authenticationv1.TokenReview:
		s.asked = append(s.asked, review.Spec.Token)
		review.Status.User, review.Status.Authenticated = s.users[review.Spec.Token], s.users[review.Spec.Token].Username != ""
		for _, audience := range s.audiences[review.Spec.Token] {
			if slices.Contains(review.Spec.Audiences, audience) {
				review.Status.Audiences = append(review.Status.Audiences, audience)
			}
		}
		review.Kind, review.APIVersion = "TokenReview", "authentication.k8s.io/v1"
		review.Spec.Token = ""
	case *authorizationv1.SubjectAccessReview:
		asked := review.Spec.User + " " + review.Spec.ResourceAttributes.Verb
		s.asked = append(s.asked, asked)
		s.reviews = append(s.reviews, review.Spec)
		review.Status.Allowed = slices.Contains(s.rights, asked)
		review.Status.Reason = "secret"
		review.Kind, review.APIVersion = "SubjectAccessReview", "authorization.k8s.io/v1"
	}
	content, err := json.Marshal(review)
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: http.StatusCreated, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(bytes.NewReader(content)), Request: r,
	}, nil
}

// change changes what it answers.
func (s *apiServer) change(to func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	to()
}

// wantAsked checks what was asked since the last time.
func (s *apiServer) wantAsked(moment string, want ...string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if diff := cmp.Diff(want, s.asked); diff != "" {
		s.t.Errorf("%s: what was asked (-want +got):\n%s", moment, diff)
	}
	s.asked = nil
}

func (s *apiServer) open(log *slog.Logger, c config.Auth) *Authenticator {
	s.t.Helper()
	clients, err := resource.Connect(&rest.Config{Host: "http://kubernetes.invalid", Transport: s}, "test", log)
	if err != nil {
		s.t.Fatal(err)
	}
	c.Kubernetes.Enabled = true
	a, err := New(config.API{Auth: c}, Target{Namespace: "shop", Name: "web"}, clients, log)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// outcome is what becomes of a request with a token that needs a role.
func outcome(t *testing.T, a *Authenticator, token string, needed config.Role) string {
	t.Helper()
	caller, err := a.Identify(request(t, "Bearer "+token))
	if err == nil {
		err = a.Permit(t.Context(), caller, needed)
	}
	if err == nil {
		return caller.Name()
	}
	refused, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("got %#v, want an *Error", err)
	}
	return fmt.Sprint(refused.Status, " ", refused.Message)
}

const (
	unknownToken = "401 the token is not known, or not valid any more"
	unreachable  = "503 the API server could not be asked who this is and what they may do: try again later"
)

func lacks(verb, user string) string {
	return fmt.Sprintf("403 this needs the verb %s on custompodautoscalers.custompodautoscaler.com web in the namespace shop, which a Role must give to %q", verb, user)
}

func TestReviews(t *testing.T) {
	s := newAPIServer(t)
	a := s.open(silent, config.Auth{Token: tokens(t)})
	for _, test := range []struct {
		name, token string
		needed      config.Role
		want        string
	}{
		{"a right", "ann", config.RoleRead, "user:ann"},
		{"of a service account", "bot", config.RoleOperate, "system:serviceaccount:shop:bot"},
		{"open to all", "ann", "", "user:ann"},
		{"without the verb", "ann", config.RoleOperate, lacks("operate", "ann")},
		{"verbs include no others", "bot", config.RoleRead, lacks("get", "system:serviceaccount:shop:bot")},
		{"an unknown role", "bot", "root", "403 nobody has the role root"},
		{"a wrong token", "eve", config.RoleRead, unknownToken},
		{"a token of a file", "read-token", config.RoleRead, "token:grafana"},
	} {
		if got := outcome(t, a, test.token, test.needed); got != test.want {
			t.Errorf("%s: got %s\nwant %s", test.name, got, test.want)
		}
	}
	s.wantAsked("what is in a file is not asked", "ann", "ann get", "bot", "system:serviceaccount:shop:bot operate",
		"ann operate", "system:serviceaccount:shop:bot get", "eve")
	want := authorizationv1.SubjectAccessReviewSpec{
		User: "ann", UID: "7", Groups: []string{"shop"}, Extra: map[string]authorizationv1.ExtraValue{"scopes": {"a", "b"}},
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: "shop", Name: "web", Verb: "get", Group: "custompodautoscaler.com", Resource: "custompodautoscalers",
		},
	}
	if diff := cmp.Diff(want, s.reviews[0]); diff != "" {
		t.Errorf("the review (-want +got):\n%s", diff)
	}
}

func TestAudiences(t *testing.T) {
	s := newAPIServer(t)
	s.users["any"] = authenticationv1.UserInfo{Username: "ann"}
	s.audiences = map[string][]string{"ann": {"autoscaler", "other"}, "bot": {"other"}}
	a := s.open(silent, config.Auth{Kubernetes: config.KubernetesAuth{Audiences: []string{"autoscaler", "scaler"}}})
	for token, want := range map[string]string{
		"ann": "user:ann",
		"bot": unknownToken,
		// What knows no audiences has not checked them.
		"any": unknownToken,
	} {
		if got := outcome(t, a, token, config.RoleRead); got != want {
			t.Errorf("%s: got %s, want %s", token, got, want)
		}
	}
}

func TestAnswersAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newAPIServer(t)
		a := s.open(silent, config.Auth{})
		want := func(moment, token string, needed config.Role, want string) {
			t.Helper()
			if got := outcome(t, a, token, needed); got != want {
				t.Errorf("%s: got %s\nwant %s", moment, got, want)
			}
		}
		want("a right", "ann", config.RoleRead, "user:ann")
		want("not a right", "ann", config.RoleOperate, lacks("operate", "ann"))
		want("a stranger", "eve", config.RoleRead, unknownToken)
		s.wantAsked("at first", "ann", "ann get", "ann operate", "eve")

		s.change(func() {
			s.users["eve"], s.rights = authenticationv1.UserInfo{Username: "eve"}, []string{"ann operate", "eve get"}
			delete(s.users, "ann")
		})
		time.Sleep(refusedFor - 1)
		want("still", "ann", config.RoleRead, "user:ann")
		want("still", "ann", config.RoleOperate, lacks("operate", "ann"))
		want("still", "eve", config.RoleRead, unknownToken)
		s.wantAsked("within 2 s")

		time.Sleep(time.Nanosecond)
		want("what was refused is asked again", "ann", config.RoleOperate, "user:ann")
		want("what was refused is asked again", "eve", config.RoleRead, "user:eve")
		s.wantAsked("after 2 s", "ann operate", "eve", "eve get")

		time.Sleep(acceptedFor - refusedFor)
		want("a token that expired is refused", "ann", config.RoleRead, unknownToken)
		s.wantAsked("after 10 s", "ann")
		want("and not asked about again", "ann", config.RoleRead, unknownToken)
		s.wantAsked("at once")
	})
}

// Whoever comes while a question is under way waits for its answer, and one who
// leaves does not end it.
func TestQuestionsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newAPIServer(t)
		s.takes = time.Second
		a := s.open(silent, config.Auth{})
		began := time.Now()
		var group sync.WaitGroup
		for range 50 {
			group.Go(func() {
				if got := outcome(t, a, "ann", config.RoleRead); got != "user:ann" {
					t.Errorf("got %s", got)
				}
			})
		}
		group.Wait()
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("it took %s, want one review after the other", took)
		}
		s.wantAsked("50 callers", "ann", "ann get")

		r := request(t, "Bearer bot")
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan error)
		go func() {
			_, err := a.Identify(r.WithContext(ctx))
			left <- err
		}()
		synctest.Wait()
		stays := make(chan error)
		go func() {
			_, err := a.Identify(r)
			stays <- err
		}()
		synctest.Wait()
		leave()
		if err := <-left; err == nil {
			t.Error("who left is answered")
		}
		if err := <-stays; err != nil {
			t.Errorf("who stays is refused: %v", err)
		}
		s.wantAsked("two callers", "bot")
	})
}

func TestTheAPIServerIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newAPIServer(t)
		var log bytes.Buffer
		a := s.open(slog.New(slog.NewTextHandler(&log, nil)), config.Auth{Token: tokens(t)})
		if got := outcome(t, a, "ann", ""); got != "user:ann" {
			t.Errorf("got %s at first", got)
		}
		s.change(func() { s.away = errors.New("secret: connection refused") })
		for _, token := range []string{"bot", "ann", "eve"} {
			if got := outcome(t, a, token, config.RoleRead); got != unreachable {
				t.Errorf("%s: got %s", token, got)
			}
		}
		if got := outcome(t, a, "read-token", config.RoleRead); got != "token:grafana" {
			t.Errorf("a token of a file: got %s", got)
		}
		s.change(func() { s.away, s.takes = nil, time.Minute })
		began := time.Now()
		if got := outcome(t, a, "bot", config.RoleRead); got != unreachable || time.Since(began) != reviewTimeout {
			t.Errorf("an answer that takes a minute: got %s after %s", got, time.Since(began))
		}
		s.change(func() { s.takes = 0 })
		if got := outcome(t, a, "bot", config.RoleOperate); got != "system:serviceaccount:shop:bot" {
			t.Errorf("got %s at the end", got)
		}
		if warned := strings.Count(log.String(), "level=WARN"); warned != 1 || !strings.Contains(log.String(), "system:auth-delegator") {
			t.Errorf("warned %d times, want 1 and the remedy, in\n%s", warned, &log)
		}
	})
}

// A flood of tokens fills no memory, and drives out none that is good.
func TestFloods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newAPIServer(t)
		a := s.open(silent, config.Auth{})
		for i := range 3 * maxRemembered {
			// As a client of good standing goes on asking.
			if i%100 == 0 && outcome(t, a, "ann", "") != "user:ann" {
				t.Fatal("ann is not known")
			}
			if got := outcome(t, a, fmt.Sprint("token", i), ""); got != unknownToken && got != unreachable {
				t.Fatal(got)
			}
		}
		if kept := a.reviewer.strangers.kept.Len(); kept > maxRemembered {
			t.Errorf("%d answers are kept", kept)
		}
		if kept := a.reviewer.identities.kept.Len(); kept != 1 {
			t.Errorf("%d users are kept", kept)
		}
	})
}

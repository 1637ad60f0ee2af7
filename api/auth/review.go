// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
)

// What a user of the cluster must have rights on, in RBAC's terms. The object
// need not exist.
const (
	reviewGroup    = "custompodautoscaler.com"
	reviewResource = "custompodautoscalers"
)

const (
	// reviewTimeout bounds a review, the wait for its turn included.
	reviewTimeout = 5 * time.Second
	// acceptedFor and refusedFor are how long an answer counts: a token or a
	// right that is taken away is good for that long.
	acceptedFor = 10 * time.Second
	refusedFor  = 2 * time.Second
	// maxRemembered bounds each of the caches, in answers.
	maxRemembered = 1024
)

// reviewer asks the API server. It is safe for concurrent use.
type reviewer struct {
	authentication, authorization rest.Interface
	audiences                     []string
	target                        Target
	log                           *slog.Logger

	// identities and rights are what was answered. Tokens that were refused are
	// apart, so that a flood of them drives out none that is good.
	identities, strangers, rights *answers
	// away says that the last review could not be made.
	away atomic.Bool
}

func newReviewer(clients *resource.Clients, audiences []string, target Target, log *slog.Logger) *reviewer {
	return &reviewer{
		authentication: clients.Authentication, authorization: clients.Authorization,
		audiences: audiences, target: target, log: log,
		identities: newAnswers(), strangers: newAnswers(), rights: newAnswers(),
	}
}

// errUnreachable leaves out what happened: that is in the log.
var errUnreachable = refuse(http.StatusServiceUnavailable, "the API server could not be asked who this is and what they may do: try again later")

// identify is the user whose token this is.
func (r *reviewer) identify(ctx context.Context, token string, sum digest) (Caller, error) {
	key := string(sum[:])
	if _, refused := r.strangers.get(key); refused {
		return Caller{}, errWrongToken
	}
	answer, err := r.identities.ask(ctx, key, func(ctx context.Context) (any, time.Duration, error) {
		user, err := r.reviewToken(ctx, token)
		if err == nil && user == nil {
			r.strangers.add(key, nil, refusedFor)
			return user, 0, nil
		}
		return user, acceptedFor, err
	})
	if err != nil {
		return Caller{}, errUnreachable
	}
	user := answer.(*authenticationv1.UserInfo) //nolint:forcetypeassert // that is what it was asked for
	if user == nil {
		return Caller{}, errWrongToken
	}
	return Caller{name: nameOf(user), user: user, token: sum}, nil
}

// nameOf keeps the names of users apart from those of other callers.
func nameOf(user *authenticationv1.UserInfo) string {
	if strings.HasPrefix(user.Username, "system:") {
		return user.Username
	}
	return "user:" + user.Username
}

// reviewToken is whose token it is; nil is nobody's, or one for somebody else
// than us.
func (r *reviewer) reviewToken(ctx context.Context, token string) (*authenticationv1.UserInfo, error) {
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: r.audiences}}
	if err := r.review(ctx, r.authentication, "tokenreviews", review); err != nil {
		return nil, err
	}
	status := review.Status
	// An authenticator that knows nothing of audiences lists none: the token is
	// then one for the API server itself.
	meant := len(r.audiences) == 0 || slices.ContainsFunc(status.Audiences, func(audience string) bool {
		return slices.Contains(r.audiences, audience)
	})
	if !status.Authenticated || !meant || status.User.Username == "" {
		return nil, nil //nolint:nilnil // nobody
	}
	return &status.User, nil
}

// verbs are those of the roles.
var verbs = map[config.Role]string{config.RoleRead: "get", config.RoleOperate: "operate", config.RoleConfigure: "configure"}

// permit asks whether the user may do what needs the role.
func (r *reviewer) permit(ctx context.Context, c Caller, needed config.Role) error {
	verb, ok := verbs[needed]
	if !ok {
		return refuse(http.StatusForbidden, "nobody has the role %s", needed)
	}
	answer, err := r.rights.ask(ctx, verb+" "+string(c.token[:]), func(ctx context.Context) (any, time.Duration, error) {
		allowed, err := r.reviewAccess(ctx, c.user, verb)
		if allowed {
			return true, acceptedFor, err
		}
		return false, refusedFor, err
	})
	if err != nil {
		return errUnreachable
	}
	if allowed, _ := answer.(bool); !allowed {
		return refuse(http.StatusForbidden, "this needs the verb %s on %s.%s %s in the namespace %s, which a Role must give to %q",
			verb, reviewResource, reviewGroup, r.target.Name, r.target.Namespace, c.user.Username)
	}
	return nil
}

func (r *reviewer) reviewAccess(ctx context.Context, user *authenticationv1.UserInfo, verb string) (bool, error) {
	extra := make(map[string]authorizationv1.ExtraValue, len(user.Extra))
	for key, values := range user.Extra {
		extra[key] = authorizationv1.ExtraValue(values)
	}
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: user.Username, UID: user.UID, Groups: user.Groups, Extra: extra,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Group: reviewGroup, Resource: reviewResource, Verb: verb, Namespace: r.target.Namespace, Name: r.target.Name,
		},
	}}
	err := r.review(ctx, r.authorization, "subjectaccessreviews", review)
	return review.Status.Allowed && !review.Status.Denied, err
}

// review creates a review, which the API server answers with its status. The
// first that fails is logged, until one succeeds.
func (r *reviewer) review(ctx context.Context, client rest.Interface, resource string, review runtime.Object) error {
	// Retrying within the timeout would only make others wait.
	err := client.Post().Resource(resource).Body(review).MaxRetries(0).Do(ctx).Into(review)
	if err == nil {
		if r.away.Swap(false) {
			r.log.Info("The API server reviews tokens again")
		}
		return nil
	}
	if !r.away.Swap(true) {
		r.log.Warn("The API server cannot be asked about the callers of the REST API: they are refused with 503. "+
			"Check that it is reached, and that the service account may create tokenreviews and subjectaccessreviews (the ClusterRole system:auth-delegator)",
			"asked", resource, "error", err)
	}
	return err
}

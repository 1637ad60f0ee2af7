// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Package auth tells who makes a request of the REST API, by a token of a
// file, a token that the API server of Kubernetes knows, or a client
// certificate, and whether that caller may do what it asks for.
package auth

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
)

// Caller is who makes a request. The zero Caller is anonymous.
type Caller struct {
	// name is empty for who is anonymous.
	name string
	// role is what a token of a file or a certificate allows.
	role config.Role
	// user is whom the API server knows by the token of this digest; nil for
	// the others.
	user  *authenticationv1.UserInfo
	token digest
}

// digest is the SHA-256 of a token, which stands for it where it is kept.
type digest [sha256.Size]byte

// Name is what the caller is called in logs, and counted by:
// "token:ops", "cert:grafana", "system:serviceaccount:shop:grafana",
// "user:ann" for other users of the cluster, "local" for the control socket,
// and "anonymous".
func (c Caller) Name() string {
	if c.name == "" {
		return "anonymous"
	}
	return c.name
}

// Anonymous says whether the caller showed no credentials.
func (c Caller) Anonymous() bool { return c.name == "" }

// Local is who uses the control socket, and may do everything.
func Local() Caller { return Caller{name: "local", role: config.RoleConfigure} }

type contextKey struct{}

// WithCaller is a request's context that knows the caller.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, contextKey{}, c)
}

// CallerFrom is the caller of a request: anonymous where nobody said who.
func CallerFrom(ctx context.Context) Caller {
	c, _ := ctx.Value(contextKey{}).(Caller)
	return c
}

// Error is why a request is refused, in words for the caller: they hold nothing
// of the credentials, nor of what the API server said.
type Error struct {
	// Status is 401, 403 or 503. An answer of 401 is to carry Challenge in its
	// header WWW-Authenticate.
	Status  int
	Message string
}

// Challenge is what an answer of 401 asks for.
const Challenge = "Bearer"

func (e *Error) Error() string { return e.Message }

func refuse(status int, format string, args ...any) *Error {
	return &Error{Status: status, Message: fmt.Sprintf(format, args...)}
}

// Authenticator tells who may do what. It is safe for concurrent use.
type Authenticator struct {
	configured   bool
	files        []*tokenFile
	certificates []config.CertificateAuth
	reviewer     *reviewer
}

// Target is what is scaled, on which a user of the cluster must have rights.
type Target struct{ Namespace, Name string }

// New reads the files of tokens, so that a fault in them shows before anything
// is served. The clients are needed with auth.kubernetes only.
func New(c config.API, target Target, clients *resource.Clients, log *slog.Logger) (*Authenticator, error) {
	a := &Authenticator{configured: c.AuthConfigured(), certificates: c.Auth.Certificates}
	var err error
	if a.files, err = openTokens(c.Auth.Token, log); err != nil {
		return nil, err
	}
	if c.Auth.Kubernetes.Enabled {
		a.reviewer = newReviewer(clients, c.Auth.Kubernetes.Audiences, target, log)
	}
	return a, nil
}

// Identify tells who makes a request. A token is asked for first: a wrong one is
// refused even if there is a certificate. Without authentication everybody is
// anonymous, whatever they show. An error is an *Error, of the status 401 or
// 503.
func (a *Authenticator) Identify(r *http.Request) (Caller, error) {
	if !a.configured {
		return Caller{}, nil
	}
	headers := r.Header.Values("Authorization")
	if len(headers) == 0 {
		return a.byCertificate(r.TLS)
	}
	token, ok := bearer(headers)
	if !ok {
		return Caller{}, refuse(http.StatusUnauthorized, "the header Authorization must be given once, as Bearer, a space, and a token")
	}
	return a.byToken(r.Context(), token)
}

// bearer is the token of an Authorization header (RFC 6750, 2.1).
func bearer(headers []string) (token string, ok bool) {
	if len(headers) != 1 {
		return "", false
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	token = strings.TrimLeft(token, " ")
	return token, strings.EqualFold(scheme, "Bearer") && isToken(token)
}

// isToken says whether text is a b64token.
func isToken(text string) bool {
	text = strings.TrimRight(text, "=")
	for i := range len(text) {
		c := text[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		digit := '0' <= c && c <= '9'
		if !letter && !digit && strings.IndexByte("-._~+/", c) < 0 {
			return false
		}
	}
	return text != ""
}

func (a *Authenticator) byToken(ctx context.Context, token string) (Caller, error) {
	sum := digest(sha256.Sum256([]byte(token)))
	if caller, ok := a.inFiles(sum); ok {
		return caller, nil
	}
	if a.reviewer == nil {
		return Caller{}, errWrongToken
	}
	return a.reviewer.identify(ctx, token, sum)
}

// errWrongToken says the same whatever was wrong with the token.
var errWrongToken = refuse(http.StatusUnauthorized, "the token is not known, or not valid any more")

// Permit tells whether a caller may do what needs a role; the empty role is
// open to everybody. An error is an *Error, of the status 401, 403 or 503.
func (a *Authenticator) Permit(ctx context.Context, c Caller, needed config.Role) error {
	switch {
	case c.role.Includes(needed):
		return nil
	case c.user != nil && a.reviewer != nil:
		return a.reviewer.permit(ctx, c, needed)
	case !c.Anonymous():
		return refuse(http.StatusForbidden, "this needs the role %s, which %s does not have: see apiConfig.auth", needed, c.name)
	case a.configured:
		return refuse(http.StatusUnauthorized, "this needs the role %s: show %s", needed, a.ways())
	case needed == config.RoleRead:
		return nil
	default:
		return refuse(http.StatusForbidden, "this needs the role %s, and the API asks nobody who they are: configure apiConfig.auth, "+
			"or run `custom-pod-autoscaler <command>` beside the autoscaler, such as with kubectl exec in its pod", needed)
	}
}

// ways are the credentials that a caller may show.
func (a *Authenticator) ways() string {
	token := len(a.files) > 0 || a.reviewer != nil
	switch {
	case token && len(a.certificates) > 0:
		return "a token, in the header Authorization: Bearer TOKEN, or a client certificate"
	case token:
		return "a token, in the header Authorization: Bearer TOKEN"
	default:
		return "a client certificate"
	}
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var silent = slog.New(slog.DiscardHandler)

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// tokens are files with a token of each role, which is "<role>-token".
func tokens(t *testing.T) config.TokenAuth {
	t.Helper()
	directory := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(directory, name)
		write(t, path, content)
		return path
	}
	return config.TokenAuth{
		ReadFile:      file("read", "read-token grafana\n\nother-token\nboth-token reader\n"),
		OperateFile:   file("operate", "operate-token  on call  \r\nboth-token operator"),
		ConfigureFile: file("configure", "configure-token=="),
	}
}

func open(t *testing.T, c config.Auth) *Authenticator {
	t.Helper()
	a, err := New(config.API{Auth: c}, Target{Namespace: "shop", Name: "web"}, nil, silent)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// request is one with these Authorization headers.
func request(t *testing.T, headers ...string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/status", nil)
	if len(headers) > 0 {
		r.Header["Authorization"] = headers
	}
	return r
}

// shown is the state of a connection whose client has shown a certificate.
func shown(change func(*x509.Certificate)) *tls.ConnectionState {
	certificate := &x509.Certificate{SerialNumber: big.NewInt(7), NotAfter: time.Now().Add(time.Hour)}
	change(certificate)
	return &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{certificate}}}
}

func named(name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: name} }
}

// wantError checks an error's status and words; a status of 0 is none.
func wantError(t *testing.T, err error, status int, words string) {
	t.Helper()
	if status == 0 {
		if err != nil {
			t.Errorf("got the error %v, want none", err)
		}
		return
	}
	refused, ok := errors.AsType[*Error](err)
	if !ok || refused.Status != status || refused.Message != words {
		t.Errorf("got %#v\nwant %d %s", err, status, words)
	}
}

const (
	wrongToken = "the token is not known, or not valid any more"
	malformed  = "the header Authorization must be given once, as Bearer, a space, and a token"
)

func TestIdentify(t *testing.T) {
	a := open(t, config.Auth{Token: tokens(t), Certificates: []config.CertificateAuth{
		{Name: "grafana", Role: config.RoleRead},
		{Name: "web.example", Role: config.RoleOperate},
		{Name: "spiffe://example/web", Role: config.RoleConfigure},
	}})
	for name, test := range map[string]struct {
		headers []string
		state   *tls.ConnectionState
		want    string
		role    config.Role
		// status and words are those of a refusal.
		status int
		words  string
	}{
		"nothing shown":                {want: "anonymous"},
		"no certificate shown":         {state: &tls.ConnectionState{}, want: "anonymous"},
		"one that is not verified":     {state: &tls.ConnectionState{PeerCertificates: shown(named("grafana")).VerifiedChains[0]}, want: "anonymous"},
		"a token":                      {headers: []string{"Bearer read-token"}, want: "token:grafana", role: config.RoleRead},
		"of nobody in particular":      {headers: []string{"Bearer other-token"}, want: "token:readFile:3", role: config.RoleRead},
		"of a name with a space":       {headers: []string{"Bearer operate-token"}, want: "token:on call", role: config.RoleOperate},
		"that ends with =":             {headers: []string{"bearer  configure-token=="}, want: "token:configureFile:1", role: config.RoleConfigure},
		"in two files":                 {headers: []string{"BEARER both-token"}, want: "token:operator", role: config.RoleOperate},
		"a wrong token":                {headers: []string{"Bearer read-tokem"}, status: 401, words: wrongToken},
		"half a token":                 {headers: []string{"Bearer read-toke"}, status: 401, words: wrongToken},
		"more than a token":            {headers: []string{"Bearer read-tokens"}, status: 401, words: wrongToken},
		"the holder":                   {headers: []string{"Bearer grafana"}, status: 401, words: wrongToken},
		"a wrong token, but certified": {headers: []string{"Bearer x"}, state: shown(named("grafana")), status: 401, words: wrongToken},
		"a token, and certified":       {headers: []string{"Bearer read-token"}, state: shown(named("web.example")), want: "token:grafana", role: config.RoleRead},
		"an empty header":              {headers: []string{""}, status: 401, words: malformed},
		"no token":                     {headers: []string{"Bearer"}, status: 401, words: malformed},
		"an empty token":               {headers: []string{"Bearer "}, status: 401, words: malformed},
		"only padding":                 {headers: []string{"Bearer =="}, status: 401, words: malformed},
		"a token alone":                {headers: []string{"read-token"}, status: 401, words: malformed},
		"another scheme":               {headers: []string{"Basic cmVhZC10b2tlbjo="}, status: 401, words: malformed},
		"two tokens":                   {headers: []string{"Bearer read-token x"}, status: 401, words: malformed},
		"a list":                       {headers: []string{"Bearer read-token, Bearer x"}, status: 401, words: malformed},
		"two headers":                  {headers: []string{"Bearer read-token", "Bearer read-token"}, status: 401, words: malformed},
		"a malformed header, but certified": {
			headers: []string{"Basic x"}, state: shown(named("grafana")), status: 401, words: malformed,
		},
		"a certificate's common name": {state: shown(named("grafana")), want: "cert:grafana", role: config.RoleRead},
		"its DNS name": {
			state: shown(func(c *x509.Certificate) { c.DNSNames = []string{"a.example", "web.example"} }), want: "cert:a.example", role: config.RoleOperate,
		},
		"its URI": {
			state: shown(func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "spiffe", Host: "example", Path: "/web"}} }),
			want:  "cert:spiffe://example/web", role: config.RoleConfigure,
		},
		"several that are named": {
			state: shown(func(c *x509.Certificate) { c.Subject.CommonName, c.DNSNames = "grafana", []string{"web.example"} }),
			want:  "cert:grafana", role: config.RoleOperate,
		},
		"a certificate nobody named": {state: shown(named("Grafana")), want: "cert:Grafana"},
		"a certificate without name": {state: shown(named("")), want: "cert:serial:7"},
		"a certificate that expired since": {
			state:  shown(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }),
			status: 401, words: "the client certificate has expired",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := request(t, test.headers...)
			r.TLS = test.state
			caller, err := a.Identify(r)
			wantError(t, err, test.status, test.words)
			if err == nil && (caller.Name() != test.want || caller.role != test.role) {
				t.Errorf("got %s with the role %q, want %s with %q", caller.Name(), caller.role, test.want, test.role)
			}
			if err != nil && !caller.Anonymous() {
				t.Errorf("a refused caller is %s", caller.Name())
			}
		})
	}
}

func TestEveryCertificateHasARole(t *testing.T) {
	a := open(t, config.Auth{Certificates: []config.CertificateAuth{{Name: "ops", Role: config.RoleConfigure}, {Name: "*", Role: config.RoleRead}}})
	for name, want := range map[string]config.Role{"ops": config.RoleConfigure, "other": config.RoleRead, "": config.RoleRead} {
		r := request(t)
		r.TLS = shown(named(name))
		if caller, err := a.Identify(r); err != nil || caller.role != want {
			t.Errorf("%q: got %+v, %v", name, caller, err)
		}
	}
}

// A proxy may send credentials that are meant for itself.
func TestWithoutAuthenticationNothingShownMatters(t *testing.T) {
	a := open(t, config.Auth{})
	for _, headers := range [][]string{nil, {"Bearer x"}, {"Basic x"}, {""}} {
		r := request(t, headers...)
		r.TLS = shown(named("grafana"))
		if caller, err := a.Identify(r); err != nil || !caller.Anonymous() {
			t.Errorf("%q: got %+v, %v", headers, caller, err)
		}
	}
}

func TestPermit(t *testing.T) {
	const (
		showToken = "show a token, in the header Authorization: Bearer TOKEN"
		open403   = ", and the API asks nobody who they are: configure apiConfig.auth, or run `custom-pod-autoscaler <command>` beside the " +
			"autoscaler, such as with kubectl exec in its pod"
	)
	none := config.Auth{}
	token := config.Auth{Token: tokens(t)}
	certificates := config.Auth{Certificates: []config.CertificateAuth{{Name: "*", Role: config.RoleRead}}}
	both := config.Auth{Token: token.Token, Certificates: certificates.Certificates}
	holder := Caller{name: "token:ops", role: config.RoleOperate}
	for name, test := range map[string]struct {
		auth   config.Auth
		caller Caller
		needed config.Role
		status int
		words  string
	}{
		"open to all":                  {auth: token, needed: ""},
		"anonymous reads without auth": {auth: none, needed: config.RoleRead},
		"but does not operate":         {auth: none, needed: config.RoleOperate, status: 403, words: "this needs the role operate" + open403},
		"nor configure":                {auth: none, needed: config.RoleConfigure, status: 403, words: "this needs the role configure" + open403},
		"nor anything unknown":         {auth: none, needed: "root", status: 403, words: "this needs the role root" + open403},
		"with auth reads neither":      {auth: token, needed: config.RoleRead, status: 401, words: "this needs the role read: " + showToken},
		"and is told of certificates":  {auth: certificates, needed: config.RoleRead, status: 401, words: "this needs the role read: show a client certificate"},
		"and of both":                  {auth: both, needed: config.RoleOperate, status: 401, words: "this needs the role operate: " + showToken + ", or a client certificate"},
		"a lower role":                 {auth: token, caller: holder, needed: config.RoleRead},
		"the same role":                {auth: token, caller: holder, needed: config.RoleOperate},
		"a higher role": {
			auth: token, caller: holder, needed: config.RoleConfigure,
			status: 403, words: "this needs the role configure, which token:ops does not have: see apiConfig.auth",
		},
		"no role at all": {
			auth: certificates, caller: Caller{name: "cert:x"}, needed: config.RoleRead,
			status: 403, words: "this needs the role read, which cert:x does not have: see apiConfig.auth",
		},
		"whoever is local": {auth: none, caller: Local(), needed: config.RoleConfigure},
	} {
		t.Run(name, func(t *testing.T) {
			wantError(t, open(t, test.auth).Permit(t.Context(), test.caller, test.needed), test.status, test.words)
		})
	}
}

func TestCallerOfARequest(t *testing.T) {
	if !CallerFrom(t.Context()).Anonymous() {
		t.Error("nobody is not anonymous")
	}
	if got := CallerFrom(WithCaller(t.Context(), Local())); got.Name() != "local" || got.Anonymous() {
		t.Errorf("got %+v", got)
	}
}

func TestFaultsOfTokenFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	secret := "s3cr\"et"
	for name, test := range map[string]struct{ content, want string }{
		"nothing":            {"", "it holds no token: write one a line"},
		"empty lines":        {"\n \r\n\t", "it holds no token: write one a line"},
		"no token":           {"good-one\n" + secret + " ops\n", "line 2: a token holds letters, digits and -._~+/ only, with = at its end"},
		"no UTF-8":           {"t0ken \xff\xfe\x00", "line 1: the holder's name must be up to 128 printable characters"},
		"a comment":          {"# tokens of the team", "line 1: a token holds letters, digits and -._~+/ only, with = at its end"},
		"a long name":        {"t0ken " + strings.Repeat("ä", 129), "line 1: the holder's name must be up to 128 printable characters"},
		"an unprintable one": {"t0ken o\x1bps", "line 1: the holder's name must be up to 128 printable characters"},
		"too many":           {strings.Repeat("t0ken\n", 1001), "it holds more than 1000 tokens"},
		"too large":          {strings.Repeat("a", 1<<20+1), file + " is larger than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			write(t, file, test.content)
			_, err := New(config.API{Auth: config.Auth{Token: config.TokenAuth{OperateFile: file}}}, Target{}, nil, silent)
			if err == nil || !strings.HasPrefix(err.Error(), "reading apiConfig.auth.token.operateFile: ") || !strings.HasSuffix(err.Error(), test.want) {
				t.Errorf("got %v\nwant ... %s", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Error("the error shows the token")
			}
		})
	}
	for name, path := range map[string]string{"missing": "/none", "a folder": t.TempDir()} {
		_, err := New(config.API{Auth: config.Auth{Token: config.TokenAuth{ReadFile: path}}}, Target{}, nil, silent)
		if err == nil || !strings.Contains(err.Error(), "apiConfig.auth.token.readFile: ") || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// The story of a file of tokens: they are exchanged, then the file is broken,
// which is told of once and lets nobody in, and put right.
func TestTokensAreExchanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files := tokens(t)
		var log bytes.Buffer
		a, err := New(config.API{Auth: config.Auth{Token: files}}, Target{}, nil, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		want := func(moment string, knows ...string) {
			t.Helper()
			for _, token := range []string{"read-token", "new-token", "operate-token"} {
				_, err := a.Identify(request(t, "Bearer "+token))
				if knows := slices.Contains(knows, token); knows != (err == nil) {
					t.Errorf("%s: %s: %v, want it known: %t", moment, token, err, knows)
				}
			}
		}
		want("at first", "read-token", "operate-token")
		// Of the same length, at the same time.
		write(t, files.ReadFile, "new-token\nread-token")
		want("at once", "read-token", "operate-token")
		time.Sleep(time.Second)
		want("both", "read-token", "new-token", "operate-token")
		write(t, files.ReadFile, "new-token\n")
		time.Sleep(time.Second)
		want("the old one taken out", "new-token", "operate-token")
		for range 5 {
			write(t, files.ReadFile, "")
			time.Sleep(time.Second)
			want("emptied", "operate-token")
		}
		if err := os.Remove(files.ReadFile); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		want("removed", "operate-token")
		write(t, files.ReadFile, "new-token\n")
		time.Sleep(time.Second)
		want("put back", "new-token", "operate-token")
		if warnings := strings.Count(log.String(), "level=WARN"); warnings != 1 || strings.Contains(log.String(), "new-token") {
			t.Errorf("got %d warnings, want 1, and no token, in\n%s", warnings, &log)
		}
	})
}

func TestEveryTokenIsCompared(t *testing.T) {
	all := make([]token, 100)
	for i := range all {
		all[i] = token{sum: sha256.Sum256(fmt.Append(nil, i)), holder: strconv.Itoa(i)}
	}
	for _, test := range []struct{ shown, want string }{{"0", "0"}, {"50", "50"}, {"99", "99"}, {"none", ""}} {
		var compared []digest
		found, ok := find(all, sha256.Sum256([]byte(test.shown)), func(a, b []byte) int {
			compared = append(compared, digest(a))
			return subtle.ConstantTimeCompare(a, b)
		})
		if ok != (test.want != "") || found.holder != test.want {
			t.Errorf("%s: found %q, %t", test.shown, found.holder, ok)
		}
		want := make([]digest, len(all))
		for i := range all {
			want[i] = all[i].sum
		}
		if diff := cmp.Diff(want, compared); diff != "" {
			t.Errorf("%s: not every token was compared, in their order (-want +got):\n%s", test.shown, diff)
		}
	}
}

func FuzzBearer(f *testing.F) {
	for _, header := range []string{"Bearer abc", "bearer  abc==", "Bearer", "Basic YTpi", "Bearer a b", "Bearer \x00", "Bearer ="} {
		f.Add(header)
	}
	f.Fuzz(func(t *testing.T, header string) {
		token, ok := bearer([]string{header})
		if !ok {
			return
		}
		if token == "" || strings.Trim(token, " ,\t\r\n\"") != token || !strings.HasSuffix(header, token) {
			t.Errorf("%q gives the token %q", header, token)
		}
		if again, ok := bearer([]string{"Bearer " + token}); !ok || again != token {
			t.Errorf("the token %q is read as %q", token, again)
		}
	})
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// authority issues certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key := newKey(t)
	template := template(name)
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{certificate: parsed, key: key, pem: encode("CERTIFICATE", der)}
}

// issue makes a certificate and its key, as PEM.
func (a *authority) issue(t *testing.T, name string, changes ...func(*x509.Certificate)) (certificate, key []byte) {
	t.Helper()
	private := newKey(t)
	template := template(name)
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	for _, change := range changes {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &private.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", encoded)
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// pair is a client's certificate.
func (a *authority) pair(t *testing.T, name string, changes ...func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(a.issue(t, name, changes...))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

func encode(kind string, content []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content})
}

func writeFile(t *testing.T, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// buffer is a log that may be read while it is written.
type buffer struct {
	mu      sync.Mutex
	content bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.content.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.content.String()
}

// secured is a server over HTTPS that answers with who the client is.
type secured struct {
	t       *testing.T
	files   config.API
	log     *buffer
	address string
	issuer  *authority
}

func serveSecured(t *testing.T, clients *authority) *secured {
	t.Helper()
	directory := t.TempDir()
	s := &secured{t: t, log: &buffer{}, issuer: newAuthority(t, "servers"), files: config.API{
		UseHTTPS: true, CertFile: filepath.Join(directory, "tls.crt"), KeyFile: filepath.Join(directory, "tls.key"),
		Auth: config.Auth{Certificates: []config.CertificateAuth{{Name: "*", Role: config.RoleRead}}},
	}}
	s.renew("first")
	if clients != nil {
		s.files.ClientCAFile = filepath.Join(directory, "ca.crt")
		writeFile(t, s.files.ClientCAFile, clients.pem)
	}
	log := slog.New(slog.NewTextHandler(s.log, nil))
	authenticator := authenticate(t, s.files)
	settings, handler, err := secure(s.files, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, err := authenticator.Identify(r)
		fmt.Fprint(w, caller.Name(), " ", err)
	}), log)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := newServer(listener, handler, log, make(chan struct{}))
	server.server.TLSConfig, server.secure = settings, true
	s.address = listener.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

// renew writes a new certificate and its key.
func (s *secured) renew(name string) {
	s.t.Helper()
	certificate, key := s.issuer.issue(s.t, name)
	writeFile(s.t, s.files.CertFile, certificate)
	writeFile(s.t, s.files.KeyFile, key)
}

// ask makes a request on a connection of its own, and tells the answer and the
// name in the server's certificate.
func (s *secured) ask(settings *tls.Config, certificates ...tls.Certificate) (answer, server string, err error) {
	s.t.Helper()
	if settings == nil {
		settings = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	settings.RootCAs, settings.Certificates = s.issuer.pool(), certificates
	// What the server asks for does not matter to a client that insists.
	if len(certificates) > 0 {
		settings.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certificates[0], nil }
	}
	transport := &http.Transport{TLSClientConfig: settings, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "https://"+s.address, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return "", "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return string(body), response.TLS.PeerCertificates[0].Subject.CommonName, err
}

// get makes a request, and tells the answer and whether that ends the
// connection.
func (s *secured) get(transport http.RoundTripper) string {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "https://"+s.address, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if response.Close {
		return string(body) + " close"
	}
	return string(body)
}

// eventually asks until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	late := time.After(time.Minute)
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for !holds() {
		select {
		case <-again.C:
		case <-late:
			t.Fatalf("%s: it does not come", what)
		}
	}
}

// The story of a certificate: it is renewed, then broken, which is told of once
// and leaves it in force, and put right.
func TestTheCertificateIsRenewed(t *testing.T) {
	s := serveSecured(t, nil)
	serves := func() string {
		t.Helper()
		_, name, err := s.ask(nil)
		if err != nil {
			t.Error(err)
		}
		return name
	}
	if got := serves(); got != "first" {
		t.Errorf("got %s at first", got)
	}
	s.renew("second")
	eventually(t, "the second certificate", func() bool { return serves() == "second" })

	// Without its key.
	certificate, _ := s.issuer.issue(t, "third")
	writeFile(t, s.files.CertFile, certificate)
	eventually(t, "a warning", func() bool {
		if got := serves(); got != "second" {
			t.Errorf("got %s", got)
		}
		return strings.Contains(s.log.String(), "level=WARN")
	})
	if warnings := strings.Count(s.log.String(), "level=WARN"); warnings != 1 {
		t.Errorf("got %d warnings, want 1, in\n%s", warnings, s.log)
	}
	s.renew("fourth")
	eventually(t, "the fourth certificate", func() bool { return serves() == "fourth" })
}

func TestClientCertificates(t *testing.T) {
	clients := newAuthority(t, "clients")
	stranger := newAuthority(t, "clients")
	s := serveSecured(t, clients)
	expired := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }
	early := func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour / 2) }
	notForClients := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }
	for name, test := range map[string]struct {
		certificates []tls.Certificate
		want         string
		refused      bool
	}{
		"none":                   {want: "anonymous <nil>"},
		"a good one":             {certificates: []tls.Certificate{clients.pair(t, "grafana")}, want: "cert:grafana <nil>"},
		"of another authority":   {certificates: []tls.Certificate{stranger.pair(t, "grafana")}, refused: true},
		"an expired one":         {certificates: []tls.Certificate{clients.pair(t, "grafana", expired)}, refused: true},
		"one of the future":      {certificates: []tls.Certificate{clients.pair(t, "grafana", early)}, refused: true},
		"a server's certificate": {certificates: []tls.Certificate{clients.pair(t, "grafana", notForClients)}, refused: true},
		"the server's own":       {certificates: []tls.Certificate{s.issuer.pair(t, "first")}, refused: true},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(name+"/"+tls.VersionName(version), func(t *testing.T) {
				got, _, err := s.ask(&tls.Config{MinVersion: version, MaxVersion: version}, test.certificates...)
				if (err != nil) != test.refused || got != test.want {
					t.Errorf("got %q, %v", got, err)
				}
			})
		}
	}
	_, _, err := s.ask(&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}) //nolint:gosec // it is refused
	if err == nil {
		t.Error("TLS 1.1 is served")
	}
}

// The story of an authority: a second one joins it, then it is taken out, then
// the file is broken, which leaves the second in force.
func TestAuthoritiesAreExchanged(t *testing.T) {
	first, second := newAuthority(t, "first"), newAuthority(t, "second")
	one, two := first.pair(t, "one"), second.pair(t, "two")
	s := serveSecured(t, first)
	serves := func(certificate tls.Certificate, want string) bool {
		got, _, err := s.ask(nil, certificate)
		return err == nil && got == "cert:"+want+" <nil>"
	}
	if !serves(one, "one") || serves(two, "two") {
		t.Error("at first another authority counts")
	}
	writeFile(t, s.files.ClientCAFile, append(bytes.Clone(first.pem), second.pem...))
	eventually(t, "the second authority", func() bool { return serves(two, "two") })
	if !serves(one, "one") {
		t.Error("the first is gone")
	}
	// A connection of then stays open.
	kept := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.issuer.pool(), Certificates: []tls.Certificate{one}}}
	defer kept.CloseIdleConnections()
	if got := s.get(kept); got != "cert:one <nil>" {
		t.Errorf("got %s", got)
	}
	// A session of then is not taken up again: it is verified anew.
	cache := &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(0), ServerName: "127.0.0.1"}
	if _, _, err := s.ask(cache, one); err != nil {
		t.Error(err)
	}
	writeFile(t, s.files.ClientCAFile, second.pem)
	eventually(t, "the end of the first", func() bool { return !serves(one, "one") })
	if got, _, err := s.ask(cache, one); err == nil {
		t.Errorf("its session goes on: %s", got)
	}
	if got := s.get(kept); got != "anonymous <nil> close" {
		t.Errorf("the connection goes on: %s", got)
	}
	writeFile(t, s.files.ClientCAFile, []byte("none"))
	eventually(t, "a warning", func() bool {
		if !serves(two, "two") || serves(one, "one") {
			t.Error("a broken file changes who is let in")
		}
		return strings.Contains(s.log.String(), "level=WARN")
	})
}

func TestHTTP2(t *testing.T) {
	for name, clients := range map[string]*authority{"alone": nil, "with client certificates": newAuthority(t, "clients")} {
		t.Run(name, func(t *testing.T) {
			s := serveSecured(t, clients)
			transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.issuer.pool()}, ForceAttemptHTTP2: true}
			defer transport.CloseIdleConnections()
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+s.address, nil)
			if err != nil {
				t.Fatal(err)
			}
			response, err := (&http.Client{Transport: transport}).Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if response.ProtoMajor != 2 {
				t.Errorf("got %s", response.Proto)
			}
		})
	}
}

func TestFaultsOfTLSFiles(t *testing.T) {
	directory := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(directory, name)
		writeFile(t, path, content)
		return path
	}
	issuer := newAuthority(t, "servers")
	certificate, key := issuer.issue(t, "one")
	_, otherKey := issuer.issue(t, "two")
	good, goodKey := file("tls.crt", certificate), file("tls.key", key)
	for name, test := range map[string]struct {
		cert, key, ca string
		want          []string
	}{
		"no certificate":       {"/none.crt", goodKey, "", []string{"reading apiConfig.certFile: ", "/none.crt"}},
		"no key":               {good, "/none.key", "", []string{"reading apiConfig.keyFile: ", "/none.key"}},
		"another's key":        {good, file("other.key", otherKey), "", []string{"apiConfig.certFile " + good + " and apiConfig.keyFile", "does not match"}},
		"a key cut off":        {good, file("cut.key", key[:len(key)/2]), "", []string{"apiConfig.keyFile", "cut off in its last block"}},
		"a chain cut off":      {file("cut.crt", append(bytes.Clone(certificate), issuer.pem[:99]...)), goodKey, "", []string{"apiConfig.certFile", "cut off in its last block"}},
		"no authorities":       {good, goodKey, "/none.crt", []string{"reading apiConfig.clientCAFile: ", "/none.crt"}},
		"an empty file":        {good, goodKey, file("empty.crt", nil), []string{"apiConfig.clientCAFile", "empty.crt: it holds no PEM certificate"}},
		"authorities cut off":  {good, goodKey, file("cut-ca.crt", append(bytes.Clone(issuer.pem), issuer.pem[:99]...)), []string{"apiConfig.clientCAFile", "cut off"}},
		"no certificate in it": {good, goodKey, file("bad.crt", encode("CERTIFICATE", []byte("x"))), []string{"apiConfig.clientCAFile", "bad.crt: x509: "}},
		"a folder for a file":  {good, goodKey, directory, []string{"reading apiConfig.clientCAFile: ", "is not a regular file"}},
		"a key for authority":  {good, goodKey, goodKey, []string{"it holds no PEM certificate"}},
		"a device for the key": {good, "/dev/zero", "", []string{"reading apiConfig.keyFile: /dev/zero is not a regular file"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := secure(config.API{CertFile: test.cert, KeyFile: test.key, ClientCAFile: test.ca}, http.NotFoundHandler(), slog.New(slog.DiscardHandler))
			if err == nil {
				t.Fatal("got no error")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v\nwant %s in it", err, want)
				}
			}
		})
	}
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
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

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	key := newKey(t)
	template := certificate(name)
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{certificate: parsed, key: key, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// issue makes a certificate of 127.0.0.1 and its key, as PEM.
func (a *authority) issue(t testing.TB, name string) (certificatePEM, keyPEM []byte) {
	t.Helper()
	key := newKey(t)
	template := certificate(name)
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func certificate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

// mutual is a server that answers with the name of the client's certificate,
// which its authority must have issued, as it did the server's own.
type mutual struct {
	*httptest.Server
	authority atomic.Pointer[authority]
	conns     atomic.Int32
}

func serveMutual(t testing.TB, issuer *authority) *mutual {
	t.Helper()
	server := &mutual{Server: httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.TLS.PeerCertificates[0].Subject.CommonName)
	}))}
	server.authority.Store(issuer)
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		issuer := server.authority.Load()
		pair, err := tls.X509KeyPair(issuer.issue(t, "server"))
		if err != nil {
			return nil, err
		}
		clients := x509.NewCertPool()
		clients.AddCert(issuer.certificate)
		return &tls.Config{
			MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair},
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients, NextProtos: []string{"h2", "http/1.1"},
		}, nil
	}}
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			server.conns.Add(1)
		}
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

// material are the files of a method's certificates.
type material struct {
	t         testing.TB
	directory string
}

func (m material) path(name string) string { return filepath.Join(m.directory, name) }

// write writes files in place.
func (m material) write(files map[string][]byte) {
	m.t.Helper()
	for name, content := range files {
		if err := os.WriteFile(m.path(name), content, 0o600); err != nil {
			m.t.Fatal(err)
		}
	}
}

// writeClient writes the client's certificate and key, as issued.
func (m material) writeClient(certificate, key []byte) {
	m.t.Helper()
	m.write(map[string][]byte{"tls.crt": certificate, "tls.key": key})
}

func (m material) method(url string) config.Method {
	method := httpMethod(url)
	method.HTTP.CACert, method.HTTP.ClientCert, method.HTTP.ClientKey = m.path("ca.crt"), m.path("tls.crt"), m.path("tls.key")
	return method
}

func TestTLSFollowsItsFiles(t *testing.T) {
	t.Parallel()
	first, second := newAuthority(t, "first"), newAuthority(t, "second")
	server := serveMutual(t, first)
	files := material{t, t.TempDir()}
	executor := newExecutor(t, files.method(server.URL), newPool(t, PoolOptions{}))
	answers := func(want string) {
		t.Helper()
		result, err := executor.Execute(t.Context(), Call{Payload: []byte(payload)})
		if err != nil || string(result.Output) != want {
			t.Fatalf("got %q, %v; want %q", result.Output, err, want)
		}
	}
	fails := func(kind Kind, parts ...string) {
		t.Helper()
		_, err := executor.Execute(t.Context(), Call{Payload: []byte(payload)})
		failed := fault(t, err)
		if failed.Kind != kind || failed.Err == nil {
			t.Errorf("got kind %q, cause %v", failed.Kind, failed.Err)
		}
		for _, part := range parts {
			if !strings.Contains(failed.Message, part) {
				t.Errorf("got message %q without %q", failed.Message, part)
			}
		}
	}

	fails(KindStart, files.path("ca.crt"), "no such file")
	files.write(map[string][]byte{"ca.crt": first.pem})
	files.writeClient(first.issue(t, "old client"))
	answers("old client")
	answers("old client")
	if server.conns.Load() != 1 {
		t.Errorf("two calls made %d connections", server.conns.Load())
	}

	// The client's certificate is renewed: the old connection is not for it.
	newCertificate, newKey := first.issue(t, "new client")
	files.write(map[string][]byte{"tls.crt": newCertificate[:len(newCertificate)/2]})
	fails(KindStart, files.path("tls.crt"), "cut off")
	files.write(map[string][]byte{"tls.crt": newCertificate})
	fails(KindStart, files.path("tls.crt"), files.path("tls.key"), "does not match")
	files.write(map[string][]byte{"tls.key": nil})
	fails(KindStart, files.path("tls.crt"), files.path("tls.key"))
	files.writeClient(newCertificate, newKey)
	answers("new client")

	// The server moves to another authority: first it, then our files.
	server.authority.Store(second)
	server.CloseClientConnections()
	_, _ = executor.Execute(t.Context(), Call{}) // may still use a connection that is being closed
	fails(KindTransport, "POST "+server.URL+": no response: ", "certificate")
	files.write(map[string][]byte{"ca.crt": []byte("-----BEGIN")})
	fails(KindStart, files.path("ca.crt"))
	files.write(map[string][]byte{"ca.crt": []byte("nothing")})
	fails(KindStart, "caCert "+files.path("ca.crt")+" holds no PEM certificate")
	files.write(map[string][]byte{"ca.crt": append(first.pem, second.pem...)})
	fails(KindTransport) // the server may hang up before it says why
	files.writeClient(second.issue(t, "moved client"))
	answers("moved client")

	// As Kubernetes does it: by another file in the same place.
	other := material{t, t.TempDir()}
	other.writeClient(second.issue(t, "mounted client"))
	for _, name := range []string{"tls.crt", "tls.key"} {
		if err := os.Rename(other.path(name), files.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	answers("mounted client")

	// Nobody trusts by a connection that was trusted once.
	files.write(map[string][]byte{"ca.crt": first.pem})
	fails(KindTransport, "certificate")
}

func TestTLSTrustsTheSystemOnlyByDefault(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(echo))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	_, err := newExecutor(t, httpMethod(server.URL), newPool(t, PoolOptions{})).Execute(t.Context(), Call{})
	if failed := fault(t, err); failed.Kind != KindTransport || !strings.Contains(failed.Message, "unknown authority") {
		t.Errorf("got kind %q, message %q", failed.Kind, failed.Message)
	}
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/rotate"
)

// secure are the settings of HTTPS, for a handler that they wrap if need be. The
// certificate, and the authorities of client certificates if there are any, are
// read again when their files change. What cannot be used then leaves the last
// in force. A client need not show a certificate, as it may show a token.
func secure(c config.API, handler http.Handler, log *slog.Logger) (*tls.Config, http.Handler, error) {
	pair, err := rotate.New(log, func(contents [][]byte) (*tls.Certificate, error) { return parsePair(c, contents[0], contents[1]) },
		rotate.File{Key: "apiConfig.certFile", Path: c.CertFile}, rotate.File{Key: "apiConfig.keyFile", Path: c.KeyFile})
	if err != nil {
		return nil, nil, err
	}
	settings := &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			current, _ := pair.Current()
			return current, nil
		},
	}
	if c.ClientCAFile == "" {
		return settings, handler, nil
	}
	current, err := rotate.New(log, func(contents [][]byte) (*authorities, error) { return parseAuthorities(c, contents[0]) },
		rotate.File{Key: "apiConfig.clientCAFile", Path: c.ClientCAFile})
	if err != nil {
		return nil, nil, err
	}
	settings.ClientAuth = tls.VerifyClientCertIfGiven
	base := settings.Clone()
	settings.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		settings := base.Clone()
		known, _ := current.Current()
		settings.ClientCAs = known.pool
		return settings, nil
	}
	return settings, vouched(current, handler), nil
}

func parsePair(c config.API, certificate, key []byte) (*tls.Certificate, error) {
	err := errors.Join(rotate.Whole(certificate), rotate.Whole(key))
	var pair tls.Certificate
	if err == nil {
		pair, err = tls.X509KeyPair(certificate, key)
	}
	if err != nil {
		return nil, fmt.Errorf("reading apiConfig.certFile %s and apiConfig.keyFile %s: %w", c.CertFile, c.KeyFile, err)
	}
	return &pair, nil
}

// authorities are whose client certificates are accepted.
type authorities struct {
	pool *x509.CertPool
	all  []*x509.Certificate
}

func parseAuthorities(c config.API, content []byte) (*authorities, error) {
	found := &authorities{pool: x509.NewCertPool()}
	err := rotate.Whole(content)
	for rest := content; err == nil; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		var certificate *x509.Certificate
		if certificate, err = x509.ParseCertificate(block.Bytes); err == nil {
			found.pool.AddCert(certificate)
			found.all = append(found.all, certificate)
		}
	}
	if err == nil && len(found.all) == 0 {
		err = errors.New("it holds no PEM certificate")
	}
	if err != nil {
		return nil, fmt.Errorf("reading apiConfig.clientCAFile %s: %w", c.ClientCAFile, err)
	}
	return found, nil
}

// vouched has who is on a connection of before an authority was taken out count
// as one who has shown no certificate, and connect anew.
func vouched(current *rotate.Value[*authorities], next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
			next.ServeHTTP(w, r)
			return
		}
		known, _ := current.Current()
		if !slices.ContainsFunc(r.TLS.VerifiedChains, known.vouch) {
			w.Header().Set("Connection", "close")
			state := *r.TLS
			state.VerifiedChains = nil
			r = r.WithContext(r.Context())
			r.TLS = &state
		}
		next.ServeHTTP(w, r)
	})
}

// vouch says whether a chain ends with one of them.
func (a *authorities) vouch(chain []*x509.Certificate) bool {
	return slices.ContainsFunc(a.all, chain[len(chain)-1].Equal)
}

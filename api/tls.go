// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/rotate"
)

// secure are the settings of HTTPS: the certificate, and the authorities of
// client certificates if there are any, are read again when their files change.
// What cannot be used then leaves the last in force. A client need not show a
// certificate, as it may show a token.
func secure(c config.API, log *slog.Logger) (*tls.Config, error) {
	pair, err := rotate.New(log, func(contents [][]byte) (*tls.Certificate, error) { return parsePair(c, contents[0], contents[1]) },
		rotate.File{Key: "apiConfig.certFile", Path: c.CertFile}, rotate.File{Key: "apiConfig.keyFile", Path: c.KeyFile})
	if err != nil {
		return nil, err
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
		return settings, nil
	}
	authorities, err := rotate.New(log, func(contents [][]byte) (*x509.CertPool, error) { return parseAuthorities(c, contents[0]) },
		rotate.File{Key: "apiConfig.clientCAFile", Path: c.ClientCAFile})
	if err != nil {
		return nil, err
	}
	settings.ClientAuth = tls.VerifyClientCertIfGiven
	// A session that is taken up again would be one that an authority of then
	// has vouched for.
	settings.SessionTicketsDisabled = true
	base := settings.Clone()
	settings.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		current := base.Clone()
		current.ClientCAs, _ = authorities.Current()
		return current, nil
	}
	return settings, nil
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

func parseAuthorities(c config.API, content []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	err := rotate.Whole(content)
	if err == nil && !pool.AppendCertsFromPEM(content) {
		err = errors.New("it holds no PEM certificate")
	}
	if err != nil {
		return nil, fmt.Errorf("reading apiConfig.clientCAFile %s: %w", c.ClientCAFile, err)
	}
	return pool, nil
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"slices"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// anyCertificate is the name that stands for every certificate.
const anyCertificate = "*"

// byCertificate is the caller whose certificate the handshake has verified; who
// showed none is anonymous.
func (a *Authenticator) byCertificate(state *tls.ConnectionState) (Caller, error) {
	if state == nil || len(state.VerifiedChains) == 0 || len(a.certificates) == 0 {
		return Caller{}, nil
	}
	certificate := state.VerifiedChains[0][0]
	// A connection may stay open for longer than the certificate is valid.
	if time.Now().After(certificate.NotAfter) {
		return Caller{}, refuse(http.StatusUnauthorized, "the client certificate has expired")
	}
	names := namesOf(certificate)
	return Caller{name: "cert:" + names[0], role: a.roleOf(names)}, nil
}

// namesOf are what a certificate may be called: its common name, DNS names and
// URIs. Without any of them it is called by its serial number.
func namesOf(certificate *x509.Certificate) []string {
	var names []string
	if name := certificate.Subject.CommonName; name != "" {
		names = append(names, name)
	}
	names = append(names, certificate.DNSNames...)
	for _, uri := range certificate.URIs {
		names = append(names, uri.String())
	}
	if len(names) == 0 {
		names = []string{"serial:" + certificate.SerialNumber.String()}
	}
	return names
}

// roleOf is the highest role that names have; none is empty.
func (a *Authenticator) roleOf(names []string) (role config.Role) {
	for _, entry := range a.certificates {
		named := entry.Name == anyCertificate || slices.Contains(names, entry.Name)
		if named && entry.Role.Includes(role) {
			role = entry.Role
		}
	}
	return role
}

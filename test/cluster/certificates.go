// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// The identities of the control plane. One authority signs them all; the
// aggregation layer is safe with it because it accepts only its own name.
const (
	adminName      = "admin"
	aggregatorName = "front-proxy"
)

// serviceNetwork is the range of service addresses, and kubernetesService the
// first of them, which the API server takes for itself.
const (
	serviceNetwork    = "10.0.0.0/24"
	kubernetesService = "10.0.0.1"
)

// authority signs certificates and writes them to a directory.
type authority struct {
	directory   string
	certificate *x509.Certificate
	key         crypto.Signer
}

// newAuthority makes ca.crt in directory.
func newAuthority(directory string) (*authority, error) {
	a := &authority{directory: directory}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "local-control-plane"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	key, err := a.write("ca", template)
	if err != nil {
		return nil, err
	}
	a.certificate, a.key = template, key
	return a, nil
}

// writeServing makes serving.crt and serving.key, which every server of the
// control plane shows under whichever of its names it is called.
func (a *authority) writeServing() error {
	_, err := a.write("serving", &x509.Certificate{
		Subject: pkix.Name{CommonName: "serving"},
		DNSNames: []string{
			"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
			metricsServerName + "." + systemNamespace + ".svc",
		},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.ParseIP(kubernetesService)},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}

// writeClient makes NAME.crt and NAME.key for a client of that name and these
// groups.
func (a *authority) writeClient(name string, groups ...string) error {
	_, err := a.write(name, &x509.Certificate{
		Subject:     pkix.Name{CommonName: name, Organization: groups},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err
}

// write signs template, by itself while there is no authority yet, and writes
// the certificate and its key.
func (a *authority) write(name string, template *x509.Certificate) (crypto.Signer, error) {
	key, err := writeKey(filepath.Join(a.directory, name+".key"))
	if err != nil {
		return nil, err
	}
	template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("numbering the certificate %s: %w", name, err)
	}
	// The clocks of containers and hosts may differ by a little.
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().AddDate(1, 0, 0)
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("signing the certificate %s: %w", name, err)
	}
	return key, writePEM(filepath.Join(a.directory, name+".crt"), "CERTIFICATE", der)
}

// writeKey makes a private key and writes it to file.
func writeKey(file string) (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the key %s: %w", file, err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding the key %s: %w", file, err)
	}
	return key, writePEM(file, "EC PRIVATE KEY", der)
}

func writePEM(file, kind string, der []byte) error {
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	return nil
}

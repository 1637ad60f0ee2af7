// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package gitops

import (
	"bytes"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"golang.org/x/crypto/ssh"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// signer signs an encoded commit.
type signer func(commit io.Reader) (signature string, err error)

// newSigner reads the key, anew for each commit: it may have been replaced.
func newSigner(c *config.GitSigning, now time.Time) (signer, error) {
	if c == nil {
		return nil, nil //nolint:nilnil // Not to sign is not at fault.
	}
	key, err := readFile("gitOps.signing.keyFile", c.KeyFile)
	if err != nil {
		return nil, err
	}
	passphrase, err := readSecret("gitOps.signing.passphraseFile", c.PassphraseFile)
	if err != nil {
		return nil, err
	}
	if c.Format == config.GitSSHSigns {
		key, err := sshKey("gitOps.signing", "keyFile", key, passphrase)
		if err != nil {
			return nil, err
		}
		return func(commit io.Reader) (string, error) { return signSSH(key, commit) }, nil
	}
	entity, err := pgpKey(key, passphrase, now)
	if err != nil {
		return nil, err
	}
	return func(commit io.Reader) (string, error) {
		var signature bytes.Buffer
		err := openpgp.ArmoredDetachSign(&signature, entity, commit, nil)
		return signature.String() + "\n", err
	}, nil
}

func pgpKey(text, passphrase []byte, now time.Time) (*openpgp.Entity, error) {
	keys, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("gitOps.signing.keyFile: must be a private key as `gpg --armor --export-secret-keys` prints it: %w", err)
	}
	if len(keys) != 1 {
		return nil, fmt.Errorf("gitOps.signing.keyFile: must hold one key, it holds %d", len(keys))
	}
	entity := keys[0]
	key, ok := entity.SigningKey(now)
	if !ok || key.PrivateKey == nil {
		return nil, errors.New("gitOps.signing.keyFile: holds no private key that can sign, or it has expired")
	}
	if !key.PrivateKey.Encrypted {
		return entity, nil
	}
	if len(passphrase) == 0 {
		return nil, errors.New("gitOps.signing.passphraseFile: is required, since the key is protected by a passphrase")
	}
	if err := entity.DecryptPrivateKeys(passphrase); err != nil {
		return nil, errors.New("gitOps.signing.passphraseFile: is not the key's passphrase")
	}
	return entity, nil
}

// sshKey reads a PEM private key, of the block and key of the configuration.
func sshKey(block, key string, text, passphrase []byte) (ssh.Signer, error) {
	var parsed ssh.Signer
	var err error
	if len(passphrase) > 0 {
		parsed, err = ssh.ParsePrivateKeyWithPassphrase(text, passphrase)
	} else {
		parsed, err = ssh.ParsePrivateKey(text)
	}
	if _, locked := errors.AsType[*ssh.PassphraseMissingError](err); locked {
		return nil, fmt.Errorf("%s.passphraseFile: is required, since the key is protected by a passphrase", block)
	}
	if err != nil {
		return nil, fmt.Errorf("%s.%s: must be a PEM private key, as ssh-keygen makes it, with the right passphrase if any: %w", block, key, err)
	}
	return parsed, nil
}

// signSSH makes the signature that `ssh-keygen -Y sign -n git` makes.
func signSSH(key ssh.Signer, commit io.Reader) (string, error) {
	const magic, namespace, hashName = "SSHSIG", "git", "sha512"
	hash := sha512.New()
	if _, err := io.Copy(hash, commit); err != nil {
		return "", err
	}
	signed := append([]byte(magic), ssh.Marshal(struct{ Namespace, Reserved, Hash, Digest string }{
		namespace, "", hashName, string(hash.Sum(nil)),
	})...)
	algorithm := key.PublicKey().Type()
	if algorithm == ssh.KeyAlgoRSA {
		algorithm = ssh.KeyAlgoRSASHA512
	}
	var signature *ssh.Signature
	var err error
	if chooses, ok := key.(ssh.AlgorithmSigner); ok {
		signature, err = chooses.SignWithAlgorithm(rand.Reader, signed, algorithm)
	} else {
		signature, err = key.Sign(rand.Reader, signed)
	}
	if err != nil {
		return "", err
	}
	blob := append([]byte(magic), ssh.Marshal(struct {
		Version                                   uint32
		Key, Namespace, Reserved, Hash, Signature string
	}{1, string(key.PublicKey().Marshal()), namespace, "", hashName, string(ssh.Marshal(signature))})...)
	text := base64.StdEncoding.EncodeToString(blob)
	var armored strings.Builder
	armored.WriteString("-----BEGIN SSH SIGNATURE-----\n")
	for len(text) > 70 {
		armored.WriteString(text[:70] + "\n")
		text = text[70:]
	}
	armored.WriteString(text + "\n-----END SSH SIGNATURE-----\n")
	return armored.String(), nil
}

// maxSecret is the largest file of a key or a password.
const maxSecret = 1 << 20

// readFile reads a file that a key of the configuration names.
func readFile(key, path string) ([]byte, error) {
	opened, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	defer opened.Close() //nolint:errcheck // Nothing was written.
	content, err := io.ReadAll(io.LimitReader(opened, maxSecret))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if len(bytes.TrimSpace(content)) == 0 {
		return nil, fmt.Errorf("%s: the file %s is empty", key, path)
	}
	return content, nil
}

// readSecret reads a password of one line; nil without a file.
func readSecret(key, path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	content, err := readFile(key, path)
	return bytes.TrimRight(content, "\r\n"), err
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package gitops

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// overSSH reaches a server by SSH. go-git's own transport is not used: it has
// no deadline for the handshake, and reads the user's ~/.ssh/config.
type overSSH struct {
	place  config.GitPlace
	access config.GitSSH
}

// check reads the files, so that a start tells of those that are missing.
func (t *overSSH) check() error {
	_, err := t.client()
	return err
}

func (t *overSSH) address() string {
	return net.JoinHostPort(t.place.Host, cmp.Or(t.place.Port, "22"))
}

// client reads the files, anew for each exchange.
func (t *overSSH) client() (*ssh.ClientConfig, error) {
	text, err := readFile("gitOps.ssh.privateKeyFile", t.access.PrivateKeyFile)
	if err != nil {
		return nil, err
	}
	passphrase, err := readSecret("gitOps.ssh.passphraseFile", t.access.PassphraseFile)
	if err != nil {
		return nil, err
	}
	key, err := sshKey("gitOps.ssh", "privateKeyFile", text, passphrase)
	if err != nil {
		return nil, err
	}
	known, err := knownhosts.New(t.access.KnownHostsFile)
	if err != nil {
		return nil, fmt.Errorf("gitOps.ssh.knownHostsFile: %w", err)
	}
	algorithms, err := t.hostKeys(known)
	if err != nil {
		return nil, err
	}
	return &ssh.ClientConfig{
		User: t.place.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyCallback: known, HostKeyAlgorithms: algorithms,
	}, nil
}

// hostKeys are the algorithms of the keys that are known of the host: it must
// not be asked for one of another kind, which it may have too.
func (t *overSSH) hostKeys(known ssh.HostKeyCallback) ([]string, error) {
	err := known(t.address(), &net.TCPAddr{}, unknownKey{})
	found, ok := errors.AsType[*knownhosts.KeyError](err)
	if !ok || len(found.Want) == 0 {
		return nil, fmt.Errorf("gitOps.ssh.knownHostsFile: holds no key of the host %s: add what `ssh-keyscan -p %s %s` prints, once compared with what its owner publishes",
			knownhosts.Normalize(t.address()), cmp.Or(t.place.Port, "22"), t.place.Host)
	}
	var algorithms []string
	for _, key := range found.Want {
		if kind := key.Key.Type(); kind == ssh.KeyAlgoRSA {
			algorithms = append(algorithms, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
		} else {
			algorithms = append(algorithms, kind)
		}
	}
	return algorithms, nil
}

// unknownKey is a key that no host has: asked for it, a file of known hosts
// tells which it knows.
type unknownKey struct{}

func (unknownKey) Type() string                        { return "unknown" }
func (unknownKey) Marshal() []byte                     { return []byte("unknown") }
func (unknownKey) Verify([]byte, *ssh.Signature) error { return errors.New("no key") }

func (t *overSSH) open(ctx context.Context, service string) (conversation, error) {
	settings, err := t.client()
	if err != nil {
		return nil, err
	}
	connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", t.address())
	if err != nil {
		return nil, fmt.Errorf("reaching %s: %w", t.place.Host, err)
	}
	// The handshake, and all that follows, ends with the context.
	stop := context.AfterFunc(ctx, func() { _ = connection.Close() })
	talk := &session{connection: connection, stop: stop, ctx: ctx}
	if err := talk.begin(t.address(), settings, service+" "+quote(t.place.Path)); err != nil {
		talk.close()
		return nil, fmt.Errorf("reaching %s: %w", t.place.Host, talk.explain(sshError(err)))
	}
	return talk, nil
}

// sshError adds the remedy.
func sshError(err error) error {
	if found, ok := errors.AsType[*knownhosts.KeyError](err); ok && len(found.Want) > 0 {
		return fmt.Errorf("the host's key is not the one in gitOps.ssh.knownHostsFile: somebody else may answer in its place; if it was replaced, replace it there: %w", err)
	}
	if strings.Contains(err.Error(), "unable to authenticate") {
		return errors.New("the host does not take the key of gitOps.ssh.privateKeyFile")
	}
	return err
}

// quote makes text one word of a shell.
func quote(text string) string {
	if rest, ok := strings.CutPrefix(text, "~"); ok {
		if user, path, ok := strings.Cut(rest, "/"); ok && !strings.ContainsAny(user, "'\\ $`\"") {
			return "~" + user + "/" + quote(path)
		}
	}
	return "'" + strings.NewReplacer("'", `'\''`, "!", `'\!'`).Replace(text) + "'"
}

// session is a conversation with a program on the host.
type session struct {
	connection net.Conn
	client     *ssh.Client
	session    *ssh.Session
	stop       func() bool
	ctx        context.Context //nolint:containedctx // A conversation is one exchange.
	in         io.WriteCloser
	out        io.Reader
	stderr     progress
}

func (s *session) begin(address string, settings *ssh.ClientConfig, command string) error {
	connection, channels, requests, err := ssh.NewClientConn(s.connection, address, settings)
	if err != nil {
		return err
	}
	s.client = ssh.NewClient(connection, channels, requests)
	if s.session, err = s.client.NewSession(); err != nil {
		return err
	}
	if s.in, err = s.session.StdinPipe(); err != nil {
		return err
	}
	if s.out, err = s.session.StdoutPipe(); err != nil {
		return err
	}
	s.session.Stderr = &s.stderr
	return s.session.Start(command)
}

// explain adds that the time was over, which a closed connection does not say.
func (s *session) explain(err error) error {
	if cause := context.Cause(s.ctx); cause != nil {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

func (s *session) greeting() io.Reader { return explained{s, s.out} }

func (s *session) ask(request []byte) (io.Reader, error) {
	if _, err := io.Copy(s.in, bytes.NewReader(request)); err != nil {
		return nil, s.explain(err)
	}
	return explained{s, s.out}, nil
}

// said waits for the program's end, which the context bounds.
func (s *session) said() string {
	_ = s.in.Close()
	_ = s.session.Wait()
	return s.stderr.words()
}

// explained is what the host says, with the reason when that ends early.
type explained struct {
	session *session
	out     io.Reader
}

func (e explained) Read(into []byte) (int, error) {
	n, err := e.out.Read(into)
	if err != nil && context.Cause(e.session.ctx) != nil {
		err = e.session.explain(err)
	}
	return n, err
}

func (s *session) close() {
	s.stop()
	if s.in != nil {
		_ = s.in.Close()
	}
	if s.session != nil {
		_ = s.session.Close()
	}
	if s.client != nil {
		_ = s.client.Close()
		_ = s.client.Wait()
	}
	_ = s.connection.Close()
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package gitops

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi" //nolint:gosec // Go is newer than 1.6.
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// place is a git server with one repository.
type place struct {
	// repository is the bare repository's folder.
	repository string
	settings   config.GitOps
	// interfere stands between the clients and the server.
	interfere *interference
}

// interference is what goes wrong on the way to a server.
type interference struct {
	mu sync.Mutex
	// down refuses all that comes.
	down bool
	// cut ends a push once the server has done it, before it can answer, so
	// many times.
	cut int
	// downAfterCut has it go down then.
	downAfterCut bool
	// requests counts those over HTTPS.
	requests []string
}

func (i *interference) set(change func(*interference)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change(i)
}

func (i *interference) cuts() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.cut == 0 {
		return false
	}
	i.cut--
	i.down = i.downAfterCut
	return true
}

func (i *interference) isDown() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.down
}

// servers are the kinds of them, everywhere is where a repository may be.
var (
	servers    = map[string]func(t *testing.T) *place{"https": overHTTPSServer, "ssh": overSSHServer}
	everywhere = map[string]func(t *testing.T) *place{"https": overHTTPSServer, "ssh": overSSHServer, "local": onThisMachine}
)

func onThisMachine(t *testing.T) *place {
	t.Helper()
	repository := bare(t)
	return &place{repository: repository, settings: settings(repository)}
}

const password = "geheim-0815"

// overHTTPSServer serves a repository with git's own http-backend, behind a
// user and a password.
func overHTTPSServer(t *testing.T) *place {
	t.Helper()
	repository := bare(t)
	run(t, repository, "git", "config", "http.receivepack", "true")
	core := strings.TrimSpace(run(t, "", "git", "--exec-path"))
	backend := &cgi.Handler{
		Path: filepath.Join(core, "git-http-backend"), Root: "/", Logger: nil, Stderr: io.Discard,
		Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(repository), "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "REMOTE_USER=cpa"},
	}
	i := &interference{}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.set(func(i *interference) { i.requests = append(i.requests, r.Method+" "+r.URL.RequestURI()) })
		if i.isDown() {
			panic(http.ErrAbortHandler)
		}
		if name, secret, _ := r.BasicAuth(); name != "cpa" || secret != password {
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, receivePack) && i.cuts() {
			backend.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		backend.ServeHTTP(w, r)
	}))
	server.Config.ErrorLog = nil
	t.Cleanup(server.Close)
	c := settings(server.URL + "/repo.git")
	c.HTTPS = &config.GitHTTPS{
		Username: "cpa", PasswordFile: file600(t, "password", password+"\n"),
		CAFile: file600(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))),
	}
	return &place{repository: repository, settings: c, interfere: i}
}

func file600(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// overSSHServer runs an sshd of its own, for the user of the tests, behind a
// proxy that can interfere.
func overSSHServer(t *testing.T) *place {
	t.Helper()
	repository := bare(t)
	dir := t.TempDir()
	sshd, err := exec.LookPath("sshd")
	if err != nil {
		t.Fatal(err)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	key := func(name string) string {
		path := filepath.Join(dir, name)
		run(t, "", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path)
		return path
	}
	hostKey, clientKey := key("host"), key("client")
	authorized, err := os.ReadFile(clientKey + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	settingsOf := strings.Join([]string{
		"HostKey " + hostKey, "AuthorizedKeysFile " + file600(t, "authorized", string(authorized)), "StrictModes no", "UsePAM no",
		"PasswordAuthentication no", "PidFile none", "LogLevel ERROR", "PermitRootLogin prohibit-password",
	}, "\n") + "\n"
	configuration := file600(t, "sshd_config", settingsOf)
	// Started as root, sshd wants this folder.
	if os.Getuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}

	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	i := &interference{}
	var serving sync.WaitGroup
	serving.Go(func() { serveSSH(listener, sshd, configuration, i, &serving) })
	t.Cleanup(func() {
		_ = listener.Close()
		serving.Wait()
	})
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	public, err := os.ReadFile(hostKey + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	c := settings(fmt.Sprintf("ssh://%s@127.0.0.1:%s%s", me.Username, port, repository))
	c.SSH = &config.GitSSH{PrivateKeyFile: clientKey, KnownHostsFile: file600(t, "known_hosts", fmt.Sprintf("[127.0.0.1]:%s %s", port, public))}
	return &place{repository: repository, settings: c, interfere: i}
}

// serveSSH has an sshd of its own (-i) serve each connection.
func serveSSH(listener net.Listener, sshd, configuration string, i *interference, serving *sync.WaitGroup) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		if i.isDown() {
			_ = connection.Close()
			continue
		}
		serving.Go(func() {
			defer connection.Close() //nolint:errcheck // It has ended.
			command := exec.CommandContext(context.Background(), sshd, "-i", "-e", "-f", configuration)
			opened, err := connection.(*net.TCPConn).File()
			if err != nil {
				return
			}
			defer opened.Close() //nolint:errcheck // It has ended.
			command.Stdin, command.Stdout = opened, opened
			_ = command.Run()
		})
	}
}

// silent accepts connections and says nothing.
func silent(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer connection.Close() //nolint:errcheck // It has ended.
				_, _ = io.Copy(io.Discard, connection)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		serving.Wait()
	})
	return listener.Addr().String()
}

// publicKey is the public half of a private key in a file, for known_hosts.
func publicKey(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.ParsePrivateKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(ssh.MarshalAuthorizedKey(key.PublicKey()))
}

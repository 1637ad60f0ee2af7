// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package gitops

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// What a start tells of at once.
func TestFilesThatCannotBeUsed(t *testing.T) {
	key := func(args ...string) string {
		path := filepath.Join(t.TempDir(), "key")
		run(t, "", "ssh-keygen", append([]string{"-q", "-t", "ed25519", "-f", path}, args...)...)
		return path
	}
	open, locked := key("-N", ""), key("-N", "geheim")
	known := file600(t, "known", "git.example.com "+publicKey(t, open))
	over := func(g config.GitSSH) config.GitOps {
		c := settings("ssh://git@git.example.com/r")
		c.SSH = &g
		return c
	}
	signed := func(s config.GitSigning) config.GitOps {
		c := settings(bare(t))
		c.Signing = &s
		return c
	}
	https := func(g config.GitHTTPS) config.GitOps {
		c := settings("https://git.example.com/r")
		c.HTTPS = &g
		return c
	}
	for _, test := range []struct {
		name   string
		config config.GitOps
		fault  string
	}{
		{"no key", over(config.GitSSH{PrivateKeyFile: "/nowhere", KnownHostsFile: known}), "gitOps.ssh.privateKeyFile: open /nowhere"},
		{"not a key", over(config.GitSSH{PrivateKeyFile: known, KnownHostsFile: known}), "gitOps.ssh.privateKeyFile: must be a PEM private key"},
		{"a locked key", over(config.GitSSH{PrivateKeyFile: locked, KnownHostsFile: known}), "gitOps.ssh.passphraseFile: is required"},
		{"a wrong passphrase", over(config.GitSSH{PrivateKeyFile: locked, PassphraseFile: file600(t, "p", "falsch"), KnownHostsFile: known}), "gitOps.ssh.privateKeyFile: must be"},
		{"no passphrase", over(config.GitSSH{PrivateKeyFile: locked, PassphraseFile: "/nowhere", KnownHostsFile: known}), "gitOps.ssh.passphraseFile: open"},
		{"no known hosts", over(config.GitSSH{PrivateKeyFile: open, KnownHostsFile: "/nowhere"}), "gitOps.ssh.knownHostsFile: open"},
		{"another host", over(config.GitSSH{PrivateKeyFile: open, KnownHostsFile: file600(t, "k", "other.example.com "+publicKey(t, open))}), "gitOps.ssh.knownHostsFile: holds no key of the host git.example.com"},
		{"no password", https(config.GitHTTPS{PasswordFile: "/nowhere"}), "gitOps.https.passwordFile: open"},
		{"an empty password", https(config.GitHTTPS{PasswordFile: file600(t, "p", "\n")}), "gitOps.https.passwordFile: the file"},
		{"no certificate", https(config.GitHTTPS{CAFile: known}), "gitOps.https.caFile: holds no PEM certificate"},
		{"no signing key", signed(config.GitSigning{Format: config.GitSSHSigns, KeyFile: "/nowhere"}), "gitOps.signing.keyFile: open"},
		{"not a signing key", signed(config.GitSigning{Format: config.GitSSHSigns, KeyFile: known}), "gitOps.signing.keyFile: must be a PEM"},
		{"a locked signing key", signed(config.GitSigning{Format: config.GitSSHSigns, KeyFile: locked}), "gitOps.signing.passphraseFile: is required"},
		{"not an OpenPGP key", signed(config.GitSigning{Format: config.GitOpenPGP, KeyFile: open}), "gitOps.signing.keyFile: must be a private key"},
		{"no repository", settings(t.TempDir()), "gitOps.repository: "},
		{"credentials", settings("https://user:" + "geheim@host/r"), "gitOps.repository: must hold no credentials"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := New(test.config, Options{})
			if err == nil || !strings.HasPrefix(err.Error(), test.fault) || strings.Contains(err.Error(), "geheim") {
				t.Errorf("got %v", err)
			}
		})
	}
	for name, c := range map[string]config.GitOps{
		"a locked key": over(config.GitSSH{PrivateKeyFile: locked, PassphraseFile: file600(t, "p", "geheim\n"), KnownHostsFile: known}),
		"no access":    settings("https://git.example.com/r"),
	} {
		if _, err := New(c, Options{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What cannot be committed is told, stays pending, and leaves the branch alone.
func TestWhatCannotBeCommitted(t *testing.T) {
	for name, start := range everywhere {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t)
			work := t.TempDir()
			run(t, "", "git", "clone", "--quiet", p.repository, work)
			for link, to := range map[string]string{"apps/link.yaml": "web/deployment.yaml", "apps/folder": "web"} {
				if err := os.Symlink(to, filepath.Join(work, link)); err != nil {
					t.Fatal(err)
				}
			}
			run(t, work, "git", "update-index", "--add", "--cacheinfo", "160000,"+strings.TrimSpace(run(t, work, "git", "rev-parse", "HEAD"))+",apps/module")
			run(t, work, "git", "add", "--all", "apps/link.yaml", "apps/folder")
			run(t, work, "git", "commit", "--quiet", "-m", "Add")
			run(t, work, "git", "push", "--quiet", "origin", "HEAD:main")
			before := run(t, p.repository, "git", "rev-parse", "main")
			for _, test := range []struct {
				name   string
				change func(c *config.GitOps)
				fault  string
			}{
				{"no such branch", func(c *config.GitOps) { c.Branch = "release" }, "the repository has no branch release"},
				{"no such file", func(c *config.GitOps) { c.File = "apps/none.yaml" }, "apps/none.yaml: there is no such file on the branch: write it once"},
				{"no such folder", func(c *config.GitOps) { c.File = "none/none.yaml" }, "there is no such file on the branch"},
				{"no such value", func(c *config.GitOps) { c.Replicas = "spec.count" }, "apps/web/deployment.yaml: gitOps.replicas is spec.count: there is no such value"},
				{"a symbolic link", func(c *config.GitOps) { c.File = "apps/link.yaml" }, "apps/link.yaml is a symbolic link"},
				{"through a symbolic link", func(c *config.GitOps) { c.File = "apps/folder/deployment.yaml" }, "apps/folder is a symbolic link"},
				{"a submodule", func(c *config.GitOps) { c.File = "apps/module" }, "apps/module is a submodule"},
				{"in a submodule", func(c *config.GitOps) { c.File = "apps/module/x" }, "apps/module is a submodule"},
				{"a folder", func(c *config.GitOps) { c.File = "apps/web" }, "apps/web is a folder"},
				{"below a file", func(c *config.GitOps) { c.File = "README.md/x" }, "README.md is a file, so nothing lies below it"},
			} {
				t.Run(test.name, func(t *testing.T) {
					c := p.settings
					test.change(&c)
					r := open(t, c, Options{})
					err := r.Write(t.Context(), decision(3, 5))
					if err == nil || !strings.Contains(err.Error(), test.fault) {
						t.Errorf("got %v", err)
					}
					if r.Status().Pending == nil || r.Status().LastError == "" {
						t.Errorf("status %+v", r.Status())
					}
				})
			}
			if after := run(t, p.repository, "git", "rev-parse", "main"); after != before {
				t.Errorf("the branch went from %s to %s", before, after)
			}
		})
	}
}

func TestAnEmptyRepository(t *testing.T) {
	for name, start := range everywhere {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t)
			if err := os.RemoveAll(p.repository); err != nil {
				t.Fatal(err)
			}
			run(t, "", "git", "init", "--quiet", "--bare", "--initial-branch=main", p.repository)
			run(t, p.repository, "git", "config", "http.receivepack", "true")
			err := open(t, p.settings, Options{}).Write(t.Context(), decision(3, 5))
			if err == nil || !strings.Contains(err.Error(), "the repository has no branch main: push a first commit to it") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestARepositoryThatIsNotThere(t *testing.T) {
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t)
			c := p.settings
			c.Repository = strings.Replace(c.Repository, "repo.git", "other.git", 1)
			err := open(t, c, Options{}).Write(t.Context(), decision(3, 5))
			want := "answers 404: there is no such repository, or not for these credentials"
			if c.SSH != nil {
				want = "does not appear to be a git repository"
			}
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// The branch is checked out: git refuses, and so does who opens the repository
// directly.
func TestABranchThatIsCheckedOut(t *testing.T) {
	work := t.TempDir()
	run(t, "", "git", "clone", "--quiet", bare(t), work)
	if _, err := New(settings(work), Options{}); err == nil || !strings.Contains(err.Error(), "the branch main is checked out in") {
		t.Errorf("got %v", err)
	}
	run(t, work, "git", "checkout", "--quiet", "-b", "other")
	if err := open(t, settings(work), Options{}).Write(t.Context(), decision(3, 5)); err != nil {
		t.Error(err)
	}
	sound(t, work)

	p := overSSHServer(t)
	run(t, "", "git", "clone", "--quiet", p.repository, p.repository+".work")
	c := p.settings
	c.Repository += ".work"
	if err := open(t, c, Options{}).Write(t.Context(), decision(3, 5)); err == nil || !strings.Contains(err.Error(), "the branch is checked out in the repository") {
		t.Errorf("got %v", err)
	}
}

// A local repository whose branches are packed, as after git gc, and one that
// somebody has locked.
func TestALocalRepository(t *testing.T) {
	repository := bare(t)
	run(t, repository, "git", "gc", "--quiet")
	r := open(t, settings("file://"+repository), Options{})
	if err := r.Write(t.Context(), decision(3, 5)); err != nil {
		t.Fatal(err)
	}
	sound(t, repository)
	lock := filepath.Join(repository, "refs", "heads", "main.lock")
	if err := os.WriteFile(lock, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Write(t.Context(), decision(5, 6)); err == nil || !strings.Contains(err.Error(), "main.lock") {
		t.Errorf("got %v", err)
	}
	if err := os.Remove(lock); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is pushed", func() bool { return r.Status().Pending == nil })
	// No program named git is needed.
	t.Setenv("PATH", "")
	r = open(t, settings(repository), Options{})
	if err := r.Write(t.Context(), decision(6, 7)); err != nil {
		t.Error(err)
	}
}

// Credentials are read again for each exchange, and told to nobody.
func TestCredentialsThatChange(t *testing.T) {
	t.Run("https", func(t *testing.T) {
		p := overHTTPSServer(t)
		var log locked
		r := open(t, p.settings, Options{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
		write := func(text string) {
			if err := os.WriteFile(p.settings.HTTPS.PasswordFile, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("falsch-4711")
		err := r.Write(t.Context(), decision(3, 5))
		if err == nil || !strings.Contains(err.Error(), "answers 401: it does not take the credentials, see gitOps.https") {
			t.Errorf("got %v", err)
		}
		write(password)
		eventually(t, "it is pushed", func() bool { return r.Status().Pending == nil })
		told := fmt.Sprint(err, log.String(), r.Status())
		for _, secret := range []string{"falsch-4711", password} {
			if strings.Contains(told, secret) {
				t.Errorf("%s is told in %s", secret, told)
			}
		}
	})
	t.Run("ssh", func(t *testing.T) {
		p := overSSHServer(t)
		r := open(t, p.settings, Options{})
		good, err := os.ReadFile(p.settings.SSH.PrivateKeyFile)
		if err != nil {
			t.Fatal(err)
		}
		other := filepath.Join(t.TempDir(), "key")
		run(t, "", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other)
		wrong, err := os.ReadFile(other)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p.settings.SSH.PrivateKeyFile, wrong, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := r.Write(t.Context(), decision(3, 5)); err == nil || !strings.Contains(err.Error(), "the host does not take the key of gitOps.ssh.privateKeyFile") {
			t.Errorf("got %v", err)
		}
		if err := os.WriteFile(p.settings.SSH.PrivateKeyFile, good, 0o600); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is pushed", func() bool { return r.Status().Pending == nil })
	})
}

// Another host answers with a key of its own.
func TestAHostWithAnotherKey(t *testing.T) {
	p := overSSHServer(t)
	other := filepath.Join(t.TempDir(), "key")
	run(t, "", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other)
	place, err := p.settings.Place()
	if err != nil {
		t.Fatal(err)
	}
	p.settings.SSH.KnownHostsFile = file600(t, "known", fmt.Sprintf("[127.0.0.1]:%s %s", place.Port, publicKey(t, other)))
	err = open(t, p.settings, Options{}).Write(t.Context(), decision(3, 5))
	if err == nil || !strings.Contains(err.Error(), "the host's key is not the one in gitOps.ssh.knownHostsFile") {
		t.Errorf("got %v", err)
	}
	if commits(t, p.repository) != 1 {
		t.Error("it was pushed")
	}
}

func TestUpdating(t *testing.T) {
	for name, start := range everywhere {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t)
			run(t, p.repository, "git", "config", "receive.fsckObjects", "true")
			work := t.TempDir()
			run(t, "", "git", "clone", "--quiet", p.repository, work)
			if err := os.WriteFile(filepath.Join(work, "apps", "run.sh"), []byte("#!/bin/sh\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			run(t, work, "git", "add", "--all")
			run(t, work, "git", "commit", "--quiet", "-m", "Add a script")
			run(t, work, "git", "push", "--quiet", "origin", "HEAD:main")
			r := open(t, p.settings, Options{})
			for _, step := range []struct {
				path, content string
				changed       bool
			}{
				{"apps/web/deployment.yaml", "a: 1\n", true},
				{"apps/web/deployment.yaml", "a: 1\n", false},
				{"apps/new/deep/file.txt", "new\n", true},
				{"apps/web.yaml", "sorted before the folder web/", true},
				{"apps/web-2", "", true},
				{"apps/run.sh", "#!/bin/bash\n", true},
				{"apps/ünï code.yaml", "\x00\xff", true},
			} {
				outcome, err := r.Update(t.Context(), File{Path: step.path, Content: step.content, Message: "Change it\n\nBecause.\nCPA-Object: forged\n\nCPA-Decision-Id: forged", By: "token:ops"})
				if err != nil || outcome.Changed != step.changed {
					t.Fatalf("%s: %+v, %v", step.path, outcome, err)
				}
				if tip := strings.TrimSpace(run(t, p.repository, "git", "rev-parse", "main")); outcome.OID != tip {
					t.Errorf("%s: %s, want %s", step.path, outcome.OID, tip)
				}
				if got := show(t, p.repository, step.path); got != step.content {
					t.Errorf("%s is %q", step.path, got)
				}
			}
			if mode := run(t, p.repository, "git", "ls-tree", "main", "apps/run.sh"); !strings.HasPrefix(mode, "100755") {
				t.Errorf("the script is %s", mode)
			}
			if got := run(t, p.repository, "git", "log", "-1", "--format=%(trailers:key=CPA-Object,valueonly)%s", "main"); got != "shop/deployment/web\nChange it\n" {
				t.Errorf("the commit says %q", got)
			}
			sound(t, p.repository)
		})
	}
}

func TestUpdatesThatAreRefused(t *testing.T) {
	repository := bare(t)
	work := t.TempDir()
	run(t, "", "git", "clone", "--quiet", repository, work)
	if err := os.Symlink("..", filepath.Join(work, "apps", "up")); err != nil {
		t.Fatal(err)
	}
	run(t, work, "git", "add", "--all")
	run(t, work, "git", "commit", "--quiet", "-m", "Add a link")
	run(t, work, "git", "push", "--quiet", "origin", "HEAD:main")
	r := open(t, settings(repository), Options{})
	for _, test := range []struct{ path, content, message, fault string }{
		{"README.md", "x", "m", "must lie below apps"},
		{"apps", "x", "m", "must lie below apps"},
		{"appsx/y", "x", "m", "must lie below apps"},
		{"/apps/x", "x", "m", "must lie below apps"},
		{"apps/../README.md", "x", "m", "without .."},
		{"apps/./x", "x", "m", "must name a file"},
		{"apps/.git/config", "x", "m", "git's own files"},
		{"apps/.GIT/config", "x", "m", "git's own files"},
		{"apps/up/README.md", "x", "m", "apps/up is a symbolic link"},
		{"apps/up", "x", "m", "apps/up is a symbolic link"},
		{"apps/web", "x", "m", "apps/web is a folder"},
		{"apps/web/deployment.yaml/x", "x", "m", "is a file, so nothing lies below it"},
		{"apps/x\n", "x", "m", "control characters"},
		{"apps/x", strings.Repeat("x", 1<<20+1), "m", "at most 1048576 bytes"},
		{"apps/x", "x", " ", "commit_message: is required"},
		{"apps/x", "x", "m\x00", "commit_message: must be text without control characters"},
		{"apps/x", "x", "m\n\n\x1b[31mred", "commit_message: must be text without control characters"},
		{"apps/x", "x", strings.Repeat("x", 5000), "at most 4096 bytes"},
	} {
		_, err := r.Update(t.Context(), File{Path: test.path, Content: test.content, Message: test.message})
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), test.fault) {
			t.Errorf("%s: %v", test.path, err)
		}
	}
	if commits(t, repository) != 2 {
		t.Errorf("%d commits", commits(t, repository))
	}
	c := settings(repository)
	c.Update.Enabled = false
	if _, err := open(t, c, Options{}).Update(t.Context(), File{Path: "apps/x", Content: "x", Message: "m"}); !errors.Is(err, ErrNotEnabled) {
		t.Errorf("got %v", err)
	}
}

// What git itself says of our signatures.
func TestSignatures(t *testing.T) {
	t.Run("ssh", func(t *testing.T) {
		for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
			t.Run(kind, func(t *testing.T) {
				key := filepath.Join(t.TempDir(), "key")
				run(t, "", "ssh-keygen", "-q", "-t", kind, "-N", "geheim", "-f", key)
				public, err := os.ReadFile(key + ".pub")
				if err != nil {
					t.Fatal(err)
				}
				repository := bare(t)
				c := settings(repository)
				c.Signing = &config.GitSigning{Format: config.GitSSHSigns, KeyFile: key, PassphraseFile: file600(t, "passphrase", "geheim\n")}
				if err := open(t, c, Options{}).Write(t.Context(), decision(3, 5)); err != nil {
					t.Fatal(err)
				}
				run(t, repository, "git", "config", "gpg.ssh.allowedSignersFile", file600(t, "signers", "cpa@example.com "+string(public)))
				run(t, repository, "git", "verify-commit", "main")
				sound(t, repository)
			})
		}
	})
	t.Run("openpgp", func(t *testing.T) {
		home, err := os.MkdirTemp("", "gpg") //nolint:usetesting // The agent's socket needs a short path.
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(home) })
		t.Setenv("GNUPGHOME", home)
		t.Cleanup(func() { run(t, "", "gpgconf", "--homedir", home, "--kill", "all") })
		run(t, "", "gpg", "--batch", "--pinentry-mode", "loopback", "--passphrase", "geheim", "--quick-generate-key", "The autoscaler <cpa@example.com>", "ed25519", "sign", "never")
		exported := run(t, "", "gpg", "--batch", "--pinentry-mode", "loopback", "--passphrase", "geheim", "--armor", "--export-secret-keys")
		repository := bare(t)
		c := settings(repository)
		c.Signing = &config.GitSigning{Format: config.GitOpenPGP, KeyFile: file600(t, "key.asc", exported), PassphraseFile: file600(t, "passphrase", "geheim")}
		if err := open(t, c, Options{}).Write(t.Context(), decision(3, 5)); err != nil {
			t.Fatal(err)
		}
		run(t, repository, "git", "verify-commit", "main")
		sound(t, repository)
		c.Signing.PassphraseFile = file600(t, "passphrase", "falsch")
		if _, err := New(c, Options{}); err == nil || !strings.HasPrefix(err.Error(), "gitOps.signing.passphraseFile: is not") {
			t.Errorf("got %v", err)
		}
	})
}

// incompressible is text of random bytes.
func incompressible(size int) string {
	text := make([]byte, size)
	_, _ = rand.Read(text)
	return string(text)
}

// The copy of the repository stays small, is made anew when somebody damages
// it, and is gone in the end. A large history is never fetched.
func TestTheCopy(t *testing.T) {
	p := overHTTPSServer(t)
	for n := range 5 {
		commitFiles(t, p.repository, "More "+strconv.Itoa(n), map[string]string{"large.bin": incompressible(1 << 20)})
	}
	dir := t.TempDir()
	r := made(t, p.settings, Options{Dir: dir})
	stop := begin(t, r)
	count := int32(5)
	write := func() {
		t.Helper()
		count++
		if err := r.Write(t.Context(), decision(count-1, count)); err != nil {
			t.Fatal(err)
		}
	}
	copies := func() []string {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(dir, "*", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	write()
	if size := r.remote.(*server).clone.size(); size > 2<<20 {
		t.Errorf("the copy is %d bytes large: the history was fetched too", size)
	}
	write()
	first := copies()
	if len(first) != 1 {
		t.Fatalf("copies: %v", first)
	}
	packs, _ := filepath.Glob(filepath.Join(first[0], "objects", "pack", "*.pack"))
	if len(packs) != 2 {
		t.Errorf("%d packs, want one for each fetch", len(packs))
	}
	for _, pack := range packs {
		if err := os.Truncate(pack, 40); err != nil {
			t.Fatal(err)
		}
	}
	write()
	if err := os.RemoveAll(copies()[0]); err != nil {
		t.Fatal(err)
	}
	write()
	r.mu.Lock()
	r.remote.(*server).clone.fetches = maxFetches
	r.mu.Unlock()
	before := copies()
	write()
	if after := copies(); len(after) != 1 || after[0] == before[0] {
		t.Errorf("the copies are %v, and were %v", after, before)
	}
	if err := os.RemoveAll(filepath.Dir(copies()[0])); err != nil {
		t.Fatal(err)
	}
	write()
	stop()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if got := commits(t, p.repository); got != 1+5+6 {
		t.Errorf("%d commits", got)
	}
	sound(t, p.repository)
}

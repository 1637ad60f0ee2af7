// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

func TestGitOpsIsCompleted(t *testing.T) {
	loaded, err := load(t, required+"gitOps: {repository: 'https://host/r', mode: record, file: f, maxReplicas: max, https: {}}", nil)
	if err != nil {
		t.Fatal(err)
	}
	want := &config.GitOps{
		Repository: "https://host/r", Branch: "main", Mode: config.GitRecord, File: "f", MaxReplicas: "max",
		Message: "Scale {id}: {change}", Author: config.GitAuthor{Name: "custom-pod-autoscaler", Email: "custom-pod-autoscaler@localhost"},
		HTTPS: &config.GitHTTPS{Username: "x-access-token"}, MinInterval: new(config.Seconds(60)), Timeout: 30000,
		Update: config.GitUpdate{MaxBytes: 1 << 20},
	}
	if diff := gocmp.Diff(want, loaded.Config.GitOps); diff != "" {
		t.Error("-want +got:\n" + diff)
	}
	loaded, err = load(t, required+"gitOps: {repository: /r, mode: instead, file: f, replicas: r, minInterval: 0}", nil)
	if err != nil || loaded.Config.GitOps.Interval() != 0 {
		t.Errorf("%v, interval %s", err, loaded.Config.GitOps.Interval())
	}
	if got := (config.GitOps{}).Interval(); got != time.Minute {
		t.Errorf("unset it is %s", got)
	}
}

func TestGitPlaces(t *testing.T) {
	for _, test := range []struct {
		repository string
		want       config.GitPlace
		shown      string
		fault      string
	}{
		{repository: "ssh://git@host/org/repo.git", want: config.GitPlace{Scheme: "ssh", User: "git", Host: "host", Path: "/org/repo.git"}},
		{repository: "ssh://git@host:2222/r", want: config.GitPlace{Scheme: "ssh", User: "git", Host: "host", Port: "2222", Path: "/r"}},
		{repository: "ssh://me@host/~/r", want: config.GitPlace{Scheme: "ssh", User: "me", Host: "host", Path: "~/r"}},
		{repository: "git@host:org/repo.git", want: config.GitPlace{Scheme: "ssh", User: "git", Host: "host", Path: "org/repo.git"}, shown: "ssh://git@host/org/repo.git"},
		{repository: "git@[::1]:r", want: config.GitPlace{Scheme: "ssh", User: "git", Host: "::1", Path: "r"}, shown: "ssh://git@[::1]/r"},
		{repository: "https://host:8443/r", want: config.GitPlace{Scheme: "https", Host: "host", Port: "8443", Path: "/r"}},
		{repository: "/srv/git/r.git/", want: config.GitPlace{Scheme: "file", Path: "/srv/git/r.git"}, shown: "/srv/git/r.git"},
		{repository: "file:///srv/r.git", want: config.GitPlace{Scheme: "file", Path: "/srv/r.git"}, shown: "/srv/r.git"},
		{repository: "", fault: "is required"},
		{repository: "https://user:" + "geheim@host/r", fault: "no credentials"},
		{repository: "https://geheim@host/r", fault: "no credentials"},
		{repository: "ssh://git:" + "geheim@host/r", fault: "no credentials"},
		{repository: "https://host/r?token=geheim", fault: "without ?"},
		{repository: "https://host:geheim/r", fault: "must be a URL"},
		{repository: "http://host/r", fault: "must begin with"},
		{repository: "ssh://host/r", fault: "SSH user"},
		{repository: "host:r", fault: "SSH user"},
		{repository: "https:///r", fault: "host"},
		{repository: "https://host/", fault: "name the repository"},
		{repository: "ssh://git@-oProxyCommand=x/r", fault: ""},
		{repository: "git@-oProxyCommand:r", fault: "must be ssh://"},
		{repository: "file://host/r", fault: "three slashes"},
		{repository: "relative/path", fault: "must be ssh://"},
		{repository: "/a\nb", fault: "control characters"},
	} {
		place, err := config.GitOps{Repository: test.repository}.Place()
		if test.want == (config.GitPlace{}) {
			if err == nil || !strings.Contains(err.Error(), test.fault) || strings.Contains(err.Error(), "geheim") {
				t.Errorf("%s: %v", test.repository, err)
			}
			continue
		}
		if err != nil || place != test.want {
			t.Errorf("%s: %+v, %v", test.repository, place, err)
		}
		if shown := place.String(); test.shown != "" && shown != test.shown || test.shown == "" && shown != test.repository {
			t.Errorf("%s is shown as %s", test.repository, shown)
		}
	}
}

func TestGitOpsFaults(t *testing.T) {
	const valid = "repository: /r, mode: instead, file: f, replicas: r"
	for _, test := range []struct{ gitOps, fault string }{
		{"mode: instead, file: f, replicas: r", "gitOps.repository: is required"},
		{"repository: /r, file: f, replicas: r", "gitOps.mode: is required"},
		{"repository: /r, mode: both, file: f, replicas: r", `gitOps.mode: must be "instead" or "record"`},
		{"repository: /r, mode: instead, replicas: r", "gitOps.file: is required"},
		{"repository: /r, mode: instead, file: ../f, replicas: r", "gitOps.file: must be a path without"},
		{"repository: /r, mode: instead, file: /f, replicas: r", "gitOps.file: must be a path inside"},
		{"repository: /r, mode: instead, file: a//f, replicas: r", `gitOps.file: must name a file, and no more: write "a/f"`},
		{"repository: /r, mode: instead, file: .GIT/config, replicas: r", "gitOps.file: must not be among git's own"},
		{"repository: /r, mode: instead, file: f", "gitOps.replicas: is required"},
		{"repository: /r, mode: record, file: f", "gitOps.replicas: is required, unless"},
		{valid + ", minReplicas: m", "gitOps.minReplicas: must be left out"},
		{valid + ", branch: 'a..b'", "gitOps.branch: must be the name"},
		{valid + ", branch: -x", "gitOps.branch: must be the name"},
		{valid + ", branch: a/.b", "gitOps.branch: must be the name"},
		{"repository: /r, mode: instead, file: f, replicas: a..b", "gitOps.replicas: must be keys"},
		{valid + ", message: 'to {replicas}'", "gitOps.message: must hold no {replicas}"},
		{valid + ", message: ' '", "gitOps.message: must begin"},
		{valid + ", author: {name: 'a <b>'}", "gitOps.author.name: must be one line"},
		{valid + ", signing: {format: pgp, keyFile: k}", "gitOps.signing.format: must be"},
		{valid + ", signing: {format: ssh}", "gitOps.signing.keyFile: is required"},
		{valid + ", ssh: {}", "gitOps.ssh: must be left out"},
		{valid + ", https: {}", "gitOps.https: must be left out"},
		{"repository: git@host:r, mode: instead, file: f, replicas: r", "gitOps.ssh: is required"},
		{"repository: git@host:r, mode: instead, file: f, replicas: r, ssh: {privateKeyFile: k}", "gitOps.ssh.knownHostsFile: is required"},
		{"repository: git@host:r, mode: instead, file: f, replicas: r, ssh: {knownHostsFile: k}", "gitOps.ssh.privateKeyFile: is required"},
		{valid + ", minInterval: -1", "gitOps.minInterval: must be from 0"},
		{valid + ", timeout: -1", "gitOps.timeout: must be from 0"},
		{valid + ", update: {enabled: true}", "gitOps.update.allowedPath: is required"},
		{valid + ", update: {enabled: true, allowedPath: ../x}", "gitOps.update.allowedPath: must be a path without"},
		{valid + ", update: {enabled: true, allowedPath: apps, maxBytes: -1}", "gitOps.update.maxBytes: must be from 0"},
	} {
		_, err := load(t, required+"gitOps: {"+test.gitOps+"}", nil)
		faults, _ := errors.AsType[config.Faults](err)
		if len(faults) != 1 || !strings.HasPrefix(faults[0].String(), test.fault) {
			t.Errorf("%s: %v", test.gitOps, err)
		}
	}
}

func TestGitPathsThatAreGitsOwn(t *testing.T) {
	for _, file := range []string{".git", "a/.git/b", ".git/config", ".Git/x", "git~1/x", ".git./x", ".git /x", ".git::$INDEX_ALLOCATION/x", ".g\u200cit/x", `a\.git\x`, "a/./b", "a/", "."} {
		if err := config.CheckGitPath(file); err == nil {
			t.Errorf("%q is allowed", file)
		}
	}
	for _, file := range []string{".gitignore", "a/.github/x.yml", "gitops/a b.yaml", "ä/ö.yaml", "...", "a..b"} {
		if err := config.CheckGitPath(file); err != nil {
			t.Errorf("%q: %v", file, err)
		}
	}
}

func TestYAMLPaths(t *testing.T) {
	key := func(k string) config.YAMLStep { return config.YAMLStep{Key: k} }
	for _, test := range []struct {
		text string
		want config.YAMLPath
	}{
		{"replicas", config.YAMLPath{Steps: []config.YAMLStep{key("replicas")}}},
		{"spec.replicas", config.YAMLPath{Steps: []config.YAMLStep{key("spec"), key("replicas")}}},
		{"a[2].b", config.YAMLPath{Steps: []config.YAMLStep{key("a"), {List: true, Index: 2}, key("b")}}},
		{"[0].b", config.YAMLPath{Steps: []config.YAMLStep{{List: true}, key("b")}}},
		{"replicas[name=web].count", config.YAMLPath{Steps: []config.YAMLStep{
			key("replicas"), {List: true, Conditions: []config.YAMLCondition{{Keys: []string{"name"}, Value: "web"}}}, key("count"),
		}}},
		{`[kind=Deployment,metadata.name="a,b"]spec."x.y/z"`, config.YAMLPath{
			Document: []config.YAMLCondition{{Keys: []string{"kind"}, Value: "Deployment"}, {Keys: []string{"metadata", "name"}, Value: "a,b"}},
			Steps:    []config.YAMLStep{key("spec"), key("x.y/z")},
		}},
		{"[kind=List][1].a", config.YAMLPath{
			Document: []config.YAMLCondition{{Keys: []string{"kind"}, Value: "List"}}, Steps: []config.YAMLStep{{List: true, Index: 1}, key("a")},
		}},
	} {
		got, err := config.ParseYAMLPath(test.text)
		if diff := gocmp.Diff(test.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got)\n%s", test.text, err, diff)
		}
	}
	for _, text := range []string{
		"", ".", "a.", ".a", "a..b", "a[", "a[]", "a[x]", "a[-1]", "a[1", "a[x=]", "a b .c", "a]b", `"a`, "[kind=x]", "[kind=x].a", "a[0]b",
		"a[99999999999999999999]", strings.Repeat("a", 1025),
	} {
		if path, err := config.ParseYAMLPath(text); err == nil {
			t.Errorf("%q is read as %+v", text, path)
		}
	}
}

func FuzzYAMLPath(f *testing.F) {
	f.Add(`[kind=Deployment,metadata.name=web]spec.containers[name="a]b"][0]."x.y"`)
	f.Fuzz(func(t *testing.T, text string) {
		path, err := config.ParseYAMLPath(text)
		if err == nil && len(path.Steps) == 0 {
			t.Errorf("%q leads nowhere", text)
		}
	})
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package acceptance

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/cluster"
)

// The file of a ConfigMap changes as a link to a folder does. What can change
// while running is in force with the next run, and what cannot is told of.
func TestTheFileChangesWhileRunning(t *testing.T) {
	d := deploy(t, cluster.ForTest(t), 2)
	p := d.start(wantsConfig("maxReplicas: 4\n"), temporary(t))
	p.wants(`{"targetReplicas": 9}`)
	d.waitForReplicas(4)

	folder := filepath.Dir(p.file("config.yaml"))
	change := func(version, content string) {
		t.Helper()
		write(t, filepath.Join(folder, version), content)
		next := filepath.Join(folder, "next")
		if err := os.Symlink(version, next); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, p.file("config.yaml")); err != nil {
			t.Fatal(err)
		}
	}
	mark := p.mark()
	change("v1", wantsConfig("maxReplicas: 6\n"))
	p.waitForLine(mark, `msg="The configuration file has changed" component=config inForce=maxReplicas`)
	d.waitForReplicas(6)

	mark = p.mark()
	change("v2", wantsConfig("maxReplicas: none\n"))
	p.waitForLine(mark, `level=ERROR msg="The configuration file has changed, but is not valid: what was read before stays in force" .*maxReplicas: must be a whole number`)

	mark = p.mark()
	change("v3", strings.Replace(wantsConfig("maxReplicas: 7\n"), "name: web", "name: other", 1))
	p.waitForLine(mark, `msg="Some changes of the configuration file need a restart" component=config keys=scaleTargetRef`)
	d.waitForReplicas(7)
	if status, body := p.request(http.MethodPut, "/api/v1/config"); status != http.StatusForbidden || !strings.Contains(body, "configure apiConfig.auth") {
		t.Errorf("got %d %s", status, body)
	}
}

// Probes of the real process: it lives, and is ready as long as it can read its
// target.
func TestProbes(t *testing.T) {
	d := deploy(t, cluster.ForTest(t), 2)
	p := d.start(wantsConfig(""), temporary(t))
	for path, want := range map[string]string{
		"/livez": "ok\n", "/readyz": "ok\n", "/readyz?verbose": "[+]loop ok\n[+]target ok\n", "/health": `{"status":"ok","timestamp":"`,
	} {
		if status, body := p.request(http.MethodGet, path); status != http.StatusOK || !strings.HasPrefix(body, want) {
			t.Errorf("%s: got %d %s", path, status, body)
		}
	}
	other := d.start(strings.Replace(wantsConfig(""), "name: web", "name: other", 1), temporary(t))
	if status, body := other.request(http.MethodGet, "/readyz"); status != http.StatusServiceUnavailable || body != "failed: target: reason withheld, see the log\n" {
		t.Errorf("got %d %s", status, body)
	}
	other.waitForLine(0, `msg="Not ready" component=api error=.*"other\\" not found`)
	if status, body := other.request(http.MethodGet, "/livez"); status != http.StatusOK || body != "ok\n" {
		t.Errorf("got %d %s", status, body)
	}
	if status, body := p.request(http.MethodGet, "/metrics"); status != http.StatusOK || !strings.Contains(body, "custom_pod_autoscaler_runs_total{") {
		t.Errorf("got %d %s", status, body)
	}
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package acceptance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/cluster"
)

// temporary is a folder for the control socket, of the test's own: another
// process of the same target may run on this machine.
func temporary(t testing.TB) (environment string) {
	t.Helper()
	folder, err := os.MkdirTemp("", "cpa") //nolint:usetesting // t.TempDir's are long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	return "TMPDIR=" + folder
}

// run runs a command of the program as kubectl exec does: beside the process,
// with its environment.
func (p *process) run(args ...string) (status int, stdout, stderr string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	var out, errs bytes.Buffer
	command := exec.CommandContext(ctx, p.command.Path, append(args, "--config", p.file("config.yaml"))...)
	command.Env, command.Stdout, command.Stderr = p.command.Env, &out, &errs
	err := command.Run()
	if exit, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		p.t.Fatalf("running %v: %v", args, err)
	} else if exited {
		status = exit.ExitCode()
	}
	return status, out.String(), errs.String()
}

// commands runs a command that must succeed and print a line.
func (p *process) commands(want string, args ...string) {
	p.t.Helper()
	p.waitForLine(0, "Serving commands")
	status, stdout, stderr := p.run(args...)
	if status != 0 || stdout != want+"\n" || stderr != "" {
		p.t.Fatalf("%v: exit status %d, it printed %q and %q, want %q", args, status, stdout, stderr, want)
	}
}

// fails runs a command that must fail and say why.
func (p *process) fails(want string, args ...string) {
	p.t.Helper()
	status, stdout, stderr := p.run(args...)
	if status != 1 || stdout != "" || !strings.Contains(stderr, want) {
		p.t.Errorf("%v: exit status %d, it printed %q and %q, want %q", args, status, stdout, stderr, want)
	}
}

// Somebody pauses an autoscaler, has it keep a count, and has it go on.
func TestPause(t *testing.T) {
	d := deploy(t, cluster.ForTest(t), 2)
	p := d.start(wantsConfig("maxReplicas: 5\n"), temporary(t))
	p.wants(`{"targetReplicas": 3}`)
	d.waitForReplicas(3)

	p.commands("Paused, until the process ends (state.store is none)", "pause", "--reason", "we move")
	mark := p.mark()
	p.wants(`{"targetReplicas": 5}`)
	p.waitForLine(mark, `msg="Nothing to scale" .*from=3 to=3 reason="evaluated 5, kept at 3 \(paused: we move\)"`)
	if got := d.replicas(); got != 3 {
		t.Errorf("%d replicas, though it was paused at 3", got)
	}
	// Whoever scales by hand meanwhile is not disturbed.
	d.scale(4)
	p.waitForLine(mark, `msg="Nothing to scale" .*from=4 to=4 reason="evaluated 5, kept at 4 `)

	p.commands("Paused at 7 replicas, until the process ends (state.store is none)", "pause", "--replicas", "7")
	d.waitForReplicas(7)
	p.waitForLine(mark, `msg="Nothing to scale" .*from=7 to=7 reason="evaluated 5, kept at 7 \(paused\)"`)
	// Now it is.
	d.scale(4)
	d.waitForReplicas(7)

	// The port is everybody's.
	for _, command := range []string{"pause", "resume"} {
		status, body := p.request(http.MethodPost, "/api/v1/"+command)
		if status != http.StatusForbidden || !strings.Contains(body, "configure apiConfig.auth, or run `custom-pod-autoscaler <command>` beside the autoscaler") {
			t.Errorf("POST %s: %d %s", command, status, body)
		}
	}

	p.commands("Resumed", "resume")
	d.waitForReplicas(5)

	// A pause at 0 is not mistaken for a target that somebody disabled.
	p.commands("Paused at 0 replicas, until the process ends (state.store is none)", "pause", "--replicas", "0")
	d.waitForReplicas(0)
	p.commands("Resumed", "resume")
	d.waitForReplicas(5)

	if status, _ := p.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d", status)
	}
	p.fails("no autoscaler of "+d.namespace+"/deployment/web runs here", "pause")
}

// A pause does not wait for the hooks of the run under way, which heeds it
// before it writes.
func TestPauseDuringARun(t *testing.T) {
	const waits = `{type: shell, timeout: 60000, shell: {entrypoint: sh, command: ["-c", "touch begun; while [ ! -e go ]; do sleep 0.05; done; cat wanted"]}}`
	preScale := wantsConfig("preScale: " + waits + "\n")
	evaluate := `
scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
metric: {type: shell, shell: {entrypoint: echo, command: ["5"]}}
evaluate: ` + waits + "\n"
	for _, test := range []struct {
		name, config string
		pause        []string
		prints       string
		says         string
		want         int32
	}{
		{
			name: "in preScale", config: preScale,
			pause: []string{"pause"}, prints: "Paused", says: `from=2 to=2 reason="evaluated 3, kept at 2 \(paused\)"`, want: 2,
		},
		{
			name: "in preScale, at a count", config: preScale,
			pause: []string{"pause", "--replicas", "1"}, prints: "Paused at 1 replica",
			says: `msg=Scaled .*from=2 to=1 reason="evaluated 3, kept at 1 \(paused\)"`, want: 1,
		},
		{
			name: "in evaluate", config: evaluate,
			pause: []string{"pause"}, prints: "Paused", says: `from=2 to=2 reason="evaluated 3, kept at 2 \(paused\)"`, want: 2,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := deploy(t, cluster.ForTest(t), 2)
			p := d.start(test.config, temporary(t))
			p.wants(`{"targetReplicas": 3}`)
			p.waitForFile("begun")
			p.commands(test.prints+", until the process ends (state.store is none)", test.pause...)
			if _, err := os.Stat(p.file("go")); err == nil {
				t.Fatal("the hook does not wait")
			}
			p.touch("go")
			p.waitForLine(0, test.says)
			if got := d.replicas(); got != test.want {
				t.Errorf("%d replicas, want %d", got, test.want)
			}
		})
	}
}

// With a store, a pause is in force after a restart, however that came.
func TestPauseSurvivesARestart(t *testing.T) {
	for _, store := range []string{"file", "configMap"} {
		for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
			t.Run(fmt.Sprintf("%s/%s", store, signal), func(t *testing.T) {
				d := deploy(t, cluster.ForTest(t), 2)
				state := "state: {store: configMap}\n"
				if store == "file" {
					state = "state: {store: file, path: " + filepath.Join(t.TempDir(), "state.json") + "}\n"
				}
				here := temporary(t)
				p := d.start(wantsConfig(state), here)
				p.wants(`{"targetReplicas": 2}`)
				p.commands("Paused at 4 replicas", "pause", "--replicas", "4", "--reason", "we move")
				d.waitForReplicas(4)
				p.stop(signal)

				p = d.start(wantsConfig(state), here)
				p.wants(`{"targetReplicas": 3}`)
				p.waitForLine(0, `from=4 to=4 reason="evaluated 3, kept at 4 \(paused: we move\)"`)
				// The socket of the process that was killed is no obstacle.
				p.commands("Resumed", "resume")
				d.waitForReplicas(3)
				p.stop(signal)

				p = d.start(wantsConfig(state), here)
				p.wants(`{"targetReplicas": 2}`)
				d.waitForReplicas(2)
			})
		}
	}
}

// Commands reach the process without the REST API, too.
func TestPauseWithoutTheAPI(t *testing.T) {
	d := deploy(t, cluster.ForTest(t), 2)
	p := d.start(wantsConfig(""), temporary(t), `apiConfig={"enabled":false}`)
	p.commands("Paused at 4 replicas, until the process ends (state.store is none)", "pause", "--replicas", "4")
	d.waitForReplicas(4)
}

// Without a place for the socket there is a warning, and an autoscaler. The
// same where another process of the target has the socket, which keeps it.
func TestPauseOutOfReach(t *testing.T) {
	d := deploy(t, cluster.ForTest(t), 2)
	here := temporary(t)
	p := d.start(wantsConfig(""), here)
	p.waitForLine(0, "Serving commands")
	for environment, why := range map[string]string{
		here:              "another autoscaler of the same target runs here",
		"TMPDIR=/nowhere": "let /nowhere be writable, or set TMPDIR to a folder that is",
	} {
		other := d.start(wantsConfig(""), environment)
		other.waitForLine(0, `level=WARN msg="Commands such as status and pause will not reach this process" .*`+why)
		other.wants(`{"targetReplicas": 3}`)
		d.waitForReplicas(3)
		if status, _ := other.stop(syscall.SIGTERM); status != 0 {
			t.Errorf("exit status %d", status)
		}
		d.scale(2)
	}
	p.commands("Paused, until the process ends (state.store is none)", "pause")
}

// A replica that stands by says who leads, on its port and on its socket.
func TestPauseOfAFollower(t *testing.T) {
	d := deploy(t, cluster.ForTest(t), 2)
	config := wantsConfig("leaderElection: {enabled: true}\n")
	leader := d.start(config, temporary(t))
	leader.wants(`{"targetReplicas": 3}`)
	d.waitForReplicas(3)
	follower := d.start(config, temporary(t))
	follower.waitForLine(0, "Serving commands")
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the follower to know the leader", func(context.Context) error {
		status, body := follower.request(http.MethodPost, "/api/v1/evaluation") //nolint:contextcheck // it has the test's
		if status != http.StatusServiceUnavailable || !strings.Contains(body, "this replica stands by: "+host+"_") {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
	follower.fails("this replica stands by: "+host+"_", "pause")
	follower.fails("leads: run this in its pod", "resume")
	leader.commands("Paused at 4 replicas, until the process ends (state.store is none)", "pause", "--replicas", "4")
	d.waitForReplicas(4)
}

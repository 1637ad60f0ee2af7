// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package acceptance

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/cluster"
)

// The API server goes away, in two ways, and comes back. Runs fail with the
// reason, the process lives, and scaling resumes within three intervals.
func TestTheAPIServerIsAway(t *testing.T) {
	// It is a control plane of its own: the other tests need theirs.
	c, err := cluster.Start(t.Context(), cluster.Options{WithoutMetrics: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	d := deploy(t, c, 2)
	p := d.start(wantsConfig(""), "interval=2000")
	p.wants(`{"targetReplicas": 3}`)
	d.waitForReplicas(3)

	away := p.mark()
	c.StopAPIServer()
	p.waitForLine(away, `msg="Run failed" .*stage=read error="getting the target in the namespace \S+: .*connection refused`)
	p.wants(`{"targetReplicas": 4}`)
	if err := c.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.resumes(away, p.mark(), `from=3 to=4`)

	away = p.mark()
	if err := c.PauseAPIServer(); err != nil {
		t.Fatal(err)
	}
	line := p.waitForLine(away, `msg="Run failed" .*stage=`)
	if !regexp.MustCompile(`context deadline exceeded|Client.Timeout exceeded|TLS handshake timeout`).MatchString(line) {
		t.Errorf("the reason does not tell of a timeout: %s", line)
	}
	p.wants(`{"targetReplicas": 5}`)
	back := p.mark()
	if err := c.ResumeAPIServer(); err != nil {
		t.Fatal(err)
	}
	p.resumes(away, back, `from=4 to=5`)

	if status, _ := p.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

// resumes waits for the run that scales, and checks that at most two runs
// failed since the API server was back: it is the third at the latest.
func (p *process) resumes(away, back int, scaled string) {
	p.t.Helper()
	line := p.waitForLine(away, `msg=Scaled .*`+scaled)
	log, failed := p.log(), 0
	for _, l := range log[back:max(back, slices.Index(log, line))] {
		if strings.Contains(l, `msg="Run failed"`) {
			failed++
		}
	}
	if failed > 2 {
		p.t.Errorf("%d runs failed after the API server was back", failed)
	}
}

func TestTheTargetIsDeletedAndMadeAgain(t *testing.T) {
	c := cluster.ForTest(t)
	d := deploy(t, c, 2)
	p := d.start(wantsConfig(""), "interval=1000")
	p.wants(`{"targetReplicas": 3}`)
	d.waitForReplicas(3)

	if err := d.client.AppsV1().Deployments(d.namespace).Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	p.waitForLine(0, `msg="Run failed" .*stage=read error="getting the target in the namespace \S+: deployments.apps \\"web\\" not found"`)
	p.wants(`{"targetReplicas": 5}`)
	if err := c.Deploy(t.Context(), d.namespace, cluster.Workload{Name: "web", Replicas: 2}); err != nil {
		// The autoscaler may have scaled it while it was waited for.
		t.Log(err)
	}
	p.waitForLine(0, `msg=Scaled .*to=5`)
	d.waitForReplicas(5)
}

// SIGTERM ends the process with status 0 at once, or when its hooks have had
// 1.5 s; nothing of them is left, and who waits for an answer gets one.
func TestSIGTERM(t *testing.T) {
	// It is to be 2 s, of which hooks have 1.5; as much again is for a machine
	// that is busy with other things.
	const soon = 4 * time.Second
	hanging := `{type: shell, timeout: 60000, shell: {entrypoint: sh, command: ["-c", "trap '' TERM; echo $$ > pid; sleep 60; sleep 60"]}}`
	c := cluster.ForTest(t)
	ended := func(t *testing.T, p *process) {
		t.Helper()
		status, took := p.stop(syscall.SIGTERM)
		t.Logf("it took %s", took.Round(time.Millisecond))
		if status != 0 || took > soon {
			t.Errorf("exit status %d after %s", status, took)
		}
		p.waitForLine(0, "msg=Stopped")
	}

	t.Run("in the start delay", func(t *testing.T) {
		d := deploy(t, c, 1)
		p := d.start(wantsConfig("startTime: 3600000"))
		p.waitForLine(0, "msg=Starting")
		p.waitForLine(0, "Serving the REST API")
		ended(t, p)
	})
	t.Run("in a hook", func(t *testing.T) {
		d := deploy(t, c, 1)
		p := d.start(wantsConfig("preMetric: " + hanging))
		p.waitForFile("pid")
		ended(t, p)
		p.hookIsGone("pid")
	})
	t.Run("in a request", func(t *testing.T) {
		d := deploy(t, c, 1)
		p := d.start(wantsConfig("preMetric: "+hanging), "interval=3600000")
		type answer struct {
			status int
			body   string
		}
		answers := make(chan answer, 1)
		p.waitForLine(0, "Serving the REST API")
		go func() {
			status, body := p.request(http.MethodGet, "/api/v1/metrics")
			answers <- answer{status, body}
		}()
		p.waitForFile("pid")
		ended(t, p)
		want := answer{503, `{"message":"the autoscaler is stopping","code":503}`}
		if got := <-answers; got != want {
			t.Errorf("the request was answered %v", got)
		}
		p.hookIsGone("pid")
	})
	t.Run("in a request that can still be answered", func(t *testing.T) {
		d := deploy(t, c, 1)
		p := d.start(wantsConfig(`
preMetric: {type: shell, shell: {entrypoint: sh, command: ["-c", "touch begun; while [ ! -e go ]; do sleep 0.02; done"]}}
`), "interval=3600000")
		p.waitForLine(0, "Serving the REST API")
		statuses := make(chan int, 1)
		go func() {
			status, _ := p.request(http.MethodGet, "/api/v1/metrics")
			statuses <- status
		}()
		p.waitForFile("begun")
		if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		p.touch("go")
		if got := <-statuses; got != http.StatusOK {
			t.Errorf("the request was answered %d", got)
		}
		if status := p.waitForEnd(); status != 0 {
			t.Errorf("exit status %d", status)
		}
	})
}

// hookIsGone checks that the process whose ID a hook wrote is dead.
func (p *process) hookIsGone(file string) {
	p.t.Helper()
	var pid int
	if _, err := fmt.Sscan(read(p.t, p.file(file)), &pid); err != nil {
		p.t.Fatal(err)
	}
	eventually(p.t, fmt.Sprintf("the end of the hook's process %d", pid), func(context.Context) error {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		// One that nobody has reaped yet is dead all the same.
		if errors.Is(err, os.ErrNotExist) || regexp.MustCompile(`\) Z `).Match(stat) {
			return nil
		}
		return fmt.Errorf("it lives: %s", stat)
	})
}

// What is wrong at the start ends the process with status 2 and every fault by
// its key, or with status 1 when it is not the configuration's.
func TestRefusesToStart(t *testing.T) {
	c := cluster.ForTest(t)
	for _, test := range []struct {
		name, config string
		status       int
		says         []string
	}{
		{
			name: "faults of every kind", status: 2, config: `
startTime: 0
minReplicas: 5
maxReplicas: 3
runMode: per-cluster
metric: {type: shel}
kubernetesMetricSpecs: [{type: Resource}]
`,
			says: []string{"scaleTargetRef", "evaluate", "startTime", "minReplicas", "runMode", "metric.type", "kubernetesMetricSpecs[0].resource"},
		},
		{name: "a type fault", status: 2, config: "startTime: soon\nmetric: [1]\n", says: []string{"startTime", "metric"}},
		{
			name: "a port that is taken", status: 1, config: wantsConfig(""),
			says: []string{"apiConfig.port", "address already in use"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := settings{cluster: c, namespace: "default", config: test.config}
			if test.status == 1 {
				host, port := c.Address()
				s.environment = []string{fmt.Sprintf(`apiConfig={"enabled":true,"host":%q,"port":%s}`, host, port)}
			}
			p := start(t, s)
			if status := p.waitForEnd(); status != test.status {
				t.Errorf("exit status %d, want %d", status, test.status)
			}
			log := strings.Join(p.log(), "\n")
			for _, words := range test.says {
				if !strings.Contains(log, words) {
					t.Errorf("it does not say %q:\n%s", words, log)
				}
			}
			if strings.Contains(log, "goroutine ") {
				t.Errorf("it panicked:\n%s", log)
			}
		})
	}
}

// One pod's hook that hangs is killed with everything it started, fails that
// run only, and is named.
func TestAHangingHook(t *testing.T) {
	d := deploy(t, cluster.ForTest(t), 2)
	p := d.start(wantsConfig(`
preMetric: {type: shell, timeout: 1000, shell: {entrypoint: sh, command: ["-c", "if [ -e ok ]; then exit; fi; sleep 60 & echo $! > pid; wait"]}}
`))
	p.waitForLine(0, `msg="Run failed" .*stage=preMetric error=".*1s`)
	p.hookIsGone("pid")
	p.touch("ok")
	p.wants(`{"targetReplicas": 3}`)
	d.waitForReplicas(3)
}

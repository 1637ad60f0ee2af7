// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package acceptance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/cluster"
)

// podsConfig is an autoscaler of the Deployment web that writes down which pods
// it was shown, and wants what the file `wanted` holds.
const podsConfig = `
scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
metric: {type: shell, shell: {entrypoint: sh, command: ["-c", "grep -o '\"name\":\"web-[^\"]*\"' | head -n 1"]}}
postMetric: {type: shell, shell: {entrypoint: sh, command: ["-c", "cat > new-shown; mv new-shown shown"]}}
evaluate: {type: shell, shell: {entrypoint: cat, command: [wanted]}}
logVerbosity: 2
`

var requestInLog = regexp.MustCompile(`msg="Request to the API server" .*method=(\S+) path=(\S+)`)

// requestsOfARun waits for the end of one more run after this one, and returns
// the requests that were made between the two ends.
func (p *process) requestsOfARun() []string {
	p.t.Helper()
	const end = `msg=("Nothing to scale"|Scaled) `
	mark := p.mark()
	p.waitForLine(mark, end)
	log := p.log()
	for !regexp.MustCompile(end).MatchString(log[mark]) {
		mark++
	}
	p.waitForLine(mark+1, end)
	var requests []string
	for _, line := range p.log()[mark+1:] {
		if regexp.MustCompile(end).MatchString(line) {
			break
		}
		if request := requestInLog.FindStringSubmatch(line); request != nil {
			requests = append(requests, request[1]+" "+request[2])
		}
	}
	return requests
}

// makesRequests waits for a run that makes exactly these requests, and for
// three more that do.
func (p *process) makesRequests(want ...string) {
	p.t.Helper()
	same := 0
	eventually(p.t, fmt.Sprintf("runs of the requests %q", want), func(context.Context) error {
		for same < 4 {
			got := p.requestsOfARun()
			if strings.Join(got, ",") != strings.Join(want, ",") {
				same = 0
				return fmt.Errorf("a run made %q", got)
			}
			same++
		}
		return nil
	})
}

// shows waits for a run that shows its hooks that many pods.
func (p *process) shows(pods int) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("a run that sees %d pods", pods), func(context.Context) error {
		shown, err := os.ReadFile(p.file("shown"))
		if err != nil {
			return err
		}
		if got := strings.Count(string(shown), `"value":`); got != pods {
			return fmt.Errorf("it saw %d", got)
		}
		return nil
	})
}

// restricted writes a kubeconfig of a service account with these rules.
func restricted(t *testing.T, c *cluster.Cluster, namespace, rules string) string {
	t.Helper()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := c.WriteServiceAccountKubeconfig(t.Context(), kubeconfig, namespace, "scaler"); err != nil {
		t.Fatal(err)
	}
	for resource, manifest := range map[string]string{
		"roles": `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: scaler}
rules:` + rules,
		"rolebindings": `
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: scaler}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: scaler}
subjects: [{kind: ServiceAccount, name: scaler}]
`,
	} {
		apply(t, c.Dynamic(), schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: resource}, namespace, manifest)
	}
	return kubeconfig
}

// In steady state a run makes one request, whatever the number of pods: the
// scale that it decides from. What changes is seen all the same.
func TestASteadyRunMakesOneRequest(t *testing.T) {
	d := deploy(t, cluster.ForTest(t), 3)
	scale := "GET /apis/apps/v1/namespaces/" + d.namespace + "/deployments/web/scale"
	p := d.start(podsConfig)
	p.wants(`{"targetReplicas": 3}`)
	p.shows(3)
	p.makesRequests(scale)

	p.wants(`{"targetReplicas": 5}`)
	d.waitForReplicas(5)
	p.shows(5)
	p.makesRequests(scale)

	pods, err := d.client.CoreV1().Pods(d.namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	gone := pods.Items[0].Name
	if err := d.client.CoreV1().Pods(d.namespace).Delete(t.Context(), gone, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a run without the pod "+gone, func(context.Context) error {
		if strings.Contains(read(t, p.file("shown")), gone) {
			return fmt.Errorf("%s is there", gone)
		}
		return nil
	})
	p.shows(5)

	// Somebody labels the target: the hooks are shown that.
	patch := []byte(`{"metadata": {"labels": {"painted": "green"}}}`)
	_, err = d.client.AppsV1().Deployments(d.namespace).Patch(t.Context(), "web", types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a run with the label", func(context.Context) error {
		if !strings.Contains(read(t, p.file("shown")), `"painted":"green"`) {
			return errors.New("it is not there")
		}
		return nil
	})
	p.makesRequests(scale)
}

// Where watching is not permitted a run reads as it would without, and says so
// once for each resource.
func TestWatchesThatAreForbidden(t *testing.T) {
	c := cluster.ForTest(t)
	d := deploy(t, c, 2)
	kubeconfig := restricted(t, c, d.namespace, `
- {apiGroups: [apps], resources: [deployments], verbs: [get], resourceNames: [web]}
- {apiGroups: [apps], resources: [deployments/scale], verbs: [get, patch], resourceNames: [web]}
- {apiGroups: [""], resources: [pods], verbs: [list]}
`)
	path := "GET /apis/apps/v1/namespaces/" + d.namespace + "/deployments/web"
	p := start(t, settings{cluster: c, namespace: d.namespace, kubeconfig: kubeconfig, config: podsConfig})
	p.wants(`{"targetReplicas": 3}`)
	d.waitForReplicas(3)
	p.shows(3)
	p.makesRequests(path, "GET /api/v1/namespaces/"+d.namespace+"/pods", path+"/scale")

	for resource, what := range map[string]string{"deployments.apps": "gets the target", "pods": "lists all pods"} {
		warning := regexp.MustCompile(`level=WARN msg="A watch is not permitted: each run ` + what + `.*Allow the service account the verb watch.* resource=` +
			resource + ` .*cannot watch resource`)
		if count := len(warning.FindAllString(strings.Join(p.log(), "\n"), -1)); count != 1 {
			t.Errorf("%d warnings of %s", count, resource)
		}
	}
}

// With the rights of docs/rbac.md, watches included, a run makes one request.
func TestWatchesNeedNoMoreThanWatch(t *testing.T) {
	c := cluster.ForTest(t)
	d := deploy(t, c, 2)
	kubeconfig := restricted(t, c, d.namespace, `
- {apiGroups: [apps], resources: [deployments], verbs: [get, watch], resourceNames: [web]}
- {apiGroups: [apps], resources: [deployments/scale], verbs: [get, patch], resourceNames: [web]}
- {apiGroups: [""], resources: [pods], verbs: [list, watch]}
`)
	p := start(t, settings{cluster: c, namespace: d.namespace, kubeconfig: kubeconfig, config: podsConfig})
	p.wants(`{"targetReplicas": 3}`)
	d.waitForReplicas(3)
	p.makesRequests("GET /apis/apps/v1/namespaces/" + d.namespace + "/deployments/web/scale")
}

// Where a target has to be listed before it is watched, both rights may be
// limited to its name.
func TestATargetIsListedByItsName(t *testing.T) {
	c := cluster.ForTest(t)
	d := deploy(t, c, 0)
	kubeconfig := restricted(t, c, d.namespace, `
- {apiGroups: [apps], resources: [deployments], verbs: [list, watch], resourceNames: [web]}
`)
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	deployments := client.AppsV1().Deployments(d.namespace)
	var listed *appsv1.DeploymentList
	eventually(t, "the right to list", func(ctx context.Context) error {
		listed, err = deployments.List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=web", Limit: 100})
		return err
	})
	watch, err := deployments.Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=web", ResourceVersion: listed.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	watch.Stop()
	if _, err := deployments.List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("listing all: %v", err)
	}
}

// The pods of a target whose selector changes are the others, from the next run
// on.
func TestATargetsSelectorChanges(t *testing.T) {
	c := cluster.ForTest(t)
	namespace := c.Namespace(t)
	definitions := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	definition := strings.NewReplacer("gizmett", "gadgett", "Gizmett", "Gadgett").Replace(gizmos)
	apply(t, c.Dynamic(), definitions, "", fmt.Sprintf(definition, ", labelSelectorPath: .status.selector"))
	gadgets := schema.GroupVersionResource{Group: "test.example.com", Version: "v1", Resource: "gadgetti"}
	apply(t, c.Dynamic(), gadgets, namespace, `
apiVersion: test.example.com/v1
kind: Gadgetto
metadata: {name: web}
spec: {replicas: 2}
status: {replicas: 2, selector: color=green}
`)
	for name, color := range map[string]string{"web-a": "green", "web-b": "green", "web-c": "blue"} {
		apply(t, c.Dynamic(), schema.GroupVersionResource{Version: "v1", Resource: "pods"}, namespace, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, labels: {color: %s}}
spec: {containers: [{name: c, image: none}]}
`, name, color))
	}
	config := strings.Replace(podsConfig, "apiVersion: apps/v1, kind: Deployment", "apiVersion: test.example.com/v1, kind: Gadgetto", 1)
	p := start(t, settings{cluster: c, namespace: namespace, config: config})
	p.wants(`{"targetReplicas": 2}`)
	p.shows(2)
	scale := "GET /apis/test.example.com/v1/namespaces/" + namespace + "/gadgetti/web/scale"
	p.makesRequests(scale)

	patch := []byte(`{"status": {"selector": "color=blue"}}`)
	if _, err := c.Dynamic().Resource(gadgets).Namespace(namespace).Patch(t.Context(), "web", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	p.shows(1)
	if shown := read(t, p.file("shown")); !strings.Contains(shown, "web-c") {
		t.Errorf("it shows %s", shown)
	}
	p.makesRequests(scale)
}

// While the API server is away no run decides anything; when it is back runs
// see what changed meanwhile, and need one request again.
func TestNoRunActsOnWhatWasOnceWatched(t *testing.T) {
	c, err := cluster.Start(t.Context(), cluster.Options{WithoutMetrics: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	d := deploy(t, c, 2)
	scale := "GET /apis/apps/v1/namespaces/" + d.namespace + "/deployments/web/scale"
	p := d.start(podsConfig)
	p.wants(`{"targetReplicas": 3}`)
	d.waitForReplicas(3)
	p.makesRequests(scale)

	for _, fault := range []struct {
		name       string
		begin, end func() error
	}{
		{
			"restarted", func() error { c.StopAPIServer(); return nil },
			func() error { return c.StartAPIServer(t.Context()) },
		},
		{"paused", c.PauseAPIServer, c.ResumeAPIServer},
	} {
		t.Log(fault.name)
		away := p.mark()
		if err := fault.begin(); err != nil {
			t.Fatal(err)
		}
		p.waitForLine(away, `msg="Run failed" .*stage=read`)
		p.wants(`{"targetReplicas": 4}`)
		p.waitForLine(p.mark(), `msg="Run failed" .*stage=read`)
		for _, line := range p.log()[away:] {
			if strings.Contains(line, "msg=Scaled") {
				t.Errorf("%s: it scaled: %s", fault.name, line)
			}
		}
		if err := fault.end(); err != nil {
			t.Fatal(err)
		}
		d.waitForReplicas(4)
		p.shows(4)
		p.makesRequests(scale)
		p.wants(`{"targetReplicas": 3}`)
		d.waitForReplicas(3)
		p.makesRequests(scale)
	}
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package acceptance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/cluster"
)

func TestScalesADeployment(t *testing.T) {
	d := deploy(t, cluster.ForTest(t), 2)
	p := d.start(wantsConfig(""))

	p.waitForLine(0, `level=ERROR msg="Run failed" .*stage=evaluate error="exit status 1" stderr="cat: wanted: No such file`)
	p.wants(`{"targetReplicas": 4}`)
	p.waitForLine(0, `msg=Scaled .*from=2 to=4 reason="evaluated 4"`)
	d.waitForReplicas(4)

	p.wants(`{"targetReplicas": 14}`)
	p.waitForLine(0, `msg=Scaled .*from=4 to=10 reason="evaluated 14, capped to 10 \(maxReplicas is 10\)"`)
	d.waitForReplicas(10)

	mark := p.mark()
	p.wants(`fourteen`)
	p.waitForLine(mark, `level=ERROR msg="Run failed" .*stage=evaluate error="failed to parse JSON evaluation, got 'fourteen': invalid character`)
	p.wants(`{"targetReplicas": -1}`)
	p.waitForLine(mark, `msg=Scaled .*from=10 to=1 reason="evaluated -1, raised to 1 \(minReplicas is 1\)"`)
	d.waitForReplicas(1)

	if status, _ := p.stop(syscall.SIGINT); status != 0 {
		t.Errorf("exit status %d after SIGINT", status)
	}
}

func TestScalesToAndFromZero(t *testing.T) {
	d := deploy(t, cluster.ForTest(t), 2)
	p := d.start(wantsConfig("minReplicas: 0"))
	for _, want := range []int32{0, 3, 0} {
		p.wants(fmt.Sprintf(`{"targetReplicas": %d}`, want))
		d.waitForReplicas(want)
	}
	if strings.Contains(strings.Join(p.log(), "\n"), "deciding again") {
		t.Error("a write was refused")
	}
}

func TestLeavesADisabledTargetAlone(t *testing.T) {
	d := deploy(t, cluster.ForTest(t), 0)
	p := d.start(wantsConfig(`
preScale: {type: shell, shell: {entrypoint: touch, command: [preScale]}}
`))
	p.wants(`{"targetReplicas": 4}`)
	p.waitForLine(0, `msg="Left alone, scaling is disabled" .*from=0 to=0 reason="evaluated 4, held at 0 `)
	if status, body := p.request(http.MethodPost, "/api/v1/evaluation"); status != http.StatusOK || body != `{"targetReplicas":0}` {
		t.Errorf("POST answered %d %s", status, body)
	}
	if _, err := os.Stat(p.file("preScale")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("preScale ran: %v", err)
	}
	d.scale(1)
	d.waitForReplicas(4)
}

// gizmos is a custom resource with a scale subresource, an irregular plural,
// and no pods of its own.
const gizmos = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gizmetti.test.example.com}
spec:
  group: test.example.com
  scope: Namespaced
  names: {kind: Gizmetto, plural: gizmetti, singular: gizmetto}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
    subresources:
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas%s}
`

var gizmoResource = schema.GroupVersionResource{Group: "test.example.com", Version: "v1", Resource: "gizmetti"}

func apply(t *testing.T, client dynamic.Interface, resource schema.GroupVersionResource, namespace, manifest string) {
	t.Helper()
	var object unstructured.Unstructured
	if err := yaml.Unmarshal([]byte(manifest), &object.Object); err != nil {
		t.Fatal(err)
	}
	// A definition that was just made takes a moment to be served.
	eventually(t, "making "+object.GetName(), func(ctx context.Context) error {
		_, err := client.Resource(resource).Namespace(namespace).Create(ctx, &object, metav1.CreateOptions{})
		return err
	})
}

func TestAnyTargetWithAScale(t *testing.T) {
	c := cluster.ForTest(t)
	namespace := c.Namespace(t)
	pods := `
  replicas: 1
  template:
    metadata: {labels: {app: %[1]s}}
    spec: {containers: [{name: c, image: none}]}
  selector:`
	matching := pods + ` {matchLabels: {app: %[1]s}}`
	definitions := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	apply(t, c.Dynamic(), definitions, "", fmt.Sprintf(gizmos, ""))

	for _, target := range []struct {
		resource   schema.GroupVersionResource
		apiVersion string
		kind       string
		spec       string
		mode       string
	}{
		{schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}, "apps/v1", "Deployment", matching, "per-pod"},
		{schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "statefulsets"}, "apps/v1", "StatefulSet", matching, "per-pod"},
		{schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "replicasets"}, "apps/v1", "ReplicaSet", matching, "per-pod"},
		{schema.GroupVersionResource{Version: "v1", Resource: "replicationcontrollers"}, "v1", "ReplicationController", pods + ` {app: %[1]s}`, "per-pod"},
		{gizmoResource, "test.example.com/v1", "Gizmetto", ` {replicas: 1}`, "per-resource"},
	} {
		t.Run(target.kind, func(t *testing.T) {
			name := strings.ToLower(target.kind)
			manifest := fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {name: %s}\nspec:", target.apiVersion, target.kind, name)
			spec := target.spec
			if strings.Contains(spec, "%") {
				spec = fmt.Sprintf(spec, name)
			}
			apply(t, c.Dynamic(), target.resource, namespace, manifest+spec)

			// The kind is written in lower case, as many do.
			config := fmt.Sprintf(`
scaleTargetRef: {apiVersion: %s, kind: %s, name: %s}
runMode: %s
minReplicas: 0
metric: {type: shell, shell: {entrypoint: echo}}
evaluate: {type: shell, shell: {entrypoint: cat, command: [wanted]}}
logVerbosity: 2
`, target.apiVersion, name, name, target.mode)
			p := start(t, settings{cluster: c, namespace: namespace, config: config})
			for _, want := range []int64{3, 0, 2} {
				p.wants(fmt.Sprintf(`{"targetReplicas": %d}`, want))
				eventually(t, fmt.Sprintf("%d replicas", want), func(ctx context.Context) error {
					object, err := c.Dynamic().Resource(target.resource).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
					if err != nil {
						return err
					}
					if got, _, err := unstructured.NestedInt64(object.Object, "spec", "replicas"); err != nil || got != want {
						return fmt.Errorf("there are %d, %w", got, err)
					}
					return nil
				})
			}
			// The scale that it knows by the target's resource version is this.
			groupVersion := "apis/" + target.apiVersion
			if target.resource.Group == "" {
				groupVersion = "api/v1"
			}
			p.makesRequests("GET /" + groupVersion + "/namespaces/" + namespace + "/" + target.resource.Resource + "/" + name + "/scale")
		})
	}

	t.Run("without a selector per-pod is an error", func(t *testing.T) {
		p := start(t, settings{cluster: c, namespace: namespace, config: `
scaleTargetRef: {apiVersion: test.example.com/v1, kind: Gizmetto, name: gizmetto}
metric: {type: shell, shell: {entrypoint: touch, command: [metric]}}
evaluate: {type: shell, shell: {entrypoint: cat, command: [wanted]}}
`})
		p.waitForLine(0, `stage=read error="listing the target's pods: its scale has an empty selector \(status.selector\)`)
		if _, err := os.Stat(p.file("metric")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the metric hook ran: %v", err)
		}
	})
}

// The API server itself refuses to write over somebody else's count, at zero
// as elsewhere.
func TestAWriteTestsTheCount(t *testing.T) {
	c := cluster.ForTest(t)
	d := deploy(t, c, 2)
	clients, err := resource.Connect(c.RESTConfig(), "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	target := resource.NewTarget(clients, autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "web"}, d.namespace)
	writer := scale.NewAPIWriter(target)
	for _, step := range []struct {
		live, from, to int32
		refused        bool
	}{
		{live: 2, from: 2, to: 3},
		{live: 2, from: 3, to: 4, refused: true},
		{live: 2, from: 0, to: 4, refused: true},
		{live: 2, from: 2, to: 0},
		{live: 0, from: 0, to: 3},
		{live: 0, from: 3, to: 4, refused: true},
	} {
		d.scale(step.live)
		err := writer.Write(t.Context(), scale.Decision{Current: step.from, Desired: step.to})
		if refused := errors.Is(err, scale.ErrRefused); refused != step.refused || (err != nil && !refused) {
			t.Errorf("%+v: %v", step, err)
		}
		want := step.to
		if step.refused {
			want = step.live
		}
		if got := d.replicas(); got != want {
			t.Errorf("%+v: there are %d replicas", step, got)
		}
	}
}

// Somebody scales while hooks run: once before the decision, once between the
// decision and the write.
func TestSomebodyElseScalesMeanwhile(t *testing.T) {
	d := deploy(t, cluster.ForTest(t), 2)
	hook := `{type: shell, timeout: 60000, shell: {entrypoint: sh, command: ["-c", "touch %[1]s; while [ ! -e go-%[1]s ]; do sleep 0.02; done"]}}`
	p := d.start(wantsConfig(fmt.Sprintf("postEvaluate: "+hook, "evaluated") + "\npreScale: " + fmt.Sprintf(hook, "decided")))
	p.wants(`{"targetReplicas": 4}`)

	p.waitForFile("evaluated")
	d.scale(5)
	p.touch("go-evaluated")
	p.waitForLine(0, `msg="The replica count changed during the run: deciding from the new one" .*atStart=2 now=5`)

	p.waitForFile("decided")
	d.scale(6)
	p.touch("go-decided")
	p.waitForLine(0, `msg="The replica count changed before it was written: deciding again" .*before=5 now=6`)
	p.waitForLine(0, `msg=Scaled .*from=6 to=4`)
	d.waitForReplicas(4)
}

// A restart, even by kill -9, never scales down earlier than the window
// allows.
func TestARestartKeepsTheWindow(t *testing.T) {
	d := deploy(t, cluster.ForTest(t), 2)
	config := wantsConfig("downscaleStabilization: 300")
	p := d.start(config)
	p.wants(`{"targetReplicas": 6}`)
	d.waitForReplicas(6)
	p.stop(syscall.SIGKILL)

	p = d.start(config)
	p.wants(`{"targetReplicas": 1}`)
	for range 3 {
		p.waitForLine(p.mark(), `msg="Nothing to scale" .*from=6 to=6 reason="evaluated 1, held at 6 \(6 was found at the start \S+ ago, within the downscaleStabilization of 5m0s\)"`)
	}
	if got := d.replicas(); got != 6 {
		t.Errorf("there are %d replicas", got)
	}
}

func TestScaleHooks(t *testing.T) {
	d := deploy(t, cluster.ForTest(t), 2)
	p := d.start(wantsConfig(`
preScale: {type: shell, shell: {entrypoint: sh, command: ["-c", "cat > preScale; exit $(cat preScaleStatus)"]}}
postScale: {type: shell, shell: {entrypoint: sh, command: ["-c", "cat > postScale; exit 3"]}}
`), "interval=3600000")
	p.wants(`{"targetReplicas": 4}`)
	write(t, p.file("preScaleStatus"), "4")
	status, body := p.request(http.MethodPost, "/api/v1/evaluation")
	if want := `{"message":"failed run pre-scaling hook: exit status 4","code":500}`; status != 500 || body != want {
		t.Errorf("POST answered %d %s", status, body)
	}
	if got := d.replicas(); got != 2 {
		t.Errorf("preScale failed, and there are %d replicas", got)
	}

	write(t, p.file("preScaleStatus"), "0")
	status, body = p.request(http.MethodPost, "/api/v1/evaluation")
	if want := `{"message":"failed to run post-scaling hook: exit status 3","code":500}`; status != 500 || body != want {
		t.Errorf("POST answered %d %s", status, body)
	}
	if got := d.replicas(); got != 4 {
		t.Errorf("postScale failed, and there are %d replicas", got)
	}
	for _, file := range []string{"preScale", "postScale"} {
		content, err := os.ReadFile(p.file(file))
		if err != nil || !regexp.MustCompile(`^\{"evaluation":\{"targetReplicas":4\},"resource":\{.*"runType":"api"\}$`).Match(content) {
			t.Errorf("%s was given %s, %v", file, content, err)
		}
	}
}

func TestREST(t *testing.T) {
	d := deploy(t, cluster.ForTest(t), 2)
	p := d.start(wantsConfig(""), "interval=3600000")
	p.wants(`{"targetReplicas": 14}`)
	metrics := regexp.MustCompile(`^\[\{"resource":"web-\S+","value":"5\\n"\},\{"resource":"web-\S+","value":"5\\n"\}\]$`)
	for _, step := range []struct {
		method, path string
		status       int
		body         *regexp.Regexp
		replicas     int32
	}{
		{"GET", "/api/v1/metrics", 200, metrics, 2},
		{"GET", "/api/v1/metrics?dry_run=true", 200, metrics, 2},
		{"POST", "/api/v1/evaluation?dry_run=1", 200, regexp.MustCompile(`^\{"targetReplicas":14\}$`), 2},
		{"POST", "/api/v1/evaluation", 200, regexp.MustCompile(`^\{"targetReplicas":10\}$`), 10},
		{"POST", "/api/v1/evaluation?dry_run=perhaps", 400, regexp.MustCompile(`'perhaps' is not a valid boolean`), 10},
		{"GET", "/api/v1/evaluation", 405, regexp.MustCompile(`Method 'GET' not allowed`), 10},
		{"GET", "/metrics-of-another-kind", 404, regexp.MustCompile(`Resource '/metrics-of-another-kind' not found`), 10},
	} {
		status, body := p.request(step.method, step.path)
		if status != step.status || !step.body.MatchString(body) {
			t.Errorf("%s %s answered %d %s", step.method, step.path, status, body)
		}
		if got := d.replicas(); got != step.replicas {
			t.Errorf("after %s %s there are %d replicas", step.method, step.path, got)
		}
	}
}

// The least a service account needs, and what is said when it has less.
func TestLeastPrivilege(t *testing.T) {
	c := cluster.ForTest(t)
	d := deploy(t, c, 2)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := c.WriteServiceAccountKubeconfig(t.Context(), kubeconfig, d.namespace, "scaler"); err != nil {
		t.Fatal(err)
	}
	p := start(t, settings{cluster: c, namespace: d.namespace, kubeconfig: kubeconfig, config: wantsConfig("")})
	p.wants(`{"targetReplicas": 4}`)
	p.waitForLine(0, `stage=read error="getting the target in the namespace \S+: deployments.apps \\"web\\" is forbidden: User .* cannot get resource`)

	for resource, manifest := range map[string]string{
		"roles": `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: scaler}
rules:
- {apiGroups: [apps], resources: [deployments], verbs: [get]}
- {apiGroups: [apps], resources: [deployments/scale], verbs: [get, patch]}
- {apiGroups: [""], resources: [pods], verbs: [list]}
`,
		"rolebindings": `
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: scaler}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: scaler}
subjects: [{kind: ServiceAccount, name: scaler}]
`,
	} {
		apply(t, c.Dynamic(), schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: resource}, d.namespace, manifest)
	}
	d.waitForReplicas(4)
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package acceptance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/cluster"
)

const scalerServicePage = "../../docs/replacing-a-scaler-service.md"

// The page for those who come from a service of their own says what works:
// every line on it is run, in its order, and answers with what is shown, but
// for times, hashes and the like.
func TestReplacingAScalerService(t *testing.T) {
	page := read(t, scalerServicePage)
	d := deploy(t, cluster.ForTest(t), 2)
	folder := t.TempDir()
	write(t, filepath.Join(folder, "token"), "secret-of-the-test alice\n")
	config := firstMatch(t, page, "(?s)```yaml title=\"config.yaml\"\n(.*?)```")
	config = strings.NewReplacer(
		"namespace: shop\n", "",
		"/srv/shop.git", bareRepository(t, folder),
	).Replace(config)
	api := fmt.Sprintf(`apiConfig={"enabled":true,"host":"127.0.0.1","port":0,"auth":{"token":{"configureFile":%q}}}`, filepath.Join(folder, "token"))
	p := d.start(config, temporary(t), api)
	d.waitForReplicas(3)
	address := addressInLog.FindStringSubmatch(p.waitForLine(0, addressInLog.String()))[1]

	lines := linesOf(page)
	if len(lines) < 12 {
		t.Fatalf("there are only %d lines on the page", len(lines))
	}
	for _, line := range lines {
		t.Log("$ " + line.command)
		got := runLine(t, strings.NewReplacer("localhost:5000", address, "curl ", "curl --silent --show-error --fail-with-body ").Replace(line.command))
		shown := strings.ReplaceAll(line.answer, "shop/deployment/web", d.namespace+"/deployment/web")
		if fault := differs(t, shown, got); fault != "" {
			t.Errorf("$ %s\nanswers with\n%s\nnot with\n%s\n%s", line.command, got, shown, fault)
		}
	}
}

// The commands that look understand what the process answers.
func TestLookingAtAnAutoscaler(t *testing.T) {
	d := deploy(t, cluster.ForTest(t), 2)
	p := d.start(wantsConfig(""), temporary(t))
	p.wants(`{"targetReplicas": 3, "reason": "queue of 420"}`)
	d.waitForReplicas(3)
	p.waitForLine(0, "msg=Scaled")
	for command, want := range map[string]string{
		"status":          `(?s)Target:    apps/v1 Deployment \S+/web\nReplicas:  3 \(evaluated 3\)\nWhy:       evaluated 3 \(queue of 420\)\n.*Last run:`,
		"records":         `(?s)^TIME .* interval  3          2 -> 3    scaled    evaluated 3 \(queue of 420\)\n`,
		"status -o json":  `^\{"id":.*\}\n$`,
		"records -o json": `^\{"records":\[\{.*\}\]\}\n$`,
		"override":        `^No override\nBounds: 1 to 10\n$`,
		"scale":           `^No manual hold\n$`,
	} {
		status, stdout, stderr := p.run(strings.Fields(command)...)
		if status != 0 || stderr != "" || !regexp.MustCompile(want).MatchString(stdout) {
			t.Errorf("%s: exit status %d, it printed\n%s%s\nwant %s", command, status, stdout, stderr, want)
		}
	}
}

func firstMatch(t *testing.T, text, pattern string) string {
	t.Helper()
	found := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if found == nil {
		t.Fatalf("there is no %s", pattern)
	}
	return found[1]
}

// bareRepository has a branch main with the file that the page names.
func bareRepository(t *testing.T, folder string) string {
	t.Helper()
	bare := filepath.Join(folder, "shop.git")
	script := `set -e
git init --quiet --bare --initial-branch=main "$0"
git init --quiet --initial-branch=main "$0.work"
cd "$0.work"
mkdir -p apps/web
echo 'replicas: 2' >apps/web/values.yaml
git add .
git -c user.name=test -c user.email=test@example.com commit --quiet -m Begin
git push --quiet "$0" main`
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if output, err := exec.CommandContext(ctx, "sh", "-c", script, bare).CombinedOutput(); err != nil {
		t.Fatalf("making a repository: %v\n%s", err, output)
	}
	return bare
}

// line is a command on a page, and the answer that is shown below it.
type line struct{ command, answer string }

// linesOf are the commands of a page's console blocks.
func linesOf(page string) (lines []line) {
	for _, block := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(page, -1) {
		for text := range strings.Lines(block[1]) {
			if command, ok := strings.CutPrefix(text, "$ "); ok {
				lines = append(lines, line{command: strings.TrimSpace(command)})
			} else {
				lines[len(lines)-1].answer += text
			}
		}
	}
	return lines
}

func runLine(t *testing.T, command string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var errs bytes.Buffer
	c := exec.CommandContext(ctx, "bash", "-o", "pipefail", "-c", command)
	c.Env, c.Stderr = append(os.Environ(), "TOKEN=secret-of-the-test"), &errs
	output, err := c.Output()
	if err != nil {
		t.Errorf("%s: %v\n%s%s", command, err, output, errs.String())
	}
	return string(output)
}

// differs says in what an answer is another one than is shown: in its fields and
// their kinds, or if it is no JSON in its text.
func differs(t *testing.T, shown, got string) string {
	t.Helper()
	var want, have any
	if json.Unmarshal([]byte(shown), &want) != nil {
		if strings.TrimSpace(shown) != strings.TrimSpace(got) {
			return "the text is another one"
		}
		return ""
	}
	if err := json.Unmarshal([]byte(got), &have); err != nil {
		return err.Error()
	}
	return differsIn("answer", want, have)
}

// told are the fields whose values are told as they are; of the others only the
// kind is looked at.
var told = []string{"desired", "targetReplicas", "before", "after", "dryRun", "status", "direction", "max", "from", "lasts", "minReplicas", "maxReplicas", "source"}

func differsIn(where string, shown, got any) string {
	switch shown := shown.(type) {
	case map[string]any:
		object, ok := got.(map[string]any)
		if !ok {
			return where + ": is no object"
		}
		for key, value := range shown {
			if _, there := object[key]; !there {
				return where + "." + key + ": is missing"
			}
			if fault := differsIn(where+"."+key, value, object[key]); fault != "" {
				return fault
			}
		}
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) != len(shown) {
			return where + ": is another list"
		}
		for i := range shown {
			if fault := differsIn(where, shown[i], list[i]); fault != "" {
				return fault
			}
		}
	default:
		name := where[strings.LastIndex(where, ".")+1:]
		if fmt.Sprintf("%T", shown) != fmt.Sprintf("%T", got) || slices.Contains(told, name) && shown != got {
			return fmt.Sprintf("%s: is %v, not %v", where, got, shown)
		}
	}
	return ""
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/template"

	gocmp "github.com/google/go-cmp/cmp"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"sigs.k8s.io/yaml"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

var update = flag.Bool("update", false, "write docs/reference/configuration.md")

const referencePath = "../docs/reference/configuration.md"

// The reference is made of the comments on the fields, their types, their tags,
// the defaults, and what Validate requires.
func TestReferenceIsCurrent(t *testing.T) {
	want := reference(t)
	if *update {
		if err := os.WriteFile(referencePath, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(referencePath)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("docs/reference/configuration.md is stale, run `go generate ./config` (-want +got):\n%s", diff)
	}
}

func TestDocumentedDefaultsAreTheDefaults(t *testing.T) {
	file := testdata(t, "defaults.yaml")
	loaded, err := load(t, required+file, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := with(func(c *config.Config) { c.KubernetesMetricSpecs = []autoscalingv2.MetricSpec{} })
	if diff := gocmp.Diff(want, loaded.Config); diff != "" {
		t.Errorf("defaults.yaml changes something (-default +got):\n%s", diff)
	}

	var documented map[string]any
	if err := yaml.Unmarshal([]byte(file), &documented); err != nil {
		t.Fatal(err)
	}
	written, err := json.Marshal(config.Default())
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := json.Unmarshal(written, &all); err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(all, func(key string, value any) bool {
		return key == "scaleTargetRef" || value == nil && key != "kubernetesMetricSpecs"
	})
	if diff := gocmp.Diff(slices.Sorted(maps.Keys(all)), slices.Sorted(maps.Keys(documented))); diff != "" {
		t.Errorf("defaults.yaml does not list the keys that have defaults (-want +got):\n%s", diff)
	}
}

func TestDocumentedExamplesAreValid(t *testing.T) {
	for name, rest := range map[string]string{
		"example.yaml":         "",
		"methods.yaml":         "scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}",
		"worker.yaml":          "scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}",
		"metric-specs.yaml":    required,
		"behavior.yaml":        required,
		"schedules.yaml":       required,
		"fallback.yaml":        required,
		"state.yaml":           required,
		"leader-election.yaml": required,
		"auth.yaml":            required,
		"gitops.yaml":          required,
	} {
		t.Run(name, func(t *testing.T) {
			loaded, err := load(t, testdata(t, name)+rest, nil)
			if err != nil || len(loaded.Warnings) > 0 {
				t.Errorf("got the error %v and the warnings %q", err, loaded.Warnings)
			}
		})
	}
}

func testdata(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// reference writes the page.
func reference(t *testing.T) []byte {
	t.Helper()
	source := readSource(t)
	blocks := blocks(t)
	page := template.Must(template.New("").Funcs(template.FuncMap{
		"keys":    func(name string) string { return source.table(t, blocks[name]) },
		"file":    func(name string) string { return testdata(t, name) },
		"refusal": func(name string) string { return refusal(t, name) },
	}).Parse(testdata(t, "configuration.md.tmpl")))
	var text bytes.Buffer
	err := page.Execute(&text, map[string]string{
		"DefaultPath":  config.DefaultPath,
		"PathVariable": config.PathVariable,
		"MaxFile":      strconv.Itoa(config.MaxFileBytes>>20) + " MiB",
	})
	if err != nil {
		t.Fatal(err)
	}
	return text.Bytes()
}

// refusal is what is said of an invalid file, without where it is.
func refusal(t *testing.T, name string) string {
	t.Helper()
	loaded, err := load(t, testdata(t, name), nil)
	faults, ok := errors.AsType[config.Faults](err)
	if !ok {
		t.Fatalf("%s: got the error %v, want Faults", name, err)
	}
	return strings.Join(append(loaded.Warnings, faults.Error()), "\n") + "\n"
}

// block is a part of the configuration that has a table of its own.
type block struct {
	// value holds the defaults.
	value reflect.Value
	// required lists the keys that have none.
	required []string
	// top says whether the keys are top-level ones, with variables.
	top bool
}

func blocks(t *testing.T) map[string]block {
	t.Helper()
	method := func(text string) *config.Method {
		loaded, err := load(t, required+"preScale: "+text, nil)
		if err != nil {
			t.Fatal(err)
		}
		return loaded.Config.PreScale
	}
	missing := func(m config.Method) []string {
		return faultyKeys(with(func(c *config.Config) { c.PreScale = &m }))
	}
	shell := method("{type: shell, shell: {entrypoint: x}}")
	worker := method("{type: worker, worker: {entrypoint: x}}")
	http := method("{type: http, http: {url: 'http://x', successCodes: [200], parameterMode: body}}")
	decisions, err := load(t, required+"schedules: [{name: a, start: 0 8 * * *, end: 0 9 * * *, minReplicas: 1}]\nfallback: {failureThreshold: 1, replicas: 1}", nil)
	if err != nil {
		t.Fatal(err)
	}
	schedule, fallback := decisions.Config.Schedules[0], decisions.Config.Fallback
	git, err := load(t, required+"gitOps: {repository: /r, mode: instead, file: f, replicas: r}", nil)
	if err != nil {
		t.Fatal(err)
	}
	missingGit := func(g config.GitOps) []string {
		return faultyKeys(with(func(c *config.Config) { c.GitOps = &g }))
	}
	gitOps := config.GitOps{
		Branch: git.Config.GitOps.Branch, Message: git.Config.GitOps.Message, Timeout: git.Config.GitOps.Timeout,
		MinInterval: git.Config.GitOps.MinInterval, Author: git.Config.GitOps.Author, Update: git.Config.GitOps.Update,
	}
	valid := *git.Config.GitOps
	reached := func(change func(g *config.GitOps)) config.GitOps {
		g := valid
		change(&g)
		return g
	}
	return map[string]block{
		"Autoscaler":     {value: reflect.ValueOf(config.Default().Autoscaler), required: faultyKeys(config.Default()), top: true},
		"Process":        {value: reflect.ValueOf(config.Default().Process), top: true},
		"API":            {value: reflect.ValueOf(config.Default().APIConfig)},
		"RateLimit":      {value: reflect.ValueOf(config.Default().APIConfig.RateLimit)},
		"Auth":           {value: reflect.ValueOf(config.Auth{})},
		"TokenAuth":      {value: reflect.ValueOf(config.TokenAuth{})},
		"KubernetesAuth": {value: reflect.ValueOf(config.KubernetesAuth{})},
		"CertificateAuth": {
			value: reflect.ValueOf(config.CertificateAuth{}),
			required: faultyKeys(with(func(c *config.Config) {
				c.APIConfig.Auth.Certificates = []config.CertificateAuth{{}}
			})),
		},
		"GitOps":     {value: reflect.ValueOf(gitOps), required: missingGit(gitOps)},
		"GitAuthor":  {value: reflect.ValueOf(gitOps.Author)},
		"GitSigning": {value: reflect.ValueOf(config.GitSigning{}), required: missingGit(reached(func(g *config.GitOps) { g.Signing = &config.GitSigning{} }))},
		"GitSSH": {value: reflect.ValueOf(config.GitSSH{}), required: missingGit(reached(func(g *config.GitOps) {
			g.Repository, g.SSH = "ssh://git@host/r", &config.GitSSH{}
		}))},
		"GitHTTPS":  {value: reflect.ValueOf(config.GitHTTPS{Username: "x-access-token"})},
		"GitUpdate": {value: reflect.ValueOf(gitOps.Update)},
		"Schedule": {
			value:    reflect.ValueOf(config.Schedule{Timezone: schedule.Timezone}),
			required: faultyKeys(with(func(c *config.Config) { c.Schedules = []config.Schedule{{}} })),
		},
		"Fallback": {
			value:    reflect.ValueOf(config.Fallback{Behavior: fallback.Behavior}),
			required: faultyKeys(with(func(c *config.Config) { c.Fallback = &config.Fallback{Behavior: fallback.Behavior} })),
		},
		"State":          {value: reflect.ValueOf(config.Default().State)},
		"LeaderElection": {value: reflect.ValueOf(config.Default().LeaderElection)},
		"Method":         {value: reflect.ValueOf(config.Method{Timeout: shell.Timeout}), required: missing(config.Method{})},
		"Shell":          {value: reflect.ValueOf(*shell.Shell), required: missing(config.Method{Type: config.MethodShell, Shell: &config.Shell{}})},
		"Worker":         {value: reflect.ValueOf(*worker.Worker), required: missing(config.Method{Type: config.MethodWorker, Worker: &config.Worker{}})},
		"HTTP":           {value: reflect.ValueOf(*http.HTTP), required: missing(config.Method{Type: config.MethodHTTP, HTTP: &config.HTTP{}})},
	}
}

// faultyKeys lists the last parts of the keys that are at fault.
func faultyKeys(c config.Config) []string {
	var keys []string
	faults, _ := errors.AsType[config.Faults](c.Validate())
	for _, fault := range faults {
		keys = append(keys, fault.Key[strings.LastIndex(fault.Key, ".")+1:])
	}
	return keys
}

// source is what only the source says.
type source struct {
	// comments are those of "Type.Field".
	comments map[string]string
	// constants are the values of a type.
	constants map[string][]string
}

func readSource(t *testing.T) source {
	t.Helper()
	s := source{comments: map[string]string{}, constants: map[string][]string{}}
	for _, name := range []string{"config.go", "gitops.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		s.read(file)
	}
	return s
}

func (s source) read(file *ast.File) {
	ast.Inspect(file, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.TypeSpec:
			if fields, ok := node.Type.(*ast.StructType); ok {
				s.addComments(node.Name.Name, fields)
			}
		case *ast.ValueSpec:
			kind, ok := node.Type.(*ast.Ident)
			if !ok || len(node.Values) == 0 {
				return true
			}
			if literal, ok := node.Values[0].(*ast.BasicLit); ok && literal.Kind == token.STRING {
				value := strings.Trim(literal.Value, `"`)
				s.constants[kind.Name] = append(s.constants[kind.Name], "`"+value+"`")
			}
		}
		return true
	})
}

func (s source) addComments(block string, fields *ast.StructType) {
	for _, field := range fields.Fields.List {
		for _, name := range field.Names {
			s.comments[block+"."+name.Name] = strings.Join(strings.Fields(field.Doc.Text()), " ")
		}
	}
}

// table lists the keys of a block.
func (s source) table(t *testing.T, b block) string {
	t.Helper()
	columns := []string{"key", "type", "default", "what it is"}
	if b.top {
		columns = slices.Insert(columns, 3, "variable")
	}
	var text strings.Builder
	row := func(cells ...string) { text.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	row(columns...)
	row(slices.Repeat([]string{"---"}, len(columns))...)
	kind := b.value.Type()
	for i := range kind.NumField() {
		field := kind.Field(i)
		key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		comment := s.comments[kind.Name()+"."+field.Name]
		if comment == "" || strings.Contains(comment, "|") {
			t.Errorf("%s.%s needs a comment that fits into a table, got %q", kind.Name(), field.Name, comment)
		}
		cells := []string{"`" + key + "`", s.kind(field.Type), standard(b.value.Field(i)), comment}
		if slices.Contains(b.required, key) {
			cells[2] = "**required**"
		}
		if field.Tag.Get("live") != "" {
			cells[3] += " [Can change while it runs](../live-configuration.md)."
		}
		if b.top {
			variable := cmp.Or(field.Tag.Get("env"), key)
			cells = slices.Insert(cells, 3, "`"+variable+"`")
		}
		row(cells...)
	}
	return text.String()
}

// kind names a type as people who write YAML would.
func (s source) kind(kind reflect.Type) string {
	if constants := s.constants[kind.Name()]; constants != nil && kind.Kind() == reflect.String {
		return strings.Join(constants, " or ")
	}
	switch kind {
	case reflect.TypeFor[*config.Method]():
		return "[method](#methods)"
	case reflect.TypeFor[config.Milliseconds]():
		return "milliseconds"
	case reflect.TypeFor[config.Seconds]():
		return "seconds"
	case reflect.TypeFor[[]autoscalingv2.MetricSpec]():
		return "list of MetricSpecs"
	}
	if kind.Kind() == reflect.Pointer {
		return s.kind(kind.Elem())
	}
	switch kind.Kind() {
	case reflect.Struct:
		return "block"
	case reflect.Slice:
		if kind.Elem().Kind() == reflect.String {
			return "list of text"
		}
		return "list of " + s.kind(kind.Elem()) + "s"
	case reflect.Map:
		return s.kind(kind.Elem()) + " by name"
	case reflect.Bool:
		return "`true` or `false`"
	case reflect.String:
		return "text"
	default:
		return "whole number"
	}
}

// standard shows a default.
func standard(value reflect.Value) string {
	if value.Kind() == reflect.Pointer && !value.IsNil() {
		value = value.Elem()
	}
	switch {
	case value.Kind() == reflect.Struct:
		return "as below"
	case value.Kind() == reflect.Bool || value.CanInt():
		return fmt.Sprintf("`%v`", value)
	case value.IsZero():
		return "unset"
	default:
		return fmt.Sprintf("`%v`", value)
	}
}

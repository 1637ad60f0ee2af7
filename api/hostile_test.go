// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/autoscaler"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale/gitops"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/openapi"
)

// The tokens of the roles. No answer may hold one.
//
//nolint:gosec // they open nothing
const (
	readToken      = "Rd-3f81c07e"
	operateToken   = "Op-9b22d4aa"
	configureToken = "Cf-51e7f6c3"
)

// credentials are the tokens by the rank of their role; no role needs none.
var (
	credentials = []string{"", readToken, operateToken, configureToken}
	ranks       = map[string]int{"none": 0, "read": 1, "operate": 2, "configure": 3}
)

// hostile is a whole autoscaler, its repository included, that is sent what is
// wrong.
type hostile struct {
	*served
	random *rand.Rand
	// rank is the role of who shows no token, and tokens says whether some count.
	rank   int
	tokens bool
	// folders are the server's own, which are nobody's business.
	folders []string
	commits *committed
	// calm is how all is when nobody has changed anything, and unchanged the
	// version of the configuration then.
	calm, unchanged string
	count           int
	// checked are the kinds of answers that were held to the document.
	checked map[string]bool
}

// committed counts the commits of a repository.
type committed struct {
	Git
	made atomic.Int32
}

func (c *committed) Update(ctx context.Context, f gitops.File) (gitops.Outcome, error) {
	outcome, err := c.Git.Update(ctx, f)
	if outcome.Changed {
		c.made.Add(1)
	}
	return outcome, err
}

// withRepository has files committed to a real repository.
func withRepository(t testing.TB, s *served) (c *committed, folder string) {
	t.Helper()
	folder = filepath.Join(t.TempDir(), "r.git")
	store := filesystem.NewStorage(osfs.New(folder), cache.NewObjectLRUDefault())
	if err := store.SetReference(plumbing.NewSymbolicReference(plumbing.HEAD, "refs/heads/other")); err != nil {
		t.Fatal(err)
	}
	encode := func(content interface {
		Encode(plumbing.EncodedObject) error
	},
	) plumbing.Hash {
		encoded := store.NewEncodedObject()
		if err := content.Encode(encoded); err != nil {
			t.Fatal(err)
		}
		hash, err := store.SetEncodedObject(encoded)
		if err != nil {
			t.Fatal(err)
		}
		return hash
	}
	blob := store.NewEncodedObject()
	blob.SetType(plumbing.BlobObject)
	file, err := store.SetEncodedObject(blob)
	if err != nil {
		t.Fatal(err)
	}
	web := encode(&object.Tree{Entries: []object.TreeEntry{{Name: "deployment.yaml", Mode: filemode.Regular, Hash: file}}})
	apps := encode(&object.Tree{Entries: []object.TreeEntry{{Name: "link", Mode: filemode.Symlink, Hash: file}, {Name: "web", Mode: filemode.Dir, Hash: web}}})
	root := encode(&object.Tree{Entries: []object.TreeEntry{{Name: "apps", Mode: filemode.Dir, Hash: apps}}})
	first := encode(&object.Commit{Message: "Begin", TreeHash: root})
	if err := store.SetReference(plumbing.NewHashReference("refs/heads/main", first)); err != nil {
		t.Fatal(err)
	}
	git, err := gitops.New(config.GitOps{
		Repository: folder, Branch: "main", Mode: config.GitRecord, File: "apps/web/deployment.yaml", Replicas: "spec.replicas", Timeout: 20000,
		Update: config.GitUpdate{Enabled: true, AllowedPath: "apps", MaxBytes: 1 << 20},
	}, gitops.Options{ID: "shop/deployment/web", Log: s.backend.Log, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- git.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return &committed{Git: git}, folder
}

// unlimited is a port where no rate is limited.
func unlimited() *config.API {
	return &config.API{Host: "127.0.0.1", RateLimit: config.RateLimit{PerCaller: new(0), Total: new(0)}}
}

// beset starts an autoscaler that is to be sent what is wrong.
func beset(t testing.TB, c *config.API) *hostile {
	t.Helper()
	h := &hostile{served: serveAll(t, c), checked: map[string]bool{}, random: rand.New(rand.NewPCG(3, 4)), rank: 3, folders: []string{os.TempDir() + "/"}} //nolint:gosec // the same each time
	if c != nil {
		h.rank, h.tokens = 1, c.AuthConfigured()
		if h.tokens {
			h.rank = 0
		}
	}
	var folder string
	h.commits, folder = withRepository(t, h.served)
	h.backend.Git, h.folders = h.commits, append(h.folders, folder)
	h.handle(c)
	h.settle()
	h.unchanged = h.version()
	return h
}

// server is one of those that are beset.
type server struct {
	name   string
	config *config.API
}

// servers are a port that asks nobody, one that asks for tokens, and the control
// socket.
func servers(t testing.TB) []server {
	t.Helper()
	tokens := unlimited()
	write := func(content string) string {
		file := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(file, []byte(content+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	tokens.Auth.Token = config.TokenAuth{ReadFile: write(readToken + " ann"), OperateFile: write(operateToken), ConfigureFile: write(configureToken + " cem")}
	return []server{{"open", unlimited()}, {"tokens", tokens}, {"control", nil}}
}

// state is what no refused request may change.
func (h *hostile) state() string {
	h.t.Helper()
	intents, err := json.Marshal(h.Status().Intents)
	if err != nil {
		h.t.Fatal(err)
	}
	return fmt.Sprintf("intents %s, replicas %d, commits %d", intents, h.target.replicas.Load(), h.commits.made.Load())
}

// version identifies the configuration.
func (h *hostile) version() string {
	h.t.Helper()
	return h.backend.Settings.View().ETag
}

// settle takes back what was changed. Whatever runs then leads to the most that
// there may be, and changes nothing there.
func (h *hostile) settle() {
	h.t.Helper()
	ctx, by := h.t.Context(), autoscaler.Caller{Name: "test"}
	_, err := h.backend.Settings.Reset(ctx, by, nil)
	if h.Status().Intents != (scale.Intents{}) || h.target.replicas.Load() != 10 {
		err = errors.Join(err, h.Resume(ctx, by), h.Hold(ctx, by, nil), h.Override(ctx, by, nil))
	}
	if err != nil {
		h.t.Fatal(err)
	}
	until, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for h.target.replicas.Load() != 10 {
		if _, err := h.Submit(until, autoscaler.Trigger{Kind: autoscaler.KindRequest, DryRun: true, Through: autoscaler.ThroughMetrics}); err != nil {
			h.t.Fatalf("the target has %d replicas: %v", h.target.replicas.Load(), err)
		}
	}
	h.calm = h.state()
}

// disguise is the header that gives a shot a role, at random where it asks for
// one, and the rank of that.
func (h *hostile) disguise(s shot) (headers []string, rank int) {
	if !h.tokens || s.has("Authorization") {
		return nil, h.rank
	}
	rank = []int{0, 1, 2, 3, 3, 3}[h.random.IntN(6)]
	if rank > 0 {
		headers = []string{"Authorization: Bearer " + credentials[rank]}
	}
	return headers, rank
}

// fire sends a shot past the network, unless no server would pass it on.
func (h *hostile) fire(s shot) {
	h.t.Helper()
	headers, rank := h.disguise(s)
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(s.bytes(headers...))))
	if err != nil || !sendable(r) {
		return
	}
	ctx, cancel := context.WithCancel(h.t.Context())
	defer cancel()
	if strings.HasSuffix(r.URL.Path, "/stream") {
		cancel() // it would have no end
	}
	r = r.WithContext(ctx)
	r.RemoteAddr = "192.0.2.1:1"
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, r)
	h.judge(s, rank, r, w.Code, w.Header(), w.Body.Bytes())
}

// sendable says whether net/http passes a request on.
func sendable(r *http.Request) bool {
	for name, values := range r.Header {
		if name == "" || strings.ContainsAny(name, " \x01") {
			return false
		}
		for _, value := range values {
			if strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
				return false
			}
		}
	}
	return r.Header.Get("Expect") != "200-ok"
}

// routed is the path that a request was routed by: as it was written.
func routed(r *http.Request) string {
	if path := routedPath(r); path != "" {
		return path
	}
	return r.URL.Path
}

var (
	sound = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)
	// innards are words of the program, not of its users.
	innards = []string{
		"json: ", "yaml: ", "goroutine ", ".go:", "runtime error", "interface {", "map[string", "struct ", "0xc0", "strconv", "invalid syntax", "127.0.0.1:", "[::1]:", "reflect.", "time.T", "time: ",
		"api.h", "live.S", "config.C", "bounds.B", "scale.P", "scale.H", "gitops.R", "api.s", "api.o", "api.u", "*api", "*json", "*http", "int32", "MaxBytes",
	}
)

// judge holds an answer to what every answer must be.
func (h *hostile) judge(s shot, rank int, r *http.Request, status int, header http.Header, body []byte) {
	h.t.Helper()
	h.count++
	fault := func(format string, args ...any) {
		h.t.Helper()
		h.t.Errorf("%.60s %.100q with %s (rank %d, body %.200q) is answered with %d %.600q:\n%s", s.method, s.target, s.about, rank, s.body, status, body, fmt.Sprintf(format, args...))
	}
	if s.about == "nothing" && (rank == 3 || ranks[s.operation.Role] == 0) && status/100 != 2 && s.operation.Tag != "pages" {
		fault("nothing is wrong with it")
	}
	if status >= 500 {
		fault("it is no fault of the server")
	}
	if id := header.Values(requestID); len(id) != 1 || !sound.MatchString(id[0]) {
		fault("the request's ID is %q", id)
	}
	for name, values := range header {
		if value := strings.Join(values, ""); strings.ContainsFunc(value, unicode.IsControl) || !utf8.ValidString(value) || strings.Contains(name, "Evil") {
			fault("the header %s is %q", name, values)
		}
	}
	for _, token := range credentials[1:] {
		if bytes.Contains(body, []byte(token)) {
			fault("it tells a token")
		}
	}
	if status/100 != 2 && status != http.StatusNotModified {
		h.judgeRefusal(fault, s, r, status, body)
	}
	path := routed(r)
	if status/100 == 2 && r.URL.Path == s.operation.Path && r.Method == s.operation.Method && rank < ranks[s.operation.Role] && s.operation.ID != "evaluate" &&
		(h.tokens || s.operation.RoleWithoutAuth == "") {
		fault("the role %s was needed", s.operation.Role)
	}
	e := exchange(s, r, path, status, header, body)
	// The control socket has no page. To look at every answer would take minutes. Those to the same are the same.
	if key := fmt.Sprint(r.Method, path, e.Request.URL.RawQuery, status, slices.Sorted(maps.Keys(header))); h.pages(s, path) && (r.Method != http.MethodHead || len(body) > 0) && (status/100 == 2 && len(e.RequestBody) > 0 || !h.checked[key]) {
		h.checked[key] = true
		if err := described(h.t).Check(e); err != nil {
			fault("%v", err)
		}
	}
	changes := slices.Contains([]string{"intents", "configuration", "git"}, s.operation.Tag)
	if status/100 == 2 && changes && r.Method != http.MethodGet {
		h.settle()
		return
	}
	if now := h.state(); now != h.calm {
		fault("it changed %s\nto %s", h.calm, now)
		h.settle()
	}
	// To ask for the configuration takes longer than most requests do.
	if (strings.HasSuffix(path, "/config") || h.count%50 == 0) && h.version() != h.unchanged {
		fault("it changed the configuration, or one of the fifty before did")
		h.settle()
	}
}

func (h *hostile) pages(s shot, path string) bool {
	return h.rank < ranks["configure"] || path != "/" && (s.operation.Tag != "pages" || s.operation.ID == "openAPI")
}

// listing is a refusal of several keys of the configuration, a line each.
var listing = regexp.MustCompile(`\n  `)

func (h *hostile) judgeRefusal(fault func(string, ...any), s shot, r *http.Request, status int, body []byte) {
	h.t.Helper()
	if r.Method == http.MethodHead && len(body) == 0 {
		return
	}
	var answer failed
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&answer); err != nil || answer.Code != status || answer.Message == "" || !utf8.Valid(body) {
		fault("it is no refusal: %v", err)
		return
	}
	message := listing.ReplaceAllString(answer.Message, " ")
	if len(message) > 2<<10 || strings.ContainsFunc(message, unicode.IsControl) || strings.ContainsAny(message, "\u202e\u2066\u2028") {
		fault("its message cannot be read")
	}
	for _, folder := range h.folders {
		if strings.Contains(message, folder) {
			fault("it tells of %s", folder)
		}
	}
	for _, word := range innards {
		if strings.Contains(message, word) {
			fault("it tells of the program: %q", word)
		}
	}
	if status == http.StatusBadRequest && s.field != "" && json.Valid([]byte(s.body)) && utf8.ValidString(s.body) && !names(message, s.field) {
		fault("it does not name %s", s.field)
	}
}

// names says whether a message says which field it is about.
func names(message, field string) bool {
	words := map[string]string{"file_path": "path|committing", "new_content": "content", "commit_message": "commit message"}[field]
	return strings.Contains(message, field) || words != "" && regexp.MustCompile(words).MatchString(message)
}

// exchange is what the document is to describe. It says nothing of parameters
// that are not read, nor of bodies where none is.
func exchange(s shot, r *http.Request, path string, status int, header http.Header, body []byte) openapi.Exchange {
	asked := r.Clone(context.Background())
	asked.URL = &url.URL{Path: path}
	query := r.URL.Query()
	for name := range query {
		known := slices.ContainsFunc(s.operation.Parameters, func(p openapi.Parameter) bool { return p.In == "query" && p.Name == name })
		if !known || name != "dry_run" && name != "verbose" && query.Get(name) == "" {
			query.Del(name)
		}
	}
	asked.URL.RawQuery = query.Encode()
	if asked.Header.Get("Last-Event-Id") == "" {
		asked.Header.Del("Last-Event-Id")
	}
	e := openapi.Exchange{Request: asked, Status: status, Header: header, Body: body}
	if len(s.operation.Fields) > 0 && r.Method == s.operation.Method {
		e.RequestBody = withoutNulls([]byte(strings.Trim(s.body, " \t\r\n")))
	}
	return e
}

// withoutNulls is JSON without the fields that are null: these count as not
// given.
func withoutNulls(body []byte) []byte {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	var tree any
	if decoder.Decode(&tree) != nil {
		return body
	}
	visit(tree, func(object map[string]any, name string) {
		if object[name] == nil {
			delete(object, name)
		}
	})
	encoded, err := json.Marshal(tree)
	if err != nil {
		return body
	}
	return encoded
}

var every = flag.Int("malformed", 6, "send one of so many malformed requests to each server")

// Whatever is wrong with a request, it is answered as it should be, and changes
// nothing: thousands are tried, the same each time, past the network.
func TestMalformedRequests(t *testing.T) {
	shots := malformed(t)
	for i, c := range servers(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := beset(t, c.config)
			for j := 2 * i % *every; j < len(shots); j += *every {
				h.fire(shots[j])
			}
			h.good()
			t.Logf("%d requests", h.count)
			if *every <= 6 && h.count < 3400 {
				t.Errorf("these were but %d requests", h.count)
			}
		})
	}
}

// good wants every operation to answer as if nothing had been.
func (h *hostile) good() {
	h.t.Helper()
	var headers []string
	if h.tokens {
		headers = []string{"Authorization", "Bearer " + configureToken}
	}
	for _, request := range []string{"GET /api/v1/status", "GET /api/v1/config", "POST /api/v1/evaluation", "DELETE /api/v1/scale", "GET /metrics"} {
		method, path, _ := strings.Cut(request, " ")
		if status, answer, _ := h.ask(method, path, "", headers...); status != http.StatusOK && (h.rank != 1 || status != http.StatusForbidden) {
			h.t.Errorf("in the end %s is answered with %d %s", request, status, answer)
		}
	}
}

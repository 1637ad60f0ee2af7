// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/openapi"
)

// shot is a request, mostly one that is wrong in some way.
type shot struct {
	operation openapi.Operation
	// about says what is wrong.
	about          string
	method, target string
	// headers are lines, as they are sent.
	headers []string
	body    string
	// field is what a refusal of the body must name; empty where that may say
	// something else.
	field string
}

// bytes is the request as it is sent, with these headers besides.
func (s shot) bytes(headers ...string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: localhost\r\n", s.method, s.target)
	for _, line := range append(slices.Clone(s.headers), headers...) {
		b.WriteString(line + "\r\n")
	}
	if s.body != "" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(s.body))
	}
	b.WriteString("\r\n" + s.body)
	return b.Bytes()
}

// has says whether it has a header of its own.
func (s shot) has(name string) bool {
	return slices.ContainsFunc(s.headers, func(line string) bool {
		return strings.HasPrefix(strings.ToLower(line), strings.ToLower(name)+":")
	})
}

// seeds are bodies that are right, beside the document's examples: together they
// have every field.
var seeds = map[string]string{
	"changeConfig": `{"minReplicas": 2, "maxReplicas": 9, "interval": 3500000, "downscaleStabilization": 10, "dryRun": true, "logVerbosity": 1,
		"behavior": {"scaleUp": {"stabilizationWindowSeconds": 5, "selectPolicy": "Max", "tolerance": "0.1", "policies": [{"type": "Pods", "value": 4, "periodSeconds": 60}]}, "scaleDown": {"stabilizationWindowSeconds": 5, "selectPolicy": "Min", "tolerance": "100m", "policies": [{"type": "Percent", "value": 4, "periodSeconds": 60}]}},
		"schedules": [{"name": "night", "start": "0 22 * * *", "end": "0 6 * * *", "timezone": "Europe/Berlin", "minReplicas": 2, "maxReplicas": 4, "priority": 1}],
		"fallback": {"failureThreshold": 3, "replicas": 4, "behavior": "static"}}`,
	"scale":       `{"replicas": 5, "duration": "1h", "reason": "sale", "dryRun": false, "resource": "web", "namespace": "shop"}`,
	"setOverride": `{"minReplicas": 2, "expiresAt": "` + time.Now().Add(20*time.Hour).UTC().Format(time.RFC3339) + `"}`,
}

var deep = strings.Repeat("[", 20_000)

// literals are values to put in the place of others.
var literals = []string{
	`null`, `true`, `false`, `0`, `-0`, `1`, `-1`, `0.5`, `-0.5`, `1.0`, `5e0`, `5e-1`, `1e400`, `-1e400`, `1e-400`, `1e999999999`,
	`2147483647`, `2147483648`, `-2147483648`, `-2147483649`, `9223372036854775807`, `9223372036854775808`, `18446744073709551616`,
	strings.Repeat("9", 5000), `0.` + strings.Repeat("1", 5000), `01`, `+1`, `.5`, `1.`, `0x10`, `1_000`, `NaN`, `Infinity`, `-Infinity`, `undefined`, `None`,
	`[]`, `[1]`, `[null]`, `["5"]`, `{}`, `{"a": 1}`, `{"": ""}`, `{"__proto__": {}}`, deep, deep + strings.Repeat("]", 20_000),
	strings.Repeat("[", 9000) + strings.Repeat("]", 9000), strings.Repeat(`{"a":`, 12_000), strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000),
	`""`, `" "`, `"x"`, `"5"`, `"-1"`, `"true"`, `"null"`, `"NaN"`, `"1e3"`, `"0"`, `"` + strings.Repeat("a", 300) + `"`, `"` + strings.Repeat("a", 70_000) + `"`,
	`"` + strings.Repeat("ä", 257) + `"`, `"\u0000"`, `"a\u0000b"`, `"\u001b[31mred"`, `"a\nb"`, `"a\r\nb"`, `"a\tb"`, `"a\u0085b"`, `"a\u009b31mb"`, `"a\u2028b"`, `"a\u202eb"`,
	`"a\u2066b"`, `"\u200b"`, `"\ufeff"`, `"\ud800"`, `"\udc00\ud800"`, `"\ud83d\ude00"`, `"😀"`, `"e` + "\u0301" + `"`, `"שלום"`, "\"a\xffb\"", "\"\xc0\xaf\"", "\"\xed\xa0\x80\"", "\"a\x00b\"", "\"a\nb\"", "\"a\x7fb\"",
	`"\x41"`, `"\u12"`, `"unclosed`, `'single'`, "`back`", `"<script>alert(1)</script>"`, `"%s%n%d"`, `"{{.}}"`, `"${HOME}"`, `"'; DROP TABLE x; --"`, `"../../etc/passwd"`, `"(redacted)"`,
	`"1ns"`, `"0s"`, `"-1h"`, `"9000h"`, `"8760h"`, `"8760h1ns"`, `"1"`, `"h"`, `"1 h"`, `"1H"`, `"1d"`, `"+1h"`, `".5h"`, `"1e3h"`, `"٣0m"`, `"2562047h47m16.854775808s"`, `"` + strings.Repeat("1ns", 5000) + `"`,
	`"2001-01-01T00:00:00Z"`, `"2999-01-01T00:00:00Z"`, `"2999-01-01T00:00:00.` + strings.Repeat("0", 5000) + `Z"`, `"2026-01-01T00:00:00+24:00"`, `"2026-02-30T00:00:00Z"`,
	`"2026-01-01T00:00:00,5Z"`, `"2026-01-01 00:00:00Z"`, `"2026-01-01T24:00:00Z"`, `"0000-01-01T00:00:00Z"`, `"10000-01-01T00:00:00Z"`, `"2026-01-01T0:00:00Z"`, `"noon"`,
	`"* * * * *"`, `"@every 1s"`, `"@reboot"`, `"TZ=UTC 0 0 * * *"`, `"60 * * * *"`, `"0 0 31 2 *"`, `"Local"`, `"UTC"`, `"Etc/../../etc/passwd"`, `"/etc/localtime"`, `"Pods"`, `"pods"`, `"Max"`, `"static"`,
	`"1e-9"`, `"1e999999999"`, `"0.1"`, `"-0.1"`, `"1Ki"`, `"0.1111111111111111111111"`,
}

// paths are values for the field that names a file.
var paths = []string{
	`..`, `../x`, `apps/..`, `apps/../../x`, `apps/./x`, `apps//x`, `apps/`, `apps`, `/apps/x`, `//apps/x`, `./apps/x`, `apps/.git/config`, `apps/.GIT/hooks/x`, `apps/.git`, `.git/config`,
	`apps/git~1/config`, `apps/.git /x`, `apps/.git./x`, `apps/.git::$INDEX_ALLOCATION/x`, `apps/.gi\u200ct/x`, `apps\\x`, `apps/..\\..\\x`, `C:\\x`, `apps/x\u0000`, `apps/x\u0000.yaml`, `apps/x\ny`, `apps/\u001b[31m`,
	`apps/\u202ex`, `apps/\u2028`, `apps/\ud800`, `apps/%2e%2e/x`, `apps/ä`, `apps/a\u0308`, `apps/link/x`, `apps/link`, `apps/web`, `apps/web/deployment.yaml/x`, `apps/web/deployment.yaml`, `apps/x.lock`, `apps/ `, ` apps/x`, `apps/x `, `apps/-rf`, `apps/~`,
	`apps/` + strings.Repeat("a", 10<<10), `apps/` + strings.Repeat("a/", 5<<10) + "x", `apps/` + strings.Repeat("a/", 400) + "x", `apps/` + strings.Repeat("../", 3000), `Apps/x`, `appsx/y`, `*`, `apps/*`, `apps/con`, `apps/x:y`, `apps/nul.yaml`, `HEAD`, `refs/heads/main`,
	`file:///etc/passwd`, `https://host/x`, `~/x`, `$HOME/x`, `apps/x?y`, `apps/x#y`,
}

// generator makes shots, the same each time.
type generator struct {
	random *rand.Rand
	shots  []shot
}

// made are the shots, once they are.
var made struct {
	sync.Mutex
	shots []shot
}

// malformed are requests for every operation of the document, each wrong in one
// way, and some in several. Nobody may change one.
func malformed(t testing.TB) []shot {
	t.Helper()
	made.Lock()
	defer made.Unlock()
	if made.shots != nil {
		return made.shots
	}
	g := &generator{random: rand.New(rand.NewPCG(1, 2))} //nolint:gosec // the same each time
	for _, operation := range described(t).Operations() {
		good := shot{operation: operation, about: "nothing", method: operation.Method, target: strings.Replace(operation.Path, "{file}", "app.js", 1)}
		bodies := bodiesOf(t, operation)
		if len(bodies) > 0 {
			good.body = bodies[0]
		}
		g.add(good)
		g.methods(good)
		g.targets(good)
		g.queries(good)
		g.headers(good)
		g.foreign(good)
		for _, body := range bodies {
			good.body = body
			g.add(good)
			g.fields(t, good)
			g.noise(good)
		}
	}
	made.shots = g.shots
	return g.shots
}

// bodiesOf are bodies that an operation takes.
func bodiesOf(t testing.TB, operation openapi.Operation) []string {
	t.Helper()
	var bodies []string
	for _, example := range operation.Bodies {
		// The end of an example is over by now.
		bodies = append(bodies, strings.Replace(string(example), "2026-03-02T16:05:13Z", time.Now().Add(20*time.Hour).UTC().Format(time.RFC3339), 1))
	}
	if seed := seeds[operation.ID]; seed != "" {
		bodies = append(bodies, seed)
	}
	for _, field := range operation.Fields {
		name := field[strings.LastIndex(field, ".")+1:]
		if !slices.ContainsFunc(bodies, func(body string) bool { return strings.Contains(body, `"`+name+`":`) }) {
			t.Errorf("%s: no body of these tests has the field %s", operation.ID, field)
		}
	}
	return bodies
}

func (g *generator) add(s shot) { g.shots = append(g.shots, s) }

// with adds a shot that is changed.
func (g *generator) with(s shot, about string, change func(*shot)) {
	s.about = about
	s.headers = slices.Clone(s.headers)
	change(&s)
	g.add(s)
}

func (g *generator) methods(good shot) {
	for _, method := range []string{
		"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "Post", "PROPFIND", "QUERY", "M-SEARCH", "PRI", "G", "!", "GET,POST",
		strings.Repeat("A", 9000), "G\x00T", "G(T", "",
	} {
		if method != good.method {
			g.with(good, fmt.Sprintf("the method %.20q", method), func(s *shot) { s.method = method })
		}
	}
	for _, target := range []string{"/nope", "/api/v1/nope", "*", "localhost:80", "http://localhost", "/page/", "/page/a/b"} {
		g.with(good, "the method for "+target, func(s *shot) { s.target = target })
	}
}

func (g *generator) targets(good shot) {
	path := good.target
	for _, target := range []string{
		path + "/", "/" + path, "//evil" + path, strings.Replace(path, "/", "//", 2), "/." + path, "/x/.." + path, path + "/.", path + "/..", path + "/../", "/%2e%2e" + path, "/%2e" + path,
		path + "%00", path + "%2f", path + "%2F" + path[1:], path + "%20", path + "%0d%0aX-Evil:%201", path[:len(path)-1] + fmt.Sprintf("%%%02x", path[len(path)-1]), strings.ReplaceAll(path, "/", "%2f"),
		strings.ToUpper(path), path + ";a=b", path + "#fragment", path + "\\", path + "%5c", path + "/ä", path + "/%c3%a4", path + "%ff%fe", path + "%u0041", path + "%zz", path + "%", path + "%e2%80%ae",
		path + "%1b[31m", path + "%7f", path + "%c2%85", path + "/" + strings.Repeat("a", 8<<10), path + "/" + strings.Repeat("%00", 4<<10), path + strings.Repeat("/..", 3000), strings.Repeat("/", 8<<10), "http://localhost" + path, "http://evil.example:99" + path,
		"https://user:pass@localhost" + path, "http://[::1%25eth0]" + path, "http://[::1" + path, "ftp:" + path, "*", "", "x", "x" + path, path + "?", path + "/*", path + "/{file}", path + "\x01", path + "\xff", path + " HTTP/1.1\r\nX-Evil: 1\r\nX:",
		"/<script>alert(1)</script>", "/%3Cscript%3E" + path, "/'" + path, "/%27%20%22",
	} {
		g.with(good, fmt.Sprintf("the target %.60q", target), func(s *shot) { s.target = target })
	}
}

func (g *generator) queries(good shot) {
	names := []string{"x"}
	for _, parameter := range good.operation.Parameters {
		if parameter.In == "query" {
			names = append(names, parameter.Name)
		}
	}
	for _, name := range names {
		for _, value := range []string{
			"", "true", "TRUE", "tRuE", "yes", "on", "1", "0", "-1", "2", "+1", "1e3", "0.5", "1000", "1001", "2147483648", strings.Repeat("9", 400), "NaN", "null", "undefined", "%00", "%0a", "%0d%0a", "%zz", "%", "%4",
			"%ff", "%e2%80%ae", "%1b[31m", "%c2%85", "true%20", "%20true", "true%00", "'true'", "%22true%22", "<script>", "true&" + name + "=false", "true&" + name + "=true", "false&" + name + "=maybe", "1;" + name + "=2", "true;x=1", "true;",
			"true,false", "2026-03-02T14:00:00Z", "2026-03-02T14:00:00%2B01:00", "2026-03-02T14:00:00+01:00", "2026-03-02T14:00:00%2B24:00", "2026-03-02T14:00:00,5Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-02-30T00:00:00Z",
			"2026-03-02T14:00:00." + strings.Repeat("0", 4000) + "Z", strings.Repeat("a", 8<<10), strings.Repeat("%00", 4<<10),
		} {
			g.with(good, fmt.Sprintf("the query %s=%.40q", name, value), func(s *shot) { s.target += "?" + name + "=" + value })
		}
		for _, query := range []string{name, name + "[]=true", name + "[0]=1", strings.ToUpper(name) + "=1", "%" + fmt.Sprintf("%02x", name[0]) + name[1:] + "=1", name + "%00=1", name + "=1&%zz", "%zz&" + name + "=1", "=" + name} {
			g.with(good, fmt.Sprintf("the query %.40q", query), func(s *shot) { s.target += "?" + query })
		}
	}
	for _, query := range []string{"&&&&", "=", "=&=", ";", "?", "/../..", "%00", "\x01", "\xff", "#", strings.Repeat("x=1&", 2000), strings.Repeat("=&", 4000), strings.Repeat(";", 4000)} {
		g.with(good, fmt.Sprintf("the query %.40q", query), func(s *shot) { s.target += "?" + query })
	}
}

// header lines that a request may have, well or not.
func (g *generator) headers(good shot) {
	long := strings.Repeat("a", 60<<10)
	lines := map[string][]string{
		"X-Request-Id": {
			"a-1", "", "a b", "a\tb", "a\x01b", "ä", "\xff", "a\"b", "a who=root", "%0d%0a", "../x", "<b>", strings.Repeat("a", 128), strings.Repeat("a", 129), long, "a\r\nX-Request-Id: b", "a\r\nX-Request-Id: b c", " b\r\nX-Request-Id: ok",
		},
		"If-Match": {
			"", "*", "x", `""`, `"x"`, `W/"x"`, `"x", *`, `*, "x"`, ",,,", `"`, `"a\x01"`, "\xff", strings.Repeat(`"a",`, 10_000), "a\r\nIf-Match: *", "null",
		},
		"Last-Event-ID": {
			"", "0", "1", "-1", "+1", "0x1", "1.0", "1e3", "1_0", "01", " 1 ", "18446744073709551615", "18446744073709551616", strings.Repeat("9", 5000), "x", "NaN", "٣", "\xff", "1\r\nLast-Event-ID: 2", long,
		},
		"Authorization": {
			"", " ", "Bearer", "Bearer ", "Bearer  ", "Bearer x", "Bearer x y", "Bearer x, Bearer y", "bearer x", "Basic eDp5", "Basic", "Digest a=b", "Negotiate x", "x", "Bearer =", "Bearer ä", "Bearer \xff", "Bearer a\x00b", "Bearer " + long,
			"Bearer x\r\nAuthorization: Bearer y", "Bearer \r\nAuthorization: Bearer", "Bearer eyJhbGciOiJub25lIn0.eyJleHAiOjF9.", "Bearer eyJhbGciOiJSUzI1NiJ9.eyJleHAiOjF9.c2ln", "Token x", "Bearer:x", "Bearer\tx", "Bearer null", "Bearer " + readToken + "x", "Bearer " + readToken[1:],
			"Bearer " + readToken + "=", "Bearer ann", "Bearer " + strings.ToUpper(configureToken), "Basic " + configureToken, configureToken, "Bearer " + configureToken + "," + readToken,
		},
		"Content-Type": {
			"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "multipart/form-data", "application/xml", "application/yaml", "application/json; charset=utf-16", "application/json;", "APPLICATION/JSON", "a/b/c", "\xff", "application/json\r\nContent-Type: text/plain", long,
		},
		"Content-Encoding":       {"gzip", "deflate", "br", "identity", "gzip, gzip", "x", "\xff"},
		"Accept":                 {"", "text/html", "application/xml", "*/*;q=0", "text/event-stream", ",,,", "\xff", long},
		"Accept-Encoding":        {"gzip", "gzip;q=0", "*", "br", ";;;", "gzip;q=x", "\xff"},
		"Accept-Language":        {"\xff", "de"},
		"Origin":                 {"null", "http://evil", "http://localhost", "%zz", "http://[::1", "\xff", ""},
		"Sec-Fetch-Site":         {"cross-site", "same-site", "same-origin", "none", "", "x"},
		"Range":                  {"bytes=0-1", "bytes=99999999-", "bytes=-1", "bytes=x", "bytes=0-1,2-3,4-5", "lines=1", "bytes=0-18446744073709551616"},
		"If-Range":               {`"x"`, "x"},
		"If-None-Match":          {"*", `"x"`, "x", "\xff"},
		"If-Modified-Since":      {"Mon, 02 Mar 2099 00:00:00 GMT", "x"},
		"If-Unmodified-Since":    {"Mon, 02 Mar 1998 00:00:00 GMT", "x"},
		"X-Http-Method-Override": {"DELETE", "POST"},
		"X-Forwarded-For":        {"127.0.0.1", "x", long},
		"X-Forwarded-Host":       {"evil", "a\x01"},
		"X-Original-Url":         {"/api/v1/config"},
		"Forwarded":              {"for=local"},
		"Cookie":                 {"a=b", "=;=", "\xff", long},
		"Upgrade":                {"h2c", "websocket", "\xff"},
		"Connection":             {"close", "upgrade", "x-request-id, authorization"},
		"Te":                     {"trailers", "x"},
		"Trailer":                {"Authorization", "Content-Length"},
		"Expect":                 {"100-continue", "200-ok", ""},
		"Host":                   {"evil", ""},
		"Traceparent":            {"00-" + strings.Repeat("0", 32) + "-0-0"},
		"X-A b":                  {"1"},
		"X-A\x01":                {"1"},
		"":                       {"1"},
		" X-A":                   {"1"},
	}
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		for _, value := range lines[name] {
			g.with(good, fmt.Sprintf("the header %s: %.40q", name, value), func(s *shot) { s.headers = append(s.headers, name+": "+value) })
		}
	}
	g.with(good, "many headers", func(s *shot) {
		for i := range 1000 {
			s.headers = append(s.headers, fmt.Sprintf("X-%d: 1", i))
		}
	})
}

// foreign are bodies of something else than JSON, or of more than that.
func (g *generator) foreign(good shot) {
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, _ = w.Write([]byte(good.body)) // to memory
	_ = w.Close()
	wide := []byte{0xff, 0xfe}
	for _, unit := range utf16.Encode([]rune(good.body)) {
		wide = binary.LittleEndian.AppendUint16(wide, unit)
	}
	body := good.body
	bodies := []string{
		" ", "\r\n", "\x00", "\v", "\u00a0", "null", "5", `"x"`, "[]", "{}", "{", "}", "x", "replicas=5", "--- {}", "replicas: 5\n", "<a/>", "{]", "{}{}", "{},", "{,}", "{\"", `{"`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`,
		`{a: 1}`, `{'a': 1}`, `{1: 1}`, `{null: 1}`, `{"": 1}`, "{// a\n}", "{/* a */}", deep, strings.Repeat("{", 20_000), strings.Repeat(`{"a":`, 12_000), `{"a":` + deep, strings.Repeat(" ", maxBodyBytes+1), strings.Repeat("a", 200_000),
		"\ufeff" + body, body + body, body + " " + body, body + "\n" + body, body + ",", body + "\x00", body + "x", "[" + body + "]", `"` + body, string(wide), zipped.String(), " " + body + "\r\n\t ", "\v" + body, "\u00a0" + body, body + "\u2003", body + "\f", ")]}'\n" + body, body + "//",
		"{" + strings.Repeat(`"a":1,`, 9000) + `"b":1}`, manyKeys(), `{"` + strings.Repeat("k", 60_000) + `": 1}`, `{"a\u001b[31m": 1}`, `{"\u202e": 1}`, "{\"\xff\": 1}", `{"\ud800": 1}`, `{"__proto__": {"a": 1}, "constructor": 1}`, `{"<<": {"a": 1}}`,
	}
	for i := range 12 {
		bodies = append(bodies, body[:i*len(body)/12])
	}
	for _, body := range bodies {
		read := len(good.operation.Fields) > 0
		if body != "" && (read || g.random.IntN(8) == 0) {
			g.with(good, fmt.Sprintf("the body %.40q", body), func(s *shot) { s.body = body })
		}
	}
	g.with(good, "no body", func(s *shot) { s.body = "" })
	g.with(good, "a body in gzip", func(s *shot) { s.body, s.headers = zipped.String(), []string{"Content-Encoding: gzip"} })
}

func manyKeys() string {
	keys := map[string]int{}
	for i := range 6000 {
		keys[fmt.Sprintf("maxReplica%d", i)] = i
	}
	encoded, _ := json.Marshal(keys) // numbers
	return string(encoded[:min(len(encoded), maxBodyBytes)])
}

const placeholder = "@here@"

// fields has each field of a body changed in every way.
func (g *generator) fields(t testing.TB, good shot) {
	t.Helper()
	var tree any
	decoder := json.NewDecoder(strings.NewReader(good.body))
	decoder.UseNumber()
	if err := decoder.Decode(&tree); err != nil {
		t.Fatal(err)
	}
	encode := func() string {
		encoded, err := json.Marshal(tree)
		if err != nil {
			t.Fatal(err)
		}
		return string(encoded)
	}
	visit(tree, func(object map[string]any, name string) {
		value := object[name]
		object[name] = placeholder
		body, was := encode(), string(encodeJSON(t, value))
		put := func(raw string) string { return strings.Replace(body, `"`+placeholder+`"`, raw, 1) }
		soon := time.Now().Add(30 * time.Hour).Format("2006-01-02T15:04:05")
		values := append(slices.Clip(literals), `"`+soon+`Z"`, `"`+soon+`+24:00"`, `"`+soon+`-23:60"`, `"`+soon+`,5Z"`, `"`+soon+`.`+strings.Repeat("1", 3000)+`Z"`)
		if name == "file_path" {
			for _, path := range paths {
				values = append(slices.Clip(values), `"`+path+`"`)
			}
		}
		for _, raw := range values {
			if len(raw) > 4000 && g.random.IntN(4) > 0 {
				continue // they take long
			}
			g.with(good, fmt.Sprintf("%s is %.60q", name, raw), func(s *shot) { s.body, s.field = put(raw), name })
		}
		g.with(good, name+" is given twice", func(s *shot) { s.body, s.field = put(was+`, "`+name+`": `+was), name })
		g.with(good, name+" is given twice, escaped", func(s *shot) {
			s.body, s.field = put(was+`, "`+fmt.Sprintf(`\u%04x`, name[0])+name[1:]+`": `+was), name
		})
		for _, other := range []string{strings.ToUpper(name), strings.ToUpper(name[:1]) + name[1:], name + " ", name + "\u0000", name + "s", "", "ſ" + name, strings.Replace(name, "s", "ſ", 1), strings.Replace(name, "k", "\u212a", 1)} {
			if other == name {
				continue
			}
			g.with(good, fmt.Sprintf("%q besides %s", other, name), func(s *shot) { s.body = put(was + `, "` + other + `": ` + was) })
			g.with(good, fmt.Sprintf("%q instead of %s", other, name), func(s *shot) {
				s.body = strings.Replace(body, `"`+name+`":"`+placeholder+`"`, `"`+other+`":`+was, 1)
			})
		}
		delete(object, name)
		g.with(good, "without "+name, func(s *shot) { s.body = encode() })
		object[name] = value
	})
}

func encodeJSON(t testing.TB, value any) []byte {
	t.Helper()
	encoded, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

// visit calls for every field of every object, in order.
func visit(node any, call func(object map[string]any, name string)) {
	switch node := node.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(node)) {
			call(node, name)
			visit(node[name], call)
		}
	case []any:
		for _, item := range node {
			visit(item, call)
		}
	}
}

// noise are bodies in which a few bytes are others.
func (g *generator) noise(good shot) {
	for range 60 {
		body := []byte(good.body)
		for range 1 + g.random.IntN(3) {
			at := g.random.IntN(len(body))
			switch g.random.IntN(4) {
			case 0:
				body[at] = byte(g.random.IntN(256)) //nolint:gosec // it fits
			case 1:
				body = slices.Delete(body, at, at+1)
			case 2:
				body = slices.Insert(body, at, []byte("{}[]\",:0-9e.\\")[g.random.IntN(13)])
			default:
				end := min(len(body), at+1+g.random.IntN(10))
				body = slices.Insert(body, at, body[at:end]...)
			}
			if len(body) == 0 {
				body = []byte{' '}
			}
		}
		g.with(good, "noise", func(s *shot) { s.body = string(body) })
	}
}

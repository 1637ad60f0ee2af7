// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Package page is the status page: what an autoscaler scales, how far, and why,
// drawn in the browser from what the REST API tells. It is compiled in, loads
// nothing from anywhere else, and only reads.
package page

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	_ "embed" // for the files
	"encoding/hex"
	"io"
	"net/http"
	"strings"
	"time"
)

var (
	//go:embed web/index.html
	index string
	//go:embed web/style.css
	style string
	//go:embed web/app.js
	app string
	//go:embed web/chart.js
	chart string
	//go:embed web/connect.js
	connect string
	//go:embed web/data.js
	data string
	//go:embed web/dom.js
	dom string
	//go:embed web/now.js
	now string
	//go:embed web/runs.js
	runs string
)

// policy lets the page load its own files and ask its own server, no more.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

const (
	html       = "text/html; charset=utf-8"
	css        = "text/css; charset=utf-8"
	javascript = "text/javascript; charset=utf-8"
)

// file is one file of the page.
type file struct {
	contentType, content string
	// gzipped is the content made small, for who can take it so.
	gzipped string
	// etag changes with the content.
	etag string
}

func newFile(contentType, content string) file {
	sum := sha256.Sum256([]byte(content))
	return file{contentType: contentType, content: content, gzipped: compress(content), etag: hex.EncodeToString(sum[:12])}
}

// compress cannot fail: it writes to memory.
func compress(content string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, content); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.String()
}

// Handler answers GET and HEAD of / with the page and of /page/... with its
// files; other methods with 405, other paths with 404. It holds no data of any
// autoscaler: the page asks api/v1/status, api/v1/records and
// api/v1/records/stream for that, relative to where it was loaded from. It is
// safe for concurrent use.
func Handler() http.Handler {
	files := map[string]file{
		"/":                newFile(html, index),
		"/page/style.css":  newFile(css, style),
		"/page/app.js":     newFile(javascript, app),
		"/page/chart.js":   newFile(javascript, chart),
		"/page/connect.js": newFile(javascript, connect),
		"/page/data.js":    newFile(javascript, data),
		"/page/dom.js":     newFile(javascript, dom),
		"/page/now.js":     newFile(javascript, now),
		"/page/runs.js":    newFile(javascript, runs),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", policy)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "no-referrer")
		file, ok := files[cmp.Or(r.URL.Path, "/")]
		switch {
		case !ok:
			fail(w, http.StatusNotFound, `{"message":"the page has no such file","code":404}`)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			header.Set("Allow", "GET, HEAD")
			fail(w, http.StatusMethodNotAllowed, `{"message":"the page is only read, with GET or HEAD","code":405}`)
		default:
			file.serve(w, r)
		}
	})
}

// serve answers with the file, or with 304 who has it. A browser keeps it and
// asks each time whether it is still so: an autoscaler is updated in its place.
func (f file) serve(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Type", f.contentType)
	header.Set("Cache-Control", "no-cache")
	header.Set("Vary", "Accept-Encoding")
	// The whole file or nothing new: parts and other conditions would have
	// answers of their own.
	for _, name := range []string{"Range", "If-Match", "If-Unmodified-Since"} {
		r.Header.Del(name)
	}
	if !takesGzip(r) {
		header.Set("ETag", `"`+f.etag+`"`)
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(f.content))
		return
	}
	header.Set("ETag", `"`+f.etag+`-gzip"`)
	header.Set("Content-Encoding", "gzip")
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(f.gzipped))
}

func takesGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, weight, _ := strings.Cut(coding, ";")
		if strings.TrimSpace(name) == "gzip" {
			return strings.TrimSpace(weight) != "q=0"
		}
	}
	return false
}

// fail answers as the REST API does. A client that is gone needs no answer.
func fail(w http.ResponseWriter, code int, body string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, body)
}

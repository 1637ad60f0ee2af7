// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// listening serves what is beset on a port of its own until stop is called.
func listening(t *testing.T, h *hostile) (address string, stop func()) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener.Addr().String(), running(t, newServer(listener, h.handler, h.backend.Log, make(chan struct{})))
}

// running has a server run until stop is called or the test ends.
func running(t *testing.T, server *Server) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// sent is what came back for some bytes: an answer, or why there is none.
type sent struct {
	status int
	header http.Header
	body   []byte
	err    error
}

// send sends bytes on a connection of their own and reads the answer; half closes
// the connection's end before. A stream is read to its first event.
func send(t *testing.T, address, method string, content []byte, half bool) (s sent) {
	t.Helper()
	connection, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	if err := connection.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	// Who has enough closes before all is sent: the answer counts.
	_, _ = connection.Write(content)
	if half {
		_ = connection.(*net.TCPConn).CloseWrite()
	}
	s.status, s.header, s.body, s.err = receive(bufio.NewReader(connection), method)
	return s
}

func receive(reader *bufio.Reader, method string) (status int, header http.Header, body []byte, err error) {
	for {
		response, err := http.ReadResponse(reader, &http.Request{Method: method}) //nolint:bodyclose // it ends with the connection
		if err != nil {
			return 0, nil, nil, err
		}
		if response.StatusCode == http.StatusContinue {
			continue
		}
		var content io.Reader = response.Body
		if strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
			content = io.LimitReader(content, int64(len(": ping\n\n")))
		}
		body, err := io.ReadAll(content)
		return response.StatusCode, response.Header, body, err
	}
}

// refusedByHTTP are what net/http answers by itself, in words of its own.
var refusedByHTTP = []int{400, 417, 431, 501, 505}

// over sends a shot over the network.
func (h *hostile) over(t *testing.T, address string, s shot) {
	t.Helper()
	headers, rank := h.disguise(s)
	if !s.has("Connection") {
		headers = append(headers, "Connection: close")
	}
	content := s.bytes(headers...)
	got := send(t, address, s.method, content, false)
	switch {
	case errors.Is(got.err, syscall.ECONNRESET) && len(s.body) > maxBodyBytes:
	case got.err != nil:
		t.Errorf("%.60s %.100q with %s is not answered: %v", s.method, s.target, s.about, got.err)
	case got.header.Get(requestID) == "":
		h.count++
		if !slices.Contains(refusedByHTTP, got.status) || strings.Contains(string(got.body), "goroutine") {
			t.Errorf("%.60s %.100q with %s is answered with %d %s", s.method, s.target, s.about, got.status, got.body)
		}
	default:
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(content)))
		if err != nil {
			t.Fatalf("%.60s %.100q with %s got through: %v", s.method, s.target, s.about, err)
		}
		h.judge(s, rank, r, got.status, got.header, got.body)
	}
}

// descriptors counts the files and connections of this process.
func descriptors(t *testing.T) int {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("this system does not tell what is open")
	}
	return len(open)
}

// The same over real connections, and with what no server passes on: nothing
// stays open of it.
func TestMalformedRequestsOverTheNetwork(t *testing.T) {
	shots := malformed(t)
	before := descriptors(t)
	for i, c := range servers(t) {
		t.Run(c.name, func(t *testing.T) {
			h := beset(t, c.config)
			address, stop := listening(t, h)
			for j := i; j < len(shots); j += 8 * *every {
				h.over(t, address, shots[j])
			}
			for j := i; j < len(shots); j += *every {
				r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(shots[j].bytes())))
				if err != nil || !sendable(r) {
					h.over(t, address, shots[j])
				}
			}
			h.good()
			t.Logf("%d requests", h.count)
			stop()
		})
	}
	eventually(t, "nothing is left open", func() bool { return descriptors(t) <= before })
}

// What is no request of HTTP is refused or cut off, and what stands beside it is
// answered.
func TestMalformedBytes(t *testing.T) {
	h := beset(t, nil)
	address, _ := listening(t, h)
	const good = "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
	post := func(headers, body string) string {
		return "POST /api/v1/pause HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + headers + "\r\n" + body
	}
	for name, test := range map[string]struct {
		content string
		want    int
	}{
		"nothing":                    {"", 0},
		"an empty line":              {"\r\n\r\n", 400},
		"binary":                     {"\x00\x01\x02\xff\xfe\r\n\r\n", 400},
		"a handshake of TLS":         {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400},
		"no version":                 {"GET /livez\r\n\r\n", 400},
		"another version":            {"GET /livez HTTP/9.9\r\nHost: a\r\n\r\n", 505},
		"an absurd version":          {"GET /livez HTTP/x\r\nHost: a\r\n\r\n", 400},
		"HTTP/2":                     {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 404},
		"no host":                    {"GET /livez HTTP/1.1\r\n\r\n", 400},
		"two hosts":                  {"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
		"a host that is none":        {"GET /livez HTTP/1.1\r\nHost: a\x01b\r\n\r\n", 400},
		"HTTP/1.0":                   {"GET /livez HTTP/1.0\r\n\r\n", 200},
		"lone line feeds":            {"GET /livez HTTP/1.1\nHost: a\n\n", 200},
		"a folded header":            {"GET /livez HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n 2\r\n\r\n", 200},
		"a header without a colon":   {"GET /livez HTTP/1.1\r\nHost: a\r\nX-A\r\n\r\n", 400},
		"a space before the colon":   {"GET /livez HTTP/1.1\r\nHost: a\r\nX-A : 1\r\n\r\n", 400},
		"a header of 100 KiB":        {"GET /livez HTTP/1.1\r\nHost: a\r\nX-A: " + strings.Repeat("a", 100<<10) + "\r\n\r\n", 431},
		"10000 headers":              {"GET /livez HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X-A: 12\r\n", 10_000) + "\r\n", 431},
		"a path of 100 KiB":          {"GET /" + strings.Repeat("a", 100<<10) + " HTTP/1.1\r\nHost: a\r\n\r\n", 431},
		"half a request":             {"GET /livez HTTP/1.1\r\nHost: a\r\nX-A", 400},
		"OPTIONS *":                  {"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 404},
		"CONNECT":                    {"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 404},
		"a whole address":            {"GET http://b/livez HTTP/1.1\r\nHost: a\r\n\r\n", 200},
		"no path":                    {"GET ?verbose HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		"a length that is none":      {post("Content-Length: x\r\n", "{}"), 400},
		"a length below 0":           {post("Content-Length: -1\r\n", "{}"), 400},
		"a length beyond all":        {post("Content-Length: 99999999999999999999\r\n", "{}"), 400},
		"two lengths":                {post("Content-Length: 2\r\nContent-Length: 3\r\n", "{} "), 400},
		"two equal lengths":          {post("Content-Length: 2\r\nContent-Length: 2\r\n", "{}"), 200},
		"more than its length":       {post("Content-Length: 2\r\n", "{}{}"), 200},
		"less than its length":       {post("Content-Length: 5\r\n", "{}"), 400},
		"less than 1 GiB":            {post("Content-Length: 1073741824\r\n", "{}"), 400},
		"a length and chunks":        {post("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\n\r\n"), 200},
		"chunks":                     {post("Transfer-Encoding: chunked\r\n", "1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"), 200},
		"chunks without their end":   {post("Transfer-Encoding: chunked\r\n", "2\r\n{}\r\n"), 400},
		"a chunk of x":               {post("Transfer-Encoding: chunked\r\n", "x\r\n{}\r\n0\r\n\r\n"), 400},
		"a chunk below 0":            {post("Transfer-Encoding: chunked\r\n", "-1\r\n{}\r\n0\r\n\r\n"), 400},
		"a chunk beyond all":         {post("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\n{}\r\n0\r\n\r\n"), 400},
		"a chunk longer than it is":  {post("Transfer-Encoding: chunked\r\n", "3\r\n{}\r\n0\r\n\r\n"), 400},
		"chunks beyond the limit":    {post("Transfer-Encoding: chunked\r\n", "11000\r\n"+strings.Repeat(" ", 0x11000)+"\r\n0\r\n\r\n"), 413},
		"a long extension":           {post("Transfer-Encoding: chunked\r\n", "2;"+strings.Repeat("a", 8000)+"\r\n{}\r\n0\r\n\r\n"), 400},
		"a trailer that is none":     {post("Transfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\nX-A\r\n\r\n"), 400},
		"another encoding":           {post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), 501},
		"two encodings":              {post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 501},
		"an encoding, oddly written": {post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), 501},
	} {
		t.Run(name, func(t *testing.T) {
			got := send(t, address, "", []byte(test.content), true)
			if got.status != test.want {
				t.Errorf("got %d %s, %v; want %d", got.status, got.body, got.err, test.want)
			}
			if got.header.Get(requestID) != "" && got.status/100 != 2 && !bytes.HasPrefix(got.body, fmt.Appendf(nil, `{"message":"`)) {
				t.Errorf("got %s", got.body)
			}
			h.settle()
			if answer := send(t, address, "", []byte(strings.Replace(good, "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1)), false); answer.status != http.StatusOK {
				t.Errorf("afterwards it answers %d, %v", answer.status, answer.err)
			}
		})
	}
	h.good()
}

// Requests that come together are answered one after the other, and a wrong one
// ends the connection: what follows might be part of it.
func TestPipelining(t *testing.T) {
	h := beset(t, nil)
	address, _ := listening(t, h)
	connection, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	if err := connection.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var content strings.Builder
	for range 50 {
		content.WriteString("GET /livez HTTP/1.1\r\nHost: a\r\n\r\nPOST /api/v1/pause HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n[]\n")
	}
	content.WriteString("GET /livez HTTP/1.1\r\n\r\nDELETE /api/v1/config HTTP/1.1\r\nHost: a\r\n\r\n")
	if _, err := io.WriteString(connection, content.String()); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(connection)
	for i := range 101 {
		want := []int{200, 400}[i%2]
		if i == 100 {
			want = 400
		}
		if status, _, body, err := receive(reader, ""); status != want || err != nil {
			t.Fatalf("the answer %d is %d %s, %v; want %d", i, status, body, err, want)
		}
	}
	if _, err := reader.ReadByte(); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection goes on: %v", err)
	}
}

// pipes is a listener in memory, whose time is the test's.
type pipes struct {
	connections chan net.Conn
	closed      chan struct{}
	once        *sync.Once
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case connection := <-p.connections:
		return connection, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error { p.once.Do(func() { close(p.closed) }); return nil }

func (pipes) Addr() net.Addr { return &net.UnixAddr{Name: "test", Net: "unix"} }

// Who sends a request bit by bit is cut off in time, and told so where half a
// request shows what it was to be.
func TestSlowRequests(t *testing.T) {
	for name, test := range map[string]struct {
		// bits are sent one every second, the last over and over unless it is empty.
		bits  []string
		after time.Duration
		want  string
	}{
		"silence":               {nil, readTimeout, ""},
		"a header bit by bit":   {[]string{"GET /livez HTTP/1.1\r\nHost: a\r\n", "X-A: 1\r\n"}, readTimeout, ""},
		"a method bit by bit":   {[]string{"G"}, readTimeout, "400 "},
		"a body bit by bit":     {[]string{"POST /api/v1/pause HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n", " "}, readTimeout, "400 reading the body: it did not come in time"},
		"chunks bit by bit":     {[]string{"POST /api/v1/pause HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n"}, readTimeout, "400 reading the body: it did not come in time"},
		"nothing after another": {[]string{"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n", ""}, idleTimeout, "200 "},
		"half after another":    {[]string{"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n", "X"}, readTimeout + 4*time.Second, "200 "},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := pipes{connections: make(chan net.Conn), closed: make(chan struct{}), once: &sync.Once{}}
				stop := running(t, newServer(p, newControlHandler(backend(t, &operated{}), nil), backend(t, unasked{}).Log, make(chan struct{})))
				ours, theirs := net.Pipe()
				p.connections <- theirs
				began := time.Now()
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					for i := 0; len(test.bits) > 0; i++ {
						bit := test.bits[min(i, len(test.bits)-1)]
						if bit == "" {
							return
						}
						if _, err := io.WriteString(ours, bit); err != nil {
							return
						}
						time.Sleep(time.Second)
					}
				}()
				content, err := io.ReadAll(ours)
				if took := time.Since(began); took < test.after || took > test.after+2*time.Second || err != nil {
					t.Errorf("it was cut off after %s: %v", took, err)
				}
				got := ""
				if answered, _, body, err := receive(bufio.NewReader(bytes.NewReader(content)), ""); err == nil {
					got = fmt.Sprintf("%d %s", answered, body)
				}
				status, message, _ := strings.Cut(test.want, " ")
				if !strings.HasPrefix(got, status) || !strings.Contains(got, message) || test.want == "" && got != "" {
					t.Errorf("got %s, want %s", got, test.want)
				}
				_ = ours.Close()
				<-ended
				stop()
			})
		})
	}
}

// Who leaves a stream gives the place back at once, also if the request had a
// body and was to be the last, so that net/http leaves that unread.
func TestAStreamEndsWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left := make(chan struct{})
		p := pipes{connections: make(chan net.Conn), closed: make(chan struct{}), once: &sync.Once{}}
		b := backend(t, unasked{})
		handler := newControlHandler(b, nil)
		stop := running(t, newServer(p, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			handler.ServeHTTP(w, r)
			close(left)
		}), b.Log, make(chan struct{})))
		ours, theirs := net.Pipe()
		p.connections <- theirs
		if _, err := io.WriteString(ours, "GET /api/v1/records/stream HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"); err != nil {
			t.Fatal(err)
		}
		if status, _, _, err := receive(bufio.NewReader(ours), ""); status != http.StatusOK || err != nil {
			t.Fatalf("got %d, %v", status, err)
		}
		began := time.Now()
		_ = ours.Close()
		<-left
		if took := time.Since(began); took > time.Second {
			t.Errorf("the place was taken for another %s", took)
		}
		stop()
	})
}

// A flood of malformed requests is held to the limits as any other is, and keeps
// nobody else out.
func TestFloodOfMalformedRequests(t *testing.T) {
	c := servers(t)[1].config
	c.RateLimit = config.RateLimit{PerCaller: new(20), Total: new(1000)}
	s := serveAll(t, c)
	counts := map[int]int{}
	for i, shot := range malformed(t)[:600] {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(shot.bytes())))
		if err != nil || !sendable(r) || strings.HasSuffix(r.URL.Path, "z") || r.URL.Path == "/health" {
			continue
		}
		r.RemoteAddr = fmt.Sprintf("192.0.2.1:%d", i)
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, r)
		counts[w.Code/100]++
		if w.Code == http.StatusTooManyRequests {
			counts[w.Code]++
			if w.Header().Get("Retry-After") == "" {
				t.Error("it does not say when to try again")
			}
		}
	}
	if admitted := counts[2] + counts[4] - counts[429]; admitted != 20 || counts[429] < 400 || counts[5] > 0 {
		t.Errorf("the answers were %v", counts)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/status", nil)
	r.RemoteAddr = "192.0.2.2:1"
	r.Header.Set("Authorization", "Bearer "+readToken)
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Errorf("another gets %d %s", w.Code, w.Body)
	}
	s.want(200, "GET", "/livez", "", "ok")
}

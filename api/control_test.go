// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/autoscaler"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

const webID = "default/deployment/web"

// temporary has the sockets in a folder of the test's, and returns theirs. Its
// path is short, whatever the name of the test.
func temporary(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "cpa") //nolint:usetesting // t.TempDir's are long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	t.Setenv("TMPDIR", folder)
	path, err := socketPath(webID)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(path)
}

// serveControl runs the control socket's Server until stop is called or the
// test ends.
func serveControl(t *testing.T, id string, a Autoscaler) (stop func()) {
	t.Helper()
	server, err := ListenControl(t.Context(), id, backend(t, a))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// controlClient is a client of the control socket of webID.
func controlClient(t *testing.T) *http.Client {
	t.Helper()
	return newClient(t, &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return DialControl(ctx, webID) }})
}

func post(t *testing.T, client *http.Client, path string, body io.Reader) (status int, answer string, err error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	return response.StatusCode, string(content), err
}

func TestControlSocket(t *testing.T) {
	folder := temporary(t)
	before := syscall.Umask(0)
	defer syscall.Umask(before)
	web, api := &operated{}, &operated{}
	serveControl(t, "default/deployment/api", api)
	stop := serveControl(t, webID, web)

	status, answer, err := post(t, controlClient(t), "/api/v1/pause", strings.NewReader(`{"replicas":5}`))
	if err != nil || status != http.StatusOK || answer != `{"pause":{"replicas":5}}` {
		t.Errorf("got %d %s, %v", status, answer, err)
	}
	if diff := cmp.Diff([]scale.Pause{{Replicas: new(int32(5))}}, web.pauses); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(api.pauses) > 0 {
		t.Errorf("another autoscaler was asked: %v", api.pauses)
	}

	path, err := socketPath(webID)
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]fs.FileMode{folder: fs.ModeDir | 0o700, path: fs.ModeSocket | 0o600} {
		info, err := os.Lstat(file)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s has the mode %s, want %s", file, info.Mode(), want)
		}
	}
	stop()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// A umask that forbids everything is no obstacle.
func TestControlUmask(t *testing.T) {
	temporary(t)
	before := syscall.Umask(0o777)
	defer syscall.Umask(before)
	serveControl(t, webID, &operated{})
	if status, answer, err := post(t, controlClient(t), "/api/v1/resume", nil); err != nil || status != http.StatusOK {
		t.Errorf("got %d %s, %v", status, answer, err)
	}
}

func TestControlNobody(t *testing.T) {
	folder := temporary(t)
	if _, err := DialControl(t.Context(), webID); !errors.Is(err, ErrNotRunning) {
		t.Errorf("without a folder: %v", err)
	}
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := DialControl(t.Context(), webID); !errors.Is(err, ErrNotRunning) {
		t.Errorf("without a socket: %v", err)
	}
	leave(t)
	if _, err := DialControl(t.Context(), webID); !errors.Is(err, ErrNotRunning) {
		t.Errorf("with a socket that nobody serves: %v", err)
	}
}

// leave leaves a socket as a killed process does.
func leave(t *testing.T) {
	t.Helper()
	leaveOf(t, webID)
}

func leaveOf(t *testing.T, id string) {
	t.Helper()
	path, err := socketPath(id)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestControlReplacesAStaleSocket(t *testing.T) {
	folder := temporary(t)
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	leave(t)
	serveControl(t, webID, &operated{})
	if status, answer, err := post(t, controlClient(t), "/api/v1/resume", nil); err != nil || status != http.StatusOK {
		t.Errorf("got %d %s, %v", status, answer, err)
	}
}

// Of several processes one serves, also when they start at once, and the
// others leave its socket alone.
func TestControlOneServes(t *testing.T) {
	temporary(t)
	type result struct {
		server *Server
		err    error
	}
	const processes = 8
	results := make(chan result, processes)
	for range processes {
		go func() {
			server, err := ListenControl(t.Context(), webID, backend(t, &operated{}))
			results <- result{server, err}
		}()
	}
	var servers []*Server
	for range processes {
		r := <-results
		switch {
		case r.err == nil:
			servers = append(servers, r.server)
		case !strings.Contains(r.err.Error(), "another autoscaler of the same target runs here"):
			t.Error(r.err)
		}
	}
	if len(servers) != 1 {
		t.Errorf("%d serve", len(servers))
	}
	for _, server := range servers {
		connection, err := DialControl(t.Context(), webID)
		if err != nil {
			t.Error(err)
		} else {
			_ = connection.Close()
		}
		_ = server.listener.Close()
	}
}

func TestControlFolderOfSomebodyElse(t *testing.T) {
	for _, test := range []struct {
		name string
		make func(folder string) error
		want string
	}{
		{"open to the group", func(folder string) error {
			return errors.Join(os.Mkdir(folder, 0o700), os.Chmod(folder, 0o710))
		}, "is open to other users (mode 0710), so it is not used: chmod 700 "},
		{"open to everybody", func(folder string) error {
			return errors.Join(os.Mkdir(folder, 0o700), os.Chmod(folder, 0o701))
		}, "is open to other users (mode 0701)"},
		{"a link", func(folder string) error {
			return errors.Join(os.Mkdir(folder+"x", 0o700), os.Symlink(folder+"x", folder))
		}, "must be a folder, neither a file nor a link: remove it"},
		{"a file", func(folder string) error { return os.WriteFile(folder, nil, 0o600) }, "must be a folder, neither a file nor a link: remove it"},
	} {
		t.Run(test.name, func(t *testing.T) {
			folder := temporary(t)
			if err := test.make(folder); err != nil {
				t.Fatal(err)
			}
			_, serving := ListenControl(t.Context(), webID, backend(t, &operated{}))
			_, dialling := DialControl(t.Context(), webID)
			_, searching := DialOnlyControl(t.Context())
			for _, err := range []error{serving, dialling, searching} {
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got %v, want %s", err, test.want)
				}
			}
		})
	}
}

// The only socket is found by whoever does not know its autoscaler, among those
// that nobody serves, and what is no socket.
func TestControlOnly(t *testing.T) {
	folder := temporary(t)
	nobody := func(situation string) {
		t.Helper()
		if _, err := DialOnlyControl(t.Context()); !errors.Is(err, ErrNotRunning) {
			t.Errorf("%s: %v", situation, err)
		}
	}
	nobody("without a folder")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	nobody("without a socket")
	leaveOf(t, "default/deployment/gone")
	for _, name := range []string{"notes.txt", "0123456789abcdef.sock", strings.Repeat("a", 100) + ".sock"} {
		if err := os.WriteFile(filepath.Join(folder, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	nobody("with what is left of a killed process")

	web := &operated{}
	serveControl(t, webID, web)
	client := newClient(t, &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return DialOnlyControl(ctx) }})
	if status, answer, err := post(t, client, "/api/v1/pause", strings.NewReader(`{"replicas":5}`)); err != nil || status != http.StatusOK {
		t.Errorf("got %d %s, %v", status, answer, err)
	}
	if diff := cmp.Diff([]scale.Pause{{Replicas: new(int32(5))}}, web.pauses); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	stop := serveControl(t, "default/deployment/api", &operated{})
	if _, err := DialOnlyControl(t.Context()); !errors.Is(err, ErrSeveralRun) {
		t.Errorf("of two: %v", err)
	}
	stop()
	connection, err := DialOnlyControl(t.Context())
	if err != nil {
		t.Fatalf("after one of two has ended: %v", err)
	}
	_ = connection.Close()
}

// The folder of another user is not looked into; only root can make one.
func TestControlFolderOfAnotherUser(t *testing.T) {
	folder := temporary(t)
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(folder, os.Geteuid()+1, -1); err != nil {
		t.Skipf("only root can give a folder away: %v", err)
	}
	_, dialling := DialControl(t.Context(), webID)
	_, searching := DialOnlyControl(t.Context())
	for _, err := range []error{dialling, searching} {
		if err == nil || !strings.Contains(err.Error(), "belongs to another user, so it is not used") {
			t.Errorf("got %v", err)
		}
	}
}

// Nobody but root can be somebody else, so the check itself is asked.
func TestControlPeers(t *testing.T) {
	own := uint32(os.Geteuid()) //nolint:gosec // a user ID is one of 32 bits
	for uid, want := range map[uint32]bool{0: true, own: true, own + 1: false, 1<<32 - 2: false} {
		if err := allow(uid); (err == nil) != want {
			t.Errorf("%d: %v", uid, err)
		}
	}
	one, other := net.Pipe()
	defer func() { _, _ = one.Close(), other.Close() }()
	if err := checkPeer(one); err == nil {
		t.Error("something else than a socket was trusted")
	}
}

// strangers is a listener whose connections are no sockets, so that nobody
// knows who is at their other end.
type strangers struct {
	net.Listener
	connections chan net.Conn
}

func (s strangers) Accept() (net.Conn, error) {
	connection, ok := <-s.connections
	if !ok {
		return nil, net.ErrClosed
	}
	return connection, nil
}

func TestControlClosesStrangers(t *testing.T) {
	var log bytes.Buffer
	s := strangers{connections: make(chan net.Conn, 1)}
	one, other := net.Pipe()
	if err := other.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	s.connections <- one
	close(s.connections)
	_, err := ownListener{Listener: s, log: slog.New(slog.NewTextHandler(&log, nil))}.Accept()
	if !errors.Is(err, net.ErrClosed) {
		t.Fatalf("got %v", err)
	}
	if _, err := other.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("it is not closed: %v", err)
	}
	if !strings.Contains(log.String(), "Somebody else tried to use the control socket") {
		t.Errorf("it logged %s", log.String())
	}
}

func TestControlPathIsTooLong(t *testing.T) {
	t.Setenv("TMPDIR", "/"+strings.Repeat("a", 100))
	_, serving := ListenControl(t.Context(), webID, backend(t, &operated{}))
	_, dialling := DialControl(t.Context(), webID)
	_, searching := DialOnlyControl(t.Context())
	for _, err := range []error{serving, dialling, searching} {
		if err == nil || !strings.Contains(err.Error(), "set TMPDIR to a shorter folder") {
			t.Errorf("got %v", err)
		}
	}
}

// The longest path that is let through can be listened on.
func TestControlLongestPath(t *testing.T) {
	folder := temporary(t)
	path, err := socketPath(webID)
	if err != nil {
		t.Fatal(err)
	}
	longer := filepath.Join(filepath.Dir(folder), strings.Repeat("a", maxSocketPath-len(path)-1))
	if err := os.Mkdir(longer, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", longer)
	if path, err = socketPath(webID); err != nil || len(path) != maxSocketPath {
		t.Fatalf("the path %s has %d bytes: %v", path, len(path), err)
	}
	serveControl(t, webID, &operated{})
	if status, answer, err := post(t, controlClient(t), "/api/v1/resume", nil); err != nil || status != http.StatusOK {
		t.Errorf("got %d %s, %v", status, answer, err)
	}
	t.Setenv("TMPDIR", longer+"a")
	if path, err := socketPath(webID); err == nil {
		t.Errorf("%s has %d bytes", path, len(path))
	}
}

func TestControlNoPlace(t *testing.T) {
	t.Setenv("TMPDIR", "/nowhere")
	_, err := ListenControl(t.Context(), webID, backend(t, &operated{}))
	if err == nil || !strings.Contains(err.Error(), "making the control socket's folder: mkdir /nowhere/") ||
		!strings.Contains(err.Error(), "let /nowhere be writable, or set TMPDIR to a folder that is") {
		t.Errorf("got %v", err)
	}
}

// A folder that another process has locked keeps nobody waiting for long.
func TestControlLockHasADeadline(t *testing.T) {
	path := temporary(t)
	folder, err := makeFolder(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = folder.Close() }()
	if err := lock(t.Context(), folder); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := ListenControl(ctx, webID, backend(t, &operated{})); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// A flood of bad bodies is refused, each, and what is right still gets through.
func TestControlFlood(t *testing.T) {
	temporary(t)
	a := &operated{}
	serveControl(t, webID, a)
	client := controlClient(t)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 5 {
				for _, bad := range badBodies {
					status, answer, err := post(t, client, "/api/v1/pause", strings.NewReader(bad.body))
					if err != nil || status != bad.status {
						t.Errorf("%.40s: got %d %s, %v", bad.body, status, answer, err)
					}
				}
			}
		})
	}
	group.Wait()
	// One that never ends is cut off; whether the answer still arrives is a
	// race with the connection's end.
	endless := io.MultiReader(strings.NewReader(`{"reason":"`), zeros{})
	if status, _, err := post(t, client, "/api/v1/pause", io.LimitReader(endless, 64<<20)); err == nil && status != http.StatusRequestEntityTooLarge {
		t.Errorf("got %d", status)
	}
	if len(a.pauses) > 0 {
		t.Errorf("%d pauses", len(a.pauses))
	}
	if status, answer, err := post(t, client, "/api/v1/pause", nil); err != nil || status != http.StatusOK {
		t.Errorf("got %d %s, %v", status, answer, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// A stop answers who waits on the control socket, too.
func TestControlStopAnswersWhoWaits(t *testing.T) {
	temporary(t)
	running, release := make(chan struct{}), make(chan struct{})
	stop := serveControl(t, webID, answers(func(ctx context.Context, trigger autoscaler.Trigger) (autoscaler.Record, error) {
		close(running)
		<-release
		return scaledTo(3, 3).Submit(ctx, trigger)
	}))
	results := make(chan string, 1)
	client := controlClient(t)
	go func() {
		_, body, err := post(t, client, "/api/v1/evaluation", nil)
		if err != nil {
			body = err.Error()
		}
		results <- body
	}()
	<-running
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		connection, err := DialControl(ctx, webID)
		if errors.Is(err, ErrNotRunning) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = connection.Close()
	}
	close(release)
	if got := <-results; got != `{"targetReplicas":3}` {
		t.Errorf("got %s", got)
	}
	<-stopped
}

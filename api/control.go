// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// The control socket: commands such as `custom-pod-autoscaler pause` reach the
// process that runs in the same container through it. Whoever may open it may
// steer the autoscaler, so it lies in a folder of the user's own, and both ends
// look who the other one is.

// ErrNotRunning says that nothing serves the control socket of an autoscaler.
var ErrNotRunning = errors.New("no process of this autoscaler runs here")

// ErrSeveralRun says that more than one control socket is served.
var ErrSeveralRun = errors.New("several autoscalers run here")

// maxSocketPath is how long the kernel lets a socket's path be: 107 bytes on
// Linux, 103 on macOS.
const maxSocketPath = len(syscall.RawSockaddrUnix{}.Path) - 1

const (
	folderMode = 0o700
	socketMode = 0o600
)

// A socket is called by so much of the hash of an autoscaler's ID.
const (
	hashBytes    = 8
	socketEnding = ".sock"
	socketName   = 2*hashBytes + len(socketEnding)
)

// lockTimeout bounds the wait for another process that opens its socket.
const lockTimeout = 2 * time.Second

// ListenControl opens the control socket of the autoscaler with this ID; Run
// then serves the same API on it, with what is an operator's to do besides, and
// removes it at the end. A socket that a killed process left is replaced, one
// that somebody serves is not.
//
// Its file is <ID's hash>.sock in os.TempDir()/custom-pod-autoscaler-<uid>,
// which is made if need be, and must belong to the user alone.
func ListenControl(ctx context.Context, id string, b Backend) (*Server, error) {
	path, err := socketPath(id)
	if err != nil {
		return nil, err
	}
	folder, err := makeFolder(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer func() { _ = folder.Close() }()
	// Of two processes that start at once, one looks after the other is done.
	if err := lock(ctx, folder); err != nil {
		return nil, err
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("opening the control socket: %w", err)
	}
	// Whatever the process's umask made of it.
	if err := os.Chmod(path, socketMode); err != nil {
		_ = listener.Close()
		return nil, fmt.Errorf("opening the control socket: %w", err)
	}
	closing := make(chan struct{})
	s := newServer(ownListener{Listener: listener, log: b.Log}, newControlHandler(b, closing), b.Log, closing)
	s.control = true
	return s, nil
}

// DialControl connects to the process that serves the control socket of the
// autoscaler with this ID, as the same user. The error is ErrNotRunning when
// there is none.
func DialControl(ctx context.Context, id string) (net.Conn, error) {
	path, err := socketPath(id)
	if err != nil {
		return nil, err
	}
	folder, err := openFolder(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotRunning
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = folder.Close() }()
	return dial(ctx, path)
}

// DialOnlyControl connects to the process that serves a control socket as the
// same user, whichever autoscaler's. The error is ErrNotRunning when there is
// none, and ErrSeveralRun when there are several.
func DialOnlyControl(ctx context.Context) (net.Conn, error) {
	path, err := socketFolder()
	if err != nil {
		return nil, err
	}
	folder, err := openFolder(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotRunning
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = folder.Close() }()
	names, err := folder.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("looking for control sockets: %w", err)
	}
	var only net.Conn
	for _, name := range names {
		if len(name) != socketName || filepath.Ext(name) != socketEnding {
			continue
		}
		connection, err := dial(ctx, filepath.Join(path, name))
		switch {
		case errors.Is(err, ErrNotRunning):
			continue // a killed process left it
		case err == nil && only == nil:
			only = connection
			continue
		case err == nil:
			_ = connection.Close()
			err = ErrSeveralRun
		}
		if only != nil {
			_ = only.Close()
		}
		return nil, err
	}
	if only == nil {
		return nil, ErrNotRunning
	}
	return only, nil
}

// dial connects to the socket at a path in the user's folder.
func dial(ctx context.Context, path string) (net.Conn, error) {
	connection, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, ErrNotRunning
	}
	if err != nil {
		return nil, fmt.Errorf("connecting to the control socket: %w", err)
	}
	if err := checkPeer(connection); err != nil {
		_ = connection.Close()
		return nil, fmt.Errorf("connecting to the control socket %s: %w", path, err)
	}
	return connection, nil
}

// socketPath is where the socket of the autoscaler with this ID is.
func socketPath(id string) (string, error) {
	folder, err := socketFolder()
	sum := sha256.Sum256([]byte(id))
	return filepath.Join(folder, hex.EncodeToString(sum[:hashBytes])+socketEnding), err
}

// socketFolder is the folder of the user's sockets.
func socketFolder() (string, error) {
	path := filepath.Join(os.TempDir(), "custom-pod-autoscaler-"+strconv.Itoa(os.Geteuid()))
	if length := len(path) + len("/") + socketName; length > maxSocketPath {
		return "", fmt.Errorf("the path of a control socket in %s has %d bytes, more than the %d a socket's may have: set TMPDIR to a shorter folder",
			path, length, maxSocketPath)
	}
	return path, nil
}

// makeFolder opens the folder of the sockets, and makes it if it is not there.
func makeFolder(path string) (*os.File, error) {
	err := os.Mkdir(path, folderMode)
	if err == nil {
		// Whatever the process's umask made of it.
		err = os.Chmod(path, folderMode)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("making the control socket's folder: %w: let %s be writable, or set TMPDIR to a folder that is", err, filepath.Dir(path))
	}
	return openFolder(path)
}

// openFolder opens the folder of the sockets if it is the user's own: the
// folder it lies in is everybody's, so somebody else may have made it.
func openFolder(path string) (*os.File, error) {
	folder, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENOTDIR) {
		return nil, fmt.Errorf("%s must be a folder, neither a file nor a link: remove it", path)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the control socket's folder: %w", err)
	}
	if err := checkFolder(folder); err != nil {
		_ = folder.Close()
		return nil, err
	}
	return folder, nil
}

func checkFolder(folder *os.File) error {
	info, err := folder.Stat()
	if err != nil {
		return fmt.Errorf("looking at the control socket's folder: %w", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to another user, so it is not used: remove it, or set TMPDIR to another folder", folder.Name())
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s is open to other users (mode %#o), so it is not used: chmod 700 %s", folder.Name(), mode, folder.Name())
	}
	return nil
}

// lock keeps other processes from opening a socket until the folder is closed,
// or the process ends however it may.
func lock(ctx context.Context, folder *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return fmt.Errorf("locking the control socket's folder %s: %w", folder.Name(), err)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("locking the control socket's folder %s: another process has it locked: %w", folder.Name(), ctx.Err())
		}
	}
}

// removeStale removes a socket that nobody serves.
func removeStale(ctx context.Context, path string) error {
	connection, err := new(net.Dialer).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = connection.Close()
		return fmt.Errorf("another process serves the control socket %s: another autoscaler of the same target runs here", path)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, syscall.ECONNREFUSED):
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("replacing the control socket that an earlier process left: %w", err)
		}
		return nil
	default:
		return fmt.Errorf("looking whether another process serves the control socket: %w", err)
	}
}

// ownListener accepts who is the same user, or root.
type ownListener struct {
	net.Listener
	log *slog.Logger
}

// Accept waits for the next such connection; it closes the others.
func (l ownListener) Accept() (net.Conn, error) {
	for {
		connection, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		err = checkPeer(connection)
		if err == nil {
			return connection, nil
		}
		l.log.Warn("Somebody else tried to use the control socket", "error", err)
		_ = connection.Close()
	}
}

// checkPeer refuses another user, unless it is root, who could do without.
func checkPeer(connection net.Conn) error {
	socket, ok := connection.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("there is no user at the other end of a %T", connection)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return fmt.Errorf("looking who is at the other end: %w", err)
	}
	var uid uint32
	var uidErr error
	if err := raw.Control(func(fd uintptr) { uid, uidErr = peerUID(int(fd)) }); err != nil {
		uidErr = err
	}
	if uidErr != nil {
		return fmt.Errorf("looking who is at the other end: %w", uidErr)
	}
	return allow(uid)
}

func allow(uid uint32) error {
	if uid != 0 && int64(uid) != int64(os.Geteuid()) {
		return fmt.Errorf("at the other end is the user %d, who is neither this one (%d) nor root", uid, os.Geteuid())
	}
	return nil
}

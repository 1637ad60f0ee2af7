// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package gitops

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// local is a repository on this machine. It is opened directly: git itself,
// which go-git's own transport would start, need not be there. Its hooks do
// not run.
type local struct {
	path   string
	branch plumbing.ReferenceName
}

func (l *local) close() error { return nil }
func (l *local) forget()      {}

// check says what is wrong with the repository, as far as that can be seen
// without its objects.
func (l *local) check() error {
	_, err := l.dir()
	return err
}

// dir is the folder that git calls GIT_DIR.
func (l *local) dir() (string, error) {
	dir := l.path
	if _, err := os.Stat(filepath.Join(l.path, ".git")); err == nil {
		dir = filepath.Join(l.path, ".git")
	}
	head, err := os.ReadFile(filepath.Join(dir, "HEAD"))
	if err != nil {
		return "", fmt.Errorf("gitOps.repository: %s is no git repository: make one with `git init --bare`: %w", l.path, err)
	}
	settings, err := os.ReadFile(filepath.Join(dir, "config"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("gitOps.repository: %w", err)
	}
	plain := strings.ToLower(strings.NewReplacer(" ", "", "\t", "", `"`, "").Replace(string(settings)))
	switch {
	case strings.Contains(plain, "objectformat=sha256"):
		return "", errors.New("gitOps.repository: the repository's hashes are sha256: only sha1 is supported")
	case strings.Contains(plain, "refstorage=reftable"):
		return "", errors.New("gitOps.repository: the repository keeps its branches in a reftable: only files are supported")
	case strings.TrimSpace(string(head)) == "ref: "+l.branch.String() && !strings.Contains(plain, "bare=true"):
		return "", fmt.Errorf("gitOps.repository: the branch %s is checked out in %s, whose files would not follow: use a bare repository, or check out another branch", l.branch.Short(), l.path)
	}
	return dir, nil
}

// open opens the repository anew, as others write to it.
func (l *local) open(ctx context.Context) (string, *filesystem.Storage, error) {
	if err := ctx.Err(); err != nil {
		return "", nil, err
	}
	dir, err := l.dir()
	if err != nil {
		return "", nil, err
	}
	return dir, filesystem.NewStorage(osfs.New(dir, osfs.WithBoundOS()), cache.NewObjectLRU(cacheBytes)), nil
}

func (l *local) tipOf(store *filesystem.Storage) (plumbing.Hash, error) {
	found, err := store.Reference(l.branch)
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return plumbing.ZeroHash, fmt.Errorf("the repository has no branch %s: push a first commit to it, or correct gitOps.branch", l.branch.Short())
	}
	if err != nil {
		return plumbing.ZeroHash, fmt.Errorf("reading the branch: %w", err)
	}
	if found.Type() != plumbing.HashReference {
		return plumbing.ZeroHash, fmt.Errorf("the branch %s is another name of %s: name that in gitOps.branch", l.branch.Short(), found.Target())
	}
	return found.Hash(), nil
}

func (l *local) fetch(ctx context.Context, _ int) (plumbing.Hash, storer.EncodedObjectStorer, error) {
	_, store, err := l.open(ctx)
	if err != nil {
		return plumbing.ZeroHash, nil, err
	}
	tip, err := l.tipOf(store)
	return tip, store, err
}

// push writes the objects, and moves the branch as git does: what locks it is
// a file of that name with .lock, which becomes the branch.
func (l *local) push(ctx context.Context, tip, commit plumbing.Hash, d *draft) error {
	dir, store, err := l.open(ctx)
	if err != nil {
		return err
	}
	for _, hash := range d.hashes {
		object, err := d.objects.EncodedObject(plumbing.AnyObject, hash)
		if err != nil {
			return err
		}
		if _, err := store.SetEncodedObject(object); err != nil {
			return fmt.Errorf("writing to %s: %w", l.path, err)
		}
	}
	path := filepath.Join(dir, filepath.FromSlash(l.branch.String()))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // as git makes it
		return fmt.Errorf("writing the branch: %w", err)
	}
	lock, err := os.OpenFile(path+".lock", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // as git makes it
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w, or has left %s.lock behind", errMoved, path)
	}
	if err != nil {
		return fmt.Errorf("writing the branch: %w", err)
	}
	if err := l.move(store, lock, tip, commit, path); err != nil {
		_ = lock.Close()
		_ = os.Remove(lock.Name())
		return err
	}
	return nil
}

// move is for who holds the lock.
func (l *local) move(store *filesystem.Storage, lock *os.File, tip, commit plumbing.Hash, path string) error {
	now, err := l.tipOf(store)
	if err != nil {
		return err
	}
	if now != tip {
		return errMoved
	}
	if _, err := lock.WriteString(commit.String() + "\n"); err != nil {
		return fmt.Errorf("writing the branch: %w", err)
	}
	if err := lock.Sync(); err != nil {
		return fmt.Errorf("writing the branch: %w", err)
	}
	if err := lock.Close(); err != nil {
		return fmt.Errorf("writing the branch: %w", err)
	}
	if err := os.Rename(lock.Name(), path); err != nil {
		return fmt.Errorf("writing the branch: %w", err)
	}
	return nil
}

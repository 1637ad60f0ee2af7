// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package gitops

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// Limits of what is kept on the disk and in memory of a repository.
const (
	// maxFetches is after how many fetches the copy is made anew: each leaves
	// a pack file.
	maxFetches = 200
	// maxGrowth is by how much the copy may grow beyond its first fetch.
	maxGrowth = 64 << 20
	// maxFetchBytes is the largest answer that is taken in, which ends up on the
	// disk.
	maxFetchBytes = 1 << 30
	// cacheBytes is how much of the objects is kept in memory.
	cacheBytes = 4 * cache.MiByte
)

// clone is a shallow, bare copy of a repository in a folder for temporary
// files: the tip of the branch, its whole tree, and no history. It has one
// owner.
type clone struct {
	// parent is where the folder is made, of that name; an empty parent is the
	// system's place.
	parent, name string
	home         *home
	// most is the largest answer, in bytes; 0 is maxFetchBytes.
	most int64
	// dir is the copy's own, within home.
	dir   string
	store *filesystem.Storage
	// tip is the commit it holds, with so many of the branch.
	tip     plumbing.Hash
	depth   int
	shallow []plumbing.Hash
	fetches int
	// first is how large it was after the first fetch.
	first int64
}

// prepare makes the folder if there is none that can be used.
func (c *clone) prepare() error {
	if c.dir != "" {
		if _, err := os.Stat(filepath.Join(c.dir, "objects")); err == nil && !c.outgrown() {
			return nil
		}
		c.forget()
	}
	dir, err := c.folder()
	if err != nil {
		return err
	}
	c.dir = dir
	c.store = filesystem.NewStorage(osfs.New(dir, osfs.WithBoundOS()), cache.NewObjectLRU(cacheBytes))
	if err := c.store.Init(); err != nil {
		c.forget()
		return fmt.Errorf("making the copy of the repository: %w", err)
	}
	return os.MkdirAll(filepath.Join(dir, "objects", "pack"), 0o700)
}

// folder makes one for a copy.
func (c *clone) folder() (string, error) {
	if c.home != nil {
		if dir, err := os.MkdirTemp(c.home.path, "copy-"); err == nil {
			return dir, nil
		}
		_ = c.home.close() // Somebody has removed it.
		c.home = nil
	}
	h, err := openHome(c.parent, c.name)
	if err != nil {
		return "", err
	}
	c.home = h
	dir, err := os.MkdirTemp(h.path, "copy-")
	if err != nil {
		return "", fmt.Errorf("making a folder for the copy of the repository (TMPDIR says where): %w", err)
	}
	return dir, nil
}

func (c *clone) outgrown() bool {
	return c.fetches >= maxFetches || c.fetches > 1 && c.size() > c.first+maxGrowth
}

// size is how large the folder is, in bytes.
func (c *clone) size() int64 {
	var size int64
	_ = filepath.WalkDir(c.dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil //nolint:nilerr // What has gone has no size.
		}
		if info, err := entry.Info(); err == nil {
			size += info.Size()
		}
		return nil
	})
	return size
}

// forget removes the copy; the next fetch makes a new one.
func (c *clone) forget() {
	if c.store != nil {
		_ = c.store.Close()
	}
	if c.dir != "" {
		_ = os.RemoveAll(c.dir)
	}
	*c = clone{parent: c.parent, name: c.name, home: c.home, most: c.most}
}

// close removes the copy and its folder.
func (c *clone) close() error {
	c.forget()
	if c.home == nil {
		return nil
	}
	h := c.home
	c.home = nil
	return h.close()
}

// request asks for the tip, telling what is there already.
func (c *clone) request(tip plumbing.Hash, depth int, can *capability.List) (request []byte, shallow bool, err error) {
	shallow = can.Supports(capability.Shallow)
	upload := packp.NewUploadRequest()
	upload.Wants = []plumbing.Hash{tip}
	for _, wanted := range []capability.Capability{capability.OFSDelta, capability.Sideband64k, capability.NoProgress} {
		if can.Supports(wanted) {
			_ = upload.Capabilities.Set(wanted)
		}
	}
	if can.Supports(capability.Agent) {
		_ = upload.Capabilities.Set(capability.Agent, capability.DefaultAgent())
	}
	if shallow {
		_ = upload.Capabilities.Set(capability.Shallow)
		upload.Depth = packp.DepthCommits(depth)
		upload.Shallows = c.shallow
	}
	var text bytes.Buffer
	if err := upload.Encode(&text); err != nil {
		return nil, false, fmt.Errorf("asking for the branch: %w", err)
	}
	lines := pktline.NewEncoder(&text)
	if !c.tip.IsZero() {
		if err := lines.Encodef("have %s\n", c.tip); err != nil {
			return nil, false, err
		}
	}
	err = lines.EncodeString("done\n")
	return text.Bytes(), shallow, err
}

// receive takes the answer in.
func (c *clone) receive(answer io.Reader, shallow bool, can *capability.List) error {
	if shallow {
		var update packp.ShallowUpdate
		if err := update.Decode(answer); err != nil {
			return err
		}
		for _, gone := range update.Unshallows {
			c.shallow = slices.DeleteFunc(c.shallow, func(h plumbing.Hash) bool { return h == gone })
		}
		c.shallow = append(c.shallow, update.Shallows...)
		slices.SortFunc(c.shallow, func(a, b plumbing.Hash) int { return bytes.Compare(a[:], b[:]) })
		c.shallow = slices.Compact(c.shallow)
	}
	// One line: the server has what we said we have, or not.
	scanner := pktline.NewScanner(answer)
	if !scanner.Scan() {
		if err := scanner.Err(); err != nil {
			return err
		}
		return io.ErrUnexpectedEOF
	}
	if line := scanner.Bytes(); !bytes.HasPrefix(line, []byte("NAK")) && !bytes.HasPrefix(line, []byte("ACK")) {
		return fmt.Errorf("the server answers %q", shorten(string(line)))
	}
	if can.Supports(capability.Sideband64k) {
		answer = sideband.NewDemuxer(sideband.Sideband64k, answer)
	}
	answer = &limited{from: answer, left: cmp.Or(c.most, maxFetchBytes)}
	if err := packfile.UpdateObjectStorage(c.store, answer); err != nil && !errors.Is(err, packfile.ErrEmptyPackfile) {
		return err
	}
	c.fetches++
	if c.fetches == 1 {
		c.first = c.size()
	}
	return nil
}

// limited ends with errTooLarge once more was read than is allowed.
type limited struct {
	from io.Reader
	left int64
}

func (l *limited) Read(into []byte) (int, error) {
	n, err := l.from.Read(into)
	if l.left -= int64(n); l.left < 0 {
		return 0, errTooLarge
	}
	return n, err
}

// errTooLarge says that a repository is no place for a count.
var errTooLarge = fmt.Errorf("the files of the branch take more than %d MiB, compressed: use a smaller repository for the file, or a branch that holds little else",
	maxFetchBytes>>20)

// search looks for the commit of a decision among the latest of a branch.
func search(history storer.EncodedObjectStorer, tip plumbing.Hash, id string) (plumbing.Hash, bool, error) {
	waiting, seen := []plumbing.Hash{tip}, map[plumbing.Hash]bool{}
	for len(waiting) > 0 && len(seen) < 2*historyDepth {
		hash := waiting[0]
		waiting = waiting[1:]
		if seen[hash] {
			continue
		}
		seen[hash] = true
		commit, err := object.GetCommit(history, hash)
		if errors.Is(err, plumbing.ErrObjectNotFound) && hash != tip {
			continue // beyond what was fetched
		}
		if err != nil {
			return plumbing.ZeroHash, false, fmt.Errorf("reading the history: %w: %w", errCorrupt, err)
		}
		if trailer(commit.Message, trailerDecision) == id {
			return hash, true, nil
		}
		waiting = append(waiting, commit.ParentHashes...)
	}
	return plumbing.ZeroHash, false, nil
}

// historyDepth is how many commits of the branch are looked through for one of
// which nobody knows whether it was pushed.
const historyDepth = 100

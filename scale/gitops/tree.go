// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package gitops

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/storage/memory"
)

// snapshot is the tree of a commit, and what a new one is built from: nothing
// is checked out, since only the folders on the way to one file change.
type snapshot struct {
	store storer.EncodedObjectStorer
	tip   plumbing.Hash
	root  plumbing.Hash
}

func openSnapshot(store storer.EncodedObjectStorer, tip plumbing.Hash) (snapshot, error) {
	commit, err := object.GetCommit(store, tip)
	if err != nil {
		return snapshot{}, fmt.Errorf("reading the commit %s: %w: %w", tip, errCorrupt, err)
	}
	return snapshot{store: store, tip: tip, root: commit.TreeHash}, nil
}

// errAbsent says that a file is not there.
var errAbsent = errors.New("there is no such file on the branch")

// read is the content of a file.
func (s snapshot) read(path string, most int64) ([]byte, error) {
	hash, err := s.find(path)
	if err != nil {
		return nil, err
	}
	return s.blob(path, hash, most)
}

// find is which blob a file is.
func (s snapshot) find(path string) (plumbing.Hash, error) {
	folder := s.root
	parts := strings.Split(path, "/")
	for i, part := range parts {
		tree, err := object.GetTree(s.store, folder)
		if err != nil {
			return plumbing.ZeroHash, fmt.Errorf("reading a folder: %w: %w", errCorrupt, err)
		}
		at := slices.IndexFunc(tree.Entries, func(e object.TreeEntry) bool { return e.Name == part })
		if at < 0 {
			break
		}
		entry, last := tree.Entries[at], i == len(parts)-1
		if err := s.passable(strings.Join(parts[:i+1], "/"), entry.Mode, last); err != nil {
			return plumbing.ZeroHash, err
		}
		if last {
			return entry.Hash, nil
		}
		folder = entry.Hash
	}
	return plumbing.ZeroHash, errAbsent
}

// passable says what is wrong with an entry on the way to a file, or with the
// file itself.
func (s snapshot) passable(path string, mode filemode.FileMode, last bool) error {
	switch {
	case mode == filemode.Symlink:
		return refused("%s is a symbolic link: name what it leads to", path)
	case mode == filemode.Submodule:
		return refused("%s is a submodule, another repository: name that one in gitOps.repository", path)
	case last && mode == filemode.Dir:
		return refused("%s is a folder, not a file", path)
	case !last && mode != filemode.Dir:
		return refused("%s is a file, so nothing lies below it", path)
	}
	return nil
}

func (s snapshot) blob(path string, hash plumbing.Hash, most int64) ([]byte, error) {
	// Its size first: the whole of it would be read into memory.
	if size, err := s.store.EncodedObjectSize(hash); err == nil && size > most {
		return nil, refused("%s is larger than %d bytes", path, most)
	}
	blob, err := object.GetBlob(s.store, hash)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w: %w", path, errCorrupt, err)
	}
	if blob.Size > most {
		return nil, refused("%s is larger than %d bytes", path, most)
	}
	reader, err := blob.Reader()
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w: %w", path, errCorrupt, err)
	}
	defer reader.Close() //nolint:errcheck // Nothing was written.
	content, err := io.ReadAll(reader)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w: %w", path, errCorrupt, err)
	}
	return content, nil
}

// draft is a new tree and the objects that it takes.
type draft struct {
	// objects holds what is new, and in the end the commit.
	objects *memory.Storage
	hashes  []plumbing.Hash
	root    plumbing.Hash
}

// write makes the tree in which one file has other content. A file that is not
// there yet is made, with the folders it needs.
func (s snapshot) write(path string, content []byte) (*draft, error) {
	d := &draft{objects: memory.NewStorage()}
	blob := d.objects.NewEncodedObject()
	blob.SetType(plumbing.BlobObject)
	writer, err := blob.Writer()
	if err != nil {
		return nil, err
	}
	if _, err := writer.Write(content); err != nil {
		return nil, err
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	hash, err := d.keep(blob)
	if err != nil {
		return nil, err
	}
	if d.root, err = s.graft(d, s.root, nil, strings.Split(path, "/"), hash); err != nil {
		return nil, err
	}
	changed, err := s.changed(d, s.root, d.root, "")
	if err != nil {
		return nil, err
	}
	if !slices.Equal(changed, []string{path}) {
		return nil, fmt.Errorf("the commit would change %q and not just %s", changed, path)
	}
	return d, nil
}

func (d *draft) keep(o plumbing.EncodedObject) (plumbing.Hash, error) {
	hash, err := d.objects.SetEncodedObject(o)
	if err == nil {
		d.hashes = append(d.hashes, hash)
	}
	return hash, err
}

// graft is the folder in which what lies at the path is another blob.
func (s snapshot) graft(d *draft, folder plumbing.Hash, above, path []string, blob plumbing.Hash) (plumbing.Hash, error) {
	tree := &object.Tree{}
	if !folder.IsZero() {
		found, err := object.GetTree(s.store, folder)
		if err != nil {
			return plumbing.ZeroHash, fmt.Errorf("reading a folder: %w: %w", errCorrupt, err)
		}
		tree.Entries = slices.Clone(found.Entries)
	}
	name, last := path[0], len(path) == 1
	at := slices.IndexFunc(tree.Entries, func(e object.TreeEntry) bool { return e.Name == name })
	var below plumbing.Hash
	if at >= 0 {
		here := slices.Concat(above, path[:1])
		if err := s.passable(strings.Join(here, "/"), tree.Entries[at].Mode, last); err != nil {
			return plumbing.ZeroHash, err
		}
		below = tree.Entries[at].Hash
	} else {
		mode := filemode.Dir
		if last {
			mode = filemode.Regular
		}
		tree.Entries = append(tree.Entries, object.TreeEntry{Name: name, Mode: mode})
		at = len(tree.Entries) - 1
	}
	tree.Entries[at].Hash = blob
	if !last {
		hash, err := s.graft(d, below, slices.Concat(above, path[:1]), path[1:], blob)
		if err != nil {
			return plumbing.ZeroHash, err
		}
		tree.Entries[at].Hash = hash
	}
	sort.Sort(object.TreeEntrySorter(tree.Entries))
	encoded := d.objects.NewEncodedObject()
	if err := tree.Encode(encoded); err != nil {
		return plumbing.ZeroHash, fmt.Errorf("making the new tree: %w", err)
	}
	return d.keep(encoded)
}

// changed are the paths in which two folders differ.
func (s snapshot) changed(d *draft, before, after plumbing.Hash, above string) ([]string, error) {
	was, err := s.entries(s.store, before)
	if err != nil {
		return nil, err
	}
	is, err := s.entries(d.objects, after)
	if err != nil {
		return nil, err
	}
	var paths []string
	for name, entry := range is {
		old, there := was[name]
		delete(was, name)
		switch {
		case there && old == entry:
		case entry.Mode == filemode.Dir && (!there || old.Mode == filemode.Dir):
			below, err := s.changed(d, old.Hash, entry.Hash, above+name+"/")
			if err != nil {
				return nil, err
			}
			paths = append(paths, below...)
		default:
			paths = append(paths, above+name)
		}
	}
	for name := range was {
		paths = append(paths, above+name)
	}
	slices.Sort(paths)
	return paths, nil
}

func (s snapshot) entries(store storer.EncodedObjectStorer, folder plumbing.Hash) (map[string]object.TreeEntry, error) {
	entries := map[string]object.TreeEntry{}
	if folder.IsZero() {
		return entries, nil
	}
	tree, err := object.GetTree(store, folder)
	if err != nil {
		return nil, fmt.Errorf("reading a folder: %w: %w", errCorrupt, err)
	}
	for _, entry := range tree.Entries {
		entries[entry.Name] = entry
	}
	return entries, nil
}

// commit seals the draft: the tree becomes a commit upon the tip.
func (d *draft) commit(tip plumbing.Hash, who object.Signature, message string, sign signer) (plumbing.Hash, error) {
	commit := &object.Commit{
		Author: who, Committer: who, Message: message, TreeHash: d.root, ParentHashes: []plumbing.Hash{tip},
	}
	if sign != nil {
		unsigned := d.objects.NewEncodedObject()
		if err := commit.EncodeWithoutSignature(unsigned); err != nil {
			return plumbing.ZeroHash, err
		}
		reader, err := unsigned.Reader()
		if err != nil {
			return plumbing.ZeroHash, err
		}
		if commit.PGPSignature, err = sign(reader); err != nil {
			return plumbing.ZeroHash, fmt.Errorf("signing the commit: %w", err)
		}
	}
	encoded := d.objects.NewEncodedObject()
	if err := commit.Encode(encoded); err != nil {
		return plumbing.ZeroHash, err
	}
	return d.keep(encoded)
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package gitops

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/storer"
)

// Errors of an exchange with a repository.
var (
	// errMoved says that the branch is not where the commit was built upon.
	errMoved = errors.New("somebody else has pushed meanwhile")
	// errUncertain says that nobody knows whether a push was done.
	errUncertain = errors.New("the answer to the push was lost")
	// errCorrupt says that the local copy lacks something.
	errCorrupt = errors.New("the local copy is not complete")
)

// remote is the repository that others push to as well.
type remote interface {
	// fetch brings the tip into a store that it returns, with as many commits
	// of the branch, if there are.
	fetch(ctx context.Context, depth int) (plumbing.Hash, storer.EncodedObjectStorer, error)
	// push moves the branch from the tip to the draft's commit. It answers
	// errMoved when the tip is another by now, and errUncertain when it may
	// have been done or not.
	push(ctx context.Context, tip, commit plumbing.Hash, d *draft) error
	// forget has the next fetch begin anew.
	forget()
	// close removes what is kept locally.
	close() error
}

// The services of a git server.
const (
	uploadPack  = "git-upload-pack"
	receivePack = "git-receive-pack"
)

// transport reaches a git server.
type transport interface {
	// open begins an exchange with a service. It and what comes of it end with
	// the context at the latest.
	open(ctx context.Context, service string) (conversation, error)
}

// conversation is one exchange in git's protocol, version 0: the server tells
// what it has, is asked once, and answers.
type conversation interface {
	// greeting is what the server says first.
	greeting() io.Reader
	// ask sends the one request.
	ask(request []byte) (io.Reader, error)
	// said is what the server told people, once it has ended the exchange.
	said() string
	close()
}

// server is a remote behind git's protocol.
type server struct {
	transport transport
	branch    plumbing.ReferenceName
	clone     *clone
}

func (s *server) close() error { return s.clone.close() }

func (s *server) forget() { s.clone.forget() }

// greeted reads where the branch is and what the server can do.
func (s *server) greeted(talk conversation) (plumbing.Hash, *capability.List, error) {
	said := packp.NewAdvRefs()
	err := said.Decode(talk.greeting())
	if errors.Is(err, packp.ErrEmptyAdvRefs) {
		return plumbing.ZeroHash, nil, s.absent()
	}
	if err != nil {
		return plumbing.ZeroHash, nil, fmt.Errorf("reading what the server has: %w%s", protocolError(err), talk.said())
	}
	if format := said.Capabilities.Get("object-format"); len(format) > 0 && format[0] != "sha1" {
		return plumbing.ZeroHash, nil, fmt.Errorf("the repository's hashes are %s: only sha1 is supported", format[0])
	}
	tip, ok := said.References[s.branch.String()]
	if !ok {
		return plumbing.ZeroHash, nil, s.absent()
	}
	return tip, said.Capabilities, nil
}

func (s *server) absent() error {
	return fmt.Errorf("the repository has no branch %s: push a first commit to it, or correct gitOps.branch", s.branch.Short())
}

// protocolError makes the words of a server that refuses readable.
func protocolError(err error) error {
	if line, ok := errors.AsType[*pktline.ErrorLine](err); ok {
		return fmt.Errorf("the server says: %s", oneLine(line.Text))
	}
	if errors.Is(err, packp.ErrEmptyInput) {
		return fmt.Errorf("the server closed the connection: is the repository there, and may this key or user read it? %w", io.ErrUnexpectedEOF)
	}
	return err
}

func (s *server) fetch(ctx context.Context, depth int) (plumbing.Hash, storer.EncodedObjectStorer, error) {
	talk, err := s.transport.open(ctx, uploadPack)
	if err != nil {
		return plumbing.ZeroHash, nil, err
	}
	defer talk.close()
	tip, can, err := s.greeted(talk)
	if err != nil {
		return plumbing.ZeroHash, nil, err
	}
	if err := s.clone.prepare(); err != nil {
		return plumbing.ZeroHash, nil, err
	}
	if s.clone.tip == tip && s.clone.depth >= depth {
		return tip, s.clone.store, nil
	}
	request, shallow, err := s.clone.request(tip, depth, can)
	if err != nil {
		return plumbing.ZeroHash, nil, err
	}
	answer, err := talk.ask(request)
	if err != nil {
		return plumbing.ZeroHash, nil, err
	}
	if err := s.clone.receive(answer, shallow, can); err != nil {
		s.clone.forget()
		return plumbing.ZeroHash, nil, fmt.Errorf("fetching: %w", protocolError(err))
	}
	s.clone.tip, s.clone.depth = tip, depth
	return tip, s.clone.store, nil
}

func (s *server) push(ctx context.Context, tip, commit plumbing.Hash, d *draft) error {
	talk, err := s.transport.open(ctx, receivePack)
	if err != nil {
		return err
	}
	defer talk.close()
	now, can, err := s.greeted(talk)
	switch {
	case err != nil:
		return err
	case now != tip:
		return errMoved
	case !can.Supports(capability.ReportStatus):
		return errors.New("the server does not report what becomes of a push, which is too old a protocol")
	}
	request, err := s.pushRequest(tip, commit, d, can)
	if err != nil {
		return err
	}
	answer, err := talk.ask(request)
	if _, told := errors.AsType[*statusError](err); told {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errUncertain, err)
	}
	return s.report(answer, can)
}

func (s *server) pushRequest(tip, commit plumbing.Hash, d *draft, can *capability.List) ([]byte, error) {
	var pack bytes.Buffer
	if _, err := packfile.NewEncoder(&pack, d.objects, false).Encode(d.hashes, 0); err != nil {
		return nil, fmt.Errorf("packing the commit: %w", err)
	}
	update := packp.NewReferenceUpdateRequestFromCapabilities(can)
	if can.Supports(capability.Sideband64k) {
		_ = update.Capabilities.Set(capability.Sideband64k)
	}
	update.Commands = []*packp.Command{{Name: s.branch, Old: tip, New: commit}}
	update.Packfile = io.NopCloser(&pack)
	var request bytes.Buffer
	err := update.Encode(&request)
	return request.Bytes(), err
}

// report reads what became of a push.
func (s *server) report(answer io.Reader, can *capability.List) error {
	var said progress
	if can.Supports(capability.Sideband64k) {
		demuxer := sideband.NewDemuxer(sideband.Sideband64k, answer)
		demuxer.Progress = &said
		answer = demuxer
	}
	status := packp.NewReportStatus()
	if err := status.Decode(answer); err != nil {
		return fmt.Errorf("%w: %w", errUncertain, protocolError(err))
	}
	if status.UnpackStatus != "ok" {
		return fmt.Errorf("the server could not take the commit: %s%s", oneLine(status.UnpackStatus), said.words())
	}
	for _, command := range status.CommandStatuses {
		if command.Status == "ok" {
			continue
		}
		return pushRefused(command.Status, said.words())
	}
	if len(status.CommandStatuses) == 0 {
		return fmt.Errorf("%w: it names no branch", errUncertain)
	}
	return nil
}

// pushRefused tells a branch that has moved, which git reports in many words,
// from a refusal that stays.
func pushRefused(status, said string) error {
	lower := strings.ToLower(status)
	for _, words := range []string{"failed to update ref", "failed to lock", "cannot lock ref", "non-fast-forward", "fetch first", "stale info", "reference already exists", "incorrect old value", "failed to update"} {
		if strings.Contains(lower, words) {
			return fmt.Errorf("%w: %s", errMoved, oneLine(status))
		}
	}
	if strings.Contains(lower, "branch is currently checked out") {
		return errors.New("the branch is checked out in the repository, so git refuses pushes to it: push to a bare repository")
	}
	return fmt.Errorf("the server refuses the push: %s%s", oneLine(status), said)
}

// progress keeps the end of what a server tells people meanwhile, such as the
// words of a hook that rejects.
type progress struct{ text []byte }

// maxProgress is how much of it is kept, in bytes.
const maxProgress = 2048

func (p *progress) Write(text []byte) (int, error) {
	p.text = append(p.text, text...)
	if over := len(p.text) - maxProgress; over > 0 {
		p.text = slices.Delete(p.text, 0, over)
	}
	return len(text), nil
}

func (p *progress) words() string {
	text := oneLine(strings.ToValidUTF8(string(p.text), ""))
	if text == "" {
		return ""
	}
	return " (" + text + ")"
}

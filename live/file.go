// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package live

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/autoscaler"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// Run meets the changes of the file until the context ends; it returns nil. A
// file that cannot be used changes nothing, and is told of once. One that can
// takes the place of what was changed with Put.
//
// The file is read again and again: a ConfigMap's changes with the folder it is
// linked to, an editor's may be moved into place, and a network's file system
// tells of neither.
func (s *Settings) Run(ctx context.Context) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
			s.look(ctx)
			s.expire(ctx)
		}
	}
}

// look reads the file, and meets it if it is not as it was.
func (s *Settings) look(ctx context.Context) {
	content, err := config.Read(s.options.Path)
	if err != nil {
		s.cannotRead(err)
		return
	}
	if s.unreadable {
		s.unreadable = false
		s.fileIs(s.refusal)
	}
	// One that is being written is met once it stays the same.
	settled := bytes.Equal(content, s.found)
	s.found = content
	if settled && !bytes.Equal(content, s.seen) && s.meet(ctx, content) {
		s.seen = content
	}
}

// expire takes back what was changed in a term that is over: this process does
// not know what came after it.
func (s *Settings) expire(ctx context.Context) {
	if len(s.Notes().Live) == 0 || s.options.Term() == s.term.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	_, err := s.Reset(ctx, autoscaler.Caller{Name: "another replica led meanwhile"}, nil)
	if err != nil {
		s.options.Log.Warn("What was changed while running could not be taken back, and is tried again", "error", err)
	}
}

// cannotRead tells why, once. The file may be on its way: what was read before
// stays in force.
func (s *Settings) cannotRead(err error) {
	if !s.unreadable {
		s.options.Log.Warn("The configuration file cannot be read: what was read before stays in force", "error", err)
	}
	s.unreadable = true
	s.fileIs(err)
}

// fileIs notes why the file is not in force, if it is not.
func (s *Settings) fileIs(err error) {
	s.note(func(n *Notes) {
		n.FileError = ""
		if err != nil {
			n.FileError = err.Error()
		}
	})
}

// meet puts a changed file in force. It says whether that is settled, for good
// or bad: otherwise it is to be tried again.
func (s *Settings) meet(ctx context.Context, content []byte) (settled bool) {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	if err := s.take(ctx); err != nil {
		return false
	}
	defer s.give()
	taken := slices.Sorted(maps.Keys(s.loaded.Layers.Live))
	changed, err := s.apply(ctx, config.Layers{File: content, LookupEnv: s.loaded.Layers.LookupEnv})
	switch {
	case errors.Is(err, ErrRefused):
		s.options.Log.Error("The configuration file has changed, but is not valid: what was read before stays in force", "error", err)
		s.refusal = err
		s.fileIs(err)
		return true
	case err != nil:
		s.options.Log.Warn("The configuration file has changed; trying again to put it in force", "error", err)
		return false
	}
	s.refusal = nil
	s.fileIs(nil)
	for _, warning := range s.loaded.Warnings {
		s.options.Log.Warn("The configuration may not do what it is meant to", "warning", warning)
	}
	s.options.Log.Info("The configuration file has changed", "inForce", strings.Join(slices.Sorted(maps.Keys(changed)), " "))
	s.audit(autoscaler.Caller{Name: "file"}, changed)
	if len(taken) > 0 {
		s.options.Log.Warn("What was changed while running is taken back, since the configuration file has changed", "keys", strings.Join(taken, " "))
	}
	if len(s.needsRestart) > 0 {
		s.options.Log.Warn("Some changes of the configuration file need a restart", "keys", strings.Join(s.needsRestart, " "))
	}
	return true
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale/gitops"
)

// Git is the repository that counts are committed to.
type Git interface {
	Status() gitops.Status
	// Limit is the largest file that Update takes, in bytes; 0 if it takes none.
	Limit() int64
	Update(ctx context.Context, f gitops.File) (gitops.Outcome, error)
}

// updating asks for a file to be committed.
type updating struct {
	FilePath      *string `json:"file_path"`
	NewContent    *string `json:"new_content"`
	CommitMessage *string `json:"commit_message"`
}

// file is what is to be committed. Whatever is left out is missing: nobody
// empties a file by a field they forgot.
func (u updating) file(by string) (gitops.File, error) {
	switch {
	case u.FilePath == nil:
		return gitops.File{}, errors.New("file_path: is required: the file, within the repository")
	case u.NewContent == nil:
		return gitops.File{}, errors.New("new_content: is required: all that the file is to hold")
	case u.CommitMessage == nil:
		return gitops.File{}, errors.New("commit_message: is required")
	}
	return gitops.File{Path: *u.FilePath, Content: *u.NewContent, Message: *u.CommitMessage, By: by}, nil
}

// updated is what became of it.
type updated struct {
	Status    string `json:"status"`
	CommitOID string `json:"commit_oid"`
}

// updateGit commits a file. A caller who leaves does not end that.
func (h *handler) updateGit(w http.ResponseWriter, r *http.Request) {
	if h.Git == nil || h.Git.Limit() == 0 {
		h.fail(w, http.StatusNotFound, gitops.ErrNotEnabled.Error())
		return
	}
	// Within JSON a byte of a file takes six at most.
	body, ok := h.read(w, r, 6*h.Git.Limit()+maxBodyBytes)
	if !ok {
		return
	}
	var asked updating
	err := decode(body, &asked)
	file, missing := asked.file(callerOf(r).Name)
	if err := cmp.Or(err, missing); err != nil {
		h.fail(w, http.StatusBadRequest, err.Error())
		return
	}
	outcome, err := h.Git.Update(context.WithoutCancel(r.Context()), file)
	switch {
	case errors.Is(err, gitops.ErrRefused):
		h.fail(w, http.StatusBadRequest, err.Error())
	case err != nil:
		// It may have been pushed all the same.
		callerOf(r).Audit(h.Log, "git", nil, map[string]string{"file": file.Path, "error": err.Error()})
		h.fail(w, http.StatusBadGateway, err.Error())
	case !outcome.Changed:
		h.write(w, http.StatusOK, updated{Status: "unchanged", CommitOID: outcome.OID})
	default:
		callerOf(r).Audit(h.Log, "git", nil, map[string]string{"file": file.Path, "commit": outcome.OID})
		h.write(w, http.StatusOK, updated{Status: "success", CommitOID: outcome.OID})
	}
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
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
	Update(ctx context.Context, path, content, message string) (gitops.Outcome, error)
}

// updating asks for a file to be committed.
type updating struct {
	FilePath      string `json:"file_path"`
	NewContent    string `json:"new_content"`
	CommitMessage string `json:"commit_message"`
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
	// Within JSON most bytes of a text file take one or two.
	body, ok := h.read(w, r, 2*h.Git.Limit()+maxBodyBytes)
	if !ok {
		return
	}
	var asked updating
	if err := decode(body, &asked); err != nil {
		h.fail(w, http.StatusBadRequest, err.Error())
		return
	}
	outcome, err := h.Git.Update(context.WithoutCancel(r.Context()), asked.FilePath, asked.NewContent, asked.CommitMessage)
	switch {
	case errors.Is(err, gitops.ErrRefused):
		h.fail(w, http.StatusBadRequest, err.Error())
	case err != nil:
		h.fail(w, http.StatusBadGateway, err.Error())
	case !outcome.Changed:
		h.write(w, http.StatusOK, updated{Status: "unchanged", CommitOID: outcome.OID})
	default:
		callerOf(r).Audit(h.log, "git "+asked.FilePath, nil, map[string]string{"commit": outcome.OID})
		h.write(w, http.StatusOK, updated{Status: "success", CommitOID: outcome.OID})
	}
}

// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	_ "embed" // for the document
	"net/http"
)

//go:generate go test -run=^TestReferenceIsCurrent$ . -update

// OpenAPI describes every request of the API, in YAML. It is served as
// /openapi.yaml; nobody may change it.
//
//go:embed openapi.yaml
var OpenAPI []byte

func (h *handler) openapi(w http.ResponseWriter, _ *http.Request) {
	h.send(w, http.StatusOK, "application/yaml", OpenAPI)
}

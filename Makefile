# Everything is built by Go from the module proxy; `make help` lists the targets.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
ENGINE ?= docker
PLATFORMS ?= linux/amd64,linux/arm64
REGISTRY ?= custom-pod-autoscaler
TAG ?= $(VERSION)
VARIANTS ?=
BASE ?=
BASE_REGISTRY ?=
PUSH ?=
DIST ?= dist
FUZZTIME ?= 20s
comma := ,

GO_BUILD = CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)'
TOOL := go tool -modfile=go.tool.mod
OPENAPI_LINT := REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true npx --yes @redocly/cli@2.77.0
TEST := $(TOOL) gotestsum --format pkgname --raw-command --ignore-non-json-output-lines -- .ci/test

# A KUBECONFIG that merely stands in the environment may be that of a cluster
# people work on, so the demo only goes there when the command line says so.
ifeq ($(origin KUBECONFIG),command line)
DEMO_FLAGS := --kubeconfig '$(KUBECONFIG)'
endif

.PHONY: help
help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/custom-pod-autoscaler for this machine.
	$(GO_BUILD) -o bin/custom-pod-autoscaler ./cmd/custom-pod-autoscaler

.PHONY: lint
lint: ## Check code, format, scripts, YAML, openapi.yaml, and that every go.mod is tidy.
	@.ci/install shellcheck yamllint npx
	$(TOOL) golangci-lint run
	$(TOOL) golangci-lint fmt --diff
	shellcheck $$(git grep -lE '^#!/(usr/)?bin/(env )?(ba|da)?sh' -- ':!*.go' ':!*.md' ':!*.tx*')
	yamllint --strict .
	$(OPENAPI_LINT) lint --config api/redocly.yaml api/openapi.yaml
	go mod tidy -diff
	for module in $$(git ls-files '*/go.mod'); do \
		(cd $$(dirname $$module) && go vet ./... && go mod tidy -diff) || exit; \
	done

.PHONY: fmt
fmt: ## Format the Go code.
	$(TOOL) golangci-lint fmt

.PHONY: requirements
requirements:
	@.ci/install chromium curl git gcc debootstrap buildah gpg javac jq node perl promtool python3 ssh-keygen sshd

.PHONY: test
test: requirements control-plane ## Run every test, with the race detector; installs and builds what they need.
	$(TEST) unit acceptance -- -race

.PHONY: test-unit
test-unit: ## Run the tests beside the code.
	@.ci/install git gpg ssh-keygen sshd
	@.ci/install chromium curl git gpg promtool ssh-keygen sshd
	$(TEST) unit --

.PHONY: test-race
test-race: ## Run the tests beside the code with the race detector.
	@.ci/install gcc git gpg ssh-keygen sshd
	@.ci/install gcc chromium curl git gpg promtool ssh-keygen sshd
	$(TEST) unit -- -race

.PHONY: test-acceptance
test-acceptance: requirements control-plane ## Run the tests of test/ and example/ against real control planes.
	$(TEST) acceptance -- -race

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (20s).
	go list ./... | while read -r package; do \
		go test -list '^Fuzz' $$package | grep '^Fuzz' | while read -r target; do \
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$package || exit; \
		done || exit; \
	done

.PHONY: generate
generate: ## Regenerate what is made from the code: the configuration reference, the table of requests.
generate: ## Regenerate what is made from the code: the configuration reference, the table of metrics.
	go generate ./...

.PHONY: docs
docs: generate ## Bring docs/ up to date with the code.

.PHONY: bench
bench: control-plane ## Measure what a run costs: time, CPU, requests, bytes, memory; starts, the status, decisions, size.
	go run ./test/cmd/bench

.PHONY: demo
demo: ## Watch an autoscaler at work for two minutes; KUBECONFIG=FILE on your own cluster.
	go run ./test/cmd/demo $(DEMO_FLAGS)

.PHONY: binaries
binaries: ## Build DIST/OS/ARCHITECTURE/custom-pod-autoscaler for PLATFORMS.
	for platform in $(subst $(comma), ,$(PLATFORMS)); do \
		GOOS=$${platform%/*} GOARCH=$${platform#*/} $(GO_BUILD) -o '$(DIST)'/$$platform/custom-pod-autoscaler ./cmd/custom-pod-autoscaler || exit; \
	done

.PHONY: images
images: binaries ## Build the images; images/build says with what variables.
	@ENGINE='$(ENGINE)' PLATFORMS='$(PLATFORMS)' REGISTRY='$(REGISTRY)' TAG='$(TAG)' VERSION='$(VERSION)' \
		BASE='$(BASE)' BASE_REGISTRY='$(BASE_REGISTRY)' PUSH='$(PUSH)' DIST='$(abspath $(DIST))' images/build $(VARIANTS)

.PHONY: control-plane
control-plane: ## Build the local control plane into .cache, once.
	go run ./test/cmd/cluster build

.PHONY: cluster-up
cluster-up: ## Start a local control plane and say how to reach it.
	go run ./test/cmd/cluster up

.PHONY: cluster-down
cluster-down: ## Stop it.
	go run ./test/cmd/cluster down

.PHONY: clean
clean: ## Remove what was built: bin, dist, and the control plane in .cache.
	rm -rf bin dist .cache

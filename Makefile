# Sluice: every target that a person calls has a '##' line; `make help` lists them.
SHELL      := /bin/bash
GO         ?= go
# Namespaces, XDP and AF_XDP need root: compile as the user, run as root.
ROOT       := $(if $(filter 0,$(shell id -u)),,sudo -E env "PATH=$(PATH)")
EXEC       := $(if $(ROOT),-exec 'sudo -E',)
VERSION    ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS    := -X main.version=$(VERSION)
# A CPU profile to build with (docs/performance.md): an eighth less per packet, a build of minutes.
PGO        ?= off
FUZZTIME   ?= 3s
SOAKTIME   ?= 10m
WIDE       ?= 1000
SETUP      := internal/testenv/setup.sh
# Kubernetes for the test beds, built once into the user's cache folder; root's would be another.
KUBEBOX    := tools/kubebox/build.sh
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
# Tested under the race detector only: its tests wait for real routers for minutes, and once is enough.
ONLY_RACE  := /internal/gateway$$
# Tested with real API servers, last: kubebox is built beside the other tests where it is not there yet.
WITH_KUBE  := /(deploy|internal/kubetest|k8s/.*)$$
# Packages whose memory is shared between threads or with the kernel.
RACE       := ./afxdp/... ./relay/... ./internal/fib/... ./internal/neigh/... ./internal/packet/... ./internal/gateway/... ./controlplane/...

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-10s %s\n", $$1, $$2}'

.PHONY: build
build: ## build bin/sluice, a static binary
	CGO_ENABLED=0 $(GO) build -trimpath -pgo='$(PGO)' -ldflags '$(LDFLAGS)' -o bin/sluice ./cmd/sluice

.PHONY: agent
agent: ## build bin/sluice-agent, the part that runs in Kubernetes clusters
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/sluice-agent ./cmd/sluice-agent

.PHONY: demo
demo: ## two sites in network namespaces, traffic crossing, a table of checks
	@$(SETUP) demo
	@$(MAKE) --no-print-directory build
	$(ROOT) bin/sluice demo $(DEMO)

# One package at a time (-p 1): some flood links, and others wait for answers.
.PHONY: test
test: ## install what the tests need (Kubernetes is built once, beside other tests), then run all of them
	@$(SETUP) test
	export SLUICE_REQUIRE_ROOT=1; nice -n 19 $(KUBEBOX) >/dev/null & \
	$(GO) test -p 1 -timeout 40m $(EXEC) $$($(GO) list ./... | grep -Ev '$(ONLY_RACE)|$(WITH_KUBE)') && \
	$(GO) test -p 1 -race -timeout 40m $(EXEC) $(RACE) && \
	box=$$($(KUBEBOX)) && SLUICE_KUBEBOX=$$box $(GO) test -p 1 -timeout 40m $(EXEC) $$($(GO) list ./... | grep -E '$(WITH_KUBE)'); \
	code=$$?; wait; exit $$code
	@$(MAKE) --no-print-directory fuzz

.PHONY: kubebox
kubebox: ## build the Kubernetes of the test beds, unless it is there
	@$(KUBEBOX)

.PHONY: unit
unit: ## the tests that need neither privilege nor packages
	$(GO) test ./...

# Go sometimes takes the end of FUZZTIME for a failure of the target; without a failing input it is none.
.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (default 3s) each
	@set -euo pipefail; \
	grep -rlE '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u | while read -r dir; do \
	  for target in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]+' $$dir/*_test.go | sed 's/func //'); do \
	    for try in 1 2 3; do \
	      echo "fuzz $$dir $$target"; \
	      if said=$$(SLUICE_REQUIRE_ROOT=1 $(GO) test $(EXEC) $$dir -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x </dev/null 2>&1); \
	      then echo "$$said"; break; fi; \
	      echo "$$said"; \
	      if [ $$try = 3 ] || grep -q 'Failing input' <<<"$$said" || ! grep -q 'context deadline exceeded' <<<"$$said"; then exit 1; fi; \
	    done; \
	  done; \
	done

.PHONY: soak
soak: ## the demo's traffic for SOAKTIME (default 10m), then frames, memory and descriptors are counted
	@$(SETUP) demo test
	SLUICE_REQUIRE_ROOT=1 SLUICE_SOAK=$(SOAKTIME) $(GO) test -timeout 24h -count=1 -v -run '^TestSoak' $(EXEC) ./internal/...

.PHONY: wide
wide: ## a parent with WIDE (default 1000) children, 200 Missions in 8 sites, 20 flaps: what they cost
	box=$$($(KUBEBOX)) && export SLUICE_KUBEBOX=$$box && \
	SLUICE_WIDE=$(WIDE) $(GO) test -timeout 1h -count=1 -v -run '^Test(Many|Flaps)' ./k8s/agent

.PHONY: bench
bench: ## measure Sluice and its peers side by side (an idle machine, 25 minutes; BENCH=--quick: two minutes)
	@$(SETUP) bench
	@$(GO) build -o bin/sluicebench ./bench/cmd/sluicebench
	$(ROOT) bin/sluicebench run $(BENCH)

.PHONY: bench-once
bench-once: ## every benchmark for a moment, to see that it still runs
	@$(SETUP) bench
	$(GO) test $(EXEC) -p 1 -run '^$$' -bench . -benchtime 1x ./...

.PHONY: gate
gate: ## fail when packets cost more than they did, as a ratio to a reference loop
	$(GO) run ./bench/cmd/sluicebench gate

.PHONY: lint
lint: ## gofmt, vet, staticcheck, shellcheck, go.mod tidy
	@$(SETUP) lint
	@test -z "$$(gofmt -l . | tee /dev/stderr)" || { echo "gofmt: the files above need formatting"; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	shellcheck $$(git ls-files '*.sh' .ci/run)
	$(GO) mod tidy -diff

.PHONY: generate
generate: ## regenerate eBPF objects, API code, configuration schema and reference
	@$(SETUP) generate
	$(GO) generate ./...

.PHONY: libpcap
libpcap: ## rebuild the filter compiler (Debian 12, its source packages; LIBPCAP=file: the tarball)
	@$(SETUP) libpcap
	internal/pcapfilter/wasm/build.sh $(LIBPCAP)

.PHONY: clean
clean: ## remove what the build made
	rm -rf bin bench/out

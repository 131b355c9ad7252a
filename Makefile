# `make` alone lists what there is to do. `make run` needs Go, make and git; what else a target needs, it says or installs itself.

# The same flags for every go command: the Graph SDK takes minutes to compile, and other flags would compile it once more.
export CGO_ENABLED := 0
export GOFLAGS := -trimpath -buildvcs=false $(filter-out -trimpath -buildvcs=false,$(GOFLAGS))

SHELL := /bin/bash
# What a build is called and when it is from: by the commit alone, so that every clone says the same (git would abbreviate longer in a larger one).
VERSION := $(shell git describe --tags --always --abbrev=12 --dirty 2>/dev/null || echo unknown)
COMMITTED := $(shell git log -1 --format=%ct 2>/dev/null || echo 0)

# What is built for: Azure's Flex Consumption plan, which is x64 only, unless said otherwise (make build GOOS=darwin GOARCH=arm64).
GOOS := linux
GOARCH := amd64
# What this machine is: tests and local runs start the built handler.
HERE = GOOS=$(shell go env GOHOSTOS) GOARCH=$(shell go env GOHOSTARCH)
# The handler's bytes come from the commit and the version of Go, and from nothing that somebody has set.
PLAIN = GOFLAGS='-trimpath -buildvcs=false' GOWORK=off GOEXPERIMENT= GOAMD64=v1 GOARM64=v8.0

ARGS ?=
PKGS ?= ./...
TESTFLAGS ?=
BENCH ?= .
PARAMETERS ?= infra/main.bicepparam
PACKAGE ?=
APP_NAME ?=

APP := infra/servicenow
APP_ZIP := $(APP)/target/ticketbridge_servicenow_1_0_0.zip
APP_NPM := $(APP)/node_modules/.package-lock.json

GOLANGCI_VERSION := v2.15.0
GOLANGCI := .tools/golangci-lint-$(GOLANGCI_VERSION)/golangci-lint
ACTIONLINT_VERSION := v1.7.12
ACTIONLINT := .tools/actionlint-$(ACTIONLINT_VERSION)/actionlint

DEPLOY = RESOURCE_GROUP='$(RESOURCE_GROUP)' PARAMETERS='$(PARAMETERS)' PACKAGE='$(PACKAGE)' APP_NAME='$(APP_NAME)' infra/deploy

.DEFAULT_GOAL := help
.PHONY: help run test bench build package deploy start azurite lint fmt infra servicenow-app clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## the whole path on stand-ins in one process, to watch and to play with (ARGS=-once: play and exit)
	@go run ./handler/demo $(ARGS)

test: ## everything, with Azurite and the built handler (PKGS=./handler/storage/... TESTFLAGS='-run Name -v' for a part)
	@.ci/chromium
	@$(MAKE) --no-print-directory servicenow-app
	@$(MAKE) --no-print-directory build $(HERE)
	@HANDLER_DIST=$(CURDIR)/dist .ci/with-azurite .ci/test -timeout=30m $(TESTFLAGS) $(PKGS)

bench: ## the benchmarks, in process and on Azurite (BENCH=Name, PKGS=… for a part)
	@$(MAKE) --no-print-directory build $(HERE)
	@HANDLER_DIST=$(CURDIR)/dist .ci/with-azurite go test -run='^$$' -bench='$(BENCH)' -benchmem $(PKGS)

build: ## dist/: the app's folder as the Functions host reads it (GOOS, GOARCH: what for; default linux/amd64)
	@rm -rf dist && mkdir dist && cp host.json dist/
	@set -e; for file in functions/*/function.json; do to=dist/$${file#functions/}; mkdir "$${to%/*}"; cp "$$file" "$$to"; done
	@if [ -e tickets.yaml ]; then cp tickets.yaml dist/; fi
	$(PLAIN) GOOS=$(GOOS) GOARCH=$(GOARCH) go build -ldflags='-s -w -X main.version=$(VERSION)' -o dist/handler ./handler
	@chmod 0755 dist/handler

package: ## dist.zip with its SBOM (dist.spdx.json), the same bytes for the same commit (GOARCH=arm64: for a host elsewhere; Flex Consumption is x64 only)
	@$(MAKE) --no-print-directory build GOOS=linux
	@$(PLAIN) GOOS= GOARCH= go run ./infra/package -version='$(VERSION)' -time='$(COMMITTED)' dist dist.zip

deploy: ## Azure resources by infra/main.bicep, then the app (RESOURCE_GROUP=…; PARAMETERS=…; PACKAGE=FILE.zip: that package; APP_NAME=…: the app alone)
	@$(DEPLOY) check
	@if [ -n '$(PACKAGE)' ]; then GOOS= GOARCH= go run ./infra/package -check '$(PACKAGE)'; else $(MAKE) --no-print-directory package GOARCH=amd64; fi
	@$(DEPLOY)

start: ## the app under Core Tools, with Azurite and the stand-ins of Entra and ServiceNow
	@.ci/start check
	@$(MAKE) --no-print-directory build $(HERE)
	@.ci/with-azurite --develop .ci/start

azurite: ## Azurite alone, on its usual ports, data in .azurite/, until Ctrl-C
	@.ci/with-azurite --develop

lint: $(GOLANGCI) $(ACTIONLINT) ## go vet, golangci-lint with gofumpt, actionlint, shellcheck where it is installed
	go vet ./...
	$(GOLANGCI) run --allow-parallel-runners
	$(ACTIONLINT)
	@if command -v shellcheck >/dev/null; then shellcheck .ci/chromium .ci/run .ci/start .ci/test .ci/with-azurite infra/compile infra/deploy; \
	else echo 'shellcheck: not installed, left out'; fi

fmt: $(GOLANGCI) ## format the Go files
	$(GOLANGCI) fmt

$(GOLANGCI):
	@echo 'golangci-lint $(GOLANGCI_VERSION): building it (some minutes, once)'
	@GOFLAGS=-trimpath GOBIN=$(CURDIR)/$(@D) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

$(ACTIONLINT):
	@echo 'actionlint $(ACTIONLINT_VERSION): building it'
	@GOFLAGS=-trimpath GOBIN=$(CURDIR)/$(@D) go install github.com/rhysd/actionlint/cmd/actionlint@$(ACTIONLINT_VERSION)

infra: ## compile infra/main.bicep to infra/main.json, and the snapshots; any diagnostic and any odd layout is a failure
	@infra/compile

servicenow-app: $(APP_ZIP) ## the companion app for ServiceNow, for installation (installs ServiceNow's SDK by npm, once)
	@echo '$(APP_ZIP)'

# The SDK needs no network once it is installed. A record that keys.ts does not know is a failure: it would get another sys_id on every machine.
$(APP_ZIP): $(APP_NPM) $(APP)/package.json $(APP)/now.config.json $(shell find $(APP)/src -type f)
	@echo 'servicenow-app: building it'
	@rm -rf $(APP)/dist $(APP)/target
	@cd $(APP) && node_modules/.bin/now-sdk build --frozenKeys && node_modules/.bin/now-sdk pack
	@test -f $@ && touch $@

$(APP_NPM): $(APP)/package-lock.json
	@for tool in node npm; do command -v $$tool >/dev/null || { echo "servicenow-app: $$tool is missing; it needs Node.js 20 or newer with npm" >&2; exit 1; }; done
	@if ! cmp -s $< $(@D)/.installed; then \
		echo 'servicenow-app: installing the SDK of ServiceNow (a minute or more, once)'; \
		(cd $(APP) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) && cp $< $(@D)/.installed; fi
	@touch $@

clean: ## remove what was built, installed and kept here
	rm -rf dist dist.zip dist.spdx.json node_modules .tools .azurite $(APP)/node_modules $(APP)/dist $(APP)/target

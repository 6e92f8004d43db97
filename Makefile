# Stillpoint. "make help" tells what there is.

export GOFLAGS = -buildvcs=false
SHELL = /bin/bash
.SHELLFLAGS = -euo pipefail -c

BIN = build/bin
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

.PHONY: help setup build images demo test unit e2e lint clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what the lab needs (Debian packages, QEMU 10.0.13, guest images)
	@go run ./e2e/setup
	@go run ./images/build

build: ## build the programs into build/bin
	@mkdir -p $(BIN)
	@go build -ldflags "-X main.version=$(VERSION)" -o $(BIN)/hostd ./hostd
	@go build -tags faults -ldflags "-X main.version=$(VERSION)-faults" -o $(BIN)/hostd-faults ./hostd
	@go build -o $(BIN)/demo ./e2e/demo

images: setup ## build the guest kernel and images

demo: setup build ## show the main job; report in build/demo
	@$(BIN)/demo

test: lint setup build ## run every test
	@go run ./e2e/summary -- -race -timeout 30m ./...

lint: ## check formatting and vet
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	@go vet ./...

clean: ## remove what was built, not what was fetched
	@rm -rf build/bin build/demo build/images

# Stillpoint. "make help" tells what there is.

export GOFLAGS = -buildvcs=false
# The race detector lets every process sleep for a second at its end, for reports of
# goroutines that are not waited for: the tests start hundreds.
export GORACE ?= atexit_sleep_ms=0
SHELL = /bin/bash
.SHELLFLAGS = -euo pipefail -c

BIN = build/bin
# One number, v0.1.0, is the version of everything: of the daemon by the linker, of the
# library as a Go module. e2e/release compares it with guestagent.Version.
VERSION ?= $(shell git describe --tags --always --dirty --match 'v*' 2>/dev/null || echo unknown)
# How long fuzz-short spends on each target.
FUZZTIME ?= 5s
KEEP ?= 24
# How long soak goes on, and its first seed; 0 is one at random.
DURATION ?= 1h
SEED ?= 0
# How often sim runs, and from which seed on; 0 is the first.
RUNS ?= 10000
# How often and for how long micro runs each benchmark, and what it compares with.
COUNT ?= 6
BENCHTIME ?= 100ms
BASE ?= $(shell git describe --tags --abbrev=0 --match 'v*' 2>/dev/null)
MICRO = build/micro

# The modules within the tree: a pattern as ./proto/... ends where one begins.
MODULES = guestagent guestagent/googlegopacketsource guestagent/gopacketsource proto/agent
# Packages that measure time or boot guests run one by one, after the others.
UNIT = $(MODULES:%=./%/...) ./hostd/... ./proto/... ./qmp/...
E2E = ./images/... ./e2e/...
SOURCES = e2e guestagent hostd images proto qmp
# The time-outs are for what hangs; a slow machine takes longer.
UNIT_FLAGS = -race -timeout 30m
E2E_FLAGS = -race -timeout 55m -p 1 -count 1
# QUOTA=50% runs tests with that part of the machine's processors.
QUOTA ?=
SUMMARY = go run ./e2e/summary
ifneq ($(QUOTA),)
SUMMARY = go run ./e2e/quota $(QUOTA) go run ./e2e/summary
endif
# The whole daemons' simulation takes its 10,000 runs without the race detector, and
# some with it among the others.
SIM = -run Simulation -count 1 -timeout 30m ./hostd/sim
# Allocations are counted without the race detector, under which pools forget.
EXACT = -run Allocate -count 1 $(UNIT) ./images/nat

# What is shipped is static and has no paths, no symbols and no time in it: the same tree
# and Go make the same bytes anywhere. Only the race detector, in tests, needs cgo (gcc).
STATIC = CGO_ENABLED=0 go build -trimpath
FLAGS = -s -w -X main.version=

.PHONY: help setup build reproducible images demo test unit e2e machines sim soak bench scale micro mutants fuzz fuzz-short lint clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what the lab needs (Debian packages, QEMU 10.0 and 11.1, guest images)
	@go run ./e2e/setup
	@go run ./images/build

build: ## build the programs into build/bin
	@mkdir -p $(BIN)
	@$(STATIC) -ldflags "$(FLAGS)$(VERSION)" -o $(BIN)/hostd ./hostd
	@$(STATIC) -tags faults -ldflags "$(FLAGS)$(VERSION)-faults" -o $(BIN)/hostd-faults ./hostd
	@$(STATIC) -o $(BIN)/demo ./e2e/demo

# The copy has another path and an empty cache, so nothing of the first build is in it.
reproducible: ## build hostd twice, in two directories: static, and the same bytes
	@copy=$$(mktemp -d); trap 'rm -rf "$$copy"' EXIT; \
	git ls-files -z | tar --null -T - -c | tar -x -C "$$copy"; \
	$(STATIC) -ldflags "$(FLAGS)$(VERSION)" -o "$$copy/here" ./hostd; \
	(cd "$$copy" && GOCACHE="$$copy/.cache" $(STATIC) -ldflags "$(FLAGS)$(VERSION)" -o there ./hostd); \
	cmp "$$copy/here" "$$copy/there"; \
	if readelf -lW "$$copy/here" | grep INTERP; then echo "hostd is not static"; exit 1; fi; \
	echo "hostd $(VERSION): the same $$(stat -c %s "$$copy/here") bytes twice, $$(sha256sum <"$$copy/here" | cut -c1-64)"

images: setup ## build the guest kernel and images

demo: setup build ## show the main job; report in build/demo
	@$(BIN)/demo

test: lint setup build ## run every test; QUOTA=50% shows what a slower machine makes of it
	@$(SUMMARY) -- $(UNIT_FLAGS) $(UNIT) -- $(EXACT) -- $(SIM) -- $(E2E_FLAGS) $(E2E)

unit: ## run the tests that need no set-up
	@$(SUMMARY) -- $(UNIT_FLAGS) $(UNIT) -- $(EXACT) -- $(SIM)

e2e: setup build ## run the tests against real guests
	@$(SUMMARY) -- $(E2E_FLAGS) $(E2E)

machines: setup build ## protect machines of many shapes: all pairs of processors, cards, memory, disks, devices, QEMUs
	@go run ./e2e/machines

sim: ## run whole daemons RUNS (10000) times against operators and faults, from SEED (1) on
	@mkdir -p build
	@go test -c -o build/sim.test ./hostd/sim
	@build/sim.test -test.run Simulation -test.timeout 0 -sim.runs $(RUNS) -sim.seed $(if $(filter 0,$(SEED)),1,$(SEED))

soak: setup build ## let the nemesis break the pair for DURATION (1h), from SEED if given; report in build/soak
	@go run ./e2e/soak -duration $(DURATION) -seed $(SEED)

bench: setup build ## measure pauses against the floor and QEMU's own COLO; results in build/bench
	@go run ./e2e/bench

scale: build ## measure many machines with false QEMUs; report in build/scale
	@go build -o $(BIN)/falseqemu ./e2e/falseqemu/cmd/falseqemu
	@go run ./e2e/scale

fuzz-short: ## run each fuzz target for FUZZTIME (5s)
	@go run ./e2e/fuzz -time $(FUZZTIME) $(SOURCES)

fuzz: ## the same, and let the corpora in testdata grow to KEEP (24) inputs each
	@go run ./e2e/fuzz -time $(FUZZTIME) -keep $(KEEP) $(SOURCES)

mutants: build ## break the code in each place that the invariants rest on; every break must be noticed
	@go run ./e2e/mutants

# Runs the benchmarks of the tree $(1) once and adds the result to the file $(2).
bench = (cd $(1) && grep -rl --include='*_test.go' '^func Benchmark' guestagent hostd images/nat proto qmp | \
	sed 's|^|./|; s|/[^/]*$$||' | sort -u | xargs go test -run '^$$' -bench . -benchtime $(BENCHTIME)) >>$(2)

# The two trees take turns, so that what else the machine does meets both.
micro: ## run the Go benchmarks COUNT (6) times; compare with BASE, the last release
	@mkdir -p $(MICRO); rm -f $(MICRO)/*.txt
	@tree=$$(mktemp -d); trap 'rm -rf "$$tree"' EXIT; \
	if [ -n "$(BASE)" ]; then git archive "$(BASE)" | tar -x -C "$$tree"; \
	else echo "micro: no release (tag v*) yet, compared with nothing; BASE=commit names one"; fi; \
	for run in $$(seq $(COUNT)); do \
	  if [ -n "$(BASE)" ]; then $(call bench,"$$tree",$(MICRO)/base.txt); fi; \
	  $(call bench,.,$(MICRO)/new.txt); \
	done
	@go tool benchstat $(MICRO)/*.txt

lint: ## check formatting and vet
	@unformatted=$$(gofmt -l $(SOURCES)); test -z "$$unformatted" || { echo "not formatted: $$unformatted"; exit 1; }
	@go vet $(sort $(SOURCES:%=./%/...) $(MODULES:%=./%/...))
	@go vet -tags faults ./hostd/...

clean: ## remove what was built, not what was fetched
	@rm -rf build/bin build/demo build/images $(MICRO)

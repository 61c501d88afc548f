# One command each. `make help` lists them.
#
# Everything that runs is built with one profile (release), so that RocksDB (343 C++ files, about 20 minutes on two slow
# cores) is compiled once. With ccache installed, a lost target folder costs minutes instead.

SHELL := /bin/bash
.DEFAULT_GOAL := help

ifneq ($(shell command -v ccache 2>/dev/null),)
export CXX := ccache g++
export CC := ccache gcc
endif

CARGO := cargo
NEXTEST := $(shell command -v cargo-nextest 2>/dev/null)

.PHONY: help prereqs build dev test sim mutants model soak fuzz conformance verify fix golden bench bench-core bench-rafts bench-log deny clean-dev

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

prereqs: ## check for what the build needs (a C++ compiler, libclang) and install it or say how
	@scripts/prereqs.sh

build: prereqs ## build the binaries: target/release/flaredb and flarectl
	$(CARGO) build --release --locked --workspace --bins

dev: build ## three nodes on this machine, ready to use (Ctrl-C stops them, data is kept in ./.flaredb-dev)
	@exec "$${CARGO_TARGET_DIR:-target}/release/flaredb" dev

test: ## all tests
	@scripts/prereqs.sh test
ifneq ($(NEXTEST),)
	$(CARGO) test --release --locked --workspace --doc --quiet
	$(CARGO) nextest run --release --locked --workspace
else
	$(CARGO) test --release --locked --workspace
endif

JOBS := $(shell nproc 2>/dev/null || echo 2)

sim: ## 100,000 simulated clusters, a seed each, on all cores; resumable (rm target/sim.resume.json to begin anew)
	@mkdir -p target
	$(CARGO) run --profile sim --locked -p flaredb-sim -- --seeds 100000 --jobs $(JOBS) --resume target/sim.resume.json

mutants: ## put each known bug back and see that the simulator finds it
	$(CARGO) run --release --locked -p flaredb-sim -- --mutants --seeds 2000 --jobs $(JOBS)

model: ## every order of events within small bounds, on the real core
	$(CARGO) run --release --locked -p flaredb-sim --bin flaredb-model

SOAK_SECONDS := 300
soak: build ## 10 minutes of faults on three real servers: 5 with cut links, 5 behind slow ones (SOAK_SECONDS=…, SOAK_FLAGS='--seed 7 …')
	"$${CARGO_TARGET_DIR:-target}/release/flaredb-soak" --net namespaces --seconds $(SOAK_SECONDS) $(SOAK_FLAGS)
	"$${CARGO_TARGET_DIR:-target}/release/flaredb-soak" --net proxy --seconds $(SOAK_SECONDS) $(SOAK_FLAGS)

FUZZ_SECONDS := 600
fuzz: ## every fuzz target for 10 minutes (needs cargo-fuzz and a nightly toolchain; FUZZ_SECONDS=…)
	@cd fuzz && for target in $$($(CARGO) +nightly fuzz list); do \
	    $(CARGO) +nightly fuzz run --sanitizer none $$target -- -max_total_time=$(FUZZ_SECONDS) || exit 1; done

conformance: prereqs ## KV answers compared with a real etcd (ETCD=/path/to/etcd)
	@test -x "$(ETCD)" || { echo "make conformance needs an etcd 3.5 binary: ETCD=/path/to/etcd make conformance" >&2; exit 1; }
	ETCD="$(abspath $(ETCD))" $(CARGO) test --release --locked -p flaredb-server --test differential -- --ignored --nocapture

verify: prereqs ## what CI checks before the tests: format, lints, docs; changes nothing
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --locked --workspace --no-deps --quiet

fix: ## format and apply what clippy can apply
	$(CARGO) fmt --all
	$(CARGO) clippy --release --workspace --all-targets --fix --allow-dirty --allow-staged

golden: ## rewrite the golden scripts' output after an intended change; read the diff before committing it
	UPDATE_GOLDENFILES=1 $(CARGO) test --release -p flaredb-raft --test golden

# bench/ is a workspace of its own, built apart from the servers. So are bench/core and bench/log, which link other Raft crates and
# measure two rows of the table. Without protoc, which raft-rs needs, the row of the core says so. bench/log is built with the
# servers' target folder and profile: RocksDB, which it measures too, is compiled already.
BENCH_TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR)-bench,target/bench)
SERVERS_TARGET := $(or $(CARGO_TARGET_DIR),target)
PROTOC := $(shell command -v protoc 2>/dev/null)
BUILD_BENCH_CORE := CARGO_TARGET_DIR="$(abspath $(BENCH_TARGET))" $(CARGO) build --release --locked --manifest-path bench/core/Cargo.toml
BUILD_BENCH_LOG := CARGO_TARGET_DIR="$(abspath $(SERVERS_TARGET))" $(CARGO) build --release --locked --manifest-path bench/log/Cargo.toml
bench: build ## the whole table: FlareDB beside etcd, the core and the log; some 21 minutes (ETCD=/path/to/etcd; BENCH_FLAGS='--quick' for a minute)
	CARGO_TARGET_DIR="$(abspath $(BENCH_TARGET))" $(CARGO) build --release --locked --manifest-path bench/Cargo.toml
	$(if $(PROTOC),$(BUILD_BENCH_CORE))
	$(BUILD_BENCH_LOG)
	$(if $(ETCD),ETCD="$(abspath $(ETCD))") "$(BENCH_TARGET)/release/flaredb-bench" \
	    --flaredb "$(SERVERS_TARGET)/release/flaredb" --log "$(SERVERS_TARGET)/release/log" \
	    $(if $(PROTOC),--core "$(BENCH_TARGET)/release/core") $(BENCH_FLAGS)

bench-core: ## the core's benchmarks (docs/benchmarks.md explains them)
	$(CARGO) bench --locked -p flaredb-raft --bench core

bench-rafts: ## the core beside raft-rs and openraft, all batches, in ns and in instructions (needs protoc for raft-rs; valgrind for instructions)
	@command -v protoc >/dev/null || { echo "make bench-rafts needs protoc to build raft-rs: apt-get install protobuf-compiler" >&2; exit 1; }
	$(BUILD_BENCH_CORE)
	"$(BENCH_TARGET)/release/core"

bench-log: prereqs ## the log on disk beside raft-engine, a bare write and RocksDB (LOG_FLAGS='--rounds N --dir FOLDER')
	$(BUILD_BENCH_LOG)
	"$(SERVERS_TARGET)/release/log" $(LOG_FLAGS)

deny: ## licences, banned crates and sources of every dependency (needs cargo-deny)
	$(CARGO) deny check bans licenses sources
	$(CARGO) deny --manifest-path bench/Cargo.toml --config deny.toml check bans licenses sources

clean-dev: ## remove the dev cluster's data
	rm -rf .flaredb-dev

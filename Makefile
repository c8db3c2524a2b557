# The tests: format, lint, guards, race detector. `make check` installs its own pinned tools into bin/.
.PHONY: check fmt lint test test-microvm e2e test-stress generate demo-proof bench-core bench-telemetry bench-detect bench-actions plots bench-cause cold-run clean

GO ?= go
LINT := bin/golangci-lint

check: lint test

$(LINT): tools.mod tools.sum
	@echo "building the linter that tools.mod pins (some minutes the first time)"
	$(GO) build -modfile=tools.mod -o $(LINT) github.com/golangci/golangci-lint/v2/cmd/golangci-lint

lint: $(LINT)
	$(LINT) fmt --diff ./...
	$(LINT) run ./...

fmt: $(LINT)
	$(LINT) fmt ./...

# The race detector needs a C compiler. Skipped tests say why; .ci/run collects the reasons.
TESTFLAGS ?=
test:
	$(GO) test -race -timeout 30m $(TESTFLAGS) ./...

# Tests of control groups version 2, and of what else the machine's own kernel lacks, in a small virtual machine with
# Debian's kernel (qemu-system-x86, busybox-static; no KVM). TestMemory waits for the kernel: some 30 s.
test-microvm: bin/microvm/vmlinuz
	$(GO) run ./test/microvm

bin/microvm/vmlinuz: test/microvm/kernel.sh
	test/microvm/kernel.sh bin/microvm

# Programs that nobody here wrote: python3, gunicorn, node, redis-server, wrk (Debian's packages).
e2e:
	$(GO) test -count=1 -p 1 -tags e2e -timeout 20m -v ./internal/demo ./test/e2e

generate:
	$(GO) generate ./...

# The demo for five seeds and for no faults, at the shipped defaults: some 50 minutes. SPEED=4 shortens the intervals.
SPEED ?= 1
demo-proof:
	$(GO) run ./test/demoproof -speed $(SPEED)

# Judge and learn, one instance's share, beside gonum's Mahalanobis distance in the same run.
bench-core:
	$(GO) test -run '^$$' -bench . -benchmem ./core/...

# What watching costs: one sample beside prometheus/procfs, a thousand instances, a Redis that is watched, system calls
# that are counted. Some 21 minutes, as root for eBPF. `go run ./bench/telemetry -short` is a smoke run and writes nothing.
BENCHFLAGS ?=
bench-telemetry:
	$(GO) run ./bench/telemetry $(BENCHFLAGS)
	$(GO) run ./bench/quote table bench/results/telemetry.json docs/telemetry.md
	$(GO) run ./bench/quote plot bench/results/telemetry.json docs/plots/telemetry.svg

# The detector on labelled telemetry of real servers, beside plain methods in the same run. FETTLE_DATA names the folder with the
# data (docs/detector.md); some minutes. BENCHFLAGS=-quick for a smoke run, BENCHFLAGS='-set smd' for one set.
bench-detect:
	$(GO) run ./bench/detect $(BENCHFLAGS)
	$(GO) run ./bench/quote table bench/results/detect.json docs/detector.md

# Disruptive actions on healthy instances: JumpStarter's pools (FETTLE_DATA) are replayed by the whole brain in mode heal, some minutes.
# BENCHFLAGS='-recordings DIR' replays recordings of healthy programs, too, or alone where FETTLE_DATA is not set.
bench-actions:
	$(GO) run ./bench/actions $(BENCHFLAGS)
	$(GO) run ./bench/quote table bench/results/actions.json docs/detector.md

# What the judge makes of three cases in virtual pools, for docs/detector.md; seconds.
plots:
	$(GO) run ./bench/plots -dir docs/img

# Cause and scope of verdicts over scenarios on the demo's application, gunicorn, Node and Redis: each application and seed
# runs once, live, some 12 minutes; judging what was recorded takes seconds. Recordings are kept and not made again:
# BENCHFLAGS=-judge judges them, BENCHFLAGS='-record -seeds 1' only records; -dir names their folder.
bench-cause:
	$(GO) run ./bench/cause $(BENCHFLAGS)
	$(GO) run ./bench/quote table bench/results/cause.json docs/detector.md

# Workers of stress-ng (Debian's package) must show in the dimensions that test/stress/table.yaml names, and in no other.
test-stress:
	$(GO) test -count=1 -tags stress -timeout 10m -v ./test/stress

# What the first `go run` costs with an empty build cache.
cold-run:
	@dir=$$(mktemp -d); start=$$(date +%s); GOCACHE=$$dir $(GO) run ./cmd/fettle version; end=$$(date +%s); \
	echo "cold go run ./cmd/fettle version (modules downloaded already): $$((end - start)) s on $$(nproc) cores"; rm -rf $$dir

clean:
	rm -rf bin dist

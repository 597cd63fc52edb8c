# What a developer runs. `make help` lists it; .ci/run calls it, and so do the workflows.

.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

# Pinned, so that a new release of a tool never breaks a build that nobody touched.
GOLANGCI_LINT ?= go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK   ?= go run golang.org/x/vuln/cmd/govulncheck@v1.9.0

SEED     ?= 1
STRESS   ?= 60s
FUZZTIME ?= 20s
PORT     ?= 8080
CARS     ?= 20

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "%-14s %s\n", $$1, $$2 }'

.PHONY: fmt
fmt: ## format every Go file
	gofmt -w .

.PHONY: lint
lint: ## formatting, modules, vet on three systems and 32 bits, golangci-lint
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "gofmt would change: $$unformatted"; exit 1; fi
	go mod tidy -diff
	go vet ./...
	go vet -tags e2e ./realtimegen ./redisadapter/... ./redisbus/...
	GOOS=darwin go vet ./...
	GOOS=windows go vet ./...
	GOARCH=386 go vet ./...
	cd bench && go vet ./...
	cd examples/integrations && go mod tidy -diff && go vet -tags e2e ./...
	cd bench/peers/go && go vet ./...
	cd e2e/clients/go && go mod tidy -diff && go vet ./...
	$(GOLANGCI_LINT) run
	$(GOLANGCI_LINT) run --build-tags e2e ./realtimegen ./redisadapter/... ./redisbus/...
	cd examples/integrations && $(GOLANGCI_LINT) run --build-tags e2e

.PHONY: test
test: ## the tests, as docs/testing.md gives them
	go test ./...

.PHONY: test-more
test-more: ## the tests of the modules beside the library's
	cd bench && go test ./...
	cd examples/integrations && go test -race ./...

.PHONY: race
race: ## the tests, under the race detector, in random order
	go test -race -shuffle=on -timeout 20m ./...

.PHONY: fuzz
fuzz: ## every fuzz target, FUZZTIME each
	@for file in $$(grep -rlE '^func Fuzz' --include='*_test.go' .); do \
		for target in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9_]+).*/\1/p' "$$file"); do \
			echo "-- $$file $$target"; \
			log=$$(mktemp); \
			fuzz() { go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 2s "./$$(dirname "$$file")" 2>&1 | tee "$$log"; }; \
			fuzz || { \
				: "go test itself may fail at the end of its time on a busy machine, without an input: once more then"; \
				grep -q '^    context deadline exceeded' "$$log" && ! grep -q 'Failing input' "$$log" && fuzz; \
			} || exit 1; \
			rm -f "$$log"; \
		done; \
	done

.PHONY: stress
stress: ## nodes and unruly clients against an oracle: SEED, for STRESS
	go run -race ./internal/cmd/stress -seed $(SEED) -for $(STRESS)

# Not a part of .ci/run: a minute of it has few faults. Run an hour of it (STRESS=1h) before a release.
.PHONY: stress-cluster
stress-cluster: ## a cluster on a real Redis that fails, against an oracle: SEED, for STRESS
	go run -race ./internal/cmd/stresscluster -seed $(SEED) -for $(STRESS)

.PHONY: e2e
e2e: ## stock clients from npm, of Python and Go, and a browser, against the example
	e2e/run
	E2E_RACE=1 E2E_FILES=test/legacyload.test.js e2e/run
	E2E_FILES='browser/browser.test.js browser/demo.test.js browser/operators.test.js' e2e/run

.PHONY: cluster
cluster: ## three instances of the example behind nginx, Redis and simulated cars: PORT, CARS
	@PORT=$(PORT) CARS=$(CARS) examples/dispatch/deploy/cluster

.PHONY: bench
bench: ## the benchmarks of the packages, once each; bench/ compares with peers
	go test -run '^$$' -bench . -benchtime 1x ./...

.PHONY: vuln
vuln: ## known vulnerabilities in what is built; needs the Go vulnerability database
	$(GOVULNCHECK) ./...

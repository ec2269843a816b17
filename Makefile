# One command for each chore. `make help` lists them.

SHELL := /bin/bash
.DEFAULT_GOAL := help

.PHONY: help demo test test-unit test-kafka test-lab test-chart alerts fire bench lint deny generate check-generated image chart lab-up lab-down

help: ## List the chores
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "%-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## From a bare machine to StarRocks' side of the road: lab, operator, object, kcat on the virtual machine
	scripts/demo.sh

test: ## Everything: unit tests, then all tests on the lab's real parts
	scripts/test.sh

test-unit: ## Tests that need no lab
	cargo test --workspace --lib --bins
	cargo test --test architecture --test crd_is_current --test docs --test release --test plan_golden --test road --test kafka_wire \
		--test cloud_contract --test plan_properties --test simulation

.PHONY: simulate
simulate: ## Schedules of the simulation: SEEDS=a..b chooses them, TRACE=1 prints what happened, PROFILE=simulation is fast
	WHOLE=1 cargo test $(if $(PROFILE),--profile $(PROFILE)) --test simulation -- --nocapture $(if $(SEEDS),every_schedule)

.PHONY: mutants
mutants: ## Plant each bug of tests/mutants in a copy: the simulation must catch it
	scripts/mutants.sh

test-kafka: ## One contract for real Kafka 2.8.2, 3.9 and 4.x and the simulated one; needs root, Java 17 and Maven
	cargo test --test kafka_contract -- --test-threads=1

test-lab: lab-up ## Tests on the lab's real parts, in one lab, which stays up
	cargo test --test end_to_end -- --test-threads=1

SCOPE ?= Cluster
TESTS ?= first_steps::

.PHONY: test-installed
test-installed: lab-up ## End-to-end tests by the installed chart: SCOPE=Cluster, Namespaces or ReleaseNamespace, TESTS=addresses::
	cargo lab image --profile dev
	END_TO_END_OPERATOR=$(SCOPE) cargo test --test end_to_end -- --test-threads=1 $(TESTS)

test-chart: ## What helm renders of the chart
	cargo test --test chart

alerts: ## The chart's alerts by promtool: each fires when it should, and not when it should not
	scripts/alerts.sh

image: ## The operator's container image, into target/image/image.tar
	cargo lab image

.PHONY: deb test-deb
deb: ## The Debian package for clients' machines of this kind, and what else a release has for them, into target/dist/
	scripts/release/program.sh "$$(dpkg --print-architecture)" target/dist

test-deb: ## The Debian package: what is in it, and that it is installed, upgraded and removed in order
	scripts/deb-test.sh

chart: ## The packed chart, into target/
	cargo lab helm package charts/kafka-external-access --destination target

.PHONY: release-check release-program
release-check: ## What a release needs beside its build: versions that agree, notes, SBOM, workflows; TAG=v0.1.0 for that tag
	scripts/release/check.sh $(TAG)
	cargo test --test release

ARCH ?= amd64

release-program: ## What a release has for ARCH=amd64 or arm64, into target/dist (docs/release.md says what it needs)
	scripts/release/program.sh $(ARCH) target/dist

KILLS ?= 300
SEED ?= 1
MINUTES ?= 120

fire: lab-up ## Replicas killed at random instants while parts fail: KILLS=300 SEED=1 MINUTES=120
	KILLS=$(KILLS) SEED=$(SEED) MINUTES=$(MINUTES) cargo test --test end_to_end -- --nocapture --test-threads=1 fire::

bench: ## What things cost, beside their goals; fails when a count misses its goal
	cargo bench --bench counts

.PHONY: footprint
footprint: ## What the process takes while nothing happens: size, memory, processor, requests; WINDOW=60 seconds each
	cargo bench --bench footprint

RUNS ?= 1000000

.PHONY: fuzz
fuzz: ## Parsers of foreign bytes under a fuzzer: RUNS=1000000 for each, TARGETS="clouds_yaml replies" chooses
	scripts/fuzz.sh $(RUNS) $(TARGETS)

.PHONY: book
book: ## The pages of docs/ as a book, into target/book; needs mdbook
	mdbook build docs

lint: ## Format and clippy, warnings denied
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

deny: ## Licences, sources and bans of dependencies, and known vulnerabilities where the advisory database can be reached
	scripts/deny.sh

generate: ## Write what is generated
	cargo run --quiet -- crd --kind KafkaExternalAccess > crds/kafkaexternalaccesses.yaml.new
	mv crds/kafkaexternalaccesses.yaml.new crds/kafkaexternalaccesses.yaml
	cargo run --quiet -- crd --kind KafkaExternalAccessClass > crds/kafkaexternalaccessclasses.yaml.new
	mv crds/kafkaexternalaccessclasses.yaml.new crds/kafkaexternalaccessclasses.yaml
	UPDATE=1 cargo test --quiet --test docs
	UPDATE=1 cargo test --quiet --lib cli::
	UPDATE=1 cargo test --quiet --test chart -- the_readme_is_current the_chart_has_the_kinds

check-generated: ## Fail when something generated is not current
	cargo test --test crd_is_current --test docs --test chart
	cargo test --lib cli::

lab-up: ## Start the lab (installs and builds what is missing)
	cargo lab up

lab-down: ## End the lab; nothing of it stays on the machine but the cache
	cargo lab down

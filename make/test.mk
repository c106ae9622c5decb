# The proof. `make test` is what continuous integration runs, and nothing else.
# Rust is built once, with the profile `dev`: the operator under test is that build.

.PHONY: test-faults test-chaos test-cel bench-decision test test-static test-unit test-cluster cluster-suite test-cluster-loaded measure measure-retention \
  measure-enrolment

# Said before anything is built or asked.
ifeq ($(CLUSTER),current)
NEEDS_THE_AUDIT_LOG := test test-cluster test-cluster-loaded measure measure-retention measure-enrolment \
  hallucinate hallucinate-slice record-diagnosis
ifneq ($(filter $(NEEDS_THE_AUDIT_LOG),$(MAKECMDGOALS)),)
$(error CLUSTER=current is not for $(filter $(NEEDS_THE_AUDIT_LOG),$(MAKECMDGOALS)): the cluster tests judge by the API server's audit log and end processes on nodes, and can do neither there. Use CLUSTER=lab, as root on Debian, or CLUSTER=kind, with Docker)
endif
endif

test: test-static test-unit wire-slice test-cluster ## Run the whole proof: static checks, unit tests, and the suites on a real cluster

test-static: lab-test demo-test chart-lint | operator-deps ## Format, clippy with warnings as errors, Go's vet, Helm lint, rendered chart
	cargo fmt --check
	cargo clippy --locked --all-targets -- --deny warnings
	cargo clippy --locked --test cluster -- --deny warnings # `test = false` keeps it out of the line above
	for module in demo/shop demo/models tests/naive; do (cd $$module && test -z "$$(gofmt -l .)" && go vet ./... && go test -count=1 ./...) || exit 1; done

test-unit: | operator-deps ## Unit and property tests, drift of crds/, direction of modules, examples in docs/
	cargo test --locked

# Minutes; the unit tests run a slice of it.
test-faults: | operator-deps ## Every fault, and every pair of two, at every request of the controller's state machine
	BACKSTOP_FULL_FAULTS=1 cargo test --locked --lib incident::tests::faults -- --nocapture

# A minute or two; the unit tests run a slice of it.
test-chaos: | operator-deps ## A thousand diagnoses while upstreams fail at random, two at once, all at once
	BACKSTOP_FULL_CHAOS=1 cargo test --locked --lib model::live::tests::in_chaos -- --nocapture

# Minutes; the unit tests run a slice of it.
test-cel: | operator-deps ## A hundred thousand hostile CEL expressions: memory, time, and an ordinary decision between them
	cargo test --locked --test cel a_hundred_thousand -- --ignored --nocapture

# Measured with the release build. Ratios can fail, times inform.
bench-decision: | operator-deps ## Measure a decision over 50 Policies and 200 facts, with idle and with busy cores
	cargo bench --locked --bench decision

# Not named MAKE in a recipe: `make -n` would run it.
TEST_MAKE = $(MAKE)

# A cluster that was up before stays up; one that this brought up goes again, whatever happened.
test-cluster: $(HELM) $(LAB) $(CLUSTER_IS_UP_NEEDS) ## The admission table and the cluster suite on the cluster of CLUSTER
	@set -e; \
	was_up=; if $(CLUSTER_IS_UP); then was_up=1; fi; \
	finish() { status=$$?; trap - EXIT; [ -n "$$was_up" ] || $(TEST_MAKE) cluster-down || status=1; exit $$status; }; \
	trap finish EXIT; trap 'exit 130' INT TERM; \
	$(TEST_MAKE) cluster-up; \
	$(TEST_MAKE) cluster-load PROFILE=dev $(TEST_IMAGES); \
	cargo test --locked --test cluster --no-run; \
	MAKE='$(TEST_MAKE)' IMAGES='$(IMAGE_ARCHIVES)' SHARDS=$(SHARDS) $(CLUSTER_ENV) make/test-cluster.sh $(CLUSTER_RUN)

# On how many clusters at a time the cluster suite runs: 2 brings up a second lab, with a gigabyte of memory.
SHARDS ?= $(if $(filter lab,$(CLUSTER)),2,1)

# Parts of names of cluster tests; all of them without.
TESTS ?=

cluster-suite: $(HELM) $(LAB) ## The cluster suite alone, on a cluster that is up and has the images: TESTS='restarts recovery' by parts of names
	$(CLUSTER_SUITE) $(TESTS)

# How often test-cluster-loaded runs it.
RUNS ?= 5

# On a machine that has something else to do a test gets slow, never red. Each run's output: .build/under-load-N.log.
test-cluster-loaded: $(HELM) $(LAB) $(CLUSTER_IS_UP_NEEDS) ## test-cluster RUNS=5 times in a row, with every core kept busy beside it
	@set -e; \
	was_up=; if $(CLUSTER_IS_UP); then was_up=1; fi; \
	finish() { status=$$?; trap - EXIT; [ -n "$$was_up" ] || $(TEST_MAKE) cluster-down || status=1; exit $$status; }; \
	trap finish EXIT; trap 'exit 130' INT TERM; \
	$(TEST_MAKE) cluster-up; \
	make/under-load.sh $(RUNS) $(TEST_MAKE) test-cluster

# The suites run the images under the names that the chart has.
TEST_IMAGES := OPERATOR_IMAGE=backstop.local/backstop:dev SHOP_IMAGE=backstop.local/shop:dev \
  MODELS_IMAGE=backstop.local/models:dev NAIVE_IMAGE=backstop.local/naive:dev

CLUSTER_ENV = KUBECONFIG='$(abspath $(CLUSTER_KUBECONFIG))' CLUSTER='$(CLUSTER)' \
  CLUSTER_AUDIT_LOG='$(CLUSTER_AUDIT_LOG)' HELM='$(abspath $(HELM))' LAB='$(abspath $(LAB))'
CLUSTER_RUN = cargo test --locked --test cluster --
CLUSTER_SUITE = $(CLUSTER_ENV) $(CLUSTER_RUN)

# Measured with the release build. The cluster stays as it was found.
measure: $(HELM) $(LAB) $(CLUSTER_IS_UP_NEEDS) ## Measure latencies and memory on the cluster of CLUSTER; prints the tables that the README quotes
	@set -e; \
	was_up=; if $(CLUSTER_IS_UP); then was_up=1; fi; \
	finish() { status=$$?; trap - EXIT; [ -n "$$was_up" ] || $(TEST_MAKE) cluster-down || status=1; exit $$status; }; \
	trap finish EXIT; trap 'exit 130' INT TERM; \
	$(TEST_MAKE) cluster-up; \
	$(TEST_MAKE) cluster-load PROFILE=$(PROFILE) $(TEST_IMAGES); \
	$(CLUSTER_SUITE) --measure

# Twenty thousand Incidents and fifty thousand Alerts; several minutes.
measure-retention: $(HELM) $(LAB) $(CLUSTER_IS_UP_NEEDS) ## Measure the controller's memory among many ended Incidents and Alerts
	@set -e; \
	was_up=; if $(CLUSTER_IS_UP); then was_up=1; fi; \
	finish() { status=$$?; trap - EXIT; [ -n "$$was_up" ] || $(TEST_MAKE) cluster-down || status=1; exit $$status; }; \
	trap finish EXIT; trap 'exit 130' INT TERM; \
	LAB_GOGC=100 $(TEST_MAKE) cluster-up; \
	$(TEST_MAKE) cluster-load PROFILE=$(PROFILE) $(TEST_IMAGES); \
	$(CLUSTER_SUITE) --measure-retention

# Namespaces that measure-enrolment makes, and how they are enrolled: BY_NAME=1 lists them in executor.namespaces.
ENROLLED ?= 500

# Some ten minutes, most of it for making and removing so many namespaces.
measure-enrolment: $(HELM) $(LAB) $(CLUSTER_IS_UP_NEEDS) ## Count the requests of ENROLLED=500 idle namespaces by the audit log, and repair in one of them
	@set -e; \
	was_up=; if $(CLUSTER_IS_UP); then was_up=1; fi; \
	finish() { status=$$?; trap - EXIT; [ -n "$$was_up" ] || $(TEST_MAKE) cluster-down || status=1; exit $$status; }; \
	trap finish EXIT; trap 'exit 130' INT TERM; \
	$(TEST_MAKE) cluster-up; \
	$(TEST_MAKE) cluster-load PROFILE=$(PROFILE) $(TEST_IMAGES); \
	$(CLUSTER_SUITE) --measure-enrolment --enrolled $(ENROLLED) $(if $(BY_NAME),--by-name)

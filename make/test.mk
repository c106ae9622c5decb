# The proof. `make test` is what continuous integration runs, and nothing else.
# Rust is built once, with the profile `dev`: the operator under test is that build.

.PHONY: test test-static test-unit test-cluster measure

test: test-static test-unit test-cluster ## Run the whole proof: static checks, unit tests, and the suites on a real cluster

test-static: lab-test demo-test chart-lint ## Format, clippy with warnings as errors, Go's vet, Helm lint, rendered chart
	cargo fmt --check
	cargo clippy --locked --all-targets -- --deny warnings
	cargo clippy --locked --test cluster -- --deny warnings # `test = false` keeps it out of the line above
	cd demo/shop && test -z "$$(gofmt -l .)" && go vet ./... && go test -count=1 ./...

test-unit: ## Unit and property tests, drift of crds/, direction of modules, examples in docs/
	cargo test --locked

# A cluster that was up before stays up; one that this brought up goes again, whatever happened.
test-cluster: $(HELM) $(LAB) ## The admission table and the cluster suite on the cluster of CLUSTER
	@set -e; \
	was_up=; if [ '$(CLUSTER)' = lab ] && $(LAB) status >/dev/null 2>&1; then was_up=1; fi; \
	finish() { status=$$?; trap - EXIT; [ -n "$$was_up" ] || $(MAKE) cluster-down || status=1; exit $$status; }; \
	trap finish EXIT; trap 'exit 130' INT TERM; \
	$(MAKE) cluster-up; \
	$(MAKE) cluster-load PROFILE=dev; \
	$(MAKE) admission-test; \
	$(CLUSTER_SUITE)

CLUSTER_SUITE = KUBECONFIG='$(abspath $(CLUSTER_KUBECONFIG))' CLUSTER='$(CLUSTER)' \
  CLUSTER_AUDIT_LOG='$(CLUSTER_AUDIT_LOG)' HELM='$(abspath $(HELM))' LAB='$(abspath $(LAB))' \
  cargo test --locked --test cluster --

# Measured with the release build. The cluster stays as it was found.
measure: $(HELM) $(LAB) ## Measure latencies and memory on the cluster of CLUSTER; prints the tables that the README quotes
	@set -e; \
	was_up=; if [ '$(CLUSTER)' = lab ] && $(LAB) status >/dev/null 2>&1; then was_up=1; fi; \
	finish() { status=$$?; trap - EXIT; [ -n "$$was_up" ] || $(MAKE) cluster-down || status=1; exit $$status; }; \
	trap finish EXIT; trap 'exit 130' INT TERM; \
	$(MAKE) cluster-up; \
	$(MAKE) cluster-load PROFILE=$(PROFILE); \
	$(CLUSTER_SUITE) --measure

# The Helm chart: the copies of the definitions in it, what it renders, and
# whether its admission policies hold on a real API server.

CHART := helm/backstop
HELM  ?= $(BUILD)/helm

.PHONY: chart-crds chart-lint chart-test admission-test

chart-crds: ## Copy crds/ into the chart, which cannot read files outside itself
	mkdir -p $(CHART)/files/crds
	rm -f $(CHART)/files/crds/*.yaml
	cp crds/*.yaml $(CHART)/files/crds/

# `helm lint` says "chart.yaml: icon is recommended" and no more.
chart-lint: $(HELM) ## Lint the chart with every set of values in its ci/ folder, and check what it renders
	$(HELM) lint --strict --quiet $(CHART)
	for values in $(CHART)/ci/*-values.yaml; do $(HELM) lint --strict --quiet $(CHART) -f $$values || exit 1; done
	cd tests/chart && test -z "$$(gofmt -l .)" && go vet ./... && HELM=$(abspath $(HELM)) go test -count=1

# Without a package name `go test` shows what the tests print: the closing lines.
admission-test: $(HELM) ## Try the admission policies on the cluster of CLUSTER_KUBECONFIG, with the executor's own token
	cd tests/admission && test -z "$$(gofmt -l .)" && go vet ./... && \
	  HELM=$(abspath $(HELM)) KUBECONFIG=$(CLUSTER_KUBECONFIG) go test -count=1

.PHONY: crds
crds: ## Write crds/ and its copy in the chart from the types
	cargo run --locked --quiet -- crd --out crds
	$(MAKE) --no-print-directory chart-crds

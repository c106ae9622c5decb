# The Helm chart: the copies of the definitions in it, what it renders, and
# whether its admission policies hold on a real API server.

CHART := helm/backstop
HELM  ?= $(BUILD)/helm

.PHONY: chart-crds chart-lint chart-test admission-test attack kill-switch measure-policies

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
	  HELM=$(abspath $(HELM)) KUBECONFIG=$(CLUSTER_KUBECONFIG) go test -count=1 -skip="TestAttack|TestKillSwitch"

# Requests of the drill, and its seed; 0 takes one from the clock.
ATTACKS ?= 20000
SEED ?= 0

attack: $(HELM) ## The stolen-token drill on the cluster of CLUSTER_KUBECONFIG: ATTACKS=20000 generated requests from SEED, and RBAC's golden file
	cd tests/admission && test -z "$$(gofmt -l .)" && go vet ./... && \
	  HELM=$(abspath $(HELM)) KUBECONFIG=$(CLUSTER_KUBECONFIG) go test -count=1 -timeout=60m -run=TestAttack -attacks=$(ATTACKS) -seed=$(SEED)

# How often the mode is set to observe.
TRIES ?= 500

kill-switch: $(HELM) ## How long after a namespace was set to observe the API server of CLUSTER_KUBECONFIG still accepts a granted write: TRIES=500
	cd tests/admission && test -z "$$(gofmt -l .)" && go vet ./... && \
	  HELM=$(abspath $(HELM)) KUBECONFIG=$(CLUSTER_KUBECONFIG) go test -count=1 -timeout=60m -run=TestKillSwitch -tries=$(TRIES)

# How many ReplicaSets the API server has to keep in memory for the provenance policy.
REPLICASETS ?= 10000

# On a cluster that never had the chart: the provenance policies stay after an uninstall, and their memory with them.
measure-policies: $(HELM) ## Measure what the policies cost the API server of CLUSTER_KUBECONFIG: Lease writes, and memory for REPLICASETS=10000
	cd tests/admission && HELM=$(abspath $(HELM)) KUBECONFIG=$(CLUSTER_KUBECONFIG) REPLICASETS=$(REPLICASETS) go test -count=1 -timeout=60m

.PHONY: crds
crds: ## Write crds/ and its copy in the chart from the types
	cargo run --locked --quiet -- crd --out crds
	$(MAKE) --no-print-directory chart-crds

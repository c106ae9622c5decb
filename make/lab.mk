# The lab: a real Kubernetes on this machine, built from Go modules. It needs
# root and Debian; where Docker is there instead, see CLUSTER=kind.

# The version of Kubernetes. Another one (KUBERNETES_VERSION=v1.35.2) is built
# beside this one; every module that follows from it is derived.
KUBERNETES_VERSION ?= $(shell sed -n 's/^require k8s.io\/kubernetes //p;s/^\tk8s.io\/kubernetes \(v[0-9.]*\)$$/\1/p' tests/lab/kubernetes/go.mod)

# Where binaries go.
BUILD ?= .build

LAB             := $(BUILD)/lab
LAB_KUBERNETES  := $(BUILD)/kubernetes-$(KUBERNETES_VERSION)/kubernetes
LAB_PACKAGES    := containerd runc containernetworking-plugins iptables conntrack
LAB_PARTS       := coredns helm kube-state-metrics

# Builds use what is idle: they run beside a cluster that tests depend on. Collecting garbage less often, and no debugger's
# tables, which -s -w would strip anyway, save a quarter of their time. GOGC is for the compiler alone: what it builds would
# take more memory with it. The same flags everywhere, or the standard library is compiled twice.
LAB_GO   := GOGC=400 CGO_ENABLED=0 nice -n 5 go
GO_BUILD := $(LAB_GO) build -trimpath -gcflags=all=-dwarf=false

# The version as Kubernetes' own build scripts record it.
lab_version_flag  = -X k8s.io/component-base/version.$(1)
lab_version_parts = $(subst ., ,$(KUBERNETES_VERSION:v%=%))
LAB_VERSION_FLAGS = $(call lab_version_flag,gitVersion=$(KUBERNETES_VERSION)) \
                    $(call lab_version_flag,gitMajor=$(word 1,$(lab_version_parts))) \
                    $(call lab_version_flag,gitMinor=$(word 2,$(lab_version_parts)))

.PHONY: lab lab-deps lab-go lab-modules lab-up lab-down lab-status lab-load lab-test lab-kubernetes lab-pause $(addprefix lab-,$(LAB_PARTS))

lab: $(LAB) ## Build the lab's command line, .build/lab

lab-up: $(LAB) ## Start a Kubernetes cluster on this machine
	LAB_SOURCE=$(CURDIR) $(LAB) up $(LAB_UP_FLAGS)

lab-down: $(LAB) ## Remove the lab's cluster without a trace
	$(LAB) down

lab-status: $(LAB) ## Show the cluster's components and nodes
	$(LAB) status

lab-load: image image-shop image-models image-naive
	$(LAB) import $(IMAGE_ARCHIVES)

lab-deps: ## Install the Debian packages that the lab needs
	@command -v dpkg-query >/dev/null || { \
	  echo 'The lab needs Debian 12 for the packages $(LAB_PACKAGES), and this machine has no dpkg.' >&2; \
	  echo 'With Docker, use kind instead: add CLUSTER=kind to the make target.' >&2; exit 1; }
	@make/debian-packages.sh $(LAB_PACKAGES) || { \
	  echo 'With Docker, use kind instead: add CLUSTER=kind to the make target.' >&2; exit 1; }

# All that Go builds here needs, one after the other, while something else is compiled.
lab-modules: | lab-go
	@for module in kubernetes parts/coredns parts/helm; do (cd tests/lab/$$module && go list -deps . >/dev/null); done

lab-go:
	@command -v go >/dev/null || { echo 'Go 1.25 or newer is needed to build the lab and is not on the PATH: see https://go.dev/dl/, or install golang-go from backports.' >&2; exit 1; }

$(LAB): $(shell find tests/lab -path tests/lab/kubernetes -prune -o -path tests/lab/parts -prune -o -type f -print) | lab-go
	cd tests/lab && $(GO_BUILD) -ldflags='-s -w' -o $(abspath $@) ./cmd/lab

$(BUILD)/pause: tests/lab/pause/main.go | lab-go
	cd tests/lab && $(GO_BUILD) -ldflags='-s -w' -o $(abspath $@) ./pause

lab-pause: $(BUILD)/pause

lab-kubernetes: $(LAB_KUBERNETES) ## Build all Kubernetes programs (4 minutes when nothing is cached)

# Built with the committed go.mod, or for another version with one that is
# derived in the build folder.
$(LAB_KUBERNETES): $(wildcard tests/lab/kubernetes/*) | lab-go
	@echo 'Building Kubernetes $(KUBERNETES_VERSION); this takes some minutes when nothing is cached.'
	tests/lab/kubernetes/modfile.sh $(KUBERNETES_VERSION) $(abspath $(@D))
	cd tests/lab/kubernetes && $(GO_BUILD) -modfile=$(abspath $(@D))/go.mod -ldflags='-s -w $(LAB_VERSION_FLAGS)' -o $(abspath $@) .

# Parts that only some targets need, each a module of its own.
$(addprefix lab-,$(LAB_PARTS)): lab-%: $(BUILD)/%

# Helm holds charts against this version where it has no cluster to ask. Its own Makefile derives it the same way.
HELM_MINOR := $(shell sed -n 's/.*k8s.io\/client-go v0\.\([0-9]*\)\..*/\1/p' tests/lab/parts/helm/go.mod)
LAB_PART_LDFLAGS_helm := $(foreach package,common v2/lint/rules,\
  $(addprefix -X helm.sh/helm/v4/pkg/chart/$(package).,k8sVersionMajor=1 k8sVersionMinor=$(HELM_MINOR)))

define lab_part
$(BUILD)/$(1): $(wildcard tests/lab/parts/$(1)/*) | lab-go
	@echo 'Building $(1); this takes some minutes when nothing is cached.'
	cd tests/lab/parts/$(1) && $(GO_BUILD) -ldflags='-s -w $(LAB_PART_LDFLAGS_$(1))' -o $(abspath $(BUILD)/$(1)) .
endef
$(foreach part,$(LAB_PARTS),$(eval $(call lab_part,$(part))))

lab-test: | lab-go ## Test the lab's own code
	@unformatted=$$(gofmt -l tests/lab); [ -z "$$unformatted" ] || { echo "not formatted with gofmt: $$unformatted" >&2; exit 1; }
	cd tests/lab && $(LAB_GO) vet ./... && $(LAB_GO) test ./...

# The cluster that the demo and the cluster tests run on:
#   CLUSTER=lab      a real Kubernetes built from Go modules (the default)
#   CLUSTER=kind     a kind cluster, for people who have Docker
#   CLUSTER=current  the current kubeconfig context, after asking
# Whatever it is, CLUSTER_KUBECONFIG leads to it, and cluster-up, cluster-load
# and cluster-down manage it.
CLUSTER ?= lab

# The node image of kind; empty is kind's own default.
KIND_IMAGE   ?=
KIND_CLUSTER ?= backstop
KIND_VERSION ?= v0.30.0
KIND         ?= $(or $(shell command -v kind),.build/kind)

# With kind: the program that nodes are containers of. The cluster tests ask it too.
ifdef KIND_EXPERIMENTAL_PROVIDER
export KIND_EXPERIMENTAL_PROVIDER
endif

# A command for an `if`. When kind cannot tell, the recipe ends: a wrong guess
# would remove a cluster.
KIND_IS_UP = clusters=$$($(KIND) get clusters --quiet) || exit 1; printf '%s\n' "$$clusters" | grep -qxF '$(KIND_CLUSTER)'

# CLUSTER_IS_UP is such a command for the chosen cluster; CLUSTER_IS_UP_NEEDS is what it needs beside the lab's command line.
# CLUSTER_AUDIT_LOG is empty where the API server's audit log cannot be read.
ifeq ($(CLUSTER),lab)
CLUSTER_KUBECONFIG := $(CURDIR)/.lab/kubeconfig
CLUSTER_AUDIT_LOG  := $(CURDIR)/.lab/audit/audit.log
CLUSTER_IS_UP = $(LAB) status >/dev/null 2>&1
else ifeq ($(CLUSTER),kind)
CLUSTER_KUBECONFIG := $(CURDIR)/.lab/kind.kubeconfig
CLUSTER_AUDIT_LOG  := $(CURDIR)/.lab/kind/audit/audit.log
CLUSTER_IS_UP       = $(KIND_IS_UP)
CLUSTER_IS_UP_NEEDS = $(filter .build/kind,$(KIND)) kind-docker
else ifeq ($(CLUSTER),current)
CLUSTER_KUBECONFIG := $(CURDIR)/.lab/current.kubeconfig
CLUSTER_AUDIT_LOG  :=
else
$(error CLUSTER=$(CLUSTER) is unknown: want lab, kind or current)
endif

.PHONY: cluster-up cluster-load cluster-down
cluster-up: $(CLUSTER)-up ## Start the cluster chosen by CLUSTER=lab|kind|current
cluster-load: $(CLUSTER)-load ## Bring our images onto its nodes
cluster-down: $(CLUSTER)-down ## Remove that cluster (CLUSTER=current: only our copy of the kubeconfig)

.PHONY: kind-up kind-load kind-down kind-docker
kind-up: $(filter .build/kind,$(KIND)) kind-docker
	mkdir -p .lab/kind/audit
	@# Made here, it stays readable for who runs this: the API server keeps owner and mode, also when it rotates.
	test -e .lab/kind/audit/audit.log || (umask 077; touch .lab/kind/audit/audit.log)
	umask 077; if $(KIND_IS_UP); then \
	  $(KIND) export kubeconfig --name $(KIND_CLUSTER) --kubeconfig $(CURDIR)/.lab/kind.kubeconfig; \
	else \
	  $(KIND) create cluster --name $(KIND_CLUSTER) --config kind-config.yaml --wait 180s \
	    --kubeconfig $(CURDIR)/.lab/kind.kubeconfig $(if $(KIND_IMAGE),--image $(KIND_IMAGE)); \
	fi

kind-load: kind-up image image-shop image-models image-naive
	for archive in $(IMAGE_ARCHIVES); do $(KIND) load image-archive --name $(KIND_CLUSTER) $$archive || exit 1; done

kind-down: $(filter .build/kind,$(KIND)) kind-docker
	$(KIND) delete cluster --name $(KIND_CLUSTER) --kubeconfig $(CURDIR)/.lab/kind.kubeconfig
	rm -rf .lab/kind .lab/kind.kubeconfig

kind-docker:
	@mkdir -p .build
	@$(or $(KIND_EXPERIMENTAL_PROVIDER),docker) info >.build/docker-info 2>&1 || { \
	  tail -n 1 .build/docker-info >&2; \
	  echo 'CLUSTER=kind needs a running Docker (or KIND_EXPERIMENTAL_PROVIDER=podman). Without one use CLUSTER=lab, as root on Debian.' >&2; \
	  exit 1; }

# kind is an ordinary Go program: who has no binary gets the pinned version.
.build/kind:
	GOBIN=$(CURDIR)/.build go install sigs.k8s.io/kind@$(KIND_VERSION)

.PHONY: current-up current-load current-down
# The kubeconfig of who called, kept for the makes that the demo starts: it sets
# KUBECONFIG to our copy. Empty is kubectl's own default.
export BACKSTOP_USER_KUBECONFIG ?= $(KUBECONFIG)
current-up:
	KUBECONFIG='$(BACKSTOP_USER_KUBECONFIG)' make/use-current-context.sh $(CLUSTER_KUBECONFIG)

# Nobody but its owner knows how images get into that cluster.
current-load: image image-shop image-models image-naive
	@echo 'Images are not loaded with CLUSTER=current. Unless its nodes have $(OPERATOR_IMAGE), $(SHOP_IMAGE),'
	@echo '$(MODELS_IMAGE) and $(NAIVE_IMAGE), use a registry of yours: name the images with'
	@echo 'OPERATOR_IMAGE=registry.example.com/backstop:0.1.0, and SHOP_IMAGE, MODELS_IMAGE and NAIVE_IMAGE alike, in every make'
	@echo 'command, and push $(IMAGE_ARCHIVES) under these names (crane push FILE NAME). docs/install.md has the steps.'

current-down:
	rm -f $(CLUSTER_KUBECONFIG)

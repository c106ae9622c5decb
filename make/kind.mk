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

# CLUSTER_AUDIT_LOG is empty where the API server's audit log cannot be read.
ifeq ($(CLUSTER),lab)
CLUSTER_KUBECONFIG := $(CURDIR)/.lab/kubeconfig
CLUSTER_AUDIT_LOG  := $(CURDIR)/.lab/audit/audit.log
else ifeq ($(CLUSTER),kind)
CLUSTER_KUBECONFIG := $(CURDIR)/.lab/kind.kubeconfig
CLUSTER_AUDIT_LOG  := $(CURDIR)/.lab/kind/audit/audit.log
else ifeq ($(CLUSTER),current)
CLUSTER_KUBECONFIG := $(CURDIR)/.lab/current.kubeconfig
CLUSTER_AUDIT_LOG  :=
else
$(error CLUSTER=$(CLUSTER) is unknown: want lab, kind or current)
endif

.PHONY: cluster-up cluster-load cluster-down
cluster-up: $(CLUSTER)-up ## Start the cluster chosen by CLUSTER=lab|kind|current
cluster-load: $(CLUSTER)-load ## Bring our images onto its nodes
cluster-down: $(CLUSTER)-down ## Remove it (CLUSTER=current: only our copy of the kubeconfig)

.PHONY: kind-up kind-load kind-down kind-docker
kind-up: $(filter .build/kind,$(KIND)) kind-docker
	mkdir -p .lab/kind/audit
	@# Made here, it stays readable for who runs this: the API server keeps owner and mode, also when it rotates.
	test -e .lab/kind/audit/audit.log || (umask 077; touch .lab/kind/audit/audit.log)
	umask 077; if $(KIND) get clusters --quiet | grep -qxF '$(KIND_CLUSTER)'; then \
	  $(KIND) export kubeconfig --name $(KIND_CLUSTER) --kubeconfig $(CURDIR)/.lab/kind.kubeconfig; \
	else \
	  $(KIND) create cluster --name $(KIND_CLUSTER) --config kind-config.yaml --wait 180s \
	    --kubeconfig $(CURDIR)/.lab/kind.kubeconfig $(if $(KIND_IMAGE),--image $(KIND_IMAGE)); \
	fi

kind-load: kind-up image image-shop
	$(KIND) load image-archive --name $(KIND_CLUSTER) .build/backstop.tar .build/shop.tar

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
current-up:
	make/use-current-context.sh $(CLUSTER_KUBECONFIG)

# Nobody but its owner knows how images get into that cluster.
current-load: image image-shop
	@echo 'Images are not loaded with CLUSTER=current. Unless its nodes have them, push .build/backstop.tar and'
	@echo '.build/shop.tar to a registry of yours (crane push, skopeo copy) as $(OPERATOR_IMAGE) and $(SHOP_IMAGE).'

current-down:
	rm -f $(CLUSTER_KUBECONFIG)

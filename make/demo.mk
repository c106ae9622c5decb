# The demo: a shop on a real cluster, a bad release, and what Backstop does; and a second act in which a model tells the
# same lie to Backstop and to an agent that does what a model says.
# MONITORING=1 lets real Prometheus and Alertmanager send the alerts (lab only).
MONITORING ?=
# FULL=1 shows every fact and every verdict; without it each act fits a screen.
FULL ?=
# ACT=1 or ACT=2 plays one of the two acts; ACT=restart one action more, ACT=all everything.
ACT ?=
# A real model for the second act in place of the scripted one. The lie is put into its answer by a proxy in front of the
# first rung; the second rung is asked as it is. MODEL_PRICES: US dollars per million tokens, INPUT/OUTPUT.
MODEL_BASE_URL ?=
MODEL_API      ?=
MODEL_NAME     ?=
MODEL_KEY_FILE ?=
MODEL_PRICES   ?=

# MODEL=smollm2: the first model that Backstop asks is SmolLM2-135M on this machine (make/trial.mk), real, up and wrong.
MODEL ?=
ifneq ($(filter-out smollm2,$(MODEL)),)
$(error MODEL=$(MODEL) is unknown: want smollm2, or MODEL_BASE_URL for one of yours)
endif

ifeq ($(CLUSTER),lab)
DEMO_KUBECTL ?= $(BUILD)/lab kubectl
else
DEMO_KUBECTL ?= kubectl
endif

# Not named MAKE in the recipe: `make -n` would run it.
DEMO_MAKE = $(MAKE)
DEMO_ARGS = --kubectl='$(DEMO_KUBECTL)' --helm='$(HELM)' --backstop='$(OPERATOR)' \
            --audit-log='$(CLUSTER_AUDIT_LOG)' --image=$(BUILD)/backstop.tar \
            --operator-image='$(OPERATOR_IMAGE)' --shop-image='$(SHOP_IMAGE)' \
            --models-image='$(MODELS_IMAGE)' --naive-image='$(NAIVE_IMAGE)' $(if $(ACT),--act='$(ACT)') \
            --model-url='$(MODEL_BASE_URL)' --model-api='$(MODEL_API)' --model-name='$(MODEL_NAME)' \
            --model-key-file='$(MODEL_KEY_FILE)' --model-prices='$(MODEL_PRICES)' \
            $(if $(MODEL),--smollm2-port='$(SMOLLM2_PORT)') \
            $(if $(filter current,$(CLUSTER)),,--throwaway) $(if $(MONITORING),--monitoring) $(if $(FULL),--full)

.PHONY: demo demo-all demo-build demo-build-go demo-clean demo-tools demo-test

demo: $(BUILD)/demo ## Break a shop on a real cluster and watch it recover; then the lie, side by side (ACT=1, 2 or restart; FULL=1: all facts)
ifneq ($(MONITORING),)
	@[ '$(CLUSTER)' = lab ] || { echo 'MONITORING=1 needs the parts that only CLUSTER=lab brings along.' >&2; exit 1; }
endif
ifneq ($(MODEL),)
	@make/smollm2.sh '$(SMOLLM2)' start '$(SMOLLM2_PORT)'
	@trap "make/smollm2.sh '$(SMOLLM2)' stop" EXIT; \
	  KUBECONFIG='$(CLUSTER_KUBECONFIG)' $(BUILD)/demo --make="$(DEMO_MAKE)" $(DEMO_ARGS)
else
	@KUBECONFIG='$(CLUSTER_KUBECONFIG)' $(BUILD)/demo --make="$(DEMO_MAKE)" $(DEMO_ARGS)
endif

demo-all: ## Play every act of the demo, one for each action, one after the other
	@$(DEMO_MAKE) --no-print-directory demo ACT=all

# Rust beside Go: while one is at a part that cannot be divided, as with our own crate and with each link, the other uses the
# processors that are left. Not one Go module beside another: what they share is compiled once only where they wait for
# each other; but what a later one needs is fetched meanwhile.
demo-build: | operator-deps lab-go
	@$(MAKE) --no-print-directory -j3 operator demo-build-go $(DEMO_MODULES)
	@$(MAKE) --no-print-directory image image-shop image-models image-naive

DEMO_GO := shop models naive lab
ifeq ($(CLUSTER),lab)
DEMO_GO += lab-kubernetes lab-coredns lab-pause
DEMO_MODULES := lab-modules
endif

demo-build-go:
	@$(MAKE) --no-print-directory -j1 $(DEMO_GO) $(HELM)

# A cluster of ours is removed whole. In one that stays, only what the demo made
# goes, and our copy of the kubeconfig at the very end: everything before needs it.
demo-clean: ## Remove everything that the demo made, and its cluster
ifeq ($(CLUSTER),current)
demo-clean: $(BUILD)/demo demo-tools
	@[ -e '$(CLUSTER_KUBECONFIG)' ] || $(DEMO_MAKE) --no-print-directory cluster-up
	@KUBECONFIG='$(CLUSTER_KUBECONFIG)' $(BUILD)/demo --clean $(DEMO_ARGS)
	@$(DEMO_MAKE) --no-print-directory cluster-down
else
demo-clean: cluster-down
endif

# What the demo runs beside the cluster.
demo-tools: $(HELM)
	@command -v $(firstword $(DEMO_KUBECTL)) >/dev/null || { echo 'kubectl is needed for CLUSTER=$(CLUSTER): https://kubernetes.io/docs/tasks/tools/' >&2; exit 1; }

demo-test: | lab-go ## Test the demo's own code
	cd demo && test -z "$$(gofmt -l .)" && go vet ./... && go test -count=1 ./...

$(BUILD)/demo: $(wildcard demo/*.go) demo/go.mod | lab-go
	cd demo && $(GO_BUILD) -ldflags='-s -w' -o $(abspath $@) .

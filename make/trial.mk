# How right diagnoses are, on what was recorded of a real cluster (tests/diagnosis): the rules, the scripted liar, and a model
# of yours, named by the same variables as for the demo: MODEL_BASE_URL, MODEL_API, MODEL_NAME, MODEL_KEY_FILE, MODEL_PRICES.
.PHONY: eval-diagnosis record-diagnosis hallucinate hallucinate-slice small-model small-model-stop

# Only bundles whose name contains it.
ONLY ?=
# 1 prints each diagnosis that is not right.
MISSES ?=
# Questions to MODEL_BASE_URL at a time.
PARALLEL ?= 2

eval-diagnosis: operator models ## How right diagnoses are on recorded facts: rules, scripted liar, and MODEL_BASE_URL if it is given
	@BACKSTOP='$(OPERATOR)' MODELS='$(BUILD)/models' ONLY='$(ONLY)' MISSES='$(MISSES)' PARALLEL='$(PARALLEL)' \
	  MODEL_BASE_URL='$(MODEL_BASE_URL)' MODEL_API='$(MODEL_API)' MODEL_NAME='$(MODEL_NAME)' \
	  MODEL_KEY_FILE='$(MODEL_KEY_FILE)' MODEL_PRICES='$(MODEL_PRICES)' make/eval-diagnosis.sh

# The tests whose facts are kept: those that break something, and more everyday faults.
RECORDED ?= faults surroundings recovery refusals kinds

record-diagnosis: $(HELM) $(LAB) $(CLUSTER_IS_UP_NEEDS) ## Record tests/diagnosis/bundles anew on the cluster of CLUSTER
	@set -e; \
	was_up=; if $(CLUSTER_IS_UP); then was_up=1; fi; \
	finish() { status=$$?; trap - EXIT; [ -n "$$was_up" ] || $(TEST_MAKE) cluster-down || status=1; exit $$status; }; \
	trap finish EXIT; trap 'exit 130' INT TERM; \
	$(TEST_MAKE) cluster-up; \
	$(TEST_MAKE) cluster-load PROFILE=dev $(TEST_IMAGES); \
	$(CLUSTER_SUITE) --record tests/diagnosis/bundles $(RECORDED)

# Incidents of each form.
INCIDENTS ?= 300
# liar: the scripted one, each of its lies in turn. free, restricted: SmolLM2, with any names, and with those that exist.
FORMS ?= liar free restricted
# Where the server of SmolLM2 and the model are kept.
SMOLLM2 ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/backstop/smollm2
SMOLLM2_PORT ?= 8099

small-model: ## Start a server of SmolLM2-135M on this machine (built once, 10 minutes; SMOLLM2 is where)
	make/smollm2.sh '$(SMOLLM2)' start '$(SMOLLM2_PORT)'

small-model-stop: ## End that server
	make/smollm2.sh '$(SMOLLM2)' stop

# A few minutes: the scripted liar with each of its lies. With SmolLM2 it takes minutes more:
# make hallucinate INCIDENTS=10 FORMS='free restricted'.
hallucinate-slice: | operator-deps ## Some incidents with a model that is up and wrong: the liar, with each of its lies
	$(TEST_MAKE) hallucinate INCIDENTS=$(SLICE) FORMS=liar

# Incidents in it: the liar has twelve lies.
SLICE ?= 12

hallucinate: $(HELM) $(LAB) $(CLUSTER_IS_UP_NEEDS) ## A model that is up and wrong, through the whole cluster path (INCIDENTS=300 of each of FORMS)
	@set -e; \
	was_up=; if $(CLUSTER_IS_UP); then was_up=1; fi; server=; \
	finish() { status=$$?; trap - EXIT; [ -z "$$server" ] || make/smollm2.sh '$(SMOLLM2)' stop; \
	  [ -n "$$was_up" ] || $(TEST_MAKE) cluster-down || status=1; exit $$status; }; \
	trap finish EXIT; trap 'exit 130' INT TERM; \
	case ' $(FORMS) ' in *' free '*|*' restricted '*) server=1; make/smollm2.sh '$(SMOLLM2)' start '$(SMOLLM2_PORT)';; esac; \
	$(TEST_MAKE) cluster-up; \
	$(TEST_MAKE) cluster-load PROFILE=dev $(TEST_IMAGES); \
	$(CLUSTER_SUITE) --hallucinate $(INCIDENTS) $(FORMS:%=--form %) --model-port '$(SMOLLM2_PORT)'

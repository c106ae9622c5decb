# Everything starts here:
#   make demo    break a shop on a real Kubernetes cluster, and watch it recover
#   make test    the whole proof; what continuous integration runs
# The targets are in make/*.mk, one file per subject.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Where binaries go, and the cluster that targets use; see make/lab.mk and make/kind.mk.
BUILD   ?= .build
CLUSTER ?= lab

include make/*.mk

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z][a-z0-9-]*:.*## ' Makefile make/*.mk | sort \
	  | awk -F ':.*## ' '{ printf "  \033[1m%-18s\033[0m %s\n", $$1, $$2 }' \
	  | if [ -t 1 ]; then cat; else sed 's/\x1b\[[0-9]*m//g'; fi

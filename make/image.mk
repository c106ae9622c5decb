# Images without Docker: one archive each, for the lab, for `kind load
# image-archive`, `ctr images import`, `podman load` and `docker load`.

# The cargo profile of the operator: release, or dev for a quicker build.
PROFILE ?= release

# Names of the images, each with a tag. The demo runs what they name, so that
# with CLUSTER=current they can come from a registry of yours.
OPERATOR_IMAGE ?= backstop.local/backstop:dev
SHOP_IMAGE     ?= backstop.local/shop:dev
MODELS_IMAGE   ?= backstop.local/models:dev
NAIVE_IMAGE    ?= backstop.local/naive:dev

# The archives that the demo and the tests bring onto a cluster.
IMAGE_ARCHIVES := $(addprefix .build/,backstop.tar shop.tar models.tar naive.tar)

OPERATOR := $(or $(CARGO_TARGET_DIR),target)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))/backstop

# What compiling needs beside Rust: a linker, C for the cryptography, certificates.
OPERATOR_PACKAGES := gcc libc6-dev ca-certificates

.PHONY: operator operator-deps image shop image-shop models image-models naive image-naive

# Three looks at files and no more when everything is there.
operator-deps:
	@{ command -v cc && [ -e /usr/include/stdio.h ] && [ -e /etc/ssl/certs/ca-certificates.crt ]; } >/dev/null \
	  || ! command -v dpkg-query >/dev/null || make/debian-packages.sh $(OPERATOR_PACKAGES)
	@command -v cc >/dev/null || { echo 'A C compiler is needed to build the operator, and there is no cc on the PATH.' >&2; exit 1; }
	@command -v cargo >/dev/null || { \
	  echo 'cargo is needed to build the operator and is not on the PATH. Install rustup, see https://rustup.rs (it puts cargo' >&2; \
	  echo 'into ~/.cargo/bin), or where Debian has it its package rustup. It fetches the Rust that rust-toolchain.toml names.' >&2; \
	  exit 1; }

operator: | operator-deps ## Build the operator (PROFILE=release or dev)
	@# Beside other builds: the jobs of make are not cargo's.
	env -u MAKEFLAGS cargo build --locked --profile $(PROFILE) --bin backstop

image: operator .build/lab ## Write .build/backstop.tar, the operator's image
	.build/lab image $(OPERATOR_IMAGE)=$(OPERATOR) --output .build/backstop.tar

shop:
	cd demo/shop && $(GO_BUILD) -ldflags='-s -w' -o $(CURDIR)/.build/shop .

image-shop: shop .build/lab ## Write .build/shop.tar, the demo shop's image
	.build/lab image $(SHOP_IMAGE)=.build/shop --output .build/shop.tar

models: ## Build .build/models, the scripted model server (demo/models)
	cd demo/models && $(GO_BUILD) -ldflags='-s -w' -o $(CURDIR)/.build/models .

image-models: models .build/lab ## Write .build/models.tar, its image
	.build/lab image $(MODELS_IMAGE)=.build/models --output .build/models.tar

naive:
	cd tests/naive && $(GO_BUILD) -ldflags='-s -w' -o $(CURDIR)/.build/naive .

image-naive: naive .build/lab ## Write .build/naive.tar, the image of the naive agent that the demo compares with
	.build/lab image $(NAIVE_IMAGE)=.build/naive --output .build/naive.tar

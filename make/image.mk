# Images without Docker: one archive each, for the lab, for `kind load
# image-archive`, `ctr images import`, `podman load` and `docker load`.

# The cargo profile of the operator: release, or dev for a quicker build.
PROFILE ?= release

OPERATOR_IMAGE := backstop.local/backstop:dev
SHOP_IMAGE     := backstop.local/shop:dev

OPERATOR := $(or $(CARGO_TARGET_DIR),target)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))/backstop

.PHONY: operator image shop image-shop

operator: ## Build the operator (PROFILE=release or dev)
	cargo build --locked --profile $(PROFILE) --bin backstop

image: operator .build/lab ## Write .build/backstop.tar, the operator's image
	.build/lab image $(OPERATOR_IMAGE)=$(OPERATOR) --output .build/backstop.tar

shop:
	cd demo/shop && CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o $(CURDIR)/.build/shop .

image-shop: shop .build/lab ## Write .build/shop.tar, the demo shop's image
	.build/lab image $(SHOP_IMAGE)=.build/shop --output .build/shop.tar

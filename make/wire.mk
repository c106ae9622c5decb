# Software of others against ours: servers that speak the APIs of models, and the official SDKs of the providers.

# Where that software is installed.
WIRE ?= $(BUILD)/wire
WIRE_SLICE := sdks scripted aimock litellm
WIRE_RUN = python3 tests/wire/wire.py --backstop '$(or $(CARGO_TARGET_DIR),target)/debug/backstop' --models .build/models \
  --installed '$(WIRE)'

.PHONY: wire wire-slice wire-install wire-operator bench-router

# The last part builds llama-cpp-python once.
wire: wire-install wire-operator models ## Ask LiteLLM, aimock and llama.cpp with our own commands; the official SDKs ask our scripted server
	tests/wire/install.sh '$(WIRE)' llama
	$(WIRE_RUN)

# What `make test` runs: about a minute, and a peer that cannot be installed is said and no failure.
wire-slice: wire-install wire-operator models ## The same without llama.cpp, which takes ten minutes to build
	$(WIRE_RUN) --skip-missing $(WIRE_SLICE)

wire-install:
	@command -v python3 >/dev/null || make/debian-packages.sh python3 python3-venv
	@tests/wire/install.sh '$(WIRE)'

wire-operator: | operator-deps
	cargo build --locked --bin backstop

# Measured with the release build. ROUTER_FLAGS: --rounds N --calls N.
ROUTER_FLAGS ?=
bench-router: | operator-deps ## Measure what the router of models adds to a call, beside a bare client, LiteLLM and Portkey
	@command -v python3 >/dev/null || make/debian-packages.sh python3 python3-venv
	@tests/wire/install.sh '$(WIRE)' gateways
	cargo bench --locked --no-run --bench router
	python3 tests/wire/gateways.py --installed '$(WIRE)' $(ROUTER_FLAGS) \
	  --router "$$(cargo bench --locked --no-run --bench router 2>&1 | sed -n 's/.*Executable.*(\(.*\))$$/\1/p')"

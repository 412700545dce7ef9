# What there is to do here. `make` alone prints it.
.DEFAULT_GOAL := help
.PHONY: help demo test check build deny packages clean

help: ## Print this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Two gateways carry a web server and iperf3 between network namespaces (root)
	@configs/demo/run

test: ## Everything: format, lints, all tests, also in network namespaces (root)
	@.ci/run

check: ## The quick part of it: format, lints, unit tests (no root)
	@.ci/run quick

build: ## The gateway, optimised: target/release/clgw
	@.ci/packages
	cargo build --locked --release -p clgw

deny: ## Licences, sources and duplicates of all dependencies; installs cargo-deny (minutes)
	@.ci/deny

packages: ## Install the Debian packages that are missing (root)
	@.ci/packages

clean: ## Remove what was built
	cargo clean

# What there is to do here. `make` alone prints it.
.DEFAULT_GOAL := help
.PHONY: help demo test check build aws-lc bench bench-policy counts soak fuzz miri deny packages clean

help: ## Print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Two gateways carry a web server and iperf3 between network namespaces (root)
	@configs/demo/run

test: ## Everything: format, lints, all tests, also in network namespaces (root)
	@.ci/run

check: ## The quick part of it: format, lints, unit tests (no root)
	@.ci/run quick

build: ## The gateway, optimised: target/release/clgw
	@.ci/packages
	cargo build --locked --release -p clgw

aws-lc: ## Lints and tests with the feature aws-lc, which `make test` leaves out (builds C: minutes)
	@.ci/packages
	cargo clippy --locked --workspace --all-targets --features clgw/aws-lc -- -D warnings
	cargo test --locked --workspace --features clgw/aws-lc --lib --test sim -- \
		tls:: tunnel:: config:: crypto:: records:: forwarding::

bench: ## The measurements of bench/README.md, into OUT (target/bench); 30 minutes (root)
	@.ci/packages
	@.ci/envoy
	cargo build --locked --release -p clgw -p clgw-bench
	target/release/clgw-bench all --out $(or $(OUT),target/bench)
	@.ci/html-check $(or $(OUT),target/bench)/report.html

bench-policy: ## What a policy decision costs: time, instructions, memory (six minutes)
	@.ci/packages
	cargo bench --locked -p clgw-bench --bench policy
	@.ci/counts '*decide*'

counts: ## Instructions of the gateway's steps, against the baseline; UPDATE=1 writes a new one
	@.ci/packages
	@.ci/counts $(if $(UPDATE),--update)

soak: ## Simulated sites on bad wires, and the engine against the kernel's TCP (root); SEEDS (300)
	CLGW_SEEDS=$${SEEDS:-300} cargo test --locked --release -p clgw --test sim -- --nocapture wire wan
	CLGW_SEEDS=$$(($${SEEDS:-300} / 10)) cargo test --locked --release -p clgw --test netns -- \
		--nocapture --ignored linux

fuzz: ## Property tests with CASES cases each (default 20000), then the fuzzer, SECONDS a target (60)
	PROPTEST_CASES=$${CASES:-20000} cargo test --locked --release --workspace --lib
	@.ci/fuzz $(or $(SECONDS),60)

miri: ## The policy engine under miri (eight minutes; needs a nightly toolchain with miri)
	@.ci/miri

deny: ## Licences, sources and duplicates of all dependencies; installs cargo-deny (minutes)
	@.ci/deny

packages: ## Install the Debian packages that are missing (root)
	@.ci/packages

clean: ## Remove what was built
	cargo clean

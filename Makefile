# Everything is done by two of these: `make demo` and `make test`. Both install what they need.

# A cluster of your own for demo and end-to-end tests: make demo KUBECONFIG=$HOME/.kube/config IMAGE=registry/codis-operator:tag
export KUBECONFIG ?=
export IMAGE ?=

.PHONY: demo demo-down test unit e2e bench fuzz faults simulate chaos go-redis tools binaries images crds openapi manifests fmt

demo: ## Start a local Kubernetes with the operator in it, apply the quickstart cluster, use it
	@e2e/demo

demo-down: ## End what `make demo` started
	@e2e/demo down

test: ## All tests: format, lints, unit, integration, end to end
	@e2e/test

unit: ## Format, lints, unit and integration tests: no Kubernetes
	@e2e/test unit

e2e: ## End-to-end tests only
	@e2e/test e2e

bench: ## Measure what is promised: the tables of docs/performance.md
	@e2e/tools install packages valkey etcd nutcracker
	@cargo test --quiet --test dashboard_speed -- --ignored --nocapture --test-threads=1
	@cargo test --quiet --release --test proxy_speed -- --ignored --nocapture --test-threads=1

fuzz: ## Ten minutes of nonsense for the proxy (`make test` does one): for what reads it, guided by coverage, then for the whole
	@e2e/tools install packages valkey
	@fuzz/run 300
	@CODIS_FUZZ_SECONDS=300 cargo test --quiet --test proxy_fuzz -- --nocapture

faults: ## Three minutes of all faults at once for the proxy (`make test` does ten seconds)
	@e2e/tools install packages valkey
	@cargo test --quiet --release --test proxy_all_faults many_faults -- --ignored --nocapture

simulate: ## A million histories of lost processes, nodes and networks (`make test` plays a hundred thousand)
	@CODIS_HISTORIES=1000000 cargo test --quiet --release --lib simulation::no_history

chaos: ## Faults on a local Kubernetes under load, each 30 times (hours), or random ones for MINUTES=10; EACH, ONLY and SEED choose
	@e2e/chaos

go-redis: ## go-redis' own tests against the proxy: docs/go-redis.md
	@e2e/tools install packages valkey
	@cargo test --quiet --test proxy_go_redis -- --ignored --nocapture

tools: ## Install what building, testing and the demo need
	@e2e/tools install

binaries: tools
	cargo build --workspace --bins

images: binaries ## Build the images of the local cluster
	@e2e/images/build --binaries target/debug

crds: ## Write the CustomResourceDefinition anew, after a change of src/api
	@cargo run --quiet --bin codis-operator crd > crds/.new && mv crds/.new crds/codisclusters.codis.dev.yaml
	@cp crds/codisclusters.codis.dev.yaml charts/codis-operator/files/

openapi: ## Write docs/openapi.json anew, after a change of the dashboard's API
	@cargo run --quiet --bin codis-dashboard -- --openapi > docs/.new && mv docs/.new docs/openapi.json

manifests: crds ## Write manifests/install.yaml anew, after a change of the chart
	@e2e/manifests > manifests/.new && mv manifests/.new manifests/install.yaml

fmt: ## Format
	@cargo fmt --all

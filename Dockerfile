# The three programs of codis-operator in one image.
#
#   docker build -t codis-operator/codis-operator:0.1.0 .
#
# The last stage is used as it is by e2e/images/build, with programs built outside.

# Both bases can be replaced, for a mirror or for programs and C library of another release (the two must match).
ARG BUILD_BASE=docker.io/library/rust:1-trixie
ARG BASE=docker.io/library/debian:trixie-slim

FROM ${BUILD_BASE} AS programs
# etcd's API is generated from its .proto files.
RUN apt-get update && apt-get install --yes --no-install-recommends protobuf-compiler libprotobuf-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package codis-operator --bins \
    && mkdir /programs \
    && cp target/release/codis-operator target/release/codis-dashboard target/release/codis-proxy /programs/

FROM ${BASE}
LABEL org.opencontainers.image.title="codis-operator" \
      org.opencontainers.image.description="Kubernetes operator, dashboard and proxy of Codis-style clusters of Valkey or Redis" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=programs /programs/ /usr/local/bin/
# By number, so that Kubernetes can tell that it is not root.
USER 65532:65532
# No entry point: whoever runs the image says which of the programs it is to be.
CMD ["codis-operator", "--help"]

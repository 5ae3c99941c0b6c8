# syntax=docker/dockerfile:1
# Images of Argosy's two programs; the syncer's has the plugin, too, which is asked before `helm uninstall`:
#   docker build --target webhook -t ghcr.io/argosy/webhook:0.1.0 .
#   docker build --target syncer  -t ghcr.io/argosy/syncer:0.1.0 .

FROM rust:1.95-bookworm AS builder
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked -p argosy-webhook -p argosy-syncer -p argosy-cli \
    && install -D -t /out target/release/argosy-webhook target/release/argosy-syncer target/release/kubectl-argosy

# glibc and nothing else: no shell, no package manager, an ordinary user.
FROM gcr.io/distroless/cc-debian12:nonroot AS base
USER 65532:65532

FROM base AS syncer
COPY --from=builder /out/argosy-syncer /out/kubectl-argosy /usr/local/bin/
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/argosy-syncer"]

FROM base AS webhook
COPY --from=builder /out/argosy-webhook /usr/local/bin/argosy-webhook
EXPOSE 8443 8080
ENTRYPOINT ["/usr/local/bin/argosy-webhook"]

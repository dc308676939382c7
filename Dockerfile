# syntax=docker/dockerfile:1
# The image of plantlake: built from this repository, one program in a small Debian, run by a user that is not root.
#
#   docker build --tag plantlake:0.1.0 .
#   docker run --rm plantlake:0.1.0 --help
#
# compose.yaml runs it with what it needs.

# Rust is all that the build takes, with the C compiler that this image has.
FROM rust:1.95-bookworm AS build
WORKDIR /build
# What .dockerignore lets through: the manifest, how dependencies are built, the sources, and the migrations that are compiled in.
COPY . .
ENV CARGO_PROFILE_RELEASE_STRIP=symbols
# Crates and what was compiled of them stay between builds.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/build/target,sharing=locked \
    cargo build --release --locked --bin plantlake \
    && cp target/release/plantlake /usr/local/bin/plantlake

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="plantlake" \
      org.opencontainers.image.description="A process historian on a lakehouse" \
      org.opencontainers.image.licenses="Apache-2.0"
# Certificates, for databases and object stores beyond this machine. Their newest version is the right one.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 plantlake \
    && useradd --uid 10001 --gid plantlake --home-dir /var/lib/plantlake --no-create-home --shell /usr/sbin/nologin plantlake \
    # Volumes that are mounted here for the first time belong to whom these do.
    && install --directory --owner=plantlake --group=plantlake --mode=0700 /var/lib/plantlake \
    && install --directory --mode=0755 /etc/plantlake /etc/plantlake/jobs /srv/plantlake \
    && install --directory --owner=plantlake --group=plantlake --mode=0755 /etc/plantlake/catalog \
    && install --directory --owner=plantlake --group=plantlake --mode=0750 /srv/plantlake/lake
COPY --from=build /usr/local/bin/plantlake /usr/local/bin/plantlake
ENV PLANTLAKE_LAKE=/srv/plantlake/lake \
    PLANTLAKE_STATE=/var/lib/plantlake \
    PLANTLAKE_CATALOG=/etc/plantlake/catalog \
    PLANTLAKE_JOBS=/etc/plantlake/jobs
WORKDIR /var/lib/plantlake
USER 10001:10001
EXPOSE 50051
ENTRYPOINT ["plantlake"]
CMD ["serve"]

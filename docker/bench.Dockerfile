# arch bench: the client, with Ray; no torch, no server.
# docker build -f docker/bench.Dockerfile -t arch-bench .
# Pinned by version: its digest was not known where this was written.
FROM python:3.11.13-slim-bookworm AS build
WORKDIR /src
RUN python3 -m venv /opt/arch
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY common common
COPY export export
COPY serve serve
COPY harness harness
COPY cli cli
# ray[default]: jobs are submitted to a cluster through its dashboard, as RayJob of docker/k8s is.
RUN /opt/arch/bin/pip install --no-cache-dir -c constraints.txt '.[bench]' 'ray[default]'

FROM python:3.11.13-slim-bookworm
LABEL org.opencontainers.image.title="arch-bench" \
      org.opencontainers.image.description="Benchmark of audio encoders served by NVIDIA Triton" \
      org.opencontainers.image.source="https://github.com/arch-bench/arch" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/arch /opt/arch
# Volumes that are mounted here begin with its owner.
RUN useradd --uid 1000 --create-home arch && install -d -o arch -g arch /data /reports /home/arch/.cache
# KubeRay asks by wget whether a node lives, and starts it from a login shell, which has a PATH of its own. A version of
# wget is not pinned: Debian keeps no earlier one.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends wget && rm -rf /var/lib/apt/lists/* \
    && ln -s /opt/arch/bin/arch /opt/arch/bin/ray /usr/local/bin/
ENV PATH=/opt/arch/bin:$PATH \
    ARCH_DATA=/data \
    RAY_USAGE_STATS_ENABLED=0
USER 1000:1000
WORKDIR /home/arch
# It ends by itself.
HEALTHCHECK NONE
ENTRYPOINT ["/opt/arch/bin/arch"]
CMD ["bench", "--help"]

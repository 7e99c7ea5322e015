# arch export on a CPU: torch, transformers, onnx; no server, no client.
# docker build -f docker/export.Dockerfile -t arch-export .
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
# PyTorch's own index: without it come gigabytes of CUDA libraries, which an export does not use.
RUN /opt/arch/bin/pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu -c constraints.txt '.[export]'

FROM python:3.11.13-slim-bookworm
LABEL org.opencontainers.image.title="arch-export" \
      org.opencontainers.image.description="Checkpoints to verified ONNX encoders in a Triton model repository" \
      org.opencontainers.image.source="https://github.com/arch-bench/arch" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/arch /opt/arch
# Volumes that are mounted here begin with its owner. 1000 is the user of NVIDIA's image, which reads them.
RUN useradd --uid 1000 --create-home arch && install -d -o arch -g arch /models /home/arch/.cache
ENV PATH=/opt/arch/bin:$PATH
USER 1000:1000
WORKDIR /home/arch
# It ends by itself.
HEALTHCHECK NONE
ENTRYPOINT ["/opt/arch/bin/arch", "export"]
CMD ["--help"]

# NVIDIA's Triton with its own ONNX Runtime backend, and nothing but a script that starts it.
# docker build -f docker/triton.Dockerfile -t arch-triton .
# Pinned by version: its digest was not known where this was written. 24.10 is Triton 2.51.0, the one of `arch serve`.
FROM nvcr.io/nvidia/tritonserver:24.10-py3
LABEL org.opencontainers.image.title="arch-triton" \
      org.opencontainers.image.description="NVIDIA Triton over a model repository of arch export" \
      org.opencontainers.image.source="https://github.com/arch-bench/arch" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --chmod=0555 docker/triton.sh /opt/arch/triton.sh
# Where config.pbtxt has TensorRT keep its engines; a volume that is mounted here begins with its owner.
RUN install -d -o 1000 -g 1000 /var/cache/arch-tensorrt
# NVIDIA's image has a user of this number, triton-server.
USER 1000:1000
ENV MODELS=/models
EXPOSE 8000 8001 8002
STOPSIGNAL SIGTERM
# Triton opens its ports when it is done with loading.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 \
    CMD ["curl", "--fail", "--silent", "--show-error", "http://127.0.0.1:8000/v2/health/live"]
ENTRYPOINT ["/opt/arch/triton.sh"]

# gpugrad on NVIDIA GPUs:  sh docker/build.sh cuda        CUDA 13, driver 580 or newer
#                          sh docker/build.sh cuda12      CUDA 12, driver 525 or newer
# or, without the version in the labels:
#     docker build -f docker/cuda.Dockerfile --build-arg CUDA=cuda12 -t gpugrad:cuda12 .
# CUDA's libraries, headers and run-time compiler are wheels; the driver is the host's.
ARG BASE=python:3.12-slim

FROM ${BASE} AS build
ARG CUDA=cuda13
ARG EXTRAS=train
ARG VERSION
WORKDIR /source
COPY pyproject.toml README.md LICENSE docker/install.sh ./
COPY gpugrad gpugrad
COPY kernels kernels
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca.crt \
    sh install.sh . /venv "${CUDA},${EXTRAS}" "${VERSION}"

FROM ${BASE}
ARG BASE
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="gpugrad" \
      org.opencontainers.image.description="Automatic differentiation for NumPy and CuPy arrays, and Boltzmann machines trained with it" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"
# Any user may run it (docker run --user): what is written at run time goes into these two folders.
RUN useradd --uid 1000 --create-home gpugrad \
    && install -d -o gpugrad -g gpugrad /runs \
    && install -d -m 1777 /cache
COPY --from=build /venv /venv
# The NVIDIA container runtime reads the first two and mounts the driver. Work goes to the GPU
# unless --device says otherwise: a container started without one fails, and is not just slow.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    GPUGRAD_DEVICE=cuda \
    CUPY_CACHE_DIR=/cache/cupy \
    PATH=/venv/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    MPLCONFIGDIR=/cache/matplotlib
# Compiled kernels outlive the container where a volume of yours is mounted here.
VOLUME /cache
USER 1000:1000
WORKDIR /runs
HEALTHCHECK --interval=5m --timeout=1m CMD ["python", "-c", "import gpugrad; gpugrad.zeros(1)"]
ENTRYPOINT ["gpugrad"]
CMD ["info"]

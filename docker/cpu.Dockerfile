# gpugrad without a GPU:  sh docker/build.sh cpu
# or, without the version in the labels:  docker build -f docker/cpu.Dockerfile -t gpugrad:cpu .
ARG BASE=python:3.12-slim

FROM ${BASE} AS build
ARG EXTRAS=train
ARG VERSION
WORKDIR /source
COPY pyproject.toml README.md LICENSE docker/install.sh ./
COPY gpugrad gpugrad
COPY kernels kernels
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca.crt \
    sh install.sh . /venv "${EXTRAS}" "${VERSION}"

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
ENV PATH=/venv/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    MPLCONFIGDIR=/cache/matplotlib
USER 1000:1000
WORKDIR /runs
HEALTHCHECK --interval=5m --timeout=1m CMD ["python", "-c", "import gpugrad; gpugrad.zeros(1)"]
ENTRYPOINT ["gpugrad"]
CMD ["info"]

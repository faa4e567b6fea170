# docker build -f docker/cuda.Dockerfile -t gpugrad:cuda .                          driver 580 or newer
# docker build -f docker/cuda.Dockerfile --build-arg CUDA=cuda12 -t gpugrad:cuda12 .   older drivers
FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY gpugrad gpugrad
COPY kernels kernels
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.13-slim
ARG CUDA=cuda13
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    wheel=$(ls /wheels/gpugrad-*.whl) && pip install --no-cache-dir "$wheel[${CUDA},train]"
RUN useradd --create-home gpugrad \
    && mkdir /runs /kernel-cache && chown gpugrad /runs /kernel-cache
# What the NVIDIA container runtime looks at to mount the driver.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    CUPY_CACHE_DIR=/kernel-cache
USER gpugrad
WORKDIR /runs
ENTRYPOINT ["gpugrad"]
CMD ["info"]

# docker build -f docker/cpu.Dockerfile -t gpugrad:cpu .
FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY gpugrad gpugrad
COPY kernels kernels
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.13-slim
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    wheel=$(ls /wheels/gpugrad-*.whl) && pip install --no-cache-dir "$wheel[train]"
RUN useradd --create-home gpugrad && mkdir /runs && chown gpugrad /runs
USER gpugrad
WORKDIR /runs
ENTRYPOINT ["gpugrad"]
CMD ["info"]

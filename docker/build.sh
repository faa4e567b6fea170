#!/bin/sh
# Builds an image and tags it gpugrad:WHICH; its labels say the package's version and the commit.
#
#   sh docker/build.sh cpu                    without CuPy
#   sh docker/build.sh cuda                   with CuPy and CUDA 13: driver 580 or newer
#   sh docker/build.sh cuda12                 with CuPy and CUDA 12: driver 525 or newer
#
# What follows the first argument goes to the engine. From the environment:
#   ENGINE     docker, podman or buildah; otherwise the first of them that is found
#   BASE       the image to build on; otherwise the one that the Dockerfile names
#   EXTRAS     which extras of gpugrad to install beside CuPy's, say train,sklearn; otherwise train
#   PIP_CONF   a pip.conf for the build (an index of one's own); otherwise PIP_CONFIG_FILE
#   CA_CERT    a file of certificates that pip is to trust; otherwise PIP_CERT
# The last two are secrets of the build: they leave no trace in the image.
set -eu
which=${1:?which image: cpu, cuda or cuda12}
shift
cd "$(dirname "$0")/.."

engine=${ENGINE:-}
for name in docker podman buildah; do
    [ -n "$engine" ] || ! command -v "$name" >/dev/null 2>&1 || engine=$name
done
[ -n "$engine" ] || {
    echo "build.sh: found none of docker, podman and buildah" >&2
    exit 1
}

case $which in
    cpu) set -- --file docker/cpu.Dockerfile "$@" ;;
    cuda) set -- --file docker/cuda.Dockerfile "$@" ;;
    cuda12 | cuda13) set -- --file docker/cuda.Dockerfile --build-arg "CUDA=$which" "$@" ;;
    *)
        echo "build.sh: no image '$which'; there are cpu, cuda and cuda12" >&2
        exit 1
        ;;
esac
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
revision=$(git rev-parse HEAD 2>/dev/null) || revision=
set -- --build-arg "VERSION=$version" --build-arg "REVISION=$revision" "$@"
[ -z "${BASE:-}" ] || set -- --build-arg "BASE=$BASE" "$@"
[ -z "${EXTRAS:-}" ] || set -- --build-arg "EXTRAS=$EXTRAS" "$@"
conf=${PIP_CONF:-${PIP_CONFIG_FILE:-}} cert=${CA_CERT:-${PIP_CERT:-}}
[ -z "$conf" ] || set -- --secret "id=pip.conf,src=$conf" "$@"
[ -z "$cert" ] || set -- --secret "id=ca.crt,src=$cert" "$@"
# OCI's own format has no place for a health check.
[ "$engine" = docker ] || set -- --format docker "$@"
exec "$engine" build --tag "gpugrad:$which" "$@" .

#!/bin/sh
# Builds images for real, runs them, and prints their sizes and times:
#
#   sh docker/check.sh [cpu] [cuda] [cuda12] [apptainer]        otherwise cpu
#
# Needs buildah (for apptainer: Apptainer), as root or not, and no daemon. It finds out on which
# storage driver containers run, and whether in namespaces or, where these are not allowed, in a
# chroot. Where no image registry answers, mmdebstrap or debootstrap makes the base of Debian's
# packages.
# From the environment, beside what build.sh takes (BASE, EXTRAS, PIP_CONF, CA_CERT):
#   SUITE      Debian release of a base made here; otherwise trixie (Python 3.13)
#   MIRROR     where Debian's packages are; otherwise where apt gets them, or the tool's own default
#   BASE_TAR   a file that keeps such a base for the next run
#   TMPDIR     a folder on a disk with 2 GB free, with cuda 15 GB; all is removed at the end
set -eu
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
chmod 755 "$scratch" # users of the container look for the mounted folder in it
export CONTAINERS_STORAGE_CONF="$scratch/storage.conf" TMPDIR="$scratch"
export PIP_CONF="${PIP_CONF:-${PIP_CONFIG_FILE:-}}" CA_CERT="${CA_CERT:-${PIP_CERT:-}}"

say() { printf '%s\n' "$*"; }
fail() {
    printf 'check.sh: %s\n' "$*" >&2
    exit 1
}
now() { date +%s; }
since() { printf 'in %s s' $(($(now) - $1)); }
megabytes() { printf '%s MB' $(($(stat -c %s "$1") / 1000000)); }
quietly() { "$@" >"$scratch/log" 2>&1 || fail "$(tail -n 20 "$scratch/log")"; }
remove() { # also files that users of a container own
    if [ "$(id -u)" = 0 ] || [ ! -d "$scratch/graph" ]; then
        rm -rf "$@"
    else
        buildah unshare rm -rf "$@"
    fi
}
empty_storage() {
    [ ! -d "$scratch/graph" ] || buildah rm --all >/dev/null 2>&1 || true
    remove "$scratch/graph" "$scratch/run"
}
clean_up() {
    remove "$scratch"/runs-* || true
    empty_storage || true
    chmod -R u+w "$scratch" 2>/dev/null || true # a root folder has folders without write permission
    rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# ---------------------------------------------------------------------------------------- the base

debian_base() { # writes $tar, a root folder with Debian's Python
    tar=${BASE_TAR:-$scratch/base.tar}
    suite=${SUITE:-trixie}
    [ ! -s "$tar" ] || return 0
    mirror=${MIRROR:-}
    if [ -z "$mirror" ] && command -v apt-get >/dev/null; then
        # shellcheck disable=SC2016  # apt's own notation, not the shell's
        mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | head -n 1)
    fi
    packages=python3,python3-venv,ca-certificates
    started=$(now)
    if command -v mmdebstrap >/dev/null; then
        # as slim images do: no manuals, and no trace of where the packages came from
        # shellcheck disable=SC2016  # $1 is for the shell that runs the hook
        mmdebstrap --quiet --format=tar --variant=minbase --include="$packages" \
            --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
            --dpkgopt='path-exclude=/usr/share/locale/*' \
            --customize-hook='rm -rf "$1"/etc/apt/sources.list* "$1"/var/lib/apt/lists/*' \
            --customize-hook=': >"$1"/etc/hostname; : >"$1"/etc/resolv.conf' \
            "$suite" "$tar.part" ${mirror:+"$mirror"}
    elif command -v debootstrap >/dev/null; then
        debootstrap --variant=minbase --include="$packages" "$suite" "$scratch/root" \
            ${mirror:+"$mirror"} >"$scratch/log" || fail "debootstrap: $(tail -n 3 "$scratch/log")"
        rm -rf "$scratch/root"/etc/apt/sources.list* "$scratch/root"/var/lib/apt/lists/* \
            "$scratch/root"/var/cache/apt/* "$scratch/root"/usr/share/doc/*
        : >"$scratch/root/etc/hostname" && : >"$scratch/root/etc/resolv.conf"
        tar -C "$scratch/root" -cf "$tar.part" . && rm -rf "$scratch/root"
    else
        fail "no image registry answers, and there is neither mmdebstrap nor debootstrap"
    fi
    mv "$tar.part" "$tar"
    say "base     Debian $suite with its Python, made $(since "$started")"
}

containers_run() { # whether a container of $BASE runs under this driver and isolation
    printf '[storage]\ndriver = "%s"\ngraphroot = "%s"\nrunroot = "%s"\n' \
        "$1" "$scratch/graph" "$scratch/run" >"$CONTAINERS_STORAGE_CONF"
    export BUILDAH_ISOLATION="$2"
    if [ -n "${tar:-}" ]; then
        container=$(buildah from scratch) && buildah add --quiet "$container" "$tar" / &&
            buildah commit --quiet --rm "$container" "$BASE"
    else
        buildah pull --quiet "$BASE"
    fi && container=$(buildah from --pull-never "$BASE") &&
        buildah run --network host "$container" -- python3 --version
}

prepare() { # a storage of our own with the base in it
    command -v buildah >/dev/null || fail "buildah is not installed (apt-get install buildah)"
    if [ -z "${BASE:-}" ]; then
        BASE=docker.io/library/$(sed -n 's/^ARG BASE=//p' docker/cpu.Dockerfile)
        printf '[storage]\ndriver = "vfs"\ngraphroot = "%s"\nrunroot = "%s"\n' \
            "$scratch/graph" "$scratch/run" >"$CONTAINERS_STORAGE_CONF"
        timeout 300 buildah pull --quiet "$BASE" >"$scratch/log" 2>&1 || {
            say "no image registry answers: the base is made of Debian's packages"
            debian_base
            BASE=localhost/debian-python:$suite
        }
    fi
    export BASE
    for driver in overlay vfs; do
        for isolation in oci rootless chroot; do
            empty_storage
            if containers_run "$driver" "$isolation" >"$scratch/log" 2>&1; then
                say "engine   $(buildah --version | cut -d' ' -f1-3), $driver, $isolation isolation"
                say "base     $BASE, $(tail -n 1 "$scratch/log"), $(size "$BASE")"
                return
            fi
        done
    done
    fail "no container runs here: $(tail -n 3 "$scratch/log")"
}

# ------------------------------------------------------------------------------------- the checks

size() { buildah images --format '{{.Size}}' "$1"; }
setting() { buildah inspect --type image --format "{{$1}}" "gpugrad:$which"; }
label() { setting "index .Docker.Config.Labels \"org.opencontainers.image.$1\""; }

inside() { # inside COMMAND...: as $user, otherwise the image's, with $runs in its place
    buildah run --network host --env OPENBLAS_NUM_THREADS=1 --volume "$runs:/runs" \
        ${user:+"--user=$user"} "$container" -- "$@"
}
gpugrad() { inside "$(setting 'index .Docker.Config.Entrypoint 0')" "$@"; }

refused() { # refused WORDS COMMAND...: ends with one line that has these words, and writes nothing
    words=$1
    shift
    ! "$@" >"$scratch/out" 2>"$scratch/err" || fail "status 0: $*"
    grep -q "^gpugrad: error: .*$words" "$scratch/err" ||
        fail "no '$words' in: $(cat "$scratch/err")"
    ! grep -q Traceback "$scratch/err" || fail "a traceback: $(cat "$scratch/err")"
    [ -z "$(ls -A "$runs")" ] || fail "left behind: $(ls -A "$runs")"
    say "refused  $(sed -n 's/^gpugrad: error: //p' "$scratch/err" | cut -c1-120)"
}

build() {
    started=$(now)
    quietly env ENGINE=buildah sh docker/build.sh "$which" --network host
    say "built    gpugrad:$which, $(size "gpugrad:$which") with the base, $(since "$started")"
    container=$(buildah from --pull-never "gpugrad:$which")
    started=$(now)
    buildah push --quiet "gpugrad:$which" "oci-archive:$scratch/archive"
    say "packed   $(megabytes "$scratch/archive") to download, $(since "$started")"
    rm "$scratch/archive"
}

check_what_it_is() { # labels, user, health check; no compiler, no trace of the secrets
    [ "gpugrad $(label version)" = "$(gpugrad --version)" ] ||
        fail "the label says '$(label version)'"
    [ "$(inside id -u)" = 1000 ] || fail "runs as user $(inside id -u)"
    for program in cc gcc g++ nvcc; do
        # shellcheck disable=SC2016  # expanded inside
        ! inside sh -c 'command -v "$1"' - "$program" 2>/dev/null || fail "holds $program"
    done
    inside sh -c '[ ! -s /run/secrets/pip.conf ] && [ ! -s /run/secrets/ca.crt ]' ||
        fail "holds a secret"
    buildah inspect --type image "gpugrad:$which" >"$runs/inspected"
    user=0 # who may read all of /etc
    grep -o 'https*://[^/ ]*' "${PIP_CONF:-/dev/null}" | sed 's|.*[/@]||' | while read -r host; do
        # shellcheck disable=SC2016  # expanded inside
        inside sh -c '
            grep -rqF "$1" inspected /etc /venv/pyvenv.cfg \
                /venv/lib/python3*/site-packages/gpugrad-*/direct_url.json
            [ $? = 1 ]' - "$host" </dev/null || fail "names the package index of PIP_CONF"
    done
    user=
    rm "$runs/inspected"
}

check_cpu() {
    check_what_it_is
    refused 'cuda: .*CuPy' gpugrad train mnist --device cuda --output /runs/first
    chmod 755 "$runs"
    refused 'ermission denied' gpugrad train mnist --hidden 16 --epochs 1 --output /runs/first
    chmod 777 "$runs"
    gpugrad info | sed -n 's/^/info     /; 1,3p'
    healthy || fail "the health check fails"
    started=$(now)
    quietly gpugrad train mnist --hidden 16 --epochs 2 --output /runs/first
    say "trained  784 x 16, 2 epochs, $(since "$started"): $(grep '^test log' "$scratch/log")"
    for file in model.safetensors samples.png; do
        [ -s "$runs/first/$file" ] || fail "no $file in the volume"
    done
    quietly gpugrad info first
    # as with docker run --user: no such name in the image, no home
    user=12345:12345
    quietly gpugrad sample first --output again.npy
    user=
}

check_cuda() { # on a machine without a GPU: there is none to give to a container here
    check_what_it_is
    gpugrad info | sed -n 's/^/info     /; 1,4p'
    refused 'cuda: ' gpugrad train mnist --hidden 16 --epochs 1 --output /runs/first
    ! healthy 2>/dev/null || fail "the health check does not see that the GPU is missing"
    quietly gpugrad train mnist --hidden 16 --epochs 1 --device cpu --output /runs/first
    # The compiler and its headers are complete: every kernel becomes machine code.
    cp tests/cuda_on_host/nvrtc.py "$runs/for_no_gpu.py"
    started=$(now)
    inside python -c "
from for_no_gpu import compile_for, reason_without_nvrtc
from gpugrad.backend import cuda
assert reason_without_nvrtc() is None, reason_without_nvrtc()
for name in cuda.sources():
    for architecture in (75, 90):
        compile_for(architecture, cuda.source(name))
" || fail "kernels do not compile in the image"
    say "compiled the kernels for sm_75 and sm_90 $(since "$started")"
}

healthy() { # the image's own health check, whose words are CMD, python, -c and the program
    inside python -c "$(setting 'index .Docker.Config.Healthcheck.Test 3')"
}

check_apptainer() {
    command -v apptainer >/dev/null || fail "apptainer is not installed"
    debian_base
    mkdir "$scratch/base" && tar -C "$scratch/base" -xf "$tar" --exclude './dev/*'
    set -- --build-arg BOOTSTRAP=localimage --build-arg "BASE=$scratch/base" \
        --build-arg "EXTRAS=${EXTRAS:-train}"
    mkdir "$scratch/secrets"
    [ -z "$PIP_CONF" ] || cp "$PIP_CONF" "$scratch/secrets/pip.conf"
    [ -z "$CA_CERT" ] || cp "$CA_CERT" "$scratch/secrets/ca.crt"
    set -- --bind "$scratch/secrets:/mnt" "$@"
    started=$(now)
    image=$scratch/gpugrad.sif
    quietly apptainer build "$@" "$image" docker/gpugrad.def
    say "built    gpugrad.sif, $(megabytes "$image") with the base, $(since "$started")"
    quietly apptainer run --bind "$runs:/runs" "$image" train mnist --hidden 16 --epochs 1 \
        --output /runs/first
    say "trained  in it: $(grep '^test log' "$scratch/log")"
}

[ $# -gt 0 ] || set -- cpu
for which; do
    say "== $which"
    runs="$scratch/runs-$which" user=
    mkdir "$runs" && chmod 777 "$runs"
    case $which in
        apptainer) check_apptainer ;;
        cpu | cuda | cuda12 | cuda13)
            [ -n "${driver:-}" ] || prepare
            build
            "check_${which%1?}"
            buildah rm "$container" >/dev/null
            buildah rmi --force "gpugrad:$which" >/dev/null
            ;;
        *) fail "nothing to check for '$which'; there are cpu, cuda, cuda12 and apptainer" ;;
    esac
done
say "all checks passed"

#!/bin/sh
# Installs gpugrad, with its dependencies and nothing else, into a virtual environment without pip:
# what the first stage of every image does.
#
#   install.sh SOURCE ENVIRONMENT EXTRAS [VERSION]
#
# VERSION is what the image's label will say; another one than the package's is refused. pip reads
# pip.conf and trusts the certificates of ca.crt where these are in the folder SECRETS, which is
# mounted for the build (otherwise /run/secrets, where image builders put them).
set -eu
source=$1 environment=$2 extras=$3 version=${4:-}
secrets=${SECRETS:-/run/secrets}
[ ! -s "$secrets/pip.conf" ] || export PIP_CONFIG_FILE="$secrets/pip.conf"
[ ! -s "$secrets/ca.crt" ] || export PIP_CERT="$secrets/ca.crt"
export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/pip"
pip=$work/pip/bin/pip
"$pip" wheel --quiet --no-deps --wheel-dir "$work" "$source"
for wheel in "$work"/gpugrad-*.whl; do :; done
built=${wheel##*/gpugrad-}
built=${built%%-*}
[ "${version:-$built}" = "$built" ] || {
    echo "install.sh: the label says version $version, the package is $built" >&2
    exit 1
}

# Its interpreter is a link to that of the base, which both stages share.
python3 -m venv --without-pip "$environment"
"$pip" --python "$environment/bin/python" install --quiet --only-binary :all: "${wheel}[$extras]"

# Nothing imports other packages' tests. NumPy's folders of tests hold a module that numpy.testing
# needs, hence by file; the pictures that Matplotlib compares with lie in folders of their own.
find "$environment" -path '*/tests/*' \( -name 'test_*' -o -name baseline_images \) \
    -prune -exec rm -rf {} +
# cuSOLVER for several GPUs at once, 107 MB, which CuPy has no call for.
find "$environment" -name 'libcusolverMg.so*' -delete

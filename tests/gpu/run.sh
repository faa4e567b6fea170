#!/bin/sh
# On a machine with an NVIDIA GPU: everything that needs one, in one command, from the repository's root.
#
#   OUT=results sh tests/gpu/run.sh [tests|sanitizer|bench ...]     (all three by default)
#
# PYTHON   the interpreter that has CuPy (python3). Nothing is installed into it: what it lacks is
#          unpacked beside it from the wheels in WHEELS, without a network, and CuPy is left alone.
# WHEELS   a folder of wheels (none by default).
# OUT      where the reports go (runs/gpu): machine.txt, tests.txt, sanitizer.txt, bench.md, bench.err.
# LIMIT    seconds for each part (none by default).
set -u
cd "$(dirname "$0")/../.." || exit 1
PYTHON=${PYTHON:-python3}
OUT=${OUT:-runs/gpu}
parts=${*:-tests sanitizer bench}
mkdir -p "$OUT"
status=0

# module=distribution of what tests and benchmarks import. Without a wheel the parts that need it say so.
needed="fastrlock=fastrlock numpy=numpy pytest=pytest hypothesis=hypothesis sortedcontainers=sortedcontainers
iniconfig=iniconfig pluggy=pluggy scipy=scipy sklearn=scikit-learn threadpoolctl=threadpoolctl mygrad=mygrad
rbms=rbms autograd=autograd typer=typer shellingham=shellingham annotated_doc=annotated-doc rich=rich
markdown_it=markdown-it-py mdurl=mdurl pygments=pygments safetensors=safetensors h5py=h5py
matplotlib=matplotlib tqdm=tqdm"

if [ -n "${WHEELS:-}" ]; then
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    for pair in $needed; do
        "$PYTHON" -c "import importlib.util, sys; sys.exit(importlib.util.find_spec('${pair%%=*}') is None)" \
            2>/dev/null && continue
        "$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --find-links "$WHEELS" \
            --target "$site" "${pair#*=}" 2>/dev/null || echo "no wheel for ${pair#*=} in $WHEELS"
    done
    PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
fi
PYTHONPATH=.${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH PYTHONUNBUFFERED=1

limited() { if [ -n "${LIMIT:-}" ]; then timeout "$LIMIT" "$@"; else "$@"; fi; }

# with_status FILE COMMAND...: shows the output, keeps it in FILE, and returns the command's status.
with_status() {
    file=$1
    shift
    { limited "$@" 2>&1; echo "exit status $?"; } | tee "$file"
    return "$(sed -n 's/^exit status //p' "$file" | tail -n 1)"
}

{
    date -u
    nvidia-smi 2>&1 || echo "no nvidia-smi"
    "$PYTHON" -c 'import cupy; cupy.show_config()' 2>&1
    "$PYTHON" -m pip list 2>/dev/null
} >"$OUT/machine.txt"

for part in $parts; do
    echo "== $part"
    case $part in
    tests)
        with_status "$OUT/tests.txt" "$PYTHON" -m pytest -m gpu --long -p no:cacheprovider tests || status=1
        ;;
    sanitizer)
        # The kernels' tests once under each tool; a fault it finds ends the run with status 9.
        if command -v compute-sanitizer >/dev/null 2>&1; then
            : >"$OUT/sanitizer.txt"
            for tool in memcheck racecheck synccheck initcheck; do
                echo "-- $tool"
                with_status "$OUT/sanitizer-$tool.txt" compute-sanitizer --tool "$tool" --error-exitcode 9 \
                    "$PYTHON" -m pytest -m gpu -q -x -p no:cacheprovider tests/primitives || status=1
                { echo "== $tool"; cat "$OUT/sanitizer-$tool.txt"; } >>"$OUT/sanitizer.txt"
                rm -f "$OUT/sanitizer-$tool.txt"
            done
        else
            echo "not run: compute-sanitizer is not on the PATH" | tee "$OUT/sanitizer.txt"
        fi
        ;;
    bench)
        limited "$PYTHON" -m tests.bench --output "$OUT/bench.md" 2>"$OUT/bench.err" || status=1
        ;;
    *)
        echo "unknown part '$part': expected tests, sanitizer or bench" >&2
        status=2
        ;;
    esac
done
exit $status

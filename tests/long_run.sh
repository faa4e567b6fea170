#!/bin/sh
# long_run.sh LOG COMMAND...: runs the command and keeps what a reader of the log wants: the date, the
# machine, each long test with its time, and pytest's closing line. Called by `make test-long`.
log=$1
shift
raw=$(mktemp)
trap 'rm -f "$raw"' EXIT
started=$(date -u '+%Y-%m-%d %H:%M UTC')
{
    env "$@" --durations=30 --durations-min=1
    echo "exit status $?"
} 2>&1 | tee "$raw"
status=$(sed -n 's/^exit status //p' "$raw" | tail -n 1)
{
    echo "make test-long, started $started, $(uname -sm), $(getconf _NPROCESSORS_ONLN) cores"
    grep -E '^(platform|numpy|gpugrad|SKIPPED|XFAIL|FAILED|ERROR) ?' "$raw"
    sed -n '/slowest/,/^=.*\(short test summary\| in [0-9.]*s\)/p' "$raw" | grep -E '^=+ slowest|s (call|setup|teardown) '
    grep -E '^=+ .* in [0-9.]+s' "$raw" | tail -n 1
    echo "exit status $status"
} >"$log"
exit "$status"

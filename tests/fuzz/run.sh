#!/usr/bin/env bash
# run.sh [SECONDS [TARGET…]]: builds the fuzz targets and runs each for so many seconds (60), all of them unless some are named.
# Ends with a line a target; a find stops the script, and is in tests/fuzz/artifacts/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
seconds=${1:-60}
shift || true
if [ $# = 0 ]; then
    mapfile -t targets < <(cargo fuzz list --fuzz-dir tests/fuzz)
    set -- "${targets[@]}"
fi
# What the readers say belongs to nobody here.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Targets are built for a stable compiler: without a sanitizer, which only the C library would profit from.
cargo fuzz build --fuzz-dir tests/fuzz --sanitizer none
for target; do
    mkdir -p "tests/fuzz/corpus/$target" "tests/fuzz/seeds/$target"
    cargo fuzz run --fuzz-dir tests/fuzz --sanitizer none "$target" "tests/fuzz/corpus/$target" "tests/fuzz/seeds/$target" -- \
        -max_total_time="$seconds" -max_len=65536 -timeout=20 -rss_limit_mb=4096 -malloc_limit_mb=3072 -close_fd_mask=1 -print_final_stats=1 \
        >"$log" 2>&1 || { tail -50 "$log"; exit 1; }
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    echo "$target: $executions executions in $seconds s, $(find "tests/fuzz/corpus/$target" -type f | wc -l) inputs kept"
done

#!/usr/bin/env bash
# What --trace costs: the same steps with and without, in turns, on one rank and on two; medians of seconds a step.
#   benches/trace_cost.sh DATA.h5 [ROUNDS]      about 25 s a round at 100 steps; ROUNDS (default 7)
# Knobs: STEPS (100), BATCH (16), RANKS ("1 2"), GLASSES (target/release/glasses), MPIRUN (mpirun).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$here/jobs/mpi_env.sh"
data=$(realpath "$1")
rounds=${2:-7}
program=$(realpath "${GLASSES:-$here/target/release/glasses}")
cd "$(mktemp -d)"

# run NAME RANKS ARGS: adds milliseconds a step to the file NAME.
run() {
    local name=$1 ranks=$2
    shift 2
    rm -rf out
    "${MPIRUN:-mpirun}" -n "$ranks" "$program" train --data "$data" --batch "${BATCH:-16}" --optimizer sgd --lr 1e-5 \
        --max-steps "${STEPS:-100}" --eval-every 1000 --checkpoint-every never --digest-every 100000 --out out "$@" >log 2>&1 ||
        { cat log >&2; exit 1; }
    sed -n 's/.*"images_per_sec": \([0-9.]*\).*/\1/p' out/summary.json | awk -v b="${BATCH:-16}" '{ print 1000 * b / $1 }' >>"$name"
}
median() { sort -n "$1" | awk '{ v[NR] = $1 } END { printf "%.3f", NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

for ((round = 0; round < rounds; round++)); do
    for ranks in ${RANKS:-1 2}; do
        # The other one first in every second round.
        if ((round % 2)); then
            run "on-$ranks" "$ranks" --trace trace.json
            run "off-$ranks" "$ranks"
        else
            run "off-$ranks" "$ranks"
            run "on-$ranks" "$ranks" --trace trace.json
        fi
        paste -d' ' "off-$ranks" "on-$ranks" | awk '{ print 100 * ($2 / $1 - 1) }' >"pairs-$ranks"
    done
done
echo "| ms a step, medians of $rounds | without | with --trace | more | median of the pairs |"
echo "|---|---|---|---|---|"
for ranks in ${RANKS:-1 2}; do
    more=$(awk -v a="$(median "off-$ranks")" -v b="$(median "on-$ranks")" 'BEGIN { printf "%+.2f", 100 * (b / a - 1) }')
    echo "| $ranks rank(s) | $(median "off-$ranks") | $(median "on-$ranks") | $more % | $(median "pairs-$ranks") % |"
done

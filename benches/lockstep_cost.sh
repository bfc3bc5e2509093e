#!/usr/bin/env bash
# What the same bits on any number of ranks cost: the same steps with and without each part of it, in turns, and medians.
#   benches/lockstep_cost.sh DATA.h5 [ROUNDS]      about a minute a round; ROUNDS (default 5)
# Knobs: STEPS (40 a run, 12 on 8 ranks), BATCH (16), GLASSES (target/release/glasses), MPIRUN (mpirun).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$here/jobs/mpi_env.sh"
data=$(realpath "$1")
rounds=${2:-5}
program=${GLASSES:-$here/target/release/glasses}
cd "$(mktemp -d)"

# run NAME RANKS STEPS ARGS: adds images/s to the file NAME.
run() {
    local name=$1 ranks=$2 steps=$3
    shift 3
    rm -rf out
    "${MPIRUN:-mpirun}" -n "$ranks" "$program" train --data "$data" --batch "${BATCH:-16}" --optimizer sgd --lr 1e-5 --max-steps "$steps" \
        --eval-every 1000 --checkpoint-every never --digest-every "${digests:-100000}" --out out "$@" >log 2>&1 || { cat log >&2; exit 1; }
    sed -n 's/.*"images_per_sec": \([0-9.]*\).*/\1/p' out/summary.json >>"$name"
}
median() { sort -n "$1" | awk '{ v[NR] = $1 } END { printf "%.1f", NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

for ((round = 0; round < rounds; round++)); do
    run one-shards 1 "${STEPS:-40}" --shards 8
    run one-whole 1 "${STEPS:-40}" --shards 1
    digests=1 run one-digests 1 "${STEPS:-40}" --shards 8
    run two-tree 2 "${STEPS:-40}" --reduce tree
    run two-mpi 2 "${STEPS:-40}" --reduce mpi
    run eight-tree 8 12 --reduce tree
    run eight-mpi 8 12 --reduce mpi
done
line() { echo "| $1 | $(median "$2") | $(median "$3") | $(awk -v a="$(median "$2")" -v b="$(median "$3")" 'BEGIN { printf "%+.1f %%", 100 * (b / a - 1) }') |"; }
echo "| images/s, medians of $rounds | with | without | time more |"
echo "|---|---|---|---|"
line "one rank: 8 shards, 1 shard" one-shards one-whole
line "one rank: a digest of all weights and shards every step, none" one-digests one-shards
line "2 ranks: --reduce tree, mpi" two-tree two-mpi
line "8 ranks of one shard: --reduce tree, mpi" eight-tree eight-mpi

#!/usr/bin/env bash
# What batch norm's exchanges cost: resnet20 with one group of all rows of the batch against groups that lie inside ranks, in turns.
#   benches/norms.sh [ROUNDS [arguments for glasses train]]       a minute a round; ROUNDS (default 7)
# 2 ranks of this machine, a core each; 8 ranks on the same two cores; 2 hosts of a rank each with a slow network between them (namespaces.sh).
# Knobs: RATE (1gbit; as tc writes it), BATCH (64), SIZE (32: of the pictures), PICTURES (1600), MODEL (resnet20); the others of rounds.sh and namespaces.sh.
set -euo pipefail
# shellcheck source=benches/namespaces.sh
. "$(dirname "${BASH_SOURCE[0]}")/namespaces.sh"
netns_enter "$0" "$@"
# shellcheck source=benches/rounds.sh
. "$(dirname "${BASH_SOURCE[0]}")/rounds.sh"
export NETNS_SECONDS=${SECONDS_A_RUN:-120}
batch=${BATCH:-64} rate=${RATE:-1gbit} made=$(mktemp -d)
"$glasses" synth --size "${SIZE:-32}" --count "${PICTURES:-1600}" --out "$made/faces.h5" >/dev/null
DATA=$made/faces.h5 rounds_begin "${1:-7}" "${@:2}"
trap 'rm -rf "$folder" "$made"' EXIT
netns_up 2 "$rate"
shared() { "${limit[@]}" taskset -c 0-1 "${MPIRUN:-mpirun}" --bind-to none -n "$@"; }
hosts() { netns_mpirun 1 "${@:2}"; }

arguments=(${extra[@]+"${extra[@]}"})
turn() { # LAUNCHER RANKS GROUPS
    local rows=all
    [ "$3" = all ] || rows=$((batch / $2))
    extra=(--model "${MODEL:-resnet20}" --shards 8 --norm-rows "$rows" ${arguments[@]+"${arguments[@]}"})
    train "$batch" "$1" "$2"
    train_speed >>"$1-$2-$3"
}
works=("mpirun_pinned 2" "shared 8" "hosts 2")
for ((round = 0; round < rounds; round++)); do
    for work in "${works[@]}"; do
        for groups in $(rotated "$round" all inside); do
            # shellcheck disable=SC2086
            turn $work "$groups"
        done
    done
    echo "round $((round + 1)) of $rounds" >&2
done

extra=("${arguments[@]}")
circumstances
echo "| ${MODEL:-resnet20}, batch $batch, images/s | one group | groups inside ranks | time of one group |"
echo "|---|---|---|---|"
row() { # NAME FILES
    ratio "$2-inside" "$2-all" cost
    echo "| $1 | $(spread "$2-all") | $(spread "$2-inside") | × $(spread cost %.3f) |"
}
row "2 ranks" mpirun_pinned-2
row "8 ranks on 2 cores" shared-8
row "2 hosts at $rate" hosts-2
ratio mpirun_pinned-2-all shared-8-all crowded
echo
echo "8 ranks on 2 cores against 2 ranks, one group: × $(spread crowded %.3f) the time"

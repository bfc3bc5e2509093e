#!/usr/bin/env bash
# Two ranks on two cores, in turns: glasses, PyTorch DDP (gloo), TensorFlow MultiWorkerMirroredStrategy (ring). Images/s over both.
#   benches/two_ranks.sh [ROUNDS [arguments for glasses train]]       half a minute a round; ROUNDS (default 5)
# Knobs: ROWS ("8 16": images a rank), PEERS ("torch tf"), CORES ("0 1", of the peers); those of rounds.sh.
set -euo pipefail
# shellcheck source=benches/rounds.sh
. "$(dirname "${BASH_SOURCE[0]}")/rounds.sh"
read -ra rows <<<"${ROWS:-8 16}"
read -ra peers <<<"${PEERS-torch tf}"
read -ra cores <<<"${CORES:-0 1}"
[ "${#peers[@]}" = 0 ] || need_python "${peers[@]/%tf/tensorflow}"
rounds_begin "${1:-5}" "${@:2}"

on_core() { "${limit[@]}" taskset -c "${cores[$1]}" "${@:2}"; }
turn() {
    local n i=0 speeds
    if [ "$1" = glasses ]; then
        for n in "${rows[@]}"; do
            train $((2 * n)) mpirun_pinned 2
            train_speed >>"glasses-$n"
        done
    else
        speeds=$(peer "ddp_$1.py" 2 127.0.0.1 on_core "${STEPS:-40}" "${rows[@]}")
        for n in "${rows[@]}"; do
            i=$((i + 1))
            sed -n "${i}p" <<<"$speeds" >>"$1-$n"
        done
    fi
}
for ((round = 0; round < rounds; round++)); do
    for contestant in $(rotated "$round" glasses ${peers[@]+"${peers[@]}"}); do turn "$contestant"; done
    echo "round $((round + 1)) of $rounds" >&2
done

circumstances
head="| images a rank | glasses |" line="|---|---|"
for peer in ${peers[@]+"${peers[@]}"}; do
    head+=" $peer | glasses / $peer |" line+="---|---|"
done
echo "$head"
echo "$line"
for n in "${rows[@]}"; do
    row="| $n | $(spread "glasses-$n") |"
    for peer in ${peers[@]+"${peers[@]}"}; do
        ratio "glasses-$n" "$peer-$n" ratio
        row+=" $(spread "$peer-$n") | $(spread ratio %.2f) |"
    done
    echo "$row"
done

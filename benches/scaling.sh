#!/usr/bin/env bash
# Two ranks of glasses against one, a core each, in turns: the same images a rank (weak) and the same batch (strong).
#   benches/scaling.sh [ROUNDS [arguments for glasses train]]       about 20 seconds a round; ROUNDS (default 5)
# Knobs: those of rounds.sh.
set -euo pipefail
# shellcheck source=benches/rounds.sh
. "$(dirname "${BASH_SOURCE[0]}")/rounds.sh"
rounds_begin "${1:-5}" "${@:2}"

# RANKSxBATCH
works=(1x8 1x16 1x32 2x16 2x32)
for ((round = 0; round < rounds; round++)); do
    for work in $(rotated "$round" "${works[@]}"); do
        train "${work#*x}" mpirun_pinned "${work%x*}"
        train_speed >>"$work"
    done
    echo "round $((round + 1)) of $rounds" >&2
done

circumstances
row() {
    ratio "$3" "$2" efficiency 50
    echo "| $1 | $(spread "$2") | $(spread "$3") | $(spread efficiency %.1f) % |"
}
echo "| images/s | 1 rank | 2 ranks | efficiency |"
echo "|---|---|---|---|"
row "weak, 8 images a rank" 1x8 2x16
row "weak, 16 images a rank" 1x16 2x32
row "strong, batch 32" 1x32 2x32

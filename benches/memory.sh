#!/usr/bin/env bash
# The most memory that a rank holds (VmHWM, of the ranks the largest), beside what `glasses info` predicts, in MB.
#   benches/memory.sh      some minutes; makes its own data. GLASSES (target/release/glasses), MPIRUN (mpirun)
# The network 'small' has 58 weights: what its runs take is the program's and MPI's own, PROGRAM, MPI and MPI_A_RANK of src/train/memory.rs.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$here/jobs/mpi_env.sh"
program=$(realpath "${GLASSES:-$here/target/release/glasses}")
cd "$(mktemp -d)"
cat >small.toml <<'EOF'
name = "small"
layers = ["conv 3x3x1", "maxpool 8", "global_avgpool", "dense 4", "relu", "dense classes"]
EOF
cat >conv.toml <<'EOF'
name = "conv"
layers = ["conv 3x3x64", "relu", "maxpool 2", "conv 3x3x128", "relu", "maxpool 2", "conv 3x3x256", "relu", "global_avgpool", "dense classes"]
EOF
# A rank that watches itself: prints its peak when it ends.
cat >rank.sh <<'EOF'
"$@" >log.$$ 2>&1 & child=$!
while peak=$(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\).*/\1/p' /proc/$child/status 2>/dev/null); do
    case $peak in '') break ;; *) echo "$peak" >peak.$$ ;; esac
    sleep 0.003
done
wait $child || { cat log.$$ >&2; exit 1; }
EOF
"$program" synth --size 80 --count 600 --test 0.25 --out faces.h5 >/dev/null

# measure NETWORK RANKS ROWS OPTIMIZER COMM
measure() {
    rm -rf out peak.*
    local start=()
    (($2 > 1)) && start=("${MPIRUN:-mpirun}" -n "$2")
    "${start[@]}" bash rank.sh "$program" train --data faces.h5 --model "$1" --batch $(($2 * $3)) --optimizer "$4" --comm "$5" --epochs 1 --max-steps 3 \
        --out out
    local predicted
    predicted=$("$program" info --model "$1" --batch "$3" --ranks "$2" --optimizer "$4" --comm "$5" --rows $((600 / $2)) --json |
        sed 's/.*"training_bytes":\([0-9]*\).*/\1/')
    sort -n peak.* | awk -v what="| $1 | $2 | $3 | $4 | $5" -v predicted="$predicted" \
        '{ most = $1 * 1024 } END { printf "%s | %.1f | %.1f | %+.1f %% |\n", what, most / 1e6, predicted / 1e6, 100 * (predicted / most - 1) }'
}
echo "| network | ranks | rows a rank | optimizer | comm | measured | predicted | |"
echo "|---|---|---|---|---|---|---|---|"
for ranks in 1 2 4 8; do measure small.toml "$ranks" 16 sgd reduce; done
for network in glasses conv.toml; do
    measure "$network" 1 16 sgd split
    measure "$network" 1 100 adamw reduce
    for comm in reduce factors split; do measure "$network" 2 16 adamw "$comm"; done
    measure "$network" 2 100 sgd reduce
    measure "$network" 4 8 adamw reduce
done

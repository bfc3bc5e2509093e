#!/usr/bin/env bash
# The most memory that a rank holds (VmHWM, of the ranks the largest), beside what `glasses info` predicts, in MB.
#   benches/memory.sh      some minutes; makes its own data. GLASSES (target/release/glasses), MPIRUN (mpirun)
# Fifteen networks: five without norms and five with them of the zoo, three with blocks (those of tests/golden/graphs.toml on larger maps), one of convolutions
# only, and 'small' of 58 weights: what its runs take is the program's and MPI's own, PROGRAM, MPI, MPI_A_RANK and REPORT of src/train/memory.rs.
# Knobs: NETWORKS (all of these on one rank), NETWORKS_2 (on two), NETWORKS_4 (on four).
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
cat >residual.toml <<'EOF'
name = "residual"
layers = [
    "conv 3x3x32 stride 2 pad 1", "relu",
    { name = "layer1", repeat = 2, layers = [{ residual = ["conv 3x3x32", "relu", "conv 3x3x32"] }, "relu"] },
    { name = "layer2", layers = [{ residual = ["conv 3x3x64 stride 2 pad 1", "relu", "conv 3x3x64"], shortcut = ["conv 1x1x64 stride 2 pad 0"] }, "relu"] },
    "global_avgpool", "dense classes",
]
EOF
cat >concatenated.toml <<'EOF'
name = "concatenated"
layers = [
    "conv 3x3x16", "sigmoid",
    { branches = [["conv 1x1x16", "relu"], ["maxpool 3 stride 1 pad 1"], ["conv 3x3x16", "relu", "conv 3x3x16"], []], join = "concat" },
    "conv 3x3x32", "relu", "avgpool 2",
    { branches = [["conv 3x3x32"], ["conv 1x1x32", "tanh"]], join = "concat" },
    "flatten", "dense 32", "relu", "dense classes",
]
EOF
cat >summed.toml <<'EOF'
name = "summed"
layers = [
    { branches = [["conv 3x3x16", "relu"], ["conv 5x5x16", "tanh"], ["conv 1x1x16", { residual = ["conv 3x3x16", "sigmoid"], shortcut = ["conv 1x1x16", "leaky_relu"] }]], join = "add" },
    "leaky_relu 0.2", "conv 3x3x32 stride 2 pad 0", "relu",
    { branches = [["global_avgpool", "dense 64", "relu"], ["conv 3x3x32", "relu", "flatten", "dense 64"], ["avgpool 2", "flatten"]], join = "concat" },
    "tanh", "dense classes",
]
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
"$program" synth --size 28 --count 600 --test 0.25 --out digits.h5 >/dev/null
"$program" synth --kind spiral --count 600 --test 0.25 --out spiral.h5 >/dev/null

# measure NETWORK RANKS ROWS OPTIMIZER COMM
measure() {
    rm -rf out peak.*
    local data=faces.h5 input=80x80x3
    case $1 in
        mnist) data=digits.h5 input=28x28x3 ;;
        spiral) data=spiral.h5 input=2 ;;
    esac
    local start=()
    (($2 > 1)) && start=("${MPIRUN:-mpirun}" -n "$2")
    "${start[@]}" bash rank.sh "$program" train --data $data --model "$1" --batch $(($2 * $3)) --optimizer "$4" --comm "$5" --epochs 1 --max-steps 3 \
        --out out
    local predicted
    predicted=$("$program" info --model "$1" --input $input --batch "$3" --ranks "$2" --optimizer "$4" --comm "$5" --rows $((600 / $2)) --json |
        sed 's/.*"training_bytes":\([0-9]*\).*/\1/')
    sort -n peak.* | awk -v what="| $1 | $2 | $3 | $4 | $5" -v predicted="$predicted" \
        '{ most = $1 * 1024 } END { printf "%s | %.1f | %.1f | %+.1f %% |\n", what, most / 1e6, predicted / 1e6, 100 * (predicted / most - 1) }'
}
echo "| network | ranks | rows a rank | optimizer | comm | measured | predicted | |"
echo "|---|---|---|---|---|---|---|---|"
norms="convnet resnet20 resnet18 mobilenet_v2 efficientnet_lite0"
for network in ${NETWORKS-small.toml mnist spiral conv.toml residual.toml concatenated.toml summed.toml glasses glasses-deep glasses-wide $norms}; do
    measure "$network" 1 16 adamw auto
    measure "$network" 1 100 adamw reduce
done
for network in ${NETWORKS_2-small.toml mnist spiral conv.toml glasses concatenated.toml $norms}; do
    for comm in auto reduce factors split; do measure "$network" 2 16 adamw "$comm"; done
    measure "$network" 2 100 sgd reduce
done
for network in ${NETWORKS_4-small.toml conv.toml glasses resnet20}; do measure "$network" 4 8 adamw reduce; done

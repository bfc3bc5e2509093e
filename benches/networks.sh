#!/usr/bin/env bash
# Networks with residual blocks and branches: every pair of (network, ranks, instruction set, plan, window, killed and resumed or not)
# comes up in one of at most 80 runs, and all runs of a network end in one digest of the weights. Fails where one differs.
#   benches/networks.sh [FOLDER]      about two minutes; FOLDER (default: a temporary one) keeps the runs
# Knobs: RANKS ("1 2 3 5 8 13"), STEPS (steps of a run, 100).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
runs=${1:-$(mktemp -d)}
mkdir -p "$runs"
. jobs/mpi_env.sh
cargo build --release --locked >&2
glasses=${CARGO_TARGET_DIR:-$PWD/target}/release/glasses
cd "$runs"
steps=${STEPS:-100}

network() { printf 'name = "%s"\nlayers = [%s]\n' "$1" "$2" >"$1.toml"; }
network residual '"conv 3x3x8 stride 2 pad 1", "relu", { repeat = 2, layers = [{ residual = ["conv 3x3x8", "relu", "conv 3x3x8"] }, "relu"] }, "maxpool 2", "flatten", "dense 33", "tanh", "dense classes"'
network shortcut '"conv 3x3x8", "relu", { name = "layer2", residual = ["conv 3x3x16 stride 2 pad 1", "relu", "conv 3x3x16"], shortcut = ["conv 1x1x16 stride 2 pad 0"] }, "relu", "global_avgpool", "dense classes"'
network concat '"conv 5x5x6 stride 2", "relu", { branches = [["conv 1x1x4", "relu"], ["maxpool 3 stride 1 pad 1"], []], join = "concat" }, "maxpool 2", "flatten", "dense 300", "relu", "dropout 0.2", "dense classes"'
network sum '"maxpool 2", { branches = [["conv 3x3x6", "relu"], ["conv 1x1x6", "tanh"], ["conv 5x5x6"]], join = "add" }, "leaky_relu", { branches = [["global_avgpool", "dense 9"], ["flatten", "dense 12", "sigmoid"]], join = "concat" }, "dense classes"'
network dense '"maxpool 4", "flatten", "dense 280", "relu", { repeat = 2, residual = ["dense 280", "relu"] }, { branches = [["dense 11"], ["dense 7", "tanh"], []], join = "concat" }, "dropout 0.1", "dense classes"'
networks="residual shortcut concat sum dense"
isas=""
for isa in scalar avx2 avx512 neon; do
    if GLASSES_ISA=$isa "$glasses" info --model spiral --input 2 >/dev/null 2>&1; then isas+="$isa "; fi
done
[ -e faces.h5 ] || "$glasses" synth --size 32 --count 300 --out faces.h5 >/dev/null

# A run a line: of all combinations, again and again the one that has the most pairs which none had before.
cover() {
    awk -v names="$networks;${RANKS:-1 2 3 5 8 13};$isas;reduce factors split auto;on off;whole killed" '
    function count(pick, mark,    i, j, key, new) {
        for (i = 1; i <= n; i++) for (j = i + 1; j <= n; j++) {
            key = i "=" pick[i] "," j "=" pick[j]
            if (!(key in seen)) { new++; if (mark) seen[key] = 1 }
        }
        return new + 0
    }
    function walk(i,    v) {
        if (i > n) {
            new = count(now, 0)
            if (new > best) { best = new; for (v = 1; v <= n; v++) chosen[v] = now[v] }
            return
        }
        for (v = 1; v <= size[i]; v++) { now[i] = value[i, v]; walk(i + 1) }
    }
    BEGIN {
        n = split(names, lists, ";")
        for (i = 1; i <= n; i++) { size[i] = split(lists[i], words, " "); for (v = 1; v <= size[i]; v++) value[i, v] = words[v] }
        do {
            best = 0; walk(1)
            if (best) { count(chosen, 1); line = chosen[1]; for (i = 2; i <= n; i++) line = line " " chosen[i]; print line }
        } while (best)
    }'
}

digest_of() { sed -n 's/.*"weights_sha256": "\([0-9a-f]*\)".*/\1/p' "$1/summary.json"; }
train() { # OUT NETWORK ARGUMENTS…
    local out=$1 network=$2
    shift 2
    "$glasses" train --data faces.h5 --model "$network.toml" --shards 13 --batch 20 --epochs 10 --max-steps "$steps" --clip-norm 1 \
        --optimizer adamw --lr 0.003 --out "$out" "$@"
}

declare -A want
for network in $networks; do
    rm -rf "alone-$network"
    GLASSES_ISA=scalar train "alone-$network" "$network" --comm reduce >"alone-$network.log" 2>&1
    want[$network]=$(digest_of "alone-$network")
    echo "$network ${want[$network]}"
done

# Kills a rank of `mpirun` PID as soon as the run in FOLDER has a checkpoint.
kill_one() { # PID FOLDER
    local pid=$1 rank
    while kill -0 "$pid" 2>/dev/null; do
        if compgen -G "$2/checkpoints/step-*.h5" >/dev/null; then
            rank=$(pgrep -P "$pid" | tail -1)
            kill -KILL "${rank:-$pid}" 2>/dev/null && return 0
        fi
        sleep 0.005
    done
    return 1
}

count=0 wrong=0 killed=0
while read -r network ranks isa plan window end; do
    out=$network-$ranks-$isa-$plan-$window-$end
    rm -rf "$out"
    export GLASSES_ISA=$isa
    start() { mpirun -n "$ranks" "$glasses" "$@" </dev/null; }
    if [ "$end" = killed ]; then
        mpirun -n "$ranks" "$glasses" train --data faces.h5 --model "$network.toml" --shards 13 --batch 20 --epochs 10 --max-steps "$steps" \
            --clip-norm 1 --optimizer adamw --lr 0.003 --out "$out" --comm "$plan" --window "$window" --checkpoint-every 2 >"$out.log" 2>&1 </dev/null &
        pid=$!
        if kill_one "$pid" "$out"; then killed=$((killed + 1)); fi
        wait "$pid" || true
        start train --resume "$out" --comm "$plan" --window "$window" >>"$out.log" 2>&1 || { cat "$out.log" >&2; exit 1; }
    else
        start train --data faces.h5 --model "$network.toml" --shards 13 --batch 20 --epochs 10 --max-steps "$steps" --clip-norm 1 \
            --optimizer adamw --lr 0.003 --out "$out" --comm "$plan" --window "$window" >"$out.log" 2>&1 || { cat "$out.log" >&2; exit 1; }
    fi
    count=$((count + 1))
    found=$(digest_of "$out")
    if [ "$found" != "${want[$network]}" ]; then
        echo "WRONG: $out ended in $found" >&2
        wrong=$((wrong + 1))
    fi
done < <(cover)
echo "$count runs, $killed of them killed and resumed, $wrong wrong"
[ "$wrong" = 0 ] && [ "$killed" -gt 0 ] && [ "$count" -le 80 ]

#!/usr/bin/env bash
# One digest a setting: for every network, all pairs of (ranks, instruction set, plan, window, launcher, killed and resumed or not) come up in at most
# 80 runs, and all of them end in the same weights. Fails where one differs.
#   benches/networks.sh [FOLDER]      some ten minutes; FOLDER (default: a temporary one) keeps the runs
# With blocks: residual shortcut concat sum dense; with norms: scaled resnet20 mobilenet_v2, each once with `--norm-rows all` and once with 16.
# Where mpicc.mpich is (Debian, Ubuntu: apt-get install mpich libmpich-dev), the program is built with it too, in target/mpich, and is a launcher of its own.
# Knobs: NETWORKS ("residual shortcut concat sum dense scaled resnet20 mobilenet_v2"), RANKS ("1 2 3 4 5 7 8 13"), STEPS (of a run: 100; 14 of one with norms).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
repository=$PWD
runs=${1:-$(mktemp -d)}
mkdir -p "$runs"
. jobs/mpi_env.sh
cargo build --release --locked >&2
glasses=${CARGO_TARGET_DIR:-$PWD/target}/release/glasses
cd "$runs"

network() { printf 'name = "%s"\nlayers = [%s]\n' "$1" "$2" >"$1.toml"; }
network residual '"conv 3x3x8 stride 2 pad 1", "relu", { repeat = 2, layers = [{ residual = ["conv 3x3x8", "relu", "conv 3x3x8"] }, "relu"] }, "maxpool 2", "flatten", "dense 33", "tanh", "dense classes"'
network shortcut '"conv 3x3x8", "relu", { name = "layer2", residual = ["conv 3x3x16 stride 2 pad 1", "relu", "conv 3x3x16"], shortcut = ["conv 1x1x16 stride 2 pad 0"] }, "relu", "global_avgpool", "dense classes"'
network concat '"conv 5x5x6 stride 2", "relu", { branches = [["conv 1x1x4", "relu"], ["maxpool 3 stride 1 pad 1"], []], join = "concat" }, "maxpool 2", "flatten", "dense 300", "relu", "dropout 0.2", "dense classes"'
network sum '"maxpool 2", { branches = [["conv 3x3x6", "relu"], ["conv 1x1x6", "tanh"], ["conv 5x5x6"]], join = "add" }, "leaky_relu", { branches = [["global_avgpool", "dense 9"], ["flatten", "dense 12", "sigmoid"]], join = "concat" }, "dense classes"'
network dense '"maxpool 4", "flatten", "dense 280", "relu", { repeat = 2, residual = ["dense 280", "relu"] }, { branches = [["dense 11"], ["dense 7", "tanh"], []], join = "concat" }, "dropout 0.1", "dense classes"'
network scaled '"conv 3x3x8 stride 2", "batch_norm", "relu6", { branches = [["conv 1x1x12", "batch_norm"], [{ layers = ["depthwise 3x3", "batch_norm momentum 0.2", "hard_swish"] }, "conv 1x1x12", "drop_path 0.3"], ["maxpool 3 stride 1 pad 1", "conv 3x3x12 groups 4", "group_norm 3"]], join = "add" }, "silu", { scale = ["global_avgpool", "dense 6", "relu", "dense 12", "sigmoid"] }, { residual = ["conv 3x3x12 dilation 2", "batch_norm scale no", "gelu", "conv 3x3x12", "batch_norm", "drop_path 0.2"] }, "global_avgpool", "dropout 0.2", "dense classes"'
isas=""
for isa in scalar avx2 avx512 neon; do
    if GLASSES_ISA=$isa "$glasses" info --model spiral --input 2 >/dev/null 2>&1; then isas+="$isa "; fi
done
mpis=openmpi
if command -v mpicc.mpich >/dev/null && command -v mpirun.mpich >/dev/null && command -v mpirun.openmpi >/dev/null; then
    (cd "$repository" && CARGO_TARGET_DIR=$repository/target/mpich MPICC=mpicc.mpich cargo build --release --locked --quiet --bin glasses) >&2
    mpis="openmpi mpich"
else
    echo "NOT TESTED: MPICH (no mpicc.mpich)" >&2
fi
[ -e faces.h5 ] || "$glasses" synth --size 32 --count 300 --out faces.h5 >/dev/null

# A run a line: of all combinations, again and again the one that has the most pairs which none had before.
cover() {
    awk -v names="${RANKS:-1 2 3 4 5 7 8 13};$isas;reduce factors split auto;on off;$mpis;whole killed" '
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

# Kills a rank of `mpirun` PID as soon as the run in FOLDER has a checkpoint.
kill_one() { # PID FOLDER
    local pid=$1 ranks
    while kill -0 "$pid" 2>/dev/null; do
        if compgen -G "$2/checkpoints/step-*.h5" >/dev/null; then
            # Open MPI's ranks are children of mpirun, those of MPICH of its hydra_pmi_proxy.
            ranks=$(pgrep -P "$pid" hydra_pmi_proxy || echo "$pid")
            ranks=$(pgrep -P "$ranks" glasses | tail -1)
            kill -KILL "${ranks:-$pid}" 2>/dev/null && return 0
        fi
        sleep 0.005
    done
    return 1
}

# launch MPI RANKS ARGUMENTS…: in the background, as $pid.
launch() {
    local run=(mpirun -n "$2" "$glasses")
    if [ "$1" = mpich ]; then
        run=(mpirun.mpich -n "$2" "$repository/target/mpich/release/glasses")
    elif [ "$mpis" != openmpi ]; then
        run[0]=mpirun.openmpi
    fi
    "${run[@]}" "${@:3}" </dev/null &
    pid=$!
}

# setting NAME MODEL STEPS ARGUMENTS…: all runs of it.
setting() {
    local name=$1 count=0 killed=0 wrong=0 line ranks isa plan window mpi end out want found
    line=(train --data faces.h5 --model "$2" --shards 13 --epochs 10 --max-steps "$3" --clip-norm 1 --optimizer adamw --lr 0.003 "${@:4}")
    rm -rf "alone-$name"
    GLASSES_ISA=scalar "$glasses" "${line[@]}" --comm reduce --out "alone-$name" >"alone-$name.log" 2>&1 || { cat "alone-$name.log" >&2; exit 1; }
    want=$(digest_of "alone-$name")
    while read -r ranks isa plan window mpi end; do
        out=$name-$ranks-$isa-$plan-$window-$mpi-$end
        rm -rf "$out"
        export GLASSES_ISA=$isa
        if [ "$end" = killed ]; then
            launch "$mpi" "$ranks" "${line[@]}" --out "$out" --comm "$plan" --window "$window" --checkpoint-every 2 >"$out.log" 2>&1
            if kill_one "$pid" "$out"; then killed=$((killed + 1)); fi
            wait "$pid" || true
            # Elsewhere: on the next number of ranks.
            launch "$mpi" $((ranks % 5 + 1)) train --resume "$out" --comm "$plan" --window "$window" >>"$out.log" 2>&1
        else
            launch "$mpi" "$ranks" "${line[@]}" --out "$out" --comm "$plan" --window "$window" >"$out.log" 2>&1
        fi
        wait "$pid" || { cat "$out.log" >&2; exit 1; }
        count=$((count + 1))
        found=$(digest_of "$out")
        if [ "$found" != "$want" ]; then
            echo "WRONG: $out ended in $found" >&2
            wrong=$((wrong + 1))
        fi
    done < <(cover)
    echo "$name: $count runs, $killed of them killed and resumed, $wrong wrong; $want"
    case $digests in *"$want"*) echo "WRONG: another setting has this digest too" >&2; failed=1 ;; esac
    digests+=" $want"
    [ "$wrong" = 0 ] && [ "$killed" -gt 0 ] && [ "$count" -le 80 ] || failed=1
}

failed=0 digests=''
for network in ${NETWORKS:-residual shortcut concat sum dense scaled resnet20 mobilenet_v2}; do
    case $network in
        scaled | resnet20 | mobilenet_v2)
            # Of 40 rows in 13 shards two groups have at least 16.
            model=$network
            [ "$network" != scaled ] || model=scaled.toml
            for rows in all 16; do setting "$network-$rows" "$model" "${STEPS:-14}" --batch 40 --norm-rows "$rows"; done
            ;;
        *) setting "$network" "$network.toml" "${STEPS:-100}" --batch 20 ;;
    esac
done
exit "$failed"

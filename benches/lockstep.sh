#!/usr/bin/env bash
# The tables of benches/results/2026-11-25-communication-epyc-zen5.md: the same run on many numbers of ranks, every instruction set of this processor and every MPI that is
# installed, and by every plan of communication, and the digest of its weights. Fails unless all are one.
#   benches/lockstep.sh [FOLDER]      about fifteen minutes; FOLDER (default: a temporary one) keeps the runs
# Knobs: RANKS ("1 2 3 4 5 7 8 13"), MPIS ("openmpi mpich": wrappers mpicc.NAME and mpirun.NAME; those that are missing are
# said and left out), STEPS (steps of a run, 40).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
read -ra ranks <<<"${RANKS:-1 2 3 4 5 7 8 13}"
read -ra mpis <<<"${MPIS:-openmpi mpich}"
runs=${1:-$(mktemp -d)}
mkdir -p "$runs"
runs=$(cd "$runs" && pwd)

. jobs/mpi_env.sh
columns=()
# The MPI of a plain `cargo build` has its usual folder, others one each.
folder_of() { [ "$(realpath "$(command -v "mpicc.$1")")" = "$(realpath "$(command -v mpicc)")" ] && echo target || echo "target/$1"; }
for mpi in "${mpis[@]}"; do
    if ! command -v "mpicc.$mpi" >/dev/null || ! command -v "mpirun.$mpi" >/dev/null; then
        echo "LEFT OUT: $mpi (no mpicc.$mpi and mpirun.$mpi here)" >&2
        continue
    fi
    echo "building with $mpi" >&2
    folder=$(folder_of "$mpi")
    if [ "$folder" = target ]; then
        cargo build --release --locked >&2
    else
        MPICC=mpicc.$mpi cargo build --release --locked --target-dir "$folder" >&2
    fi
    columns+=("$mpi")
done
cd "$runs"
program() { echo "$root/$(cd "$root" && folder_of "$1")/release/glasses"; }
glasses() { "$(program "$1")" "${@:2}"; }
[ -e faces.h5 ] || glasses "${columns[0]}" synth --size 32 --count 500 --out faces.h5 >/dev/null
# What this processor has not is refused.
isas=()
for isa in scalar avx2 avx512 neon; do
    if GLASSES_ISA=$isa glasses "${columns[0]}" info --model spiral --input 2 >/dev/null 2>&1; then isas+=("$isa"); fi
done

head="| ranks |" line="|---|"
for mpi in "${columns[@]}"; do
    for isa in "${isas[@]}"; do
        head+=" $mpi, $isa |" line+="---|"
    done
done
echo "$head"
echo "$line"
declare -A seen
count=0
# run NAME MPI ISA RANKS ARGUMENTS…: sets `digest`.
run() {
    local out=$1 mpi=$2 isa=$3 n=$4
    shift 4
    rm -rf "$out"
    GLASSES_ISA=$isa "mpirun.$mpi" -n "$n" "$(program "$mpi")" train --data faces.h5 --shards 13 --batch 20 --epochs 10 \
        --max-steps "${STEPS:-40}" --clip-norm 1 --out "$out" "$@" >"$out.log" 2>&1 || { cat "$out.log" >&2; exit 1; }
    digest=$(sed -n 's/.*"weights_sha256": "\([0-9a-f]*\)".*/\1/p' "$out/summary.json")
    seen[$digest]=1
    count=$((count + 1))
}
for n in "${ranks[@]}"; do
    row="| $n |"
    for mpi in "${columns[@]}"; do
        for isa in "${isas[@]}"; do
            run "$mpi-$isa-$n" "$mpi" "$isa" "$n"
            row+=" ${digest:0:12} |"
        done
    done
    echo "$row"
done
echo
# Plans: on the best instruction set and the first MPI; the last column records a timeline besides.
plans=("reduce on" "reduce off" "factors on" "factors off" "split on" "split off" "auto auto")
head="| ranks |" line="|---|"
for plan in "${plans[@]}"; do
    head+=" ${plan% *}, window ${plan#* } |" line+="---|"
done
echo "${head% |}, trace |"
echo "$line"
for n in "${ranks[@]}"; do
    row="| $n |"
    for plan in "${plans[@]}"; do
        name="plan-${plan/ /-}-$n" more=(--comm "${plan% *}" --window "${plan#* }")
        [ "$plan" != "auto auto" ] || more+=(--trace "$name.json")
        run "$name" "${columns[0]}" "${isas[-1]}" "$n" "${more[@]}"
        row+=" ${digest:0:12} |"
    done
    echo "$row"
done
echo
if [ "${#seen[@]}" != 1 ]; then
    echo "$count runs ended in ${#seen[@]} different digests: ${!seen[*]}"
    exit 1
fi
echo "$count runs, one digest: ${!seen[*]}"

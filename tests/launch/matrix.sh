#!/usr/bin/env bash
# Every way to start ranks against every MPI: real launchers, real builds, a real Slurm of two nodes.
#
#   tests/launch/matrix.sh [GLASSES]    default: target/release/glasses, built with Open MPI
#
# Where mpicc.mpich is (Debian, Ubuntu: apt-get install mpich libmpich-dev), the program is built with it too, in target/mpich,
# and gets the same rows. A right launch trains to the weights of one rank. A wrong one ends with code 2 and one message, before MPI
# says a word, and what the message tells to type instead is typed: it has to train to these weights.
# What cannot run here goes to the file $SKIPPED_TESTS. Knobs: CLUSTER, PORT (tests/slurm/cluster.sh).
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$repository"
export CLUSTER=${CLUSTER:-/tmp/glasses-matrix} PORT=${PORT:-17400}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 NO_COLOR=1
# The nodes are one machine, but its memory is not shared between them, which UCX (below MPICH) does not see.
export UCX_TLS=tcp,self

case ${1-} in
    -*) sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac
open_mpi=$(realpath "${1:-target/release/glasses}")
passed=0 failed=0 number=0

skip() {
    echo "test launch::$1 ... SKIPPED: $2"
    if [ -n "${SKIPPED_TESTS-}" ]; then echo "launch::$1: $2" >>"$SKIPPED_TESTS"; fi
}

# share_dependencies: a new target/mpich begins with the dependencies that were built for Open MPI, but for what knows of MPI (cargo would
# take it for fresh: mpi-sys does not say that it depends on $MPICC).
share_dependencies() {
    [ -d target/release/deps ] && [ ! -d target/mpich/release/deps ] || return 0
    mkdir -p target/mpich/release
    tar -C target/release --format=posix -c --exclude='deps/*glasses-*' --exclude='deps/it-*' --exclude='.fingerprint/glasses-[0-9a-f]*' \
        --exclude='.fingerprint/mpi-*' --exclude='build/mpi-sys-*' --exclude='deps/libmpi*' deps build .fingerprint |
        tar -C target/mpich/release -x
}

# verdict NAME TROUBLE: nothing in TROUBLE is well.
verdict() {
    if [ -z "$2" ]; then
        echo "test launch::$1 ... ok"
        passed=$((passed + 1))
    else
        echo "test launch::$1 ... FAILED: $2"
        sed 's/^/    /' "$work/out" "$work/err"
        failed=$((failed + 1))
    fi
}

# start LINE: in the work folder; leaves $code and what it said.
start() {
    code=0
    (cd "$work" && timeout --kill-after=5s 60s bash -c "$1") >"$work/out" 2>"$work/err" </dev/null || code=$?
}

# train_line: what glasses is told, in a folder that is new every time.
train_line() {
    number=$((number + 1))
    train="train --data f.h5 --epochs 1 --out run-$number"
}

# trained RANKS: nothing, or what is wrong with the run that ended.
trained() {
    if [ "$code" != 0 ]; then echo "ended with $code"
    elif ! grep -q "^$1 rank" "$work/out"; then echo "not on $1 ranks"
    elif ! grep -q "$weights" "$work/out"; then echo "other weights"
    fi
}

# right NAME RANKS LAUNCHER: trains; `glasses doctor` finds nothing that fails.
right() {
    train_line
    start "$3 $program $train"
    verdict "$1" "$(trained "$2")"
    start "$3 $program doctor --json"
    local wrong=
    [ "$code" = 0 ] || wrong="doctor ended with $code"
    grep -q '"verdict":"error"' "$work/out" && wrong="doctor found fault"
    [ "$(grep -c '"name":"launch"' "$work/out")" = 1 ] || wrong="no answer of doctor, or several"
    verdict "$1, doctor" "$wrong"
}

# refused: nothing, or what is wrong with a refusal.
refused() {
    if [ "$code" != 2 ]; then echo "ended with $code"
    elif [ -s "$work/out" ]; then echo "said something on standard output"
    elif [ "$(grep -c '^error: ' "$work/err")" != 1 ]; then echo "not one message"
    elif grep -q 'MPI_Init\|MPI_ERRORS_ARE_FATAL\|Abort(' "$work/err"; then echo "MPI spoke"
    elif [ -e "$work/run-$number" ]; then echo "made a run"
    fi
}

# wrong NAME LAUNCHER INSTEAD: two ranks are refused, and told to type INSTEAD, which works.
wrong() {
    local fix trouble
    train_line
    start "$2 $program $train"
    trouble=$(refused)
    fix=$(sed -n 's/^ *fix: //p' "$work/err")
    case $fix in "$3 $program $train") ;; *) trouble=${trouble:-"told to type: $fix, not: $3 …"} ;; esac
    verdict "$1" "$trouble"
    start "$fix"
    verdict "$1, what it says to type" "$(trained 2)"
    start "$2 $program doctor"
    trouble=
    [ "$code" = 2 ] || trouble="doctor ended with $code"
    [ "$(grep -c 'ERROR' "$work/out")" = 1 ] || trouble="doctor showed no error, or several"
    verdict "$1, doctor" "$trouble"
}

# mixed NAME LAUNCHER OTHER: the second of two ranks is a build that cannot find the first, and says so.
mixed() {
    train_line
    start "$2 -n 1 $program $train : -n 1 $3 $train"
    local trouble=
    [ "$code" != 0 ] || trouble="ended with 0"
    [ "$(grep -c '^error: rank 1 of 2: launch by ' "$work/err")" = 1 ] || trouble="not one message of rank 1"
    [ ! -e "$work/run-$number" ] || trouble="made a run"
    verdict "$1" "$trouble"
}

# in_a_batch_script NAME RANKS LAUNCHER: Slurm gives a batch script a rank's variables too, and mpirun hands them on.
in_a_batch_script() {
    train_line
    printf '#!/bin/bash\n%s %s %s\n' "$3" "$program" "$train" >"$work/batch.sh"
    start "sbatch --wait --nodes=2 --ntasks-per-node=1 --output=batch.out batch.sh >/dev/null; ended=\$?; cat batch.out; exit \$ended"
    verdict "$1" "$(trained "$2")"
}

# rows MPI ITS-LAUNCHER ITS-PLUGIN A-WRONG-PLUGIN GLASSES [ANOTHER-LAUNCHER]
rows() {
    local mpi=$1 own=$2 srun=$3 wrong_srun=$4
    program=$5
    right "$mpi build, bare" 1 ""
    right "$mpi build, $own" 2 "$own -n 2"
    [ -z "${6-}" ] || wrong "$mpi build, $6" "$6 -n 2" "$own -n 2"
    [ -n "$slurm" ] || return 0
    right "$mpi build, srun --mpi=$srun" 2 "srun --mpi=$srun -N 2 -n 2"
    wrong "$mpi build, srun --mpi=$wrong_srun" "srun --mpi=$wrong_srun -N 2 -n 2" "srun --mpi=$srun -N 2 -n 2"
    wrong "$mpi build, srun --mpi=none" "srun --mpi=none -N 2 -n 2" "srun --mpi=$srun -N 2 -n 2"
    right "$mpi build, srun --mpi=none, one task" 1 "srun --mpi=none -n 1"
    in_a_batch_script "$mpi build, bare in a batch script" 1 ""
    in_a_batch_script "$mpi build, $own in a batch script, on two nodes" 2 "$own -n 2"
}

work=$(mktemp -d "$repository/target/launch-XXXXXX")
slurm=
trap 'rm -rf "$work"; [ -z "$slurm" ] || tests/slurm/cluster.sh stop' EXIT
trap 'exit 143' INT TERM HUP

if ! "$open_mpi" --version | grep -q 'Open MPI'; then
    skip "all of it" "$open_mpi was not built with Open MPI"
    exit 0
fi
"$open_mpi" synth --size 24 --count 60 --out "$work/f.h5" >/dev/null
start "$open_mpi train --data f.h5 --epochs 1 --out alone"
weights=$(grep '^weights sha256' "$work/out")

code=0
tests/slurm/cluster.sh start || code=$?
case $code in
    0)
        slurm=yes
        eval "$(tests/slurm/cluster.sh env)"
        ;;
    77) skip "everything under srun" "no Slurm can be started here" ;;
    *) exit 1 ;;
esac

if command -v mpicc.mpich >/dev/null && command -v mpirun.mpich >/dev/null && command -v mpirun.openmpi >/dev/null; then
    echo "matrix: building with MPICH, in target/mpich"
    share_dependencies
    CARGO_TARGET_DIR=$repository/target/mpich MPICC=mpicc.mpich cargo build --release --locked --quiet --bin glasses
    rows "Open MPI" mpirun.openmpi pmix pmi2 "$open_mpi" mpirun.mpich
    program=$open_mpi
    mixed "a rank of the MPICH build, mpirun.openmpi" mpirun.openmpi "$repository/target/mpich/release/glasses"
    rows MPICH mpirun.mpich pmi2 pmix "$repository/target/mpich/release/glasses" mpirun.openmpi
else
    skip "the MPICH build, and MPICH's mpirun" "no mpicc.mpich (apt-get install mpich libmpich-dev)"
    rows "Open MPI" "${MPIRUN:-mpirun}" pmix pmi2 "$open_mpi"
fi

if [ "$failed" = 0 ] && [ "$passed" -gt 0 ]; then
    echo "test result: ok. $passed passed"
else
    echo "test result: FAILED. $passed passed; $failed failed"
    exit 1
fi

#!/usr/bin/env bash
# glasses on this workstation: a rank a physical core, each kept on its core, in the current folder.
#   jobs/local.sh [arguments for glasses]          RANKS=4 jobs/local.sh --data faces.h5 --epochs 5
# glasses is the one on PATH, else the repository's target/release/glasses (jobs/quickstart.sh builds it). More ranks than cores are
# allowed (RANKS=8 on a laptop) and are not pinned. Ctrl-C, once, saves the run; it says how to go on. Knobs: RANKS, MPIRUN.
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=jobs/mpi_env.sh
. "$repository/jobs/mpi_env.sh"

fail() { echo "local: $*" >&2; exit 2; }
glasses=$(command -v glasses) || glasses=${CARGO_TARGET_DIR:-$repository/target}/release/glasses
[ -x "$glasses" ] || fail "no glasses on PATH or in $repository/target/release; type:  cargo build --release --locked"

# Two hardware threads of a core share its vector units: a second rank there gains little. Fewer where this process may not use all.
physical_cores() {
    local cores usable
    if [ "$(uname)" = Darwin ]; then sysctl -n hw.physicalcpu; return; fi
    # nproc obeys these; they are for threads, and this counts ranks.
    usable=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)
    cores=$(lscpu --parse=Core,Socket 2>/dev/null | grep -v '^#' | sort -u | wc -l)
    if [ "$cores" -ge 1 ] && [ "$cores" -lt "$usable" ]; then echo "$cores"; else echo "$usable"; fi
}
cores=$(physical_cores)
ranks=${RANKS:-$cores}
case $ranks in *[!0-9]* | '' | 0) fail "RANKS=$ranks is not a number of ranks; give 1 or more" ;; esac

bind=(--bind-to core)
if [ "$ranks" -gt "$cores" ] || [ "$(uname)" = Darwin ]; then
    bind=(--bind-to none)
    # Ranks that share a core have to give it away while they wait.
    export OMPI_MCA_mpi_yield_when_idle=1
fi
export OMP_NUM_THREADS=1 RAYON_NUM_THREADS=1
echo "local: $ranks ranks on $cores cores:  ${MPIRUN:-mpirun} ${bind[*]} -n $ranks $glasses $*" >&2
exec "${MPIRUN:-mpirun}" "${bind[@]}" -n "$ranks" "$glasses" "$@"

#!/usr/bin/env bash
# The gradients of the paper's network (26.3 MB) summed over the ranks of this machine: shared memory against MPI_Allreduce, in turns.
#   benches/exchange.sh [RANKS…]      seconds; RANKS (default 2 8)
# Knobs: MPIRUN (mpirun), MPIRUN_ARGS ("" ; --bind-to core where there is a core a rank).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. jobs/mpi_env.sh
[ $# -gt 0 ] || set -- 2 8
cargo build --release --locked --bench allreduce >&2
program=$(cargo build --release --locked --bench allreduce --message-format=json 2>/dev/null | sed -n 's/.*"executable":"\([^"]*allreduce[^"]*\)".*/\1/p' | tail -n 1)
read -ra arguments <<<"${MPIRUN_ARGS:-}"
echo "| ranks | shared memory, ms | MPI_Allreduce, ms | ratio |"
echo "|---|---|---|---|"
for ranks in "$@"; do
    "${MPIRUN:-mpirun}" "${arguments[@]}" -n "$ranks" "$program"
done

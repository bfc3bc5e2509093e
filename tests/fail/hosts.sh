#!/usr/bin/env bash
# Two hosts (benches/namespaces.sh) whose link can be cut:  hosts.sh RANKS COMMAND…  runs COMMAND under mpirun, RANKS on each host,
# and obeys lines on standard input: `down` and `up` (the switch forgets host 1's port, and knows it again), `pull` and `plug` (host 1 has no
# carrier, and has it again). Exit code: mpirun's; 77 where the system permits no namespaces.
set -euo pipefail
folder=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR
. "$folder/../../benches/namespaces.sh"
netns_enter "$0" "$@"
# shellcheck source-path=SCRIPTDIR
. "$folder/../../jobs/mpi_env.sh"
netns_up 2 1gbit
netns_mpirun "$1" "${@:2}" </dev/null &
mpirun=$!
while read -r line; do
    case $line in
    down) netns_in switch ip link set port1 nomaster ;;
    up) netns_in switch ip link set port1 master bridge0 ;;
    pull) netns_in switch ip link set port1 down ;;
    plug) netns_in switch ip link set port1 up ;;
    *) exit 2 ;;
    esac
done <&0 &
code=0
wait "$mpirun" || code=$?
exit "$code"

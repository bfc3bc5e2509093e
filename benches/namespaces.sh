#!/usr/bin/env bash
# Hosts on one machine with a real network between them, as slow as wanted: each is a network and a UTS namespace, wired to a
# bridge through a veth pair whose ends send at RATE at most (tbf). For benches/hosts.sh and for tests.
#
#   benches/namespaces.sh HOSTS RATE RANKS COMMAND…     mpirun of COMMAND, RANKS on each of HOSTS; RATE as tc writes it (1gbit)
#
# says last, on standard error, what the hosts' interfaces sent. Exit code 77: this machine does not permit namespaces (said why).
#
# Sourced, after a first line `netns_enter "$0" "$@"`, which starts the script anew inside:
#   netns_up HOSTS RATE        netns_on HOST COMMAND…        netns_mpirun RANKS COMMAND…        netns_sent        netns_down
#
# Nothing can be left behind: all of it (links, addresses 10.77.0.x, mounts, processes) lives in namespaces that the kernel clears
# away with their first process, however that ends. Root is not needed where users may make namespaces.
# Knobs: NETNS_SECONDS (a mpirun is killed after that, 120), MPIRUN (mpirun; Open MPI's), NETNS_MPIRUN (more arguments for it).

# The first process of the namespaces is the script itself, once more; this one waits for it.
netns_enter() {
    [ -z "${NETNS_DIR-}" ] || return 0
    local inside=(setpriv --pdeathsig KILL unshare --mount --net --pid --fork --mount-proc --kill-child)
    [ "$(id -u)" = 0 ] || inside+=(--user --map-root-user)
    local why tool
    for tool in ip tc nsenter unshare setpriv taskset; do
        command -v "$tool" >/dev/null || { echo "no network namespaces here: $tool is missing (Debian: iproute2, util-linux)" >&2; exit 77; }
    done
    why=$("${inside[@]}" sh -euc 'mount -t tmpfs none /mnt; ip link add a0 type veth peer name b0; '"tc qdisc add dev a0 root $(netns_tbf 1gbit)" 2>&1) ||
        { echo "no network namespaces here: $why" >&2; exit 77; }
    local folder child code=0
    folder=$(mktemp -d)
    mkdir "$folder/net" "$folder/tmp"
    # Temporary files in there too: whoever is killed cannot clear up.
    NETNS_DIR=$folder/net TMPDIR=$folder/tmp "${inside[@]}" "$@" <&0 &
    child=$!
    # shellcheck disable=SC2064
    trap "kill -KILL $child" INT TERM HUP
    wait "$child" || code=$?
    rm -rf "$folder"
    exit "$code"
}

# The shaper of one end. The bucket holds two milliseconds, so that a late timer does not cost bandwidth, but two large segments at least.
netns_tbf() {
    local bits=$1
    bits=${bits/gbit/000000000} bits=${bits/mbit/000000} bits=${bits/kbit/000}
    local burst=$((bits / 4000))
    echo "tbf rate $1 burst $((burst > 131072 ? burst : 131072)) latency 50ms"
}

# netns_up HOSTS RATE
netns_up() {
    netns_hosts=$1
    local shaper host
    shaper=$(netns_tbf "$2")
    mount -t tmpfs netns "$NETNS_DIR"
    # Of their own: Open MPI names its files there by host and process, which two of these scripts at the same time have in common.
    mount -t tmpfs shm /dev/shm
    ip link set lo up
    for host in switch $(seq 0 $(($1 - 1))); do
        touch "$NETNS_DIR/$host" "$NETNS_DIR/$host.uts"
        unshare --net="$NETNS_DIR/$host" --uts="$NETNS_DIR/$host.uts" hostname "host$host"
        netns_in "$host" ip link set lo up
    done
    netns_in switch ip link add name bridge0 type bridge
    netns_in switch ip link set bridge0 up
    for ((host = 0; host < $1; host++)); do
        ip link add name eth0 netns "$NETNS_DIR/$host" type veth peer name "port$host" netns "$NETNS_DIR/switch"
        netns_in switch ip link set "port$host" master bridge0 up
        netns_in "$host" ip address add "$(netns_address "$host")/24" dev eth0
        netns_in "$host" ip link set eth0 up
        # Into the host and out of it: a link is as slow in one direction as in the other.
        # shellcheck disable=SC2086
        netns_in switch tc qdisc add dev "port$host" root $shaper
        # shellcheck disable=SC2086
        netns_in "$host" tc qdisc add dev eth0 root $shaper
    done
    # What mpirun calls in place of ssh: ADDRESS, then a line for a shell.
    {
        printf '#!/usr/bin/env bash\n'
        declare -f netns_in netns_on netns_cores
        # shellcheck disable=SC2016
        printf 'netns_hosts=%s\nhost=$((${1##*.} - 1))\nshift\nnetns_on "$host" sh -c "$*"\n' "$netns_hosts"
    } >"$NETNS_DIR/rsh"
    chmod +x "$NETNS_DIR/rsh"
}

netns_down() {
    local host
    for ((host = 0; host < netns_hosts; host++)); do netns_in switch ip link del "port$host"; done
    # Lazily: a process that is still ending may be inside.
    umount --lazy "$NETNS_DIR"
}

netns_address() { echo "10.77.0.$(($1 + 1))"; }

# The cores of a host, as taskset writes them: an equal share; one that others share where there are more hosts than cores.
netns_cores() {
    local cores share
    cores=$(nproc --all) share=$(($(nproc --all) / netns_hosts))
    if [ "$share" -lt 2 ]; then echo $(($1 % cores)); else echo "$(($1 * share))-$(($1 * share + share - 1))"; fi
}

netns_in() { nsenter --net="$NETNS_DIR/$1" --uts="$NETNS_DIR/$1.uts" -- "${@:2}"; }

# netns_on HOST COMMAND…: there, on the host's own cores.
netns_on() { netns_in "$1" taskset -c "$(netns_cores "$1")" "${@:2}"; }

# netns_mpirun RANKS COMMAND…: COMMAND on RANKS ranks of every host.
netns_mpirun() {
    local host hosts='' transports=tcp,self share=$(($(nproc --all) / netns_hosts))
    for ((host = 0; host < netns_hosts; host++)); do hosts+=,$(netns_address "$host"):$1; done
    [ "$1" = 1 ] || transports+=,vader
    # Ranks that share a core have to give it away while they wait: Open MPI knows nothing of the hosts' cores.
    if [ "$1" -gt "$share" ]; then export OMPI_MCA_mpi_yield_when_idle=1; fi
    # shellcheck disable=SC2086
    netns_on 0 timeout --kill-after 5 "${NETNS_SECONDS:-120}" "${MPIRUN:-mpirun}" --mca plm_rsh_agent "$NETNS_DIR/rsh" \
        --mca btl "$transports" --mca btl_tcp_if_include 10.77.0.0/24 --mca oob_tcp_if_include 10.77.0.0/24 --bind-to none \
        ${NETNS_MPIRUN-} --host "${hosts#,}" -n $(($1 * netns_hosts)) "${@:2}"
}

# Bytes that the interfaces of all hosts have sent so far, headers included.
netns_sent() {
    local host
    for ((host = 0; host < netns_hosts; host++)); do netns_in "$host" cat /proc/net/dev; done | awk '/eth0:/ { sum += $10 } END { printf "%.0f\n", sum }'
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    set -euo pipefail
    [ $# -ge 4 ] || { sed -n '2,/^$/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
    netns_enter "$0" "$@"
    # shellcheck source-path=SCRIPTDIR
    . "$(dirname "$0")/../jobs/mpi_env.sh"
    netns_up "$1" "$2"
    code=0
    netns_mpirun "$3" "${@:4}" || code=$?
    echo "namespaces: the interfaces of $1 hosts sent $(netns_sent) bytes" >&2
    exit "$code"
fi

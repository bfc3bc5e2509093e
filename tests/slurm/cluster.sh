#!/usr/bin/env bash
# A real Slurm of two nodes on this machine, in a folder of its own: munged, slurmctld and two slurmd, n1 and n2.
#
#   tests/slurm/cluster.sh start            starts it; ends when both nodes take jobs
#   eval "$(tests/slurm/cluster.sh env)"    points this terminal's sbatch, srun, squeue and scontrol at it
#   tests/slurm/cluster.sh stop             ends its jobs and its daemons, and nothing else
#   tests/slurm/cluster.sh run COMMAND…     all three around a command
#   tests/slurm/cluster.sh lose n2          takes the power from a node: whatever runs there ends with it, unsaid
#   tests/slurm/cluster.sh node n2          starts a node that was lost
#
# Each node is a mount, UTS and process namespace: own hostname, /tmp, /dev/shm and process numbers, else Open MPI takes the two for
# one host (and crashes).
# Needs root; installs slurm-wlm and munge (Debian, Ubuntu) where they are missing. Exit code 77: there can be no cluster here.
# Knobs: CLUSTER (its folder, /tmp/glasses-slurm), PORT (17000; the daemons take this one and the next two), CPUS (of each node, 8),
# SHARE (folders under /tmp that the nodes see as they are, colon between; the repository and the working folder always are).
set -euo pipefail
cluster=$(realpath --canonicalize-missing "${CLUSTER:-/tmp/glasses-slurm}")
port=${PORT:-17000}
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export SLURM_CONF=$cluster/slurm.conf

say() { echo "cluster: $*" >&2; }

need_slurm() {
    [ "$(id -u)" = 0 ] || { say "only root can start one: namespaces, and daemons that act for other users"; exit 77; }
    local wanted=()
    command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v sbatch >/dev/null || wanted+=(slurm-wlm)
    command -v munged >/dev/null || wanted+=(munge)
    if [ "${#wanted[@]}" != 0 ]; then
        command -v apt-get >/dev/null || { say "missing: ${wanted[*]} (Debian's names), and no apt-get here"; exit 77; }
        [ -z "${NO_INSTALL-}" ] || { say "missing: ${wanted[*]}, and NO_INSTALL is set"; exit 77; }
        say "installing:  apt-get install -y ${wanted[*]}"
        { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y "${wanted[@]}"; } </dev/null >"$cluster/install.log" 2>&1 ||
            { say "that failed, see $cluster/install.log"; exit 77; }
    fi
    unshare --mount --uts --pid --fork true 2>"$cluster/unshare.log" ||
        { say "no namespaces here: $(cat "$cluster/unshare.log")"; exit 77; }
}

write_conf() {
    cat >"$SLURM_CONF" <<CONF
ClusterName=glasses
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort=$port
AuthType=auth/munge
AuthInfo=socket=$cluster/munge.socket
CredType=cred/munge
StateSaveLocation=$cluster/state
SlurmdSpoolDir=$cluster/spool-%n
SlurmctldPidFile=$cluster/slurmctld.own.pid
SlurmdPidFile=$cluster/slurmd-%n.own.pid
SlurmctldLogFile=$cluster/slurmctld.log
SlurmdLogFile=$cluster/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=10
KillWait=10
SchedulerParameters=sched_interval=5,bf_interval=5
NodeName=n[1-2] NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=[$((port + 1))-$((port + 2))] CPUs=${CPUS:-8} State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES OverSubscribe=FORCE MaxTime=60 State=UP
CONF
}

# The first process of a node: prepares its folders, starts slurmd and collects whom nobody waits for.
# shellcheck disable=SC2016 # for the inner shell
node='
    set -eu
    name=$1 folder=$2 shared=$3
    hostname "$name"
    mount -t tmpfs keep /mnt
    i=0
    IFS=:
    for path in $shared; do mkdir "/mnt/$i"; mount --rbind "$path" "/mnt/$i"; i=$((i + 1)); done
    mount -t tmpfs tmp /tmp
    chmod 1777 /tmp
    mount -t tmpfs shm /dev/shm
    i=0
    for path in $shared; do mkdir -p "$path"; mount --rbind "/mnt/$i" "$path"; i=$((i + 1)); done
    { echo "127.0.0.1 n1 n2"; cat /etc/hosts; } >"$folder/hosts-$name"
    mount --bind "$folder/hosts-$name" /etc/hosts
    slurmd -D -f "$folder/slurm.conf" -N "$name" &
    wait
'

# Folders that a node has to find at their own places although its /tmp is new.
shared() {
    local path
    echo "$cluster:$repository:$PWD${SHARE:+:$SHARE}" | tr ':' '\n' | sort -u | while read -r path; do
        path=$(realpath "$path")
        case $path in /tmp) ;; /tmp/*) echo "$path" ;; esac
    done | paste -sd:
}

# begin NAME COMMAND…: in the background, free of this terminal; its process number goes to NAME.pid.
begin() {
    setsid "${@:2}" </dev/null >"$cluster/$1.out" 2>&1 &
    echo $! >"$cluster/$1.pid"
    # bash has nothing to say when it ends.
    disown
}

start_node() {
    begin "$1" unshare --mount --uts --pid --fork --kill-child --mount-proc \
        bash -c "$node" node "$1" "$cluster" "$(shared)"
}

start() {
    local name
    mkdir -p "$cluster"
    for name in munged slurmctld n1 n2; do
        # That one is not for `run` to stop.
        ! alive "$name" || { trap - EXIT; say "one runs in $cluster already; stop it, or name another folder and port: CLUSTER=… PORT=…"; exit 2; }
    done
    need_slurm
    rm -rf "$cluster/state" "$cluster"/spool-n*
    mkdir -p "$cluster/state" "$cluster/spool-n1" "$cluster/spool-n2"
    # munged refuses a socket whose folder others may write to or not enter.
    chmod 755 "$cluster"
    write_conf
    head -c 1024 /dev/urandom >"$cluster/munge.key"
    chmod 400 "$cluster/munge.key"
    begin munged munged --foreground --force --socket "$cluster/munge.socket" --key-file "$cluster/munge.key" \
        --log-file "$cluster/munged.log" --pid-file "$cluster/munged.own.pid" --seed-file "$cluster/munge.seed"
    for _ in $(seq 50); do [ -S "$cluster/munge.socket" ] && break; sleep 0.1; done
    begin slurmctld slurmctld -D -f "$SLURM_CONF"
    start_node n1
    start_node n2
    for _ in $(seq 100); do
        if [ "$(timeout 5 sinfo --noheader --Node --format=%T 2>/dev/null | grep -c '^idle$')" = 2 ]; then
            say "n1 and n2 take jobs; in a terminal:  export SLURM_CONF=$SLURM_CONF"
            return
        fi
        sleep 0.3
    done
    say "the nodes did not come up in 30 s; the last words of the daemons:"
    tail -n 5 "$cluster"/*.out "$cluster"/*.log >&2
    stop
    exit 1
}

# alive NAME: sets `pid`. What a former cluster left in that file may be the number of anything by now, and this is root: its own
# processes have the folder among their arguments.
alive() {
    local argument
    pid=$(cat "$cluster/$1.pid" 2>/dev/null) || return 1
    while IFS= read -rd '' argument; do
        case $argument in "$cluster" | "$cluster"/*) return 0 ;; esac
    done 2>/dev/null <"/proc/$pid/cmdline"
    return 1
}

# end NAME SIGNAL: waits until it is gone, five seconds at most, then for good.
end() {
    alive "$1" || { rm -f "$cluster/$1.pid"; return 0; }
    kill "-$2" "$pid" 2>/dev/null || true
    for _ in $(seq 50); do alive "$1" || break; sleep 0.1; done
    ! alive "$1" || kill -KILL "$pid" 2>/dev/null || true
    rm -f "$cluster/$1.pid"
}

stop() {
    # Nodes first, jobs with them: a batch script must not find the time to requeue itself.
    end n1 KILL
    end n2 KILL
    end slurmctld TERM
    end munged TERM
}

case ${1-} in
    start) start ;;
    stop) stop ;;
    env) echo "export SLURM_CONF='$SLURM_CONF'" ;;
    lose) end "$2" KILL ;;
    node) start_node "$2" ;;
    run)
        trap stop EXIT
        trap 'exit 143' INT TERM HUP
        start
        "${@:2}"
        ;;
    *) sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac

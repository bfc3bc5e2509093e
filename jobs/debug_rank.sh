#!/usr/bin/env bash
# glasses on several ranks of this machine, one of them in the debugger; the others wait for it wherever they need it.
#   RANKS=4 RANK=2 jobs/debug_rank.sh [arguments for glasses]                rank 2 waits for gdb; the line to type is printed
#   BACKTRACE=1 RANK=2 jobs/debug_rank.sh [arguments for glasses]            no questions: where rank 2 stood, if it crashes
# For a rank that runs already (a job that seems to hang) no script is needed, on its node:  gdb -p PID -batch -ex 'thread apply all bt'
# A build that keeps all variables:  cargo build --profile dev, then GLASSES=target/debug/glasses. Needs gdb, and gdbserver for the first.
# Knobs: RANKS (2), RANK (0), PORT (of gdbserver, 2345), BACKTRACE, GLASSES, MPIRUN.
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=jobs/mpi_env.sh
. "$repository/jobs/mpi_env.sh"
ranks=${RANKS:-2} rank=${RANK:-0} port=${PORT:-2345}

fail() { echo "debug_rank: $*" >&2; exit 2; }
for number in "$ranks" "$rank" "$port"; do
    case $number in *[!0-9]* | '') fail "RANKS=$ranks RANK=$rank PORT=$port: $number is not a number" ;; esac
done
[ "$rank" -lt "$ranks" ] || fail "RANK=$rank: the ranks are 0 to $((ranks - 1)) (RANKS=$ranks)"
glasses=${GLASSES:-$(command -v glasses || echo "${CARGO_TARGET_DIR:-$repository/target}/release/glasses")}
[ -x "$glasses" ] || fail "no $glasses; build it, or name it: GLASSES=…"
if [ -n "${BACKTRACE-}" ]; then tool=gdb; else tool=gdbserver; fi
# Another session, perhaps one that was killed.
if [ -z "${BACKTRACE-}" ] && (: <"/dev/tcp/localhost/$port") 2>/dev/null; then
    fail "somebody listens at port $port of this machine already (another debug_rank.sh?): end it, or give another: PORT=$((port + 1))"
fi
command -v "$tool" >/dev/null || fail "no $tool here (Debian, Ubuntu: apt-get install gdb gdbserver; Fedora: dnf install gdb gdb-gdbserver)"

# Who sits in a debugger is silent, not lost.
case ${1-} in
    train | -* | '')
        if [ "${1-}" = train ]; then shift; fi
        set -- train "$@"
        case " $* " in *' --stall-timeout'*) ;; *) ! "$glasses" train --help | grep -e --stall-timeout >/dev/null || set -- "$@" --stall-timeout 0 ;; esac
        ;;
esac

# Signals that glasses heeds pass; Rust's panics stop the rank where they begin.
passed='SIGUSR1 SIGUSR2 SIGTERM SIGHUP SIGXCPU SIGXFSZ SIGPIPE'
manners=(-ex "handle $passed nostop noprint pass" -ex 'set breakpoint pending on')
if [ -n "${BACKTRACE-}" ]; then
    in_debugger=(gdb -quiet -batch "${manners[@]}" -ex 'break rust_panic' -ex run -ex 'thread apply all backtrace' --args)
else
    in_debugger=(gdbserver --once "localhost:$port")
    echo "debug_rank: rank $rank of $ranks waits; in another terminal of $(hostname), type:" >&2
    echo "    gdb ${glasses} -ex 'handle $passed nostop noprint pass' -ex 'target remote localhost:$port'" >&2
    echo "debug_rank: there, 'break rust_panic' or a function of your choice, then 'continue'" >&2
fi

# The rank's number, as Open MPI, MPICH or Slurm says it.
# shellcheck disable=SC2016 # for the inner shell
one='
    [ "${OMPI_COMM_WORLD_RANK-${PMI_RANK-${SLURM_PROCID-}}}" = "$1" ] || exec "${@:$2}"
    exec "${@:3}"
'
exec "${MPIRUN:-mpirun}" --bind-to none -n "$ranks" bash -c "$one" one "$rank" $((3 + ${#in_debugger[@]})) "${in_debugger[@]}" "$glasses" "$@"

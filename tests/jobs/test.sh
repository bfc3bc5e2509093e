#!/usr/bin/env bash
# The scripts of jobs/ that need no Slurm, with the real glasses: local.sh and debug_rank.sh. Seconds.
#   tests/jobs/test.sh            Knobs: GLASSES (target/release/glasses), MPIRUN
# Installs gdb and gdbserver (Debian, Ubuntu; as root) where they are missing. Exit code 77: there is no debugger here.
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
GLASSES=$(realpath "${GLASSES:-${CARGO_TARGET_DIR:-$repository/target}/release/glasses}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
# On PATH it has to have that name, whatever its file is called.
mkdir bin
ln -s "$GLASSES" bin/glasses
export GLASSES PATH="$work/bin:$PATH"

fail() {
    echo "FAILED: $*" >&2
    tail -n 30 ./*.out >&2 || true
    exit 1
}
digest() { sed -n 's/.*"weights_sha256": "\(.*\)".*/\1/p' "$1/summary.json"; }
settings=(--data faces.h5 --epochs 2)
glasses synth --size 24 --count 80 --out faces.h5 >/dev/null
glasses "${settings[@]}" --out alone >/dev/null
same() { [ "$(digest "$1")" = "$(digest alone)" ] || fail "$1: other weights than one rank's"; }

timeout 60 "$repository/jobs/local.sh" "${settings[@]}" --out cores >local.out 2>&1 || fail "local.sh"
same cores
OMP_NUM_THREADS=1 OMP_THREAD_LIMIT=1 timeout 60 "$repository/jobs/local.sh" "${settings[@]}" --out threads >threads.out 2>&1 || fail "local.sh with threads"
[ "$(sed -n 's/^local: \(.* cores\):.*/\1/p' threads.out)" = "$(sed -n 's/^local: \(.* cores\):.*/\1/p' local.out)" ] ||
    fail "OMP_NUM_THREADS changes the ranks of local.sh"
RANKS=5 timeout 60 "$repository/jobs/local.sh" "${settings[@]}" --out five >five.out 2>&1 || fail "local.sh on five ranks"
same five
grep -q '^local: 5 ranks' five.out || fail "local.sh does not say its ranks"
code=0
RANKS=none "$repository/jobs/local.sh" 2>wrong.out || code=$?
[ "$code" = 2 ] || fail "local.sh takes RANKS=none"
echo "jobs: local.sh ... ok"

if ! command -v gdb >/dev/null || ! command -v gdbserver >/dev/null; then
    if [ "$(id -u)" = 0 ] && [ -z "${NO_INSTALL-}" ] && command -v apt-get >/dev/null; then
        { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y gdb gdbserver; } </dev/null >install.out 2>&1 || true
    fi
    command -v gdbserver >/dev/null || { echo "jobs: debug_rank.sh is not tried: no gdb and gdbserver here" >&2; exit 77; }
fi

# The line that the script prints for the other terminal is the one that is typed here.
PORT=$((20000 + RANDOM % 10000)) RANKS=3 RANK=1 timeout 120 "$repository/jobs/debug_rank.sh" "${settings[@]}" --out debugged >debug.out 2>&1 &
for _ in $(seq 100); do ! grep -q '^Listening' debug.out 2>/dev/null || break; sleep 0.2; done
[ ! -e debugged/config.toml ] || fail "the other ranks did not wait"
line=$(sed -n 's/^    \(gdb .*\)/\1/p' debug.out)
[ -n "$line" ] || fail "debug_rank.sh does not say what to type"
DEBUGINFOD_URLS='' timeout 100 bash -c "$line -batch -ex 'break rust_panic' -ex continue" >gdb.out 2>&1 || fail "gdb"
wait || true
grep -q 'exited normally' gdb.out || fail "the rank did not end well in gdb"
same debugged
# A rank that crashes in there says where.
in_gdb() {
    local process
    for process in /proc/[0-9]*; do
        if [ "$(readlink "$process/exe")" = "$GLASSES" ] && [ "$(cat "/proc/$(awk '/^PPid/ { print $2 }' "$process/status")/comm")" = gdb ]; then
            echo "${process#/proc/}"
        fi
    done 2>/dev/null
}
BACKTRACE=1 RANKS=2 RANK=1 timeout 60 "$repository/jobs/debug_rank.sh" --data faces.h5 --epochs 100000 --out crashed >crash.out 2>&1 &
for _ in $(seq 100); do [ ! -s crashed/live.json ] || break; sleep 0.2; done
crashing=$(in_gdb)
[ -n "$crashing" ] || fail "no rank runs in gdb"
kill -SEGV "$crashing"
wait || true
grep -q 'received signal SIGSEGV' crash.out || fail "gdb saw no crash"
grep -q '^#[0-9].* glasses::' crash.out || fail "no backtrace of the rank that crashed"
echo "jobs: debug_rank.sh ... ok"

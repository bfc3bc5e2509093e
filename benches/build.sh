#!/usr/bin/env bash
# What the build costs: cold, and after one changed line in src/commands and in src/kernels. In a clone of what is committed, so that
# nothing of yours is built anew; crates are downloaded before the clock starts.
#   benches/build.sh [REVISION]          HEAD by default; takes about 2.5 times a cold build
# Core-minutes are user and system time of all compilers: they say more than minutes where the machine has other work. Fails where our own
# crates take more than half of a cold build's: a share, because machines differ.
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
revision=$(git -C "$repository" rev-parse --short "${1:-HEAD}")
# shellcheck source=jobs/setup.sh
. "$repository/jobs/setup.sh"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
git clone -q "$repository" "$folder/glasses"
cd "$folder/glasses"
git -c advice.detachedHead=false checkout -q "$revision"
export CARGO_TARGET_DIR=$folder/target
cargo fetch -q --locked

# measure WHAT: a row of the table.
measure() {
    local times
    TIMEFORMAT='%R %U %S'
    times=$({ time cargo build -q --release --locked >"$folder/log" 2>&1; } 2>&1) || { cat "$folder/log" >&2; exit 1; }
    awk -v what="$1" '{ printf "| %s | %.1f | %.1f |\n", what, $1 / 60, ($2 + $3) / 60 }' <<<"$times"
    seconds=$(awk '{ printf "%d", $2 + $3 }' <<<"$times")
}

# changed FILE FROM TO: one line, which the compiler cannot take for the same.
changed() {
    sed -i "s/$2/$3/" "$1"
    ! git diff --quiet "$1" || { echo "build: '$2' is no longer in $1; name another line in benches/build.sh" >&2; exit 1; }
}

own=(-p glasses)
[ ! -e src/kernels/Cargo.toml ] || own+=(-p glasses-kernels)

echo "$revision, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores, $(rustc --version | cut -d' ' -f1,2)"
echo
echo "| build | minutes | core-minutes |"
echo "|---|---|---|"
measure "cold"
cold=$seconds
cargo clean -q --release "${own[@]}"
measure "our own crates"
ours=$seconds
changed src/commands/info.rs 'Ranks of the run, for' 'Ranks of a run, for'
measure "a line in src/commands"
changed src/kernels/tile.rs 'const ROUND: usize = 32;' 'const ROUND: usize = 64;'
measure "a line in src/kernels"
if ((2 * ours > cold)); then
    echo "build: our own crates take $ours of a cold build's $cold core-seconds; at most half is what docs/internals/build.md allows" >&2
    exit 1
fi

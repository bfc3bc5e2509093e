#!/usr/bin/env bash
# The whole test suite, the MPI tests under mpirun included, after the same set-up as quickstart.sh. Arguments go to the test
# programs (./jobs/test.sh allreduce runs the tests with that word in their name). Tests start "$MPIRUN" themselves.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. jobs/setup.sh || exit 1
# Where there is no such Python, the tests that need it say so at the end.
. jobs/python.sh
explained_script="test"
# shellcheck source=jobs/explain.sh
. jobs/explain.sh

# What only tests start: HDF5's tools, a browser for reports, a terminal for `glasses watch`, networks. Without the right to install, those tests are
# skipped, and said to be.
wanted=
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null ||
    wanted=chromium
command -v tmux >/dev/null || wanted="$wanted tmux"
kind=$(system_kind)
# HDF5's own tools, which have to read our files (Fedora has them in the package that set-up installs).
command -v h5dump >/dev/null || [ "$kind" != apt ] || wanted="$wanted hdf5-tools"
# Hosts in network namespaces.
command -v tc >/dev/null || [ "$kind" != apt ] || wanted="$wanted iproute2"
command -v tc >/dev/null || [ "$kind" != dnf ] || wanted="$wanted iproute-tc"
if [ -n "$wanted" ] && [ -z "${NO_INSTALL-}" ] && [ "$(id -u)" = 0 ] && { [ "$kind" = apt ] || [ "$kind" = dnf ]; }; then
    line=$(install_line "$kind" "${wanted# }")
    echo "test: installing:  $line"
    sh -c "$line" </dev/null >/dev/null 2>&1 || echo "test: that failed; the tests that need it are skipped"
fi

# A test that cannot run here adds a line `name: why` to this file; test.sh says it at the end, where it is seen.
SKIPPED_TESTS=$(mktemp)
log=$(mktemp)
export SKIPPED_TESTS
trap 'rm -f "$SKIPPED_TESTS" "$log"' EXIT

# Without MPI first: the same folder serves both (only glasses itself is built twice), and it has to end up holding the
# binary with MPI, which `mpirun -n 8 target/release/glasses` expects.
echo "test: without MPI (--no-default-features)"
build_or_explain cargo build --release --locked --no-default-features || exit 1
work=$(mktemp -d)
program=$PWD/target/release/glasses
(cd "$work" && "$program" synth --size 24 --count 80 --out faces.h5 && "$program" --data faces.h5 --epochs 1 --out run)
rm -r "$work"

echo "test: with MPI, mpirun is $MPIRUN"
build_or_explain cargo test --no-run --release --locked || exit 1
# Gigabytes that the build wrote are still on their way to the disk: tests that sync a file would wait for all of them.
sync
cargo test --release --locked -- "$@" 2>&1 | tee "$log"

# Every launcher against every MPI; a word in the arguments names other tests.
if [ $# = 0 ]; then
    tests/launch/matrix.sh target/release/glasses 2>&1 | tee -a "$log"
fi

grep -E '^test .* \.\.\. ignored' "$log" >>"$SKIPPED_TESTS" || true
if [ -s "$SKIPPED_TESTS" ]; then
    echo
    echo "################ SKIPPED: $(sort -u "$SKIPPED_TESTS" | wc -l) test(s) did not run ################"
    sort -u "$SKIPPED_TESTS"
    echo "################################################################"
fi

#!/usr/bin/env bash
# From a fresh machine to a trained network: installs what is missing, builds, trains on RANKS (8) ranks.
#   ./jobs/quickstart.sh [arguments for glasses]          RANKS=2 ./jobs/quickstart.sh --epochs 3
# Runs in the repository's root: glasses.h5 (made once, by glasses itself) and runs/ are written there, and relative paths
# in the arguments are read from there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

ranks=${RANKS:-8}
case $ranks in
    *[!0-9]* | '' | 0) echo "quickstart: RANKS=$ranks is not a number of ranks; give 1 or more" >&2; exit 2 ;;
esac

echo "quickstart: 1/3  what the build needs"
. jobs/setup.sh || exit 1

echo "quickstart: 2/3  build"
# shellcheck source=jobs/explain.sh
. jobs/explain.sh
build_or_explain cargo build --release --locked || exit 1

glasses=${CARGO_TARGET_DIR:-target}/release/glasses
echo "quickstart: 3/3  in $PWD:  mpirun -n $ranks $glasses $*"
started=$(mktemp)
trap 'rm -f "$started"' EXIT
"$MPIRUN" -n "$ranks" "$glasses" "$@"

# The newest summary.json of this run: under runs/, or in the folder that --out named.
out=runs
for argument in "$@"; do
    if [ "${previous-}" = --out ]; then out=$argument; fi
    case $argument in --out=*) out=${argument#--out=} ;; esac
    previous=$argument
done
summary=$(find "$out" -name summary.json -newer "$started" 2>/dev/null | tail -1 || true)
if [ -z "$summary" ]; then
    echo "quickstart: glasses ended well but wrote no summary.json under $out/: was this a training run?" >&2
    exit 1
fi
accuracy=$(sed -n 's/.*"test_accuracy": *\([0-9.eE+-]*\).*/\1/p' "$summary" | head -1)
LC_ALL=C awk -v accuracy="$accuracy" 'BEGIN { printf "\nquickstart: test accuracy %.2f %%\n", 100 * accuracy }'
echo "quickstart: results in $PWD/$(dirname "$summary")" | sed "s|$PWD//|/|"
echo "quickstart: again, by hand:  . jobs/setup.sh && $(basename "$MPIRUN") -n $ranks $glasses"

#!/usr/bin/env bash
# jobs/setup.sh and jobs/quickstart.sh on minimal Debians (debootstrap --variant=minbase, in folders), with this machine's Rust and its
# downloaded crates. What is committed is tried.
#   tests/fresh/run.sh                        every case (cases.sh) on bookworm and trixie, each from an untouched minimal system
#   tests/fresh/run.sh quick                  the same, but a case starts with all that it is not about: half the time
#   tests/fresh/run.sh trixie mpich user      these cases, on this system (quick may stand before them)
#   tests/fresh/run.sh whole [SYSTEM…]        all of quickstart.sh with 4 ranks; it has to end in README's digest
#   SETUP=FILE tests/fresh/run.sh …           with this file as jobs/setup.sh
# Exit code 77: there can be no such system here (it says why). Knobs: SETUP; MIRROR (debootstrap's own); CARGO_BUILD_JOBS; ONE_BY_ONE
# (set: one system after the other); GLASSES_FRESH_CACHE (/var/tmp/glasses-fresh: the minimal systems, what apt downloaded, compiled
# dependencies; may be removed at any time).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
cache=${GLASSES_FRESH_CACHE:-/var/tmp/glasses-fresh}
export CARGO_HOME=${CARGO_HOME:-$HOME/.cargo}

cannot() { echo "fresh: SKIPPED: $*" >&2; exit 77; }
fail() { echo "FAILED: $*" >&2; return 1; }

if [ -z "${FRESH_INSIDE-}" ]; then
    "$here/stored_ends.sh"
    if [ "$(uname)" != Linux ] || [ "$(id -u)" != 0 ]; then cannot "only root on Linux can mount a system and enter it"; fi
    command -v debootstrap >/dev/null || cannot "no debootstrap; type:  apt-get install debootstrap"
    command -v cargo >/dev/null || cannot "no Rust here to lend; type:  ./jobs/setup.sh"
    unshare --mount --pid --fork true 2>/dev/null || cannot "this machine (a container?) gives no mount namespaces"
    # What is mounted and started in these namespaces ends with them, whatever ends this.
    FRESH_INSIDE=yes exec unshare --mount --pid --fork --kill-child --mount-proc --propagation private "${BASH_SOURCE[0]}" "$@"
fi

# shellcheck source=tests/fresh/system.sh
. "$here/system.sh"
# shellcheck source=tests/fresh/cases.sh
. "$here/cases.sh"

systems=() names=() quick=
for word in "$@"; do
    case $word in
        quick) quick=yes ;;
        bookworm | trixie) systems+=("$word") ;;
        *)
            declare -F "case_${word//-/_}" >/dev/null || { echo "fresh: no case or system '$word'; the cases are: $all_cases" >&2; exit 2; }
            names+=("$word")
            ;;
    esac
done
[ "${#systems[@]}" -gt 0 ] || systems=(bookworm trixie)
[ "${#names[@]}" -gt 0 ] || read -r -a names <<<"$all_cases"

# In a process of its own a system: sets `system` for all that system.sh and cases.sh do.
run_system() {
    local began=$SECONDS name log code bad=0
    system=$1
    prepare_system || { echo "fresh: $system could not be made; see $cache/$system.log" >&2; return 1; }
    echo "fresh: $system ... made in $((SECONDS - began)) s"
    for name in "${names[@]}"; do
        began=$SECONDS
        log=$cache/$system.$name.log
        # Not in a condition: there bash forgets `set -e`, for all that is called.
        set +e
        (set -e; "case_${name//-/_}") >"$log" 2>&1
        code=$?
        set -e
        if [ "$code" = 0 ]; then
            echo "fresh: $system, $name ... ok ($((SECONDS - began)) s)$(sed -n 's/^NOTE: /, /p' "$log" | tr -d '\n')"
        else
            echo "fresh: $system, $name ... FAILED ($((SECONDS - began)) s), the end of $log:"
            tail -n 30 "$log" | sed 's/^/    /'
            bad=1
        fi
        leave
    done
    clear_up
    return "$bad"
}

mkdir -p "$cache"
overlay_works || cannot "no overlay can be mounted in $cache ($why); with 10 GB of free memory, or GLASSES_FRESH_CACHE on a disk of its own, one can"
bad=0 processes=()
for one in "${systems[@]}"; do
    run_system "$one" &
    processes+=($!)
    [ -z "${ONE_BY_ONE-}" ] || wait $! || bad=1
done
[ -n "${ONE_BY_ONE-}" ] || for process in "${processes[@]}"; do wait "$process" || bad=1; done
echo "fresh: $((SECONDS / 60)) min $((SECONDS % 60)) s"
[ "$bad" = 0 ] || { echo "fresh: FAILED (above)"; exit 1; }

#!/usr/bin/env bash
# Makes this machine able to build and launch glasses: finds a C compiler, MPI, HDF5, libclang and Rust (needs.sh tries them as the
# build does), and installs what is missing. What is there is used as it is (a cluster's modules, MPICH or Open MPI), so a re-run installs nothing.
#   . jobs/setup.sh      in a script or terminal: also leaves MPICC, MPIRUN, PATH and the launcher's variables set
#   ./jobs/setup.sh      installs only
# Knobs: MPICC, MPIRUN, HDF5_DIR, LIBCLANG_PATH, NO_INSTALL=1 (say what is missing, install nothing); see jobs/README.md.
# Works with bash 3.2, which is what macOS has.

setup_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

setup_say() { echo "setup: $*" >&2; }

# ---- finding ------------------------------------------------------------------------------------------------------------

# shellcheck source=jobs/needs.sh
. "$setup_root/jobs/needs.sh"

brew_prefix() { if command -v brew >/dev/null; then brew --prefix "$1" 2>/dev/null; fi; }

rust_wanted() { sed -n '/^rust-version *= *"/ { s/.*"\(.*\)"/\1/p; q; }' "$setup_root/Cargo.toml"; }

have_rust() {
    local found
    command -v cargo >/dev/null || [ ! -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ] ||
        export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    found=$(cargo --version 2>/dev/null | cut -d' ' -f2)
    [ -n "$found" ] && version_at_least "$found" "$(rust_wanted)"
}

# version_at_least 1.95.0 1.88
version_at_least() {
    awk -v found="$1" -v want="$2" 'BEGIN {
        split(found, f, "."); split(want, w, ".")
        for (i = 1; i <= 3; i++) if (f[i] + 0 != w[i] + 0) exit (f[i] + 0 < w[i] + 0)
    }'
}

# Without an MPI there is no launcher to ask for: it comes along.
missing_system() {
    local need
    for need in compiler git certificates curl; do
        "have_$need" || printf '%s ' "$need"
    done
    if ! have_mpi; then printf 'mpi '; elif ! have_launcher; then printf 'launcher '; fi
    have_hdf5 || printf '%s ' "$(hdf5_needs)"
    have_libclang || printf 'libclang '
}

# ---- installing ---------------------------------------------------------------------------------------------------------

system_kind() {
    if [ "$(uname)" = Darwin ]; then echo brew
    elif command -v apt-get >/dev/null; then echo apt
    elif command -v dnf >/dev/null; then echo dnf
    else echo unknown
    fi
}

# packages_for KIND NEED…
packages_for() {
    local kind=$1 need
    shift
    for need in "$@"; do
        case $kind-$need in
            apt-compiler) echo gcc libc6-dev ;;
            apt-mpi) echo libopenmpi-dev openmpi-bin ;;
            apt-launcher) if [ "$(have_mpi 2>/dev/null; compiled_with)" = openmpi ]; then echo openmpi-bin; else echo mpich; fi ;;
            apt-hdf5) echo libhdf5-dev ;;
            apt-libclang) echo libclang-dev ;;
            apt-pkgconfig) echo pkg-config ;;
            dnf-compiler) echo gcc make ;;
            dnf-mpi) echo openmpi-devel ;;
            dnf-launcher) if [ "$(have_mpi 2>/dev/null; compiled_with)" = openmpi ]; then echo openmpi; else echo mpich; fi ;;
            dnf-hdf5) echo hdf5 hdf5-devel ;;
            dnf-libclang) echo clang clang-devel ;;
            dnf-pkgconfig) echo pkgconf-pkg-config ;;
            brew-mpi | brew-launcher) echo open-mpi ;;
            brew-hdf5) echo hdf5 ;;
            brew-libclang) echo llvm ;;
            brew-pkgconfig) echo pkgconf ;;
            *-certificates) echo ca-certificates ;;
            *-git) echo git ;;
            *-curl) echo curl ;;
        esac
    done
}

# The one line that installs PACKAGES, as root would type it (Homebrew: as the user).
install_line() {
    local kind=$1 packages=$2
    case $kind in
        # What Debian only recommends is 130 MB more, and nothing of it is used.
        apt) echo "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $packages" ;;
        dnf)
            # RHEL and its rebuilds have HDF5 in EPEL, which needs CRB; Fedora has both built in.
            grep -qs '^ID="*fedora' /etc/os-release || printf 'dnf install -y epel-release && crb enable && '
            echo "dnf install -y $packages"
            ;;
        brew) echo "brew install $packages" ;;
    esac
}

# LINE as this user types it.
as_root() {
    if [ "$1" = brew ] || [ "$(id -u)" = 0 ]; then echo "$2"
    elif command -v sudo >/dev/null; then echo "sudo sh -c '$2'"
    else echo "su -c '$2'"
    fi
}

install_system() {
    local kind line
    kind=$(system_kind)
    line=$(install_line "$kind" "$(packages_for "$kind" "$@" | tr '\n' ' ' | sed 's/ $//')")
    setup_say "missing: $*"
    if [ -n "${LMOD_CMD-}${MODULESHOME-}" ]; then
        setup_say "on a cluster, load its modules first (module avail; then: module load gcc openmpi hdf5 llvm)"
    fi
    if [ "$kind" = unknown ]; then
        setup_say "no apt-get, dnf or brew here: install a C compiler, MPI, HDF5, libclang and pkg-config by hand"
        return 1
    elif [ "$kind" = brew ] && { ! command -v brew >/dev/null || ! have_compiler; }; then
        setup_say "first install Homebrew (https://brew.sh) and Apple's compiler:  xcode-select --install"
        return 1
    fi
    if [ -n "${NO_INSTALL-}" ]; then
        setup_say "NO_INSTALL is set, nothing is installed. Type this, then run the script again:"
        echo "    $(as_root "$kind" "$line")" >&2
        return 1
    fi
    if [ "$kind" != brew ] && [ "$(id -u)" != 0 ]; then
        line=$(as_root "$kind" "$line")
        if ! sudo -n true 2>/dev/null; then
            setup_say "cannot install it (not root, no sudo without a password). Type this, then run the script again:"
            echo "    $line" >&2
            return 1
        fi
    fi
    setup_say "installing:  $line"
    sh -c "$line" </dev/null >&2 || { setup_say "the line above failed; see its messages"; return 1; }
}

# Rust comes from the official installer, into the user's home: no rights needed, but a network.
install_rust() {
    local wanted
    wanted=$(rust_wanted)
    setup_say "Rust $wanted or newer is missing (found: $(cargo --version 2>/dev/null || echo none))"
    if [ -z "${NO_INSTALL-}" ]; then
        if command -v rustup >/dev/null; then
            setup_say "trying:  rustup update stable"
            rustup update stable </dev/null >&2 && rustup default stable >&2 && have_rust && return
        else
            setup_say "trying the installer of https://rustup.rs"
            (set -o pipefail; curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --no-modify-path >&2) &&
                have_rust && return
        fi
    fi
    setup_say "install Rust $wanted or newer as https://rustup.rs says (no root needed), then run this again"
    return 1
}

# ---- the whole ----------------------------------------------------------------------------------------------------------

setup() {
    local code=0
    setup_scratch=$(mktemp -d) || return
    set_up || code=$?
    rm -rf "$setup_scratch"
    return "$code"
}

set_up() {
    local missing entry
    read -r -a missing <<<"$(missing_system)"
    [ ! -e "$setup_scratch/refused" ] || return
    if [ "${#missing[@]}" -gt 0 ]; then
        install_system "${missing[@]}" || return
        read -r -a missing <<<"$(missing_system)"
        if [ "${#missing[@]}" -gt 0 ]; then
            setup_say "installed, but still not found: ${missing[*]}. Name them: MPICC=, HDF5_DIR=, LIBCLANG_PATH= (jobs/README.md)"
            return 1
        fi
    fi
    # Once more, here: missing_system ran in a subshell, and what was found has to stay set.
    have_mpi && have_launcher && have_hdf5 && have_libclang || return
    have_rust || install_rust || return
    # shellcheck source=jobs/mpi_env.sh
    . "$setup_root/jobs/mpi_env.sh"
    forget_other_mpi
    ! entry=$(mpi_entry) || setup_say "$(mpi_entry_named) is set: the build links what pkg-config says of $entry, not what mpicc names"
    setup_say "$(cargo --version | cut -d' ' -f1,2); $("$MPIRUN" --version 2>&1 | head -1) (${entry:-${MPICC-}}, $MPIRUN)"
}

# mpi-sys does not notice that MPICC or a module changed and would go on linking the old MPI: then every rank is rank 0 of 1.
forget_other_mpi() {
    local target=${CARGO_TARGET_DIR:-$setup_root/target} now
    now=$(if mpi_entry; then pkg_config --cflags --libs "$(mpi_entry)"; else command -v "$MPICC"; "$MPICC" -show; fi)
    if [ -d "$target/release/build" ] && [ "$now" != "$(cat "$target/.mpicc" 2>/dev/null)" ]; then
        setup_say "another MPI than the last build's (or the first use of this script): mpi is built anew"
        (cd "$setup_root" && cargo clean --quiet --release -p mpi-sys -p mpi)
    fi
    # Root may be setting this machine up for the one who builds, and must leave nothing in the way: no folder, no file to be written to.
    if [ -d "$target" ] || [ -O "$setup_root/Cargo.toml" ]; then
        mkdir -p "$target" && rm -f "$target/.mpicc" && echo "$now" >"$target/.mpicc"
    fi
}

setup || { # as a command: fail; sourced: the caller decides
    [ "${BASH_SOURCE[0]}" = "$0" ] && exit 1
    return 1
}

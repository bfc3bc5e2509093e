#!/usr/bin/env bash
# Makes this machine able to build and launch glasses: finds a C compiler, MPI, HDF5, libclang and Rust, and installs what
# is missing. What is there is used as it is (a cluster's modules, MPICH or Open MPI), so a re-run installs nothing.
#   . jobs/setup.sh      in a script or terminal: also leaves MPICC, MPIRUN, PATH and the launcher's variables set
#   ./jobs/setup.sh      installs only
# Knobs: MPICC, MPIRUN, HDF5_DIR, LIBCLANG_PATH, NO_INSTALL=1 (say what is missing, install nothing); see jobs/README.md.
# Works with bash 3.2, which is what macOS has.

setup_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

setup_say() { echo "setup: $*" >&2; }

# ---- finding ------------------------------------------------------------------------------------------------------------

have_compiler() { command -v "${CC:-cc}" >/dev/null; }

have_curl() { command -v curl >/dev/null; }

have_pkgconfig() { command -v pkg-config >/dev/null; }

# A wrapper without its headers (Debian's openmpi-bin alone) is no MPI to build with, so it has to find mpi.h.
mpicc_works() { echo '#include <mpi.h>' | "$1" -E -x c - >/dev/null 2>&1; }

have_mpi() {
    local dir
    if [ -z "${MPICC-}" ] && ! command -v mpicc >/dev/null; then
        # Fedora and RHEL keep MPI off PATH until `module load mpi/…`; its library folder is off the loader's path too.
        for dir in /usr/lib64/openmpi /usr/lib64/mpich; do
            if [ -x "$dir/bin/mpicc" ]; then
                export PATH="$dir/bin:$PATH" LD_LIBRARY_PATH="$dir/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
                break
            fi
        done
    fi
    if [ -n "${MPICC-}" ] && ! mpicc_works "$MPICC"; then
        setup_say "MPICC=$MPICC finds no mpi.h; correct or unset it"
        return 1
    fi
    export MPICC="${MPICC:-mpicc}"
    mpicc_works "$MPICC" && find_mpirun
}

# The launcher has to be of the same MPI as the compiler wrapper, else every rank is rank 0 of 1: look beside mpicc first.
find_mpirun() {
    local mpicc dir name
    [ -z "${MPIRUN-}" ] || { export MPIRUN; command -v "$MPIRUN" >/dev/null; return; }
    mpicc=$(command -v "$MPICC")
    dir=$(dirname "$mpicc")
    for name in "$(basename "$mpicc" | sed 's/mpicc/mpirun/')" mpirun mpiexec; do
        if [ "$name" != "$(basename "$mpicc")" ] && [ -x "$dir/$name" ]; then
            export MPIRUN="$dir/$name"
            return
        fi
    done
    MPIRUN=$(command -v mpirun || command -v mpiexec) && export MPIRUN
}

# Where the build script of hdf5-metno-sys looks by itself: HDF5_DIR, pkg-config, Debian's and Fedora's folders, Homebrew.
# For a module that only puts its tools on PATH, or names its folder otherwise, HDF5_DIR is set here.
have_hdf5() {
    local dir tool
    [ -n "${HDF5_DIR-}" ] && [ -e "$HDF5_DIR/include/hdf5.h" ] && return
    [ -z "${HDF5_DIR-}" ] || { setup_say "HDF5_DIR=$HDF5_DIR has no include/hdf5.h; correct or unset it"; return 1; }
    tool=$(command -v h5cc || command -v h5pcc || true)
    for dir in "${HDF5_ROOT-}" "${HDF5_HOME-}" "${EBROOTHDF5-}" "$(brew_prefix hdf5)" "${tool:+${tool%/bin/*}}"; do
        if [ -n "$dir" ] && [ "$dir" != /usr ] && [ -e "$dir/include/hdf5.h" ]; then
            export HDF5_DIR="$dir" LD_LIBRARY_PATH="$dir/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
            return
        fi
    done
    { have_pkgconfig && pkg-config --exists hdf5; } || [ -e /usr/include/hdf5/serial/hdf5.h ] || [ -e /usr/include/hdf5.h ]
}

# bindgen (for MPI's headers) loads libclang, from where it looks by itself: LIBCLANG_PATH, llvm-config, the system's folders.
# Only Homebrew's has to be named; naming one needlessly would make cargo build bindgen anew at every change of hands.
have_libclang() {
    local dir
    for dir in "${LIBCLANG_PATH-}" "$(if command -v llvm-config >/dev/null; then llvm-config --libdir; fi)" \
        /usr/lib/llvm-*/lib /usr/lib/*-linux-gnu /usr/lib64 /usr/lib /Library/Developer/CommandLineTools/usr/lib; do
        if compgen -G "${dir:-/nowhere}/libclang*.so*" >/dev/null || [ -e "$dir/libclang.dylib" ]; then return; fi
    done
    dir=$(brew_prefix llvm)/lib
    [ -e "$dir/libclang.dylib" ] && export LIBCLANG_PATH="$dir"
}

brew_prefix() { if command -v brew >/dev/null; then brew --prefix "$1" 2>/dev/null; fi; }

rust_wanted() { sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$setup_root/Cargo.toml"; }

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

missing_system() {
    local need
    for need in compiler curl pkgconfig mpi hdf5 libclang; do
        "have_$need" || printf '%s ' "$need"
    done
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
            apt-compiler) echo build-essential ;;
            apt-mpi) echo libopenmpi-dev openmpi-bin ;;
            apt-hdf5) echo libhdf5-dev hdf5-tools ;;
            apt-libclang) echo libclang-dev clang ;;
            apt-pkgconfig) echo pkg-config ;;
            apt-curl) echo curl ca-certificates ;;
            dnf-compiler) echo gcc make ;;
            dnf-mpi) echo openmpi-devel ;;
            dnf-hdf5) echo hdf5 hdf5-devel ;;
            dnf-libclang) echo clang clang-devel ;;
            dnf-pkgconfig) echo pkgconf-pkg-config ;;
            brew-mpi) echo open-mpi ;;
            brew-hdf5) echo hdf5 ;;
            brew-libclang) echo llvm ;;
            brew-pkgconfig) echo pkgconf ;;
            *-curl) echo curl ;;
        esac
    done
}

# The one line that installs PACKAGES, as root would type it (Homebrew: as the user).
install_line() {
    local kind=$1 packages=$2
    case $kind in
        apt) echo "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y $packages" ;;
        dnf)
            # RHEL and its rebuilds have HDF5 in EPEL, which needs CRB; Fedora has both built in.
            grep -qs '^ID="*fedora' /etc/os-release || printf 'dnf install -y epel-release && crb enable && '
            echo "dnf install -y $packages"
            ;;
        brew) echo "brew install $packages" ;;
    esac
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
    elif [ "$kind" != brew ] && [ "$(id -u)" != 0 ]; then
        line="sudo sh -c '$line'"
    fi
    if [ -n "${NO_INSTALL-}" ] || { [ "${line#sudo}" != "$line" ] && ! sudo -n true 2>/dev/null; }; then
        setup_say "cannot install it (not root, no passwordless sudo; or NO_INSTALL is set). Type this, then run the script again:"
        echo "    $line" >&2
        return 1
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
    local missing
    read -r -a missing <<<"$(missing_system)"
    if [ "${#missing[@]}" -gt 0 ]; then
        install_system "${missing[@]}" || return
        read -r -a missing <<<"$(missing_system)"
        if [ "${#missing[@]}" -gt 0 ]; then
            setup_say "installed, but still not found: ${missing[*]}. Name them: MPICC=, HDF5_DIR=, LIBCLANG_PATH= (jobs/README.md)"
            return 1
        fi
    fi
    # Once more, here: missing_system ran in a subshell, and what was found has to stay set.
    have_mpi && have_hdf5 && have_libclang
    have_rust || install_rust || return
    # shellcheck source=jobs/mpi_env.sh
    . "$setup_root/jobs/mpi_env.sh"
    forget_other_mpi
    setup_say "$(cargo --version | cut -d' ' -f1,2); $("$MPIRUN" --version 2>&1 | head -1) ($MPICC, $MPIRUN)"
}

# mpi-sys does not notice that MPICC or a module changed and would go on linking the old MPI: then every rank is rank 0 of 1.
forget_other_mpi() {
    local target=${CARGO_TARGET_DIR:-$setup_root/target} now
    now=$(command -v "$MPICC"; "$MPICC" -show)
    if [ -d "$target/release/build" ] && [ "$now" != "$(cat "$target/.mpicc" 2>/dev/null)" ]; then
        setup_say "another MPI than the last build's (or the first use of this script): mpi is built anew"
        (cd "$setup_root" && cargo clean --quiet --release -p mpi-sys -p mpi)
    fi
    mkdir -p "$target" && echo "$now" >"$target/.mpicc"
}

setup || { # as a command: fail; sourced: the caller decides
    [ "${BASH_SOURCE[0]}" = "$0" ] && exit 1
    return 1
}

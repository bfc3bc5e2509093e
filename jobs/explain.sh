# shellcheck shell=bash
# Why a build failed, and what mends it. Sourced, after setup.sh (which knows this system's packages), by quickstart.sh and test.sh:
#   build_or_explain cargo build --release --locked
# explained_script: the script to run again (quickstart).

explained_script=${explained_script:-quickstart}

# Runs a command of cargo's, shown as it would be without this, and says after a failure what it comes from.
build_or_explain() {
    local log code command=("$@")
    log=$(mktemp)
    # Through a pipe cargo shows neither colours nor how far it is.
    if [ -t 2 ]; then
        command=(env "CARGO_TERM_COLOR=${CARGO_TERM_COLOR-always}" "CARGO_TERM_PROGRESS_WHEN=${CARGO_TERM_PROGRESS_WHEN-always}"
            "CARGO_TERM_PROGRESS_WIDTH=$(terminal_width)" "$@")
    fi
    "${command[@]}" 2>&1 | tee "$log" >&2
    code=${PIPESTATUS[0]}
    [ "$code" = 0 ] || explain_end "$(build_end "$log")"
    rm -f "$log"
    return "$code"
}

terminal_width() {
    local width
    width=$(stty size 2>/dev/null </dev/tty | cut -d' ' -f2)
    echo "${width:-80}"
}

# build_end LOG: one word for how that build ended, from what cargo, rustc, bindgen and the build scripts wrote; none for an end
# that is not known. What breaks everything else comes first.
build_end() {
    local text no_library="(cannot find|unable to find library|library not found for) -l|library not found: |library '"
    # In the words of GNU ld, of lld (rust-lld: rustc's own since 1.90), of mold and of Apple's.
    text=$(sed "s/$(printf '\033')\[[0-9;]*[A-Za-z]//g" "$1" | tr '\r' '\n')
    says() { printf '%s\n' "$text" | grep -E "$1" >/dev/null; }
    if says 'No space left on device|os error 28|Disk quota exceeded'; then echo space
    elif says '\(signal: 9, SIGKILL|Killed signal terminated program|Cannot allocate memory|memory allocation of [0-9]+ bytes failed|terminated with signal 9|LLVM ERROR: out of memory'; then echo memory
    elif says 'requires rustc [0-9.]+|is not supported by the following packages?|lock file version .* (was found|requires)|edition2024. is required|older than the .20[0-9]+. edition|not support.* edition'; then echo rust
    elif says 'SSL certificate problem|SSL CA cert|SSL peer certificate|local issuer certificate|certificate verify failed|invalid peer certificate'; then echo certificates
    elif says 'Could(n.t| not) resolve host|Could(n.t| not) connect|failed to download|download of .* failed|spurious network error|attempting to make an HTTP request|network failure'; then echo network
    elif says 'Unable to find libclang|couldn.t find any valid shared libraries matching|shared library at .*libclang.* could not be opened|fatal error: .(stddef|stdarg|stdbool|float|limits)\.h. file not found'; then echo libclang
    elif says 'mpi\.h: No such file|.mpi\.h. file not found|failed to find an MPI library'"|($no_library)mpi(ch)?($|[^a-z])"; then echo mpi
    elif says 'HDF5_DIR cannot be relative|HDF5_DIR is not a directory'; then echo hdf5-dir
    elif says 'Unable to locate HDF5 root directory|Unable to determine HDF5 location|Invalid HDF5 headers directory'"|($no_library)hdf5($|[^a-z])"; then echo hdf5
    elif says 'Invalid H5_VERSION|required HDF5 version|Invalid HDF5 runtime version|Unable to infer HDF5 library runtime version'; then echo hdf5-version
    elif says 'linker .?cc.? not found|(cannot find|cannot open) (S?crt1|crti)\.o|failed to find tool'"|($no_library)(c|gcc_s)($|[^a-z_])"; then echo compiler
    fi
}

explain_end() {
    local say="$explained_script: the build failed:"
    case $1 in
        space)
            echo "$say no space left: it takes 2 GB in ${CARGO_TARGET_DIR:-$setup_root/target}, and some in ${TMPDIR:-/tmp}. Free some (df -h), or build elsewhere:"
            echo "    CARGO_TARGET_DIR=/with/space ./jobs/$explained_script.sh"
            ;;
        memory)
            echo "$say a compiler ran out of memory (it takes 2 GB a core). One at a time:"
            echo "    CARGO_BUILD_JOBS=1 ./jobs/$explained_script.sh"
            ;;
        rust)
            echo "$say $(cargo --version 2>/dev/null || echo 'this cargo') is too old, $(rust_wanted) or newer is wanted. Type:"
            if command -v rustup >/dev/null; then echo "    rustup update stable && rustup default stable"; else echo "    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"; fi
            ;;
        network)
            echo "$say cargo could not download the crates. Is there a network here (a proxy: https_proxy=…)? Where there is one, once, in $setup_root:"
            echo "    cargo fetch --locked"
            ;;
        certificates) explain_missing "cargo trusts no server, as certificates are missing or old" certificates ;;
        libclang) explain_missing "bindgen, which reads MPI's headers, found no libclang that works${LIBCLANG_PATH:+ (LIBCLANG_PATH=$LIBCLANG_PATH)}" libclang ;;
        mpi) explain_missing "it found no mpi.h, or no library for it${MPICC:+ (MPICC=$MPICC)}" mpi ;;
        hdf5) explain_missing "it found no HDF5${HDF5_DIR:+ (HDF5_DIR=$HDF5_DIR)}$(parallel_hdf5)" hdf5 pkgconfig ;;
        hdf5-dir)
            echo "$say HDF5_DIR=${HDF5_DIR-} has to be the absolute path of a folder. Type this, then run the script again:"
            echo "    $(hdf5_dir_mended)"
            ;;
        hdf5-version)
            explain_missing "its HDF5${HDF5_DIR:+ (HDF5_DIR=$HDF5_DIR: unset it)} is too old, of a version it does not know, or has headers of another" hdf5 pkgconfig
            ;;
        compiler) explain_missing "Rust found no C compiler to link with" compiler ;;
        *) echo "$say see the first error above; what the build needs is looked at by  ./jobs/setup.sh" ;;
    esac >&2
}

# Debian keeps a parallel HDF5 where only pkg-config knows it.
parallel_hdf5() {
    local file
    for file in /usr/include/hdf5/*/H5pubconf.h; do
        case $file in
            */serial/* | *'*'*) ;;
            *) echo "; the parallel one in ${file%/*} is found by pkg-config alone" ;;
        esac
    done
}

# explain_missing WHY NEED…
explain_missing() {
    local why=$1 kind packages
    shift
    kind=$(system_kind)
    packages=$(packages_for "$kind" "$@" | tr '\n' ' ' | sed 's/ $//')
    echo "$explained_script: the build failed: $why. Type this, then run the script again:"
    if [ "$kind" = unknown ]; then echo "    . jobs/setup.sh      # says what to install by hand"; else echo "    $(as_root "$kind" "$(install_line "$kind" "$packages")")"; fi
}

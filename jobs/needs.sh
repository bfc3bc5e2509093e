# shellcheck shell=bash
# What the build needs, asked as the build asks it: by trying. Sourced by setup.sh, which installs what is missing.
# Every have_… leaves set (MPICC, HDF5_DIR, …) what the build has to be told, and says in one line why a thing counts as missing.
# setup_scratch is a folder for what is compiled here, and jobs/probes/ has the sources.

setup_probes=${setup_root:?is set by setup.sh, which sources this}/jobs/probes
setup_scratch=${setup_scratch-}

missing_because() { setup_say "$*"; return 1; }

# For what is named wrongly: nothing that could be installed would mend it, and set-up stops. (A file, as it is asked in a subshell.)
refuse() { : >"$setup_scratch/refused"; missing_because "$*"; }

# Rust links with `cc`, whatever CC is. A compiler without its C library (gcc without libc6-dev) links nothing.
have_compiler() {
    command -v cc >/dev/null || missing_because "compiler: no cc on PATH, which Rust links with" || return
    echo 'int main(void) { return 0; }' | cc -x c - -o "$setup_scratch/linked" 2>"$setup_scratch/errors" ||
        missing_because "compiler: cc links no program: $(first_error)"
}

first_error() { grep -m 1 -i -e error -e 'cannot find' "$setup_scratch/errors" || head -1 "$setup_scratch/errors"; }

# `glasses --version` names the commit, and git is asked for it. Sources without a history (an archive of them) go without.
have_git() {
    [ ! -e "$setup_root/.git" ] || command -v git >/dev/null || missing_because "git: not found; the program says what commit it is built from"
}

# Cargo fetches over https, and believes only certificates that the system has (where openssl-probe looks).
have_certificates() {
    local file
    if [ "$(uname)" = Darwin ] || [ -n "${SSL_CERT_DIR-}" ]; then return 0; fi
    for file in "${SSL_CERT_FILE-}" "${CARGO_HTTP_CAINFO-}" /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt \
        /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem /etc/ssl/ca-bundle.pem /etc/ssl/cert.pem /etc/ssl/certs/ca-bundle.crt; do
        [ ! -s "$file" ] || return 0
    done
    missing_because "certificates: none in /etc/ssl or /etc/pki; without them cargo downloads nothing"
}

# For rustup's installer only.
have_curl() { have_rust || command -v curl >/dev/null || missing_because "curl: not found; Rust's installer comes by it"; }

pkg_config() { "${PKG_CONFIG:-pkg-config}" "$@"; }

# ---- MPI ----------------------------------------------------------------------------------------------------------------

# The entry of pkg-config's that the build (build-probe-mpi) takes before it asks mpicc: the one that MPI_PKG_CONFIG names, good or not, or
# that of CRAY_MPICH_DIR, if there is one.
mpi_entry() {
    local dir
    printenv MPI_PKG_CONFIG || { dir=$(printenv CRAY_MPICH_DIR) && pkg_config --exists "$dir/lib/pkgconfig/mpich.pc" 2>/dev/null && echo "$dir/lib/pkgconfig/mpich.pc"; }
}

have_mpi_entry() {
    local entry=$1 flags
    if flags=$(pkg_config --cflags --libs "$entry" 2>"$setup_scratch/errors"); then
        # shellcheck disable=SC2086 # words
        cc "$setup_probes/mpi.c" $flags -o "$setup_scratch/mpi" 2>"$setup_scratch/errors" && return
    fi
    refuse "mpi: the build takes pkg-config's '$entry' in place of mpicc's MPI, and builds no program with it: $(first_error); correct or unset $(mpi_entry_named)"
}

mpi_entry_named() { if printenv MPI_PKG_CONFIG >/dev/null; then echo MPI_PKG_CONFIG; else echo CRAY_MPICH_DIR; fi; }

have_mpi() {
    local dir entry
    if entry=$(mpi_entry); then
        have_mpi_entry "$entry"
        return
    fi
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
        missing_because "mpi: MPICC=$MPICC builds no program: $(first_error); correct or unset MPICC"
        return
    fi
    command -v "${MPICC:-mpicc}" >/dev/null || missing_because "mpi: no mpicc on PATH" || return
    mpicc_works "${MPICC:-mpicc}" || missing_because "mpi: mpicc builds no program: $(first_error)" || return
    keep MPICC "${MPICC:-mpicc}"
}

# keep NAME VALUE: exported, and still after `NAME=… . jobs/setup.sh`, which bash otherwise undoes at the end of that line: the build
# would then be with another MPI than MPIRUN's.
keep() { unset "$1"; export "$1=$2"; }

# mpi-sys compiles with the wrapper; Rust then links, with what the wrapper shows. A wrapper may lack its headers (openmpi-bin
# alone), headers their library.
mpicc_works() {
    local flags=() flag
    while read -r flag; do flags+=("$flag"); done < <("$1" -show 2>/dev/null | xargs printf '%s\n' 2>/dev/null | grep '^-[lL]')
    "$1" -c "$setup_probes/mpi.c" -o "$setup_scratch/mpi.o" 2>"$setup_scratch/errors" &&
        cc "$setup_scratch/mpi.o" ${flags[@]+"${flags[@]}"} -o "$setup_scratch/mpi" 2>"$setup_scratch/errors"
}

# The launcher has to be of the same MPI as the compiler wrapper, else every rank is rank 0 of 1. Beside mpicc first; with two MPIs,
# Debian's mpicc and mpirun may each be of another: mpirun.mpich is then MPICH's. What set-up chose itself (SETUP_MPIRUN), here or in the
# shell that started this one, is chosen anew each time: MPICC or a module may have changed since.
have_launcher() {
    local mpicc dir suffix launcher compiled launched beside
    compiled=$(compiled_with)
    if [ -n "${MPIRUN-}" ] && [ "$MPIRUN" != "${SETUP_MPIRUN-}" ]; then
        keep MPIRUN "$MPIRUN"
        command -v "$MPIRUN" >/dev/null || missing_because "launcher: MPIRUN=$MPIRUN is no program" || return
        launched=$(launched_by "$MPIRUN")
        [ "$launched" = "$compiled" ] || [ "$launched" = unknown ] || [ "$compiled" = unknown ] ||
            refuse "launcher: MPIRUN=$MPIRUN is of $launched, and ${MPICC-the MPI to build with} of $compiled: every rank would be rank 0 of 1; correct one, or unset MPIRUN"
        return
    fi
    unset MPIRUN SETUP_MPIRUN
    # Without an mpicc, beside its library (…/lib, …/bin).
    mpicc=$(command -v "${MPICC:-mpicc}") || mpicc=$(mpi_entry && pkg_config --variable=prefix "$(mpi_entry)")/bin/mpicc
    dir=$(dirname "$mpicc")
    suffix=$(basename "$mpicc" | sed 's/.*mpicc//')
    for launcher in "$dir/mpirun$suffix" "$dir/mpirun" "$dir/mpiexec" "$dir/mpirun.openmpi" "$dir/mpirun.mpich" mpirun mpiexec; do
        beside=${launcher%/*}
        launcher=$(command -v "$launcher") || continue
        launched=$(launched_by "$launcher")
        # One of no known kind (a site's own script, IBM's) is believed where it stands beside mpicc.
        if { [ "$launched" = "$compiled" ] && [ "$launched" != unknown ]; } ||
            { [ "$beside" = "$dir" ] && { [ "$launched" = unknown ] || [ "$compiled" = unknown ]; }; }; then
            export MPIRUN="$launcher" SETUP_MPIRUN="$launcher"
            return
        fi
    done
    missing_because "launcher: no mpirun of the same MPI as ${MPICC-the one to build with} ($compiled)"
}

# openmpi; mpich, as the many are that come from it and start with its launcher or a kindred one (Intel, MVAPICH); or unknown.
compiled_with() {
    local entry compiler=("${MPICC:-mpicc}")
    # shellcheck disable=SC2207 # words
    ! entry=$(mpi_entry) || compiler=(cc $(pkg_config --cflags "$entry"))
    case $("${compiler[@]}" -E -dM "$setup_probes/mpi.c" 2>/dev/null | grep -E '^#define (OPEN_MPI|MPICH2?_(NAME|VERSION)|MVAPICH2?_VERSION|I_MPI_VERSION) ') in
        *OPEN_MPI*) echo openmpi ;;
        ?*) echo mpich ;;
        *) echo unknown ;;
    esac
}

launched_by() {
    case $("$1" --version 2>&1 </dev/null) in
        *'Open MPI'* | *OpenRTE* | *PRRTE*) echo openmpi ;;
        *HYDRA* | *Hydra* | *MPICH* | *MVAPICH* | *'Intel(R) MPI'*) echo mpich ;;
        *) echo unknown ;;
    esac
}

# ---- HDF5 ---------------------------------------------------------------------------------------------------------------

# As the build script of hdf5-metno-sys goes on: HDF5_DIR, pkg-config, two folders of Linux, Homebrew. It then starts the library.
have_hdf5() {
    local place flags=() folder
    name_hdf5 || return
    place=$(hdf5_place) || missing_because "hdf5: no HDF5_DIR, $(hdf5_tried)" || return
    for folder in ${place#* }; do flags+=("-L$folder"); done
    cc -I"${place%% *}" "$setup_probes/hdf5.c" ${flags[@]+"${flags[@]}"} -lhdf5 -o "$setup_scratch/hdf5" 2>"$setup_scratch/errors" ||
        missing_because "hdf5: no program can be built with the one in ${place%% *}: $(first_error)" || return
    folder=$(echo "${place#* }" | tr ' ' ':')
    LD_LIBRARY_PATH=$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} "$setup_scratch/hdf5" >"$setup_scratch/errors" 2>&1 ||
        missing_because "hdf5: the one in ${place%% *}: $(head -1 "$setup_scratch/errors")" || return
    same_mpi_as_hdf5 "${place%% *}" "$folder"
}

hdf5_tried() {
    if [ "$(uname)" = Darwin ]; then echo "none of Homebrew's"
    elif command -v "${PKG_CONFIG:-pkg-config}" >/dev/null; then echo "no pkg-config entry of headers, none in /usr/include"
    else echo "no pkg-config to ask, none in /usr/include"
    fi
}

# What to install where there is no HDF5 to build with. pkg-config is wanted only where none is found without it; it alone, if it would find one.
hdf5_needs() {
    local file
    if [ -n "${HDF5_DIR-}" ] || [ "$(uname)" = Darwin ] || command -v "${PKG_CONFIG:-pkg-config}" >/dev/null; then
        echo hdf5
        return
    fi
    for file in /usr/lib*/pkgconfig/hdf5.pc /usr/lib*/*/pkgconfig/hdf5.pc /usr/share/pkgconfig/hdf5.pc; do
        if [ -e "$file" ]; then echo pkgconfig; return; fi
    done
    echo hdf5 pkgconfig
}

# The folder of the headers, and those to link in.
hdf5_place() {
    local folder include=
    if [ -n "${HDF5_DIR-}" ]; then
        echo "$HDF5_DIR/include $HDF5_DIR/lib"
        return
    fi
    # There the build script asks Homebrew only (name_hdf5 has, and found none).
    [ "$(uname)" != Darwin ] || return
    for folder in $(pkg_config --cflags-only-I hdf5 2>/dev/null | tr ' ' '\n' | sed -n 's/^-I//p') ; do
        [ -n "$include" ] || ! hdf5_headers "$folder" || include=$folder
    done
    if [ -n "$include" ]; then
        echo "$include" "$(pkg_config --libs-only-L hdf5 | tr ' ' '\n' | sed -n 's/^-L//p' | tr '\n' ' ')"
    elif hdf5_headers /usr/include/hdf5/serial; then
        echo /usr/include/hdf5/serial /usr/lib/x86_64-linux-gnu/hdf5/serial
    elif hdf5_headers /usr/include; then
        echo /usr/include /usr/lib/x86_64-linux-gnu
    else
        return 1
    fi
}

hdf5_headers() { [ -e "$1/H5pubconf.h" ] || [ -e "$1/H5pubconf-64.h" ]; }

# The line that mends an HDF5_DIR which the build script refuses.
hdf5_dir_mended() {
    case ${HDF5_DIR-} in
        '' | /*) ;;
        *) if hdf5_headers "$HDF5_DIR/include"; then printf 'export HDF5_DIR=%q\n' "$(cd "$HDF5_DIR" && pwd)"; return; fi ;;
    esac
    echo "unset HDF5_DIR"
}

# For a module that only puts its tools on PATH, or names its folder otherwise, and for Homebrew, HDF5_DIR is set here.
name_hdf5() {
    local dir tool
    if [ -n "${HDF5_DIR+set}" ]; then
        case $HDF5_DIR in
            /*) ! hdf5_headers "$HDF5_DIR/include" || return 0; refuse "hdf5: HDF5_DIR=$HDF5_DIR has no include/H5pubconf.h. Correct it, or type:" ;;
            *) refuse "hdf5: HDF5_DIR=$HDF5_DIR is not an absolute path, and the build takes no other. Type:" ;;
        esac
        echo "    $(hdf5_dir_mended)" >&2
        return 1
    fi
    tool=$(command -v h5cc || command -v h5pcc || true)
    for dir in "${HDF5_ROOT-}" "${HDF5_HOME-}" "${EBROOTHDF5-}" "$(brew_prefix hdf5)" "$(brew_prefix hdf5-mpi)" "${tool:+${tool%/bin/*}}"; do
        if [ -n "$dir" ] && [ "$dir" != /usr ] && hdf5_headers "$dir/include"; then
            export HDF5_DIR="$dir" LD_LIBRARY_PATH="$dir/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
            return
        fi
    done
}

# A parallel HDF5 brings its MPI along: another than the program's, and two are in one process.
same_mpi_as_hdf5() {
    local include=$1 libraries=$2 both
    grep -q '^#define H5_HAVE_PARALLEL 1' "$include"/H5pubconf*.h && command -v ldd >/dev/null && [ -e "$setup_scratch/mpi" ] || return 0
    both=$(LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} ldd "$setup_scratch/hdf5" "$setup_scratch/mpi" |
        sed -n 's/.*\(libmpi\(ch\)\{0,1\}\.so[.0-9]*\) .*/\1/p' | sort -u)
    [ "$(echo "$both" | wc -l)" -le 1 ] ||
        missing_because "hdf5: the one in $include is parallel and of another MPI ($(echo "$both" | tr '\n' ' ')); a serial one is wanted, or that of $MPICC"
}

# ---- libclang -----------------------------------------------------------------------------------------------------------

# bindgen (for MPI's headers) loads the newest libclang of where clang-sys looks. Where that one does not work and another does, it is
# named; naming one needlessly would make cargo build bindgen anew at every change of hands.
have_libclang() {
    local file first='' why=''
    cc "$setup_probes/libclang.c" -ldl -o "$setup_scratch/libclang" 2>"$setup_scratch/errors" ||
        missing_because "libclang: not tried, as cc builds no program" || return
    while read -r file; do
        first=${first:-$file}
        if libclang_works "$file"; then
            [ "$file" = "$first" ] || export LIBCLANG_PATH="$file"
            return 0
        fi
        why=${why:-$file: $(head -1 "$setup_scratch/errors")}
    done < <(libclang_files)
    file=$(brew_prefix llvm)/lib/libclang.dylib
    if [ -z "${LIBCLANG_PATH-}" ] && [ -e "$file" ] && libclang_works "$file"; then
        export LIBCLANG_PATH="${file%/*}"
        return 0
    fi
    missing_because "libclang: ${why:-none where bindgen looks}${LIBCLANG_PATH:+ (LIBCLANG_PATH=$LIBCLANG_PATH)}"
}

# bindgen tells libclang where `clang`, if there is one, has its headers.
libclang_works() {
    local flags=() folder
    while read -r folder; do flags+=(-isystem "$folder"); done < <(clang -E -x c - -v </dev/null 2>&1 | sed -n '/^#include </,/^End of/ s/^ \([^(]*\).*/\1/p')
    "$setup_scratch/libclang" "$1" "$setup_probes/headers.h" ${flags[@]+"${flags[@]}"} >"$setup_scratch/errors" 2>&1
}

# Where clang-sys looks and what it takes (build/common.rs, build/dynamic.rs), in its order: the version in the name, then the place.
libclang_files() {
    local folders=() folder file
    if [ -n "${LIBCLANG_PATH-}" ] && [ ! -d "$LIBCLANG_PATH" ]; then
        ls "$LIBCLANG_PATH" 2>/dev/null
        return
    elif [ -n "${LIBCLANG_PATH-}" ]; then
        folders=("$LIBCLANG_PATH")
    else
        folder=$("${LLVM_CONFIG_PATH:-llvm-config}" --prefix 2>/dev/null) && folders=("$folder/bin" "$folder/lib" "$folder/lib64")
        while read -r folder; do folders+=("$folder"); done < <(echo "${LD_LIBRARY_PATH-}:${LIBRARY_PATH-}" | tr ':' '\n' | grep .)
        if [ "$(uname)" = Darwin ]; then
            folders+=("$(xcode-select --print-path 2>/dev/null)/Toolchains/XcodeDefault.xctoolchain/usr/lib" /usr/local/opt/llvm*/lib/llvm*/lib
                /Library/Developer/CommandLineTools/usr/lib
                /Applications/Xcode.app/Contents/Developer/Toolchains/XcodeDefault.xctoolchain/usr/lib /usr/local/opt/llvm*/lib)
        fi
    fi
    {
        for folder in ${folders[@]+"${folders[@]}"}; do
            for file in "$folder"/libclang.dylib "$folder"/libclang.so "$folder"/libclang[-.]*so*; do echo "$file"; done
        done
        # One pattern for all folders: thousands of folders asked one by one take a second.
        if [ -z "${LIBCLANG_PATH-}" ]; then
            ls -d /usr/local/llvm*/lib*/libclang[-.]*so* /usr/local/lib*/*/*/libclang[-.]*so* /usr/local/lib*/*/libclang[-.]*so* \
                /usr/local/lib*/libclang[-.]*so* /usr/lib*/*/*/libclang[-.]*so* /usr/lib*/*/libclang[-.]*so* /usr/lib*/libclang[-.]*so* 2>/dev/null
        fi
    } | while read -r file; do [ ! -e "$file" ] || echo "$file"; done | newest_libclang_first
}

# Without libclang-cpp, which is another library. Versions as clang-sys reads them: libclang-14.0.6.so is 14.0.6, libclang.so none.
newest_libclang_first() {
    awk -F/ '
        $NF ~ /-cpp\./ || $NF !~ /^libclang(-.*)?\.(so|dylib)(\..*)?$/ { next }
        {
            version = $NF
            if (!sub(/^libclang\.(so|dylib)\.?/, "", version)) version = substr(version, 10, length(version) - 12)
            split(version, part, ".")
            printf "%d.%d.%d.%d %s\n", part[1], part[2], part[3], part[4], $0
        }' | sort -s -t. -k1,1nr -k2,2nr -k3,3nr -k4,4nr | cut -d' ' -f2-
}

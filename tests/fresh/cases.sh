# shellcheck shell=bash
# What run.sh tries in each system: one function a case, which ends at its first failure. `NOTE: …` goes to run.sh's line.
# shellcheck disable=SC2154 # repository, system and names are run.sh's

# shellcheck disable=SC2034 # for run.sh
all_cases="root user no-install libclang-cpp libclang-bare clang openmpi-bin no-launcher hdf5-openmpi pkg-config mpich both-mpis other-launcher ends"

# The two crates whose build scripts look for MPI, libclang and HDF5, anew; what they depend on is compiled once a system.
build() {
    as someone cargo clean --quiet --release --locked -p mpi-sys -p hdf5-metno-sys
    as someone bash -ec '. jobs/setup.sh; cargo build --release --locked -p mpi-sys -p hdf5-metno-sys'
}

# As it is done: root installs, somebody builds.
set_up_and_build() {
    as root ./jobs/setup.sh
    build
}

case_root() {
    start
    set_up_and_build
    ranks_start root
    ranks_start someone
    nothing_is_missing_soon
}

# ranks_start WHO: four ranks, on however few cores, with no more told than setup.sh leaves set.
ranks_start() {
    # shellcheck disable=SC2016 # for the inner shell
    as "$1" bash -ec '. jobs/setup.sh; "$MPICC" jobs/probes/mpi.c -o "$HOME/ranks"; timeout 60 "$MPIRUN" -n 4 "$HOME/ranks"'
}

# Where all is there, setup.sh has to be no burden. (In CI others may be at work: 5 s.)
nothing_is_missing_soon() {
    local began
    began=$(date +%s%N)
    as someone ./jobs/setup.sh
    began=$((($(date +%s%N) - began) / 1000000))
    echo "NOTE: a second setup.sh takes $began ms"
    [ "$began" -lt 5000 ] || fail "a second setup.sh takes $began ms"
}

# refused WHO [VARIABLE=…]: setup.sh stops with one line to type, left in `line`, and has changed nothing.
refused() {
    local who=$1 out before
    shift
    before=$(packages)
    if out=$(as "$who" env "$@" ./jobs/setup.sh 2>&1); then echo "$out"; fail "setup.sh says that all is well"; fi
    echo "$out"
    [ "$before" = "$(packages)" ] || fail "setup.sh has installed something"
    [ "$(echo "$out" | grep -c '^    ')" = 1 ] || fail "not one line to type"
    line=$(echo "$out" | sed -n 's/^    //p')
}
case_user() {
    start
    refused someone
    as root sh -c "$line"
    as someone ./jobs/setup.sh
    build
}
case_no_install() {
    start tools
    refused root NO_INSTALL=1
    refused someone NO_INSTALL=1 PATH=/usr/bin:/bin
    grep ' curl' <<<"$line" >/dev/null || fail "without Rust its installer needs curl"
    as root sh -c "$line"
    as root env NO_INSTALL=1 ./jobs/setup.sh
    build
}

# ---- misleading packages ----

# newest PATTERN: the package of that name with the highest number.
newest() { as root sh -c "apt-get update >/dev/null && apt-cache search --names-only '$1'" | cut -d' ' -f1 | sort -V | tail -1; }

# Another library of nearly the same name.
case_libclang_cpp() { start mpi-hdf5; install "$(newest '^libclang-cpp[0-9]+$')"; set_up_and_build; }

# A libclang that finds no stddef.h.
case_libclang_bare() { start mpi-hdf5; install "$(newest '^libclang1-[0-9]+$')"; set_up_and_build; }

case_clang() { start mpi-hdf5; install clang; set_up_and_build; }

# mpicc without mpi.h.
case_openmpi_bin() { start libclang; install openmpi-bin; set_up_and_build; }

# Open MPI without its launcher: that is what comes along, not another's.
case_no_launcher() {
    start libclang
    install libopenmpi-dev
    without openmpi-bin
    set_up_and_build
    ! has_package mpich || fail "MPICH's launcher was installed for Open MPI"
    launcher_is openmpi
}

# HDF5 in a usual place is found without pkg-config, in the others by it alone; and MPI where MPI_PKG_CONFIG says, without any mpicc.
case_pkg_config() {
    start libclang
    as root ./jobs/setup.sh
    build_by_entry
    as root rm -f /usr/bin/pkg-config /usr/bin/pkgconf
    as root env NO_INSTALL=1 ./jobs/setup.sh
    build
    without libhdf5-dev
    install libhdf5-openmpi-dev
    as root rm -f /usr/bin/pkg-config /usr/bin/pkgconf
    refused someone
    grep -w pkg-config <<<"$line" >/dev/null || fail "pkg-config is missing"
    ! grep hdf5 <<<"$line" >/dev/null || fail "pkg-config alone is missing"
}

build_by_entry() {
    local said
    as root sh -c 'mkdir /hidden && mv /usr/bin/mpicc* /hidden'
    as someone cargo clean --quiet --release --locked -p mpi-sys
    # shellcheck disable=SC2016 # for the inner shell
    said=$(as someone env MPI_PKG_CONFIG=ompi-c bash -ec '. jobs/setup.sh; cargo build --release --locked -p mpi-sys; "$MPIRUN" -n 2 true' 2>&1) || fail "$said"
    grep 'MPI_PKG_CONFIG is set: the build links what pkg-config says of ompi-c' <<<"$said" || fail "not said: $said"
    ! said=$(as someone env MPI_PKG_CONFIG=none bash -ec '. jobs/setup.sh' 2>&1) || fail "taken: $said"
    grep "the build takes pkg-config's 'none'" <<<"$said" || fail "not said: $said"
    as root sh -c 'mv /hidden/* /usr/bin'
}

# A parallel HDF5 is one to build with, if it is of the same MPI and pkg-config is there to find it.
case_hdf5_openmpi() {
    start libclang
    install libhdf5-openmpi-dev
    set_up_and_build
    ! has_package libhdf5-dev || fail "the HDF5 that was there is as good"
}

case_mpich() {
    start libclang
    install libmpich-dev
    set_up_and_build
    ! has_package openmpi-bin || fail "Open MPI was installed beside MPICH"
    launcher_is mpich
    ranks_start someone
}

# launcher_is KIND [VARIABLE=…]: mpicc and MPIRUN are of that MPI.
launcher_is() {
    local kind=$1 said
    shift
    # shellcheck disable=SC2016 # for the inner shell
    said=$(as someone env "$@" bash -ec '. jobs/setup.sh; echo "$(compiled_with) $(launched_by "$MPIRUN")"')
    [ "$said" = "$kind $kind" ] || fail "mpicc and mpirun: $said; $kind was wanted"
}

case_both_mpis() {
    start libclang
    install libopenmpi-dev openmpi-bin libmpich-dev mpich
    set_up_and_build
    launcher_is openmpi
    launcher_is mpich MPICC=mpicc.mpich
    other_mpi_in_one_shell
    # One that the user named, of the other MPI: said, and nothing is installed against it.
    # shellcheck disable=SC2016 # for the inner shell
    as someone env MPIRUN=mpirun.mpich bash -c '! said=$(. jobs/setup.sh 2>&1) && echo "$said" && grep "MPIRUN=mpirun.mpich is of mpich" <<<"$said" && ! grep missing: <<<"$said"'
}

# Set up again in the same terminal with another MPI: what set-up had chosen for the first must not stay.
other_mpi_in_one_shell() {
    local said
    # shellcheck disable=SC2016 # for the inner shell
    said=$(as someone bash -ec 'of() { echo "$MPICC $(compiled_with) $(launched_by "$MPIRUN")"; }
        . jobs/setup.sh; of; MPICC=mpicc.mpich . jobs/setup.sh; of; (. jobs/setup.sh; of); export MPICC=mpicc; . jobs/setup.sh; of' | tr '\n' ,)
    [ "$said" = "mpicc openmpi openmpi,mpicc.mpich mpich mpich,mpicc.mpich mpich mpich,mpicc openmpi openmpi," ] || fail "in one shell: $said"
}

# Debian's plain `mpirun` is Open MPI's here, its `mpicc` MPICH's.
case_other_launcher() {
    start libclang
    install openmpi-bin libmpich-dev mpich
    as root update-alternatives --set mpi /usr/bin/mpicc.mpich
    set_up_and_build
    launcher_is mpich
}

# ---- failed builds ----

# ends END WORDS [VARIABLE=…]: the build, by somebody, fails and is explained in these words; the line to type is left in `line`. Builds
# $crates, where that is set (empty: glasses itself); what it wrote is kept in the cache, for ends/.
ends() {
    local end=$1 words=$2 out crates=${crates--p mpi-sys -p hdf5-metno-sys}
    shift 2
    as someone cargo clean --quiet --release --locked -p mpi-sys -p hdf5-metno-sys
    if out=$(as someone env "$@" bash -c ". jobs/setup.sh 2>/dev/null; . jobs/explain.sh; build_or_explain cargo build --release --locked $crates" 2>&1); then
        echo "$out"
        fail "$end: the build passes"
    fi
    echo "$out" | tee "$cache/$system.$end.txt"
    grep "^quickstart: the build failed: .*$words" <<<"$out" >/dev/null || fail "$end: not explained"
    line=$(sed -n '/^quickstart: the build failed/,$ s/^    //p' <<<"$out")
    [ "$(wc -l <<<"$line")" = 1 ] || fail "$end: not one line to type"
}

# The line mends it.
ends_mended() {
    ends "$@"
    as root sh -c "$line"
    build
}

without() { as root sh -c "DEBIAN_FRONTEND=noninteractive apt-get remove -y $*"; }

case_ends() {
    start libclang
    as root ./jobs/setup.sh
    without 'libclang*'
    ends_mended libclang "bindgen, .* found no libclang"
    without libopenmpi-dev
    ends_mended mpi "it found no mpi.h"
    without libhdf5-dev
    ends_mended hdf5 "it found no HDF5"
    as someone sh -c 'mkdir -p /tmp/old/include /tmp/old/lib && echo "#define H5_VERSION \"1.6.10\"" >/tmp/old/include/H5pubconf.h'
    ends old-hdf5 "its HDF5 (HDF5_DIR=/tmp/old: unset it) is too old" HDF5_DIR=/tmp/old
    ends hdf5-dir "HDF5_DIR=old has to be the absolute path" HDF5_DIR=old
    refused someone HDF5_DIR=old
    refused someone HDF5_DIR=/tmp/nowhere
    mkdir "$(root)/small"
    mount -t tmpfs -o size=2m,mode=1777 small "$(root)/small"
    ends space "no space left" CARGO_TARGET_DIR=/small
    network=none ends network "cargo could not download the crates" CARGO_HOME=/tmp/empty CARGO_NET_OFFLINE=false CARGO_NET_RETRY=0
    # On trixie the package of the parallel HDF5 brings pkg-config along; elsewhere that may be missing.
    without libhdf5-dev
    install libhdf5-openmpi-dev
    as root rm -f /usr/bin/pkg-config /usr/bin/pkgconf
    ends parallel-hdf5 "the parallel one in .* is found by pkg-config alone"
    sed -i 's/^rust-version =.*/rust-version = "1.999"/' "$(root)/home/someone/glasses/Cargo.toml"
    crates='' ends rust "is too old, 1.999 or newer is wanted"
}

# ---- all of it ----

readme_digest() { sed -n 's/^ *weights sha256 \([0-9a-f]*\)$/\1/p' "$repository/README.md" | head -1; }

case_whole() {
    local digest out
    quick='' start
    as root ./jobs/setup.sh
    as someone env RANKS=4 CARGO_TARGET_DIR=target ./jobs/quickstart.sh 2>&1 | tee "$(room)/run/whole.txt"
    out=$(cat "$(room)/run/whole.txt")
    digest=$(sed -n 's/^weights sha256 \([0-9a-f]*\).*/\1/p' <<<"$out")
    grep -E '^[0-9a-f]{64}$' <<<"$digest" >/dev/null || fail "no digest of 64 digits: '$digest'"
    [ "$digest" = "$(readme_digest)" ] || fail "other weights than README's: $digest"
    # Of rustc, of cargo and of the build scripts' compilers; the one of glasses itself is of this machine.
    ! grep -E '^warning(\[|:)|: warning: ' <<<"$out" | grep -v '^warning: more ranks than CPUs' || fail "the build warns"
    echo "NOTE: $(sed -n 's/^setup: cargo [^;]*; \(.*\) (.*/\1/p' <<<"$out" | tail -1), digest $(cut -c1-12 <<<"$digest"), $(sed -n 's/^test accuracy \([0-9.]* %\).*/\1/p' <<<"$out")"
}

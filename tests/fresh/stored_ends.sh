#!/usr/bin/env bash
# jobs/explain.sh on the ends of builds that are kept in ends/ : the file's name, up to the first dot, is what it has to say.
# Most are what run.sh's case `ends` made happen (it keeps them in its cache; paths and hosts shortened). No case makes these; they were made on a
# Debian 12 host, by cargo 1.95 and a crate of a few lines:
#   certificates   CARGO_HTTP_CAINFO=/dev/null CARGO_HOME=(an empty folder) cargo fetch
#   compiler       cargo build with the toolchain alone on PATH
#   compiler.lld   a build script printing cargo:rustc-link-lib=…, with Scrt1.o, crt1.o and crti.o hidden (an overlay on
#                  /usr/lib/x86_64-linux-gnu in a mount namespace); rust-lld links
#   mpi.lld, hdf5.lld, mpi.mold, hdf5.mold     the same, with libmpi.so and libhdf5.so hidden; mold by -C link-arg=-fuse-ld=mold
#   memory         RUSTC_WRAPPER=(a script that does kill -9 $$), its command line shortened
#   memory.link    a linker that does `exec cc -B FOLDER "$@"`, with FOLDER/ld.lld doing kill -9 $$
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=jobs/explain.sh
. "$here/../../jobs/explain.sh"
for file in "$here"/ends/*.txt; do
    wanted=$(basename "$file" .txt)
    said=$(build_end "$file")
    [ "$said" = "${wanted%%.*}" ] || { echo "FAILED: jobs/explain.sh says '$said' of $file" >&2; exit 1; }
done
echo "fresh: stored ends of builds ... ok"

#!/usr/bin/env bash
# Follows jobs/apptainer.def where there is no Apptainer: its %files, %post and %test, each stage in a fresh Debian 12 (debootstrap, chroot).
# What it cannot try: that Apptainer takes the file, and the image under srun or a host's mpirun.
#   tests/jobs/container.sh              both stages; as root; ten minutes and 4 GB, most of it for the build
#   tests/jobs/container.sh GLASSES      the second stage only, with this program in place of the first stage's
# Knobs: RUST (a toolchain's folder, for the first stage where https://sh.rustup.rs cannot be reached), ROOM (where the Debians go, a new
# folder in /var/tmp that is removed), MIRROR (debootstrap's own).
set -euo pipefail
recipe=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/jobs/apptainer.def
[ "$(id -u)" = 0 ] || { echo "container: only root can chroot" >&2; exit 77; }
command -v debootstrap >/dev/null || { echo "container: no debootstrap:  apt-get install debootstrap" >&2; exit 77; }
room=${ROOM:-$(mktemp -d /var/tmp/container.XXXXXX)}

# section STAGE NAME: the lines below %NAME in that stage.
section() {
    awk -v stage="$1" -v name="%$2" '
        /^Stage:/ { here = $2 == stage }
        /^(%|Bootstrap:)/ { on = here && $0 ~ "^" name "( |$)"; next }
        on' "$recipe"
}

# Each in a process and mount namespace: whatever it starts and mounts is gone with it.
inside() {
    # shellcheck disable=SC2016 # for the inner shell
    unshare --mount --pid --fork --kill-child bash -ec '
        mount -t proc proc "$1/proc"; mount --rbind /sys "$1/sys"; mount -t tmpfs shm "$1/dev/shm" 2>/dev/null || { mkdir -p "$1/dev/shm"; mount -t tmpfs shm "$1/dev/shm"; }
        cp /etc/resolv.conf "$1/etc/resolv.conf"
        exec chroot "$1" env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin sh -e' inside "$room/$1"
}

debian() {
    [ -d "$room/base" ] || debootstrap --variant=minbase bookworm "$room/base" ${MIRROR:+"$MIRROR"} >"$room/debootstrap.log"
    rm -rf "${room:?}/$1"
    cp -a "$room/base" "$room/$1"
}

# copy STAGE FROM: the stage's %files, out of the folder FROM.
copy() {
    section "$1" files | while read -r from to; do
        [ -n "$from" ] || continue
        mkdir -p "$room/$1$(dirname "$to")"
        cp -a "$2/$from" "$room/$1$to"
    done
}

if [ $# = 0 ]; then
    debian build
    copy build "$(dirname "$recipe")/.."
    if [ -n "${RUST-}" ]; then
        mkdir -p "$room/build/src/cargo/bin"
        cp -a "$RUST" "$room/build/src/rust"
        ln -s /src/rust/bin/cargo /src/rust/bin/rustc "$room/build/src/cargo/bin/"
    fi
    section build post | inside build
else
    mkdir -p "$room/build/opt"
    cp "$1" "$room/build/opt/glasses"
fi
debian final
copy final "$room/build"
section final post | inside final
section final test | inside final
echo "container: %test passed"
[ -n "${ROOM-}" ] || rm -rf "$room"

# shellcheck shell=bash
# Minimal Debians in folders: made once, entered each time as they were. Sourced by run.sh, in namespaces of its own.
# shellcheck disable=SC2154 # repository, cache, system and quick are run.sh's

room() { echo "$cache/$system"; }
root() { echo "$cache/$system/root"; }

# In memory, where there is enough: no half minute a case for removing it.
in_memory() {
    if [ "$(awk '/^MemAvailable/ { print int($2 / 1e6) }' /proc/meminfo)" -ge 10 ]; then mount -t tmpfs -o size=5g fresh "$1"; fi
}

# Whether what a case writes can lie over a system here: a folder on an overlay (a container's) takes no second one. Leaves why not in `why`.
overlay_works() {
    local trial code=0
    trial=$(mktemp -d "$cache/trial.XXXXXX")
    in_memory "$trial"
    mkdir "$trial/below" "$trial/top" "$trial/work" "$trial/root"
    # shellcheck disable=SC2034 # for run.sh
    why=$(mount -t overlay fresh -o "lowerdir=$trial/below,upperdir=$trial/top,workdir=$trial/work" "$trial/root" 2>&1 | head -1) || code=$?
    umount "$trial/root" 2>/dev/null || true
    umount "$trial" 2>/dev/null || true
    rm -rf --one-file-system "$trial"
    return "$code"
}

# Makes the untouched system, once; takes the lock, and clears up what a killed run left.
prepare_system() {
    mkdir -p "$(room)/archives/partial"
    exec 9>"$(room)/lock"
    flock -n 9 || { echo "fresh: another run is using $(room)" >&2; return 1; }
    clear_up
    mkdir -p "$(room)/run" "$(room)/root" "$(room)/target"
    in_memory "$(room)/run"
    git clone --quiet --no-hardlinks "$repository" "$(room)/repository" || return
    [ -d "$(room)/base" ] || make_base >"$cache/$system.log" 2>&1
}

clear_up() {
    leave
    umount --lazy "$(room)/run" 2>/dev/null || true
    rm -rf --one-file-system "$(room)/run" "$(room)/base.new" "$(room)/repository"
}

make_base() {
    local base
    base=$(room)/base.new
    debootstrap --variant=minbase "$system" "$base" ${MIRROR:+"$MIRROR"} || return
    # As in a container's image: no lists of packages. And a user without rights. What a power cut would do does not matter here.
    rm -rf "$base"/var/lib/apt/lists/* "$base"/var/cache/apt/archives/*.deb
    echo force-unsafe-io >"$base/etc/dpkg/dpkg.cfg.d/unsafe-io"
    apt-config dump 2>/dev/null | grep -E '^Acquire::https?::Proxy "' >"$base/etc/apt/apt.conf.d/proxy" || true
    chroot "$base" useradd --create-home --uid 1000 someone || return
    mv "$base" "$(room)/base"
}

# enter LAYER: the untouched system with the layers of that name, each made when it is first asked for (`base` has none), and a new
# one on top; with what is lent to it: Rust, the crates, the sources and what apt has downloaded before.
enter() {
    local root top below
    root=$(root)
    top=$(room)/run/top
    below=$(layers_of "$1")
    mkdir -p "$top" "$(room)/run/work"
    mount -t overlay fresh -o "lowerdir=$below,upperdir=$top,workdir=$(room)/run/work" "$root"
    mount -t proc proc "$root/proc"
    mount -t sysfs -o ro sysfs "$root/sys" 2>/dev/null || mount --rbind /sys "$root/sys"
    mkdir -p "$root/dev/pts" "$root/dev/shm" "$root/opt/rust" "$root/opt/cargo/registry" "$root/target"
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
    mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    mount --bind "$(room)/archives" "$root/var/cache/apt/archives"
    mount --bind -o ro "$(rustc --print sysroot)" "$root/opt/rust"
    # Cargo may have to unpack a crate: one more layer, over those that are here.
    mkdir -p "$(room)/run/crates" "$(room)/run/crates-work"
    mount -t overlay crates -o "lowerdir=$CARGO_HOME/registry,upperdir=$(room)/run/crates,workdir=$(room)/run/crates-work" "$root/opt/cargo/registry"
    mount --bind "$(room)/target" "$root/target"
    cp -a "$(room)/repository" "$root/home/someone/glasses"
    [ -z "${SETUP-}" ] || cp "$SETUP" "$root/home/someone/glasses/jobs/setup.sh"
    chown 1000:1000 "$root/target" "$root/opt/cargo" "$root/opt/cargo/registry"
    chown -R 1000:1000 "$root/home/someone"
}

leave() {
    umount --recursive --lazy "$(root)" 2>/dev/null || true
    rm -rf --one-file-system "$(room)/run/top" "$(room)/run/work" "$(room)/run/crates" "$(room)/run/crates-work"
}

# A layer is what installing its packages on the one below it has written; overlayfs names the topmost first.
layers_of() {
    case $1 in
        base) echo "$(room)/base" ;;
        *) echo "$(room)/run/$1:$(layers_of "$(layer_below "$1")")" ;;
    esac
}
layer_below() { case $1 in tools) echo base ;; *) echo tools ;; esac; }
layer_packages() {
    case $1 in
        tools) echo gcc libc6-dev git ca-certificates pkg-config ;;
        libclang) echo libclang-dev ;;
        mpi-hdf5) echo libopenmpi-dev openmpi-bin libhdf5-dev ;;
    esac
}
make_layer() {
    [ "$1" != base ] && [ ! -d "$(room)/run/$1" ] || return 0
    make_layer "$(layer_below "$1")"
    enter "$(layer_below "$1")"
    # shellcheck disable=SC2046 # words
    install $(layer_packages "$1")
    rm -rf "$(root)/home/someone/glasses"
    umount --recursive --lazy "$(root)"
    mv "$(room)/run/top" "$(room)/run/$1"
    leave
}

# start [LAYER]: where a case starts: untouched, or (quick) with all that the case is not about.
start() {
    local layer=base
    [ -z "$quick" ] || layer=${1:-base}
    make_layer "$layer"
    enter "$layer"
}

# as root|someone COMMAND…: in the system, in the sources; with network=none before it, without a network. No crate is downloaded:
# those of this machine have to do.
as() {
    local who=$1 id=0 home=/root apart=()
    shift
    [ "$who" = root ] || { id=1000; home=/home/someone; }
    [ "${network-}" != none ] || apart=(unshare --net)
    ${apart[@]+"${apart[@]}"} chroot --userspec="$id:$id" --groups='' "$(root)" /usr/bin/env -i HOME="$home" USER="$who" LC_ALL=C.UTF-8 TERM=dumb \
        PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        CARGO_HOME=/opt/cargo CARGO_NET_OFFLINE=true CARGO_TARGET_DIR=/target ${CARGO_BUILD_JOBS:+CARGO_BUILD_JOBS="$CARGO_BUILD_JOBS"} \
        ${http_proxy:+http_proxy="$http_proxy"} /bin/sh -c 'cd /home/someone/glasses && exec "$@"' as "$@"
}

install() { as root sh -c "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $*"; }
has_package() { as root dpkg -s "$1" 2>/dev/null | grep '^Status: .* installed' >/dev/null; }
packages() { as root dpkg-query -W | sort; }

# shellcheck shell=bash
# What the scripts have in common that compare speeds in turns. Sourced by two_ranks.sh, scaling.sh and hosts.sh, from any folder.
#
# A figure of a round is images/s over all ranks. Of glasses: the rows of all epochs but the first, over the time that it counts for
# training them (metrics.jsonl: evaluation is no part of it). Of a peer: the rows of a step over the median time of its steps after two.
# Knobs: GLASSES (target/release/glasses), DATA (a dataset of 80x80x3; default: PICTURES drawn faces, 1000), EPOCHS (3 of glasses a round, 2 at least),
# STEPS (of a peer a round: 40, 20 between hosts), PYTHON (~/peers-venv/bin/python), SECONDS_A_RUN (120, then a run is killed), MPIRUN (mpirun).

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=jobs/mpi_env.sh
. "$repository/jobs/mpi_env.sh"
glasses=$(realpath "${GLASSES:-$repository/target/release/glasses}")
python=${PYTHON:-$HOME/peers-venv/bin/python}
limit=(timeout --kill-after 5 "${SECONDS_A_RUN:-120}")

# value_of OPTION ARGUMENT…: the value that the arguments give to this option; nothing where they do not.
value_of() {
    local argument before='' value=''
    for argument in "${@:2}"; do
        [ "$before" != "$1" ] || value=$argument
        case $argument in "$1"=*) value=${argument#*=} ;; esac
        before=$argument
    done
    echo "$value"
}
# without OPTION… -- ARGUMENT…: sets `rest` to the arguments without these options and their values.
without() {
    local options=' ' skip='' argument
    while [ "$1" != -- ]; do options+="$1 "; shift; done
    rest=()
    for argument in "${@:2}"; do
        if [ -n "$skip" ]; then skip=''; continue; fi
        case $options in
            *" $argument "*) skip=yes ;;
            *" ${argument%%=*} "*) ;;
            *) rest+=("$argument") ;;
        esac
    done
}
# given OPTION: the value that the caller's arguments give to it.
given() { value_of "$1" ${extra[@]+"${extra[@]}"}; }

# rounds_begin [ROUNDS [arguments for glasses train]]: into a folder of its own that goes at the end, with the data.
rounds_begin() {
    rounds=$1 extra=("${@:2}") caller=$PWD
    local option config
    for option in --batch --out; do
        [ -z "$(given "$option")" ] || { echo "$option: every run has its own here; leave it out" >&2; exit 2; }
    done
    option=$(given --epochs)
    EPOCHS=${option:-${EPOCHS:-3}}
    without --epochs -- "${@:2}"
    extra=(${rest[@]+"${rest[@]}"})
    [ -x "$glasses" ] || { echo "no $glasses: cargo build --release, or GLASSES=…" >&2; exit 2; }
    [ "$EPOCHS" -ge 2 ] || { echo "EPOCHS=$EPOCHS: two at least, as the first is not counted" >&2; exit 2; }
    # Empty where the arguments name it.
    config=$(given --config) data=${DATA:+$(realpath "$DATA")}
    if [ -n "$(given --data)" ] || { [ -r "$config" ] && grep -q '^[[:space:]]*data[[:space:]]*=' "$config"; }; then
        data='' PICTURES=0
    fi
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    cd "$folder" || exit
    if [ -z "$data" ] && [ "${PICTURES:-1000}" != 0 ]; then
        data=$folder/faces.h5
        "$glasses" synth --size 80 --count "${PICTURES:-1000}" --out "$data" >/dev/null
    fi
}

# need_python MODULE…: or stop.
need_python() {
    "$python" -c "import importlib.util, sys; sys.exit(not all(map(importlib.util.find_spec, sys.argv[1:])))" "$@" && return
    echo "$python lacks one of: $* (benches/peers/README.md; PYTHON=… names another)" >&2
    exit 2
}

# or_log FILE COMMAND…: its output into FILE, shown where the command fails.
or_log() {
    "${@:2}" >"$1" 2>&1 && return
    echo "failed: ${*:2}" >&2
    tail -n 30 "$1" >&2
    exit 1
}

# train BATCH LAUNCHER… : `glasses train` on the global batch, into the folder out, from the caller's folder. The arguments in the array `extra`
# win over what would be set here; with a recipe or a file of settings among them, so do theirs over how is trained.
train() {
    local settings=(--eval-every 1000 --checkpoint-every never --digest-every 100000) own=() i
    [ -n "$(given --recipe)$(given --config)" ] || settings+=(--optimizer sgd --lr 1e-5 --augment none)
    [ -z "$data" ] || settings+=(--data "$data")
    for ((i = 0; i < ${#settings[@]}; i += 2)); do
        [ -n "$(given "${settings[i]}")" ] || own+=("${settings[@]:i:2}")
    done
    rm -rf out
    (cd "$caller" && or_log "$folder/log" "${@:2}" "$glasses" train --batch "$1" --epochs "${epochs:-$EPOCHS}" ${own[@]+"${own[@]}"} \
        --out "$folder/out" ${extra[@]+"${extra[@]}"}) || exit
}

# Launcher of ranks of this machine, a core each.
mpirun_pinned() { "${limit[@]}" "${MPIRUN:-mpirun}" --bind-to core -n "$@"; }

# Images/s of the run in the folder out, its first epoch left aside: epochs have the same rows, so this is the harmonic mean.
train_speed() {
    sed -n '2,$ s/.*"images_per_sec":\([0-9.e+]*\).*/\1/p' out/metrics.jsonl | awk '{ time += 1 / $1 } END { print NR / time }'
}

# peer_rank SCRIPT RANK SIZE ADDRESS PORT LAUNCHER…: answers to the works on standard input, in answers.RANK.
peer_rank() {
    RANK=$2 WORLD_SIZE=$3 MASTER_ADDR=$4 MASTER_PORT=$5 "${@:6}" "$python" -B "$repository/benches/peers/$1" >"answers.$2" 2>"errors.$2"
}

# peer SCRIPT SIZE ADDRESS PLACE REPETITIONS BATCH…: all ranks, `PLACE RANK COMMAND…` starts one of them; speeds of the batches (rows a
# rank), a line each.
peer() {
    local script=$1 size=$2 address=$3 place=$4 repetitions=$5 port=$((20000 + RANDOM % 10000)) rank pids=() pid failed=0
    shift 5
    local works n
    works=$(for n; do echo "{\"batch\": $n, \"repetitions\": $repetitions}"; done)
    for ((rank = 0; rank < size; rank++)); do
        peer_rank "$script" "$rank" "$size" "$address" "$port" "$place" "$rank" <<<"$works" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
    # The first line says what runs.
    head -n 1 answers.0 >"version.$script"
    if [ "$failed" = 1 ] || [ "$(grep -c '"seconds"' answers.0)" != $# ]; then
        echo "failed: $script on $size ranks" >&2
        tail -n 5 answers.* errors.* >&2
        exit 1
    fi
    paste -d' ' <(printf '%s\n' "$@") <(sed -n 's/.*"seconds": \([0-9.e-]*\).*/\1/p' answers.0) | awk -v n="$size" '{ print n * $1 / $2 }'
}

# Figures: a file a name, a line a round.
median() { sort -g "$1" | awk -v form="${2:-%.0f}" '{ v[NR] = $1 } END { printf form, NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
# Median, least and greatest.
spread() { echo "$(median "$1" "${2-}") ($(sort -g "$1" | awk -v form="${2:-%.0f}" 'NR == 1 { printf form "–", $1 } { last = $1 } END { printf form, last }'))"; }
# ratio A B NAME [FACTOR]: FACTOR · A / B round by round, as figures NAME.
ratio() { paste -d' ' "$1" "$2" | awk -v factor="${4:-1}" '{ print factor * $1 / $2 }' >"$3"; }
# rotated ROUND ITEM…: the items, beginning with another one each round.
rotated() {
    local first=$(($1 % ($# - 1)))
    shift
    echo "${@:first+1}" "${@:1:first}"
}

# What a reader needs to judge the figures.
circumstances() {
    local cpu
    cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
    echo "- $cpu, $(nproc --all) cores; $(uname -sr); $("${MPIRUN:-mpirun}" --version | head -n 1)"
    echo "- $("$glasses" --version), repository at $(git -C "$repository" describe --always --dirty); arguments besides:${extra[*]+ ${extra[*]}}"
    ! ls version.* >/dev/null 2>&1 || sed 's/^{/- /; s/}$//; s/"//g' version.*
    echo "- medians of $rounds rounds in turns (least–greatest); ratios are taken round by round"
    echo
}

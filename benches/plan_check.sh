#!/usr/bin/env bash
# The cost model behind `glasses plan` against real runs: milliseconds a step, predicted and measured, of every strategy, on ranks of this
# machine and on hosts with a slow network between them (namespaces.sh).
#   benches/plan_check.sh [ROUNDS]      five to ten minutes a round; ROUNDS (default 1)
# Knobs: HERE ("1 2 4 8": ranks of this machine, by shared memory), APART ("2:100mbit:1 2:1gbit:1 …": hosts, rate, ranks a host), BATCH
# (32, over all ranks), CORES (what plan is told of this machine: all); those of rounds.sh and namespaces.sh.
# Latency and bandwidth between hosts are those that a run measures at its start: what tc is told is not what TCP gets.
set -euo pipefail
# shellcheck source=benches/namespaces.sh
. "$(dirname "${BASH_SOURCE[0]}")/namespaces.sh"
netns_enter "$0" "$@"
# shellcheck source=benches/rounds.sh
. "$(dirname "${BASH_SOURCE[0]}")/rounds.sh"
read -ra here <<<"${HERE-1 2 4 8}"
read -ra apart <<<"${APART-2:100mbit:1 2:1gbit:1 2:10gbit:1 2:1gbit:4 4:100mbit:1 4:1gbit:1 4:10gbit:1}"
batch=${BATCH:-32} cores=${CORES:-$(nproc --all)}
export NETNS_SECONDS=${SECONDS_A_RUN:-180}
rounds_begin "${1:-1}"
# Runs of this machine alone are in here, too.
ip link set lo up
"$glasses" synth --size 80 --count 240 --out few.h5 >/dev/null
many=$data

# plan ARGUMENTS…: `glasses plan`, as a line of milliseconds: reduce factors split (a dash where there is none).
plan() { "$glasses" plan --batch "$batch" "$@" | awk 'END { print $(NF - 2), $(NF - 1), $NF }'; }
# measured STRATEGY LAUNCHER…: milliseconds a step of a run.
measured() {
    extra=(--comm "$1")
    train "$batch" "${@:2}"
    train_speed | awk -v batch="$batch" '{ print 1000 * batch / $1 }'
}
# compare NAME PREDICTED STRATEGY LAUNCHER…
compare() {
    [ "$2" != - ] || return 0
    local ms
    ms=$(measured "$3" "${@:4}")
    echo "$2 $ms" >>"figures-$1-$3"
    echo "$1, $3: predicted $2 ms, measured $ms ms" >&2
}
# all NAME LAUNCHER…: every strategy, predictions on standard input.
all() {
    local reduce factors split
    read -r reduce factors split
    compare "$1" "$reduce" reduce "${@:2}"
    compare "$1" "$factors" factors "${@:2}"
    compare "$1" "$split" split "${@:2}"
}

names=()
for ((round = 0; round < rounds; round++)); do
    data=$many epochs=3
    for ranks in "${here[@]}"; do
        name="$ranks-ranks-here"
        [ "$round" != 0 ] || names+=("$name")
        launcher=("${limit[@]}" "${MPIRUN:-mpirun}" --bind-to none -n "$ranks")
        predictions=$(plan --ranks "$ranks" --ranks-per-node "$ranks" --cores-per-node "$cores")
        if [ "$ranks" = 1 ]; then predictions="$(cut -d' ' -f1 <<<"$predictions") - -"; fi
        all "$name" "${launcher[@]}" <<<"$predictions"
    done
    for case in "${apart[@]}"; do
        IFS=: read -r hosts rate ranks <<<"$case"
        name="$hosts-hosts-$rate-$ranks-each"
        [ "$round" != 0 ] || names+=("$name")
        netns_up "$hosts" "$rate"
        case $rate in
            *gbit) data=$many epochs=3 ;;
            *) data=$folder/few.h5 epochs=2 ;;
        esac
        extra=(--max-steps 1)
        epochs=1 train "$batch" netns_mpirun "$ranks"
        link=$(sed -n 's/.*(measured: \([0-9.]*\) us, \([0-9.]*\) MB\/s[;)].*/\1us \2MB/p' log)
        all "$name" netns_mpirun "$ranks" < <(plan --ranks $((hosts * ranks)) --ranks-per-node "$ranks" \
            --latency "${link% *}" --bandwidth "${link#* }" --cores-per-node "$(awk -v c="$cores" -v h="$hosts" 'BEGIN { print c / h }')")
        netns_down
    done
done

extra=()
circumstances
echo "batch $batch; milliseconds a step"
echo
echo "| where | strategy | predicted | measured | error |"
echo "|---|---|---|---|---|"
for name in "${names[@]}"; do
    for strategy in reduce factors split; do
        [ -e "figures-$name-$strategy" ] || continue
        cut -d' ' -f1 "figures-$name-$strategy" >predicted
        cut -d' ' -f2 "figures-$name-$strategy" >real
        echo "| ${name//-/ } | $strategy | $(median predicted %.1f) | $(median real %.1f) | $(awk -v a="$(median predicted %.6f)" -v b="$(median real %.6f)" 'BEGIN { printf "%+.0f %%", 100 * (a / b - 1) }') |"
    done
done

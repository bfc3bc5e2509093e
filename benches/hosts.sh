#!/usr/bin/env bash
# Hosts with a slow network between them (namespaces.sh), in turns: glasses and PyTorch DDP (gloo). Images/s over all ranks, and bytes.
#   benches/hosts.sh [ROUNDS [arguments for glasses train]]       one to three minutes a round; ROUNDS (default 3)
# Bytes on the wire are those that the hosts' interfaces sent in a long run, less those in a short one: start and end fall out.
# Knobs: RATE (1gbit; as tc writes it), HOSTS (2), CASES ("1:32 1:16 4:32": ranks a host and global batch), PEERS ("torch", or "" for
# glasses alone), PICTURES (800); the others of rounds.sh and namespaces.sh.
set -euo pipefail
# shellcheck source=benches/namespaces.sh
. "$(dirname "${BASH_SOURCE[0]}")/namespaces.sh"
netns_enter "$0" "$@"
# shellcheck source=benches/rounds.sh
. "$(dirname "${BASH_SOURCE[0]}")/rounds.sh"
hosts=${HOSTS:-2}
rate=${RATE:-1gbit}
read -ra cases <<<"${CASES:-1:32 1:16 4:32}"
read -ra peers <<<"${PEERS-torch}"
steps=${STEPS:-20}
export NETNS_SECONDS=${SECONDS_A_RUN:-120} GLOO_SOCKET_IFNAME=eth0
[ "${#peers[@]}" = 0 ] || need_python "${peers[@]}"
PICTURES=${PICTURES:-800}
rounds_begin "${1:-3}" "${@:2}"
netns_up "$hosts" "$rate"

# Ranks of a host follow one another, as those of mpirun do.
on_host() { netns_on "$(($1 / ranks))" "${limit[@]}" "${@:2}"; }
run_glasses() { train "$batch" netns_mpirun "$ranks" && train_speed; }
run_torch() { peer ddp_torch.py $((hosts * ranks)) "$(netns_address 0)" on_host "$steps" $((batch / (hosts * ranks))); }
# Steps of a run of glasses so long, as it counted them.
steps_made() { sed -n 's/.*"step":\([0-9]*\),.*/\1/p' out/metrics.jsonl | tail -n 1; }
# The wire of one run, and the steps of it: BYTES STEPS.
wire() {
    local before
    before=$(netns_sent)
    if [ "$1" = glasses ]; then
        epochs=$2 train "$batch" netns_mpirun "$ranks"
        echo "$(($(netns_sent) - before)) $(steps_made)"
    else
        steps=$2 run_torch >/dev/null
        echo "$(($(netns_sent) - before)) $2"
    fi
}
# wire_a_step CONTESTANT SHORT LONG: bytes a host and step.
wire_a_step() {
    local short long
    short=$(wire "$1" "$2")
    long=$(wire "$1" "$3")
    awk -v hosts="$hosts" '{ print ($3 - $1) / ($4 - $2) / hosts }' <<<"${short% *} ${short#* } ${long% *} ${long#* }"
}

for case in "${cases[@]}"; do
    ranks=${case%:*} batch=${case#*:}
    [ $((batch % (hosts * ranks))) = 0 ] || { echo "batch $batch does not divide by $((hosts * ranks)) ranks" >&2; exit 2; }
    wire_a_step glasses 1 2 >"wire-glasses-$case"
    [ "${#peers[@]}" = 0 ] || wire_a_step torch 1 5 >"wire-torch-$case"
    for ((round = 0; round < rounds; round++)); do
        for contestant in $(rotated "$round" glasses ${peers[@]+"${peers[@]}"}); do "run_$contestant" >>"$contestant-$case"; done
        echo "$case: round $((round + 1)) of $rounds" >&2
    done
done

circumstances
echo "$hosts hosts on cores $(for ((h = 0; h < hosts; h++)); do netns_cores "$h"; done | paste -sd' ' -), $rate a link and direction;"
echo "MB that a host sends a step, at its interface; a ring allreduce of the gradient would send 2(n − 1)/n · 26.3 MB on n ranks."
echo
if [ "${#peers[@]}" = 0 ]; then
    echo "| ranks a host | batch | glasses | MB | MB of a ring | ring / glasses |"
    echo "|---|---|---|---|---|---|"
else
    echo "| ranks a host | batch | glasses | torch | glasses / torch | MB, glasses | MB, torch | MB of a ring | ring / glasses |"
    echo "|---|---|---|---|---|---|---|---|---|"
fi
for case in "${cases[@]}"; do
    ranks=${case%:*} batch=${case#*:}
    ring=$(awk -v n=$((hosts * ranks)) 'BEGIN { print 2 * (n - 1) / n * 4 * 6578674 }')
    megabytes() { awk '{ printf "%.2f", $1 / 1e6 }' <<<"$1"; }
    row="| $ranks | $batch | $(spread "glasses-$case") |"
    if [ "${#peers[@]}" != 0 ]; then
        ratio "glasses-$case" "torch-$case" ratio
        row+=" $(spread "torch-$case") | $(spread ratio %.2f) | $(megabytes "$(cat "wire-glasses-$case")") | $(megabytes "$(cat "wire-torch-$case")") |"
    else
        row+=" $(megabytes "$(cat "wire-glasses-$case")") |"
    fi
    echo "$row $(megabytes "$ring") | $(awk -v a="$ring" '{ printf "%.1f", a / $1 }' "wire-glasses-$case") |"
done

#!/usr/bin/env bash
# What an ensemble gains over one network, and what travels: ensemble.sh DATA.h5 OUT [options of train]
#
# Four members of E epochs see as many pictures together as one network in lockstep of 4 E; one of E epochs sees what a member sees.
# Prints a table. GLASSES names the program, RANKS (2) and EPOCHS (5) are what they say.
set -euo pipefail
data=$1 out=$2
shift 2
glasses=${GLASSES:-target/release/glasses} ranks=${RANKS:-2} epochs=${EPOCHS:-5}
run() { # NAME EPOCHS OPTIONS…
    local name=$1 epochs=$2
    shift 2
    [ -e "$out/$name/summary.json" ] ||
        ${MPIRUN:-mpirun} -n "$ranks" "$glasses" train --data "$data" --epochs "$epochs" --out "$out/$name" "$@" >&2
}
mkdir -p "$out"
run lockstep "$epochs" --window off "$@"
run lockstep-4 $((4 * epochs)) --window off "$@"
run ensemble "$epochs" --strategy ensemble --members 4 "$@"
run bootstrap "$epochs" --strategy ensemble --members 4 --bootstrap "$@"
python3 - "$out" <<'PYTHON'
import json, sys
print("| run | pictures seen | members' test accuracy | test accuracy | test loss | MB sent by the root | seconds |")
print("|---|---|---|---|---|---|---|")
for name, networks in [("lockstep", 1), ("lockstep-4", 1), ("ensemble", 4), ("bootstrap", 4)]:
    run = json.load(open(f"{sys.argv[1]}/{name}/summary.json"))
    members = ", ".join(f"{100 * m['test_accuracy']:.2f}" for m in run.get("members", []))
    print(f"| {name} | {networks} × {run['epochs']} × {run['train_rows']} | {members} | {100 * run['test_accuracy']:.2f} % "
          f"| {run['test_loss']:.4f} | {run['bytes_communicated'] / 1e6:.1f} | {run['wall_seconds']:.0f} |")
PYTHON

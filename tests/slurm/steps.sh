# shellcheck shell=bash
# shellcheck disable=SC2154,SC2119,SC2120 # test.sh sets these variables, and passes these arguments
# What the checks of test.sh are made of: jobs that are submitted, waited for, interrupted, compared. Sourced by it, in the folder where
# the jobs work.

fail() {
    echo "FAILED: $*" >&2
    tail -n 25 ./*"-${id:-0}"*.out >&2 || true
    scontrol show job "${id:-0}" >&2 || true
    exit 1
}

# within SECONDS WHAT COMMAND…: waits until the command succeeds; that long, not longer.
within() {
    local until=$((SECONDS + $1))
    until "${@:3}"; do
        [ "$SECONDS" -lt "$until" ] || fail "not within $1 s: $2"
        sleep 0.2
    done
}

# Four ranks on two cores that wait busily for one another: some 30 ms a step, so that a signal finds the run at work. `haste` makes the
# next start of that run ten times as fast: glasses on PATH is a script that lets the ranks yield then, and is the real one in all else.
# While there is $HASTE-not, it does not begin. With PLAIN set it computes without vectors until then, to the same bits: how busily ranks wait is
# another thing on another day, arithmetic is not.
mkdir -p bin
cat >bin/glasses <<SCRIPT
#!/bin/sh
while [ -e "\$HASTE-not" ]; do sleep 0.2; done
[ ! -e "\$HASTE" ] || export OMPI_MCA_mpi_yield_when_idle=1
[ -e "\$HASTE" ] || [ -z "\${PLAIN-}" ] || export GLASSES_ISA=scalar
exec "$GLASSES" "\$@"
SCRIPT
chmod +x bin/glasses
busy() { export HASTE=$PWD/haste-$1; }
haste() { touch "$HASTE"; }

# submit NAME [sbatch's options…] -- [more for glasses]: a run in the folder NAME; sets `id` and `name`.
submit() {
    name=$1
    shift
    busy "$name"
    local options=()
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    shift
    id=$(sbatch --parsable "${options[@]}" "$jobs/train.sbatch" "${settings[@]}" --out "$name" "$@")
}

job_says() { scontrol show job --oneliner "$id" 2>/dev/null | grep -q " $1"; }
# Word of the job's script, or of what it ran.
output() { cat "glasses-$id.out" 2>/dev/null; }
says() { output | grep -q -- "$1"; }
# The run has made steps, and still makes them.
works() { grep -q '"steps":\[[1-9]' "$name/live.json" 2>/dev/null; }
finished() { [ -s "$name/summary.json" ] && ! job_says 'JobState=RUNNING'; }
digest() { sed -n 's/.*"weights_sha256": "\(.*\)".*/\1/p' "$1/summary.json"; }
processes() {
    local process
    for process in /proc/[0-9]*; do
        if [ "$(readlink "$process/exe")" = "$GLASSES" ] && tr '\0' ' ' <"$process/cmdline" | grep -q -- "$name"; then
            echo "${process#/proc/}"
        fi
    done 2>/dev/null
}

gone() { [ -z "$(processes)" ]; }

# The undisturbed run of N epochs: one rank, no Slurm.
reference() {
    [ -e "reference-$1" ] || glasses train "${settings[@]}" --epochs "$1" --out "reference-$1" >/dev/null
    digest "reference-$1"
}

# ends_as EPOCHS: the job ends with the weights of the undisturbed run.
ends_as() {
    within 240 "the run in $name is finished" finished
    within 20 "job $id is COMPLETED" job_says 'JobState=COMPLETED'
    [ "$(digest "$name")" = "$(reference "$1")" ] || fail "$name: other weights than an undisturbed run's"
}

# put_back [SECONDS]: so soon the job is in the queue again. By itself its next start would wait for two minutes; within seconds of its
# end slurmd may take it, or its first step, for the old one and refuse it.
put_back() {
    within "${1:-30}" "job $id is back in the queue" job_says 'JobState=\(PENDING\|RUNNING\|COMPLETED\) .*Restarts=[1-9]'
    haste
    sleep 4
    # After the loss of a node it starts as soon as it has nodes.
    scontrol update JobId="$id" StartTime=now TimeLimit=10 2>/dev/null || job_says 'JobState=\(RUNNING\|COMPLET.*\) .*Restarts=[1-9]' ||
        fail "job $id does not start again"
}

# interrupted_by COMMAND…: signals the run at work; it has to stop at a step, go back to the queue and go on from that step.
interrupted_by() {
    within 60 "the run in $name makes steps" works
    "$@"
    put_back
    says "ended with code 75" || fail "the interrupted run did not end with 75"
    ! says 'has been aborted\|non-zero status\|Exited with exit code' || fail "a clean end looks like a failure"
    ends_as "$epochs"
    [ ! -e ".train.sbatch-$id" ] || fail "a start that made steps is counted as fruitless"
    says "resuming $name after step [1-9]" || fail "the second start did not go on where the first was interrupted"
    gone || fail "processes are left"
}

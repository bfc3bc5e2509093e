#!/usr/bin/env bash
# The job scripts on a real Slurm of two nodes (cluster.sh), with the real glasses: every check is one job or array, and ends in the weights
# of a run that nobody disturbed.
#   tests/slurm/test.sh              all checks; ten minutes on two busy cores
#   tests/slurm/test.sh quick        one of each kind; four minutes
#   tests/slurm/test.sh WORD…        those with one of the words in their name (their names stand at the end of this file)
# Exit code 77: there can be no cluster here (it says why). Knobs: GLASSES (target/release/glasses), CLUSTER, PORT (cluster.sh),
# KEEP (set: its folder stays).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
if [ -z "${SLURM_TEST_FOLDER-}" ]; then
    glasses=$(realpath "${GLASSES:-${CARGO_TARGET_DIR:-$repository/target}/release/glasses}") || glasses=
    [ -x "$glasses" ] || { echo "no ${GLASSES:-target/release/glasses}: cargo build --release, or GLASSES=…" >&2; exit 2; }
    folder=$(mktemp -d)
    export CLUSTER=${CLUSTER:-$folder/cluster} PORT=${PORT:-$((20000 + RANDOM % 10000))}
    SHARE=$folder:$(dirname "$glasses")
    export SLURM_TEST_FOLDER=$folder/work GLASSES=$glasses SHARE
    mkdir "$SLURM_TEST_FOLDER"
    code=0
    # Who interrupts it ends the cluster; this waits for that, and clears up.
    trap : INT TERM HUP
    "$here/cluster.sh" run "${BASH_SOURCE[0]}" "$@" || code=$?
    if [ -n "${KEEP-}" ]; then echo "kept: $folder"; else rm -rf "$folder"; fi
    exit "$code"
fi

cd "$SLURM_TEST_FOLDER"
PATH=$PWD/bin:$PATH
jobs=$repository/jobs
unset OMPI_MCA_rmaps_base_oversubscribe
# The two nodes are one machine: ranks of both wait on the same cores. Who waits has to let the others go on, all of them alike: since
# Linux 6.12 one that yields beside one that spins gets next to nothing.
export OMPI_MCA_mpi_yield_when_idle=1
settings=(--data faces.h5 --batch 16 --checkpoint-every 50steps --digest-every 50)

# shellcheck source=tests/slurm/steps.sh
. "$here/steps.sh"

epochs=30
two_nodes=(--nodes=2 --ntasks-per-node=2)

a_run_on_two_nodes() {
    OMP_NUM_THREADS=1 submit two-nodes "${two_nodes[@]}" -- --epochs 5
    ends_as 5
    [ "$(nproc)" = 1 ] || ! says 'not pinned' || fail "OMP_NUM_THREADS has the ranks not pinned"
    says '2 node groups of 2 ranks' || fail "the ranks are not on two nodes"
}

# places OPTION…: submits a job that says where its ranks are, in order; sets `id`.
mkdir -p places
cat >places/glasses <<'SCRIPT'
#!/bin/sh
sleep 0.2
echo "rank ${PMIX_RANK:-$SLURM_PROCID} on $(hostname) in $PWD: $(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status)"
SCRIPT
chmod +x places/glasses
places() { id=$(PATH=$PWD/places:$PATH sbatch --parsable "$@" "$jobs/train.sbatch" doctor); }
# placed ID HOST…: the job's ranks are on these hosts; each on one core, where there are enough.
placed() {
    id=$1
    shift
    within 60 "job $id is COMPLETED" job_says 'JobState=COMPLETED'
    local hosts most
    hosts=$(output | sed -n 's/^rank \([0-9]*\) on \(.*\) in .*/\1 \2/p' | sort -n | cut -d' ' -f2 | paste -sd' ')
    [ "$hosts" = "$*" ] || fail "ranks on other hosts: $hosts, not $*"
    most=$(printf '%s\n' "$@" | sort | uniq -c | sort -n | awk 'END { print $1 }')
    if [ "$most" -gt "$(nproc)" ]; then
        says ": $most ranks on $(nproc) cores of .*: not pinned" || fail "it does not say why $most ranks a node are not pinned"
    else
        ! says 'not pinned' || fail "$most ranks a node are not pinned"
        # Slurm itself can bind nothing here.
        [ -n "${LAUNCH-}" ] || [ "$(output | sed -n 's/^rank .*: //p' | grep -cxE '[0-9]+')" = $# ] || fail "a rank has more than a core"
    fi
}

ranks_where_they_were_asked_for() {
    local ids=()
    places --nodelist=n1; ids+=("$id")
    places --nodes=2 --ntasks=2; ids+=("$id")
    places --nodes=2 --ntasks=4; ids+=("$id")
    places --nodes=2 --ntasks=5; ids+=("$id")
    places --nodelist=n1 --ntasks=2; ids+=("$id")
    places --nodes=2 --ntasks-per-node=1; ids+=("$id")
    places --nodes=2 --ntasks-per-node=2 --cpus-per-task=3; ids+=("$id")
    places --nodes=2 --exclusive --ntasks=4; ids+=("$id")
    placed "${ids[0]}" n1 n1 n1 n1 n1 n1 n1 n1
    placed "${ids[1]}" n1 n2
    placed "${ids[2]}" n1 n1 n2 n2
    placed "${ids[3]}" n1 n1 n1 n2 n2
    placed "${ids[4]}" n1 n1
    placed "${ids[5]}" n1 n2
    placed "${ids[6]}" n1 n1 n2 n2
    placed "${ids[7]}" n1 n1 n2 n2
    export LAUNCH=srun
    places --nodes=2 --ntasks=2; ids=("$id")
    places --nodes=2 --ntasks=3; ids+=("$id")
    placed "${ids[0]}" n1 n2
    placed "${ids[1]}" n1 n1 n2
    unset LAUNCH
}

# Its words land there, too.
the_folder_of_chdir() {
    mkdir -p elsewhere
    places --nodelist=n1 --ntasks=2 --chdir="$PWD/elsewhere"
    within 60 "job $id is COMPLETED" job_says 'JobState=COMPLETED'
    [ "$(grep -c "^rank [01] on n1 in $PWD/elsewhere:" "elsewhere/glasses-$id.out")" = 2 ] || fail "ranks are not in the folder of --chdir"
}

# A time limit, for example, that is over before the first step.
three_starts_without_a_step() {
    submit fruitless --ntasks=2 -- --epochs 5
    touch "$HASTE-not"
    local start
    for start in 1 2 3; do
        within 60 "start $start has its launcher" launched "$start"
        scancel --batch --signal=USR1 "$id"
        [ "$start" = 3 ] || again "$start"
    done
    within 30 "job $id is over" job_says 'JobState=FAILED .*Restarts=2'
    says 'not put back: three starts in a row .* --resume fruitless' || fail "it does not say why"
    [ ! -e ".train.sbatch-$id" ] || fail "its count is left"
    rm "$HASTE-not"
}
launched() { [ "$(output | grep -c '^train.sbatch: .*mpirun')" = "$1" ] && [ -n "$(launcher)" ]; }
again() {
    within 30 "job $id is back in the queue" job_says "JobState=PENDING .*Restarts=$1"
    sleep 4
    scontrol update JobId="$id" StartTime=now
}

the_shell_gets_usr1() {
    submit shell-usr1 "${two_nodes[@]}" -- --epochs $epochs
    interrupted_by scancel --batch --signal=USR1 "$id"
}

the_shell_gets_term() {
    submit shell-term "${two_nodes[@]}" -- --epochs $epochs
    interrupted_by scancel --batch --signal=TERM "$id"
}

kill_last_rank() { kill -USR1 "$(processes | tail -n 1)"; }

one_rank_gets_usr1() {
    submit rank-usr1 "${two_nodes[@]}" -- --epochs $epochs
    interrupted_by kill_last_rank
}

all_ranks_get_usr1() {
    submit ranks-usr1 "${two_nodes[@]}" -- --epochs $epochs
    interrupted_by scancel --signal=USR1 "$id"
}

# As Slurm does to make room for others, where jobs are given time for it.
all_ranks_get_term() {
    submit ranks-term "${two_nodes[@]}" -- --epochs $epochs
    interrupted_by scancel --signal=TERM "$id"
}

everybody_gets_term() {
    submit all-term "${two_nodes[@]}" -- --epochs $epochs
    interrupted_by scancel --full --signal=TERM "$id"
}

srun_passes_usr1_on() {
    LAUNCH=srun submit srun-usr1 --ntasks-per-node=4 -- --epochs 100
    epochs=100 interrupted_by scancel --batch --signal=USR1 "$id"
}

srun_all_get_term() {
    LAUNCH=srun submit srun-term --ntasks-per-node=4 -- --epochs 100
    epochs=100 interrupted_by scancel --signal=TERM "$id"
}

srun_one_rank_gets_usr1() {
    LAUNCH=srun submit srun-rank --ntasks-per-node=4 -- --epochs 100
    epochs=100 interrupted_by kill_last_rank
}

# Without --out the job's own number names the folder.
a_run_without_a_folder() {
    busy none
    id=$(sbatch --parsable "${two_nodes[@]}" "$jobs/train.sbatch" "${settings[@]}" --epochs $epochs)
    name=runs/job-$id
    interrupted_by scancel --batch --signal=USR1 "$id"
}

# What its second start is told has to be the whole of what was asked for.
a_longer_run_put_back_before_it_begins() {
    name=longer
    busy $name
    glasses train "${settings[@]}" --schedule constant --epochs 2 --out $name >/dev/null
    glasses train "${settings[@]}" --schedule constant --epochs 4 --out longer-reference >/dev/null
    touch "$HASTE-not"
    id=$(sbatch --parsable --ntasks-per-node=2 "$jobs/train.sbatch" --resume $name --epochs 4)
    within 20 "its launcher runs" says 'mpirun .*--resume'
    scontrol requeue "$id"
    put_back
    rm "$HASTE-not"
    within 30 "job $id is COMPLETED" job_says 'JobState=COMPLETED'
    [ "$(digest $name)" = "$(digest longer-reference)" ] || fail "its second start did not make more epochs"
}

# Slurm looks at limits every half minute, and sends the signal up to that much earlier. Without vectors 2000 steps take longer than that: 50 ms
# each on two cores, where four ranks never wait.
the_time_is_up() {
    PLAIN=1 submit time-limit "${two_nodes[@]}" --time=1 --signal=B:USR1@30 -- --epochs 200
    put_back 70
    says "glasses ended with code 75 after USR1" || fail "the time limit did not interrupt the run"
    ends_as 200
    says "resuming $name after step [1-9]" || fail "the second start did not go on where the first was interrupted"
}

# For good, even though the run saves its state; who wants can go on.
a_cancelled_job() {
    submit cancelled "${two_nodes[@]}" -- --epochs $epochs
    within 60 "the run in $name makes steps" works
    scancel "$id"
    within 15 "job $id is CANCELLED" job_says 'JobState=CANCELLED'
    within 5 "its processes are gone" gone
    sleep 1
    job_says 'JobState=CANCELLED .*Restarts=0' || fail "a cancelled job was put back"
    haste
    id=$(sbatch --parsable --ntasks-per-node=2 "$jobs/train.sbatch" --resume "$name")
    ends_as $epochs
    says "resuming $name after step [1-9]" || fail "the cancelled run had saved nothing"
}

node_is_back() { sinfo --noheader --nodes=n2 --format=%T | grep -qx idle; }

a_node_set_down() {
    submit node-down "${two_nodes[@]}" -- --epochs $epochs
    within 60 "a checkpoint" compgen -G "$name/checkpoints/*" >/dev/null
    scontrol update NodeName=n2 State=DOWN Reason=test
    within 30 "job $id is back in the queue" job_says 'Restarts=1'
    within 5 "its processes are gone" gone
    # It may have come back by itself: its slurmd lives.
    scontrol update NodeName=n2 State=RESUME 2>/dev/null || true
    within 20 "n2 takes jobs" node_is_back
    put_back
    ends_as $epochs
    says "resuming $name after step [1-9]" || fail "the second start began anew"
}

# launcher [srun]: the run's launchers.
launcher() {
    local process
    for process in /proc/[0-9]*; do
        if [ "$(cat "$process/comm")" = "${1:-mpirun}" ] && tr '\0' ' ' <"$process/cmdline" | grep -q -- "$name"; then echo "${process#/proc/}"; fi
    done 2>/dev/null
}

kill_a_rank() { kill -KILL "$(processes | tail -n 1)"; }

# As one that waits for a machine which is cut off: it has to be ended from outside.
a_launcher_that_does_not_end() {
    submit stuck "${two_nodes[@]}" -- --epochs $epochs
    within 60 "a checkpoint" compgen -G "$name/checkpoints/*" >/dev/null
    kill -STOP "$(launcher)"
    kill_a_rank
    within 10 "its ranks are gone" gone
    put_back 60
    says "ended with code 3" || fail "the launcher's end is not a lost rank"
    ends_as $epochs
    says "resuming $name after step [1-9]" || fail "the second start began anew"
}

# srun has a process that launches and one that looks after it; nobody else knows of their end.
a_killed_srun() {
    LAUNCH=srun submit srun-killed --ntasks-per-node=4 -- --epochs 100
    within 60 "a checkpoint" compgen -G "$name/checkpoints/*" >/dev/null
    # shellcheck disable=SC2046 # one or two
    kill -KILL $(launcher srun)
    within 10 "its ranks are gone" gone
    put_back
    ends_as 100
    says "resuming $name after step [1-9]" || fail "the second start began anew"
}

# One of its tasks; the others end as well, and srun says how.
a_killed_rank_under_srun() {
    LAUNCH=srun submit srun-lost --ntasks-per-node=4 -- --epochs 100
    within 60 "a checkpoint" compgen -G "$name/checkpoints/*" >/dev/null
    kill_a_rank
    within 10 "its ranks are gone" gone
    put_back
    says "error: rank [0-3] of 4 on .* is lost in epoch" || fail "no rank is named"
    says "ended with code \(3\|137\)" || fail "another exit code of srun"
    ends_as 100
}

# Its checkpoints and its failures.log are in the networks' folders.
an_ensemble_with_a_launcher_that_does_not_end() {
    submit ensemble --ntasks-per-node=2 -- --epochs 300 --strategy ensemble --members 2
    within 60 "a checkpoint" compgen -G "$name/member-1/checkpoints/*" >/dev/null
    kill -STOP "$(launcher)"
    kill_a_rank
    within 10 "its ranks are gone" gone
    put_back 60
    within 240 "the ensemble is finished" finished
    says "ended with code 3" || fail "the launcher's end is not a lost rank"
    [ "$(digest "$name/member-0")" = "$(reference 300)" ] || fail "other weights than an undisturbed run's"
}

a_sweep_that_loses_a_rank() {
    busy grid
    id=$(sbatch --parsable --ntasks-per-node=2 "$jobs/train.sbatch" sweep "${settings[@]}" --epochs 300 --grid seed=1,2)
    name='sweep'
    within 60 "a checkpoint" compgen -G "runs/sweep/seed2/checkpoints/*" >/dev/null
    kill_a_rank
    put_back
    says '^mpirun \(noticed\|detected\) that' || fail "the launcher's words about a failure are held back"
    within 240 "job $id is COMPLETED" job_says 'JobState=COMPLETED'
    [ "$(digest runs/sweep/seed1)" = "$(reference 300)" ] || fail "other weights than an undisturbed run's"
}

# Who cannot tell its daemons how to start is started as it is. (dash would unblock signals itself.)
another_launcher_is_not_shielded() {
    # shellcheck disable=SC2016 # for the other shell
    printf '#!/bin/bash\n[ "$1" != --version ] || exec echo HYDRA build details\ngrep ^SigBlk /proc/self/status\n' >bin/hydra
    chmod +x bin/hydra
    id=$(MPIRUN=$PWD/bin/hydra sbatch --parsable --ntasks-per-node=1 "$jobs/train.sbatch" doctor)
    within 20 "job $id is COMPLETED" job_says 'JobState=COMPLETED'
    says 'SigBlk:[[:space:]]*0*$' || fail "it starts with a signal blocked"
}

# Its processes and its slurmd are gone at once, and nobody says so.
a_node_without_power() {
    submit node-lost "${two_nodes[@]}" -- --epochs $epochs
    within 60 "a checkpoint" compgen -G "$name/checkpoints/*" >/dev/null
    "$here/cluster.sh" lose n2
    within 60 "job $id is back in the queue" job_says 'Restarts=1'
    within 5 "its processes are gone" gone
    "$here/cluster.sh" node n2
    within 20 "n2 takes jobs" node_is_back
    # Twelve seconds after the loss n2 is told to end step 0 of this job: the first start's is meant, a second start's would be hit.
    sleep 10
    put_back
    ends_as $epochs
    says "resuming $name after step [1-9]" || fail "the second start began anew"
}

# What an earlier cluster left is no reason to end whoever has that number now.
an_old_pid_file() {
    mkdir old
    sleep 60 &
    local other=$!
    echo $other >old/n1.pid
    CLUSTER=$PWD/old "$here/cluster.sh" stop
    kill $other 2>/dev/null || fail "a process that was no cluster's is ended"
    [ ! -e old/n1.pid ] || fail "the file is left"
}

sweep_finished() { [ "$(find "$name" -name summary.json | wc -l)" = 12 ]; }

# The paper's grid, one tiny epoch a point; one task is interrupted, and that one alone goes back to the queue.
the_sweep_as_an_array() {
    busy sweep
    # As a site's own it reads what nobody has set.
    # shellcheck disable=SC2317 # called in the job
    module() { echo "modules${NOBODY_HAS_SET_THIS}: $*"; }
    export -f module
    id=$(MODULES="gcc openmpi" sbatch --parsable --ntasks-per-node=2 "$jobs/sweep.sbatch" "${settings[@]:0:2}" --epochs 100 --checkpoint-every 50steps)
    unset -f module
    name=sweeps/$id
    local array=$id
    id=${array}_11
    within 60 "its last task begins" test -e "$name/lr1e-4-batch64/live.json"
    scancel --batch --signal=USR1 "$id"
    put_back
    id=$array
    within 240 "the twelve runs are finished" sweep_finished
    id=${array}_11
    within 10 "the interrupted task is COMPLETED" job_says 'JobState=COMPLETED'
    grep -q '^modules: load gcc openmpi$' "glasses-sweep-${array}_0.out" || fail "no modules were loaded"
    [ "$(cat "glasses-sweep-${array}"_*.out | grep -c 'train.sbatch: job .* restart')" = 1 ] || fail "other tasks were put back as well"
    glasses train --recipe paper --lr 1e-1 --batch 16 "${settings[@]:0:2}" --epochs 100 --out sweep-0 >/dev/null
    [ "$(digest sweep-0)" = "$(digest "$name/lr1e-1-batch16")" ] || fail "the first point has other weights than the same run by hand"
    [ "$(grep -cE "^(lr = 0.0001|batch = 64)$" "$name/lr1e-4-batch64/config.toml")" = 2 ] || fail "the last point has other settings"
    glasses sweep --table "$name" >/dev/null || fail "there is no table of the sweep's runs"
    [ "$(grep -c '^|' "$name/table.md")" = 14 ] || fail "the table has not twelve rows"
}

# Its figures mean nothing here; its way does.
the_scaling_table() {
    mkdir -p scaling
    ln -sf ../faces.h5 scaling/own.h5
    # The caller's own, in the caller's folder, over what the script sets itself.
    id=$(ROUNDS=1 WEAK=8 sbatch --parsable --chdir="$PWD/scaling" --nodes=2 --ntasks=4 "$jobs/scaling.sbatch" --data own.h5 --epochs 2 --batch 24 \
        --optimizer=adam --lr 1e-3 --augment mirror --seed 7)
    cd scaling
    within 120 "job $id is COMPLETED" job_says 'JobState=COMPLETED'
    grep -q '^| strong scaling, batch 24: ranks' "scaling-$id/table.md" || fail "--batch is not the batch of strong scaling"
    local kinds
    kinds=$(cut -d, -f1-3 "scaling-$id/table.csv" | paste -sd' ')
    [ "$kinds" = "kind,ranks,nodes weak,1,1 weak,2,1 weak,4,2 strong,1,1 strong,2,1 strong,4,2" ] || fail "other rows: $kinds"
    grep -qE '^\| 4 \| 2 \| [0-9]+ \| [0-9.]+ % \|$' "scaling-$id/table.md" || fail "no row of 4 ranks on 2 nodes in table.md"
    [ "$(grep -c '<circle' "scaling-$id/plot.svg")" = 6 ] || fail "not six points in plot.svg"
    [ "$(ls "scaling-$id")" = "$(printf '%s\n' plot.svg table.csv table.md)" ] || fail "something is left in scaling-$id"
    cd ..
}

# The commands of docs/cluster.md as they stand there, those for Python aside; whoever types them waits for each job.
the_documented_way() {
    mkdir -p home/bin home/glasses/target home/work/photos/{with,without}
    ln -s "$jobs" home/glasses/jobs
    ln -s "$PWD/bin" home/glasses/target/release
    printf '#!/bin/sh\nexec %s --wait "$@"\n' "$(command -v sbatch)" >home/bin/sbatch
    chmod +x home/bin/sbatch
    local n
    for n in $(seq 30); do
        for class in with without; do { printf 'P5 72 72 255\n'; head -c 5184 /dev/urandom; } >"home/work/photos/$class/$n.pgm"; done
    done
    awk '/^```/ { on = $0 == "```sh"; next } on && !/python/' "$repository/docs/cluster.md" >home/session.sh
    (
        busy documented
        haste
        export HOME=$PWD/home
        export PATH=$HOME/bin:$PATH
        cd home/work
        timeout 120 bash -e ../session.sh >../session.out 2>&1
    ) || { cat home/session.out home/work/*.out >&2; fail "a command of docs/cluster.md"; }
    [ "$(find home/work -name "glasses-*.out" | wc -l)" = 3 ] || fail "not three jobs"
    grep -q 'the run in runs/photos is finished' home/work/glasses-*.out || fail "no finished run"
    [ "$(wc -l <home/work/said.csv)" = 61 ] || fail "not 60 pictures judged"
}

checks=(a_run_on_two_nodes ranks_where_they_were_asked_for the_folder_of_chdir three_starts_without_a_step the_shell_gets_usr1 the_shell_gets_term one_rank_gets_usr1 all_ranks_get_usr1 all_ranks_get_term everybody_gets_term
    srun_passes_usr1_on srun_all_get_term srun_one_rank_gets_usr1 a_killed_srun a_killed_rank_under_srun a_run_without_a_folder
    a_longer_run_put_back_before_it_begins the_time_is_up a_cancelled_job another_launcher_is_not_shielded a_launcher_that_does_not_end
    an_ensemble_with_a_launcher_that_does_not_end a_sweep_that_loses_a_rank a_node_set_down a_node_without_power an_old_pid_file
    the_sweep_as_an_array the_scaling_table the_documented_way)
if [ "$*" = quick ]; then
    set -- a_run_on_two_nodes ranks_where_they_were_asked_for the_folder_of_chdir three_starts_without_a_step the_shell_gets_usr1 \
        one_rank_gets_usr1 all_ranks_get_term srun_passes_usr1_on the_time_is_up a_cancelled_job a_node_set_down the_sweep_as_an_array
fi
chosen=()
for check in "${checks[@]}"; do
    [ $# != 0 ] || chosen+=("$check")
    for word; do case $check in *"$word"*) chosen+=("$check"); break ;; esac; done
done
[ "${#chosen[@]}" != 0 ] || { echo "no check has one of these words in its name: $*" >&2; exit 2; }
glasses synth --size 24 --count 200 --out faces.h5 >/dev/null
for check in "${chosen[@]}"; do
    began=$SECONDS
    "$check"
    echo "slurm: $check ... ok ($((SECONDS - began)) s)"
done
echo "slurm: ${#chosen[@]} checks passed in $SECONDS s"

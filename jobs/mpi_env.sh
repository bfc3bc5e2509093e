# shellcheck shell=bash
# What mpirun must be told on a workstation. Sourced, in a terminal too:  . jobs/mpi_env.sh
# Variables, not flags, so that a bare `mpirun -n 8 glasses` and the tests' own mpirun obey as well; MPICH ignores them all.

# Open MPI refuses to run as root unless asked twice.
if [ "$(id -u)" = 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi

# Open MPI refuses more ranks than cores (4: first line, 5: second). In a batch job it should: there it is a mistake.
if [ -z "${SLURM_JOB_ID-}${PBS_JOBID-}${LSB_JOBID-}" ]; then
    export OMPI_MCA_rmaps_base_oversubscribe=1
    export PRTE_MCA_rmaps_default_mapping_policy="${PRTE_MCA_rmaps_default_mapping_policy:-:oversubscribe}"
fi

//! What launchers leave in the environment.

use std::collections::BTreeMap;

use super::Family;

/// The variables of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, String>);

/// What starts ranks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Launcher {
    /// Nothing: a process by itself.
    Alone,
    /// `mpirun` of Open MPI.
    OpenMpi,
    /// `mpirun` (`mpiexec.hydra`) of MPICH, Intel MPI and MVAPICH.
    Hydra,
    /// Slurm's `srun`, with what it gives MPI.
    Srun(Plugin),
    /// Another one, by name.
    Other(&'static str),
}

/// By what ranks that srun started find one another (`srun --mpi=…`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugin {
    /// By nothing.
    None,
    /// PMI-1 and PMI-2.
    Pmi,
    /// PMIx.
    Pmix,
    /// One that we do not know.
    Other,
}

/// Launchers by the variable with a rank's number, which nobody sets but for a rank, and the one for the number of ranks, where
/// there is one.
const OTHERS: [(&str, &str, &str); 8] = [
    ("PALS (HPE Cray)", "PALS_RANKID", ""),
    ("aprun (Cray ALPS)", "ALPS_APP_PE", ""),
    ("flux", "FLUX_TASK_RANK", "FLUX_JOB_SIZE"),
    ("jsrun", "JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE"),
    ("mpirun_rsh (MVAPICH)", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
    ("a launcher that speaks PMI", "PMI_RANK", "PMI_SIZE"),
    ("a launcher that speaks PMI", "PMI_ID", "PMI_SIZE"),
    ("a launcher that speaks PMIx", "PMIX_RANK", ""),
];

/// Set to `alone`: whatever started this process, it works by itself.
pub const OVERRIDE: &str = "GLASSES_LAUNCH";

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(pairs: T) -> Self {
        Environment(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl Environment {
    /// Of this process.
    pub fn read() -> Environment {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// A variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A variable that holds a number.
    pub fn number(&self, name: &str) -> Option<usize> {
        self.get(name)?.trim().parse().ok()
    }

    /// Whether no launcher left anything.
    pub fn is_bare(&self) -> bool {
        self.launcher(Family::Other).0 == Launcher::Alone
    }

    fn any(&self, prefix: &str) -> bool {
        self.0.range(prefix.to_owned()..).next().is_some_and(|(name, _)| name.starts_with(prefix))
    }

    /// What started the process, the rank and the number of ranks it was given. Launchers are started by one another (`mpirun`
    /// in a job step of `srun`), and what the outer one left is still there: the innermost counts.
    pub(super) fn launcher(&self, family: Family) -> (Launcher, Option<usize>, Option<usize>) {
        if self.get(OVERRIDE) == Some("alone") {
            return (Launcher::Alone, None, None);
        }
        let found = |launcher, rank: &str, ranks: &str| (launcher, self.number(rank), self.number(ranks));
        let open_mpi = self.get("OMPI_COMM_WORLD_SIZE").is_some();
        let hydra = self.get("PMI_RANK").is_some() && (self.any("HYD") || self.get("MPI_LOCALNRANKS").is_some());
        // Where both left something, one lies within the other; nobody can say which, so we believe the one that fits.
        if open_mpi && !(hydra && family == Family::Mpich) {
            return found(Launcher::OpenMpi, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE");
        }
        if hydra {
            return found(Launcher::Hydra, "PMI_RANK", "PMI_SIZE");
        }
        // A batch script has SLURM_PROCID and SLURM_NTASKS too, but only `srun` makes a job step.
        if self.get("SLURM_PROCID").is_some() && self.get("SLURM_STEP_ID").or(self.get("SLURM_STEPID")).is_some() {
            let ranks = self.number("SLURM_STEP_NUM_TASKS").or(self.number("SLURM_NTASKS"));
            return (Launcher::Srun(self.plugin()), self.number("SLURM_PROCID"), ranks);
        }
        match OTHERS.iter().find(|(_, rank, _)| self.get(rank).is_some()) {
            Some((name, rank, ranks)) => found(Launcher::Other(name), rank, ranks),
            None => (Launcher::Alone, None, None),
        }
    }

    fn plugin(&self) -> Plugin {
        match self.get("SLURM_MPI_TYPE").unwrap_or("none") {
            _ if self.get("PMIX_RANK").is_some() => Plugin::Pmix,
            _ if self.get("PMI_RANK").is_some() => Plugin::Pmi,
            "none" | "openmpi" => Plugin::None,
            _ => Plugin::Other,
        }
    }
}

impl std::fmt::Display for Launcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Launcher::Alone => "no launcher",
            Launcher::OpenMpi => "mpirun of Open MPI",
            Launcher::Hydra => "mpirun of MPICH (hydra)",
            Launcher::Srun(Plugin::None) => "srun without an MPI plugin (--mpi=none)",
            Launcher::Srun(Plugin::Pmi) => "srun --mpi=pmi2",
            Launcher::Srun(Plugin::Pmix) => "srun --mpi=pmix",
            Launcher::Srun(Plugin::Other) => "srun",
            Launcher::Other(name) => name,
        })
    }
}

//! Who started this process, and whether its MPI will find the others: known from the environment, before MPI starts.
//!
//! MPI itself finds out too late. Open MPI aborts inside `MPI_Init` with a page of text, or each process becomes rank 0 of 1
//! and does the whole run.

mod advice;
mod environment;
mod library;

pub use environment::{Environment, Launcher, Plugin};
pub use library::{Family, Library};

/// How this process was started, and what its MPI makes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// What started it.
    pub launcher: Launcher,
    /// Its number among the processes that were started together, as the launcher counts.
    pub rank: Option<usize>,
    /// How many were started together.
    pub ranks: Option<usize>,
    /// On how many machines, where the launcher says so.
    pub hosts: Option<usize>,
    /// What stands in `GLASSES_LAUNCH` and has no meaning.
    pub misread: Option<String>,
    /// The MPI that the program was built with.
    pub library: Library,
}

impl Launch {
    /// As the environment says.
    pub fn read(environment: &Environment, library: Library) -> Launch {
        let (launcher, rank, ranks) = environment.launcher(library.family);
        let hosts = match launcher {
            Launcher::Srun(_) => environment.number("SLURM_STEP_NUM_NODES"),
            _ => None,
        };
        let said = environment.get(environment::OVERRIDE).filter(|said| !said.is_empty() && *said != "alone");
        Launch { launcher, rank, ranks, hosts, misread: said.map(str::to_owned), library }
    }

    /// Whether MPI is to be started. Without a launcher it would find nobody either, and Open MPI would start a daemon first,
    /// which takes a third of a second and fails where two start at once.
    pub fn starts_mpi(&self) -> bool {
        self.launcher != Launcher::Alone && self.library.family != Family::None && self.connects() != Some(false)
    }

    /// Whether several processes started so would find one another: `Some(false)` is certain; `None`: MPI has to try.
    pub fn connects(&self) -> Option<bool> {
        let library = &self.library;
        match (&self.launcher, library.family) {
            (_, Family::None) => Some(false),
            (Launcher::OpenMpi, Family::OpenMpi) | (Launcher::Hydra, Family::Mpich) => Some(true),
            (Launcher::Hydra, Family::OpenMpi) => Some(false),
            // Open MPI's launcher is a PMIx server.
            (Launcher::OpenMpi, _) | (Launcher::Srun(Plugin::Pmix), _) => library.pmix,
            (Launcher::Srun(Plugin::Pmi), _) => library.pmi,
            // Slurm's oldest interface is a library: only an MPI that was built with it finds its ranks so.
            (Launcher::Srun(Plugin::None), _) if library.pmi_by_slurm == Some(false) => Some(false),
            _ => None,
        }
    }

    /// What this process is called among those that were started together, in front of a message; nothing where it is the only one.
    pub fn name(&self) -> String {
        match (self.rank, self.ranks) {
            (Some(rank), Some(ranks)) if ranks > 1 => format!("rank {rank} of {ranks}: "),
            _ => String::new(),
        }
    }

    /// Whether the launcher started another program than this one on this machine, beside it; where the system says (Linux).
    pub fn others_here_run_another(&self) -> bool {
        let parent = std::os::unix::process::parent_id();
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        let program = |process: &str| std::fs::read_link(format!("/proc/{process}/exe")).ok();
        let own = program("self");
        children.split_whitespace().filter_map(program).any(|other| Some(other) != own)
    }

    /// Whether this process is the one that speaks for all: the launcher's first.
    pub fn speaks(&self) -> bool {
        self.rank.unwrap_or(0) == 0
    }
}

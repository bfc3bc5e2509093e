//! What to say, and to type instead, where ranks cannot find one another.

use std::path::{Path, PathBuf};

use super::environment::OVERRIDE;
use super::{Family, Launch, Launcher, Plugin};
use crate::error::Error;

/// A command line that is longer is not repeated.
const LONGEST: usize = 120;

impl Launch {
    /// What is certain to go wrong, before MPI is started: several processes that cannot find one another.
    pub fn trouble(&self, command: &[String]) -> Option<Error> {
        if let Some(value) = &self.misread {
            let fix = format!("set {OVERRIDE}=alone, or unset it");
            return Some(Error::invalid(OVERRIDE, value.clone(), "alone: this process works by itself", fix));
        }
        let several = self.ranks.filter(|&ranks| ranks > 1)?;
        (self.connects() == Some(false)).then(|| self.strangers(several, command))
    }

    /// What went wrong where MPI, once started, knows of `size` ranks.
    pub fn alone_of_many(&self, size: usize, command: &[String]) -> Option<Error> {
        let several = self.ranks.filter(|&ranks| ranks > 1)?;
        (size == 1).then(|| self.strangers(several, command))
    }

    fn strangers(&self, ranks: usize, command: &[String]) -> Error {
        let (launcher, library) = (&self.launcher, &self.library.name);
        let found =
            format!("{ranks} processes that do not find one another: each would be rank 0 of 1 and do the whole work");
        let expected = match (self.library.family, launcher) {
            (Family::None, _) => "one process: this glasses was built without MPI".to_owned(),
            (_, Launcher::Srun(_)) => format!("what this glasses' MPI, {library}, finds its ranks by"),
            _ => format!("the launcher that belongs to this glasses' MPI, {library}"),
        };
        let instead = self.instead(ranks, &typed(command));
        let fix = format!("{instead}\n  or, where each is a run of its own: {OVERRIDE}=alone in its environment");
        Error::invalid(format!("launch by {launcher}"), found, expected, fix)
    }

    /// What to type.
    fn instead(&self, ranks: usize, command: &str) -> String {
        let family = self.library.family;
        if family == Family::None {
            return format!("start one ({command}), or build with MPI: cargo build --release");
        }
        let mpirun = self.mpirun();
        match self.launcher {
            Launcher::Srun(plugin) => {
                let wanted = match family {
                    Family::Mpich if self.library.pmi == Some(true) => "pmi2",
                    _ if plugin == Plugin::Pmix => "pmi2",
                    _ => "pmix",
                };
                let hosts =
                    self.hosts.filter(|&hosts| hosts > 1).map(|hosts| format!("-N {hosts} ")).unwrap_or_default();
                format!(
                    "srun --mpi={wanted} {hosts}-n {ranks} {command}\n  or, in a batch script: {mpirun} -n {ranks} {command}   \
                     (`srun --mpi=list` shows what this Slurm has)"
                )
            }
            _ => format!("{mpirun} -n {ranks} {command}"),
        }
    }

    /// The launcher of the library: beside it, or by the names that distributions give where several are installed.
    fn mpirun(&self) -> String {
        let names: &[&str] = match self.library.family {
            Family::OpenMpi => &["mpirun.openmpi", "orterun"],
            Family::Mpich => &["mpirun.mpich", "mpiexec.hydra"],
            _ => &[],
        };
        let beside = self.library.folder.as_deref().and_then(Path::parent).map(|prefix| prefix.join("bin/mpirun"));
        if let Some(beside) = beside.filter(|path| path.is_file()) {
            return beside.display().to_string();
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
        let here = |name: &&&str| folders.iter().any(|folder| folder.join(name).is_file());
        match names.iter().find(here) {
            Some(name) => (*name).to_owned(),
            None => format!("(of {}) mpirun", self.library.name),
        }
    }
}

/// What was typed, as a shell reads it; of a long line the program.
fn typed(command: &[String]) -> String {
    let plain = |word: &str| word.chars().all(|c| c.is_alphanumeric() || "-_./=:,+%@".contains(c)) && !word.is_empty();
    // The crate quotes more than a shell needs.
    let quoted = |word: &String| {
        if plain(word) { word.clone() } else { shlex::try_quote(word).unwrap_or_default().into_owned() }
    };
    let line = command.iter().map(quoted).collect::<Vec<_>>().join(" ");
    match command.first() {
        Some(_) if line.len() <= LONGEST => line,
        Some(program) => format!("{} …", quoted(program)),
        None => "glasses …".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Environment, Library};
    use super::*;

    const SRUN: [(&str, &str); 4] =
        [("SLURM_PROCID", "1"), ("SLURM_STEP_ID", "0"), ("SLURM_STEP_NUM_TASKS", "4"), ("SLURM_STEP_NUM_NODES", "2")];
    const PMI: [(&str, &str); 3] = [("PMI_RANK", "1"), ("PMI_SIZE", "4"), ("SLURM_MPI_TYPE", "pmi2")];
    const PMIX: [(&str, &str); 2] = [("PMIX_RANK", "1"), ("SLURM_MPI_TYPE", "pmix")];
    const HYDRA: [(&str, &str); 3] = [("PMI_RANK", "1"), ("PMI_SIZE", "4"), ("MPI_LOCALNRANKS", "4")];
    const ORTE: [(&str, &str); 3] = [("OMPI_COMM_WORLD_SIZE", "4"), ("OMPI_COMM_WORLD_RANK", "1"), ("PMIX_RANK", "1")];
    const BATCH: [(&str, &str); 2] = [("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4")];

    fn open_mpi() -> Library {
        Library::new("Open MPI v5.0.3, package: Debian", None)
    }

    fn mpich() -> Library {
        Library::new("MPICH Version:\t4.0.2\nMPICH configure: --prefix=/usr --with-pm=hydra\n", None)
    }

    fn launch(parts: &[&[(&str, &str)]], library: Library) -> Launch {
        Launch::read(&parts.concat().into_iter().collect(), library)
    }

    fn fix(launch: &Launch) -> Option<String> {
        let command = ["glasses".to_owned(), "--lr=1e-3".to_owned()];
        launch.trouble(&command).map(|error| error.to_string().split("fix: ").nth(1).unwrap().to_owned())
    }

    #[test]
    fn the_right_launcher_starts_mpi_and_a_wrong_one_is_told_which_is_right() {
        let right = [
            launch(&[&SRUN, &PMIX], open_mpi()),
            launch(&[&ORTE], open_mpi()),
            launch(&[&BATCH, &ORTE], open_mpi()),
            launch(&[&SRUN, &ORTE], open_mpi()),
            launch(&[&SRUN, &PMI], mpich()),
            launch(&[&SRUN, &HYDRA], mpich()),
            launch(&[&ORTE, &HYDRA], mpich()),
        ];
        for right in right {
            assert!(right.starts_mpi() && fix(&right).is_none(), "{right:?}");
            assert!(!right.speaks() && right.ranks == Some(4), "{right:?}");
            let found_nobody = right.alone_of_many(1, &[]).unwrap().to_string();
            assert!(found_nobody.contains("4 processes that do not find one another"), "{found_nobody}");
            assert!(right.alone_of_many(4, &[]).is_none());
        }
        let wrong = [
            (launch(&[&SRUN], open_mpi()), "srun --mpi=pmix -N 2 -n 4 glasses --lr=1e-3"),
            (launch(&[&SRUN, &PMI], open_mpi()), "srun --mpi=pmix -N 2 -n 4 glasses --lr=1e-3"),
            (launch(&[&HYDRA], open_mpi()), "-n 4 glasses --lr=1e-3"),
            (launch(&[&SRUN], mpich()), "srun --mpi=pmi2 -N 2 -n 4 glasses --lr=1e-3"),
            (launch(&[&SRUN, &PMIX], mpich()), "srun --mpi=pmi2 -N 2 -n 4 glasses --lr=1e-3"),
            (launch(&[&ORTE], mpich()), "-n 4 glasses --lr=1e-3"),
            (launch(&[&ORTE], Library::new("", None)), "start one (glasses --lr=1e-3)"),
        ];
        for (wrong, instead) in wrong {
            assert!(!wrong.starts_mpi(), "{wrong:?}");
            assert!(fix(&wrong).is_some_and(|fix| fix.contains(instead)), "{wrong:?}");
        }
    }

    #[test]
    fn one_process_needs_no_mpi_and_settings_for_a_launcher_are_none() {
        let one = [SRUN[0], SRUN[1], ("SLURM_STEP_NUM_TASKS", "1")];
        let settings = [("OMPI_MCA_rmaps_base_oversubscribe", "1"), ("SLURM_JOB_ID", "7"), ("PATH", "/bin")];
        for (parts, launcher) in [
            (&one[..], Launcher::Srun(Plugin::None)),
            (&settings, Launcher::Alone),
            (&BATCH, Launcher::Alone),
            // As many runs as tasks, and settings of libraries that a launcher may use.
            (&[SRUN[0], SRUN[1], SRUN[2], ("GLASSES_LAUNCH", "alone")], Launcher::Alone),
            (&[("PMIX_MCA_gds", "hash"), ("PMI_MMAP_SYNC_WAIT_TIME", "300")], Launcher::Alone),
            (&[], Launcher::Alone),
        ] {
            let launch = launch(&[parts], open_mpi());
            assert_eq!(launch.launcher, launcher);
            assert!(!launch.starts_mpi() && fix(&launch).is_none(), "{launch:?}");
        }
    }

    #[test]
    fn what_nobody_can_know_mpi_tries() {
        let intel = || Library::new("Intel(R) MPI Library 2021.9 for Linux* OS", None);
        let cray = [("PALS_RANKID", "3"), ("PMI_RANK", "3")];
        let slurm_s = Library::new("MPICH Version: 4.1\nMPICH configure: --with-pmi=slurm --with-pm=none", None);
        for launch in [
            launch(&[&SRUN], intel()),
            launch(&[&ORTE], intel()),
            launch(&[&SRUN], slurm_s),
            launch(&[&cray], intel()),
            launch(&[&SRUN, &[("SLURM_MPI_TYPE", "cray_shasta")]], open_mpi()),
            launch(&[&SRUN, &PMI], Library::new("Open MPI v4.1.4", None)),
        ] {
            assert!(launch.starts_mpi() && fix(&launch).is_none(), "{launch:?}");
        }
    }

    #[test]
    fn parts_of_open_mpi_say_what_it_was_built_with() {
        let folder = tempfile::tempdir().unwrap();
        let parts = folder.path().join("openmpi/lib/openmpi3");
        std::fs::create_dir_all(&parts).unwrap();
        let library = || Library::new("Open MPI v4.1.4, package", Some(folder.path().to_owned()));
        assert_eq!((library().pmix, library().pmi), (None, None));
        std::fs::write(parts.join("mca_pmix_ext3x.so"), "").unwrap();
        assert_eq!((library().pmix, library().pmi, library().pmi_by_slurm), (Some(true), Some(false), Some(false)));
        std::fs::write(parts.join("mca_pmix_s2.so"), "").unwrap();
        assert_eq!((library().pmi, library().name), (Some(true), "Open MPI v4.1.4".to_owned()));
    }

    #[test]
    fn a_command_is_repeated_as_a_shell_reads_it() {
        let words = |words: &[&str]| typed(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        assert_eq!(words(&["glasses", "--data", "a b", "--out", "a$b"]), "glasses --data 'a b' --out 'a$b'");
        assert_eq!(words(&["/a b/glasses"]), "'/a b/glasses'");
        assert_eq!(words(&["./glasses", "--data", "f.h5"]), "./glasses --data f.h5");
        assert_eq!(words(&["glasses", &"x".repeat(200)]), "glasses …");
    }

    #[test]
    fn an_environment_is_what_it_was_made_of() {
        let environment: Environment = [("A", "1"), ("B", "x")].into_iter().collect();
        assert_eq!((environment.number("A"), environment.number("B"), environment.get("C")), (Some(1), None, None));
    }
}

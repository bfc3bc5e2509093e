//! What the MPI that the program was built with can find its ranks by.

use std::path::{Path, PathBuf};

/// Kinds of MPI whose launchers do not understand one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Open MPI.
    OpenMpi,
    /// MPICH.
    Mpich,
    /// One that we know too little about: it has to try.
    Other,
    /// The program was built without.
    None,
}

/// An MPI library. What it speaks is `None` where only trying tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// As a person calls it: "Open MPI v4.1.4".
    pub name: String,
    /// Its kind.
    pub family: Family,
    /// PMIx: `srun --mpi=pmix`.
    pub pmix: Option<bool>,
    /// PMI-1 or PMI-2 over what the launcher left open: `srun --mpi=pmi2`.
    pub pmi: Option<bool>,
    /// PMI through a library of Slurm's: `srun --mpi=none` is enough.
    pub pmi_by_slurm: Option<bool>,
    /// The folder it was loaded from.
    pub folder: Option<PathBuf>,
}

impl Library {
    /// What its version text (`MPI_Get_library_version`; empty: no MPI) and, for Open MPI, its folder of parts say.
    pub fn new(version: &str, folder: Option<PathBuf>) -> Library {
        let first = version.split([',', '\n']).next().unwrap_or_default();
        let name = first.trim().replace('\t', " ");
        let unknown = Library { name, family: Family::Other, pmix: None, pmi: None, pmi_by_slurm: None, folder };
        if unknown.name.is_empty() {
            Library { name: "none".to_owned(), family: Family::None, ..unknown }
        } else if let Some(version) = unknown.name.strip_prefix("Open MPI v") {
            let major = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
            open_mpi(major, unknown)
        } else if unknown.name.starts_with("MPICH") {
            // Its version text holds how it was configured.
            let built_with = |option: &str| version.contains(option);
            let other_pmi = built_with("--with-pmi=") || built_with("--with-pmilib=") || built_with("--with-pmix");
            let plain = |value: bool| if other_pmi { None } else { Some(value) };
            Library {
                family: Family::Mpich,
                pmix: plain(false),
                pmi: plain(true),
                pmi_by_slurm: plain(false),
                ..unknown
            }
        } else {
            unknown
        }
    }

    /// The folder that a library of this process was loaded from, by the start of its file's name.
    pub fn loaded_from(file: &str) -> Option<PathBuf> {
        let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
        let mut paths = maps.lines().filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])));
        let is_it = |path: &&Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(file));
        paths.find(is_it)?.parent().map(Path::to_owned)
    }
}

/// Since version 5 Open MPI speaks PMIx only; before, a part (`mca_pmix_….so`) each for what it was built with.
fn open_mpi(major: usize, library: Library) -> Library {
    let family = Family::OpenMpi;
    if major >= 5 {
        return Library { family, pmix: Some(true), pmi: Some(false), pmi_by_slurm: Some(false), ..library };
    }
    let parts = library.folder.as_deref().map(parts).unwrap_or_default();
    if parts.is_empty() {
        // Built as one piece, or older than that.
        return Library { family, ..library };
    }
    let has = |kinds: &[&str]| Some(parts.iter().any(|part| kinds.iter().any(|kind| part.starts_with(kind))));
    let pmi = has(&["s1", "s2"]);
    Library { family, pmix: has(&["ext", "pmix"]), pmi, pmi_by_slurm: pmi, ..library }
}

/// Names of Open MPI's parts for finding ranks: of `mca_pmix_s2.so` the `s2.so`. They lie in `openmpi` beside the library; Debian has
/// them in `openmpi/lib/openmpi3`.
fn parts(folder: &Path) -> Vec<String> {
    let inside = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let mut parts = Vec::new();
    let mut folders: Vec<PathBuf> = inside(folder).filter(|path| name(path).starts_with("openmpi")).collect();
    // No installation has more, and one whose links lead in a circle has no end.
    for _ in 0..16 {
        let Some(folder) = folders.pop() else { break };
        for path in inside(&folder) {
            match name(&path).strip_prefix("mca_pmix_") {
                Some(part) => parts.push(part.to_owned()),
                None if name(&path) == "lib" || name(&path).starts_with("openmpi") => folders.push(path),
                None => {}
            }
        }
    }
    parts
}

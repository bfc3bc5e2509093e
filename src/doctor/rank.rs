//! What each rank says of itself, to all others, in one exchange.

use serde::{Deserialize, Serialize};

use super::cpus::Cpus;
use super::{Check, build};
use crate::comm::{self, Communicator};
use crate::error::Error;
use crate::kernels;
use crate::plural::plural;

/// A rank, as it sees itself. Every field may be missing: another build may send another list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rank {
    pub host: String,
    pub path: String,
    pub commit: String,
    pub executable: String,
    pub mpi: String,
    /// Its instruction set, and what is wrong with it, of which one is empty.
    pub isa: String,
    pub isa_wrong: Option<Check>,
    /// CPUs (hardware threads) that it may use, as the system writes them: `0-3,8`.
    pub cpus: String,
    /// The cores of these, where they are few: numbers that two threads of one core share.
    pub cores: Vec<usize>,
    /// CPUs of the machine, and its cores.
    pub machine: (usize, usize),
    /// CPUs' worth of time that it may use, where that is less than its CPUs (a container's quota).
    pub quota: Option<usize>,
}

impl Rank {
    /// This one.
    fn here() -> Rank {
        let (isa, isa_wrong) = match kernels::choose() {
            Ok(isa) => (isa.name().to_owned(), None),
            Err(wrong) => (String::new(), Some(Check::from(&Error::from(wrong)))),
        };
        let path = std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default();
        let cpus = Cpus::of_this_process();
        Rank {
            host: comm::host(),
            path,
            commit: build::COMMIT.to_owned(),
            executable: build::executable(),
            mpi: comm::library(),
            isa,
            isa_wrong,
            cpus: cpus.list,
            cores: cpus.cores,
            machine: cpus.machine,
            quota: cpus.quota,
        }
    }

    /// Collective: all of them.
    pub fn allgather(comm: &dyn Communicator) -> Vec<Rank> {
        comm::allgather(comm, &Rank::here())
    }

    /// What tells its program from another.
    pub fn program(&self) -> (&str, &str) {
        (&self.commit, &self.executable)
    }
}

/// The ranks of each host, by its name, in the order of their first ones.
pub fn hosts(ranks: &[Rank]) -> Vec<(&str, Vec<usize>)> {
    let mut hosts: Vec<(&str, Vec<usize>)> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for (number, rank) in ranks.iter().enumerate() {
        let place = *places.entry(rank.host.as_str()).or_insert(hosts.len());
        if place == hosts.len() {
            hosts.push((&rank.host, Vec::new()));
        }
        hosts[place].1.push(number);
    }
    hosts
}

/// What the ranks' kernels run on. Different ones are no mistake: all give the same bits.
pub fn instruction_sets(ranks: &[Rank]) -> Check {
    if let Some((number, wrong)) =
        ranks.iter().enumerate().find_map(|(number, rank)| Some((number, rank.isa_wrong.as_ref()?)))
    {
        let on = if ranks.len() > 1 { format!(" (rank {number}, {})", ranks[number].host) } else { String::new() };
        return Check { found: format!("{}{on}", wrong.found), ..wrong.clone() };
    }
    let mut names: Vec<&str> = ranks.iter().map(|rank| rank.isa.as_str()).collect();
    names.sort_unstable();
    let groups: Vec<String> = match names.chunk_by(|a, b| a == b).collect::<Vec<_>>()[..] {
        [one] => vec![one[0].to_owned()],
        ref several => several.iter().map(|group| format!("{} on {}", group[0], plural(group.len(), "rank"))).collect(),
    };
    Check::ok("instruction set", groups.join(", "))
}

/// Whether all ranks run the same program.
pub fn same_build(ranks: &[Rank]) -> Check {
    let version = concat!("glasses ", env!("CARGO_PKG_VERSION"));
    let name = |rank: &Rank| format!("commit {}, executable {:.12}", rank.commit, rank.executable);
    let Some(other) = ranks.iter().position(|rank| rank.program() != ranks[0].program()) else {
        return Check::ok("build", format!("{version}, {}, {}", name(&ranks[0]), ranks[0].mpi));
    };
    let differ = ranks.iter().filter(|rank| rank.program() != ranks[0].program()).count();
    let found = format!(
        "{differ} of {} ranks run another glasses than rank 0: rank {other} on {} is {} ({}), rank 0 on {} is {} ({})",
        ranks.len(),
        ranks[other].host,
        name(&ranks[other]),
        ranks[other].mpi,
        ranks[0].host,
        name(&ranks[0]),
        ranks[0].mpi
    );
    let fix = format!("name one file that all machines see, or copy {} to all of them again", ranks[0].path);
    Check::error("build", found, "the same executable on every rank", fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn ranks_of_another_build_are_named() {
        let mut ranks = vec![Rank { host: "n1".into(), executable: "aa".into(), ..Rank::default() }; 4];
        assert_eq!(same_build(&ranks).verdict, Verdict::Ok);
        ranks[2] = Rank { host: "n2".into(), executable: "bb".into(), ..Rank::default() };
        let check = same_build(&ranks);
        assert!(check.verdict == Verdict::Error && check.found.starts_with("1 of 4 ranks"), "{check:?}");
        assert!(check.found.contains("rank 2 on n2") && check.found.contains("executable bb"), "{check:?}");
    }
}

//! Whether every rank has a core of its own.

use std::collections::BTreeSet;

use super::Check;
use super::cpus::numbers;
use super::rank::{Rank, hosts};
use crate::launch::Launcher;
use crate::plural::plural;

/// Hosts with trouble that are named.
const SHOWN: usize = 3;

/// More ranks than CPUs, and ranks that are pinned to one another's: a check each.
pub fn judge(ranks: &[Rank], launcher: &Launcher) -> [Check; 2] {
    let hosts = hosts(ranks);
    let known: Vec<Host<'_>> = hosts.iter().filter_map(|(name, numbers)| Host::new(name, numbers, ranks)).collect();
    if known.is_empty() {
        return ["CPUs", "pinning"].map(|name| Check::ok(name, "not known: this system does not tell"));
    }
    let crowded: Vec<String> = known.iter().filter_map(Host::crowded).collect();
    let cpus = if crowded.is_empty() {
        let least = known.iter().map(|host| host.usable()).min().unwrap_or(0);
        let most = known.iter().map(|host| host.ranks.len()).max().unwrap_or(0);
        Check::ok("CPUs", format!("{} for {} of a host", plural(least, "CPU"), plural(most, "rank")))
    } else {
        let bound = known.iter().any(|host| host.crowded().is_some() && host.usable() < host.machine);
        let fix = match bound {
            true => format!(
                "let them use more ({}, or more CPUs from the batch system), or start fewer ranks",
                free(launcher)
            ),
            false => "start fewer ranks, or use more machines; where it is meant it is only slower".to_owned(),
        };
        Check::warning("CPUs", format!("more ranks than CPUs: {}", shown(&crowded)), "at most a rank a CPU", fix)
    };
    let stacked: Vec<String> = known.iter().filter(|host| host.crowded().is_none()).filter_map(Host::stacked).collect();
    let pinning = if stacked.is_empty() {
        let pinned = known.iter().all(|host| host.ranks.iter().all(|(_, cpus, _)| cpus.len() < host.machine));
        let found = match (pinned, crowded.is_empty()) {
            (true, true) => "every rank keeps to CPUs of its own",
            (true, false) => "ranks share CPUs, as there are not enough",
            (false, _) => "ranks are not pinned, or need not be",
        };
        Check::ok("pinning", found)
    } else {
        let found = format!("ranks that are pinned to one another's CPUs: {}", shown(&stacked));
        Check::warning(
            "pinning",
            found,
            "a core for each rank",
            format!("let each have its own: {}; a batch job has to ask for as many CPUs as ranks", pin(launcher)),
        )
    };
    [cpus, pinning]
}

fn shown(hosts: &[String]) -> String {
    let more = hosts.len().saturating_sub(SHOWN);
    let text = hosts[..hosts.len() - more].join(", ");
    if more > 0 { format!("{text}, and {more} more {}", if more == 1 { "host" } else { "hosts" }) } else { text }
}

fn pin(launcher: &Launcher) -> &'static str {
    match launcher {
        Launcher::Srun(_) => "srun --cpu-bind=cores --cpus-per-task=1 …",
        Launcher::Hydra => "mpirun -bind-to core …",
        _ => "mpirun --bind-to core --map-by core …, without a taskset around it",
    }
}

fn free(launcher: &Launcher) -> &'static str {
    match launcher {
        Launcher::Srun(_) => "srun --cpu-bind=none …",
        Launcher::Hydra => "mpirun -bind-to none …",
        _ => "mpirun --bind-to none …",
    }
}

/// A machine and its ranks: number, CPUs, cores where they are few.
struct Host<'a> {
    name: &'a str,
    ranks: Vec<(usize, BTreeSet<usize>, &'a [usize])>,
    machine: usize,
    cores: usize,
    quota: Option<usize>,
}

impl<'a> Host<'a> {
    /// Where the ranks know what they may use.
    fn new(name: &'a str, members: &[usize], ranks: &'a [Rank]) -> Option<Host<'a>> {
        let own = |&number: &usize| {
            let cpus: BTreeSet<usize> = numbers(&ranks[number].cpus).into_iter().collect();
            (!cpus.is_empty()).then_some((number, cpus, &ranks[number].cores[..]))
        };
        let of = members.iter().map(|&number| &ranks[number]);
        Some(Host {
            name,
            ranks: members.iter().map(own).collect::<Option<_>>()?,
            machine: of.clone().map(|rank| rank.machine.0).max()?,
            cores: of.clone().map(|rank| rank.machine.1).max()?,
            quota: of.filter_map(|rank| rank.quota).max(),
        })
    }

    /// CPUs that its ranks may use, together.
    fn usable(&self) -> usize {
        let all: BTreeSet<usize> = self.ranks.iter().flat_map(|(_, cpus, _)| cpus).copied().collect();
        all.len().min(self.quota.unwrap_or(usize::MAX))
    }

    /// More ranks than CPUs. Not where they were put there one by one, or all on one CPU of many: that is pinned, badly.
    fn crowded(&self) -> Option<String> {
        let (ranks, usable) = (self.ranks.len(), self.usable());
        let room = self.machine.min(self.quota.unwrap_or(usize::MAX));
        let first = &self.ranks[0].1;
        let alike = self.ranks.iter().all(|(_, cpus, _)| cpus == first) && first.len() > 1;
        if ranks <= usable || ranks <= room && !alike {
            return None;
        }
        let of = match usable < self.machine {
            true => format!("{usable} of the {} CPUs", self.machine),
            false => format!("the {}", plural(usable, "CPU")),
        };
        Some(format!("{} on {of} of {}", plural(ranks, "rank"), self.name))
    }

    /// Ranks that have to share CPUs, although there are enough: more of them keep to a few CPUs than those are. Then two threads of
    /// one core, where there is a core for each.
    fn stacked(&self) -> Option<String> {
        // Ranks that may use the same are many, as a rule; sets are compared once for each kind.
        let kinds: BTreeSet<&BTreeSet<usize>> = self.ranks.iter().map(|(_, cpus, _)| cpus).collect();
        for few in kinds {
            // Larger than the host's ranks are: none has to share.
            if few.len() >= self.ranks.len() {
                continue;
            }
            let within: Vec<usize> =
                self.ranks.iter().filter(|(_, cpus, _)| cpus.is_subset(few)).map(|(number, ..)| *number).collect();
            if within.len() > few.len() {
                return Some(self.named(&within, &format!("CPU {}", list(few))));
            }
        }
        if self.ranks.len() > self.cores {
            return None;
        }
        let single = |cores: &[usize]| cores.first().copied().filter(|first| cores.iter().all(|core| core == first));
        for (number, _, cores) in &self.ranks {
            let Some(core) = single(cores) else { continue };
            let on_it = |(other, _, cores): &&(usize, _, &[usize])| *other != *number && single(cores) == Some(core);
            if let Some((other, ..)) = self.ranks.iter().find(on_it) {
                return Some(self.named(&[*number, *other], &format!("the two threads of core {core}")));
            }
        }
        None
    }

    fn named(&self, ranks: &[usize], place: &str) -> String {
        let ranks: Vec<String> = ranks.iter().take(8).map(ToString::to_string).collect();
        format!("ranks {} on {place} of {}, which has {}", ranks.join(", "), self.name, plural(self.machine, "CPU"))
    }
}

fn list(cpus: &BTreeSet<usize>) -> String {
    cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    /// Ranks of a host of 8 CPUs, two a core (0 and 4, 1 and 5, …), by what each may use.
    fn host(name: &str, cpus: &[&str]) -> Vec<Rank> {
        let rank = |list: &&str| {
            let mine = numbers(list);
            let cores = if mine.len() < 8 { mine.iter().map(|cpu| cpu % 4).collect() } else { Vec::new() };
            Rank { host: name.to_owned(), cpus: (*list).to_owned(), cores, machine: (8, 4), ..Rank::default() }
        };
        cpus.iter().map(rank).collect()
    }

    fn found(ranks: &[Rank]) -> [Option<String>; 2] {
        judge(ranks, &Launcher::OpenMpi).map(|check| (check.verdict == Verdict::Warning).then_some(check.found))
    }

    #[test]
    fn ranks_with_room_are_not_complained_of() {
        for cpus in [
            &["0-7"; 8][..],
            &["0", "1", "2", "3"],
            &["0,4", "1,5"],
            &["0-3"; 4],
            &["0-7", "0"],
            &["0", "4", "1", "5", "2"],
        ] {
            assert_eq!(found(&host("a", cpus)), [None, None], "{cpus:?}");
        }
        let two = [host("a", &["0", "1"]), host("b", &["0", "1"])].concat();
        assert_eq!(found(&two), [None, None]);
    }

    #[test]
    fn more_ranks_than_cpus_are_counted_a_host() {
        let [crowded, stacked] = found(&[host("a", &["0-7"; 9]), host("b", &["0-7"; 2])].concat());
        assert_eq!(crowded.as_deref(), Some("more ranks than CPUs: 9 ranks on the 8 CPUs of a"));
        assert_eq!(stacked, None);
        let [crowded, _] = found(&host("a", &["2-3"; 3]));
        assert_eq!(crowded.as_deref(), Some("more ranks than CPUs: 3 ranks on 2 of the 8 CPUs of a"));
        let limited: Vec<Rank> =
            host("a", &["0-7"; 3]).into_iter().map(|rank| Rank { quota: Some(2), ..rank }).collect();
        assert_eq!(found(&limited)[0].as_deref(), Some("more ranks than CPUs: 3 ranks on 2 of the 8 CPUs of a"));
    }

    #[test]
    fn ranks_on_one_another_s_cores_are_named() {
        for (cpus, named) in [
            (&["0", "1", "1"][..], "ranks 1, 2 on CPU 1 of a, which has 8 CPUs"),
            (&["3", "3"], "ranks 0, 1 on CPU 3 of a, which has 8 CPUs"),
            (&["0-1", "0-1", "1", "2-7"], "ranks 0, 1, 2 on CPU 0, 1 of a"),
            (&["1", "5"], "ranks 0, 1 on the two threads of core 1 of a"),
            (&["0", "2,6", "6"], "ranks 1, 2 on the two threads of core 2 of a"),
        ] {
            let [crowded, stacked] = found(&host("a", cpus));
            assert!(
                crowded.is_none() && stacked.as_ref().is_some_and(|text| text.contains(named)),
                "{cpus:?} {stacked:?}"
            );
        }
    }

    #[test]
    fn what_the_system_does_not_say_is_not_judged() {
        let checks = judge(&[Rank::default(), Rank::default()], &Launcher::Alone);
        assert!(checks.iter().all(|check| check.verdict == Verdict::Ok && check.found.starts_with("not known")));
    }
}

//! What the ranks make together: one network, or one each.

use super::RunConfig;
use super::together::Together;
use crate::error::{Error, Result};
use crate::plural::plural;

impl RunConfig {
    /// How many networks an ensemble has.
    pub fn members(&self) -> usize {
        self.members.unwrap_or(1)
    }

    /// Ranks that train one network, of `ranks`.
    pub fn ranks_of_run(&self, ranks: usize) -> usize {
        match self.strategy {
            Together::Lockstep => ranks,
            Together::Ensemble => self.ranks_per_member.unwrap_or(1),
        }
    }

    /// The run of one network of an ensemble: what `glasses train` would do with another seed.
    pub fn member(&self, index: usize) -> RunConfig {
        RunConfig {
            strategy: Together::Lockstep,
            members: None,
            ranks_per_member: None,
            seed: self.seed + index as u64,
            out: None,
            ..self.clone()
        }
    }

    /// Whether what is said of an ensemble makes sense on `ranks` ranks.
    pub(super) fn validate_ensemble(&self, ranks: usize) -> Result<()> {
        let refuse = |option: &str, found: String, expected: &str, fix: &str| {
            Err(Error::invalid(format!("--{option}"), found, expected, fix))
        };
        if self.strategy == Together::Lockstep {
            let said = [("members", self.members), ("ranks-per-member", self.ranks_per_member)];
            let said = said.into_iter().find_map(|(option, value)| Some((option, value?)));
            return said.map_or(Ok(()), |(option, value)| {
                refuse(option, value.to_string(), "an ensemble", "add --strategy ensemble, or leave it away")
            });
        }
        let members = self.members();
        if !(2..=1 << 16).contains(&members) {
            let found = plural(members, "network");
            return refuse("members", found, "2 to 65536", "pass --members N, or start more ranks: each trains one");
        }
        if self.seed.checked_add(members as u64).is_none_or(|last| last > i64::MAX as u64) {
            return refuse("seed", self.seed.to_string(), "room for one seed a member", "take a smaller seed");
        }
        if self.trace.is_some() {
            return refuse("trace", "a timeline of an ensemble".into(), "one network", "trace one with its seed alone");
        }
        groups("ranks-per-member", ranks, self.ranks_of_run(ranks)).map(|_| ())
    }
}

/// Groups of `each` ranks that `ranks` ranks make.
///
/// # Errors
/// When some would be left; `option` is what said so.
pub fn groups(option: &str, ranks: usize, each: usize) -> Result<usize> {
    if each > 0 && ranks.is_multiple_of(each) {
        return Ok(ranks / each);
    }
    let fits: Vec<String> = (1..=ranks).filter(|each| ranks.is_multiple_of(*each)).map(|n| n.to_string()).collect();
    Err(Error::invalid(
        format!("--{option}"),
        format!("{each}, with {}", plural(ranks, "rank")),
        "groups of as many ranks each, and no rank left",
        format!("pass one of {}, or start another number of ranks", fits.join(", ")),
    ))
}

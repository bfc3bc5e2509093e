//! Digests of the weights, and of what each shard brought to a step: the ranks compare theirs, and a run keeps a chain of
//! them (`digests.jsonl`) by which `glasses verify` finds the step and the parameter that went wrong.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::path::Path;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use super::run_dir::DIGESTS;
use crate::comm::{Communicator, Nodes, hosts};
use crate::error::{Error, Exit, Result};
use crate::files::text_if_there;
use crate::model::{Param, Params, Units};

/// A line of `digests.jsonl`. Digests are XXH3 (64 bits), in hexadecimal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DigestLine {
    /// Optimizer updates done.
    pub step: usize,
    /// The epoch that was being trained, from 1.
    pub epoch: usize,
    /// The digest of the one in the line before and of all parameters of this one.
    pub chain: String,
    /// Of each parameter after the step: those of the root.
    pub params: BTreeMap<String, String>,
    /// Of what each shard brought to the step: its loss, its gradients below the first dense layer, its rows of the dense
    /// layers. `null` for those without a row in it; none at all where the ranks differed at a step without digests.
    pub shards: Vec<Option<String>>,
    /// Ranks whose parameters were others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub odd: Vec<OddRank>,
}

/// What a rank had that the root had not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OddRank {
    /// Which one.
    pub rank: usize,
    /// The machine it ran on.
    pub host: String,
    /// Of each parameter.
    pub params: BTreeMap<String, String>,
}

/// A line of `digests.jsonl` that says who computes what follows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartLine {
    /// Optimizer updates done before.
    pub step: usize,
    /// The machine of each rank.
    pub hosts: Vec<String>,
    /// The digest of the rows that the run trains and judges by.
    pub data: String,
    /// The plan, where the weights depend on it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub plan: String,
    /// Whether the run began from the weights of another one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fork: bool,
    /// The program's version.
    pub version: String,
}

/// The plan that the run in `dir` was last started with, where its weights depend on it.
///
/// # Errors
/// When its chain of digests is there, and cannot be read.
pub fn plan_of(dir: &Path) -> Result<String> {
    let text = text_if_there(&dir.join(DIGESTS))?.unwrap_or_default();
    let starts = text.lines().rev().filter(|line| line.contains("\"hosts\""));
    let mut starts = starts.filter_map(|line| serde_json::from_str::<StartLine>(line).ok());
    Ok(starts.next().map(|start| start.plan).unwrap_or_default())
}

/// The copies of the parameters that the ranks hold, and what one rank says of them.
pub struct Copies<'a> {
    /// Ranks that hold one together.
    pub groups: &'a Nodes,
    /// The parameters.
    pub table: &'a [Param],
    /// The parts of them that are digested by themselves.
    pub units: &'a Units,
    /// The digests that this rank brings: the unit's number, and its digest. Together the ranks of a group bring all, or those
    /// that no other group has.
    pub own: Vec<(usize, u64)>,
}

/// The digest of a unit.
pub fn of_values(values: &[f32]) -> u64 {
    XxHash3_64::oneshot(bytemuck::cast_slice(values))
}

/// The digest of each parameter, from those of its units.
fn of_params(table: &[Param], units: &Units, digests: &[u64]) -> Vec<u64> {
    let digest = |param: &Param| {
        let mut hash = XxHash3_64::default();
        let first = units.partition_point(|unit| unit.end <= param.range.start);
        let behind = units.partition_point(|unit| unit.start < param.range.end);
        digests[first..behind].iter().for_each(|&digest| hash.write_u64(digest));
        hash.finish()
    };
    table.iter().map(digest).collect()
}

/// The chain goes on with the digests of all parameters.
pub fn next_in_chain(chain: u64, params: impl Iterator<Item = u64>) -> u64 {
    let mut hash = XxHash3_64::default();
    hash.write_u64(chain);
    params.for_each(|digest| hash.write_u64(digest));
    hash.finish()
}

impl DigestLine {
    /// The root's digests in the order of the parameters; 0 where there is none.
    pub fn params_in_order(&self, table: &[Param]) -> impl Iterator<Item = u64> {
        let digest = |param: &Param| self.params.get(&param.name).and_then(|hex| u64::from_str_radix(hex, 16).ok());
        table.iter().map(move |param| digest(param).unwrap_or(0))
    }
}

/// As they are written.
pub fn hex(digest: u64) -> String {
    format!("{digest:016x}")
}

/// What all ranks found at a digest step.
#[derive(Debug)]
pub struct Found {
    /// Whether every rank is well.
    pub all_well: bool,
    /// The digests of each copy, a parameter each, and the first rank that holds it.
    params: Vec<(usize, Vec<u64>)>,
    /// Each shard's digest.
    pub shards: Vec<Option<u64>>,
}

/// Collective: all ranks' digests; `own` are those of this rank's shards.
pub fn exchange(comm: &dyn Communicator, well: bool, copies: &Copies<'_>, own: &[Option<u64>]) -> Found {
    let mut mine = vec![u8::from(well)];
    mine.extend((copies.own.len() as u64).to_le_bytes());
    for &(unit, digest) in &copies.own {
        mine.extend((unit as u64).to_le_bytes());
        mine.extend(digest.to_le_bytes());
    }
    for shard in own {
        mine.push(u8::from(shard.is_some()));
        mine.extend(shard.unwrap_or(0).to_le_bytes());
    }
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).unwrap_or_default();
    let mut found = Found { all_well: true, params: Vec::new(), shards: Vec::new() };
    // All groups get the digests of a unit that only one group holds.
    let mut units = vec![vec![None; copies.units.len()]; copies.groups.count()];
    let mut anyone = vec![0; copies.units.len()];
    for (rank, bytes) in comm.allgather(&mine).iter().enumerate() {
        let (head, tail) = bytes[9..].split_at(16 * number(&bytes[1..9]) as usize);
        found.all_well &= bytes[0] == 1;
        for pair in head.as_chunks::<16>().0 {
            let (unit, digest) = (number(&pair[..8]) as usize, number(&pair[8..]));
            units[copies.groups.of(rank)][unit] = Some(digest);
            anyone[unit] = digest;
        }
        found.shards.extend(tail.chunks(9).map(|nine| (nine[0] == 1).then(|| number(&nine[1..]))));
    }
    for (group, units) in units.into_iter().enumerate() {
        let digests: Vec<u64> = units.iter().zip(&anyone).map(|(own, any)| own.unwrap_or(*any)).collect();
        found.params.push((copies.groups.ranks(group).start, of_params(copies.table, copies.units, &digests)));
    }
    found
}

impl Found {
    /// The root's digests.
    pub fn root(&self) -> &[u64] {
        &self.params[0].1
    }

    /// Collective where ranks differ: what to write of it, behind `chain`, and what is wrong, if so.
    pub fn line(
        &self,
        (step, epoch): (usize, usize),
        params: &Params,
        chain: &mut u64,
        comm: &dyn Communicator,
    ) -> (DigestLine, Option<Error>) {
        let by_name = |digests: &[u64]| {
            params.table.iter().zip(digests).map(|(param, digest)| (param.name.clone(), hex(*digest))).collect()
        };
        *chain = next_in_chain(*chain, self.root().iter().copied());
        let mut line = DigestLine {
            step,
            epoch,
            chain: hex(*chain),
            params: by_name(self.root()),
            shards: self.shards.iter().map(|shard| shard.map(hex)).collect(),
            odd: Vec::new(),
        };
        if self.params.iter().all(|(_, params)| params == self.root()) {
            return (line, None);
        }
        let hosts = hosts(comm);
        for (rank, digests) in self.params.iter().filter(|(_, digests)| digests != self.root()) {
            line.odd.push(OddRank { rank: *rank, host: hosts[*rank].clone(), params: by_name(digests) });
        }
        (line, Some(self.error(step, epoch, params, &hosts)))
    }

    /// Names the ranks that are not like most; where there is no majority, all.
    fn error(&self, step: usize, epoch: usize, params: &Params, hosts: &[String]) -> Error {
        let digests = |copy: usize| &self.params[copy].1;
        let copies = self.params.len();
        let alike = |copy: usize| (0..copies).filter(|&other| digests(other) == digests(copy)).count();
        let most = (0..copies).map(alike).max().unwrap_or(0);
        let majority = (0..copies).find(|&copy| 2 * alike(copy) > copies);
        let right = majority.map(digests);
        let odd: Vec<usize> = (0..copies).filter(|&copy| Some(digests(copy)) != right).collect();
        let reference = right.unwrap_or(digests(0));
        let other = odd.iter().map(|&copy| digests(copy)).find(|digests| *digests != reference);
        let differs = other.and_then(|other| other.iter().zip(reference).position(|(a, b)| a != b)).unwrap_or(0);
        let name = |copy: &usize| format!("rank {} on {}", self.params[*copy].0, hosts[self.params[*copy].0]);
        let list: Vec<String> = odd.iter().map(name).collect();
        let holders = if copies == hosts.len() { "ranks" } else { "machines" };
        Error::invalid(
            format!("the weights after step {step} (epoch {epoch})"),
            match majority {
                Some(_) => {
                    format!(
                        "others on {} than on {most} {holders}, first in {}",
                        list.join(", "),
                        params.table[differs].name
                    )
                }
                None => format!("different ones on {}, first in {}", list.join(" and "), params.table[differs].name),
            },
            "the same weights on every rank, bit for bit",
            "`glasses verify` with the run's folder computes these steps again and says whose are right; suspect that machine, or builds of \
             glasses that differ",
        )
        .ended(Exit::Differ)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::Threads;
    use crate::model::Engine;
    use crate::model::{Init, Model, zoo};

    /// What a rank says when the weights of `odd` differ from the others' by one bit.
    fn errors(ranks: usize, odd: &[usize]) -> Vec<Option<String>> {
        Threads::run(ranks, |comm| {
            let spec = zoo::find("spiral").unwrap();
            let model = Model::new(spec, [1, 1, 2], true, 3, Engine::default()).unwrap();
            let mut params = Params::initial(model.table.clone(), Init::He, 1);
            if odd.contains(&comm.rank()) {
                let value = &mut params.values[model.table[2].range.start];
                *value = f32::from_bits(value.to_bits() ^ 1);
            }
            let (groups, units) = (Nodes::apart(ranks, comm.rank()), Units::of_tensors(&params.table));
            let own = units.iter().map(|unit| of_values(&params.values[unit])).enumerate().collect();
            let copies = Copies { groups: &groups, table: &params.table, units: &units, own };
            let found = exchange(comm, true, &copies, &[Some(comm.rank() as u64), None]);
            assert_eq!(found.shards.len(), 2 * ranks);
            assert_eq!(found.shards[2 * (ranks - 1)], Some(ranks as u64 - 1));
            let (line, error) = found.line((7, 1), &params, &mut 0, comm);
            assert_eq!(line.odd.len(), if odd.contains(&0) { ranks - odd.len() } else { odd.len() });
            error.map(|error| error.to_string())
        })
    }

    #[test]
    fn a_rank_whose_weights_differ_by_one_bit_is_named_on_every_rank() {
        assert!(errors(3, &[]).iter().all(Option::is_none));
        for odd in [0, 2] {
            let errors = errors(4, &[odd]);
            let text = errors[0].clone().unwrap();
            assert!(text.contains(&format!("others on rank {odd} on ")) && text.contains("step 7"), "{text}");
            assert!(text.contains("than on 3 ranks, first in dense2.weight"), "{text}");
            assert!(errors.iter().all(|error| error.as_ref() == Some(&text)));
        }
    }

    #[test]
    fn of_two_ranks_that_differ_both_are_named() {
        let text = errors(2, &[1])[0].clone().unwrap();
        assert!(
            text.contains("rank 0 on ") && text.contains("rank 1 on ") && text.contains("glasses verify"),
            "{text}"
        );
    }
}

//! Digests of the weights, and of what each shard brought to a step: the ranks compare theirs, and a run keeps a chain of
//! them (`digests.jsonl`) by which `glasses verify` finds the step and the parameter that went wrong.

use std::collections::BTreeMap;
use std::hash::Hasher;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::comm::Communicator;
use crate::error::Error;
use crate::model::{Param, Params};

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
    /// Whether the run began from the weights of another one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fork: bool,
    /// The program's version.
    pub version: String,
}

/// The digest of each parameter.
pub fn of_params(params: &Params) -> Vec<u64> {
    let digest =
        |range: &std::ops::Range<usize>| XxHash3_64::oneshot(bytemuck::cast_slice(&params.values[range.clone()]));
    params.table.iter().map(|param| digest(&param.range)).collect()
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
    /// Each rank's digests, a parameter each.
    params: Vec<Vec<u64>>,
    /// Each shard's digest.
    pub shards: Vec<Option<u64>>,
}

/// Collective: all ranks' digests. `params` are this rank's, `own` those of its shards.
pub fn exchange(comm: &dyn Communicator, well: bool, params: Vec<u64>, own: &[Option<u64>]) -> Found {
    if comm.size() == 1 {
        return Found { all_well: well, params: vec![params], shards: own.to_vec() };
    }
    let mut mine = vec![u8::from(well)];
    mine.extend(params.iter().flat_map(|digest| digest.to_le_bytes()));
    for shard in own {
        mine.push(u8::from(shard.is_some()));
        mine.extend(shard.unwrap_or(0).to_le_bytes());
    }
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).unwrap_or_default();
    let mut found = Found { all_well: true, params: Vec::new(), shards: Vec::new() };
    for bytes in comm.gather(&mine) {
        let (head, tail) = bytes[1..].split_at(8 * params.len());
        found.all_well &= bytes[0] == 1;
        found.params.push(head.chunks(8).map(number).collect());
        found.shards.extend(tail.chunks(9).map(|nine| (nine[0] == 1).then(|| number(&nine[1..]))));
    }
    found
}

impl Found {
    /// The root's digests.
    pub fn root(&self) -> &[u64] {
        &self.params[0]
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
        if self.params.iter().all(|params| params == self.root()) {
            return (line, None);
        }
        let hosts = hosts(comm);
        for (rank, digests) in self.params.iter().enumerate().filter(|(_, digests)| *digests != self.root()) {
            line.odd.push(OddRank { rank, host: hosts[rank].clone(), params: by_name(digests) });
        }
        (line, Some(self.error(step, epoch, params, &hosts)))
    }

    /// Names the ranks that are not like most; where there is no majority, all.
    fn error(&self, step: usize, epoch: usize, params: &Params, hosts: &[String]) -> Error {
        let alike = |rank: usize| self.params.iter().filter(|digests| **digests == self.params[rank]).count();
        let ranks = self.params.len();
        let most = (0..ranks).map(alike).max().unwrap_or(0);
        let majority = (0..ranks).find(|&rank| 2 * alike(rank) > ranks);
        let right = majority.map(|rank| &self.params[rank]);
        let odd: Vec<usize> = (0..ranks).filter(|&rank| Some(&self.params[rank]) != right).collect();
        let reference = right.unwrap_or(&self.params[0]);
        let other = odd.iter().map(|&rank| &self.params[rank]).find(|digests| *digests != reference);
        let differs = other.and_then(|other| other.iter().zip(reference).position(|(a, b)| a != b)).unwrap_or(0);
        let list: Vec<String> = odd.iter().map(|&rank| format!("rank {rank} on {}", hosts[rank])).collect();
        Error::invalid(
            format!("the weights after step {step} (epoch {epoch})"),
            match majority {
                Some(_) => {
                    format!(
                        "others on {} than on {most} ranks, first in {}",
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
    }
}

/// Collective: the machine of each rank.
pub fn hosts(comm: &dyn Communicator) -> Vec<String> {
    comm.gather(gethostname::gethostname().to_string_lossy().as_bytes())
        .iter()
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::Threads;
    use crate::kernels::Engine;
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
            let found = exchange(comm, true, of_params(&params), &[Some(comm.rank() as u64), None]);
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

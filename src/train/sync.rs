//! What ranks compare and share besides gradients.

use crate::comm::Communicator;
use crate::data::{Normalizer, Part};
use crate::error::{Error, Result};
use crate::metrics::Seconds;
use crate::model::{Params, Workspace};

/// Collective: compares the digests of all ranks' weights.
///
/// # Errors
/// When they differ; names the ranks. The same on every rank.
pub fn same_weights_everywhere(comm: &dyn Communicator, params: &Params, epoch: usize) -> Result<()> {
    if comm.size() == 1 {
        return Ok(());
    }
    let digests = comm.gather(params.sha256().as_bytes());
    let mut groups: Vec<(&[u8], Vec<String>)> = Vec::new();
    for (rank, digest) in digests.iter().enumerate() {
        match groups.iter_mut().find(|(known, _)| known == digest) {
            Some((_, ranks)) => ranks.push(rank.to_string()),
            None => groups.push((digest, vec![rank.to_string()])),
        }
    }
    if groups.len() == 1 {
        return Ok(());
    }
    groups.sort_by_key(|(_, ranks)| std::cmp::Reverse(ranks.len()));
    let list: Vec<String> = groups
        .iter()
        .map(|(digest, ranks)| format!("{} on ranks {}", String::from_utf8_lossy(&digest[..12]), ranks.join(", ")))
        .collect();
    Err(Error::invalid(
        format!("the weights after epoch {epoch}"),
        format!("different ones: {}", list.join("; ")),
        "the same weights on every rank",
        "suspect the hardware of the odd ranks' hosts, or builds of glasses that differ",
    ))
}

/// Collective: each phase's time, averaged over the ranks.
pub fn mean_seconds(comm: &dyn Communicator, own: Seconds) -> Seconds {
    let Seconds { load, forward, backward, sync, update, evaluate } = own;
    let mut sums = [load, forward, backward, sync, update, evaluate];
    comm.sum_f64(&mut sums);
    let [load, forward, backward, sync, update, evaluate] = sums.map(|sum| sum / comm.size() as f64);
    Seconds { load, forward, backward, sync, update, evaluate }
}

impl Part {
    /// Puts `rows` (numbers in the split) into the workspace as its micro-batch.
    pub fn fill(&self, rows: &[u32], normalizer: &Normalizer, ws: &mut Workspace) {
        ws.batch = rows.len();
        ws.rows.clear();
        ws.rows.extend_from_slice(rows);
        let mut labels = std::mem::take(&mut ws.labels);
        self.load(rows, normalizer, ws.input_mut(), &mut labels);
        ws.labels = labels;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::Threads;
    use crate::kernels::Engine;
    use crate::model::{Init, Model, zoo};

    #[test]
    fn a_rank_whose_weights_differ_by_one_bit_is_named_on_every_rank() {
        let errors = Threads::run(4, |comm| {
            let spec = zoo::find("spiral").unwrap();
            let model = Model::new(spec, [1, 1, 2], true, 3, Engine::default()).unwrap();
            let mut params = Params::initial(model.table.clone(), Init::He, 1);
            assert!(same_weights_everywhere(comm, &params, 1).is_ok());
            if comm.rank() == 2 {
                params.values[77] = f32::from_bits(params.values[77].to_bits() ^ 1);
            }
            same_weights_everywhere(comm, &params, 1).unwrap_err().to_string()
        });
        assert!(errors[0].contains("on ranks 0, 1, 3; ") && errors[0].contains("on ranks 2"), "{}", errors[0]);
        assert!(errors.iter().all(|error| *error == errors[0]));
    }
}

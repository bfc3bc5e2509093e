//! Sums over training rows, the same on any number of ranks.

use crate::comm::Communicator;
use crate::data::Part;
use crate::kernels;

/// Collective: `length` sums over training rows in an order that the ranks do not change: the first `most` rows of a shard one after
/// another, then the shards in the fixed tree. `add` gets a row's number in this rank's part, its label and the sums of its shard.
pub fn sum_of_shards(
    train: &Part,
    comm: &dyn Communicator,
    (most, length): (usize, usize),
    mut add: impl FnMut(usize, usize, &mut [f64]),
) -> Vec<f64> {
    let shards = train.shards.count();
    let first = train.shards.rows_of(train.owned.clone()).start;
    // Each shard has one owner; everyone else adds zeros, which changes nothing.
    let mut sums = vec![0.0; shards * length];
    for shard in train.owned.clone() {
        for row in train.rows_of(shard).take(most) {
            let label = train.labels()[row - first] as usize;
            add(row - first, label, &mut sums[shard * length..(shard + 1) * length]);
        }
    }
    comm.allreduce_f64(&mut sums);
    let of = |place: usize| {
        let shard_sum = &mut |shard: usize| Some(sums[shard * length + place]);
        kernels::tree(shards, shard_sum, &|a, b| a + b).unwrap_or(0.0)
    };
    (0..length).map(of).collect()
}

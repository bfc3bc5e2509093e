//! What a rank trains and evaluates on: its shards of every split, and what all ranks must know of the whole.

use std::hash::Hasher;

use twox_hash::XxHash3_64;

use crate::comm::{Communicator, all_agree, on_root};
use crate::config::RunConfig;
use crate::data::{Augment, Dataset, Normalize, Normalizer, Part, RowShape, Shuffle, Split, Values};
use crate::doctor;
use crate::error::{Error, Result};
use crate::kernels::rng::TrainingPass;
use crate::model::Workspace;
use crate::plural::plural;
use crate::position;
use crate::row_count::RowCount;

use super::batch::batch_of;
use super::shard_sums::sum_of_shards;
use super::{assumed, removed};

/// A rank's rows.
#[derive(Debug)]
pub struct TrainData {
    /// What a row is.
    pub shape: RowShape,
    /// Class names, in label order.
    pub classes: Vec<String>,
    /// Rows to learn from.
    pub train: Part,
    /// Rows to choose by.
    pub val: Option<Part>,
    /// Rows to judge by.
    pub test: Option<Part>,
    /// How rows are prepared.
    pub normalizer: Normalizer,
    /// How training rows are changed.
    pub augment: Augment,
    /// In which order they are visited.
    pub shuffle: Shuffle,
    /// A digest of all of this, and of every rank's rows.
    pub fingerprint: String,
    /// What the user should know of the data.
    pub notes: Vec<String>,
}

impl TrainData {
    /// Collective: each rank reads its own rows; what is wrong anywhere, all report.
    pub fn load(config: &RunConfig, comm: &dyn Communicator) -> Result<TrainData> {
        let dataset = all_agree(comm, Dataset::open(&config.data))?;
        all_agree(comm, enough_rows(&dataset, comm.size()))?;
        let read = |split| match dataset.rows(split) {
            0 => Ok(None),
            _ if split == Split::Train && config.bootstrap => {
                let ranks = (comm.rank(), comm.size());
                Part::draw(&dataset, split, config.shards, ranks, config.seed).map(Some)
            }
            _ => Part::read(&dataset, split, config.shards, comm.rank(), comm.size()).map(Some),
        };
        let parts = Split::ALL.map(read).into_iter().collect::<Result<Vec<_>>>();
        let [train, val, test] = all_agree(comm, parts)?.try_into().unwrap_or_default();
        same_data(&dataset, comm)?;
        // `Dataset::open` refuses a file without training rows.
        let train = all_agree(comm, train.ok_or_else(|| too_few(&dataset, "no training rows")))?;
        let classes = all_agree(comm, dataset.class_names())?;
        let parts = [(Split::Train, Some(&train)), (Split::Val, val.as_ref()), (Split::Test, test.as_ref())];
        let in_order = |(split, part): (Split, Option<&Part>)| {
            part.map_or(Ok(()), |part| check_labels(&dataset, split, part, classes.len()))
        };
        all_agree(comm, parts.into_iter().try_for_each(in_order))?;
        let mut histogram = vec![0u64; classes.len()];
        train.labels().iter().for_each(|&label| histogram[label as usize] += 1);
        comm.allreduce_u64(&mut histogram);
        all_agree(comm, assumed::several_classes(&dataset, &classes, &histogram))?;
        let normalizer = normalizer(config, dataset.shape, &train, comm);
        let looks = removed::applies(dataset.shape, normalizer.mode(), classes.len(), train.shards.count());
        let sample = looks.then_some(&train);
        let mut notes = assumed::notes(&dataset, &classes, &histogram, sample, config.batch.is_none(), comm);
        let shuffle = shuffle(config, &dataset, &mut notes, comm)?;
        let shape = dataset.shape;
        let augment = config.augment.unwrap_or_else(|| Augment::of(shape));
        let fingerprint = fingerprint(&[Some(&train), val.as_ref(), test.as_ref()], shape, &classes, comm);
        Ok(TrainData { shape, classes, train, val, test, normalizer, augment, shuffle, fingerprint, notes })
    }

    /// Whether rows are vectors, not images.
    pub fn is_flat(&self) -> bool {
        matches!(self.shape, RowShape::Features { .. })
    }

    /// Changes the training rows that stand in the workspace.
    pub fn augment(&self, training: TrainingPass, ws: &mut Workspace) {
        let rows = std::mem::take(&mut ws.rows);
        for (&row, values) in rows.iter().zip(ws.input_mut().chunks_exact_mut(self.shape.len())) {
            position::tick();
            self.augment.apply(row, training, self.shape.hwc(), values);
        }
        ws.rows = rows;
    }

    /// Rows of the global batch.
    pub fn batch(&self, config: &RunConfig) -> Result<usize> {
        batch_of(config, self.train.shards.rows())
    }

    /// Rows of a step of `batch` rows that the one of `ranks` ranks has that has the most.
    pub fn most_rows(&self, batch: usize, ranks: usize) -> usize {
        let shards = &self.train.shards;
        let of_shard = batch.div_ceil(shards.count());
        let rows = |rank: usize| {
            let owned = shards.owned(rank, ranks);
            (owned.len() * of_shard).min(shards.rows_of(owned).len())
        };
        (0..ranks).map(rows).max().unwrap_or(0).min(batch)
    }

    /// Rows of a split for evaluation that the one of `ranks` ranks has that has the most.
    pub fn most_evaluated(&self, ranks: usize) -> usize {
        let rows = |part: &Part| {
            let of_rank = |rank: usize| part.shards.rows_of(part.shards.owned(rank, ranks)).len();
            (0..ranks).map(of_rank).max().unwrap_or(0)
        };
        [&self.val, &self.test].into_iter().flatten().map(rows).max().unwrap_or(0)
    }
}

/// Collective: whether all ranks opened the same dataset, as far as a few of its rows tell; where each machine has a copy of its own, one
/// may be another's.
fn same_data(dataset: &Dataset, comm: &dyn Communicator) -> Result<()> {
    if comm.size() == 1 {
        return Ok(());
    }
    let outline = all_agree(comm, dataset.outline())?;
    let place = format!("data {}", dataset.path.display());
    let fix = "copy the file to every machine again, or name one that all of them see";
    doctor::same(comm, &place, &outline, "the same dataset on every rank", fix)
}

/// Collective: a digest of every row of every split, shard by shard, whoever has them; XXH3, 64 bits, in hexadecimal.
fn fingerprint(parts: &[Option<&Part>], shape: RowShape, classes: &[String], comm: &dyn Communicator) -> String {
    let mut hash = XxHash3_64::default();
    // As it has always been written: checkpoints hold the digest.
    let shape = match shape {
        RowShape::Features { d } => format!("{d} features"),
        image => image.to_string(),
    };
    hash.write(format!("{shape} {classes:?}").as_bytes());
    for part in parts {
        let own =
            part.map_or(Vec::new(), |part| part.owned.clone().flat_map(|s| part.digest(s).to_le_bytes()).collect());
        hash.write_usize(part.map_or(0, |part| part.shards.rows()));
        comm.allgather(&own).iter().for_each(|digests| hash.write(digests));
    }
    format!("{:016x}", hash.finish())
}

fn check_labels(dataset: &Dataset, split: Split, part: &Part, classes: usize) -> Result<()> {
    dataset.check_labels(split, part.shards.rows_of(part.owned.clone()).start, part.labels(), classes)
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

fn too_few(dataset: &Dataset, found: impl Into<String>) -> Error {
    Error::invalid(
        dataset.path.display().to_string(),
        found,
        "at least one training row a rank",
        "start fewer ranks, or give more rows",
    )
}

fn enough_rows(dataset: &Dataset, ranks: usize) -> Result<()> {
    let rows = dataset.rows(Split::Train);
    if rows < ranks {
        Err(too_few(dataset, format!("{} for {ranks} ranks", plural(rows, "training row"))))
    } else {
        Ok(())
    }
}

/// Collective: the order of training rows, with the root's file for the block where none is given; a window that is less than it is noted.
fn shuffle(config: &RunConfig, dataset: &Dataset, notes: &mut Vec<String>, comm: &dyn Communicator) -> Result<Shuffle> {
    let RowCount::Rows(window) = config.shuffle_window else { return Ok(Shuffle::whole(config.seed)) };
    let block = match config.shuffle_block {
        Some(block) => block,
        // Each machine may have a copy of its own, in other chunks.
        None => on_root(comm, || dataset.block().map(|block| block.to_string()))?.parse().unwrap_or(1),
    };
    if window < block {
        let rows = plural(block, "row");
        notes.push(format!("--shuffle-window {window} is less than a block: {rows} are shuffled together"));
    }
    Ok(Shuffle { seed: config.seed, window: config.shuffle_window, block })
}

/// Collective where the mode needs sums over all training rows.
fn normalizer(config: &RunConfig, shape: RowShape, train: &Part, comm: &dyn Communicator) -> Normalizer {
    let mode = config.normalize.unwrap_or_else(|| Normalize::of(shape));
    let channels = shape.hwc()[2];
    match (mode, train.values()) {
        (Normalize::Dataset, Values::Images(pixels)) => {
            let mut sums = vec![0u64; 2 * channels];
            for row in pixels.chunks_exact(shape.len()) {
                position::tick();
                for pixel in row.chunks_exact(channels) {
                    for (channel, &value) in pixel.iter().enumerate() {
                        sums[channel] += u64::from(value);
                        sums[channels + channel] += u64::from(value) * u64::from(value);
                    }
                }
            }
            comm.allreduce_u64(&mut sums);
            let pixels = (train.shards.rows() * shape.len() / channels) as u64;
            Normalizer::from_integer_sums(pixels, &sums[..channels], &sums[channels..])
        }
        (Normalize::Dataset, Values::Features(features)) => {
            let rows = train.shards.rows() as f64;
            let mean = feature_sums(train, features, channels, comm, |_, value| value);
            let mean: Vec<f64> = mean.iter().map(|sum| sum / rows).collect();
            let squares = feature_sums(train, features, channels, comm, |column, value| (value - mean[column]).powi(2));
            let variance: Vec<f64> = squares.iter().map(|sum| sum / rows).collect();
            Normalizer::from_moments(&mean, &variance)
        }
        (mode, _) => Normalizer::new(mode, channels),
    }
}

/// Sums of `term(column, value)` over all training rows.
fn feature_sums(
    train: &Part,
    features: &[f32],
    columns: usize,
    comm: &dyn Communicator,
    term: impl Fn(usize, f64) -> f64,
) -> Vec<f64> {
    sum_of_shards(train, comm, (usize::MAX, columns), |row, _, sums| {
        position::tick();
        let values = &features[row * columns..(row + 1) * columns];
        for (column, (sum, &value)) in sums.iter_mut().zip(values).enumerate() {
            *sum += term(column, f64::from(value));
        }
    })
}

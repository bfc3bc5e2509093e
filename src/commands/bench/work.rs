//! What is timed: training steps and inference, by the code that trains and predicts, on rows of random values.

use std::hint::black_box;

use crate::comm::Solo;
use crate::data::{Augment, EpochOrder, Normalize, Normalizer, Part, RowBlock, RowShape, Shuffle, Values};
use crate::error::Result;
use crate::kernels::rng::{Purpose, Stream};
use crate::metrics::Seconds;
use crate::model::{Init, Model, Params, Predictor, Workspace};
use crate::optim::{self, Optimizer, OptimizerKind};
use crate::train::{ExchangeConfig, Lockstep, StepContext, StepFlags, TrainData};

/// Shards that rows are cut into, as a run on up to eight ranks has them.
pub const SHARDS: usize = 8;

const SEED: u64 = 1;

/// Small, so that no number of steps on random labels makes a weight overflow.
const LEARNING_RATE: f32 = 1e-5;

/// A dataset in memory: random pictures (or features), prepared and mirrored as `glasses train` would by itself.
pub fn random_data(shape: RowShape, classes: usize, rows: usize) -> TrainData {
    let row = |row: usize| Stream::new(SEED, Purpose::Synth, 0, 0, row);
    let (len, [_, _, channels]) = (shape.len(), shape.hwc());
    let (values, normalizer) = match shape {
        RowShape::Image { .. } => {
            let mut pixels = vec![0u8; rows * len];
            for (index, pixels) in pixels.chunks_exact_mut(len).enumerate() {
                for (block, pixels) in pixels.chunks_mut(16).enumerate() {
                    let bytes = row(index).block(block as u32).map(u32::to_le_bytes);
                    pixels.copy_from_slice(&bytes.as_flattened()[..pixels.len()]);
                }
            }
            (Values::Images(pixels), Normalizer::new(Normalize::PerImage, channels))
        }
        RowShape::Features { .. } => {
            let mut features = vec![0.0; rows * len];
            for (index, features) in features.chunks_exact_mut(len).enumerate() {
                row(index).fill_normal(features, 1.0);
            }
            (Values::Features(features), Normalizer::from_moments(&vec![0.0; channels], &vec![1.0; channels]))
        }
    };
    let labels = (0..rows).map(|row| (row % classes) as u32).collect();
    TrainData {
        shape,
        classes: (0..classes).map(|class| class.to_string()).collect(),
        train: Part::whole(RowBlock { range: 0..rows, values, labels }, len, SHARDS),
        val: None,
        test: None,
        normalizer,
        fingerprint: String::new(),
        augment: Augment::of(shape),
        shuffle: Shuffle::whole(SEED),
        notes: Vec::new(),
    }
}

/// A training run on one rank, step by step.
pub struct TrainingSteps<'a> {
    model: &'a Model,
    data: &'a TrainData,
    batch: usize,
    params: Params,
    optimizer: Optimizer,
    /// The rows' way through the network, and the update.
    pub lockstep: Lockstep<'a>,
    order: EpochOrder,
    epoch: usize,
    next: usize,
    /// Time a phase.
    pub seconds: Seconds,
}

impl<'a> TrainingSteps<'a> {
    /// A run with `batch` rows a step.
    ///
    /// # Errors
    /// When the system would not give the memory.
    pub fn new(
        model: &'a Model,
        data: &'a TrainData,
        batch: usize,
        kind: OptimizerKind,
        solo: &'a Solo,
    ) -> Result<TrainingSteps<'a>> {
        let settings = optim::Settings { kind, momentum: 0.9, weight_decay: 0.0, clip_value: None, clip_norm: None };
        let (lockstep, mut params, optimizer) =
            Lockstep::new(model, data, batch, ExchangeConfig::default(), settings, solo)?;
        params.draw(Init::He, SEED);
        Ok(TrainingSteps {
            lockstep,
            params,
            optimizer,
            order: EpochOrder::new(&data.train.shards, data.train.owned.clone(), &data.shuffle, 0),
            epoch: 0,
            next: 0,
            seconds: Seconds::default(),
            model,
            data,
            batch,
        })
    }

    /// The next step. At the end of an epoch, rows that fill no batch are left out.
    pub fn run(&mut self) {
        let train = &self.data.train;
        if self.next == train.shards.rows() / self.batch {
            (self.next, self.epoch) = (0, self.epoch + 1);
            self.order = EpochOrder::new(&train.shards, train.owned.clone(), &self.data.shuffle, self.epoch);
        }
        self.lockstep.choose(&self.order, &train.shards, self.next, self.batch);
        self.next += 1;
        let count = self.batch as u64;
        let flags = StepFlags::default();
        let context = StepContext { seed: SEED, epoch: self.epoch, count, lr: LEARNING_RATE, flags };
        let (model, params, optimizer, data) = (self.model, &mut self.params, &mut self.optimizer, self.data);
        let result = self.lockstep.step(model, params, optimizer, data, context, &mut self.seconds);
        debug_assert!(result.updated && result.finite, "the weights stay finite at such a rate");
    }
}

fn initial(model: &Model) -> Params {
    Params::initial(model.table.clone(), Init::He, SEED)
}

/// Inference over a stream of decoded pictures.
pub struct Inference<'a> {
    model: &'a Model,
    /// The network as it is used, where that is another.
    folded: Option<Box<Model>>,
    data: &'a TrainData,
    params: Params,
    workspace: Workspace,
    next: usize,
}

impl<'a> Inference<'a> {
    /// `rows` pictures at once.
    pub fn new(model: &'a Model, data: &'a TrainData, rows: usize) -> Inference<'a> {
        let params = initial(model);
        let (folded, params) = match model.folded(&params) {
            Ok(Some((folded, params))) => (Some(Box::new(folded)), params),
            _ => (None, params),
        };
        let workspace = Workspace::for_inference(folded.as_deref().unwrap_or(model), rows);
        Inference { model, folded, data, params, workspace, next: 0 }
    }

    /// The next pictures.
    pub fn run(&mut self) {
        let Inference { model, folded, data, params, workspace, next } = self;
        let model = folded.as_deref().unwrap_or(model);
        let (len, count) = (data.shape.len(), data.train.labels().len());
        let rows = workspace.capacity;
        let mut predictor = Predictor { model, params, workspace };
        black_box(predictor.probabilities(0..rows, |_, input| {
            for input in input.chunks_exact_mut(len) {
                let row = *next % count * len..(*next % count + 1) * len;
                match data.train.values() {
                    Values::Images(pixels) => data.normalizer.pixels(&pixels[row], input),
                    Values::Features(features) => data.normalizer.features(&features[row], input),
                }
                *next += 1;
            }
        }));
    }
}

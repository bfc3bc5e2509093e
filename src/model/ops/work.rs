//! What computes an operation: immutable descriptions. They hold shapes and ranges, never memory.

use std::cell::Cell;
use std::fmt::Debug;
use std::ops::Range;

use super::normalize::Normalize;
use crate::kernels::rng::{Purpose, Stream, TrainingPass};
use crate::kernels::{Buffer, DenseShape, Leaf};
use crate::trace::Mark;

/// How an operation is computed.
#[derive(Debug)]
pub enum Work {
    /// Not at all: its output is its input in another shape.
    View,
    /// One input is read, the output written.
    Map(Box<dyn Map>),
    /// The output has the shape of every input, and may take the place of one.
    Elementwise(Box<dyn Elementwise>),
    /// The inputs stand side by side in every pixel of the output: channels of each.
    Concat(Vec<usize>),
    /// The input of a norm is summed up, group by group; the output is the input.
    Statistics(Normalize),
    /// A norm's output from its input: in training by the sums of *statistics*, else by the running ones.
    Normalize(Normalize),
    /// The first input times the second, a vector of a factor for each of so many channels.
    Scale(usize),
}

impl Work {
    /// Whether the output's gradient becomes the inputs' in place.
    pub fn is_in_place(&self) -> bool {
        matches!(self, Work::Elementwise(_) | Work::Statistics(_) | Work::Normalize(_))
    }
}

/// The rows of a micro-batch, where randomness needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Pass<'a> {
    /// Rows of the micro-batch.
    pub batch: usize,
    /// For training: each row's number in the dataset, the run's seed and the epoch. `None` switches dropout off.
    pub training: Option<Training<'a>>,
}

/// The address of a training pass's random numbers.
#[derive(Clone, Copy, Debug)]
pub struct Training<'a> {
    /// Each row's number in the training split.
    pub rows: &'a [u32],
    /// Where in the run.
    pub at: TrainingPass,
}

impl<'a> Pass<'a> {
    /// The pass of some of its rows alone.
    pub fn part(&self, rows: Range<usize>) -> Pass<'a> {
        let batch = rows.len();
        Pass { batch, training: self.training.map(|training| Training { rows: &training.rows[rows], ..training }) }
    }
}

impl Training<'_> {
    /// The stream of operation `number` for the micro-batch's `index`th row.
    pub fn stream(&self, number: usize, index: usize) -> Stream {
        self.at.stream(Purpose::Dropout, number, self.rows[index] as usize)
    }
}

/// What a forward pass reads and writes.
pub struct Forward<'a> {
    /// Rows.
    pub batch: usize,
    /// All parameters.
    pub params: &'a [f32],
    /// This operation's weights as it packed them.
    pub packed: &'a [f32],
    /// The rows of the input.
    pub input: &'a [f32],
    /// The rows of the output.
    pub output: &'a mut [f32],
    /// What the backward pass needs besides the output, [`Map::kept`] words a row; empty where there is no backward pass.
    pub kept: &'a mut [u16],
    /// At least [`Map::scratch`] long.
    pub scratch: &'a mut [f32],
}

/// What a backward pass reads and writes.
pub struct Backward<'a> {
    /// Rows, and how the sums over them are ordered.
    pub batch: usize,
    /// The shards that the rows belong to.
    pub leaves: &'a [Leaf],
    /// All parameters.
    pub params: &'a [f32],
    /// This operation's weights as it packed them.
    pub packed: &'a [f32],
    /// The rows of the input.
    pub input: &'a [f32],
    /// The rows of the output, as the forward pass left them.
    pub output: &'a [f32],
    /// What the forward pass kept.
    pub kept: &'a [u16],
    /// The gradient of the output.
    pub d_output: &'a [f32],
    /// Where the gradient of the input goes (overwritten), if anything below has weights.
    pub d_input: Option<&'a mut [f32]>,
    /// The gradients of all parameters: this operation finds its own by its ranges. `None` where only the input's gradient
    /// is wanted, so that it can be timed by itself.
    pub d_params: Option<&'a mut [f32]>,
    /// Whether `d_params` is added to or overwritten.
    pub accumulate: bool,
    /// At least [`Map::scratch`] long.
    pub scratch: &'a mut [f32],
    /// Where an operation that forms both says when it had the weights' gradients and began with the input's, if somebody
    /// asks.
    pub between: Between<'a>,
}

/// When an operation had formed the gradients of its weights, for who asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Between<'a>(pub Option<&'a Cell<Mark>>);

impl Between<'_> {
    /// The weights' gradients are formed, the input's comes next.
    pub fn mark(self) {
        if let Between(Some(mark)) = self {
            mark.set(Mark::set_now());
        }
    }
}

/// Where weight and bias lie, which are all parameters of an operation: without a bias, nothing right behind the weight.
pub fn weight_and_bias(parameters: &[Range<usize>]) -> (Range<usize>, Range<usize>) {
    let weight = parameters[0].clone();
    let none = weight.end..weight.end;
    (weight, parameters.get(1).cloned().unwrap_or(none))
}

impl Backward<'_> {
    /// The gradients of weight and bias, which lie side by side.
    pub fn own<'s>(
        d_params: &'s mut [f32],
        weight: &Range<usize>,
        bias: &Range<usize>,
    ) -> (&'s mut [f32], &'s mut [f32]) {
        d_params[weight.start..bias.end].split_at_mut(weight.len())
    }
}

/// An operation that reads one tensor and writes another.
pub trait Map: Debug + Send + Sync {
    /// `output` from `input`.
    fn forward(&self, pass: Forward<'_>);

    /// `d_input` and the gradients of the weights from `d_output`.
    fn backward(&self, pass: Backward<'_>);

    /// This operation, if it is a dense layer of the direct kernels.
    fn dense(&self) -> Option<&DenseWork> {
        None
    }

    /// Whether there are weights.
    fn has_weights(&self) -> bool {
        false
    }

    /// Whether the backward pass reads the input.
    fn reads_input(&self) -> bool;

    /// What the backward pass needs of the output.
    fn keeps(&self) -> Keeps {
        Keeps::Nothing
    }

    /// Floats of packed weights; the backward pass takes some only where the input's gradient is wanted.
    fn packed(&self) -> usize {
        0
    }

    /// Puts the weights in the order in which the kernels read them. Done once a pass.
    fn pack(&self, _params: &[f32], _packed: &mut [f32]) {}

    /// Words a row that the backward pass needs besides the output.
    fn kept(&self) -> usize {
        0
    }

    /// Floats of scratch memory for `batch` rows.
    fn scratch(&self, _batch: usize) -> usize {
        0
    }
}

/// A dense layer of the direct kernels: others than the network may do its work.
#[derive(Clone, Debug)]
pub struct DenseWork {
    /// The geometry.
    pub shape: DenseShape,
    /// Weights `[inputs, outputs]` in the block of parameters.
    pub weight: Range<usize>,
    /// Biases `[outputs]`, right behind them.
    pub bias: Range<usize>,
}

/// What a backward pass needs to know of a tensor's values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keeps {
    /// Nothing.
    #[default]
    Nothing,
    /// Where they are positive: dropout may still overwrite them, because it zeroes the gradient wherever it hides a sign.
    Sign,
    /// All.
    Value,
}

/// The values that an element-wise operation works on.
pub struct Elements<'a> {
    /// The rows' randomness.
    pub pass: Pass<'a>,
    /// The input that stands in `output` already, if one does.
    pub held: Option<usize>,
    /// The inputs; the one that is held must not be asked for.
    pub inputs: Inputs<'a>,
    /// The rows of the output.
    pub output: &'a mut [f32],
}

impl Elements<'_> {
    /// The only input, in the output's place from now on.
    pub fn in_place(&mut self) -> &mut [f32] {
        if self.held.is_none() {
            self.output.copy_from_slice(self.inputs.get(0));
        }
        self.output
    }
}

/// Some rows of several tensors.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// Every tensor.
    pub(in crate::model) values: &'a [Buffer],
    /// The tensors, and where these rows lie in each.
    pub(in crate::model) tensors: &'a [usize],
    pub(in crate::model) place: &'a dyn Fn(usize) -> Range<usize>,
}

impl<'a> Inputs<'a> {
    /// Of an operation whose only input stands in its output already.
    pub fn none() -> Inputs<'static> {
        Inputs { values: &[], tensors: &[], place: &|_| 0..0 }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.tensors.len()
    }

    /// The rows of input `index`.
    pub fn get(&self, index: usize) -> &'a [f32] {
        let tensor = self.tensors[index];
        &self.values[tensor][(self.place)(tensor)]
    }
}

/// An operation value by value. The gradient of its output becomes that of each of its inputs.
pub trait Elementwise: Debug + Send + Sync {
    /// The output of the inputs.
    fn forward(&self, elements: Elements<'_>);

    /// The gradient of the output becomes that of the inputs. `output` is what the output holds now.
    fn backward(&self, pass: Pass<'_>, output: &[f32], gradient: &mut [f32]);

    /// The most that the backward passes of those in front may keep of a value that this operation overwrites.
    fn overwrites(&self) -> Keeps {
        Keeps::Nothing
    }

    /// What its backward pass needs of its output; `before` is what is kept of the input.
    fn keeps(&self, before: Keeps) -> Keeps;

    /// The inputs whose place the output may take.
    fn replaceable(&self) -> usize {
        1
    }
}

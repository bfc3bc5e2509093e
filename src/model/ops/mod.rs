//! The operations of a network, one a file: its text, its shapes, its parameters, and the kernels that compute it.

mod activation;
mod adaptive_avg_pool;
mod add;
mod avg_pool;
mod batch_norm;
mod concat;
mod conv;
mod conv_options;
mod dense;
mod depthwise;
mod drop_path;
mod dropout;
mod flatten;
mod gated;
mod gelu;
mod gemm;
mod global_avg_pool;
mod global_max_pool;
mod group_norm;
mod hard_sigmoid;
mod hard_swish;
mod layer_norm;
mod leaky_relu;
mod max_pool;
mod norm;
mod normalize;
mod operation;
mod patch_conv;
mod relu;
mod relu6;
mod scale;
mod sigmoid;
mod silu;
mod softmax;
mod tanh;
#[cfg(test)]
mod tests;
mod words;
pub mod work;

pub use adaptive_avg_pool::AdaptiveAvgPool;
pub use add::Add;
pub use avg_pool::AvgPool;
pub use batch_norm::BatchNorm;
pub use concat::Concat;
pub use conv::{Conv, ConvWork};
pub use conv_options::ConvOptions;
pub use dense::Dense;
pub use depthwise::{Depthwise, DepthwiseWork};
pub use drop_path::DropPath;
pub use dropout::Dropout;
pub use flatten::Flatten;
pub use gelu::Gelu;
pub use gemm::{GemmConv, GemmDense};
pub use global_avg_pool::GlobalAvgPool;
pub use global_max_pool::GlobalMaxPool;
pub use group_norm::GroupNorm;
pub use hard_sigmoid::HardSigmoid;
pub use hard_swish::HardSwish;
pub use layer_norm::LayerNorm;
pub use leaky_relu::LeakyRelu;
pub use max_pool::MaxPool;
pub use normalize::Normalize;
pub use operation::{Fused, Layout, Operation, Parameter, Site};
pub use patch_conv::PatchConv;
pub use relu::Relu;
pub use relu6::Relu6;
pub use scale::Scale;
pub use sigmoid::Sigmoid;
pub use silu::Silu;
pub use softmax::Softmax;
pub use tanh::Tanh;
pub use work::DenseWork;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::shape::Shape;
use crate::error::nearest;
use crate::kernels::{Rectifier, Window};
use words::Words;
use work::Work;

/// The one table: each operation's word and type.
macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// One operation, as it is written in a network's list of layers.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub enum Op {
            $($(#[$doc])* $name($name),)*
        }

        /// Every word, in the order of the documentation.
        const WORDS: &[&str] = &[$($word),*];

        impl FromStr for Op {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                let words = Words::new(text);
                match words.name {
                    $($word => $name::parse(&words).map(Op::$name),)*
                    _ => Err(unknown(&words)),
                }
            }
        }

        impl fmt::Display for Op {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $(Op::$name(op) => op.fmt(f),)* }
            }
        }

        impl Op {
            /// Its word.
            pub fn word(&self) -> &'static str {
                match self { $(Op::$name(_) => $word,)* }
            }

            /// Its name as layer `number`: `conv0`, `relu6_2`, so that no two layers have one name.
            pub fn numbered(&self, number: usize) -> String {
                let word = self.word();
                let parted = if word.ends_with(|c: char| c.is_ascii_digit()) { "_" } else { "" };
                format!("{word}{parted}{number}")
            }

            /// As [`Operation::output`].
            ///
            /// # Errors
            /// As there.
            pub fn output(&self, inputs: &[&Shape], classes: usize) -> Result<Shape, String> {
                match self { $(Op::$name(op) => op.output(inputs, classes),)* }
            }

            /// As [`Operation::parameters`].
            pub fn parameters(&self, input: &Shape, output: &Shape) -> Vec<Parameter> {
                match self { $(Op::$name(op) => op.parameters(input, output),)* }
            }

            /// As [`Operation::flops`].
            pub fn flops(&self, input: &Shape, output: &Shape) -> u64 {
                match self { $(Op::$name(op) => op.flops(input, output),)* }
            }

            /// As [`Operation::work`].
            ///
            /// # Errors
            /// As there.
            pub fn work(&self, site: &Site<'_>) -> Result<Work, String> {
                match self { $(Op::$name(op) => op.work(site),)* }
            }

            /// As [`Operation::window_mut`].
            pub fn window_mut(&mut self) -> Option<&mut Window> {
                match self { $(Op::$name(op) => op.window_mut(),)* }
            }

            /// As [`Operation::decide`].
            pub fn decide(&mut self, before_norm: bool) {
                match self { $(Op::$name(op) => op.decide(before_norm),)* }
            }

            /// As [`Operation::is_norm`].
            pub fn is_norm(&self) -> bool {
                match self { $(Op::$name(op) => op.is_norm(),)* }
            }

            /// The window that it slides over an image.
            pub fn window(&self) -> Option<Window> {
                self.clone().window_mut().copied()
            }

            /// As [`Operation::rectifier`].
            pub fn rectifier(&self) -> Option<Rectifier> {
                match self { $(Op::$name(op) => op.rectifier(),)* }
            }
        }
    };
}

operations! {
    /// `conv 3x3x16 [stride 2] [pad same|N] [groups G] [dilation D] [bias yes|no]`: window height x width x output channels.
    Conv = "conv",
    /// `depthwise 3x3 [stride 2] [pad same|N] [x M] [dilation D] [bias yes|no]`: every channel by itself, to `M` channels.
    Depthwise = "depthwise",
    /// `maxpool 2 [stride 2] [pad same|N]`; the stride is the window unless given.
    MaxPool = "maxpool",
    /// `avgpool 2 [stride 2] [pad same|N]`
    AvgPool = "avgpool",
    /// `adaptive_avgpool 7`, `adaptive_avgpool 7x5`: windows that share out the image, for an output of that size.
    AdaptiveAvgPool = "adaptive_avgpool",
    /// `global_avgpool`: the mean of each channel.
    GlobalAvgPool = "global_avgpool",
    /// `global_maxpool`: the largest value of each channel.
    GlobalMaxPool = "global_maxpool",
    /// `flatten`: an image becomes a vector, in the order height, width, channel.
    Flatten = "flatten",
    /// `dense 128`; `dense classes` has as many outputs as the data has classes.
    Dense = "dense",
    /// `group_norm 8 [eps 1e-5]`: of groups of neighbouring channels.
    GroupNorm = "group_norm",
    /// `layer_norm [eps 1e-5]`: of every pixel's channels, or of a vector.
    LayerNorm = "layer_norm",
    /// `relu`
    Relu = "relu",
    /// `relu6`: no less than 0, no more than 6.
    Relu6 = "relu6",
    /// `leaky_relu [slope]`
    LeakyRelu = "leaky_relu",
    /// `hard_swish`: `v · min(max(v + 3, 0), 6) / 6`
    HardSwish = "hard_swish",
    /// `hard_sigmoid`: `min(max(v + 3, 0), 6) / 6`
    HardSigmoid = "hard_sigmoid",
    /// `silu`: `v / (1 + exp(−v))`
    Silu = "silu",
    /// `gelu [tanh]`: `v · Φ(v)`, or its approximation
    Gelu = "gelu",
    /// `sigmoid`
    Sigmoid = "sigmoid",
    /// `tanh`
    Tanh = "tanh",
    /// `batch_norm [rows N] [eps E] [momentum M] [scale no]`
    BatchNorm = "batch_norm",
    /// `dropout 0.1`: the probability of a zero.
    Dropout = "dropout",
    /// `drop_path 0.1`: the probability that a whole row becomes zero.
    DropPath = "drop_path",
    /// `softmax`: may stand last, for readers; it is part of the loss.
    Softmax = "softmax",
    /// The sum of branches: how a residual block ends, and `join = "add"`.
    Add = "add",
    /// The channels of all branches, one after another: `join = "concat"`.
    Concat = "concat",
    /// The input times one factor a channel: how a block `{ scale = […] }` ends.
    Scale = "scale",
}

impl TryFrom<String> for Op {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Op> for String {
    fn from(op: Op) -> String {
        op.to_string()
    }
}

/// Words of layers that a list may hold: joins are written as blocks.
fn known() -> impl Iterator<Item = &'static str> {
    WORDS.iter().copied().filter(|word| !["add", "concat", "scale"].contains(word))
}

fn unknown(words: &Words<'_>) -> String {
    format!(
        "unknown layer '{}'{}; known: {}",
        words.text,
        nearest(words.name, known()).map(|word| format!(" (did you mean '{word}'?)")).unwrap_or_default(),
        known().collect::<Vec<_>>().join(", ")
    )
}

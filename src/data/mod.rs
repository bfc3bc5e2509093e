//! Datasets: rows of images or features with labels, in HDF5 files.

pub mod augment;
pub mod class_names;
pub mod coarse;
mod contents;
pub mod doubtful;
pub mod foreign;
pub mod ingest;
pub mod normalize;
pub mod open;
mod outline;
pub mod part;
pub mod picture;
pub mod reader;
mod refusal;
pub mod remarks;
pub mod schema;
pub mod shards;
mod shuffle;
pub mod split;
pub mod synth;
pub mod texts;
pub mod writer;

pub use augment::Augment;
pub use normalize::{Normalize, Normalizer};
pub use part::Part;
pub use reader::{Dataset, RowBlock, Values};
pub use shards::{EpochOrder, Shards};
pub use shuffle::Shuffle;
pub use writer::{Rows, Writer};

use crate::error::{Error, Result};
use crate::plural::plural;

/// What one row of a dataset is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowShape {
    /// A picture of u8 values, `[h, w, c]`.
    Image {
        /// Height in pixels.
        h: usize,
        /// Width in pixels.
        w: usize,
        /// Channels: 1 grey, 3 RGB, or any other count.
        c: usize,
    },
    /// A plain vector of `d` f32 values.
    Features {
        /// How many values.
        d: usize,
    },
}

impl RowShape {
    /// Values in a row.
    pub fn len(&self) -> usize {
        match *self {
            RowShape::Image { h, w, c } => h * w * c,
            RowShape::Features { d } => d,
        }
    }

    /// Whether a row holds nothing (no dataset that we accept has such rows).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same as `[h, w, c]`; features are `[1, 1, d]`.
    pub fn hwc(&self) -> [usize; 3] {
        match *self {
            RowShape::Image { h, w, c } => [h, w, c],
            RowShape::Features { d } => [1, 1, d],
        }
    }
}

impl std::fmt::Display for RowShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            RowShape::Image { h, w, c } => write!(f, "images {h}x{w}x{c}"),
            RowShape::Features { d } => f.write_str(&plural(d, "feature")),
        }
    }
}

/// The parts of a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Rows to learn from.
    Train,
    /// Rows to choose a model by, never to learn from.
    Val,
    /// Rows to judge the final model by, never to choose or learn from.
    Test,
}

impl Split {
    /// All of them, in the order of the file.
    pub const ALL: [Split; 3] = [Split::Train, Split::Val, Split::Test];

    /// The split that a name means, in any case: `train`, `Training`, `val`, `valid`, `validation`, `test`, `testing`.
    pub fn called(name: &str) -> Option<Split> {
        match name.to_lowercase().as_str() {
            "train" | "training" => Some(Split::Train),
            "val" | "valid" | "validation" => Some(Split::Val),
            "test" | "testing" => Some(Split::Test),
            _ => None,
        }
    }

    /// The group's name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Val => "val",
            Split::Test => "test",
        }
    }
}

impl std::str::FromStr for Split {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Split::ALL.into_iter().find(|s| s.name() == text).ok_or_else(|| {
            Error::invalid("--split", format!("'{text}'"), "train, val or test", "name one of the three")
        })
    }
}

/// The dataset inside a split's group that holds the rows.
pub fn rows_name(shape: RowShape) -> &'static str {
    match shape {
        RowShape::Image { .. } => "images",
        RowShape::Features { .. } => "features",
    }
}

//! What is asked of a source, and what it is found to hold.

use std::path::PathBuf;

use crate::data::picture::prepare_grey;
use crate::data::{RowShape, Split};

/// What the user said about the source; `None` and empty mean: not said.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The folder or file to read.
    pub source: PathBuf,
    /// A CSV: id or file name in the first column.
    pub labels: Option<PathBuf>,
    /// A column's name, or its number from 1.
    pub label_column: Option<String>,
    /// The column that names the rows: its name, or its number from 1.
    pub id_column: Option<String>,
    /// A picture's file name below the source, `{id}` standing for the id.
    pub pattern: Option<String>,
    /// Names of the classes, in class order.
    pub classes: Option<Vec<String>>,
    /// Height and width.
    pub size: Option<(usize, usize)>,
    /// 1 grey, 3 RGB, 4 RGBA.
    pub channels: Option<usize>,
    /// What sub-folders without a CSV are; found out where it is not said.
    pub folders: Option<Folders>,
    /// Leave bad rows out.
    pub skip_bad: bool,
}

/// What the sub-folders of a folder of pictures are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Folders {
    /// Classes
    Classes,
    /// Splits, by the words train, val and test in their names; the classes are their sub-folders
    Splits,
}

impl Request {
    /// What a picture becomes.
    pub fn picture_shape(&self) -> RowShape {
        let (h, w) = self.size.unwrap_or((DEFAULT_SIDE, DEFAULT_SIDE));
        RowShape::Image { h, w, c: self.channels.unwrap_or(3) }
    }
}

/// Side of pictures when the user does not say.
pub const DEFAULT_SIDE: usize = 80;

/// The values of all rows, or where they are.
#[derive(Debug)]
pub enum Content {
    /// Files that are still to be decoded.
    Pictures(Vec<PathBuf>),
    /// Grey images in memory.
    Idx(Images),
    /// Feature values, row after row.
    Features(Vec<f32>),
}

/// The rows of a source.
#[derive(Debug)]
pub struct Source {
    /// Values, one entry or row a label.
    pub content: Content,
    /// What a row will be in the dataset.
    pub shape: RowShape,
    /// Class numbers.
    pub labels: Vec<usize>,
    /// The split that the source itself gives a row; as many as labels.
    pub given: Vec<Option<Split>>,
    /// Class names, in label order.
    pub classes: Vec<String>,
    /// Rows that are named but cannot be used, with the reason; they are not among the labels.
    pub bad: Vec<String>,
    /// What these may mean, where they nearly mean something.
    pub hint: Option<String>,
    /// Rows and pictures without a label; they are left out.
    pub unlabelled: usize,
    /// A sentence: what this is.
    pub origin: String,
    /// What the user should know about how the source was understood.
    pub notes: Vec<String>,
}

/// Grey images, and what is to become of each.
#[derive(Debug)]
pub struct Images {
    pub(super) pixels: Vec<u8>,
    pub(super) size: (usize, usize),
    pub(super) new_size: (usize, usize),
    pub(super) channels: usize,
}

impl Images {
    /// The row's pixels as they stand in the dataset.
    pub fn row(&self, row: usize) -> Vec<u8> {
        let length = self.size.0 * self.size.1;
        let pixels = &self.pixels[row * length..][..length];
        if self.size == self.new_size && self.channels == 1 {
            return pixels.to_vec();
        }
        prepare_grey(pixels, self.size, self.new_size, self.channels)
    }
}

//! Reads the rows of a dataset file. HDF5 takes one global lock, so one
//! thread a rank reads, in large hyperslabs.

use std::ops::Range;
use std::path::{Path, PathBuf};

use ndarray::s;

use super::class_names::MOST_CLASSES;
use super::coarse::{Coarse, Exact};
use super::contents::Group;
use super::open::{OpenFile, open};
use super::refusal::{FIX, invalid};
use super::schema::{self, Schema};
use super::{RowShape, Split, foreign, rows_name};
use crate::error::{Error, Result};
use crate::plural::plural;
use crate::position;

/// About how many bytes one read asks for.
const READ: usize = 64 << 20;

/// An open dataset file whose outline has been checked.
#[derive(Debug)]
pub struct Dataset {
    /// The file.
    pub path: PathBuf,
    /// What a row is.
    pub shape: RowShape,
    /// Class names, in label order. Where the file names none, the labels themselves, once they are known.
    pub classes: Option<Vec<String>>,
    /// What the file says it was made from.
    pub origin: Option<String>,
    file: OpenFile,
    /// What a user should know of how the file was understood.
    pub notes: Vec<String>,
    splits: Vec<Group>,
}

/// Rows in memory.
#[derive(Debug)]
pub enum Values {
    /// Pixels.
    Images(Vec<u8>),
    /// Features.
    Features(Vec<f32>),
}

/// Some neighbouring rows of a split, in memory.
#[derive(Debug)]
pub struct RowBlock {
    /// Which rows of the split they are.
    pub range: Range<usize>,
    /// Their values, row after row.
    pub values: Values,
    /// Their classes.
    pub labels: Vec<u32>,
}

impl Dataset {
    /// Opens a dataset and checks its groups, types and shapes.
    ///
    /// # Errors
    /// When the file is not such a dataset; says what was found, where, and what was expected.
    pub fn open(path: &Path) -> Result<Dataset> {
        let file = open(path)?;
        let Schema { shape, classes, origin, splits, notes } = schema::read(path, &file)?;
        Ok(Dataset { path: path.to_owned(), shape, classes, origin, notes, file, splits })
    }

    /// Rows in a split; 0 where the file has none.
    pub fn rows(&self, split: Split) -> usize {
        self.splits.iter().find(|group| group.split == split).map_or(0, |group| group.rows)
    }

    /// Training rows that stand together in the file: those of a chunk; where it has none, of about a MiB. At least one.
    ///
    /// # Errors
    /// When HDF5 fails.
    pub fn block(&self) -> Result<usize> {
        let place = self.place(Split::Train, rows_name(self.shape));
        let chunk = self.file.dataset(&place).and_then(|dataset| dataset.dcpl()?.get_chunk());
        let chunk = chunk.map_err(Error::hdf5(format!("look at {place} of"), &self.path, FIX))?;
        let row = self.shape.len() * if matches!(self.shape, RowShape::Image { .. }) { 1 } else { 4 };
        Ok(chunk.map_or((1 << 20) / row, |chunk| chunk[0]).max(1))
    }

    /// The path of a split's dataset in the file.
    pub fn place(&self, split: Split, name: &str) -> String {
        let group = self.splits.iter().find(|group| group.split == split).map_or(split.name(), |group| &group.name);
        format!("/{group}/{name}")
    }

    /// Reads neighbouring rows of a split, once, in large pieces.
    ///
    /// # Errors
    /// When HDF5 fails, a label is negative or beyond the class names, or a feature is NaN or infinite.
    pub fn read(&self, split: Split, range: Range<usize>) -> Result<RowBlock> {
        let place = self.place(split, rows_name(self.shape));
        let read = |e| Error::hdf5(format!("read {place} of"), &self.path, FIX)(e);
        let labels = self.read_labels(split, range.clone())?;
        if range.is_empty() {
            let values = match self.shape {
                RowShape::Image { .. } => Values::Images(Vec::new()),
                RowShape::Features { .. } => Values::Features(Vec::new()),
            };
            return Ok(RowBlock { range, values, labels });
        }
        let dataset = self.file.dataset(&place).map_err(read)?;
        let values = match self.shape {
            RowShape::Image { h, w, c } => {
                let mut pixels = self.memory(&place, range.len())?;
                for part in pieces(range.clone(), h * w * c) {
                    let piece = dataset.read_slice::<u8, _, ndarray::Ix4>(s![part, .., .., ..]).map_err(read)?;
                    pixels.extend_from_slice(&piece.into_raw_vec_and_offset().0);
                }
                Values::Images(pixels)
            }
            RowShape::Features { d } => {
                let mut features = self.memory(&place, range.len())?;
                for part in pieces(range.clone(), 4 * d) {
                    let piece = dataset.read_slice::<f32, _, ndarray::Ix2>(s![part, ..]).map_err(read)?;
                    features.extend_from_slice(&piece.into_raw_vec_and_offset().0);
                }
                self.check_finite(&place, range.start, d, &features)?;
                Values::Features(features)
            }
        };
        Ok(RowBlock { range, values, labels })
    }

    /// Any rows of a split, read piece by piece: at each of the places `range` the one that `row_at` says.
    ///
    /// # Errors
    /// As [`Dataset::read`].
    pub fn pick(&self, split: Split, range: Range<usize>, row_at: impl Fn(usize) -> usize) -> Result<RowBlock> {
        let (len, count, name) = (self.shape.len(), range.len(), rows_name(self.shape));
        let place = self.place(split, name);
        let mut values = match self.shape {
            RowShape::Image { .. } => Values::Images(self.memory(&place, count)?),
            RowShape::Features { .. } => Values::Features(self.memory(&place, count)?),
        };
        match &mut values {
            Values::Images(pixels) => pixels.resize(count * len, 0),
            Values::Features(features) => features.resize(count * len, 0.0),
        }
        let rows: Vec<usize> = range.clone().map(row_at).collect();
        let mut block = RowBlock { range, values, labels: vec![0; count] };
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&place| rows[place]);
        let mut places = &order[..];
        for part in pieces(0..self.rows(split), 4 * len) {
            let (here, rest) = places.split_at(places.partition_point(|&place| rows[place] < part.end));
            places = rest;
            if here.is_empty() {
                continue;
            }
            let part = rows[here[0]]..rows[here[here.len() - 1]] + 1;
            let piece = self.read(split, part.clone())?;
            for &place in here {
                let (from, to) = ((rows[place] - part.start) * len, place * len);
                block.labels[place] = piece.labels[rows[place] - part.start];
                match (&mut block.values, &piece.values) {
                    (Values::Images(all), Values::Images(some)) => {
                        all[to..to + len].copy_from_slice(&some[from..from + len]);
                    }
                    (Values::Features(all), Values::Features(some)) => {
                        all[to..to + len].copy_from_slice(&some[from..from + len]);
                    }
                    _ => unreachable!("a file's rows are all of one kind"),
                }
            }
        }
        Ok(block)
    }

    /// Rows of each class in a split, piece by piece.
    ///
    /// # Errors
    /// As [`Dataset::read`].
    pub fn count_labels(&self, split: Split) -> Result<Vec<u64>> {
        let mut counts = vec![0; self.classes.as_ref().map_or(0, Vec::len)];
        for part in pieces(0..self.rows(split), 8) {
            for label in self.read_labels(split, part)? {
                let label = label as usize;
                counts.resize(counts.len().max(label + 1), 0);
                counts[label] += 1;
            }
        }
        Ok(counts)
    }

    /// Reads what a later [`Dataset::read`] of all rows has HDF5 look at, and keeps nothing: every label, where each chunk of rows
    /// is, and rows themselves where they are packed, else only the first.
    ///
    /// # Errors
    /// As [`Dataset::read`].
    pub fn look(&self, split: Split) -> Result<()> {
        let place = self.place(split, rows_name(self.shape));
        let rows = self.rows(split);
        if rows == 0 {
            return Ok(());
        }
        self.count_labels(split)?;
        let packed = self.file.dataset(&place).and_then(|dataset| foreign::look(&dataset));
        let packed = packed.map_err(Error::hdf5(format!("read {place} of"), &self.path, FIX))?;
        let row = self.shape.len().saturating_mul(if matches!(self.shape, RowShape::Image { .. }) { 1 } else { 4 });
        let mut parts = pieces(0..if packed { rows } else { 1 }, row);
        parts.try_for_each(|part| self.read(split, part).map(drop))
    }

    /// Reads the first rows of features of a split, about so many bytes, and keeps nothing: whether they are numbers to learn from.
    /// Pictures are, whatever their values.
    ///
    /// # Errors
    /// As [`Dataset::read`].
    pub fn look_at_first(&self, split: Split, bytes: usize) -> Result<()> {
        let RowShape::Features { d } = self.shape else { return Ok(()) };
        let rows = self.rows(split).min((bytes / (4 * d)).max(1));
        pieces(0..rows, 4 * d).try_for_each(|part| self.read(split, part).map(drop))
    }

    /// What becomes equal of the doubles in the first training rows, about so many bytes; nothing where the features are no doubles.
    ///
    /// # Errors
    /// As [`Dataset::read`].
    pub fn coarse(&self, bytes: usize) -> Result<Option<String>> {
        let RowShape::Features { d } = self.shape else { return Ok(None) };
        let place = self.place(Split::Train, rows_name(self.shape));
        let failed = |e| Error::hdf5(format!("read {place} of"), &self.path, FIX)(e);
        let dataset = self.file.dataset(&place).map_err(failed)?;
        if dataset.dtype().map_err(failed)?.size() <= size_of::<f32>() {
            return Ok(None);
        }
        let mut coarse = Coarse::new(d);
        for part in pieces(0..self.rows(Split::Train).min((bytes / (8 * d)).max(1)), 8 * d) {
            let values = dataset.read_slice::<f64, _, ndarray::Ix2>(s![part, ..]).map_err(failed)?;
            for (index, &value) in values.iter().enumerate() {
                coarse.add(index % d, value as f32, || Some(Exact::of(value)));
            }
        }
        Ok(coarse.said(|column| format!("{place}: column {}", column + 1)))
    }

    /// As [`Dataset::check_labels`], of all labels of a split.
    ///
    /// # Errors
    /// As [`Dataset::read`], and [`Dataset::check_labels`].
    pub fn check_all_labels(&self, split: Split, classes: usize) -> Result<()> {
        pieces(0..self.rows(split), 8).try_for_each(|part| {
            let first = part.start;
            self.check_labels(split, first, &self.read_labels(split, part)?, classes)
        })
    }

    fn read_labels(&self, split: Split, range: Range<usize>) -> Result<Vec<u32>> {
        let place = self.place(split, "labels");
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let read = || self.file.dataset(&place)?.read_slice::<i64, _, ndarray::Ix1>(s![range.clone()]);
        let labels = read().map_err(Error::hdf5(format!("read {place} of"), &self.path, FIX))?;
        // Without class names the labels say how many classes there are: a limit keeps one wild label from
        // becoming a wild amount of memory.
        let limit = self.classes.as_ref().map_or(MOST_CLASSES, Vec::len) as i64;
        if let Some(row) = labels.iter().position(|label| !(0..limit).contains(label)) {
            let why = match &self.classes {
                Some(names) => {
                    format!(", as the attribute 'classes' has {} names, such as '{}'", names.len(), names[0])
                }
                None => String::new(),
            };
            return Err(invalid(
                &self.path,
                &format!("{place}[{}]", range.start + row),
                format!("label {}", labels[row]),
                format!("a label from 0 to {}{why}", limit - 1),
            ));
        }
        Ok(labels.iter().map(|&label| label as u32).collect())
    }

    /// Room for the values of some rows: a lack of memory is a message here, and a crash anywhere else.
    fn memory<T>(&self, place: &str, rows: usize) -> Result<Vec<T>> {
        let mut values = Vec::new();
        match rows.checked_mul(self.shape.len()).map(|length| values.try_reserve_exact(length)) {
            Some(Ok(())) => Ok(values),
            _ => Err(Error::invalid(
                format!("{} {place}", self.path.display()),
                format!("{} of {} for one rank", plural(rows, "row"), self.shape),
                "rows that fit into its memory",
                "start more ranks, on more machines, or give smaller rows",
            )),
        }
    }

    fn check_finite(&self, place: &str, first: usize, d: usize, features: &[f32]) -> Result<()> {
        match features.iter().position(|v| !v.is_finite()) {
            None => Ok(()),
            Some(i) => Err(invalid(
                &self.path,
                &format!("{place}[{}, {}]", first + i / d, i % d),
                format!("{}", features[i]),
                "finite numbers",
            )),
        }
    }
}

/// `range` in pieces of about [`READ`] bytes.
fn pieces(range: Range<usize>, row_bytes: usize) -> impl Iterator<Item = Range<usize>> {
    let rows = (READ / row_bytes).max(1);
    range.clone().step_by(rows).map(move |first| {
        position::tick();
        first..(first + rows).min(range.end)
    })
}

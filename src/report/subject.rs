//! What a report is about: a run's files, what its model said of the test rows, and pictures to look at.

use super::curves::Curve;
use super::folder::RunFiles;
use crate::data::RowShape;
use crate::kernels;
use crate::metrics::Confusion;
use crate::model::Evidence;

/// A run that is reported.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// Its files.
    pub files: RunFiles,
    /// What its final model said, if that could be asked.
    pub judged: Option<Judged>,
    /// Rows to look at.
    pub examples: Vec<Example>,
    /// What a reader must be told: why something is missing.
    pub notes: Vec<String>,
}

/// What a model said of all rows of a split.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// `test`, or `val` where the data has no test rows.
    pub split: &'static str,
    /// Class names, in label order.
    pub classes: Vec<String>,
    /// The true class of each row.
    pub labels: Vec<u32>,
    /// `[rows, classes]`
    pub probabilities: Vec<f32>,
}

/// A row, as it is shown.
#[derive(Clone, Debug)]
pub struct Example {
    /// Its number in the split.
    pub row: usize,
    /// Its true class.
    pub label: usize,
    /// The class that was said.
    pub said: usize,
    /// Of each class.
    pub probabilities: Vec<f32>,
    /// Its shape and pixels `[h, w, c]`, where it is a picture.
    pub picture: Option<(RowShape, Vec<u8>)>,
    /// What speaks for the class that was said.
    pub evidence: Option<Evidence>,
}

/// Each curve takes all rows: of more classes none is drawn, and no area said.
pub const MOST_WITH_CURVES: usize = 200;
/// Wrong rows that are shown at most.
pub const MOST_WRONG: usize = 12;
/// Right rows that are shown at most, of each class and of all.
const MOST_RIGHT: (usize, usize) = (4, 12);

impl Judged {
    /// Rows.
    pub fn rows(&self) -> usize {
        self.labels.len()
    }

    /// The probabilities of a row.
    pub fn of(&self, row: usize) -> &[f32] {
        let classes = self.classes.len();
        &self.probabilities[row * classes..(row + 1) * classes]
    }

    /// The class that was said of a row; none where its probabilities are not numbers.
    pub fn said(&self, row: usize) -> Option<usize> {
        kernels::argmax(self.of(row))
    }

    /// Which classes were said of which.
    pub fn confusion(&self) -> Confusion {
        let mut found = Confusion::default();
        self.labels.iter().enumerate().for_each(|(row, &label)| found.add(label, self.said(row)));
        found
    }

    /// Share of rows that are right.
    pub fn accuracy(&self) -> f64 {
        let right = (0..self.rows()).filter(|&row| self.said(row) == Some(self.labels[row] as usize)).count();
        right as f64 / self.rows() as f64
    }

    /// Precision and recall of `class` against all others.
    pub fn curve(&self, class: usize) -> Option<Curve> {
        let rows = self.probabilities.chunks_exact(self.classes.len()).zip(&self.labels);
        Curve::new(rows.map(|(row, &label)| (row[class], label as usize == class)))
    }

    /// The classes whose curves tell something: of two only the second, whose curve holds both; of more than a stated limit none.
    pub fn curve_classes(&self) -> std::ops::Range<usize> {
        match self.classes.len() {
            2 => 1..2,
            classes if classes > MOST_WITH_CURVES => 0..0,
            classes => 0..classes,
        }
    }

    /// The rows to look at: those that are wrong with the largest probability of what was said, then right ones of each class,
    /// from the surest to the least sure.
    pub fn to_look_at(&self) -> Vec<usize> {
        let said: Vec<Option<usize>> = (0..self.rows()).map(|row| self.said(row)).collect();
        let sureness = |&row: &usize| said[row].map_or(0.0, |said| self.of(row)[said]);
        let is_right = |&row: &usize| said[row] == Some(self.labels[row] as usize);
        let mut wrong: Vec<usize> = (0..self.rows()).filter(|row| !is_right(row) && said[*row].is_some()).collect();
        wrong.sort_by(|a, b| sureness(b).total_cmp(&sureness(a)));
        wrong.truncate(MOST_WRONG);
        let each = MOST_RIGHT.0.min((MOST_RIGHT.1 / self.classes.len()).max(1));
        for class in 0..self.classes.len().min(MOST_RIGHT.1) {
            let mut right: Vec<usize> =
                (0..self.rows()).filter(|row| is_right(row) && self.labels[*row] as usize == class).collect();
            right.sort_by(|a, b| sureness(b).total_cmp(&sureness(a)));
            let last = right.len().saturating_sub(1);
            let mut places: Vec<usize> = (0..each).map(|i| i * last / (each - 1).max(1)).collect();
            places.dedup();
            wrong.extend(places.into_iter().filter_map(|place| right.get(place)));
        }
        wrong
    }
}

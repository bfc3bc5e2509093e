//! What a report is about: a run's files, what its model predicts of the test rows, and pictures to look at.

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
    /// What its final model predicts, where it could be evaluated.
    pub judged: Option<Judged>,
    /// Rows to look at.
    pub examples: Vec<Example>,
    /// What a reader must be told: why something is missing.
    pub notes: Vec<String>,
}

/// What a model predicts of all rows of a split.
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
    /// The predicted class.
    pub predicted: usize,
    /// Of each class.
    pub probabilities: Vec<f32>,
    /// Its shape and pixels `[h, w, c]`, where it is a picture.
    pub picture: Option<(RowShape, Vec<u8>)>,
    /// What speaks for the predicted class.
    pub evidence: Option<Evidence>,
}

/// Each curve takes all rows: of more classes none is drawn, and no area given.
pub const MOST_WITH_CURVES: usize = 200;
/// Misclassified rows that are shown at most.
pub const MOST_WRONG: usize = 12;
/// Correct rows that are shown at most, of each class and of all.
const MOST_CORRECT: (usize, usize) = (4, 12);

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

    /// The predicted class of a row; none where its probabilities are not numbers.
    pub fn predicted(&self, row: usize) -> Option<usize> {
        kernels::argmax(self.of(row))
    }

    /// Rows by true and predicted class.
    pub fn confusion(&self) -> Confusion {
        let mut found = Confusion::default();
        self.labels.iter().enumerate().for_each(|(row, &label)| found.add(label, self.predicted(row)));
        found
    }

    /// Share of rows that are predicted correctly.
    pub fn accuracy(&self) -> f64 {
        let correct = (0..self.rows()).filter(|&row| self.predicted(row) == Some(self.labels[row] as usize)).count();
        correct as f64 / self.rows() as f64
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

    /// The rows to look at: misclassified ones with the largest probability of the predicted class, then correct ones of each class,
    /// from the surest to the least sure.
    pub fn to_look_at(&self) -> Vec<usize> {
        let predicted: Vec<Option<usize>> = (0..self.rows()).map(|row| self.predicted(row)).collect();
        let sureness = |&row: &usize| predicted[row].map_or(0.0, |predicted| self.of(row)[predicted]);
        let is_correct = |&row: &usize| predicted[row] == Some(self.labels[row] as usize);
        let mut wrong: Vec<usize> =
            (0..self.rows()).filter(|row| !is_correct(row) && predicted[*row].is_some()).collect();
        wrong.sort_by(|a, b| sureness(b).total_cmp(&sureness(a)));
        wrong.truncate(MOST_WRONG);
        let each = MOST_CORRECT.0.min((MOST_CORRECT.1 / self.classes.len()).max(1));
        for class in 0..self.classes.len().min(MOST_CORRECT.1) {
            let mut correct: Vec<usize> =
                (0..self.rows()).filter(|row| is_correct(row) && self.labels[*row] as usize == class).collect();
            correct.sort_by(|a, b| sureness(b).total_cmp(&sureness(a)));
            let last = correct.len().saturating_sub(1);
            let mut places: Vec<usize> = (0..each).map(|i| i * last / (each - 1).max(1)).collect();
            places.dedup();
            wrong.extend(places.into_iter().filter_map(|place| correct.get(place)));
        }
        wrong
    }
}

//! Rows by true and predicted class, and the figures that follow from them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Classes up to which a table of classes × classes is made: for more, only the pairs that occur are listed.
pub const MOST_IN_TABLE: usize = 100;

/// Rows by their true class and their predicted class. Only pairs that occur take memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Confusion {
    /// A row whose logits are not numbers has no predicted class.
    cells: BTreeMap<(u32, Option<u32>), u64>,
}

/// The rows of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClassRows {
    /// Of the class.
    pub rows: u64,
    /// Predicted to be of it.
    pub predicted: u64,
    /// Both: the true positives.
    pub correct: u64,
}

impl ClassRows {
    /// Of the rows predicted to be of this class, the share that are; nothing where none was.
    pub fn precision(&self) -> Option<f64> {
        (self.predicted > 0).then(|| self.correct as f64 / self.predicted as f64)
    }

    /// Of the rows of this class, the share that was predicted to be; nothing where there are none.
    pub fn recall(&self) -> Option<f64> {
        (self.rows > 0).then(|| self.correct as f64 / self.rows as f64)
    }

    /// The harmonic mean of precision and recall, 0 where no row is correct; nothing where the class occurs neither among the true
    /// classes nor among the predicted ones.
    pub fn f1(&self) -> Option<f64> {
        let all = self.rows + self.predicted;
        (all > 0).then(|| 2.0 * self.correct as f64 / all as f64)
    }
}

impl Confusion {
    /// Counts a row.
    pub fn add(&mut self, label: u32, predicted: Option<usize>) {
        *self.cells.entry((label, predicted.map(|predicted| predicted as u32))).or_default() += 1;
    }

    /// The pairs that occur: true class, predicted class, rows.
    pub fn pairs(&self) -> impl Iterator<Item = [u64; 3]> {
        self.cells.iter().filter_map(|(&(label, predicted), &rows)| Some([label.into(), predicted?.into(), rows]))
    }

    /// `[true class][predicted class]`, where there are at most [`MOST_IN_TABLE`] classes.
    pub fn table(&self, classes: usize) -> Option<Vec<Vec<u64>>> {
        let mut table = (classes <= MOST_IN_TABLE).then(|| vec![vec![0; classes]; classes])?;
        self.pairs().for_each(|[label, predicted, rows]| table[label as usize][predicted as usize] = rows);
        Some(table)
    }

    /// The rows of each of so many classes.
    pub fn of_classes(&self, classes: usize) -> Vec<ClassRows> {
        let mut found = vec![ClassRows::default(); classes];
        for (&(label, predicted), &rows) in &self.cells {
            found[label as usize].rows += rows;
            if let Some(predicted) = predicted {
                found[predicted as usize].predicted += rows;
            }
            if predicted == Some(label) {
                found[label as usize].correct += rows;
            }
        }
        found
    }

    /// All its numbers, to be sent.
    pub fn to_numbers(&self) -> Vec<u64> {
        let cell = |(&(label, predicted), &rows): (&(u32, Option<u32>), &u64)| {
            [label.into(), predicted.map_or(0, |predicted| u64::from(predicted) + 1), rows]
        };
        self.cells.iter().flat_map(cell).collect()
    }

    /// Adds what [`Confusion::to_numbers`] made of another one.
    pub fn add_numbers(&mut self, numbers: &[u64]) {
        for cell in numbers.chunks_exact(3) {
            let predicted = cell[1].checked_sub(1).map(|predicted| predicted as u32);
            *self.cells.entry((cell[0] as u32, predicted)).or_default() += cell[2];
        }
    }

    /// Figures that do not flatter where classes differ in size.
    pub fn balance(&self) -> Balance {
        let classes =
            1 + self.cells.keys().map(|&(label, predicted)| label.max(predicted.unwrap_or(0))).max().unwrap_or(0);
        let classes = self.of_classes(classes as usize);
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let rows = classes.iter().map(|class| class.rows);
        let (most, all) = (rows.clone().max().unwrap_or(0), rows.sum::<u64>());
        Balance {
            balanced_accuracy: mean(classes.iter().filter_map(ClassRows::recall).collect()),
            macro_f1: mean(classes.iter().filter_map(ClassRows::f1).collect()),
            majority_class_accuracy: most as f64 / all.max(1) as f64,
        }
    }
}

/// Figures to read an accuracy by, where classes differ in size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Balance {
    /// The mean recall of the classes that have rows.
    pub balanced_accuracy: f64,
    /// The mean F1 of the classes that occur among true or predicted ones, as scikit-learn has it with `zero_division=0`.
    pub macro_f1: f64,
    /// The accuracy of always predicting the class that most of these rows are of.
    pub majority_class_accuracy: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_computed_by_hand() {
        // Six rows of class 0 (four correct, one predicted 1, one without a prediction), two of 1 (one correct, one predicted 3), one of 2,
        // predicted 0; of 3 none.
        let rows = [(0, Some(0)), (0, Some(0)), (1, Some(1)), (0, Some(1)), (0, None), (0, Some(0)), (2, Some(0))];
        let mut all = Confusion::default();
        rows.into_iter().for_each(|(label, predicted)| all.add(label, predicted));
        let mut other = Confusion::default();
        [(1, Some(3)), (0, Some(0))].into_iter().for_each(|(label, predicted)| other.add(label, predicted));
        all.add_numbers(&other.to_numbers());
        assert_eq!(all.table(5).unwrap()[..2], [vec![4, 1, 0, 0, 0], vec![0, 1, 0, 1, 0]]);
        let class = |rows, predicted, correct| ClassRows { rows, predicted, correct };
        assert_eq!(all.of_classes(5), [class(6, 5, 4), class(2, 2, 1), class(1, 0, 0), class(0, 1, 0), class(0, 0, 0)]);
        let found = all.balance();
        // Recalls 4/6, 1/2 and 0; F1 8/11, 2/4, 0 and 0; six of nine rows are of class 0.
        assert!((found.balanced_accuracy - (4.0 / 6.0 + 0.5) / 3.0).abs() <= 1e-15, "{found:?}");
        assert!((found.macro_f1 - (8.0 / 11.0 + 0.5) / 4.0).abs() <= 1e-15, "{found:?}");
        assert!((found.majority_class_accuracy - 6.0 / 9.0).abs() <= 1e-15, "{found:?}");
    }

    #[test]
    fn a_table_is_made_of_few_classes_and_pairs_of_any() {
        let mut found = Confusion::default();
        [(7, Some(60_000)), (60_000, Some(60_000)), (7, Some(60_000))].into_iter().for_each(|(l, s)| found.add(l, s));
        assert_eq!(found.pairs().collect::<Vec<_>>(), [[7, 60_000, 2], [60_000, 60_000, 1]]);
        assert_eq!(found.table(60_001), None);
        assert_eq!(found.balance().balanced_accuracy, 0.5);
    }
}

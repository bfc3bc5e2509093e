//! Which rows are held back when a dataset is made, and the order in which rows are written.

use std::collections::BTreeMap;

use super::Split;
use crate::error::{Error, Result};
use crate::kernels::rng::{Purpose, Stream};

/// Source rows of each split, in the order in which they are to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    /// Rows to learn from.
    pub train: Vec<usize>,
    /// Rows to choose by.
    pub val: Vec<usize>,
    /// Rows to judge by.
    pub test: Vec<usize>,
}

impl Assignment {
    /// The rows of one split.
    pub fn of(&self, split: Split) -> &[usize] {
        match split {
            Split::Train => &self.train,
            Split::Val => &self.val,
            Split::Test => &self.test,
        }
    }
}

/// As [`stratified`] for the rows that no split is given for; the others go where they are told, in their own order.
///
/// # Errors
/// As [`stratified`], and when a class is left without a row to train on.
pub fn assign(
    labels: &[usize],
    classes: &[String],
    given: &[Option<Split>],
    (test, val): (f64, f64),
    seed: u64,
) -> Result<Assignment> {
    let free: Vec<usize> = (0..labels.len()).filter(|&row| given[row].is_none()).collect();
    let free_labels: Vec<usize> = free.iter().map(|&row| labels[row]).collect();
    let mut rows = stratified(&free_labels, classes.len(), test, val, seed)?;
    for split in [&mut rows.train, &mut rows.val, &mut rows.test] {
        split.iter_mut().for_each(|row| *row = free[*row]);
    }
    for (row, split) in given.iter().enumerate() {
        match split {
            None => {}
            Some(Split::Train) => rows.train.push(row),
            Some(Split::Val) => rows.val.push(row),
            Some(Split::Test) => rows.test.push(row),
        }
    }
    if given.contains(&Some(Split::Train)) {
        shuffle(&mut rows.train, seed, 4);
    }
    let mut trained = vec![false; classes.len()];
    rows.train.iter().for_each(|&row| trained[labels[row]] = true);
    if let Some(missing) = trained.iter().position(|&seen| !seen) {
        return Err(Error::invalid(
            "the training split",
            format!("no row of class '{}'", classes[missing]),
            "rows of every class",
            if (0..labels.len())
                .any(|row| labels[row] == missing && given[row].is_none_or(|split| split == Split::Train))
            {
                "give more rows of that class, or smaller --test and --val"
            } else {
                "the source has rows of it for testing or validating only: give it training rows, or leave the class out"
            },
        ));
    }
    Ok(rows)
}

/// Shuffles the rows and holds back a `test` and a `val` fraction of each class (rounded to the nearest row), so that
/// every split has the classes in the same proportion.
///
/// # Errors
/// When the fractions are not in `[0, 1)` or leave nothing to train on.
pub fn stratified(labels: &[usize], classes: usize, test: f64, val: f64, seed: u64) -> Result<Assignment> {
    for (option, fraction) in [("--test", test), ("--val", val), ("--test plus --val", test + val)] {
        if !(0.0..1.0).contains(&fraction) {
            return Err(Error::invalid(
                option,
                format!("{fraction}"),
                "a fraction of the rows, at least 0 and below 1",
                "0.2 holds back a fifth",
            ));
        }
    }
    let order = Stream::new(seed, Purpose::Split, 0, 0, 0).permutation(labels.len());
    let mut class_sizes = vec![0usize; classes];
    for &label in labels {
        class_sizes[label] += 1;
    }
    let share = |fraction: f64, size: usize| (fraction * size as f64).round() as usize;
    let mut seen = vec![0usize; classes];
    let mut rows = Assignment::default();
    for row in order.into_iter().map(|row| row as usize) {
        let label = labels[row];
        let (tests, vals) = (share(test, class_sizes[label]), share(val, class_sizes[label]));
        let place = seen[label];
        seen[label] += 1;
        if place < tests {
            rows.test.push(row);
        } else if place < tests + vals {
            rows.val.push(row);
        } else {
            rows.train.push(row);
        }
    }
    if rows.train.is_empty() {
        return Err(Error::invalid(
            "the training split",
            "no rows",
            "at least one",
            "give more rows, or smaller --test and --val",
        ));
    }
    // The quotas fill up class by class, which leaves runs of one class behind them.
    for (index, split) in [&mut rows.train, &mut rows.val, &mut rows.test].into_iter().enumerate() {
        shuffle(split, seed, 1 + index);
    }
    Ok(rows)
}

/// What is said of fractions that hold no row back, as they are less than half a row of each class.
pub fn none_held_back(
    rows: &Assignment,
    labels: &[usize],
    given: &[Option<Split>],
    (test, val): (f64, f64),
) -> Vec<String> {
    let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
    for (&label, _) in labels.iter().zip(given).filter(|(_, given)| given.is_none()) {
        *sizes.entry(label).or_default() += 1;
    }
    let most = sizes.into_values().max().unwrap_or_default();
    let said = |option: &str, what: &str, fraction: f64| {
        let least = 0.5 / most as f64;
        let up = |digits: i32| (least * 10f64.powi(digits)).ceil() / 10f64.powi(digits);
        let fix = match (1..9).map(up).find(|&enough| enough < least * 1.1) {
            Some(enough) if most > 1 => format!("{option} {enough} would hold back one"),
            _ => "each class has one row: there is none to hold back".to_owned(),
        };
        format!("no {what} row: {option} {fraction} of each class rounds to none; {fix}")
    };
    let splits = [("--test", "test", test, &rows.test), ("--val", "validation", val, &rows.val)];
    let none = splits.into_iter().filter(|(_, _, fraction, rows)| *fraction > 0.0 && rows.is_empty());
    none.map(|(option, what, fraction, _)| said(option, what, fraction)).collect()
}

/// Shuffles rows; each use has a `stream` of its own.
fn shuffle(rows: &mut [usize], seed: u64, stream: usize) {
    let order = Stream::new(seed, Purpose::Split, stream, 0, 0).permutation(rows.len());
    let shuffled: Vec<usize> = order.into_iter().map(|place| rows[place as usize]).collect();
    rows.copy_from_slice(&shuffled);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_lands_in_one_split_and_classes_keep_their_proportions() {
        let labels: Vec<usize> = (0..1000).map(|i| usize::from(i % 10 < 3)).collect();
        let rows = stratified(&labels, 2, 0.2, 0.1, 5).unwrap();
        let mut all = [&rows.train[..], &rows.val, &rows.test].concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..1000));
        let positives = |rows: &[usize]| rows.iter().filter(|&&r| labels[r] == 1).count();
        assert_eq!((rows.test.len(), positives(&rows.test)), (200, 60));
        assert_eq!((rows.val.len(), positives(&rows.val)), (100, 30));
        let positives_so_far = positives(&rows.train[..100]);
        assert!((15..45).contains(&positives_so_far), "classes are mixed from the first row on: {positives_so_far}");
    }

    #[test]
    fn given_rows_keep_their_split_and_order_and_every_class_is_trained_on() {
        let classes = ["a".to_owned(), "b".to_owned()];
        let labels = [0, 1, 0, 1, 0, 1];
        let given = [None, Some(Split::Test), None, None, Some(Split::Val), Some(Split::Test)];
        let rows = assign(&labels, &classes, &given, (0.0, 0.0), 1).unwrap();
        assert_eq!((&rows.test[..], &rows.val[..]), (&[1, 5][..], &[4][..]));
        let mut train = rows.train.clone();
        train.sort_unstable();
        assert_eq!(train, [0, 2, 3]);
        let given = [None, Some(Split::Test), None, Some(Split::Test), None, Some(Split::Test)];
        let message = assign(&labels, &classes, &given, (0.0, 0.0), 1).unwrap_err().to_string();
        assert!(message.contains("'b'"), "{message}");
    }

    #[test]
    fn fractions_that_leave_nothing_are_refused() {
        for (test, val) in [(1.0, 0.0), (0.5, 0.5), (-0.1, 0.0), (f64::NAN, 0.0)] {
            assert!(stratified(&[0, 1], 2, test, val, 1).is_err(), "{test} {val}");
        }
    }
}

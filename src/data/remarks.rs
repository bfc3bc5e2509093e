//! What a user should know of a dataset's classes before time is spent on them.

use super::{Dataset, Split, doubtful};
use crate::error::{Error, Result};
use crate::plural::plural;

/// From this share on a class is said to be nearly all.
const NEARLY_ALL: f64 = 0.95;

/// `names` are the classes, `histogram` has the training rows of each.
pub fn of_classes(names: &[String], histogram: &[u64]) -> Vec<String> {
    let mut notes = doubtful::notes(names);
    let rows: u64 = histogram.iter().sum();
    let empty: Vec<usize> = (0..histogram.len()).filter(|&class| histogram[class] == 0).collect();
    match &empty[..] {
        [] => {}
        [0] => notes.push(format!("no training row is of class 0 ('{}'): do the labels count from 1?", names[0])),
        [one] => notes.push(format!("no training row is of class {one} ('{}')", names[*one])),
        [one, ..] => notes.push(format!(
            "no training row is of {} of the {} classes, such as class {one} ('{}')",
            empty.len(),
            names.len(),
            names[*one]
        )),
    }
    if let Some((class, &most)) = histogram.iter().enumerate().max_by_key(|(_, count)| **count)
        && most as f64 >= NEARLY_ALL * rows as f64
    {
        let share = 100.0 * most as f64 / rows as f64;
        notes.push(format!(
            "{share:.1} % of the training rows are of class '{}': a model that always predicts it is as often correct",
            names[class]
        ));
    }
    let present = histogram.len() - empty.len();
    if rows > 20 && 2 * present as u64 > rows {
        notes.push(format!(
            "{rows} training rows are of {}: nearly every row has one of its own",
            plural(present, "class")
        ));
    }
    notes
}

impl Dataset {
    /// The classes' names: as the file says, else the numbers up to the largest label of a training row.
    ///
    /// # Errors
    /// As [`Dataset::read`]; and as [`Dataset::names_of`].
    pub fn class_names(&self) -> Result<Vec<String>> {
        match &self.classes {
            Some(names) => Ok(names.clone()),
            None => self.names_of(self.count_labels(Split::Train)?.len()),
        }
    }

    /// The same, where the labels of the training rows are known to be less than `count`.
    ///
    /// # Errors
    /// When a label would make more classes than there are training rows.
    pub fn names_of(&self, count: usize) -> Result<Vec<String>> {
        if let Some(names) = &self.classes {
            return Ok(names.clone());
        }
        let rows = self.rows(Split::Train);
        if count > rows {
            return Err(Error::invalid(
                format!("{} {}", self.path.display(), self.place(Split::Train, "labels")),
                format!("a label {} among {}", count - 1, plural(rows, "row")),
                "no more classes than training rows, where the file does not name them",
                "mend the label, or name all classes in the attribute 'classes'",
            ));
        }
        Ok((0..count).map(|label| label.to_string()).collect())
    }

    /// Whether all labels of rows `first ..` of a split are those of `classes` classes.
    ///
    /// # Errors
    /// When one is not: says which.
    pub fn check_labels(&self, split: Split, first: usize, labels: &[u32], classes: usize) -> Result<()> {
        match labels.iter().position(|&label| label as usize >= classes) {
            None => Ok(()),
            Some(row) => Err(Error::invalid(
                format!("{} {}[{}]", self.path.display(), self.place(split, "labels"), first + row),
                format!("label {}", labels[row]),
                format!("a label from 0 to {}, as the training rows have", classes - 1),
                "mend the label, or name all classes in the attribute 'classes'",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_classes_are_remarked_on_and_plain_ones_are_not() {
        let said = |names: &[&str], histogram: &[u64]| {
            of_classes(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>(), histogram).join("\n")
        };
        assert_eq!(said(&["a", "b"], &[94, 6]), "");
        assert!(said(&["a", "b"], &[95, 5]).contains("95.0 % of the training rows are of class 'a'"));
        assert!(said(&["a", "b", "a"], &[5, 5, 5]).contains("classes 0 and 2 are both called 'a'"));
        assert!(said(&["0", "1", "2"], &[0, 5, 5]).contains("class 0 ('0'): do the labels count from 1?"));
        assert!(said(&["0", "1", "2"], &[5, 5, 0]).contains("no training row is of class 2 ('2')"));
        assert!(said(&["a", "b", "c", "d"], &[5, 5, 0, 0]).contains("2 of the 4 classes, such as class 2 ('c')"));
        assert!(!said(&["0"; 16], &[2; 16]).contains("32 training rows"));
        assert!(said(&["Cat", "cat"], &[5, 5]).contains("differ by their case alone"));
        assert!(said(&["0"; 21], &[1; 21]).contains("21 training rows are of 21 classes"));
    }
}

//! What the columns of a table hold: looked at where one was taken for something that it is not, to say which one may be meant.

use std::collections::HashSet;
use std::path::Path;

use csv::StringRecord;

use super::labels::is_missing;
use super::table::{self, Roles};
use crate::data::Split;
use crate::data::doubtful::number;
use crate::error::Result;

/// What to do about a column that says which split a row belongs to.
pub const TWO_TABLES: &str = "rows are held back by chance (--test, --val); to keep the splits of that column, make a table of each, \
    a dataset of each with --test 0, and judge with: glasses eval --data OTHER.h5 --split train";

/// Different values that are told apart.
const VALUES: usize = 200;

/// What the rows of a column are.
#[derive(Default)]
struct Column {
    /// Texts that are no numbers, and not empty.
    words: usize,
    integers: usize,
    missing: usize,
    decimal_commas: usize,
    semicolons: usize,
    different: HashSet<String>,
}

/// What all columns are.
pub struct Look<'a> {
    first: &'a StringRecord,
    roles: &'a Roles,
    columns: Vec<Column>,
    rows: usize,
    /// Of the rows that have another number of columns: how many there are, and what the first of them has.
    others: (usize, usize),
}

impl Look<'_> {
    /// Reads the table.
    pub fn new<'a>(path: &Path, first: &'a StringRecord, roles: &'a Roles) -> Result<Look<'a>> {
        let mut columns: Vec<Column> = first.iter().map(|_| Column::default()).collect();
        let (mut reader, mut record) = (table::open(path)?, StringRecord::new());
        let (mut rows, mut others, mut is_first) = (0, (0, 0), true);
        while table::next(&mut reader, &mut record, path)? {
            if std::mem::take(&mut is_first) && roles.header {
                continue;
            }
            rows += 1;
            if record.len() != first.len() {
                others = (others.0 + 1, if others.0 == 0 { record.len() } else { others.1 });
            }
            for (column, cell) in columns.iter_mut().zip(&record) {
                column.add(cell);
            }
        }
        Ok(Look { first, roles, columns, rows, others })
    }

    /// The columns that may be labels: few values, each of many rows, all words or all whole numbers; words first.
    fn labels(&self, not: &[usize]) -> Vec<usize> {
        let may_be = |column: &Column| {
            let (given, different) = (self.rows - column.missing.min(self.rows), column.different.len());
            let alike = column.words == given || column.integers == given;
            2 * given > self.rows && alike && (2..=VALUES).contains(&different) && different * 4 <= given
        };
        let mut found: Vec<usize> =
            (0..self.columns.len()).filter(|i| !not.contains(i) && may_be(&self.columns[*i])).collect();
        found.sort_by_key(|&i| self.columns[i].words == 0);
        found
    }

    /// What to do where other columns than `not` may be the labels.
    pub fn label_instead(&self, not: &[usize]) -> Option<String> {
        let labels = self.labels(not);
        let first = *labels.first()?;
        let names = self.roles.names(self.first, &labels);
        Some(format!("where the labels are in {names}: --label-column {}", self.roles.option(self.first, first)))
    }

    /// What to do about features of which most rows are no numbers; `guessed`: nobody said which column has the labels.
    pub fn no_numbers(&self, path: &Path, features: &[usize], guessed: bool) -> Option<String> {
        let most = |count: usize| 2 * count > self.rows;
        let any = |count: fn(&Column) -> usize| self.columns.iter().any(|column| most(count(column)));
        let place = path.display();
        if any(|column| column.semicolons) {
            let to = path.with_extension("commas.csv");
            return Some(format!(
                "columns are separated by semicolons: sed 's/,/./g; s/;/,/g' {place} > {}",
                to.display()
            ));
        }
        if any(|column| column.decimal_commas) {
            return Some("write decimal points: 0.5, not 0,5 (pandas: read_csv(…, decimal=','))".to_owned());
        }
        if most(self.others.0) {
            let (has, of) = (self.others.1, self.first.len());
            let why = if has > of {
                "a comma behind every row, or decimal commas: 0.5 is written with a point"
            } else {
                "columns are missing"
            };
            return Some(format!("rows have {has} columns, the first line {of}: {why}"));
        }
        let words: Vec<usize> = features.iter().copied().filter(|&i| most(self.columns[i].words)).collect();
        let first = *words.first()?;
        let names = self.roles.names(self.first, &words);
        let labels: Vec<usize> = self.labels(&[]).into_iter().filter(|i| words.contains(i)).collect();
        let holds = format!("no numbers: {names}");
        let split = words.iter().find(|&&i| names_splits(self.first, self.roles, i) || self.columns[i].is_of_splits());
        let mut ways = Vec::new();
        let is_split = |i: &usize| split == Some(i);
        if guessed && let Some(&label) = labels.iter().find(|i| !is_split(i)) {
            ways.push(format!("where these are the labels: --label-column {}", self.roles.option(self.first, label)));
        }
        if let Some(&split) = split {
            ways.push(format!("{}: {TWO_TABLES}", self.roles.name(self.first, split)));
        }
        ways.push(if words.len() == 1 {
            format!("--id-column {} leaves it out", self.roles.option(self.first, first))
        } else {
            "take columns that are no features out of the file".to_owned()
        });
        Some(format!("{holds}; {}", ways.join("; or ")))
    }
}

impl Column {
    fn add(&mut self, cell: &str) {
        if is_missing(cell) {
            self.missing += 1;
            return;
        }
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let unsigned = cell.strip_prefix('-').unwrap_or(cell);
        self.words += usize::from(number(cell).is_none());
        self.integers += usize::from(digits(unsigned));
        self.semicolons += usize::from(cell.contains(';'));
        self.decimal_commas += usize::from(unsigned.split_once(',').is_some_and(|(a, b)| digits(a) && digits(b)));
        if self.different.len() <= VALUES && !self.different.contains(cell) {
            self.different.insert(cell.to_owned());
        }
    }

    fn is_of_splits(&self) -> bool {
        !self.different.is_empty() && self.different.iter().all(|value| Split::called(value).is_some())
    }

    fn is_of_bits(&self, rows: usize) -> bool {
        self.missing == 0 && rows > 0 && self.different.iter().all(|value| BITS.contains(&value.as_str()))
    }
}

/// How a table says no and yes.
const BITS: [&str; 4] = ["0", "1", "0.0", "1.0"];

/// Names of columns that say which split a row belongs to.
const SPLITS: [&str; 7] = ["split", "splits", "subset", "fold", "partition", "is_train", "is_test"];

/// Whether a column is called like one that says which split a row belongs to.
pub fn names_splits(first: &StringRecord, roles: &Roles, column: usize) -> bool {
    roles.header && first.get(column).is_some_and(|name| SPLITS.contains(&name.to_ascii_lowercase().as_str()))
}

impl Look<'_> {
    /// The one of these columns that says which split a row belongs to, by its name or by what it holds.
    pub fn split_among(&self, columns: &[usize]) -> Option<usize> {
        let is = |i: &usize| names_splits(self.first, self.roles, *i) || self.columns[*i].is_of_splits();
        columns.iter().copied().find(is)
    }

    /// Those of these columns that hold nothing but 0 and 1.
    pub fn bits(&self, columns: &[usize]) -> Vec<usize> {
        columns.iter().copied().filter(|&i| self.columns[i].is_of_bits(self.rows)).collect()
    }
}

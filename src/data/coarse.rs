//! Numbers that are kept too coarsely: different ones that become equal as f32.

use std::collections::HashMap;
use std::fmt;

/// Numbers that are remembered, of all columns and of each.
const MOST: usize = 1 << 22;
const MOST_EACH: usize = 1 << 16;
/// From here on not all whole numbers are an f32.
const WHOLE: f32 = 16_777_216.0;
/// A column of fractions has so many steps of f32 between its ends, or it is too coarse; where it has more, rounding is the ordinary one.
const STEPS: f64 = 65_536.0;

/// A number as it was written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Exact {
    /// Without a fraction.
    Whole(i128),
    /// Any other.
    Real(f64),
}

impl Exact {
    /// Of a cell of a table; numbers of more digits than f64 has differ still.
    pub fn of_text(text: &str) -> Option<Exact> {
        text.parse().map(Exact::Whole).ok().or_else(|| Some(Exact::of(text.parse().ok()?)))
    }

    /// Of a double.
    pub fn of(value: f64) -> Exact {
        // Beyond f32, nothing is taken anyhow.
        if value.fract() == 0.0 && value.abs() < 1e38 { Exact::Whole(value as i128) } else { Exact::Real(value) }
    }
}

impl fmt::Display for Exact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exact::Whole(value) => value.fmt(f),
            Exact::Real(value) => value.fmt(f),
        }
    }
}

/// What has been seen of one column.
#[derive(Debug)]
struct Column {
    /// By the bits of the f32, the first number that became it.
    seen: HashMap<u32, Exact>,
    /// Two that became equal: whole numbers, and any.
    whole: Option<(Exact, Exact)>,
    any: Option<(Exact, Exact)>,
    least: f32,
    most: f32,
}

/// Looks for columns in which different numbers become equal.
#[derive(Debug)]
pub struct Coarse {
    columns: Vec<Column>,
    most: usize,
}

impl Coarse {
    /// Of so many columns.
    pub fn new(columns: usize) -> Coarse {
        let column =
            |_| Column { seen: HashMap::new(), whole: None, any: None, least: f32::INFINITY, most: f32::NEG_INFINITY };
        Coarse { columns: (0..columns).map(column).collect(), most: (MOST / columns.max(1)).clamp(16, MOST_EACH) }
    }

    /// A number of a column, and what it is as f32.
    pub fn add(&mut self, column: usize, value: f32, exact: impl FnOnce() -> Option<Exact>) {
        let column = &mut self.columns[column];
        column.least = column.least.min(value);
        column.most = column.most.max(value);
        // Most whole numbers of tables are small ones, which f32 has all.
        if column.whole.is_some() || value.abs() < WHOLE && (value.fract() == 0.0 || !column.is_coarse()) {
            return;
        }
        let Some(exact) = exact() else { return };
        match column.seen.get(&value.to_bits()) {
            Some(first) if *first == exact => {}
            Some(first) => {
                let pair = (*first, exact);
                if matches!(pair, (Exact::Whole(_), Exact::Whole(_))) {
                    column.whole = Some(pair);
                }
                column.any.get_or_insert(pair);
            }
            None if column.seen.len() < self.most => drop(column.seen.insert(value.to_bits(), exact)),
            None => {}
        }
    }

    /// What is to be said of them, each called as `name` says.
    pub fn said(&self, name: impl Fn(usize) -> String) -> Option<String> {
        let mut found = self.columns.iter().enumerate().filter_map(|(index, column)| Some((index, column.pair()?)));
        let (index, (a, b)) = found.next()?;
        let others = match found.count() {
            0 => String::new(),
            1 => ", and so does 1 other column".to_owned(),
            others => format!(", and so do {others} other columns"),
        };
        Some(format!(
            "{} holds different numbers that become equal as f32, which has 24 bits, such as {a} and {b}{others}; subtract an offset, or leave \
             the column out",
            name(index)
        ))
    }
}

impl Column {
    /// Two numbers whose equality is no ordinary rounding.
    fn pair(&self) -> Option<(Exact, Exact)> {
        self.whole.or_else(|| self.any.filter(|_| self.is_coarse()))
    }

    /// Whether there are few steps of f32 between the ends; where that is not so, it will not be.
    fn is_coarse(&self) -> bool {
        let largest = self.least.abs().max(self.most.abs());
        let step = f64::from(largest.next_up()) - f64::from(largest);
        step * STEPS > f64::from(self.most) - f64::from(self.least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(cells: &[&str]) -> bool {
        let mut coarse = Coarse::new(1);
        cells.iter().for_each(|cell| coarse.add(0, cell.parse().unwrap(), || Exact::of_text(cell)));
        coarse.said(|_| String::new()).is_some()
    }

    #[test]
    fn ordinary_rounding_is_not_noted() {
        assert!(!said(&["0.1", "0.1", "0.10000000000000001", "7", "-3.25"]));
        assert!(!said(&["0.3333333333", "0.33333333334", "1", "0"]));
        assert!(!said(&["16777217", "16777217.0", "1", "16777217"]));
        assert!(!said(&["1600000000", "1600001000", "1700000000"]));
    }

    #[test]
    fn numbers_that_fall_together_are_noted() {
        assert!(said(&["16777216", "1", "16777217"]));
        assert!(said(&["1600000000.25", "1600000000.75"]));
        assert!(said(&["123456789012345678", "123456789012345679"]));
        assert!(said(&["1e9", "1000000001"]));
    }
}

//! A CSV of features: a row of numbers and a label on each line.

use std::collections::HashSet;
use std::path::Path;

use csv::StringRecord;

use super::labels::{classes_of, is_missing};
use super::look::{self, Look};
use super::table::{self, Roles};
use super::{Content, Request, Source, quotes, refusals};
use crate::data::RowShape;
use crate::data::coarse::{Coarse, Exact};
use crate::data::doubtful::number;
use crate::error::{Error, Result};
use crate::plural::plural;

/// A row as read: its values, or why it cannot be used.
struct Row {
    label: String,
    values: Result<Vec<f32>, String>,
    /// Whether it has as many columns as the first.
    whole: bool,
}

/// What is the same for all rows.
struct Layout {
    roles: Roles,
    /// The columns that are features.
    features: Vec<usize>,
}

impl Layout {
    fn new(roles: Roles) -> Layout {
        let left_out = |i: &usize| *i == roles.label || roles.id == Some(*i) || roles.index.contains(i);
        let features = (0..roles.columns).filter(|i| !left_out(i)).collect();
        Layout { roles, features }
    }

    fn row(&self, record: &StringRecord) -> Row {
        let label = record.get(self.roles.label).unwrap_or_default().to_owned();
        let line = table::line(record);
        if record.len() != self.roles.columns {
            let values =
                Err(format!("line {line}: found {}, expected {}", plural(record.len(), "column"), self.roles.columns));
            return Row { label: self.label_at_end(record), values, whole: false };
        }
        let mut values = Vec::with_capacity(self.features.len());
        for &column in &self.features {
            let cell = &record[column];
            match cell.parse::<f32>() {
                Ok(value) if value.is_finite() => values.push(value),
                _ => {
                    let reason = format!("line {line}, column {}: found '{cell}', expected a finite f32", column + 1);
                    return Row { label, values: Err(reason), whole: true };
                }
            }
        }
        Row { label, values: Ok(values), whole: true }
    }

    /// The label of a row with another number of columns: a word where the label stands, or at the end if it is the last column.
    fn label_at_end(&self, record: &StringRecord) -> String {
        let last = self.roles.label + 1 == self.roles.columns;
        let cell = if last { record.iter().next_back() } else { record.get(self.roles.label) };
        cell.filter(|cell| number(cell).is_none()).unwrap_or_default().to_owned()
    }

    /// What the columns were taken for.
    fn notes(&self, path: &Path, first: &StringRecord, table: &Columns) -> Vec<String> {
        let roles = &self.roles;
        let mut note = format!(
            "{}: the labels are {}, the {} {}",
            path.display(),
            roles.name(first, roles.label),
            plural(self.features.len(), "feature"),
            roles.names(first, &self.features),
        );
        if let Some(id) = roles.id {
            note.push_str(&format!("; left out: {}, which names the rows", roles.name(first, id)));
        }
        if !roles.index.is_empty() {
            note.push_str(&format!("; left out: {}, which numbers the rows", roles.names(first, &roles.index)));
        }
        let mut notes = vec![note];
        notes.extend(self.features.iter().find(|&&i| look::names_splits(first, roles, i)).map(|&split| {
            format!("{}: {}; it is a feature: {}", path.display(), roles.name(first, split), look::TWO_TABLES)
        }));
        let said =
            table.coarse.said(|feature| format!("{}: {}", path.display(), roles.name(first, self.features[feature])));
        notes.extend(said);
        let counting: Vec<usize> = table.counting(self.features.len()).map(|i| self.features[i]).collect();
        if !counting.is_empty() {
            notes.push(format!(
                "{}: {} counts the rows; where that is no feature, --id-column {} leaves it out",
                path.display(),
                roles.names(first, &counting),
                counting[0] + 1,
            ));
        }
        notes
    }
}

/// Reads all of it.
///
/// # Errors
/// When it cannot be read, or a row is bad and bad rows are not to be left out.
pub fn read(request: &Request) -> Result<Source> {
    let path = &request.source;
    let mut reader = table::open(path)?;
    let mut first = StringRecord::new();
    if !table::next(&mut reader, &mut first, path)? {
        return Err(empty(path));
    }
    let mut roles = Roles::new(&first, &[], request, path)?;
    if roles.id.is_none() {
        roles.id = first.iter().position(|name| name.eq_ignore_ascii_case("id")).filter(|&id| id != roles.label);
        roles.header |= roles.id.is_some();
    }
    let mut layout = Layout::new(roles);
    if layout.features.is_empty() {
        return Err(Error::invalid(
            path.display().to_string(),
            "a label but no feature columns",
            "at least one column of numbers beside the label",
            "for a CSV that labels pictures, give the folder of pictures as SRC and this file with --labels",
        ));
    }
    let mut table = Columns::new(layout.features.len());
    let mut record = StringRecord::new();
    while table::next(&mut reader, &mut record, path)? {
        let mut row = table.row(&layout, &record);
        if record == first {
            // A header that comes again is no class.
            row.label = if row.values.is_err() { String::new() } else { row.label };
        }
        table.add(row);
    }
    let texts: Vec<usize> = [Some(layout.roles.label), layout.roles.id].into_iter().flatten().collect();
    quotes::check(path, &texts, &layout.features)?;
    layout.roles.header |= is_header(&first, &layout, &table);
    if !layout.roles.header {
        table.add_first(&layout, &first);
    }
    if table.labels.is_empty() && table.bad.is_empty() && table.unlabelled == 0 {
        return Err(empty(path));
    }
    // Rows that nothing is left of are looked at, too.
    if !table.bad.is_empty() && (!request.skip_bad || table.labels.is_empty()) {
        return Err(refuse(path, table, &layout, &first, request)?);
    }
    if table.labels.is_empty() {
        let other = Look::new(path, &first, &layout.roles)?.label_instead(&[layout.roles.label]);
        return Err(refusals::no_labels(path, &layout.roles.name(&first, layout.roles.label), table.unlabelled, other));
    }
    table.into_source(path, &layout, &first)
}

/// A header has no number above a feature; or it names the label, and all labels are numbers.
fn is_header(first: &StringRecord, layout: &Layout, table: &Columns) -> bool {
    let label = layout.roles.label;
    let others = || first.iter().enumerate().filter(|(i, _)| *i != label).map(|(_, cell)| cell);
    let numbers = others().filter(|cell| cell.parse::<f32>().is_ok()).count();
    if numbers == 0 && others().any(|cell| !cell.is_empty()) {
        return true;
    }
    let label = first.get(label).unwrap_or_default();
    let all_numbers = !table.labels.is_empty() && table.labels.iter().all(|label| number(label).is_some());
    all_numbers && !is_missing(label) && number(label).is_none()
}

/// The rows read so far.
struct Columns {
    coarse: Coarse,
    values: Vec<f32>,
    labels: Vec<String>,
    bad: Vec<String>,
    /// The labels of these; of those with another number of columns, apart.
    bad_labels: [Vec<String>; 2],
    unlabelled: usize,
}

impl Columns {
    fn new(features: usize) -> Columns {
        let (values, labels, bad) = (Vec::new(), Vec::new(), Vec::new());
        Columns { coarse: Coarse::new(features), values, labels, bad, bad_labels: Default::default(), unlabelled: 0 }
    }

    /// A row of the table, whose numbers are looked at before they are f32 alone.
    fn row(&mut self, layout: &Layout, record: &StringRecord) -> Row {
        let row = layout.row(record);
        for (feature, (&column, &value)) in layout.features.iter().zip(row.values.iter().flatten()).enumerate() {
            self.coarse.add(feature, value, || Exact::of_text(&record[column]));
        }
        row
    }

    fn add(&mut self, row: Row) {
        match row.values {
            Err(reason) => {
                self.bad.push(reason);
                self.bad_labels[usize::from(!row.whole)].push(row.label);
            }
            Ok(_) if is_missing(&row.label) => self.unlabelled += 1,
            Ok(values) => {
                self.values.extend(values);
                self.labels.push(row.label);
            }
        }
    }

    fn add_first(&mut self, layout: &Layout, record: &StringRecord) {
        let row = self.row(layout, record);
        match row.values {
            Err(reason) => {
                self.bad.insert(0, reason);
                self.bad_labels[usize::from(!row.whole)].push(row.label);
            }
            Ok(_) if is_missing(&row.label) => self.unlabelled += 1,
            Ok(values) => {
                self.values.splice(0..0, values);
                self.labels.insert(0, row.label);
            }
        }
    }

    /// Which of the features count 0, 1, 2 …, or 1, 2, 3 …
    fn counting(&self, features: usize) -> impl Iterator<Item = usize> + '_ {
        let counts = move |feature: usize| {
            let mut values = self.values.iter().skip(feature).step_by(features).zip(0u16..);
            let from = self.values[feature];
            self.labels.len() > 2 && (from == 0.0 || from == 1.0) && values.all(|(v, i)| *v == from + f32::from(i))
        };
        (0..features).filter(move |&feature| counts(feature))
    }

    /// The labels of the bad rows that say them. Of rows that are no whole ones (a comment, a total) a class has two at least.
    fn labels_of_bad(&self) -> impl Iterator<Item = &str> {
        let [whole, other] = &self.bad_labels;
        let mut seen = HashSet::new();
        let twice = other.iter().filter(move |label| !seen.insert(*label));
        whole.iter().chain(twice).map(String::as_str).filter(|label| !is_missing(label))
    }

    fn into_source(self, path: &Path, layout: &Layout, first: &StringRecord) -> Result<Source> {
        let (labels, classes) = classes_of(self.labels.iter().map(String::as_str));
        refusals::check_kept(self.labels_of_bad(), &classes, path)?;
        table::check_labels(labels.len(), &classes, &layout.roles.name(first, layout.roles.label), path, || {
            Look::new(path, first, &layout.roles).ok()?.label_instead(&[layout.roles.label])
        })?;
        let notes = if labels.is_empty() { Vec::new() } else { layout.notes(path, first, &self) };
        Ok(Source {
            shape: RowShape::Features { d: layout.features.len() },
            content: Content::Features(self.values),
            given: vec![None; labels.len()],
            labels,
            classes,
            bad: self.bad,
            hint: None,
            unlabelled: self.unlabelled,
            origin: format!("the CSV of features {}", path.display()),
            notes,
        })
    }
}

fn refuse(path: &Path, table: Columns, layout: &Layout, first: &StringRecord, request: &Request) -> Result<Error> {
    let rows = table.labels.len() + table.unlabelled + table.bad.len();
    let look = Look::new(path, first, &layout.roles)?;
    let fix = match look.no_numbers(path, &layout.features, layout.roles.guessed(first, request)) {
        Some(fix) => fix,
        None if table.labels.is_empty() => "mend the rows".to_owned(),
        None => "mend the rows, or pass --skip-bad to leave them out".to_owned(),
    };
    Ok(Error::Several {
        what: format!(
            "{}: {} of {} cannot be used; nothing was written",
            path.display(),
            table.bad.len(),
            plural(rows, "row")
        ),
        items: table.bad,
        fix,
    })
}

fn empty(path: &Path) -> Error {
    Error::invalid(
        path.display().to_string(),
        "no rows",
        "rows of numbers, with the label in the last column or in --label-column",
        "check the file",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str, label_column: Option<&str>, skip_bad: bool) -> Result<Source> {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("t.csv");
        std::fs::write(&source, text).unwrap();
        read(&Request { source, label_column: label_column.map(str::to_owned), skip_bad, ..Request::default() })
    }

    fn values(source: &Source) -> &[f32] {
        match &source.content {
            Content::Features(values) => values,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_header_is_recognised_and_a_first_row_is_kept() {
        for text in ["1,2,0\n3,4,1\n", "x,y,label\n1,2,0\n3,4,1\n", "0,1,label\n1,2,0\n3,4,1\n", " 1 , 2,0\n3,4, 1"] {
            let source = read_text(text, None, false).unwrap();
            assert_eq!((values(&source), &source.labels[..]), (&[1., 2., 3., 4.][..], &[0, 1][..]), "{text}");
        }
        let source = read_text("kind,x,id\nb,2,8\na,4,9\n", Some("kind"), false).unwrap();
        assert_eq!((values(&source), &source.labels[..]), (&[2., 4.][..], &[1, 0][..]));
        assert_eq!((source.classes.join(" "), source.notes.len()), ("a b".to_owned(), 1));
    }

    #[test]
    fn bad_cells_are_all_listed_or_left_out() {
        let text = "1,2,0\nnan,4,1\n1,inf,1\n1,1e39,0\n1,,0\n1,2\n3,4,\n5,6,1\n";
        let message = read_text(text, None, false).unwrap_err().to_string();
        for part in ["5 of 8 rows", "line 2, column 1: found 'nan'", "'inf'", "'1e39'", "''", "line 6: found 2 columns"]
        {
            assert!(message.contains(part), "{part} in {message}");
        }
        let source = read_text(text, None, true).unwrap();
        assert_eq!((source.bad.len(), source.unlabelled, &source.labels[..]), (5, 1, &[0, 1][..]));
    }

    #[test]
    fn an_empty_table_and_one_without_features_are_refused() {
        for text in ["", "x,y,label\n", "1\n2\n", "id,label\n1,0\n2,1\n"] {
            assert!(read_text(text, None, false).is_err(), "{text}");
        }
    }
}

//! The lines of a CSV that labels pictures, and which of its columns is what.

use std::path::Path;

use csv::StringRecord;

use super::finder::{Finder, Found};
use super::look::{Look, TWO_TABLES};
use super::table::{self, Roles};
use super::{Request, quotes};
use crate::data::doubtful::number;
use crate::data::picture::ends_like_picture;
use crate::error::{Error, Result};

/// One line of the CSV.
pub struct Line {
    /// Its number in the file, from 1.
    pub number: u64,
    /// What names the picture.
    pub id: String,
    /// Its label, or nothing.
    pub label: String,
}

/// What was taken for what.
pub struct Columns {
    /// The column of the labels, for messages.
    pub label: String,
    /// That of the ids.
    pub id: String,
    /// All of them, and what to do about those that are not used.
    pub notes: Vec<String>,
    /// Which column may have the labels, if this one has none.
    pub other: Option<String>,
}

/// The lines without the header, and what their columns are.
///
/// # Errors
/// When the table is none, or gives each row several labels.
pub fn read_lines(request: &Request, file: &Path, finder: &Finder) -> Result<(Vec<Line>, Columns)> {
    let mut reader = table::open(file)?;
    let mut first = StringRecord::new();
    let empty = || Error::invalid(file.display().to_string(), "no rows", "an id and a label a line", "check the file");
    if !table::next(&mut reader, &mut first, file)? {
        return Err(empty());
    }
    // A column of numbers may name pictures, too, and others than those of its rows: one of files' names does not.
    let files = of_files(file, finder)?;
    let mut roles = Roles::new(&first, &files, request, file)?;
    let mut free = (0..roles.columns).filter(|i| *i != roles.label && !roles.index.contains(i));
    let plain = free.clone().find(|i| files.contains(i)).or_else(|| free.next());
    // Where nothing else names the rows, their numbers may.
    let id = roles.id.or(plain).unwrap_or_else(|| if roles.index.is_empty() { 0 } else { roles.index.remove(0) });
    let line = |record: &StringRecord| {
        let text = |column| record.get(column).unwrap_or_default().to_owned();
        Line { number: table::line(record), id: text(id), label: text(roles.label) }
    };
    let mut lines = Vec::new();
    let mut record = StringRecord::new();
    while table::next(&mut reader, &mut record, file)? {
        if record.len() != first.len() {
            return Err(Error::invalid(
                format!("{}, line {}", file.display(), table::line(&record)),
                format!("{} columns", record.len()),
                format!("{}, as in the first line", first.len()),
                "mend the line; a text with a comma in it needs quotes",
            ));
        }
        lines.push(line(&record));
    }
    quotes::check(file, &[roles.label, id], &[])?;
    let head = line(&first);
    // A header: its 'label' is no other row's, and its 'id' is no picture and does not look like one.
    let is_row = lines.iter().any(|other| other.label == head.label)
        || number(&head.id).is_some()
        || ends_like_picture(Path::new(&head.id))
        || matches!(finder.find(&head.id), Found::File(_));
    roles.header |= !is_row;
    let place = file.display();
    let left_out = match &roles.index[..] {
        [] => String::new(),
        index => format!("; left out: {}, which numbers the rows", roles.names(&first, index)),
    };
    let not: Vec<usize> = [&[roles.label, id][..], &roles.index].concat();
    let unused: Vec<usize> = (0..roles.columns).filter(|i| !not.contains(i)).collect();
    let look = Look::new(file, &first, &roles)?;
    let (label_name, id_name) = (roles.name(&first, roles.label), roles.name(&first, id));
    let mut note = format!("{place}: the labels are {label_name}, the ids {id_name}{left_out}");
    if !unused.is_empty() {
        note.push_str(&format!("; not used: {}", roles.names(&first, &unused)));
    }
    let mut notes = vec![note];
    if let Some(split) = look.split_among(&unused) {
        notes.push(format!("{place}: {} is not used: {TWO_TABLES}", roles.name(&first, split)));
    }
    if roles.guessed(&first, request) {
        one_label(&look, &roles, &first, &[&unused[..], &[roles.label]].concat(), file)?;
    }
    let other = look.label_instead(&not).or_else(|| look.label_instead(&[roles.label]));
    if !roles.header {
        lines.insert(0, head);
    }
    if lines.is_empty() {
        return Err(empty());
    }
    Ok((lines, Columns { label: label_name, id: id_name, notes, other }))
}

/// Refuses a table with a column a class, of which each row has a 1 in one.
fn one_label(look: &Look, roles: &Roles, first: &StringRecord, columns: &[usize], file: &Path) -> Result<()> {
    let mut bits = look.bits(columns);
    bits.sort_unstable();
    if bits.len() < 2 || !bits.contains(&roles.label) {
        return Ok(());
    }
    let (mut reader, mut record) = (table::open(file)?, StringRecord::new());
    let mut skip = roles.header;
    while table::next(&mut reader, &mut record, file)? {
        let ones = bits.iter().filter(|&&i| record.get(i).is_some_and(|cell| cell.starts_with('1'))).count();
        if !std::mem::take(&mut skip) && ones != 1 {
            return Ok(());
        }
    }
    Err(Error::invalid(
        file.display().to_string(),
        format!("a 1 in one column of {} in each row: a column a class", roles.names(first, &bits)),
        "one column of labels",
        format!(
            "write the class's name into one column (pandas: table[columns].idxmax(axis=1)); or, for {} alone: --label-column {}",
            roles.name(first, roles.label),
            roles.option(first, roles.label)
        ),
    ))
}

/// Rows that are looked at to find a column of files' names.
const LOOKED_AT: usize = 50;

/// The columns that name a picture, with its ending, in each of the first rows below the first.
fn of_files(file: &Path, finder: &Finder) -> Result<Vec<usize>> {
    let (mut reader, mut record) = (table::open(file)?, StringRecord::new());
    table::next(&mut reader, &mut record, file)?;
    let mut columns: Option<Vec<usize>> = None;
    for _ in 0..LOOKED_AT {
        if !table::next(&mut reader, &mut record, file)? {
            break;
        }
        let mut columns_now = columns.unwrap_or_else(|| (0..record.len()).collect());
        let names = |id: &str| ends_like_picture(Path::new(id)) && matches!(finder.find(id), Found::File(_));
        columns_now.retain(|&column| record.get(column).is_some_and(names));
        columns = Some(columns_now);
    }
    Ok(columns.unwrap_or_default())
}

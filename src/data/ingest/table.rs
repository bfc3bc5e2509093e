//! What the two kinds of CSV have in common: how they are opened and which column is the label.

use std::fs::File;
use std::path::Path;

use csv::StringRecord;

use super::brief;
use crate::error::{Error, Result, nearest};

/// A CSV in which rows may have any length (they are checked by whoever reads them) and blanks do not count.
pub fn open(path: &Path) -> Result<csv::Reader<File>> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    Ok(csv::ReaderBuilder::new().has_headers(false).flexible(true).trim(csv::Trim::All).from_reader(file))
}

/// Reads the next record; false at the end.
pub fn next(reader: &mut csv::Reader<File>, record: &mut StringRecord, path: &Path) -> Result<bool> {
    let more = reader.read_record(record).map_err(|e| {
        let place = path.display().to_string();
        Error::invalid(place, e.to_string(), "a CSV file in UTF-8", "save it again as a CSV in UTF-8")
    })?;
    // A quotation mark that nobody closes makes one text of all lines up to the next one.
    match record.iter().find(|cell| cell.contains(['\n', '\r'])) {
        Some(cell) => Err(Error::invalid(
            format!("{}, line {}", path.display(), line(record)),
            format!("a text with a line break: '{}…'", cell.lines().next().unwrap_or_default()),
            "texts of one line",
            "look for a quotation mark that is missing, or one too many",
        )),
        None => Ok(more),
    }
}

/// The line on which a record starts.
pub fn line(record: &StringRecord) -> u64 {
    record.position().map_or(0, csv::Position::line)
}

/// Where the labels stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelColumn {
    /// The column, from 0.
    pub index: usize,
    /// Whether it was found by its name, so that the first row is a header.
    pub named: bool,
}

/// The column that the user named or numbered (from 1), else the last.
pub fn label_column(first: &StringRecord, wanted: Option<&str>, path: &Path) -> Result<LabelColumn> {
    let names: Vec<String> = first.iter().map(str::to_owned).collect();
    let place = path.display().to_string();
    if names.len() < 2 {
        return Err(Error::invalid(
            place,
            format!("one column ('{}')", names.first().map_or("", String::as_str)),
            "at least two, separated by commas",
            "check the file; other separators than the comma are not understood",
        ));
    }
    let Some(wanted) = wanted else { return Ok(LabelColumn { index: names.len() - 1, named: false }) };
    if let Some(index) = names.iter().position(|name| name == wanted) {
        return Ok(LabelColumn { index, named: true });
    }
    if let Ok(number) = wanted.parse::<usize>()
        && (1..=names.len()).contains(&number)
    {
        return Ok(LabelColumn { index: number - 1, named: false });
    }
    let fix = match nearest(wanted, names.iter().map(String::as_str)) {
        Some(name) => format!("did you mean '{name}'?"),
        None => "name one of its columns".to_owned(),
    };
    Err(Error::invalid(
        "--label-column",
        format!("'{wanted}', which is no column of {place}"),
        format!("one of: {}; or a number from 1 to {}", brief(&names), names.len()),
        fix,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_column_is_named_numbered_last_or_the_nearest_is_suggested() {
        let first = StringRecord::from(vec!["id", "v1", "glasses"]);
        let find = |wanted| label_column(&first, wanted, Path::new("t.csv"));
        assert_eq!(find(None).unwrap(), LabelColumn { index: 2, named: false });
        assert_eq!(find(Some("v1")).unwrap(), LabelColumn { index: 1, named: true });
        assert_eq!(find(Some("3")).unwrap(), LabelColumn { index: 2, named: false });
        let message = find(Some("glases")).unwrap_err().to_string();
        assert!(message.contains("did you mean 'glasses'?"), "{message}");
        assert!(find(Some("4")).is_err());
        assert!(find(Some("0")).is_err());
    }
}

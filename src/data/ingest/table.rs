//! What the two kinds of CSV have in common: how they are opened, and what their columns are.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;

use csv::StringRecord;

use super::Request;
use super::refusals::brief;
use crate::data::doubtful::number;
use crate::error::{Error, Result, nearest};

/// A CSV in which rows may have any length (they are checked by whoever reads them) and blanks do not count.
pub fn open(path: &Path) -> Result<csv::Reader<File>> {
    let file = crate::files::open(path)?;
    Ok(csv::ReaderBuilder::new().has_headers(false).flexible(true).trim(csv::Trim::All).from_reader(file))
}

/// Reads the next record; false at the end.
pub fn next(reader: &mut csv::Reader<File>, record: &mut StringRecord, path: &Path) -> Result<bool> {
    let more = reader.read_record(record).map_err(|e| {
        let place = path.display().to_string();
        Error::invalid(place, e.to_string(), "a CSV file in UTF-8", "save it again as a CSV in UTF-8")
    })?;
    if let Some(cell) = record.iter().find(|cell| cell.contains('\0')) {
        let found = format!("a text with a NUL byte: {cell:?}");
        let place = format!("{}, line {}", path.display(), line(record));
        return Err(Error::invalid(place, found, "a CSV file in UTF-8", "save it again as a CSV in UTF-8"));
    }
    // A quotation mark behind a blank is part of the text for the reader.
    if record.iter().any(|cell| unquoted(cell).is_some()) {
        let position = record.position().cloned();
        *record = record.iter().map(|cell| unquoted(cell).unwrap_or(cell)).collect();
        record.set_position(position);
    }
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

/// A text without the quotation marks around it.
fn unquoted(cell: &str) -> Option<&str> {
    cell.strip_prefix('"')?.strip_suffix('"').map(str::trim)
}

/// What is wrong with a table whose first line has no comma, and what makes one of it.
fn separated_otherwise(path: &Path, line: &str) -> Error {
    let place = path.display().to_string();
    let to = path.with_extension("commas.csv");
    let with = |found: &str, mark: &str| {
        // With these, a comma is a decimal one.
        (format!("{found} ('{line}')"), format!("sed 's/,/./g; s/{mark}/,/g' {place} > {}", to.display()))
    };
    let (found, fix) = match line {
        line if line.contains('\t') => with("columns separated by tabs", "\\t"),
        line if line.contains(';') => with("columns separated by semicolons", ";"),
        line if line.contains('|') => with("columns separated by |", "|"),
        line => (format!("one column ('{line}')"), "check the file".to_owned()),
    };
    Error::invalid(place, found, "at least two, separated by commas", fix)
}

/// The line on which a record starts.
pub fn line(record: &StringRecord) -> u64 {
    record.position().map_or(0, csv::Position::line)
}

/// What the columns of a table are, by their numbers from 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// How many there are.
    pub columns: usize,
    /// The labels.
    pub label: usize,
    /// What names the rows.
    pub id: Option<usize>,
    /// What numbers the rows, as pandas and R write it: left out.
    pub index: Vec<usize>,
    /// Whether the first line is known to be a header.
    pub header: bool,
}

/// Names that a column of labels has, where the user names none.
const LABELS: [&str; 4] = ["label", "labels", "class", "target"];

impl Roles {
    /// Finds them by what the user says, then by the first line's names; a column of `files` holds labels only where one of these says so.
    /// Whoever reads decides about `id` where it is `None`.
    pub fn new(first: &StringRecord, files: &[usize], request: &Request, path: &Path) -> Result<Roles> {
        let names: Vec<String> = first.iter().map(str::to_owned).collect();
        if names.len() < 2 {
            return Err(separated_otherwise(path, names.first().map_or("", String::as_str)));
        }
        let said = |option, wanted: &Option<String>| {
            wanted.as_deref().map(|wanted| column(&names, option, wanted, path)).transpose()
        };
        let (label, id) = (said("--label-column", &request.label_column)?, said("--id-column", &request.id_column)?);
        let of_user = |column: usize| [label, id].iter().flatten().any(|(used, _)| *used == column);
        let maybe: Vec<usize> = (0..names.len()).filter(|&i| !of_user(i) && numbers_rows(&names, i)).collect();
        let index = of_integers(path, &names, &maybe)?;
        let mut header = !index.is_empty() || [label, id].iter().flatten().any(|(_, named)| *named);
        let free = |i: &usize| !index.contains(i) && id.is_none_or(|(id, _)| id != *i);
        let is_label = |i: &usize| LABELS.iter().any(|name| names[*i].eq_ignore_ascii_case(name));
        let called: Vec<usize> = (0..names.len()).filter(free).filter(is_label).collect();
        let label = match (label, &called[..]) {
            (Some((label, _)), _) => label,
            (None, &[label]) => {
                header = true;
                label
            }
            (None, [first, .., last]) => {
                let found =
                    format!("columns {} ('{}') and {} ('{}')", first + 1, names[*first], last + 1, names[*last]);
                let place = path.display().to_string();
                return Err(Error::invalid(
                    place,
                    found,
                    "one column that is called like labels",
                    "name it with --label-column",
                ));
            }
            (None, _) => {
                let mut others = (0..names.len()).rev().filter(free);
                let last = others.clone().next().unwrap_or(names.len() - 1);
                others.find(|i| !files.contains(i)).unwrap_or(last)
            }
        };
        if id.is_some_and(|(id, _)| id == label) {
            let found = format!("column {} for the ids and for the labels", label + 1);
            return Err(Error::invalid("--id-column", found, "two columns", "name another with --label-column"));
        }
        let index = index.into_iter().filter(|&i| i != label).collect();
        Ok(Roles { columns: names.len(), label, id: id.map(|(id, _)| id), index, header })
    }

    /// Whether the labels are the last column for want of a better one.
    pub fn guessed(&self, first: &StringRecord, request: &Request) -> bool {
        let called = |name: &str| LABELS.iter().any(|label| name.eq_ignore_ascii_case(label));
        request.label_column.is_none() && !first.get(self.label).is_some_and(called)
    }

    /// A column as an option takes it: its name where there is a header and no other of that name, else its number from 1.
    pub fn option(&self, first: &StringRecord, column: usize) -> String {
        let name = first.get(column).unwrap_or_default();
        let once = first.iter().filter(|other| *other == name).count() == 1;
        match self.header && once && !name.is_empty() {
            true if name.contains(|c: char| !c.is_alphanumeric() && c != '_' && c != '-') => format!("'{name}'"),
            true => name.to_owned(),
            false => (column + 1).to_string(),
        }
    }

    /// A column for messages: its name where there is a header, and its number from 1.
    pub fn name(&self, first: &StringRecord, column: usize) -> String {
        match first.get(column).filter(|_| self.header) {
            Some(name) => format!("'{name}' (column {})", column + 1),
            None => format!("column {}", column + 1),
        }
    }

    /// Several columns for messages.
    pub fn names(&self, first: &StringRecord, columns: &[usize]) -> String {
        brief(&columns.iter().map(|&column| self.name(first, column)).collect::<Vec<_>>())
    }
}

/// The column that is called so, else the one of this number from 1; and whether it was the name.
fn column(names: &[String], option: &str, wanted: &str, path: &Path) -> Result<(usize, bool)> {
    let called: Vec<usize> = (0..names.len()).filter(|&i| names[i] == wanted).collect();
    match (&called[..], wanted.parse::<usize>()) {
        (&[index], _) => return Ok((index, true)),
        ([], Ok(number)) if (1..=names.len()).contains(&number) => return Ok((number - 1, false)),
        ([], _) => {}
        (several, _) => {
            let numbers = several.iter().map(|i| (i + 1).to_string()).collect::<Vec<_>>().join(" and ");
            let found = format!("'{wanted}', which columns {numbers} of {} are called", path.display());
            return Err(Error::invalid(option, found, "one column", "give its number instead"));
        }
    }
    let fix = match nearest(wanted, names.iter().map(String::as_str)) {
        Some(name) => format!("did you mean '{name}'?"),
        None => "name one of its columns".to_owned(),
    };
    Err(Error::invalid(
        option,
        format!("'{wanted}', which is no column of {}", path.display()),
        format!("one of: {}; or a number from 1 to {}", brief(names), names.len()),
        fix,
    ))
}

/// Whether a column is called as pandas and R call the one that numbers the rows. An empty cell is such a name only in a header: not
/// among numbers, unless these are 0, 1, 2 … themselves, as pandas calls columns without names.
fn numbers_rows(names: &[String], column: usize) -> bool {
    let name = names[column].to_ascii_lowercase();
    if !name.is_empty() {
        return ["index", "level_0", "rownames"].contains(&&name[..]) || name.starts_with("unnamed: ");
    }
    let others = || names.iter().filter(|name| !name.is_empty());
    let counted = others().enumerate().all(|(i, name)| *name == i.to_string());
    others().next().is_some() && (counted || others().any(|name| number(name).is_none()))
}

/// Those of the columns whose values, below the first line, are whole numbers; and all different where the column has a name of its own: tables
/// that were put together number their rows anew.
fn of_integers(path: &Path, names: &[String], columns: &[usize]) -> Result<Vec<usize>> {
    let mut seen: Vec<Option<HashSet<u64>>> = vec![Some(HashSet::new()); columns.len()];
    if columns.is_empty() {
        return Ok(Vec::new());
    }
    let mut reader = open(path)?;
    let mut record = StringRecord::new();
    next(&mut reader, &mut record, path)?;
    while next(&mut reader, &mut record, path)? && seen.iter().any(Option::is_some) {
        for (&column, seen) in columns.iter().zip(&mut seen) {
            // As pandas writes an index of a table that was put together: 3, or 3.0.
            let cell = record.get(column).unwrap_or_default();
            let value = cell.strip_suffix(".0").unwrap_or(cell).parse::<u64>();
            let unnamed = names[column].is_empty() || names[column].to_ascii_lowercase().starts_with("unnamed: ");
            let new = seen.as_mut().is_some_and(|seen| value.is_ok_and(|value| seen.insert(value) || unnamed));
            if !new {
                *seen = None;
            }
        }
    }
    let found = columns.iter().zip(seen).filter(|(_, seen)| seen.as_ref().is_some_and(|seen| !seen.is_empty()));
    Ok(found.map(|(&column, _)| column).collect())
}

/// Refuses a column that gives nearly every row a class of its own: it is no label.
///
/// # Errors
/// When it does; `column` is named as in [`Roles::name`], `other` says which one may be meant.
pub fn check_labels(
    rows: usize,
    classes: &[String],
    column: &str,
    path: &Path,
    other: impl FnOnce() -> Option<String>,
) -> Result<()> {
    let all = rows >= 10 && classes.len() == rows;
    if !(all || rows > 20 && classes.len() * 2 > rows) {
        return Ok(());
    }
    Err(Error::invalid(
        format!("{column} of {}", path.display()),
        format!("{} different values in {rows} rows: {}", classes.len(), brief(classes)),
        "a column of labels: a few classes, each of many rows",
        other().unwrap_or_else(|| "name the column with --label-column".to_owned()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(text: &str, label: Option<&str>, id: Option<&str>) -> Result<Roles> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        std::fs::write(&path, text).unwrap();
        let mut first = StringRecord::new();
        next(&mut open(&path)?, &mut first, &path)?;
        let own = |text: Option<&str>| text.map(str::to_owned);
        let request = Request { label_column: own(label), id_column: own(id), ..Request::default() };
        Roles::new(&first, &[], &request, &path)
    }

    #[test]
    fn a_column_is_named_numbered_or_the_nearest_is_suggested() {
        let find = |label| roles("id,v1,glasses\na,1,2\n", label, None);
        assert_eq!(find(None).unwrap(), Roles { columns: 3, label: 2, ..Roles::default() });
        assert_eq!(find(Some("v1")).unwrap(), Roles { columns: 3, label: 1, header: true, ..Roles::default() });
        assert_eq!(find(Some("3")).unwrap(), Roles { columns: 3, label: 2, ..Roles::default() });
        let message = find(Some("glases")).unwrap_err().to_string();
        assert!(message.contains("did you mean 'glasses'?"), "{message}");
        assert!(find(Some("4")).is_err());
        assert!(find(Some("0")).is_err());
        let twice = roles("a,b,b\n1,2,3\n", Some("b"), None).unwrap_err().to_string();
        assert!(twice.contains("columns 2 and 3"), "{twice}");
        assert!(roles("a,b,c\n1,2,3\n", Some("b"), Some("2")).is_err());
    }

    #[test]
    fn a_column_that_is_called_label_is_the_label() {
        for text in ["label,p0,p1\n1,2,3\n", "Class,p0,p1\n1,2,3\n"] {
            let found = roles(text, None, None).unwrap();
            assert_eq!((found.label, found.header), (0, true), "{text}");
        }
        // Coordinates, for one, are called y.
        assert_eq!(roles("y,x,z\n1,2,3\n", None, None).unwrap().label, 2);
        assert!(roles("label,class,z\n1,2,3\n", None, None).is_err());
        assert!(roles("label,class,z\n1,2,3\n", None, Some("z")).is_err());
        assert_eq!(roles("label,class,z\n1,2,3\n", Some("class"), Some("z")).unwrap().label, 1);
        // A column that the user gives another part in is none of the two.
        assert_eq!(roles("label,class,z\n1,2,3\n", None, Some("label")).unwrap().label, 1);
    }

    #[test]
    fn a_column_that_numbers_the_rows_is_left_out() {
        let index = |text| roles(text, None, None).unwrap().index;
        assert_eq!(index("Unnamed: 0,x,y\n0,5,1\n1,5,0\n"), [0]);
        assert_eq!(index("Unnamed: 0,Unnamed: 0.1,x,y\n0,1,5,1\n1,0,5,0\n"), [0, 1]);
        assert_eq!(index(",x,y\n7,5,1\n3,5,0\n"), [0]);
        assert_eq!(index(",0,1,2\n0,5,5,a\n1,5,5,b\n"), [0]);
        assert_eq!(index("x,y,index\n5,1,0\n5,0,1\n"), [2]);
        assert_eq!(roles("x,y,index\n5,1,0\n5,0,1\n", None, None).unwrap().label, 1);
        assert_eq!(index(",x,y\n0,5,1\n1,5,0\n0,5,1\n"), [0]);
        // Not: values that return, no whole numbers, a first line of values, a column that the user names.
        assert_eq!(index("index,x,y\n0,5,1\n0,5,0\n"), [0; 0]);
        assert_eq!(index(",x,y\na,5,1\nb,5,0\n"), [0; 0]);
        assert_eq!(index(",5,1\n1,6,0\n2,7,0\n"), [0; 0]);
        assert_eq!(roles("index,x,y\n0,5,1\n1,5,0\n", None, Some("index")).unwrap().index, [0; 0]);
    }
}

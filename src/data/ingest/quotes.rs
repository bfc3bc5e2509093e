//! Quotation marks that are lost: the reader of CSV makes a text of whatever it finds around them.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use crate::error::{Error, Result};

/// Where in a cell the reader is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    Plain,
    Quoted,
    /// Behind a quotation mark that closes, if no other follows.
    Closed,
}

/// Refuses a cell with a quotation mark too few: of the columns `texts` any, of `numbers` those that are read as a number all the same.
///
/// # Errors
/// When there is one, with its line; or the file cannot be read.
pub fn check(path: &Path, texts: &[usize], numbers: &[usize]) -> Result<()> {
    let mut reader = BufReader::new(crate::files::open(path)?);
    let failed = |error| Error::io("read", path)(error);
    if reader.fill_buf().map_err(failed)?.starts_with(b"\xef\xbb\xbf") {
        reader.consume(3);
    }
    let (mut line, mut column, mut place) = (1u64, 0, Place::Start);
    let (mut cell, mut marked, mut from) = (Vec::new(), false, 1);
    // The last line may have no end.
    for byte in reader.bytes().chain(std::iter::once(Ok(b'\n'))) {
        let byte = byte.map_err(failed)?;
        let end = matches!(byte, b',' | b'\n' | b'\r') && place != Place::Quoted;
        if !end {
            place = match (place, byte) {
                (Place::Start | Place::Closed, b'"') => Place::Quoted,
                (Place::Quoted, b'"') => Place::Closed,
                (Place::Start | Place::Closed, _) => Place::Plain,
                (place, _) => place,
            };
            marked |= byte == b'"';
            cell.push(byte);
        } else {
            if marked {
                refuse(path, from, column, &String::from_utf8_lossy(&cell), texts, numbers)?;
            }
            (place, marked) = (Place::Start, false);
            cell.clear();
            column = if byte == b',' { column + 1 } else { 0 };
        }
        line += u64::from(byte == b'\n');
        if end {
            from = line;
        }
    }
    if marked {
        refuse(path, from, column, &String::from_utf8_lossy(&cell), texts, numbers)?;
    }
    Ok(())
}

fn refuse(path: &Path, line: u64, column: usize, cell: &str, texts: &[usize], numbers: &[usize]) -> Result<()> {
    let is_number = || {
        let text: String = cell.chars().filter(|&c| c != '"').collect();
        cell.trim_start().starts_with('"') && text.trim().parse::<f32>().is_ok() && numbers.contains(&column)
    };
    match lost(cell) {
        Some(what) if texts.contains(&column) || is_number() => Err(Error::invalid(
            format!("{}, line {line}, column {}", path.display(), column + 1),
            format!("{what}: {}", cell.trim()),
            "quotation marks around a whole cell, or none",
            "look for one that is missing, or one too many; a mark that belongs to the text is written twice, in quotes: \"5\"\" pipe\"",
        )),
        _ => Ok(()),
    }
}

/// What is wrong with a cell as it stands in the file. `5" pipe` and `so-called "pipe"` are texts.
fn lost(cell: &str) -> Option<&'static str> {
    let cell = cell.trim();
    match cell.strip_prefix('"') {
        Some(rest) => match rest.replace("\"\"", "__").split_once('"') {
            // Nothing but marks, of which the last closes: an empty text.
            None if rest == "\"" => None,
            None => Some("a quotation mark that nothing closes"),
            Some((_, "")) => None,
            Some(_) => Some("text behind the quotation mark that closes"),
        },
        None if cell.ends_with('"') && cell.matches('"').count() % 2 == 1 => {
            Some("a quotation mark at the end, and none at the start")
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_that_lost_their_partner_are_told_from_those_of_the_text() {
        for cell in
            ["a", "\"a\"", "\"\"", "\"a\"\"\"", "5\" pipe", "a \"b\"", " \"a\" ", "\"5\"\" pipe\"", "\"\"\"a\"\"\""]
        {
            assert_eq!(lost(cell), None, "{cell}");
        }
        for cell in ["c0\"", "\"x1\" junk", "\"x1\"junk", "\"a", "\"a\"\"", "\"a\" \"b\"", " c0\" "] {
            assert!(lost(cell).is_some(), "{cell}");
        }
    }
}

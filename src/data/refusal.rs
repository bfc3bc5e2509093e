//! What is said of a file that is no dataset.

use std::path::Path;

use crate::error::Error;

/// What to do about a file that is no dataset.
pub const FIX: &str = "check that it is a complete dataset; 'The HDF5 schema' in README.md describes one";

/// What is wrong at a place of the file.
pub fn invalid(path: &Path, place: &str, found: impl Into<String>, expected: impl Into<String>) -> Error {
    Error::invalid(format!("{} {place}", path.display()), found, expected, FIX)
}

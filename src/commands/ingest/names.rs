//! Names of files need not be text: each byte travels as a letter.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serializer};

pub fn serialize<S: Serializer>(paths: &[PathBuf], to: S) -> Result<S::Ok, S::Error> {
    let letters = |path: &PathBuf| path.as_os_str().as_bytes().iter().copied().map(char::from).collect::<String>();
    to.collect_seq(paths.iter().map(letters))
}

pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PathBuf>, D::Error> {
    let path = |letters: String| OsString::from_vec(letters.chars().map(|letter| letter as u8).collect()).into();
    Ok(Vec::<String>::deserialize(from)?.into_iter().map(path).collect())
}

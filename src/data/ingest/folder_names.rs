//! What folders' names mean.

use std::path::Path;

use crate::data::Split;

/// The split that a folder's name means, and whether the name is that split's and nothing else.
pub fn meaning(path: &Path) -> (Option<Split>, bool) {
    let name = name_of(path).to_lowercase();
    let whole = split_of(&name, false);
    // `test1`, `trainset`, `seg_test`.
    let part = || {
        let words = name.split(|c: char| !c.is_alphabetic());
        words.map(|word| word.strip_suffix("set").unwrap_or(word)).find_map(|word| split_of(word, true))
    };
    (whole.or_else(part), whole.is_some())
}

/// The name of a folder, without those that it lies in.
pub fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The split that a word means; `loosely`, also one that is used for several.
fn split_of(word: &str, loosely: bool) -> Option<Split> {
    match word {
        "trn" | "tr" if loosely => Some(Split::Train),
        "dev" | "eval" | "evaluation" | "validate" if loosely => Some(Split::Val),
        "tst" | "te" | "holdout" if loosely => Some(Split::Test),
        word => Split::called(word),
    }
}

//! Ids that are no file's name, but nearly: another folder, ending, case or writing of accents; and the pattern that would fit.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use unicode_normalization::UnicodeNormalization;

/// Ids that a pattern is tried with.
const TRIED: usize = 200;

/// Ids that are looked for in longer names.
const TRIED_LONGER: usize = 20;

/// An id's last part, behind the last `/` or `\`.
pub fn name(id: &str) -> &str {
    id.rsplit(['/', '\\']).next().unwrap_or(id)
}

/// The last part without its ending.
pub fn stem(id: &str) -> &str {
    let name = name(id);
    name.rsplit_once('.').map_or(name, |(stem, _)| if stem.is_empty() { name } else { stem })
}

/// The file's path below the source, for an id and a pattern.
pub fn filled(pattern: &str, id: &str) -> String {
    pattern.replace("{id}", id).replace("{name}", name(id)).replace("{stem}", stem(id))
}

/// Whether a pattern has a place for the id.
pub fn has_place(pattern: &str) -> bool {
    ["{id}", "{name}", "{stem}"].iter().any(|place| pattern.contains(place))
}

/// How the files are spelt that the ids might mean; nothing where none is alike. `files` are the pictures, below `root`. Patterns are
/// counted over `all` ids, where others than these have found theirs.
pub fn alike(ids: &[&str], all: Option<&[&str]>, files: &[&Path], root: &Path) -> Option<String> {
    let key = |text: &str| text.nfc().collect::<String>().to_lowercase();
    let below = |file: &Path| file.strip_prefix(root).unwrap_or(file).to_string_lossy().replace('\\', "/");
    let paths: Vec<String> = files.iter().map(|file| below(file)).collect();
    let mut by_stem: HashMap<String, Vec<&str>> = HashMap::new();
    for path in &paths {
        by_stem.entry(key(stem(path))).or_default().push(path);
    }
    let ids = &ids[..ids.len().min(TRIED)];
    let there: HashSet<&str> = paths.iter().map(String::as_str).collect();
    let nearly = ids.iter().find_map(|id| match by_stem.get(&key(stem(id))).map(Vec::as_slice) {
        Some(&[path]) => Some((*id, path)),
        _ => None,
    });
    let Some((id, path)) = nearly else {
        return longer(&ids[..ids.len().min(TRIED_LONGER)], all.unwrap_or(ids), &paths, &there, root);
    };
    let mut differ = Vec::new();
    if id.contains('\\') {
        differ.push("has backslashes");
    }
    let folder = |text: &str| text.replace('\\', "/").rsplit_once('/').map(|(folder, _)| key(folder));
    if folder(id) != folder(path) {
        differ.push("names another folder");
    }
    if !ending(id).is_empty() && ending(id) != ending(path) {
        differ.push("has another ending");
    }
    if stem(id) != stem(path) {
        let same_case = stem(id).nfc().eq(stem(path).nfc());
        differ.push(if same_case { "writes accents otherwise (NFC and NFD)" } else { "has another case" });
    }
    let mut text = format!("'{id}' may be {}: it {}", root.join(path).display(), differ.join(", "));
    let (parent, ending) = (parent(path), ending(path));
    let patterns = [format!("{parent}{{name}}"), format!("{parent}{{stem}}{ending}"), format!("{{id}}{ending}")];
    let all = all.unwrap_or(ids);
    text.push_str(&that_fits(&patterns, all, &there));
    Some(text)
}

/// What the pattern that finds most of the ids finds.
fn that_fits(patterns: &[String], all: &[&str], there: &HashSet<&str>) -> String {
    let fits = |pattern: &String| all.iter().filter(|id| there.contains(&filled(pattern, id)[..])).count();
    let Some((count, pattern)) = patterns.iter().rev().map(|p| (fits(p), p)).max_by_key(|(count, _)| *count) else {
        return String::new();
    };
    if count == 0 {
        return String::new();
    }
    let mut text = format!("; --pattern '{pattern}' finds {count} of the first {}", all.len());
    let mut not = all.iter().filter(|id| !there.contains(&filled(pattern, id)[..]));
    if let Some(id) = not.next() {
        let more = not.count();
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        text.push_str(&format!(", not '{id}'{more}"));
    }
    text
}

fn ending(text: &str) -> &str {
    name(text).strip_prefix(stem(text)).unwrap_or_default()
}

/// The folder of a path, with the `/` behind it.
fn parent(path: &str) -> String {
    path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"))
}

/// As [`alike`], for files whose names are longer than the ids: `img_7.png` or `007.png` for `7`.
fn longer(ids: &[&str], all: &[&str], paths: &[String], there: &HashSet<&str>, root: &Path) -> Option<String> {
    // What stands before the id in a file's name; whole numbers only: 7 is no part of 17.
    let before = |id: &str, path: &str| {
        let before = stem(path).strip_suffix(stem(id))?;
        let cut = before.ends_with(|c: char| c.is_ascii_digit()) && stem(id).starts_with(|c: char| c.is_ascii_digit());
        let zeros = before.trim_end_matches('0');
        let padded = cut && zeros.len() < before.len() && !zeros.ends_with(|c: char| c.is_ascii_digit());
        (!stem(id).is_empty() && (padded || !cut)).then(|| (before.to_owned(), padded))
    };
    let found = ids.iter().find_map(|id| paths.iter().find_map(|path| Some((*id, path, before(id, path)?))));
    let (id, path, (before, padded)) = found?;
    let may_be = format!("'{id}' may be {}", root.join(path).display());
    if padded {
        return Some(format!("{may_be}: it lacks zeros in front; write the ids as the files are called"));
    }
    let place = if id == stem(id) { "{id}" } else { "{stem}" };
    let pattern = format!("{}{before}{place}{}", parent(path), ending(path));
    Some(format!("{may_be}: it lacks '{before}' in front{}", that_fits(&[pattern], all, there)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(id: &str, file: &str) -> String {
        alike(&[id], None, &[Path::new(file)], Path::new("p")).unwrap_or_default()
    }

    #[test]
    fn the_pattern_that_fits_is_named() {
        let backslash = said("pics\\1.png", "p/pics/1.png");
        assert!(backslash.contains("has backslashes; --pattern 'pics/{name}' finds 1 of the first 1"), "{backslash}");
        assert!(said("1.jpg", "p/1.png").contains("another ending; --pattern '{stem}.png' finds 1"));
        assert!(said("/home/x/1.png", "p/1.png").contains("another folder; --pattern '{name}' finds 1"));
        assert!(said("train/1.png", "p/images/1.png").contains("--pattern 'images/{name}'"));
        assert!(said("IMG_1.png", "p/img_1.png").ends_with("has another case"));
        assert!(said("cafe\u{301}.png", "p/caf\u{e9}.png").ends_with("writes accents otherwise (NFC and NFD)"));
        assert_eq!(said("2.png", "p/1.png"), "");
        assert!(
            said("0", "p/img_0.png")
                .ends_with("lacks 'img_' in front; --pattern 'img_{id}.png' finds 1 of the first 1")
        );
        assert!(said("0.jpg", "p/a/img_0.png").contains("--pattern 'a/img_{stem}.png' finds 1"));
        assert!(said("7", "p/00007.png").contains("lacks zeros in front"));
        assert!(said("10", "p/img_00010.png").contains("lacks zeros in front"));
        assert!(said("0", "p/00000.png").contains("lacks zeros in front"));
        for (id, file) in [("7", "p/17.png"), ("0", "p/100.png"), ("7", "p/107.png")] {
            assert_eq!(said(id, file), "", "{id} {file}");
        }
        assert_eq!((name("a/b.c/d"), stem("a\\b.tar.gz"), stem(".x")), ("d", "b.tar", ".x"));
    }
}

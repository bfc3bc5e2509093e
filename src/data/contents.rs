//! What lies in an HDF5 file, for messages.

use super::{Split, foreign};

/// So many things are looked at, and so deep.
const MOST: usize = 200;
const DEEPEST: usize = 3;
/// So many are named.
const NAMED: usize = 12;

/// A group that holds the rows of a split.
#[derive(Debug)]
pub struct Group {
    /// Whose rows they are.
    pub split: Split,
    /// What it is called: `val`, or `Validation`.
    pub name: String,
    /// How many rows.
    pub rows: usize,
}

/// Something in a file.
struct Item {
    /// Its path from the root, without the first `/`.
    path: String,
    /// What it is: `u8 [100, 32, 32]`, `a group`, `a link`.
    what: String,
}

/// All that lies below the group `of` (the root where it is empty), groups before what is in them; empty groups and those that are too
/// deep stand for themselves.
fn below(file: &hdf5::File, of: &str, deep: usize, found: &mut Vec<Item>) {
    let group = if of.is_empty() { file.as_group() } else { file.group(of) };
    let mut names = group.and_then(|group| group.member_names()).unwrap_or_default();
    names.sort();
    for name in names {
        if found.len() >= MOST {
            return;
        }
        let path = if of.is_empty() { name } else { format!("{of}/{name}") };
        let what = if foreign::link(file, &path) != Some(0) {
            "a link".to_owned()
        } else if let Ok(dataset) = file.dataset(&path) {
            match foreign::kind(&dataset) {
                (Some(kind), _) => format!("{kind} {:?}", dataset.shape()),
                _ => format!("values {:?}", dataset.shape()),
            }
        } else {
            let before = found.len();
            if deep < DEEPEST {
                below(file, &path, deep + 1, found);
            }
            if found.len() > before {
                continue;
            }
            "a group".to_owned()
        };
        found.push(Item { path, what });
    }
}

fn named(items: &[&Item]) -> String {
    let mut names: Vec<String> =
        items.iter().take(NAMED).map(|item| format!("/{} ({})", item.path, item.what)).collect();
    if items.len() > NAMED {
        names.push(format!("… ({} in all)", items.len()));
    }
    names.join(", ")
}

/// What is there instead of what was looked for.
pub fn described(file: &hdf5::File, of: &str) -> String {
    if !of.is_empty()
        && let Ok(dataset) = file.dataset(of)
    {
        return format!("it is a dataset of {}", foreign::extent(&dataset));
    }
    let mut items = Vec::new();
    below(file, of, 0, &mut items);
    let items: Vec<&Item> = items.iter().collect();
    if items.is_empty() { "nothing is there".to_owned() } else { format!("there: {}", named(&items)) }
}

/// What is in the file and not read; and attributes that look like class names where there are none.
pub fn not_read(file: &hdf5::File, splits: &[Group], rows: &str, has_classes: bool) -> Vec<String> {
    let mut items = Vec::new();
    below(file, "", 0, &mut items);
    let is_read = |path: &str| match path.split_once('/') {
        Some((group, name)) => splits.iter().any(|split| split.name == group) && (name == rows || name == "labels"),
        None => path == "classes",
    };
    let others: Vec<&Item> = items.iter().filter(|item| !is_read(&item.path)).collect();
    let mut notes = Vec::new();
    if !others.is_empty() {
        notes.push(format!("not read: {}", named(&others)));
    }
    let like_names = |name: &String| ["class", "label", "name"].iter().any(|word| name.to_lowercase().contains(word));
    let groups =
        splits.iter().filter_map(|split| Some((format!(" of /{}", split.name), file.group(&split.name).ok()?)));
    let root = file.as_group().ok().map(|root| (String::new(), root));
    let attributes = |(place, group): (String, hdf5::Group)| {
        let names = group.attr_names().unwrap_or_default();
        names.into_iter().find(like_names).map(|name| format!("'{name}'{place}"))
    };
    if !has_classes && let Some(name) = root.into_iter().chain(groups).find_map(attributes) {
        notes.push(format!(
            "the attribute {name} is not read: class names stand in the attribute 'classes' of the file"
        ));
    }
    notes
}

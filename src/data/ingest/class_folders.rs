//! Pictures in a folder a class; these may lie in a folder a split.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use unicode_normalization::UnicodeNormalization;

use super::folder_names::{meaning, name_of};
use super::labels::in_order;
use super::refusals::{brief, unknown};
use super::{Content, Folders, Request, Source, folder, nested};
use crate::data::Split;
use crate::data::picture::{FORMATS, is_picture, left_out};
use crate::error::{Error, Result, nearest};
use crate::plural::plural;

/// A sub-folder, as far as its name tells.
struct Named {
    path: PathBuf,
    /// The split that its name means, if it means one.
    split: Option<Split>,
    /// Whether the name is that split's and nothing else.
    exact: bool,
    /// Whether folders lie in it.
    holds_folders: bool,
    /// Whether these are all that lies in it, but for files that are no pictures.
    holds_classes: bool,
}

impl Named {
    fn new(path: PathBuf) -> Result<Named> {
        let (split, exact) = meaning(&path);
        let (files, folders) = if split.is_some() { folder::entries(&path)? } else { (Vec::new(), Vec::new()) };
        let holds_folders = !folders.is_empty();
        let holds_classes = holds_folders && !files.iter().any(|file| is_picture(file));
        Ok(Named { path, split, exact, holds_folders, holds_classes })
    }
}

/// A picture of a class, and the split that the source gives it; none for train, from which more can be held back.
struct Row {
    class: String,
    path: PathBuf,
    given: Option<Split>,
}

/// A folder a class, or a folder a split with these below.
///
/// # Errors
/// When there are no sub-folders, or one without pictures, or it is not clear what they are.
pub fn read(request: &Request) -> Result<Source> {
    let source = &request.source;
    let (files, folders) = folder::entries(source)?;
    if folders.is_empty() {
        let found = if files.iter().any(|file| is_picture(file)) {
            "pictures but no labels: no sub-folders, no CSV"
        } else {
            "neither sub-folders nor anything else we know"
        };
        return Err(unknown(source, found));
    }
    let root = source.canonicalize().map_err(Error::io("list", source))?;
    if let Some(link) = folders.iter().find(|path| folder::leads_around(path, &root)) {
        let found = "a link that leads in a circle, to the folder it lies in or one around that";
        return Err(Error::invalid(link.display().to_string(), found, "a folder of pictures", "remove the link"));
    }
    let named = folders.into_iter().map(Named::new).collect::<Result<Vec<Named>>>()?;
    let (mut rows, mut left, mut notes) = (Vec::<Row>::new(), Vec::new(), Vec::new());
    let (mut below, mut classes) = (nested::Below::default(), Vec::new());
    if are_splits(request, &named)? {
        for part in named.iter().filter(|part| part.split.is_none()) {
            notes.push(format!("{} is no split's: left out", part.path.display()));
        }
        let mut parts: Vec<(Split, PathBuf)> =
            named.into_iter().filter_map(|part| Some((part.split?, part.path))).collect();
        go_to_the_classes(&mut parts)?;
        let (mut read, mut taken) = (Vec::new(), Vec::new());
        for (split, folder) in &parts {
            let (files, classes) = folder::entries(folder)?;
            if classes.is_empty() {
                return Err(unknown(folder, "no sub-folders, although its name is a split's"));
            }
            left.extend(files);
            let before = rows.len();
            for class in classes {
                let start = rows.len();
                class_rows(&class, (*split != Split::Train).then_some(*split), &mut rows, &mut left)?;
                read.push(ClassFolder { split: *split, count: rows.len() - start, folder: class });
            }
            taken.push(format!(
                "{} is {} ({})",
                folder.display(),
                split.name(),
                plural(rows.len() - before, "picture")
            ));
        }
        let none = if parts.iter().any(|(split, _)| *split == Split::Test) {
            ""
        } else {
            "; none is test (--test holds back training rows)"
        };
        let what = format!("the folders in {} are splits, the classes lie in them", source.display());
        notes.push(format!("{what}: {}{none}", brief(&taken)));
        notes.extend(in_every_split(&read, source)?);
        classes.extend(read.into_iter().map(|part| part.folder));
    } else {
        too_deep(source, &named)?;
        let folders: Vec<&Path> = named.iter().map(|part| part.path.as_path()).collect();
        let asked = request.folders.is_none();
        let alike = nested::alike_below(&folders)?;
        if asked {
            nested::sets(source, &folders, alike.as_deref())?;
        }
        for part in &named {
            let first = rows.len();
            class_rows(&part.path, None, &mut rows, &mut left)?;
            below.add(&part.path, rows[first..].iter().map(|row| row.path.as_path()));
        }
        if asked {
            below.no_splits(source)?;
        }
        classes.extend(named.into_iter().map(|part| part.path));
        notes.extend(alike.map(|alike| format!("{alike}; where these are the classes, lay them together")));
    }
    let from: Vec<&Path> = rows.iter().map(|row| row.path.as_path()).collect();
    notes.extend(nested::each_once(&classes.iter().map(PathBuf::as_path).collect::<Vec<_>>(), &from)?);
    let classes = in_order(rows.iter().map(|row| row.class.clone()).collect());
    let numbers: HashMap<&str, usize> = classes.iter().enumerate().map(|(i, class)| (class.as_str(), i)).collect();
    let labels = rows.iter().map(|row| numbers[row.class.as_str()]).collect();
    let given = rows.iter().map(|row| row.given).collect();
    let (stray, other): (Vec<PathBuf>, Vec<PathBuf>) = files.into_iter().chain(left).partition(|file| is_picture(file));
    notes.extend(left_out(other.iter().map(PathBuf::as_path)));
    Ok(Source {
        shape: request.picture_shape(),
        content: Content::Pictures(rows.into_iter().map(|row| row.path).collect()),
        labels,
        given,
        bad: Vec::new(),
        hint: None,
        unlabelled: stray.len(),
        origin: format!("the pictures in {}, a folder a class", source.display()),
        notes,
        classes,
    })
}

/// Whether the sub-folders are splits: as the user said; else all are called so and hold folders.
fn are_splits(request: &Request, named: &[Named]) -> Result<bool> {
    let splits = named.iter().filter(|part| part.split.is_some()).count();
    match request.folders {
        Some(Folders::Classes) => return Ok(false),
        Some(Folders::Splits) if named.iter().any(|part| part.split == Some(Split::Train)) => return Ok(true),
        Some(Folders::Splits) => {
            too_deep(&request.source, named)?;
            return Err(Error::invalid(
                request.source.display().to_string(),
                format!("no folder of training pictures among {}", names(named)),
                "one with the word train in its name",
                "rename it, or pass --folders classes",
            ));
        }
        None => {}
    }
    let train = named.iter().any(|part| part.split == Some(Split::Train));
    let once = |part: &Named| named.iter().filter(|other| other.split == part.split).count() == 1;
    let clear = train && named.iter().all(|part| part.exact && part.holds_classes && once(part));
    let holding = || named.iter().filter(|part| part.split.is_some() && part.holds_folders);
    let only = train && splits == named.len();
    let doubtful =
        splits >= 2 && (only || holding().any(|part| part.split == Some(Split::Train)) || holding().count() >= 2);
    if doubtful && !clear {
        return Err(Error::invalid(
            request.source.display().to_string(),
            format!("sub-folders that may be classes or splits of the rows: {}", names(named)),
            "a folder a class; or train, val and test alone, each with a folder a class",
            format!("say which: --folders splits or --folders classes; as splits, {}", meanings(named)),
        ));
    }
    Ok(clear)
}

fn names(named: &[Named]) -> String {
    brief(&named.iter().map(|part| name_of(&part.path)).collect::<Vec<_>>())
}

/// What `--folders splits` would take the folders for.
fn meanings(named: &[Named]) -> String {
    let of = |part: &Named| {
        let taken = part.split.map_or("left out", Split::name);
        format!("{} is {taken}", name_of(&part.path))
    };
    let train = named.iter().any(|part| part.split == Some(Split::Train));
    let none = if train { "" } else { "; none is train: rename one for that" };
    format!("{}{none}", brief(&named.iter().map(of).collect::<Vec<_>>()))
}

/// Links that lead in a circle end here.
const DEEPEST: usize = 32;

/// The only sub-folder, where it holds folders, and no pictures lie beside or in it.
fn only_folder(folder: &Path) -> Result<Option<PathBuf>> {
    let bare = |files: &[PathBuf]| !files.iter().any(|file| is_picture(file));
    let (files, folders) = folder::entries(folder)?;
    let [only] = &folders[..] else { return Ok(None) };
    let (below, folders) = folder::entries(only)?;
    Ok((bare(&files) && bare(&below) && !folders.is_empty()).then(|| only.clone()))
}

/// `photos/photos/cats`: the classes lie in the only sub-folder, or further down.
fn too_deep(source: &Path, named: &[Named]) -> Result<()> {
    let [only] = named else { return Ok(()) };
    let mut deepest = only.path.clone();
    for _ in 0..DEEPEST {
        match only_folder(&deepest)? {
            Some(below) => deepest = below,
            None => break,
        }
    }
    let (_, folders) = folder::entries(&deepest)?;
    if folders.len() < 2 {
        return Ok(());
    }
    let below: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    Err(Error::invalid(
        source.display().to_string(),
        format!("one sub-folder, which holds folders: {}", brief(&below)),
        "a folder a class",
        format!("go deeper, to where the classes lie: glasses ingest {}", deepest.display()),
    ))
}

/// `training_set/training_set/cats`: goes down where a split's only sub-folder is called like it, or alike in all of them.
fn go_to_the_classes(parts: &mut [(Split, PathBuf)]) -> Result<()> {
    for _ in 0..DEEPEST {
        let only = parts.iter().map(|(_, folder)| only_folder(folder)).collect::<Result<Vec<_>>>()?;
        let name = |only: &Option<PathBuf>| only.as_deref().map(|only| name_of(only).to_lowercase());
        let alike = only.iter().all(|one| one.is_some() && name(one) == name(&only[0]));
        let mut went = false;
        for ((split, folder), only) in parts.iter_mut().zip(only) {
            if let Some(only) = only.filter(|only| alike || meaning(only).0 == Some(*split)) {
                *folder = only;
                went = true;
            }
        }
        if !went {
            break;
        }
    }
    Ok(())
}

/// A class's folder in a split's.
struct ClassFolder {
    split: Split,
    folder: PathBuf,
    count: usize,
}

/// What is said of classes that are not in every split.
///
/// # Errors
/// When one is not in train.
fn in_every_split(parts: &[ClassFolder], source: &Path) -> Result<Option<String>> {
    let mut splits: BTreeMap<String, Vec<Split>> = BTreeMap::new();
    for part in parts {
        splits.entry(name_of(&part.folder)).or_default().push(part.split);
    }
    let trained: Vec<&str> =
        splits.iter().filter(|(_, splits)| splits.contains(&Split::Train)).map(|(class, _)| class.as_str()).collect();
    let untrained: Vec<&ClassFolder> =
        parts.iter().filter(|part| trained.binary_search(&name_of(&part.folder).as_str()).is_err()).collect();
    if let Some(first) = untrained.first() {
        let shown = |part: &&ClassFolder| format!("{} ({})", part.folder.display(), plural(part.count, "picture"));
        let name = name_of(&first.folder);
        let key = |text: &str| text.nfc().collect::<String>().to_lowercase();
        let same = trained.iter().find(|class| key(class) == key(&name));
        let rename = |class: &str, why: &str| {
            let to = first.folder.with_file_name(class);
            format!("{why}: mv '{}' '{}'", first.folder.display(), to.display())
        };
        let fix = match (same, nearest(&name, trained.iter().copied())) {
            (Some(class), _) => rename(class, "write a class alike in every split"),
            (None, Some(class)) => {
                rename(class, &format!("put pictures of it into train, move the folder away; or, if it is '{class}'"))
            }
            (None, None) => "put pictures of it into train, or move the folder away".to_owned(),
        };
        let trained: Vec<String> = trained.iter().map(|&class| class.to_owned()).collect();
        return Err(Error::invalid(
            source.display().to_string(),
            format!("no training pictures for {}", brief(&untrained.iter().map(shown).collect::<Vec<_>>())),
            format!("classes of train: {}", brief(&trained)),
            fix,
        ));
    }
    let lacking = |split: Split| {
        let classes: Vec<String> =
            splits.iter().filter(|(_, splits)| !splits.contains(&split)).map(|(class, _)| class.clone()).collect();
        let there = parts.iter().any(|part| part.split == split) && !classes.is_empty();
        there.then(|| format!("no {} pictures of {}", split.name(), brief(&classes)))
    };
    let lacking: Vec<String> = [Split::Val, Split::Test].into_iter().filter_map(lacking).collect();
    Ok((!lacking.is_empty()).then(|| format!("classes of train that are not in every split: {}", lacking.join("; "))))
}

/// All pictures below a class's folder; other files go to `left`.
fn class_rows(folder: &Path, given: Option<Split>, rows: &mut Vec<Row>, left: &mut Vec<PathBuf>) -> Result<()> {
    let class = folder.file_name().unwrap_or_default();
    let Some(class) = class.to_str().map(str::to_owned) else {
        let (found, expected) = ("a folder of a class whose name is not UTF-8", "a name that the class can have");
        return Err(Error::invalid(folder.display().to_string(), found, expected, "rename the folder"));
    };
    let before = rows.len();
    for path in folder::walk(folder)? {
        if is_picture(&path) {
            rows.push(Row { class: class.clone(), path, given });
        } else {
            left.push(path);
        }
    }
    if rows.len() == before {
        return Err(Error::invalid(
            folder.display().to_string(),
            "no pictures",
            format!("files that are {FORMATS}, as each sub-folder is a class"),
            "put pictures there, or move the folder away",
        ));
    }
    Ok(())
}

//! `glasses ingest`: turns pictures or tables into a dataset.

mod names;
mod share;
mod skipped;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::comm::{Communicator, on_root};
use crate::data::class_names;
use crate::data::ingest::{Content, Folders, Request, Source, check_classes, discover};
use crate::data::picture::FirstOnly;
use crate::data::split::{Assignment, assign, none_held_back};
use crate::data::writer::check_place;
use crate::data::{RowShape, Rows, Split, Writer};
use crate::error::{Error, Result};
use crate::files::{swept, text_of};
use crate::plural::plural;
use crate::say;

/// Options of `glasses ingest`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = LONG)]
pub struct Options {
    /// What to read: a folder of pictures with --labels, a folder with a sub-folder a class, a folder with MNIST's IDX
    /// files, or a .csv file of features
    #[arg(value_name = "SRC")]
    pub source: PathBuf,
    /// The dataset to write
    #[arg(long, value_name = "FILE.h5")]
    pub out: PathBuf,
    /// The labels of the pictures: a CSV with an id or file name and a label a line [default: SRC/train.csv or
    /// SRC/labels.csv where there is one]
    #[arg(long, value_name = "FILE.csv")]
    pub labels: Option<PathBuf>,
    /// The labels' column in the CSV: its name, or its number from 1 [default: the one called label, class or target, else
    /// the last]
    #[arg(long, value_name = "NAME|NUMBER")]
    pub label_column: Option<String>,
    /// The column that names the rows, by its name, or its number from 1: what finds their pictures, and is no feature [default:
    /// for pictures the first that does not only number the rows, for features the one called id]
    #[arg(long, value_name = "NAME|NUMBER")]
    pub id_column: Option<String>,
    /// Where in SRC the picture of an id is, such as 'images/face-{id}.png'; {name} is what stands behind the id's last slash, {stem}
    /// this without its ending [default: ID.png, face-ID.png and the like
    /// are looked for in SRC and its sub-folders]
    #[arg(long, value_name = "PATTERN")]
    pub pattern: Option<String>,
    /// What the sub-folders of SRC are; a CSV that lies beside them is not read then [default: classes, where there is no CSV; splits where they are called train, val and
    /// test, and the classes lie in them]
    #[arg(long, value_enum)]
    pub folders: Option<Folders>,
    /// Names for the classes, in the order of their labels, separated by commas, such as 'no glasses,glasses'
    /// [default: the labels as written, or the folders' names]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub classes: Option<Vec<String>>,
    /// Height and width in pixels; one number means both [default: 80 for pictures; IDX files keep theirs]
    #[arg(long, value_name = "SIDE|HxW", value_parser = parse_size)]
    pub size: Option<(usize, usize)>,
    /// Values a pixel: 1 grey, 3 RGB, 4 RGBA [default: 3 for pictures, 1 for IDX files]
    #[arg(long, value_name = "COUNT", value_parser = parse_channels)]
    pub channels: Option<usize>,
    /// Fraction of the rows of each class held back to judge the final model by, 0 to 1 [default: 0.2; 0 where the
    /// source has test rows of its own]
    #[arg(long, value_name = "FRACTION")]
    pub test: Option<f64>,
    /// Fraction of the rows of each class held back to choose a model by, 0 to 1
    #[arg(long, value_name = "FRACTION", default_value_t = 0.0)]
    pub val: f64,
    /// Seed of the shuffle that decides which rows are held back and in which order rows are written
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
    /// Leave bad and missing pictures (or rows of a CSV) out, and list them in FILE.h5.skipped [default: say which, and stop]
    #[arg(long)]
    pub skip_bad: bool,
    /// Replace FILE.h5 if it exists [default: stop]
    #[arg(long)]
    pub force: bool,
}

const LONG: &str = "\
Pictures are PNG, JPEG, PGM, BMP, WebP or TIFF files, known by their names' endings or their content. They are turned upright as their EXIF data says, brought to \
--channels (grey by the weights of ITU-R 601-2; transparency becomes white unless there are 4) and resized with Lanczos3 without keeping their proportions.

Examples:
  glasses ingest photos --out photos.h5 --size 64x48  # photos/cats/*, …
  glasses ingest faces --labels labels.csv --out f.h5 # id, …, label
  glasses ingest kaggle --out kaggle.h5               # its faces, as unpacked
  glasses ingest mnist --out mnist.h5                 # train-images-idx3-…
  glasses ingest spiral.csv --out table.h5            # a table of numbers
  mpirun -n 4 glasses ingest photos --out all.h5      # 4 ranks decode";

fn parse_size(text: &str) -> Result<(usize, usize), String> {
    let side = |text: &str| text.parse::<usize>().ok().filter(|side| (1..=16384).contains(side));
    let sides = match text.split_once(['x', 'X']) {
        Some((h, w)) => side(h).zip(side(w)),
        None => side(text).map(|side| (side, side)),
    };
    sides.ok_or_else(|| "expected a side in pixels such as 80, or HxW such as 80x60 (1 to 16384)".to_owned())
}

fn parse_channels(text: &str) -> Result<usize, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        "4" => Ok(4),
        _ => Err("expected 1 (grey), 3 (RGB) or 4 (RGBA)".to_owned()),
    }
}

/// What all ranks need to know: the pictures to decode and how.
#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Job {
    #[serde(with = "names")]
    pictures: Vec<PathBuf>,
    hwc: [usize; 3],
    /// Rows known to be bad before any picture is decoded.
    bad: Vec<String>,
}

/// The rows to write, in the order of writing.
#[derive(Default, serde::Serialize, serde::Deserialize)]
struct IngestPlan {
    train: Vec<usize>,
    val: Vec<usize>,
    test: Vec<usize>,
}

/// Collective: the ranks share the decoding, the root writes. What is written does not depend on their number.
///
/// # Errors
/// When an option does not make sense, the source does not fit or the file cannot be written.
pub fn run(options: &Options, comm: &dyn Communicator) -> Result<()> {
    let _swept = comm.is_root().then(|| swept(&options.out));
    let mut source = None;
    let job = on_root(comm, || {
        let found = prepare(options)?;
        let job = job_of(&found)?;
        source = Some(found);
        Ok(job)
    })?;
    let job: Job = serde_json::from_str(&job).map_err(wire)?;
    let mut bad = job.bad.clone();
    let mut usable: Vec<usize> = (0..job.pictures.len()).collect();
    if !job.pictures.is_empty() && (options.skip_bad || !bad.is_empty()) {
        // The split is made over good rows only, so they must be known first.
        let failures = share::verify(comm, &job.pictures, job.hwc)?;
        usable.retain(|row| !failures.contains_key(row));
        bad.extend(share::listed(&job.pictures, &failures));
    }
    bad.sort_by_cached_key(|line| natural(line));
    if !bad.is_empty() && !options.skip_bad {
        let hint = source.as_ref().and_then(|source| source.hint.as_deref());
        return Err(refuse(bad, job.pictures.len() + job.bad.len(), hint));
    }
    let mut writer = None;
    let plan = on_root(comm, || {
        let Some(source) = &mut source else { unreachable!("the root has it") };
        if !job.pictures.is_empty() {
            keep(source, &usable);
        }
        let (rows, created) = begin(options, source, bad.len())?;
        writer = Some(created);
        serde_json::to_string(&IngestPlan { train: rows.train, val: rows.val, test: rows.test }).map_err(wire)
    })?;
    let plan: IngestPlan = serde_json::from_str(&plan).map_err(wire)?;
    let rows = Assignment { train: plan.train, val: plan.val, test: plan.test };
    if job.pictures.is_empty() {
        on_root(comm, || match (&source, &writer) {
            (Some(source), Some(writer)) => write_local(source, writer, &rows).map(|()| String::new()),
            _ => unreachable!("the root has both"),
        })?;
    } else {
        let pictures: Vec<&Path> = usable.iter().map(|&row| job.pictures[row].as_path()).collect();
        let labels = source.as_ref().map(|source| &source.labels[..]).unwrap_or_default();
        write_pictures(comm, &pictures, job.hwc, &rows, labels, writer.as_ref())?;
    }
    on_root(comm, || {
        if let (Some(source), Some(writer)) = (&source, writer.take()) {
            let list = skipped::write(&options.out, &bad)?;
            writer.finish()?;
            skipped::finish(&options.out, list, &bad)?;
            say!("{}", summary(options, source, &rows, bad.len()));
        }
        Ok(String::new())
    })?;
    Ok(())
}

/// The root's part: checks everything that is quick to check, and finds the rows.
fn prepare(options: &Options) -> Result<Source> {
    check_place(&options.out, options.force)?;
    check_place(&skipped::place(&options.out), options.force)?;
    let request = Request {
        source: options.source.clone(),
        labels: options.labels.clone(),
        label_column: options.label_column.clone(),
        id_column: options.id_column.clone(),
        pattern: options.pattern.clone(),
        folders: options.folders,
        classes: options.classes.as_ref().map(|names| names.iter().map(|name| name.trim().to_owned()).collect()),
        size: options.size,
        channels: options.channels,
        skip_bad: options.skip_bad,
    };
    let source = discover(&request)?;
    // Bad fractions show now, not after a long pass over the pictures.
    assign(&source.labels, &source.classes, &source.given, fractions(options, &source)?, options.seed)?;
    for note in &source.notes {
        crate::report::note(note);
    }
    if let Some(hint) = source.hint.as_ref().filter(|_| options.skip_bad) {
        crate::report::note(&format!("of the missing ones, {hint}"));
    }
    Ok(source)
}

fn fractions(options: &Options, source: &Source) -> Result<(f64, f64)> {
    let has = |split| source.given.contains(&Some(split));
    if has(Split::Test) && options.test.is_some_and(|test| test > 0.0) {
        let found = format!("{}, but the source has test rows of its own", options.test.unwrap_or_default());
        return Err(Error::invalid("--test", found, "no --test", "leave it out, or move the test files away"));
    }
    if has(Split::Val) && options.val > 0.0 {
        let found = format!("{}, but the source has validation rows of its own", options.val);
        return Err(Error::invalid("--val", found, "no --val", "leave it out, or move the validation files away"));
    }
    let test = if has(Split::Test) { 0.0 } else { options.test.unwrap_or(0.2) };
    Ok((test, options.val))
}

fn job_of(source: &Source) -> Result<String> {
    let Content::Pictures(pictures) = &source.content else {
        return serde_json::to_string(&Job { bad: source.bad.clone(), ..Job::default() }).map_err(wire);
    };
    let job = Job { pictures: pictures.clone(), hwc: source.shape.hwc(), bad: source.bad.clone() };
    serde_json::to_string(&job).map_err(wire)
}

/// Messages between ranks are made by this program: this does not happen unless they run different versions.
fn wire(error: serde_json::Error) -> Error {
    Error::invalid(
        "a message between ranks",
        error.to_string(),
        "one of this version",
        "start the same program on all ranks",
    )
}

/// Leaves all rows out but these.
fn keep(source: &mut Source, usable: &[usize]) {
    source.labels = usable.iter().map(|&row| source.labels[row]).collect();
    source.given = usable.iter().map(|&row| source.given[row]).collect();
}

/// Splits the rows and takes the space on disk.
fn begin(options: &Options, source: &Source, skipped: usize) -> Result<(Assignment, Writer)> {
    check_classes(&source.labels, &source.classes, &options.source)?;
    let (test, val) = fractions(options, source)?;
    let rows = assign(&source.labels, &source.classes, &source.given, (test, val), options.seed)?;
    for note in none_held_back(&rows, &source.labels, &source.given, (test, val)) {
        crate::report::note(&note);
    }
    let held_back = format!("held back test {test} val {val}, seed {}", options.seed);
    let origin = format!("glasses ingest: {}; {}; {held_back}", source.origin, source.shape);
    let counts = [("skipped", skipped as u64), ("unlabelled", source.unlabelled as u64)];
    let writer =
        Writer::create_with(&options.out, options.force, source.shape, &rows, &source.classes, &origin, &counts)?;
    Ok((rows, writer))
}

/// Writes what needs no decoding: the root alone, from memory.
fn write_local(source: &Source, writer: &Writer, rows: &Assignment) -> Result<()> {
    let bar = share::progress(source.labels.len(), "rows", "writing");
    let per_block = (share::BLOCK / source.shape.len().max(1)).max(1);
    for split in Split::ALL {
        for (block, part) in rows.of(split).chunks(per_block).enumerate() {
            let labels: Vec<i64> = part.iter().map(|&row| source.labels[row] as i64).collect();
            let first = block * per_block;
            match &source.content {
                Content::Features(values) => {
                    let d = source.shape.len();
                    let values: Vec<f32> = part.iter().flat_map(|&row| &values[row * d..][..d]).copied().collect();
                    writer.write(split, first, Rows::Features(&values), &labels)?;
                }
                Content::Idx(images) => {
                    let pixels: Vec<u8> = part.iter().flat_map(|&row| images.row(row)).collect();
                    writer.write(split, first, Rows::Images(&pixels), &labels)?;
                }
                Content::Pictures(_) => unreachable!("pictures are decoded by all ranks"),
            }
            bar.inc(part.len() as u64);
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// Collective. Decodes and writes all pictures; goes on after a bad one, to list them all.
fn write_pictures(
    comm: &dyn Communicator,
    pictures: &[&Path],
    hwc: [usize; 3],
    rows: &Assignment,
    labels: &[usize],
    writer: Option<&Writer>,
) -> Result<()> {
    let (mut bad, mut several) = (Vec::new(), BTreeSet::new());
    let bar = share::progress(if comm.is_root() { pictures.len() } else { 0 }, "pictures", "decoding");
    for split in Split::ALL {
        let order = rows.of(split);
        let paths: Vec<&Path> = order.iter().map(|&row| pictures[row]).collect();
        share::decode(comm, &paths, hwc, true, &bar, |first, block| {
            bad.extend(share::listed(&paths, &block.failures));
            several.extend(block.several.iter().map(|&number| order[number]));
            if !bad.is_empty() {
                return Ok(());
            }
            on_root(comm, || {
                let Some(writer) = writer else { unreachable!("the root has it") };
                let part = &order[first..first + block.count];
                let labels: Vec<i64> = part.iter().map(|&row| labels[row] as i64).collect();
                writer.write(split, first, Rows::Images(&block.pixels), &labels).map(|()| String::new())
            })?;
            Ok(())
        })?;
    }
    bar.finish_and_clear();
    let mut first_only = FirstOnly::default();
    several.iter().for_each(|&row| first_only.add(|| text_of(pictures[row])));
    if let Some(text) = first_only.said().filter(|_| comm.is_root()) {
        crate::report::note(&text);
    }
    bad.sort_by_cached_key(|line| natural(line));
    if bad.is_empty() { Ok(()) } else { Err(refuse(bad, pictures.len(), None)) }
}

fn refuse(bad: Vec<String>, of: usize, hint: Option<&str>) -> Error {
    let hint = hint.map(|hint| format!("{hint}; else ")).unwrap_or_default();
    Error::Several {
        what: format!("{} of {} cannot be used; nothing was written", bad.len(), plural(of, "picture")),
        items: bad,
        fix: format!("{hint}mend or remove them, or pass --skip-bad to leave them out"),
    }
}

/// Sorts `face-9` before `face-10`.
fn natural(line: &str) -> Vec<(String, u64)> {
    let mut parts = vec![(String::new(), 0u64)];
    let mut in_digits = false;
    for character in line.chars() {
        let digit = character.to_digit(10);
        if in_digits && digit.is_none() {
            parts.push((String::new(), 0));
        }
        in_digits = digit.is_some();
        if let Some(last) = parts.last_mut() {
            match digit {
                Some(digit) => last.1 = last.1.wrapping_mul(10).wrapping_add(u64::from(digit)),
                None => last.0.push(character),
            }
        }
    }
    parts
}

/// The line that ends a run.
fn summary(options: &Options, source: &Source, rows: &Assignment, skipped: usize) -> String {
    let mut counts = vec![0usize; source.classes.len()];
    source.labels.iter().for_each(|&label| counts[label] += 1);
    let classes: Vec<String> = source.classes.iter().zip(counts).map(|(name, n)| format!("{name} ({n})")).collect();
    let splits: Vec<String> = Split::ALL
        .iter()
        .filter(|s| !rows.of(**s).is_empty())
        .map(|s| format!("{} {}", s.name(), rows.of(*s).len()))
        .collect();
    let shape = match source.shape {
        RowShape::Image { h, w, c } => format!("{h}x{w}x{c} images"),
        shape => shape.to_string(),
    };
    let mut text = format!(
        "wrote {}: {shape}; rows: {}; {}: {}",
        options.out.display(),
        splits.join(", "),
        plural(classes.len(), "class"),
        class_names::brief(&classes)
    );
    let left_out = [(source.unlabelled, "without a label"), (skipped, "bad or missing")];
    let left_out: Vec<String> =
        left_out.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    if !left_out.is_empty() {
        text.push_str(&format!("; left out: {}", left_out.join(", ")));
    }
    text
}

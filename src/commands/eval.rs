//! `glasses eval`: how well a model does on the rows of a dataset.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::probe;
use crate::checkpoint::{self, SavedModel};
use crate::comm::{Communicator, all_agree};
use crate::data::{Dataset, Part, Split, class_names};
use crate::error::{Error, Result, printable_name};
use crate::metrics::{Balance, ClassRows, MOST_IN_TABLE};
use crate::model::{Predictor, Workspace, room};
use crate::plural::plural;
use crate::report::{note, percent};
use crate::say;
use crate::train::{self, EVALUATION_SHARDS, Evaluation, evaluate};

use super::ensemble;

/// Rows that go through the network at once.
const BATCH: usize = 32;

/// Options of `glasses eval`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    glasses eval --model runs/faces --data faces.h5\n  \
    glasses eval --model runs/faces runs/two/model.h5 --data faces.h5")]
pub struct Options {
    /// Model file or checkpoint that `glasses train` wrote, or the folder of its run or ensemble; of several the probabilities are averaged
    #[arg(long, value_name = "MODEL", required = true, num_args = 1..)]
    pub model: Vec<PathBuf>,
    /// Dataset with the rows to judge it by
    #[arg(long, value_name = "FILE.h5")]
    pub data: PathBuf,
    /// Which rows: train, val or test
    #[arg(long, default_value = "test")]
    pub split: Split,
    /// One JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Figures {
    split: &'static str,
    count: u64,
    loss: f64,
    accuracy: f64,
    #[serde(flatten)]
    balance: Balance,
    classes: Vec<ClassFigures>,
    /// `[true class][predicted class]`; null where there are more than [`MOST_IN_TABLE`] classes.
    confusion: Option<Vec<Vec<u64>>>,
    /// The same as a list of those that are not 0: true class, predicted class, rows.
    confusion_pairs: Vec<[u64; 3]>,
    /// Each model alone, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    members: Vec<MemberFigures>,
}

#[derive(Serialize)]
struct MemberFigures {
    model: String,
    accuracy: f64,
}

#[derive(Serialize)]
struct ClassFigures {
    class: String,
    rows: u64,
    /// Of the rows predicted to be of this class, the share that are; null where none was.
    precision: Option<f64>,
    /// Of the rows of this class, the share that was found; null where there are none.
    recall: Option<f64>,
}

/// Collective: each rank evaluates its part, each row counts once.
///
/// # Errors
/// The same one on every rank: a file that cannot be read, data that the model does not fit.
pub fn run(options: &Options, comm: &dyn Communicator) -> Result<()> {
    let files = all_agree(comm, ensemble::models(&options.model))?;
    probe::check(&[&files[..], std::slice::from_ref(&options.data)].concat(), comm)?;
    let opened = checkpoint::read(&files[0]).and_then(SavedModel::folded).and_then(|first| {
        let dataset = Dataset::open(&options.data)?;
        check(options, &first, &dataset)?;
        let shards = EVALUATION_SHARDS.max(comm.size());
        let part = Part::read(&dataset, options.split, shards, comm.rank(), comm.size())?;
        check_labels(options, &first, &part)?;
        let batch = room_for(&first, &files[0], comm)?;
        Ok((first, part, batch, dataset.classes.is_some()))
    });
    let (first, part, batch, named) = all_agree(comm, opened)?;
    if comm.is_root() && !named && !class_names::are_numbers(&first.classes) {
        note(&class_names::taken_as_numbers(&first.classes));
    }
    let (found, members) = if files.len() == 1 {
        let mut ws = Workspace::for_inference(&first.model, batch);
        let mut predictor = Predictor { model: &first.model, params: &first.params, workspace: &mut ws };
        (evaluate(&mut predictor, &part, EVALUATION_SHARDS, &first.normalizer, comm), Vec::new())
    } else {
        vote(&files, &first, &part, comm)?
    };
    if comm.is_root() {
        let figures = Figures { members, ..figures(options.split, &first.classes, &found) };
        if options.json {
            say!("{}", serde_json::to_string(&figures).map_err(|e| Error::io("write", "stdout")(e.into()))?);
        } else {
            print(&figures);
        }
    }
    Ok(())
}

/// Collective: what all models say together, and how well each does alone. One of them is in memory at a time.
fn vote(
    files: &[PathBuf],
    first: &SavedModel,
    part: &Part,
    comm: &dyn Communicator,
) -> Result<(Evaluation, Vec<MemberFigures>)> {
    let read = |index: usize| {
        let file = &files[index];
        let next = ensemble::same_kind(&files[0], first, file, checkpoint::read(file)?)?.folded()?;
        let batch = room_for(&next, file, comm)?;
        Ok((next, batch))
    };
    let (found, alone) = train::vote(part, (files.len(), first.classes.len()), comm, read)?;
    let member = |(file, accuracy): (&PathBuf, f64)| MemberFigures { model: file.display().to_string(), accuracy };
    Ok((found, files.iter().zip(alone).map(member).collect()))
}

/// Rows that each rank of this machine can have in the network at once.
fn room_for(saved: &SavedModel, file: &Path, comm: &dyn Communicator) -> Result<usize> {
    room::rows(std::iter::once(&saved.model), BATCH, comm.nodes().neighbours().len(), file)
}

fn check(options: &Options, saved: &SavedModel, dataset: &Dataset) -> Result<()> {
    let place = options.data.display().to_string();
    let fix = "give the data that the model was made for, ingested with the same --size and --channels";
    if dataset.shape != saved.shape {
        return Err(Error::invalid(
            place,
            dataset.shape.to_string(),
            format!("{}, as the model takes", saved.shape),
            fix,
        ));
    }
    if dataset.rows(options.split) == 0 {
        let found = format!("no /{} rows", options.split.name());
        return Err(Error::invalid(place, found, "at least one", "name another split with --split"));
    }
    match &dataset.classes {
        Some(classes) if *classes != saved.classes => Err(Error::invalid(
            place,
            format!("classes {}", class_names::brief(classes)),
            format!("those of the model: {}", class_names::brief(&saved.classes)),
            "ingest with the same classes, or name them alike with --classes",
        )),
        _ => Ok(()),
    }
}

fn check_labels(options: &Options, saved: &SavedModel, part: &Part) -> Result<()> {
    match part.labels().iter().find(|&&label| label as usize >= saved.classes.len()) {
        None => Ok(()),
        Some(label) => Err(Error::invalid(
            format!("{} /{}/labels", options.data.display(), options.split.name()),
            format!("label {label}"),
            format!("0 to {}, the model's classes", saved.classes.len() - 1),
            "give the data that the model was made for",
        )),
    }
}

fn figures(split: Split, classes: &[String], found: &Evaluation) -> Figures {
    let class = |(name, of): (&String, &ClassRows)| ClassFigures {
        class: name.clone(),
        rows: of.rows,
        precision: of.precision(),
        recall: of.recall(),
    };
    Figures {
        split: split.name(),
        count: found.count,
        loss: found.loss(),
        accuracy: found.accuracy(),
        balance: found.confusion.balance(),
        classes: classes.iter().zip(&found.confusion.of_classes(classes.len())).map(class).collect(),
        confusion: found.confusion.table(classes.len()),
        confusion_pairs: found.confusion.pairs().collect(),
        members: Vec::new(),
    }
}

fn print(figures: &Figures) {
    say!(
        "{} of {}: loss {:.4}, accuracy {}",
        plural(figures.count as usize, "row"),
        figures.split,
        figures.loss,
        percent(figures.accuracy)
    );
    if !figures.members.is_empty() {
        say!("(the mean of {} models' probabilities; alone:)", figures.members.len());
        figures.members.iter().for_each(|member| say!("  {:>8}  {}", percent(member.accuracy), member.model));
    }
    let balance = &figures.balance;
    say!(
        "balanced accuracy {}, macro F1 {:.4}; always the commonest class: accuracy {}",
        percent(balance.balanced_accuracy),
        balance.macro_f1,
        percent(balance.majority_class_accuracy)
    );
    let names: Vec<_> = figures.classes.iter().map(|class| printable_name(&class.class)).collect();
    let name_width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(5);
    say!("\n{:<name_width$}  {:>8}  {:>9}  {:>9}", "class", "rows", "precision", "recall");
    let share = |value: Option<f64>| value.map_or("-".to_owned(), percent);
    for (class, name) in figures.classes.iter().zip(&names) {
        let (precision, recall) = (share(class.precision), share(class.recall));
        say!("{name:<name_width$}  {:>8}  {precision:>9}  {recall:>9}", class.rows);
    }
    let Some(confusion) = &figures.confusion else {
        say!(
            "\nno table of confusion: more than {MOST_IN_TABLE} classes; --json lists the pairs that occur (confusion_pairs)"
        );
        return;
    };
    say!("\nconfusion (a row a true class, a column a predicted class)");
    let width = figures.count.to_string().len().max(name_width);
    let header: Vec<String> = names.iter().map(|name| format!("{name:>width$}")).collect();
    say!("{:<name_width$}  {}", "", header.join("  "));
    for (name, row) in names.iter().zip(confusion) {
        let cells: Vec<String> = row.iter().map(|cell| format!("{cell:>width$}")).collect();
        say!("{name:<name_width$}  {}", cells.join("  "));
    }
}

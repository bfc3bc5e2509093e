//! Whether the data of one run means what another's does: rows of the same shape, classes of the same names.

use std::path::Path;

use super::data::TrainData;
use super::origin::{changed, newest};
use super::run_dir::{checkpoints_of, member_folder};
use crate::checkpoint;
use crate::comm::{Communicator, all_agree, on_root};
use crate::config::RunConfig;
use crate::data::{RowShape, class_names};
use crate::error::{Error, Result};
use crate::report::Console;

/// Rows and classes: those of a network in a run's folder, or of data.
type Rows<'a> = (RowShape, &'a [String]);

/// Whether the weights of the run in `dir`, made for such rows and classes, are to begin on those of `data`.
///
/// # Errors
/// When they would get other rows, or say other classes.
pub fn check(dir: &Path, (shape, classes): Rows<'_>, data: Rows<'_>, console: &Console) -> Result<()> {
    let refuse = |found: String, expected: String, fix: &str| {
        Err(Error::invalid(format!("--resume {} --fork", dir.display()), found, expected, fix))
    };
    if shape != data.0 {
        let fix = "ingest with the same --size and --channels, or train from the start, without --resume";
        return refuse(format!("data of rows of {}", data.0), format!("rows of {shape}, as that run had"), fix);
    }
    let are_named = [classes, data.1].iter().all(|names| !class_names::are_numbers(names));
    if classes.len() != data.1.len() || are_named && classes != data.1 {
        let (found, expected) = (class_names::brief(data.1), class_names::brief(classes));
        let fix = "ingest with the same classes in that order (--classes), or train from the start, without --resume";
        return refuse(format!("data of classes {found}"), format!("those of that run: {expected}"), fix);
    }
    if classes != data.1 {
        console.note(class_names::taken_as_numbers(if class_names::are_numbers(classes) { data.1 } else { classes }));
    }
    Ok(())
}

/// Collective: whether the data that was named for the finished run in `dir` is the run's.
///
/// # Errors
/// When it cannot be read, or is other data.
pub fn check_finished(dir: &Path, config: &RunConfig, comm: &dyn Communicator) -> Result<()> {
    let data = TrainData::load(config, comm)?;
    let console = Console::new(comm.is_root());
    let is_ensemble = member_folder(dir, 0).is_dir();
    on_root(comm, || {
        if !is_ensemble && !checkpoints_of(dir).steps()?.is_empty() {
            let (_, meta) = newest(dir, None, &console)?;
            let digest = &data.fingerprint;
            if meta.data != *digest {
                return Err(changed(dir, vec![format!("the rows of the dataset: digest {digest} was {}", meta.data)]));
            }
        }
        Ok(String::new())
    })?;
    // Members of an ensemble may have drawn their rows; and a checkpoint may have been taken away.
    let model = if is_ensemble { member_folder(dir, 0) } else { dir.to_owned() }.join("model.h5");
    let saved = all_agree(comm, checkpoint::read(&model))?;
    if saved.shape == data.shape && saved.classes == data.classes {
        return Ok(());
    }
    let say = |shape: RowShape, classes: &[String]| format!("{shape}, classes {}", class_names::brief(classes));
    let (now, then) = (say(data.shape, &data.classes), say(saved.shape, &saved.classes));
    Err(changed(dir, vec![format!("the rows of the dataset: {now}; were {then}")]))
}

//! What a final model says of the rows that it is judged by, and a look at some of them: for a run's report.

use std::path::{Path, PathBuf};

use super::micro_batch::EVALUATION_BATCH;
use super::run::Run;
use crate::checkpoint;
use crate::comm::{Communicator, Solo};
use crate::data::{Dataset, Normalizer, Part, RowShape, Split, Values, class_names};
use crate::error::{Error, Result};
use crate::files::write_whole;
use crate::model::{Model, Params, Predictor, Workspace, room};
use crate::report::{self, Console, Example, Judged, RunFiles, Subject};

/// The page in a run's folder.
pub const REPORT: &str = "report.html";

/// Probabilities that a report keeps at most: 256 MB of them.
const MOST: usize = 1 << 26;

/// A model that is examined, and what its rows are.
#[derive(Clone, Copy, Debug)]
pub struct Examined<'a> {
    /// The network.
    pub model: &'a Model,
    /// Its weights.
    pub params: &'a Params,
    /// How a row is prepared.
    pub normalizer: &'a Normalizer,
    /// Class names, in label order.
    pub classes: &'a [String],
}

impl Examined<'_> {
    /// Collective: what the model says of every row of `split`, of which `part` are this rank's. `None` where that would be too
    /// much to keep.
    pub fn judge(&self, split: Split, part: &Part, ws: &mut Workspace, comm: &dyn Communicator) -> Option<Judged> {
        let classes = self.model.classes;
        if part.shards.rows().checked_mul(classes).is_none_or(|values| values > MOST) {
            return None;
        }
        let mut predictor = Predictor { model: self.model, params: self.params, workspace: ws };
        let range = part.shards.rows_of(part.owned.clone());
        let own = predictor.probabilities(range, |rows, input| part.prepare(rows, self.normalizer, input));
        let labels = comm.allgather(bytemuck::cast_slice(part.labels()));
        let probabilities = comm.allgather(bytemuck::cast_slice(&own));
        Some(Judged {
            split: split.name(),
            classes: self.classes.to_vec(),
            labels: labels.iter().flat_map(|bytes| bytemuck::pod_collect_to_vec::<u8, u32>(bytes)).collect(),
            probabilities: probabilities
                .iter()
                .flat_map(|bytes| bytemuck::pod_collect_to_vec::<u8, f32>(bytes))
                .collect(),
        })
    }

    /// Rows to look at, read anew: some of them may be another rank's.
    ///
    /// # Errors
    /// When the data cannot be read any more.
    pub fn examples(
        &self,
        judged: &Judged,
        dataset: &Dataset,
        split: Split,
        ws: &mut Workspace,
    ) -> Result<Vec<Example>> {
        let mut input = vec![0.0; dataset.shape.len()];
        let mut example = |row: usize| {
            let mut example = Example {
                row,
                label: judged.labels[row] as usize,
                predicted: judged.predicted(row).unwrap_or(0),
                probabilities: judged.of(row).to_vec(),
                picture: None,
                evidence: None,
            };
            if let Values::Images(pixels) = dataset.read(split, row..row + 1)?.values {
                self.normalizer.pixels(&pixels, &mut input);
                example.evidence = Some(self.model.explain(self.params, ws, &input, example.predicted));
                example.picture = Some((dataset.shape, pixels));
            }
            Ok(example)
        };
        judged.to_look_at().into_iter().map(&mut example).collect()
    }
}

/// A run's folder as it is, its final model asked about the test rows of its data, or of those in `data`. What is not there
/// is noted, and left out.
///
/// # Errors
/// When there is no run, its model is damaged, or `data` cannot be used.
pub fn subject_of(path: &Path, data: Option<&Path>) -> Result<Subject> {
    let files = RunFiles::read(path)?;
    let mut subject = Subject { files, ..Subject::default() };
    let model = path.join("model.h5");
    if !model.exists() {
        let state = if subject.files.summary.is_some() { "model.h5 is gone" } else { "the run is not finished" };
        subject.notes.push(format!("{state}: there is nothing yet about single rows and classes."));
        return Ok(subject);
    }
    let saved = checkpoint::read(&model)?;
    let file = data.map(Path::to_owned).or_else(|| subject.files.data()).unwrap_or_else(|| PathBuf::from("?"));
    let opened = Dataset::open(&file).and_then(|dataset| fits(&dataset, saved.shape, &saved.classes).map(|()| dataset));
    let dataset = match opened {
        Ok(dataset) => dataset,
        Err(error) if data.is_some() => return Err(error),
        Err(error) => {
            let reason = error.to_string().lines().next().unwrap_or_default().to_owned();
            subject
                .notes
                .push(format!("The test rows could not be judged again: {reason}. Name the data with --data."));
            return Ok(subject);
        }
    };
    let Some(split) = [Split::Test, Split::Val].into_iter().find(|&split| dataset.rows(split) > 0) else {
        subject.notes.push("The data has no test rows: there is nothing about single rows and classes.".to_owned());
        return Ok(subject);
    };
    if dataset.classes.is_none() && !class_names::are_numbers(&saved.classes) {
        subject.notes.push(format!("{}.", class_names::taken_as_numbers(&saved.classes)));
    }
    let part = Part::read(&dataset, split, 1, 0, 1)?;
    if let Some(label) = part.labels().iter().find(|&&label| label as usize >= saved.classes.len()) {
        let place = format!("{} /{}/labels", file.display(), split.name());
        let expected = format!("0 to {}, the model's classes", saved.classes.len() - 1);
        let fix = "give the data that the model was made for with --data";
        return Err(Error::invalid(place, format!("label {label}"), expected, fix));
    }
    let batch = room::rows(std::iter::once(&saved.model), EVALUATION_BATCH, 1, &model)?;
    let mut ws = Workspace::for_explanation(&saved.model, batch);
    let classes = &saved.classes;
    let examined = Examined { model: &saved.model, params: &saved.params, normalizer: &saved.normalizer, classes };
    fill(&mut subject, examined.judge(split, &part, &mut ws, &Solo::default()), |judged| {
        examined.examples(judged, &dataset, split, &mut ws)
    })?;
    Ok(subject)
}

/// Puts the predictions of all rows, and a look at some, into a report.
fn fill(
    subject: &mut Subject,
    judged: Option<Judged>,
    examples: impl FnOnce(&Judged) -> Result<Vec<Example>>,
) -> Result<()> {
    match judged {
        Some(judged) => {
            subject.examples = examples(&judged)?;
            subject.judged = Some(judged);
        }
        None => subject.notes.push("There are too many rows and classes for a look at single ones.".to_owned()),
    }
    Ok(())
}

/// Whether a model takes the rows of a dataset.
fn fits(dataset: &Dataset, shape: RowShape, classes: &[String]) -> Result<()> {
    let names = dataset.classes.as_deref().unwrap_or(classes);
    if dataset.shape == shape && names == classes {
        return Ok(());
    }
    Err(Error::invalid(
        dataset.path.display().to_string(),
        format!("{}, classes {}", dataset.shape, class_names::brief(names)),
        format!("{shape}, classes {}, as the model takes", class_names::brief(classes)),
        "give the data that the model was made for with --data",
    ))
}

/// Collective: writes the page of the run in `folder`. Its results are on disk already: what goes wrong here is a warning.
pub fn write_report(run: &mut Run<'_>, folder: &Path, console: &Console) {
    let Run { config, comm, model, params, data, lockstep, .. } = run;
    let (split, part) = match (&data.test, &data.val) {
        (Some(part), _) => (Split::Test, Some(part)),
        (None, val) => (Split::Val, val.as_ref()),
    };
    let examined = Examined { model, params, normalizer: &data.normalizer, classes: &data.classes };
    let ws = &mut lockstep.workspace;
    let judged = part.map(|part| examined.judge(split, part, ws, *comm));
    if !comm.is_root() {
        return;
    }
    let written = RunFiles::read(folder).and_then(|files| {
        let mut subject = Subject { files, ..Subject::default() };
        match judged {
            None => subject.notes.push("The data has no test rows: there is nothing about single ones.".to_owned()),
            Some(judged) => {
                let dataset = Dataset::open(&config.data)?;
                fill(&mut subject, judged, |judged| examined.examples(judged, &dataset, split, ws))?;
            }
        }
        write_whole(&folder.join(REPORT), report::page(&[subject])?.as_bytes())
    });
    if let Err(failure) = written {
        console.warn(format!("the report could not be written: {failure}"));
    }
}

//! `glasses doctor`, and what it looks at at every start.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;

use crate::comm::{self, Comm, Communicator, Solo};
use crate::doctor::{self, Check, Verdict};
use crate::error::{Error, Result};
use crate::kernels::{self, Isa};
use crate::launch::{Launch, Launcher};
use crate::model::Engine;
use crate::model::{Model, zoo};
use crate::optim::OptimizerKind;
use crate::report::Console;
use crate::row_count::RowCount;
use crate::say;
use crate::train::{Case, Memory, caught};

/// The exit code where ranks cannot find one another: the command line is wrong.
const WRONG: u8 = 2;

/// How long ranks wait that have nothing to say, before they end with an error: `mpirun`, and `srun --kill-on-bad-exit`, end all
/// others as soon as one does, the one among them that is about to say why.
const LAST: Duration = Duration::from_millis(2500);

/// Options of `glasses doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    glasses doctor\n  \
    mpirun -n 2 glasses doctor\n  \
    glasses doctor --json\n\n\
    Start it as the run will be started, in the same folder: with the same mpirun or srun, in the same batch script. \
    Every start of glasses makes the same checks but the last three, and speaks only of what is wrong.")]
pub struct Options {
    /// One JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// What is printed.
#[derive(Serialize)]
struct Findings<'a> {
    /// The worst verdict.
    verdict: Verdict,
    checks: &'a [Check],
}

/// The ranks that were started together; they have found one another. Who is `patient` waits for ever for one that does not come.
///
/// # Errors
/// The exit code, where several processes cannot find one another, or did not; one of them has said so.
pub fn world(launch: &Launch, doctor: Option<&Options>, patient: bool) -> Result<Box<dyn Communicator>, ExitCode> {
    let command = command();
    if let Some(trouble) = launch.trouble(&command) {
        return Err(say_once(launch, doctor, &trouble));
    }
    let comm = comm::world(launch, patient);
    match launch.alone_of_many(comm.size(), &command) {
        Some(trouble) => Err(say_once(launch, doctor, &trouble)),
        None => Ok(comm),
    }
}

/// What was typed; names of files need not be text.
fn command() -> Vec<String> {
    std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect()
}

/// Each of these processes takes itself for the only one; the launcher's first speaks.
fn say_once(launch: &Launch, doctor: Option<&Options>, trouble: &Error) -> ExitCode {
    if !launch.speaks() {
        std::thread::sleep(LAST);
        // Had the first refused as well, Open MPI's launcher would have asked this process to end by now. Others may not.
        let outlives = launch.launcher == Launcher::OpenMpi && caught().is_none();
        if outlives || launch.others_here_run_another() {
            let _ = writeln!(std::io::stderr(), "error: {}{trouble}", launch.name());
        }
    } else if let Some(options) = doctor {
        let lost = Check::from(trouble);
        let found = format!("{}: {}", lost.name, lost.found);
        let mut checks = vec![Check { name: "launch".to_owned(), found, ..lost }];
        checks.extend(all(launch, &Solo::default()).into_iter().skip(1));
        show(&checks, options.json);
    } else {
        let _ = writeln!(std::io::stderr(), "error: {trouble}");
    }
    ExitCode::from(WRONG)
}

/// Whether all that was typed is text: a path that is none could not be written to a run's settings, nor told to other ranks.
///
/// # Errors
/// When it is not.
pub fn typed_text() -> Result<()> {
    match std::env::args_os().skip(1).find(|word| word.to_str().is_none()) {
        None => Ok(()),
        Some(word) => Err(Error::invalid(
            "the command line",
            format!("{word:?}, which is not UTF-8"),
            "names in UTF-8",
            "rename the file or the folder; `glasses predict` and `glasses ingest` take such files in a folder that is named",
        )),
    }
}

/// Collective: whether all ranks were given the same subcommand, and understand what is behind it; a rank that does not has
/// `refused` it.
///
/// # Errors
/// The same one on every rank, where they were not. What all of them refuse is no error here.
pub fn same_command(refused: Option<&clap::Error>, comm: &dyn Communicator) -> Result<()> {
    let first = command().into_iter().nth(1).filter(|word| !word.starts_with('-'));
    let asked = match refused.map(ToString::to_string) {
        None => format!("the command {}", first.as_deref().unwrap_or("train")),
        Some(why) => format!("arguments that it refuses ({})", why.lines().next().unwrap_or_default()),
    };
    doctor::same_command(comm, &asked)
}

/// Collective: looks at what can be wrong with a launch, and warns of what makes it slow; nothing where all is shown anyway.
///
/// # Errors
/// The same one on every rank, where the launch makes no sense.
pub fn start(launch: &Launch, doctor: Option<&Options>, comm: &dyn Communicator) -> Result<()> {
    if doctor.is_some() {
        return Ok(());
    }
    let console = Console::new(comm.is_root());
    doctor::start(comm, launch)?.iter().for_each(|warning| console.warn(warning));
    Ok(())
}

/// Collective: every check with what it found.
///
/// # Errors
/// The same one on every rank, where a check failed.
pub fn run(options: &Options, launch: &Launch, comm: &dyn Communicator) -> Result<()> {
    let checks = all(launch, comm);
    if comm.is_root() {
        show(&checks, options.json);
    }
    let failed = checks.iter().filter(|check| check.verdict == Verdict::Error).count();
    if comm::on_root(comm, || Ok(failed.to_string()))? == "0" {
        return Ok(());
    }
    let fix = "see what the table says behind 'fix:'";
    Err(Error::invalid("glasses doctor", "a check that failed", "a launch that works", fix))
}

/// Collective: all checks; those of the root are of all ranks.
fn all(launch: &Launch, comm: &dyn Communicator) -> Vec<Check> {
    let mut checks = doctor::examine(comm, launch);
    let here = comm.nodes().neighbours().len();
    checks.extend(doctor::places::examine(std::path::Path::new("."), shared_by(here, comm.size()), comm));
    checks
}

/// Bytes of shared memory that `here` of `ranks` ranks take at most, where they train the paper's network as the settings' defaults say.
fn shared_by(here: usize, ranks: usize) -> usize {
    let predict = || {
        let model = Model::new(zoo::find("glasses")?, [80, 80, 3], false, 2, Engine::default())?;
        let case = Case {
            rows: 16usize.div_ceil(ranks),
            shards: ranks.max(8),
            ranks,
            comm: Comm::Reduce,
            norm_rows: RowCount::All,
            optimizer: OptimizerKind::Adamw,
            data: 0,
        };
        let memory = Memory::predict(&model, &case);
        Ok::<usize, Error>(here * memory.weights_and_gradients + memory.optimizer)
    };
    // Where GLASSES_ISA is wrong, which another check says, there is no choice to go by.
    let bytes = if kernels::choose().is_ok() { predict() } else { Isa::Scalar.with(predict) };
    bytes.unwrap_or(0)
}

fn show(checks: &[Check], json: bool) {
    if json {
        let verdict = checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Ok);
        let text = serde_json::to_string(&Findings { verdict, checks }).unwrap_or_default();
        return say!("{text}");
    }
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    for Check { name, verdict, found, expected, fix } in checks {
        let verdict = match verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Error => "ERROR",
        };
        say!("{name:<width$}  {verdict:<7}  {found}");
        if !expected.is_empty() {
            say!("{:<width$}  {:<7}  expected: {expected}", "", "");
        }
        if !fix.is_empty() {
            say!("{:<width$}  {:<7}  fix: {fix}", "", "");
        }
    }
}

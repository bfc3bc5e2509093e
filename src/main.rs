//! Parses, starts MPI, dispatches, prints one error. No logic.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use glasses::cli::{Cli, Command};
use glasses::comm::Communicator;
use glasses::data::open;
use glasses::error::{Error, Exit};
use glasses::launch::Launch;
use glasses::train::Pulse;
use glasses::{advice, comm, commands, error, files, report, signals, train};

fn main() -> ExitCode {
    // SAFETY: the first thing the program does: there is no other thread that could read the environment.
    #[allow(unsafe_code)]
    unsafe {
        open::set_up_hdf5();
    }
    let parsed = Cli::try_parse();
    // Before anything takes time: a batch system may send one at any moment.
    let settings = parsed.as_ref().ok().and_then(Cli::settings);
    let listening = if settings.is_some() { train::listen() } else { files::give_up_at_signals() };
    if let Err(refused) = listening.and(signals::survive_file_limit()) {
        let _ = writeln!(std::io::stderr(), "warning: {refused}");
    }
    let launch = comm::launch();
    let doctor = match &parsed {
        Ok(Cli { command: Some(Command::Doctor(options)), .. }) => Some(options),
        _ => None,
    };
    let patient = settings.is_some_and(|settings| settings.stall_timeout == Some(0));
    let comm = match commands::doctor::world(&launch, doctor, patient) {
        Ok(comm) => comm,
        Err(code) => return code,
    };
    let pulse = Pulse::begin(comm.as_ref());
    let code = run(&parsed, &launch, doctor, comm.as_ref());
    // The end of MPI waits for all ranks: it is watched, too.
    drop(comm);
    drop(pulse);
    code
}

/// Collective: does what was asked for.
fn run(
    parsed: &Result<Cli, clap::Error>,
    launch: &Launch,
    doctor: Option<&commands::doctor::Options>,
    comm: &dyn Communicator,
) -> ExitCode {
    let same = commands::doctor::same_command(parsed.as_ref().err(), comm);
    let same = same.and_then(|()| comm::all_agree(comm, commands::doctor::typed_text()));
    let cli = match (&same, parsed) {
        (Ok(()), Err(usage)) => return explain(usage, comm),
        (_, cli) => cli.as_ref().ok(),
    };
    let start = || commands::doctor::start(launch, doctor, comm);
    let command = cli.and_then(|cli| cli.command.as_ref());
    let result = same.and_then(|()| start()).and_then(|()| match command {
        Some(Command::Ingest(options)) => commands::ingest::run(options, comm),
        Some(Command::Synth(options)) => commands::synth::run(options, comm),
        Some(Command::Eval(options)) => commands::eval::run(options, comm),
        Some(Command::Predict(options)) => commands::predict::run(options, comm),
        Some(Command::Verify(options)) => commands::verify::run(options, comm),
        Some(Command::Report(options)) => commands::report::run(options, comm),
        Some(Command::Watch(options)) => commands::watch::run(options, comm),
        Some(Command::Bench(options)) => commands::bench::run(options, comm),
        Some(Command::Plan(options)) => commands::plan::run(options, comm),
        Some(Command::Doctor(options)) => commands::doctor::run(options, launch, comm),
        Some(Command::Info(options)) => commands::info::run(options, comm),
        Some(Command::Export(options)) => commands::export::run(options, comm),
        Some(Command::Import(options)) => commands::import::run(options, comm),
        Some(Command::Probe(options)) => commands::probe::run(options),
        Some(Command::Completions(options)) => commands::completions::completions::<Cli>(options, comm),
        Some(Command::Man(options)) => commands::completions::man::<Cli>(options, comm),
        Some(Command::Version(options)) => commands::version::run(options, comm),
        Some(Command::Sweep(options)) => commands::sweep::run(options, comm),
        Some(Command::Train(options)) => commands::train::run(options, comm),
        None => cli.map_or(Ok(()), |cli| commands::train::run(&cli.train, comm)),
    });
    let result = result.and_then(|()| match report::output_failure() {
        None => Ok(()),
        Some(failure) => Err(Error::io("write", "standard output")(failure)),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where a signal has taken the files away it is not the error that ends this.
            let _held = files::hold();
            if comm.is_root() {
                let kind = if error.exit() == Exit::Interrupted { "" } else { "error: " };
                // Who is not heard ends as he would have.
                let _ = writeln!(std::io::stderr(), "{kind}{}", error::printable(&error.to_string()));
            }
            ExitCode::from(error.exit() as u8)
        }
    }
}

/// Whether `--verbose` stands beside `--version`, at which clap stops to read.
fn wants_more() -> bool {
    let short = |word: &str| word.starts_with('-') && !word.starts_with("--") && word.contains('v');
    std::env::args_os().skip(1).any(|word| word == "--verbose" || word.to_str().is_some_and(short))
}

/// Help, version and mistakes: every rank has the same text, one prints it.
fn explain(usage: &clap::Error, comm: &dyn Communicator) -> ExitCode {
    if comm.is_root() {
        match usage.kind() {
            ErrorKind::DisplayVersion => report::line(format_args!("{}", commands::version::text(wants_more()))),
            ErrorKind::ValueValidation => {
                let (text, terminal) = (usage.render(), std::io::stderr().is_terminal());
                let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
                let text = if colour { text.ansi().to_string() } else { text.to_string() };
                let _ = write!(std::io::stderr(), "{}", error::in_words(&text));
            }
            _ => drop(usage.print()),
        }
        let words: Vec<String> = std::env::args_os().skip(1).filter_map(|word| word.into_string().ok()).collect();
        if let Some(line) = advice::of_usage(usage, &words) {
            let _ = writeln!(std::io::stderr(), "\nfix: {line}");
        }
    }
    ExitCode::from(usage.exit_code() as u8)
}

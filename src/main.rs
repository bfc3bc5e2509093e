//! Parses, starts MPI, dispatches, prints one error. No logic.

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use glasses::cli::{Cli, Command};
use glasses::error::{Error, Exit};
use glasses::{comm, commands, kernels, report};

/// NFS and Lustre may refuse the locks that HDF5 takes even to read. We never write a file in place, so none is needed;
/// who sets the variable decides otherwise. The crate has no call for it that older libraries know too.
fn read_without_locks() {
    if std::env::var_os("HDF5_USE_FILE_LOCKING").is_none() {
        // SAFETY: the first thing the program does: there is no other thread that could read the environment.
        #[allow(unsafe_code)]
        unsafe {
            std::env::set_var("HDF5_USE_FILE_LOCKING", "FALSE");
        }
    }
}

fn main() -> ExitCode {
    read_without_locks();
    let parsed = Cli::try_parse();
    let comm = comm::world();
    let comm = comm.as_ref();
    let cli = match parsed {
        Ok(cli) => cli,
        Err(usage) => {
            // Help, version and mistakes: every rank has the same text, one prints it.
            if comm.is_root() {
                match usage.kind() {
                    ErrorKind::DisplayVersion => report::line(format_args!("{}", commands::version::text())),
                    _ => drop(usage.print()),
                }
            }
            return ExitCode::from(usage.exit_code() as u8);
        }
    };
    let result = comm::agree(comm, kernels::choose()).and_then(|_| match &cli.command {
        Some(Command::Ingest(options)) => commands::ingest::run(options, comm),
        Some(Command::Synth(options)) => commands::synth::run(options, comm),
        Some(Command::Eval(options)) => commands::eval::run(options, comm),
        Some(Command::Predict(options)) => commands::predict::run(options, comm),
        Some(Command::Verify(options)) => commands::verify::run(options, comm),
        Some(Command::Report(options)) => commands::report::run(options, comm),
        Some(Command::Watch(options)) => commands::watch::run(options, comm),
        Some(Command::Bench(options)) => commands::bench::run(options, comm),
        Some(Command::Plan(options)) => commands::plan::run(options, comm),
        Some(Command::Info(options)) => commands::info::run(options, comm),
        Some(Command::Export(options)) => commands::export::run(options, comm),
        Some(Command::Import(options)) => commands::import::run(options, comm),
        Some(Command::Completions(options)) => commands::completions::completions::<Cli>(options, comm),
        Some(Command::Man(options)) => commands::completions::man::<Cli>(options, comm),
        Some(Command::Sweep(options)) => commands::sweep::run(options, comm),
        Some(Command::Train(options)) => commands::train::run(options, comm),
        None => commands::train::run(&cli.train, comm),
    });
    let result = result.and_then(|()| match report::output_failure() {
        None => Ok(()),
        Some(failure) => Err(Error::io("write", "standard output")(failure)),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if comm.is_root() {
                let kind = if error.exit() == Exit::Interrupted { "" } else { "error: " };
                eprintln!("{kind}{error}");
            }
            ExitCode::from(error.exit() as u8)
        }
    }
}

//! `glasses completions` and `glasses man`: what a shell and `man` know of the program.

use std::path::PathBuf;

use clap::{Command, CommandFactory};

use crate::comm::{Communicator, on_root};
use crate::error::{Error, Result};
use crate::report;
use crate::say;

/// Options of `glasses completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    glasses completions bash > glasses.bash    # source it in ~/.bashrc\n  \
    glasses completions zsh > _glasses         # into a folder of $fpath\n  \
    glasses completions fish > glasses.fish    # into fish's completions")]
pub struct CompletionOptions {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Options of `glasses man`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    glasses man > glasses.1\n  \
    glasses man --out man1    # a page a subcommand: man -l man1/glasses-train.1")]
pub struct ManOptions {
    /// Folder for a page of every subcommand, made where it is missing; without it, the program's own page is printed
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Collective: the root prints the shell's completions.
///
/// # Errors
/// Never: what cannot be printed is said at the end.
pub fn completions<C: CommandFactory>(options: &CompletionOptions, comm: &dyn Communicator) -> Result<()> {
    if comm.is_root() {
        let mut text = Vec::new();
        clap_complete::generate(options.shell, &mut C::command(), "glasses", &mut text);
        print(&text);
    }
    Ok(())
}

/// Collective: the root prints the program's page, or writes all.
///
/// # Errors
/// When the folder refuses.
pub fn man<C: CommandFactory>(options: &ManOptions, comm: &dyn Communicator) -> Result<()> {
    on_root(comm, || {
        let Some(folder) = &options.out else {
            let mut text = Vec::new();
            let rendered = clap_mangen::Man::new(C::command()).render(&mut text);
            rendered.map_err(Error::io("write", "the page"))?;
            print(&text);
            return Ok(String::new());
        };
        std::fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))?;
        // `help` says of every command what its own page says.
        let command: Command = C::command().disable_help_subcommand(true);
        clap_mangen::generate_to(command, folder).map_err(Error::io("write pages in", folder))?;
        say!("{}", folder.display());
        Ok(String::new())
    })?;
    Ok(())
}

fn print(text: &[u8]) {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    report::keep(stdout.write_all(text).and_then(|()| stdout.flush()));
}

//! `glasses watch`: a run as it goes, on a terminal.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use super::folder;
use crate::comm::{Communicator, on_root};
use crate::error::{Error, Result};
use crate::report::is_dumb;
use crate::report::watch::{Watched, draw, text};
use crate::say;

/// Between two looks at the run's files.
const PAUSE: Duration = Duration::from_millis(500);

/// Columns and rows where there is no terminal.
const PLAIN: (u16, u16) = (80, 24);

/// Options of `glasses watch`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  glasses watch runs/faces\n  glasses watch runs/faces --once")]
pub struct Options {
    /// Folder of a run, in progress or over
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Print what there is to see once, as text, and end; so it is where standard output is no terminal, or one that only shows lines (TERM=dumb)
    #[arg(long)]
    pub once: bool,
}

/// Collective: the root shows; the others wait.
///
/// # Errors
/// When there is no run in the folder, or the terminal refuses.
pub fn run(options: &Options, comm: &dyn Communicator) -> Result<()> {
    on_root(comm, || {
        folder::one_run(&options.run)?;
        let watched = Watched::read(&options.run)?;
        if options.once || is_dumb() || !std::io::stdout().is_terminal() {
            say!("{}", text(&watched, PLAIN).trim_end());
        } else {
            show(options, watched)?;
        }
        Ok(String::new())
    })
    .map(|_| ())
}

/// Until somebody types q, Escape or Ctrl-C. Everything shown is read from the run's files, so that it does not matter when
/// one begins to watch, or how often.
fn show(options: &Options, mut watched: Watched) -> Result<()> {
    let failed = |e| Error::io("draw on", "the terminal")(e);
    let mut terminal = ratatui::try_init().map_err(failed)?;
    let result = loop {
        if let Err(e) = terminal.draw(|frame| draw(frame, &watched)) {
            break Err(failed(e));
        }
        match event::poll(PAUSE).and_then(|waiting| if waiting { event::read().map(Some) } else { Ok(None) }) {
            Err(e) => break Err(failed(e)),
            Ok(Some(Event::Key(key))) if key.kind == KeyEventKind::Press => {
                let control = key.modifiers.contains(KeyModifiers::CONTROL);
                if matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) || (control && key.code == KeyCode::Char('c'))
                {
                    break Ok(());
                }
            }
            Ok(_) => {}
        }
        // Files that are being replaced, a network disk that is away for a moment: what was seen last stays.
        if let Ok(now) = Watched::read(&options.run) {
            watched = now;
        }
    };
    ratatui::try_restore().map_err(failed)?;
    result
}

//! What a person sees of a run: lines and a progress bar on the terminal, a page with plots, a live view. Only the root rank
//! shows anything; progress bars appear only on a terminal.

mod console;
mod curves;
pub mod figure;
mod folder;
mod live;
mod output;
mod page;
mod pictures;
mod plots;
mod subject;
pub mod sweep;
mod terminal;
pub mod watch;

pub use console::{Console, percent, progress_bar};
pub use curves::Curve;
pub use figure::Figure;
pub use folder::{Epoch, RunFiles};
pub use live::{Activity, LIVE_FILE, Live, now};
pub use output::{keep, line, note, output_failure};
pub use page::page;
pub use pictures::{explained, picture, png};
pub use plots::figures;
pub use subject::{Example, Judged, Subject};
pub use sweep::DIVERGED;
pub use terminal::is_dumb;

/// Seconds as a person reads them: `0:09`, `12:30`, `3:05:00`.
pub fn clock(seconds: f64) -> String {
    let seconds = if seconds.is_finite() { seconds.clamp(0.0, 1e9).round() as u64 } else { return "–".to_owned() };
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

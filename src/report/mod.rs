//! What a person sees of a run. Only the root rank shows anything; progress bars appear only on a terminal.

mod console;
mod output;

pub use console::{Console, percent, progress_bar};
pub use output::{keep, line, output_failure};

//! Standard output that outlives its reader.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};
use std::sync::Mutex;

use crate::error::printable;
use crate::files::takes_output;

/// The first failure, until someone asks.
static FAILED: Mutex<Option<std::io::Error>> = Mutex::new(None);

/// Writes a line to standard output, [`printable`]. A reader that has gone away (`| head`) is no failure and must not end a training run;
/// any other failure (a full disk behind `>`) is kept for [`output_failure`].
pub fn line(text: Arguments<'_>) {
    let text = text.to_string();
    let text = printable(&text);
    if takes_output() {
        // A result is there: words would spoil it.
        return drop(writeln!(std::io::stderr(), "{text}"));
    }
    let mut stdout = std::io::stdout().lock();
    let written =
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.write_all(b"\n")).and_then(|()| stdout.flush());
    keep(written);
}

/// What is worth knowing and no fault, on standard error.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "note: {}", printable(text));
}

/// Keeps a failure to write, unless the reader has gone away.
pub fn keep(written: std::io::Result<()>) {
    if let (Err(e), Ok(mut failed)) = (written, FAILED.lock())
        && e.kind() != ErrorKind::BrokenPipe
    {
        failed.get_or_insert(e);
    }
}

/// Why some of the output could not be written, if so.
pub fn output_failure() -> Option<std::io::Error> {
    FAILED.lock().ok().and_then(|mut failed| failed.take())
}

/// `println!` that neither panics nor loses a failure.
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => { $crate::report::line(format_args!($($text)*)) };
}

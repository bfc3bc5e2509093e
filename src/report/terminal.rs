//! Where progress lines go: to standard error where that is a terminal, also through a launcher whose terminal it is.
//!
//! `mpirun` gives its ranks a pipe for standard error and copies what comes out of it. A rank that draws only on a terminal
//! would never draw, though a person is looking at one. So on Linux we look at the launcher: whether it holds the other end
//! of our pipe, and its own standard error is a terminal.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use indicatif::{ProgressDrawTarget, TermLike};

/// Drawings a second.
const RATE: u8 = 5;

/// The target for the root.
pub fn target() -> ProgressDrawTarget {
    if is_dumb() {
        ProgressDrawTarget::hidden()
    } else if is_behind_launcher() {
        ProgressDrawTarget::term_like_with_hz(Box::new(Launcher), RATE)
    } else {
        ProgressDrawTarget::stderr_with_hz(RATE)
    }
}

/// Whether the terminal only shows lines one below the other, as it says of itself.
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|kind| kind == "dumb")
}

/// Between a drawing and a line on standard output: waits until a launcher, if there is one, has passed on what came first. It
/// reads them from two pipes.
pub fn settle() {
    if is_behind_launcher() {
        std::thread::sleep(Duration::from_millis(30));
    }
}

fn is_behind_launcher() -> bool {
    static IS: OnceLock<bool> = OnceLock::new();
    let look = || launcher_has_terminal(std::os::unix::process::parent_id()).unwrap_or(false);
    *IS.get_or_init(|| !std::io::stderr().is_terminal() && look())
}

/// Whether process `parent` reads our standard error from a pipe and shows it on a terminal. `None` where the system does not tell.
fn launcher_has_terminal(parent: u32) -> Option<bool> {
    let ours = std::fs::read_link("/proc/self/fd/2").ok()?;
    if !ours.to_str()?.starts_with("pipe:") {
        return Some(false);
    }
    let parent = Path::new("/proc").join(parent.to_string()).join("fd");
    let shown = std::fs::read_link(parent.join("2")).ok()?;
    let is_terminal =
        ["/dev/pts/", "/dev/tty"].iter().any(|start| shown.to_str().is_some_and(|to| to.starts_with(start)));
    let mut ends = std::fs::read_dir(parent).ok()?.flatten();
    Some(is_terminal && ends.any(|end| std::fs::read_link(end.path()).is_ok_and(|to| to == ours)))
}

/// A terminal at the other end of a pipe: nobody tells how wide it is.
#[derive(Debug)]
struct Launcher;

impl Launcher {
    fn write(text: &str) -> std::io::Result<()> {
        std::io::stderr().write_all(text.as_bytes())
    }

    fn turn(n: usize, letter: char) -> std::io::Result<()> {
        if n == 0 { Ok(()) } else { Launcher::write(&format!("\x1b[{n}{letter}")) }
    }
}

impl TermLike for Launcher {
    fn width(&self) -> u16 {
        80
    }

    fn move_cursor_up(&self, n: usize) -> std::io::Result<()> {
        Launcher::turn(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> std::io::Result<()> {
        Launcher::turn(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> std::io::Result<()> {
        Launcher::turn(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> std::io::Result<()> {
        Launcher::turn(n, 'D')
    }

    fn write_line(&self, text: &str) -> std::io::Result<()> {
        Launcher::write(&format!("{text}\n"))
    }

    fn write_str(&self, text: &str) -> std::io::Result<()> {
        Launcher::write(text)
    }

    fn clear_line(&self) -> std::io::Result<()> {
        Launcher::write("\r\x1b[2K")
    }

    fn flush(&self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

//! `glasses watch` and the progress line, on real terminals (tmux), and what a log file gets instead.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::fixtures::{faces, refused, words};
use crate::run::{allow_many_ranks, glasses, shell, skipped};

/// A terminal of 80 columns and 24 rows that somebody looks at.
struct Terminal {
    socket: String,
}

impl Terminal {
    /// Runs a line of shell in `dir`; `$GLASSES` is the program. `None` where there is no tmux.
    fn start(name: &str, dir: &Path, line: &str) -> Option<Terminal> {
        let there = Command::new("tmux").arg("-V").output().is_ok_and(|end| end.status.success());
        if !there {
            skipped(name, "tmux is not installed");
            return None;
        }
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let terminal = Terminal { socket: format!("glasses-{}-{number}", std::process::id()) };
        // The shell stays when the line is done, so that what it said can be read.
        let line = format!("export GLASSES={}; {line}; echo ended with $?; sleep 1000", env!("CARGO_BIN_EXE_glasses"));
        let folder = dir.display().to_string();
        let end = terminal.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "80",
            "-y",
            "24",
            "-c",
            &folder,
            "bash",
            "-c",
            &line,
        ]);
        assert!(end.is_some(), "tmux starts");
        Some(terminal)
    }

    fn tmux(&self, args: &[&str]) -> Option<String> {
        let mut command = Command::new("tmux");
        allow_many_ranks(command.args(["-L", &self.socket]).args(args));
        let end = command.output().unwrap();
        end.status.success().then(|| String::from_utf8_lossy(&end.stdout).into_owned())
    }

    /// What is on it.
    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"]).unwrap_or_default()
    }

    /// Waits until all of `parts` are on it.
    #[track_caller]
    fn shows(&self, parts: &[&str]) -> String {
        let start = Instant::now();
        loop {
            let screen = self.screen();
            if parts.iter().all(|part| screen.contains(part)) {
                return screen;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "{parts:?} not in:\n{screen}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn types(&self, keys: &str) {
        self.tmux(&["send-keys", keys]);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

/// A run that takes long enough to be watched.
const LONG: &str =
    "$GLASSES --data many.h5 --epochs 2000 --batch 2 --checkpoint-every 1epoch --out run";

#[test]
fn a_finished_run_is_shown_as_text_where_there_is_no_terminal() {
    let dir = faces();
    glasses(&words("--data faces.h5 --model tiny.toml --epochs 3 --out run"), dir.path()).success();
    assert!(!dir.path().join("run/live.json").exists(), "the run is over");
    let text = glasses(&words("watch run"), dir.path()).success().stdout;
    assert!(text.lines().count() <= 24 && text.lines().all(|line| line.chars().count() <= 80), "{text}");
    for part in [
        "run  finished",
        "epoch 3/3",
        "loss",
        "accuracy",
        "images/s",
        "time: load",
        "compute",
        "sync",
        "slowest",
        "checkpoint: step",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "no colours in a file");
    refused(dir.path(), "watch gone", &["gone", "no such folder"]);
}

#[test]
fn a_run_in_progress_is_watched_left_and_watched_again() {
    let dir = faces();
    let name = "a_run_in_progress_is_watched_left_and_watched_again";
    // An epoch takes long enough for its line to be seen.
    glasses(&words("synth --size 24 --count 2500 --out many.h5"), dir.path()).success();
    let Some(run) = Terminal::start("run", dir.path(), &format!("${{MPIRUN:-mpirun}} -n 2 {LONG}")) else { return };
    // Behind mpirun, and still a line that moves.
    run.shows(&["loss ", "accuracy ", "images/s", " left, run "]);
    // The first checkpoint.
    let start = Instant::now();
    while !dir.path().join("run/checkpoints").read_dir().is_ok_and(|mut d| d.next().is_some()) {
        assert!(start.elapsed() < Duration::from_secs(60), "no checkpoint");
        std::thread::sleep(Duration::from_millis(50));
    }
    for _ in 0..2 {
        let watch = Terminal::start(name, dir.path(), "$GLASSES watch run").unwrap();
        let parts = [
            ", 2 ranks, root on ",
            "/2000",
            "left",
            "images/s",
            "time: load",
            "slowest: rank",
            "checkpoint: step",
            " of 2000000",
        ];
        let first = watch.shows(&parts);
        // It lives.
        let start = Instant::now();
        while watch.screen() == first {
            assert!(start.elapsed() < Duration::from_secs(20), "it stands still:\n{first}");
            std::thread::sleep(Duration::from_millis(100));
        }
        watch.types("q");
        watch.shows(&["ended with 0"]);
    }
    // A disconnection ends the watching at any moment, and nothing else.
    drop(Terminal::start(name, dir.path(), "$GLASSES watch run").unwrap());
    let before = std::fs::read_to_string(dir.path().join("run/metrics.jsonl")).unwrap().lines().count();
    let start = Instant::now();
    while std::fs::read_to_string(dir.path().join("run/metrics.jsonl")).unwrap().lines().count() == before {
        assert!(start.elapsed() < Duration::from_secs(20), "the run goes on");
        std::thread::sleep(Duration::from_millis(50));
    }
    run.types("C-c");
}

#[test]
fn without_colours_nothing_is_coloured() {
    let dir = faces();
    glasses(&words("--data faces.h5 --model tiny.toml --epochs 2 --out run"), dir.path()).success();
    let colours = |name: &str, line: &str| {
        let watch = Terminal::start(name, dir.path(), line)?;
        watch.shows(&["finished", "images/s"]);
        let screen = watch.tmux(&["capture-pane", "-p", "-e"]).unwrap();
        // Foreground and background colours: 30 to 49 and 90 to 107.
        let codes = screen.split("\u{1b}[").skip(1).flat_map(|rest| rest.split('m').next().unwrap().split(';'));
        Some(codes.filter_map(|code| code.parse::<u32>().ok()).any(|code| matches!(code, 30..=38 | 40..=48 | 90..=107)))
    };
    assert_ne!(colours("without_colours_nothing_is_coloured", "NO_COLOR=1 $GLASSES watch run"), Some(true));
    assert_ne!(colours("without_colours_nothing_is_coloured", "$GLASSES watch run"), Some(false), "and else it is");
}

#[test]
fn a_log_file_gets_a_plain_line_an_epoch() {
    let dir = faces();
    for launcher in ["", "${MPIRUN:-mpirun} -n 2 "] {
        let line =
            format!("{launcher}$GLASSES --data faces.h5 --model tiny.toml --epochs 3 --out run >log 2>&1; rm -r run");
        shell(&line, dir.path()).success();
        let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
        assert_eq!(log.lines().filter(|line| line.starts_with("epoch ")).count(), 3, "{log}");
        assert!(!log.contains(['\u{1b}', '\u{8}']) && !log.replace("\r\n", "\n").contains('\r'), "{log:?}");
    }
    // The same with a terminal that somebody looks at, and the log beside it.
    let name = "a_log_file_gets_a_plain_line_an_epoch";
    for (place, launcher) in [("alone", ""), ("two", "${MPIRUN:-mpirun} -n 2 ")] {
        let line = format!("{launcher}$GLASSES --data faces.h5 --model tiny.toml --epochs 3 --out {place} >log 2>log2");
        let Some(terminal) = Terminal::start(&format!("{name}-{place}"), dir.path(), &line) else { return };
        terminal.shows(&["ended with 0"]);
        let log2 = std::fs::read_to_string(dir.path().join("log2")).unwrap();
        assert!(!log2.contains("images/s"), "{place}: no progress line in a file: {log2:?}");
    }
}

//! `glasses ingest` and `glasses synth` that a signal ends while they write: no part of a file stays.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use image::{Rgb, RgbImage};
use tempfile::tempdir;

use crate::run::allow_many_ranks;

/// Starts it, on ranks under `mpirun` or alone.
fn start(ranks: Option<usize>, args: &[&str], dir: &Path) -> Child {
    let program = env!("CARGO_BIN_EXE_glasses");
    let mut command = match ranks {
        None => Command::new(program),
        Some(ranks) => {
            let mut launcher = Command::new(std::env::var("MPIRUN").unwrap_or_else(|_| "mpirun".to_owned()));
            launcher.args(["-n", &ranks.to_string(), program]);
            launcher
        }
    };
    allow_many_ranks(&mut command);
    let quiet = command.args(args).current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.spawn().unwrap()
}

/// What a file that is not whole is called.
fn parts(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(".glasses-") || name.ends_with(".part")).collect()
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Interrupts it so many milliseconds after it has begun a file; whether that was before its end.
fn interrupt(ranks: Option<usize>, args: &[&str], dir: &Path, signal: i32, after: u64) -> bool {
    let mut child = start(ranks, args, dir);
    wait_until("it writes", || !parts(dir).is_empty() || child.try_wait().unwrap().is_some());
    std::thread::sleep(Duration::from_millis(after));
    let running = child.try_wait().unwrap().is_none();
    let sent = Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status().unwrap();
    assert!(sent.success() || !running);
    let end = child.wait().unwrap();
    let said = format!("{args:?} on {ranks:?}, signal {signal} after {after} ms: {end:?}");
    if ranks.is_some() || signal == 9 {
        // The launcher may be gone before its ranks are; nor does a killed one see to it itself.
        wait_until(&said, || parts(dir).is_empty());
    }
    assert_eq!(parts(dir), Vec::<String>::new(), "{said}");
    if ranks.is_none() && !end.success() {
        // What a shell calls 128 and the signal.
        assert_eq!(end.signal(), Some(signal), "{said}");
    }
    let whole = dir.join("d.h5").exists();
    assert!(whole || !end.success(), "{said}");
    let _ = std::fs::remove_file(dir.join("d.h5"));
    running
}

/// At several moments, with Ctrl-C and TERM, alone and on ranks; most of them must come while it runs. Once with whatever else batch systems
/// and terminals send.
fn interrupt_often(args: &[&str], dir: &Path) {
    let mut hits = 0;
    for (ranks, after) in [(None, 0), (None, 1), (None, 7), (None, 30), (None, 90), (Some(3), 0), (Some(3), 60)] {
        for signal in [2, 15] {
            hits += usize::from(interrupt(ranks, args, dir, signal, after));
        }
    }
    for signal in [1, 10, 12, 24] {
        interrupt(None, args, dir, signal, 1);
        interrupt(Some(3), args, dir, signal, 0);
    }
    interrupt(None, args, dir, 9, 20);
    assert!(hits >= 10, "{hits} of 14 came in time: {args:?} ends too soon");
}

#[test]
fn synth_leaves_nothing() {
    let dir = tempdir().unwrap();
    interrupt_often(&["synth", "--count", "20000", "--size", "64", "--out", "d.h5"], dir.path());
}

#[test]
fn ingest_leaves_nothing() {
    let dir = tempdir().unwrap();
    for class in ["a", "b"] {
        let folder = dir.path().join("photos").join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for i in 0..200 {
            RgbImage::from_fn(60, 60, |x, y| Rgb([x as u8, y as u8, i])).save(folder.join(format!("{i}.png"))).unwrap();
        }
    }
    // Larger than they are: it is writing that takes time.
    interrupt_often(&["ingest", "photos", "--size", "600", "--out", "d.h5"], dir.path());
}

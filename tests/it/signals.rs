//! Signals from outside: what ends a run saves it, what was ignored stays ignored, and a limit of a file's length is a full disk.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::fixtures::{faces, words};
use crate::ranks::weights;
use crate::run::{Outcome, glasses, mpirun, shell};

/// Long enough to be met at work.
const LONG: &str = "train --data faces.h5 --model tiny.toml --epochs 1000 --batch 4";

/// Runs `LAUNCH glasses LONG --out NAME` and sends the signal to one of its processes, once it has begun: a rank, never the launcher.
fn signalled(launch: &str, name: &str, signal: &str, dir: &Path) -> Outcome {
    std::thread::scope(|scope| {
        let run = scope.spawn(|| shell(&format!("{launch} $GLASSES {LONG} --out {name}"), dir));
        let start = Instant::now();
        while !dir.join(name).join("live.json").exists() {
            assert!(start.elapsed() < Duration::from_secs(60) && !run.is_finished(), "{name} does not begin");
            std::thread::sleep(Duration::from_millis(5));
        }
        let rank = ranks(name).pop().unwrap();
        assert!(Command::new("kill").args([signal, &rank]).status().unwrap().success());
        run.join().unwrap()
    })
}

/// The processes of the program that work on the run `name`.
fn ranks(name: &str) -> Vec<String> {
    let program = std::fs::canonicalize(env!("CARGO_BIN_EXE_glasses")).unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let ours = processes.filter(|process| std::fs::read_link(process.join("exe")).is_ok_and(|exe| exe == program));
    let named = ours.filter(|process| {
        let line = std::fs::read_to_string(process.join("cmdline")).unwrap_or_default();
        line.split('\0').any(|word| word == name)
    });
    named.map(|process| process.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn a_terminal_that_went_away_and_what_batch_systems_send_end_a_run_that_goes_on() {
    let dir = faces();
    glasses(&words(&format!("{LONG} --out whole")), dir.path()).success();
    for signal in ["HUP", "USR2", "XCPU"] {
        for (ranks, launch) in [(1, ""), (3, "${MPIRUN:-mpirun} -n 3")] {
            let name = format!("{signal}-{ranks}");
            // The tests themselves may have been started by `nohup`.
            let launch = format!("env --default-signal {launch}");
            let end = signalled(&launch, &name, &format!("-{signal}"), dir.path());
            assert_eq!(end.code, Some(75), "{name}: {}", end.stderr);
            let said = format!("interrupted by SIG{signal} after step");
            assert!(end.stderr.contains(&said) && !end.stderr.contains("error:"), "{name}: {}", end.stderr);
            mpirun(2, &["train", "--resume", &name], dir.path()).success();
            assert_eq!(weights(&dir.path().join(&name)), weights(&dir.path().join("whole")), "{name}");
        }
    }
}

#[test]
fn a_run_that_was_started_deaf_to_a_signal_stays_so() {
    let dir = faces();
    for (name, launch) in
        [("nohup", "nohup"), ("trap", "trap '' HUP;"), ("usr2", "trap '' USR2 HUP;"), ("xcpu", "trap '' XCPU;")]
    {
        let signal = if name == "usr2" || name == "xcpu" { name } else { "hup" };
        signalled(launch, name, &format!("-{}", signal.to_uppercase()), dir.path()).success();
        assert!(dir.path().join(name).join("summary.json").exists(), "{name}");
    }
    // What a batch system asks with is heeded all the same.
    let end = signalled("trap '' TERM;", "term", "-TERM", dir.path());
    assert_eq!(end.code, Some(75), "{end:?}");
}

#[test]
fn the_limit_of_computing_time_ends_a_run_that_goes_on() {
    let dir = faces();
    let long = LONG.replace("1000", "1000000");
    let end = shell(&format!("ulimit -S -t 2; exec $GLASSES {long} --out run"), dir.path());
    assert_eq!(end.code, Some(75), "{end:?}");
    assert!(end.stderr.contains("interrupted by SIGXCPU after step"), "{}", end.stderr);
    assert_eq!(std::fs::read_dir(dir.path().join("run/checkpoints")).unwrap().count(), 1);
}

#[test]
fn a_file_beyond_the_limit_of_its_length_is_a_write_that_fails() {
    let dir = faces();
    let before = std::fs::read_dir(dir.path()).unwrap().count();
    for launch in ["", "${MPIRUN:-mpirun} -n 2"] {
        // MPI's daemon is to have no limit, so each rank has a shell of its own.
        let synth = "synth --count 2000 --size 32 --out large.h5";
        let line = format!(
            "export PMIX_MCA_gds=hash OMPI_MCA_btl=self,tcp
            {launch} bash -c \"ulimit -f 200; exec $GLASSES {synth}\""
        );
        let end = shell(&line, dir.path());
        assert_eq!(end.code, Some(1), "{end:?}");
        assert!(end.stderr.contains("large.h5") && end.stderr.contains("ulimit -f"), "{}", end.stderr);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), before, "a part of a file is left");
    }
}

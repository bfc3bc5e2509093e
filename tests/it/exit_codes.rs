//! How the program ends, as scripts see it: the table of docs/failures.md. What happens to ranks that die: tests/fail/.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::fixtures::{faces, words};
use crate::run::{allow_many_ranks, glasses, mpirun, shell};

const TRAIN: &str = "train --data faces.h5 --model tiny.toml";

#[test]
fn bad_input_refusals_divergence_and_odd_ranks_have_codes_of_their_own() {
    let dir = faces();
    let alone = |line: &str| glasses(&words(line), dir.path());
    for (line, code) in [
        ("train --no-such-option 1".to_owned(), 2),
        (format!("{TRAIN} --batch 0"), 2),
        ("train --data gone.h5".to_owned(), 2),
        ("eval --model tiny.toml --data faces.h5".to_owned(), 2),
        (format!("{TRAIN} --out /proc/run"), 2),
        (format!("{TRAIN} --optimizer sgd --lr 1e30 --out wild"), 4),
    ] {
        let end = alone(&line);
        assert_eq!(end.code, Some(code), "{line}: {end:?}");
    }
    let end = shell("$GLASSES info faces.h5 >/dev/full", dir.path());
    assert_eq!(end.code, Some(1), "{end:?}");
    for (ranks, line, code) in
        [(3, format!("{TRAIN} --data gone.h5"), 2), (2, format!("{TRAIN} --optimizer sgd --lr 1e30 --out wild2"), 4)]
    {
        let end = mpirun(ranks, &words(&line), dir.path());
        assert_eq!(end.code, Some(code), "{line} on {ranks} ranks: {end:?}");
    }
    let line = format!(
        "GLASSES_FAULT='flip rank=1 step=3 param=dense4.weight' ${{MPIRUN:-mpirun}} -n 3 $GLASSES {TRAIN} --window off --digest-every 1 \
         --out odd"
    );
    let end = shell(&line, dir.path());
    assert_eq!(end.code, Some(5), "{end:?}");
}

/// Starts `LAUNCHER glasses LINE`, signals it when a folder `out` is there, and says how it ended: its code, and standard error.
fn signalled(launcher: &[&str], line: &str, signal: &str, dir: &Path) -> (Option<i32>, String) {
    let program = env!("CARGO_BIN_EXE_glasses");
    let mut command = match launcher {
        [] => Command::new(program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    };
    let out = line.split(' ').next_back().unwrap();
    allow_many_ranks(command.args(line.split(' ')).current_dir(dir));
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while !dir.join(out).join("live.json").exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "{line}: it does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let end = child.wait_with_output().unwrap();
    (end.status.code(), String::from_utf8_lossy(&end.stderr).into_owned())
}

#[test]
fn a_signal_ends_a_run_behind_a_checkpoint_and_it_goes_on_to_the_same_weights() {
    let dir = faces();
    let long = "train --data faces.h5 --model tiny.toml --epochs 400 --batch 4";
    glasses(&words(&format!("{long} --out whole")), dir.path()).success();
    let launcher = std::env::var("MPIRUN").unwrap_or_else(|_| "mpirun".to_owned());
    let several = [launcher.as_str(), "-n", "3"];
    for (name, launcher, signal) in [
        ("term", &[][..], "-TERM"),
        ("int", &[][..], "-INT"),
        ("usr1", &[][..], "-USR1"),
        ("ranks", &several[..], "-USR1"),
    ] {
        let (code, said) = signalled(launcher, &format!("{long} --out {name}"), signal, dir.path());
        assert_eq!(code, Some(75), "{name}: {said}");
        assert!(said.contains("interrupted by SIG") && said.contains(&format!("--resume {name}")), "{said}");
        assert!(!said.contains("error:"), "{said}");
        mpirun(2, &["train", "--resume", name], dir.path()).success();
        assert_eq!(crate::ranks::weights(&dir.path().join(name)), crate::ranks::weights(&dir.path().join("whole")));
    }
    let never = format!("{long} --checkpoint-every never --out unsaved");
    let (code, said) = signalled(&[], &never, "-USR1", dir.path());
    assert_eq!(code, Some(76), "{said}");
    assert!(said.contains("--checkpoint-every never"), "{said}");
}

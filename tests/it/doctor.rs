//! What every start looks at, and `glasses doctor`. Every launcher against every MPI: `tests/launch/matrix.sh`.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::run::{Outcome, finish, glasses, mpirun, shell, skipped};

/// `mpirun` starting different things: each `(ranks, command line)`.
fn mpirun_of(parts: &[(usize, String)], dir: &Path) -> Outcome {
    let launcher = std::env::var("MPIRUN").unwrap_or_else(|_| "mpirun".to_owned());
    let line: Vec<String> = parts.iter().map(|(ranks, command)| format!("-n {ranks} {command}")).collect();
    shell(&format!("{launcher} {}", line.join(" : ")), dir)
}

fn program() -> &'static str {
    env!("CARGO_BIN_EXE_glasses")
}

/// The check of this name, of `glasses doctor --json`.
fn check(outcome: &Outcome, name: &str) -> Value {
    let all: Value = serde_json::from_str(&outcome.stdout).unwrap_or_else(|e| panic!("{e}: {outcome:#?}"));
    let found = all["checks"].as_array().unwrap().iter().find(|check| check["name"] == name);
    found.unwrap_or_else(|| panic!("no check of {name} in {outcome:#?}")).clone()
}

#[test]
fn the_doctor_shows_every_check_once() {
    let dir = tempfile::tempdir().unwrap();
    let alone = glasses(&["doctor"], dir.path()).success();
    let names =
        ["launch ", "build ", "instruction set ", "CPUs ", "pinning ", "shared memory ", "folder ", "file locks "];
    for name in names {
        assert_eq!(alone.stdout.lines().filter(|line| line.starts_with(name)).count(), 1, "{name}: {alone:#?}");
    }
    assert!(alone.stdout.contains("no launcher, 1 rank") && alone.stderr.is_empty(), "{alone:#?}");
    if !cfg!(feature = "mpi") {
        return;
    }
    let two = mpirun(2, &["doctor", "--json"], dir.path()).success();
    assert_eq!(two.stdout.lines().count(), 1, "{two:#?}");
    assert!(check(&two, "launch")["found"].as_str().unwrap().contains("2 ranks"), "{two:#?}");
}

#[test]
fn ranks_of_another_build_are_named_before_they_work_together() {
    if !cfg!(feature = "mpi") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // The same program but for the linker's digest of it.
    let other = dir.path().join("other");
    let mut bytes = std::fs::read(program()).unwrap();
    let Some(note) = bytes.windows(16).position(|part| part == b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0") else {
        return skipped("doctor::ranks_of_another_build…", "this linker leaves no digest in the program");
    };
    bytes[note + 16] ^= 1;
    std::fs::write(&other, bytes).unwrap();
    std::fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    // An option that one build does not know yet is no more than that.
    for (ours, theirs) in
        [("synth --count 20 --out f.h5", "synth --count 20 --out f.h5"), ("doctor", "doctor"), ("--not-yet", "train")]
    {
        let parts = [(program(), ours), (other.to_str().unwrap(), theirs)]
            .map(|(program, line)| (1, format!("{program} {line}")));
        let end = mpirun_of(&parts, dir.path());
        let said = format!("{}{}", end.stdout, end.stderr);
        assert!(said.contains("1 of 2 ranks run another glasses than rank 0: rank 1 on "), "{end:#?}");
        end.failure();
        assert!(!dir.path().join("f.h5").exists());
    }
}

#[test]
fn ranks_with_another_command_do_not_wait_for_one_another() {
    if !cfg!(feature = "mpi") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    glasses(&["synth", "--size", "24", "--count", "60", "--out", "a.h5"], dir.path()).success();
    let line = |arguments: &str| format!("{} {arguments}", program());
    for (first, second, found) in [
        ("--data a.h5", "info a.h5", "rank 1 on "),
        (
            "info a.h5",
            "--data a.h5 --not-yet 1",
            "has arguments that it refuses (error: unexpected argument '--not-yet'",
        ),
        ("--data a.h5 --not-yet 1", "--data a.h5", "has arguments that it refuses"),
        ("--help", "--data a.h5", "has the command train"),
        ("doctor", "--data a.h5", "rank 0 on "),
    ] {
        let end = mpirun_of(&[(1, line(first)), (2, line(second))], dir.path());
        assert_eq!(end.code, Some(2), "{end:#?}");
        let told = "error: launch: found 2 of 3 ranks with others than rank 0";
        assert_eq!(end.stderr.matches(told).count(), 1, "{first} : {second}: {end:#?}");
        assert!(end.stderr.contains(found), "{first} : {second}: {end:#?}");
    }
    // What all of them refuse, one says.
    let end = mpirun_of(&[(3, line("--not-yet"))], dir.path());
    assert_eq!((end.code, end.stderr.matches("error: unexpected argument").count()), (Some(2), 1), "{end:#?}");
}

#[test]
fn ranks_with_other_settings_or_other_data_do_not_start_to_train() {
    if !cfg!(feature = "mpi") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (seed, name) in [("1", "a.h5"), ("2", "b.h5")] {
        glasses(&["synth", "--size", "24", "--count", "60", "--seed", seed, "--out", name], dir.path()).success();
    }
    let train = |data: &str, more: &str| format!("{} --data {data} --epochs 1 --out run {more}", program());
    let settings = [(1, train("a.h5", "--lr 0.1")), (2, train("a.h5", "--lr 0.2"))];
    let message = mpirun_of(&settings, dir.path()).failure();
    for part in ["settings: found 2 of 3 ranks", "rank 1 on ", "has lr = 0.2", "has lr = 0.1"] {
        assert!(message.contains(part), "{part} in {message}");
    }
    // One name, but each rank sees another file behind it: a folder of its own stands for a machine of its own.
    for (place, file) in [("one", "a.h5"), ("two", "b.h5")] {
        std::fs::create_dir(dir.path().join(place)).unwrap();
        std::fs::copy(dir.path().join(file), dir.path().join(place).join("f.h5")).unwrap();
    }
    let within = |place: &str| (1, format!("bash -c 'cd {place} && exec {}'", train("f.h5", "")));
    let message = mpirun_of(&[within("one"), within("two")], dir.path()).failure();
    for part in ["data f.h5: found 1 of 2 ranks", "rank 1 on ", "train rows with digest"] {
        assert!(message.contains(part), "{part} in {message}");
    }
    for place in ["one/run", "two/run", "run"] {
        assert!(!dir.path().join(place).exists(), "{place} was made");
    }
}

#[test]
fn more_ranks_than_cpus_and_ranks_on_one_cpu_are_a_warning_with_numbers() {
    if !cfg!(feature = "mpi") || !cfg!(target_os = "linux") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let cpus = std::thread::available_parallelism().unwrap().get();
    let many = mpirun(cpus + 1, &["synth", "--count", "4", "--size", "24", "--out", "f.h5"], dir.path()).success();
    let told = format!("warning: more ranks than CPUs: {} ranks on ", cpus + 1);
    assert_eq!(many.stderr.matches(&told).count(), 1, "{many:#?}");
    let free = mpirun(1, &["synth", "--count", "4", "--size", "24", "--out", "g.h5"], dir.path()).success();
    assert!(!free.stderr.contains("warning: "), "{free:#?}");
    if cpus < 2 {
        return skipped("doctor::more_ranks_than_cpus…", "one CPU: there are no two ranks to pin to one of several");
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let cpus = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
    let first: String = cpus.chars().take_while(char::is_ascii_digit).collect();
    let end = mpirun_of(&[(2, format!("taskset -c {first} {} doctor --json", program()))], dir.path()).success();
    let pinning = check(&end, "pinning");
    assert_eq!(pinning["verdict"], "warning", "{end:#?}");
    assert!(pinning["found"].as_str().unwrap().contains(&format!("ranks 0, 1 on CPU {first} of ")), "{end:#?}");
    assert!(pinning["fix"].as_str().unwrap().contains("-bind-to core"), "{end:#?}");
}

/// A file system that refuses locks, by strace: the system call really fails.
#[test]
fn refused_locks_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    let mut probe = Command::new("strace");
    if !probe.args(["-o", "/dev/null", "true"]).output().is_ok_and(|end| end.status.success()) {
        return skipped("doctor::refused_locks_are_seen", "no strace, or it may not trace");
    }
    let refuse = "strace -f -o trace.txt -e trace=flock -e inject=flock:error=ENOLCK";
    let end = shell(&format!("{refuse} $GLASSES doctor --json"), dir.path()).success();
    assert_eq!(check(&end, "file locks")["verdict"], "warning", "{end:#?}");
    let end = shell(&format!("HDF5_USE_FILE_LOCKING=TRUE {refuse} $GLASSES doctor --json"), dir.path());
    assert_eq!(check(&end, "file locks")["verdict"], "error", "{end:#?}");
    let message = end.failure();
    assert!(message.contains("glasses doctor: found a check that failed"), "{message}");
}

#[test]
fn a_processor_without_what_was_asked_for_fails_the_doctor_and_every_start() {
    let dir = tempfile::tempdir().unwrap();
    for subcommand in ["doctor", "synth --count 4 --out f.h5"] {
        let mut command = Command::new(program());
        command.args(subcommand.split(' ')).current_dir(dir.path()).env("GLASSES_ISA", "avx1024");
        let end = finish(command);
        let said = format!("{}{}", end.stdout, end.stderr);
        assert!(said.contains("avx1024") && said.contains("one of scalar"), "{end:#?}");
        end.failure();
    }
}

#[test]
fn processes_that_do_not_find_one_another_are_told_once_what_to_type() {
    // What `srun --mpi=none` leaves in the environment; really started so in `tests/launch/matrix.sh`.
    let dir = tempfile::tempdir().unwrap();
    let started = |rank: &str, args: &[&str]| {
        let mut command = Command::new(program());
        command.args(args).current_dir(dir.path());
        command.envs([("SLURM_PROCID", rank), ("SLURM_STEP_ID", "0"), ("SLURM_STEP_NUM_TASKS", "4")]);
        finish(command)
    };
    let first = started("0", &["doctor"]);
    assert!(first.code == Some(2) && first.stdout.contains("4 processes that do not find one another"), "{first:#?}");
    let first = started("0", &["--epochs", "1"]);
    assert_eq!(first.code, Some(2), "{first:#?}");
    let message = first.failure();
    if cfg!(feature = "mpi") {
        assert!(message.contains("fix: srun --mpi=pm") && message.contains(" -n 4 "), "{message}");
    } else {
        assert!(message.contains("built without MPI"), "{message}");
    }
    let other = started("3", &["--epochs", "1"]);
    assert_eq!((other.code, other.stdout.as_str(), other.stderr.as_str()), (Some(2), "", ""), "{other:#?}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

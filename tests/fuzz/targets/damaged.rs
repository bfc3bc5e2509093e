//! The same files with damaged bytes, read by the program itself (`GLASSES`, else target/release/glasses): whatever libhdf5 does,
//! it ends as documented, with one line of error.

#![no_main]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use glasses_fuzz::foreign::{Foreign, Kind, META, SPEC};

/// The checkpoint of a run that made three steps.
const CHECKPOINT: &str = "run/checkpoints/step-000000003.h5";

fn program() -> PathBuf {
    let named = std::env::var_os("GLASSES").unwrap_or_else(|| "target/release/glasses".into());
    std::path::absolute(named).expect("a place")
}

/// A folder with `foreign.h5`, pictures, and `run`, which has made three steps of training on them and is to be gone on with.
static RUN: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir_in("/dev/shm").expect("room in memory");
    Foreign::plain(Kind::Images).write(folder.path());
    std::fs::write(folder.path().join("t.toml"), SPEC).expect("room");
    let mut train = Command::new(program());
    train.current_dir(&folder).args("--data foreign.h5 --model t.toml --batch 2 --max-steps 3".split(' '));
    let ended = train.args("--checkpoint-every 1steps --out run".split(' ')).output().expect("the program starts");
    assert!(ended.status.success(), "{ended:?}");
    let state = glasses::checkpoint::read_state(&folder.path().join(CHECKPOINT)).expect("a checkpoint");
    META.set(state.meta).expect("the first time");
    std::fs::remove_file(folder.path().join("run/summary.json")).expect("a finished run");
    folder
});

/// The run, with another checkpoint.
fn put_run(into: &Path, checkpoint: &Path) {
    std::fs::create_dir_all(into.join("run/checkpoints")).expect("room");
    for file in std::fs::read_dir(RUN.path().join("run")).expect("a folder").flatten() {
        if file.path().is_file() {
            std::fs::copy(file.path(), into.join("run").join(file.file_name())).expect("room");
        }
    }
    std::fs::rename(checkpoint, into.join(CHECKPOINT)).expect("room");
}

libfuzzer_sys::fuzz_target!(|foreign: Foreign| {
    LazyLock::force(&RUN);
    let folder = tempfile::tempdir_in("/dev/shm").expect("room in memory");
    let mut path = foreign.write(folder.path());
    let mut command = Command::new(program());
    if foreign.kind == Kind::State {
        put_run(folder.path(), &path);
        path = folder.path().join(CHECKPOINT);
        command.args(["train", "--resume", "run"]);
    } else {
        command.arg("info").arg(&path);
    }
    let ended = command.current_dir(folder.path()).output().expect("the program starts");
    let said = String::from_utf8_lossy(&ended.stderr);
    let errors = said.lines().filter(|line| line.starts_with("error: ")).count();
    match ended.status.code() {
        Some(0) => {}
        // Numbers that are none are a run's end, too.
        Some(1 | 2 | 4) if errors == 1 => {
            // What harms HDF5 is worth keeping, to build a test from.
            if let (Ok(keep), true) = (std::env::var("KEEP"), said.contains("made to do harm")) {
                let name =
                    said.split("a file that ").nth(1).unwrap_or("").split(':').next().unwrap_or("").replace(' ', "-");
                let _ = std::fs::copy(&path, format!("{keep}/{:?}-{name}.h5", foreign.kind));
            }
        }
        _ => panic!("{:?}: {said}", ended.status),
    }
    let canary = std::fs::read(folder.path().join("canary")).expect("it is there");
    assert!(canary == [1; 4096], "a file that another names was written");
});

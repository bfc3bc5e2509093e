//! The same files with damaged bytes, read by the program itself (`GLASSES`, else target/release/glasses): whatever libhdf5 does,
//! it ends as documented, with one line of error.

#![no_main]

use std::process::Command;

use glasses_fuzz::foreign::{Foreign, Kind};

libfuzzer_sys::fuzz_target!(|foreign: Foreign| {
    let folder = tempfile::tempdir_in("/dev/shm").expect("room in memory");
    let path = foreign.write(folder.path());
    let program = std::env::var("GLASSES").unwrap_or_else(|_| "target/release/glasses".to_owned());
    let mut command = Command::new(program);
    match foreign.kind {
        Kind::State => command.args(["train", "--resume", "run"]),
        _ => command.arg("info").arg(&path),
    };
    if foreign.kind == Kind::State {
        std::fs::create_dir_all(folder.path().join("run/checkpoints")).expect("room");
        std::fs::rename(&path, folder.path().join("run/checkpoints/step-000000003.h5")).expect("room");
        std::fs::write(folder.path().join("run/config.toml"), "data = \"none.h5\"\n").expect("room");
    }
    let ended = command.current_dir(folder.path()).output().expect("the program starts");
    let said = String::from_utf8_lossy(&ended.stderr);
    let errors = said.lines().filter(|line| line.starts_with("error: ")).count();
    match ended.status.code() {
        Some(0) => {}
        Some(1 | 2) if errors == 1 => {
            // What harms HDF5 is worth keeping, to build a test from.
            if let (Ok(keep), true) = (std::env::var("KEEP"), said.contains("made to do harm")) {
                let name =
                    said.split("a file that ").nth(1).unwrap_or("").split(':').next().unwrap_or("").replace(' ', "-");
                let _ = std::fs::copy(&path, format!("{keep}/{:?}-{name}.h5", foreign.kind));
            }
        }
        _ => panic!("{:?}: {said}", ended.status),
    }
});

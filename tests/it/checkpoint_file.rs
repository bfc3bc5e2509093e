//! Checkpoint files: exact, whole or refused; and the lock on a run's folder.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use glasses::checkpoint::{Checkpoints, State, Tensor, read_state, write_state};
use glasses::lock::RunLock;
use tempfile::tempdir;

use crate::fixtures::unlock;
use crate::run::{finish, skipped};

const META: &str = "{\"step\": 200, \"name\": \"Brille ½ 👓\"}";

/// Values whose bits are easily lost.
fn odd_values() -> Vec<f32> {
    let bits =
        [0x7fc0_1234, 0xffc0_0001, 0x7f80_0001, 0xff80_0000, 0x7f80_0000, 0x8000_0000, 1, 0x007f_ffff, 0, 0x3f80_0000];
    bits.map(f32::from_bits).to_vec()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// A small checkpoint.
fn write_small(path: &Path) {
    let (odd, many) = (odd_values(), (0..6000).map(|i| i as f32).collect::<Vec<_>>());
    let tensors = [
        Tensor { name: "params/conv0.weight", shape: &[5, 2], values: &odd },
        Tensor { name: "params/dense4.weight", shape: &[2, 3000], values: &many },
        Tensor { name: "optimizer/first/conv0.weight", shape: &[10], values: &odd },
        Tensor { name: "optimizer/none", shape: &[0], values: &[] },
        Tensor { name: "optimizer/nothing", shape: &[3, 0, 2], values: &[] },
        Tensor { name: "scalar", shape: &[], values: &[2.5] },
    ];
    write_state(path, META, &tensors).unwrap();
}

#[test]
fn tensors_come_back_bit_for_bit() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.h5");
    write_small(&path);
    let state = read_state(&path).unwrap();
    assert_eq!(state.meta, META);
    assert_eq!(bits(&state.tensor("params/conv0.weight", &[5, 2]).unwrap()), bits(&odd_values()));
    assert_eq!(bits(&state.tensor("optimizer/first/conv0.weight", &[10]).unwrap()), bits(&odd_values()));
    assert_eq!(state.tensor("params/dense4.weight", &[2, 3000]).unwrap()[5999], 5999.0);
    assert!(state.tensor("optimizer/none", &[0]).unwrap().is_empty());
    assert!(state.tensor("optimizer/nothing", &[3, 0, 2]).unwrap().is_empty());
    assert_eq!(state.tensor("scalar", &[]).unwrap(), [2.5]);
    let mut values = [0.0; 10];
    state.read_into("params/conv0.weight", &[5, 2], &mut values).unwrap();
    assert_eq!(bits(&values), bits(&odd_values()));
    state.read_into("optimizer/none", &[0], &mut []).unwrap();
    for (name, shape, part) in [
        ("params/conv0.weight", &[2, 5][..], "shape [5, 2] of float32, expected [2, 5] of float32"),
        ("params/conv0.weight", &[1 << 60], "expected [1152921504606846976]"),
        ("params/conv1.weight", &[5, 2], "/params/conv1.weight"),
        ("params", &[1], "/params"),
        ("meta", &[], "a.h5 /meta: found shape [] of"),
    ] {
        let message = state.tensor(name, shape).unwrap_err().to_string();
        assert!(message.contains(part) && message.contains("fix: "), "{message}");
    }
    // The same again is the same file, and texts of any length fit.
    let first = std::fs::read(&path).unwrap();
    write_small(&path);
    assert_eq!(std::fs::read(&path).unwrap(), first);
    for meta in [String::new(), "x".repeat(300_000)] {
        write_state(&path, &meta, &[]).unwrap();
        assert_eq!(read_state(&path).unwrap().meta, meta);
    }
}

#[test]
fn what_cannot_be_written_leaves_the_old_file() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.h5");
    write_small(&path);
    let tensor = Tensor { name: "a", shape: &[2], values: &[1.0, 2.0] };
    let wrong = Tensor { shape: &[3], ..tensor };
    let reserved = Tensor { name: "meta", ..tensor };
    for (meta, tensors) in [("{}", &[tensor, tensor][..]), ("{}", &[wrong]), ("{}", &[reserved]), ("a\0b", &[])] {
        let message = write_state(&path, meta, tensors).unwrap_err().to_string();
        assert!(message.contains("cannot build") && message.contains("a.h5"), "{message}");
    }
    assert!(write_state(&dir.path().join("no/such/folder.h5"), "{}", &[]).is_err());
    assert_eq!(read_state(&path).unwrap().meta, META);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_checkpoint_is_an_hdf5_file_for_others_too() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.h5");
    write_small(&path);
    let start = std::fs::read(&path).unwrap();
    let text = std::str::from_utf8(&start[..512]).unwrap();
    assert!(
        text.starts_with("glasses checkpoint 1\nsha256 ") && text.contains(" bytes behind this block\n\0"),
        "{text}"
    );
    let file = hdf5::File::open(&path).unwrap();
    assert_eq!(file.userblock(), 512);
    assert_eq!(file.attr("version").unwrap().read_scalar::<u32>().unwrap(), 1);
    drop(file);
    // Nothing in it says that it is still being written.
    drop(hdf5::File::open_rw(&path).unwrap());
    unlock(&path);
    if Command::new("h5dump").arg("--version").stdout(Stdio::null()).status().is_err() {
        return skipped("a_checkpoint_is_an_hdf5_file_for_others_too", "h5dump is not installed");
    }
    for (program, args, part) in [
        ("h5ls", &["-r"][..], "/params/conv0.weight     Dataset {5, 2}"),
        ("h5dump", &["-d", "/meta"], "\"step\": 200"),
        ("h5dump", &["-a", "/format"], "\"glasses checkpoint\""),
    ] {
        let mut command = Command::new(program);
        command.args(args).arg(&path);
        let end = finish(command).success();
        assert!(end.stdout.contains(part), "{part} in {end:?}");
    }
}

/// The message of a file that holds `bytes`.
fn refusal(path: &Path, bytes: &[u8]) -> String {
    std::fs::write(path, bytes).unwrap();
    let message = read_state(path).map(|state| state.meta).expect_err("damaged").to_string();
    assert!(message.contains("fix: ") && message.contains(&path.display().to_string()), "{message}");
    message
}

#[test]
fn every_flipped_byte_and_every_cut_is_refused() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.h5");
    write_small(&path);
    let whole = std::fs::read(&path).unwrap();
    // All of the head and of the first structures, then every 97th byte, then the last ones.
    let length = whole.len();
    for at in (0..1400).chain((1400..length).step_by(97)).chain(length - 64..length) {
        for flip in [1, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            refusal(&path, &bytes);
        }
    }
    for (cut, part) in [
        (0, "an empty file"),
        (5, "does not begin as checkpoints do"),
        (20, "does not begin as checkpoints do"),
        (21, "do not match its checksum"),
        (60, "do not match its checksum"),
        (200, "found 0 bytes behind its head"),
        (512, "found 0 bytes behind its head"),
        (513, "found 1 bytes behind its head"),
        (length / 2, "it was cut short, or damaged"),
        (length - 1, "it was cut short, or damaged"),
    ] {
        let message = refusal(&path, &whole[..cut]);
        assert!(message.contains(part), "{cut}: {message}");
    }
    refusal(&path, &[&whole[..], &[0]].concat());
    refusal(&path, &vec![0; length]);
    assert!(refusal(&path, &whole[512..]).contains("does not begin as checkpoints do"), "a mere HDF5 file");
    let newer = [b"glasses checkpoint 2\nsomething else\n", &whole[36..]].concat();
    assert!(refusal(&path, &newer).contains("found version 2, expected version 1\n  fix: go on with the version"));
    // A length that lies takes no memory.
    let text =
        String::from_utf8_lossy(&whole[..512]).replace(&format!("{} bytes", length - 512), "99999999999999 bytes");
    assert!(refusal(&path, &[text.as_bytes(), &whole[512..]].concat()).contains("expected 99999999999999"));
    let message = read_state(dir.path()).unwrap_err().to_string();
    assert!(message.starts_with("cannot read"), "{message}");
    assert!(read_state(&dir.path().join("missing.h5")).unwrap_err().to_string().contains("No such file"));
}

/// Checkpoints in `dir` after these steps.
fn checkpoints(dir: &Path, steps: &[usize]) -> Checkpoints {
    let all = Checkpoints::new(dir);
    for &step in steps {
        write_state(&all.path(step), &step.to_string(), &[]).unwrap();
    }
    all
}

#[test]
fn the_newest_whole_checkpoint_is_taken_and_damaged_ones_are_named() {
    let dir = tempdir().unwrap();
    let newest = |all: &Checkpoints, at_most| {
        let mut warnings = Vec::new();
        let found = all.newest_whole(at_most, &mut |e| warnings.push(e.to_string()));
        let check = |(step, state): (usize, State)| {
            assert_eq!(state.meta, step.to_string());
            assert_eq!(state.path(), all.path(step));
            step
        };
        (found.map(check), warnings)
    };
    assert_eq!(newest(&Checkpoints::new(dir.path().join("none")), None), (None, vec![]));
    let all = checkpoints(dir.path(), &[100, 50, 1_000_000_000, 200]);
    assert_eq!(newest(&all, None), (Some(1_000_000_000), vec![]));
    assert_eq!(newest(&all, Some(999)), (Some(200), vec![]));
    assert_eq!(newest(&all, Some(99)), (Some(50), vec![]));
    assert_eq!(newest(&all, Some(49)), (None, vec![]));
    let damage = |step| {
        let mut bytes = std::fs::read(all.path(step)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        std::fs::write(all.path(step), bytes).unwrap();
    };
    damage(1_000_000_000);
    std::fs::write(all.path(200), "").unwrap();
    let (step, warnings) = newest(&all, None);
    assert_eq!((step, warnings.len()), (Some(100), 2));
    assert!(warnings[0].contains("step-1000000000.h5") && warnings[0].contains("checksum"), "{warnings:?}");
    assert!(warnings[1].contains("step-000000200.h5") && warnings[1].contains("an empty file"), "{warnings:?}");
    damage(100);
    damage(50);
    let (step, warnings) = newest(&all, None);
    assert_eq!((step, warnings.len()), (None, 4));
    // A file where the folder should be.
    let (step, warnings) = newest(&Checkpoints::new(all.path(50)), None);
    assert!(step.is_none() && warnings[0].contains("cannot read the folder"), "{warnings:?}");
}

#[test]
fn old_checkpoints_and_unfinished_files_are_removed_and_nothing_else() {
    let dir = tempdir().unwrap();
    let all = checkpoints(dir.path(), &[3, 20, 100, 1_000_000_000]);
    let others =
        ["step-1.h5", "step-00000000x.h5", "step-+00000020.h5", "best.h5", ".glasses-notes", "step-000000001.h5.bak"];
    for name in others.into_iter().chain([".glasses-a1B2c3.part"]) {
        std::fs::write(dir.path().join(name), "").unwrap();
    }
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    std::fs::write(dir.path().join("sub/.glasses-a.part"), "").unwrap();
    assert_eq!(all.steps().unwrap(), [3, 20, 100, 1_000_000_000]);
    all.prune(9).unwrap();
    assert_eq!(all.steps().unwrap(), [3, 20, 100, 1_000_000_000]);
    assert!(!dir.path().join(".glasses-a1B2c3.part").exists() && dir.path().join("sub/.glasses-a.part").exists());
    all.prune(3).unwrap();
    assert_eq!(all.steps().unwrap(), [20, 100, 1_000_000_000]);
    all.remove_after(100).unwrap();
    assert_eq!(all.steps().unwrap(), [20, 100]);
    all.prune(1).unwrap();
    assert_eq!(all.steps().unwrap(), [100]);
    assert!(others.iter().all(|name| dir.path().join(name).exists()));
    Checkpoints::new(dir.path().join("none")).prune(1).unwrap();
}

/// Starts the test `name` of this binary, which finds `argument` in the environment, by way of `shell` ("$0" is it).
fn start(shell: &str, name: &str, argument: &Path) -> Command {
    let mut command = Command::new("bash");
    command.args(["-c", shell]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("checkpoint_file::{name}"), "--nocapture", "--test-threads", "1"]);
    command.env("CHECKPOINT_TEST", argument);
    command
}

/// What [`start`] gave this process; none in an ordinary run of the tests.
fn argument() -> Option<PathBuf> {
    std::env::var_os("CHECKPOINT_TEST").map(PathBuf::from)
}

/// Not a test: what `a_lock_dies_with_its_process` starts.
#[test]
fn child_that_holds_a_lock() {
    let Some(folder) = argument() else { return };
    let _lock = RunLock::acquire(&folder, Duration::ZERO).unwrap();
    println!("\nlocked {}", std::process::id());
    std::thread::sleep(Duration::from_secs(60));
}

/// A process that holds the lock of `folder`.
fn holder(folder: &Path) -> Child {
    let mut command = start("exec \"$0\" \"$@\"", "child_that_holds_a_lock", folder);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.map(Result::unwrap).find(|line| line.starts_with("locked ")).unwrap();
    assert_eq!(line, format!("locked {}", child.id()));
    child
}

#[test]
fn a_lock_dies_with_its_process() {
    let dir = tempdir().unwrap();
    let mut child = holder(dir.path());
    let acquire = |seconds| RunLock::acquire(dir.path(), Duration::from_secs(seconds));
    let message = acquire(0).unwrap_err().to_string();
    for part in
        [format!("process {} on ", child.id()), format!("`kill {}`", child.id()), dir.path().display().to_string()]
    {
        assert!(message.contains(&part), "{part} in {message}");
    }
    // Whoever waits gets it as soon as the other one is gone, killed or not.
    let begin = Instant::now();
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        child.kill().unwrap();
        child.wait().unwrap();
    });
    let lock = acquire(50).unwrap();
    assert!((Duration::from_millis(300)..Duration::from_secs(20)).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    killer.join().unwrap();
    drop(lock);
    let mut next = holder(dir.path());
    assert!(acquire(0).is_err());
    next.kill().unwrap();
    next.wait().unwrap();
}

/// Not a test: writes a first checkpoint of 30 KB and fails to write a second one of 1 MB.
#[test]
fn child_on_a_full_disk() {
    let Some(folder) = argument() else { return };
    let (all, values) = (Checkpoints::new(&folder), vec![1.0; 250_000]);
    let write = |step: usize, count| {
        let tensor = Tensor { name: "a", shape: &[count], values: &values[..count] };
        write_state(&all.path(step), &step.to_string(), &[tensor])
    };
    write(1, 6000).unwrap();
    for step in [1, 2] {
        println!("\nrefused: {}", write(step, values.len()).unwrap_err().to_string().replace('\n', " "));
    }
    let (step, state) = all.newest_whole(None, &mut |e| panic!("{e}")).unwrap();
    assert_eq!((step, &*state.meta), (1, "1"));
    assert_eq!(state.tensor("a", &[6000]).unwrap(), values[..6000]);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing half-written");
    println!("\nfull disk survived");
}

#[test]
fn a_full_disk_leaves_the_older_checkpoint() {
    let dir = tempdir().unwrap();
    let small = dir.path().join("small");
    std::fs::create_dir(&small).unwrap();
    let limit = "trap '' XFSZ; ulimit -f 200; exec \"$0\" \"$@\"";
    let mount = "unshare -m bash -c 'mount -t tmpfs -o size=200k tmpfs \"$CHECKPOINT_TEST\" || exit 77
        exec \"$0\" \"$@\"' \"$0\" \"$@\"";
    for (shell, refused) in [(limit, "File too large"), (mount, "No space left")] {
        let end = finish(start(shell, "child_on_a_full_disk", &small));
        if end.code == Some(77) || end.stderr.contains("unshare") {
            return skipped(
                "a_full_disk_leaves_the_older_checkpoint",
                &format!("no mount allowed here: {}", end.stderr),
            );
        }
        let end = end.success();
        let messages: Vec<_> = end.stdout.lines().filter(|line| line.starts_with("refused: ")).collect();
        assert_eq!(messages.len(), 2, "{end:?}");
        let good =
            |line: &&str| line.contains("cannot write") && line.contains(refused) && line.contains("free some space");
        assert!(messages.iter().all(good), "{end:?}");
        assert!(end.stdout.contains("full disk survived"), "{end:?}");
    }
}

/// What `/proc` says about this process's memory, in bytes.
fn memory(what: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    1024 * line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap()
}

/// Not a test: weighs the writing and the reading of 78 MB.
#[test]
fn child_that_weighs() {
    let Some(folder) = argument() else { return };
    let values: Vec<f32> = (0..6_500_000).map(|i| i as f32).collect();
    let tensors = ["params", "optimizer/first", "optimizer/second"].map(|name| Tensor {
        name,
        shape: &[6500, 1000],
        values: &values,
    });
    let path = folder.join("a.h5");
    for _ in 0..3 {
        let (before, start) = (memory("VmRSS:"), Instant::now());
        write_state(&path, META, &tensors).unwrap();
        let wrote = start.elapsed();
        println!("\nwrote in {wrote:?}\nimages {:.3}", (memory("VmHWM:") - before) as f64 / 78e6);
    }
    let start = Instant::now();
    let state = read_state(&path).unwrap();
    let verified = start.elapsed();
    assert!(state.tensor("optimizer/second", &[6500, 1000]).unwrap() == values);
    println!("verified in {verified:?}, read in {:?}", start.elapsed());
}

#[test]
fn writing_takes_memory_for_one_image() {
    let dir = tempdir().unwrap();
    let end = finish(start("exec \"$0\" \"$@\"", "child_that_weighs", dir.path())).success();
    let images = end.stdout.lines().filter_map(|line| line.strip_prefix("images ")?.parse::<f64>().ok());
    let images: Vec<f64> = images.collect();
    assert!(images.len() == 3 && images.iter().all(|images| (0.9..1.2).contains(images)), "{end:?}");
}

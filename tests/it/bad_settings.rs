//! Bad settings, networks and places to write: each is refused with one message, and nothing is left behind.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::fixtures::{Raw, everything, faces, refused, refused_by_all, refused_by_ranks, words};
use crate::run::{Outcome, glasses, mpirun, shell, skipped};

/// Trains on the faces.
const TRAIN: &str = "--data faces.h5 --model tiny.toml";

#[test]
fn settings_files_are_refused_with_the_line_or_the_nearest_key() {
    let dir = faces();
    for (text, parts) in [
        ("epoch = 3", &["unknown key 'epoch'", "did you mean 'epochs'?"][..]),
        ("weight_decay = 0.1", &["unknown key 'weight_decay'", "did you mean 'weight-decay'?"]),
        ("zzz = 1", &["unknown key 'zzz'", "known keys: data, model"]),
        ("seed = 1\nlr = \"fast\"", &["line 2, column 6", "lr = \"fast\"", "found string \"fast\", expected a number"]),
        ("epochs = -1", &["line 1", "epochs = -1"]),
        ("batch = 2.5", &["line 1", "expected a number of rows, or \"full\""]),
        ("optimizer = \"adan\"", &["unknown value `adan`", "`adamw`"]),
        ("epochs = 3\nlr = \nseed = 1", &["line 2", "lr = "]),
        ("[model]\nname = \"x\"\nlayers = [\"flaten\"]", &["layer 'flaten' (did you mean 'flatten'?)"]),
        ("[model]\nname = \"x\"", &["missing field `layers`"]),
        ("model = 3", &["model = 3: expected a name, a file, or a table"]),
        ("model = \"glases\"", &["'glases'", "did you mean 'glasses'?"]),
        ("seed = 1\nepochs = \"a\"", &["line 2", "found string \"a\", expected a whole number, 0 or more"]),
        ("data = 3", &["found the number `3`, expected a path in quotes"]),
        ("tensorboard = \"x\"", &["found string \"x\", expected true or false"]),
        ("[train]\nepochs = 3", &["a section [train]", "without sections", "take the line in brackets out"]),
        ("seed = 1\n[optimizer]\nlr = 3.0", &["a section [optimizer]", "without sections"]),
        ("[[x]]\nlr = 3.0", &["sections [[x]]"]),
        ("[model]\nname = 3\nlayers = []", &["found the number `3`, expected a text in quotes"]),
        ("lr = nan", &["--lr: found NaN, expected a positive number"]),
    ] {
        std::fs::write(dir.path().join("s.toml"), text).unwrap();
        refused(dir.path(), "--data faces.h5 --config s.toml", parts);
    }
    refused_by_ranks(3, dir.path(), "--data faces.h5 --config s.toml", &["--lr: found NaN"]);
    refused_by_all(dir.path(), "--config none.toml", &["cannot read none.toml: No such file"]);
    std::fs::create_dir(dir.path().join("folder")).unwrap();
    refused(dir.path(), "--config folder", &["cannot read folder", "Is a directory"]);
    std::fs::write(dir.path().join("s.toml"), b"\xff\xfe").unwrap();
    refused(dir.path(), "--config s.toml", &["cannot read s.toml", "UTF-8"]);
}

#[test]
fn options_without_sense_are_refused_by_their_names() {
    let dir = faces();
    for (options, parts) in [
        ("--epochs 0", &["--epochs: found 0"][..]),
        ("--epochs 18446744073709551615", &["--epochs", "1 to 4294967296"]),
        ("--max-steps 18446744073709551615", &["--max-steps", "1 to 4294967296"]),
        ("--eval-every 0", &["--eval-every: found 0"]),
        ("--batch 0", &["--batch: found 0"]),
        ("--batch half", &["half", "'full'"]),
        ("--batch 65", &["--batch: found 65 rows, more than the 64 training rows of faces.h5"]),
        ("--lr 0", &["--lr: found 0, expected a positive number"]),
        ("--lr inf", &["--lr: found inf"]),
        ("--momentum 1", &["--momentum: found 1, expected at least 0 and below 1"]),
        ("--clip-norm 0", &["--clip-norm"]),
        ("--shards 0", &["--shards"]),
        ("--shards 65537", &["--shards: found 65537, expected at most 65536"]),
        ("--seed 18446744073709551615", &["--seed"]),
        ("--optimizer adm", &["'adm'", "similar", "adamw"]),
        ("--epochz 3", &["--epochz", "similar argument exists: '--epochs'"]),
    ] {
        refused(dir.path(), &format!("{TRAIN} {options}"), parts);
    }
    // MPI's own sum knows no other way.
    for (options, parts) in [
        ("--comm auto", ["--comm: found auto", "--comm reduce, the only one that goes with --reduce mpi"]),
        ("--comm factors", ["--comm: found factors", "the only one that goes with --reduce mpi"]),
        ("--comm split", ["--comm: found split", "the only one that goes with --reduce mpi"]),
        ("--window on", ["--window: found on", "--window off, the only one that goes with --reduce mpi"]),
        ("--window auto", ["--window: found auto", "the only one that goes with --reduce mpi"]),
        ("--wire bf16", ["--wire: found bf16", "--wire f32, the only one that goes with --reduce mpi"]),
    ] {
        refused(dir.path(), &format!("{TRAIN} --reduce mpi {options}"), &parts);
    }
    refused_by_ranks(3, dir.path(), &format!("{TRAIN} --reduce mpi --comm split"), &["--comm: found split"]);
    std::fs::write(dir.path().join("s.toml"), "reduce = \"mpi\"\nwindow = \"on\"").unwrap();
    refused(dir.path(), &format!("{TRAIN} --config s.toml"), &["--window: found on"]);
    std::fs::remove_file(dir.path().join("s.toml")).unwrap();
    refused(dir.path(), &format!("{TRAIN} --comm splitt"), &["'splitt'", "similar", "split"]);
    refused(dir.path(), "inof faces.h5", &["inof", "info"]);
    refused_by_ranks(3, dir.path(), &format!("{TRAIN} --epochz 3"), &["--epochz"]);
    let found = "--shards: found 3 ranks for 2 shards, expected at least one shard a rank";
    refused_by_ranks(3, dir.path(), &format!("{TRAIN} --shards 2"), &[found, "start at most 2 ranks"]);
}

/// Puts a network of these layers into `bad.toml`.
fn network(dir: &Path, layers: &str) {
    std::fs::write(dir.join("bad.toml"), format!("name = \"bad\"\nlayers = [{layers}]\n")).unwrap();
}

#[test]
fn memory_is_asked_for_before_it_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let labels: Vec<i64> = (0..64).map(|row| row % 2).collect();
    let pixels = vec![7u8; 64 * 360 * 360];
    Raw::create(dir, "large.h5").put("train/images", &[64, 360, 360, 1], &pixels).labels("train", &labels);
    // 2 TB for one layer's outputs.
    network(dir, r#""conv 1x1x65535", "global_avgpool", "dense classes""#);
    refused_by_all(dir, "--data large.h5 --model bad.toml --batch full", &["model 'bad'", "MB a rank", "memory"]);
}

#[test]
fn a_stride_longer_than_the_picture_takes_no_time() {
    let dir = faces();
    network(
        dir.path(),
        r#""conv 3x3x4", "relu", "conv 3x3x4 stride 65535", "maxpool 1 stride 65535", "flatten", "dense classes""#,
    );
    let start = Instant::now();
    glasses(&words("--data faces.h5 --model bad.toml --epochs 1 --out run"), dir.path()).success();
    glasses(&words("info --model bad.toml --input 24x24x3"), dir.path()).success();
    glasses(&words("eval --model run --data faces.h5"), dir.path()).success();
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn a_network_that_does_not_fit_is_refused_by_layer_and_shape() {
    let dir = faces();
    let dir = dir.path();
    let args = "--data faces.h5 --model bad.toml";
    for (layers, parts) in [
        (
            r#""dense classes""#,
            &["model 'bad', layer 0 'dense classes'", "input 24x24x3", "put \"flatten\" before it"][..],
        ),
        (r#""flatten", "conv 3x3x4", "dense 2""#, &["layer 1 'conv 3x3x4'", "input 1728", "takes an image"]),
        (r#""conv 30x30x4 pad 0", "flatten", "dense 2""#, &["layer 0", "24x24x3", "(24 - 30 + 2*0)/1 + 1 = -5"]),
        (
            r#""conv 4x4x4 stride 3 pad 4", "flatten", "dense 2""#,
            &["layer 0", "with padding 4, not smaller than the window 4"],
        ),
        (r#""maxpool 25", "flatten", "dense 2""#, &["layer 0 'maxpool 25'", "(24 - 25 + 2*0)/25 + 1 = 0.96"]),
        (r#""flatten", "dense 3""#, &["a last layer that gives 3, expected 2 outputs", "dense classes"]),
        (r#""conv 3x3x2""#, &["a last layer that gives 24x24x2, expected 2 outputs"]),
        (r#""softmax", "flatten", "dense 2""#, &["layer 0 'softmax'", "may only stand last"]),
        (
            r#""flatten", "dense 60000", "dense 60000", "dense 60000", "dense 2""#,
            &["model 'bad': found 7303980002 weights", "memory of this machine"],
        ),
        (
            r#""flatten", "dense 65535", "dense 65535", "dense 65535", "dense 2""#,
            &["layer 3 'dense 65535'", "input 65535", "more than 2^33"],
        ),
        (r#""covn 3x3x4""#, &["bad.toml, line 2", "did you mean 'conv'?"]),
        (r#""conv 3x3""#, &["bad.toml, line 2", "conv 3x3", "height x width x channels"]),
        (r#""#, &["bad.toml".trim_end_matches(".toml"), "expected"]),
        (r#"3"#, &["bad.toml, line 2", "expected a"]),
    ] {
        network(dir, layers);
        refused(dir, args, parts);
    }
    network(dir, r#""maxpool 25", "flatten", "dense 2""#);
    refused_by_ranks(3, dir, args, &["layer 0", "(24 - 25 + 2*0)/25 + 1 = 0.96"]);
    let text = "name = \"bad\"\ninput = [80, 80, 3]\nlayers = [\"flatten\", \"dense classes\"]\n";
    std::fs::write(dir.join("bad.toml"), text).unwrap();
    refused(dir, args, &["model 'bad': found data of shape 24x24x3, expected its own input 80x80x3"]);
    std::fs::write(dir.join("bad.toml"), "name = \"bad\"\nlayer = []\n").unwrap();
    refused(dir, args, &["bad.toml, line 2", "unknown field `layer`", "`layers`"]);
    std::fs::write(dir.join("bad.toml"), "name = \"bad\"\nlayers = [\"flatten\"\n").unwrap();
    refused(dir, args, &["bad.toml, line", "expected a model"]);
    refused_by_all(dir, "--data faces.h5 --model glases", &["--model: found 'glases'", "did you mean 'glasses'?"]);
    refused(dir, "--data faces.h5 --model none.toml", &["cannot read none.toml"]);
    refused(dir, "info --model glases", &["did you mean 'glasses'?"]);
    refused(dir, "info --model glasses --input 80x80", &["80x80x3"]);
    // Convolutions on features.
    glasses(&words("synth --kind spiral --count 60 --out spiral.h5"), dir).success();
    refused(
        dir,
        "--data spiral.h5 --model tiny.toml",
        &["model 'tiny', layer 0 'conv 3x3x4'", "input 2", "not a vector"],
    );
}

#[test]
fn an_output_folder_that_cannot_be_had_is_refused_and_left_as_it_was() {
    let dir = faces();
    let dir = dir.path();
    std::fs::create_dir_all(dir.join("full/runs")).unwrap();
    std::fs::write(dir.join("full/precious"), "mine").unwrap();
    let found = "--out full: found a folder that holds something, expected a new or an empty one";
    refused_by_all(dir, &format!("{TRAIN} --out full"), &[found]);
    refused(dir, &format!("{TRAIN} --out faces.h5"), &["cannot create the folder faces.h5"]);
    refused_by_all(dir, &format!("{TRAIN} --out faces.h5/x/y"), &["cannot create the folder faces.h5/x/y"]);
    std::fs::write(dir.join("runs"), "a file where the folder of runs goes").unwrap();
    refused(dir, TRAIN, &["cannot create the folder runs"]);
}

#[test]
fn a_folder_without_write_permission_is_refused() {
    let dir = faces();
    let locked = dir.path().join("locked");
    std::fs::create_dir(&locked).unwrap();
    let permissions = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(&locked, permissions(0o555)).unwrap();
    let before = everything(dir.path());
    // Root may write anywhere unless it gives that power up.
    let line = format!(
        "if [ $(id -u) = 0 ]; then
            drop='setpriv --bounding-set=-dac_override'; $drop true 2>/dev/null || exit 77
         fi
         exec $drop $GLASSES {TRAIN} --epochs 1 --out locked/OUT"
    );
    for out in ["", "deep/down"] {
        let end = shell(&line.replace("OUT", out), dir.path());
        if end.code == Some(77) {
            skipped(
                "a_folder_without_write_permission_is_refused",
                "this root cannot give up its power to write anywhere",
            );
            break;
        }
        let message = end.failure();
        assert!(message.contains("locked") && message.contains("Permission denied"), "{message}");
        assert!(message.contains("choose a place that you may write to"), "{message}");
        assert_eq!(everything(dir.path()), before);
    }
    std::fs::set_permissions(&locked, permissions(0o755)).unwrap();
}

#[test]
fn a_full_disk_leaves_completed_epochs_or_nothing() {
    let dir = faces();
    let before = everything(dir.path());
    let run = |limit: usize, ranks: usize| -> Outcome {
        // A limit on file sizes, in KiB, stands in for a full disk. With `hash` and `tcp`, Open MPI needs no files.
        // MPI's daemon is to have none, so each rank has a shell of its own.
        let start = if ranks > 1 { format!("mpirun -n {ranks}") } else { String::new() };
        shell(
            &format!(
                "export PMIX_MCA_gds=hash OMPI_MCA_btl=self,tcp
                {start} bash -c \"ulimit -f {limit}
                exec $GLASSES {TRAIN} --epochs 2 --max-failed-checkpoints 1 --out run/here\" 2>&1 >/dev/null | cat >&2
                exit ${{PIPESTATUS[0]}}"
            ),
            dir.path(),
        )
    };
    for (limit, ranks, file) in [(0, 1, "config.toml"), (0, 3, "config.toml"), (4, 1, "model.h5"), (4, 3, "model.h5")] {
        let message = run(limit, ranks).failure();
        let part = format!("cannot write run/here/{file}: File too large");
        assert!(message.contains(&part) && message.contains("free some space"), "{part} in {message}");
        if file == "config.toml" {
            assert_eq!(everything(dir.path()), before, "not even the folders");
            continue;
        }
        let mut left: Vec<_> =
            std::fs::read_dir(dir.path().join("run/here")).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        let want = ["checkpoints", "config.toml", "digests.jsonl", "lock", "metrics.jsonl"];
        assert_eq!(left, want, "what two epochs wrote, and no part of a model");
        let checkpoints = std::fs::read_dir(dir.path().join("run/here/checkpoints")).unwrap();
        assert_eq!(checkpoints.count(), 0, "no part of a checkpoint");
        assert!(message.contains("warning: the last checkpoint could not be written"), "{message}");
        let lines = std::fs::read_to_string(dir.path().join("run/here/metrics.jsonl")).unwrap();
        assert_eq!(lines.lines().count(), 2);
        std::fs::remove_dir_all(dir.path().join("run")).unwrap();
    }
}

#[test]
fn a_disk_that_is_really_full_ends_in_one_message() {
    let dir = faces();
    // Root in a namespace of its own may mount a small disk; 24 KiB hold the settings and the metrics, not the model.
    let line = format!(
        "unshare -m bash -c 'mkdir -p small && mount -t tmpfs -o size=24k tmpfs small || exit 77
        $GLASSES {TRAIN} --epochs 1 --max-failed-checkpoints 1 --out small/run >/dev/null; code=$?; ls -A small/run; exit $code'"
    );
    let end = shell(&line, dir.path());
    if end.code == Some(77) || end.stderr.contains("unshare") {
        skipped("a_disk_that_is_really_full_ends_in_one_message", &format!("no mount allowed here: {}", end.stderr));
        return;
    }
    assert_eq!(end.stdout, "checkpoints\nconfig.toml\ndigests.jsonl\nlock\nmetrics.jsonl\n", "{end:?}");
    let message = end.failure();
    assert!(message.contains("small/run/model.h5") && message.contains("free some space"), "{message}");
}

#[test]
fn what_is_typed_is_refused_without_the_words_of_rust() {
    let dir = faces();
    for (args, parts) in [
        ("--epochs a", &["'a' for '--epochs", "expected a whole number"][..]),
        ("--lr x", &["'x' for '--lr", "expected a number"]),
        ("--max-failed-checkpoints 0", &["0 is not 1 or more"]),
        ("sweep --data faces.h5 --grid epochs=a", &["'a' for '--epochs", "expected a whole number"]),
        ("predict --model run --top 70000 x.png", &["70000 is not 1 to 65535"]),
    ] {
        refused(dir.path(), args, parts);
        let message = glasses(&words(args), dir.path()).stderr;
        let foreign = ["usize", "u64", "f64", "digit found", "literal", "..="];
        assert!(foreign.iter().all(|word| !message.contains(word)), "{message}");
    }
    std::fs::write(dir.path().join("m.toml"), "name = \"m\"\nlayers = [\"dense classes\"]\ninput = [\"a\", 1, 1]")
        .unwrap();
    refused(
        dir.path(),
        "--data faces.h5 --model m.toml",
        &["m.toml, line 3: found string \"a\", expected a whole number"],
    );
}

#[test]
fn a_rise_of_the_learning_rate_that_the_run_does_not_see_the_end_of_is_refused() {
    let dir = faces();
    let parts = &["--warmup-epochs: found 3, expected at most --epochs, which is 2", "still be rising"];
    refused_by_all(dir.path(), &format!("{TRAIN} --epochs 2 --warmup-epochs 3"), parts);
    let cut =
        glasses(&words(&format!("{TRAIN} --epochs 9 --warmup-epochs 5 --max-steps 2 --out cut")), dir.path()).success();
    assert!(cut.stderr.contains("note: --max-steps ends the run within --warmup-epochs"), "{cut:?}");
    let sweep = format!("sweep {TRAIN} --grid epochs=2,4 --warmup-epochs 3");
    refused(dir.path(), &sweep, &["run epochs2", "--warmup-epochs: found 3"]);
    glasses(&words(&format!("{TRAIN} --epochs 2 --warmup-epochs 2 --out whole")), dir.path()).success();
    // An older version let such a run begin: it goes on.
    glasses(&words(&format!("{TRAIN} --epochs 2 --max-steps 5 --out old")), dir.path()).success();
    let config = dir.path().join("old/config.toml");
    let text = std::fs::read_to_string(&config).unwrap().replace("warmup-epochs = 1.0", "warmup-epochs = 3.0");
    std::fs::write(&config, text).unwrap();
    glasses(&words("train --resume old"), dir.path()).success();
}

#[test]
fn training_that_diverges_stops_with_one_message_on_all_ranks() {
    let dir = faces();
    let args = format!("{TRAIN} --lr 1e30 --optimizer sgd");
    refused_by_all(dir.path(), &args, &["step 2 (epoch 1): found loss NaN", "lower --lr"]);
    // No later step sees what the last one did.
    refused_by_all(dir.path(), &format!("{args} --max-steps 1"), &["step 1 (epoch 1)", "diverged", "lower --lr"]);
    // Later epochs leave what the earlier ones wrote: figures, and no model.
    let args = words(
        "--data faces.h5 --model tiny.toml --epochs 1000 --lr 1e6 --warmup-epochs 1000 --optimizer sgd --out run",
    );
    for ranks in [1, 3] {
        let end = if ranks == 1 { glasses(&args, dir.path()) } else { mpirun(ranks, &args, dir.path()) };
        let message = end.failure();
        assert!(message.contains("diverged"), "{message}");
        assert!(!message.contains("(epoch 1)"), "this test wants a failure after the first epoch: {message}");
        assert!(std::fs::metadata(dir.path().join("run/metrics.jsonl")).unwrap().len() > 0);
        assert!(!dir.path().join("run/model.h5").exists());
        std::fs::remove_dir_all(dir.path().join("run")).unwrap();
    }
}

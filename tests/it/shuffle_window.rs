//! Windows of the shuffle: a setting of the run, the same on any ranks, kept by a run that goes on.

use std::path::Path;

use glasses::config::{Batch, ModelChoice, Settings};
use glasses::row_count::RowCount;
use glasses::train::Origin;

use crate::fixtures::{TINY, refused, words};
use crate::plans::{on, with_threads};
use crate::ranks::{assert_same_run, weights};
use crate::run::glasses;

/// 90 rows, in chunks of the file of 16 rows.
fn prepare(dir: &Path) -> Settings {
    std::fs::write(dir.join("tiny.toml"), TINY).unwrap();
    glasses(&words("synth --out faces.h5 --count 100 --size 24 --test 0.1"), dir).success();
    Settings {
        data: Some(dir.join("faces.h5")),
        model: Some(ModelChoice::Name(dir.join("tiny.toml").display().to_string())),
        batch: Some(Batch::Rows(7)),
        epochs: Some(2),
        shards: Some(9),
        digest_every: Some(1),
        ..Settings::default()
    }
}

#[test]
fn a_window_is_the_same_run_on_any_ranks_and_after_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let base = prepare(dir);
    let mut found = Vec::new();
    for (case, (window, block)) in [
        (RowCount::All, None),
        (RowCount::Rows(4), Some(2)),
        (RowCount::Rows(5), Some(1)),
        (RowCount::Rows(4), Some(3)),
    ]
    .into_iter()
    .enumerate()
    {
        let settings = Settings { shuffle_window: Some(window), shuffle_block: block, ..base.clone() };
        let solo = dir.join(format!("{case}-solo"));
        with_threads(&[], settings.clone(), &Origin::Scratch, &solo);
        found.push(weights(&solo));
        for machines in [&[2][..], &[3], &[5], &[8], &[2, 1]] {
            let out = dir.join(format!("{case}-{machines:?}"));
            with_threads(machines, settings.clone(), &Origin::Scratch, &out);
            assert_same_run(&out, &solo, &format!("{window:?}, {block:?}, machines {machines:?}"));
        }
        // In the middle of the second epoch.
        let out = dir.join(format!("{case}-goes-on"));
        with_threads(&[3], Settings { max_steps: Some(17), ..settings.clone() }, &Origin::Scratch, &out);
        with_threads(&[2, 2], settings, &Origin::Resume(out.clone()), &out);
        assert_same_run(&out, &solo, &format!("{window:?}, {block:?}, resumed"));
    }
    let different: std::collections::BTreeSet<_> = found.iter().collect();
    assert_eq!(different.len(), 4, "window and block decide the order: {found:?}");
    on(2, 0, "verify 1-solo", dir).success();
}

#[test]
fn what_is_left_out_is_the_file_s_chunk_which_the_run_keeps() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    prepare(dir);
    let line = "train --data faces.h5 --model tiny.toml --epochs 1 --shards 2";
    let said = glasses(&words(&format!("{line} --shuffle-window 1 --out run --max-steps 2")), dir).success().stderr;
    let config = std::fs::read_to_string(dir.join("run/config.toml")).unwrap();
    let block = config.lines().find_map(|line| line.strip_prefix("shuffle-block = ")).unwrap();
    assert!(config.contains("shuffle-window = 1\n"), "{config}");
    let note = format!("note: --shuffle-window 1 is less than a block: {block} rows are shuffled together");
    assert!(said.contains(&note), "{said}");
    refused(dir, "train --resume run --shuffle-block 3", &["shuffle-block: 3 was"]);
    refused(dir, "train --resume run --shuffle-window all", &["shuffle-window"]);
    glasses(&words("train --resume run --max-steps 4"), dir).success();
    // A run whose window is the shard says nothing of it, as older ones do.
    glasses(&words(&format!("{line} --out whole --shuffle-window all")), dir).success();
    assert!(!std::fs::read_to_string(dir.join("whole/config.toml")).unwrap().contains("shuffle"));
    // Where there is no window there is no block, whoever names one: the same sweep finds its runs again.
    for _ in 0..2 {
        let sweep = "sweep --data faces.h5 --model tiny.toml --epochs 1 --shards 2 --shuffle-block 8 --grid shuffle-window=all,16 --out grid";
        glasses(&words(sweep), dir).success();
    }
    for (option, parts) in [
        ("--shuffle-window 0", &["--shuffle-window", "'0'", "'all' or a number of rows"][..]),
        ("--shuffle-window some", &["--shuffle-window", "'some'"]),
        ("--shuffle-window 9 --shuffle-block 0", &["--shuffle-block", "1 to"]),
    ] {
        refused(dir, &format!("{line} --out none {option}"), parts);
    }
}

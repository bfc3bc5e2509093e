//! Long lists of what cannot be used: the first ten are said, all of those that `--skip-bad` leaves out are in a file.

use std::path::Path;

use image::{Rgb, RgbImage};
use tempfile::{TempDir, tempdir};

use crate::run::{Outcome, glasses, mpirun};

/// Folders `a` and `b` with `good` pictures each; `bad` more in `a` are none.
fn pictures(good: usize, bad: usize) -> TempDir {
    let dir = tempdir().unwrap();
    for (class, shade) in [("a", 0), ("b", 200)] {
        let folder = dir.path().join("photos").join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for i in 0..good {
            RgbImage::from_pixel(8, 8, Rgb([shade, i as u8, 0])).save(folder.join(format!("{i}.png"))).unwrap();
        }
    }
    for i in 0..bad {
        std::fs::write(dir.path().join(format!("photos/a/bad-{i}.png")), "no picture").unwrap();
    }
    dir
}

/// Lines that name an item, which hold `word`.
fn named(end: &Outcome, word: &str) -> usize {
    end.stderr.lines().filter(|line| line.starts_with("  ") && line.contains(word)).count()
}

fn list(dir: &Path) -> Vec<String> {
    std::fs::read_to_string(dir.join("d.h5.skipped")).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn of_fifty_thousand_missing_pictures_ten_are_named() {
    let dir = pictures(6, 0);
    let line = |i: usize| format!("{i},{}\n", i % 2);
    let table: String = (0..50_006).map(line).collect();
    std::fs::write(dir.path().join("labels.csv"), format!("id,label\n{table}")).unwrap();
    let args = ["ingest", "photos/b", "--labels", "labels.csv", "--size", "8", "--out", "d.h5"];
    for end in [glasses(&args, dir.path()), mpirun(3, &args, dir.path())] {
        assert_eq!(named(&end, "no picture"), 10, "{end:?}");
        let message = end.failure();
        assert!(message.contains("50000 of 50006 pictures") && message.contains("… and 49990 more"), "{message}");
        assert!(message.len() < 4000, "{} bytes: {message}", message.len());
        assert!(!dir.path().join("d.h5.skipped").exists());
    }
    let args = [&args[..], &["--skip-bad"]].concat();
    let end = glasses(&args, dir.path()).success();
    assert_eq!(named(&end, "no picture"), 10, "{end:?}");
    let list = list(dir.path());
    assert_eq!(list.len(), 50_000);
    assert!(list[0].starts_with("line 8: no picture ") && list[49_999].starts_with("line 50007: "), "{}", list[0]);
}

#[test]
fn what_is_left_out_is_listed_beside_the_dataset() {
    let dir = pictures(6, 12);
    let args = ["ingest", "photos", "--size", "8", "--out", "d.h5", "--skip-bad"];
    let forced = [&args[..], &["--force"]].concat();
    let mut lists = Vec::new();
    for end in [glasses(&args, dir.path()), mpirun(3, &forced, dir.path())] {
        let end = end.success();
        assert!(end.stderr.contains("note: 12 bad or missing") && end.stderr.contains("d.h5.skipped"), "{end:?}");
        assert!(named(&end, "bad-") == 10 && end.stderr.contains("… and 2 more"), "{end:?}");
        lists.push(list(dir.path()));
    }
    assert_eq!(lists[0], lists[1]);
    let expected: Vec<String> = (0..12).map(|i| format!("photos/a/bad-{i}.png: ")).collect();
    assert_eq!(lists[0].len(), 12);
    assert!(lists[0].iter().zip(expected).all(|(line, start)| line.starts_with(&start)), "{lists:?}");
    // A list of another dataset is not replaced unasked.
    std::fs::remove_file(dir.path().join("d.h5")).unwrap();
    let message = glasses(&args, dir.path()).failure();
    assert!(message.contains("d.h5.skipped: found a file of that name") && message.contains("--force"), "{message}");
    assert!(!dir.path().join("d.h5").exists() && list(dir.path()) == lists[0]);
    // Nothing is left out any more: nor is there a list.
    (0..12).for_each(|i| std::fs::remove_file(dir.path().join(format!("photos/a/bad-{i}.png"))).unwrap());
    let end = glasses(&forced, dir.path()).success();
    assert!(!dir.path().join("d.h5.skipped").exists() && !end.stderr.contains("left out"), "{end:?}");
}

#[test]
fn rows_of_a_table_are_listed_too() {
    let dir = tempdir().unwrap();
    let bad: String = (0..15).map(|i| format!("x{i},1,0\n")).collect();
    std::fs::write(dir.path().join("t.csv"), format!("x,y,label\n1,2,0\n3,4,1\n5,6,0\n7,8,1\n{bad}")).unwrap();
    let args = ["ingest", "t.csv", "--out", "d.h5", "--test", "0"];
    let message = glasses(&args, dir.path()).failure();
    assert!(message.contains("15 of 19 rows") && message.contains("… and 5 more"), "{message}");
    glasses(&[&args[..], &["--skip-bad"]].concat(), dir.path()).success();
    let list = list(dir.path());
    assert_eq!(list.len(), 15, "{list:?}");
    assert!(list.iter().all(|line| line.starts_with("line ") && line.contains("expected a finite f32")), "{list:?}");
}

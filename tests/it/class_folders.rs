//! Folders of pictures through `glasses ingest`: which folder became which split, and classes that do not lie where they should.

use std::path::Path;

use image::{Rgb, RgbImage};
use tempfile::{TempDir, tempdir};

use crate::fixtures::{refused, refused_by_ranks, words};
use crate::run::{Outcome, glasses};

/// A folder `s` with three pictures in each of these.
fn folders(names: &[&str]) -> TempDir {
    let dir = tempdir().unwrap();
    for (shade, name) in names.iter().enumerate() {
        let folder = dir.path().join("s").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for i in 0..3 {
            RgbImage::from_pixel(4, 4, Rgb([shade as u8 * 9, i, 0])).save(folder.join(format!("{i}.png"))).unwrap();
        }
    }
    dir
}

fn ingest(dir: &Path, args: &str) -> Outcome {
    glasses(&words(&format!("ingest {args} --size 4 --force --out d.h5")), dir)
}

#[test]
fn which_folder_became_which_split_is_always_noted() {
    let dir = folders(&["train/a", "train/b", "test/a", "test/b"]);
    let end = ingest(dir.path(), "s").success();
    assert!(end.stderr.contains("s/test is test (6 pictures), s/train is train (6 pictures)"), "{end:?}");
    assert!(!end.stderr.contains("--test"), "{end:?}");
    for (name, split) in
        [("eval", "val"), ("dev", "val"), ("holdout", "test"), ("seg_test", "test"), ("testset", "test")]
    {
        let dir = folders(&["train/a", "train/b", &format!("{name}/a"), &format!("{name}/b")]);
        let asks = ["--folders splits or --folders classes", &format!("{name} is {split}"), "train is train"];
        refused(dir.path(), "ingest s --out e.h5", &asks);
        let end = ingest(dir.path(), "s --folders splits").success();
        assert!(end.stderr.contains(&format!("s/{name} is {split} (6 pictures)")), "{end:?}");
        assert_eq!(end.stderr.contains("none is test (--test holds back training rows)"), split == "val", "{end:?}");
        assert!(end.stdout.contains(&format!("{split} 6")), "{end:?}");
    }
}

#[test]
fn classes_that_lie_too_deep_are_found_or_named() {
    for (folder, classes) in [("a/b", ["a/b/cats", "a/b/dogs"]), ("a/b/c", ["a/b/c/cats", "a/b/c/dogs"])] {
        let dir = folders(&classes);
        let fix = format!("glasses ingest s/{folder}");
        refused(dir.path(), "ingest s --out e.h5", &["one sub-folder", &format!("s/{folder}/cats"), &fix]);
        let end = ingest(dir.path(), &format!("s/{folder}")).success();
        assert!(end.stdout.contains("2 classes: cats (3), dogs (3)"), "{end:?}");
    }
    // Kaggle's cats and dogs, as unpacked.
    let dir = folders(&[
        "training_set/training_set/cats",
        "training_set/training_set/dogs",
        "test_set/test_set/cats",
        "test_set/test_set/dogs",
    ]);
    refused(dir.path(), "ingest s --out e.h5", &["--folders splits", "training_set is train", "test_set is test"]);
    let end = ingest(dir.path(), "s --folders splits").success();
    assert!(end.stderr.contains("s/training_set/training_set is train (6 pictures)"), "{end:?}");
    assert!(end.stdout.contains("rows: train 6, test 6; 2 classes: cats (6), dogs (6)"), "{end:?}");
    for inner in [["train/train", "test/test"], ["train/images", "test/images"], ["train/train", "test"]] {
        let names = inner.map(|inner| ["cats", "dogs"].map(|class| format!("{inner}/{class}")));
        let names: Vec<&str> = names.iter().flatten().map(String::as_str).collect();
        let dir = folders(&names);
        let end = ingest(dir.path(), "s").success();
        assert!(end.stderr.contains(&format!("s/{} is train", inner[0])), "{end:?}");
        assert!(end.stdout.contains("rows: train 6, test 6; 2 classes: cats (6), dogs (6)"), "{end:?}");
    }
    // Splits, one or two deeper.
    for deeper in ["data", "x/data"] {
        let names = ["train/a", "train/b", "test/a", "test/b"].map(|name| format!("{deeper}/{name}"));
        let dir = folders(&names.each_ref().map(String::as_str));
        for args in ["ingest s --out e.h5", "ingest s --folders splits --out e.h5"] {
            refused(dir.path(), args, &["one sub-folder", &format!("glasses ingest s/{deeper}")]);
        }
        assert!(ingest(dir.path(), &format!("s/{deeper}")).success().stdout.contains("train 6, test 6"));
    }
    // The outer folders may be no classes.
    let dir = folders(&["one/cats", "one/dogs", "two/cats", "two/dogs"]);
    let end = ingest(dir.path(), "s").success();
    assert!(end.stderr.contains("the classes are one, two, each with folders cats, dogs"), "{end:?}");
}

#[test]
fn a_class_that_one_split_lacks_is_noted_or_refused() {
    let dir = folders(&["train/a", "train/b", "train/owl", "val/a", "val/b", "val/owl", "test/a", "test/b"]);
    let end = ingest(dir.path(), "s").success();
    assert!(end.stderr.contains("classes of train that are not in every split: no test pictures of owl\n"), "{end:?}");
    let dir = folders(&["train/a", "train/b", "test/a", "test/b", "test/owl"]);
    let parts =
        ["s: found no training pictures for s/test/owl (3 pictures)", "classes of train: a, b", "move the folder away"];
    refused(dir.path(), "ingest s --out e.h5", &parts);
    refused_by_ranks(2, dir.path(), "ingest s --out e.h5", &parts);
    for [train, test] in [["cats", "Cats"], ["caf\u{e9}", "cafe\u{301}"], ["airplane", "airplanes"]] {
        let dir = folders(&["train/z", &format!("train/{train}"), "test/z", &format!("test/{test}")]);
        let fix = format!("mv 's/test/{test}' 's/test/{train}'");
        refused(dir.path(), "ingest s --out e.h5", &[&format!("no training pictures for s/test/{test}"), &fix]);
        std::fs::rename(dir.path().join("s/test").join(test), dir.path().join("s/test").join(train)).unwrap();
        ingest(dir.path(), "s").success();
    }
}

#[test]
fn splits_inside_the_classes_are_asked_about() {
    for names in [
        &["cats/train", "cats/val", "dogs/train", "dogs/val", "dogs/test"][..],
        &["cats/train", "cats/test", "dogs/train", "dogs/test"],
        &["bottle/train/good", "bottle/test/broken", "cable/train/good", "cable/test/bent"],
        &["cats/x/seg_train", "cats/x/seg_test", "dogs"],
        &["cats/train", "dogs/train"],
    ] {
        let dir = folders(names);
        let parts =
            ["called like splits inside", &format!("s/{}", names[0].trim_end_matches("/good")), "--folders classes"];
        refused(dir.path(), "ingest s --out e.h5", &parts);
        refused_by_ranks(2, dir.path(), "ingest s --out e.h5", &parts);
        assert!(ingest(dir.path(), "s --folders classes").success().stdout.contains("2 classes: "));
    }
    for names in
        [["images/train", "images/val", "labels/train", "labels/val"], ["images/a", "images/b", "masks/a", "x"]]
    {
        let dir = folders(&names);
        refused(dir.path(), "ingest s --out e.h5", &["may belong to the pictures in images", "--folders classes"]);
        ingest(dir.path(), "s --folders classes").success();
    }
    // A class may hold one that is called so, beside others.
    let dir = folders(&["vehicles/train", "vehicles/bus", "trees/oak", "trees/maple"]);
    assert!(ingest(dir.path(), "s").success().stdout.contains("2 classes: trees (6), vehicles (6)"));
}

#[test]
fn parts_of_the_rows_are_no_classes() {
    for names in [
        &["train/cats", "train/dogs", "other/cats", "other/dogs"][..],
        &["train/cats", "train/dogs", "train/owls", "other/cats", "other/dogs"],
        &["test/cats", "test/dogs", "normal/cats", "normal/dogs"],
        &["fold1/cats", "fold1/dogs", "fold2/cats", "fold2/dogs"],
        &["split0", "split1"],
        &["query/1", "gallery/1"],
        &["val", "test"],
    ] {
        let dir = folders(names);
        let parts = ["may be classes or parts of the rows", "--folders classes"];
        refused(dir.path(), "ingest s --out e.h5", &parts);
        assert!(ingest(dir.path(), "s --folders classes").success().stdout.contains("2 classes: "));
    }
}

#[test]
fn a_folder_that_a_link_gives_twice_is_refused_and_a_link_to_nothing_is_called_that() {
    use std::os::unix::fs::symlink;
    let dir = folders(&["cats", "dogs/more"]);
    let at = |name: &str| dir.path().join("s").join(name);
    symlink("nowhere", at("owls")).unwrap();
    let end = ingest(dir.path(), "s").success();
    assert!(end.stderr.contains("note: s/owls is a link that leads nowhere: left out\n"), "{end:?}");
    for (link, target) in [("birds", "cats"), ("ants", "cats"), ("eels", "dogs")] {
        symlink(target, at(link)).unwrap();
        for args in ["ingest s --out e.h5", "ingest s --folders classes --out e.h5"] {
            let parts = [&format!("s/{link}: found a link to the pictures of s/"), "each folder once"];
            refused(dir.path(), args, &parts);
        }
        std::fs::remove_file(at(link)).unwrap();
    }
    // Links in classes, which lead into others.
    for (link, target) in [("dogs/again", "../cats"), ("a", "dogs/more")] {
        symlink(target, at(link)).unwrap();
        let end = ingest(dir.path(), "s").success();
        assert!(
            end.stderr.contains(&format!(
                "links give the same pictures twice, as rows of two classes or splits: s/{link} and"
            )),
            "{end:?}"
        );
        std::fs::remove_file(at(link)).unwrap();
    }
    let dir = folders(&["train/a", "train/b", "test/a"]);
    symlink("../train/b", dir.path().join("s/test/b")).unwrap();
    refused(dir.path(), "ingest s --out e.h5", &["s/test/b: found a link to the pictures of s/train/b"]);
}

#[test]
fn a_fraction_that_holds_nothing_back_is_noted_with_one_that_does() {
    for (count, option, said, enough) in [
        (2, "", "no test row: --test 0.2 of each class rounds to none; --test 0.25 would hold back one", "--test 0.25"),
        (3, "--test 0.01", "--test 0.01 of each class rounds to none; --test 0.17 would", "--test 0.17"),
        (3, "--test 0 --val 0.1", "no validation row: --val 0.1 of each class", "--test 0 --val 0.17"),
        (1, "", "each class has one row", "--test 0"),
    ] {
        let dir = folders(&["a", "b"]);
        for class in ["a", "b"] {
            (count..3).for_each(|i| std::fs::remove_file(dir.path().join(format!("s/{class}/{i}.png"))).unwrap());
        }
        for ranks in [1, 2] {
            let line = format!("ingest s {option} --size 4 --force --out d.h5");
            let end = crate::run::mpirun(ranks, &words(&line), dir.path()).success();
            assert_eq!(end.stderr.matches(said).count(), 1, "{end:?}");
        }
        let end = ingest(dir.path(), &format!("s {enough}")).success();
        assert!(!end.stderr.contains("rounds to none"), "{end:?}");
    }
}

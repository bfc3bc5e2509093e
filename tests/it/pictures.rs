//! Pictures as people have them, through `glasses ingest` and `predict`: right or refused, and what is left out is said.

use std::path::Path;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use tempfile::{TempDir, tempdir};

use crate::fixtures::{Raw, refused, words};
use crate::run::{Outcome, glasses, mpirun};

/// A flat picture as a file of a format.
fn encoded(brightness: u8, format: ImageFormat) -> Vec<u8> {
    let picture = DynamicImage::ImageRgb8(RgbImage::from_pixel(8, 8, Rgb([brightness; 3])));
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn put(root: &Path, name: &str, bytes: &[u8]) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// A folder of PNG pictures with these names.
fn folder(names: &[&str]) -> TempDir {
    let dir = tempdir().unwrap();
    for (index, name) in names.iter().enumerate() {
        put(dir.path(), name, &encoded(index as u8 * 9, ImageFormat::Png));
    }
    dir
}

/// `glasses ingest src …` to `d.h5`, over it if it is there.
fn ingest(dir: &Path, args: &str) -> Outcome {
    glasses(&words(&format!("ingest {args} --size 8 --force --out d.h5")), dir)
}

/// Rows of a split of `d.h5`, and the brightness of the first pixel of each row, sorted.
fn pixels(dir: &Path, split: &str) -> Vec<u8> {
    let file = hdf5::File::open(dir.join("d.h5")).unwrap();
    let Ok(images) = file.dataset(&format!("{split}/images")) else { return Vec::new() };
    let row = images.shape()[1..].iter().product();
    let mut found: Vec<u8> = images.read_raw::<u8>().unwrap().chunks_exact(row).map(|row| row[0]).collect();
    found.sort_unstable();
    found
}

#[test]
fn a_picture_is_taken_by_its_content_and_what_is_left_out_is_noted() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let (png, jpeg) = (encoded(10, ImageFormat::Png), encoded(20, ImageFormat::Jpeg));
    put(dir, "src/a/0001", &png);
    put(dir, "src/a/scan.dib", &encoded(30, ImageFormat::Bmp));
    put(dir, "src/a/notes.txt", b"BM and P5 are no pictures");
    put(dir, "src/b/photo.jfif", &jpeg);
    put(dir, "src/b/photo.jpe", &jpeg);
    put(dir, "src/b/Thumbs.db", b"\xd0\xcf\x11\xe0");
    let end = ingest(dir, "src --test 0").success();
    assert!(end.stderr.contains("note: 2 files are no pictures, such as src/a/notes.txt: left out"), "{end:?}");
    assert_eq!(pixels(dir, "train"), [10, 20, 20, 30]);
    std::fs::write(dir.join("m.toml"), "name = \"m\"\nlayers = [\"flatten\", \"dense classes\"]\n").unwrap();
    glasses(&words("train --data d.h5 --model m.toml --batch 4 --epochs 1 --out run"), dir).success();
    let end = glasses(&words("predict --model run src --json"), dir).success();
    assert_eq!(end.stdout.matches("\"file\"").count(), 4, "{end:?}");
    assert!(end.stderr.contains("2 files are no pictures, such as src/a/notes.txt: left out"), "{end:?}");
    // With a table of labels, too; the table itself is none of those.
    let labels = "id,label\n0001,a\nscan.dib,a\nphoto.jfif,b\nphoto.jpe,b\n";
    put(dir, "src/labels.csv", labels.as_bytes());
    let end = ingest(dir, "src --test 0").success();
    assert!(end.stderr.contains("2 files are no pictures, such as src/a/notes.txt: left out"), "{end:?}");
    assert_eq!(pixels(dir, "train"), [10, 20, 20, 30]);
}

#[test]
fn bytes_behind_a_jpeg_s_end_are_ignored_and_a_missing_end_is_refused() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let whole = encoded(50, ImageFormat::Jpeg);
    let film = [&whole[..], b"\0\0\0\x18ftypmp42\xff\xda\xff\xda", &[7; 300]].concat();
    put(dir, "src/a/motion.jpg", &film);
    put(dir, "src/b/plain.jpg", &whole);
    ingest(dir, "src --test 0").success();
    assert_eq!(pixels(dir, "train"), [50, 50]);
    put(dir, "src/b/cut.jpg", &whole[..whole.len() - 2]);
    let message = ingest(dir, "src --test 0").failure();
    assert!(message.contains("src/b/cut.jpg") && message.contains("ends too early"), "{message}");
}

#[test]
fn folders_of_splits_are_splits_whatever_their_case() {
    let names = ["s/Train/a/1.png", "s/Train/b/2.png", "s/VALID/a/3.png", "s/VALID/b/4.png", "s/test/b/5.png"];
    let dir = folder(&names);
    let end = ingest(dir.path(), "s").success();
    assert!(end.stdout.contains("rows: train 2, val 2, test 1; 2 classes: a (2), b (3)"), "{end:?}");
    assert_eq!(pixels(dir.path(), "val"), [18, 27]);
    refused(dir.path(), "ingest s --size 8 --out e.h5 --test 0.5", &["--test", "the source has test rows of its own"]);
    // Classes may be called like splits, where pictures lie in them.
    let dir = folder(&["c/train/1.png", "c/test/2.png", "c/bus/3.png"]);
    let end = ingest(dir.path(), "c --test 0").success();
    assert!(end.stdout.contains("3 classes: bus (1), test (1), train (1)"), "{end:?}");
}

#[test]
fn folders_that_may_be_splits_are_asked_about() {
    let asks = ["may be classes or splits", "--folders splits or --folders classes"];
    let dir = folder(&["s/seg_train/a/1.png", "s/seg_train/b/2.png", "s/seg_test/a/3.png", "s/seg_test/b/4.png"]);
    refused(dir.path(), "ingest s --size 8 --out e.h5", &[asks[0], asks[1], "seg_test, seg_train"]);
    let end = ingest(dir.path(), "s --folders splits").success();
    assert!(end.stdout.contains("rows: train 2, test 2; 2 classes: a (2), b (2)"), "{end:?}");
    let end = ingest(dir.path(), "s --test 0 --folders classes").success();
    assert!(end.stdout.contains("2 classes: seg_test (2), seg_train (2)"), "{end:?}");
    for others in
        [["s/train/a/1.png", "s/dev/a/2.png"], ["s/train/a/1.png", "s/test/2.png"], ["s/val/a/1.png", "s/test/a/2.png"]]
    {
        let dir = folder(&others);
        refused(dir.path(), "ingest s --size 8 --out e.h5", &asks);
    }
    // Splits, and something else.
    let dir = folder(&["s/train/a/1.png", "s/train/b/2.png", "s/test/a/3.png", "s/extra/9.png"]);
    refused(dir.path(), "ingest s --size 8 --out e.h5", &asks);
    let end = ingest(dir.path(), "s --folders splits").success();
    assert!(end.stderr.contains("s/extra is no split's: left out"), "{end:?}");
    assert!(end.stdout.contains("rows: train 2, test 1;"), "{end:?}");
    let dir = folder(&["s/a/1.png", "s/b/2.png"]);
    refused(dir.path(), "ingest s --out e.h5 --folders splits", &["no folder of training pictures among a, b"]);
}

#[test]
fn a_folder_one_too_deep_is_named() {
    let dir = folder(&["photos/photos/cats/1.png", "photos/photos/dogs/2.png"]);
    let parts = ["one sub-folder, which holds folders", "glasses ingest photos/photos"];
    refused(dir.path(), "ingest photos --out e.h5", &parts);
}

#[test]
fn a_model_of_other_channels_than_a_picture_has_predicts_none() {
    for channels in [2, 5, 16] {
        let dir = folder(&["x.png"]);
        let dir = dir.path();
        let values: Vec<u8> = (0..8 * 16 * channels).map(|i| (i * 7 % 256) as u8).collect();
        Raw::create(dir, "d.h5")
            .put("train/images", &[8, 4, 4, channels], &values)
            .labels("train", &[0, 1, 0, 1, 0, 1, 0, 1]);
        std::fs::write(dir.join("m.toml"), "name = \"m\"\nlayers = [\"flatten\", \"dense classes\"]\n").unwrap();
        glasses(&words("train --data d.h5 --model m.toml --batch 8 --epochs 1 --out run"), dir).success();
        let found = format!("a model of rows with {channels} channels");
        refused(dir, "predict --model run x.png", &["--model", &found, "1, 3 or 4"]);
        let message = mpirun(2, &words("predict --model run x.png"), dir).failure();
        assert!(message.contains(&found), "{message}");
    }
}

#[test]
fn a_label_is_its_text_and_a_lost_quote_is_refused() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    put(dir, "t.csv", b"x,y,label\n1,2,007\n3,4,7\n5,6,10\n7,8,07\n");
    let end = glasses(&words("ingest t.csv --test 0 --out d.h5"), dir).success();
    assert!(end.stdout.contains("4 classes: 007 (1), 07 (1), 7 (1), 10 (1)"), "{end:?}");
    assert!(
        end.stderr.contains("note: one number, written differently, makes classes of its own: 007, 07, 7"),
        "{end:?}"
    );
    put(dir, "q.csv", b"x,y,label\n1,2,\"cat\n3,4,dog\n5,6,cat\"\n7,8,dog\n");
    refused(dir, "ingest q.csv --out e.h5", &["q.csv, line 2", "a text with a line break: 'cat…'", "quotation mark"]);
}

#[test]
fn spellings_of_splits_and_pictures_beside_classes_are_asked_about() {
    for names in [
        ["train/a/1.png", "train/b/2.png", "train/loose.png", "test/a/3.png", "test/b/4.png"],
        ["train/a/1.png", "train/b/2.png", "testset/a/3.png", "testset/b/4.png", "testset/b/5.png"],
        ["train/a/1.png", "train/b/2.png", "validate/a/3.png", "validate/b/4.png", "validate/b/5.png"],
        ["train1/a/1.png", "train1/b/2.png", "test/a/3.png", "test/b/4.png", "test/b/5.png"],
        ["tr/a/1.png", "tr/b/2.png", "te/a/3.png", "te/b/4.png", "te/b/5.png"],
        ["train/1.png", "train/2.png", "test/3.png", "test/4.png", "test/5.png"],
        ["train/a/1.png", "train/b/2.png", "Train/a/3.png", "test/b/4.png", "test/a/5.png"],
    ] {
        let dir = folder(&names);
        let parts = ["may be classes or splits", "--folders splits or --folders classes"];
        refused(dir.path(), "ingest . --size 8 --out d.h5", &parts);
        ingest(dir.path(), ". --folders classes").success();
    }
}

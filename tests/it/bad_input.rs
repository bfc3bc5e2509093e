//! Bad files: each is refused with one message, on one rank and on three, and nothing is left behind.

use std::path::Path;

use tempfile::tempdir;

use crate::fixtures::{DENSE, Raw, TINY, everything, faces, refused, refused_by_all, refused_by_ranks, unlock, words};
use crate::run::{glasses, mpirun};

/// An empty folder with the two networks.
fn empty() -> tempfile::TempDir {
    let dir = tempdir().unwrap();
    std::fs::write(dir.path().join("tiny.toml"), TINY).unwrap();
    std::fs::write(dir.path().join("dense.toml"), DENSE).unwrap();
    dir
}

/// Trains on pictures, batch 2.
const IMAGES: &str = "--data bad.h5 --model tiny.toml --batch 2";
/// Trains on features, batch 2.
const FEATURES: &str = "--data bad.h5 --model dense.toml --batch 2";

#[test]
fn a_file_that_is_no_dataset_is_refused_by_its_name() {
    let dir = faces();
    let whole = std::fs::read(dir.path().join("faces.h5")).unwrap();
    let put = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    put("text.h5", b"not HDF5 at all");
    put("empty.h5", b"");
    put("cut.h5", &whole[..whole.len() / 2]);
    put("head.h5", &whole[..100]);
    std::fs::create_dir(dir.path().join("folder.h5")).unwrap();
    for (name, found) in [
        ("text.h5", "file signature not found"),
        ("empty.h5", "a file that HDF5 cannot open"),
        ("cut.h5", "truncated file"),
        ("head.h5", "a file that HDF5 cannot open"),
        ("folder.h5", "found a folder, expected an HDF5 file"),
        ("missing.h5", "cannot read missing.h5: No such file"),
    ] {
        refused(dir.path(), &format!("info {name}"), &[name, found]);
        refused_by_ranks(3, dir.path(), &format!("--model tiny.toml --data {name}"), &[name, found]);
    }
    refused(dir.path(), "--model tiny.toml --data cut.h5", &["cut.h5", "truncated file", "fix: make it again"]);
    refused(dir.path(), "eval --model cut.h5 --data faces.h5", &["cut.h5", "truncated file"]);
}

#[test]
fn a_dataset_that_lacks_a_part_is_refused_by_the_name_of_that_part() {
    let dir = empty();
    let file = || Raw::create(dir.path(), "bad.h5");
    file().images("test", 4);
    refused_by_all(dir.path(), IMAGES, &["bad.h5 /train: found no such group"]);
    file().put("train", &[3], &[1, 2, 3]);
    refused(dir.path(), IMAGES, &["/train", "bad.h5"]);
    file().labels("train", &[0, 1]);
    refused(dir.path(), IMAGES, &["bad.h5 /train: found neither 'images' nor 'features'"]);
    file().only_images("train", 4);
    refused_by_all(
        dir.path(),
        IMAGES,
        &[
            "bad.h5 /train/labels: found no such dataset; there: /train/images (uint8 [4, 4, 4, 1]), expected one label a row",
        ],
    );
    file().images("train", 4).only_images("test", 4);
    refused_by_all(dir.path(), IMAGES, &["bad.h5 /test/labels: found no such dataset"]);
    file().images("train", 4).labels("val", &[0, 1]);
    refused(dir.path(), IMAGES, &["bad.h5 /val: found neither"]);
}

#[test]
fn wrong_axes_types_and_lengths_are_named_with_what_was_expected() {
    let dir = empty();
    let file = || Raw::create(dir.path(), "bad.h5");
    file().put("train/images", &[4, 4, 4], &[0u8; 64]).labels("train", &[0, 1, 0, 1]);
    refused_by_all(dir.path(), IMAGES, &["/train/images: found 3 axes [4, 4, 4], expected 4 axes [n, h, w, c]"]);
    file().put("train/features", &[4], &[0f32; 4]).labels("train", &[0, 1, 0, 1]);
    refused(dir.path(), FEATURES, &["/train/features: found 1 axes [4], expected 2 axes [n, d]"]);
    file().put("train/images", &[4, 4, 4, 1], &[0f64; 64]).labels("train", &[0, 1, 0, 1]);
    refused_by_all(dir.path(), IMAGES, &["/train/images: found values of type float64, expected values of type u8"]);
    file().put("train/features", &[4, 2], &[0i32; 8]).labels("train", &[0, 1, 0, 1]);
    refused(dir.path(), FEATURES, &["/train/features: found values of type int32, expected values of type f32"]);
    file().only_images("train", 4).put("train/labels", &[4], &[0f32, 1.0, 0.0, 1.0]);
    refused(dir.path(), IMAGES, &["/train/labels: found values of type float32, expected integers"]);
    file().only_images("train", 4).labels("train", &[0, 1, 0]);
    refused_by_all(dir.path(), IMAGES, &["/train/labels: found shape [3], expected [4], one label a row"]);
    file().only_images("train", 4).put("train/labels", &[4, 1], &[0i64, 1, 0, 1]);
    refused(dir.path(), IMAGES, &["/train/labels: found shape [4, 1], expected [4]"]);
    file().put("train/images", &[4, 0, 4, 1], &[0u8; 0]).labels("train", &[0, 1, 0, 1]);
    refused(dir.path(), IMAGES, &["/train/images: found shape [4, 0, 4, 1]", "no empty axis"]);
    for (side, found) in [(1 << 16, "found 4398046511104 bytes"), (1 << 30, "found more bytes than can be counted")] {
        // No value is stored: the file is small.
        let huge = file().labels("train", &[0, 1, 0, 1]);
        let images = |file: &hdf5::File| {
            file.new_dataset::<u8>().chunk((1, 16, 16, 1)).shape((4, side, side, 256)).create("train/images").map(drop)
        };
        images(huge.file()).unwrap();
        drop(huge);
        refused(dir.path(), IMAGES, &["bad.h5 /train/images", found]);
    }
    file().images("train", 4).put("test/images", &[2, 5, 4, 1], &[0u8; 40]).labels("test", &[0, 1]);
    refused_by_all(dir.path(), IMAGES, &["bad.h5 /test: found images 5x4x1, expected images 4x4x1, as in /train"]);
    file().images("train", 4).features("test", 4);
    refused(dir.path(), IMAGES, &["bad.h5 /test: found 2 features, expected images 4x4x1"]);
}

#[test]
fn a_bad_value_in_the_last_row_is_found_by_the_rank_that_reads_it() {
    let dir = empty();
    let names: Vec<hdf5::types::VarLenUnicode> = ["a", "b"].map(|name| name.parse().unwrap()).into();
    for split in ["train", "test"] {
        for (label, expected) in [(-1, "a label from 0 to 1"), (2, "a label from 0 to 1")] {
            let file = Raw::create(dir.path(), "bad.h5");
            file.file().new_attr_builder().with_data(&names).create("classes").unwrap();
            let mut labels: Vec<i64> = (0..12).map(|row| row % 2).collect();
            labels[11] = label;
            let file = if split == "test" { file.images("train", 12) } else { file };
            drop(file.only_images(split, 12).labels(split, &labels));
            let found = format!("bad.h5 /{split}/labels[11]: found label {label}, expected {expected}");
            refused(dir.path(), IMAGES, &[&found]);
            refused_by_ranks(3, dir.path(), IMAGES, &[&found, "on: rank 2 of 3"]);
        }
    }
    // Without class names a label may be anything that is not absurd.
    Raw::create(dir.path(), "bad.h5").only_images("train", 3).labels("train", &[0, 1, i64::MAX]);
    refused_by_all(dir.path(), IMAGES, &["/train/labels[2]: found label 9223372036854775807"]);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut values = [0.5f32; 24];
        values[23] = bad;
        let labels: Vec<i64> = (0..12).map(|row| row % 2).collect();
        Raw::create(dir.path(), "bad.h5").put("train/features", &[12, 2], &values).labels("train", &labels);
        let found = format!("bad.h5 /train/features[11, 1]: found {bad}, expected finite numbers");
        refused(dir.path(), FEATURES, &[&found]);
        refused_by_ranks(3, dir.path(), FEATURES, &[&found, "on: rank 2 of 3"]);
    }
}

#[test]
fn rows_that_are_too_few_or_all_alike_are_refused() {
    let dir = empty();
    let file = || Raw::create(dir.path(), "bad.h5");
    file().images("train", 0);
    refused_by_all(dir.path(), IMAGES, &["/train/images: found shape [0, 4, 4, 1], expected 1 to 2^32 rows"]);
    file().images("train", 4).images("test", 0);
    refused(dir.path(), IMAGES, &["/test/images: found shape [0, 4, 4, 1]"]);
    file().only_images("train", 4).labels("train", &[1, 1, 1, 1]);
    let one = "/train/labels: found one class only ('1'), expected at least two classes";
    refused_by_all(dir.path(), IMAGES, &[one]);
    file().images("train", 2);
    refused_by_ranks(3, dir.path(), IMAGES, &["bad.h5: found 2 training rows for 3 ranks", "start fewer ranks"]);
    file().images("train", 4);
    let args = "--data bad.h5 --model tiny.toml --batch 5";
    refused_by_all(dir.path(), args, &["--batch: found 5 rows, more than the 4 training rows of bad.h5", "at most 4"]);
}

#[test]
fn ranks_whose_shards_hold_no_rows_still_take_part() {
    let dir = empty();
    Raw::create(dir.path(), "few.h5").images("train", 3).images("test", 2);
    // 8 shards of which 3 have a row: the last rank of three owns none of them.
    let args = words("--data few.h5 --model tiny.toml --batch 2 --epochs 2 --normalize dataset --out run");
    let alone = glasses(&args, dir.path()).success();
    std::fs::remove_dir_all(dir.path().join("run")).unwrap();
    let three = mpirun(3, &args, dir.path()).success();
    let accuracy = |text: &str| text.lines().find_map(|line| line.split(" after ").next().map(str::to_owned));
    assert_eq!(accuracy(&alone.stdout), accuracy(&three.stdout));
}

/// A trained tiny model `run/model.h5`.
fn trained() -> tempfile::TempDir {
    let dir = faces();
    glasses(&words("--data faces.h5 --model tiny.toml --epochs 1 --out run"), dir.path()).success();
    dir
}

/// A copy of the model, changed.
fn changed(dir: &Path, change: impl Fn(&hdf5::File) -> hdf5::Result<()>) {
    std::fs::copy(dir.join("run/model.h5"), dir.join("bad.h5")).unwrap();
    let file = hdf5::File::open_rw(dir.join("bad.h5")).unwrap();
    change(&file).unwrap();
    drop(file);
    unlock(&dir.join("bad.h5"));
}

#[test]
fn a_damaged_model_is_refused_by_every_command_that_reads_one() {
    let dir = trained();
    let dir = dir.path();
    let commands = ["eval --model bad.h5 --data faces.h5", "predict --model bad.h5 run", "info bad.h5"];
    let check = |parts: &[&str]| commands.iter().for_each(|args| refused(dir, args, parts));
    let whole = std::fs::read(dir.join("run/model.h5")).unwrap();
    std::fs::write(dir.join("bad.h5"), &whole[..whole.len() - 1000]).unwrap();
    check(&["bad.h5: found a file that HDF5 cannot open", "truncated file"]);
    refused_by_ranks(3, dir, commands[0], &["bad.h5", "truncated file"]);
    changed(dir, |file| file.unlink("params/conv0.weight"));
    check(&["/params/conv0.weight", "bad.h5"]);
    refused_by_ranks(2, dir, commands[1], &["/params/conv0.weight", "bad.h5"]);
    changed(dir, |file| {
        file.unlink("params/dense4.bias")?;
        file.new_dataset_builder().with_data(&[0f32; 3]).create("params/dense4.bias").map(|_| ())
    });
    check(&["bad.h5 /params/dense4.bias: found shape [3], expected [2]"]);
    changed(dir, |file| file.dataset("params/dense4.bias")?.write(&[0.0, f32::NAN]));
    check(&["bad.h5 /params/dense4.bias: found NaN as value 1, expected finite numbers"]);
    changed(dir, |file| file.attr("version")?.write_scalar(&2i64));
    check(&["bad.h5 version: found 2, expected 1"]);
    changed(dir, |file| file.attr("input")?.write(&[24i64, 24, -3]));
    check(&["bad.h5 input: found [24, 24, -3], expected [h, w, c]"]);
    changed(dir, |file| file.attr("input")?.write(&[24i64, 1, 3]));
    check(&["bad.h5: found parts that do not fit each other", "layer 2 'maxpool 2'"]);
    changed(dir, |file| file.attr("input")?.write(&[24i64, 28, 3]));
    check(&["bad.h5 /params/dense4.weight: found shape"]);
    changed(dir, |file| file.attr("normalize")?.write_scalar(&"who knows".parse::<Text>().unwrap()));
    check(&["bad.h5 normalize: found who knows, expected per-image, dataset, unit or none"]);
    changed(dir, |file| file.attr("spec")?.write_scalar(&"name = 3".parse::<Text>().unwrap()));
    check(&["bad.h5 spec", "expected a model"]);
    // A dataset is an HDF5 file too.
    refused(dir, "eval --model faces.h5 --data faces.h5", &["faces.h5: found an HDF5 file that is not a model"]);
    refused(dir, "predict --model faces.h5 run", &["faces.h5: found an HDF5 file that is not a model"]);
    refused(dir, "--data run/model.h5", &["run/model.h5 /train: found no such group"]);
}

type Text = hdf5::types::VarLenUnicode;

#[test]
fn data_that_the_model_was_not_made_for_is_refused() {
    let dir = trained();
    let dir = dir.path();
    Raw::create(dir, "small.h5").images("test", 4).images("train", 4);
    let args = "eval --model run/model.h5 --data small.h5";
    refused_by_all(dir, args, &["small.h5: found images 4x4x1, expected images 24x24x3, as the model takes"]);
    let (pixels, many) = (vec![0u8; 12 * 24 * 24 * 3], &[0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 2]);
    let file = Raw::create(dir, "more.h5").put("train/images", &[12, 24, 24, 3], &pixels).labels("train", many);
    drop(file);
    let args = "eval --model run/model.h5 --data more.h5 --split train";
    refused(dir, args, &["more.h5 /train/labels: found label 2, expected 0 to 1"]);
    refused_by_ranks(3, dir, args, &["more.h5 /train/labels: found label 2", "on: rank 2 of 3"]);
    refused(dir, "eval --model run/model.h5 --data more.h5", &["more.h5: found no /test rows", "--split"]);
    refused(dir, "eval --model run/model.h5 --data faces.h5 --split tset", &["tset"]);
    let names: Vec<Text> = ["cat", "dog"].map(|name| name.parse().unwrap()).into();
    let file = Raw::create(dir, "names.h5").put("train/images", &[12, 24, 24, 3], &pixels);
    let file = file.labels("train", &[0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1]);
    file.file().new_attr_builder().with_data(&names).create("classes").unwrap();
    drop(file);
    let args = "eval --model run/model.h5 --data names.h5 --split train";
    refused(dir, args, &["names.h5: found classes cat, dog, expected those of the model: no glasses, glasses"]);
    // A model of features takes no pictures.
    glasses(&words("synth --kind spiral --count 60 --out spiral.h5"), dir).success();
    glasses(&words("--data spiral.h5 --model dense.toml --epochs 1 --out flat"), dir).success();
    refused(dir, "predict --model flat/model.h5 run", &["a model of 2 features a row, expected a model of pictures"]);
}

#[test]
fn unreadable_pictures_are_listed_after_the_others_have_been_predicted() {
    let dir = trained();
    let folder = dir.path().join("pictures");
    std::fs::create_dir(&folder).unwrap();
    for i in 0..5 {
        image::RgbImage::from_pixel(9, 9, image::Rgb([i * 50, 7, 9])).save(folder.join(format!("{i}.png"))).unwrap();
    }
    let good = std::fs::read(folder.join("1.png")).unwrap();
    std::fs::write(folder.join("1.png"), &good[..good.len() / 2]).unwrap();
    std::fs::write(folder.join("3.jpg"), "hello").unwrap();
    std::fs::write(folder.join("notes.txt"), "not a picture").unwrap();
    let before = everything(dir.path());
    for options in [&[][..], &["--json"], &["--csv"]] {
        let args = [&words("predict --model run/model.h5 pictures missing.png"), options].concat();
        let alone = glasses(&args, dir.path());
        for end in [mpirun(3, &args, dir.path()), alone] {
            for good in ["0.png", "2.png", "3.png", "4.png"] {
                assert!(end.stdout.contains(&format!("pictures/{good}")), "{good} in {end:?}");
            }
            let message = end.failure();
            for part in ["3 of 7 pictures could not be read", "pictures/1.png", "pictures/3.jpg", "missing.png", "fix:"]
            {
                assert!(message.contains(part), "{part} in {message}");
            }
        }
    }
    assert_eq!(everything(dir.path()), before);
    std::fs::create_dir(dir.path().join("none")).unwrap();
    refused_by_all(dir.path(), "predict --model run/model.h5 none", &["none: found a folder without pictures"]);
    refused(dir.path(), "predict --model run/model.h5 gone.png", &["1 of 1 picture", "gone.png"]);
}

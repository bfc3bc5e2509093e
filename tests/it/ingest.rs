//! `glasses ingest`: every kind of source, every kind of bad input, on one rank and on three.

use std::path::{Path, PathBuf};

use hdf5::types::VarLenUnicode;
use image::{DynamicImage, GrayImage, Luma, LumaA, Rgb, RgbImage, Rgba, RgbaImage};
use tempfile::{TempDir, tempdir};

use crate::run::{glasses, mpirun, shell};

/// Name, shape, pixels or the bits of features, labels.
type Part = (String, Vec<usize>, Vec<u32>, Vec<i64>);

/// What a dataset file holds.
#[derive(Debug, PartialEq)]
struct Contents {
    splits: Vec<Part>,
    classes: Vec<String>,
    origin: String,
    skipped: u64,
    unlabelled: u64,
}

fn contents(path: &Path) -> Contents {
    let file = hdf5::File::open(path).unwrap();
    let mut splits = Vec::new();
    for name in ["train", "val", "test"] {
        let Ok(group) = file.group(name) else { continue };
        let (shape, values) = match group.dataset("images") {
            Ok(images) => (images.shape(), images.read_raw::<u8>().unwrap().into_iter().map(u32::from).collect()),
            Err(_) => {
                let features = group.dataset("features").unwrap();
                (features.shape(), features.read_raw::<f32>().unwrap().into_iter().map(f32::to_bits).collect())
            }
        };
        splits.push((name.to_owned(), shape, values, group.dataset("labels").unwrap().read_raw().unwrap()));
    }
    let count = |name: &str| file.attr(name).unwrap().read_scalar::<u64>().unwrap();
    let classes = file.attr("classes").unwrap().read_raw::<VarLenUnicode>().unwrap();
    Contents {
        splits,
        classes: classes.iter().map(ToString::to_string).collect(),
        origin: file.attr("origin").unwrap().read_scalar::<VarLenUnicode>().unwrap().to_string(),
        skipped: count("skipped"),
        unlabelled: count("unlabelled"),
    }
}

/// Rows of a split.
fn rows(contents: &Contents, split: &str) -> usize {
    contents.splits.iter().find(|s| s.0 == split).map_or(0, |s| s.3.len())
}

/// Nothing but what was there before: no file of ours, finished or half-written.
#[track_caller]
fn assert_nothing_left(dir: &Path, before: &[PathBuf]) {
    assert_eq!(listing(dir), before);
}

fn listing(dir: &Path) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names
}

fn picture(seed: u8, w: u32, h: u32) -> DynamicImage {
    DynamicImage::ImageRgb8(RgbImage::from_fn(w, h, |x, y| Rgb([seed.wrapping_mul(37), (x * 9) as u8, (y * 7) as u8])))
}

/// `n` pictures `face-<i>.png` and a `labels.csv` beside them: label `i % 2`.
fn faces(n: usize) -> TempDir {
    let dir = tempdir().unwrap();
    let folder = dir.path().join("faces");
    std::fs::create_dir(&folder).unwrap();
    let mut table = "id,glasses\n".to_owned();
    for i in 0..n {
        picture(i as u8, 12, 10).save(folder.join(format!("face-{i}.png"))).unwrap();
        table.push_str(&format!("{i},{}\n", i % 2));
    }
    std::fs::write(folder.join("labels.csv"), table).unwrap();
    dir
}

#[test]
fn every_number_of_ranks_writes_the_same_dataset() {
    let dir = faces(203);
    let args = ["ingest", "faces", "--labels", "faces/labels.csv", "--size", "9x8", "--val", "0.1", "--out"];
    let with = |name: &'static str| [&args[..], &[name]].concat();
    let end = glasses(&with("one.h5"), dir.path()).success();
    assert_eq!(end.stdout.lines().count(), 1, "{end:?}");
    assert_eq!(end.stderr, "note: faces/labels.csv: the labels are 'glasses' (column 2), the ids 'id' (column 1)\n");
    for part in ["9x8x3", "train 143", "val 20", "test 40", "0 (102)", "1 (101)", "one.h5"] {
        assert!(end.stdout.contains(part), "{part} in {}", end.stdout);
    }
    let one = contents(&dir.path().join("one.h5"));
    assert_eq!((rows(&one, "train"), rows(&one, "val"), rows(&one, "test")), (143, 20, 40));
    assert_eq!(one.splits[0].1, [143, 9, 8, 3]);
    for ranks in [2, 3] {
        let end = mpirun(ranks, &with("many.h5"), dir.path()).success();
        assert_eq!(end.stdout.lines().count(), 1, "{end:?}");
        assert_eq!(contents(&dir.path().join("many.h5")), one, "{ranks} ranks");
        std::fs::remove_file(dir.path().join("many.h5")).unwrap();
    }
}

#[test]
fn a_row_keeps_its_label_and_is_decoded_as_predict_decodes_it() {
    let dir = faces(40);
    glasses(&["ingest", "faces", "--size", "10x12", "--out", "a.h5"], dir.path()).success();
    let all = contents(&dir.path().join("a.h5"));
    let mut seen = Vec::new();
    for (_, _, pixels, labels) in &all.splits {
        for (row, label) in pixels.chunks(10 * 12 * 3).zip(labels) {
            let of = |i: u8| picture(i, 12, 10).into_bytes().into_iter().map(u32::from).eq(row.iter().copied());
            let face = (0..40).find(|&i| of(i)).expect("one of the pictures, unchanged");
            assert_eq!(i64::from(face % 2), *label);
            seen.push(face);
        }
    }
    assert!(!seen.is_sorted(), "rows are shuffled");
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..40));
}

#[test]
fn kaggles_folder_is_understood_as_unpacked() {
    let dir = tempdir().unwrap();
    let root = dir.path().join("kaggle");
    let folder = root.join("faces-spring-2020/faces-spring-2020");
    std::fs::create_dir_all(&folder).unwrap();
    let latent = |i: usize| (0..512).map(|v| format!("{}", (i * v) as f32 * 0.01 - 1.5)).collect::<Vec<_>>().join(",");
    let names = (1..=512).map(|v| format!("v{v}")).collect::<Vec<_>>().join(",");
    let mut train = format!("id,{names},glasses\n");
    let mut test = format!("id,{names}\n");
    for i in 1..=30 {
        picture(i as u8, 8, 8).save(folder.join(format!("face-{i}.png"))).unwrap();
        match i {
            1..=24 => train.push_str(&format!("{i},{},{}.0\n", latent(i), i % 3 / 2)),
            _ => test.push_str(&format!("{i},{}\n", latent(i))),
        }
    }
    std::fs::write(root.join("train.csv"), &train).unwrap();
    std::fs::write(root.join("test.csv"), &test).unwrap();
    let args = ["ingest", "kaggle", "--size", "8", "--classes", "no glasses,glasses", "--out", "k.h5"];
    let end = glasses(&args, dir.path()).success();
    assert!(
        end.stderr.contains("note: kaggle/train.csv: the labels are 'glasses' (column 514), the ids 'id' (column 1)"),
        "{end:?}"
    );
    let all = contents(&dir.path().join("k.h5"));
    assert_eq!(all.classes, ["no glasses", "glasses"]);
    assert_eq!((rows(&all, "train"), rows(&all, "test"), all.unlabelled), (19, 5, 6));
    // test.csv has no label: its last column is refused.
    let args = ["ingest", "kaggle", "--labels", "kaggle/train.csv", "--label-column", "v512", "--out", "l.h5"];
    let message = glasses(&args, dir.path()).failure();
    assert!(message.contains("24 different values in 24 rows"), "{message}");
}

#[test]
fn a_folder_a_class_takes_every_kind_of_picture() {
    let dir = tempdir().unwrap();
    let (a, b) = (dir.path().join("src/10"), dir.path().join("src/9/deeper"));
    std::fs::create_dir_all(&a).unwrap();
    std::fs::create_dir_all(&b).unwrap();
    let rgb = picture(3, 16, 16);
    for name in ["1.png", "2.jpg", "3.ppm", "4.bmp", "5.webp", "6.tiff", "7.JPEG"] {
        rgb.save(a.join(name)).unwrap();
    }
    DynamicImage::ImageLuma8(GrayImage::from_pixel(5, 5, Luma([200]))).save(b.join("grey.pgm")).unwrap();
    DynamicImage::ImageRgba8(RgbaImage::from_pixel(5, 5, Rgba([0, 0, 0, 0]))).save(b.join("clear.png")).unwrap();
    let deep = image::ImageBuffer::from_pixel(5, 5, LumaA([40_000u16, 65_535]));
    DynamicImage::ImageLumaA16(deep).save(b.join("deep.png")).unwrap();
    std::fs::write(b.join("notes.txt"), "not a picture").unwrap();
    for channels in ["1", "3", "4"] {
        let args =
            ["ingest", "src", "--size", "6x7", "--channels", channels, "--test", "0", "--force", "--out", "a.h5"];
        glasses(&args, dir.path()).success();
        let all = contents(&dir.path().join("a.h5"));
        assert_eq!((rows(&all, "train"), rows(&all, "test")), (10, 0));
        assert_eq!(all.classes, ["9", "10"], "numbers are in numerical order");
        assert_eq!(all.splits[0].1, [10, 6, 7, channels.parse().unwrap()]);
    }
    // Splits as folders.
    for part in ["train", "test"] {
        for class in ["x", "y"] {
            let folder = dir.path().join("parts").join(part).join(class);
            std::fs::create_dir_all(&folder).unwrap();
            rgb.save(folder.join("1.png")).unwrap();
            rgb.save(folder.join("2.png")).unwrap();
        }
    }
    glasses(&["ingest", "parts", "--out", "p.h5"], dir.path()).success();
    let all = contents(&dir.path().join("p.h5"));
    assert_eq!((rows(&all, "train"), rows(&all, "test"), all.classes.join(" ")), (4, 4, "x y".to_owned()));
}

/// A file of MNIST's kind.
pub fn idx(dims: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, dims.len() as u8];
    dims.iter().for_each(|d| bytes.extend(d.to_be_bytes()));
    bytes.extend(values);
    bytes
}

#[test]
fn idx_files_keep_their_size_and_their_test_split() {
    let dir = tempdir().unwrap();
    let src = dir.path().join("mnist");
    std::fs::create_dir(&src).unwrap();
    let put = |name: &str, bytes: Vec<u8>| std::fs::write(src.join(name), bytes).unwrap();
    let pixels: Vec<u8> = (0..20 * 6).map(|i| i as u8).collect();
    put("train-images.idx3-ubyte", idx(&[20, 2, 3], &pixels));
    put("train-labels.idx1-ubyte", idx(&[20], &[0, 1].repeat(10)));
    put("t10k-images-idx3-ubyte", idx(&[2, 2, 3], &pixels[..12]));
    put("t10k-labels-idx1-ubyte", idx(&[2], &[1, 0]));
    let alone = glasses(&["ingest", "mnist", "--out", "a.h5"], dir.path()).success();
    mpirun(3, &["ingest", "mnist", "--out", "b.h5"], dir.path()).success();
    let all = contents(&dir.path().join("a.h5"));
    assert_eq!(all, contents(&dir.path().join("b.h5")));
    assert_eq!((rows(&all, "train"), &all.splits[1].1[..]), (20, &[2, 2, 3, 1][..]), "{alone:?}");
    assert_eq!((&all.splits[1].2[..3], &all.splits[1].3[..]), (&[0, 1, 2][..], &[1, 0][..]), "as they are");
    let args = ["ingest", "mnist", "--size", "4", "--channels", "3", "--val", "0.2", "--out", "c.h5"];
    glasses(&args, dir.path()).success();
    let all = contents(&dir.path().join("c.h5"));
    assert_eq!((&all.splits[0].1[..], rows(&all, "val")), (&[16, 4, 4, 3][..], 4));
    let message = glasses(&["ingest", "mnist", "--test", "0.5", "--out", "d.h5"], dir.path()).failure();
    assert!(message.contains("test rows of its own"), "{message}");
}

#[test]
fn a_csv_of_features_becomes_a_dataset() {
    let dir = tempdir().unwrap();
    let mut text = "x,y,kind\n".to_owned();
    (0..50).for_each(|i| text.push_str(&format!("{i},{}.5,{}\n", -i, if i % 5 == 0 { "in" } else { "out" })));
    std::fs::write(dir.path().join("t.csv"), text).unwrap();
    glasses(&["ingest", "t.csv", "--label-column", "kind", "--out", "a.h5"], dir.path()).success();
    mpirun(3, &["ingest", "t.csv", "--label-column", "3", "--out", "b.h5"], dir.path()).success();
    let all = contents(&dir.path().join("a.h5"));
    assert_eq!(all, contents(&dir.path().join("b.h5")));
    assert_eq!(
        (&all.splits[0].1[..], rows(&all, "test"), all.classes.join(" ")),
        (&[40, 2][..], 10, "in out".to_owned())
    );
    let message = glasses(&["ingest", "t.csv", "--label-column", "kin", "--out", "c.h5"], dir.path()).failure();
    assert!(message.contains("did you mean 'kind'?"), "{message}");
    std::fs::write(dir.path().join("u.csv"), "1,0\n2,1\ninf,1\n4,0\n5,1\n6,\n").unwrap();
    let end = glasses(&["ingest", "u.csv", "--skip-bad", "--out", "u.h5"], dir.path()).success();
    assert!(end.stdout.contains("left out: 1 without a label, 1 bad"), "{end:?}");
    let all = contents(&dir.path().join("u.h5"));
    assert_eq!((all.skipped, all.unlabelled), (1, 1));
}

/// Twenty faces of which five cannot be used.
fn damaged_faces() -> TempDir {
    let dir = faces(20);
    let face = |i: usize| dir.path().join(format!("faces/face-{i}.png"));
    let bytes = std::fs::read(face(3)).unwrap();
    std::fs::write(face(3), &bytes[..bytes.len() / 2]).unwrap();
    std::fs::write(face(7), "hello").unwrap();
    std::fs::write(face(11), "").unwrap();
    std::fs::remove_file(face(12)).unwrap();
    std::fs::write(face(10), "GIF89a").unwrap();
    dir
}

#[test]
fn bad_and_missing_pictures_are_all_listed_and_nothing_is_written() {
    let dir = damaged_faces();
    let before = listing(dir.path());
    let args = ["ingest", "faces", "--labels", "faces/labels.csv", "--size", "8", "--out", "a.h5"];
    for end in [glasses(&args, dir.path()), mpirun(3, &args, dir.path())] {
        assert_eq!(end.stdout, "");
        let message = end.failure();
        for part in
            ["5 of 20 pictures", "face-3.png", "face-7.png", "face-10.png", "face-11.png", "face-12.png", "--skip-bad"]
        {
            assert!(message.contains(part), "{part} in {message}");
        }
        assert_nothing_left(dir.path(), &before);
    }
    // Nothing is missing: the failures show only while decoding.
    picture(12, 12, 10).save(dir.path().join("faces/face-12.png")).unwrap();
    for end in [glasses(&args, dir.path()), mpirun(3, &args, dir.path())] {
        let message = end.failure();
        assert!(message.contains("4 of 20 pictures") && message.contains("face-7.png"), "{message}");
        assert_nothing_left(dir.path(), &before);
    }
}

#[test]
fn skip_bad_leaves_them_out_and_counts_them() {
    let dir = damaged_faces();
    let args = ["ingest", "faces", "--labels", "faces/labels.csv", "--size", "8", "--skip-bad", "--out"];
    let end = glasses(&[&args[..], &["a.h5"]].concat(), dir.path()).success();
    assert!(end.stdout.contains("left out: 5 bad or missing"), "{end:?}");
    mpirun(3, &[&args[..], &["b.h5"]].concat(), dir.path()).success();
    let all = contents(&dir.path().join("a.h5"));
    assert_eq!(all, contents(&dir.path().join("b.h5")));
    assert_eq!((rows(&all, "train") + rows(&all, "test"), all.skipped), (15, 5));
}

#[test]
fn labels_that_do_not_fit_are_explained() {
    let dir = faces(6);
    let before = listing(dir.path());
    let table = |text: &str| std::fs::write(dir.path().join("faces/labels.csv"), text).unwrap();
    let message = || {
        let end = mpirun(2, &["ingest", "faces", "--labels", "faces/labels.csv", "--out", "a.h5"], dir.path());
        let message = end.failure();
        assert_nothing_left(dir.path(), &before);
        message
    };
    let check = |text: &str, part: &str| {
        table(text);
        let message = message();
        assert!(message.contains(part), "{part} in {message}");
    };
    check("id,glasses\n1,0\n2,1\n1,1\n", "id '1' stands on line 2 already");
    check("id,glasses\n1,0\n2,1\nface-2.png,1\n", "as on line 3");
    check("id,glasses\n1,0\n2,0\n", "one class only ('0', 2 rows)");
    check("id,glasses\n", "no rows");
    check("", "no rows");
    check("id,glasses\n1,\n2,\n", "no rows with a label");
    check("id;glasses\n1;0\n", "separated by commas");
    check("id,glasses\n1,0\n2,1,3\n", "line 3");
    check("id,glasses\n91,0\n92,1\n", "no picture for any of the 2 labelled ids, such as '91'");
    picture(1, 4, 4).save(dir.path().join("faces/1.jpg")).unwrap();
    check("id,glasses\n1,0\n2,1\n", "id '1' may be faces/1.jpg or faces/face-1.png");
}

#[test]
fn options_that_do_not_fit_are_refused() {
    let dir = faces(6);
    std::fs::write(dir.path().join("t.csv"), "1,2,0\n3,NaN,1\n").unwrap();
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    std::fs::write(dir.path().join("old.h5"), "precious").unwrap();
    let before = listing(dir.path());
    let check = |args: &str, part: &str| {
        let args: Vec<&str> = ["ingest"].into_iter().chain(args.split(' ')).collect();
        let message = glasses(&args, dir.path()).failure();
        assert!(message.contains(part), "{args:?}: {part} in {message}");
        assert_nothing_left(dir.path(), &before);
    };
    check("nowhere --out a.h5", "cannot read nowhere");
    check("empty --out a.h5", "empty: found neither sub-folders");
    check("old.h5 --out a.h5", "does not end in .csv");
    check("t.csv --out a.h5", "line 2, column 2: found 'NaN'");
    check("t.csv --size 8 --out a.h5", "--size");
    check("t.csv --labels t.csv --out a.h5", "--label-column");
    check("faces --out old.h5", "--force");
    check("faces --out empty", "empty: found a folder");
    check("faces --out none/a.h5", "cannot create a file in none");
    check("faces --test 1 --out a.h5", "--test");
    check("faces --test 0.6 --val 0.5 --out a.h5", "--test plus --val");
    check("faces --classes a,b,c --out a.h5", "--classes");
    check("faces --classes a,a --out a.h5", "'a' twice");
    check("faces --pattern x.png --out a.h5", "{id}");
    check("faces --size 0 --out a.h5", "--size");
    check("faces --size 80x --out a.h5", "80x60");
    check("faces --channels 2 --out a.h5", "RGBA");
    assert_eq!(std::fs::read_to_string(dir.path().join("old.h5")).unwrap(), "precious");
    let args = ["ingest", "faces", "--pattern", "face-{id}.png", "--size", "8", "--force", "--out", "old.h5"];
    glasses(&args, dir.path()).success();
    assert_eq!(contents(&dir.path().join("old.h5")).splits[0].1, [4, 8, 8, 3]);
}

#[test]
fn a_full_disk_ends_in_one_message_and_leaves_nothing() {
    let dir = faces(30);
    let before = listing(dir.path());
    // A limit on file sizes stands in for a full disk where one may not mount one.
    for limit in [0, 1, 8, 200] {
        // With `hash`, Open MPI itself needs no file.
        let line = format!(
            "trap '' XFSZ; export PMIX_MCA_gds=hash
            (ulimit -f {limit}; exec $GLASSES ingest faces --size 128 --out a.h5) 2>&1 | cat >&2; exit ${{PIPESTATUS[0]}}"
        );
        let message = shell(&line, dir.path()).failure();
        assert!(message.contains("a.h5") && message.contains("free some space"), "{limit}: {message}");
        assert_nothing_left(dir.path(), &before);
    }
    // The real thing needs root in a namespace of its own; where that is not allowed, the limit above must do.
    let line = "unshare -m bash -c 'mkdir -p small && mount -t tmpfs -o size=300k tmpfs small || exit 77
        $GLASSES ingest faces --size 128 --out small/a.h5; code=$?; ls -A small; exit $code'";
    let end = shell(line, dir.path());
    if end.code == Some(77) || end.stderr.contains("unshare") {
        eprintln!("no mount allowed: the tmpfs part was not run");
        return;
    }
    assert_eq!(end.stdout, "", "nothing is left on the small disk");
    let message = end.failure();
    assert!(message.contains("free some space"), "{message}");
}

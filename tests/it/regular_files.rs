//! What is no regular file is not waited for, and each file is taken once.

use std::os::unix::fs::symlink;

use tempfile::TempDir;

use crate::fixtures::{faces, words};
use crate::run::{glasses, shell};

/// A trained model in `run`, two classes of pictures in `src`, and a pipe that nobody writes to.
fn start() -> TempDir {
    let dir = faces();
    let path = dir.path();
    glasses(&words("--data faces.h5 --model tiny.toml --epochs 1 --out run"), path).success();
    for (index, name) in ["a/1.png", "a/2.png", "b/3.png", "b/4.png"].iter().enumerate() {
        let file = path.join("src").join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        image::RgbImage::from_pixel(8, 8, image::Rgb([index as u8 * 9; 3])).save(file).unwrap();
    }
    shell(
        "mkfifo pipe pipe.toml pipe.png src/a/pipe.png src/b/pipe; mkdir idx; mkfifo idx/train-images-idx3-ubyte",
        path,
    )
    .success();
    std::fs::write(path.join("idx/train-labels-idx1-ubyte"), [0, 0, 8, 1, 0, 0, 0, 0]).unwrap();
    dir
}

#[test]
fn a_pipe_or_a_device_is_refused_wherever_a_file_is_named() {
    let dir = start();
    for line in [
        "predict --model run pipe.png",
        "predict --model run /dev/zero",
        "predict --model pipe src",
        "ingest pipe --out d.h5",
        "ingest /dev/zero --out d.h5",
        "ingest src --labels pipe --out d.h5",
        "ingest idx --out d.h5",
        "train --data pipe --out r",
        "train --data /dev/zero --out r",
        "train --data faces.h5 --config pipe --out r",
        "train --data faces.h5 --model pipe.toml --out r",
        "eval --model run --data pipe",
        "eval --model pipe --data faces.h5",
        "info pipe",
        "info /dev/zero",
        "export pipe --to onnx --out m.onnx",
        "report run --data pipe",
        "import pipe --model tiny.toml --out r",
    ] {
        // The shell gives up on one that waits.
        let end = shell(&format!("timeout 60 $GLASSES {line}"), dir.path());
        let message = format!("{end:?}");
        assert!(message.contains("no regular file: a pipe, a socket or a device"), "{line}: {message}");
        end.failure();
    }
}

#[test]
fn what_is_no_regular_file_is_left_out_of_folders() {
    let dir = start();
    let note = "note: 2 files are no pictures, such as src/a/pipe.png: left out";
    for line in ["predict --model run src --json", "ingest src --size 8 --test 0 --out d.h5"] {
        let end = shell(&format!("timeout 60 $GLASSES {line}"), dir.path()).success();
        assert!(end.stderr.contains(note), "{line}: {end:?}");
        assert!(end.stdout.matches("\"file\"").count() == 4 || end.stdout.contains("train 4"), "{line}: {end:?}");
    }
}

#[test]
fn links_in_a_circle_end_and_each_file_is_taken_once() {
    let dir = start();
    let path = dir.path();
    shell("rm src/*/pipe*", path).success();
    symlink("../../src", path.join("src/a/one")).unwrap();
    symlink("../../src", path.join("src/b/two")).unwrap();
    // A file's link is a file.
    symlink("3.png", path.join("src/b/link.png")).unwrap();
    let names = |args: &str| {
        let end = shell(&format!("timeout 60 $GLASSES predict --model run {args} --csv"), path).success();
        let names: Vec<String> =
            end.stdout.lines().skip(1).map(|line| line[..line.find(',').unwrap()].to_owned()).collect();
        names
    };
    let all = ["src/a/1.png", "src/a/2.png", "src/b/3.png", "src/b/4.png", "src/b/link.png"];
    assert_eq!(names("'src/**/*.png'"), all);
    assert_eq!(names("src"), all);
    assert_eq!(names("'src/**'"), all);
    assert_eq!(names("'**/src/*/**/?.png'"), all[..4]);
    assert_eq!(names("'src/a/one/b/[34].png'"), ["src/a/one/b/3.png", "src/a/one/b/4.png"]);
    let ingest = "timeout 60 $GLASSES ingest src --size 8 --test 0 --force --out d.h5";
    let end = shell(ingest, path).success();
    assert!(end.stdout.contains("2 classes: a (2), b (3)"), "{end:?}");
    // By a table, too: an id means one file.
    std::fs::write(path.join("src/labels.csv"), "id,label\n1,a\n2,a\n3,b\n4,b\n").unwrap();
    let end = shell(ingest, path).success();
    assert!(end.stdout.contains("2 classes: a (2), b (2)"), "{end:?}");
    std::fs::remove_file(path.join("src/labels.csv")).unwrap();
    symlink(".", path.join("src/c")).unwrap();
    let message = shell(ingest, path).failure();
    assert!(message.contains("src/c: found a link that leads in a circle"), "{message}");
    // Folders that lie elsewhere are followed.
    std::fs::remove_file(path.join("src/c")).unwrap();
    shell("mkdir -p far/x; cp src/a/1.png far/x; ln -s ../far/x src/c; ln -s ../../far src/a/far", path).success();
    let end = shell(ingest, path).success();
    assert!(end.stdout.contains("3 classes: a (3), b (3), c (1)"), "{end:?}");
}

#[test]
fn names_that_windows_wrote_are_taken() {
    let dir = start();
    let line = "printf 'src/a/1.png\\r\\nsrc/b/3.png\\r\\n\\r\\n' | $GLASSES predict --model run - --csv";
    let end = shell(line, dir.path()).success();
    let names: Vec<&str> = end.stdout.lines().skip(1).map(|line| &line[..11]).collect();
    assert_eq!(names, ["src/a/1.png", "src/b/3.png"], "{end:?}");
}

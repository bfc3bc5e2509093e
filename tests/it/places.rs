//! Names and places that are not what a program expects: pipes, devices and sockets where a file is to be written, names that are not
//! text, names that would command a terminal.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use image::{Rgb, RgbImage};

use crate::fixtures::{faces, refused, refused_by_all, words};
use crate::run::{allow_many_ranks, finish, glasses, mpirun, shell, skipped};

/// A folder with `faces.h5`, `tiny.toml` and a model in `run`.
fn model() -> tempfile::TempDir {
    let dir = faces();
    glasses(&words("--data faces.h5 --model tiny.toml --epochs 1 --out run"), dir.path()).success();
    dir
}

fn is_fifo(path: &Path) -> bool {
    path.symlink_metadata().unwrap().file_type().is_fifo()
}

#[test]
fn a_pipe_is_written_into_and_stays_a_pipe() {
    let folder = model();
    let dir = folder.path();
    shell("mkfifo pipe", dir).success();
    glasses(&words("export run --to onnx --out want.onnx"), dir).success();
    glasses(&words("report run --out want.html"), dir).success();
    for (args, want) in [("export run --to onnx --out pipe", "want.onnx"), ("report run --out pipe", "want.html")] {
        shell(&format!("cat pipe > got & $GLASSES {args} && wait"), dir).success();
        assert!(is_fifo(&dir.join("pipe")), "{args}");
        assert!(std::fs::read(dir.join("got")).unwrap() == std::fs::read(dir.join(want)).unwrap(), "{args}");
    }
    let trace = "--data faces.h5 --model tiny.toml --epochs 1 --trace pipe";
    for (program, out) in [("$GLASSES", "a"), ("mpirun -n 2 $GLASSES", "b")] {
        shell(&format!("cat pipe > got & {program} {trace} --out {out} && wait"), dir).success();
        assert!(is_fifo(&dir.join("pipe")));
        let text = std::fs::read_to_string(dir.join("got")).unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["traceEvents"].is_array());
    }
}

#[test]
fn messages_do_not_spoil_a_result_on_standard_output() {
    let folder = model();
    let dir = folder.path();
    glasses(&words("export run --to onnx --out want"), dir).success();
    for line in [
        "$GLASSES export run --to onnx --out /dev/stdout > got",
        "$GLASSES export run --to onnx --out /dev/stdout | cat > got",
    ] {
        let end = shell(line, dir).success();
        assert!(end.stderr.contains("/dev/stdout: 'tiny'"), "{end:#?}");
        assert!(std::fs::read(dir.join("got")).unwrap() == std::fs::read(dir.join("want")).unwrap(), "{line}");
    }
}

#[test]
fn a_device_stays_a_device() {
    let folder = model();
    let dir = folder.path();
    // Not /dev/null itself: a program that is wrong would break the machine.
    if shell("mknod null c 1 3 && echo > null", dir).code != Some(0) {
        return skipped("a_device_stays_a_device", "no device can be made here");
    }
    for args in [
        "export run --to onnx --out null",
        "report run --out null",
        "--data faces.h5 --model tiny.toml --epochs 1 --out out --trace null",
    ] {
        glasses(&words(args), dir).success();
        assert!(dir.join("null").symlink_metadata().unwrap().file_type().is_char_device(), "{args}");
    }
    refused(dir, "synth --size 24 --count 20 --out null --force", &["null: found a device", "expected a file"]);
}

#[test]
fn what_can_be_neither_replaced_nor_written_into_is_refused() {
    let folder = model();
    let dir = folder.path();
    let _socket = UnixListener::bind(dir.join("socket")).unwrap();
    shell("mkfifo pipe pipe.h5.skipped", dir).success();
    for args in [
        "export run --to onnx --out socket",
        "report run --out socket",
        "--data faces.h5 --model tiny.toml --trace socket",
    ] {
        refused(dir, args, &["socket: found a socket"]);
    }
    std::fs::write(dir.join("t.csv"), "a,b,label\n1,2,x\n3,4,y\n1,3,x\n2,3,y\n").unwrap();
    refused_by_all(dir, "synth --size 24 --count 20 --out pipe --force", &["pipe: found a pipe", "expected a file"]);
    refused_by_all(dir, "ingest t.csv --out pipe --force", &["pipe: found a pipe", "expected a file"]);
    refused(dir, "ingest t.csv --out pipe.h5 --force", &["pipe.h5.skipped: found a pipe"]);
    refused(dir, "--data faces.h5 --model tiny.toml --out pipe", &["pipe"]);
}

#[test]
fn a_link_stays_and_the_file_behind_it_is_written() {
    let folder = model();
    let dir = folder.path();
    std::fs::create_dir(dir.join("there")).unwrap();
    for (out, args) in [("a.onnx", "export run --to onnx"), ("a.h5", "synth --size 24 --count 20 --force")] {
        std::os::unix::fs::symlink(format!("there/{out}"), dir.join(out)).unwrap();
        for _ in 0..2 {
            glasses(&words(&format!("{args} --out {out}")), dir).success();
            assert!(dir.join(out).is_symlink() && dir.join("there").join(out).is_file(), "{out}");
        }
    }
}

#[test]
fn names_that_are_not_text_are_refused_where_they_are_typed() {
    let folder = model();
    let dir = folder.path();
    let before = std::fs::read_dir(dir).unwrap().count();
    for args in [
        "train --data faces.h5 --out",
        "synth --out",
        "export run --to onnx --out",
        "info",
        "eval --data faces.h5 --model",
    ] {
        for ranks in [1, 2] {
            let mut command = Command::new(if ranks == 1 { env!("CARGO_BIN_EXE_glasses") } else { "mpirun" });
            if ranks > 1 {
                command.args(["-n", "2", env!("CARGO_BIN_EXE_glasses")]);
            }
            allow_many_ranks(&mut command);
            command.args(words(args)).arg(OsStr::from_bytes(b"bad\xff")).current_dir(dir);
            let message = finish(command).failure();
            assert!(
                message.contains(r#""bad\xFF", which is not UTF-8"#) && message.contains("fix: rename"),
                "{message}"
            );
            assert_eq!(std::fs::read_dir(dir).unwrap().count(), before, "{args}");
        }
    }
}

/// Pictures of two classes, one of whose names is not text, and one that would command a terminal.
fn pictures(dir: &Path) {
    for (class, shade) in [("a", 10), ("b\u{1b}[1m", 200)] {
        std::fs::create_dir_all(dir.join("photos").join(class)).unwrap();
        let names: [&[u8]; 4] = [b"1.png", b"2\xff.png", b"3\x1b[31m\n.png", b"4.png"];
        for name in names {
            let path = dir.join("photos").join(class).join(OsStr::from_bytes(name));
            RgbImage::from_pixel(24, 24, Rgb([shade, 50, 90])).save(path).unwrap();
        }
    }
}

#[test]
fn pictures_whose_names_are_not_text_are_taken_from_folders() {
    let folder = model();
    let dir = folder.path();
    pictures(dir);
    let said = glasses(&words("ingest photos --size 24 --out one.h5"), dir).success();
    assert!(said.stdout.contains("a (4), b\\u001b[1m (4)"), "{said:#?}");
    mpirun(2, &words("ingest photos --size 24 --out two.h5"), dir).success();
    assert!(std::fs::read(dir.join("one.h5")).unwrap() == std::fs::read(dir.join("two.h5")).unwrap());
    for end in
        [glasses(&words("predict --model run photos"), dir), mpirun(2, &words("predict --model run photos"), dir)]
    {
        assert_eq!(end.success().stdout.lines().count(), 8);
    }
    // A class is called as its folder.
    std::fs::rename(dir.join("photos/a"), dir.join("photos").join(OsStr::from_bytes(b"a\xff"))).unwrap();
    refused(dir, "ingest photos --size 24 --out c.h5", &["a folder of a class whose name is not UTF-8", "rename"]);
}

#[test]
fn a_folder_whose_name_is_not_text_can_be_worked_in() {
    let folder = model();
    let dir = folder.path().join(OsStr::from_bytes(b"w\xff"));
    std::fs::create_dir(&dir).unwrap();
    for name in ["faces.h5", "tiny.toml"] {
        std::fs::copy(folder.path().join(name), dir.join(name)).unwrap();
    }
    glasses(&words("--data faces.h5 --model tiny.toml --epochs 2 --max-steps 6 --out run"), &dir).success();
    glasses(&words("train --resume run --max-steps 8"), &dir).success();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().filter(|e| e.as_ref().unwrap().path().is_dir()).count(), 2);
}

#[test]
fn names_do_not_command_the_terminal() {
    let folder = model();
    let dir = folder.path();
    pictures(dir);
    std::fs::write(dir.join("photos/a/bad\u{1b}[7m.png"), "no picture").unwrap();
    glasses(&words("ingest photos --size 24 --skip-bad --out p.h5"), dir).success();
    for line in [
        "$GLASSES ingest photos --size 24 --out q.h5",
        "$GLASSES ingest photos --size 24 --skip-bad --out r.h5",
        "mpirun -n 2 $GLASSES ingest photos --size 24 --out q.h5",
        "$GLASSES predict --model run photos",
        "$GLASSES predict --model run photos --json",
        "$GLASSES --data p.h5 --model tiny.toml --epochs 1 --out $'red\\e[31m'",
        "$GLASSES eval --model $'red\\e[31m' --data p.h5",
        "$GLASSES watch --once $'red\\e[31m'",
        "$GLASSES report $'red\\e[31m'",
        "$GLASSES info --data p.h5",
        "$GLASSES info $'red\\e[31m'",
        "$GLASSES verify $'red\\e[31m'",
        "$GLASSES export $'none\\e[31m' --to onnx --out o",
        "$GLASSES sweep --data p.h5 --model tiny.toml --epochs 1 --grid lr=1e-3 --out $'s\\e[31m'",
    ] {
        let end = shell(line, dir);
        assert!(!(end.stdout + &end.stderr).contains('\u{1b}'), "{line}");
    }
    // Programs read them as they are.
    let end = glasses(&words("predict --model run photos --csv"), dir);
    assert!(end.stdout.contains('\u{1b}'), "{end:#?}");
    let end = glasses(&words("predict --model run photos --json"), dir);
    let found: serde_json::Value = serde_json::from_str(&end.stdout).unwrap();
    assert!(found[2]["file"].as_str().unwrap().contains("3\u{1b}[31m\n.png"), "{end:#?}");
}

#[test]
fn a_terminal_that_only_shows_lines_gets_lines() {
    let folder = model();
    let dir = folder.path();
    // Somebody types q once a second: `watch` ends by it, the others do not read it.
    let line = |term: &str, what: &str| {
        let typing = "for _ in 1 2 3 4 5 6 7 8 9; do sleep 1; printf q; done 2>/dev/null";
        format!("({typing}) | timeout -k 2 30 script -qec \"env TERM={term} $GLASSES {what}\" /dev/null")
    };
    if shell(&line("xterm", "synth --size 24 --count 20 --out a.h5"), dir).code != Some(0) {
        return skipped("a_terminal_that_only_shows_lines_gets_lines", "there is no `script`");
    }
    let end = shell(&line("dumb", "watch run"), dir).success();
    assert!(end.stdout.contains("finished") && !end.stdout.contains('\u{1b}'), "{end:#?}");
    let end = shell(&line("xterm", "watch run"), dir).success();
    assert!(end.stdout.contains('\u{1b}'), "this test wants a real terminal: {end:#?}");
    for what in ["--data faces.h5 --model tiny.toml --epochs 3 --out dumb", "synth --size 24 --count 200 --out b.h5"] {
        let end = shell(&line("dumb", what), dir).success();
        assert!(!end.stdout.contains('\u{1b}'), "{end:#?}");
    }
    // Names in a table for programs do not command it either.
    pictures(dir);
    let end = shell(&line("xterm", "predict --model run photos --csv"), dir).success();
    assert!(!end.stdout.contains("\u{1b}[31m") && end.stdout.contains("\\u001b[31m"), "{end:#?}");
}

#[test]
fn a_pipe_in_a_run_s_folder_is_refused_by_who_reads_it() {
    let folder = faces();
    let dir = folder.path();
    glasses(&words("train --data faces.h5 --model tiny.toml --epochs 2 --max-steps 4 --out run"), dir).success();
    for (file, commands) in [
        ("metrics.jsonl", &["train --resume run --max-steps 5"][..]),
        ("digests.jsonl", &["train --resume run --max-steps 5", "verify run"]),
        ("config.toml", &["train --resume run --max-steps 5", "verify run", "report run", "watch --once run"]),
        ("lock", &["train --resume run --max-steps 5"]),
        ("report.html", &["report run"]),
    ] {
        let whole = dir.join("run").join(file);
        let kept = std::fs::rename(&whole, dir.join("kept")).is_ok();
        shell(&format!("mkfifo run/{file}"), dir).success();
        for command in commands {
            let said = shell(&format!("timeout 20 $GLASSES {command}"), dir).failure();
            assert!(
                said.contains(file) && (said.contains("regular file") || said.contains("a pipe")),
                "{command}: {said}"
            );
        }
        std::fs::remove_file(&whole).unwrap();
        if kept {
            std::fs::rename(dir.join("kept"), &whole).unwrap();
        }
    }
    // What only shows a run shows the rest of it.
    std::fs::remove_file(dir.join("run/live.json")).ok();
    shell("rm run/metrics.jsonl; mkfifo run/metrics.jsonl run/live.json", dir).success();
    shell("timeout 20 $GLASSES watch --once run; [ $? != 124 ]", dir).success();
    shell("timeout 60 $GLASSES report run; [ $? != 124 ]", dir).success();
}

#[test]
fn what_is_no_run_is_called_that() {
    let folder = faces();
    let dir = folder.path();
    std::fs::create_dir(dir.join("pictures")).unwrap();
    for (command, name, found) in [
        ("verify pictures", "RUN pictures", "a folder in which no run was begun"),
        ("verify nope", "RUN nope", "no such folder"),
        ("train --resume nope", "--resume nope", "no such folder"),
        ("train --resume faces.h5", "--resume faces.h5", "a file"),
        ("report faces.h5", "faces.h5", "a file"),
    ] {
        let said = glasses(&words(command), dir).failure();
        assert!(said.contains(&format!("{name}: found {found}")), "{command}: {said}");
    }
}

#[test]
fn exports_are_the_same_bytes_each_time_and_maps_never_take_each_other_s_name() {
    let folder = faces();
    let dir = folder.path();
    glasses(&words("train --data faces.h5 --model tiny.toml --epochs 1 --out run"), dir).success();
    let exported = |out: &str| {
        let line = format!("export run --to safetensors --out {out}.safetensors --samples faces.h5");
        glasses(&words(&line), dir).success();
        [format!("{out}.safetensors"), format!("{out}.samples.safetensors")]
            .map(|file| std::fs::read(dir.join(file)).unwrap())
    };
    let first = exported("a");
    // Seven notes come out in this order once in 5040 times.
    (0..3).for_each(|_| assert_eq!(exported("b"), first));
    std::fs::create_dir_all(dir.join("p/a")).unwrap();
    for file in ["p/a/b.png", "p/a-b.png"] {
        image::RgbImage::from_pixel(24, 24, image::Rgb([9, 8, 7])).save(dir.join(file)).unwrap();
    }
    let odd =
        "cp p/a-b.png $'p/q\\xff.png'; cp p/a-b.png $'p/q\\xfe.png'; $GLASSES predict --model run --explain maps p";
    let said = shell(odd, dir).success().stdout;
    assert!(said.contains(r"q\xff.png") && said.contains(r"q\xfe.png"), "{said}");
    assert_eq!(std::fs::read_dir(dir.join("maps")).unwrap().count(), 4);
}

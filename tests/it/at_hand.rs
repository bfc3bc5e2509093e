//! What helps at the terminal: examples in every help, completions, manual pages, the version, suggestions.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::CommandFactory;
use glasses::cli::Cli;
use tempfile::TempDir;

use crate::fixtures::{refused, words};
use crate::ingest::idx;
use crate::run::{Outcome, finish, glasses};

/// What has to be there before others: the examples tell one story.
const FIRST: [&str; 5] = ["synth", "train", "ingest", "export", "import"];

fn subcommands() -> Vec<String> {
    let command = Cli::command();
    let names = command.get_subcommands().filter(|sub| !sub.is_hide_set()).map(|sub| sub.get_name().to_owned());
    let mut names: Vec<String> = names.filter(|name| name != "help").collect();
    names.sort_by_key(|name| FIRST.iter().position(|first| first == name).unwrap_or(FIRST.len()));
    names
}

/// `glasses` and `mpirun` by their bare names.
fn search_path() -> String {
    let mpirun = std::env::var("MPIRUN").unwrap_or_default();
    let folders =
        [env!("CARGO_BIN_EXE_glasses"), mpirun.as_str()].map(|program| Path::new(program).parent().map(Path::to_owned));
    let folders = folders.into_iter().flatten().filter(|folder| folder != Path::new(""));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all: Vec<PathBuf> = folders.chain(std::env::split_paths(&path)).collect();
    std::env::join_paths(all).unwrap().into_string().unwrap()
}

/// A line as a person types it.
pub fn typed(line: &str, dir: &Path, more: &[(&str, &Path)]) -> Outcome {
    let mut command = Command::new("bash");
    command.args(["-o", "pipefail", "-ec", line]).current_dir(dir).env("PATH", search_path());
    for (name, value) in more {
        command.env(name, value);
    }
    crate::run::allow_many_ranks(&mut command);
    finish(command)
}

/// What the examples of `glasses ingest` read, beside photos.
fn sources(dir: &Path) {
    let folders = ["faces", "kaggle/faces-spring-2020/faces-spring-2020", "mnist"].map(|folder| dir.join(folder));
    folders.iter().for_each(|folder| std::fs::create_dir_all(folder).unwrap());
    let (mut labels, mut table) = ("id,glasses\n".to_owned(), "x,y,arm\n".to_owned());
    for i in 1..=20u8 {
        let picture = image::RgbImage::from_pixel(9, 9, image::Rgb([i * 9, 7, 9]));
        folders[..2].iter().for_each(|folder| picture.save(folder.join(format!("face-{i}.png"))).unwrap());
        labels += &format!("{i},{}\n", i % 2);
        table += &format!("{i},-{i}.5,{}\n", i % 2);
    }
    std::fs::write(dir.join("labels.csv"), &labels).unwrap();
    std::fs::write(dir.join("kaggle/train.csv"), &labels).unwrap();
    std::fs::write(dir.join("spiral.csv"), table).unwrap();
    for (prefix, rows) in [("train", 20), ("t10k", 4)] {
        let pixels: Vec<u8> = (0..rows * 6).collect();
        let put = |name: &str, bytes: Vec<u8>| std::fs::write(folders[2].join(format!("{prefix}-{name}-ubyte")), bytes);
        put("images-idx3", idx(&[rows.into(), 2, 3], &pixels)).unwrap();
        put("labels-idx1", idx(&[rows.into()], &[0, 1].repeat(rows as usize / 2))).unwrap();
    }
}

/// `photos/cats` and `photos/dogs`, six pictures each.
fn photos() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (class, red) in [("cats", 200), ("dogs", 40)] {
        let folder = dir.path().join("photos").join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for i in 0..6u8 {
            let picture = image::RgbImage::from_fn(40, 30, |x, y| image::Rgb([red, (x * 6) as u8, y as u8 * (i + 1)]));
            picture.save(folder.join(format!("{i}.png"))).unwrap();
        }
    }
    dir
}

/// The lines behind "Examples:" in a help.
fn examples(help: &str) -> Vec<String> {
    let behind = help.split("Examples:\n").nth(1).unwrap_or_default();
    let lines = behind.lines().take_while(|line| line.starts_with("  "));
    lines.map(|line| line.trim().to_owned()).collect()
}

#[test]
fn every_example_in_a_help_works_as_printed() {
    let dir = photos();
    sources(dir.path());
    let names = subcommands();
    assert!(names.len() >= 12 && names[0] == "synth", "{names:?}");
    for name in names {
        let help = glasses(&[&name, "--help"], dir.path()).success().stdout;
        let examples = examples(&help);
        assert!(!examples.is_empty(), "no example in: {help}");
        for example in examples {
            assert!(example.contains(&format!("glasses {name}")) || name == "import", "{name}: {example}");
            assert!(example.chars().count() <= 78, "wraps in a terminal: {example}");
            let end = typed(&example, dir.path(), &[]);
            assert!(end.code == Some(0), "{example}: {end:?}");
        }
    }
    for made in ["glasses.bash", "_glasses", "glasses.fish", "glasses.1", "man1/glasses-train.1", "faces.onnx"] {
        assert!(std::fs::metadata(dir.path().join(made)).is_ok_and(|file| file.len() > 500), "{made}");
    }
}

#[test]
fn bash_completes_commands_options_and_values() {
    let dir = tempfile::tempdir().unwrap();
    let complete = |words: &str| {
        let line = format!(
            ". <(glasses completions bash); COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _glasses glasses \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\"; echo \"${{COMPREPLY[@]}}\""
        );
        typed(&line, dir.path(), &[]).success().stdout.trim().to_owned()
    };
    assert_eq!(complete("glasses exp"), "export");
    assert_eq!(complete("glasses train --optim"), "--optimizer");
    assert_eq!(complete("glasses export a --to o"), "onnx");
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let text = glasses(&["completions", shell], dir.path()).success().stdout;
        assert!(text.contains("predict") && text.contains("threshold"), "{shell}");
    }
}

#[test]
fn there_is_a_manual_page_for_every_command() {
    let dir = tempfile::tempdir().unwrap();
    glasses(&words("man --out pages"), dir.path()).success();
    for name in subcommands() {
        let text = std::fs::read_to_string(dir.path().join(format!("pages/glasses-{name}.1"))).unwrap();
        assert!(text.contains(&format!(".TH glasses-{name} 1")) && text.contains("Examples:"), "{name}: {text}");
    }
    let page = std::fs::read_to_string(dir.path().join("pages/glasses.1")).unwrap();
    assert!(page.contains("\\-\\-tensorboard") && page.contains("glasses\\-predict(1)"), "{page}");
    let printed = glasses(&["man"], dir.path()).success().stdout;
    assert!(printed.contains(".TH glasses 1"), "{printed}");
}

#[test]
fn the_version_says_what_it_was_built_from_and_runs_on() {
    let dir = tempfile::tempdir().unwrap();
    let text = glasses(&["version"], dir.path()).success().stdout;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 7, "{text}");
    assert_eq!(lines[0], format!("glasses {}", env!("CARGO_PKG_VERSION")));
    let value = |line: usize, name: &str| lines[line].strip_prefix(name).map(str::trim).unwrap_or_default().to_owned();
    let commit = value(1, "commit");
    let hex = commit.trim_end_matches("-modified");
    assert!(hex == "unknown" || (hex.len() == 12 && hex.bytes().all(|b| b.is_ascii_hexdigit())), "{text}");
    assert!(!value(2, "MPI").is_empty(), "{text}");
    let numbers = value(3, "HDF5");
    assert!(numbers.split('.').count() == 3 && numbers.bytes().all(|c| c == b'.' || c.is_ascii_digit()), "{text}");
    let isa = ["scalar", "neon", "avx2", "avx512"];
    let best = value(4, "ISA").split_once(" (of ").unwrap().0.to_owned();
    assert!(isa.contains(&best.as_str()), "{text}");
    // For scripts: one line, one object.
    let mpi = if cfg!(feature = "mpi") { value(2, "MPI") } else { "no MPI".to_owned() };
    let line = format!("glasses {} (commit {commit}, {mpi}, HDF5 {numbers}, {best})\n", env!("CARGO_PKG_VERSION"));
    for option in ["-V", "--version"] {
        assert_eq!(glasses(&[option], dir.path()).success().stdout, line);
    }
    let object: serde_json::Value =
        serde_json::from_str(&glasses(&["version", "--json"], dir.path()).success().stdout).unwrap();
    assert_eq!((object["commit"].as_str(), object["isa"].as_str()), (Some(commit.as_str()), Some(best.as_str())));
    for options in [&["-V", "-v"][..], &["-v", "-V"], &["-Vv"], &["--version", "--verbose"]] {
        assert_eq!(glasses(options, dir.path()).success().stdout, text, "{options:?}");
    }
    let alone = glasses(&["--verbose"], dir.path());
    assert!(alone.code == Some(2) && alone.stderr.contains("--version"), "{alone:?}");
    let line = "GLASSES_ISA=scalar glasses -V; GLASSES_ISA=mmx glasses -V";
    let forced = typed(line, dir.path(), &[]).success().stdout;
    assert!(forced.contains(", scalar)\n") && forced.contains("GLASSES_ISA: found 'mmx'"), "{forced}");
}

#[test]
fn what_is_mistyped_is_answered_with_what_is_near() {
    let dir = photos();
    let path = dir.path();
    glasses(&words("synth --size 24 --count 40 --out faces.h5"), path).success();
    std::fs::write(path.join("tiny.toml"), crate::fixtures::TINY).unwrap();
    glasses(&words("--data faces.h5 --model tiny.toml --epochs 1 --out runs/faces"), path).success();
    for (args, near) in [
        ("trian", "'train'"),
        ("train --epohcs 3", "'--epochs'"),
        ("--learning-rat 3", "--help"),
        ("train --optimizer nestrov", "'nesterov'"),
        ("train --model glases", "did you mean 'glasses'?"),
        ("train --model tinny.toml --data faces.h5", "did you mean 'tiny.toml'?"),
        ("train --data fases.h5", "did you mean 'faces.h5'?"),
        ("train --resume runs/face", "did you mean 'runs/faces'?"),
        ("verify runs/fases", "did you mean 'runs/faces'?"),
        ("eval --model runs/faces/modle.h5 --data faces.h5", "did you mean 'runs/faces/model.h5'?"),
        ("eval --model runs/faces/model.h5 --data face.h5", "did you mean 'faces.h5'?"),
        ("predict --model runs/faces photos/cats/l.png", "did you mean 'photos/cats/"),
        ("predict --model runs/faces photos --threshold glases=0.5", "did you mean 'glasses'?"),
        ("info faces.h", "did you mean 'faces.h5'?"),
        ("ingest photo --out p.h5", "did you mean 'photos'?"),
        ("export runs/faces --to onx --out a", "'onnx'"),
        ("completions bsh", "'bash'"),
    ] {
        refused(path, args, &[near]);
    }
}

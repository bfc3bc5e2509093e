//! The commands in `docs/`: run as they stand there, one after the other, in a folder with somebody's pictures.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::at_hand::typed;
use crate::python::Python;
use crate::run::glasses;

/// Stands in for Slurm: starts the job at once, on this machine, with what Slurm would tell it.
const SBATCH: &str = r#"#!/usr/bin/env bash
set -euo pipefail
export SLURM_JOB_NUM_NODES=1 SLURM_NTASKS_PER_NODE=8 SLURM_CPUS_PER_TASK=1 SLURM_SUBMIT_DIR=$PWD SLURM_JOB_NODELIST=here
while case $1 in --*) true ;; *) false ;; esac; do
    case $1 in
        --nodes=*) SLURM_JOB_NUM_NODES=${1#*=} ;;
        --ntasks-per-node=*) SLURM_NTASKS_PER_NODE=${1#*=} ;;
        *) echo "sbatch: unknown option $1" >&2; exit 1 ;;
    esac
    shift
done
shopt -s nullglob
outputs=(glasses-*.out)
SLURM_JOB_ID=$((1 + ${#outputs[@]}))
export SLURM_JOB_ID SLURM_NTASKS=$((SLURM_JOB_NUM_NODES * SLURM_NTASKS_PER_NODE))
grep -q '^#SBATCH --output=%x-%j.out$' "$1"
# The script, not the folder it lies in: Slurm runs a copy.
cp "$1" .slurm-script
shift
# Slurm's own allocation holds as many ranks as were asked for; here there are fewer cores.
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
bash .slurm-script "$@" >"glasses-$SLURM_JOB_ID.out" 2>&1 || { cat "glasses-$SLURM_JOB_ID.out" >&2; exit 1; }
echo "Submitted batch job $SLURM_JOB_ID"
"#;

/// `srun --mpi=pmix -n N COMMAND…`
const SRUN: &str = "#!/bin/sh\n[ \"$1\" = --mpi=pmix ] && shift && exec ${MPIRUN:-mpirun} \"$@\"\n";

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A home with `~/glasses`, and a folder of work in it with `pictures` pictures, half in `photos/with`, half in
/// `photos/without`.
fn home(pictures: usize) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    // Its jobs, and the program that is being tested.
    let program = Path::new(env!("CARGO_BIN_EXE_glasses")).parent().unwrap();
    std::fs::create_dir_all(home.path().join("glasses/target")).unwrap();
    for (real, name) in [(repository().join("jobs"), "jobs"), (program.to_owned(), "target/release")] {
        std::os::unix::fs::symlink(real, home.path().join("glasses").join(name)).unwrap();
    }
    let work = home.path().join("work");
    std::fs::create_dir(&work).unwrap();
    glasses(&["synth", "--size", "72", "--count", &pictures.to_string(), "--test", "0", "--out", "drawn.h5"], &work)
        .success();
    let drawn = hdf5::File::open(work.join("drawn.h5")).unwrap();
    let pixels: Vec<u8> = drawn.dataset("train/images").unwrap().read_raw().unwrap();
    let labels: Vec<i64> = drawn.dataset("train/labels").unwrap().read_raw().unwrap();
    let mut count = [0; 2];
    for (pixels, &label) in pixels.chunks(72 * 72 * 3).zip(&labels) {
        let folder = work.join("photos").join(["without", "with"][label as usize]);
        std::fs::create_dir_all(&folder).unwrap();
        let picture = image::RgbImage::from_raw(72, 72, pixels.to_vec()).unwrap();
        picture.save(folder.join(format!("{:03}.png", count[label as usize]))).unwrap();
        count[label as usize] += 1;
    }
    drop(drawn);
    std::fs::remove_file(work.join("drawn.h5")).unwrap();
    home
}

/// The fenced blocks of one language.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(repository().join("docs").join(document)).unwrap();
    let begin = format!("```{language}\n");
    text.split(&begin).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// All commands of a document as one terminal's session; those for Python only where there is one.
fn session(document: &str, python: bool) -> String {
    let all = blocks(document, "sh").concat();
    let lines = all.lines().filter(|line| python || !line.contains("python"));
    lines.map(|line| format!("{line}\n")).collect::<String>()
}

fn run(home: &Path, script: &str) -> crate::run::Outcome {
    // Where jobs/python.sh made its environment, whatever HOME is said to be.
    let venv = crate::python::venv();
    let more: [(&str, &Path); 3] = [("HOME", home), ("GLASSES_VENV", &venv), ("NO_INSTALL", Path::new("1"))];
    let end = typed(script, &home.join("work"), &more);
    assert!(end.code == Some(0), "{script}\n{}\n{}", end.stdout, end.stderr);
    end
}

#[test]
fn the_tutorial_works_as_it_is_written() {
    let home = home(240);
    let python = Python::with_readers("the tutorial's ONNX part");
    let end = run(home.path(), &session("tutorial.md", python.is_some()));
    let weights: Vec<&str> = end.stdout.lines().filter(|line| line.starts_with("weights sha256")).collect();
    assert!(weights.len() == 2 && weights[0] == weights[1], "{weights:?}");
    for part in
        ["/train: 192 rows (with 96, without 96)", "test accuracy", "confusion", "photos.samples.safetensors: 48 rows"]
    {
        assert!(end.stdout.contains(part), "{part} in {end:?}");
    }
    let work = home.path().join("work");
    assert_eq!(std::fs::read_to_string(work.join("predicted.txt")).unwrap().lines().count(), 240);
    assert_eq!(std::fs::read_to_string(work.join("predicted.csv")).unwrap().lines().count(), 241);
    let Some(python) = python else { return };
    assert!(end.stdout.contains("photos.onnx: 48 rows, 48 of the same class"), "{end:?}");
    let [program] = &blocks("tutorial.md", "python")[..] else { panic!("one program") };
    std::fs::write(work.join("program.py"), program).unwrap();
    let said = python.run_in(&work, "program.py").success().stdout;
    let (class, share) = said.trim().rsplit_once(' ').and_then(|(said, _)| said.split_once(' ')).unwrap();
    assert!(["with", "without"].contains(&class) && share.parse::<f64>().is_ok_and(|share| share >= 50.0), "{said}");
    says_what_predict_says(&work, program, &python);
}

/// The tutorial's program on pictures as phones and drawing programs write them: the pixels that `glasses` sees, and its classes.
fn says_what_predict_says(work: &Path, program: &str, python: &Python) {
    let files = odd_pictures(work);
    let more = r#"
import glob
for path in sorted(glob.glob("odd/*")):
    (probabilities,) = session.run(["probabilities"], {"pictures": prepared(path, *shape)[None]})
    print(path, classes[probabilities[0].argmax()])
    for channels in 1, 3, 4:
        prepared(path, 40, 30, channels).tofile(f"{path}.{channels}")
"#;
    std::fs::write(work.join("odd.py"), format!("{program}{more}")).unwrap();
    let said = python.run_in(work, "odd.py").success().stdout;
    let names: Vec<&str> = files.iter().map(String::as_str).collect();
    let csv = glasses(&[&["predict", "--csv", "--model", "runs/photos"], &names[..]].concat(), work).success().stdout;
    let class_of = |file: &str| csv.lines().find_map(|line| line.strip_prefix(&format!("{file},"))?.split(',').next());
    for file in &files {
        let line = format!("{file} {}", class_of(file).unwrap());
        assert!(said.lines().any(|said| said == line), "{line} is not in {said}");
        for channels in [1, 3, 4] {
            let got = std::fs::read(work.join(format!("{file}.{channels}"))).unwrap();
            let want = glasses::data::picture::decode(&work.join(file), 40, 30, channels).unwrap();
            // Colours that are hardly seen are hardly known.
            let weight = |place: usize| if channels == 4 && place % 4 < 3 { u32::from(want[place | 3]) } else { 255 };
            let far = |place: &usize| weight(*place) * u32::from(got[*place].abs_diff(want[*place])) > 255 * 6;
            let wrong = (0..want.len()).filter(far).count();
            // Two programs' Lanczos differ where edges are sharp.
            assert!(got.len() == want.len() && 50 * wrong < want.len(), "{file}, {channels} channels: {wrong} differ");
        }
    }
}

/// The tutorial's pictures lying on their sides as a phone has them, some with transparency, of 16 bits, and bitmaps; their paths.
fn odd_pictures(work: &Path) -> Vec<String> {
    use image::ImageEncoder;
    use image::codecs::png::PngEncoder;
    std::fs::create_dir(work.join("odd")).unwrap();
    let mut files = Vec::new();
    for (index, orientation) in (2..=8u8).chain([6, 8, 3]).enumerate() {
        let class = ["with", "without"][index % 2];
        let picture = image::open(work.join(format!("photos/{class}/{index:03}.png"))).unwrap();
        // Not square: a side that is taken for the other is seen.
        let mut picture = picture.crop_imm(0, 0, 72, 60);
        // What undoes it: all but the two quarter turns undo themselves.
        let back = [0, 1, 2, 3, 4, 5, 8, 7, 6][usize::from(orientation)];
        picture.apply_orientation(image::metadata::Orientation::from_exif(back).unwrap());
        // A TIFF directory of one entry, the orientation.
        let exif = [&b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0"[..], &[orientation], &[0; 6]].concat();
        let mut bytes = Vec::new();
        let mut encoder = PngEncoder::new(&mut bytes);
        encoder.set_exif_metadata(exif).unwrap();
        let rgb = picture.to_rgb8();
        encoder.write_image(&rgb, rgb.width(), rgb.height(), image::ExtendedColorType::Rgb8).unwrap();
        files.push((format!("side-{index}.png"), bytes));
    }
    let picture = image::open(work.join("photos/with/020.png")).unwrap();
    let mut cut = picture.to_rgba8();
    cut.enumerate_pixels_mut().for_each(|(x, y, pixel)| pixel[3] = if x > y { (3 * x) as u8 } else { 255 });
    let cut = image::DynamicImage::from(cut);
    // As programs write bitmaps that leave the fourth byte alone.
    let mut unwritten = picture.to_rgba8();
    unwritten.pixels_mut().for_each(|pixel| pixel[3] = 0);
    for (name, picture) in [
        ("alpha.png", cut.clone()),
        ("alpha.bmp", cut.clone()),
        ("unwritten.bmp", unwritten.into()),
        ("grey-alpha.png", cut.to_luma_alpha8().into()),
        ("deep.png", picture.to_rgb16().into()),
        ("deep-grey.png", picture.to_luma16().into()),
        ("grey.png", picture.to_luma8().into()),
    ] {
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, image::ImageFormat::from_path(name).unwrap()).unwrap();
        files.push((name.to_owned(), bytes.into_inner()));
    }
    let write = |(name, bytes): (String, Vec<u8>)| {
        std::fs::write(work.join("odd").join(&name), bytes).unwrap();
        format!("odd/{name}")
    };
    files.into_iter().map(write).collect()
}

#[test]
fn the_way_on_a_cluster_works_as_it_is_written() {
    if !cfg!(feature = "mpi") {
        return;
    }
    // Eight ranks on whatever cores there are.
    let home = home(60);
    let bin = home.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    for (name, text) in [("sbatch", SBATCH), ("srun", SRUN), ("squeue", "#!/bin/sh\necho JOBID\n")] {
        std::fs::write(bin.join(name), text).unwrap();
        assert!(Command::new("chmod").arg("+x").arg(bin.join(name)).status().unwrap().success());
    }
    let python = Python::with_readers("the ONNX part of docs/cluster.md");
    let script = format!("export PATH=\"$HOME/bin:$PATH\"\n{}", session("cluster.md", python.is_some()));
    let end = run(home.path(), &script);
    let outputs: Vec<PathBuf> = (1..=3).map(|job| home.path().join(format!("work/glasses-{job}.out"))).collect();
    let outputs: Vec<String> = outputs.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    assert!(outputs[0].contains("8 ranks (") && outputs[0].contains("results in runs/photos"), "{outputs:?}");
    assert!(outputs[1].contains("images/s") && outputs[1].contains("layers at batch 16"), "{outputs:?}");
    assert!(outputs[2].contains("the run in runs/photos is finished"), "{outputs:?}");
    assert!(end.stdout.contains("Submitted batch job 3") && end.stdout.contains("confusion"), "{end:?}");
    if python.is_some() {
        assert!(end.stdout.contains("photos.onnx: 12 rows, 12 of the same class"), "{end:?}");
    }
}

#[test]
fn the_documented_script_for_pytorch_is_the_one_that_export_prints() {
    let dir = tempfile::tempdir().unwrap();
    glasses(&["synth", "--count", "20", "--out", "f.h5", "--size", "80"], dir.path()).success();
    let train = ["--data", "f.h5", "--epochs", "1", "--max-steps", "1", "--out", "run"];
    glasses(&train, dir.path()).success();
    let args = ["export", "run", "--to", "safetensors", "--out", "faces.safetensors"];
    let printed = glasses(&args, dir.path()).success().stdout;
    let [documented] = &blocks("export.md", "python")[..] else { panic!("one script") };
    assert!(printed.contains(documented.trim_end()), "{printed}\n{documented}");
    assert!(documented.matches(" = ").count() + documented.matches("import").count() <= 10, "about ten statements");
}

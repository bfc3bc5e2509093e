//! Files made to do harm: each is refused with one message; nothing outside the arguments is read or written, and no memory is taken
//! that such a file cannot fill. What `tests/fuzz` found stands here too, and its readers are given its seeds again.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use hdf5::types::VarLenUnicode;
use tempfile::{TempDir, tempdir};

use crate::fixtures::{DENSE, Raw, TINY, faces, refused, refused_by_all, unlock, words};
use crate::run::{glasses, shell, skipped};

#[path = "../fuzz/src/readers.rs"]
mod readers;

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

/// `bytes` with a few changes.
fn damaged(bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=dice.below(4) {
        if bytes.is_empty() {
            break;
        }
        let (place, end) = (dice.below(bytes.len()), dice.below(bytes.len()));
        match dice.below(5) {
            0 => bytes[place] = dice.below(256) as u8,
            1 => bytes[place] ^= 1 << dice.below(8),
            2 => bytes.truncate(place),
            3 => drop(bytes.drain(place.min(end)..place.max(end))),
            _ => bytes.extend_from_within(place.min(end)..place.max(end)),
        }
    }
    bytes
}

#[test]
fn every_reader_survives_the_fuzzers_seeds_and_what_comes_of_them() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds");
    let mut dice = Dice(1);
    for reader in &readers::READERS {
        assert!(reader.base > 0 && reader.multiple > 0);
        let mut files: Vec<_> =
            std::fs::read_dir(seeds.join(reader.name)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{}", reader.name);
        for file in files {
            let whole = std::fs::read(&file).unwrap();
            let folder = tempdir().unwrap();
            (reader.read)(&whole, folder.path());
            for _ in 0..40 {
                let folder = tempdir().unwrap();
                (reader.read)(&damaged(&whole, &mut dice), folder.path());
            }
        }
    }
}

/// A folder with the networks, a pipe `outside` that whoever opens it waits at for ever, and what makes a dataset in `bad.h5`.
fn guarded() -> TempDir {
    let dir = tempdir().unwrap();
    std::fs::write(dir.path().join("tiny.toml"), TINY).unwrap();
    std::fs::write(dir.path().join("dense.toml"), DENSE).unwrap();
    pipe(dir.path());
    dir
}

fn pipe(dir: &Path) {
    assert!(Command::new("mkfifo").arg(dir.join("outside")).status().unwrap().success());
}

/// Trains on pictures.
const IMAGES: &str = "--data bad.h5 --model tiny.toml --batch 2";

#[test]
fn a_dataset_that_leads_out_of_its_file_is_refused_and_nothing_there_is_opened() {
    let dir = guarded();
    let dir = dir.path();
    let labelled = || Raw::create(dir, "bad.h5").labels("train", &[0, 1, 0, 1]);
    let pictures = |file: &Raw| file.file().new_dataset::<u8>().shape((4, 4, 4, 1));
    let file = labelled();
    pictures(&file).external("outside", 0, 64).create("train/images").unwrap();
    drop(file);
    refused_by_all(dir, IMAGES, &["bad.h5 /train/images: found data kept in other files, expected the data itself"]);
    refused(dir, "info bad.h5", &["bad.h5 /train/images: found data kept in other files"]);
    let file = labelled();
    pictures(&file).virtual_map("outside", "/a", (4, 4, 4, 1), .., (4, 4, 4, 1), ..).create("train/images").unwrap();
    drop(file);
    refused(dir, IMAGES, &["bad.h5 /train/images: found a virtual dataset, of other files"]);
    let file = labelled();
    file.file().link_external("outside", "/a", "train/images").unwrap();
    drop(file);
    refused(dir, IMAGES, &["bad.h5 /train/images: found a link to another file"]);
    let file = Raw::create(dir, "bad.h5");
    file.file().link_external("outside", "/a", "train").unwrap();
    drop(file);
    refused(dir, IMAGES, &["bad.h5 /train: found a link to another file"]);
    let file = Raw::create(dir, "bad.h5").images("test", 4);
    file.file().link_soft("/test", "train").unwrap();
    drop(file);
    refused(dir, IMAGES, &["bad.h5 /train: found a soft link"]);
}

#[test]
fn a_filter_that_a_plug_in_would_bring_is_refused_and_gzip_is_read() {
    let dir = guarded();
    let dir = dir.path();
    let file =
        Raw::create(dir, "bad.h5").only_images("test", 4).labels("test", &[0, 1, 0, 1]).labels("train", &[0, 1, 0, 1]);
    let pixels: Vec<u8> = (0..64).map(|i| i * 3).collect();
    let builder =
        file.file().new_dataset::<u8>().chunk((2, 4, 4, 1)).shuffle().deflate(9).fletcher32().shape((4, 4, 4, 1));
    builder.create("train/images").unwrap().write_raw(&pixels).unwrap();
    // It keeps the file open.
    drop(builder);
    drop(file);
    glasses(&words(&format!("{IMAGES} --epochs 1 --out run")), dir).success();
    let mut bytes = std::fs::read(dir.join("bad.h5")).unwrap();
    // In the description of the filters stand a number, lengths and then the name.
    let name = bytes.windows(8).position(|window| window == b"deflate\0").unwrap();
    assert_eq!(bytes[name - 8..name - 6], [1, 0]);
    bytes[name - 8..name - 6].copy_from_slice(&32001u16.to_le_bytes());
    std::fs::write(dir.join("bad.h5"), bytes).unwrap();
    refused_by_all(dir, IMAGES, &["bad.h5 /train/images: found the filter 32001, expected plain values, or gzip once"]);
    let file = Raw::create(dir, "bad.h5").labels("train", &[0, 1, 0, 1]);
    let many = file.file().new_dataset::<u8>().chunk((2, 4, 4, 1)).add_filter(1, &[1; 40]);
    many.shape((4, 4, 4, 1)).create("train/images").unwrap();
    drop(file);
    // HDF5's crate asks for 32 parameters at most, and panics.
    refused(dir, "info bad.h5", &["/train/images: found none of its 4 rows was ever written"]);
}

#[test]
fn a_header_that_claims_more_rows_than_the_file_can_hold_is_an_error() {
    let dir = guarded();
    let dir = dir.path();
    for rows in [1 << 32, 1_000_000_000_000, 1 << 62] {
        let file = Raw::create(dir, "bad.h5");
        file.file().new_dataset::<u8>().chunk((1, 4, 4, 1)).shape((rows, 4, 4, 1)).create("train/images").unwrap();
        file.file().new_dataset::<i64>().chunk(16).shape(rows).create("train/labels").unwrap();
        drop(file);
        let start = Instant::now();
        let found =
            if rows > 1 << 60 { "more bytes than can be counted".to_owned() } else { format!("{} bytes", 16 * rows) };
        refused(dir, IMAGES, &[&format!("bad.h5 /train/images: found {found}"), "1032 for each byte of the file"]);
        assert!(start.elapsed().as_secs() < 20);
    }
    let file = Raw::create(dir, "bad.h5").labels("train", &[0, 1, 0, 1]);
    file.file()
        .new_dataset::<u8>()
        .chunk((1 << 20, 16, 16, 1))
        .shape((4.., 16.., 16.., 1..))
        .create("train/images")
        .unwrap();
    drop(file);
    refused(dir, IMAGES, &["bad.h5 /train/images (a chunk): found 268435456 bytes"]);
}

/// Gives a file an attribute `name` that is one long text thousands of times, which is in it once.
fn one_text_many_times(path: &Path, name: &str) {
    const LONG: usize = 1 << 20;
    let file = hdf5::File::append(path).unwrap();
    let text = |text: String| text.parse::<VarLenUnicode>().unwrap();
    let names: Vec<VarLenUnicode> =
        std::iter::once(text("x".repeat(LONG))).chain((0..3999).map(|i| text(i.to_string()))).collect();
    file.new_attr_builder().with_data(&names).create(name).unwrap();
    file.close().unwrap();
    unlock(path);
    let mut bytes = std::fs::read(path).unwrap();
    // Where a text is: its length, the place of its heap, its number there.
    let length = (LONG as u32).to_le_bytes();
    let is = |place: usize, length: &[u8]| bytes[place..].starts_with(length);
    // The next two have one letter.
    let is_first = |&place: &usize| is(place, &length) && [16, 32].iter().all(|more| is(place + more, &[1, 0, 0, 0]));
    let first = (0..bytes.len() - 48).find(is_first).expect("the first text");
    for name in 1..names.len() {
        bytes.copy_within(first..first + 16, first + 16 * name);
    }
    std::fs::write(path, bytes).unwrap();
}

/// Makes a text of the file claim more bytes than the file has: its length stands in the 8 bytes before it.
fn one_text_too_long(path: &Path, text: &str) {
    let mut bytes = std::fs::read(path).unwrap();
    let stored = [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let place = bytes.windows(stored.len()).position(|window| window == stored).expect("the text");
    bytes[place + 4] = 0x37;
    std::fs::write(path, bytes).unwrap();
}

// Found by `damaged` of tests/fuzz: HDF5 copies as many bytes as the text claims.
#[test]
fn damage_that_ends_hdf5_ends_a_process_of_its_own_and_is_one_error() {
    let dir = faces();
    let dir = dir.path();
    glasses(&words("--data faces.h5 --model tiny.toml --epochs 1 --out run"), dir).success();
    image::RgbImage::from_pixel(9, 9, image::Rgb([1, 2, 3])).save(dir.join("a.png")).unwrap();
    let commands: [(&str, &[&str]); 2] = [
        ("faces.h5", &["info bad.h5", "--data bad.h5 --model tiny.toml", "eval --model run/model.h5 --data bad.h5"]),
        ("run/model.h5", &["info bad.h5", "eval --model bad.h5 --data faces.h5", "predict --model bad.h5 a.png"]),
    ];
    for (whole, commands) in commands {
        std::fs::copy(dir.join(whole), dir.join("bad.h5")).unwrap();
        one_text_too_long(&dir.join("bad.h5"), "glasses");
        let ended = Command::new(env!("CARGO_BIN_EXE_glasses")).args(["probe", "bad.h5"]).current_dir(dir).output();
        let signal = ended.unwrap().status.signal();
        // Later releases of HDF5 may see it.
        assert!(signal.is_some() || hdf5::library_version() > (1, 10, 8));
        let why = if signal.is_some() { "ends HDF5 (by signal " } else { "bad.h5" };
        for args in commands {
            refused_by_all(dir, args, &[why]);
        }
    }
}

// Where a batch system limits memory, nobody may ask for more than that.
#[test]
fn damage_is_one_error_under_limits_too() {
    let drops = "setpriv --bounding-set=-sys_resource --inh-caps=-sys_resource";
    let dir = faces();
    if shell(&format!("{drops} true"), dir.path()).code != Some(0) {
        return skipped("hostile::damage_is_one_error_under_limits_too", "no setpriv, or not the right to use it");
    }
    std::fs::copy(dir.path().join("faces.h5"), dir.path().join("bad.h5")).unwrap();
    one_text_too_long(&dir.path().join("bad.h5"), "glasses");
    let end = shell(&format!("ulimit -v 900000 -t 30; {drops} $GLASSES info bad.h5"), dir.path());
    assert_eq!(end.code, Some(2), "{end:?}");
    assert!(end.stderr.contains("error: bad.h5: found a file that ends HDF5 (by signal "), "{end:?}");
}

#[test]
fn a_damaged_member_is_one_error() {
    let dir = faces();
    let dir = dir.path();
    let train = "--data faces.h5 --model tiny.toml --epochs 1 --strategy ensemble --members 2 --out run";
    glasses(&words(train), dir).success();
    one_text_too_long(&dir.join("run/member-1/model.h5"), "glasses");
    std::fs::remove_file(dir.join("run/summary.json")).unwrap();
    for args in ["train --resume run", "eval --model run --data faces.h5"] {
        refused_by_all(dir, args, &["member-1/model.h5: found a file that "]);
    }
}

#[test]
fn a_model_whose_numbers_have_changed_is_refused() {
    let dir = faces();
    let dir = dir.path();
    glasses(&words("--data faces.h5 --model tiny.toml --epochs 1 --out run"), dir).success();
    let file = hdf5::File::open_rw(dir.join("run/model.h5")).unwrap();
    let bias = file.dataset("params/dense4.bias").unwrap();
    let mut values = bias.read_raw::<f32>().unwrap();
    values[1] += 1.0;
    bias.write_raw(&values).unwrap();
    drop(bias);
    file.close().unwrap();
    unlock(&dir.join("run/model.h5"));
    let found = "run/model.h5 /params: found numbers that do not match the digest beside them";
    refused_by_all(dir, "eval --model run/model.h5 --data faces.h5", &[found]);
}

#[test]
fn settings_without_an_end_are_not_read_to_it() {
    let dir = guarded();
    refused(dir.path(), "--config /dev/zero", &["/dev/zero: found no regular file"]);
    let endless = std::fs::File::create(dir.path().join("endless.toml")).unwrap();
    endless.set_len(1 << 40).unwrap();
    let said = "endless.toml: found more than 1048576 bytes, expected settings";
    refused(dir.path(), "--config endless.toml", &[said]);
    std::fs::write(dir.path().join("a.toml"), format!("lr = {}", "[".repeat(100_000))).unwrap();
    refused(dir.path(), "--config a.toml", &["a.toml: found TOML parse error"]);
    assert!(glasses(&words("--config a.toml"), dir.path()).stderr.len() < 2000);
}

#[test]
fn what_is_one_text_is_refused_as_many() {
    let dir = guarded();
    one_text_many_times(&dir.path().join("bad.h5"), "format");
    let start = Instant::now();
    refused(dir.path(), "predict --model bad.h5 a.png", &["bad.h5: found an HDF5 file that is not a model"]);
    drop(Raw::create(dir.path(), "bad.h5").images("train", 4));
    one_text_many_times(&dir.path().join("bad.h5"), "origin");
    // It is only told.
    glasses(&words(&format!("{IMAGES} --epochs 1 --out run")), dir.path()).success();
    assert!(start.elapsed().as_secs() < 20);
}

#[test]
fn names_that_would_fill_the_memory_are_refused_by_a_process_that_has_little() {
    let dir = guarded();
    drop(Raw::create(dir.path(), "bad.h5").images("train", 4));
    one_text_many_times(&dir.path().join("bad.h5"), "classes");
    let found = "bad.h5: found a file that asks for more memory than such a file can fill";
    refused_by_all(dir.path(), IMAGES, &[found]);
    refused(dir.path(), "info bad.h5", &[found]);
}

#[test]
fn a_model_that_leads_out_of_its_file_or_describes_too_much_is_refused_by_every_command() {
    let dir = faces();
    let dir = dir.path();
    glasses(&words("--data faces.h5 --model tiny.toml --epochs 1 --out run"), dir).success();
    image::RgbImage::from_pixel(9, 9, image::Rgb([1, 2, 3])).save(dir.join("a.png")).unwrap();
    pipe(dir);
    let commands = ["eval --model bad.h5 --data faces.h5", "predict --model bad.h5 a.png", "info bad.h5"];
    let check = |change: &dyn Fn(&hdf5::File) -> hdf5::Result<()>, parts: &[&str]| {
        std::fs::copy(dir.join("run/model.h5"), dir.join("bad.h5")).unwrap();
        let file = hdf5::File::open_rw(dir.join("bad.h5")).unwrap();
        change(&file).unwrap();
        file.close().unwrap();
        unlock(&dir.join("bad.h5"));
        commands.iter().for_each(|args| refused(dir, args, parts));
    };
    let bias = "params/dense4.bias";
    let external = |file: &hdf5::File| {
        file.unlink(bias)?;
        file.new_dataset::<f32>().shape(2).external("outside", 0, 8).create(bias).map(drop)
    };
    check(&external, &["bad.h5 /params/dense4.bias: found data kept in other files"]);
    let elsewhere = |file: &hdf5::File| {
        file.unlink(bias)?;
        file.link_external("outside", "/a", bias)
    };
    check(&elsewhere, &["bad.h5 /params/dense4.bias: found a link to another file"]);
    let folder = |file: &hdf5::File| {
        file.unlink("params")?;
        file.link_external("outside", "/a", "params")
    };
    check(&folder, &["bad.h5 /params: found a link to another file"]);
    let text = |text: &str| text.parse::<VarLenUnicode>().unwrap();
    let huge = "name = \"m\"\nlayers = [\"flatten\", \"dense 65535\", \"dense 65535\", \"dense classes\"]";
    check(&|file| file.attr("spec")?.write_scalar(&text(huge)), &["bad.h5 /params: found", "1032 for each byte"]);
    check(&|file| file.attr("input")?.write(&[1i64 << 23, 1 << 23, 3]), &["bad.h5"]);
    let nobody = |file: &hdf5::File| {
        file.delete_attr("classes")?;
        file.new_attr::<VarLenUnicode>().shape(0).create("classes").map(drop)
    };
    check(&nobody, &["bad.h5 attribute 'classes': found shape [0]"]);
}

#[test]
fn weights_of_elsewhere_that_claim_too_much_are_refused_before_there_is_memory_for_them() {
    let dir = guarded();
    let file = |notes: &str, shape: &str, bytes: usize| {
        let notes = if notes.is_empty() { String::new() } else { format!("\"__metadata__\":{{{notes}}},") };
        let header =
            format!("{{{notes}\"a.weight\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[0,{bytes}]}}}}");
        let whole = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; bytes]].concat();
        std::fs::write(dir.path().join("w.safetensors"), whole).unwrap();
    };
    let import = "import w.safetensors --model dense.toml --out run";
    file("", "[1000000000000,0]", 0);
    refused(
        dir.path(),
        &format!("{import} --input 5"),
        &["w.safetensors: found a last layer of 1000000000000 outputs"],
    );
    file("\"input\":\"65535x65535x1\"", "[2,1]", 8);
    let tiny = "import w.safetensors --model tiny.toml --out run";
    refused(dir.path(), tiny, &["more than 2^33 values"]);
}

#[test]
fn a_packed_idx_file_is_unpacked_no_further_than_its_header_says() {
    let dir = guarded();
    let put = |name: &str, head: &[u32], zeros: usize| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let head: Vec<u8> =
            [0, 0, 8, head.len() as u8].into_iter().chain(head.iter().flat_map(|d| d.to_be_bytes())).collect();
        std::io::Write::write_all(&mut gzip, &head).unwrap();
        std::io::copy(&mut std::io::Read::take(std::io::repeat(0), zeros as u64), &mut gzip).unwrap();
        std::fs::create_dir_all(dir.path().join("idx")).unwrap();
        std::fs::write(dir.path().join("idx").join(name), gzip.finish().unwrap()).unwrap();
    };
    put("train-labels-idx1-ubyte.gz", &[2], 2);
    put("train-images-idx3-ubyte.gz", &[2, 1, 2], 100 << 20);
    refused(dir.path(), "ingest idx --out d.h5", &["found more values, expected 2 x 1 x 2, as its header says"]);
    put("train-images-idx3-ubyte.gz", &[1 << 31, 1 << 10, 2], 4);
    refused(dir.path(), "ingest idx --out d.h5", &["found a file of", "expected values: 2147483648 x 1024 x 2"]);
}

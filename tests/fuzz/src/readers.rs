//! Every reader of text and of plain bytes, as fuzz targets and `tests/it/hostile.rs` call it: on bytes that may be anything.
//! Each says how much it may allocate: a base, and a multiple of the bytes.

use std::path::{Path, PathBuf};

use glasses::comm::{Comm, Solo};
use glasses::commands::import;
use glasses::config::{ModelChoice, Settings};
use glasses::data::ingest::{self, Content, Request};
use glasses::data::picture;
use glasses::model::Engine;
use glasses::model::{Model, ModelSpec};
use glasses::optim::OptimizerKind;
use glasses::report::{self, RunFiles, Subject, watch};
use glasses::row_count::RowCount;
use glasses::train;

/// A reader by its name, what it may allocate beside a multiple of its bytes, and that multiple.
pub struct Reader {
    /// That of its fuzz target, and of the folder with its seeds.
    pub name: &'static str,
    /// What it may allocate for a file of any length.
    pub base: usize,
    /// What it may allocate for each byte of the file.
    pub multiple: usize,
    /// Reads bytes in a folder that is there for it alone.
    pub read: fn(&[u8], &Path),
}

/// All of them.
pub const READERS: [Reader; 8] = [
    Reader { name: "settings", base: 8 << 20, multiple: 512, read: settings },
    // A few words may stand for 4096 layers.
    Reader { name: "spec", base: 32 << 20, multiple: 2048, read: spec },
    Reader { name: "idx", base: 8 << 20, multiple: 1032 * 4, read: idx },
    Reader { name: "csv", base: 8 << 20, multiple: 512, read: csv },
    Reader { name: "picture", base: 2 << 30, multiple: 16, read: picture },
    Reader { name: "safetensors", base: 8 << 20, multiple: 512, read: safetensors },
    Reader { name: "run", base: 64 << 20, multiple: 2048, read: run },
    Reader { name: "meta", base: 8 << 20, multiple: 512, read: meta },
];

fn put(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("room for a file");
    path
}

/// Parts of the input, which a line of this mark separates.
fn parts<const N: usize>(bytes: &[u8]) -> [&[u8]; N] {
    let mark = b"\n----\n";
    let mut rest = bytes;
    std::array::from_fn(|part| match rest.windows(mark.len()).position(|window| window == mark) {
        Some(place) if part + 1 < N => {
            let head = &rest[..place];
            rest = &rest[place + mark.len()..];
            head
        }
        _ => std::mem::take(&mut rest),
    })
}

/// `--config`.
fn settings(bytes: &[u8], folder: &Path) {
    let Ok(settings) = Settings::read(&put(folder, "config.toml", bytes)) else { return };
    // A name would be looked up on this disk.
    if matches!(&settings.model, Some(ModelChoice::Name(name)) if name.ends_with(".toml")) {
        return;
    }
    for ranks in [1, 64] {
        if let Ok(config) = settings.clone().lower(Settings::default(), ranks) {
            let text = config.to_toml().expect("settings have a TOML form");
            let path = put(folder, "again.toml", text.as_bytes());
            Settings::read(&path).expect("what was written is read").lower(Settings::default(), ranks).expect("valid");
        }
    }
}

/// A model file, and what is planned from it before anything is allocated. The first three bytes are the input.
fn spec(bytes: &[u8], folder: &Path) {
    let Some((&[h, w, c], text)) = bytes.split_first_chunk::<3>() else { return };
    let Ok(spec) = ModelSpec::read(&put(folder, "model.toml", text)) else { return };
    let size = |byte: u8| 1 + usize::from(byte & 31) * if byte > 200 { 8191 } else { 3 };
    let input = spec.input.unwrap_or([size(h), size(w), size(c)]);
    for (flat, input) in [(false, input), (true, [1, 1, input[2]])] {
        for engine in [Engine::Direct, Engine::Gemm] {
            if let Ok(model) = Model::new(spec.clone(), input, flat, 2, engine) {
                let (comm, optimizer) = (Comm::Split, OptimizerKind::Adamw);
                let case =
                    train::Case { rows: 16, shards: 8, ranks: 2, comm, norm_rows: RowCount::All, optimizer, data: 100 };
                let memory = train::Memory::predict(&model, &case);
                assert!(memory.total() >= 4 * model.parameters());
                assert!(model.training_flops() >= model.layers().iter().map(|layer| layer.flops).sum());
            }
        }
    }
}

/// MNIST's files, as they are and as gzip.
fn idx(bytes: &[u8], folder: &Path) {
    let [images, labels] = parts(bytes);
    let request = Request { source: folder.to_owned(), ..Request::default() };
    for ending in ["", ".gz"] {
        put(folder, &format!("train-images-idx3-ubyte{ending}"), images);
        put(folder, &format!("train-labels-idx1-ubyte{ending}"), labels);
        if let Ok(source) = ingest::discover(&request) {
            let Content::Idx(images) = source.content else { panic!("not IDX") };
            let size = source.shape.len();
            assert_eq!(images.row(source.labels.len() - 1).len(), size);
        }
        for kind in ["images-idx3", "labels-idx1"] {
            std::fs::remove_file(folder.join(format!("train-{kind}-ubyte{ending}"))).expect("it is there");
        }
    }
}

/// A table of features, and one of labels beside pictures.
fn csv(bytes: &[u8], folder: &Path) {
    let source = put(folder, "table.csv", bytes);
    for (label_column, skip_bad) in [(None, true), (Some("label".to_owned()), false), (Some("1".to_owned()), true)] {
        let request = Request { source: source.clone(), label_column, skip_bad, ..Request::default() };
        if let Ok(found) = ingest::discover(&request) {
            let Content::Features(values) = found.content else { panic!("not features") };
            assert_eq!(values.len(), found.labels.len() * found.shape.len());
        }
    }
    for picture in ["1.png", "face-2.png", "b.png"] {
        put(folder, picture, b"");
    }
    for pattern in [None, Some("{id}.png".to_owned())] {
        let (source, labels) = (folder.to_owned(), Some(source.clone()));
        let _ = ingest::discover(&Request { source, labels, pattern, ..Request::default() });
    }
}

/// A picture, brought to a size and to every number of channels.
fn picture(bytes: &[u8], folder: &Path) {
    let path = put(folder, "picture.png", bytes);
    for channels in [1, 3, 4] {
        if let Ok(picture) = picture::try_decode(&path, 5, 7, channels) {
            assert_eq!(picture.pixels.len(), 5 * 7 * channels);
        }
    }
}

/// `glasses import`.
fn safetensors(bytes: &[u8], folder: &Path) {
    let file = put(folder, "weights.safetensors", bytes);
    let text = "name = \"t\"\nlayers = [\"conv 3x3x2\", \"relu\", \"flatten\", \"dense classes\"]";
    let spec = ModelSpec::parse(text, "t").expect("a model");
    let out = folder.join("out");
    let (model, out) = (ModelChoice::Spec(spec), Some(out));
    let options = import::Options { file, model, input: None, classes: None, normalize: None, names: Vec::new(), out };
    let _ = import::run(&options, &Solo::default());
}

/// A run's folder, as `watch` and `report` read it.
fn run(bytes: &[u8], folder: &Path) {
    let [config, metrics, live, summary] = parts(bytes);
    for (name, bytes) in
        [("config.toml", config), ("metrics.jsonl", metrics), ("live.json", live), ("summary.json", summary)]
    {
        put(folder, name, bytes);
    }
    if let Ok(watched) = watch::Watched::read(folder) {
        for size in [(80, 24), (20, 8), (200, 60)] {
            assert!(watch::text(&watched, size).lines().count() == usize::from(size.1));
        }
    }
    if let Ok(files) = RunFiles::read(folder) {
        let subject = Subject { files, ..Subject::default() };
        report::page(std::slice::from_ref(&subject)).expect("a page");
        report::page(&[subject.clone(), subject]).expect("a page of two");
    }
}

/// The text of a checkpoint, and the chain of digests beside it.
fn meta(bytes: &[u8], _: &Path) {
    let [meta, digests] = parts(bytes);
    let _ = train::check_meta(&String::from_utf8_lossy(meta));
    let _ = train::check_digests(&String::from_utf8_lossy(digests), &[]);
}

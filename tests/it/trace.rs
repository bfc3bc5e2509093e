//! `--trace`: one timeline of all ranks that tells the truth, and changes nothing.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::fixtures::{refused, refused_by_all, words};
use crate::ranks::weights;
use crate::run::{glasses, mpirun, shell};

const MODEL: &str = r#"
name = "small"
layers = ["conv 3x3x4", "relu", "maxpool 2", "flatten", "dense 16", "relu", "dropout 0.1", "dense classes"]
"#;

/// The layers with arithmetic of their own, as the timeline calls them.
const LAYERS: [&str; 4] = ["1 conv 3x3x4, relu, maxpool 2, flatten", "5 dense 16", "7 dropout 0.1", "8 dense classes"];

const STEPS: usize = 4;

/// A span of the timeline.
#[derive(Debug)]
struct Span {
    thread: u64,
    category: String,
    name: String,
    /// In nanoseconds.
    start: i64,
    end: i64,
    args: Value,
}

/// The spans of each rank, and what processes and threads are called.
fn read(path: &Path) -> (Value, BTreeMap<u64, Vec<Span>>, Vec<String>) {
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let (mut ranks, mut names) = (BTreeMap::<u64, Vec<Span>>::new(), Vec::new());
    for event in file["traceEvents"].as_array().unwrap() {
        let text = |key: &str| event[key].as_str().unwrap().to_owned();
        match event["ph"].as_str().unwrap() {
            "M" => names.extend(event["args"]["name"].as_str().map(str::to_owned)),
            "X" => {
                let nanoseconds = |key: &str| (event[key].as_f64().unwrap() * 1e3).round() as i64;
                let start = nanoseconds("ts");
                ranks.entry(event["pid"].as_u64().unwrap()).or_default().push(Span {
                    thread: event["tid"].as_u64().unwrap(),
                    category: text("cat"),
                    name: text("name"),
                    start,
                    end: start + nanoseconds("dur"),
                    args: event["args"].clone(),
                });
            }
            other => panic!("an event '{other}'"),
        }
    }
    (file["otherData"].clone(), ranks, names)
}

/// Whether of any two spans one lies in the other or behind it: of a thread, and of all that a rank does by itself.
#[track_caller]
fn assert_nested(spans: &[Span], what: &str) {
    let mut threads: Vec<u64> = spans.iter().map(|span| span.thread).collect();
    threads.sort_unstable();
    threads.dedup();
    let by_itself = |span: &&Span| span.category != "messages";
    let mut groups: Vec<Vec<&Span>> =
        threads.iter().map(|thread| spans.iter().filter(|span| span.thread == *thread).collect()).collect();
    groups.push(spans.iter().filter(by_itself).collect());
    for mut group in groups {
        group.sort_by_key(|span| (span.start, -span.end));
        let mut open: Vec<&Span> = Vec::new();
        for span in group {
            while open.last().is_some_and(|outer| outer.end <= span.start) {
                open.pop();
            }
            if let Some(outer) = open.last() {
                assert!(span.end <= outer.end, "{what}: {span:?} hangs out of {outer:?}");
            }
            open.push(span);
        }
    }
}

fn data() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("small.toml"), MODEL).unwrap();
    glasses(&["synth", "--out", "faces.h5", "--count", "90", "--size", "24"], folder.path()).success();
    folder
}

const TRAIN: &str = "train --data faces.h5 --model small.toml --batch 16 --epochs 1 --max-steps 4 --digest-every 2";

#[test]
fn a_timeline_holds_what_every_rank_does_and_changes_nothing() {
    let folder = data();
    let dir = folder.path();
    glasses(&words(&format!("{TRAIN} --out plain")), dir).success();
    let plain = weights(&dir.join("plain"));
    for (name, ranks, env, args, machines) in [
        ("alone", 0, "", "", 1),
        ("window", 3, "", "--window on", 1),
        ("messages", 3, "", "--window off", 3),
        ("two", 3, "GLASSES_NODE_RANKS=2", "--window on", 2),
        ("reduce", 3, "GLASSES_NODE_RANKS=2", "--window on --comm reduce", 2),
        ("factors", 3, "", "--window off --comm factors", 3),
        ("split", 3, "", "--window off --comm split", 3),
    ] {
        let launcher = if ranks == 0 { String::new() } else { format!("${{MPIRUN:-mpirun}} -n {ranks} ") };
        let line = format!("{env} {launcher}$GLASSES {TRAIN} {args} --out {name} --trace {name}.json");
        let said = shell(line.trim(), dir).success().stdout;
        assert!(said.contains("timeline of"), "{name}: {said}");
        assert_eq!(weights(&dir.join(name)), plain, "{name}: the same weights");
        let (about, by_rank, names) = read(&dir.join(format!("{name}.json")));
        let ranks = ranks.max(1);
        assert_eq!(by_rank.keys().copied().collect::<Vec<_>>(), (0..ranks).collect::<Vec<_>>(), "{name}");
        assert_eq!((about["last step"].as_u64(), about["full"].as_bool()), (Some(STEPS as u64), Some(false)));
        for (rank, spans) in &by_rank {
            let what = format!("{name}, rank {rank}");
            assert!(names.iter().any(|name| name.starts_with(&format!("rank {rank} of {ranks} on "))), "{what}");
            assert_nested(spans, &what);
            let of = |category: &str| spans.iter().filter(|span| span.category == category).collect::<Vec<_>>();
            let steps: Vec<&Span> = of("run").into_iter().filter(|span| span.name.starts_with("step ")).collect();
            assert_eq!(steps.len(), STEPS, "{what}");
            for layer in LAYERS {
                for part in ["forward", "backward"] {
                    let name = format!("{layer}: {part}");
                    let found = spans.iter().filter(|span| span.name.starts_with(&name)).count();
                    assert!(found >= STEPS, "{what}: {found} times {name}");
                }
            }
            // Most of a step is accounted for, and nothing twice.
            let within = |span: &&Span| steps.iter().any(|step| span.start >= step.start && span.end <= step.end);
            let inside = ["kernels", "exchange", "waiting"].iter().flat_map(|kind| of(kind)).filter(within);
            let (busy, all): (i64, i64) =
                (inside.map(|span| span.end - span.start).sum(), steps.iter().map(|step| step.end - step.start).sum());
            // Where messages travel, MPI may take its time between kernels, above all with more ranks than cores.
            assert!(busy <= all && (machines > 1 || 3 * busy > all), "{what}: {busy} of {all} ns");
            let named = |category: &str, start: &str| {
                of(category).into_iter().filter(|span| span.name.starts_with(start)).collect::<Vec<_>>()
            };
            if ranks == 1 {
                assert!(of("messages").is_empty() && !named("exchange", "ranks' sums").is_empty(), "{what}");
                continue;
            }
            assert!(!of("exchange").is_empty() && !of("waiting").is_empty(), "{what}");
            // What only reads memory waits in node barriers, what sends messages waits for them.
            let has_neighbours = machines == 1 || (machines == 2 && *rank < 2);
            assert_eq!(!named("waiting", "node barrier").is_empty(), has_neighbours, "{what}");
            let is_spread = machines > 1 && !(name == "reduce" && *rank == 1);
            assert_eq!(!named("waiting", "finish").is_empty(), is_spread, "{what}");
            let bytes =
                |spans: Vec<&Span>, key: &str| spans.iter().filter_map(|span| span.args[key].as_u64()).sum::<u64>();
            let sent = bytes(named("exchange", "send"), "bytes");
            assert_eq!(sent, bytes(of("messages"), "bytes_sent"), "{what}: all is sent and finished");
            if machines == 1 {
                assert_eq!(sent, 0, "{what}");
                assert!(bytes(spans.iter().collect(), "bytes_read") > 0, "{what}: reads of neighbours' memory");
            }
        }
        // Whatever is sent is received, over all ranks.
        let all = |key: &str| by_rank.values().flatten().filter_map(|span| span.args[key].as_u64()).sum::<u64>();
        assert_eq!(all("bytes_sent"), all("bytes_received"), "{name}");
        assert_eq!(all("bytes_sent") > 0, machines > 1, "{name}");
    }
}

#[test]
fn the_ranks_of_a_machine_are_on_one_clock() {
    let folder = data();
    let dir = folder.path();
    mpirun(2, &words(&format!("{TRAIN} --window on --out out --trace trace.json")), dir).success();
    let (_, ranks, _) = read(&dir.join("trace.json"));
    let barriers = |rank: u64| ranks[&rank].iter().filter(|span| span.name == "node barrier").collect::<Vec<_>>();
    let (one, two) = (barriers(0), barriers(1));
    assert_eq!(one.len(), two.len());
    for (one, two) in one.iter().zip(&two) {
        // Nobody leaves a node barrier before the other one has come; looking at a clock takes less than 20 microseconds.
        assert!(one.end + 20_000 >= two.start && two.end + 20_000 >= one.start, "{one:?} and {two:?}");
    }
}

#[test]
fn a_file_that_cannot_be_written_is_refused_before_training() {
    let folder = data();
    let dir = folder.path();
    refused_by_all(
        dir,
        &format!("{TRAIN} --out out --trace nowhere/trace.json"),
        &["--trace nowhere/trace.json: found no folder nowhere", "mkdir -p nowhere"],
    );
    std::fs::create_dir(dir.join("folder")).unwrap();
    refused(dir, &format!("{TRAIN} --out out --trace folder"), &["--trace folder", "a folder"]);
    refused(dir, &format!("{TRAIN} --out out --trace faces.h5/trace.json"), &["faces.h5"]);
}

#[test]
fn it_is_a_setting_like_others_and_free_to_change() {
    let folder = data();
    let dir = folder.path();
    std::fs::write(dir.join("settings.toml"), "trace = \"out/trace.json\"\ncheckpoint-every = 2\n").unwrap();
    // In the run's own folder, which is not there yet.
    glasses(&words(&format!("{TRAIN} --config settings.toml --out out")), dir).success();
    assert!(dir.join("out/trace.json").exists());
    let config = std::fs::read_to_string(dir.join("out/config.toml")).unwrap();
    assert!(!config.contains("trace.json"), "what goes on would write over it: {config}");
    // An older file is replaced.
    std::fs::write(dir.join("second.json"), "old").unwrap();
    glasses(&words("train --resume out --max-steps 5 --trace second.json"), dir).success();
    let (about, ranks, _) = read(&dir.join("second.json"));
    assert_eq!(about["last step"].as_u64(), Some(5));
    let steps = ranks[&0].iter().filter(|span| span.name.starts_with("step ")).count();
    assert_eq!(steps, 1, "what it went on with");
}

//! Runs seen from outside: started, signalled, waited for, compared with a run that nobody disturbed. For `tests/kill` and
//! `tests/fail`, which are programs of their own with one test each.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use glasses::kernels::rng::{Purpose, Stream};
use serde_json::Value;

/// What stood behind the program's name.
pub struct Options(Vec<String>);

impl Options {
    /// None where `cargo test WORD`, which asks every test program for tests with that word in their name, means others.
    pub fn of(test: &str) -> Option<Options> {
        let args: Vec<String> = std::env::args().skip(1).collect();
        let means_others = args.first().is_some_and(|arg| !arg.starts_with("--") && !test.contains(arg.as_str()));
        (!means_others).then_some(Options(args))
    }

    /// The value behind `name`.
    pub fn get<T: FromStr>(&self, name: &str) -> Option<T> {
        let place = self.0.iter().position(|arg| arg == name)?;
        self.0.get(place + 1)?.parse().ok()
    }
}

/// Says what became of the one test, as others do.
pub fn verdict(test: &str, is_right: bool) -> ExitCode {
    let (verdict, failed) = if is_right { ("ok", 0) } else { ("FAILED", 1) };
    println!("test {test} ... {verdict}\n");
    println!("test result: {verdict}. {} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out\n", 1 - failed);
    if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Random numbers of a round.
pub struct Random {
    stream: Stream,
    next: usize,
}

impl Random {
    pub fn new(seed: u64, round: usize) -> Random {
        Random { stream: Stream::new(seed, Purpose::Synth, 0, 0, round), next: 0 }
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.next += 1;
        self.stream.bits(self.next) as usize % limit
    }
}

/// `glasses` on `ranks` ranks (0 is without a launcher), started in `dir`, with its standard error at the end of `log`: `before`
/// stands in front of everything, `wrapper` in front of each rank's program.
pub fn program(dir: &Path, log: &Path, before: &[&str], ranks: usize, wrapper: &[&str]) -> Command {
    let (launcher, number) = (std::env::var("MPIRUN").unwrap_or_else(|_| "mpirun".to_owned()), ranks.to_string());
    let launch = if ranks > 0 { vec![launcher.as_str(), "-n", &number] } else { Vec::new() };
    let words: Vec<&str> = [before, &launch, wrapper, &[env!("CARGO_BIN_EXE_glasses")]].concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null());
    // Open MPI asks for these as root, and where there are fewer cores than ranks; others ignore them.
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    command.env("OMPI_MCA_rmaps_base_oversubscribe", "1").env("OMPI_MCA_hwloc_base_binding_policy", "none");
    command.stderr(OpenOptions::new().create(true).append(true).open(log).expect("a log"));
    command
}

/// Sends a signal, by its name, to a process that may be gone.
pub fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").args(["-s", name, &pid.to_string()]).stderr(Stdio::null()).status();
}

/// Waits for the end; none when it has not come within `limit`.
pub fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    loop {
        match child.try_wait().expect("a child of ours") {
            None if start.elapsed() < limit => std::thread::sleep(Duration::from_millis(5)),
            status => return status,
        }
    }
}

/// Whether two finished runs came to the same weights, metrics (but for times and bytes) and chain of digests.
pub fn same_run(run: &Path, whole: &Path) -> Result<(), String> {
    for file in ["summary.json", "metrics.jsonl", "digests.jsonl"] {
        let [got, want] = [run, whole].map(|run| lasting(&run.join(file)));
        if want.is_empty() || got != want {
            let place = got.iter().zip(&want).position(|(got, want)| got != want).unwrap_or(got.len().min(want.len()));
            let [got_line, want_line] = [&got, &want].map(|lines| lines.get(place));
            return Err(format!(
                "{file} differs in line {place} ({} lines for {}):\n{got_line:#?}\n{want_line:#?}",
                got.len(),
                want.len()
            ));
        }
    }
    Ok(())
}

/// What differs from run to run: times, bytes, who computed, what the disk refused.
const PASSING: [&str; 9] = [
    "seconds",
    "training_seconds",
    "images_per_sec",
    "bytes_communicated",
    "exchange",
    "slowest",
    "wall_seconds",
    "ranks",
    "failed_checkpoints",
];

/// The lines of a file, without what differs from run to run.
fn lasting(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let values: Vec<Value> = match serde_json::from_str(&text) {
        Ok(whole) => vec![whole],
        Err(_) => text.lines().map(|line| serde_json::from_str(line).unwrap_or_default()).collect(),
    };
    let mut values: Vec<Value> = values.into_iter().filter(|value| value.get("hosts").is_none()).collect();
    for value in values.iter_mut().filter_map(Value::as_object_mut) {
        PASSING.iter().for_each(|name| drop(value.remove(*name)));
    }
    values
}

//! `--trace`: what every rank recorded, on one clock, in one file that ui.perfetto.dev and chrome://tracing read (the trace
//! event format: complete events, a process a rank, a thread a kind of work).

use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::run::Run;
use crate::comm::{self, CHANNELS, Communicator, Wire, on_root};
use crate::config::RunConfig;
use crate::error::{Error, Result};
use crate::files::{Whole, check_writable, folder_of};
use crate::kernels::zeros;
use crate::plural::plural;
use crate::report::Console;
use crate::trace::{Span, Trace, What};

/// Spans that a rank has room for: 11 MB, hundreds of steps.
pub const ROOM: usize = 200_000;

/// Barriers that the clocks of machines are compared at.
const BARRIERS: usize = 9;

/// The channel that spans take to the root: no layer uses it.
const CHANNEL: usize = CHANNELS - 1;

/// Numbers of a span on its way.
const WORDS: usize = 7;

/// A timeline that is being recorded.
pub struct Timeline<'a> {
    path: &'a Path,
    trace: Trace,
    /// What is to be added to this rank's clock.
    shift: i64,
}

impl<'a> Timeline<'a> {
    /// Collective: from here on `run` is recorded, if its settings say so.
    pub fn start(run: &mut Run<'a>, trace: &Trace) -> Option<Timeline<'a>> {
        let path = run.config.trace.as_deref()?;
        run.lockstep.record(trace);
        run.trace = trace.clone();
        let shift = align(trace, run.comm);
        trace.start();
        Some(Timeline { path, trace: trace.clone(), shift })
    }

    /// Collective: the root collects what all ranks recorded, and writes it.
    ///
    /// # Errors
    /// When the disk refuses it; no file is left then.
    pub fn write(self, run: &Run<'_>, console: &Console) -> Result<()> {
        let comm = run.comm;
        let (mut spans, full) = self.trace.stop();
        for span in &mut spans {
            span.start = span.start.saturating_add_signed(self.shift);
        }
        // What lies in another comes behind it.
        spans.sort_by_key(|span| (span.start, u64::MAX - span.took));
        let last = spans.iter().filter(|span| span.what == What::Step).map(|span| span.about).max().unwrap_or(0);
        let own = [spans.len() as u64, u64::from(full), u64::from(last)];
        let of_all: Vec<Vec<u64>> = comm
            .allgather(bytemuck::cast_slice(&own))
            .iter()
            .map(|bytes| bytemuck::pod_collect_to_vec(bytes))
            .collect();
        let full = of_all.iter().any(|of_rank| of_rank[1] == 1);
        let last = of_all.iter().map(|of_rank| of_rank[2]).min().unwrap_or(0);
        let total: u64 = of_all.iter().map(|of_rank| of_rank[0]).sum();
        let hosts = comm::hosts(comm);
        if !comm.is_root() {
            send(&spans, comm);
            on_root(comm, || Ok(String::new()))?;
            return Ok(());
        }
        let about = json!({
            "glasses": env!("CARGO_PKG_VERSION"), "ranks": comm.size(), "machines": comm.nodes().count(),
            "spans": total, "last step": last, "full": full,
        });
        let failed = || Error::io("write", self.path);
        let begin = |out| File::create(out, run, about).map_err(failed());
        let mut file = Whole::begin(self.path).and_then(begin);
        for (rank, of_rank) in of_all.iter().enumerate() {
            // To the end, whatever the disk says: the others wait.
            let received = (rank > 0).then(|| receive(rank, of_rank[0] as usize, comm));
            file = file.and_then(|mut file| {
                let spans = received.as_deref().unwrap_or(&spans);
                file.rank(rank, &hosts[rank], comm, spans).map(|()| file).map_err(failed())
            });
        }
        let written = file.and_then(|file| file.finish().map_err(failed()));
        on_root(comm, || written.map(|()| String::new()))?;
        if full {
            console.warn(format!("the timeline ends with step {last}: a rank has room for {ROOM} spans"));
        }
        console.say(format!(
            "timeline of {}, {}, in {}",
            plural(comm.size(), "rank"),
            plural(total as usize, "span"),
            self.path.display()
        ));
        Ok(())
    }
}

/// Whether the timeline that `config` wants, if so, could be written.
///
/// # Errors
/// When it could not.
pub fn check_trace(config: &RunConfig) -> Result<()> {
    let Some(path) = config.trace.as_deref() else { return Ok(()) };
    if path.is_dir() || path.file_name().is_none() {
        return Err(Error::invalid(
            format!("--trace {}", path.display()),
            "a folder",
            "the name of a file",
            "name a file in it",
        ));
    }
    let folder = folder_of(path);
    if folder.exists() && !folder.is_dir() {
        return Err(Error::invalid(
            format!("--trace {}", path.display()),
            format!("{}, which is no folder", folder.display()),
            "a file in a folder",
            "name another place",
        ));
    }
    if !folder.exists() && config.out.as_deref() == Some(folder) {
        // It will be there.
        return Ok(());
    }
    if !folder.is_dir() {
        return Err(Error::invalid(
            format!("--trace {}", path.display()),
            format!("no folder {}", folder.display()),
            "a file in a folder that is there",
            format!("make the folder (`mkdir -p {}`), or name another place", folder.display()),
        ));
    }
    check_writable(path)
}

/// Collective: what is to be added to this rank's clock to get nanoseconds since the root's start of recording. Ranks of a
/// machine have its clock in common; machines are compared by when their first ranks leave a few barriers.
fn align(trace: &Trace, comm: &dyn Communicator) -> i64 {
    let mut own: Vec<i64> = Vec::with_capacity(BARRIERS + 1);
    for _ in 0..BARRIERS {
        comm.barrier();
        own.push(trace.clock() as i64);
    }
    own.push(zero_of(trace));
    let all: Vec<Vec<i64>> =
        comm.allgather(bytemuck::cast_slice(&own)).iter().map(|bytes| bytemuck::pod_collect_to_vec(bytes)).collect();
    let first = &all[comm.nodes().neighbours().start];
    let mut apart: Vec<i64> = (0..BARRIERS).map(|barrier| all[0][barrier] - first[barrier]).collect();
    apart.sort_unstable();
    let since_start = -all[0][BARRIERS - 1];
    since_start + apart[BARRIERS / 2] + own[BARRIERS] - first[BARRIERS]
}

/// The system's time when the recorder's clock stood at zero: of several looks at both, the one that took least.
fn zero_of(trace: &Trace) -> i64 {
    let look = |_| {
        let before = trace.clock();
        let system = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64);
        let after = trace.clock();
        (after - before, system - ((before + after) / 2) as i64)
    };
    (0..20).map(look).min().map_or(0, |(_, zero)| zero)
}

fn send(spans: &[Span], comm: &dyn Communicator) {
    let words: Vec<u64> = spans
        .iter()
        .flat_map(|span| {
            let [a, b, c, d] = span.numbers;
            [span.start, span.took, (span.what as u64) << 32 | u64::from(span.about), a, b, c, d]
        })
        .collect();
    let mut buffer = zeros(2 * words.len());
    buffer.copy_from_slice(bytemuck::cast_slice(&words));
    if !words.is_empty() {
        comm.send(CHANNEL, 0, &buffer, 0..buffer.len(), Wire::F32);
    }
    comm.finish(CHANNEL);
}

fn receive(rank: usize, count: usize, comm: &dyn Communicator) -> Vec<Span> {
    let buffer = zeros(2 * WORDS * count);
    if count > 0 {
        comm.receive(CHANNEL, rank, &buffer, 0..buffer.len(), Wire::F32);
    }
    comm.finish(CHANNEL);
    let words: Vec<u64> = bytemuck::pod_collect_to_vec(&buffer[..]);
    let span = |words: &[u64; WORDS]| {
        let [start, took, what, a, b, c, d] = *words;
        Span { start, took, what: What::ALL[(what >> 32) as usize], about: what as u32, numbers: [a, b, c, d] }
    };
    words.as_chunks().0.iter().map(span).collect()
}

/// Threads of a rank: what it does in turn, so that nothing of one overlaps with anything of another but [`RUN`], which holds
/// them all; and one a channel.
const RUN: usize = 1;
const KERNELS: usize = 2;
const EXCHANGE: usize = 3;
const WAITING: usize = 4;
const MESSAGES: usize = 10;
const THREADS: [(usize, &str); 4] = [(RUN, "run"), (KERNELS, "kernels"), (EXCHANGE, "exchange"), (WAITING, "waiting")];

/// The file, as far as it has been written.
struct File {
    out: BufWriter<Whole>,
    /// Names of the steps of the network, and of what travels on each channel.
    steps: Vec<String>,
    channels: Vec<String>,
}

impl File {
    fn create(out: Whole, run: &Run<'_>, about: serde_json::Value) -> std::io::Result<File> {
        let steps = run.model.step_names();
        let channels = (0..CHANNELS).map(|channel| run.lockstep.describe_channel(channel, &steps)).collect();
        let mut file = File { out: BufWriter::new(out), steps, channels };
        // A first event of no length, so that all others can begin with a comma.
        writeln!(file.out, "{{\"displayTimeUnit\":\"ms\",\"otherData\":{about},\"traceEvents\":[")?;
        let start =
            json!({"ph": "X", "pid": 0, "tid": RUN, "ts": 0, "dur": 0, "cat": "run", "name": "recording starts"});
        write!(file.out, "{start}")?;
        Ok(file)
    }

    /// What a rank recorded, in the order of time.
    fn rank(&mut self, rank: usize, host: &str, comm: &dyn Communicator, spans: &[Span]) -> std::io::Result<()> {
        let name = format!("rank {rank} of {} on {host}, machine {}", comm.size(), comm.nodes().of(rank));
        self.metadata(rank, None, "process", &name, rank)?;
        for (thread, name) in THREADS {
            self.metadata(rank, Some(thread), "thread", name, thread)?;
        }
        for channel in 0..CHANNELS {
            if spans.iter().any(|span| span.what == What::UnderWay && span.about as usize == channel) {
                let name = format!("messages: {}", self.channels[channel]);
                self.metadata(rank, Some(MESSAGES + channel), "thread", &name, MESSAGES + channel)?;
            }
        }
        spans.iter().try_for_each(|span| self.span(rank, span))
    }

    /// What a process or a thread is called, and where it stands among others.
    fn metadata(&mut self, pid: usize, tid: Option<usize>, of: &str, name: &str, place: usize) -> std::io::Result<()> {
        let tid = tid.unwrap_or(0);
        let named = json!({"ph": "M", "pid": pid, "tid": tid, "name": format!("{of}_name"), "args": {"name": name}});
        let placed = format!("{of}_sort_index");
        let placed = json!({"ph": "M", "pid": pid, "tid": tid, "name": placed, "args": {"sort_index": place}});
        write!(self.out, ",\n{named},\n{placed}")
    }

    fn span(&mut self, rank: usize, span: &Span) -> std::io::Result<()> {
        let about = span.about as usize;
        let [a, b, c, d] = span.numbers;
        let ms = |nanoseconds: u64| nanoseconds as f64 / 1e6;
        let layer = |part: &str| format!("{}: {part}", self.steps[about]);
        let travels = |how: &str| format!("{how} {}", self.channels[about]);
        let (tid, name, args) = match span.what {
            What::Step => (RUN, format!("step {about}"), json!({})),
            What::Evaluate => (RUN, "evaluation".to_owned(), json!({})),
            What::Digest => (RUN, "digests".to_owned(), json!({})),
            What::Checkpoint => (RUN, "copy for a checkpoint".to_owned(), json!({})),
            What::Load => (KERNELS, "rows prepared".to_owned(), json!({})),
            What::Forward => (KERNELS, layer("forward"), json!({})),
            What::BackwardData => (KERNELS, layer("backward data"), json!({})),
            What::BackwardWeights => (KERNELS, layer("backward weights"), json!({})),
            What::Backward => (KERNELS, layer("backward"), json!({})),
            What::Shared => {
                let args = json!({"bytes_read": a, "data_ms": ms(b), "weights_ms": ms(c), "update_ms": ms(d)});
                (KERNELS, layer("backward weights of all rows, and update"), args)
            }
            What::Merge => (EXCHANGE, "ranks' sums merged and used".to_owned(), json!({"bytes_read": a})),
            What::Update => (EXCHANGE, "update".to_owned(), json!({})),
            What::Norm => {
                let of = about.checked_sub(1).map_or("running statistics of norms", |step| &self.steps[step]);
                (EXCHANGE, format!("{of}: sums of ranks merged"), json!({"bytes_read": a}))
            }
            What::Send => (EXCHANGE, travels("send"), json!({"bytes": a, "to": b})),
            What::Receive => (EXCHANGE, travels("receive"), json!({"bytes": a, "from": b})),
            What::Collective => (EXCHANGE, "collective of MPI".to_owned(), json!({"bytes": a})),
            What::UnderWay => {
                let args = json!({"bytes_sent": a, "bytes_received": b, "messages": c});
                (MESSAGES + about, travels("under way:"), args)
            }
            What::NodeBarrier => (WAITING, "node barrier".to_owned(), json!({})),
            What::Finish => (WAITING, travels("finish"), json!({"bytes": a})),
            What::Barrier => (WAITING, "barrier".to_owned(), json!({})),
        };
        let category = THREADS.iter().find(|(thread, _)| *thread == tid).map_or("messages", |(_, name)| name);
        // By hand: in thousandths of a microsecond, a float would round.
        let [ts, dur] = [span.start, span.took].map(|ns| format!("{}.{:03}", ns / 1000, ns % 1000));
        let name = json!(name);
        write!(
            self.out,
            ",\n{{\"ph\":\"X\",\"pid\":{rank},\"tid\":{tid},\"ts\":{ts},\"dur\":{dur},\"cat\":\"{category}\",\
             \"name\":{name},\"args\":{args}}}"
        )
    }

    /// The file gets its name.
    fn finish(mut self) -> std::io::Result<()> {
        write!(self.out, "\n]}}\n")?;
        self.out.into_inner().map_err(|e| e.into_error())?.finish()
    }
}

//! The thread that listens to the other ranks: who is dead, who is stuck, and how all end then.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::process::parent_id;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use super::links::{Link, Links, Message, parent};
use super::state::{DYING, FAILURES, STALL, TOLD, again, failures, run, whole};
use crate::comm::Nodes;
use crate::error::Exit;
use crate::files::give_up;
use crate::position::{self, Position};

/// Between two looks at the links.
const PAUSE: Duration = Duration::from_millis(50);
/// Between two words of a rank.
const BEAT: Duration = Duration::from_millis(200);
/// Who is not the first to know of a death leaves the word to that one, for so long; the launcher takes a second or two to end all.
const MODESTY: Duration = Duration::from_secs(4);
/// A process whose threads stood still as long as this was held itself, and cannot judge others by the time since then. A rank
/// that panics has as long to say so.
const HELD: Duration = Duration::from_secs(1);
/// What is said may take so long; then all end without.
const SAYING: Duration = Duration::from_millis(500);
/// Of which the disk has so long to tell of checkpoints.
const LOOKING: Duration = Duration::from_millis(200);
/// What was sent last has so long to arrive.
const GOODBYE: Duration = Duration::from_millis(500);

/// What is known of a rank.
#[derive(Clone, Debug, Default)]
struct Known {
    at: Position,
    /// When it, or who speaks for it, last said something; never, where it is not linked.
    heard: Option<Instant>,
    /// When it last got further.
    moved: Option<Instant>,
    /// Since when it has been called slow.
    slow: Option<Instant>,
    done: bool,
}

/// A thread's state.
pub struct Monitor {
    links: Links,
    hosts: Vec<String>,
    nodes: Nodes,
    stall: Duration,
    done: Arc<AtomicBool>,
    ranks: Vec<Known>,
    /// The process that started this one, and when.
    launcher: u32,
    began: SystemTime,
}

impl Monitor {
    /// On machines `hosts`, one a rank.
    pub fn new(links: Links, hosts: Vec<String>, nodes: Nodes, done: Arc<AtomicBool>) -> Monitor {
        let ranks = vec![Known::default(); hosts.len()];
        Monitor {
            links,
            hosts,
            nodes,
            stall: Duration::ZERO,
            done,
            ranks,
            launcher: parent_id(),
            began: SystemTime::now(),
        }
    }

    /// Until the rank has come to its end.
    pub fn run(mut self) {
        let (mut last, mut beat) = (Instant::now(), None);
        loop {
            let ends = self.done.load(Ordering::Acquire);
            self.stall = Duration::from_secs(STALL.load(Ordering::Relaxed));
            let now = Instant::now();
            if now - last > HELD {
                self.forgive(now - last);
            }
            last = now;
            self.listen();
            if ends {
                self.spread(&Message::Done, None);
                return self.links.close(GOODBYE);
            }
            if DYING.load(Ordering::Acquire) {
                self.spread(&Message::Over(String::new()), None);
                TOLD.store(true, Ordering::Release);
                return;
            }
            self.learn(self.links.rank, position::now(), now);
            if beat.is_none_or(|beat| now - beat >= BEAT) {
                self.speak();
                beat = Some(now);
            }
            if parent_id() != self.launcher {
                self.say_and_end("its launcher is gone", self.links.rank, self.nodes.place() > 0);
            }
            if self.stall > Duration::ZERO {
                self.judge(now);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Takes what has come on the links; a link that has ended without a goodbye is a death.
    fn listen(&mut self) {
        for child in 0..self.links.children.len() {
            let link = &mut self.links.children[child];
            let (rank, messages) = (link.rank, link.receive::<Message>());
            self.take(rank, messages);
            if self.links.children[child].done && !self.ranks[rank].done {
                self.is_lost(rank);
            }
        }
        if let Some(link) = &mut self.links.parent {
            let (rank, messages) = (link.rank, link.receive::<Message>());
            self.take(rank, messages);
            if self.links.parent.as_ref().is_some_and(|link| link.done) && !self.ranks[rank].done {
                self.is_lost(rank);
            }
        }
    }

    fn take(&mut self, from: usize, messages: Vec<Message>) {
        let now = Instant::now();
        for message in messages {
            match message {
                Message::At(all) => {
                    all.into_iter().for_each(|(rank, at, age)| self.learn(rank, at, now - Duration::from_millis(age)));
                }
                // Those behind it end with it.
                Message::Done => (0..self.ranks.len())
                    .filter(|&rank| rank == from || parent(&self.nodes, rank) == Some(from))
                    .for_each(|rank| self.ranks[rank].done = true),
                Message::Over(why) => self.follow(why, Some(from)),
            }
        }
    }

    /// Where a rank was at that moment.
    fn learn(&mut self, rank: usize, at: Position, moment: Instant) {
        let Some(known) = self.ranks.get_mut(rank) else { return };
        if known.at != at || known.moved.is_none() {
            known.moved = Some(moment);
        }
        (known.at, known.heard) = (at, Some(moment));
    }

    /// To the root: where this rank and those behind it are; away from it: where this one is.
    fn speak(&mut self) {
        let here = |rank: usize| {
            let Known { at, heard, .. } = &self.ranks[rank];
            (rank, *at, heard.map_or(0, |heard| heard.elapsed().as_millis() as u64))
        };
        let behind = self.links.children.iter().filter(|link| !link.done).map(|link| here(link.rank));
        let all: Vec<_> = std::iter::once(here(self.links.rank)).chain(behind).collect();
        let own = vec![all[0]];
        if let Some(parent) = &mut self.links.parent {
            parent.send(&Message::At(all));
        }
        self.links.children.iter_mut().for_each(|child| child.send(&Message::At(own.clone())));
    }

    fn spread(&mut self, message: &Message, but: Option<usize>) {
        self.links.all().filter(|link| Some(link.rank) != but).for_each(|link: &mut Link| link.send(message));
    }

    /// This process was held: nobody else is to blame for that time.
    fn forgive(&mut self, held: Duration) {
        for known in &mut self.ranks {
            (known.heard, known.moved) = (known.heard.map(|at| at + held), known.moved.map(|at| at + held));
        }
    }

    fn is_lost(&mut self, rank: usize) {
        let first = self.is_first_to_say(rank);
        self.say_and_end("its process ended without a word (killed, crashed or out of memory)", rank, !first);
    }

    /// Whether this rank says what becomes of `rank`: the one that it reports to, or, for the root, the first that reports to it.
    fn is_first_to_say(&self, rank: usize) -> bool {
        let says = parent(&self.nodes, rank)
            .or_else(|| (0..self.ranks.len()).find(|&other| parent(&self.nodes, other) == Some(rank)));
        says == Some(self.links.rank)
    }

    /// Ranks that are silent, and ranks that compute without getting further, are slow at first and given up at last. The root
    /// judges all; the others judge whom they report to.
    fn judge(&mut self, now: Instant) {
        let judged: Vec<usize> = match &self.links.parent {
            None => (0..self.ranks.len()).filter(|&rank| self.ranks[rank].heard.is_some()).collect(),
            Some(link) => vec![link.rank],
        };
        let judged: Vec<usize> = judged.into_iter().filter(|&rank| !self.ranks[rank].done).collect();
        for &rank in &judged {
            let (trouble, limit, what) = self.trouble(rank, now);
            let slow = self.ranks[rank].slow;
            if trouble >= limit {
                self.say_and_end(&what, rank, !self.is_first_to_say(rank) && self.links.parent.is_some());
            }
            if trouble >= self.stall / 4 && slow.is_none() {
                self.ranks[rank].slow = Some(now - trouble);
                let limit = limit.as_secs_f64();
                self.warn(rank, format!("is slow at {}: {what}; given up after {limit:.0} s", self.ranks[rank].at));
            }
            if let Some(since) = slow.filter(|_| trouble < self.stall / 8) {
                self.ranks[rank].slow = None;
                self.warn(rank, format!("goes on, after {:.0} s", (now - since).as_secs_f64()));
            }
        }
        let still = |rank: &usize| self.ranks[*rank].moved.map_or(Duration::ZERO, |moved| now - moved);
        // Of a rank that is not linked nobody knows.
        let all_wait = judged.len() == self.ranks.iter().filter(|known| !known.done).count()
            && judged.iter().all(|&rank| self.ranks[rank].at.waits);
        if self.links.parent.is_none() && all_wait && judged.iter().map(still).min() >= Some(self.stall) {
            let what = format!("all ranks have waited for one another for {:.0} s", self.stall.as_secs_f64());
            self.say_and_end(&format!("{what}: what they sent does not arrive"), self.links.rank, false);
        }
    }

    /// For how long something has been wrong with a rank, how long that may be, and what it is. Whom it reports to a rank
    /// judges by silence alone: of the rest that one speaks itself.
    fn trouble(&self, rank: usize, now: Instant) -> (Duration, Duration, String) {
        let known = &self.ranks[rank];
        let since =
            |moment: Option<Instant>| moment.map_or(Duration::ZERO, |moment| now.saturating_duration_since(moment));
        let (silent, mut still) = (since(known.heard), since(known.moved));
        let patience = known.at.phase.patience();
        let judges_parent = self.links.parent.is_some();
        if known.at.waits || judges_parent || patience.is_none() {
            still = Duration::ZERO;
        }
        if silent + 2 * BEAT >= still {
            let what =
                format!("no word from it for {:.0} s (stopped, or its machine is cut off)", silent.as_secs_f64());
            return (silent, self.stall + if judges_parent { HELD } else { Duration::ZERO }, what);
        }
        (still, self.stall * patience.unwrap_or(1), format!("it has not got further for {:.0} s", still.as_secs_f64()))
    }

    fn warn(&self, rank: usize, what: impl Display) {
        if self.links.parent.is_none() || self.is_first_to_say(rank) {
            let line = format!("warning: {} {what}\n", self.name(rank));
            // A pipe that nobody empties must not stop this thread.
            aside(move || drop(std::io::stderr().write_all(line.as_bytes())));
        }
    }

    fn name(&self, rank: usize) -> String {
        format!("rank {rank} of {} on {}", self.ranks.len(), self.hosts[rank])
    }

    /// The run is over because of `rank`. Who is `modest` lets others say it, if there are any.
    fn say_and_end(&mut self, why: &str, rank: usize, modest: bool) -> ! {
        if modest {
            self.let_another_say();
        }
        let (name, at) = (self.name(rank), self.ranks[rank].at);
        let line = format!("error: {name} is lost in {at}: {why}; all ranks end");
        let said = line.clone();
        // Disk and terminal may be what all of this is about: nobody waits for them for long.
        let saying = aside(move || {
            let said = format!("{said}{}\n", further());
            let _ = std::io::stderr().write_all(said.as_bytes());
            if let Some(failures) = failures() {
                let file = OpenOptions::new().append(true).create(true).open(failures);
                let time = jiff::Timestamp::now();
                let _ = file.map(|mut file| file.write_all(format!("{time} {said}").as_bytes()));
            }
        });
        wait_for(saying, SAYING);
        self.spread(&Message::Over(line), None);
        self.end()
    }

    /// Leaves the word to another rank, on a link or in the run's folder; returns where nobody says why the run is over.
    fn let_another_say(&mut self) {
        let start = Instant::now();
        while start.elapsed() < MODESTY {
            std::thread::sleep(PAUSE);
            let over = |message: Message| if let Message::Over(why) = message { Some(why) } else { None };
            let told = self.links.all().flat_map(|link| link.receive::<Message>()).find_map(over);
            if let Some(why) = told {
                self.follow(why, None);
            }
        }
        let written = failures().and_then(|path| std::fs::metadata(path).ok()?.modified().ok());
        if written.is_some_and(|at| at > self.began) {
            self.follow(format!("see {FAILURES}"), None);
        }
    }

    /// Somebody has said why the run is over; or, where that is empty, is about to.
    fn follow(&mut self, why: String, from: Option<usize>) -> ! {
        let panics = why.is_empty();
        self.spread(&Message::Over(why), from);
        if panics {
            // It ends all ranks itself, when it has said where.
            std::thread::sleep(HELD);
        }
        self.end()
    }

    /// Ends this process at once: its rank may be waiting for one that is dead, in MPI, and never return.
    fn end(&mut self) -> ! {
        let own = run().and_then(|(run, writes)| writes.then_some(run));
        wait_for(aside(move || give_up(own.as_deref().map(Path::new))), SAYING);
        self.links.close(GOODBYE);
        signal_hook::low_level::exit(Exit::Lost as i32)
    }
}

/// How the run goes on, if one does here.
fn further() -> String {
    let run = match (whole(), run()) {
        (Some((command, _)), _) => return format!("; {command} goes on with what is left"),
        (None, Some((run, _))) => run,
        (None, None) => return String::new(),
    };
    // Where the disk does not answer it is not waited for.
    let (tell, told) = std::sync::mpsc::channel();
    let folder = Path::new(&run).join("checkpoints");
    let look = move || {
        let mut files = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let _ = tell.send(files.any(|entry| entry.path().extension().is_some_and(|end| end == "h5")));
    };
    let _looking = aside(look);
    let on = match told.recv_timeout(LOOKING) {
        Ok(false) => "begins it anew",
        _ => "goes on from the last checkpoint",
    };
    format!("; {} {on}", again(&run))
}

/// Does what may block in a thread of its own.
fn aside(work: impl FnOnce() + Send + 'static) -> Option<JoinHandle<()>> {
    std::thread::Builder::new().name("aside".to_owned()).spawn(work).ok()
}

fn wait_for(work: Option<JoinHandle<()>>, limit: Duration) {
    let start = Instant::now();
    while work.as_ref().is_some_and(|work| !work.is_finished()) && start.elapsed() < limit {
        std::thread::sleep(Duration::from_millis(2));
    }
}

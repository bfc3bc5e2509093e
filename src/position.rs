//! What this process is doing right now, for whoever asks whether it still lives: the ranks that wait for it, and the line
//! that a dying run leaves. Writing here costs a store or two.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

/// What a rank is busy with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Whatever it is that no run does: it may take any time.
    #[default]
    Work,
    /// Reads its rows or a checkpoint, takes its memory.
    Start,
    /// Prepares the rows of a step.
    Load,
    /// Forward pass.
    Forward,
    /// Backward pass.
    Backward,
    /// Exchanges with other ranks, or waits for them.
    Sync,
    /// Optimizer update.
    Update,
    /// Evaluates.
    Evaluate,
    /// Writes a checkpoint, or waits for one that is being written.
    Checkpoint,
    /// Writes results.
    Write,
}

impl Phase {
    const ALL: [Phase; 10] = [
        Phase::Work,
        Phase::Start,
        Phase::Load,
        Phase::Forward,
        Phase::Backward,
        Phase::Sync,
        Phase::Update,
        Phase::Evaluate,
        Phase::Checkpoint,
        Phase::Write,
    ];
}

/// A slow disk is not a dead rank: files may take so many times as long as anything else.
const FILES: u32 = 10;

impl Phase {
    /// How many times as long as a step a rank may be in it without getting further; `None`: any time.
    pub fn patience(self) -> Option<u32> {
        match self {
            Phase::Work => None,
            Phase::Start | Phase::Checkpoint | Phase::Write => Some(FILES),
            _ => Some(1),
        }
    }
}

/// A moment of a rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// From 1; 0 before the first.
    pub epoch: usize,
    /// From 1; 0 before the first.
    pub step: usize,
    /// What it does.
    pub phase: Phase,
    /// Grows with whatever it does.
    pub ticks: u64,
    /// It waits for others.
    pub waits: bool,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = format!("{:?}", if self.waits { Phase::Sync } else { self.phase }).to_lowercase();
        write!(f, "epoch {}, step {}, phase {phase}", self.epoch, self.step)
    }
}

static EPOCH: AtomicUsize = AtomicUsize::new(0);
static STEP: AtomicUsize = AtomicUsize::new(0);
static PHASE: AtomicUsize = AtomicUsize::new(0);
static TICKS: AtomicU64 = AtomicU64::new(0);
/// Waits begun and ended: odd while it waits.
static WAITS: AtomicU64 = AtomicU64::new(0);

/// From now on it does this.
pub fn enter(phase: Phase) {
    PHASE.store(phase as usize, Ordering::Relaxed);
    tick();
}

/// From now on it is at this step of this epoch, both from 1.
pub fn reach(epoch: usize, step: usize) {
    EPOCH.store(epoch, Ordering::Relaxed);
    STEP.store(step, Ordering::Relaxed);
    tick();
}

/// It has got a bit further. Said of every row and every layer, so it must cost nothing: where two threads say it at once, one
/// may not be counted.
#[inline]
pub fn tick() {
    TICKS.store(TICKS.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

/// It waits for other ranks as long as this lives. One wait at a time.
#[must_use]
pub struct Wait(());

/// It waits for other ranks until the result is dropped.
pub fn wait() -> Wait {
    WAITS.fetch_add(1, Ordering::Relaxed);
    Wait(())
}

impl Drop for Wait {
    fn drop(&mut self) {
        WAITS.fetch_add(1, Ordering::Relaxed);
    }
}

/// Where it is.
pub fn now() -> Position {
    let waits = WAITS.load(Ordering::Relaxed);
    Position {
        epoch: EPOCH.load(Ordering::Relaxed),
        step: STEP.load(Ordering::Relaxed),
        phase: Phase::ALL[PHASE.load(Ordering::Relaxed)],
        ticks: TICKS.load(Ordering::Relaxed) + waits,
        waits: waits % 2 == 1,
    }
}

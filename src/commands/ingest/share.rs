//! Decoding shared by the ranks: blocks of rows in written order, each rank a piece of each block.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;

use crate::comm::Communicator;
use crate::data::picture::{Picture, try_decode};
use crate::error::Result;
use crate::report::is_dumb;

/// About how many bytes of rows are in memory at a time.
pub const BLOCK: usize = 16 << 20;

/// Pictures a rank decodes between two collective calls; bounds how long the progress bar stands still.
const PICTURES_A_RANK: usize = 64;

/// The row and the reason.
pub type Failures = BTreeMap<usize, String>;

/// A decoded block.
pub struct DecodedBlock {
    /// How many rows.
    pub count: usize,
    /// Their pixels, row after row; zeros for a row that failed. Empty when pixels are not wanted.
    pub pixels: Vec<u8>,
    /// By number in the list of pictures.
    pub failures: Failures,
    /// Numbers of those whose files hold further frames.
    pub several: BTreeSet<usize>,
}

/// Collective. Decodes `pictures` and hands block after block (with its first row) to `take` on every rank.
///
/// # Errors
/// Those of `take`, which must fail on all ranks or on none.
pub fn decode(
    comm: &dyn Communicator,
    pictures: &[&Path],
    hwc: [usize; 3],
    pixels_wanted: bool,
    bar: &ProgressBar,
    mut take: impl FnMut(usize, DecodedBlock) -> Result<()>,
) -> Result<()> {
    let row: usize = hwc.iter().product();
    let (rank, size) = (comm.rank(), comm.size());
    let per_block = (BLOCK / row).min(PICTURES_A_RANK * size).max(1);
    for first in (0..pictures.len()).step_by(per_block) {
        let count = per_block.min(pictures.len() - first);
        let (from, to) = (first + rank * count / size, first + (rank + 1) * count / size);
        let mine = decode_mine(&pictures[from..to], hwc, size == 1);
        let mut pixels = Vec::new();
        let (mut failures, mut several) = (Failures::new(), BTreeSet::new());
        for (number, outcome) in (from..to).zip(mine) {
            match outcome {
                Ok(picture) => {
                    if picture.several {
                        several.insert(number);
                    }
                    if pixels_wanted {
                        pixels.extend(picture.pixels);
                    }
                }
                Err(reason) => {
                    pixels.resize(pixels.len() + if pixels_wanted { row } else { 0 }, 0);
                    failures.insert(number, reason);
                }
            }
        }
        if size > 1 {
            pixels = if pixels_wanted { comm.allgather(&pixels).concat() } else { pixels };
            (failures, several) = exchange(comm, &failures, &several);
        }
        take(first, DecodedBlock { count, pixels, failures, several })?;
        bar.inc(count as u64);
    }
    Ok(())
}

/// Under `mpirun` the ranks are the parallelism; alone, threads are.
fn decode_mine(pictures: &[&Path], [h, w, c]: [usize; 3], alone: bool) -> Vec<Result<Picture, String>> {
    if alone {
        pictures.par_iter().map(|path| try_decode(path, h, w, c)).collect()
    } else {
        pictures.iter().map(|path| try_decode(path, h, w, c)).collect()
    }
}

/// Collective: everyone's failures, and pictures with further frames.
fn exchange(comm: &dyn Communicator, mine: &Failures, several: &BTreeSet<usize>) -> (Failures, BTreeSet<usize>) {
    // `row reason` lines: reasons are single lines. A row alone has several frames.
    let mut text: String = mine.iter().map(|(row, reason)| format!("{row} {}\n", reason.replace('\n', " "))).collect();
    text.extend(several.iter().map(|row| format!("{row}\n")));
    let (mut all, mut all_several) = (Failures::new(), BTreeSet::new());
    for bytes in comm.allgather(text.as_bytes()) {
        for line in String::from_utf8_lossy(&bytes).lines() {
            match (line.split_once(' '), line.parse()) {
                (None, Ok(row)) => _ = all_several.insert(row),
                (Some((row, reason)), _) => _ = row.parse().map(|row| all.insert(row, reason.to_owned())),
                _ => {}
            }
        }
    }
    (all, all_several)
}

/// Collective. Decodes everything and keeps only what failed.
///
/// # Errors
/// None of its own.
pub fn verify(comm: &dyn Communicator, pictures: &[impl AsRef<Path>], hwc: [usize; 3]) -> Result<Failures> {
    let paths: Vec<&Path> = pictures.iter().map(AsRef::as_ref).collect();
    let bar = progress(if comm.is_root() { paths.len() } else { 0 }, "pictures", "checking");
    let mut failures = Failures::new();
    decode(comm, &paths, hwc, false, &bar, |_, block| {
        failures.extend(block.failures);
        Ok(())
    })?;
    bar.finish_and_clear();
    Ok(failures)
}

/// The failures as lines for people.
pub fn listed(pictures: &[impl AsRef<Path>], failures: &Failures) -> Vec<String> {
    failures.iter().map(|(&row, reason)| format!("{}: {reason}", pictures[row].as_ref().display())).collect()
}

/// A bar with a rate, on a terminal; else, and for nothing, one that is not seen.
pub fn progress(total: usize, unit: &str, verb: &str) -> ProgressBar {
    if total == 0 || !std::io::stderr().is_terminal() || is_dumb() {
        return ProgressBar::hidden();
    }
    let template = format!("{verb} {{wide_bar}} {{pos}}/{{len}} {unit}  {{per_sec}}  {{eta}} left");
    let bar = ProgressBar::new(total as u64);
    match ProgressStyle::with_template(&template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

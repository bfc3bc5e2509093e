//! Whether all ranks have the same settings, and the same data.

use twox_hash::XxHash3_64;

use super::Verdict;
use super::rank::{Rank, same_build};
use crate::comm::{self, Communicator};
use crate::error::{Error, Result};

/// Lines of a difference that are shown.
const SHOWN: usize = 3;

/// Collective: whether every rank has the same `text`, by its digest. Where not, the lines in which the first that differs
/// from rank 0 does so are in the error.
///
/// # Errors
/// The same one on every rank; `place` and `fix` are rank 0's.
pub fn same(comm: &dyn Communicator, place: &str, text: &str, expected: &str, fix: &str) -> Result<()> {
    if comm.size() == 1 {
        return Ok(());
    }
    let digest = XxHash3_64::oneshot(text.as_bytes()).to_le_bytes();
    let digests = comm.allgather(&digest);
    let Some(other) = digests.iter().position(|digest| *digest != digests[0]) else { return Ok(()) };
    // From here on all know that something differs, and all take part.
    let differ = digests.iter().filter(|digest| **digest != digests[0]).count();
    let place = String::from_utf8_lossy(&comm.broadcast(place.as_bytes().to_vec())).into_owned();
    let hosts = comm::hosts(comm);
    let texts = comm.allgather(if [0, other].contains(&comm.rank()) { text.as_bytes() } else { &[] });
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let [first, second] = [0, other].map(|rank| words(&texts[rank]));
    let (ours, theirs) = difference(&first, &second);
    let found = format!(
        "{differ} of {} ranks with others than rank 0: rank {other} on {} has {theirs}, rank 0 on {} has {ours}",
        comm.size(),
        hosts[other],
        hosts[0]
    );
    Err(Error::invalid(place, found, expected, fix))
}

/// Collective: whether every rank was asked for the same; `asked` is in words. Before this, ranks may not work together: one
/// would wait for what others never do.
///
/// # Errors
/// The same one on every rank. Where builds differ, that is it: another build may not know an option.
pub fn same_command(comm: &dyn Communicator, asked: &str) -> Result<()> {
    let fix = "give all ranks one command line: mpirun -n 8 glasses …";
    same(comm, "launch", asked, "the same command on every rank", fix).map_err(|differ| {
        let build = same_build(&Rank::allgather(comm));
        if build.verdict == Verdict::Error { Error::from(&build) } else { differ }
    })
}

/// The lines that only one of them has, of each.
fn difference(one: &str, other: &str) -> (String, String) {
    let only = |one: &str, other: &str| {
        let lines: Vec<&str> = one.lines().filter(|line| !other.lines().any(|there| there == *line)).collect();
        let more = if lines.len() > SHOWN { ", …" } else { "" };
        match lines.len() {
            0 => "nothing of this".to_owned(),
            _ => format!("{}{more}", lines[..lines.len().min(SHOWN)].join(", ")),
        }
    };
    (only(one, other), only(other, one))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::Threads;

    #[test]
    fn what_differs_is_shown_and_all_ranks_fail_with_it() {
        let ends = Threads::run(3, |comm| {
            let lr = if comm.rank() == 2 { "lr = 0.1" } else { "lr = 0.01" };
            let text = format!("batch = 16\n{lr}\nseed = 1");
            let place = if comm.is_root() { "settings" } else { "another place" };
            let same_text = same(comm, place, "batch = 16", "the same", "do so").is_ok();
            (same_text, same(comm, place, &text, "the same on every rank", "do so").unwrap_err().to_string())
        });
        for (same_text, error) in ends {
            assert!(same_text);
            let parts =
                ["settings: found 1 of 3 ranks", "rank 2 on ", "has lr = 0.1, rank 0 on ", "has lr = 0.01, exp"];
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
    }

    #[test]
    fn a_long_difference_is_cut() {
        let (ours, theirs) = difference("a\nb\nc\nd\ne", "a");
        assert_eq!((ours.as_str(), theirs.as_str()), ("b, c, d, …", "nothing of this"));
    }
}

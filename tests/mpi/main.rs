//! The MPI communicator under a real launcher. Started by `cargo test`, this program starts itself under `$MPIRUN` (default
//! `mpirun`) on several rank counts; started so, every rank runs every check against what it must be.

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use glasses::comm::{self, Communicator, agree, agree_root, slice_of};
use glasses::error::Error;
use glasses::kernels::{Subtrees, tree, zeros};

/// Set for the ranks.
const INSIDE: &str = "GLASSES_MPI_TEST";

const LIMIT: Duration = Duration::from_secs(60);

/// A name and what every rank does under it.
type Check = (&'static str, fn(&dyn Communicator));

const CHECKS: [Check; 7] = [
    ("sums_are_the_same_on_every_rank", sums),
    ("every_rank_finishes_its_slice_of_the_fixed_tree", trees),
    ("gathered_bytes_keep_their_order_and_lengths", gathers),
    ("the_root_s_bytes_reach_everyone", broadcasts),
    ("an_error_on_one_rank_becomes_everyone_s", agrees),
    ("what_the_root_does_all_get_or_all_fail_with", root_agrees),
    ("bytes_are_counted_only_where_they_travel", counts),
];

fn main() -> ExitCode {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    let cases: Vec<(String, usize, Option<&str>)> = [1, 2, 3, 4, 8]
        .into_iter()
        .map(|ranks| (format!("collectives_on_{ranks}_ranks"), ranks, None))
        .chain([("a_panic_on_one_rank_ends_all_of_them".to_owned(), 3, Some("panic"))])
        .collect();
    println!("\nrunning {} tests", cases.len());
    let mut failed = 0;
    for (name, ranks, trouble) in &cases {
        let verdict = launch(*ranks, *trouble);
        println!("test {name} ... {}", if verdict.is_ok() { "ok" } else { "FAILED" });
        if let Err(why) = verdict {
            println!("{why}");
            failed += 1;
        }
    }
    let (passed, verdict) = (cases.len() - failed, if failed == 0 { "ok" } else { "FAILED" });
    println!("\ntest result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out\n");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Starts this program on `ranks` ranks; with `trouble` it must fail soon, without it must do well.
fn launch(ranks: usize, trouble: Option<&str>) -> Result<(), String> {
    let launcher = std::env::var("MPIRUN").unwrap_or_else(|_| "mpirun".to_owned());
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut command = Command::new(&launcher);
    command.arg("-n").arg(ranks.to_string()).arg(program).env(INSIDE, trouble.unwrap_or("checks"));
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    command.env("OMPI_MCA_rmaps_base_oversubscribe", "1").env("OMPI_MCA_hwloc_base_binding_policy", "none");
    command.env("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe").stdin(Stdio::null());
    if trouble.is_some() {
        command.stderr(Stdio::null());
    }
    let mut child = command.spawn().map_err(|e| format!("cannot start {launcher}: {e}"))?;
    let start = Instant::now();
    let status = loop {
        match child.try_wait().map_err(|e| e.to_string())? {
            Some(status) => break status,
            None if start.elapsed() > LIMIT => {
                let _ = Command::new("kill").arg(child.id().to_string()).status();
                std::thread::sleep(Duration::from_secs(2));
                let _ = child.kill();
                return Err(format!("hangs on {ranks} ranks"));
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    if status.success() == trouble.is_none() { Ok(()) } else { Err(format!("{status} on {ranks} ranks")) }
}

fn inside() -> ExitCode {
    let comm = comm::world();
    if std::env::var(INSIDE).is_ok_and(|what| what == "panic") {
        assert!(comm.rank() != 1, "rank 1 panics while the others wait for it");
        comm.barrier();
        return ExitCode::SUCCESS;
    }
    for (name, check) in CHECKS {
        if comm.is_root() && comm.size() == 1 {
            println!("check {name}");
        }
        check(comm.as_ref());
    }
    ExitCode::SUCCESS
}

/// `0 + 1 + … + (size − 1)`
fn triangle(comm: &dyn Communicator) -> u64 {
    (comm.size() * (comm.size() - 1) / 2) as u64
}

fn sums(comm: &dyn Communicator) {
    let (rank, size) = (comm.rank(), comm.size());
    let (mut mine, mut total) = (zeros(100_003), zeros(100_003));
    mine.iter_mut().enumerate().for_each(|(i, value)| *value = (i % 1000 + rank) as f32);
    total.fill(f32::NAN);
    comm.sum_f32(&mut mine, &mut total);
    let want = |i: usize| (i % 1000 * size) as f32 + triangle(comm) as f32;
    assert!(total.iter().enumerate().all(|(i, &sum)| sum == want(i)));
    let mut f64s = [rank as f64, 0.5];
    comm.sum_f64(&mut f64s);
    assert_eq!(f64s, [triangle(comm) as f64, 0.5 * size as f64]);
    let mut u64s = [rank as u64, u64::MAX / size as u64];
    comm.sum_u64(&mut u64s);
    assert_eq!(u64s, [triangle(comm), u64::MAX / size as u64 * size as u64]);
}

/// Sums of shards that no number of ranks divides, some without rows, against the tree that one owner forms.
fn trees(comm: &dyn Communicator) {
    let (rank, size, len) = (comm.rank(), comm.size(), 1003);
    for rows in [&[1; 13][..], &[0, 1, 1, 0, 2, 0, 1, 1], &[1, 0, 0, 0, 0, 0, 0, 0, 0], &[3; 8]] {
        let value = |shard: usize, i: usize| 1.0 / (7 * shard + i + 1) as f32;
        let shard = &mut |shard: usize, i: usize| (rows[shard] > 0).then(|| value(shard, i));
        let want: Vec<f32> = (0..len).map(|i| tree(rows.len(), &mut |s| shard(s, i), &|a, b| a + b).unwrap()).collect();
        let owned = |rank: usize| rank * rows.len() / size..(rank + 1) * rows.len() / size;
        let mut planted = Subtrees::default();
        planted.plant(rows, (0..size).map(|rank| owned(rank).end), rank);
        let mut present = owned(rank).filter(|&shard| rows[shard] > 0);
        let mut sums: Vec<Vec<f32>> = Vec::new();
        for leaf in &planted.own {
            let shard = present.next().unwrap();
            let mut sum: Vec<f32> = (0..len).map(|i| value(shard, i)).collect();
            for _ in 0..leaf.joins {
                let left = sums.pop().unwrap();
                sum.iter_mut().zip(left).for_each(|(right, left)| *right += left);
            }
            sums.push(sum);
        }
        let mut slice = vec![f32::NAN; slice_of(len, rank, size).len()];
        comm.scatter_sums(&planted, &|sum| &sums[sum], &mut slice);
        let mut whole = vec![f32::NAN; len];
        comm.gather_slices(&slice, &mut whole);
        assert!(whole.iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits()), "{rows:?} on {size} ranks");
    }
    let mut all = vec![0.0; 2 * size];
    comm.gather_f64(&[rank as f64, 0.5], &mut all);
    assert!(all.chunks(2).enumerate().all(|(rank, two)| two == [rank as f64, 0.5]));
}

fn gathers(comm: &dyn Communicator) {
    // Some bring nothing; once, all bring nothing.
    let all = comm.gather(&vec![comm.rank() as u8; comm.rank() % 3]);
    assert!(all.iter().enumerate().all(|(rank, bytes)| *bytes == vec![rank as u8; rank % 3]));
    assert_eq!(comm.gather(&[]), vec![Vec::<u8>::new(); comm.size()]);
}

fn broadcasts(comm: &dyn Communicator) {
    for length in [0, 1, 1_000_001] {
        let bytes = if comm.is_root() { vec![7; length] } else { vec![1, 2, 3] };
        assert_eq!(comm.broadcast(bytes), vec![7; length]);
    }
}

fn agrees(comm: &dyn Communicator) {
    assert_eq!(agree(comm, Ok(comm.rank())).unwrap(), comm.rank());
    let last = comm.size() - 1;
    let mine = if comm.rank() == last { Err(Error::invalid("place", "this", "that", "do so")) } else { Ok(()) };
    let text = agree(comm, mine).unwrap_err().to_string();
    assert!(text.contains("place: found this"), "{text}");
    assert!(comm.size() == 1 || text.contains(&format!("rank {last} of {}", comm.size())), "{text}");
}

fn root_agrees(comm: &dyn Communicator) {
    assert_eq!(agree_root(comm, || Ok("done".to_owned())).unwrap(), "done");
    let failed = agree_root(comm, || Err(Error::invalid("place", "this", "that", "do so")));
    assert!(failed.unwrap_err().to_string().contains("place: found this"));
}

fn counts(comm: &dyn Communicator) {
    let before = comm.bytes_communicated();
    comm.sum_u64(&mut [1, 2, 3]);
    comm.barrier();
    assert_eq!(comm.bytes_communicated() - before, if comm.size() == 1 { 0 } else { 24 });
}

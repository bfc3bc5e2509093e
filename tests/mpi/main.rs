//! The MPI communicator under a real launcher. Started by `cargo test`, this program starts itself under `$MPIRUN` (default
//! `mpirun`) on several rank counts; started so, every rank runs every check against what it must be.

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use glasses::comm::{self, CHANNELS, Communicator, Wire, all_agree, on_root};
use glasses::error::Error;
use glasses::kernels::zeros;

/// Set for the ranks.
const INSIDE: &str = "GLASSES_MPI_TEST";

/// How many ranks share memory at most.
const NODE_RANKS: &str = "GLASSES_NODE_RANKS";

const LIMIT: Duration = Duration::from_secs(60);

/// A name and what every rank does under it.
type Check = (&'static str, fn(&dyn Communicator));

const CHECKS: [Check; 14] = [
    ("sums_are_the_same_on_every_rank", sums),
    ("ranks_know_who_shares_their_machine", machines),
    ("what_a_rank_writes_its_neighbours_read_after_a_node_barrier", memories),
    ("messages_arrive_whole_and_in_order", messages),
    ("messages_go_on_in_a_node_barrier", messages_and_node_barriers),
    ("numbers_of_all_ranks_stand_in_rank_order", numbers_of_all),
    ("gathered_bytes_keep_their_order_and_lengths", gathers),
    ("the_root_s_bytes_reach_everyone", broadcasts),
    ("an_error_on_one_rank_becomes_everyone_s", all_agree_on_errors),
    ("what_the_root_does_all_get_or_all_fail_with", the_root_s_result_reaches_all),
    ("parts_of_the_ranks_talk_among_themselves", parts),
    ("parts_come_and_go_with_their_memory", parts_come_and_go),
    ("a_sleeping_barrier_ends_with_its_last_rank", sleeping_barriers),
    ("bytes_are_counted_only_where_they_travel", counts),
];

fn main() -> ExitCode {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    let on = |ranks: usize| (format!("collectives_on_{ranks}_ranks"), ranks, None, None);
    let apart = |(ranks, most): (usize, usize)| {
        (format!("collectives_on_{ranks}_ranks_of_which_{most}_share_memory"), ranks, Some(most), None)
    };
    let panic = ("a_panic_on_one_rank_ends_all_of_them".to_owned(), 3, None, Some("panic"));
    let cases: Vec<(String, usize, Option<usize>, Option<&str>)> = [1, 2, 3, 4, 8]
        .map(on)
        .into_iter()
        .chain([(1, 2), (2, 1), (3, 2), (4, 2), (8, 2), (8, 3)].map(apart))
        .chain([panic])
        .collect();
    println!("\nrunning {} tests", cases.len());
    let mut failed = 0;
    for (name, ranks, most, trouble) in &cases {
        let verdict = launch(*ranks, *most, *trouble);
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

/// Starts this program on `ranks` ranks, of which at most `most` share memory; with `trouble` it must fail soon, without it must do well.
fn launch(ranks: usize, most: Option<usize>, trouble: Option<&str>) -> Result<(), String> {
    let launcher = std::env::var("MPIRUN").unwrap_or_else(|_| "mpirun".to_owned());
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut command = Command::new(&launcher);
    command.arg("-n").arg(ranks.to_string()).arg(program).env(INSIDE, trouble.unwrap_or("checks"));
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    command.env("OMPI_MCA_rmaps_base_oversubscribe", "1").env("OMPI_MCA_hwloc_base_binding_policy", "none");
    command.env("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe").stdin(Stdio::null());
    command.env_remove(NODE_RANKS);
    if let Some(most) = most {
        command.env(NODE_RANKS, most.to_string());
    }
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
    let comm = comm::world(&comm::launch(), false);
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
    comm.allreduce_f32(&mut mine, &mut total);
    let want = |i: usize| (i % 1000 * size) as f32 + triangle(comm) as f32;
    assert!(total.iter().enumerate().all(|(i, &sum)| sum == want(i)));
    let mut f64s = [rank as f64, 0.5];
    comm.allreduce_f64(&mut f64s);
    assert_eq!(f64s, [triangle(comm) as f64, 0.5 * size as f64]);
    let mut u64s = [rank as u64, u64::MAX / size as u64];
    comm.allreduce_u64(&mut u64s);
    assert_eq!(u64s, [triangle(comm), u64::MAX / size as u64 * size as u64]);
}

/// The ranks of a machine are neighbours, as many as GLASSES_NODE_RANKS allows, and all ranks say the same of all.
fn machines(comm: &dyn Communicator) {
    let (nodes, most) = (comm.nodes(), std::env::var(NODE_RANKS).map_or(comm.size(), |text| text.parse().unwrap()));
    assert_eq!((nodes.size(), nodes.count()), (comm.size(), comm.size().div_ceil(most)));
    assert_eq!(nodes.neighbours().start + nodes.place(), comm.rank());
    assert_eq!((nodes.of(comm.rank()), nodes.ranks(nodes.mine())), (nodes.mine(), nodes.neighbours()));
    let mut next = 0;
    for node in 0..nodes.count() {
        assert!(nodes.ranks(node).start == next && nodes.ranks(node).len() <= most, "{nodes:?}");
        next = nodes.ranks(node).end;
    }
    assert_eq!(next, comm.size());
    let mine: Vec<u8> = nodes.ends().map(|end| end as u8).collect();
    assert!(comm.allgather(&mine).iter().all(|theirs| *theirs == mine));
}

/// What a rank writes into shared memory its neighbours read after the node barrier: some share nothing, and there may be several pieces.
fn memories(comm: &dyn Communicator) {
    let nodes = comm.nodes();
    for (piece, len) in [(0, 100_003), (1, 0), (2, 17)] {
        let floats = |place: usize| if place % 3 == 1 { 0 } else { len + place };
        let mut parts = comm.allocate_shared(floats(nodes.place())).unwrap();
        assert_eq!(parts.len(), nodes.neighbours().len());
        for (place, part) in parts.iter().enumerate() {
            assert_eq!(part.len(), floats(place));
            assert!((part.address() as usize).is_multiple_of(64) && part.iter().all(|&value| value == 0.0));
        }
        comm.node_barrier();
        let value = |rank: usize, i: usize, round: usize| (rank * 1000 + i % 97 + round + piece) as f32;
        for round in 0..200 {
            let own = &mut parts[nodes.place()];
            let step = if round == 0 { 1 } else { 1009 };
            for i in (0..own.len()).step_by(step) {
                own[i] = value(comm.rank(), i, round);
            }
            comm.node_barrier();
            for (part, rank) in parts.iter().zip(nodes.neighbours()) {
                let right = (0..part.len()).step_by(step).all(|i| part[i] == value(rank, i, round));
                assert!(right, "what rank {rank} wrote in round {round}, as rank {} reads it", comm.rank());
            }
            // Nobody writes again before all have read.
            comm.node_barrier();
        }
    }
}

/// Everyone to everyone else, on several channels that are finished in another order than they were started in: large messages,
/// short ones, empty ones, and several on one channel, which keep their order.
fn messages(comm: &dyn Communicator) {
    // Numbers of at most eight significant bits are the same at half the width.
    [Wire::F32, Wire::Bf16, Wire::F32].into_iter().for_each(|wire| messages_of_width(comm, wire));
}

fn messages_of_width(comm: &dyn Communicator, wire: Wire) {
    let (rank, size) = (comm.rank(), comm.size());
    let others = || (0..size).filter(|&other| other != rank);
    let before = comm.bytes_communicated();
    let value =
        |channel: usize, from: usize, to: usize, i: usize| ((channel * 7 + from * 31 + to * 67 + i) % 251) as f32;
    let lengths = [(0, 500_000), (3, 1), (CHANNELS - 1, 0), (17, 4099)];
    let channels: Vec<_> = lengths
        .iter()
        .map(|&(channel, len)| {
            // One buffer for all: messages come from, and go to, parts of it.
            let (mut from, into) = (zeros(size * len), zeros(size * len));
            for to in others() {
                (0..len).for_each(|i| from[to * len + i] = value(channel, rank, to, i));
            }
            for other in others() {
                // In two messages, the second longer.
                let (start, middle, end) = (other * len, other * len + len / 3, (other + 1) * len);
                for place in [start..middle, middle..end] {
                    comm.receive(channel, other, &into, place.clone(), wire);
                    comm.send(channel, other, &from, place, wire);
                }
                comm.progress();
            }
            (channel, len, from, into)
        })
        .collect();
    for (channel, len, from, into) in channels.iter().rev() {
        comm.progress();
        comm.finish(*channel);
        for other in others() {
            assert!((0..*len).all(|i| into[other * len + i] == value(*channel, other, rank, i)));
        }
        assert!(into[rank * len..(rank + 1) * len].iter().all(|&value| value == 0.0));
        let _ = from;
    }
    let floats: usize = lengths.iter().map(|(_, len)| wire.floats(len / 3) + wire.floats(len - len / 3)).sum();
    assert_eq!(comm.bytes_communicated() - before, (4 * floats * (size - 1)) as u64);
    // Nothing is under way: there is nothing to wait for.
    (0..CHANNELS).for_each(|channel| comm.finish(channel));
    comm.progress();
}

/// Messages go on inside a node barrier, even where their receivers have not entered it.
fn messages_and_node_barriers(comm: &dyn Communicator) {
    let (rank, size) = (comm.rank(), comm.size());
    let (next, last) = ((rank + 1) % size, (rank + size - 1) % size);
    let (mut from, into) = (zeros(300_000), zeros(300_000));
    for round in 0..10 {
        from.fill((10 * rank + round) as f32);
        if size > 1 {
            comm.receive(5, last, &into, 0..300_000, Wire::F32);
            comm.send(5, next, &from, 0..300_000, Wire::F32);
        }
        (0..20).for_each(|_| comm.node_barrier());
        comm.finish(5);
        assert!(size == 1 || into.iter().all(|&value| value == (10 * last + round) as f32));
    }
}

fn numbers_of_all(comm: &dyn Communicator) {
    let mut all = vec![0.0; 2 * comm.size()];
    comm.allgather_f64(&[comm.rank() as f64, 0.5], &mut all);
    assert!(all.chunks(2).enumerate().all(|(rank, two)| two == [rank as f64, 0.5]));
}

fn gathers(comm: &dyn Communicator) {
    // Some bring nothing; once, all bring nothing.
    let all = comm.allgather(&vec![comm.rank() as u8; comm.rank() % 3]);
    assert!(all.iter().enumerate().all(|(rank, bytes)| *bytes == vec![rank as u8; rank % 3]));
    assert_eq!(comm.allgather(&[]), vec![Vec::<u8>::new(); comm.size()]);
}

fn broadcasts(comm: &dyn Communicator) {
    for length in [0, 1, 1_000_001] {
        let bytes = if comm.is_root() { vec![7; length] } else { vec![1, 2, 3] };
        assert_eq!(comm.broadcast(bytes), vec![7; length]);
    }
}

fn all_agree_on_errors(comm: &dyn Communicator) {
    assert_eq!(all_agree(comm, Ok(comm.rank())).unwrap(), comm.rank());
    let last = comm.size() - 1;
    let mine = if comm.rank() == last { Err(Error::invalid("place", "this", "that", "do so")) } else { Ok(()) };
    let text = all_agree(comm, mine).unwrap_err().to_string();
    assert!(text.contains("place: found this"), "{text}");
    assert!(comm.size() == 1 || text.contains(&format!("rank {last} of {}", comm.size())), "{text}");
}

fn the_root_s_result_reaches_all(comm: &dyn Communicator) {
    assert_eq!(on_root(comm, || Ok("done".to_owned())).unwrap(), "done");
    let failed = on_root(comm, || Err(Error::invalid("place", "this", "that", "do so")));
    assert!(failed.unwrap_err().to_string().contains("place: found this"));
}

fn counts(comm: &dyn Communicator) {
    let before = comm.bytes_communicated();
    comm.allreduce_u64(&mut [1, 2, 3]);
    comm.barrier();
    assert_eq!(comm.bytes_communicated() - before, if comm.size() == 1 { 0 } else { 24 });
}

/// Even and odd ranks, at different paces.
fn parts(comm: &dyn Communicator) {
    let (rank, size, parity) = (comm.rank(), comm.size(), comm.rank() % 2);
    let part = comm.split(parity);
    assert_eq!((part.rank(), part.size()), (rank / 2, (size + 1 - parity) / 2));
    assert_eq!(
        (part.nodes().size(), part.nodes().neighbours().start + part.nodes().place()),
        (part.size(), part.rank())
    );
    // Who shares memory in a part shares it in the whole.
    for other in part.nodes().neighbours() {
        assert_eq!(comm.nodes().of(2 * other + parity), comm.nodes().mine());
    }
    for _ in 0..=parity {
        let mut sum = [rank as u64];
        part.allreduce_u64(&mut sum);
        assert_eq!(sum[0], (0..size).filter(|other| other % 2 == parity).sum::<usize>() as u64);
        assert!(
            part.allgather(&[rank as u8]).iter().enumerate().all(|(at, theirs)| theirs[0] as usize == 2 * at + parity)
        );
        assert_eq!(part.broadcast(vec![rank as u8]), [parity as u8]);
        memories(part.as_ref());
        messages(part.as_ref());
    }
    all_agree_on_errors(part.as_ref());
    // A part of a part, and all of them at once with the whole.
    let alone = part.split(part.rank());
    assert_eq!((alone.rank(), alone.size(), alone.allgather(b"x").len()), (0, 1, 1));
    drop(alone);
    drop(part);
    comm.barrier();
    sums(comm);
}

/// Many, one after the other: what they take is given back.
fn parts_come_and_go(comm: &dyn Communicator) {
    let mut after_first = 0;
    for turn in 0..20 {
        let part = comm.split((comm.rank() + turn) % 2);
        let mut memory = part.allocate_shared(100_003).unwrap();
        memory[part.nodes().place()].fill(turn as f32);
        part.node_barrier();
        assert!(memory.iter().all(|theirs| theirs[100_002] == turn as f32));
        part.node_barrier();
        drop(memory);
        drop(part);
        comm.barrier();
        if turn == 1 {
            after_first = open_windows();
        }
    }
    assert!(open_windows() <= after_first, "{} mappings of windows became {}", after_first, open_windows());
}

/// Mappings of this process that are shared memory between ranks.
fn open_windows() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.lines().filter(|line| line.contains("/dev/shm") || line.contains("shared_mem") || line.contains("osc")).count()
}

fn sleeping_barriers(comm: &dyn Communicator) {
    let last = comm.rank() + 1 == comm.size();
    if last {
        std::thread::sleep(Duration::from_millis(200));
    }
    let start = Instant::now();
    comm.sleeping_barrier();
    assert!(last || start.elapsed() > Duration::from_millis(50));
}

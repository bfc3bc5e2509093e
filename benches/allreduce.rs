//! The gradients of a whole network become one sum on every rank of a machine: through shared memory in the fixed tree, as training does
//! it, against `MPI_Allreduce`, in turns. Start it under a launcher: `benches/exchange.sh` does.

use std::process::ExitCode;
use std::time::Instant;

use glasses::comm::{self, Communicator};
use glasses::kernels::{ReductionTree, zeros};

/// Parameters of the paper's network at 80x80.
const PARAMETERS: usize = 6_578_674;

const ROUNDS: usize = 41;

/// One shard a rank: every rank brings one sum.
fn tree(comm: &dyn Communicator) -> ReductionTree {
    let mut tree = ReductionTree::default();
    tree.build(&vec![1; comm.size()], 1..=comm.size(), comm.rank());
    tree
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() -> ExitCode {
    let comm = comm::world(&comm::launch(), false);
    let comm = comm.as_ref();
    let (rank, size) = (comm.rank(), comm.size());
    if size == 1 || comm.nodes().count() > 1 {
        eprintln!("start it on several ranks of one machine: benches/exchange.sh");
        return ExitCode::from(if std::env::args().any(|arg| arg == "--test") { 0 } else { 2 });
    }
    // The sum of each rank, and one place for the total.
    let parts = match comm.allocate_shared(2 * PARAMETERS) {
        Ok(parts) => parts,
        Err(refused) => {
            eprintln!("no shared memory: {refused}");
            return ExitCode::FAILURE;
        }
    };
    let sums: Vec<_> = parts.iter().map(|part| part.part(0..PARAMETERS)).collect();
    let mut total = parts[0].part(PARAMETERS..2 * PARAMETERS);
    let (mut own, mut mine, mut summed) = (sums[rank].alias(), zeros(PARAMETERS), zeros(PARAMETERS));
    let value = |rank: usize, index: usize| (rank + 1) as f32 + (index % 1000) as f32;
    let tree = tree(comm);
    let lines = PARAMETERS.div_ceil(16);
    let slice = lines * rank / size * 16..(lines * (rank + 1) / size * 16).min(PARAMETERS);
    let (mut window, mut allreduce) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS + 2 {
        own.iter_mut().enumerate().for_each(|(index, sum)| *sum = value(rank, index));
        comm.barrier();
        let start = Instant::now();
        comm.node_barrier();
        tree.merge_slices(|sum| &sums[sum][slice.clone()], &mut total[slice.clone()]);
        comm.node_barrier();
        let first = start.elapsed().as_secs_f64();
        mine.copy_from_slice(&own);
        comm.barrier();
        let start = Instant::now();
        comm.allreduce_f32(&mut mine, &mut summed);
        let second = start.elapsed().as_secs_f64();
        comm.barrier();
        let want = |index: usize| (0..size).map(|rank| value(rank, index)).sum::<f32>();
        for index in [0, 17, PARAMETERS / 2, PARAMETERS - 1] {
            assert!(total[index] == want(index) && summed[index] == want(index), "the sum at {index}");
        }
        if round >= 2 {
            window.push(first);
            allreduce.push(second);
        }
    }
    if comm.is_root() {
        let (window, allreduce) = (1e3 * median(window), 1e3 * median(allreduce));
        println!("| {size} | {window:.2} | {allreduce:.2} | {:.1} |", allreduce / window);
    }
    ExitCode::SUCCESS
}

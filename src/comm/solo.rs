//! One rank, no MPI: every sum is already complete.

use std::ops::Range;

use super::{Communicator, Nodes, Wire};
use crate::kernels::{Buffer, zeros};

/// The communicator of a program that runs alone.
#[derive(Debug)]
pub struct Solo {
    nodes: Nodes,
}

impl Default for Solo {
    fn default() -> Solo {
        Solo { nodes: Nodes::apart(1, 0) }
    }
}

impl Communicator for Solo {
    fn rank(&self) -> usize {
        0
    }
    fn size(&self) -> usize {
        1
    }
    fn allreduce_f32(&self, mine: &mut Buffer, total: &mut Buffer) {
        std::mem::swap(mine, total);
    }
    fn has_processes(&self) -> bool {
        false
    }
    fn nodes(&self) -> &Nodes {
        &self.nodes
    }
    fn allocate_shared(&self, floats: usize) -> Result<Vec<Buffer>, String> {
        Ok(vec![zeros(floats)])
    }
    fn node_barrier(&self) {}
    fn send(&self, _channel: usize, to: usize, _from: &Buffer, _place: Range<usize>, _wire: Wire) {
        unreachable!("rank {to} of one");
    }
    fn receive(&self, _channel: usize, from: usize, _into: &Buffer, _place: Range<usize>, _wire: Wire) {
        unreachable!("rank {from} of one");
    }
    fn progress(&self) {}
    fn finish(&self, _channel: usize) {}
    fn allgather_f64(&self, mine: &[f64], all: &mut [f64]) {
        all.copy_from_slice(mine);
    }
    fn allreduce_f64(&self, _values: &mut [f64]) {}
    fn allreduce_u64(&self, _values: &mut [u64]) {}
    fn allgather(&self, mine: &[u8]) -> Vec<Vec<u8>> {
        vec![mine.to_vec()]
    }
    fn broadcast(&self, bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }
    fn barrier(&self) {}
    fn sleeping_barrier(&self) {}
    fn split(&self, _colour: usize) -> Box<dyn Communicator + '_> {
        Box::new(Solo::default())
    }
    fn bytes_communicated(&self) -> u64 {
        0
    }
    fn abort(&self, code: i32) -> ! {
        std::process::exit(code)
    }
    fn describe(&self) -> String {
        "no launcher, no messages".to_owned()
    }
}

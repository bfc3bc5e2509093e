//! One rank, no MPI: every sum is already complete.

use super::Communicator;
use crate::kernels::{Buffer, Subtrees};

/// The communicator of a program that runs alone.
#[derive(Debug, Default)]
pub struct Solo {}

impl Communicator for Solo {
    fn rank(&self) -> usize {
        0
    }
    fn size(&self) -> usize {
        1
    }
    fn sum_f32(&self, mine: &mut Buffer, total: &mut Buffer) {
        std::mem::swap(mine, total);
    }
    fn scatter_sums<'a>(&self, tree: &Subtrees, sum: &dyn Fn(usize) -> &'a [f32], slice: &mut [f32]) {
        tree.join_slices(sum, slice);
    }
    fn gather_slices(&self, slice: &[f32], whole: &mut [f32]) {
        whole.copy_from_slice(slice);
    }
    fn gather_f64(&self, mine: &[f64], all: &mut [f64]) {
        all.copy_from_slice(mine);
    }
    fn sum_f64(&self, _values: &mut [f64]) {}
    fn sum_u64(&self, _values: &mut [u64]) {}
    fn gather(&self, mine: &[u8]) -> Vec<Vec<u8>> {
        vec![mine.to_vec()]
    }
    fn broadcast(&self, bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }
    fn barrier(&self) {}
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

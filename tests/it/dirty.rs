//! Memory that MPI gives need not be zeros: a run begins with zeros all the same.

use std::path::Path;
use std::process::Command;

use crate::fixtures::faces;
use crate::ranks::assert_same_run;
use crate::run::{glasses, shell, skipped};

/// Stands before MPI's own: what it gives is filled with what is no number.
const DIRTY: &str = r#"
#include <mpi.h>
#include <string.h>
int MPI_Win_allocate_shared(MPI_Aint size, int unit, MPI_Info info, MPI_Comm comm, void *base, MPI_Win *window) {
    int code = PMPI_Win_allocate_shared(size, unit, info, comm, base, window);
    if (code == MPI_SUCCESS) memset(*(void **) base, 0xff, size);
    return code;
}
"#;

fn compile(dir: &Path) -> bool {
    std::fs::write(dir.join("dirty.c"), DIRTY).unwrap();
    let mut compiler = Command::new("mpicc");
    let end = compiler.args(["-shared", "-fPIC", "-o", "dirty.so", "dirty.c"]).current_dir(dir).output();
    end.is_ok_and(|end| end.status.success())
}

#[test]
fn a_window_full_of_something_begins_with_zeros() {
    let folder = faces();
    let dir = folder.path();
    if !compile(dir) {
        return skipped("a_window_full_of_something_begins_with_zeros", "mpicc does not compile");
    }
    let train = "train --data faces.h5 --model tiny.toml --epochs 2 --batch 9 --digest-every 1 --optimizer adam";
    glasses(&format!("{train} --out alone").split(' ').collect::<Vec<_>>(), dir).success();
    // All on one machine; on two.
    for (ranks, most) in [(2, 8), (4, 2)] {
        for comm in ["reduce", "factors", "split"] {
            let out = format!("{comm}-{ranks}");
            let line = format!(
                "GLASSES_NODE_RANKS={most} ${{MPIRUN:-mpirun}} -n {ranks} env LD_PRELOAD=$PWD/dirty.so $GLASSES \
                 {train} --window on --comm {comm} --out {out}"
            );
            shell(&line, dir).success();
            assert_same_run(&dir.join(&out), &dir.join("alone"), &out);
        }
    }
}

//! Valid HDF5 files with hostile shapes, types, attributes, layouts, links and filters, read in this process.

#![no_main]

use glasses::checkpoint;
use glasses::data::{Dataset, Split};
use glasses_fuzz::foreign::{Foreign, Kind};
use glasses_fuzz::within;

libfuzzer_sys::fuzz_target!(|foreign: Foreign| {
    let mut foreign = foreign;
    foreign.damage.clear();
    let folder = tempfile::tempdir_in("/dev/shm").expect("room in memory");
    let path = foreign.write(folder.path());
    let length = std::fs::metadata(&path).expect("it is there").len() as usize;
    // Values in memory may be 8 times as wide as in the file; names have a limit of their own.
    within((64 << 20) + 1032 * 16 * length, || match foreign.kind {
        Kind::Model => drop(checkpoint::read(&path)),
        Kind::State => {
            if let Ok(state) = checkpoint::read_state(&path) {
                let _ = state.look();
                let _ = state.tensor("params/conv0.weight", &[3, 3, 1, 2]);
            }
        }
        _ => {
            if let Ok(dataset) = Dataset::open(&path) {
                for split in Split::ALL {
                    let _ = dataset.look(split);
                    let _ = dataset.read(split, 0..dataset.rows(split));
                }
            }
        }
    });
});

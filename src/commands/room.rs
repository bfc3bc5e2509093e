//! Whether this machine has the memory that a model's network takes: a small file can describe a large one.

use std::path::Path;

use crate::error::{Error, Result};
use crate::model::{Model, Workspace};

/// How many rows, at most `batch`, each of `workers` may have in the network at once.
///
/// # Errors
/// When not even one row fits.
pub fn rows(model: &Model, batch: usize, workers: usize, place: &Path) -> Result<usize> {
    let available = available();
    let bytes = |rows: usize| Workspace::inference_bytes(model, rows).saturating_mul(workers);
    let fits = |rows: &usize| available.is_none_or(|available| bytes(*rows) <= available);
    let halves = std::iter::successors(Some(batch), |&rows| (rows > 1).then_some(rows / 2));
    halves.clone().find(fits).ok_or_else(|| {
        Error::invalid(
            place.display().to_string(),
            format!("a network that takes {} bytes for one row", bytes(1)),
            format!("at most the {} that this machine has free", available.unwrap_or(0)),
            "use a machine with more memory, or a model of smaller pictures",
        )
    })
}

/// Bytes that the system would give without swapping, where it says so (Linux).
fn available() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<usize>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Engine;
    use crate::model::ModelSpec;

    #[test]
    fn a_small_network_has_all_its_rows_and_one_larger_than_the_machine_is_refused() {
        let model = |layers: &str, side: usize| {
            let spec = ModelSpec::parse(&format!("name = \"m\"\nlayers = [{layers}]"), "m").unwrap();
            Model::new(spec, [side, side, 1], false, 2, Engine::Direct).unwrap()
        };
        let small = model("\"flatten\", \"dense classes\"", 8);
        assert_eq!(rows(&small, 32, 2, Path::new("m.h5")).unwrap(), 32);
        let conv = "\"conv 1x1x32\", \"tanh\"";
        let large = model(&format!("{}, \"global_avgpool\", \"dense classes\"", [conv; 64].join(", ")), 16383);
        let message = rows(&large, 32, 1000, Path::new("m.h5")).unwrap_err().to_string();
        assert!(message.contains("m.h5: found a network that takes "), "{message}");
    }
}

//! Whether this machine has the memory that networks take: a small file can describe a large one.

use std::path::Path;

use super::{Model, Workspace};
use crate::error::{Error, Result};
use crate::memory::available;

/// How many rows, at most `batch`, each of `workers` of this machine may have in the networks of `models` at once. `place` is where
/// these come from.
///
/// # Errors
/// When not even one row fits.
pub fn rows<'a>(
    models: impl Iterator<Item = &'a Model> + Clone,
    batch: usize,
    workers: usize,
    place: &Path,
) -> Result<usize> {
    let available = available();
    let bytes = |rows: usize| {
        let each =
            models.clone().fold(0, |sum: usize, model| sum.saturating_add(Workspace::inference_bytes(model, rows)));
        each.saturating_mul(workers)
    };
    let fits = |rows: &usize| available.is_none_or(|available| bytes(*rows) <= available);
    let mut halves = std::iter::successors(Some(batch), |&rows| (rows > 1).then_some(rows / 2));
    halves.find(fits).ok_or_else(|| {
        Error::invalid(
            place.display().to_string(),
            format!("a network that takes {} bytes for one row of each worker here", bytes(1)),
            format!("at most the {} that are free here", available.unwrap_or(0)),
            "start fewer ranks a machine, use one with more memory, or a model of smaller pictures",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Engine;
    use crate::model::ModelSpec;

    #[test]
    fn a_small_network_has_all_its_rows_and_one_larger_than_the_machine_is_refused() {
        let model = |layers: &str, side: usize| {
            let spec = ModelSpec::parse(&format!("name = \"m\"\nlayers = [{layers}]"), "m").unwrap();
            Model::new(spec, [side, side, 1], false, 2, Engine::Direct).unwrap()
        };
        let place = Path::new("m.h5");
        let small = model("\"flatten\", \"dense classes\"", 8);
        assert_eq!(rows([&small, &small].into_iter(), 32, 2, place).unwrap(), 32);
        let conv = "\"conv 1x1x32\", \"tanh\"";
        let large = model(&format!("{}, \"global_avgpool\", \"dense classes\"", [conv; 64].join(", ")), 16383);
        // The second of several counts, too.
        let message = rows([&small, &large].into_iter(), 32, 1000, place).unwrap_err().to_string();
        assert!(message.contains("m.h5: found a network that takes "), "{message}");
    }
}

//! What a run leaves to go on from: its model (`model.h5`, for those who use it) and its state (`step-….h5`, for the run
//! itself). Both are HDF5 files that are built in memory and written as bytes, whole or not at all.

mod described;
mod folder;
mod image;
mod model;
mod state;

pub use described::{Described, read};
pub use folder::Checkpoints;
pub use model::{SavedModel, is_model, look, write};
pub use state::{State, Tensor, is_state, read_state, write_state};

//! `glasses` trains convolutional image classifiers from scratch on clusters of CPUs.
//!
//! Data flows one way, and each module may use only what stands below it here; see `ARCHITECTURE.md`.

pub mod advice;
pub mod cli;
pub mod commands;
pub mod data;
pub mod train;
pub mod config;
pub mod export;
pub mod checkpoint;
pub mod metrics;
pub mod report;
pub mod tensorboard;
pub mod doctor;
pub mod model;
pub mod optim;
pub mod comm;
#[doc(inline)]
pub use glasses_kernels as kernels;
pub mod files;
pub mod memory;
pub mod lock;
pub mod trace;
pub mod stopwatch;
pub mod position;
pub mod launch;
pub mod signals;
pub mod error;
pub mod plural;
pub mod row_count;

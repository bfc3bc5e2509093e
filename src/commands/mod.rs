//! The subcommands, one file each: its options (clap derives the help from their docs) and what it does.

pub mod bench;
pub mod completions;
pub mod doctor;
mod ensemble;
pub mod eval;
mod explain;
pub mod export;
mod folder;
pub mod import;
pub mod info;
pub mod plan;
pub mod predict;
pub mod probe;
pub mod report;
pub mod sweep;
pub mod synth;
pub mod train;
pub mod verify;
pub mod watch;
pub mod version;
pub mod ingest;

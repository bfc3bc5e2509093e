//! Tests of the whole program, through its binary and its library.

mod fixtures;
mod run;

mod bad_input;
mod bad_settings;
mod bench;
mod checkpoint_file;
mod cli;
mod dense_parts;
mod elementwise;
mod explain;
mod golden;
mod gradients;
mod ingest;
mod isa;
mod kernels;
mod layout;
mod losses;
mod memory;
mod plain;
mod plans;
mod ranks;
mod report;
mod resume;
mod synth;
mod tiles;
mod trace;
mod using;
mod watch;
mod winograd;

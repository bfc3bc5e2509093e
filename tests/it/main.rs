//! Tests of the whole program, through its binary and its library.

mod fixtures;
mod run;

mod at_hand;
mod bad_input;
mod bad_settings;
mod bench;
mod checkpoint_file;
mod cli;
mod dense_parts;
mod docs;
mod elementwise;
mod explain;
mod export;
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
mod predict;
mod python;
mod ranks;
mod report;
mod resume;
mod synth;
mod tensorboard;
mod tiles;
mod trace;
mod using;
mod watch;
mod winograd;

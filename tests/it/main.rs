//! Tests of the whole program, through its binary and its library.

mod fixtures;
mod run;

mod bad_input;
mod bad_settings;
mod bench;
mod cli;
mod golden;
mod gradients;
mod ingest;
mod layout;
mod losses;
mod ranks;
mod synth;
mod using;

//! Tests of the whole program, through its binary and its library.

mod run;

mod golden;
mod gradients;
mod ingest;
mod layout;
mod losses;
mod ranks;
mod synth;

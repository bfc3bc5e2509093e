#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| glasses_fuzz::fuzz("csv", bytes));

//! See `flaredb_fuzz::TARGETS`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flaredb_fuzz::run("snapshot_parts", data));

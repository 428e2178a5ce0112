#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| codis_fuzz::keys(data));

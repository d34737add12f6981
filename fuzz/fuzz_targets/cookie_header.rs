#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| cloakroom::fuzzing::cookie_header(input));

//! Any bytes as a client's end of an HTTP connection: whole answers, and the same however it is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memwire_fuzz::http::serve_however_cut;

fuzz_target!(|input: &[u8]| serve_however_cut(input));

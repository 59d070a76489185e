//! Any bytes as a client's end of a text connection, served whole: the same answers however it is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memwire_fuzz::text::serve_however_cut;

fuzz_target!(|input: &[u8]| serve_however_cut(input));

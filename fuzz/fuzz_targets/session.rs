//! Any bytes as a client's end of a connection, served whole: the same answers however it is cut, and every request
//! that is owed an answer gets one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memwire_fuzz::session::serve_however_cut;

fuzz_target!(|input: &[u8]| serve_however_cut(input));

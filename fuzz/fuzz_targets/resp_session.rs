//! Any bytes as the end of a client that speaks Redis's protocol: the same answers however it is cut, all of them well
//! formed, and one for each request.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memwire_fuzz::resp::serve_however_cut;

fuzz_target!(|input: &[u8]| serve_however_cut(input));

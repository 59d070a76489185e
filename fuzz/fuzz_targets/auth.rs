//! Any bytes as what a stranger sends: nobody gets in who does not know a password.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memwire_fuzz::auth::be_a_stranger;

fuzz_target!(|input: &[u8]| {
    be_a_stranger(input);
});

//! Any bytes as a password file, and as what a stranger sends: nobody gets in who does not know a password.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memwire_fuzz::auth::{be_a_stranger, read_as_password_file};

fuzz_target!(|input: &[u8]| {
    read_as_password_file(input);
    be_a_stranger(input);
});

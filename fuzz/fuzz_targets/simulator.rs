//! Any bytes as the choices of a simulated run: who does the next step, what clients ask for, how it is cut up, what time
//! it is. Every client reads what it is owed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memwire_simulator::{Options, Source, run};

/// More than an input has choices for.
const STEPS_MAX: u32 = 4000;

fuzz_target!(|input: &[u8]| {
    if let Err(failure) = run(Source::from_bytes(input), Options::of_build(STEPS_MAX)) {
        panic!("{failure}");
    }
});

//! Runs from fixed seeds, and faults that they must find.
//!
//! ```text
//! MEMWIRE_SIM_SEEDS=1000..2000 cargo test -p memwire-simulator --test seeds     # other seeds
//! ```

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use memwire_simulator::{Fault, Options, Report, Source, run};

/// Seeds that are always run.
const SEEDS: Range<u64> = 0..150;
const STEPS: u32 = 3000;

fn sound() -> Options {
    Options { steps_max: STEPS, fault: None }
}

/// The seeds to run: those that are asked for by name, or else those that always run.
fn seeds() -> Range<u64> {
    let Ok(asked) = std::env::var("MEMWIRE_SIM_SEEDS") else { return SEEDS };
    let parsed = asked.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    parsed.unwrap_or_else(|| panic!("MEMWIRE_SIM_SEEDS={asked}: not of the form FROM..TO"))
}

#[test]
fn every_client_reads_what_it_is_owed() {
    let mut sum = Report::default();
    for seed in seeds() {
        match run(Source::from_seed(seed), sound()) {
            Ok(report) => sum.add(&report),
            Err(failure) => panic!("{failure}"),
        }
    }
    println!("{sum:#?}");
    if seeds() == SEEDS {
        let Report { large_hits, quiet, refusals, evicted, malformed, .. } = sum;
        let Report { snapshots, begun_anew, restarts, restored, .. } = sum;
        let Report { waits, waits_told, waits_over, waits_refused, .. } = sum;
        let Report { admitted, rejected, .. } = sum;
        let Report { put_back, late_answers, short_writes, without_room, stalled, .. } = sum;
        for (what, count, least) in [
            ("large values read", large_hits, 500),
            ("quiet requests", quiet, 5000),
            ("refusals", refusals, 20),
            ("evictions", evicted, 100),
            ("malformed requests", malformed, 500),
            ("requests put back", put_back, 50),
            ("late answers", late_answers, 3),
            ("short writes", short_writes, 2000),
            ("values without room", without_room, 300),
            ("values that stalled", stalled, 50),
            ("clients let in", admitted, 300),
            ("wrong passwords", rejected, 300),
            ("waits", waits, 500),
            ("waits that were told", waits_told, 60),
            ("waits that were over", waits_over, 300),
            ("waits that were refused", waits_refused, 10),
            ("snapshots", snapshots, 500),
            ("snapshots begun anew", begun_anew, 5),
            ("restarts", restarts, 100),
            ("items restored", restored, 1000),
        ] {
            assert!(count >= least, "{what}: {count} in all runs, should be {least} at least");
        }
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [3, 7, 40] {
        let [first, second] =
            [0, 1].map(|_| run(Source::from_seed(seed), sound()).map(|report| report.trace));
        assert_eq!(first, second, "seed {seed}");
    }
    let traces: Vec<_> =
        (0..8).map(|seed| run(Source::from_seed(seed), sound()).map(|report| report.trace)).collect();
    assert!(traces.windows(2).all(|pair| pair[0] != pair[1]), "other seeds are other runs: {traces:?}");
}

/// Whether a fault is found by several of the first seeds, and not by one that happened to be right for it.
fn is_found(fault: Fault) {
    const NEEDED: usize = 3;
    let mut found = Vec::new();
    for seed in SEEDS {
        let options = Options { fault: Some(fault), ..sound() };
        // The server may notice before any client does.
        let Ok(Ok(_)) = catch_unwind(AssertUnwindSafe(|| run(Source::from_seed(seed), options))) else {
            found.push(seed);
            if found.len() == NEEDED {
                return;
            }
            continue;
        };
    }
    panic!("{fault:?} is found by the seeds {found:?} alone");
}

#[test]
fn answers_to_the_next_occupant_of_a_slot_are_found() {
    is_found(Fault::NextOccupant);
}

#[test]
fn a_batch_executed_at_an_older_time_is_found() {
    is_found(Fault::OldClock);
}

#[test]
fn a_value_that_changes_while_it_is_written_is_found() {
    is_found(Fault::TornValue);
}

#[test]
fn an_event_that_is_lost_is_found() {
    is_found(Fault::LostEvent);
}

#[test]
fn a_piece_of_a_snapshot_that_is_lost_is_found() {
    is_found(Fault::LostPiece);
}

#[test]
fn a_change_that_nobody_is_told_of_is_found() {
    is_found(Fault::LostChange);
}

#[test]
fn one_who_has_waited_and_is_not_forgotten_is_found() {
    is_found(Fault::ForgottenWaiter);
}

#[test]
fn another_password_than_the_right_one_is_found() {
    is_found(Fault::OtherPassword);
}

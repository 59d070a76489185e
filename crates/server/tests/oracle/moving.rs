//! Values that are read on one thread while another one moves, overwrites and frees everything around them.
//!
//! Small enough for Miri: `cargo +nightly miri test -p memwire --test oracle -- moving`.

use std::sync::mpsc;
use std::thread;

use bytes::Bytes;
use memwire::limits::LENT_BYTES_MIN;
use memwire::storage::EngineConfig;
use memwire::storage::engine::{Stress, WhenFull};

use crate::world::{Answer, Ask, Hashes, World, tiny};

const ROUNDS: u8 = if cfg!(miri) { 3 } else { 200 };
const KEYS: u8 = if cfg!(miri) { 4 } else { 8 };

/// The value under a key in a round: one byte, so often that it is lent, and that a segment holds few.
fn value(key: u8, round: u8) -> Vec<u8> {
    vec![key ^ round.wrapping_mul(31); LENT_BYTES_MIN + usize::from(key) * 500]
}

#[test]
fn what_another_thread_reads_stays_as_it_was_while_everything_moves() {
    for when_full in [WhenFull::Evict, WhenFull::Refuse] {
        let config = tiny(when_full);
        let engine = EngineConfig { stress: Stress::Relocate, ..config.engine() };
        let mut world = World::with_engine(config, engine, Hashes::Spread);
        world.batches_lent = 2;
        let (lend, loans) = mpsc::sync_channel::<(u8, Bytes)>(3);
        let reader = thread::spawn(move || {
            loans.iter().filter(|(byte, loan)| loan.iter().all(|at| at == byte)).count()
        });
        let mut read = 0;
        for round in 0..ROUNDS {
            for key in 0..KEYS {
                let name = format!("k{key}");
                world.ask_one(Ask::set(&name, value(key, round)));
                let batch = world.executed(&[vec![Ask::get(&name)]]);
                for loan in &batch.lent {
                    read += 1;
                    lend.send((value(key, round)[0], loan.clone())).unwrap();
                }
                // In its place, elsewhere, or not at all.
                match round % 3 {
                    0 => world.ask_one(Ask::set(&name, vec![0xee; value(key, round).len()])),
                    1 => world.ask_one(Ask::set(&name, vec![0xee; 9])),
                    _ => world.ask_one(Ask::delete(&name)),
                };
            }
            world.engine.verify().unwrap();
        }
        drop(lend);
        assert_eq!(reader.join().unwrap(), read, "with {when_full:?}");
        assert!(read >= usize::from(ROUNDS) * usize::from(KEYS) / 2, "{read} values were lent");
        assert_eq!(world.ask_one(Ask::get("nobody")), Answer::NotFound);
    }
}

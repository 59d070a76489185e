//! What the engine does for what others hold: it makes room for large values on their way in, and pins no more for
//! answers when clients hold too much.

use std::sync::Arc;

use memwire::config::Config;
use memwire::figures::Group;
use memwire::limits::{CROWDED_BYTES_PER_RUN, PACKED_BYTES_PER_RUN};
use memwire::message::{Command, Refusal};
use memwire::meter::{Charge, Crowding, Use};
use memwire::storage::block::Block;
use memwire::storage::engine::WhenFull;

use crate::world::{Answer, Ask, Hashes, World, tiny};

const MIB: usize = 1 << 20;
const NO_MEMORY: Answer = Answer::Refused(Refusal::OutOfMemory);

fn reserve(bytes: usize) -> Ask {
    Ask::new("", Command::Reserve { bytes })
}

/// A world of 1 MiB that is full of small items.
fn full(when_full: WhenFull) -> World {
    let mut world = World::new(tiny(when_full), Hashes::Spread);
    world.ask((0..2500).map(|number| Ask::set(&format!("key:{number}"), vec![b'v'; 500])));
    world
}

/// A world with some values, and a charge for what clients hold.
fn crowdable() -> (World, Charge) {
    let mut world = World::ample();
    for len in [100, PACKED_BYTES_PER_RUN + 1, 8000, CROWDED_BYTES_PER_RUN + 1, 100_000] {
        world.ask_one(Ask::set(&len.to_string(), vec![b'v'; len]));
    }
    let waiting = Charge::new(&world.meter, Use::Waiting);
    (world, waiting)
}

#[test]
fn room_for_a_large_value_is_made_by_evicting() {
    let mut world = full(WhenFull::Evict);
    let mut block = Block::unreserved(600_000, &world.meter).unwrap();
    let before = world.figures();
    for _ in 0..6 {
        let bytes = block.reserve(100_000);
        assert_eq!(world.ask_one(reserve(bytes)), Answer::Done);
        assert!(world.engine.used_bytes() <= world.config.memory_bytes_max);
    }
    let after = world.figures();
    assert!(after.counters.evictions > before.counters.evictions);
    assert!(
        after.item_count > 100,
        "no more was evicted than had to be: {} items are left",
        after.item_count
    );
}

#[test]
fn room_that_cannot_be_made_is_refused() {
    let mut world = full(WhenFull::Refuse);
    let before = world.figures();
    let block = Block::new(100_000, &world.meter).unwrap();
    assert_eq!(world.ask_one(reserve(100_000)), NO_MEMORY);
    drop(block);
    assert_eq!(world.ask_one(reserve(0)), Answer::Done);
    assert_eq!(world.figures().item_count, before.item_count, "nothing was evicted for it");

    let mut world = full(WhenFull::Evict);
    let _others: Vec<_> = (0..4).map(|_| Block::new(300_000, &world.meter).unwrap()).collect();
    assert_eq!(world.ask_one(reserve(300_000)), NO_MEMORY);
}

#[test]
fn room_for_many_is_made_a_few_at_a_time() {
    let mut world = World::ample();
    let runs: Vec<_> = (0..8).map(|_| vec![reserve(MIB)]).collect();
    let executed: Vec<_> = world.execute(&runs).iter().map(Vec::len).collect();
    assert_eq!(executed, [1, 1, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn what_is_left_is_told_after_each_batch() {
    let mut world = World::ample();
    world.ask_one(Ask::get("k"));
    let block = Block::new(60 * MIB, &world.meter).unwrap();
    assert!(world.meter.take_room(60 * MIB), "nobody has looked yet");
    world.ask_one(Ask::get("k"));
    assert!(!world.meter.take_room(4 * MIB) && world.meter.take_room(3 * MIB));
    drop(block);
    world.engine.maintain(world.now);
    assert!(world.meter.take_room(60 * MIB));
}

#[test]
fn a_crowded_server_answers_small_values_and_refuses_long_ones() {
    let (mut world, mut waiting) = crowdable();
    let lengths = |world: &mut World| -> Vec<usize> {
        let keys = ["100", "1025", "8000", "16385", "100000"];
        let answers = world.ask(keys.map(Ask::get));
        assert!(answers.iter().all(|answer| answer.value_len() > 0 || *answer == NO_MEMORY), "{answers:?}");
        answers.iter().map(Answer::value_len).collect()
    };
    assert_eq!(lengths(&mut world), [100, 1025, 8000, 16_385, 100_000]);
    waiting.set(17 * MIB);
    assert_eq!(world.meter.crowding(), Crowding::Crowded);
    assert_eq!(lengths(&mut world), [100, 1025, 8000, 0, 0]);
    waiting.set(41 * MIB);
    assert_eq!(world.meter.crowding(), Crowding::Packed);
    assert_eq!(lengths(&mut world), [100, 0, 0, 0, 0]);
    assert_eq!(world.figures().counters.get_no_memory, 2 + 4);
    waiting.set(0);
    assert_eq!(lengths(&mut world), [100, 1025, 8000, 16_385, 100_000]);
}

#[test]
fn a_crowded_server_answers_less_at_a_time() {
    let (mut world, mut waiting) = crowdable();
    let run = |len: &str| vec![Ask::get(len); 100];
    let mut executed = |waits: usize, len| {
        waiting.set(waits * MIB);
        let answers = world.execute(&[run(len), run(len)]);
        (answers[0].len(), answers[1].len())
    };
    assert_eq!(executed(0, "8000"), (33, 33), "up to 256 KiB");
    assert_eq!(executed(17, "8000"), (3, 3), "up to 16 KiB");
    assert_eq!(executed(41, "100"), (11, 11), "up to 1 KiB");
}

#[test]
fn a_value_that_is_being_sent_may_be_sent_to_others_however_crowded_it_is() {
    let (mut world, mut waiting) = crowdable();
    let under_way = world.executed(&[vec![Ask::get("100000")]]);
    waiting.set(17 * MIB);
    assert_eq!(world.ask_one(Ask::get("100000")).value_len(), 100_000);
    drop(under_way);
    assert_eq!(world.ask_one(Ask::get("100000")), NO_MEMORY);
}

#[test]
fn values_that_only_answers_hold_make_it_crowded() {
    let config = Config { item_bytes_max: 4 * MIB, ..Config::default() };
    let mut world = World::new(config, Hashes::Spread);
    let mut under_way = Vec::new();
    for number in 0..5 {
        let key = number.to_string();
        world.ask_one(Ask::set(&key, vec![b'v'; 4 * MIB]));
        under_way.push(world.executed(&[vec![Ask::get(&key)]]));
        assert_eq!(world.meter.crowding(), Crowding::Ample, "{number} are stored and being sent");
    }
    for number in 0..5 {
        assert_eq!(world.meter.crowding(), Crowding::Ample, "{number} are held by their answers alone");
        world.ask_one(Ask::delete(&number.to_string()));
    }
    assert_eq!(world.meter.crowding(), Crowding::Crowded);
    assert_eq!(world.meter.gauge(Use::Orphaned), 20 * MIB);
    under_way.pop();
    assert_eq!((world.meter.crowding(), world.meter.blocks()), (Crowding::Ample, 16 * MIB));
}

#[test]
fn a_crowded_server_tells_figures_and_refuses_dumps() {
    let mut world = World::new(Config { detail_enabled: true, ..Config::default() }, Hashes::Spread);
    world.ask((0..500).map(|number| Ask::set(&format!("{number:0>200}:"), "")));
    let _waiting = Charge::of(64 * MIB, &Arc::clone(&world.meter), Use::Waiting);
    let asked = [Group::General, Group::DetailDump].map(|group| Ask::new("", Command::Stats(group)));
    assert_eq!(world.ask(asked), [Answer::Done, NO_MEMORY]);
}

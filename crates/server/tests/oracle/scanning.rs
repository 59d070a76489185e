//! The walk over all items, while items come, go and move.

use std::collections::HashMap;

use memwire::config::Config;
use memwire::message::{Command, Reply};
use memwire::storage::EngineConfig;
use memwire::storage::engine::{Stress, WhenFull};

use crate::world::{Ask, Hashes, World, tiny};

/// One step of the walk: where it goes on, and the keys that it met.
fn step(world: &mut World, cursor: u64, count: u32) -> (u64, Vec<String>) {
    let mut batch = world.executed(&[vec![Ask::new("", Command::Scan { cursor, count })]]);
    let Reply::Scanned(page) = batch.replies.remove(0) else { panic!("no page") };
    let key = |item: &memwire::message::ScannedItem| {
        String::from_utf8(batch.values[item.key.range()].to_vec()).unwrap()
    };
    (page.next, page.items.iter().map(key).collect())
}

/// Walks over everything, with `between` after each step, and says how often each key was met.
fn walk(world: &mut World, count: u32, mut between: impl FnMut(&mut World, u32)) -> HashMap<String, u32> {
    let (mut cursor, mut met) = (0, HashMap::new());
    for number in 0..100_000 {
        let (next, keys) = step(world, cursor, count);
        assert!(keys.len() <= 4 * count as usize + 20, "{} items at a time", keys.len());
        for key in keys {
            *met.entry(key).or_insert(0) += 1;
        }
        if next == 0 {
            return met;
        }
        cursor = next;
        between(world, number);
    }
    panic!("the walk does not end");
}

fn store(world: &mut World, prefix: &str, numbers: std::ops::Range<u32>) {
    let sets = numbers.map(|number| Ask::set(&format!("{prefix}{number}"), "value")).collect();
    world.execute(&[sets]);
}

fn assert_each_once(met: &HashMap<String, u32>, prefix: &str, count: u32) {
    for number in 0..count {
        let key = format!("{prefix}{number}");
        assert_eq!(met.get(&key), Some(&1), "{key} is there all the time");
    }
}

#[test]
fn a_walk_meets_every_item_once() {
    for count in [1, 10, 500] {
        let mut world = World::ample();
        store(&mut world, "k", 0..5000);
        let met = walk(&mut world, count, |_, _| {});
        assert_eq!(met.len(), 5000);
        assert_each_once(&met, "k", 5000);
    }
}

#[test]
fn an_empty_store_is_walked_over_in_one_step() {
    assert_eq!(step(&mut World::ample(), 0, 10), (0, Vec::new()));
}

#[test]
fn what_is_there_all_the_time_is_met_while_the_index_grows_and_shrinks() {
    let mut world = World::ample();
    store(&mut world, "stays", 0..2000);
    let met = walk(&mut world, 16, |world, number| match number % 40 {
        0 => store(world, "comes", number * 1000..number * 1000 + 10_000),
        20 => {
            let first = (number - 20) * 1000;
            let deletes = (first..first + 10_000).map(|n| Ask::delete(&format!("comes{n}"))).collect();
            world.execute(&[deletes]);
        }
        _ => {}
    });
    assert_each_once(&met, "stays", 2000);
}

#[test]
fn what_is_moved_and_written_again_is_met() {
    let config = tiny(WhenFull::Refuse);
    let engine = EngineConfig { stress: Stress::Relocate, ..config.engine() };
    let mut world = World::with_engine(config, engine, Hashes::Spread);
    store(&mut world, "stays", 0..1000);
    let met = walk(&mut world, 7, |world, number| {
        let key = format!("stays{}", number % 1000);
        world.ask_one(Ask::set(&key, vec![b'x'; number as usize % 50]));
    });
    assert_each_once(&met, "stays", 1000);
    world.engine.verify().unwrap();
}

#[test]
fn what_is_over_is_not_told() {
    let mut world = World::ample();
    store(&mut world, "gone", 0..100);
    world.ask_one(Ask::new("", Command::Flush { at: wire::Expiration::Never }));
    store(&mut world, "there", 0..100);
    let met = walk(&mut world, 10, |_, _| {});
    assert_eq!(met.len(), 100);
    assert_each_once(&met, "there", 100);
}

#[test]
fn keys_that_collide_are_all_met() {
    let mut world = World::new(Config::default(), Hashes::Colliding);
    store(&mut world, "k", 0..20);
    assert_each_once(&walk(&mut world, 10, |_, _| {}), "k", 20);
}

#[test]
fn any_cursor_may_come() {
    let mut world = World::ample();
    store(&mut world, "k", 0..1000);
    for cursor in [1, 0xffff, 0x1_0000, u64::from(u32::MAX), 1 << 48, u64::MAX] {
        let (next, _) = step(&mut world, cursor, u32::MAX);
        assert!(next == 0 || next > cursor);
    }
    assert_eq!(step(&mut world, u64::MAX, 0), (0, Vec::new()));
}

#[test]
fn a_sample_is_an_item_that_is_there() {
    let mut world = World::ample();
    let sample = |world: &mut World| {
        let mut batch = world.executed(&[vec![Ask::new("anything", Command::Sample)]]);
        let Reply::Scanned(page) = batch.replies.remove(0) else { panic!("no page") };
        page.items.first().map(|item| batch.values[item.key.range()].to_vec())
    };
    assert_eq!(sample(&mut world), None);
    world.ask_one(Ask::set("only", "value"));
    assert_eq!(sample(&mut world).as_deref(), Some(&b"only"[..]));
    world.ask_one(Ask::delete("only"));
    assert_eq!(sample(&mut world), None);
}

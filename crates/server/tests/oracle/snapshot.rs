//! All items as packets, piece by piece, while items come, go and move.

use std::collections::HashMap;

use memwire::config::Config;
use memwire::limits::SNAPSHOT_PIECE_BYTES;
use memwire::message::{Command, Reply};
use memwire::storage::EngineConfig;
use memwire::storage::engine::{Stress, WhenFull};
use wire::{FRAME_BODY_BYTES_MAX, Request, RequestHeader, Split};

use crate::world::{Ask, Hashes, World, tiny};

/// One piece: where the walk goes on, its packets, and how many of their bytes were copied.
fn piece(world: &mut World, cursor: u64) -> (u64, Vec<u8>, usize) {
    let mut batch = world.executed(&[vec![Ask::new("", Command::Snapshot { cursor })]]);
    let Reply::Snapshot(piece) = batch.replies.remove(0) else { panic!("no piece") };
    let packets = piece.parts(&batch).collect::<Vec<_>>().concat();
    assert_eq!(parse(&packets).len() as u64, piece.items);
    (piece.next, packets, piece.packets.len as usize)
}

/// Keys and values of packets that set items, whatever there is.
fn parse(mut packets: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut items = Vec::new();
    while !packets.is_empty() {
        let Ok(Split::Whole { packet, rest }) = wire::split::<RequestHeader>(packets, FRAME_BODY_BYTES_MAX)
        else {
            panic!("{}", packets.escape_ascii())
        };
        let header = packet.header;
        let private = (header.data_type, header.vbucket.get(), header.opaque.get(), header.cas.get());
        assert_eq!((header.opcode, private), (wire::Opcode::SETQ, (0, 0, 0, 0)));
        assert!(Request::parse(&packet).is_ok());
        items.push((String::from_utf8(packet.key.to_vec()).unwrap(), packet.value.to_vec()));
        packets = rest;
    }
    items
}

/// Walks over everything, with `between` behind each piece, and gives all values that were told under a key.
fn walk(world: &mut World, mut between: impl FnMut(&mut World, u32)) -> HashMap<String, Vec<Vec<u8>>> {
    let (mut cursor, mut told) = (0, HashMap::<_, Vec<_>>::new());
    for number in 0..100_000 {
        let (next, packets, copied) = piece(world, cursor);
        assert!(copied <= 2 * SNAPSHOT_PIECE_BYTES, "{copied} bytes in one piece");
        for (key, value) in parse(&packets) {
            told.entry(key).or_default().push(value);
        }
        if next == 0 {
            return told;
        }
        cursor = next;
        between(world, number);
    }
    panic!("the walk does not end");
}

/// Values from nothing to several mappings' length.
fn value(number: u32) -> Vec<u8> {
    const LENS: [usize; 6] = [0, 10, 500, 3000, 7000, 40];
    let len = if number % 100 == 7 { 100_000 } else { LENS[number as usize % LENS.len()] };
    vec![number as u8; len]
}

fn store(world: &mut World, prefix: &str, numbers: std::ops::Range<u32>) {
    for number in numbers {
        world.ask_one(Ask::set(&format!("{prefix}{number}"), value(number)));
    }
}

#[test]
fn every_item_is_told_once_with_its_value() {
    let mut world = World::ample();
    store(&mut world, "k", 0..3000);
    let told = walk(&mut world, |_, _| {});
    assert_eq!(told.len(), 3000);
    for number in 0..3000 {
        assert_eq!(told[&format!("k{number}")], [value(number)]);
    }
}

#[test]
fn an_empty_store_is_one_piece() {
    assert_eq!(piece(&mut World::ample(), 0), (0, Vec::new(), 0));
}

#[test]
fn what_is_there_all_the_time_is_told_once_while_everything_moves_and_others_come_and_go() {
    let config = Config { memory_bytes_max: 32 << 20, ..tiny(WhenFull::Refuse) };
    let engine = EngineConfig { stress: Stress::Relocate, ..config.engine() };
    let mut world = World::with_engine(config, engine, Hashes::Spread);
    store(&mut world, "stays", 0..1000);
    let told = walk(&mut world, |world, number| {
        world.ask_one(Ask::set(&format!("comes{number}"), value(number)));
        world.ask_one(Ask::delete(&format!("comes{}", number / 2)));
        world.ask_one(Ask::set(&format!("stays{}", number % 1000), value(number % 1000)));
    });
    for number in 0..1000 {
        assert_eq!(told.get(&format!("stays{number}")), Some(&vec![value(number)]), "stays{number}");
    }
    world.engine.verify().unwrap();
}

#[test]
fn keys_that_collide_are_all_told() {
    let mut world = World::new(Config::default(), Hashes::Colliding);
    store(&mut world, "k", 0..12);
    assert_eq!(walk(&mut world, |_, _| {}).len(), 12);
}

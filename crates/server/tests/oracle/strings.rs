//! Redis's strings in the engine, against a plain map.

use std::collections::HashMap;

use memwire::config::Config;
use memwire::message::{
    Batch, Command, ExpireWhen, Old, Put, PutWhen, Reading, Refusal, Reply, Value as Place,
};
use memwire::storage::EngineConfig;
use memwire::storage::engine::{Stress, WhenFull};
use memwire_simulator::source::Source;
use wire::Expiration;

use crate::world::{Ask, Hashes, NOWHERE, Placement, START, World, tiny};

/// A value of the map, and when it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stored {
    value: Vec<u8>,
    expiration: u32,
}

/// What is answered, as far as Redis tells it.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Value(Vec<u8>),
    Stored,
    Exists,
    NotFound,
    NotStored,
    Done,
    Sum(i64),
    NonNumeric,
    Overflow,
    Length(u64),
    Peeked { expiration: u32, value_bytes: u32 },
    Refused(Refusal),
}

impl Told {
    fn of(reply: &Reply, batch: &Batch) -> Self {
        match reply {
            Reply::Hit { value, .. } => Self::Value(match value {
                Place::Copied(span) => batch.values[span.range()].to_vec(),
                Place::Large(at) => batch.large[*at as usize].to_vec(),
                Place::Lent(at) => batch.lent[*at as usize].to_vec(),
            }),
            Reply::Stored { .. } => Self::Stored,
            Reply::Exists => Self::Exists,
            Reply::NotFound => Self::NotFound,
            Reply::NotStored => Self::NotStored,
            Reply::Done => Self::Done,
            Reply::Sum(sum) => Self::Sum(*sum),
            Reply::NonNumeric => Self::NonNumeric,
            Reply::Overflow => Self::Overflow,
            Reply::Length(len) => Self::Length(*len),
            Reply::Peeked { expiration, value_bytes, .. } => {
                Self::Peeked { expiration: *expiration, value_bytes: *value_bytes }
            }
            Reply::Refused(why) => Self::Refused(*why),
            other => panic!("{other:?}"),
        }
    }
}

fn tell(world: &mut World, ask: Ask) -> Told {
    let batch = world.executed(&[vec![ask]]);
    Told::of(&batch.replies[0], &batch)
}

fn put(when: PutWhen, expiration: Option<Expiration>, old: Old) -> Command {
    Command::Put(Put { when, expiration, old, value: NOWHERE })
}

/// What the map makes of it.
fn expected(map: &mut HashMap<String, Stored>, now: u32, key: &str, command: Command, given: &[u8]) -> Told {
    map.retain(|_, stored| stored.expiration == 0 || stored.expiration > now);
    let unix = |expiration| match expiration {
        Expiration::Never => 0,
        Expiration::After(seconds) => now + seconds,
        Expiration::At(seconds) => seconds,
    };
    let found = map.get(key).cloned();
    match command {
        Command::Get => found.map_or(Told::NotFound, |stored| Told::Value(stored.value)),
        Command::Take => {
            map.remove(key);
            found.map_or(Told::NotFound, |stored| Told::Value(stored.value))
        }
        Command::Peek(_) => found.map_or(Told::NotFound, |stored| Told::Peeked {
            expiration: stored.expiration,
            value_bytes: stored.value.len() as u32,
        }),
        Command::Put(put) => {
            let old = found.clone().map_or(Told::NotFound, |stored| Told::Value(stored.value));
            let refused = match (put.when, &found) {
                (PutWhen::Missing, Some(_)) => Some(Told::Exists),
                (PutWhen::There, None) => Some(Told::NotFound),
                _ => None,
            };
            if refused.is_none() {
                let kept = found.map_or(0, |stored| stored.expiration);
                let expiration = put.expiration.map_or(kept, unix);
                map.insert(key.into(), Stored { value: given.to_vec(), expiration });
            }
            match put.old {
                Old::Told => old,
                Old::Untold => refused.unwrap_or(Told::Stored),
            }
        }
        Command::Add { delta } => {
            let stored = found.unwrap_or(Stored { value: b"0".to_vec(), expiration: 0 });
            let text = String::from_utf8_lossy(&stored.value).into_owned();
            let Some(number) = text.parse::<i64>().ok().filter(|number| number.to_string() == text) else {
                return Told::NonNumeric;
            };
            let Some(sum) = number.checked_add(delta) else { return Told::Overflow };
            map.insert(key.into(), Stored { value: sum.to_string().into_bytes(), ..stored });
            Told::Sum(sum)
        }
        Command::Patch { offset, .. } => {
            let mut stored = found.unwrap_or(Stored { value: Vec::new(), expiration: 0 });
            let start = offset.map_or(stored.value.len(), |offset| offset as usize);
            if offset.is_none() || !given.is_empty() {
                let len = stored.value.len().max(start + given.len());
                stored.value.resize(len, 0);
                stored.value[start..start + given.len()].copy_from_slice(given);
                map.insert(key.into(), stored.clone());
            }
            Told::Length(stored.value.len() as u64)
        }
        Command::Expire { expiration, when } => {
            let Some(mut stored) = found else { return Told::NotFound };
            let (old, new) = (stored.expiration, unix(expiration));
            let holds = match when {
                ExpireWhen::Always => true,
                ExpireWhen::Persistent => old == 0,
                ExpireWhen::Volatile => old > 0,
                ExpireWhen::Later => old > 0 && new > old,
                ExpireWhen::Sooner => old == 0 || new < old,
                ExpireWhen::SoonerIfVolatile => old > 0 && new < old,
            };
            if !holds {
                return Told::NotStored;
            }
            stored.expiration = new;
            map.insert(key.into(), stored);
            Told::Done
        }
        other => panic!("not told here: {other:?}"),
    }
}

fn pick<T: Copy>(source: &mut Source, choices: &[T]) -> T {
    choices[source.below(choices.len() as u32) as usize]
}

fn expiration(source: &mut Source) -> Expiration {
    let seconds = source.below(20);
    pick(source, &[Expiration::Never, Expiration::After(seconds + 1), Expiration::At(START + seconds)])
}

/// A value of any length up to `len_max`, some of them numbers.
fn value(source: &mut Source, len_max: u32) -> Vec<u8> {
    match source.below(4) {
        0 => i64::from(source.below(1000)).wrapping_sub(500).to_string().into_bytes(),
        1 => pick(source, &["9223372036854775807", "-9223372036854775808", "007", "", "1 "]).into(),
        _ => {
            let (byte, len) = (source.below(256) as u8, source.below(len_max + 1));
            vec![byte; len as usize]
        }
    }
}

fn command(source: &mut Source) -> Command {
    match source.below(8) {
        0 => Command::Get,
        1 => Command::Take,
        2 => Command::Peek(pick(source, &[Reading::Noted, Reading::Unnoticed])),
        3 | 4 => {
            let when = pick(source, &[PutWhen::Always, PutWhen::Missing, PutWhen::There]);
            let given = expiration(source);
            put(when, pick(source, &[None, Some(given)]), pick(source, &[Old::Told, Old::Untold]))
        }
        5 => Command::Add { delta: pick(source, &[1, -1, 1000, -999, i64::MAX, i64::MIN]) },
        6 => {
            let offset = source.below(30_000);
            Command::Patch { offset: pick(source, &[None, Some(offset), Some(offset % 20)]), value: NOWHERE }
        }
        _ => {
            let when = pick(
                source,
                &[
                    ExpireWhen::Always,
                    ExpireWhen::Persistent,
                    ExpireWhen::Volatile,
                    ExpireWhen::Later,
                    ExpireWhen::Sooner,
                    ExpireWhen::SoonerIfVolatile,
                ],
            );
            Command::Expire { expiration: expiration(source), when }
        }
    }
}

#[test]
fn every_answer_is_the_maps() {
    for seed in 0..30 {
        let mut source = Source::from_seed(seed);
        let config = Config::default();
        let stress = if seed % 2 == 0 { Stress::Relocate } else { Stress::None };
        let engine = EngineConfig { stress, ..config.engine() };
        let mut world = World::with_engine(config, engine, Hashes::Spread);
        world.batches_lent = 2;
        let mut map = HashMap::new();
        for step in 0..400 {
            let key = format!("k{}", source.below(6));
            let command = command(&mut source);
            let mut ask = Ask::new(&key, command);
            let mut given = Vec::new();
            if matches!(command, Command::Put(_) | Command::Patch { .. }) {
                given = value(&mut source, 20_000);
                ask = ask.with(&given);
                if let Some(given) = &mut ask.given {
                    given.placement = pick(&mut source, &[Placement::Input, Placement::Block]);
                }
            }
            let expected = expected(&mut map, world.now, &key, command, &given);
            let told = tell(&mut world, ask);
            assert!(told == expected, "seed {seed}, step {step}: {key} {command:?}");
            world.engine.verify().unwrap();
            world.now += source.below(8) / 7;
        }
    }
}

#[test]
fn flags_stay_while_a_value_is_changed_and_go_when_it_is_set() {
    let mut world = World::ample();
    let flags = |world: &mut World| {
        let batch = world.executed(&[vec![Ask::get("k")]]);
        match batch.replies[0] {
            Reply::Hit { flags, .. } => flags,
            ref other => panic!("{other:?}"),
        }
    };
    world.ask_one(
        Ask::new(
            "k",
            Command::Store {
                mode: wire::StoreMode::Set,
                flags: 7,
                expiration: Expiration::Never,
                cas: None,
                value: NOWHERE,
            },
        )
        .with("1"),
    );
    tell(&mut world, Ask::new("k", Command::Add { delta: 9 }));
    tell(&mut world, Ask::new("k", Command::Patch { offset: None, value: NOWHERE }).with("0"));
    tell(&mut world, Ask::new("k", Command::Patch { offset: Some(9000), value: NOWHERE }).with("0"));
    assert_eq!(flags(&mut world), 7);
    tell(&mut world, Ask::new("k", put(PutWhen::Always, None, Old::Untold)).with("1"));
    assert_eq!(flags(&mut world), 0);
}

#[test]
fn what_finds_no_memory_leaves_the_older_value_alone() {
    let mut world = World::new(tiny(WhenFull::Refuse), Hashes::Spread);
    let set = || put(PutWhen::Always, Some(Expiration::Never), Old::Untold);
    tell(&mut world, Ask::new("k", set()).with("older"));
    let mut number = 0;
    while tell(&mut world, Ask::new(format!("fill{number}"), set()).with(vec![b'x'; 3000])) == Told::Stored {
        number += 1;
    }
    assert!(number > 100, "{number} items fit");
    let refused = Told::Refused(Refusal::OutOfMemory);
    assert_eq!(tell(&mut world, Ask::new("k", set()).with(vec![b'y'; 100_000])), refused);
    let patch = Command::Patch { offset: Some(90_000), value: NOWHERE };
    assert_eq!(tell(&mut world, Ask::new("k", patch).with("z")), refused);
    assert_eq!(tell(&mut world, Ask::get("k")), Told::Value(b"older".to_vec()));
    let patch = Command::Patch { offset: Some(200_000), value: NOWHERE };
    assert_eq!(tell(&mut world, Ask::new("k", patch).with("z")), Told::Refused(Refusal::TooLarge));
    world.engine.verify().unwrap();
}

#[test]
fn guarded_stores_are_all_done_or_none() {
    let mut world = World::ample();
    let msetnx = |keys: &[&str]| {
        let guards = keys
            .iter()
            .enumerate()
            .map(|(number, key)| Ask::new(key, Command::Guard { number: number as u32 }));
        let puts = keys.iter().map(|key| {
            Ask::new(key, put(PutWhen::Unguarded, Some(Expiration::Never), Old::Untold)).with("v")
        });
        guards.chain(puts).collect::<Vec<_>>()
    };
    let runs = [msetnx(&["a", "b"]), msetnx(&["b", "c"]), msetnx(&["c", "d"]), msetnx(&["d", "e"])];
    world.executed(&runs);
    let there = |world: &mut World, key| tell(world, Ask::get(key)) != Told::NotFound;
    let found = ["a", "b", "c", "d", "e"].map(|key| there(&mut world, key));
    assert_eq!(found, [true, true, true, true, false], "b is there already, and d");
}

#[test]
fn what_was_flushed_is_not_counted() {
    let mut world = World::ample();
    let counts = |world: &mut World| {
        let figures = world.figures();
        (figures.item_count - figures.flushed_count, figures.flushed_count)
    };
    for number in 0..200 {
        world.ask_one(Ask::set(&format!("k{number}"), "v"));
    }
    assert_eq!(counts(&mut world), (200, 0));
    world.ask_one(Ask::new("", Command::Flush { at: Expiration::Never }));
    assert_eq!(counts(&mut world).0, 0);
    for number in 150..210 {
        world.ask_one(Ask::set(&format!("k{number}"), "w"));
        assert_eq!(counts(&mut world).0, number - 149);
        world.engine.verify().unwrap();
    }
    while world.engine.maintain(world.now + 20) {}
    assert_eq!(counts(&mut world), (60, 0));
}

//! Random sequences of batches.
//!
//! Versions are chosen by what they are to the item ('its own', 'an older one'), and become numbers when the story is
//! told.

use bytes::Bytes;
use memwire::message::{Command, Older, Refusal};
use memwire_simulator::oracle::Oracle;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use wire::{Concat, Direction, Expiration, OnMiss, StoreMode};

use crate::world::{Ask, Given, NOWHERE, Placement, START, Value};

/// Batches, one after another.
pub(crate) type Story = Vec<Chapter>;

/// One batch.
#[derive(Debug, Clone)]
pub(crate) struct Chapter {
    /// Seconds since the last one.
    pub(crate) pause: u32,
    /// Whether the engine had time for itself in between.
    pub(crate) idle: bool,
    /// The operations of each connection.
    pub(crate) runs: Vec<Vec<Plan>>,
}

/// An operation whose version is still to be found.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    ask: Ask,
    version: Version,
}

#[derive(Debug, Clone, Copy)]
enum Version {
    Any,
    Right,
    Stale,
    Random(u64),
}

/// What a story is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject {
    pub(crate) key_count: usize,
    /// The weight of values too large for the log.
    pub(crate) large_weight: u32,
    /// The weight of plain stores among all operations.
    pub(crate) set_weight: u32,
    /// The weight of plain reads.
    pub(crate) get_weight: u32,
    pub(crate) runs_max: usize,
    pub(crate) ops_max: usize,
}

impl Plan {
    /// The operation, where the oracle knows what is stored.
    pub(crate) fn resolve(&self, oracle: &Oracle) -> Ask {
        let current = oracle.version(&self.ask.key);
        let version = match self.version {
            Version::Any => None,
            Version::Right => current,
            Version::Stale => current.map(|cas| cas.saturating_sub(1).max(1)),
            Version::Random(cas) => Some(cas),
        };
        let mut ask = self.ask.clone();
        match &mut ask.command {
            Command::Store { cas, .. }
            | Command::Concat { cas, .. }
            | Command::Delete { cas }
            | Command::Count { cas, .. } => *cas = version,
            _ => {}
        }
        ask
    }
}

pub(crate) fn stories(subject: Subject) -> impl Strategy<Value = Story> {
    let runs = vec(vec(plans(subject), 1..=subject.ops_max), 1..=subject.runs_max);
    let pauses = prop_oneof![6 => Just(0), 4 => 1..4_u32, 1 => Just(100)];
    let chapters =
        (pauses, any::<bool>(), runs).prop_map(|(pause, idle, runs)| Chapter { pause, idle, runs });
    vec(chapters, 1..8)
}

/// The keys of a story: short ones, the longest one, and one of bytes that are no text.
pub(crate) fn key(number: usize) -> Bytes {
    match number {
        0 => Bytes::from_static(b"k"),
        1 => Bytes::from(vec![b'K'; wire::KEY_BYTES_MAX]),
        2 => Bytes::from_static(b"\x00\xff\r\n"),
        _ => Bytes::from(format!("key:{number}")),
    }
}

fn plans(subject: Subject) -> impl Strategy<Value = Plan> {
    let givens = move || givens(subject.large_weight);
    let commands = prop_oneof![
        subject.get_weight => Just((Command::Get, None)),
        3 => expirations().prop_map(|expiration| (Command::GetAndTouch { expiration }, None)),
        2 => expirations().prop_map(|expiration| (Command::Touch { expiration }, None)),
        subject.set_weight => (store(StoreMode::Set), givens().prop_map(Some)),
        3 => (store(StoreMode::Add), givens().prop_map(Some)),
        3 => (store(StoreMode::Replace), givens().prop_map(Some)),
        5 => (select(vec![Concat::Append, Concat::Prepend]), givens())
            .prop_map(|(side, given)| (Command::Concat { side, cas: None, value: NOWHERE }, Some(given))),
        3 => Just((Command::Delete { cas: None }, None)),
        7 => count().prop_map(|command| (command, None)),
        1 => unstorable().prop_map(|command| (command, None)),
        1 => expirations().prop_map(|at| (Command::Flush { at }, None)),
        1 => Just((Command::Pass, None)),
    ];
    (0..subject.key_count, commands, versions()).prop_map(|(number, (command, given), version)| Plan {
        ask: Ask { key: key(number), command, given },
        version,
    })
}

fn versions() -> impl Strategy<Value = Version> {
    prop_oneof![
        6 => Just(Version::Any),
        2 => Just(Version::Right),
        1 => Just(Version::Stale),
        1 => any::<u64>().prop_map(Version::Random),
    ]
}

fn store(mode: StoreMode) -> impl Strategy<Value = Command> {
    (any::<u32>(), expirations()).prop_map(move |(flags, expiration)| Command::Store {
        mode,
        flags,
        expiration,
        cas: None,
        value: NOWHERE,
    })
}

fn count() -> impl Strategy<Value = Command> {
    let numbers = || select(vec![0, 1, 2, 9, 90, 1 << 63, u64::MAX]);
    // No other way leads to such a number, so the answer says whether the item was created.
    let initials = any::<u64>().no_shrink();
    let create =
        (initials, expirations()).prop_map(|(initial, expiration)| OnMiss::Create { initial, expiration });
    (
        select(vec![Direction::Increment, Direction::Decrement]),
        numbers(),
        prop_oneof![Just(OnMiss::Fail), create],
    )
        .prop_map(|(direction, delta, on_miss)| Command::Count { direction, delta, on_miss, cas: None })
}

fn unstorable() -> impl Strategy<Value = Command> {
    (select(vec![Refusal::TooLarge, Refusal::OutOfMemory]), select(vec![Older::Keep, Older::Delete]))
        .prop_map(|(why, older)| Command::Unstorable { why, older })
}

fn expirations() -> impl Strategy<Value = Expiration> {
    prop_oneof![
        8 => Just(Expiration::Never),
        4 => (1..6_u32).prop_map(Expiration::After),
        1 => Just(Expiration::After(2_592_000)),
        2 => (START - 3..START + 12).prop_map(Expiration::At),
        1 => Just(Expiration::At(u32::MAX)),
    ]
}

/// Values: numbers and what looks like one, bytes of any length, and lengths about the one from which a value has a
/// block of its own.
fn givens(large_weight: u32) -> impl Strategy<Value = Given> {
    let numbers = select(vec![
        "0",
        "5",
        "9",
        "10",
        "99",
        "100",
        "12 ",
        " 12",
        "+12",
        "12 junk",
        "12a",
        "junk",
        "",
        "007",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
    ]);
    let values = prop_oneof![
        8 => numbers.prop_map(|text| Bytes::from_static(text.as_bytes())),
        8 => vec(any::<u8>(), 0..40).prop_map(Bytes::from),
        4 => (any::<u8>(), 40..3000_usize).prop_map(|(byte, len)| Bytes::from(vec![byte; len])),
        2 => (any::<u8>(), 7900..8200_usize).prop_map(|(byte, len)| Bytes::from(vec![byte; len])),
        large_weight => (any::<u8>(), 8200..130_000_usize).prop_map(|(byte, len)| Bytes::from(vec![byte; len])),
    ];
    let placements = prop_oneof![3 => Just(Placement::Input), 1 => Just(Placement::Block)];
    (values, placements).prop_map(|(value, placement)| Given { value: Value(value), placement })
}

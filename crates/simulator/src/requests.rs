//! Requests, made up.

use memwire::config::{Config, Protocol, Watch};
use wire::{
    Cas, Command, Concat, Direction, Expiration, Key, KeyEcho, Loudness, OnMiss, Opcode, Request, StoreMode,
};

use crate::oracle::Oracle;
use crate::owed::WATCH;
use crate::source::Source;

/// What requests are made from.
#[derive(Debug)]
pub struct Maker<'a> {
    /// All choices.
    pub source: &'a mut Source,
    /// Who knows which versions are right.
    pub oracle: &'a Oracle,
    /// What is too large.
    pub config: &'a Config,
    /// The time, to expire about it.
    pub now: u32,
    /// How many keys there are.
    pub key_count: u32,
    /// How much clients store.
    pub appetite: Appetite,
}

/// How much clients store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appetite {
    /// Small values, and a large one now and then.
    Light,
    /// Values that crowd a small memory.
    Heavy,
}

/// The longest of the values that are large, but not the largest.
const LARGE_BYTES_MAX: u32 = 40_000;

/// What looks like a number, or does not.
const TEXTS: &[&str] = &[
    "0",
    "5",
    "99",
    "10",
    " 12",
    "12 junk",
    "12a",
    "",
    "007",
    "18446744073709551615",
    "18446744073709551616",
];

/// Names of groups of statistics. The general ones tell of the machine, and differ from run to run.
const GROUPS: &[&str] =
    &["settings", "items", "slabs", "sizes", "reset", "detail on", "detail off", "detail dump", "nonsense"];

#[derive(Clone, Copy)]
enum Kind {
    Get,
    GetAndTouch,
    Touch,
    Store(StoreMode),
    Concat,
    Delete,
    Count,
    Flush,
    Stat,
    Noop,
    Version,
    Quit,
    Malformed,
    Unserved,
    Watch,
}

const KINDS: &[(u32, Kind)] = &[
    (70, Kind::Get),
    (8, Kind::GetAndTouch),
    (6, Kind::Touch),
    (60, Kind::Store(StoreMode::Set)),
    (12, Kind::Store(StoreMode::Add)),
    (12, Kind::Store(StoreMode::Replace)),
    (22, Kind::Concat),
    (14, Kind::Delete),
    (24, Kind::Count),
    (2, Kind::Flush),
    (4, Kind::Stat),
    (10, Kind::Noop),
    (2, Kind::Version),
    (1, Kind::Quit),
    (1, Kind::Malformed),
    (3, Kind::Unserved),
    (16, Kind::Watch),
];

/// A key: short ones, the longest one, and one of bytes that are no text.
#[must_use]
pub fn key(number: u32) -> Vec<u8> {
    match number {
        0 => b"k".to_vec(),
        1 => vec![b'K'; wire::KEY_BYTES_MAX],
        2 => b"\x00\xff\r\n".to_vec(),
        _ => format!("{}:{number}", ["user", "page", "x"][number as usize % 3]).into_bytes(),
    }
}

impl Maker<'_> {
    /// A request with this mark.
    ///
    /// # Panics
    /// Where one of the keys is not legal.
    pub fn request(&mut self, opaque: u32) -> Vec<u8> {
        let kind = self.source.weighted(KINDS);
        let number = self.source.below(self.key_count);
        let key = key(number);
        let key = Key::new(&key).expect("a legal key");
        let value;
        let command = match kind {
            Kind::Get => Command::Get { key, echo: self.echo() },
            Kind::GetAndTouch => {
                Command::GetAndTouch { key, echo: self.echo(), expiration: self.expiration() }
            }
            Kind::Touch => Command::Touch { key, expiration: self.expiration() },
            Kind::Store(mode) => {
                value = self.value(opaque);
                let flags = self.source.pick(&[0, opaque, u32::MAX]);
                let (expiration, cas) = (self.expiration(), self.cas(key));
                Command::Store { mode, key, value: &value, flags, expiration, cas }
            }
            Kind::Concat => {
                value = self.value(opaque);
                let side = self.source.pick(&[Concat::Append, Concat::Prepend]);
                Command::Concat { side, key, value: &value, cas: self.cas(key) }
            }
            Kind::Delete => Command::Delete { key, cas: self.cas(key) },
            Kind::Count => self.count(key, opaque),
            // Memory that is emptied again and again is never full.
            Kind::Flush if self.appetite == Appetite::Heavy && self.source.below(8) < 7 => Command::Noop,
            Kind::Flush => Command::Flush { at: self.flush_time() },
            Kind::Stat => {
                let group = self.source.pick(GROUPS);
                // What is counted of passwords is looked at in the end.
                let group = if group == "reset" && self.config.auth.is_some() { "items" } else { group };
                Command::Stat { group: Key::new(group.as_bytes()).ok() }
            }
            Kind::Noop => Command::Noop,
            Kind::Version => Command::Version,
            Kind::Quit => Command::Quit,
            Kind::Malformed => return self.malformed(key, opaque),
            Kind::Unserved => return self.unserved(opaque),
            Kind::Watch if self.config.watch == Watch::Allowed => return self.watch(number, opaque),
            Kind::Watch => Command::Get { key, echo: self.echo() },
        };
        let loudness = if self.source.below(3) == 2 { Loudness::Quiet } else { Loudness::Loud };
        let mut bytes = Vec::new();
        Request { opaque, loudness, command }.append_to(&mut bytes);
        bytes
    }

    fn echo(&mut self) -> KeyEcho {
        self.source.pick(&[KeyEcho::Without, KeyEcho::With])
    }

    fn expiration(&mut self) -> Expiration {
        let near = self.now - 3 + self.source.below(9);
        self.source.weighted(&[
            (10, Expiration::Never),
            (3, Expiration::After(2)),
            (2, Expiration::After(1)),
            (2, Expiration::After(90)),
            (1, Expiration::After(wire::field::RELATIVE_SECONDS_MAX)),
            (2, Expiration::At(near)),
            (1, Expiration::At(u32::MAX)),
        ])
    }

    fn flush_time(&mut self) -> Option<Expiration> {
        let expiration = self.expiration();
        self.source.pick(&[None, Some(expiration)])
    }

    fn cas(&mut self, key: Key<'_>) -> Option<Cas> {
        #[derive(Clone, Copy)]
        enum Version {
            Any,
            Right,
            Older,
            Wrong,
        }
        let chosen = self.source.weighted(&[
            (8, Version::Any),
            (3, Version::Right),
            (1, Version::Older),
            (1, Version::Wrong),
        ]);
        let current = self.oracle.version(key.as_bytes());
        match chosen {
            Version::Any => None,
            Version::Right => current,
            Version::Older => current.map(|version| version.saturating_sub(1)),
            Version::Wrong => Some(u64::MAX - 7),
        }
        .and_then(Cas::from_wire)
    }

    fn count<'k>(&mut self, key: Key<'k>, opaque: u32) -> Command<'k> {
        let direction = self.source.pick(&[Direction::Increment, Direction::Decrement]);
        let delta = self.source.pick(&[1, 0, 9, 90, 1 << 63, u64::MAX]);
        // No other way leads to such a number, so the answer says whether the item was created.
        let initial = 1_000_000_000_000 + u64::from(opaque);
        let on_miss = match self.source.below(2) {
            0 => OnMiss::Create { initial, expiration: self.expiration() },
            _ => OnMiss::Fail,
        };
        // The time 0xffffffff cannot be said here.
        let on_miss = match on_miss {
            OnMiss::Create { expiration: Expiration::At(u32::MAX), .. } => OnMiss::Fail,
            on_miss => on_miss,
        };
        Command::Count { direction, key, delta, on_miss, cas: self.cas(key) }
    }

    /// A value that no other request brings, unless it is a number or very short.
    fn value(&mut self, opaque: u32) -> Vec<u8> {
        #[derive(Clone, Copy)]
        enum Size {
            Text,
            Between(u32, u32),
        }
        let most = self.config.item_bytes_max as u32;
        let heavy = if self.appetite == Appetite::Heavy { 16 } else { 1 };
        let size = self.source.weighted(&[
            (10, Size::Text),
            (16, Size::Between(0, 60)),
            (10, Size::Between(60, 3000)),
            (3 * heavy, Size::Between(7800, 8300)),
            (6, Size::Between(8192, LARGE_BYTES_MAX)),
            (heavy, Size::Between(most / 3, most)),
            (1, Size::Between(most + 1, most + 100)),
        ]);
        let len = match size {
            Size::Text => return self.source.pick(TEXTS).into(),
            Size::Between(least, most) => self.source.between(least, most) as usize,
        };
        let mark = opaque.to_be_bytes();
        let mut value = vec![mark[3] | 0x80; len];
        for place in value.chunks_exact_mut(512) {
            place[..4].copy_from_slice(&mark);
        }
        if let Some(end) = value.last_chunk_mut() {
            *end = mark;
        }
        value
    }

    /// Waits for another version than the one that is there, mostly. Many do so for the first key.
    fn watch(&mut self, number: u32, opaque: u32) -> Vec<u8> {
        let key = key(if self.source.one_in(4) { 0 } else { number });
        let current = self.oracle.told_version(&key);
        let known =
            self.source.weighted(&[(8, current), (1, 0), (1, current.saturating_sub(1)), (1, u64::MAX - 7)]);
        let extras: &[u8] = if self.source.one_in(24) { &[] } else { &1000_u32.to_be_bytes() };
        let body_len = (extras.len() + key.len()) as u32;
        let mut bytes = vec![0x80, WATCH.0, 0, key.len() as u8, extras.len() as u8, 0, 0, 0];
        bytes.extend(body_len.to_be_bytes());
        bytes.extend(opaque.to_be_bytes());
        bytes.extend(known.to_be_bytes());
        bytes.extend(extras);
        bytes.extend(key);
        bytes
    }

    /// Behind such a request nothing can be trusted.
    fn malformed(&mut self, key: Key<'_>, opaque: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        let command = Command::Get { key, echo: KeyEcho::Without };
        Request { opaque, loudness: Loudness::Loud, command }.append_to(&mut bytes);
        match self.source.below(5) {
            // Another magic, where that is not another protocol.
            0 if self.config.protocol == Protocol::Binary => bytes[0] = 0x81,
            // A NOOP with a key.
            1 => bytes[1] = Opcode::NOOP.0,
            // A key too long.
            2 => {
                let key_len: u16 = 251;
                bytes[2..4].copy_from_slice(&key_len.to_be_bytes());
                bytes[8..12].copy_from_slice(&u32::from(key_len).to_be_bytes());
                bytes.resize(wire::HEADER_BYTES + usize::from(key_len), b'x');
            }
            // A body shorter than its key.
            3 => bytes[8..12].fill(0),
            // A body longer than any server reads.
            _ => bytes[8..12].fill(0xff),
        }
        bytes
    }

    /// An opcode that is not served, the body of which is skipped.
    fn unserved(&mut self, opaque: u32) -> Vec<u8> {
        let opcode = self.source.pick(&[0x1f, 0x1b, 0xff, 0x40]);
        let len = self.source.pick(&[0, 100, 5000, 100_000_u32]);
        let mut bytes = vec![0x80, opcode, 0, 0, 0, 0, 0, 0];
        bytes.extend(len.to_be_bytes());
        bytes.extend(opaque.to_be_bytes());
        bytes.resize(wire::HEADER_BYTES + len as usize, 0);
        bytes
    }
}

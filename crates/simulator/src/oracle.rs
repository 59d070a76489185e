//! The plain map that knows the right answer to everything, by the protocol's rules, written down once more.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use memwire::message::{Command, Older, Refusal};
use memwire::storage::engine::Versions;
use wire::{Concat, Direction, Expiration, OnMiss, StoreMode};

use crate::ask::{Answer, Ask, Value};

/// What is stored.
#[derive(Debug, Clone)]
pub struct Oracle {
    items: BTreeMap<Bytes, Item>,
    /// The one flush that is still to come.
    flush_at: Option<u32>,
    newest_cas: u64,
    item_bytes_max: usize,
    versions: Versions,
    /// Items that were found missing without a reason.
    pub lost: u64,
    /// Items that were flushed.
    pub flushed: u64,
}

/// An item.
#[derive(Clone)]
pub struct Item {
    /// Its bytes.
    pub value: Bytes,
    /// The client's 32 bits.
    pub flags: u32,
    /// 0 for never.
    pub ends: u32,
    /// Its version.
    pub cas: u64,
}

/// What may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Losses {
    /// There is memory enough: nothing is.
    None,
    /// A write may be refused.
    Refusals,
    /// Items may be evicted, too.
    Evictions,
}

impl Oracle {
    /// Nothing is stored. Longer values than `item_bytes_max` are not taken.
    #[must_use]
    pub fn new(item_bytes_max: usize) -> Self {
        Self {
            items: BTreeMap::new(),
            flush_at: None,
            newest_cas: 0,
            item_bytes_max,
            versions: Versions::Told,
            lost: 0,
            flushed: 0,
        }
    }

    /// The same for a server that has given so many versions before.
    #[must_use]
    pub fn behind_version(self, newest_cas: u64) -> Self {
        Self { newest_cas, ..self }
    }

    /// The same for a server whose clients are told versions, or not.
    #[must_use]
    pub fn with_versions(self, versions: Versions) -> Self {
        Self { versions, ..self }
    }

    /// The same for a server that has just been filled with these items, and has a flush before it.
    #[must_use]
    pub fn filled(self, items: BTreeMap<Bytes, Item>, flush_at: Option<u32>) -> Self {
        Self { items, flush_at, ..self }
    }

    /// The version that was given last.
    #[must_use]
    pub fn newest_cas(&self) -> u64 {
        self.newest_cas
    }

    /// When the flush is due that is still to come.
    #[must_use]
    pub fn flush_at(&self) -> Option<u32> {
        self.flush_at
    }

    /// What is stored.
    #[must_use]
    pub fn items(&self) -> &BTreeMap<Bytes, Item> {
        &self.items
    }

    /// An item is gone, without anybody asking for it.
    pub fn evict(&mut self, key: &[u8]) {
        self.items.remove(key);
    }

    /// The version of an item that is there.
    #[must_use]
    pub fn version(&self, key: &[u8]) -> Option<u64> {
        Some(self.items.get(key)?.cas)
    }

    /// The same as clients are told it, 0 for none.
    #[must_use]
    pub fn told_version(&self, key: &[u8]) -> u64 {
        match self.versions {
            Versions::Told => self.version(key).unwrap_or(0),
            Versions::Hidden => 0,
        }
    }

    /// The time is `now`: what has ended by then goes.
    pub fn advance(&mut self, now: u32) {
        if self.flush_at.is_some_and(|at| at <= now) {
            self.clear();
            self.flush_at = None;
        }
        self.items.retain(|_, item| !item.has_ended(now));
    }

    /// Compares an answer with the right one, and goes on from there.
    ///
    /// # Panics
    /// Where the answer is neither the right one nor one that `losses` allow.
    pub fn judge(&mut self, ask: &Ask, answer: &Answer, now: u32, losses: Losses) {
        if let Err(why) = self.check(ask, answer, now, losses) {
            panic!("{why}");
        }
    }

    /// The same without a panic.
    ///
    /// # Errors
    /// A sentence that tells the answer and the right one.
    pub fn check(&mut self, ask: &Ask, answer: &Answer, now: u32, losses: Losses) -> Result<(), String> {
        let before = (self.items.get(&ask.key).cloned(), self.newest_cas);
        let right = self.apply(ask, now);
        if right == *answer {
            return Ok(());
        }
        self.newest_cas = before.1;
        let was_there = before.0.is_some();
        self.restore(&ask.key, before.0);
        if losses == Losses::None {
            return Err(format!("{ask:?} was answered {answer:?}, not {right:?}"));
        }
        if is_refusal(answer) && writes(&right) {
            self.refuse(ask);
            return Ok(());
        }
        if losses != Losses::Evictions || !was_there {
            return Err(format!(
                "{ask:?} was answered {answer:?}, not {right:?}, and nothing can be missing"
            ));
        }
        self.restore(&ask.key, None);
        self.lost += 1;
        let right_if_evicted = self.apply(ask, now);
        if is_refusal(answer) && writes(&right_if_evicted) {
            self.newest_cas = before.1;
            self.restore(&ask.key, None);
            return Ok(());
        }
        if right_if_evicted == *answer {
            return Ok(());
        }
        Err(format!(
            "{ask:?} was answered {answer:?}, not {right:?}, nor {right_if_evicted:?} if it was evicted"
        ))
    }

    fn restore(&mut self, key: &Bytes, item: Option<Item>) {
        match item {
            Some(item) => self.items.insert(key.clone(), item),
            None => self.items.remove(key),
        };
    }

    /// There was no memory: whoever set a value must not read the older one.
    fn refuse(&mut self, ask: &Ask) {
        if let Command::Store { mode: StoreMode::Set, .. } = ask.command {
            self.items.remove(&ask.key);
        }
    }

    /// Does what is asked, and says the right answer.
    ///
    /// # Panics
    /// Where a store comes without a value.
    pub fn apply(&mut self, ask: &Ask, now: u32) -> Answer {
        let value = ask.given.as_ref().map(|given| &given.value.0);
        let answer = self.apply_command(&ask.key, self.heeded(ask.command), value, now);
        let answer = if self.versions == Versions::Hidden { without_version(answer) } else { answer };
        if self.items.get(&ask.key).is_some_and(|item| item.has_ended(now)) {
            self.items.remove(&ask.key);
        }
        answer
    }

    /// Where no versions are told, those who write a value are not heeded when they name one, and nobody else names
    /// the right one.
    fn heeded(&self, mut command: Command) -> Command {
        if self.versions == Versions::Hidden {
            match &mut command {
                Command::Store { cas, .. } | Command::Concat { cas, .. } => *cas = None,
                Command::Delete { cas: Some(cas) } | Command::Count { cas: Some(cas), .. } => {
                    *cas = NO_VERSION;
                }
                _ => {}
            }
        }
        command
    }

    fn apply_command(&mut self, key: &Bytes, command: Command, value: Option<&Bytes>, now: u32) -> Answer {
        match command {
            Command::Pass
            | Command::Stats(_)
            | Command::Reserve { .. }
            | Command::Scan { .. }
            | Command::Sample
            | Command::MetaGet { .. }
            | Command::MetaStore { .. }
            | Command::MetaDelete { .. }
            | Command::MetaCount { .. }
            | Command::Describe
            | Command::Snapshot { .. }
            // Told by tests of their own.
            | Command::Put(_)
            | Command::Guard { .. }
            | Command::Add { .. }
            | Command::Patch { .. }
            | Command::Expire { .. }
            | Command::Peek(_)
            | Command::Unwatch
            | Command::Take => Answer::Done,
            Command::Get => self.hit(key),
            Command::Watch { known, .. } if self.told_version(key) == known => Answer::Waiting,
            Command::Watch { .. } => self.hit(key),
            Command::GetAndTouch { expiration } => {
                self.set_end(key, ends(expiration, now));
                self.hit(key)
            }
            Command::Touch { expiration } => {
                self.set_end(key, ends(expiration, now));
                match self.items.get(key) {
                    Some(&Item { flags, cas, .. }) => Answer::Touched { flags, cas },
                    None => Answer::NotFound,
                }
            }
            Command::Store { mode, flags, expiration, cas, .. } => {
                let present = self.version(key);
                match (cas, mode) {
                    (Some(_), _) if present.is_none() => Answer::NotFound,
                    (Some(cas), _) if present != Some(cas) => Answer::Exists,
                    (None, StoreMode::Add) if present.is_some() => Answer::Exists,
                    (None, StoreMode::Replace) if present.is_none() => Answer::NotFound,
                    _ => {
                        let value = value.expect("a store has a value").clone();
                        Answer::Stored { cas: self.put(key, value, flags, ends(expiration, now)) }
                    }
                }
            }
            Command::Concat { side, cas, .. } => {
                let Some(item) = self.items.get(key).cloned() else {
                    return Answer::NotStored;
                };
                if cas.is_some_and(|cas| cas != item.cas) {
                    return Answer::Exists;
                }
                let added = value.expect("an append has a value");
                let joined = match side {
                    Concat::Append => [&item.value[..], added].concat(),
                    Concat::Prepend => [added, &item.value[..]].concat(),
                };
                if joined.len() > self.item_bytes_max {
                    return Answer::NotStored;
                }
                Answer::Stored { cas: self.put(key, joined.into(), item.flags, item.ends) }
            }
            Command::Unstorable { why, older } => {
                if older == Older::Delete {
                    self.items.remove(key);
                }
                Answer::Refused(why)
            }
            Command::Delete { cas } => match (self.version(key), cas) {
                (None, _) => Answer::NotFound,
                (Some(version), Some(cas)) if version != cas => Answer::Exists,
                _ => {
                    self.items.remove(key);
                    Answer::Done
                }
            },
            Command::Count { direction, delta, on_miss, cas } => {
                self.count(key, direction, delta, on_miss, cas, now)
            }
            Command::Flush { at } => {
                let time = ends(at, now);
                self.flush_at = (time > now).then_some(time);
                if time <= now {
                    self.clear();
                }
                Answer::Done
            }
        }
    }

    fn count(
        &mut self,
        key: &Bytes,
        direction: Direction,
        delta: u64,
        on_miss: OnMiss,
        cas: Option<u64>,
        now: u32,
    ) -> Answer {
        let Some(item) = self.items.get(key).cloned() else {
            return match on_miss {
                OnMiss::Fail => Answer::NotFound,
                OnMiss::Create { initial, expiration } => Answer::Counted {
                    value: initial,
                    cas: self.put(key, initial.to_string().into(), 0, ends(expiration, now)),
                },
            };
        };
        if item.value.is_empty() {
            return Answer::NonNumeric;
        }
        if cas.is_some_and(|cas| cas != item.cas) {
            return Answer::Exists;
        }
        let Some(old) = number(&item.value) else {
            return Answer::NonNumeric;
        };
        let new = match direction {
            Direction::Increment => old.wrapping_add(delta),
            Direction::Decrement => old.saturating_sub(delta),
        };
        // Never shorter than before: padded with spaces.
        let mut text = new.to_string().into_bytes();
        text.resize(text.len().max(item.value.len()), b' ');
        Answer::Counted { value: new, cas: self.put(key, text.into(), item.flags, item.ends) }
    }

    fn clear(&mut self) {
        self.flushed += self.items.len() as u64;
        self.items.clear();
    }

    fn put(&mut self, key: &Bytes, value: Bytes, flags: u32, ends: u32) -> u64 {
        self.newest_cas = self.newest_cas.checked_add(1).unwrap_or(1);
        let item = Item { value, flags, ends, cas: self.newest_cas };
        self.items.insert(key.clone(), item);
        self.newest_cas
    }

    fn hit(&self, key: &Bytes) -> Answer {
        match self.items.get(key) {
            Some(item) => Answer::Hit { flags: item.flags, cas: item.cas, value: Value(item.value.clone()) },
            None => Answer::NotFound,
        }
    }

    fn set_end(&mut self, key: &Bytes, ends: u32) {
        if let Some(item) = self.items.get_mut(key) {
            item.ends = ends;
        }
    }
}

impl Item {
    /// Whether it is what another one is, whatever their versions.
    #[must_use]
    pub fn is_as(&self, other: &Self) -> bool {
        (&self.value, self.flags, self.ends) == (&other.value, other.flags, other.ends)
    }

    fn has_ended(&self, now: u32) -> bool {
        self.ends != 0 && self.ends <= now
    }
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { value, flags, ends, cas } = self;
        let value = Value(value.clone());
        write!(f, "{value:?}, flags {flags}, ends {ends}, version {cas}")
    }
}

/// The version of no item.
const NO_VERSION: u64 = 0;

fn without_version(mut answer: Answer) -> Answer {
    match &mut answer {
        Answer::Hit { cas, .. }
        | Answer::Touched { cas, .. }
        | Answer::Stored { cas }
        | Answer::Counted { cas, .. } => *cas = 0,
        _ => {}
    }
    answer
}

fn is_refusal(answer: &Answer) -> bool {
    *answer == Answer::Refused(Refusal::OutOfMemory)
}

fn writes(answer: &Answer) -> bool {
    matches!(answer, Answer::Stored { .. } | Answer::Counted { .. })
}

fn ends(expiration: Expiration, now: u32) -> u32 {
    match expiration {
        Expiration::Never => 0,
        Expiration::After(seconds) => now + seconds,
        Expiration::At(time) => time,
    }
}

/// The number that a value begins with, as far as white space or a NUL.
fn number(value: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(value);
    let is_space = |c| " \t\n\u{b}\u{c}\r".contains(c);
    let word = text.trim_start_matches(is_space);
    let end = word.find(|c| is_space(c) || c == '\0').unwrap_or(word.len());
    word[..end].parse().ok()
}

#[test]
#[should_panic(expected = "was answered")]
fn a_wrong_value_is_noticed() {
    let mut oracle = Oracle::new(100);
    oracle.apply(&Ask::set("key", "right"), 0);
    let wrong = Answer::Hit { flags: 0, cas: 1, value: Value(Bytes::from_static(b"wrong")) };
    oracle.judge(&Ask::get("key"), &wrong, 0, Losses::Evictions);
}

#[test]
#[should_panic(expected = "nothing can be missing")]
fn a_lost_item_is_noticed_where_nothing_is_evicted() {
    let mut oracle = Oracle::new(100);
    oracle.apply(&Ask::set("key", "value"), 0);
    oracle.judge(&Ask::get("key"), &Answer::NotFound, 0, Losses::Refusals);
}

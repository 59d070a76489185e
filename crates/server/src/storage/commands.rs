//! The commands: what each does to which item.
//!
//! The semantics are memcached's, to the letter: which condition is looked at first, what a CAS of another version
//! does to which command, what is kept and what is not.

use wire::{Cas, Concat, Direction, Expiration, OnMiss, StoreMode};

use crate::clock::UnixSeconds;
use crate::limits::COUNTER_ITEM_BYTES_MAX;
use crate::message::{Older, Refusal, Reply, Watched};
use crate::storage::counter::{self, Digits};
use crate::storage::detail::Event;
use crate::storage::engine::{Answers, Engine};
use crate::storage::expiry::unix_time;
use crate::storage::items::{Item, Marked, NewValue};
use crate::storage::log::Address;
use crate::storage::log::record::RECORD_HEADER_BYTES;

impl Engine {
    pub(super) fn get(&mut self, item: Item<'_>, answers: &mut Answers<'_>) -> Reply {
        self.counters.cmd_get += 1;
        let found = self.lookup_for_read(item);
        let Some(at) = found else {
            self.counters.get_misses += 1;
            return Reply::NotFound;
        };
        self.counters.get_hits += 1;
        self.hit(at, answers)
    }

    /// The item if it is another than the client knows; else the connection waits for that, or waits no longer.
    pub(super) fn watch(
        &mut self,
        item: Item<'_>,
        known: u64,
        wait_ms: u32,
        told: Watched,
        answers: &mut Answers<'_>,
    ) -> Reply {
        let found = self.lookup(item);
        let is_known = found.and_then(|at| self.version(at)).map_or(0, Cas::get) == known;
        if is_known && wait_ms > 0 {
            let end = found.map_or(0, |at| self.log.header(at).expiration());
            return if self.watch.add(item.hash, answers.conn, end) {
                Reply::Waiting
            } else {
                Reply::TooManyWait
            };
        }
        if wait_ms == 0 {
            self.watch.remove(item.hash, answers.conn);
        }
        match (told, found) {
            (Watched::Meta { content, reading, options }, _) => {
                self.meta_get(item, content, reading, &answers.meta_get(options), answers)
            }
            (Watched::Item, _) if is_known => Reply::Done,
            (Watched::Item, None) => Reply::NotFound,
            (Watched::Item, Some(at)) => {
                self.note_read(at);
                self.hit(at, answers)
            }
        }
    }

    pub(super) fn unwatch(&mut self, item: Item<'_>, answers: &Answers<'_>) -> Reply {
        self.watch.remove(item.hash, answers.conn);
        Reply::Done
    }

    pub(super) fn get_and_touch(
        &mut self,
        item: Item<'_>,
        expiration: Expiration,
        answers: &mut Answers<'_>,
    ) -> Reply {
        match self.find_and_touch(item, expiration) {
            Some(at) => self.hit(at, answers),
            None => Reply::NotFound,
        }
    }

    pub(super) fn touch(&mut self, item: Item<'_>, expiration: Expiration) -> Reply {
        match self.find_and_touch(item, expiration) {
            Some(at) => {
                let header = self.log.header(at);
                Reply::Touched { flags: header.flags(), cas: self.version(at) }
            }
            None => Reply::NotFound,
        }
    }

    /// The expiration is all that changes: the version stays.
    fn find_and_touch(&mut self, item: Item<'_>, expiration: Expiration) -> Option<Address> {
        self.counters.cmd_touch += 1;
        let Some(at) = self.lookup_for_read(item) else {
            self.counters.touch_misses += 1;
            return None;
        };
        self.counters.touch_hits += 1;
        let expiration = unix_time(expiration, self.now);
        self.set_expiration(at, expiration);
        Some(at)
    }

    /// SET, ADD, REPLACE. A version makes each of the three a compare-and-swap.
    pub(super) fn store(
        &mut self,
        item: Item<'_>,
        mode: StoreMode,
        flags: u32,
        expiration: UnixSeconds,
        cas: Option<u64>,
        value: NewValue<'_>,
    ) -> Reply {
        self.counters.cmd_set += 1;
        self.note(item, Event::Set);
        let found = self.lookup(item);
        if let Err(refused) = self.admit(mode, cas, found) {
            return refused;
        }
        match self.write(item, found, flags, expiration, value) {
            Ok(cas) => Reply::Stored { cas },
            Err(why) => {
                let older = if mode == StoreMode::Set { Older::Delete } else { Older::Keep };
                self.unstorable(item, why, older)
            }
        }
    }

    /// Whether a value may be stored, seeing what there is.
    pub(super) fn admit(
        &mut self,
        mode: StoreMode,
        cas: Option<u64>,
        found: Option<Address>,
    ) -> Result<(), Reply> {
        let refused = match (self.heeded(cas), found) {
            (Some(_), None) => {
                self.counters.cas_misses += 1;
                Some(Reply::NotFound)
            }
            (Some(cas), Some(at)) if !self.has_version(at, cas) => {
                self.counters.cas_badval += 1;
                Some(Reply::Exists)
            }
            (Some(_), Some(_)) => {
                self.counters.cas_hits += 1;
                None
            }
            (None, Some(_)) if mode == StoreMode::Add => Some(Reply::Exists),
            (None, None) if mode == StoreMode::Replace => Some(Reply::NotFound),
            (None, _) => None,
        };
        refused.map_or(Ok(()), Err)
    }

    /// APPEND, PREPEND. Flags and expiration stay.
    pub(super) fn concat(
        &mut self,
        item: Item<'_>,
        side: Concat,
        cas: Option<u64>,
        value: NewValue<'_>,
    ) -> Reply {
        self.counters.cmd_set += 1;
        self.note(item, Event::Set);
        match self.lookup(item) {
            Some(at) => self.concat_at(item, at, side, cas, value, Marked::default()),
            None => Reply::NotStored,
        }
    }

    /// The same for an item that is there.
    pub(super) fn concat_at(
        &mut self,
        item: Item<'_>,
        at: Address,
        side: Concat,
        cas: Option<u64>,
        value: NewValue<'_>,
        marked: Marked,
    ) -> Reply {
        let cas = self.heeded(cas);
        if cas.is_some_and(|cas| !self.has_version(at, cas)) {
            return Reply::Exists;
        }
        let header = *self.log.header(at);
        let value_bytes = header.value_len() + value.len();
        if value_bytes > self.config.item_bytes_max {
            self.counters.store_too_large += 1;
            return Reply::NotStored;
        }
        self.copied_bytes += value_bytes;
        let order = |old, new| match side {
            Concat::Append => [old, new],
            Concat::Prepend => [new, old],
        };
        let (flags, expiration) = (header.flags(), header.expiration());
        let written = if self.is_inline(item, value_bytes) {
            let mut scratch = std::mem::take(&mut self.scratch);
            scratch.clear();
            for part in order(self.value(at), value.bytes()) {
                scratch.extend_from_slice(part);
            }
            let value = NewValue::Inline(&scratch);
            let written = self.write_marked(item, Some(at), flags, expiration, value, marked);
            self.scratch = scratch;
            written
        } else {
            let old = self.value_apart(at);
            self.block_of(order(&old, value.bytes()), old.len()).and_then(|block| {
                // Making room may have moved the old item, or evicted it: its value is at hand all the same.
                let at = self.find(item);
                self.write_marked(item, at, flags, expiration, NewValue::Block(block), marked)
            })
        };
        match written {
            Ok(cas) => Reply::Stored { cas },
            Err(why) => self.unstorable(item, why, Older::Keep),
        }
    }

    pub(super) fn unstorable(&mut self, item: Item<'_>, why: Refusal, older: Older) -> Reply {
        match why {
            Refusal::TooLarge => self.counters.store_too_large += 1,
            Refusal::OutOfMemory => self.counters.store_no_memory += 1,
        }
        if older == Older::Delete
            && let Some(at) = self.lookup(item)
        {
            self.unlink(at);
        }
        Reply::Refused(why)
    }

    pub(super) fn delete(&mut self, item: Item<'_>, cas: Option<u64>) -> Reply {
        self.note(item, Event::Delete);
        let Some(at) = self.lookup(item) else {
            self.counters.delete_misses += 1;
            return Reply::NotFound;
        };
        if cas.is_some_and(|cas| !self.has_version(at, cas)) {
            return Reply::Exists;
        }
        self.counters.delete_hits += 1;
        self.unlink(at);
        Reply::Done
    }

    /// INCREMENT, DECREMENT. That the value is a number at all is looked at before the version, its digits after it.
    pub(super) fn count(
        &mut self,
        item: Item<'_>,
        direction: Direction,
        delta: u64,
        on_miss: OnMiss,
        cas: Option<u64>,
    ) -> Reply {
        let Some(at) = self.lookup(item) else {
            return self.count_missing(item, direction, on_miss, None);
        };
        self.count_at(item, at, direction, delta, cas, None)
    }

    /// Arithmetic on an item that is there, and a version of the client's for what comes of it.
    pub(super) fn count_at(
        &mut self,
        item: Item<'_>,
        at: Address,
        direction: Direction,
        delta: u64,
        cas: Option<u64>,
        new_cas: Option<Cas>,
    ) -> Reply {
        let value_bytes = self.log.header(at).value_len();
        if value_bytes == 0 || RECORD_HEADER_BYTES + item.key.len() + value_bytes > COUNTER_ITEM_BYTES_MAX {
            return Reply::NonNumeric;
        }
        if cas.is_some_and(|cas| !self.has_version(at, cas)) {
            return Reply::Exists;
        }
        self.copied_bytes += value_bytes;
        let Some(old) = counter::parse(self.value(at)) else {
            return Reply::NonNumeric;
        };
        let new = match direction {
            Direction::Increment => old.wrapping_add(delta),
            Direction::Decrement => old.saturating_sub(delta),
        };
        match direction {
            Direction::Increment => self.counters.incr_hits += 1,
            Direction::Decrement => self.counters.decr_hits += 1,
        }
        match self.write_number(item, at, new, new_cas) {
            Ok(cas) => Reply::Counted { value: new, cas },
            Err(why) => self.unstorable(item, why, Older::Keep),
        }
    }

    pub(super) fn count_missing(
        &mut self,
        item: Item<'_>,
        direction: Direction,
        on_miss: OnMiss,
        new_cas: Option<Cas>,
    ) -> Reply {
        let OnMiss::Create { initial, expiration } = on_miss else {
            match direction {
                Direction::Increment => self.counters.incr_misses += 1,
                Direction::Decrement => self.counters.decr_misses += 1,
            }
            return Reply::NotFound;
        };
        let expiration = unix_time(expiration, self.now);
        let digits = Digits::of(initial);
        let marked = Marked { own_cas: new_cas, ..Marked::default() };
        match self.write_marked(item, None, 0, expiration, NewValue::Inline(digits.as_bytes()), marked) {
            Ok(cas) => Reply::Counted { value: initial, cas },
            Err(why) => self.unstorable(item, why, Older::Keep),
        }
    }

    /// In the old digits' place where there is room, padded with spaces, as memcached does it; else as a new record.
    fn write_number(
        &mut self,
        item: Item<'_>,
        at: Address,
        number: u64,
        new_cas: Option<Cas>,
    ) -> Result<Option<Cas>, Refusal> {
        let digits = Digits::of(number);
        let digits = digits.as_bytes();
        let header = *self.log.header(at);
        if new_cas.is_none()
            && digits.len() <= header.value_len()
            && let Some(value) = self.log.value_mut(at)
        {
            let (number, padding) = value.split_at_mut(digits.len());
            number.copy_from_slice(digits);
            padding.fill(b' ');
            let cas = self.next_cas();
            self.newest_cas = cas.get();
            self.log.set_cas(at, cas);
            self.note_change(self.log.header(at).hash());
            let now = self.now;
            let header = self.log.header_mut(at);
            *header = header.with_frequency_min(1);
            header.set_accessed(now);
            return Ok(self.told(cas.get()));
        }
        let mut value = digits.to_vec();
        value.resize(value.len().max(header.value_len()), b' ');
        let marked = Marked { own_cas: new_cas, ..Marked::default() };
        let value = NewValue::Inline(&value);
        self.write_marked(item, Some(at), header.flags(), header.expiration(), value, marked)
    }

    pub(super) fn flush(&mut self, at: Expiration) -> Reply {
        self.counters.cmd_flush += 1;
        self.flushes.flush(at, self.now);
        self.advance_flushes();
        Reply::Done
    }
}

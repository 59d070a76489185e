//! Redis's strings: what its commands do where memcached's do something else.
//!
//! The semantics are Redis's: a number has 64 bits with a sign and is stored as its digits, nothing else; a value that
//! is patched grows from nothing and is filled up with zeros; a store that is refused leaves the older value alone.
//! Flags, of which Redis knows nothing, stay with an item as long as it is changed, and are 0 when it is set.

use bytes::Bytes;
use wire::Expiration;

use crate::message::{ExpireWhen, Old, Older, Put, PutWhen, Reading, Refusal, Reply};
use crate::storage::block::Block;
use crate::storage::counter::{self, COUNTER_BYTES_MAX, Digits};
use crate::storage::detail::Event;
use crate::storage::engine::{Answers, Engine};
use crate::storage::expiry::unix_time;
use crate::storage::items::{Item, NewValue};
use crate::storage::log;

impl Engine {
    /// SET, with all that may stand behind it.
    pub(super) fn put(
        &mut self,
        item: Item<'_>,
        put: Put,
        value: NewValue<'_>,
        answers: &mut Answers<'_>,
    ) -> Reply {
        self.counters.cmd_set += 1;
        self.note(item, Event::Set);
        let found = self.lookup(item);
        let told = match (put.old, found) {
            (Old::Untold, _) => None,
            (Old::Told, None) => Some(Reply::NotFound),
            (Old::Told, Some(at)) => match self.hit(at, answers) {
                refused @ Reply::Refused(_) => return refused,
                hit => Some(hit),
            },
        };
        let held_back = match (put.when, found) {
            (PutWhen::Missing, Some(_)) => Some(Reply::Exists),
            (PutWhen::There, None) => Some(Reply::NotFound),
            (PutWhen::Unguarded, _) if self.is_guarded => Some(Reply::Exists),
            _ => None,
        };
        if let Some(held_back) = held_back {
            return told.unwrap_or(held_back);
        }
        let kept = found.map_or(0, |at| self.log.header(at).expiration());
        let expiration = put.expiration.map_or(kept, |expiration| unix_time(expiration, self.now));
        match self.write(item, found, 0, expiration, value) {
            Ok(cas) => told.unwrap_or(Reply::Stored { cas }),
            Err(why) => self.unstorable(item, why, Older::Keep),
        }
    }

    /// Notes whether there is an item under any of several keys, for the [`PutWhen::Unguarded`] that follow in the same
    /// run. The first one, number 0, begins anew.
    pub(super) fn guard(&mut self, item: Item<'_>, number: u32) -> Reply {
        let is_there = self.lookup(item).is_some();
        self.is_guarded = is_there || number > 0 && self.is_guarded;
        Reply::Done
    }

    /// INCRBY and its kin. A missing item counts as 0.
    pub(super) fn add(&mut self, item: Item<'_>, delta: i64) -> Reply {
        let found = self.lookup(item);
        let hit = u64::from(found.is_some());
        let (mut old, mut flags, mut expiration) = (0, 0, 0);
        if let Some(at) = found {
            let header = *self.log.header(at);
            let number = (header.value_len() <= COUNTER_BYTES_MAX)
                .then(|| counter::parse_exact(without_padding(self.value(at))));
            let Some(number) = number.flatten() else {
                return Reply::NonNumeric;
            };
            (old, flags, expiration) = (number, header.flags(), header.expiration());
        }
        if delta < 0 {
            self.counters.decr_hits += hit;
            self.counters.decr_misses += 1 - hit;
        } else {
            self.counters.incr_hits += hit;
            self.counters.incr_misses += 1 - hit;
        }
        let Some(sum) = old.checked_add(delta) else {
            return Reply::Overflow;
        };
        let digits = Digits::of_signed(sum);
        match self.write(item, found, flags, expiration, NewValue::Inline(digits.as_bytes())) {
            Ok(_) => Reply::Sum(sum),
            Err(why) => self.unstorable(item, why, Older::Keep),
        }
    }

    /// APPEND, SETRANGE: puts bytes over the value's from `offset` on, or behind its end.
    pub(super) fn patch(&mut self, item: Item<'_>, offset: Option<u32>, patch: NewValue<'_>) -> Reply {
        self.counters.cmd_set += 1;
        self.note(item, Event::Set);
        let found = self.lookup(item);
        let header = found.map(|at| *self.log.header(at));
        let old_len = header.map_or(0, |header| header.value_len());
        if offset.is_some() && patch.len() == 0 {
            return Reply::Length(old_len as u64);
        }
        let start = offset.map_or(old_len, |offset| offset as usize);
        let len = old_len.max(start.saturating_add(patch.len()));
        if len > self.config.item_bytes_max {
            return self.unstorable(item, Refusal::TooLarge, Older::Keep);
        }
        self.copied_bytes += len;
        let (flags, expiration) = header.map_or((0, 0), |header| (header.flags(), header.expiration()));
        let written = if log::is_inline(item.key.len(), len, self.config.memory_bytes_max) {
            let mut scratch = std::mem::take(&mut self.scratch);
            scratch.clear();
            scratch.extend_from_slice(found.map_or(&[], |at| self.value(at)));
            scratch.resize(len, 0);
            scratch[start..start + patch.len()].copy_from_slice(patch.bytes());
            let written = self.write(item, found, flags, expiration, NewValue::Inline(&scratch));
            self.scratch = scratch;
            written
        } else {
            let old = found.map(|at| self.value_apart(at)).unwrap_or_default();
            self.patched_block(len, &old, start, patch.bytes()).and_then(|block| {
                // Making room may have moved the old item, or evicted it: its value is at hand all the same.
                let at = self.find(item);
                self.write(item, at, flags, expiration, NewValue::Block(block))
            })
        };
        match written {
            Ok(_) => Reply::Length(len as u64),
            Err(why) => self.unstorable(item, why, Older::Keep),
        }
    }

    /// A block of `len` bytes with a value that is patched.
    fn patched_block(
        &mut self,
        len: usize,
        old: &[u8],
        start: usize,
        patch: &[u8],
    ) -> Result<Bytes, Refusal> {
        let mut block = Block::new(len, &self.meter).map_err(|_| Refusal::OutOfMemory)?;
        self.make_room_for_charged(old.len())?;
        // A mapping begins as zeros.
        let room = block.room(len);
        room[..old.len()].copy_from_slice(old);
        room[start..start + patch.len()].copy_from_slice(patch);
        block.commit(len);
        Ok(block.freeze())
    }

    /// EXPIRE and its kin. A time that has come ends the item.
    pub(super) fn expire(&mut self, item: Item<'_>, expiration: Expiration, when: ExpireWhen) -> Reply {
        self.counters.cmd_touch += 1;
        let Some(at) = self.lookup(item) else {
            self.counters.touch_misses += 1;
            return Reply::NotFound;
        };
        self.counters.touch_hits += 1;
        let (new, old) = (unix_time(expiration, self.now), self.log.header(at).expiration());
        let is_wanted = match when {
            ExpireWhen::Always => true,
            ExpireWhen::Persistent => old == 0,
            ExpireWhen::Volatile => old != 0,
            ExpireWhen::Later => old != 0 && new > old,
            ExpireWhen::Sooner => old == 0 || new < old,
            ExpireWhen::SoonerIfVolatile => old != 0 && new < old,
        };
        if !is_wanted {
            return Reply::NotStored;
        }
        if new != 0 && new <= self.now {
            self.unlink(at);
        } else {
            self.set_expiration(at, new);
        }
        Reply::Done
    }

    /// What there is to know of an item besides its value.
    pub(super) fn peek(&mut self, item: Item<'_>, reading: Reading) -> Reply {
        let found = match reading {
            Reading::Noted => self.lookup_for_read(item),
            Reading::Unnoticed => self.lookup(item),
        };
        let Some(at) = found else {
            return Reply::NotFound;
        };
        let header = self.log.header(at);
        Reply::Peeked {
            expiration: header.expiration(),
            now: self.now,
            value_bytes: header.value_len() as u32,
        }
    }

    /// GETDEL.
    pub(super) fn take(&mut self, item: Item<'_>, answers: &mut Answers<'_>) -> Reply {
        let reply = self.get(item, answers);
        if matches!(reply, Reply::Hit { .. })
            && let Some(at) = self.find(item)
        {
            self.counters.delete_hits += 1;
            self.unlink(at);
        }
        reply
    }
}

/// A number without the spaces that memcached's counters leave behind it where it has become shorter.
fn without_padding(value: &[u8]) -> &[u8] {
    let len = value.iter().rposition(|&byte| byte != b' ').map_or(0, |last| last + 1);
    &value[..len]
}

//! The engine: what each command does to which item.
//!
//! The semantics are memcached's, to the letter: which condition is looked at first, what a CAS of another version
//! does to which command, what is kept and what is not. They are written down command by command below.
//!
//! # Memory
//! Segments, index and large values together keep the limit: [`Engine::make_room`] evicts the oldest records until a
//! new one fits. Large values that are on their way in or out count as well, and memory that they take goes off the
//! cache at the next batch.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use wire::{Cas, Concat, Direction, Expiration, OnMiss, StoreMode};

use crate::clock::UnixSeconds;
use crate::limits::{ANSWER_BYTES_PER_BATCH, ANSWER_BYTES_PER_RUN, COUNTER_ITEM_BYTES_MAX};
use crate::message::{Arena, Batch, Command, KeyHash, Older, Op, Payload, Refusal, Reply, Span, Value};
use crate::stats::{Counters, Group, StorageFigures, StorageStats};
use crate::storage::block::{Block, Blocks, Meter};
use crate::storage::counter::{self, Digits};
use crate::storage::detail::{Detail, Event};
use crate::storage::expiry::{Flushes, Life, unix_time};
use crate::storage::index::Index;
use crate::storage::log::{self, Address, Log, Stored};
use crate::storage::record::{FETCHED, LARGE, Meta, RECORD_HEADER_BYTES, RecordHeader};

/// What an engine is told once.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The memory for segments, index and large values.
    pub memory_bytes_max: usize,
    /// The longest value.
    pub item_bytes_max: usize,
    /// What happens when the memory is full.
    pub when_full: WhenFull,
    /// Whether clients are told versions.
    pub versions: Versions,
    /// Whether `stats sizes` has figures.
    pub track_sizes: bool,
    /// Where a key's prefix ends.
    pub prefix_delimiter: u8,
    /// Whether prefixes are counted from the start.
    pub detail_enabled: bool,
}

/// What happens when the memory is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest items go.
    Evict,
    /// New items are refused.
    Refuse,
}

/// Whether clients are told versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    /// They are.
    Told,
    /// Every version reads as 0, and none ever matches.
    Hidden,
}

/// Everything that is stored.
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    log: Log,
    index: Index,
    blocks: Blocks,
    meter: Arc<Meter>,
    flushes: Flushes,
    newest_cas: u64,
    now: UnixSeconds,
    counters: Counters,
    /// Bytes of all items: records and large values.
    item_bytes: usize,
    sizes: Option<BTreeMap<usize, u64>>,
    detail: Detail,
    detail_enabled: bool,
    scratch: Vec<u8>,
}

/// Records looked at between two batches, and when there is nothing else to do, for items that a flush has ended.
const SWEEP_PER_BATCH: usize = 64;
const SWEEP_WHEN_IDLE: usize = 4096;

/// `stats sizes` counts items by multiples of this.
const SIZE_STEP_BYTES: usize = 32;

impl Engine {
    /// An empty engine. Blocks that reach it are charged on `meter`.
    ///
    /// # Errors
    /// Where the system does not give the address space.
    pub fn new(config: EngineConfig, meter: Arc<Meter>) -> io::Result<Self> {
        Ok(Self {
            log: Log::new(config.memory_bytes_max)?,
            index: Index::new(config.memory_bytes_max),
            blocks: Blocks::default(),
            meter,
            flushes: Flushes::default(),
            newest_cas: 0,
            now: 0,
            counters: Counters::default(),
            item_bytes: 0,
            sizes: config.track_sizes.then(BTreeMap::new),
            detail: Detail::new(config.prefix_delimiter),
            detail_enabled: config.detail_enabled,
            scratch: Vec::new(),
            config,
        })
    }

    /// Executes a batch at `now`: every operation of every run, in order, gets its answer in [`Batch::replies`].
    ///
    /// Where the values of the answers grow too long, the rest of a run is left from a read on, and
    /// [`Run::executed`](crate::message::Run::executed) says so.
    pub fn execute(&mut self, batch: &mut Batch, now: UnixSeconds) {
        self.now = now;
        self.flushes.advance(now, self.newest_cas);
        self.settle();
        let mut answers = Answers {
            values: &mut batch.values,
            large: &mut batch.large,
            bytes: 0,
        };
        for run in &mut batch.runs {
            let bytes_before = answers.bytes;
            run.executed = 0;
            for op in &batch.ops[run.ops()] {
                let full = answers.bytes - bytes_before >= ANSWER_BYTES_PER_RUN
                    || answers.bytes >= ANSWER_BYTES_PER_BATCH;
                if full && matches!(op.command, Command::Get | Command::GetAndTouch { .. }) {
                    break;
                }
                batch.replies.push(self.apply(op, &batch.input, &mut answers));
                run.executed += 1;
            }
            // Answers stand at the places of their operations.
            batch.replies.resize_with(run.ops().end, || Reply::Done);
        }
        self.sweep_flushed(SWEEP_PER_BATCH);
    }

    /// Does a bounded amount of work that nobody waits for. Says whether there is more.
    pub fn maintain(&mut self, now: UnixSeconds) -> bool {
        self.now = now;
        self.flushes.advance(now, self.newest_cas);
        self.sweep_flushed(SWEEP_WHEN_IDLE)
    }

    fn apply(&mut self, op: &Op, input: &Arena, answers: &mut Answers<'_>) -> Reply {
        let item = Item {
            key: &input.filled()[op.key.range()],
            hash: op.hash,
        };
        match op.command {
            Command::Pass => Reply::Done,
            Command::Get => self.get(item, answers),
            Command::GetAndTouch { expiration } => self.get_and_touch(item, expiration, answers),
            Command::Touch { expiration } => self.touch(item, expiration),
            Command::Store {
                mode,
                flags,
                expiration,
                cas,
                value,
            } => {
                let expiration = unix_time(expiration, self.now);
                self.store(
                    item,
                    mode,
                    flags,
                    expiration,
                    cas,
                    NewValue::of(value, input, answers),
                )
            }
            Command::Concat { side, cas, value } => {
                self.concat(item, side, cas, NewValue::of(value, input, answers))
            }
            Command::Unstorable { why, older } => self.unstorable(item, why, older),
            Command::Delete { cas } => self.delete(item, cas),
            Command::Count {
                direction,
                delta,
                on_miss,
                cas,
            } => self.count(item, direction, delta, on_miss, cas),
            Command::Flush { at } => self.flush(at),
            Command::Stats(group) => self.stats(group),
        }
    }
}

/// The commands, one by one.
impl Engine {
    fn get(&mut self, item: Item<'_>, answers: &mut Answers<'_>) -> Reply {
        self.counters.cmd_get += 1;
        let found = self.lookup_for_read(item);
        let Some(at) = found else {
            self.counters.get_misses += 1;
            return Reply::NotFound;
        };
        self.counters.get_hits += 1;
        self.hit(at, answers)
    }

    fn get_and_touch(&mut self, item: Item<'_>, expiration: Expiration, answers: &mut Answers<'_>) -> Reply {
        match self.find_and_touch(item, expiration) {
            Some(at) => self.hit(at, answers),
            None => Reply::NotFound,
        }
    }

    fn touch(&mut self, item: Item<'_>, expiration: Expiration) -> Reply {
        match self.find_and_touch(item, expiration) {
            Some(at) => {
                let header = self.log.header(at);
                Reply::Touched {
                    flags: header.flags(),
                    cas: self.told(header.cas()),
                }
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
        self.log.header_mut(at).set_expiration(expiration);
        Some(at)
    }

    /// SET, ADD, REPLACE. A version makes each of the three a compare-and-swap.
    fn store(
        &mut self,
        item: Item<'_>,
        mode: StoreMode,
        flags: u32,
        expiration: UnixSeconds,
        cas: Option<Cas>,
        value: NewValue<'_>,
    ) -> Reply {
        self.counters.cmd_set += 1;
        self.note(item, Event::Set);
        let found = self.lookup(item);
        let refused = match (cas, found) {
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
        if let Some(refused) = refused {
            return refused;
        }
        match self.write(item, flags, expiration, value) {
            Ok(cas) => Reply::Stored { cas },
            Err(why) => {
                let older = if mode == StoreMode::Set {
                    Older::Delete
                } else {
                    Older::Keep
                };
                self.unstorable(item, why, older)
            }
        }
    }

    /// APPEND, PREPEND. Flags and expiration stay.
    fn concat(&mut self, item: Item<'_>, side: Concat, cas: Option<Cas>, value: NewValue<'_>) -> Reply {
        self.counters.cmd_set += 1;
        self.note(item, Event::Set);
        let Some(at) = self.lookup(item) else {
            return Reply::NotStored;
        };
        if cas.is_some_and(|cas| !self.has_version(at, cas)) {
            return Reply::Exists;
        }
        let record = self.log.record(at);
        let (flags, expiration) = (record.header.flags(), record.header.expiration());
        if record.header.value_len() + value.len() > self.config.item_bytes_max {
            self.counters.store_too_large += 1;
            return Reply::NotStored;
        }
        let old = match record.value {
            Stored::Inline(old) => old,
            Stored::Block(number) => self.blocks.get(number),
        };
        let parts = match side {
            Concat::Append => [old, value.bytes()],
            Concat::Prepend => [value.bytes(), old],
        };
        // The old value lies in the log, which is about to change: a copy of both, or the block that the new value
        // is too large to do without.
        let written = if log::is_inline(
            item.key.len(),
            parts[0].len() + parts[1].len(),
            self.config.memory_bytes_max,
        ) {
            let mut scratch = std::mem::take(&mut self.scratch);
            scratch.clear();
            scratch.extend_from_slice(parts[0]);
            scratch.extend_from_slice(parts[1]);
            let written = self.write(item, flags, expiration, NewValue::Inline(&scratch));
            self.scratch = scratch;
            written
        } else {
            match block_of(parts, &self.meter) {
                Ok(block) => self.write(item, flags, expiration, NewValue::Block(block)),
                Err(why) => Err(why),
            }
        };
        match written {
            Ok(cas) => Reply::Stored { cas },
            Err(why) => self.unstorable(item, why, Older::Keep),
        }
    }

    fn unstorable(&mut self, item: Item<'_>, why: Refusal, older: Older) -> Reply {
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

    fn delete(&mut self, item: Item<'_>, cas: Option<Cas>) -> Reply {
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
    fn count(
        &mut self,
        item: Item<'_>,
        direction: Direction,
        delta: u64,
        on_miss: OnMiss,
        cas: Option<Cas>,
    ) -> Reply {
        let Some(at) = self.lookup(item) else {
            return self.count_missing(item, direction, on_miss);
        };
        let record = self.log.record(at);
        let item_bytes = RECORD_HEADER_BYTES + item.key.len() + record.header.value_len();
        if record.header.value_len() == 0 || item_bytes > COUNTER_ITEM_BYTES_MAX {
            return Reply::NonNumeric;
        }
        if cas.is_some_and(|cas| !self.has_version(at, cas)) {
            return Reply::Exists;
        }
        let old = match record.value {
            Stored::Inline(old) => old,
            Stored::Block(number) => self.blocks.get(number),
        };
        let Some(old) = counter::parse(old) else {
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
        match self.write_number(item, at, new) {
            Ok(cas) => Reply::Counted { value: new, cas },
            Err(why) => self.unstorable(item, why, Older::Keep),
        }
    }

    fn count_missing(&mut self, item: Item<'_>, direction: Direction, on_miss: OnMiss) -> Reply {
        let OnMiss::Create { initial, expiration } = on_miss else {
            match direction {
                Direction::Increment => self.counters.incr_misses += 1,
                Direction::Decrement => self.counters.decr_misses += 1,
            }
            return Reply::NotFound;
        };
        let expiration = unix_time(expiration, self.now);
        match self.write(
            item,
            0,
            expiration,
            NewValue::Inline(Digits::of(initial).as_bytes()),
        ) {
            Ok(cas) => Reply::Counted { value: initial, cas },
            Err(why) => self.unstorable(item, why, Older::Keep),
        }
    }

    /// In the old digits' place where there is room, padded with spaces, as memcached does it; else as a new record.
    fn write_number(&mut self, item: Item<'_>, at: Address, number: u64) -> Result<Option<Cas>, Refusal> {
        let digits = Digits::of(number);
        let header = *self.log.header(at);
        if !header.is(LARGE) && digits.as_bytes().len() <= header.value_len() {
            let cas = self.next_cas();
            self.log.header_mut(at).set_cas(cas);
            let (number, padding) = self
                .log
                .inline_value_mut(at)
                .split_at_mut(digits.as_bytes().len());
            number.copy_from_slice(digits.as_bytes());
            padding.fill(b' ');
            return Ok(self.told(cas.get()));
        }
        let padding = header.value_len().saturating_sub(digits.as_bytes().len());
        let value = [digits.as_bytes(), &vec![b' '; padding]].concat();
        self.write(
            item,
            header.flags(),
            header.expiration(),
            NewValue::Inline(&value),
        )
    }

    fn flush(&mut self, at: Expiration) -> Reply {
        self.counters.cmd_flush += 1;
        self.flushes.flush(at, self.now, self.newest_cas);
        Reply::Done
    }

    fn stats(&mut self, group: Group) -> Reply {
        let figures = match group {
            Group::General | Group::Items | Group::Slabs => StorageStats::Figures(Box::new(self.figures())),
            Group::Sizes => StorageStats::Sizes(
                self.sizes
                    .as_ref()
                    .map(|sizes| sizes.iter().map(|(bytes, count)| (*bytes, *count)).collect()),
            ),
            Group::DetailDump => StorageStats::Detail(self.detail.dump()),
            Group::DetailOn | Group::DetailOff => {
                self.detail_enabled = group == Group::DetailOn;
                StorageStats::Nothing
            }
            Group::Reset => {
                self.counters.reset();
                self.detail.reset();
                StorageStats::Nothing
            }
            Group::Settings => StorageStats::Settings {
                detail_enabled: self.detail_enabled,
            },
        };
        Reply::Stats(Box::new(figures))
    }
}

/// Items.
impl Engine {
    /// The item under a key, if it is there for anyone to see. One that has expired or was flushed goes.
    fn lookup(&mut self, item: Item<'_>) -> Option<Address> {
        self.lookup_life(item).ok()
    }

    /// The same for a command that reads, which counts why there is nothing, and remembers that the item was read.
    fn lookup_for_read(&mut self, item: Item<'_>) -> Option<Address> {
        let found = match self.lookup_life(item) {
            Ok(at) => {
                let header = self.log.header(at);
                if !header.is(FETCHED) {
                    self.log.header_mut(at).mark(FETCHED);
                }
                Some(at)
            }
            Err(life) => {
                match life {
                    Some(Life::Expired) => self.counters.get_expired += 1,
                    Some(Life::Flushed) => self.counters.get_flushed += 1,
                    Some(Life::Live) | None => {}
                }
                None
            }
        };
        self.note(item, if found.is_some() { Event::Hit } else { Event::Miss });
        found
    }

    fn lookup_life(&mut self, item: Item<'_>) -> Result<Address, Option<Life>> {
        let at = self
            .index
            .find(item.hash, |at| self.log.key(at) == item.key)
            .ok_or(None)?;
        match self.flushes.life_of(self.log.header(at), self.now) {
            Life::Live => Ok(at),
            gone => {
                self.reclaim(at);
                Err(Some(gone))
            }
        }
    }

    /// The answer that holds the item's value: a small one copied, a large one by reference.
    fn hit(&mut self, at: Address, answers: &mut Answers<'_>) -> Reply {
        let record = self.log.record(at);
        let value = match record.value {
            Stored::Inline(value) => answers.copy(value),
            Stored::Block(number) => answers.share(self.blocks.get(number).clone()),
        };
        Reply::Hit {
            flags: record.header.flags(),
            cas: self.told(record.header.cas()),
            value,
        }
    }

    /// Writes an item in the place of the one that was under its key.
    fn write(
        &mut self,
        item: Item<'_>,
        flags: u32,
        expiration: UnixSeconds,
        value: NewValue<'_>,
    ) -> Result<Option<Cas>, Refusal> {
        let inline = log::is_inline(item.key.len(), value.len(), self.config.memory_bytes_max);
        let value = match value {
            NewValue::Inline(bytes) if !inline => NewValue::Block(block_of([bytes, &[]], &self.meter)?),
            value => value,
        };
        let marks = if inline { 0 } else { LARGE };
        // The version is drawn last: a write that is refused takes none.
        let mut meta = Meta {
            hash: item.hash,
            cas: FIRST_CAS,
            flags,
            expiration,
        };
        let bytes = RecordHeader::new(&meta, item.key.len(), value.len(), marks).record_bytes();
        self.make_room(bytes)?;
        meta.cas = self.next_cas();
        let header = RecordHeader::new(&meta, item.key.len(), value.len(), marks);
        self.item_bytes += header.item_bytes();
        self.track_size(header.item_bytes(), Track::Enter);
        let at = match value {
            NewValue::Block(block) if !inline => {
                let number = self.blocks.insert(block);
                self.log.append_large(&header, item.key, number)
            }
            value => self.log.append(&header, item.key, [value.bytes(), &[]]),
        };
        self.counters.total_items += 1;
        if let Some(old) = self.index.put(item.hash, at, |at| self.log.key(at) == item.key) {
            self.end_record(old);
        }
        Ok(self.told(meta.cas.get()))
    }

    /// Takes an item out.
    fn unlink(&mut self, at: Address) {
        self.index.remove(self.log.header(at).hash(), at);
        self.end_record(at);
    }

    fn end_record(&mut self, at: Address) {
        let record = self.log.record(at);
        let item_bytes = record.header.item_bytes();
        if let Stored::Block(number) = record.value {
            self.blocks.remove(number);
        }
        self.log.end(at);
        self.item_bytes -= item_bytes;
        self.track_size(item_bytes, Track::Leave);
    }

    /// Takes out an item that is gone already: it has expired, or was flushed.
    fn reclaim(&mut self, at: Address) {
        self.counters.reclaimed += 1;
        if !self.log.header(at).is(FETCHED) {
            self.counters.expired_unfetched += 1;
        }
        self.unlink(at);
    }

    fn next_cas(&mut self) -> Cas {
        self.newest_cas += 1;
        Cas::from_wire(self.newest_cas).expect("2^64 versions last longer than any server")
    }

    /// A version as clients are told it.
    fn told(&self, cas: u64) -> Option<Cas> {
        match self.config.versions {
            Versions::Told => Cas::from_wire(cas),
            Versions::Hidden => None,
        }
    }

    fn has_version(&self, at: Address, cas: Cas) -> bool {
        self.told(self.log.header(at).cas()) == Some(cas)
    }

    fn note(&mut self, item: Item<'_>, event: Event) {
        if self.detail_enabled {
            self.detail.record(item.key, event);
        }
    }

    fn track_size(&mut self, item_bytes: usize, track: Track) {
        let Some(sizes) = &mut self.sizes else { return };
        let step = item_bytes.next_multiple_of(SIZE_STEP_BYTES);
        let count = sizes.entry(step).or_default();
        match track {
            Track::Enter => *count += 1,
            Track::Leave => *count -= 1,
        }
        if *count == 0 {
            sizes.remove(&step);
        }
    }
}

/// Memory.
impl Engine {
    /// Bytes charged against the limit.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        self.log.resident_bytes() + self.index.bytes() + self.meter.bytes()
    }

    /// Gives back what blocks or a grown index have taken since the last batch.
    fn settle(&mut self) {
        while self.used_bytes() > self.config.memory_bytes_max {
            if !self.log.cool() && !self.evict() {
                return;
            }
        }
    }

    /// Makes room for a record of `bytes`: in the open segment, in a free one, or in the place of the oldest items.
    fn make_room(&mut self, bytes: usize) -> Result<(), Refusal> {
        loop {
            let free_bytes = self.config.memory_bytes_max.checked_sub(self.used_bytes());
            let may_warm_up = free_bytes.is_some_and(|free| free >= self.log.segment_bytes());
            match free_bytes {
                Some(_) if self.log.has_room(bytes) => return Ok(()),
                Some(_) if self.log.warm_segments() > 0 => self.log.open_segment(self.now),
                Some(_) if may_warm_up && self.log.cold_segments() > 0 => self.log.open_segment(self.now),
                None if self.log.cool() => {}
                _ if self.evict() => {}
                _ => return Err(Refusal::OutOfMemory),
            }
        }
    }

    /// Ends the oldest item. Says whether that, or an open segment in which nothing lives, made any progress.
    fn evict(&mut self) -> bool {
        let Some(at) = self.log.oldest() else {
            return self.log.free_open_segment_if_dead();
        };
        if self.flushes.life_of(self.log.header(at), self.now) != Life::Live {
            self.reclaim(at);
            return true;
        }
        if self.config.when_full == WhenFull::Refuse {
            return false;
        }
        self.counters.evictions += 1;
        if !self.log.header(at).is(FETCHED) {
            self.counters.evicted_unfetched += 1;
        }
        self.counters.evicted_age = self.now - self.log.oldest_since().unwrap_or(self.now);
        self.unlink(at);
        true
    }

    /// Takes out the oldest items as long as a flush has ended them, at most `limit`. Says whether there are more.
    fn sweep_flushed(&mut self, limit: usize) -> bool {
        for _ in 0..limit {
            match self.log.oldest() {
                Some(at) if self.flushes.is_flushed(self.log.header(at).cas()) => self.reclaim(at),
                _ => return false,
            }
        }
        true
    }

    fn figures(&self) -> StorageFigures {
        StorageFigures {
            counters: self.counters.clone(),
            item_count: self.index.len(),
            item_bytes: self.item_bytes,
            index_bytes: self.index.bytes(),
            index_capacity: self.index.capacity(),
            block_count: self.blocks.count(),
            block_bytes: self.meter.bytes(),
            segment_bytes: self.log.segment_bytes(),
            resident_segments: self.log.resident_segments(),
            used_segments: self.log.used_segments(),
            live_bytes: self.log.live_bytes(),
            oldest_age: self
                .log
                .oldest_since()
                .map_or(0, |since| self.now.saturating_sub(since)),
        }
    }
}

#[derive(Clone, Copy)]
struct Item<'a> {
    key: &'a [u8],
    hash: KeyHash,
}

/// The value of a write, before it has a place.
enum NewValue<'a> {
    Inline(&'a [u8]),
    Block(Bytes),
}

impl<'a> NewValue<'a> {
    fn of(value: Payload, input: &'a Arena, answers: &mut Answers<'_>) -> Self {
        match value {
            Payload::Inline(span) => Self::Inline(&input.filled()[span.range()]),
            Payload::Large(at) => Self::Block(std::mem::take(&mut answers.large[at as usize])),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Inline(bytes) => bytes,
            Self::Block(block) => block,
        }
    }

    fn len(&self) -> usize {
        self.bytes().len()
    }
}

/// Whether an item comes or goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Track {
    Enter,
    Leave,
}

/// Stands in for a version until one is drawn.
const FIRST_CAS: Cas = match Cas::from_wire(1) {
    Some(cas) => cas,
    None => unreachable!(),
};

/// The values of a batch's answers.
struct Answers<'a> {
    values: &'a mut Vec<u8>,
    large: &'a mut Vec<Bytes>,
    /// Bytes of both.
    bytes: usize,
}

impl Answers<'_> {
    fn copy(&mut self, value: &[u8]) -> Value {
        let span = Span::new(self.values.len(), value.len());
        self.values.extend_from_slice(value);
        self.bytes += value.len();
        Value::Copied(span)
    }

    fn share(&mut self, value: Bytes) -> Value {
        self.bytes += value.len();
        self.large.push(value);
        Value::Large((self.large.len() - 1) as u32)
    }
}

fn block_of(parts: [&[u8]; 2], meter: &Arc<Meter>) -> Result<Bytes, Refusal> {
    let mut block = Block::new(parts[0].len() + parts[1].len(), meter).map_err(|_| Refusal::OutOfMemory)?;
    for part in parts {
        block.extend(part);
    }
    Ok(block.freeze())
}

//! Items: finding, writing and ending them.

use std::collections::BTreeMap;

use bytes::Bytes;
use wire::Cas;

use crate::clock::UnixSeconds;
use crate::message::{Arena, KeyHash, Payload, Refusal, Reply};
use crate::storage::block::Block;
use crate::storage::detail::Event;
use crate::storage::engine::{Answers, Engine, Versions};
use crate::storage::expiry::Life;
use crate::storage::log::record::{FETCHED, LARGE, Meta, OWN_CAS, RecordHeader};
use crate::storage::log::{Address, Queue, Stored};

/// `stats sizes` counts items by multiples of this.
const SIZE_STEP_BYTES: usize = 32;

#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    pub(super) key: &'a [u8],
    pub(super) hash: KeyHash,
    /// Where it was likely to lie when it was looked up ahead.
    pub(super) likely: Option<Address>,
}

/// The value of a write, before it has a place.
pub(super) enum NewValue<'a> {
    Inline(&'a [u8]),
    Block(Bytes),
}

impl<'a> NewValue<'a> {
    pub(super) fn of(value: Payload, input: &'a Arena, answers: &mut Answers<'_>) -> Self {
        match value {
            Payload::Inline(span) => Self::Inline(&input.filled()[span.range()]),
            Payload::Large(at) => Self::Block(std::mem::take(&mut answers.large[at as usize])),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Inline(bytes) => bytes,
            Self::Block(block) => block,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes().len()
    }
}

/// What an item is besides that, where a client wants it so.
#[derive(Clone, Copy, Default)]
pub(super) struct Marked {
    pub(super) marks: u16,
    pub(super) own_cas: Option<Cas>,
}

/// Whether an item comes or goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Track {
    Enter,
    Leave,
}

impl Engine {
    /// The item under a key, if it is there for anyone to see. One that has expired or was flushed goes.
    #[inline]
    pub(super) fn lookup(&mut self, item: Item<'_>) -> Option<Address> {
        self.lookup_life(item).ok()
    }

    /// The same for a command that reads, which counts why there is nothing, and remembers that the item was read.
    #[inline]
    pub(super) fn lookup_for_read(&mut self, item: Item<'_>) -> Option<Address> {
        let found = self.lookup_or_count(item);
        if let Some(at) = found {
            self.note_read(at);
        }
        self.note(item, if found.is_some() { Event::Hit } else { Event::Miss });
        found
    }

    /// The item under a key; it is counted why there is nothing.
    #[inline]
    pub(super) fn lookup_or_count(&mut self, item: Item<'_>) -> Option<Address> {
        let found = self.lookup_life(item);
        match found {
            Err(Some(Life::Expired)) => self.counters.get_expired += 1,
            Err(Some(Life::Flushed)) => self.counters.get_flushed += 1,
            Err(Some(Life::Live) | None) | Ok(_) => {}
        }
        found.ok()
    }

    /// Remembers that an item was read. The line stays clean where nothing changes.
    #[inline]
    pub(super) fn note_read(&mut self, at: Address) {
        if !self.log.header(at).is_read_often(self.now) {
            self.log.header_mut(at).note_read(self.now);
        }
    }

    /// The item under a key, whatever has become of it.
    #[inline]
    pub(super) fn find(&self, item: Item<'_>) -> Option<Address> {
        let is_same = |at: &Address| self.log.key(*at) == item.key;
        if self.index.changes() == self.likely_as_of
            && let Some(at) = item.likely.filter(is_same)
        {
            return Some(at);
        }
        self.index.find(item.hash, |at| is_same(&at))
    }

    #[inline]
    fn lookup_life(&mut self, item: Item<'_>) -> Result<Address, Option<Life>> {
        let at = self.find(item).ok_or(None)?;
        match self.flushes.life_of(self.log.header(at), self.now) {
            Life::Live => Ok(at),
            gone => {
                self.reclaim(at);
                Err(Some(gone))
            }
        }
    }

    /// An item's value, wherever it lies.
    pub(super) fn value(&self, at: Address) -> &[u8] {
        match self.log.record(at).value {
            Stored::Inline(value) => value,
            Stored::Block(number) => self.blocks.get(number),
        }
    }

    /// The same as something that stays when the item goes.
    pub(super) fn value_apart(&self, at: Address) -> Bytes {
        match self.log.record(at).value {
            Stored::Inline(value) => Bytes::copy_from_slice(value),
            Stored::Block(number) => self.blocks.get(number).clone(),
        }
    }

    /// The answer that holds the item's value: a small one copied, a longer one lent, a large one shared.
    pub(super) fn hit(&mut self, at: Address, answers: &mut Answers<'_>) -> Reply {
        let record = self.log.record(at);
        let is_pinned = matches!(record.value, Stored::Block(number) if self.blocks.is_pinned(number));
        if record.header.value_len() > answers.value_bytes_max && !is_pinned {
            return self.unanswerable();
        }
        let value = match record.value {
            Stored::Inline(value) => match self.log.lend_value(at) {
                Some(loan) => answers.lend(loan),
                None => answers.copy(value),
            },
            Stored::Block(number) => answers.share(self.blocks.share(number)),
        };
        Reply::Hit { flags: record.header.flags(), cas: self.version(at), value }
    }

    /// Writes an item in the place of the one that is under its key: `old`, if there is one.
    pub(super) fn write(
        &mut self,
        item: Item<'_>,
        old: Option<Address>,
        flags: u32,
        expiration: UnixSeconds,
        value: NewValue<'_>,
    ) -> Result<Option<Cas>, Refusal> {
        self.write_marked(item, old, flags, expiration, value, Marked::default())
    }

    /// The same, with marks, and with a version of the client's in the place of the one that is told otherwise.
    pub(super) fn write_marked(
        &mut self,
        item: Item<'_>,
        old: Option<Address>,
        flags: u32,
        expiration: UnixSeconds,
        value: NewValue<'_>,
        marked: Marked,
    ) -> Result<Option<Cas>, Refusal> {
        let inline = self.is_inline(item, value.len());
        let (value, old) = match value {
            NewValue::Inline(bytes) if !inline => {
                (NewValue::Block(self.block_of([bytes, &[]], 0)?), self.find(item))
            }
            value => (value, old),
        };
        let meta = Meta { hash: item.hash, cas: self.next_cas(), flags, expiration };
        let own_cas = marked.own_cas.map(Cas::get);
        let place = if inline { 0 } else { LARGE };
        let told = if own_cas.is_some() { OWN_CAS } else { 0 };
        let mut header = RecordHeader::new(&meta, item.key.len(), value.len(), marked.marks | place | told);
        header.set_accessed(self.now);
        if let Some(old) = old {
            header.set_frequency(self.log.header(old).frequency());
        }
        if !old.is_some_and(|old| self.rewrite(old, &header, &value)) {
            self.append(item, old, &header, value, own_cas)?;
        }
        self.newest_cas = meta.cas.get();
        self.note_change(item.hash);
        self.counters.total_items += 1;
        self.keep_spare(header.record_bytes());
        Ok(self.told(own_cas.unwrap_or(meta.cas.get())))
    }

    /// Writes over the old item where it lies. Says whether it could.
    #[inline]
    fn rewrite(&mut self, at: Address, header: &RecordHeader, value: &NewValue<'_>) -> bool {
        // What was written elsewhere would be the newest of its queue; what stays has one more round before it. It takes
        // as many bytes as before, so there is nothing to account for.
        self.log.rewrite(at, &header.with_frequency_min(1), value.bytes())
    }

    /// Writes an item to the end of the log: of the old item's queue, if there is one, of main if it was evicted
    /// lately, of small if it is new.
    fn append(
        &mut self,
        item: Item<'_>,
        old: Option<Address>,
        header: &RecordHeader,
        value: NewValue<'_>,
        own_cas: Option<u64>,
    ) -> Result<(), Refusal> {
        let queue = match old {
            Some(old) => self.log.queue_of(old),
            None if self.ghost.take(item.hash) => {
                self.counters.ghost_hits += 1;
                Queue::Main
            }
            None => Queue::Small,
        };
        self.make_room(queue, header.record_bytes())?;
        let at = match value {
            NewValue::Block(block) if header.is(LARGE) => {
                let number = self.blocks.insert(block);
                self.log.append(queue, header, item.key, &number.to_be_bytes(), own_cas)
            }
            value => self.log.append(queue, header, item.key, value.bytes(), own_cas),
        };
        self.account(header.item_bytes(), Track::Enter);
        // Making room may have moved the old item, or evicted it.
        if let Some(old) = self.index.put(item.hash, at, |at| self.log.key(at) == item.key) {
            self.end_record(old);
        }
        Ok(())
    }

    /// Whether an item with a value of so many bytes lies in the log whole.
    pub(super) fn is_inline(&self, item: Item<'_>, value_bytes: usize) -> bool {
        self.log.is_inline(item.key.len(), value_bytes)
    }

    /// A block with the bytes of both parts, for which room is made first: items may have been moved and evicted.
    /// `held_bytes` stay in memory whatever is evicted, because they are among the parts.
    pub(super) fn block_of(&mut self, parts: [&[u8]; 2], held_bytes: usize) -> Result<Bytes, Refusal> {
        let len = parts.iter().map(|part| part.len()).sum();
        let mut block = Block::new(len, &self.meter).map_err(|_| Refusal::OutOfMemory)?;
        self.make_room_for_charged(held_bytes)?;
        for part in parts {
            block.extend(part);
        }
        Ok(block.freeze())
    }

    /// Takes an item out.
    pub(super) fn unlink(&mut self, at: Address) {
        let hash = self.log.header(at).hash();
        self.note_change(hash);
        self.index.remove(hash, at);
        self.end_record(at);
    }

    fn end_record(&mut self, at: Address) {
        let record = self.log.record(at);
        let item_bytes = record.header.item_bytes();
        if let Stored::Block(number) = record.value {
            self.blocks.remove(number);
        }
        self.flushed_count -= usize::from(self.flushes.is_flushed(record.header.cas()));
        self.log.end(at);
        self.account(item_bytes, Track::Leave);
    }

    /// Whoever waits for a change of an item is going to be told.
    #[inline]
    pub(super) fn note_change(&mut self, hash: KeyHash) {
        if !self.watch.is_empty() {
            self.watch.wake(hash);
        }
    }

    /// Changes when an item ends.
    pub(super) fn set_expiration(&mut self, at: Address, expiration: UnixSeconds) {
        self.log.set_expiration(at, expiration);
        if !self.watch.is_empty() {
            self.watch.note_end(self.log.header(at).hash(), expiration);
        }
    }

    /// Takes out an item that is gone already: it has expired, or was flushed.
    #[cold]
    pub(super) fn reclaim(&mut self, at: Address) {
        self.counters.reclaimed += 1;
        if !self.log.header(at).is(FETCHED) {
            self.counters.expired_unfetched += 1;
        }
        self.unlink(at);
    }

    /// The version of the next write. It is taken when the write is done.
    pub(super) fn next_cas(&self) -> Cas {
        // 0 is no version; behind the last one the first one comes again.
        Cas::from_wire(self.newest_cas.wrapping_add(1).max(1)).expect("not 0")
    }

    /// The version of an item as clients are told it.
    #[inline]
    pub(super) fn version(&self, at: Address) -> Option<Cas> {
        self.told(self.log.told_cas(at))
    }

    /// A version as clients are told it.
    pub(super) fn told(&self, cas: u64) -> Option<Cas> {
        match self.config.versions {
            Versions::Told => Cas::from_wire(cas),
            Versions::Hidden => None,
        }
    }

    /// The version that a store asks for. Where clients are told none, stores do not heed what they ask for.
    pub(super) fn heeded(&self, cas: Option<u64>) -> Option<u64> {
        cas.filter(|_| self.config.versions == Versions::Told)
    }

    pub(super) fn has_version(&self, at: Address, cas: u64) -> bool {
        self.version(at).is_some_and(|told| told.get() == cas)
    }

    pub(super) fn note(&mut self, item: Item<'_>, event: Event) {
        if self.detail_enabled {
            self.detail.record(item.key, event);
        }
    }

    fn account(&mut self, item_bytes: usize, track: Track) {
        match track {
            Track::Enter => self.item_bytes += item_bytes,
            Track::Leave => self.item_bytes -= item_bytes,
        }
        if let Some(sizes) = &mut self.sizes {
            track_size(sizes, item_bytes, track);
        }
    }
}

#[cold]
fn track_size(sizes: &mut BTreeMap<usize, u64>, item_bytes: usize, track: Track) {
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

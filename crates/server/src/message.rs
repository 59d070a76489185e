//! What passes between a front end and the storage thread.
//!
//! A front end is whoever holds a [`Storage`](crate::hop::Storage): an event loop, a test, a program that embeds the
//! crate. It fills a [`Batch`] with the operations of many connections, sends it, and gets the same object back with
//! the answers in it. It is used again and again, so that in the steady
//! state nothing is allocated.
//!
//! Operations are typed and checked, keys are hashed, all of it before the hop: the storage thread never parses.
//! They differ in nothing by the protocol they came in; what a session needs to word the answer travels along as
//! its [`Tag`].

mod meta;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use wire::{Cas, Concat, Direction, Expiration, OnMiss, StoreMode};

use crate::clock::UnixSeconds;
use crate::figures::{Group, StorageStats};
use crate::limits::{BATCH_BUFFER_BYTES_KEPT, BATCH_USES_PER_LOOK};
use crate::meter::{Charge, Meter, Use};
use crate::storage::snapshot::Piece;
pub use meta::{Meta, MetaCount, MetaDelete, MetaGet, MetaMode, MetaStore, Moment, State};

/// Operations on their way to the storage thread, or answers on their way back.
#[derive(Debug, Default)]
pub struct Batch {
    /// The requests' bytes, as they were read. Operations point into it.
    pub input: Arena,
    /// The operations of one connection each, in the order of arrival.
    pub runs: Vec<Run>,
    /// All runs' operations.
    pub ops: Vec<Op>,
    /// What meta commands ask for besides.
    pub meta: Vec<Meta>,
    /// An answer for each operation that was executed, at its own place; see [`Run::executed`].
    pub replies: Vec<Reply>,
    /// The small values of the answers, copied.
    pub values: Vec<u8>,
    /// Large values, by reference, of operations and answers both.
    pub large: Vec<Bytes>,
    /// Values of answers that are lent from where they are stored, until the answers are sent once.
    pub lent: Vec<Bytes>,
    /// When its first byte was about to be read.
    pub began: Option<Instant>,
    /// For its buffers.
    charge: Charge,
    /// The most that each buffer has held since they were last looked at, and how often it was used since.
    peaks: [usize; 8],
    use_count: u32,
}

/// The operations of one connection in one batch.
#[derive(Debug)]
pub struct Run {
    /// Whose they are.
    pub conn: ConnId,
    /// The first of them in [`Batch::ops`].
    pub first_op: u32,
    /// How many there are.
    pub op_count: u32,
    /// Everything in [`Batch::input`] that this connection put there.
    pub input: Span,
    /// How many of them, from the first on, were executed. The rest was left because the answers had grown too
    /// long: the front end takes its requests back as unread input.
    pub executed: u32,
}

/// A connection of one event loop: a slot, and which of the slot's occupants it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    /// The slot.
    pub slot: u32,
    /// Goes up with each new occupant.
    pub generation: u32,
}

/// One operation.
#[derive(Debug)]
pub struct Op {
    /// What is to be done.
    pub command: Command,
    /// The key in [`Batch::input`]; empty for a command without one.
    pub key: Span,
    /// The key's hash.
    pub hash: KeyHash,
    /// Where the request begins in [`Batch::input`].
    pub starts_at: u32,
    /// The session's own note.
    pub tag: Tag,
}

/// What a session needs to word the answer; nobody else reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag(pub u64);

/// 32 bits of a key's hash. See [`index`](crate::storage::index) for what each bit decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash(pub u32);

/// A range of a batch's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// How many.
    pub len: u32,
}

/// What the storage thread is asked to do.
///
/// A `cas` is the version that the item must have. No item has version 0, so 0 is one that never fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Nothing: the session knows the answer, and the operation keeps its place in the order.
    Pass,
    /// The value.
    Get,
    /// The value, and a new expiration.
    GetAndTouch {
        /// From now on.
        expiration: Expiration,
    },
    /// A new expiration.
    Touch {
        /// From now on.
        expiration: Expiration,
    },
    /// A new value.
    Store {
        /// Which items it may meet.
        mode: StoreMode,
        /// The client's 32 bits.
        flags: u32,
        /// When it ends.
        expiration: Expiration,
        /// The version it replaces.
        cas: Option<u64>,
        /// The value.
        value: Payload,
    },
    /// More bytes at one end of the value.
    Concat {
        /// Which end.
        side: Concat,
        /// The version it changes.
        cas: Option<u64>,
        /// The bytes.
        value: Payload,
    },
    /// A value that the front end could not take, and has skipped. Counted, and answered.
    Unstorable {
        /// Why.
        why: Refusal,
        /// What becomes of an older value under the key.
        older: Older,
    },
    /// Room for so many bytes of a large value that is on its way. They are charged already.
    Reserve {
        /// How many.
        bytes: usize,
    },
    /// The end of an item.
    Delete {
        /// The version it ends.
        cas: Option<u64>,
    },
    /// Arithmetic.
    Count {
        /// Up or down.
        direction: Direction,
        /// By how much.
        delta: u64,
        /// What becomes of a missing item.
        on_miss: OnMiss,
        /// The version it changes.
        cas: Option<u64>,
    },
    /// The end of all items.
    Flush {
        /// When.
        at: Expiration,
    },
    /// Statistics.
    Stats(Group),
    /// The next items of a walk over all of them; see `storage::scan`.
    Scan {
        /// 0 at first, then what the answer says.
        cursor: u64,
        /// About how many.
        count: u32,
    },
    /// The next piece of all items, as packets; see `storage::snapshot`.
    Snapshot {
        /// 0 at first, then what the answer says.
        cursor: u64,
    },
    /// Any item, from the operation's hash on.
    Sample,
    /// `mg`: what is known of an item.
    MetaGet {
        /// Whether its value is wanted.
        content: Content,
        /// Whether that counts as a read.
        reading: Reading,
        /// What else is asked for, at this place in [`Batch::meta`].
        options: Option<u32>,
    },
    /// `ms` with flags that no other store has, at this place in [`Batch::meta`].
    MetaStore {
        /// Where they are.
        options: u32,
        /// The value.
        value: Payload,
    },
    /// `md` with flags that no other deletion has, at this place in [`Batch::meta`].
    MetaDelete {
        /// Where they are.
        options: u32,
    },
    /// `ma` with flags that no other arithmetic has, at this place in [`Batch::meta`].
    MetaCount {
        /// Where they are.
        options: u32,
    },
    /// `me`: what is known of an item, which is not read by that.
    Describe,
    /// A new value, as Redis sets it.
    Put(Put),
    /// A note whether there is an item under the key, for what is [`PutWhen::Unguarded`].
    Guard {
        /// 0 for the first key of several.
        number: u32,
    },
    /// Redis's arithmetic.
    Add {
        /// By how much.
        delta: i64,
    },
    /// Bytes over a part of the value, or behind it.
    Patch {
        /// From where on, `None` for its end.
        offset: Option<u32>,
        /// The bytes.
        value: Payload,
    },
    /// A new expiration, if the one there is allows it.
    Expire {
        /// From now on.
        expiration: Expiration,
        /// If what.
        when: ExpireWhen,
    },
    /// What there is to know of an item besides its value.
    Peek(Reading),
    /// The value, and the end of the item.
    Take,
    /// The item when it has another version than this one, 0 for none at all; see `storage::watch`. It stands at the end
    /// of its run, and a connection has one at a time.
    Watch {
        /// The version that the client knows.
        known: u64,
        /// For how long, which is its front end's business; 0 for no longer: it is answered as the item is.
        wait_ms: u32,
        /// What it is told.
        told: Watched,
    },
    /// The end of waiting, where nobody is answered. The operation needs the key's hash alone.
    Unwatch,
}

/// What a client is told who has waited for an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// The item; nothing where it is still as he knows it.
    Item,
    /// What `mg` tells, see [`Command::MetaGet`].
    Meta {
        /// Whether its value is wanted.
        content: Content,
        /// Whether that counts as a read.
        reading: Reading,
        /// What else is asked for, at this place in [`Batch::meta`].
        options: Option<u32>,
    },
}

/// Whether a value is wanted, or its length alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// The value.
    Value,
    /// How long it is.
    Length,
}

/// A new value, as Redis sets it: one that is refused leaves the older one alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Put {
    /// Which items it may meet.
    pub when: PutWhen,
    /// When it ends, `None` for when the older one does.
    pub expiration: Option<Expiration>,
    /// Whether the older value is asked for.
    pub old: Old,
    /// The value.
    pub value: Payload,
}

/// Which items a new value may meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutWhen {
    /// Any, or none.
    Always,
    /// None.
    Missing,
    /// One that is there.
    There,
    /// Any, unless a [`Command::Guard`] before it has met one.
    Unguarded,
}

/// Whether a store answers the value that was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Old {
    /// It does.
    Told,
    /// It does not.
    Untold,
}

/// Which expirations may be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpireWhen {
    /// All.
    Always,
    /// None yet.
    Persistent,
    /// Any but none.
    Volatile,
    /// An earlier one.
    Later,
    /// A later one, or none.
    Sooner,
    /// A later one.
    SoonerIfVolatile,
}

/// Whether an item counts as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// It does.
    Noted,
    /// It does not.
    Unnoticed,
}

/// Where the value of a request lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// In [`Batch::input`].
    Inline(Span),
    /// In [`Batch::large`], at this place.
    Large(u32),
}

/// Why a value is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is longer than the configured limit.
    TooLarge,
    /// There is no memory for it.
    OutOfMemory,
}

/// What becomes of the older value when a newer one could not be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Older {
    /// It stays.
    Keep,
    /// It goes: whoever set a new value must not read the old one.
    Delete,
}

/// The answer to an operation.
#[derive(Debug)]
pub enum Reply {
    /// Done, and there is nothing to say about it.
    Done,
    /// An item's value.
    Hit {
        /// The client's 32 bits.
        flags: u32,
        /// The version, `None` where the server keeps none.
        cas: Option<Cas>,
        /// The value.
        value: Value,
    },
    /// An item's expiration was set.
    Touched {
        /// The client's 32 bits.
        flags: u32,
        /// The version.
        cas: Option<Cas>,
    },
    /// A value was stored.
    Stored {
        /// Its version.
        cas: Option<Cas>,
    },
    /// A counter was changed or created.
    Counted {
        /// What it holds.
        value: u64,
        /// Its version.
        cas: Option<Cas>,
    },
    /// No such item.
    NotFound,
    /// There is such an item, or its version is another.
    Exists,
    /// No such item to add bytes to.
    NotStored,
    /// The item is no number.
    NonNumeric,
    /// The value was refused.
    Refused(Refusal),
    /// Figures of the storage thread.
    Stats(Box<StorageStats>),
    /// Some of all items.
    Scanned(Box<ScanPage>),
    /// A piece of all items, as packets.
    Snapshot(Box<Piece>),
    /// The item is as the client knows it. When that may have changed, the connection is told, and asks again.
    Waiting,
    /// Too many wait already.
    TooManyWait,
    /// What `mg` tells of an item.
    Found {
        /// The client's 32 bits.
        flags: u32,
        /// The version.
        cas: Option<Cas>,
        /// The value, or how long it is.
        content: Told,
        /// Seconds until it ends, `None` for never.
        ttl: Option<NonZeroU32>,
        /// Seconds since it was read or written, as far as is known.
        idle: u16,
        /// What else is true of it.
        state: State,
    },
    /// `ms` has stored.
    MetaStored {
        /// The version.
        cas: Option<Cas>,
        /// Bytes of the value as it is now.
        value_bytes: usize,
    },
    /// `ma` has changed or created a counter.
    MetaCounted {
        /// What it holds.
        value: u64,
        /// Its version.
        cas: Option<Cas>,
        /// Seconds until it ends, `None` for never.
        ttl: Option<NonZeroU32>,
    },
    /// What `me` tells of an item.
    Described {
        /// The version.
        cas: Option<Cas>,
        /// Seconds until it ends, `None` for never.
        ttl: Option<NonZeroU32>,
        /// Seconds since it was read or written, as far as is known.
        idle: u16,
        /// What else is true of it.
        state: State,
        /// Bytes that it takes.
        item_bytes: u32,
    },
    /// What there is to know of an item besides its value.
    Peeked {
        /// The Unix time at which it ends, 0 for never.
        expiration: UnixSeconds,
        /// The Unix time at which this was found.
        now: UnixSeconds,
        /// Bytes of its value.
        value_bytes: u32,
    },
    /// Bytes of a value that was patched.
    Length(u64),
    /// What a number has become.
    Sum(i64),
    /// A number would not fit.
    Overflow,
}

/// A value, or its length alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The value.
    Value(Value),
    /// How many bytes it has.
    Length(u32),
}

/// A part of a walk over all items.
#[derive(Debug)]
pub struct ScanPage {
    /// Where the walk goes on, 0 at its end.
    pub next: u64,
    /// There may be none, and yet more behind them.
    pub items: Vec<ScannedItem>,
}

/// What is told of an item in passing.
#[derive(Debug, Clone, Copy)]
pub struct ScannedItem {
    /// Its key in [`Batch::values`].
    pub key: Span,
    /// The client's 32 bits.
    pub flags: u32,
    /// The Unix time at which it ends, 0 for never.
    pub expiration: UnixSeconds,
    /// Its version, told or not.
    pub cas: u64,
    /// When it was read or written last, as far as is known.
    pub since: UnixSeconds,
    /// Bytes of its value.
    pub value_bytes: usize,
    /// Bytes that it takes.
    pub item_bytes: usize,
    /// Whether it was read.
    pub fetched: bool,
}

/// Where the value of an answer lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// In [`Batch::values`].
    Copied(Span),
    /// In [`Batch::large`], at this place.
    Large(u32),
    /// In [`Batch::lent`], at this place. Where the socket does not take it at once, the rest is copied.
    Lent(u32),
}

/// Bytes that are filled front to back by `read` and given away as a slice.
///
/// The room behind the filled part stays initialised from one use to the next, so that it is zeroed once only.
#[derive(Debug, Default)]
pub struct Arena {
    bytes: Vec<u8>,
    filled: usize,
    /// The end of the farthest room since it was emptied.
    offered: usize,
    /// Bytes at the end of what is filled that were not read; see [`add_aside`](Self::add_aside).
    aside: usize,
}

impl Batch {
    /// A batch whose buffers are charged on `meter`.
    #[must_use]
    pub fn charged_on(meter: &Arc<Meter>) -> Self {
        Self { charge: Charge::new(meter, Use::Working), ..Self::default() }
    }

    /// Empties it for the next use. Buffers stay, unless they have grown beyond what is worth keeping, or beyond what has
    /// been needed lately. What they were in this use is charged until the end of the next one.
    pub fn recycle(&mut self) {
        let buffers = [
            self.input.bytes.len(),
            buffer_bytes(&self.runs),
            buffer_bytes(&self.ops),
            buffer_bytes(&self.replies),
            buffer_bytes(&self.values),
            buffer_bytes(&self.large),
            buffer_bytes(&self.lent),
            buffer_bytes(&self.meta),
        ];
        self.charge.set(buffers.iter().sum());
        self.use_count += 1;
        let is_looked_at = self.use_count.is_multiple_of(BATCH_USES_PER_LOOK);
        let [input, runs, ops, replies, values, large, lent, meta] = &mut self.peaks;
        self.input.recycle(input, is_looked_at);
        empty(&mut self.runs, runs, is_looked_at);
        empty(&mut self.ops, ops, is_looked_at);
        empty(&mut self.replies, replies, is_looked_at);
        empty(&mut self.values, values, is_looked_at);
        empty(&mut self.large, large, is_looked_at);
        empty(&mut self.lent, lent, is_looked_at);
        empty(&mut self.meta, meta, is_looked_at);
    }

    /// Puts a large value into the batch and says where.
    pub fn push_large(&mut self, value: Bytes) -> u32 {
        self.large.push(value);
        (self.large.len() - 1) as u32
    }
}

impl Command {
    /// Whether it can take long, or answer at length, so that it is left for a later batch when this one has done
    /// enough. An operation that brings a large value is not: its request is no longer there to be read again.
    #[must_use]
    pub fn can_wait(&self) -> bool {
        match self {
            Self::Get
            | Self::GetAndTouch { .. }
            | Self::Stats(_)
            | Self::Count { .. }
            | Self::Reserve { .. }
            | Self::Scan { .. }
            | Self::Sample
            | Self::MetaGet { .. }
            | Self::MetaCount { .. }
            | Self::Watch { .. }
            | Self::Take
            | Self::Add { .. } => true,
            Self::Concat { value, .. }
            | Self::MetaStore { value, .. }
            | Self::Patch { value, .. }
            | Self::Put(Put { old: Old::Told, value, .. }) => matches!(value, Payload::Inline(_)),
            _ => false,
        }
    }
}

impl Run {
    /// The places of its operations in [`Batch::ops`].
    #[must_use]
    pub fn ops(&self) -> std::ops::Range<usize> {
        self.first_op as usize..(self.first_op + self.op_count) as usize
    }

    /// The places of those that were executed.
    #[must_use]
    pub fn executed_ops(&self) -> std::ops::Range<usize> {
        self.first_op as usize..(self.first_op + self.executed) as usize
    }
}

impl Span {
    /// The span of `len` bytes from `start`.
    #[must_use]
    pub fn new(start: usize, len: usize) -> Self {
        Self { start: start as u32, len: len as u32 }
    }

    /// As a range of indices.
    #[must_use]
    pub fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end()
    }

    /// Behind its last byte.
    #[must_use]
    pub fn end(self) -> usize {
        self.start as usize + self.len as usize
    }
}

impl Arena {
    /// What has been filled.
    #[must_use]
    pub fn filled(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    /// Bytes filled.
    #[must_use]
    pub fn len(&self) -> usize {
        self.filled
    }

    /// Whether nothing has been filled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Room for `len` bytes behind what is filled. What is written there counts once it is [committed](Self::commit).
    pub fn room(&mut self, len: usize) -> &mut [u8] {
        let end = self.filled + len;
        self.offered = self.offered.max(end);
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        &mut self.bytes[self.filled..end]
    }

    /// Counts `len` bytes of the room as filled.
    pub fn commit(&mut self, len: usize) {
        debug_assert!(self.filled + len <= self.bytes.len(), "committed more than there was room for");
        self.filled += len;
    }

    /// Fills in a copy.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
        self.commit(bytes.len());
    }

    /// Fills in bytes that no client has sent, such as a key that was decoded, and says where. They come behind all that
    /// was read in a turn.
    pub fn add_aside(&mut self, bytes: &[u8]) -> Span {
        let span = Span::new(self.filled, bytes.len());
        self.extend(bytes);
        self.aside += bytes.len();
        span
    }

    /// How many such bytes stand at the end, the first time that it is asked.
    pub fn take_aside(&mut self) -> usize {
        std::mem::take(&mut self.aside)
    }

    /// As `empty` does it: here the room that was offered counts as needed, too.
    fn recycle(&mut self, peak: &mut usize, is_looked_at: bool) {
        *peak = self.offered.max(*peak);
        (self.filled, self.offered, self.aside) = (0, 0, 0);
        let kept = if is_looked_at {
            std::mem::take(peak).min(BATCH_BUFFER_BYTES_KEPT)
        } else {
            BATCH_BUFFER_BYTES_KEPT
        };
        if self.bytes.len() > kept {
            self.bytes.truncate(kept);
            self.bytes.shrink_to_fit();
        }
    }
}

/// Empties a buffer and keeps its memory, up to a limit; where it is looked at, up to the most that was needed since the
/// last look.
fn empty<T>(buffer: &mut Vec<T>, peak: &mut usize, is_looked_at: bool) {
    *peak = buffer.len().max(*peak);
    buffer.clear();
    let kept = BATCH_BUFFER_BYTES_KEPT / size_of::<T>();
    buffer.shrink_to(if is_looked_at { std::mem::take(peak).min(kept) } else { kept });
}

fn buffer_bytes<T>(buffer: &Vec<T>) -> usize {
    buffer.capacity() * size_of::<T>()
}

const _: () = assert!(size_of::<Op>() <= 80 && size_of::<Reply>() <= 32, "an operation stays small");

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(batch: &mut Batch, bytes: usize) {
        batch.input.extend(&vec![1; bytes]);
        batch.values.extend_from_slice(&vec![1; bytes]);
        batch.recycle();
    }

    #[test]
    fn a_batch_is_charged_for_its_buffers_and_gives_back_what_is_not_needed_any_more() {
        let meter = Arc::new(Meter::default());
        let mut batch = Batch::charged_on(&meter);
        fill(&mut batch, 100_000);
        let charged = meter.buffers();
        assert!(charged >= 200_000, "{charged}");
        for _ in 0..BATCH_USES_PER_LOOK {
            fill(&mut batch, 1000);
        }
        assert!(meter.buffers() >= charged / 2, "it was needed since the last look");
        for _ in 0..BATCH_USES_PER_LOOK {
            fill(&mut batch, 1000);
        }
        assert!((2000..5000).contains(&meter.buffers()), "{}", meter.buffers());
        fill(&mut batch, 3 * BATCH_BUFFER_BYTES_KEPT);
        assert!(meter.buffers() >= 6 * BATCH_BUFFER_BYTES_KEPT, "it was there");
        fill(&mut batch, 1000);
        assert!(meter.buffers() <= 2 * BATCH_BUFFER_BYTES_KEPT, "more is never kept");
        drop(batch);
        assert_eq!(meter.bytes(), 0);
    }
}

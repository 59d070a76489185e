//! Snapshots, written turn by turn while everything changes, and what each of them stands for.
//!
//! Pieces are asked for and written by the calls of [`memwire::snapshot`]'s thread, in their order. The file lies in
//! memory. Each item is as of its turn, so a piece is held against what is stored at that moment; what was there at every
//! turn is in the file once.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use bytes::Bytes;
use memwire::message::{Batch, Reply};
use memwire::snapshot::Reader;
use memwire::snapshot::format::Opening;
use memwire::snapshot::writer::Writer;
use memwire::storage::expiry::Flushes;
use memwire::storage::snapshot::Piece;
use wire::{Command, Expiration, FRAME_BODY_BYTES_MAX, Request, RequestHeader, Split, StoreMode};

use crate::Fault;
use crate::evicted::Evicted;
use crate::oracle::{Item, Oracle};

/// One piece in so many is lost, with [`Fault::LostPiece`].
const LOST_PIECE_EVERY: u64 = 5;

/// What snapshots there are.
#[derive(Debug, Default)]
pub struct Snapshots {
    /// The one in its place.
    place: Option<Snapshot>,
    attempt: Option<Attempt>,
    fault: Option<Fault>,
    pieces: u64,
    /// Those that were written to their end.
    pub taken: u64,
    /// Those that were begun anew because of a flush.
    pub begun_anew: u64,
}

/// A snapshot.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Its file.
    pub file: Vec<u8>,
    /// What is in it.
    pub items: BTreeMap<Bytes, Item>,
    /// The flush that was still to come.
    pub flush_at: Option<u32>,
}

/// What snapshots are held against.
#[derive(Debug)]
pub struct View<'a> {
    /// What is stored.
    pub oracle: &'a Oracle,
    /// What may be missing all the same.
    pub evicted: &'a Evicted,
    /// The time.
    pub now: u32,
}

/// One that is being written.
#[derive(Debug)]
struct Attempt {
    stream: Writer<Vec<u8>>,
    flushes: Flushes,
    /// The piece that is written next, and the batch that it lies in.
    held: Option<(Batch, Box<Piece>)>,
    holds: Snapshot,
    /// What was there at every turn.
    steady: BTreeSet<Bytes>,
    /// How much had been flushed when it began.
    flushed: u64,
}

impl Snapshots {
    /// None. With the fault, there are bad ones.
    #[must_use]
    pub fn new(fault: Option<Fault>) -> Self {
        Self { fault, ..Self::default() }
    }

    /// Writes the piece that was asked for last, and says which one is to be asked for, `None` where that was the last.
    ///
    /// # Errors
    /// Where something is missing in what was written.
    pub fn write(&mut self) -> Result<Option<u64>, String> {
        let Some(mut attempt) = self.attempt.take() else { return Ok(Some(0)) };
        let Some((batch, piece)) = attempt.held.take() else { return Ok(Some(0)) };
        self.pieces += 1;
        let is_lost = self.fault == Some(Fault::LostPiece) && self.pieces.is_multiple_of(LOST_PIECE_EVERY);
        if !is_lost {
            for part in piece.parts(&batch) {
                attempt.stream.write(part).map_err(|error| error.to_string())?;
            }
            attempt.stream.count(piece.items).map_err(|error| error.to_string())?;
        }
        if piece.next > 0 {
            self.attempt = Some(attempt);
            return Ok(Some(piece.next));
        }
        self.taken += 1;
        let file = attempt.stream.close().map_err(|error| error.to_string())?;
        self.place = Some(Snapshot { file, ..attempt.holds });
        Ok(None)
    }

    /// Takes the answer to what [`write`](Self::write) has asked for.
    ///
    /// # Errors
    /// Where it does not tell what is stored.
    pub fn take(&mut self, mut batch: Batch, view: &View<'_>) -> Result<(), String> {
        let Some(Reply::Snapshot(piece)) = batch.replies.pop() else {
            return Err("a snapshot is answered with no piece".into());
        };
        let mut attempt = match self.attempt.take() {
            Some(attempt) if attempt.flushes != piece.flushes => {
                self.begun_anew += 1;
                return Ok(());
            }
            Some(attempt) => attempt,
            None => Attempt::begin(&piece, view)?,
        };
        attempt.look_at(&piece, &batch, view)?;
        attempt.held = Some((batch, piece));
        self.attempt = Some(attempt);
        Ok(())
    }

    /// The server is gone: gives what is left, after a look at what was being written, of which the disk has `kept` bytes
    /// at most.
    ///
    /// # Errors
    /// Where a torn file reads like a whole one, or holds what is not in it.
    pub fn outlive(&mut self, kept: impl FnOnce(usize) -> usize) -> Result<Option<Snapshot>, String> {
        if let Some(mut attempt) = self.attempt.take() {
            let written = mem::take(attempt.stream.get_mut());
            attempt.holds.check_torn(&written[..kept(written.len())])?;
        }
        Ok(self.place.clone())
    }

    /// Whoever writes one gives it up.
    pub fn give_up(&mut self) {
        self.attempt = None;
    }
}

impl Attempt {
    fn begin(first: &Piece, view: &View<'_>) -> Result<Self, String> {
        let opening = Opening { created: view.now, newest_cas: first.newest_cas };
        let pending = first.flushes.pending();
        if pending != view.oracle.flush_at() {
            return Err(format!(
                "a snapshot begins with the flush {pending:?}, not {:?}",
                view.oracle.flush_at()
            ));
        }
        Ok(Self {
            stream: Writer::open(Vec::new(), opening, pending).map_err(|error| error.to_string())?,
            flushes: first.flushes,
            held: None,
            holds: Snapshot { flush_at: pending, ..Snapshot::default() },
            steady: view.oracle.items().keys().cloned().collect(),
            flushed: view.oracle.flushed,
        })
    }

    /// Holds a piece against what is stored.
    fn look_at(&mut self, piece: &Piece, batch: &Batch, view: &View<'_>) -> Result<(), String> {
        let Oracle { flushed, .. } = view.oracle;
        if (self.flushed, self.holds.flush_at) != (*flushed, view.oracle.flush_at()) {
            return Err("a snapshot goes on behind a flush".into());
        }
        let items = view.oracle.items();
        self.steady.retain(|key| items.contains_key(key) && !view.evicted.may_miss(key));
        let packets = piece.parts(batch).collect::<Vec<_>>().concat();
        let told = items_of(&packets)?;
        if told.len() as u64 != piece.items {
            return Err(format!("a piece of {} items says that they are {}", told.len(), piece.items));
        }
        for (key, item) in told {
            match items.get(&key) {
                Some(stored) if stored.is_as(&item) => {}
                stored => {
                    let key = key.escape_ascii();
                    return Err(format!("a snapshot tells {key} as {item:?}, and it is {stored:?}"));
                }
            }
            if self.holds.items.insert(key.clone(), item).is_some() {
                return Err(format!("a snapshot tells {} twice", key.escape_ascii()));
            }
        }
        let is_missing = |key: &&Bytes| !self.holds.items.contains_key(*key);
        if piece.next == 0
            && let Some(key) = self.steady.iter().find(is_missing)
        {
            return Err(format!(
                "a snapshot does not tell {}, which was there all the time",
                key.escape_ascii()
            ));
        }
        Ok(())
    }
}

impl Snapshot {
    /// A file that was not written to its end.
    fn check_torn(&self, file: &[u8]) -> Result<(), String> {
        let Ok(mut reader) = Reader::open(file, file.len() as u64) else { return Ok(()) };
        while let Ok(items) = reader.next_items() {
            let Some(items) = items else { return Err("a torn snapshot reads like a whole one".into()) };
            for item in items {
                let is_right = self.items.get(item.key).is_some_and(|right| right.is_as(&stored(&item)));
                if !is_right {
                    return Err(format!("a torn snapshot holds {} in another way", item.key.escape_ascii()));
                }
            }
        }
        Ok(())
    }
}

/// What a snapshot's item is once it is stored. Its version is another.
fn stored(item: &memwire::snapshot::reader::Item<'_>) -> Item {
    let ends = match item.expiration {
        Expiration::At(time) => time,
        _ => 0,
    };
    Item { value: Bytes::copy_from_slice(item.value), flags: item.flags, ends, cas: 0 }
}

/// The items that some packets set.
fn items_of(mut packets: &[u8]) -> Result<Vec<(Bytes, Item)>, String> {
    let mut items = Vec::new();
    while !packets.is_empty() {
        let Ok(Split::Whole { packet, rest }) = wire::split::<RequestHeader>(packets, FRAME_BODY_BYTES_MAX)
        else {
            return Err(format!("a snapshot holds {}", packets[..packets.len().min(60)].escape_ascii()));
        };
        let request = Request::parse(&packet).map_err(|reject| reject.to_string())?;
        let Command::Store { mode: StoreMode::Set, key, value, flags, expiration, cas: None } =
            request.command
        else {
            return Err(format!("a snapshot holds {request}"));
        };
        let item = memwire::snapshot::reader::Item { key: key.as_bytes(), value, flags, expiration };
        items.push((Bytes::copy_from_slice(item.key), stored(&item)));
        packets = rest;
    }
    Ok(items)
}

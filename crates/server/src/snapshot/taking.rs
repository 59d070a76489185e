//! Taking one snapshot: asking for a piece, writing it, resting.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::hop::{Bell, Home, Storage};
use crate::limits::{SNAPSHOT_BLOCK_BYTES, SNAPSHOT_BYTES_PER_S, SNAPSHOT_REST_MS, SNAPSHOT_STARTS_MAX};
use crate::message::{Batch, Command, ConnId, KeyHash, Op, Reply, Run, Span, Tag};
use crate::server::Server;
use crate::snapshot::file::{Older, Place};
use crate::snapshot::format::Opening;
use crate::snapshot::uncached::UncachedWriter;
use crate::snapshot::writer::Writer;
use crate::storage::snapshot::Piece;

/// The thread that is waited for wakes this one; should it be gone, this one looks again after so long.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How fast a snapshot is taken.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// So that clients notice little of it: at [`SNAPSHOT_BYTES_PER_S`], or faster if it would take longer than this, but
    /// never more than half of the time.
    Gentle(Option<Duration>),
    /// As fast as it goes, and not longer than this.
    Until(Instant),
}

/// A snapshot that was taken.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) items: u64,
    pub(super) bytes: u64,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The server ends, and the last one is still to come.
    Ending,
    /// The server ends, and there is no more time.
    Late,
    /// Everything was flushed again and again.
    Flushed,
    /// The storage thread is gone.
    Alone,
    /// The file.
    File(PathBuf, io::Error),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ending => write!(f, "the server ends"),
            Self::Late => write!(f, "it has taken too long; the one before stays"),
            Self::Flushed => {
                write!(f, "everything was flushed {SNAPSHOT_STARTS_MAX} times while it was written")
            }
            Self::Alone => write!(f, "there is no storage"),
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

/// What takes snapshots.
pub(super) struct Taker<'a> {
    server: &'a Server,
    place: &'a Place,
    storage: Storage,
    home: Arc<Home>,
    bell: Arc<Bell>,
    answers: Receiver<Box<Batch>>,
    /// The only batch, when it is not on its way.
    batch: Option<Box<Batch>>,
}

type Stream = Writer<UncachedWriter>;

/// How long after its begin a snapshot is to have so many bytes, and this share of all.
fn due(length: Option<Duration>, bytes: u64, share: f64) -> Duration {
    let due = Duration::from_secs_f64(bytes as f64 / SNAPSHOT_BYTES_PER_S as f64);
    length.map_or(due, |length| due.min(length.mul_f64(share)))
}

impl<'a> Taker<'a> {
    /// To be called on the thread that takes them.
    pub(super) fn new(server: &'a Server, storage: Storage, place: &'a Place) -> Self {
        let this = thread::current();
        let bell = Arc::new(Bell::new(move || this.unpark()));
        let (home, answers) = crossbeam_channel::bounded(1);
        let home = Arc::new(Home::new(home, Arc::clone(&bell)));
        let batch = Some(Box::new(Batch::charged_on(&server.meter)));
        Self { server, place, storage, home, bell, answers, batch }
    }

    /// Takes a snapshot, which then stands in its place.
    pub(super) fn take(&mut self, pace: Pace, older: Older) -> Result<Taken, Trouble> {
        let taken = (0..SNAPSHOT_STARTS_MAX).find_map(|_| self.attempt(pace, older).transpose());
        if !matches!(taken, Some(Ok(_))) {
            self.place.discard();
        }
        taken.unwrap_or(Err(Trouble::Flushed))
    }

    /// Writes one, `None` where everything was flushed meanwhile: what was written before is gone now.
    fn attempt(&mut self, pace: Pace, older: Older) -> Result<Option<Taken>, Trouble> {
        let created = self.place.create().and_then(UncachedWriter::new);
        let to = created.map_err(|error| self.file_trouble(error))?;
        let mut piece = self.ask(0, pace)?;
        let flushes = piece.flushes;
        let opening = Opening { created: self.server.clock.now(), newest_cas: piece.newest_cas };
        let started = Instant::now();
        let mut stream =
            Writer::open(to, opening, flushes.pending()).map_err(|error| self.file_trouble(error))?;
        loop {
            let began = Instant::now();
            self.write(&piece, &mut stream, pace)?;
            if piece.next == 0 {
                break;
            }
            if let Pace::Gentle(length) = pace {
                let half = began.elapsed().min(Duration::from_millis(SNAPSHOT_REST_MS));
                let share = stream.items() as f64 / piece.stored_items.max(1) as f64;
                let early = due(length, stream.bytes(), share).saturating_sub(started.elapsed());
                thread::park_timeout(half.max(early));
            }
            piece = self.ask(piece.next, pace)?;
            if piece.flushes != flushes {
                return Ok(None);
            }
        }
        let taken = Taken { items: stream.items(), bytes: stream.bytes() + wire::HEADER_BYTES as u64 };
        let file =
            stream.close().and_then(UncachedWriter::finish).map_err(|error| self.file_trouble(error))?;
        self.place.publish(&file, older).map_err(|error| self.file_trouble(error))?;
        Ok(Some(taken))
    }

    fn write(&self, piece: &Piece, stream: &mut Stream, pace: Pace) -> Result<(), Trouble> {
        let Some(batch) = &self.batch else { return Err(Trouble::Alone) };
        for part in piece.parts(batch) {
            self.write_bytes(part, stream, pace)?;
        }
        stream.count(piece.items).map_err(|error| self.file_trouble(error))
    }

    fn write_bytes(&self, bytes: &[u8], stream: &mut Stream, pace: Pace) -> Result<(), Trouble> {
        for step in bytes.chunks(SNAPSHOT_BLOCK_BYTES) {
            stream.write(step).map_err(|error| self.file_trouble(error))?;
            self.check(pace)?;
        }
        Ok(())
    }

    /// Asks the storage thread for the piece behind a cursor, which is then in the batch.
    fn ask(&mut self, cursor: u64, pace: Pace) -> Result<Piece, Trouble> {
        let Some(mut batch) = self.batch.take() else { return Err(Trouble::Alone) };
        batch.recycle();
        let key = Span::default();
        let command = Command::Snapshot { cursor };
        batch.ops.push(Op { command, key, hash: KeyHash(0), starts_at: 0, tag: Tag(0) });
        let conn = ConnId { slot: 0, generation: 0 };
        batch.runs.push(Run { conn, first_op: 0, op_count: 1, input: key, executed: 0 });
        self.storage.execute(batch, &self.home);
        let mut batch = loop {
            if let Ok(batch) = self.answers.try_recv() {
                break batch;
            }
            self.bell.sleep_unless(|| !self.answers.is_empty(), || thread::park_timeout(LOOK_EVERY));
        };
        let reply = batch.replies.pop();
        self.batch = Some(batch);
        self.check(pace)?;
        match reply {
            Some(Reply::Snapshot(piece)) => Ok(*piece),
            _ => Err(Trouble::Alone),
        }
    }

    /// Whether to go on.
    fn check(&self, pace: Pace) -> Result<(), Trouble> {
        match pace {
            Pace::Gentle(_) if self.server.snapshots.is_ending() => Err(Trouble::Ending),
            Pace::Until(end) if Instant::now() >= end => Err(Trouble::Late),
            _ => Ok(()),
        }
    }

    fn file_trouble(&self, error: io::Error) -> Trouble {
        Trouble::File(self.place.unfinished(), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_its_pace_unless_that_would_take_too_long() {
        let (bytes, seconds) = (SNAPSHOT_BYTES_PER_S * 10, Duration::from_secs);
        assert_eq!(due(None, bytes, 0.5), seconds(10));
        assert_eq!(due(Some(seconds(100)), bytes, 0.5), seconds(10));
        assert_eq!(due(Some(seconds(4)), bytes, 0.5), seconds(2));
        assert_eq!(due(None, 0, 0.0), Duration::ZERO);
    }
}

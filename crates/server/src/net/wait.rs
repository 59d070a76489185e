//! A connection whose client waits for an item to change.
//!
//! The storage thread has noted it, and nothing else of the connection is looked at meanwhile. It asks again when the
//! storage thread says that there may be a change, and takes its note back when the time is up; the answer to either
//! ends the waiting, unless nothing has changed. See `storage::watch`.

use std::time::Instant;

use crate::message::{Batch, Command, KeyHash, Op, Tag};
use crate::server::waiting_time;

/// See the module.
#[derive(Debug)]
pub(super) struct Wait {
    known: u64,
    key: Box<[u8]>,
    hash: KeyHash,
    tag: Tag,
    until: Instant,
    stage: Stage,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The storage thread has noted it.
    Noted,
    /// The storage thread has told of a change, and has ended its note.
    Changed,
    /// The note is to be taken back.
    Over,
    /// One of the two is on its way.
    Asking,
}

impl Wait {
    /// One that the storage thread has noted.
    pub(super) fn noted(op: &Op, batch: &Batch) -> Self {
        let (known, wait_ms) =
            if let Command::Watch { known, wait_ms } = op.command { (known, wait_ms) } else { (0, 0) };
        Self {
            known,
            key: batch.input.filled()[op.key.range()].into(),
            hash: op.hash,
            tag: op.tag,
            until: Instant::now() + waiting_time(u64::from(wait_ms)),
            stage: Stage::Noted,
        }
    }

    /// The storage thread has noted it again.
    pub(super) fn note(&mut self) {
        self.stage = Stage::Noted;
    }

    /// How long it waits, if it does.
    pub(super) fn until(&self) -> Option<Instant> {
        (self.stage == Stage::Noted).then_some(self.until)
    }

    /// What the storage thread has to forget where the connection ends.
    pub(super) fn hash(&self) -> KeyHash {
        self.hash
    }

    /// There may be a change.
    pub(super) fn wake(&mut self) {
        if self.stage == Stage::Noted {
            self.stage = Stage::Changed;
        }
    }

    /// The time is up.
    pub(super) fn end(&mut self) {
        if self.stage == Stage::Noted {
            self.stage = Stage::Over;
        }
    }

    /// What it has asked was left for a later batch: only looking again can be.
    pub(super) fn was_left(&mut self) {
        self.stage = Stage::Changed;
    }

    /// Whether it wants a turn.
    pub(super) fn wants_turn(&self) -> bool {
        matches!(self.stage, Stage::Changed | Stage::Over)
    }

    /// Asks again, or takes its note back.
    pub(super) fn ask(&mut self, batch: &mut Batch) {
        let key = batch.input.add_aside(&self.key);
        let command = match self.stage {
            Stage::Over => Command::Unwatch,
            _ => Command::Watch { known: self.known, wait_ms: 0 },
        };
        batch.ops.push(Op { command, key, hash: self.hash, starts_at: key.start, tag: self.tag });
        self.stage = Stage::Asking;
    }
}

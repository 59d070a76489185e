//! A connection whose client waits for an item to change.
//!
//! The storage thread has noted it, and nothing else of the connection is looked at meanwhile. Its request is kept, and
//! asked again when the storage thread says that there may be a change, or when the time is up, and then without waiting;
//! the answer ends the waiting, unless nothing has changed. See `storage::watch`.

use std::time::Instant;

use crate::message::{Batch, Command, KeyHash, Op};
use crate::server::{Server, waiting_time};
use crate::session::Session;

/// See the module.
#[derive(Debug)]
pub(super) struct Wait {
    request: Box<[u8]>,
    until: Instant,
    hash: KeyHash,
    stage: Stage,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The storage thread has noted it.
    Noted,
    /// The storage thread has told of a change, and has ended its note.
    Changed,
    /// The time is up.
    Over,
    /// Its request is on its way again.
    Asking,
}

impl Wait {
    /// One that the storage thread has noted.
    pub(super) fn noted(session: &Session, op: &Op, batch: &Batch) -> Self {
        let wait_ms = if let Command::Watch { wait_ms, .. } = op.command { wait_ms } else { 0 };
        Self {
            request: batch.input.filled()[session.request(op, batch).range()].into(),
            until: Instant::now() + waiting_time(u64::from(wait_ms)),
            hash: op.hash,
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

    /// Asks again.
    pub(super) fn ask(&mut self, session: &mut Session, batch: &mut Batch, server: &Server) {
        let request = batch.input.add_aside(&self.request);
        session.parse(batch, request, server);
        let asked = batch.ops.last_mut().map(|op| &mut op.command);
        if self.stage == Stage::Over
            && let Some(Command::Watch { wait_ms, .. }) = asked
        {
            *wait_ms = 0;
        }
        self.stage = Stage::Asking;
    }
}

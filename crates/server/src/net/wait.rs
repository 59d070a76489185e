//! A connection whose client waits for an item to change.
//!
//! The storage thread has noted it, and nothing else of the connection is looked at meanwhile. Its request stands before
//! all that was sent behind it, as unread input: it is read again when the storage thread says that there may be a change,
//! or when the time is up, and is then asked without waiting. The answer ends the waiting, unless nothing has changed. See
//! `storage::watch`.

use std::time::Instant;

use crate::message::{Command, KeyHash, Op};
use crate::server::waiting_time;

/// See the module.
#[derive(Debug)]
pub(super) struct Wait {
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
    pub(super) fn noted(op: &Op) -> Self {
        let wait_ms = if let Command::Watch { wait_ms, .. } = op.command { wait_ms } else { 0 };
        Self { until: Instant::now() + waiting_time(u64::from(wait_ms)), hash: op.hash, stage: Stage::Noted }
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

    /// What it has asked was left for a later batch.
    pub(super) fn was_left(&mut self) {
        self.stage = Stage::Changed;
    }

    /// Whether it wants a turn.
    pub(super) fn wants_turn(&self) -> bool {
        matches!(self.stage, Stage::Changed | Stage::Over)
    }

    /// Its request is asked again, as these operations.
    pub(super) fn ask(&mut self, ops: &mut [Op]) {
        if self.stage == Stage::Over
            && let Some(Op { command: Command::Watch { wait_ms, .. }, .. }) = ops.last_mut()
        {
            *wait_ms = 0;
        }
        self.stage = Stage::Asking;
    }
}

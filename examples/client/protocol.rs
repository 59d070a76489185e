//! What the protocols have in common: a command goes in, an outcome comes out.

use std::fmt;

use bytes::Bytes;
use wire::{Command, Status};

use crate::connection::{Connection, Requests};
use crate::failure::{Failure, Unsayable};

/// Statistics that are read for an answer. A server has some hundred.
pub(crate) const STATISTICS_COUNT_MAX: usize = 100_000;

/// How commands are asked, and answers understood.
pub(crate) trait Protocol {
    /// Appends the request for a command.
    ///
    /// # Errors
    /// Where the protocol has no words for it.
    fn write(&self, command: &Command<'_>, requests: &mut Requests) -> Result<(), Unsayable>;

    /// Reads the answer to a command.
    fn read(&self, command: &Command<'_>, connection: &mut Connection) -> Result<Outcome, Failure>;

    /// Appends the requests for a batch: one command, or reads of several keys.
    fn write_all(&self, batch: &[Command<'_>], requests: &mut Requests) -> Result<(), Unsayable> {
        batch.iter().try_for_each(|command| self.write(command, requests))
    }

    /// Reads the answers to a batch, in the order of its commands.
    fn read_all(&self, batch: &[Command<'_>], connection: &mut Connection) -> Result<Vec<Outcome>, Failure> {
        batch.iter().map(|command| self.read(command, connection)).collect()
    }
}

/// An answer, understood. Flags and CAS are there where the protocol tells them.
#[derive(Clone)]
pub(crate) enum Outcome {
    Done,
    Stored { cas: Option<u64> },
    Hit { value: Bytes, flags: Option<u32>, cas: Option<u64> },
    Number { number: serde_json::Number, cas: Option<u64> },
    Version(String),
    Statistics(Vec<(String, String)>),
    Refused(Refusal),
}

/// Why the server did not do it.
#[derive(Clone)]
pub(crate) enum Refusal {
    /// A reason that has a number in the binary protocol.
    Status(Status),
    /// An error, in the server's words.
    Said(String),
}

impl Outcome {
    pub(crate) const NOT_FOUND: Self = Self::Refused(Refusal::Status(Status::NOT_FOUND));
    pub(crate) const NOT_STORED: Self = Self::Refused(Refusal::Status(Status::NOT_STORED));
    pub(crate) const EXISTS: Self = Self::Refused(Refusal::Status(Status::EXISTS));

    pub(crate) fn exit_code(&self) -> u8 {
        match *self {
            Self::Refused(Refusal::Status(Status::NOT_FOUND | Status::EXISTS | Status::NOT_STORED)) => 1,
            Self::Refused(_) => 4,
            _ => 0,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => status.fmt(f),
            Self::Said(words) => f.write_str(words),
        }
    }
}

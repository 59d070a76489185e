//! What happened, in short: all of it as one number, and the last of it in words.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use wire::Opcode;

use crate::event_loop::Timers;
use crate::source::Origin;
use crate::world::Ending;

/// Events that are kept to be told.
const EVENTS_KEPT: usize = 24;

/// Something that happened. Clients and event loops are told by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is told in words below")]
pub enum Event {
    Came { client: usize, event_loop: usize },
    Asked { client: usize, opcode: Opcode, opaque: u32, bytes: usize },
    Sent { client: usize, bytes: usize },
    Read { client: usize, bytes: usize },
    Paused { client: usize },
    Resumed { client: usize },
    Silent { client: usize },
    Ended { client: usize },
    Vanished { client: usize },
    Turned { event_loop: usize, timers: Timers, runs: usize, ops: usize },
    Looked { event_loop: usize, closed: usize },
    Executed { event_loop: usize, runs: usize, now: u32 },
    Answered { client: usize, opcode: Opcode, opaque: u32, outcome: Outcome },
    Maintained { now: u32 },
    Passed { seconds: u32 },
    Snapshot,
    Died { ending: Ending },
    Restored { items: u64, now: u32 },
    Settling,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is a status by its name")]
pub enum Outcome {
    Done,
    Hit { value_bytes: usize },
    Stored,
    Counted { value: u64 },
    NotFound,
    Exists,
    NotStored,
    NonNumeric,
    TooLarge,
    OutOfMemory,
    Malformed,
}

/// A run's events.
#[derive(Debug)]
pub struct Trace {
    hasher: DefaultHasher,
    last: VecDeque<(u32, Event)>,
    origin: Origin,
    /// The step that is under way.
    pub step: u32,
}

/// Why a run has failed, with what to repeat it from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What to repeat it from.
    pub origin: Origin,
    /// The step in which it failed.
    pub step: u32,
    /// What was wrong.
    pub why: String,
    /// The last events, in words.
    pub last: Vec<String>,
}

impl Event {
    /// Whether nothing came of it.
    fn is_idle(&self) -> bool {
        matches!(
            self,
            Self::Turned { ops: 0, .. } | Self::Looked { closed: 0, .. } | Self::Passed { seconds: 0 }
        )
    }
}

impl Trace {
    /// Nothing has happened.
    #[must_use]
    pub fn new(origin: Origin) -> Self {
        Self { hasher: DefaultHasher::new(), last: VecDeque::new(), origin, step: 0 }
    }

    /// Something has.
    pub fn add(&mut self, event: Event) {
        (self.step, event).hash(&mut self.hasher);
        if event.is_idle() {
            return;
        }
        if self.last.len() == EVENTS_KEPT {
            self.last.pop_front();
        }
        self.last.push_back((self.step, event));
    }

    /// All that has happened, as one number.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    /// What is told of a failure.
    #[must_use]
    pub fn failure(&self, why: String) -> Failure {
        let last = self.last.iter().map(|(step, event)| format!("{step:>6}  {event}")).collect();
        Failure { origin: self.origin, step: self.step, why, last }
    }
}

/// A fault in the server itself is told with what led to it.
impl Drop for Trace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.failure("the server has panicked".into()));
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, step {}: {}", self.origin, self.step, self.why)?;
        for event in &self.last {
            writeln!(f, "{event}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Came { client, event_loop } => write!(f, "client {client} comes to loop {event_loop}"),
            Self::Asked { client, opcode, opaque, bytes } => {
                write!(f, "client {client} asks {opcode} {opaque} in {bytes} bytes")
            }
            Self::Sent { client, bytes } => write!(f, "client {client} sends {bytes} bytes"),
            Self::Read { client, bytes } => write!(f, "client {client} reads {bytes} bytes"),
            Self::Paused { client } => write!(f, "client {client} reads no more for a while"),
            Self::Resumed { client } => write!(f, "client {client} reads again"),
            Self::Silent { client } => write!(f, "client {client} falls silent"),
            Self::Ended { client } => write!(f, "client {client} sends no more"),
            Self::Vanished { client } => write!(f, "client {client} vanishes"),
            Self::Turned { event_loop, timers, runs, ops } => {
                write!(f, "loop {event_loop} turns: {runs} runs, {ops} operations")?;
                let Timers { linger, retry } = timers;
                write!(f, "{}", if *linger { ", ends who lingers" } else { "" })?;
                write!(f, "{}", if *retry { ", large values try again" } else { "" })
            }
            Self::Looked { event_loop, closed } => {
                write!(f, "loop {event_loop} looks for values that stall: closes {closed}")
            }
            Self::Executed { event_loop, runs, now } => {
                write!(f, "a batch of loop {event_loop} is executed at {now}: {runs} runs")
            }
            Self::Answered { client, opcode, opaque, outcome } => {
                write!(f, "  client {client}, {opcode} {opaque}: {outcome:?}")
            }
            Self::Maintained { now } => write!(f, "storage cleans up at {now}"),
            Self::Passed { seconds } => write!(f, "{seconds} s pass"),
            Self::Snapshot => write!(f, "a snapshot is written"),
            Self::Died { ending } => write!(f, "the server ends: {ending:?}"),
            Self::Restored { items, now } => write!(f, "{items} items are restored at {now}"),
            Self::Settling => write!(f, "everything comes to rest"),
        }
    }
}

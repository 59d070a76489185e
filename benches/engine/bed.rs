//! An engine with nothing around it: batches as an event loop would fill them, and a look at every answer.

use memwire::clock::Clock;
use memwire::config::Config;
use memwire::figures::{Group, StorageStats};
use memwire::message::{Batch, Command, ConnId, KeyHash, Op, Payload, Reply, Run, Span, Tag, Value as Place};
use memwire::server::Server;
use memwire::storage::Engine;
use wire::{Expiration, StoreMode};

use crate::items::{Pattern, item_hash, key_text};

/// The Unix time at which an engine begins. From there on its clock counts operations, so that a run does not depend on
/// how fast it is: a million of them make a second.
const START: u32 = 1_700_000_000;
const OPS_PER_SECOND: u64 = 1_000_000;

/// Keys from here on are never stored.
const NEVER_STORED: u32 = 1 << 31;

/// An engine, and what fills its batches.
#[derive(Debug)]
pub(crate) struct Bed {
    engine: Engine,
    /// Hashes keys, as it does in the server.
    server: Server,
    pattern: Pattern,
    value_bytes: usize,
    executed: u64,
    wrong: u64,
}

/// What a batch asks, all of it alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Items that are there.
    Get,
    /// Items that are not.
    Miss,
    /// Items that may be there.
    Lookaside,
    Set {
        generation: u32,
    },
}

impl Bed {
    /// An empty engine.
    ///
    /// # Errors
    /// As `Engine::new`.
    pub(crate) fn new(memory_bytes_max: usize, value_bytes: usize) -> Result<Self, String> {
        let config = Config { memory_bytes_max, ..Config::default() };
        let server = Server::new(config, Clock::start(), 0x6d65_6d77_6972_6500);
        let engine = Engine::new(server.config.engine(), server.meter.clone())
            .map_err(|error| format!("no engine with {memory_bytes_max} bytes: {error}"))?;
        Ok(Self { engine, server, pattern: Pattern::new(value_bytes), value_bytes, executed: 0, wrong: 0 })
    }

    /// Puts one operation for each key into an empty batch, as of one connection.
    pub(crate) fn fill(&self, batch: &mut Batch, kind: Kind, keys: impl Iterator<Item = u32>) {
        batch.recycle();
        for number in keys {
            let number = if kind == Kind::Miss { number | NEVER_STORED } else { number };
            let key = key_text(number);
            let start = batch.input.len();
            batch.input.extend(&key);
            let command = match kind {
                Kind::Get | Kind::Miss | Kind::Lookaside => Command::Get,
                Kind::Set { generation } => {
                    let value = Span::new(batch.input.len(), self.value_bytes);
                    batch.input.extend(self.value(number, generation));
                    Command::Store {
                        mode: StoreMode::Set,
                        flags: generation,
                        expiration: Expiration::Never,
                        cas: None,
                        value: Payload::Inline(value),
                    }
                }
            };
            batch.ops.push(Op {
                command,
                key: Span::new(start, key.len()),
                hash: self.server.hash(&key),
                starts_at: start as u32,
                tag: Tag(u64::from(number)),
            });
        }
        push_run(batch);
    }

    /// Nothing but the engine's part: this is what is timed.
    #[inline]
    pub(crate) fn execute(&mut self, batch: &mut Batch) {
        let now = START + (self.executed / OPS_PER_SECOND) as u32;
        self.executed += batch.ops.len() as u64;
        self.engine.execute(batch, now);
    }

    /// Counts answers that are wrong.
    pub(crate) fn check(&mut self, batch: &Batch, kind: Kind) {
        let executed: usize = batch.runs.iter().map(|run| run.executed as usize).sum();
        let mut wrong = batch.ops.len() - executed;
        for (op, reply) in batch.ops.iter().zip(&batch.replies) {
            let is_right = match (kind, reply) {
                (Kind::Get | Kind::Lookaside, Reply::Hit { flags, value: Place::Copied(span), .. }) => {
                    batch.values[span.range()] == *self.value(op.tag.0 as u32, *flags)
                }
                (Kind::Miss | Kind::Lookaside, Reply::NotFound) => true,
                (Kind::Set { .. }, Reply::Stored { .. }) => true,
                _ => false,
            };
            wrong += usize::from(!is_right);
        }
        self.wrong += wrong as u64;
    }

    /// Answers that were wrong so far.
    pub(crate) fn wrong(&self) -> u64 {
        self.wrong
    }

    /// Items that are there.
    pub(crate) fn item_count(&mut self) -> u64 {
        let mut batch = Batch::default();
        batch.ops.push(Op {
            command: Command::Stats(Group::General),
            key: Span::default(),
            hash: KeyHash(0),
            starts_at: 0,
            tag: Tag(0),
        });
        push_run(&mut batch);
        self.execute(&mut batch);
        match batch.replies.first() {
            Some(Reply::Stats(stats)) => match &**stats {
                StorageStats::Figures(figures) => figures.item_count as u64,
                _ => 0,
            },
            _ => 0,
        }
    }

    fn value(&self, key: u32, generation: u32) -> &[u8] {
        &self.pattern.bytes()[Pattern::span(item_hash(key, generation), self.value_bytes)]
    }
}

/// The keys that were not found.
pub(crate) fn missed(batch: &Batch) -> impl Iterator<Item = u32> {
    let answers = batch.ops.iter().zip(&batch.replies);
    answers.filter(|(_, reply)| matches!(reply, Reply::NotFound)).map(|(op, _)| op.tag.0 as u32)
}

/// All operations of the batch are one connection's.
fn push_run(batch: &mut Batch) {
    batch.runs.push(Run {
        conn: ConnId { slot: 0, generation: 0 },
        first_op: 0,
        op_count: batch.ops.len() as u32,
        input: Span::new(0, batch.input.len()),
        executed: 0,
    });
}

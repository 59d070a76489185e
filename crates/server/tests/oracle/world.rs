//! An engine without a server: what it is asked, and what it answers.

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use memwire::config::Config;
use memwire::figures::{Group, StorageFigures, StorageStats};
use memwire::message::{
    Batch, Command, ConnId, KeyHash, Op, Payload, Refusal, Reply, Run, Span, Tag, Value as Place,
};
use memwire::meter::Meter;
use memwire::storage::Engine;
use memwire::storage::block::Block;
use memwire::storage::engine::{Versions, WhenFull};
use wire::{Cas, Concat, Direction, Expiration, OnMiss, StoreMode};

/// The Unix time at which every story begins.
pub(crate) const START: u32 = 1_700_000_000;

/// An engine with a clock that the test turns.
pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) meter: Arc<Meter>,
    pub(crate) now: u32,
    pub(crate) config: Config,
    hashes: Hashes,
}

/// How keys are hashed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Hashes {
    /// As they should be.
    Spread,
    /// All alike.
    Colliding,
}

/// One operation, as a test asks for it.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) key: Bytes,
    /// Where the value lies is said by `given`.
    pub(crate) command: Command,
    pub(crate) given: Option<Given>,
}

/// A value, and how it comes.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) value: Value,
    pub(crate) placement: Placement,
}

/// Where the front end puts a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    Input,
    Block,
}

/// The bytes of a value, printed in short.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Value(pub(crate) Bytes);

/// What an operation was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    Hit { flags: u32, cas: u64, value: Value },
    Touched { flags: u32, cas: u64 },
    Stored { cas: u64 },
    Counted { value: u64, cas: u64 },
    NotFound,
    Exists,
    NotStored,
    NonNumeric,
    Refused(Refusal),
}

impl World {
    pub(crate) fn new(config: Config, hashes: Hashes) -> Self {
        let meter = Arc::new(Meter::default());
        Self {
            engine: Engine::new(config.engine(), Arc::clone(&meter)).unwrap(),
            meter,
            now: START,
            config,
            hashes,
        }
    }

    /// A world with so much memory that nothing is ever evicted.
    pub(crate) fn ample() -> Self {
        Self::new(Config::default(), Hashes::Spread)
    }

    /// Executes one batch. Answers come for as many operations of each run as were executed.
    pub(crate) fn execute(&mut self, runs: &[Vec<Ask>]) -> Vec<Vec<Answer>> {
        let mut batch = Batch::default();
        for (slot, asks) in runs.iter().enumerate() {
            self.push_run(&mut batch, slot as u32, asks);
        }
        self.engine.execute(&mut batch, self.now);
        assert_eq!(batch.replies.len(), batch.ops.len(), "answers stand at the places of their operations");
        batch
            .runs
            .iter()
            .map(|run| run.executed_ops().map(|at| Answer::of(&batch.replies[at], &batch)).collect())
            .collect()
    }

    /// Executes operations one by one, each in a batch of its own.
    pub(crate) fn ask(&mut self, asks: impl IntoIterator<Item = Ask>) -> Vec<Answer> {
        let one = |ask| self.execute(&[vec![ask]]).remove(0).remove(0);
        asks.into_iter().map(one).collect()
    }

    /// Executes one operation.
    pub(crate) fn ask_one(&mut self, ask: Ask) -> Answer {
        self.ask([ask]).remove(0)
    }

    /// The value under a key, `None` where there is none.
    pub(crate) fn value(&mut self, key: &str) -> Option<Bytes> {
        match self.ask_one(Ask::get(key)) {
            Answer::Hit { value, .. } => Some(value.0),
            Answer::NotFound => None,
            other => panic!("GET was answered {other:?}"),
        }
    }

    pub(crate) fn stats(&mut self, group: Group) -> StorageStats {
        let mut batch = Batch::default();
        self.push_run(&mut batch, 0, &[Ask::new("", Command::Stats(group))]);
        self.engine.execute(&mut batch, self.now);
        match batch.replies.remove(0) {
            Reply::Stats(stats) => *stats,
            other => panic!("STAT was answered {other:?}"),
        }
    }

    pub(crate) fn figures(&mut self) -> StorageFigures {
        match self.stats(Group::General) {
            StorageStats::Figures(figures) => *figures,
            other => panic!("STAT was answered {other:?}"),
        }
    }

    fn push_run(&self, batch: &mut Batch, slot: u32, asks: &[Ask]) {
        let (first_op, start) = (batch.ops.len() as u32, batch.input.len());
        for ask in asks {
            let starts_at = batch.input.len();
            batch.input.extend(&ask.key);
            let command = self.place(batch, ask);
            batch.ops.push(Op {
                command,
                key: Span::new(starts_at, ask.key.len()),
                hash: self.hashes.of(&ask.key),
                starts_at: starts_at as u32,
                tag: Tag(0),
            });
        }
        batch.runs.push(Run {
            conn: ConnId { slot, generation: 0 },
            first_op,
            op_count: asks.len() as u32,
            input: Span::new(start, batch.input.len() - start),
            executed: 0,
        });
    }

    fn place(&self, batch: &mut Batch, ask: &Ask) -> Command {
        let Some(Given { value, placement }) = &ask.given else {
            return ask.command;
        };
        let payload = match placement {
            Placement::Input => {
                let start = batch.input.len();
                batch.input.extend(&value.0);
                Payload::Inline(Span::new(start, value.0.len()))
            }
            Placement::Block => {
                let mut block = Block::new(value.0.len(), &self.meter).unwrap();
                block.extend(&value.0);
                Payload::Large(batch.push_large(block.freeze()))
            }
        };
        with_payload(ask.command, payload)
    }
}

fn with_payload(mut command: Command, payload: Payload) -> Command {
    if let Command::Store { value, .. } | Command::Concat { value, .. } = &mut command {
        *value = payload;
    }
    command
}

impl Hashes {
    fn of(self, key: &[u8]) -> KeyHash {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        match self {
            Self::Spread => KeyHash(hasher.finish() as u32),
            Self::Colliding => KeyHash(7),
        }
    }
}

impl Ask {
    /// Whether it can be put off. One that brings a block cannot, whatever its command.
    pub(crate) fn can_wait(&self) -> bool {
        let brings_block =
            self.given.as_ref().is_some_and(|given| matches!(given.placement, Placement::Block));
        self.command.can_wait() && !brings_block
    }

    pub(crate) fn new(key: impl AsRef<[u8]>, command: Command) -> Self {
        Self { key: Bytes::copy_from_slice(key.as_ref()), command, given: None }
    }

    fn with(self, value: impl AsRef<[u8]>) -> Self {
        let given =
            Given { value: Value(Bytes::copy_from_slice(value.as_ref())), placement: Placement::Input };
        Self { given: Some(given), ..self }
    }

    pub(crate) fn get(key: &str) -> Self {
        Self::new(key, Command::Get)
    }

    pub(crate) fn set(key: &str, value: impl AsRef<[u8]>) -> Self {
        Self::store(StoreMode::Set, key, value, None)
    }

    pub(crate) fn store(mode: StoreMode, key: &str, value: impl AsRef<[u8]>, cas: Option<u64>) -> Self {
        let command = Command::Store {
            mode,
            flags: 0,
            expiration: Expiration::Never,
            cas: cas.and_then(Cas::from_wire),
            value: NOWHERE,
        };
        Self::new(key, command).with(value)
    }

    pub(crate) fn concat(side: Concat, key: &str, value: impl AsRef<[u8]>) -> Self {
        let command = Command::Concat { side, cas: None, value: NOWHERE };
        Self::new(key, command).with(value)
    }

    pub(crate) fn delete(key: &str) -> Self {
        Self::new(key, Command::Delete { cas: None })
    }

    pub(crate) fn count(key: &str, direction: Direction, delta: u64) -> Self {
        let command = Command::Count { direction, delta, on_miss: OnMiss::Fail, cas: None };
        Self::new(key, command)
    }

    pub(crate) fn flush(at: Expiration) -> Self {
        Self::new("", Command::Flush { at })
    }
}

/// Stands where a value has no place yet.
pub(crate) const NOWHERE: Payload = Payload::Inline(Span { start: 0, len: 0 });

impl Answer {
    fn of(reply: &Reply, batch: &Batch) -> Self {
        match reply {
            Reply::Hit { flags, cas, value } => {
                let value = match *value {
                    Place::Copied(span) => &batch.values[span.range()],
                    Place::Large(at) => &batch.large[at as usize],
                    Place::Lent(at) => &batch.lent[at as usize],
                };
                // A copy: an answer that is looked at later must not keep the block alive.
                Self::Hit {
                    flags: *flags,
                    cas: Cas::to_wire(*cas),
                    value: Value(Bytes::copy_from_slice(value)),
                }
            }
            Reply::Touched { flags, cas } => Self::Touched { flags: *flags, cas: Cas::to_wire(*cas) },
            Reply::Stored { cas } => Self::Stored { cas: Cas::to_wire(*cas) },
            Reply::Counted { value, cas } => Self::Counted { value: *value, cas: Cas::to_wire(*cas) },
            Reply::Done | Reply::Stats(_) => Self::Done,
            Reply::NotFound => Self::NotFound,
            Reply::Exists => Self::Exists,
            Reply::NotStored => Self::NotStored,
            Reply::NonNumeric => Self::NonNumeric,
            Reply::Refused(why) => Self::Refused(*why),
        }
    }

    /// Bytes of the value in it.
    pub(crate) fn value_len(&self) -> usize {
        match self {
            Self::Hit { value, .. } => value.0.len(),
            _ => 0,
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(40)];
        write!(f, "\"{}\" ({} bytes)", shown.escape_ascii(), self.0.len())
    }
}

/// Memory of 1 MiB: sixteen segments.
pub(crate) fn tiny(when_full: WhenFull) -> Config {
    Config { memory_bytes_max: 1 << 20, item_bytes_max: 200_000, when_full, ..Config::default() }
}

/// Versions are not told.
pub(crate) fn without_versions() -> Config {
    Config { versions: Versions::Hidden, ..Config::default() }
}

/// `stats sizes` as a map.
pub(crate) fn sizes(stats: StorageStats) -> HashMap<usize, u64> {
    match stats {
        StorageStats::Sizes(Some(sizes)) => sizes.into_iter().collect(),
        other => panic!("no sizes: {other:?}"),
    }
}

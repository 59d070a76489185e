//! An engine without a server: what it is asked, and what it answers.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use memwire::config::Config;
use memwire::figures::{Group, StorageFigures, StorageStats};
use memwire::message::{Batch, Command, ConnId, KeyHash, Op, Payload, Put, Reply, Run, Span, Tag};
use memwire::meter::Meter;
use memwire::storage::block::Block;
use memwire::storage::engine::{Versions, WhenFull};
use memwire::storage::{Engine, EngineConfig};
pub(crate) use memwire_simulator::ask::{Answer, Ask, Given, NOWHERE, Placement, START, Value};

/// An engine with a clock that the test turns.
pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) meter: Arc<Meter>,
    pub(crate) now: u32,
    pub(crate) config: Config,
    hashes: Hashes,
    /// What the answers of the last batches have lent, and what it was then.
    lent: VecDeque<Vec<(Bytes, Vec<u8>)>>,
    /// Of how many batches that is.
    pub(crate) batches_lent: usize,
}

/// How keys are hashed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Hashes {
    /// As they should be.
    Spread,
    /// All alike.
    Colliding,
}

impl World {
    pub(crate) fn new(config: Config, hashes: Hashes) -> Self {
        let engine = config.engine();
        Self::with_engine(config, engine, hashes)
    }

    /// The engine is another one than the configuration asks for.
    pub(crate) fn with_engine(config: Config, engine: EngineConfig, hashes: Hashes) -> Self {
        let meter = Arc::new(Meter::new(config.memory_bytes_max, config.item_bytes_max));
        Self {
            engine: Engine::new(engine, Arc::clone(&meter)).unwrap(),
            meter,
            now: START,
            config,
            hashes,
            lent: VecDeque::new(),
            batches_lent: 0,
        }
    }

    /// A world with so much memory that nothing is ever evicted.
    pub(crate) fn ample() -> Self {
        Self::new(Config::default(), Hashes::Spread)
    }

    /// Executes one batch. Answers come for as many operations of each run as were executed.
    pub(crate) fn execute(&mut self, runs: &[Vec<Ask>]) -> Vec<Vec<Answer>> {
        let batch = self.executed(runs);
        batch
            .runs
            .iter()
            .map(|run| run.executed_ops().map(|at| Answer::of(&batch.replies[at], &batch)).collect())
            .collect()
    }

    /// The same, with everything that the answers hold.
    pub(crate) fn executed(&mut self, runs: &[Vec<Ask>]) -> Batch {
        let mut batch = Batch::default();
        for (slot, asks) in runs.iter().enumerate() {
            self.push_run(&mut batch, slot as u32, asks);
        }
        self.engine.execute(&mut batch, self.now);
        assert_eq!(batch.replies.len(), batch.ops.len(), "answers stand at the places of their operations");
        self.lent.push_back(batch.lent.iter().map(|value| (value.clone(), value.to_vec())).collect());
        while self.lent.len() > self.batches_lent {
            for (value, before) in self.lent.pop_front().into_iter().flatten() {
                assert!(value == before, "a value has changed while it was lent");
            }
        }
        batch
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
    if let Command::Store { value, .. }
    | Command::Concat { value, .. }
    | Command::Patch { value, .. }
    | Command::Put(Put { value, .. }) = &mut command
    {
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

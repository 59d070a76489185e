//! The engine: everything that is stored, behind one pure function.
//!
//! [`Engine::execute`] takes a batch and the time, and puts an answer beside each operation. What the commands do is
//! told in `commands`, how items are found, written and ended in `items`, and how
//! the memory limit is kept in `memory`.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::clock::UnixSeconds;
use crate::figures::{Counters, Group, StorageFigures, StorageStats};
use crate::hop::Home;
use crate::limits::{BYTES_PER_BATCH, CROWDED_BYTES_PER_RUN, LOOKUPS_AHEAD};
use crate::message::{Arena, Batch, Command, ConnId, Meta, MetaGet, Op, Refusal, Reply, Span, Value};
use crate::meter::Meter;
use crate::storage::block::Blocks;
use crate::storage::detail::Detail;
use crate::storage::eviction::Victim;
use crate::storage::expiry::{Flushes, unix_time};
use crate::storage::ghost::Ghost;
use crate::storage::index::Index;
use crate::storage::items::{Item, NewValue};
use crate::storage::log::{Address, Log, Queue};
use crate::storage::sweep::Sweep;
use crate::storage::watch::{Watch, Watcher};

/// What an engine is told once.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The memory for segments, index, ghost, large values and buffers.
    pub memory_bytes_max: usize,
    /// The longest value.
    pub item_bytes_max: usize,
    /// What happens when the memory is full.
    pub when_full: WhenFull,
    /// Whether clients are told versions.
    pub versions: Versions,
    /// Whether `stats sizes` has figures.
    pub track_sizes: bool,
    /// Where a key's prefix ends.
    pub prefix_delimiter: u8,
    /// Whether prefixes are counted from the start.
    pub detail_enabled: bool,
    /// The version before the first one that is given.
    pub newest_cas: u64,
    /// What tests do to the engine.
    pub stress: Stress,
}

/// What tests do to an engine, to meet in minutes what takes years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stress {
    /// Nothing.
    #[default]
    None,
    /// Items are moved with every batch, and free memory is overwritten.
    Relocate,
}

/// What happens when the memory is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Items go that are least likely to be asked for; see `eviction`.
    Evict,
    /// New items are refused.
    Refuse,
}

/// Whether clients are told versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    /// They are.
    Told,
    /// Every version reads as 0, and none ever matches.
    Hidden,
}

/// Everything that is stored.
#[derive(Debug)]
pub struct Engine {
    pub(super) config: EngineConfig,
    pub(super) log: Log,
    pub(super) index: Index,
    /// How often the index had changed when operations were looked up ahead.
    pub(super) likely_as_of: u64,
    pub(super) blocks: Blocks,
    pub(super) meter: Arc<Meter>,
    pub(super) flushes: Flushes,
    pub(super) sweep: Sweep,
    pub(super) ghost: Ghost,
    pub(super) victim: Option<Victim>,
    pub(super) watch: Watch,
    /// Keys that were evicted, where somebody wants to know.
    pub(super) evicted: Option<Vec<Box<[u8]>>>,
    pub(super) newest_cas: u64,
    pub(super) now: UnixSeconds,
    pub(super) counters: Counters,
    /// Bytes of all items: records and large values.
    pub(super) item_bytes: usize,
    pub(super) sizes: Option<BTreeMap<usize, u64>>,
    pub(super) detail: Detail,
    pub(super) detail_enabled: bool,
    /// Bytes that the commands of this batch have copied, besides those of their answers.
    pub(super) copied_bytes: usize,
    pub(super) scratch: Vec<u8>,
    /// Whether a guard has met an item.
    pub(super) is_guarded: bool,
    /// Items that were flushed and are not taken out yet.
    pub(super) flushed_count: usize,
}

impl Engine {
    /// An empty engine. Blocks that reach it are charged on `meter`.
    ///
    /// # Errors
    /// Where the system does not give the address space.
    pub fn new(config: EngineConfig, meter: Arc<Meter>) -> io::Result<Self> {
        let mut log = Log::new(config.memory_bytes_max)?;
        if config.stress == Stress::Relocate {
            log.poison_what_is_free();
        }
        Ok(Self {
            log,
            index: Index::new(config.memory_bytes_max),
            likely_as_of: 0,
            watch: Watch::new(&meter),
            blocks: Blocks::new(Arc::clone(&meter)),
            meter,
            flushes: Flushes::default(),
            sweep: Sweep::default(),
            ghost: Ghost::new(),
            victim: None,
            evicted: None,
            newest_cas: config.newest_cas,
            now: 0,
            counters: Counters::default(),
            item_bytes: 0,
            sizes: config.track_sizes.then(BTreeMap::new),
            detail: Detail::new(config.prefix_delimiter),
            detail_enabled: config.detail_enabled,
            copied_bytes: 0,
            scratch: Vec::new(),
            is_guarded: false,
            flushed_count: 0,
            config,
        })
    }

    /// Executes a batch at `now`: every operation of every run, in order, gets its answer in [`Batch::replies`].
    ///
    /// Where answers and copies grow too long, the rest of a run is left from a command on that
    /// [can wait](Command::can_wait), and [`Run::executed`](crate::message::Run::executed) says so.
    pub fn execute(&mut self, batch: &mut Batch, now: UnixSeconds) {
        self.now = now;
        self.advance_flushes();
        self.settle();
        if self.config.stress == Stress::Relocate {
            self.relocate_oldest();
        }
        let mut looked_up = 0..0;
        let mut likely = [None; LOOKUPS_AHEAD];
        let crowding = self.meter.crowding();
        let mut answers = Answers {
            values: &mut batch.values,
            large: &mut batch.large,
            lent: &mut batch.lent,
            bytes: 0,
            meta: &batch.meta,
            value_bytes_max: crowding.value_bytes_max(),
            conn: ConnId { slot: 0, generation: 0 },
        };
        self.copied_bytes = 0;
        for run in &mut batch.runs {
            let spent_before = answers.bytes + self.copied_bytes;
            run.executed = 0;
            answers.conn = run.conn;
            for (at, op) in run.ops().zip(&batch.ops[run.ops()]) {
                if at >= looked_up.end {
                    looked_up = at..batch.ops.len().min(at + LOOKUPS_AHEAD);
                    self.look_ahead(&batch.ops[looked_up.clone()], &mut likely);
                }
                let likely = likely[at - looked_up.start];
                let spent = answers.bytes + self.copied_bytes;
                let full = spent - spent_before >= crowding.bytes_per_run() || spent >= BYTES_PER_BATCH;
                if full && op.command.can_wait() {
                    break;
                }
                batch.replies.push(self.apply(op, likely, &batch.input, &mut answers));
                run.executed += 1;
            }
            // Answers stand at the places of their operations.
            batch.replies.resize_with(run.ops().end, || Reply::Done);
        }
        self.sweep_with_batch();
        self.publish_room();
    }

    /// Does a bounded amount of work that nobody waits for. Says whether there is more.
    pub fn maintain(&mut self, now: UnixSeconds) -> bool {
        self.now = now;
        self.advance_flushes();
        self.settle();
        let has_more = self.sweep_when_idle();
        self.publish_room();
        has_more
    }

    /// Whose batch comes next: he is told of changes that a connection of his waits for.
    pub fn set_asking(&mut self, home: Arc<Home>) {
        self.watch.asking = Some(home);
    }

    /// Gives him back, when the batch is done.
    pub fn take_asking(&mut self) -> Option<Arc<Home>> {
        self.watch.asking.take()
    }

    /// Some of those that have waited for an item that has changed, `limit` at most.
    pub fn take_woken(&mut self, limit: usize) -> impl Iterator<Item = Watcher> {
        self.watch.take_woken(limit)
    }

    /// Whether there are any.
    #[must_use]
    pub fn has_woken(&self) -> bool {
        self.watch.has_woken()
    }

    /// From here on, remembers the keys that are evicted, for [`take_evicted`](Self::take_evicted).
    pub fn report_evictions(&mut self) {
        self.evicted = Some(Vec::new());
    }

    /// The keys that were evicted since the last call.
    pub fn take_evicted(&mut self) -> Vec<Box<[u8]>> {
        self.evicted.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn advance_flushes(&mut self) {
        if self.flushes.advance(self.now, self.newest_cas) {
            self.flushed_count = self.index.len();
            self.log.make_all_due();
            self.sweep_anew();
            self.watch.wake_all();
        }
        self.watch.wake_ended(self.now);
    }

    /// Asks the processor for what these operations are going to look at, in stages, each of which needs what the one
    /// before it has asked for. Where their items are likely to lie is noted in `likely`.
    fn look_ahead(&mut self, ops: &[Op], likely: &mut [Option<Address>; LOOKUPS_AHEAD]) {
        *likely = [None; LOOKUPS_AHEAD];
        self.likely_as_of = self.index.changes();
        let keyed = || ops.iter().filter(|op| op.key.len > 0);
        if keyed().nth(1).is_none() {
            return;
        }
        let mut tables = [None; LOOKUPS_AHEAD];
        for (op, table) in ops.iter().zip(&mut tables).filter(|(op, _)| op.key.len > 0) {
            *table = Some(self.index.prefetch_table(op.hash));
        }
        for (op, table) in ops.iter().zip(&tables) {
            if let Some(table) = table {
                table.prefetch_bucket(op.hash);
            }
        }
        for ((op, table), likely) in ops.iter().zip(&tables).zip(likely) {
            let Some(table) = table else { continue };
            *likely = table.likely(op.hash);
            match *likely {
                Some(at) => self.log.prefetch(at),
                None => self.ghost.prefetch(op.hash),
            }
        }
    }

    fn apply(&mut self, op: &Op, likely: Option<Address>, input: &Arena, answers: &mut Answers<'_>) -> Reply {
        let item = Item { key: &input.filled()[op.key.range()], hash: op.hash, likely };
        match op.command {
            Command::Pass => Reply::Done,
            Command::Get => self.get(item, answers),
            Command::GetAndTouch { expiration } => self.get_and_touch(item, expiration, answers),
            Command::Touch { expiration } => self.touch(item, expiration),
            Command::Store { mode, flags, expiration, cas, value } => {
                let expiration = unix_time(expiration, self.now);
                self.store(item, mode, flags, expiration, cas, NewValue::of(value, input, answers))
            }
            Command::Concat { side, cas, value } => {
                self.concat(item, side, cas, NewValue::of(value, input, answers))
            }
            Command::Unstorable { why, older } => self.unstorable(item, why, older),
            Command::Reserve { bytes } => self.reserve(bytes),
            Command::Delete { cas } => self.delete(item, cas),
            Command::Count { direction, delta, on_miss, cas } => {
                self.count(item, direction, delta, on_miss, cas)
            }
            Command::Flush { at } => self.flush(at),
            Command::Stats(group) => self.stats(group, answers),
            Command::MetaGet { content, reading, options } => {
                self.meta_get(item, content, reading, &answers.meta_get(options), answers)
            }
            Command::MetaStore { options, value } => {
                let Meta::Store(options) = answers.meta[options as usize] else { unasked() };
                self.meta_store(item, &options, NewValue::of(value, input, answers))
            }
            Command::MetaDelete { options } => {
                let Meta::Delete(options) = answers.meta[options as usize] else { unasked() };
                self.meta_delete(item, &options)
            }
            Command::MetaCount { options } => {
                let Meta::Count(options) = answers.meta[options as usize] else { unasked() };
                self.meta_count(item, &options)
            }
            Command::Describe => self.describe(item),
            Command::Watch { known, wait_ms, told } => self.watch(item, known, wait_ms, told, answers),
            Command::Unwatch => self.unwatch(item, answers),
            Command::Scan { cursor, count } => self.scan(cursor, count, answers),
            Command::Snapshot { cursor } => self.snapshot(cursor, answers),
            Command::Sample => self.sample(op.hash, answers),
            Command::Put(put) => {
                let value = NewValue::of(put.value, input, answers);
                self.put(item, put, value, answers)
            }
            Command::Guard { number } => self.guard(item, number),
            Command::Add { delta } => self.add(item, delta),
            Command::Patch { offset, value } => self.patch(item, offset, NewValue::of(value, input, answers)),
            Command::Expire { expiration, when } => self.expire(item, expiration, when),
            Command::Peek(reading) => self.peek(item, reading),
            Command::Take => self.take(item, answers),
        }
    }
}

/// Statistics.
impl Engine {
    fn stats(&mut self, group: Group, answers: &mut Answers<'_>) -> Reply {
        let figures = match group {
            Group::General | Group::Items | Group::Slabs => StorageStats::Figures(Box::new(self.figures())),
            Group::Sizes => StorageStats::Sizes(
                self.sizes
                    .as_ref()
                    .map(|sizes| sizes.iter().map(|(bytes, count)| (*bytes, *count)).collect()),
            ),
            Group::DetailDump => StorageStats::Detail(self.detail.dump()),
            Group::DetailOn | Group::DetailOff => {
                self.detail_enabled = group == Group::DetailOn;
                StorageStats::Nothing
            }
            Group::Reset => {
                self.counters.reset();
                self.detail.reset();
                StorageStats::Nothing
            }
            Group::Settings => StorageStats::Settings { detail_enabled: self.detail_enabled },
        };
        if figures.told_bytes() > answers.value_bytes_max.max(CROWDED_BYTES_PER_RUN) {
            return self.unanswerable();
        }
        answers.bytes += figures.told_bytes();
        Reply::Stats(Box::new(figures))
    }

    /// The answer instead of one that is too long while clients hold too much.
    #[cold]
    pub(super) fn unanswerable(&mut self) -> Reply {
        self.counters.get_no_memory += 1;
        Reply::Refused(Refusal::OutOfMemory)
    }

    fn figures(&self) -> StorageFigures {
        StorageFigures {
            counters: self.counters.clone(),
            item_count: self.index.len(),
            flushed_count: self.flushed_count,
            item_bytes: self.item_bytes,
            index_bytes: self.index.bytes(),
            index_capacity: self.index.capacity(),
            block_count: self.blocks.count(),
            block_bytes: self.meter.blocks(),
            segment_bytes: self.log.segment_bytes(),
            resident_segments: self.log.resident_segments(),
            used_segments: self.log.used_segments(),
            live_bytes: self.log.live_bytes(),
            ghost_bytes: self.ghost.bytes(),
            watcher_count: self.watch.count(),
            lent_segments: self.log.lent_segments(),
            segments_by_live_quarter: self.log.segments_by_live_quarter(),
            queues: Queue::ALL.map(|queue| {
                let since = self.log.oldest_since(queue);
                (self.log.queue_figures(queue), since.map_or(0, |since| self.now.saturating_sub(since)))
            }),
        }
    }
}

/// The values of a batch's answers.
pub(super) struct Answers<'a> {
    pub(super) values: &'a mut Vec<u8>,
    pub(super) large: &'a mut Vec<Bytes>,
    pub(super) lent: &'a mut Vec<Bytes>,
    /// What the meta commands of the batch ask for.
    pub(super) meta: &'a [Meta],
    /// Bytes of all of them.
    pub(super) bytes: usize,
    /// Whose they are.
    pub(super) conn: ConnId,
    /// The longest that clients may be answered now, unless an answer under way holds it already.
    pub(super) value_bytes_max: usize,
}

/// The session puts options and operation side by side.
fn unasked() -> ! {
    unreachable!("the options are those of the command")
}

impl Answers<'_> {
    pub(super) fn meta_get(&self, at: Option<u32>) -> MetaGet {
        let Some(at) = at else { return MetaGet::default() };
        let Meta::Get(options) = self.meta[at as usize] else { unasked() };
        options
    }

    pub(super) fn copy(&mut self, value: &[u8]) -> Value {
        let span = Span::new(self.values.len(), value.len());
        self.values.extend_from_slice(value);
        self.bytes += value.len();
        Value::Copied(span)
    }

    pub(super) fn lend(&mut self, value: Bytes) -> Value {
        self.bytes += value.len();
        self.lent.push(value);
        Value::Lent((self.lent.len() - 1) as u32)
    }

    pub(super) fn share(&mut self, value: Bytes) -> Value {
        self.bytes += value.len();
        self.large.push(value);
        Value::Large((self.large.len() - 1) as u32)
    }
}

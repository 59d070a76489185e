//! A restart: from the file into an engine, before anyone is served.
//!
//! The packets take the way of those from the network: the same parser, the same batches, the same commands. So what
//! does not fit is evicted as usual. Each item gets a new version, and all of them are above everything ever told: the
//! file says which was the newest, and when, and since then no more can have been told than time allows.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use wire::{Expiration, StoreMode};

use crate::clock::UnixSeconds;
use crate::config::{OnDamage, Snapshot};
use crate::limits::VERSIONS_PER_MS_MAX;
use crate::message::{Batch, Command, ConnId, Op, Payload, Reply, Run, Span, Tag};
use crate::meter::{Charge, Use};
use crate::server::Server;
use crate::service;
use crate::snapshot::format::Opening;
use crate::snapshot::reader::{Damage, Item, Items, Reader};
use crate::snapshot::uncached::UncachedReader;
use crate::storage::block::Block;
use crate::storage::expiry::unix_time;
use crate::storage::{Engine, log as storage_log};

/// How often a long restart says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// Why there is no engine.
#[derive(Debug)]
pub enum Failure {
    /// The system refused memory.
    Memory(String),
    /// The snapshot is damaged, and is to be refused.
    Damaged(String),
}

/// An engine with everything that the server's snapshot holds, or an empty one where there is none.
///
/// # Errors
/// Where there can be no engine, or where the snapshot is damaged and the operator has not said what then.
pub fn engine(server: &Server) -> Result<Engine, Failure> {
    let Some(config) = &server.config.snapshot else { return new_engine(server) };
    config.place.discard();
    let path = config.place.path().display();
    match config.place.open() {
        Ok(Some((file, len))) => load(file, len, config, server),
        Ok(None) => {
            log::info!("no snapshot at {path}: starting empty");
            new_engine(server)
        }
        Err(error) => {
            decide(config, &Damage::unreadable(&error))?;
            server.snapshots.is_damaged.store(true, Ordering::Relaxed);
            new_engine(server)
        }
    }
}

fn new_engine(server: &Server) -> Result<Engine, Failure> {
    let config = server.config.engine();
    Engine::new(config, Arc::clone(&server.meter))
        .map_err(|error| Failure::Memory(format!("-m {}: {error}", server.config.memory_bytes_max >> 20)))
}

fn load(file: File, len: u64, config: &Snapshot, server: &Server) -> Result<Engine, Failure> {
    let started = Instant::now();
    let clock = || server.clock.now_ms();
    service::notify(service::State::Restoring(0, len));
    let mut loader = Loader::new(new_engine(server)?, server, &clock);
    if let Err(damage) = load_file(&mut loader, file, len) {
        decide(config, &damage)?;
        server.snapshots.is_damaged.store(true, Ordering::Relaxed);
        if config.on_damage == OnDamage::Skip {
            let newest_cas = loader.newest_cas;
            loader = Loader::new(new_engine(server)?, server, &clock);
            loader.resume_behind(newest_cas);
        }
    }
    server.snapshots.restored_items.store(loader.counts.items, Ordering::Relaxed);
    let (engine, counts) = loader.finish();
    log::info!("restored {counts} in {:.1} s", started.elapsed().as_secs_f64());
    Ok(engine)
}

fn load_file(loader: &mut Loader<'_>, file: File, len: u64) -> Result<(), Damage> {
    let file = UncachedReader::new(file).map_err(|error| Damage::unreadable(&error))?;
    loader.load(file, len)
}

/// What becomes of a damaged snapshot, by the operator's will.
fn decide(config: &Snapshot, damage: &Damage) -> Result<(), Failure> {
    let path = config.place.path().display();
    match config.on_damage {
        OnDamage::Refuse => {
            return Err(Failure::Damaged(format!(
                "--snapshot {path}: {damage}; with --snapshot-on-damage skip the server starts empty, with salvage it \
                 keeps what stands before the damage"
            )));
        }
        OnDamage::Skip => log::warn!("--snapshot {path}: {damage}; starting empty"),
        OnDamage::Salvage => {
            log::warn!("--snapshot {path}: {damage}; the {} bytes before it are good", damage.good_bytes);
        }
    }
    log::warn!("the damaged file is kept as {} once there is a new one", config.place.damaged().display());
    Ok(())
}

/// What became of the items.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    /// Those that were stored.
    pub items: u64,
    /// Those whose time had come.
    pub expired: u64,
    /// Those for which there is no room.
    pub refused: u64,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { items, expired, refused } = self;
        write!(f, "{items} items ({expired} more had expired, {refused} were refused)")
    }
}

/// Fills an engine.
pub struct Loader<'a> {
    server: &'a Server,
    /// The Unix time in milliseconds.
    clock: &'a dyn Fn() -> u64,
    engine: Engine,
    newest_cas: u64,
    batch: Batch,
    /// For what the reader holds.
    reading: Charge,
    counts: Counts,
    now_ms: u64,
    told_at: Instant,
}

impl std::fmt::Debug for Loader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader").field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl<'a> Loader<'a> {
    /// Fills `engine`, in which nothing is stored. `clock` tells the Unix time in milliseconds.
    #[must_use]
    pub fn new(engine: Engine, server: &'a Server, clock: &'a dyn Fn() -> u64) -> Self {
        Self {
            server,
            clock,
            newest_cas: 0,
            engine,
            batch: Batch::charged_on(&server.meter),
            reading: Charge::new(&server.meter, Use::Working),
            counts: Counts::default(),
            now_ms: clock(),
            told_at: Instant::now(),
        }
    }

    fn now(&self) -> UnixSeconds {
        (self.now_ms / 1000) as UnixSeconds
    }

    fn resume_behind(&mut self, newest_cas: u64) {
        self.newest_cas = newest_cas;
        self.engine.resume_behind(newest_cas);
    }

    /// Stores everything that a file of `len` bytes holds up to its end, or to the damage, and draws the line of a
    /// pending flush.
    ///
    /// # Errors
    /// The damage. What stands before it is stored.
    pub fn load<R: io::Read>(&mut self, file: R, len: u64) -> Result<(), Damage> {
        let mut reader = Reader::open(file, len)?;
        self.resume_behind(newest_possible(reader.opening(), self.now_ms));
        let stored = self.store_all(&mut reader, len);
        self.now_ms = (self.clock)();
        let now = self.now();
        self.engine.finish_restore(reader.pending_flush(), now);
        stored
    }

    /// The engine, and what became of the items.
    #[must_use]
    pub fn finish(self) -> (Engine, Counts) {
        (self.engine, self.counts)
    }

    fn store_all<R: io::Read>(&mut self, reader: &mut Reader<R>, len: u64) -> Result<(), Damage> {
        loop {
            let Some(items) = reader.next_items()? else { return Ok(()) };
            self.now_ms = (self.clock)();
            self.reading.set(items.len_bytes());
            self.store(items);
            if self.told_at.elapsed() >= TELL_EVERY {
                self.told_at = Instant::now();
                let (items, bytes) = (self.counts.items, reader.good_bytes());
                log::info!("restoring: {items} items, {} of {} MiB", bytes >> 20, len >> 20);
                service::notify(service::State::Restoring(bytes, len));
            }
        }
    }

    fn store(&mut self, items: Items<'_>) {
        self.batch.recycle();
        for item in items {
            self.push(item);
        }
        let op_count = self.batch.ops.len() as u32;
        let conn = ConnId { slot: 0, generation: 0 };
        let input = Span::new(0, self.batch.input.len());
        self.batch.runs.push(Run { conn, first_op: 0, op_count, input, executed: 0 });
        let now = self.now();
        self.engine.execute(&mut self.batch, now);
        let stored =
            self.batch.replies.iter().filter(|reply| matches!(reply, Reply::Stored { .. })).count() as u64;
        self.counts.items += stored;
        self.counts.refused += u64::from(op_count) - stored;
    }

    fn push(&mut self, item: Item<'_>) {
        if item.expiration != Expiration::Never && unix_time(item.expiration, self.now()) <= self.now() {
            self.counts.expired += 1;
            return;
        }
        let starts_at = self.batch.input.len();
        let key = Span::new(starts_at, item.key.len());
        self.batch.input.extend(item.key);
        let Some(value) = self.payload(item) else {
            self.counts.refused += 1;
            return;
        };
        let Item { flags, expiration, .. } = item;
        let command = Command::Store { mode: StoreMode::Set, flags, expiration, cas: None, value };
        let hash = self.server.hash(item.key);
        self.batch.ops.push(Op { command, key, hash, starts_at: starts_at as u32, tag: Tag(0) });
    }

    /// The value in the batch, a large one in a mapping of its own. `None` for one that is too long for this server, or
    /// for which the system has no memory.
    fn payload(&mut self, item: Item<'_>) -> Option<Payload> {
        let config = &self.server.config;
        if item.value.len() > config.item_bytes_max {
            return None;
        }
        if storage_log::is_inline(item.key.len(), item.value.len(), config.memory_bytes_max) {
            let span = Span::new(self.batch.input.len(), item.value.len());
            self.batch.input.extend(item.value);
            return Some(Payload::Inline(span));
        }
        let mut block = Block::new(item.value.len(), &self.server.meter).ok()?;
        block.extend(item.value);
        Some(Payload::Large(self.batch.push_large(block.freeze())))
    }
}

/// The newest version that can have been told by now. By the millisecond: of two restarts from one file in the same second
/// the second one must not tell again what the first one has told.
fn newest_possible(opening: Opening, now_ms: u64) -> u64 {
    let ms = now_ms.saturating_sub(u64::from(opening.created) * 1000) + 1;
    opening.newest_cas.wrapping_add(ms * VERSIONS_PER_MS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server was killed right after a restart, and the next one gave the same versions to other items.
    #[test]
    fn a_second_restart_in_the_same_second_goes_on_behind_the_first() {
        let opening = Opening { created: 1_700_000_000, newest_cas: 5 };
        let at = |ms| newest_possible(opening, ms);
        assert!(at(1_700_000_000_000) > 5 && at(1_699_999_999_000) > 5);
        assert_eq!(at(1_700_000_100_001) - at(1_700_000_100_000), VERSIONS_PER_MS_MAX);
    }
}

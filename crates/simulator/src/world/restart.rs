//! Snapshots, and restarts: the server dies or ends, and another one is filled from the file that is left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use memwire::message::{Command, Reply};
use memwire::snapshot::restore::{Counts, Loader};
use memwire::storage::Engine;
use memwire::storage::engine::{EngineConfig, Versions};

use crate::event_loop::EventLoop;
use crate::evicted::Evicted;
use crate::oracle::Oracle;
use crate::snapshots::{Snapshot, View};
use crate::trace::Event;
use crate::world::gate::{self, Attempts};
use crate::world::{AMPLE_BYTES, DAY_SECONDS, LAST_SECOND, World};

/// Turns after which a snapshot is written to its end, where nothing else happens.
const TURNS_MAX: u32 = 10_000;
/// Items that are asked for at a time.
const SCANNED: u32 = 100;

/// How a server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    /// It is killed.
    Crash,
    /// It takes a last snapshot, in which everything is.
    Orderly,
}

/// What the next server finds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum File {
    Whole,
    /// Its end is missing, and what stands before that is to be kept.
    Torn,
}

/// An item as a walk tells it.
struct Found {
    flags: u32,
    ends: u32,
    cas: u64,
}

impl World {
    /// The snapshot thread writes a piece, and asks for the next one. Says whether that was the last one.
    pub(super) fn go_on_with_snapshot(&mut self) -> Result<bool, String> {
        let Some(cursor) = self.snapshots.write()? else {
            self.trace.add(Event::Snapshot);
            return Ok(true);
        };
        let batch = self.ask_engine(b"", Command::Snapshot { cursor });
        let view = View { oracle: &self.oracle, evicted: &self.evicted, now: self.now };
        self.snapshots.take(batch, &view)?;
        Ok(false)
    }

    /// Ends the server, begins another one some time later, and looks at everything that is in it.
    pub(super) fn restart(&mut self, ending: Ending) -> Result<(), String> {
        if ending == Ending::Orderly {
            self.take_last_snapshot()?;
        }
        let Self { source, snapshots, .. } = self;
        let left = snapshots.outlive(|bytes| source.below(bytes as u32 + 1) as usize)?;
        if ending == Ending::Orderly && left.is_none() {
            return Err("there is no last snapshot".into());
        }
        self.trace.add(Event::Died { ending });
        self.report.restarts += 1;
        self.end_connections();
        let down = self.source.weighted(&[(3, 0), (2, 1), (1, 100), (1, 31 * DAY_SECONDS)]);
        self.now = (self.now + down).min(LAST_SECOND);
        let issued = self.oracle.newest_cas();
        match left {
            Some(snapshot) if ending == Ending::Crash && self.source.one_in(4) => {
                self.restore(snapshot, File::Torn, issued)?;
            }
            Some(snapshot) => self.restore(snapshot, File::Whole, issued)?,
            None => {
                self.engine = self.new_engine();
                self.oracle = self.new_oracle(0);
                self.evicted = Evicted::default();
            }
        }
        self.check_inventory()
    }

    /// Nobody asks for anything any more, and everything is written.
    fn take_last_snapshot(&mut self) -> Result<(), String> {
        self.snapshots.give_up();
        for _ in 0..TURNS_MAX {
            if self.go_on_with_snapshot()? {
                return Ok(());
            }
        }
        Err(format!("after {TURNS_MAX} turns a snapshot is not written"))
    }

    /// The server is gone, and all that it had in memory.
    fn end_connections(&mut self) {
        self.count_loops();
        for client in &mut self.clients {
            client.give_up();
        }
        self.forget_waits();
        self.queue.clear();
        self.owners.clear();
        // Keys are hashed with another seed each time.
        let seed = 8 + self.report.restarts;
        self.server = gate::server(self.server.config.clone(), seed, self.options.fault);
        self.attempts = Attempts::default();
        for event_loop in &mut self.loops {
            *event_loop = EventLoop::new(&self.server, self.options.fault);
        }
    }

    fn new_engine(&self) -> Engine {
        let config = EngineConfig { stress: self.stress, ..self.server.config.engine() };
        let mut engine = Engine::new(config, Arc::clone(&self.server.meter)).expect("address space");
        engine.report_evictions();
        engine
    }

    fn new_oracle(&self, newest_cas: u64) -> Oracle {
        let config = &self.server.config;
        Oracle::new(config.item_bytes_max).with_versions(config.versions).behind_version(newest_cas)
    }

    /// Fills a new engine, and holds what is in it against what is in the file. All of it is there but what has ended
    /// and what there was no room for, in versions above all that were `issued`.
    fn restore(&mut self, snapshot: Snapshot, file: File, issued: u64) -> Result<(), String> {
        let bytes = match file {
            File::Whole => &snapshot.file[..],
            File::Torn => &snapshot.file[..self.source.below(snapshot.file.len() as u32) as usize],
        };
        // Nobody restarts twice in a millisecond.
        self.restarted_ms = (u64::from(self.now) * 1000).max(self.restarted_ms + 1);
        let (now, restarted_ms) = (self.now, self.restarted_ms);
        let clock = || restarted_ms;
        let mut loader = Loader::new(self.new_engine(), &self.server, &clock);
        match (loader.load(bytes, bytes.len() as u64), file) {
            (Err(damage), File::Whole) => return Err(format!("a whole snapshot is damaged: {damage}")),
            (Ok(()), File::Torn) => return Err("a torn snapshot reads like a whole one".into()),
            _ => {}
        }
        let (engine, counts) = loader.finish();
        self.engine = engine;
        self.engine.verify()?;
        self.report.restored += counts.items;
        self.trace.add(Event::Restored { items: counts.items, now });
        self.adopt(snapshot, file, counts, issued)
    }

    /// What was in the file is what is stored.
    fn adopt(&mut self, snapshot: Snapshot, file: File, counts: Counts, issued: u64) -> Result<(), String> {
        let flush_at = snapshot.flush_at.filter(|at| *at > self.now);
        let mut items = snapshot.items;
        items.retain(|_, item| item.ends == 0 || item.ends > self.now);
        if snapshot.flush_at.is_some() && flush_at.is_none() {
            items.clear();
        }
        for key in self.engine.take_evicted() {
            items.remove(&key[..]);
            self.report.evicted += 1;
        }
        self.evicted = Evicted::default();
        // It is asked as if nothing were in it, because what is in it is what is to be found out.
        self.oracle = self.new_oracle(issued);
        let found = self.walk()?;
        let missing: BTreeSet<_> = items.keys().filter(|key| !found.contains_key(*key)).cloned().collect();
        let is_ample = self.server.config.memory_bytes_max >= AMPLE_BYTES;
        let lacks_room = if is_ample { 0 } else { counts.refused as usize };
        if file == File::Whole && missing.len() > lacks_room {
            return Err(format!("{} items are not restored, and {counts}: {missing:?}", missing.len()));
        }
        items.retain(|key, _| !missing.contains(key));
        let mut versions = BTreeSet::new();
        for (key, Found { flags, ends, cas }) in found {
            let key_shown = key.escape_ascii().to_string();
            let Some(item) = items.get_mut(&key) else {
                return Err(format!("{key_shown} is restored, and should not be there"));
            };
            if (item.flags, item.ends) != (flags, ends) {
                return Err(format!("{key_shown} is restored with {flags} and {ends}: {item:?}"));
            }
            item.cas = cas;
            // Versions wrap around.
            if !versions.insert(cas) || !(1..=u64::MAX / 2).contains(&cas.wrapping_sub(issued)) {
                return Err(format!("{key_shown} is restored in version {cas}, and {issued} was issued"));
            }
        }
        let batch = self.ask_engine(b"", Command::Snapshot { cursor: 0 });
        let Reply::Snapshot(piece) = &batch.replies[0] else { return Err("there is no piece".into()) };
        // Where the file ends before it tells of the flush, nobody can know of it.
        let pending = piece.flushes.pending();
        if pending != flush_at && !(file == File::Torn && pending.is_none() && items.is_empty()) {
            return Err(format!("the flush {pending:?} is to come, not {flush_at:?}"));
        }
        if self.server.config.versions == Versions::Told && piece.newest_cas == issued && !versions.is_empty()
        {
            return Err(format!("versions go on behind {issued}, which was issued"));
        }
        self.oracle = self.new_oracle(piece.newest_cas).filled(items, pending);
        Ok(())
    }

    /// All that is stored.
    fn walk(&mut self) -> Result<BTreeMap<Bytes, Found>, String> {
        let (mut found, mut cursor) = (BTreeMap::new(), 0);
        for _ in 0..TURNS_MAX {
            let batch = self.ask_engine(b"", Command::Scan { cursor, count: SCANNED });
            let Reply::Scanned(page) = &batch.replies[0] else { return Err("there is no page".into()) };
            for item in &page.items {
                let key = Bytes::copy_from_slice(&batch.values[item.key.range()]);
                let there = Found { flags: item.flags, ends: item.expiration, cas: item.cas };
                if found.insert(key, there).is_some() {
                    return Err("an item is met twice".into());
                }
            }
            cursor = page.next;
            if cursor == 0 {
                return Ok(found);
            }
        }
        Err(format!("after {TURNS_MAX} turns a walk is not at its end"))
    }
}

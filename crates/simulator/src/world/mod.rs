//! Who does the next step, and what must hold behind it.

mod end;
mod gate;
mod restart;
mod storage;
mod waits;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use memwire::config::{Config, Protocol, Watch};
use memwire::message::{Batch, ConnId};
use memwire::meter::Crowding;
use memwire::server::Server;
use memwire::storage::Engine;
use memwire::storage::engine::{EngineConfig, Stress, Versions, WhenFull};

use crate::ask::START;
use crate::client::{Client, Manner};
use crate::event_loop::{EventLoop, Hearing, Timers};
use crate::evicted::Evicted;
use crate::link::{Link, Socket, Tears};
use crate::oracle::Oracle;
use crate::report::Report;
use crate::requests::Appetite;
use crate::snapshots::Snapshots;
use crate::source::Source;
use crate::trace::{Event, Failure, Trace};
use crate::{Fault, Options};
use gate::Attempts;
pub use restart::Ending;
use waits::Waits;

/// Memory of which a run never wants for more.
const AMPLE_BYTES: usize = 64 << 20;
/// Bytes of requests that a client makes ahead.
const UNSENT_BYTES_MAX: usize = 256 << 10;
/// Clients that ever come.
const CLIENTS_MAX: usize = 200;
/// The last second at which anything happens: no expiration reaches beyond the clock's 32 bits.
const LAST_SECOND: u32 = 4_000_000_000;
/// One event in so many is lost, with [`Fault::LostEvent`].
const LOST_EVENT_EVERY: u64 = 64;
const DAY_SECONDS: u32 = 86_400;

/// Runs as long as `source` has choices, and `options` steps, and then brings everything to rest.
///
/// # Errors
/// Where a client does not read what it is owed, or something else does not hold.
///
/// # Panics
/// Where the server does.
pub fn run(source: Source, options: Options) -> Result<Report, Box<Failure>> {
    let mut world = World::new(source, options);
    let done = world.run();
    done.map(|()| world.report()).map_err(|why| Box::new(world.trace.failure(why)))
}

struct World {
    source: Source,
    options: Options,
    server: Server,
    engine: Engine,
    oracle: Oracle,
    now: u32,
    loops: Vec<EventLoop>,
    /// What is on its way to the storage thread, and whose it is.
    queue: VecDeque<(usize, Box<Batch>)>,
    clients: Vec<Client>,
    /// Who is at the other end of a loop's slot and generation.
    owners: BTreeMap<(usize, u32, u32), usize>,
    clients_at_once: u32,
    key_count: u32,
    appetite: Appetite,
    /// How much the storage thread comes to do.
    storage_weight: u32,
    /// How often loops look after values that stall.
    look_weight: u32,
    next_opaque: u32,
    events_heard: u64,
    /// Nothing is left to chance any more.
    is_settling: bool,
    /// What the batch under way began with, and has written so far.
    load_bytes: usize,
    /// What may be missing.
    evicted: Evicted,
    /// Whether clients held too much when the batch under way began.
    crowding: Crowding,
    waits: Waits,
    attempts: Attempts,
    snapshots: Snapshots,
    /// Whether there are any, and how much the server comes to be restarted.
    persistence: Persistence,
    stress: Stress,
    /// When the server was restarted last.
    restarted_ms: u64,
    report: Report,
    trace: Trace,
}

/// Whether what is stored outlives the server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Persistence {
    None,
    Snapshots,
}

#[derive(Clone, Copy)]
enum Step {
    Client,
    Turn,
    Storage,
    Maintenance,
    Clock,
    Coming,
    Look,
    Snapshot,
    Restart,
    Patience,
}

#[derive(Clone, Copy)]
enum Act {
    Ask,
    Send,
    Read,
    Pause,
    End,
    Vanish,
    FallSilent,
}

const ACTS: &[(u32, Act)] = &[
    (60, Act::Ask),
    (40, Act::Send),
    (60, Act::Read),
    (4, Act::Pause),
    (1, Act::End),
    (1, Act::Vanish),
    (1, Act::FallSilent),
];

impl World {
    fn new(mut source: Source, options: Options) -> Self {
        let config = config(&mut source);
        let loop_count = source.between(1, 2);
        let clients_at_once = source.between(2, 8);
        let key_count = source.pick(&[16, 24, 64, 200]);
        let appetite = source.pick(&[Appetite::Light, Appetite::Heavy, Appetite::Heavy]);
        let (storage_weight, look_weight) = source.pick(&[(50, 1), (50, 1), (50, 1), (4, 6)]);
        let trace = Trace::new(source.origin());
        let server = gate::server(config, 7, options.fault);
        let stress = source.pick(&[Stress::None, Stress::None, Stress::Relocate]);
        // Versions come to their end and begin again, where anybody sees them.
        let newest_cas = match server.config.versions {
            Versions::Told => source.pick(&[0, 0, u64::MAX - 100]),
            Versions::Hidden => 0,
        };
        let persistence = source.pick(&[Persistence::None, Persistence::Snapshots]);
        let engine = EngineConfig { stress, newest_cas, ..server.config.engine() };
        let mut engine = Engine::new(engine, Arc::clone(&server.meter)).expect("address space");
        engine.report_evictions();
        Self {
            oracle: Oracle::new(server.config.item_bytes_max)
                .with_versions(server.config.versions)
                .behind_version(newest_cas),
            source,
            options,
            engine,
            now: START,
            loops: (0..loop_count).map(|_| EventLoop::new(&server, options.fault)).collect(),
            server,
            evicted: Evicted::default(),
            crowding: Crowding::Ample,
            queue: VecDeque::new(),
            clients: Vec::new(),
            owners: BTreeMap::new(),
            clients_at_once,
            key_count,
            appetite,
            storage_weight,
            look_weight,
            next_opaque: 1,
            events_heard: 0,
            is_settling: false,
            load_bytes: 0,
            waits: Waits::default(),
            attempts: Attempts::default(),
            snapshots: Snapshots::new(options.fault),
            persistence,
            stress,
            restarted_ms: 0,
            report: Report::default(),
            trace,
        }
    }

    fn run(&mut self) -> Result<(), String> {
        if self.server.config.watch == Watch::Allowed && self.source.one_in(2) {
            self.let_crowd_wait();
        }
        while self.trace.step < self.options.steps_max && !self.source.is_exhausted() {
            self.trace.step += 1;
            self.step()?;
        }
        self.trace.add(Event::Settling);
        self.settle()?;
        self.check_waits()?;
        self.waits.is_late = true;
        self.settle()?;
        for client in 0..self.clients.len() {
            self.clients[client].check_rest().map_err(|why| told(client, &why))?;
        }
        self.check_attempts()?;
        self.end_all()?;
        self.snapshots.give_up();
        self.check_inventory()?;
        match self.persistence {
            Persistence::None => Ok(()),
            Persistence::Snapshots => self.restart(Ending::Orderly),
        }
    }

    fn step(&mut self) -> Result<(), String> {
        let (snapshot_weight, restart_weight) = match self.persistence {
            Persistence::None => (0, 0),
            Persistence::Snapshots => (8, 1),
        };
        let step = self.source.weighted(&[
            (120, Step::Client),
            (50, Step::Turn),
            (self.storage_weight, Step::Storage),
            (6, Step::Maintenance),
            (12, Step::Clock),
            (10, Step::Coming),
            (self.look_weight, Step::Look),
            (snapshot_weight, Step::Snapshot),
            (restart_weight, Step::Restart),
            (1, Step::Patience),
        ]);
        match step {
            Step::Client => self.client_acts(),
            Step::Turn => {
                let number = self.source.below(self.loops.len() as u32) as usize;
                let timers = Timers { linger: self.source.one_in(16), retry: self.source.below(4) > 1 };
                self.turn(number, timers);
                Ok(())
            }
            Step::Storage => self.execute(),
            Step::Maintenance => {
                self.maintain();
                self.trace.add(Event::Maintained { now: self.now });
                self.check_notes()?;
                self.check_memory()
            }
            Step::Clock => {
                let seconds =
                    self.source.weighted(&[(16, 1), (3, 2), (2, 100), (1, 31 * DAY_SECONDS), (20, 0)]);
                self.now = (self.now + seconds).min(LAST_SECOND);
                self.trace.add(Event::Passed { seconds });
                Ok(())
            }
            Step::Coming => {
                self.client_comes();
                Ok(())
            }
            Step::Look => {
                let number = self.source.below(self.loops.len() as u32) as usize;
                self.look(number)
            }
            Step::Patience => {
                let number = self.source.below(self.loops.len() as u32) as usize;
                match self.source.below(12) {
                    0..=8 => Ok(()),
                    9 => self.end_strangers(number),
                    _ => self.end_waits(number),
                }
            }
            Step::Snapshot => self.go_on_with_snapshot().map(|_| ()),
            Step::Restart => match self.source.below(20) {
                0..=16 => Ok(()),
                17 => self.restart(Ending::Orderly),
                _ => self.restart(Ending::Crash),
            },
        }
    }

    fn client_comes(&mut self) {
        let there = self.clients.iter().filter(|client| !client.link().server_is_gone()).count();
        if there >= self.clients_at_once as usize || self.clients.len() >= CLIENTS_MAX {
            return;
        }
        let client = self.clients.len();
        let sizes = [1 << 16, 1 << 20, 4096, 600];
        let (up, down) = (self.source.pick(&sizes), self.source.pick(&sizes));
        let tears = if self.options.fault == Some(Fault::TornValue) { Tears::Always } else { Tears::Never };
        let link = Link::new(up, down, tears);
        let event_loop = client % self.loops.len();
        let id = self.loops[event_loop].serve(Socket::new(&link), &self.server);
        self.owners.insert((event_loop, id.slot, id.generation), client);
        let (dialect, standing) = self.newcomer();
        self.clients.push(Client::new(link, dialect, standing));
        self.report.connections += 1;
        self.trace.add(Event::Came { client, event_loop });
    }

    fn client_acts(&mut self) -> Result<(), String> {
        let active: Vec<usize> = (0..self.clients.len())
            .filter(|client| self.clients[*client].manner != Manner::Gone)
            .filter(|client| !self.clients[*client].link().is_at_end())
            .collect();
        if active.is_empty() {
            self.client_comes();
            return Ok(());
        }
        let client = self.source.pick(&active);
        let is_silent = self.clients[client].manner == Manner::Silent;
        match self.source.weighted(ACTS) {
            Act::End => {
                self.clients[client].end();
                self.trace.add(Event::Ended { client });
            }
            Act::Vanish => {
                self.clients[client].vanish();
                self.trace.add(Event::Vanished { client });
            }
            _ if is_silent => {}
            Act::Ask => {
                for _ in 0..self.source.between(1, 6) {
                    self.ask(client);
                }
                self.send(client, UNSENT_BYTES_MAX);
            }
            Act::Send => {
                let bytes = self.source.weighted(&[(3, 1 << 20), (1, 1), (1, 23), (1, 700), (1, 5000)]);
                self.send(client, bytes);
            }
            Act::Read if self.clients[client].manner != Manner::Paused => {
                let bytes = self.source.weighted(&[(5, 1 << 20), (1, 1), (1, 1000), (1, 20_000)]);
                self.read(client, bytes)?;
            }
            Act::Pause | Act::Read => match self.clients[client].manner {
                Manner::Lively => {
                    self.clients[client].manner = Manner::Paused;
                    self.trace.add(Event::Paused { client });
                }
                Manner::Paused if self.source.below(3) == 0 => {
                    self.clients[client].manner = Manner::Lively;
                    self.trace.add(Event::Resumed { client });
                }
                _ => {}
            },
            Act::FallSilent if self.clients[client].can_ask() && self.is_nobody_silent() => {
                self.clients[client].manner = Manner::Silent;
                self.trace.add(Event::Silent { client });
            }
            Act::FallSilent => {}
        }
        Ok(())
    }

    /// One silent client at a time: they would keep everybody else out.
    fn is_nobody_silent(&self) -> bool {
        let mut silent = self.clients.iter().filter(|client| client.manner == Manner::Silent);
        silent.all(|client| client.link().server_is_gone())
    }

    fn ask(&mut self, client: usize) {
        let asking = &self.clients[client];
        if !asking.can_ask() || asking.unsent_bytes() > UNSENT_BYTES_MAX {
            return;
        }
        let Some(made) = self.make_request(client) else { return };
        self.next_opaque += 1;
        let (opcode, opaque, bytes) = (made.owed.opcode, made.owed.opaque, made.bytes.len());
        self.clients[client].ask(made);
        self.trace.add(Event::Asked { client, opcode, opaque, bytes });
    }

    fn send(&mut self, client: usize, limit: usize) -> usize {
        let bytes = self.clients[client].send(limit);
        if bytes > 0 {
            self.trace.add(Event::Sent { client, bytes });
        }
        bytes
    }

    fn read(&mut self, client: usize, limit: usize) -> Result<usize, String> {
        let bytes = self.clients[client].read(limit).map_err(|why| told(client, &why))?;
        if bytes > 0 {
            self.trace.add(Event::Read { client, bytes });
        }
        Ok(bytes)
    }

    fn turn(&mut self, number: usize, timers: Timers) {
        let loses = self.options.fault == Some(Fault::LostEvent);
        let Self { source, events_heard, is_settling, .. } = self;
        let batch = self.loops[number].turn(&self.server, timers, || {
            *events_heard += 1;
            if loses && events_heard.is_multiple_of(LOST_EVENT_EVERY) {
                Hearing::Never
            } else if !*is_settling && source.one_in(8) {
                Hearing::Later
            } else {
                Hearing::Now
            }
        });
        let (runs, ops) = batch.as_ref().map_or((0, 0), |batch| (batch.runs.len(), batch.ops.len()));
        self.trace.add(Event::Turned { event_loop: number, timers, runs, ops });
        self.queue.extend(batch.map(|batch| (number, batch)));
    }

    /// Looks for large values that stall. Where the loop has done all that it could, as it mostly has when seconds have
    /// passed, it must be the client's fault.
    fn look(&mut self, number: usize) -> Result<(), String> {
        let is_at_rest = self.loops[number].is_at_rest();
        if !is_at_rest && self.is_settling {
            return Ok(());
        }
        let closed = self.loops[number].end_stalled(&self.server);
        self.trace.add(Event::Looked { event_loop: number, closed: closed.len() });
        for id in closed {
            let client = self.owner(number, id)?;
            self.report.stalled += 1;
            let is_at_fault = self.clients[client].give_up();
            if is_at_rest && !is_at_fault {
                return Err(told(client, "is given up, and has sent and read all that it could"));
            }
        }
        Ok(())
    }

    fn owner(&self, number: usize, id: ConnId) -> Result<usize, String> {
        let owner = self.owners.get(&(number, id.slot, id.generation));
        owner.copied().ok_or_else(|| format!("{id:?} of loop {number} is nobody's"))
    }
}

/// A small server, so that all its limits are near.
fn config(source: &mut Source) -> Config {
    let memory_bytes_max = source.weighted(&[(9, 1 << 20), (2, 2 << 20), (1, 4 << 20), (4, AMPLE_BYTES)]);
    let item_bytes_max =
        source.weighted(&[(3, 100_000), (2, 300_000), (2, 200_000), (1, 20_000), (1, 5_000)]);
    let when_full = source.pick(&[WhenFull::Evict, WhenFull::Refuse, WhenFull::Evict]);
    let versions = source.weighted(&[(7, Versions::Told), (1, Versions::Hidden)]);
    let track_sizes = source.below(2) == 1;
    let detail_enabled = source.below(4) == 1;
    let watch = source.pick(&[Watch::Refused, Watch::Allowed]);
    // With users, there is room for all, and they speak what they like.
    let auth = (source.below(4) == 3).then(gate::auth);
    let memory_bytes_max = if auth.is_some() { AMPLE_BYTES } else { memory_bytes_max };
    // All that clients send is binary otherwise, so a first byte that is not has a fault.
    let protocol = if auth.is_some() { Protocol::Auto } else { Protocol::Binary };
    Config {
        auth,
        protocol,
        memory_bytes_max,
        item_bytes_max,
        when_full,
        versions,
        track_sizes,
        detail_enabled,
        watch,
        ..Config::default()
    }
}

fn told(client: usize, why: &str) -> String {
    format!("client {client} {why}")
}

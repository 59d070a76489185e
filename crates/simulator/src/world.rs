//! Who does the next step, and what must hold behind it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use memwire::clock::Clock;
use memwire::config::{Config, Protocol};
use memwire::figures::{Group, StorageStats};
use memwire::message::{Batch, Command, ConnId, KeyHash, Older, Op, Refusal, Reply, Run, Span, Tag};
use memwire::meter::{Crowding, Use};
use memwire::server::Server;
use memwire::storage::Engine;
use memwire::storage::block::page_bytes;
use memwire::storage::engine::{EngineConfig, Stress, Versions, WhenFull};
use memwire::storage::log::{is_inline, segment_bytes};
use wire::Opcode;

use crate::ask::{Answer, Ask, START};
use crate::client::{Client, Manner, Part};
use crate::event_loop::{EventLoop, Hearing, Timers};
use crate::evicted::Evicted;
use crate::link::{Link, Socket, Tears};
use crate::oracle::{Losses, Oracle};
use crate::owed::{Owed, Size, Verdict};
use crate::requests::{Appetite, Maker, key};
use crate::source::Source;
use crate::trace::{Event, Failure, Outcome, Trace};
use crate::{Fault, Options};

/// Memory of which a run never wants for more.
const AMPLE_BYTES: usize = 64 << 20;
/// Bytes of requests that a client makes ahead.
const UNSENT_BYTES_MAX: usize = 256 << 10;
/// Clients that ever come.
const CLIENTS_MAX: usize = 200;
/// Rounds in which everything must come to rest.
const ROUNDS_MAX: u32 = 2000;
/// The last second at which anything happens: no expiration reaches beyond the clock's 32 bits.
const LAST_SECOND: u32 = 4_000_000_000;
/// One batch in so many is late, with [`Fault::OldClock`].
const OLD_CLOCK_EVERY: u64 = 16;
/// One event in so many is lost, with [`Fault::LostEvent`].
const LOST_EVENT_EVERY: u64 = 64;
/// Rounds without a move after which nothing moves any more: large values have tried again, and were given up.
const IDLE_ROUNDS: u32 = 12;
/// Segments that the engine may keep for itself before it refuses a write.
const SEGMENTS_SPARED: usize = 4;
const DAY_SECONDS: u32 = 86_400;

/// What has happened in a run: how much of everything, to see that nothing is left out.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Report {
    /// All that has happened, as one number.
    pub trace: u64,
    /// Steps.
    pub steps: u32,
    /// Batches executed.
    pub batches: u64,
    /// Requests executed.
    pub requests: u64,
    /// Values that were read.
    pub hits: u64,
    /// Those of them that lie in mappings of their own.
    pub large_hits: u64,
    /// Requests that were not answered because they are quiet.
    pub quiet: u64,
    /// Writes refused for want of memory.
    pub refusals: u64,
    /// Items that were evicted.
    pub evicted: u64,
    /// Requests that were malformed.
    pub malformed: u64,
    /// Requests that went back unexecuted.
    pub put_back: u64,
    /// Answers that found nobody.
    pub late_answers: u64,
    /// Writes that a socket did not take whole.
    pub short_writes: u64,
    /// Large values that waited for room.
    pub without_room: u64,
    /// Connections closed because their large value stalled.
    pub stalled: u64,
    /// Connections.
    pub connections: u64,
}

impl Report {
    /// Adds up.
    pub fn add(&mut self, other: &Self) {
        let Self {
            trace,
            steps,
            batches,
            requests,
            hits,
            large_hits,
            quiet,
            refusals,
            evicted,
            malformed,
            put_back,
            late_answers,
            short_writes,
            without_room,
            stalled,
            connections,
        } = other;
        self.trace ^= trace;
        self.steps += steps;
        for (sum, count) in [
            (&mut self.batches, batches),
            (&mut self.requests, requests),
            (&mut self.hits, hits),
            (&mut self.large_hits, large_hits),
            (&mut self.quiet, quiet),
            (&mut self.refusals, refusals),
            (&mut self.evicted, evicted),
            (&mut self.malformed, malformed),
            (&mut self.put_back, put_back),
            (&mut self.late_answers, late_answers),
            (&mut self.short_writes, short_writes),
            (&mut self.without_room, without_room),
            (&mut self.stalled, stalled),
            (&mut self.connections, connections),
        ] {
            *sum += count;
        }
    }
}

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
    report: Report,
    trace: Trace,
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
        let server = Server::new(config, Clock::start(), 7);
        let stress = source.pick(&[Stress::None, Stress::None, Stress::Relocate]);
        // Versions come to their end and begin again, where anybody sees them.
        let newest_cas = match server.config.versions {
            Versions::Told => source.pick(&[0, 0, u64::MAX - 100]),
            Versions::Hidden => 0,
        };
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
            report: Report::default(),
            trace,
        }
    }

    fn run(&mut self) -> Result<(), String> {
        while self.trace.step < self.options.steps_max && !self.source.is_exhausted() {
            self.trace.step += 1;
            self.step()?;
        }
        self.trace.add(Event::Settling);
        self.settle()?;
        for client in 0..self.clients.len() {
            self.clients[client].check_rest().map_err(|why| told(client, &why))?;
        }
        self.end_all()?;
        self.check_inventory()
    }

    fn step(&mut self) -> Result<(), String> {
        let step = self.source.weighted(&[
            (120, Step::Client),
            (50, Step::Turn),
            (self.storage_weight, Step::Storage),
            (6, Step::Maintenance),
            (12, Step::Clock),
            (10, Step::Coming),
            (self.look_weight, Step::Look),
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
                self.engine.maintain(self.now);
                self.forget_evicted();
                self.trace.add(Event::Maintained { now: self.now });
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
        self.clients.push(Client::new(link));
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
        let asking = &mut self.clients[client];
        if !asking.can_ask() || asking.unsent_bytes() > UNSENT_BYTES_MAX {
            return;
        }
        let mut maker = Maker {
            source: &mut self.source,
            oracle: &self.oracle,
            config: &self.server.config,
            now: self.now,
            key_count: self.key_count,
            appetite: self.appetite,
        };
        let opaque = self.next_opaque;
        let request = maker.request(opaque);
        self.next_opaque += 1;
        asking.ask(&request, &self.server.config);
        let opcode = Opcode(request[1]);
        self.trace.add(Event::Asked { client, opcode, opaque, bytes: request.len() });
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

/// The storage thread, and what must hold of what it does.
impl World {
    /// Executes the next batch, and tells the oracle.
    fn execute(&mut self) -> Result<(), String> {
        let Some((event_loop, mut batch)) = self.queue.pop_front() else { return Ok(()) };
        self.report.batches += 1;
        let is_late = self.options.fault == Some(Fault::OldClock)
            && self.report.batches.is_multiple_of(OLD_CLOCK_EVERY);
        self.load_bytes = self.engine.used_bytes();
        self.crowding = self.server.meter.crowding();
        self.oracle.advance(self.now);
        self.engine.execute(&mut batch, self.now - if is_late { DAY_SECONDS } else { 0 });
        self.trace.add(Event::Executed { event_loop, runs: batch.runs.len(), now: self.now });
        self.evicted.begin(self.engine.take_evicted());
        if batch.runs.first().is_some_and(|run| run.executed == 0) {
            return Err("the first run of a batch comes to nothing".into());
        }
        for run in &batch.runs {
            let client = self.owner(event_loop, run.conn)?;
            for at in run.executed_ops() {
                let (op, reply) = (&batch.ops[at], &batch.replies[at]);
                match op.command {
                    Command::Reserve { .. } => self.check_reservation(client, reply)?,
                    _ => self.check_answer(client, op, reply, &batch)?,
                }
            }
        }
        self.forget_evicted();
        self.engine.verify()?;
        self.loops[event_loop].answer(batch);
        self.check_memory()
    }

    /// Room for a large value is made, or refused with a reason.
    fn check_reservation(&mut self, client: usize, reply: &Reply) -> Result<(), String> {
        if matches!(reply, Reply::Refused(_)) {
            self.check_memory_is_short(0).map_err(|why| told(client, &format!("finds no room: {why}")))?;
            self.clients[client].has_no_room = true;
        }
        Ok(())
    }

    fn check_answer(&mut self, client: usize, op: &Op, reply: &Reply, batch: &Batch) -> Result<(), String> {
        let (opcode, opaque) = mark(&batch.input.filled()[op.starts_at as usize..]);
        let has_no_room = std::mem::take(&mut self.clients[client].has_no_room);
        let part = if has_no_room { Part::Head } else { Part::Due };
        let owed = self.clients[client].next_owed(opcode, opaque, part).map_err(|why| told(client, &why))?;
        let answer = Answer::of(reply, batch);
        match &owed.verdict {
            Verdict::Asks(ask) if has_no_room => self.check_turned_away(&owed, ask, &answer),
            Verdict::Asks(ask) => self.check_done(ask, &answer),
            Verdict::Fails(_) => Ok(()),
            Verdict::Silence => Err(format!("has {opcode} {opaque} executed")),
        }
        .map_err(|why| told(client, &why))?;
        let outcome = outcome(&owed, &answer);
        self.trace.add(Event::Answered { client, opcode, opaque, outcome });
        let expected = owed.worded(&answer);
        self.count(outcome, expected.is_none());
        self.clients[client].expect(expected);
        Ok(())
    }

    /// A large value that there was no room for: nothing is looked at, and whoever sets a value must not read the older
    /// one.
    fn check_turned_away(&mut self, owed: &Owed, ask: &Ask, answer: &Answer) -> Result<(), String> {
        if owed.value != Size::Large {
            return Err(format!("found no room for {ask:?}"));
        }
        let is_set = matches!(ask.command, Command::Store { mode: wire::StoreMode::Set, .. });
        let older = if is_set { Older::Delete } else { Older::Keep };
        let refused = Ask::new(&ask.key, Command::Unstorable { why: Refusal::OutOfMemory, older });
        self.oracle.check(&refused, answer, self.now, Losses::None)
    }

    /// A request that was executed.
    fn check_done(&mut self, ask: &Ask, answer: &Answer) -> Result<(), String> {
        if *answer == Answer::Refused(Refusal::OutOfMemory) {
            if matches!(ask.command, Command::Get | Command::GetAndTouch { .. } | Command::Stats(_)) {
                return self.check_unanswerable(ask);
            }
            let given = ask.given.as_ref().map_or(0, |given| given.value.0.len());
            let older = self.oracle.items().get(&ask.key).map_or(0, |item| item.value.len());
            self.check_memory_is_short(given + older).map_err(|why| format!("has {ask:?} refused: {why}"))?;
        }
        let lost_before = self.oracle.lost;
        self.oracle.check(ask, answer, self.now, self.losses(&ask.key))?;
        if self.oracle.lost > lost_before {
            self.evicted.missed(&ask.key);
        }
        match answer {
            Answer::Stored { .. } | Answer::Counted { .. } => {
                self.evicted.written(&ask.key);
                self.load_bytes += self.oracle.items().get(&ask.key).map_or(0, |item| item.value.len());
            }
            Answer::Hit { .. } | Answer::Touched { .. } => self.evicted.seen(&ask.key),
            _ => {}
        }
        Ok(())
    }

    /// A value is there, and is not read: only where clients hold too much.
    fn check_unanswerable(&mut self, ask: &Ask) -> Result<(), String> {
        let right = self.oracle.apply(ask, self.now);
        let is_crowded =
            [self.crowding, self.server.meter.crowding()].iter().any(|crowding| *crowding != Crowding::Ample);
        if is_crowded && matches!(right, Answer::Hit { .. } | Answer::Done) {
            return Ok(());
        }
        Err(format!("has {ask:?} refused, and not answered {right:?}"))
    }

    /// The engine says what it has evicted: what is gone for certain, the oracle forgets, too.
    fn forget_evicted(&mut self) {
        self.evicted.begin(self.engine.take_evicted());
        for key in self.evicted.end() {
            self.oracle.evict(&key);
            self.report.evicted += 1;
        }
    }

    fn count(&mut self, outcome: Outcome, is_silent: bool) {
        let report = &mut self.report;
        report.requests += 1;
        report.quiet += u64::from(is_silent);
        match outcome {
            Outcome::Hit { value_bytes } => {
                report.hits += 1;
                let is_large = !is_inline(1, value_bytes, self.server.config.memory_bytes_max);
                report.large_hits += u64::from(is_large);
            }
            Outcome::OutOfMemory => report.refusals += 1,
            Outcome::Malformed => report.malformed += 1,
            _ => {}
        }
    }

    /// What may become of an item without anybody asking for it.
    fn losses(&self, key: &[u8]) -> Losses {
        if self.server.config.memory_bytes_max >= AMPLE_BYTES {
            Losses::None
        } else if self.may_be_missing(key) {
            Losses::Evictions
        } else {
            Losses::Refusals
        }
    }

    /// Whether an item may have been evicted.
    fn may_be_missing(&self, key: &[u8]) -> bool {
        self.evicted.may_miss(key)
    }

    /// `bytes` more would have brought the memory to its limit, or so near that the engine must keep the rest for itself.
    fn check_memory_is_short(&self, bytes: usize) -> Result<(), String> {
        let limit = self.server.config.memory_bytes_max;
        let most = self.load_bytes + bytes + SEGMENTS_SPARED * segment_bytes(limit);
        if most >= limit && limit < AMPLE_BYTES {
            return Ok(());
        }
        Err(format!("memory comes to {most} bytes at most, limit is {limit}"))
    }

    /// Memory keeps its limit, but for what clients hold.
    fn check_memory(&self) -> Result<(), String> {
        let limit = self.server.config.memory_bytes_max;
        let used = self.engine.used_bytes();
        let most = limit + segment_bytes(limit);
        if used <= most {
            return Ok(());
        }
        let meter = &self.server.meter;
        let queue: usize = self.queue.iter().map(|(_, batch)| batch.lent.len()).sum();
        let home: usize = self.loops.iter().map(EventLoop::lent_count).sum();
        let held = meter.buffers()
            + meter.blocks().saturating_sub(self.stored_block_bytes())
            + meter.gauge(Use::Pinned)
            + (queue + home) * segment_bytes(limit);
        if used <= most + held {
            return Ok(());
        }
        Err(format!("{used} bytes are used: limit is {limit}, and clients hold {held}"))
    }

    /// What the blocks of all items take.
    fn stored_block_bytes(&self) -> usize {
        let limit = self.server.config.memory_bytes_max;
        let items = self.oracle.items().iter();
        let large = items.filter(|(key, item)| !is_inline(key.len(), item.value.len(), limit));
        large.map(|(_, item)| page_bytes(item.value.len())).sum()
    }

    /// When nothing is under way: what the engine counts is what the oracle has.
    fn check_inventory(&mut self) -> Result<(), String> {
        for number in 0..self.key_count {
            let key = key(number);
            let batch = self.ask_engine(&key, Command::Get);
            let ask = Ask::new(&key, Command::Get);
            let answer = Answer::of(&batch.replies[0], &batch);
            let losses = self.losses(&key);
            self.oracle.check(&ask, &answer, self.now, losses)?;
        }
        let batch = self.ask_engine(b"", Command::Stats(Group::General));
        let Reply::Stats(stats) = &batch.replies[0] else {
            return Err(format!("statistics are answered {:?}", batch.replies[0]));
        };
        let StorageStats::Figures(figures) = &**stats else {
            return Err(format!("statistics are {stats:?}"));
        };
        let items = self.oracle.items();
        if figures.item_count != items.len() {
            return Err(format!("{} items are counted, and there are {}", figures.item_count, items.len()));
        }
        let evicts = self.server.config.when_full == WhenFull::Evict;
        if figures.counters.evictions > 0 && !evicts {
            return Err(format!("{} items were evicted", figures.counters.evictions));
        }
        let (meter, stored) = (&self.server.meter, self.stored_block_bytes());
        if meter.blocks() != stored {
            return Err(format!("{} bytes of blocks are metered, and {stored} are stored", meter.blocks()));
        }
        for held in [Use::Arriving, Use::Waiting, Use::Pinned, Use::Orphaned] {
            let left = meter.gauge(held);
            if left > 0 {
                return Err(format!("{left} bytes are metered as {held:?}, and there are no clients"));
            }
        }
        let places = self.server.receiving.bytes() + self.server.unfinished.bytes();
        if places > 0 {
            return Err(format!("{places} bytes have a place to be received, and there are no clients"));
        }
        self.check_memory()
    }

    /// Asks past all clients.
    fn ask_engine(&mut self, key: &[u8], command: Command) -> Batch {
        let mut batch = Batch::default();
        batch.input.extend(key);
        let hash = if key.is_empty() { KeyHash(0) } else { self.server.hash(key) };
        let key = Span::new(0, key.len());
        batch.ops.push(Op { command, key, hash, starts_at: 0, tag: Tag(0) });
        let conn = ConnId { slot: 0, generation: 0 };
        batch.runs.push(Run { conn, first_op: 0, op_count: 1, input: key, executed: 0 });
        self.oracle.advance(self.now);
        self.engine.execute(&mut batch, self.now);
        self.forget_evicted();
        batch
    }
}

/// The end.
impl World {
    /// Lets everybody do what is left to do, until nothing moves any more.
    fn settle(&mut self) -> Result<(), String> {
        self.is_settling = true;
        let mut idle_rounds = 0;
        let mut moved = self.moved();
        for _ in 0..ROUNDS_MAX {
            for number in 0..self.loops.len() {
                self.turn(number, Timers { linger: true, retry: idle_rounds % 2 == 1 });
                if idle_rounds > 0 && idle_rounds % 2 == 0 {
                    self.look(number)?;
                }
            }
            while !self.queue.is_empty() {
                self.execute()?;
            }
            for client in 0..self.clients.len() {
                self.hurry(client)?;
            }
            let moved_before = std::mem::replace(&mut moved, self.moved());
            idle_rounds = if moved == moved_before { idle_rounds + 1 } else { 0 };
            if idle_rounds > IDLE_ROUNDS {
                return Ok(());
            }
        }
        Err(format!("after {ROUNDS_MAX} rounds there is no rest"))
    }

    /// A number that changes with everything that moves.
    fn moved(&self) -> (u64, u64) {
        (self.loops.iter().map(EventLoop::traffic_bytes).sum(), self.report.batches)
    }

    /// A client sends and reads all that it can.
    fn hurry(&mut self, client: usize) -> Result<(), String> {
        let hurried = &mut self.clients[client];
        match hurried.manner {
            Manner::Silent | Manner::Gone => return Ok(()),
            Manner::Paused => hurried.manner = Manner::Lively,
            Manner::Lively | Manner::Ended => {}
        }
        {
            let mut link = hurried.link();
            (link.up_bytes_max, link.down_bytes_max) = (1 << 20, 1 << 20);
        }
        self.send(client, usize::MAX);
        self.read(client, usize::MAX).map(|_| ())
    }

    /// All clients go.
    fn end_all(&mut self) -> Result<(), String> {
        for client in &mut self.clients {
            client.end();
        }
        self.settle()?;
        for (number, client) in self.clients.iter().enumerate() {
            client.check_rest().map_err(|why| told(number, &why))?;
        }
        let left: usize = self.loops.iter().map(EventLoop::connection_count).sum();
        if left > 0 {
            return Err(format!("{left} connections are left, and no clients"));
        }
        Ok(())
    }

    fn report(&mut self) -> Report {
        let mut report = std::mem::take(&mut self.report);
        report.trace = self.trace.hash();
        report.steps = self.trace.step;
        report.evicted += self.oracle.lost;
        for event_loop in &self.loops {
            report.put_back += event_loop.put_back;
            report.late_answers += event_loop.late_answers;
            report.without_room += event_loop.without_room;
        }
        report.short_writes = self.clients.iter().map(|client| client.link().short_writes).sum();
        report
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
    Config {
        memory_bytes_max,
        item_bytes_max,
        when_full,
        versions,
        track_sizes,
        detail_enabled,
        // All that clients send is binary, so a first byte that is not has a fault.
        protocol: Protocol::Binary,
        ..Config::default()
    }
}

/// Opcode and opaque of a request.
fn mark(request: &[u8]) -> (Opcode, u32) {
    let opaque = request[12..16].first_chunk().expect("four bytes");
    (Opcode(request[1]), u32::from_be_bytes(*opaque))
}

fn told(client: usize, why: &str) -> String {
    format!("client {client} {why}")
}

fn outcome(owed: &Owed, answer: &Answer) -> Outcome {
    if matches!(owed.verdict, Verdict::Fails(_)) {
        return Outcome::Malformed;
    }
    match answer {
        Answer::Done => Outcome::Done,
        Answer::Hit { value, .. } => Outcome::Hit { value_bytes: value.0.len() },
        Answer::Touched { .. } | Answer::Stored { .. } => Outcome::Stored,
        Answer::Counted { value, .. } => Outcome::Counted { value: *value },
        Answer::NotFound => Outcome::NotFound,
        Answer::Exists => Outcome::Exists,
        Answer::NotStored => Outcome::NotStored,
        Answer::NonNumeric => Outcome::NonNumeric,
        Answer::Refused(Refusal::TooLarge) => Outcome::TooLarge,
        Answer::Refused(Refusal::OutOfMemory) => Outcome::OutOfMemory,
    }
}

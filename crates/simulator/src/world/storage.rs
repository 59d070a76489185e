//! The storage thread, and what must hold of what it does.

use memwire::figures::{Group, StorageStats};
use memwire::message::{Batch, Command, ConnId, KeyHash, Older, Op, Refusal, Reply, Run, Span, Tag};
use memwire::meter::{Crowding, Use};
use memwire::storage::block::page_bytes;
use memwire::storage::engine::WhenFull;
use memwire::storage::log::{is_inline, segment_bytes};
use wire::Opcode;

use crate::Fault;
use crate::ask::{Answer, Ask};
use crate::client::Part;
use crate::event_loop::EventLoop;
use crate::oracle::Losses;
use crate::owed::{Dialect, Owed, Size, Verdict};
use crate::requests::key;
use crate::trace::{Event, Outcome};
use crate::world::{AMPLE_BYTES, DAY_SECONDS, World, told};

/// One batch in so many is late, with [`Fault::OldClock`].
const OLD_CLOCK_EVERY: u64 = 16;
/// Segments that the engine may keep for itself before it refuses a write.
const SEGMENTS_SPARED: usize = 4;

impl World {
    /// Executes the next batch, and tells the oracle.
    pub(super) fn execute(&mut self) -> Result<(), String> {
        let Some((event_loop, mut batch)) = self.queue.pop_front() else { return Ok(()) };
        self.report.batches += 1;
        let is_late = self.options.fault == Some(Fault::OldClock)
            && self.report.batches.is_multiple_of(OLD_CLOCK_EVERY);
        self.load_bytes = self.engine.used_bytes();
        self.crowding = self.server.meter.crowding();
        self.oracle.advance(self.now);
        self.engine.set_asking(self.loops[event_loop].home());
        self.engine.execute(&mut batch, self.now - if is_late { DAY_SECONDS } else { 0 });
        self.engine.take_asking();
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
                    Command::Watch { wait_ms: 0, .. } if matches!(reply, Reply::Done) => {
                        self.check_over(client).map_err(|why| told(client, &why))?;
                    }
                    Command::Watch { .. } => {
                        self.check_watch(client, reply, &batch).map_err(|why| told(client, &why))?;
                    }
                    Command::Unwatch => {
                        self.check_unwatch(client).map_err(|why| told(client, &why))?;
                    }
                    _ => self.check_answer(client, op, reply, &batch)?,
                }
            }
        }
        self.forget_evicted();
        self.engine.verify()?;
        self.loops[event_loop].answer(batch);
        self.tell_changes();
        self.check_crowd()?;
        self.check_memory()
    }

    /// Does what nobody waits for.
    pub(super) fn maintain(&mut self) {
        self.oracle.advance(self.now);
        self.engine.maintain(self.now);
        self.forget_evicted();
        self.tell_changes();
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
        let (opcode, opaque) = match self.clients[client].dialect {
            Dialect::Binary => mark(&batch.input.filled()[op.starts_at as usize..]),
            // Only the order tells whose line it is.
            Dialect::Text | Dialect::Resp => {
                let next = self.clients[client].next_mark();
                next.ok_or_else(|| told(client, "has asked for nothing"))?
            }
        };
        let has_no_room = std::mem::take(&mut self.clients[client].has_no_room);
        let part = if has_no_room { Part::Head } else { Part::Due };
        let owed = self.clients[client].next_owed(opcode, opaque, part).map_err(|why| told(client, &why))?;
        self.check_gate(client, op, &owed).map_err(|why| told(client, &why))?;
        let answer = Answer::of(reply, batch);
        match &owed.verdict {
            Verdict::Asks(ask) if has_no_room => self.check_turned_away(&owed, ask, &answer),
            Verdict::Asks(ask) => self.check_done(ask, &answer),
            Verdict::Fails(_)
            | Verdict::Says(_)
            | Verdict::Challenges
            | Verdict::Admits(_)
            | Verdict::Rejects(_) => Ok(()),
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
    pub(super) fn check_done(&mut self, ask: &Ask, answer: &Answer) -> Result<(), String> {
        if *answer == Answer::Refused(Refusal::OutOfMemory) {
            if is_read(ask.command) {
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
    pub(super) fn forget_evicted(&mut self) {
        self.evicted.begin(self.engine.take_evicted());
        for key in self.evicted.end() {
            self.oracle.evict(&key);
            self.report.evicted += 1;
        }
    }

    pub(super) fn count(&mut self, outcome: Outcome, is_silent: bool) {
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
    pub(super) fn losses(&self, key: &[u8]) -> Losses {
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
    pub(super) fn check_memory(&self) -> Result<(), String> {
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
    pub(super) fn check_inventory(&mut self) -> Result<(), String> {
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
        if figures.watcher_count > 0 && !self.has_crowd() {
            return Err(format!("{} are noted, and nobody waits", figures.watcher_count));
        }
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
    pub(super) fn ask_engine(&mut self, key: &[u8], command: Command) -> Batch {
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

/// Whether it changes no value.
fn is_read(command: Command) -> bool {
    matches!(command, Command::Get | Command::GetAndTouch { .. } | Command::Watch { .. } | Command::Stats(_))
}

/// Opcode and opaque of a request.
fn mark(request: &[u8]) -> (Opcode, u32) {
    let opaque = request[12..16].first_chunk().expect("four bytes");
    (Opcode(request[1]), u32::from_be_bytes(*opaque))
}

fn outcome(owed: &Owed, answer: &Answer) -> Outcome {
    if matches!(owed.verdict, Verdict::Fails(_)) {
        return Outcome::Malformed;
    }
    match answer {
        Answer::Done | Answer::Waiting | Answer::TooManyWait => Outcome::Done,
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

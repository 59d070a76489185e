//! Clients that wait for an item to change: whose change is told, and when.
//!
//! Who waits is told of a change before anybody can say that everything is at rest, and of nothing else until his time is
//! up. In some stories a crowd without names waits for the first key, as many as may.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use memwire::figures::{Group, StorageStats};
use memwire::limits::{WAKES_PER_TURN, WATCHERS_PER_KEY_MAX};
use memwire::message::{Batch, Command, ConnId, Op, Reply, Run, Span, Tag, Watched};

use crate::Fault;
use crate::ask::Answer;
use crate::client::{Manner, Part};
use crate::owed::WATCH;
use crate::requests::key;
use crate::world::{World, told};

/// One change in so many is told to nobody, with [`Fault::LostChange`].
const LOST_CHANGE_EVERY: u64 = 5;
/// Who waits besides the clients.
const CROWD: usize = WATCHERS_PER_KEY_MAX;

/// Who waits.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// By client: which item, and which version is known.
    noted: BTreeMap<usize, (Bytes, u64)>,
    /// Those whose time is up, and who are not told yet.
    over: BTreeSet<usize>,
    /// Whether there is a crowd.
    crowd: Crowd,
    changes: u64,
    /// Nobody waits any longer.
    pub(super) is_late: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Crowd {
    #[default]
    None,
    Waits,
}

impl World {
    /// Many wait for the first key, whatever it is.
    pub(super) fn let_crowd_wait(&mut self) {
        let key = key(0);
        let mut batch = Batch::default();
        batch.input.extend(&key);
        let span = Span::new(0, key.len());
        let command = Command::Watch { known: 0, wait_ms: 1, told: Watched::Item };
        let hash = self.server.hash(&key);
        batch.ops.extend((0..CROWD).map(|_| Op { command, key: span, hash, starts_at: 0, tag: Tag(0) }));
        let conn = ConnId { slot: u32::MAX, generation: 0 };
        batch.runs.push(Run { conn, first_op: 0, op_count: CROWD as u32, input: span, executed: 0 });
        self.engine.execute(&mut batch, self.now);
        self.waits.crowd = Crowd::Waits;
    }

    /// The storage thread tells some of those of whose items it has seen a change.
    pub(super) fn tell_changes(&mut self) {
        if !self.engine.has_woken() {
            return;
        }
        let limit = if self.is_settling { usize::MAX } else { self.source.pick(&[WAKES_PER_TURN, 1]) };
        for watcher in self.engine.take_woken(limit) {
            let Some(home) = watcher.home else { continue };
            self.waits.changes += 1;
            let is_lost = self.options.fault == Some(Fault::LostChange)
                && self.waits.changes.is_multiple_of(LOST_CHANGE_EVERY);
            if !is_lost {
                home.wake(watcher.conn);
            }
        }
    }

    /// The time of all who wait at a loop is up.
    pub(super) fn end_waits(&mut self, number: usize) -> Result<(), String> {
        for id in self.loops[number].end_waits() {
            let client = self.owner(number, id)?;
            self.waits.over.insert(client);
        }
        Ok(())
    }

    /// A client asks to wait, or looks again.
    pub(super) fn check_watch(&mut self, client: usize, reply: &Reply, batch: &Batch) -> Result<(), String> {
        let answer = Answer::of(reply, batch);
        let (ask, opaque) = self.clients[client].watched()?;
        let ask = ask.clone();
        if answer == Answer::TooManyWait {
            if self.waits.crowd == Crowd::None || ask.key[..] != key(0) {
                return Err(format!("may not wait for {}", ask.key.escape_ascii()));
            }
            self.report.waits_refused += 1;
            return self.end_wait(client, opaque, &answer);
        }
        self.check_done(&ask, &answer)?;
        if answer == Answer::Waiting {
            let Command::Watch { known, .. } = ask.command else { return Err("does not wait".into()) };
            self.waits.noted.insert(client, (ask.key, known));
            self.report.waits += 1;
            return Ok(());
        }
        self.waits.over.remove(&client);
        self.report.waits_told += u64::from(self.waits.noted.contains_key(&client));
        self.end_wait(client, opaque, &answer)
    }

    /// The note of a client who is gone is taken back.
    pub(super) fn check_unwatch(&mut self, client: usize) -> Result<(), String> {
        if !self.clients[client].link().server_is_gone() {
            return Err("is forgotten, and is not gone".into());
        }
        self.waits.over.remove(&client);
        self.waits.noted.remove(&client);
        Ok(())
    }

    /// A client is told that his time is up, and that nothing has changed.
    pub(super) fn check_over(&mut self, client: usize) -> Result<(), String> {
        let is_over = self.waits.over.remove(&client);
        let sends_no_more = matches!(self.clients[client].manner, Manner::Ended | Manner::Gone);
        if !is_over && !sends_no_more {
            return Err("is told that his time is up, and it is not".into());
        }
        self.report.waits_over += 1;
        let (ask, opaque) = self.clients[client].watched()?;
        let ask = ask.clone();
        self.check_done(&ask, &Answer::Waiting)?;
        self.end_wait(client, opaque, &Answer::Done)
    }

    fn end_wait(&mut self, client: usize, opaque: u32, answer: &Answer) -> Result<(), String> {
        let owed = self.clients[client].next_owed(WATCH, opaque, Part::Due)?;
        self.waits.noted.remove(&client);
        self.clients[client].expect(owed.worded(answer));
        Ok(())
    }

    /// No more wait than may. To be asked behind each batch: the crowd has gone when there are fewer.
    pub(super) fn check_crowd(&mut self) -> Result<(), String> {
        if self.waits.crowd == Crowd::None {
            return Ok(());
        }
        let count = self.watcher_count()?;
        if count < CROWD {
            self.waits.crowd = Crowd::None;
        }
        let elsewhere = self.waits.noted.values().filter(|(watched, _)| watched[..] != key(0)).count();
        if count > WATCHERS_PER_KEY_MAX + elsewhere {
            return Err(format!("{count} wait, {elsewhere} of them for another key than the first"));
        }
        Ok(())
    }

    /// Whether others wait than clients.
    pub(super) fn has_crowd(&self) -> bool {
        self.waits.crowd == Crowd::Waits
    }

    /// Everything is at rest: who still waits has nothing to be told of, and nobody else is noted. A client that reads
    /// nothing any more is told nothing either.
    pub(super) fn check_waits(&mut self) -> Result<(), String> {
        let mut least = 0;
        for (client, (key, known)) in &self.waits.noted {
            if self.clients[*client].manner == Manner::Silent {
                continue;
            }
            least += 1;
            let current = self.oracle.told_version(key);
            if current != *known && !self.evicted.may_miss(key) {
                let key = key.escape_ascii();
                return Err(told(*client, &format!("waits for {key}, known as {known}, which is {current}")));
            }
        }
        let (most, count) = (self.waits.noted.len(), self.watcher_count()?);
        let clients = if count < CROWD { count } else { count - CROWD };
        if (least..=most).contains(&clients) {
            return Ok(());
        }
        Err(format!("{count} are noted, and {least} to {most} clients wait"))
    }

    /// The storage thread has looked at the time: nobody is noted any longer for whom there is a change.
    pub(super) fn check_notes(&mut self) -> Result<(), String> {
        let count = self.watcher_count()?;
        let is_same =
            |key: &[u8], known| self.oracle.told_version(key) == known || self.evicted.may_miss(key);
        let same = self.waits.noted.values().filter(|(key, known)| is_same(key, *known)).count();
        if count > same && count < CROWD {
            return Err(format!("{count} are noted, and {same} clients have nothing to be told of"));
        }
        Ok(())
    }

    /// The server is gone, and who waited with it.
    pub(super) fn forget_waits(&mut self) {
        self.waits = Waits { changes: self.waits.changes, ..Waits::default() };
    }

    fn watcher_count(&mut self) -> Result<usize, String> {
        let batch = self.ask_engine(b"", Command::Stats(Group::General));
        match &batch.replies[0] {
            Reply::Stats(stats) => match &**stats {
                StorageStats::Figures(figures) => Ok(figures.watcher_count),
                other => Err(format!("statistics are {other:?}")),
            },
            other => Err(format!("statistics are answered {other:?}")),
        }
    }
}

//! An event loop without a poll, a thread or a clock: what [`memwire::net::event_loop`] does with its connections, by
//! the same calls in the same order, when somebody says so.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_channel::Receiver;
use memwire::hop::{Bell, Home};
use memwire::limits::{BATCHES_PER_LOOP, INPUT_BYTES_PER_BATCH, RECEIVE_RETRIES};
use memwire::message::{Batch, Command, ConnId, KeyHash, Op, Run, Span, Tag};
use memwire::meter::{Charge, Use};
use memwire::net::connection::{Connection, Traffic, Wish};
use memwire::net::slots::Slots;
use memwire::server::Server;
use memwire::session::Output;

use crate::Fault;
use crate::link::Socket;

/// An event loop.
#[derive(Debug)]
pub struct EventLoop {
    connections: Slots<Connection<Socket>>,
    ready: VecDeque<ConnId>,
    lingering: VecDeque<ConnId>,
    no_room: VecDeque<ConnId>,
    watched: Vec<ConnId>,
    /// By which the storage thread tells of changes.
    home: Arc<Home>,
    changes: Receiver<ConnId>,
    /// Connections that have waited for a change and are gone.
    forsaken: Vec<(ConnId, KeyHash)>,
    #[expect(clippy::vec_box, reason = "a batch travels in its box")]
    spare: Vec<Box<Batch>>,
    answers: VecDeque<Box<Batch>>,
    output: Output,
    output_charge: Charge,
    traffic: Traffic,
    fault: Option<Fault>,
    /// Answers that found nobody.
    pub late_answers: u64,
    /// Requests that went back to their connection.
    pub put_back: u64,
    /// Times that a long request found no room.
    pub without_room: u64,
}

/// Which of its timers run out in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Timers {
    /// Connections that say goodbye have had the time for it.
    pub linger: bool,
    /// Long requests without room try again.
    pub retry: bool,
}

/// Whether the poll reports what there is to report about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hearing {
    /// It does.
    Now,
    /// In a later turn.
    Later,
    /// It forgets about it.
    Never,
}

impl EventLoop {
    /// A loop without connections.
    #[must_use]
    pub fn new(server: &Server, fault: Option<Fault>) -> Self {
        // Batches come home by another way.
        let (nowhere, _) = crossbeam_channel::bounded(0);
        let (tell_change, changes) = crossbeam_channel::unbounded();
        let home = Home::new(nowhere, Arc::new(Bell::new(|| {}))).with_changes(tell_change);
        Self {
            home: Arc::new(home),
            changes,
            forsaken: Vec::new(),
            connections: Slots::default(),
            ready: VecDeque::new(),
            lingering: VecDeque::new(),
            no_room: VecDeque::new(),
            watched: Vec::new(),
            spare: (0..BATCHES_PER_LOOP).map(|_| Box::new(Batch::charged_on(&server.meter))).collect(),
            answers: VecDeque::new(),
            output: Output::default(),
            output_charge: Charge::new(&server.meter, Use::Working),
            traffic: Traffic::default(),
            fault,
            late_answers: 0,
            put_back: 0,
            without_room: 0,
        }
    }

    /// Serves a connection.
    pub fn serve(&mut self, socket: Socket, server: &Server) -> ConnId {
        self.connections.insert(Connection::new(socket, &server.meter))
    }

    /// How the storage thread tells it of changes.
    #[must_use]
    pub fn home(&self) -> Arc<Home> {
        Arc::clone(&self.home)
    }

    /// A batch comes home.
    pub fn answer(&mut self, batch: Box<Batch>) {
        self.answers.push_back(batch);
    }

    /// How many connections it has.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// Bytes that it has read and written.
    #[must_use]
    pub fn traffic_bytes(&self) -> u64 {
        self.traffic.read + self.traffic.written
    }

    /// Values in batches that have come home which are lent from where they are stored.
    #[must_use]
    pub fn lent_count(&self) -> usize {
        self.answers.iter().map(|batch| batch.lent.len()).sum()
    }

    /// One turn. `hears` is asked for each connection about which there is something to report. Gives the batch that
    /// goes to the storage thread, if any.
    pub fn turn(
        &mut self,
        server: &Server,
        timers: Timers,
        mut hears: impl FnMut() -> Hearing,
    ) -> Option<Box<Batch>> {
        self.take_events(&mut hears);
        // What tells of a change comes behind the answer that says that one waits.
        let changed: Vec<_> = self.changes.try_iter().take(self.connections.len()).collect();
        self.take_answers(server);
        for id in changed {
            if let Some(connection) = self.connections.get_mut(id) {
                connection.wake();
            }
            self.grant(id);
        }
        let batch = self.read_ready(server);
        if timers.linger {
            for id in std::mem::take(&mut self.lingering) {
                self.remove(id);
            }
        }
        if timers.retry {
            self.retry_receiving();
        }
        batch
    }

    /// Whether it has nothing to do, and waits for nobody but its clients.
    pub fn is_at_rest(&mut self) -> bool {
        let ids = self.connections.ids();
        self.spare.len() == BATCHES_PER_LOOP
            && self.ready.is_empty()
            && self.changes.is_empty()
            && self.forsaken.is_empty()
            && !ids.into_iter().any(|id| {
                self.connections.get_mut(id).is_some_and(|connection| connection.socket().event().is_some())
            })
    }

    /// Looks after the progress of long requests, as it does every few seconds, and gives the connections that it has
    /// closed for want of any.
    pub fn end_stalled(&mut self, server: &Server) -> Vec<ConnId> {
        let mut closed = Vec::new();
        for id in std::mem::take(&mut self.watched) {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            connection.close_if_stalled(server.meter.crowding());
            if connection.begins_to_be_watched() {
                self.watched.push(id);
            }
            self.grant(id);
            if self.connections.get_mut(id).is_none() {
                closed.push(id);
            }
        }
        closed
    }

    /// The time is up of all clients that have not said who they are: gives their connections.
    pub fn end_strangers(&mut self, server: &Server) -> Vec<ConnId> {
        let mut ids = self.connections.ids();
        ids.retain(|id| {
            self.connections.get_mut(*id).is_some_and(|connection| connection.close_if_stranger(server))
        });
        for id in &ids {
            self.grant(*id);
        }
        ids
    }

    /// The time is up of all clients that wait for a change: gives their connections.
    pub fn end_waits(&mut self) -> Vec<ConnId> {
        let mut over = Vec::new();
        for id in self.connections.ids() {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            if connection.waits_until().is_some() {
                connection.end_wait();
                over.push(id);
            }
            self.grant(id);
        }
        over
    }

    fn take_events(&mut self, hears: &mut impl FnMut() -> Hearing) {
        for id in self.connections.ids() {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            if connection.socket().event().is_none() {
                continue;
            }
            let hearing = hears();
            if hearing == Hearing::Later {
                continue;
            }
            let Some(event) = connection.socket().take_event() else { continue };
            if hearing == Hearing::Never {
                continue;
            }
            if event.readable {
                connection.set_readable();
            }
            if event.read_closed {
                connection.set_half_closed();
            }
            if event.writable {
                connection.flush(&mut self.traffic);
            }
            self.grant(id);
        }
    }

    fn take_answers(&mut self, server: &Server) {
        while let Some(mut batch) = self.answers.pop_front() {
            for run in &batch.runs {
                let conn = self.addressee(run.conn);
                let Some(connection) = self.connections.get_mut(conn) else {
                    self.late_answers += 1;
                    continue;
                };
                self.put_back += u64::from(run.op_count - run.executed);
                connection.take_answers(run, &batch, server, &mut self.output, &mut self.traffic);
                if connection.begins_to_be_watched() {
                    self.watched.push(conn);
                }
            }
            for came_to_nothing in [true, false] {
                for run in batch.runs.iter().filter(|run| (run.executed == 0) == came_to_nothing) {
                    self.grant(run.conn);
                }
            }
            batch.recycle();
            self.spare.push(batch);
            self.output_charge.set(self.output.capacity_bytes());
        }
    }

    /// Who gets the answers to a connection's run.
    fn addressee(&self, conn: ConnId) -> ConnId {
        if self.fault == Some(Fault::NextOccupant) {
            let occupants = self.connections.ids();
            return occupants.into_iter().find(|id| id.slot == conn.slot).unwrap_or(conn);
        }
        conn
    }

    fn read_ready(&mut self, server: &Server) -> Option<Box<Batch>> {
        if self.ready.is_empty() && self.forsaken.is_empty() {
            return None;
        }
        let mut batch = self.spare.pop()?;
        for (conn, hash) in self.forsaken.drain(..) {
            forsake(&mut batch, conn, hash);
        }
        for _ in 0..self.ready.len() {
            if batch.input.len() >= INPUT_BYTES_PER_BATCH {
                break;
            }
            let Some(id) = self.ready.pop_front() else { break };
            let Some(connection) = self.connections.get_mut(id) else { continue };
            connection.dequeue();
            if connection.wants_turn() {
                connection.take_turn(id, &mut batch, server, &mut self.traffic);
                if connection.begins_to_be_watched() {
                    self.watched.push(id);
                }
            }
            self.grant(id);
        }
        if batch.runs.is_empty() {
            batch.recycle();
            self.spare.push(batch);
            return None;
        }
        Some(batch)
    }

    fn grant(&mut self, id: ConnId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        match connection.wish() {
            Wish::Turn => {
                if !connection.enqueue() {
                    self.ready.push_back(id);
                }
            }
            Wish::Room => {
                if !connection.enqueue() {
                    self.no_room.push_back(id);
                    self.without_room += 1;
                }
            }
            Wish::Linger => {
                self.lingering.push_back(id);
                self.grant(id);
            }
            Wish::Close => self.remove(id),
            Wish::Wait => {}
        }
    }

    fn remove(&mut self, id: ConnId) {
        let Some(connection) = self.connections.remove(id) else { return };
        if let Some(hash) = connection.waits_for()
            && self.fault != Some(Fault::ForgottenWaiter)
        {
            self.forsaken.push((id, hash));
        }
    }

    fn retry_receiving(&mut self) {
        for _ in 0..RECEIVE_RETRIES {
            let Some(id) = self.no_room.pop_front() else { break };
            let Some(connection) = self.connections.get_mut(id) else { continue };
            connection.dequeue();
            connection.retry();
            self.grant(id);
        }
    }
}

/// Has the storage thread forget that a connection waits.
fn forsake(batch: &mut Batch, conn: ConnId, hash: KeyHash) {
    let first_op = batch.ops.len() as u32;
    batch.ops.push(Op { command: Command::Unwatch, key: Span::default(), hash, starts_at: 0, tag: Tag(0) });
    batch.runs.push(Run { conn, first_op, op_count: 1, input: Span::default(), executed: 0 });
}

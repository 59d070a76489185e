//! An I/O thread.
//!
//! One turn: poll; take the answers that have come back and write them; read the connections that have something,
//! each up to its budget, all into one batch; send it. Whatever the number of connections and of requests, a turn is
//! one poll, one message to the storage thread, and a read and a write for each connection that has work.
//!
//! The loop sleeps in its poll, and only there. Before it does, it says so on its bell and looks at its queues for
//! the last time; see [`hop`](crate::hop).
//!
//! On one core, two threads would take turns, and each change of turns costs more than a request; so the only loop may run
//! on the storage thread: what a turn has sent, the same thread executes next.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use mio::{Events, Poll, Token, Waker};

use crate::hop::{Bell, Home, Storage};
use crate::limits::{
    BATCHES_PER_LOOP, EVENTS_PER_POLL, IDLE_LOOKS, INPUT_BYTES_PER_BATCH, LINGER_MS, NEWCOMERS_PER_TURN,
    RECEIVE_RETRIES, RECEIVE_RETRY_MS, STALL_MS,
};
use crate::message::{Batch, Command, ConnId, KeyHash, Op, Run, Span, Tag};
use crate::meter::{Charge, Use};
use crate::net::connection::{Connection, Traffic, Wish};
use crate::net::deadlines::Deadlines;
use crate::net::slots::Slots;
use crate::net::socket::Socket;
use crate::patience::Patience;
use crate::rank::Rank;
use crate::server::Server;
use crate::server::ServerCounters;
use crate::session::Output;
use crate::storage::{self, Engine, SWEEP_EVERY, Worker};

const WAKER: Token = Token(usize::MAX);

/// A running I/O thread, as the listener holds it.
#[derive(Debug)]
pub struct Handle {
    orders: Sender<Order>,
    bell: Arc<Bell>,
    /// Something comes when it has ended.
    ended: Receiver<()>,
}

/// What the listener tells an event loop.
#[derive(Debug)]
enum Order {
    /// To serve a connection.
    Serve(Socket),
    /// To answer what has been asked for, and to end.
    Drain,
}

impl Handle {
    /// Hands over a connection.
    pub fn serve(&self, socket: Socket) {
        self.order(Order::Serve(socket));
    }

    /// Asks it to answer what has been asked for, and to end.
    pub fn drain(&self) {
        self.order(Order::Drain);
    }

    /// Waits for its end.
    pub fn join(self) {
        if self.ended.recv().is_err() {
            log::error!("an I/O thread panicked");
        }
    }

    fn order(&self, order: Order) {
        // A loop that has ended serves nobody; the socket is closed with the order.
        if self.orders.send(order).is_ok() {
            self.bell.ring_if_asleep();
        }
    }
}

/// Starts an I/O thread.
///
/// # Errors
/// Where the system gives no poll, no waker or no thread.
pub fn spawn(number: usize, server: Arc<Server>, storage: Storage) -> io::Result<Handle> {
    let (poll, bell) = poll_and_bell()?;
    let (event_loop, handle) = EventLoop::new(number, server, poll, bell, storage);
    thread::Builder::new().name(format!("io-{number}")).spawn(|| event_loop.run())?;
    Ok(handle)
}

/// Starts an I/O thread that is the storage thread.
///
/// # Errors
/// Where the system gives no poll, no waker or no thread.
pub fn spawn_with_storage(server: &Arc<Server>, engine: Engine) -> io::Result<(Handle, storage::Thread)> {
    let (poll, bell) = poll_and_bell()?;
    let mut started = None;
    let thread = storage::spawn_serving(engine, server.clock, Arc::clone(&bell), |worker, storage| {
        let (event_loop, handle) = EventLoop::new(0, Arc::clone(server), poll, bell, storage);
        started = Some(handle);
        move || event_loop.with(worker).run()
    })?;
    let handle = started.ok_or(io::ErrorKind::Other)?;
    Ok((handle, thread))
}

fn poll_and_bell() -> io::Result<(Poll, Arc<Bell>)> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKER)?;
    let bell = Bell::new(move || {
        // Writing to an eventfd fails only where its counter is full, and then it wakes all the same.
        let _ = waker.wake();
    });
    Ok((poll, Arc::new(bell)))
}

fn next_look_for_idle(server: &Server) -> Option<Instant> {
    let timeout = Duration::from_millis(server.config.idle_timeout_ms?);
    Some(Instant::now() + timeout / u32::from(IDLE_LOOKS))
}

struct EventLoop {
    number: usize,
    poll: Poll,
    bell: Arc<Bell>,
    orders: Receiver<Order>,
    answers: Receiver<Box<Batch>>,
    /// Connections whose clients wait for an item that may have changed: each stands here once for each time that it was
    /// noted.
    changes: Receiver<ConnId>,
    /// Those that wait, by the time that they have for it.
    waits: BTreeSet<(Instant, ConnId)>,
    /// Those that have waited and are gone: the storage thread is to forget them.
    forsaken: Vec<(ConnId, KeyHash)>,
    home: Arc<Home>,
    storage: Storage,
    server: Arc<Server>,
    connections: Slots<Connection<Socket>>,
    /// Connections that want a turn. Each stands here once at most.
    ready: VecDeque<ConnId>,
    /// Connections that say goodbye.
    lingering: Deadlines,
    /// Connections whose clients are to say who they are. Empty where nobody is asked.
    strangers: Deadlines,
    /// Connections whose TLS handshake is to be done. Empty where there is no TLS.
    handshakes: Deadlines,
    /// Connections whose request waits for room, and when they try again.
    no_room: VecDeque<ConnId>,
    retry_at: Option<Instant>,
    /// Connections that are receiving a long request, or whose client does not read, and when they are looked at for
    /// progress.
    watched: Vec<ConnId>,
    look_at: Option<Instant>,
    /// When all connections are looked at for those that are idle; never, where they may be.
    look_for_idle_at: Option<Instant>,
    /// Batches that are not on their way.
    #[expect(clippy::vec_box, reason = "a batch travels in its box")]
    spare: Vec<Box<Batch>>,
    output: Output,
    output_charge: Charge,
    traffic: Traffic,
    patience: Patience,
    rank: Rank,
    drain_until: Option<Instant>,
    /// The storage thread's work, where this is the storage thread.
    worker: Option<Worker>,
    ended: Sender<()>,
}

impl EventLoop {
    fn new(
        number: usize,
        server: Arc<Server>,
        poll: Poll,
        bell: Arc<Bell>,
        storage: Storage,
    ) -> (Self, Handle) {
        let (orders, inbox) = crossbeam_channel::unbounded();
        let (home, answers) = crossbeam_channel::bounded(BATCHES_PER_LOOP);
        let (tell_change, changes) = crossbeam_channel::unbounded();
        let (end, ended) = crossbeam_channel::bounded(1);
        let event_loop = Self {
            number,
            poll,
            bell: Arc::clone(&bell),
            orders: inbox,
            answers,
            changes,
            waits: BTreeSet::new(),
            forsaken: Vec::new(),
            home: Arc::new(Home::new(home, Arc::clone(&bell)).with_changes(tell_change)),
            storage,
            connections: Slots::default(),
            ready: VecDeque::new(),
            lingering: Deadlines::default(),
            strangers: Deadlines::default(),
            handshakes: Deadlines::default(),
            no_room: VecDeque::new(),
            retry_at: None,
            watched: Vec::new(),
            look_at: None,
            look_for_idle_at: next_look_for_idle(&server),
            spare: (0..BATCHES_PER_LOOP).map(|_| Box::new(Batch::charged_on(&server.meter))).collect(),
            output: Output::default(),
            output_charge: Charge::new(&server.meter, Use::Working),
            traffic: Traffic::default(),
            patience: Patience::default(),
            rank: Rank::default(),
            drain_until: None,
            worker: None,
            ended: end,
            server,
        };
        (event_loop, Handle { orders, bell, ended })
    }

    fn with(self, worker: Worker) -> Self {
        Self { worker: Some(worker), ..self }
    }

    fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        while !self.is_drained() {
            if let Err(error) = self.poll(&mut events) {
                // Its connections would hang, and new ones would go on coming to it.
                log::error!("poll failed: {error}");
                std::process::abort();
            }
            self.take_events(&events);
            self.take_orders();
            // What tells of a change comes behind the answer that says that one waits.
            let changed: Vec<_> = self.changes.try_iter().take(self.connections.len()).collect();
            self.take_answers();
            self.end_waits(&changed);
            self.read_ready();
            if let Some(worker) = &mut self.worker {
                worker.execute_queued();
            }
            self.end_lingering();
            self.end_strangers();
            self.end_handshakes();
            self.retry_receiving();
            self.end_stalled();
            self.end_idle();
            self.count_traffic();
        }
        self.finish(events);
    }

    /// Goes on as the storage thread, if it is that: other front ends may still have something to ask.
    fn finish(self, mut events: Events) {
        let Self { mut poll, bell, connections, worker, ended, .. } = self;
        drop(connections);
        // Nobody waits for it where the server has gone.
        let _ = ended.send(());
        if let Some(worker) = worker {
            worker.run(&bell, &mut Patience::default(), || {
                // A poll that fails is tried again; there is nothing else to wait for.
                let _ = poll.poll(&mut events, Some(SWEEP_EVERY));
            });
        }
    }

    /// Waits until there is something to do, if there is nothing.
    fn poll(&mut self, events: &mut Events) -> io::Result<()> {
        events.clear();
        let has_more = self.maintain();
        let may_read = (!self.ready.is_empty() || !self.forsaken.is_empty()) && !self.spare.is_empty();
        let polled = if may_read || has_more {
            self.poll.poll(events, Some(Duration::ZERO))
        } else {
            match self.something_comes_soon(events) {
                Ok(false) => self.sleep(events),
                other => other.map(drop),
            }
        };
        match polled {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            polled => polled,
        }
    }

    /// Does a piece of what nobody waits for, if this is the storage thread and no answer is to be written. Says whether
    /// there is more of it.
    fn maintain(&mut self) -> bool {
        self.answers.is_empty() && self.worker.as_mut().is_some_and(Worker::maintain)
    }

    /// Stays awake for a moment, because waking costs more.
    fn something_comes_soon(&mut self, events: &mut Events) -> io::Result<bool> {
        let Self { poll, orders, answers, changes, patience, spare, worker, .. } = self;
        let mut polled = Ok(());
        let mut looks_first = spare.len() == BATCHES_PER_LOOP;
        let came = patience.wait(|| {
            let has_work = worker.as_ref().is_some_and(Worker::has_work);
            if has_work || !answers.is_empty() || !orders.is_empty() || !changes.is_empty() {
                return true;
            }
            // While a batch is on its way, the storage thread may want this core first.
            if std::mem::replace(&mut looks_first, true) {
                polled = poll.poll(events, Some(Duration::ZERO));
            }
            polled.is_err() || !events.is_empty()
        });
        polled.map(|()| came)
    }

    fn sleep(&mut self, events: &mut Events) -> io::Result<()> {
        let sweep_at = self.worker.is_some().then(|| Instant::now() + SWEEP_EVERY);
        let until = self.next_deadline().into_iter().chain(sweep_at).min();
        let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
        let Self { poll, bell, orders, answers, changes, worker, .. } = self;
        let mut polled = Ok(());
        bell.sleep_unless(
            || {
                !orders.is_empty()
                    || !answers.is_empty()
                    || !changes.is_empty()
                    || worker.as_ref().is_some_and(Worker::has_work)
            },
            || polled = poll.poll(events, timeout),
        );
        polled
    }

    fn next_deadline(&self) -> Option<Instant> {
        let queues = [&self.lingering, &self.strangers, &self.handshakes];
        let waiting = self.waits.first().map(|(until, _)| *until);
        queues
            .into_iter()
            .filter_map(Deadlines::first)
            .chain(waiting)
            .chain(self.drain_until)
            .chain(self.retry_at)
            .chain(self.look_at)
            .chain(self.look_for_idle_at.filter(|_| !self.connections.is_empty()))
            .min()
    }

    fn take_events(&mut self, events: &Events) {
        for event in events {
            if event.token() == WAKER {
                continue;
            }
            let id = ConnId::of_token(event.token());
            let Some(connection) = self.connections.get_mut(id) else {
                continue;
            };
            if event.is_readable() || event.is_error() {
                connection.set_readable();
            }
            if event.is_read_closed() {
                forget(&mut self.waits, id, connection);
                connection.set_half_closed();
            }
            if event.is_writable() {
                connection.flush(&mut self.traffic);
            }
            self.grant(id);
        }
    }

    fn take_orders(&mut self) {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Serve(socket) => self.serve(socket),
                Order::Drain => self.drain(),
            }
        }
    }

    fn serve(&mut self, socket: Socket) {
        let id = self.connections.insert(Connection::new(socket, &self.server.meter));
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if let Err(error) = connection.socket().register(self.poll.registry(), id.to_token()) {
            log::error!("a connection cannot be polled: {error}");
            return self.remove(id);
        }
        self.expect_authentication(id);
        self.expect_handshake(id);
    }

    /// From here on a new client has so long to say who he is.
    fn expect_authentication(&mut self, id: ConnId) {
        if let Some(access) = &self.server.access {
            let length = Duration::from_millis(access.limits.timeout_ms);
            self.strangers.push(id, length, &mut self.connections);
        }
    }

    fn end_strangers(&mut self) {
        while let Some(id) = self.strangers.pop_due() {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            if connection.close_if_stranger(&self.server)
                && let Some(access) = &self.server.access
            {
                ServerCounters::add(&access.counters.auth_timeouts, 1);
            }
            self.grant(id);
        }
    }

    /// From here on a new client has so long for its handshake.
    fn expect_handshake(&mut self, id: ConnId) {
        if let Some(tls) = &self.server.tls {
            let length = Duration::from_millis(tls.options.handshake_ms_max);
            self.handshakes.push(id, length, &mut self.connections);
        }
    }

    fn end_handshakes(&mut self) {
        while let Some(id) = self.handshakes.pop_due() {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            connection.close_if_handshaking();
            self.grant(id);
        }
    }

    /// Every connection has one more look at what it was sent before the drain.
    fn drain(&mut self) {
        self.drain_until = Some(Instant::now() + Duration::from_millis(self.server.config.drain_ms));
        for id in self.connections.ids() {
            if let Some(connection) = self.connections.get_mut(id) {
                connection.set_readable();
                forget(&mut self.waits, id, connection);
                connection.end_wait();
            }
            self.grant(id);
        }
    }

    fn is_drained(&self) -> bool {
        self.drain_until.is_some_and(|until| self.connections.is_empty() || Instant::now() >= until)
    }

    fn take_answers(&mut self) {
        while let Ok(mut batch) = self.answers.try_recv() {
            for run in &batch.runs {
                if let Some(connection) = self.connections.get_mut(run.conn) {
                    connection.take_answers(run, &batch, &self.server, &mut self.output, &mut self.traffic);
                    if self.drain_until.is_some() {
                        connection.end_wait();
                    }
                    if let Some(until) = connection.waits_until() {
                        self.waits.insert((until, run.conn));
                    }
                    if connection.begins_to_be_watched() {
                        self.watch(run.conn);
                    }
                }
            }
            // Those that came to nothing because the batch was full are the first in the next one.
            for came_to_nothing in [true, false] {
                for run in batch.runs.iter().filter(|run| (run.executed == 0) == came_to_nothing) {
                    self.grant(run.conn);
                }
            }
            if let Some(began) = batch.began {
                self.server.latency.note(self.number, &batch, began.elapsed());
            }
            batch.recycle();
            self.spare.push(batch);
            self.output_charge.set(self.output.capacity_bytes());
        }
    }

    /// Gives each connection that stands in the queue one turn, as far as one batch goes.
    fn read_ready(&mut self) {
        if self.ready.is_empty() && self.forsaken.is_empty() {
            return;
        }
        let Some(mut batch) = self.spare.pop() else { return };
        for (conn, hash) in self.forsaken.drain(..) {
            forsake(&mut batch, conn, hash);
        }
        batch.began = Some(Instant::now());
        let mut newcomers = 0;
        for _ in 0..self.ready.len() {
            if batch.input.len() >= INPUT_BYTES_PER_BATCH {
                break;
            }
            let Some(id) = self.ready.pop_front() else { break };
            let Some(connection) = self.connections.get_mut(id) else {
                continue;
            };
            if connection.is_newcomer(&self.server) && connection.wants_turn() {
                if newcomers == NEWCOMERS_PER_TURN {
                    self.ready.push_back(id);
                    continue;
                }
                newcomers += 1;
            }
            connection.dequeue();
            if connection.wants_turn() {
                connection.take_turn(id, &mut batch, &self.server, &mut self.traffic);
                if connection.begins_to_be_watched() {
                    self.watch(id);
                }
            }
            self.grant(id);
        }
        if batch.runs.is_empty() {
            batch.recycle();
            self.spare.push(batch);
        } else {
            self.patience.note(&batch);
            self.rank.follow(self.patience.load());
            self.storage.execute(batch, &self.home);
        }
    }

    /// Lets those ask again for whom there may be a change, and ends the waiting of those whose time is up.
    fn end_waits(&mut self, changed: &[ConnId]) {
        for &id in changed {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            forget(&mut self.waits, id, connection);
            connection.wake();
            self.grant(id);
        }
        if self.waits.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(&(until, id)) = self.waits.first().filter(|(until, _)| *until <= now) {
            self.waits.remove(&(until, id));
            if let Some(connection) = self.connections.get_mut(id) {
                connection.end_wait();
            }
            self.grant(id);
        }
    }

    /// Does for a connection what it needs next.
    fn grant(&mut self, id: ConnId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        match connection.wish() {
            Wish::Turn => {
                if !connection.enqueue() {
                    self.ready.push_back(id);
                }
            }
            Wish::Room => {
                if !connection.enqueue() {
                    self.no_room.push_back(id);
                    self.retry_at
                        .get_or_insert_with(|| Instant::now() + Duration::from_millis(RECEIVE_RETRY_MS));
                }
            }
            Wish::Linger => {
                let length = Duration::from_millis(LINGER_MS);
                self.lingering.push(id, length, &mut self.connections);
                self.grant(id);
            }
            Wish::Close => self.remove(id),
            Wish::Wait if self.drain_until.is_some() && connection.is_idle() => {
                connection.close();
                self.grant(id);
            }
            Wish::Wait => {}
        }
    }

    fn end_lingering(&mut self) {
        while let Some(id) = self.lingering.pop_due() {
            self.remove(id);
        }
    }

    /// Looks after the progress of a connection from here on.
    fn watch(&mut self, id: ConnId) {
        self.watched.push(id);
        self.look_at.get_or_insert_with(|| Instant::now() + Duration::from_millis(STALL_MS));
    }

    /// Lets some of the connections whose request found no room try again, the first ones first.
    fn retry_receiving(&mut self) {
        if self.retry_at.is_none_or(|at| Instant::now() < at) {
            return;
        }
        for _ in 0..RECEIVE_RETRIES {
            let Some(id) = self.no_room.pop_front() else { break };
            let Some(connection) = self.connections.get_mut(id) else { continue };
            connection.dequeue();
            connection.retry();
            self.grant(id);
        }
        let again = !self.no_room.is_empty();
        self.retry_at = again.then(|| Instant::now() + Duration::from_millis(RECEIVE_RETRY_MS));
    }

    /// Closes the connections whose request has stalled.
    fn end_stalled(&mut self) {
        if self.look_at.is_none_or(|at| Instant::now() < at) {
            return;
        }
        let now = Instant::now();
        let crowding = self.server.meter.crowding();
        for id in std::mem::take(&mut self.watched) {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            connection.close_if_stalled(crowding);
            if connection.begins_to_be_watched() {
                self.watched.push(id);
            }
            self.grant(id);
        }
        let again = !self.watched.is_empty();
        self.look_at = again.then(|| now + Duration::from_millis(STALL_MS));
    }

    /// Closes the connections that have been idle for the configured time, or a quarter longer at most.
    fn end_idle(&mut self) {
        if self.look_for_idle_at.is_none_or(|at| Instant::now() < at) {
            return;
        }
        for id in self.connections.ids() {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            if connection.close_if_idle(IDLE_LOOKS) {
                ServerCounters::add(&self.server.counters.idle_kicks, 1);
                self.grant(id);
            }
        }
        self.look_for_idle_at = next_look_for_idle(&self.server);
    }

    fn remove(&mut self, id: ConnId) {
        let Some(mut connection) = self.connections.remove(id) else {
            return;
        };
        forget(&mut self.waits, id, &connection);
        if let Some(hash) = connection.waits_for() {
            self.forsaken.push((id, hash));
        }
        // Closing the socket ends its reports in any case.
        let _ = connection.socket().deregister(self.poll.registry());
        self.server.counters.curr_connections.fetch_sub(1, Ordering::Relaxed);
    }

    fn count_traffic(&mut self) {
        let Traffic { read, written, yields } = std::mem::take(&mut self.traffic);
        let counters = &self.server.counters;
        for (counter, count) in [
            (&counters.bytes_read, read),
            (&counters.bytes_written, written),
            (&counters.conn_yields, yields),
        ] {
            if count > 0 {
                ServerCounters::add(counter, count);
            }
        }
    }
}

/// A connection's time to wait is of no interest any more.
fn forget(waits: &mut BTreeSet<(Instant, ConnId)>, id: ConnId, connection: &Connection<Socket>) {
    if let Some(until) = connection.waits_until() {
        waits.remove(&(until, id));
    }
}

/// Has the storage thread forget that a connection waits.
fn forsake(batch: &mut Batch, conn: ConnId, hash: KeyHash) {
    let first_op = batch.ops.len() as u32;
    batch.ops.push(Op { command: Command::Unwatch, key: Span::default(), hash, starts_at: 0, tag: Tag(0) });
    batch.runs.push(Run { conn, first_op, op_count: 1, input: Span::default(), executed: 0 });
}

//! One connection.
//!
//! It has at most one run of operations in flight, and reads nothing while it has answers to write. That keeps the
//! order of its answers without a queue, bounds its memory, and turns a client that does not read into one that is
//! not read from.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use crate::limits::{
    CONNECTION_BYTES, LARGE_READ_BYTES_PER_TURN, LINGER_BYTES, READ_BYTES_PER_TURN, RESERVE_BYTES,
    TAIL_BYTES_COPIED,
};
use crate::message::{Batch, Command, ConnId, KeyHash, Op, Reply, Run, Span, Tag};
use crate::meter::{Charge, Crowding, Meter, Use};
use crate::net::buffer::Buffer;
use crate::net::outbox::Outbox;
use crate::net::socket::{Socket, Transport};
use crate::net::wait::Wait;
use crate::server::{Place, Server};
use crate::session::{Next, Output, Parsed, Session};
use crate::storage::block::Block;

/// A connection.
#[derive(Debug)]
pub struct Connection<S> {
    socket: S,
    session: Session,
    /// Bytes that were read and belong to no operation yet.
    input: Buffer,
    inbound: Inbound,
    outbox: Outbox,
    phase: Phase,
    /// Whether the socket may have something to read.
    readable: bool,
    /// Whether the peer has said that it sends no more: then a short read is not the last one.
    half_closed: bool,
    /// Whether a run of operations is on its way to the storage thread or back.
    in_flight: bool,
    /// Set while its client waits for an item to change.
    wait: Option<Wait>,
    /// Whether it stands in its event loop's queue.
    queued: bool,
    /// Whether its loop looks after the progress of its long request.
    watched: bool,
    /// Whether bytes of that have arrived, or room for them was made, since its loop looked last.
    has_progressed: bool,
    /// How often its loop has found it idle, one time after the other.
    idle_looks: u8,
    /// For itself.
    _charge: Charge,
    /// For `input` while it has a place, and for what waits otherwise.
    arriving: Charge,
    waiting: Charge,
}

const _: () =
    assert!(size_of::<Connection<Socket>>() <= CONNECTION_BYTES / 2, "the rest is its slot and its socket");

/// What the next bytes are.
#[derive(Debug)]
enum Inbound {
    /// The rest of a request: so many bytes are missing, as far as can be said.
    Request { missing: usize },
    /// The rest of a request that is too long to be copied again and again: it is completed in `input`.
    Long { missing: usize, place: Place },
    /// Requests that stand in `input` already.
    Unparsed,
    /// The rest of a large value.
    Large(Box<Large>),
    /// A large value that was refused while it was being received: its head, and what is missing of it.
    Refused { head: Vec<u8>, missing: usize },
    /// A request for which there is no room among those that are being received. Its beginning waits in `input`.
    NoRoom,
    /// Bytes that nobody wants.
    Skip { bytes: usize },
}

/// A large value that is being received.
#[derive(Debug)]
struct Large {
    /// Header, extras and key of its request.
    head: Vec<u8>,
    block: Block,
    step: Step,
    _place: Place,
}

/// What may become of the next bytes of a large value. They are charged before the storage thread is asked for room, and
/// read when there is some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// There is room for what is reserved in the block.
    Granted,
    /// There may be none.
    Charged,
}

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It serves requests.
    Open,
    /// It writes its last answers.
    Closing,
    /// It has said that it is done, and reads so many bytes more, so that the answer arrives.
    Lingering { bytes: usize },
    /// It is to be removed.
    Closed,
}

/// What an event loop counts.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Bytes read.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
    /// Turns that ended with more to read.
    pub yields: u64,
}

/// What a connection needs of its event loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Nothing, until an event or an answer comes.
    Wait,
    /// A turn.
    Turn,
    /// A turn, when there may be room for its request.
    Room,
    /// To be removed after a while, if it does not ask for it before.
    Linger,
    /// To be removed.
    Close,
}

impl<S: Transport> Connection<S> {
    /// A connection that was just accepted, and is charged on `meter`.
    #[must_use]
    pub fn new(socket: S, meter: &Arc<Meter>) -> Self {
        let bytes = CONNECTION_BYTES + socket.base_bytes();
        Self {
            socket,
            session: Session::default(),
            input: Buffer::default(),
            inbound: Inbound::Request { missing: 1 },
            outbox: Outbox::default(),
            phase: Phase::Open,
            readable: false,
            half_closed: false,
            in_flight: false,
            wait: None,
            queued: false,
            watched: false,
            has_progressed: false,
            idle_looks: 0,
            _charge: Charge::of(bytes, meter, Use::Working),
            arriving: Charge::new(meter, Use::Arriving),
            waiting: Charge::new(meter, Use::Waiting),
        }
    }

    /// Its socket.
    pub fn socket(&mut self) -> &mut S {
        &mut self.socket
    }

    /// Bytes may have arrived.
    pub fn set_readable(&mut self) {
        self.readable = true;
    }

    /// The peer sends no more than what is there.
    pub fn set_half_closed(&mut self) {
        self.end_wait();
        self.readable = true;
        self.half_closed = true;
    }

    /// Its client goes on waiting, or is told; one that sends no more waits for nothing.
    #[cold]
    fn take_look(&mut self, op: &Op, reply: &Reply, unread: &[u8], server: &Server) -> bool {
        if !matches!(reply, Reply::Waiting) {
            self.wait = None;
            return true;
        }
        self.put_back(unread, server);
        self.wait.get_or_insert_with(|| Wait::noted(op)).note();
        if self.half_closed {
            self.end_wait();
        }
        false
    }

    /// Until when its client waits, if the storage thread has noted it.
    #[must_use]
    pub fn waits_until(&self) -> Option<Instant> {
        self.wait.as_ref().and_then(Wait::until)
    }

    /// What its client waits for, if the storage thread may have noted it.
    #[must_use]
    pub fn waits_for(&self) -> Option<KeyHash> {
        self.wait.as_ref().map(Wait::hash)
    }

    /// What its client waits for may have changed.
    pub fn wake(&mut self) {
        if let Some(wait) = &mut self.wait {
            wait.wake();
        }
    }

    /// Its client waits no more.
    pub fn end_wait(&mut self) {
        if let Some(wait) = &mut self.wait {
            wait.end();
        }
    }

    /// It tries again to receive its request.
    pub fn retry(&mut self) {
        if matches!(self.inbound, Inbound::NoRoom) {
            self.inbound = Inbound::Unparsed;
        }
    }

    /// Whether it has begun to receive a long request, or has answers that its client does not read, and its loop does
    /// not look after it yet; from here on it does.
    pub fn begins_to_be_watched(&mut self) -> bool {
        (self.is_receiving() || !self.outbox.is_empty()) && !std::mem::replace(&mut self.watched, true)
    }

    /// Closes it if nothing of its long request has arrived since its loop looked last, or has begun to look. One whose
    /// client does not read its answers either may wait, as long as there is memory for that: then its request gives
    /// its place to others.
    pub fn close_if_stalled(&mut self, crowding: Crowding) {
        self.watched = false;
        if std::mem::take(&mut self.has_progressed) {
            return;
        }
        let may_wait = !self.outbox.is_empty() && crowding == Crowding::Ample;
        match self.inbound {
            Inbound::Long { .. } if may_wait => {
                self.inbound = Inbound::NoRoom;
                self.recharge();
            }
            Inbound::Large(_) | Inbound::Long { .. } => self.close_as_stalled(),
            _ if self.session.holds_value() => self.close_as_stalled(),
            _ if self.outbox.is_empty() || may_wait => {}
            _ => self.close_as_stalled(),
        }
    }

    /// Ends it if it was found idle so many times, one after the other, and is again. Says whether it did.
    pub fn close_if_idle(&mut self, looks: u8) -> bool {
        if !self.is_idle() {
            self.idle_looks = 0;
            return false;
        }
        let is_over = self.idle_looks >= looks;
        if is_over {
            self.close();
        }
        self.idle_looks = self.idle_looks.saturating_add(1);
        is_over
    }

    /// Whether a turn may cost what thousands of requests do: a handshake of TLS, or a password that is not known.
    #[must_use]
    #[inline]
    pub fn is_newcomer(&self, server: &Server) -> bool {
        self.session.is_newcomer(server)
    }

    /// Closes it if nobody knows who its client is. Says whether it did.
    pub fn close_if_stranger(&mut self, server: &Server) -> bool {
        let is_stranger = self.phase == Phase::Open && self.session.is_stranger(server);
        if is_stranger {
            log::debug!("a client has not said in time who he is");
            self.phase = Phase::Closed;
        }
        is_stranger
    }

    fn close_as_stalled(&mut self) {
        log::debug!("a long request has stalled, or a client that holds memory does not read");
        self.phase = Phase::Closed;
    }

    /// Whether it is receiving a long request.
    #[must_use]
    pub fn is_receiving(&self) -> bool {
        matches!(self.inbound, Inbound::Large(_) | Inbound::Long { .. }) || self.session.holds_value()
    }

    /// Marks it as standing in one of its loop's queues. Says whether it stood there before.
    pub fn enqueue(&mut self) -> bool {
        std::mem::replace(&mut self.queued, true)
    }

    /// The opposite.
    pub fn dequeue(&mut self) {
        self.queued = false;
    }

    /// Whether it would use a turn: nothing of its own is in the way, and there may be something to read.
    #[must_use]
    pub fn wants_turn(&self) -> bool {
        let has_input = match self.inbound {
            Inbound::Unparsed | Inbound::Refused { .. } => true,
            Inbound::NoRoom => false,
            _ => self.readable,
        };
        let has_input = match &self.wait {
            Some(wait) => wait.wants_turn(),
            None => has_input || self.session.has_more(),
        };
        match self.phase {
            Phase::Open => has_input && !self.in_flight && self.outbox.is_empty(),
            Phase::Lingering { .. } => self.readable,
            Phase::Closing | Phase::Closed => false,
        }
    }

    /// Whether it is open, and nothing has been asked for that is not answered, as far as has been read.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Open && !self.in_flight && self.outbox.is_empty() && !self.wants_turn()
    }

    /// Ends it, once its answers are written. The peer has a while to see that, as at every end.
    pub fn close(&mut self) {
        self.phase = Phase::Closing;
    }

    /// Reads as much as a turn allows, and puts what it asks for into `batch`, as a run. A connection that fails is
    /// closed.
    pub fn take_turn(&mut self, id: ConnId, batch: &mut Batch, server: &Server, traffic: &mut Traffic) {
        self.idle_looks = 0;
        let first_op = batch.ops.len();
        let start = batch.input.len();
        let done = match self.phase {
            Phase::Lingering { bytes } => self.linger(bytes, batch, traffic),
            _ => self.read(batch, server, traffic),
        };
        if let Err(error) = done {
            log::debug!("connection lost: {error}");
            // A client that has broken a protocol below ours is told so.
            let is_told = error.kind() == io::ErrorKind::InvalidData;
            self.phase = if is_told { Phase::Closing } else { Phase::Closed };
            batch.ops.truncate(first_op);
        }
        if let Some(wait) = &mut self.wait {
            wait.ask(&mut batch.ops[first_op..]);
        }
        let op_count = batch.ops.len() - first_op;
        let aside = batch.input.take_aside();
        if op_count > 0 {
            let input = Span::new(start, batch.input.len() - start - aside);
            batch.runs.push(Run {
                conn: id,
                first_op: first_op as u32,
                op_count: op_count as u32,
                input,
                executed: 0,
            });
            self.in_flight = true;
        }
        traffic.yields += u64::from(self.readable && op_count > 0);
        self.recharge();
    }

    /// Takes the answers of its run, and writes them.
    pub fn take_answers(
        &mut self,
        run: &Run,
        batch: &Batch,
        server: &Server,
        output: &mut Output,
        traffic: &mut Traffic,
    ) {
        self.in_flight = false;
        output.clear();
        for at in run.executed_ops() {
            let (op, reply) = (&batch.ops[at], &batch.replies[at]);
            let is_told = match op.command {
                Command::Reserve { .. } => {
                    self.take_reservation(reply);
                    false
                }
                Command::Watch { .. } => {
                    let unread = op.starts_at as usize..run.input.end();
                    self.take_look(op, reply, &batch.input.filled()[unread], server)
                }
                _ => true,
            };
            if is_told {
                self.session.render(op, reply, batch, server, output);
            }
        }
        if run.executed < run.op_count {
            let first_left = &batch.ops[run.executed_ops().end];
            // Room that was not asked for is asked for again. What it is for is no request any more.
            if let Some(wait) = &mut self.wait {
                wait.was_left();
            }
            if !matches!(first_left.command, Command::Reserve { .. }) {
                self.session.take_back(first_left);
                // A request that is answered in many parts goes on from its session: its bytes were done with before.
                if !self.session.has_more() {
                    self.put_back(
                        &batch.input.filled()[first_left.starts_at as usize..run.input.end()],
                        server,
                    );
                }
            }
        }
        if !output.is_empty() {
            let sent =
                self.outbox.send(output, &mut self.socket, &mut traffic.written, server.meter.mapped_from());
            self.has_progressed = true;
            self.close_if_lost(&sent);
        }
        // Values that were sent are not held until the next answer comes.
        output.clear();
        self.recharge();
    }

    /// Writes what is waiting.
    pub fn flush(&mut self, traffic: &mut Traffic) {
        if self.outbox.is_empty() {
            let sent = self.socket.flush();
            return self.close_if_lost(&sent);
        }
        let written = traffic.written;
        let sent = self.outbox.flush(&mut self.socket, &mut traffic.written);
        self.has_progressed |= traffic.written > written;
        self.close_if_lost(&sent);
        self.recharge();
    }

    /// Closes it if its handshake is not done.
    pub fn close_if_handshaking(&mut self) {
        if self.socket.give_up_handshake() {
            self.phase = Phase::Closed;
        }
    }

    /// What it needs next. To be asked after every change.
    pub fn wish(&mut self) -> Wish {
        if self.phase == Phase::Closing && !self.in_flight && self.outbox.is_empty() {
            if self.socket.shutdown_write().is_err() {
                self.phase = Phase::Closed;
            } else {
                self.phase = Phase::Lingering { bytes: LINGER_BYTES };
                return Wish::Linger;
            }
        }
        match self.phase {
            Phase::Closed => Wish::Close,
            _ if self.wants_turn() => Wish::Turn,
            Phase::Open if matches!(self.inbound, Inbound::NoRoom) && !self.in_flight => Wish::Room,
            _ => Wish::Wait,
        }
    }

    /// To be called after every change of what it holds.
    fn recharge(&mut self) {
        let input = self.input.bytes();
        let has_place = matches!(self.inbound, Inbound::Long { .. });
        self.arriving.set(if has_place { input } else { 0 });
        self.waiting.set(
            if has_place { 0 } else { input } + self.outbox.copied_bytes() + self.socket.waiting_bytes(),
        );
    }

    fn close_if_lost(&mut self, sent: &io::Result<()>) {
        if let Err(error) = sent {
            log::debug!("connection lost: {error}");
            self.phase = Phase::Closed;
        }
    }

    fn read(&mut self, batch: &mut Batch, server: &Server, traffic: &mut Traffic) -> io::Result<()> {
        if self.session.resume(batch) {
            return Ok(());
        }
        match std::mem::replace(&mut self.inbound, Inbound::Request { missing: 1 }) {
            Inbound::Unparsed | Inbound::NoRoom => {
                let input = batch.input.len();
                batch.input.extend(self.input.filled());
                self.forget_input();
                self.parse(input, batch, server);
                Ok(())
            }
            Inbound::Request { missing } => self.read_requests(missing, batch, server, traffic),
            Inbound::Long { missing, place } => self.read_long(missing, place, batch, server, traffic),
            Inbound::Large(large) => self.read_large(large, batch, server, traffic),
            Inbound::Refused { head, missing } => {
                self.refuse_large(&head, missing, batch, server);
                Ok(())
            }
            Inbound::Skip { bytes } => self.skip(bytes, batch, traffic),
        }
    }

    fn read_requests(
        &mut self,
        missing: usize,
        batch: &mut Batch,
        server: &Server,
        traffic: &mut Traffic,
    ) -> io::Result<()> {
        let start = batch.input.len();
        let tail = self.input.filled().len();
        let bytes = server.meter.crowding().read_bytes_per_turn().min(self.session.read_bytes_max(server));
        let room = batch.input.room(tail + bytes);
        room[..tail].copy_from_slice(self.input.filled());
        let read = self.receive(&mut room[tail..], traffic)?;
        if read == 0 {
            self.inbound = Inbound::Request { missing };
            return Ok(());
        }
        batch.input.commit(tail + read);
        self.forget_input();
        self.parse(start, batch, server);
        Ok(())
    }

    fn read_long(
        &mut self,
        missing: usize,
        place: Place,
        batch: &mut Batch,
        server: &Server,
        traffic: &mut Traffic,
    ) -> io::Result<()> {
        let mut input = std::mem::take(&mut self.input);
        let read = self.receive(input.room(missing.min(READ_BYTES_PER_TURN)), traffic);
        input.commit(*read.as_ref().unwrap_or(&0));
        self.input = input;
        let read = read?;
        self.has_progressed |= read > 0;
        if read < missing {
            self.inbound = Inbound::Long { missing: missing - read, place };
            return Ok(());
        }
        let start = batch.input.len();
        batch.input.extend(self.input.filled());
        self.forget_input();
        self.parse(start, batch, server);
        Ok(())
    }

    /// Parses what the batch's input holds from `start` on, and keeps what is no whole request.
    fn parse(&mut self, start: usize, batch: &mut Batch, server: &Server) {
        let input = Span::new(start, batch.input.len() - start);
        let Parsed { consumed, next } = self.session.parse(batch, input, server);
        let rest = start + consumed..input.end();
        match next {
            Next::Read { missing } => self.keep_beginning(&batch.input.filled()[rest], missing, server),
            Next::Skip { bytes } => self.inbound = Inbound::Skip { bytes },
            Next::Pause => {
                self.keep(&batch.input.filled()[rest], server);
                self.inbound = Inbound::Unparsed;
            }
            Next::Close => self.phase = Phase::Closing,
            Next::ReadLarge { head_bytes, value_bytes } => {
                let head = Span::new(rest.start, head_bytes);
                self.begin_large(head, value_bytes, rest.end, batch, server);
            }
        }
    }

    /// Keeps the beginning of a request.
    fn keep_beginning(&mut self, beginning: &[u8], missing: usize, server: &Server) {
        if beginning.len() <= TAIL_BYTES_COPIED {
            self.keep(beginning, server);
            self.inbound = Inbound::Request { missing };
            return;
        }
        let bytes = beginning.len() + missing;
        let Some(place) = server.unfinished.enter(bytes) else {
            self.keep(beginning, server);
            self.inbound = Inbound::NoRoom;
            return;
        };
        self.input = Buffer::with_room(bytes, server.meter.mapped_from());
        self.input.extend(beginning);
        self.inbound = Inbound::Long { missing, place };
        self.has_progressed = true;
    }

    /// Keeps what was read for a later turn.
    fn keep(&mut self, bytes: &[u8], server: &Server) {
        debug_assert!(self.input.filled().is_empty(), "what is kept is what was read last");
        self.input = Buffer::copy_of(bytes, server.meter.mapped_from());
    }

    /// Begins to receive a large value, the first bytes of which may stand behind its head, up to `end`. They are few
    /// enough to be taken at once; there must be room for everything else before it is read.
    fn begin_large(
        &mut self,
        head: Span,
        value_bytes: usize,
        end: usize,
        batch: &mut Batch,
        server: &Server,
    ) {
        let there = (end - head.end()).min(value_bytes);
        let Some(place) = server.receiving.enter(value_bytes) else {
            self.keep(&batch.input.filled()[head.range().start..end], server);
            self.inbound = Inbound::NoRoom;
            return;
        };
        let Ok(mut block) = Block::unreserved(value_bytes, &server.meter) else {
            self.session.refuse_large(batch, head, server);
            return self.keep_behind_value(head.end() + there, end, value_bytes - there, batch, server);
        };
        if there < value_bytes {
            let step = reserve(&mut block, server);
            block.extend(&batch.input.filled()[head.end()..head.end() + there]);
            let starts_at = head.start;
            let head = batch.input.filled()[head.range()].to_vec();
            let large = Box::new(Large { head, block, step, _place: place });
            self.has_progressed = true;
            return self.receive_large(large, starts_at, batch);
        }
        block.reserve(value_bytes);
        block.extend(&batch.input.filled()[head.end()..head.end() + there]);
        let large = batch.push_large(block.freeze());
        self.session.finish_large(batch, head, large, server);
        self.keep_behind_value(head.end() + there, end, 0, batch, server);
    }

    /// Goes on with a large value: with reading it, or with asking for room first.
    fn receive_large(&mut self, large: Box<Large>, starts_at: u32, batch: &mut Batch) {
        if large.step == Step::Charged {
            batch.ops.push(Op {
                command: Command::Reserve { bytes: large.block.reserve_left() },
                key: Span::default(),
                hash: KeyHash(0),
                starts_at,
                tag: Tag(0),
            });
        }
        self.inbound = Inbound::Large(large);
    }

    /// The storage thread has made room for what is being received, or cannot.
    fn take_reservation(&mut self, reply: &Reply) {
        match std::mem::replace(&mut self.inbound, Inbound::Request { missing: 1 }) {
            Inbound::Large(large) if matches!(reply, Reply::Refused(_)) => {
                self.inbound = Inbound::Refused { missing: large.block.missing(), head: large.head };
            }
            Inbound::Large(mut large) => {
                large.step = Step::Granted;
                self.has_progressed = true;
                self.inbound = Inbound::Large(large);
            }
            other => self.inbound = other,
        }
    }

    /// Has a large value answered that is refused, and the rest of it skipped.
    fn refuse_large(&mut self, head: &[u8], missing: usize, batch: &mut Batch, server: &Server) {
        let at = Span::new(batch.input.len(), head.len());
        batch.input.extend(head);
        self.session.refuse_large(batch, at, server);
        self.keep_behind_value(at.end(), at.end(), missing, batch, server);
    }

    /// Behind a value either some of it is still to be skipped, or requests may follow.
    fn keep_behind_value(&mut self, from: usize, end: usize, skip: usize, batch: &Batch, server: &Server) {
        if skip > 0 {
            self.inbound = Inbound::Skip { bytes: skip };
        } else if from < end {
            self.keep(&batch.input.filled()[from..end], server);
            self.inbound = Inbound::Unparsed;
        }
    }

    fn read_large(
        &mut self,
        mut large: Box<Large>,
        batch: &mut Batch,
        server: &Server,
        traffic: &mut Traffic,
    ) -> io::Result<()> {
        if large.block.reserve_left() == 0 {
            large.step = reserve(&mut large.block, server);
        }
        if large.step == Step::Charged {
            self.receive_large(large, Span::new(batch.input.len(), 0).start, batch);
            return Ok(());
        }
        let read = self.receive(large.block.room(LARGE_READ_BYTES_PER_TURN), traffic)?;
        large.block.commit(read);
        self.has_progressed |= read > 0;
        if large.block.missing() > 0 {
            self.inbound = Inbound::Large(large);
            return Ok(());
        }
        let head = Span::new(batch.input.len(), large.head.len());
        batch.input.extend(&large.head);
        let value = batch.push_large(large.block.freeze());
        self.session.finish_large(batch, head, value, server);
        Ok(())
    }

    /// The room that is read into is the batch's, and is not committed: the bytes are forgotten.
    fn skip(&mut self, bytes: usize, batch: &mut Batch, traffic: &mut Traffic) -> io::Result<()> {
        let room = batch.input.room(bytes.min(READ_BYTES_PER_TURN));
        let skipped = self.receive(room, traffic)?;
        self.inbound = match bytes - skipped {
            0 => Inbound::Request { missing: 1 },
            bytes => Inbound::Skip { bytes },
        };
        Ok(())
    }

    fn linger(&mut self, bytes: usize, batch: &mut Batch, traffic: &mut Traffic) -> io::Result<()> {
        let room = batch.input.room(bytes.min(READ_BYTES_PER_TURN));
        let forgotten = self.receive(room, traffic)?;
        self.phase = match (self.phase, bytes - forgotten) {
            (Phase::Lingering { .. }, bytes @ 1..) => Phase::Lingering { bytes },
            _ => Phase::Closed,
        };
        Ok(())
    }

    /// Reads once. A read that gives less than it could was the last for now: the next bytes come with an event. At
    /// the end of the stream the connection closes, as soon as it has answered.
    fn receive(&mut self, room: &mut [u8], traffic: &mut Traffic) -> io::Result<usize> {
        match self.socket.read(room) {
            Ok(0) if !room.is_empty() => {
                self.readable = false;
                self.phase = Phase::Closed;
                Ok(0)
            }
            Ok(read) => {
                self.readable = read == room.len() || self.half_closed || self.socket.holds_more();
                traffic.read += read as u64;
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = self.socket.holds_more();
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes back requests that were not executed. Whatever their parsing led to is undone: they are parsed again.
    fn put_back(&mut self, requests: &[u8], server: &Server) {
        self.forget_input();
        self.keep(requests, server);
        self.inbound = Inbound::Unparsed;
        if self.phase == Phase::Closing {
            self.phase = Phase::Open;
        }
    }

    /// An idle connection holds no buffer.
    fn forget_input(&mut self) {
        self.input = Buffer::default();
    }
}

/// Charges the next step of a large value. Where there is plenty of room, nobody needs to be asked for it.
fn reserve(block: &mut Block, server: &Server) -> Step {
    let bytes = block.reserve(RESERVE_BYTES);
    if server.meter.take_room(bytes) { Step::Granted } else { Step::Charged }
}

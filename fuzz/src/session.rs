//! A server of one connection, without sockets and threads: a binary session in front of an engine, looped as an event
//! loop loops it.
//!
//! Pieces of a stream go in, and all answers come out. The clock stands still and the hash has a fixed seed, so the
//! answers are the same each time.

use std::sync::Arc;

use memwire::clock::Clock;
use memwire::config::Config;
use memwire::limits::{READ_BYTES_PER_TURN, TAIL_BYTES_COPIED};
use memwire::message::{Batch, ConnId, Run, Span};
use memwire::server::Server;
use memwire::session::{Next, Output, Parsed, Session};
use memwire::storage::Engine;
use memwire::storage::block::Block;
use memwire::storage::log::is_inline;
use wire::{Loudness, Opcode, Packet, Reject, RequestHeader, Response, ResponseHeader, Split, Status, shape};

use crate::{pieces, receive, stream_and_cuts};

/// Longer values are refused.
const ITEM_BYTES_MAX: usize = 16 << 10;
/// For a large value of so many bytes, or a multiple of it, there is no memory.
const NO_MEMORY_BYTES: usize = 1000;
const NOW: u32 = 1_700_000_000;

/// Serves the stream of `input` in one piece and cut up.
///
/// # Panics
/// Where the answers differ, are no stream of responses, or are not those that the requests are owed.
pub fn serve_however_cut(input: &[u8]) {
    let (stream, cuts) = stream_and_cuts(input);
    let whole = serve(&[stream]);
    let cut_up = serve(&pieces(stream, cuts));
    let [whole, cut_up] = [whole, cut_up].map(|answers| receive::<ResponseHeader>(&[&answers]));
    assert_eq!((whole.left.len(), &whole.reject), (0, &None), "answers are packets");
    let answers = without_statistics(&whole.packets);
    assert_eq!(without_statistics(&cut_up.packets), answers, "cut at {cuts:?}");
    assert!(are_owed(&answers, &debts(stream)), "each loud request is answered once: {answers:02x?}");
}

/// Statistics tell of the clock, the process, and what was swept between two batches. Only their end is the same.
fn without_statistics(packets: &[Vec<u8>]) -> Vec<&[u8]> {
    packets
        .iter()
        .map(Vec::as_slice)
        .filter(|bytes| {
            let response = Response::parse(&crate::only_packet(bytes));
            (response.opcode, response.status) != (Opcode::STAT, Status::OK) || response.key.is_empty()
        })
        .collect()
}

/// What a request is owed.
#[derive(Debug)]
struct Debt {
    opcode: Opcode,
    opaque: u32,
    /// A quiet request may be answered, any other one is.
    loudness: Loudness,
}

/// What the requests of a stream are owed, by the rules of framing, one request after another.
fn debts(mut stream: &[u8]) -> Vec<Debt> {
    let mut debts = Vec::new();
    loop {
        let (packet, missing, rest) = match split_request(stream) {
            Ok(Split::Whole { packet, rest }) => (packet, 0, rest),
            Ok(Split::Body { header, body, missing }) => (Packet::carve(header, body), missing, &[][..]),
            Ok(Split::Head { .. }) => return debts,
            Err(reject) => {
                if reject.answer().is_some() {
                    debts.push(Debt::of_bytes(stream));
                }
                return debts;
            }
        };
        let debt = Debt::of(packet.header);
        match fate(&packet) {
            Fate::Refused(_) if missing > 0 => {
                debts.push(debt.loud());
                return debts;
            }
            Fate::Refused(Ending::Close) => {
                debts.push(debt.loud());
                return debts;
            }
            Fate::Refused(Ending::Stay) => debts.push(debt.loud()),
            Fate::Executed(_) if missing > 0 => return debts,
            Fate::Executed(Ending::Close) => {
                debts.push(debt);
                return debts;
            }
            Fate::Executed(Ending::Stay) => debts.push(debt),
        }
        stream = rest;
    }
}

fn split_request(stream: &[u8]) -> Result<Split<'_, RequestHeader>, Reject> {
    wire::split(stream, wire::FRAME_BODY_BYTES_MAX)
}

/// What becomes of a request, as far as header and key say.
enum Fate {
    /// An error answers it, whether or not its body comes.
    Refused(Ending),
    /// It waits for its body, and is executed.
    Executed(Ending),
}

/// What becomes of the connection.
enum Ending {
    Stay,
    Close,
}

fn fate(packet: &Packet<'_, RequestHeader>) -> Fate {
    match shape::check(packet.header) {
        Err(Reject::UnknownOpcode { .. }) => return Fate::Refused(Ending::Stay),
        Err(_) => return Fate::Refused(Ending::Close),
        Ok(()) => {}
    }
    let (value_len, key_len) = (packet.value_len(), usize::from(packet.header.key_len.get()));
    match packet.header.opcode.0 {
        0x1b | 0x20..=0x22 => Fate::Refused(Ending::Stay),
        0x07 | 0x17 => Fate::Executed(Ending::Close),
        0x01..=0x03 | 0x0e | 0x0f | 0x11..=0x13 | 0x19 | 0x1a if packet.key.len() == key_len => {
            let is_large = !is_inline(key_len, value_len, config().memory_bytes_max);
            if value_len > ITEM_BYTES_MAX || (is_large && value_len % NO_MEMORY_BYTES == 0) {
                Fate::Refused(Ending::Stay)
            } else {
                Fate::Executed(Ending::Stay)
            }
        }
        _ => Fate::Executed(Ending::Stay),
    }
}

impl Debt {
    fn of(header: &RequestHeader) -> Self {
        Self { opcode: header.opcode, opaque: header.opaque.get(), loudness: header.opcode.loudness() }
    }

    /// An error is always sent.
    fn loud(self) -> Self {
        Self { loudness: Loudness::Loud, ..self }
    }

    /// Of a header that the framing has refused, but which is there.
    fn of_bytes(header: &[u8]) -> Self {
        let opaque = header[12..16].first_chunk().expect("four bytes");
        Self { opcode: Opcode(header[1]), opaque: u32::from_be_bytes(*opaque), loudness: Loudness::Loud }
    }

    fn is_paid_by(&self, answer: &[u8]) -> bool {
        let response = Response::parse(&crate::only_packet(answer));
        (response.opcode, response.opaque) == (self.opcode, self.opaque)
    }
}

/// Whether the answers are those of the requests, in order, with none for some of the quiet ones.
fn are_owed(answers: &[&[u8]], debts: &[Debt]) -> bool {
    // How many answers may be taken by the requests so far: two quiet requests with the same mark leave it open which
    // of them was answered.
    let mut taken = vec![false; answers.len() + 1];
    taken[0] = true;
    for debt in debts {
        let mut next = vec![false; taken.len()];
        for at in 0..taken.len() {
            if taken[at] {
                next[at] |= debt.loudness == Loudness::Quiet;
                if answers.get(at).is_some_and(|answer| debt.is_paid_by(answer)) {
                    next[at + 1] = true;
                }
            }
        }
        taken = next;
    }
    taken[answers.len()]
}

fn config() -> Config {
    Config { item_bytes_max: ITEM_BYTES_MAX, track_sizes: true, detail_enabled: true, ..Config::default() }
}

/// All answers to a stream that arrives in these pieces.
fn serve(pieces: &[&[u8]]) -> Vec<u8> {
    let server = Server::new(config(), Clock::start(), 7);
    let engine = Engine::new(server.config.engine(), Arc::clone(&server.meter)).expect("address space");
    let mut connection = Connection {
        batch: Batch::default(),
        server,
        engine,
        session: Session::default(),
        input: Vec::new(),
        inbound: Inbound::Request { missing: 1 },
        phase: Phase::Open,
        answers: Vec::new(),
    };
    for piece in pieces.iter().flat_map(|piece| piece.chunks(READ_BYTES_PER_TURN)) {
        connection.arrive(piece);
    }
    connection.answers
}

/// A connection, as an event loop keeps it.
struct Connection {
    server: Server,
    engine: Engine,
    session: Session,
    batch: Batch,
    /// Bytes that were read and belong to no operation yet.
    input: Vec<u8>,
    inbound: Inbound,
    phase: Phase,
    answers: Vec<u8>,
}

/// What the next bytes are.
enum Inbound {
    Request { missing: usize },
    Unparsed,
    Large { head: Vec<u8>, block: Block },
    Skip { bytes: usize },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Closing,
}

impl Connection {
    /// Takes turns until all of a piece is read and answered.
    fn arrive(&mut self, mut piece: &[u8]) {
        while self.phase == Phase::Open && (!piece.is_empty() || matches!(self.inbound, Inbound::Unparsed)) {
            self.read(&mut piece);
            self.execute();
        }
    }

    fn read(&mut self, piece: &mut &[u8]) {
        match std::mem::replace(&mut self.inbound, Inbound::Request { missing: 1 }) {
            Inbound::Unparsed => self.parse(),
            // A long beginning is completed before anyone looks at it again.
            Inbound::Request { missing } if self.input.len() > TAIL_BYTES_COPIED => {
                let read = take(piece, missing);
                self.input.extend_from_slice(read);
                match missing - read.len() {
                    0 => self.parse(),
                    missing => self.inbound = Inbound::Request { missing },
                }
            }
            Inbound::Request { .. } => {
                if cfg!(feature = "canary") && self.input.len() == wire::HEADER_BYTES {
                    self.input.pop();
                }
                self.input.extend_from_slice(take(piece, usize::MAX));
                self.parse();
            }
            Inbound::Large { head, mut block } => {
                block.extend(take(piece, block.missing()));
                if block.missing() > 0 {
                    self.inbound = Inbound::Large { head, block };
                    return;
                }
                let head_at = Span::new(self.batch.input.len(), head.len());
                self.batch.input.extend(&head);
                self.finish_large(head_at, block);
            }
            Inbound::Skip { bytes } => {
                self.inbound = match bytes - take(piece, bytes).len() {
                    0 => Inbound::Request { missing: 1 },
                    bytes => Inbound::Skip { bytes },
                };
            }
        }
    }

    /// Parses what was read, and keeps what is no whole request.
    fn parse(&mut self) {
        let input = Span::new(0, self.input.len());
        self.batch.input.extend(&self.input);
        self.input.clear();
        let Parsed { consumed, next } = self.session.parse(&mut self.batch, input, &self.server);
        assert!(consumed <= input.end(), "no more is consumed than there is");
        match next {
            Next::Read { missing } => {
                assert!(missing > 0, "something is missing");
                self.keep(consumed);
                self.inbound = Inbound::Request { missing };
            }
            Next::Skip { bytes } => {
                assert!(bytes > 0 && consumed == input.end(), "what is there is skipped first");
                self.inbound = Inbound::Skip { bytes };
            }
            Next::Pause => unreachable!("a binary request is one operation"),
            Next::Close => self.phase = Phase::Closing,
            Next::ReadLarge { head_bytes, value_bytes } => {
                self.begin_large(Span::new(consumed, head_bytes), value_bytes);
            }
        }
    }

    /// Begins to receive a large value, the first bytes of which may stand behind its head.
    fn begin_large(&mut self, head: Span, value_bytes: usize) {
        let there = (self.batch.input.len() - head.end()).min(value_bytes);
        if value_bytes.is_multiple_of(NO_MEMORY_BYTES) {
            self.session.refuse_large(&mut self.batch, head, &self.server);
            return self.keep_behind_value(head.end() + there, value_bytes - there);
        }
        let mut block = Block::new(value_bytes, &self.server.meter).expect("memory");
        block.extend(&self.batch.input.filled()[head.end()..head.end() + there]);
        if block.missing() > 0 {
            let head = self.batch.input.filled()[head.range()].to_vec();
            self.inbound = Inbound::Large { head, block };
            return;
        }
        self.finish_large(head, block);
        self.keep_behind_value(head.end() + there, 0);
    }

    fn finish_large(&mut self, head: Span, block: Block) {
        let large = self.batch.push_large(block.freeze());
        self.session.finish_large(&mut self.batch, head, large, &self.server);
    }

    /// Behind a value either some of it is still to be skipped, or requests may follow.
    fn keep_behind_value(&mut self, from: usize, skip: usize) {
        if skip > 0 {
            self.inbound = Inbound::Skip { bytes: skip };
        } else if from < self.batch.input.len() {
            self.keep(from);
            self.inbound = Inbound::Unparsed;
        }
    }

    fn keep(&mut self, from: usize) {
        self.input.extend_from_slice(&self.batch.input.filled()[from..]);
    }

    /// Sends the batch to the engine, and takes the answers. Requests that were not executed are unread again, and
    /// whatever their parsing led to is undone.
    fn execute(&mut self) {
        let op_count = u32::try_from(self.batch.ops.len()).expect("no more operations than bytes");
        if op_count > 0 {
            let input = Span::new(0, self.batch.input.len());
            let conn = ConnId { slot: 0, generation: 0 };
            self.batch.runs.push(Run { conn, first_op: 0, op_count, input, executed: 0 });
            self.engine.execute(&mut self.batch, NOW);
            let run = &self.batch.runs[0];
            let mut output = Output::default();
            for at in run.executed_ops() {
                let (op, reply) = (&self.batch.ops[at], &self.batch.replies[at]);
                self.session.render(op, reply, &self.batch, &self.server, &mut output);
            }
            self.answers.extend(output.behind(0).flat_map(|rest| rest.as_bytes().to_vec()));
            assert!(run.executed > 0, "a run by itself gets on");
            if run.executed < run.op_count {
                let first_left = &self.batch.ops[run.executed_ops().end];
                self.input.clear();
                self.input.extend_from_slice(&self.batch.input.filled()[first_left.starts_at as usize..]);
                self.inbound = Inbound::Unparsed;
                self.phase = Phase::Open;
            }
        }
        self.batch.recycle();
    }
}

/// The next bytes of a piece, at most `limit`.
fn take<'a>(piece: &mut &'a [u8], limit: usize) -> &'a [u8] {
    let (taken, rest) = piece.split_at(piece.len().min(limit));
    *piece = rest;
    taken
}

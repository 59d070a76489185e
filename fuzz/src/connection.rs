//! A server of one connection, without sockets and threads: a session in front of an engine, looped as an event loop
//! loops it.
//!
//! Pieces of a stream go in, and all answers come out. The clock stands still and the hash has a fixed seed, so the
//! answers are the same each time.

use std::ops::Range;
use std::sync::Arc;

use memwire::clock::Clock;
use memwire::config::{Config, Protocol};
use memwire::limits::{READ_BYTES_PER_TURN, TAIL_BYTES_COPIED};
use memwire::message::{Batch, ConnId, Run, Span};
use memwire::server::Server;
use memwire::session::{Next, Output, Parsed, Session};
use memwire::storage::Engine;
use memwire::storage::block::Block;

/// Longer values are refused.
pub const ITEM_BYTES_MAX: usize = 16 << 10;
/// For a large value of so many bytes, or a multiple of it, there is no memory.
pub const NO_MEMORY_BYTES: usize = 1000;
const NOW: u32 = 1_700_000_000;

/// All answers to a stream that arrives in these pieces.
///
/// # Panics
/// Where the engine's parts do not fit together in the end.
#[must_use]
pub fn serve(pieces: &[&[u8]], protocol: Protocol) -> Vec<u8> {
    let config = Config {
        item_bytes_max: ITEM_BYTES_MAX,
        track_sizes: true,
        detail_enabled: true,
        protocol,
        ..Config::default()
    };
    let server = Server::new(config, Clock::start(), 7);
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
    connection.engine.verify().expect("all parts tell the same story");
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
        while self.phase == Phase::Open && (!piece.is_empty() || self.has_work()) {
            if !self.session.resume(&mut self.batch) {
                self.read(&mut piece);
            }
            self.execute();
        }
    }

    /// Whether it gets on without another byte.
    fn has_work(&self) -> bool {
        matches!(self.inbound, Inbound::Unparsed) || self.session.has_more()
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
                self.keep(consumed..input.end());
                self.inbound = Inbound::Request { missing };
            }
            Next::Skip { bytes } => {
                assert!(bytes > 0 && consumed == input.end(), "what is there is skipped first");
                self.inbound = Inbound::Skip { bytes };
            }
            Next::Pause => {
                self.keep(consumed..input.end());
                self.inbound = Inbound::Unparsed;
            }
            Next::Close => self.phase = Phase::Closing,
            Next::ReadLarge { head_bytes, value_bytes } => {
                self.begin_large(Span::new(consumed, head_bytes), value_bytes, input.end());
            }
        }
    }

    /// Begins to receive a large value, the first bytes of which may stand behind its head.
    fn begin_large(&mut self, head: Span, value_bytes: usize, end: usize) {
        let there = (end - head.end()).min(value_bytes);
        if value_bytes.is_multiple_of(NO_MEMORY_BYTES) {
            self.session.refuse_large(&mut self.batch, head, &self.server);
            return self.keep_behind_value(head.end() + there..end, value_bytes - there);
        }
        let mut block = Block::new(value_bytes, &self.server.meter).expect("memory");
        block.extend(&self.batch.input.filled()[head.end()..head.end() + there]);
        if block.missing() > 0 {
            let head = self.batch.input.filled()[head.range()].to_vec();
            self.inbound = Inbound::Large { head, block };
            return;
        }
        self.finish_large(head, block);
        self.keep_behind_value(head.end() + there..end, 0);
    }

    fn finish_large(&mut self, head: Span, block: Block) {
        let large = self.batch.push_large(block.freeze());
        self.session.finish_large(&mut self.batch, head, large, &self.server);
    }

    /// Behind a value either some of it is still to be skipped, or requests may follow.
    fn keep_behind_value(&mut self, behind: Range<usize>, skip: usize) {
        if skip > 0 {
            self.inbound = Inbound::Skip { bytes: skip };
        } else if !behind.is_empty() {
            self.keep(behind);
            self.inbound = Inbound::Unparsed;
        }
    }

    fn keep(&mut self, unread: Range<usize>) {
        self.input.extend_from_slice(&self.batch.input.filled()[unread]);
    }

    /// Sends the batch to the engine, and takes the answers. Requests that were not executed are unread again, and
    /// whatever their parsing led to is undone.
    fn execute(&mut self) {
        let op_count = u32::try_from(self.batch.ops.len()).expect("no more operations than bytes");
        if op_count > 0 {
            let input = Span::new(0, self.batch.input.len() - self.batch.input.take_aside());
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
                self.session.take_back(first_left);
                if !self.session.has_more() {
                    let unread = first_left.starts_at as usize..run.input.end();
                    self.input.clear();
                    self.input.extend_from_slice(&self.batch.input.filled()[unread]);
                    self.inbound = Inbound::Unparsed;
                    self.phase = Phase::Open;
                }
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

//! A session and an engine, and requests that go through both.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use memwire::clock::Clock;
use memwire::config::Config;
use memwire::message::{Batch, ConnId, Run, Span};
use memwire::server::Server;
use memwire::session::{Output, Session};
use memwire::storage::Engine;

use crate::items::{Pattern, item_hash, key_text};
use crate::random::Random;
use crate::syntax::{Ask, Outcome, Protocol, Syntax};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Of items that are there.
    Get,
    /// Over items that are there.
    Set,
}

/// How far a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Part {
    Nothing,
    /// Its bytes are put into a batch.
    TakeIn,
    Parse,
    Execute,
    /// Its answer is put into words.
    Word,
    /// How long it took is noted. That is once a batch, and reading the clock is not in it: valgrind makes a system call of
    /// that.
    Measure,
}

const MEMORY_BYTES: usize = 64 << 20;
const KEYS: u32 = 10_000;
/// Reads that differ; then they come again.
const READS: usize = 64;
const NOW: u32 = 1_700_000_000;

/// A server without threads and sockets.
#[derive(Debug)]
pub(crate) struct Bed {
    server: Server,
    engine: Engine,
    session: Session,
    batch: Batch,
    output: Output,
    reads: Vec<Vec<u8>>,
    next: usize,
}

impl Bed {
    /// With all keys stored, and one read's answers checked.
    ///
    /// # Errors
    /// Where a request is not understood or an answer is wrong.
    pub(crate) fn new(
        protocol: Protocol,
        kind: Kind,
        requests: u32,
        value_bytes: u32,
    ) -> Result<Self, String> {
        let config = Config { memory_bytes_max: MEMORY_BYTES, ..Config::default() };
        let server = Server::new(config, Clock::start(), 0x6d65_6d77_6972_6500);
        let engine = Engine::new(server.config.engine(), Arc::clone(&server.meter))
            .map_err(|error| format!("no engine: {error}"))?;
        let mut bed = Self {
            server,
            engine,
            session: Session::default(),
            batch: Batch::default(),
            output: Output::default(),
            reads: Vec::new(),
            next: 0,
        };
        let pattern = Pattern::new(value_bytes as usize);
        let value = |key| &pattern.bytes()[Pattern::span(item_hash(key, 0), value_bytes as usize)];
        let set = Ask::Set { generation: 0 };
        let write = |ask, key, bytes: &mut Vec<u8>| protocol.write(ask, &key_text(key), value(key), 0, bytes);
        bed.reads = (0..KEYS)
            .map(|key| {
                let mut bytes = Vec::new();
                write(set, key, &mut bytes);
                bytes
            })
            .collect();
        for key in 0..KEYS {
            bed.round(Part::Word);
            bed.check(protocol, set, &[value(key)])?;
        }
        let mut random = Random::new(1);
        let ask = if kind == Kind::Get { Ask::Get } else { set };
        let keys: Vec<Vec<u32>> =
            (0..READS).map(|_| (0..requests).map(|_| random.below(KEYS)).collect()).collect();
        bed.reads.clear();
        for keys in &keys {
            let mut bytes = Vec::new();
            for &key in keys {
                write(ask, key, &mut bytes);
            }
            bed.reads.push(bytes);
        }
        bed.next = 0;
        for keys in &keys {
            bed.round(Part::Word);
            let values: Vec<&[u8]> = keys.iter().map(|&key| value(key)).collect();
            bed.check(protocol, ask, &values)?;
        }
        Ok(bed)
    }

    /// One read, as far as `part`.
    #[inline(never)]
    pub(crate) fn round(&mut self, part: Part) {
        let Self { server, engine, session, batch, output, reads, next } = self;
        batch.recycle();
        output.clear();
        let bytes = &reads[*next % reads.len()];
        *next += 1;
        batch.input.extend(bytes);
        let input = Span::new(0, bytes.len());
        if part >= Part::Parse {
            let parsed = session.parse(batch, input, server);
            batch.runs.push(Run {
                conn: ConnId { slot: 0, generation: 0 },
                first_op: 0,
                op_count: batch.ops.len() as u32,
                input: Span::new(0, parsed.consumed),
                executed: 0,
            });
        }
        if part >= Part::Execute {
            engine.execute(batch, NOW);
        }
        if part >= Part::Word {
            for (op, reply) in batch.ops.iter().zip(&batch.replies) {
                session.render(op, reply, batch, server, output);
            }
        }
        if part >= Part::Measure {
            server.latency.note(0, batch, Duration::from_micros(*next as u64 % 100));
        }
        black_box(&batch.ops);
        black_box(output.bytes());
    }

    /// Whether the last round has answered all of its requests rightly.
    fn check(&mut self, protocol: Protocol, ask: Ask, values: &[&[u8]]) -> Result<(), String> {
        let mut rest = self.output.bytes().as_slice();
        for value in values {
            let answer = protocol.read(rest, ask)?.ok_or("a request is not answered")?;
            let (body, behind) = rest[answer.head_bytes..]
                .split_at_checked(answer.value_bytes + answer.tail.len())
                .ok_or("an answer is not whole")?;
            match answer.outcome {
                Outcome::Hit { flags: 0 } if body.strip_suffix(answer.tail) == Some(value) => {}
                Outcome::Stored if body.is_empty() => {}
                _ => return Err(format!("{ask:?}: {answer:?}")),
            }
            rest = behind;
        }
        if rest.is_empty() { Ok(()) } else { Err(format!("{} bytes too many", rest.len())) }
    }
}

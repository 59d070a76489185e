//! One connection: requests out, answers in and checked.
//!
//! A turn is one read and one write, whatever the depth. Requests are written into one buffer that is kept; answers are
//! read into a buffer that all connections of a thread share, and a value is compared there, piece by piece as it
//! arrives, so that a connection holds at most the head of an answer. Nothing is allocated for a request.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

use crate::histogram::Histogram;
use crate::items::key_text;
use crate::random::Random;
use crate::stream::{Greeting, Stream};
use crate::syntax::{Answer, Ask, FenceAt, Outcome, Syntax};
use crate::workload::{KeyChoice, Turn, Workload};

/// Requests are written ahead up to here, then the socket has to take some: large values would pile up otherwise.
const OUTPUT_BYTES_MAX: usize = 64 << 10;

/// What the connections of a thread share.
#[derive(Debug)]
pub(crate) struct Shared<'a, S> {
    pub(crate) workload: &'a Workload,
    pub(crate) syntax: S,
    pub(crate) keys: KeyChoice,
    pub(crate) random: Random,
    pub(crate) clock: Clock,
    pub(crate) tally: Tally,
}

/// Nanoseconds since it was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    #[inline]
    pub(crate) fn now(self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

/// What was answered.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) stored: u64,
    pub(crate) wrong: u64,
    pub(crate) first_wrong: Option<String>,
    pub(crate) value_bytes: u64,
    /// From when a request was due to when its answer was read; of a batch, as one.
    pub(crate) latency: Histogram,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            hits: 0,
            misses: 0,
            stored: 0,
            wrong: 0,
            first_wrong: None,
            value_bytes: 0,
            latency: Histogram::new(),
        }
    }

    /// Requests that were answered; a fence is none.
    pub(crate) fn requests(&self) -> u64 {
        self.hits + self.misses + self.stored + self.wrong
    }

    /// Adds what another thread counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.hits += other.hits;
        self.misses += other.misses;
        self.stored += other.stored;
        self.value_bytes += other.value_bytes;
        self.latency.merge(&other.latency);
        self.merge_wrong(other);
    }

    /// Adds only the wrong answers of a time that is not measured.
    pub(crate) fn merge_wrong(&mut self, other: &Self) {
        self.wrong += other.wrong;
        self.first_wrong = self.first_wrong.take().or_else(|| other.first_wrong.clone());
    }

    #[cold]
    #[inline(never)]
    fn wrong(&mut self, ask: Ask, key: u32, what: &dyn Fn() -> String) {
        self.wrong += 1;
        let key = key_text(key).escape_ascii().to_string();
        self.first_wrong.get_or_insert_with(|| format!("{ask:?} of {key}: {}", what()));
    }
}

/// A connection to the server.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: Stream,
    output: Vec<u8>,
    written: usize,
    /// Requests without an answer so far, oldest first. Their opaques follow one another.
    waiting: VecDeque<Waiting>,
    first_opaque: u32,
    /// Turns (single requests or batches) that are not wholly answered.
    turns: usize,
    /// The beginning of an answer whose head is not all there.
    carried: Vec<u8>,
    incoming: Option<Incoming>,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    due: u64,
    key: u32,
    ask: Ask,
    /// Whether nothing of its turn comes behind it.
    ends_turn: bool,
}

/// An answer whose value is being read.
#[derive(Debug, Clone, Copy)]
struct Incoming {
    request: Waiting,
    verdict: Verdict,
    /// Bytes until the value ends.
    value_left: usize,
    /// What is left of that which stands behind it.
    tail: &'static [u8],
    /// Where the rest of a right value stands in the pattern.
    pattern_at: usize,
    /// Bytes of a value that was read or stored; an error's text is none.
    value_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Hit,
    Miss,
    Stored,
    Fenced,
    /// Counted already.
    Wrong,
}

impl Connection {
    /// Connects. `number` sets the opaques of this connection apart from those of the others.
    ///
    /// # Errors
    /// As [`Stream::open`].
    pub(crate) fn open(address: SocketAddr, greeting: &Greeting, number: usize) -> io::Result<Self> {
        Ok(Self {
            stream: Stream::open(address, greeting)?,
            output: Vec::new(),
            written: 0,
            waiting: VecDeque::new(),
            first_opaque: (number as u32).wrapping_mul(0x9e37_79b9),
            turns: 0,
            carried: Vec::new(),
            incoming: None,
        })
    }

    /// Turns under way.
    #[inline]
    pub(crate) fn turns(&self) -> usize {
        self.turns
    }

    /// Requests under way. One whose value is still being read is no less so.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len() + usize::from(self.incoming.is_some())
    }

    /// Whether [`flush`](Self::flush) should come before another request.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.output.len() >= OUTPUT_BYTES_MAX
    }

    /// Writes a turn that was due at `due` to the output buffer, and says how many requests it was.
    #[inline]
    pub(crate) fn ask<S: Syntax>(&mut self, shared: &mut Shared<'_, S>, due: u64) -> u64 {
        self.turns += 1;
        match shared.workload.turn(&mut shared.random, shared.syntax.has_flags()) {
            Turn::One(ask) => {
                self.ask_one(ask, due, true, shared);
                1
            }
            Turn::Batch { gets } => {
                self.ask_batch(gets, due, shared);
                u64::from(gets)
            }
        }
    }

    fn ask_batch<S: Syntax>(&mut self, gets: u32, due: u64, shared: &mut Shared<'_, S>) {
        let fence_at = shared.syntax.fence();
        let fence = |ends_turn| Waiting { due, key: 0, ask: Ask::Fence { gets }, ends_turn };
        shared.syntax.begin_batch(gets, &mut self.output);
        if fence_at == FenceAt::Front {
            self.waiting.push_back(fence(false));
        }
        for number in 1..=gets {
            let ends_turn = fence_at == FenceAt::Front && number == gets;
            self.ask_one(Ask::QuietGet, due, ends_turn, shared);
        }
        let opaque = self.next_opaque();
        if fence_at == FenceAt::Back {
            self.waiting.push_back(fence(true));
        }
        shared.syntax.end_batch(opaque, &mut self.output);
    }

    #[inline]
    fn ask_one<S: Syntax>(&mut self, ask: Ask, due: u64, ends_turn: bool, shared: &mut Shared<'_, S>) {
        let key = shared.keys.choose(&mut shared.random);
        let values = &shared.workload.values;
        let value = match ask {
            Ask::Set { generation } => &values.pattern()[values.span(key, generation)],
            Ask::Get | Ask::QuietGet | Ask::Fence { .. } => &[],
        };
        let opaque = self.next_opaque();
        self.waiting.push_back(Waiting { due, key, ask, ends_turn });
        shared.syntax.write(ask, &key_text(key), value, opaque, &mut self.output);
    }

    #[inline]
    fn next_opaque(&self) -> u32 {
        self.first_opaque.wrapping_add(self.waiting.len() as u32)
    }

    /// Writes what the socket takes; the rest waits until it is writable.
    ///
    /// # Errors
    /// The socket's.
    #[inline]
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.output.clear();
        self.written = 0;
        match self.stream.flush() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            flushed => flushed,
        }
    }

    /// Reads and checks what has arrived. `buffer` has room for a carried head and more.
    ///
    /// # Errors
    /// The socket's, and answers that cannot be matched with a request: the connection is of no use then.
    #[inline]
    pub(crate) fn receive<S: Syntax>(
        &mut self,
        buffer: &mut [u8],
        shared: &mut Shared<'_, S>,
    ) -> Result<(), String> {
        loop {
            let carried = self.carried.len();
            buffer[..carried].copy_from_slice(&self.carried);
            let read = match self.stream.read(&mut buffer[carried..]) {
                Ok(0) => {
                    return Err(format!("the server closed a connection: {} waiting", self.waiting.len()));
                }
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(format!("cannot read: {error}")),
            };
            let now = shared.clock.now();
            self.carried.clear();
            self.take(&buffer[..carried + read], now, shared)?;
            // With edge-triggered events a short read says that nothing is left, so the next read can wait for one.
            if carried + read < buffer.len() {
                return Ok(());
            }
        }
    }

    /// Deals with answers, or parts of them, that were read at `now`.
    #[inline]
    fn take<S: Syntax>(
        &mut self,
        mut input: &[u8],
        now: u64,
        shared: &mut Shared<'_, S>,
    ) -> Result<(), String> {
        if self.incoming.is_some() {
            input = self.go_on(input, now, shared);
        }
        while !input.is_empty() {
            let oldest = self.waiting.front().copied();
            let ask = oldest.map_or(Ask::Get, |request| request.ask);
            let Some(answer) = shared.syntax.read(input, ask)? else {
                self.carried.extend_from_slice(input);
                return Ok(());
            };
            let request = match oldest {
                Some(request) if request.is_answered_by(&answer, self.first_opaque) => request,
                _ => self.behind_misses(&answer, &mut shared.tally)?,
            };
            self.waiting.pop_front();
            self.first_opaque = self.first_opaque.wrapping_add(1);
            let mut incoming = Incoming::of(&answer, request, shared);
            input = incoming.compare(&input[answer.head_bytes..], shared);
            if !incoming.is_whole() {
                self.incoming = Some(incoming);
                return Ok(());
            }
            self.finish(&incoming, now, &mut shared.tally);
        }
        Ok(())
    }

    /// Deals with more of the answer that has begun, and gives back what comes behind.
    #[inline(never)]
    fn go_on<'a, S>(&mut self, input: &'a [u8], now: u64, shared: &mut Shared<'_, S>) -> &'a [u8] {
        let Some(mut incoming) = self.incoming.take() else { return input };
        let rest = incoming.compare(input, shared);
        if incoming.is_whole() {
            self.finish(&incoming, now, &mut shared.tally);
        } else {
            self.incoming = Some(incoming);
        }
        rest
    }

    /// The request that is answered though it is not the oldest: quiet gets before it have missed, and are let go.
    #[cold]
    fn behind_misses(&mut self, answer: &Answer<'_>, tally: &mut Tally) -> Result<Waiting, String> {
        loop {
            let opaque = self.first_opaque;
            let Some(&request) = self.waiting.front() else {
                return Err(format!("an answer that nothing asked for: {answer:?}"));
            };
            if request.is_answered_by(answer, opaque) {
                return Ok(request);
            }
            if request.ask != Ask::QuietGet {
                return Err(format!("answers out of order: {answer:?} instead of {opaque}, {request:?}"));
            }
            self.waiting.pop_front();
            self.first_opaque = opaque.wrapping_add(1);
            tally.misses += 1;
        }
    }

    #[inline]
    fn finish(&mut self, incoming: &Incoming, now: u64, tally: &mut Tally) {
        match incoming.verdict {
            Verdict::Hit => tally.hits += 1,
            Verdict::Miss => tally.misses += 1,
            Verdict::Stored => tally.stored += 1,
            Verdict::Fenced | Verdict::Wrong => {}
        }
        tally.value_bytes += incoming.value_bytes as u64;
        if incoming.request.ends_turn {
            self.turns -= 1;
            tally.latency.record(now.saturating_sub(incoming.request.due));
        }
    }
}

impl Waiting {
    /// Whether this is the answer. Without opaques answers come in order, but a quiet get that has missed has none.
    #[inline]
    fn is_answered_by(&self, answer: &Answer<'_>, opaque: u32) -> bool {
        match (answer.opaque, self.ask, answer.outcome) {
            (Some(answered), ..) => answered == opaque,
            (None, Ask::QuietGet, Outcome::Fenced) => false,
            (None, Ask::QuietGet, Outcome::Hit { .. }) => {
                answer.key.is_none_or(|key| key == key_text(self.key))
            }
            _ => true,
        }
    }
}

impl Incoming {
    /// Judges an answer by its head.
    #[inline]
    fn of<S>(answer: &Answer<'_>, request: Waiting, shared: &mut Shared<'_, S>) -> Self {
        let values = &shared.workload.values;
        let is_key = answer.key.is_none_or(|answered| answered == key_text(request.key));
        let (verdict, span) = match (request.ask, answer.outcome) {
            (Ask::Get | Ask::QuietGet, Outcome::Hit { flags }) if is_key => {
                (Verdict::Hit, values.span(request.key, flags))
            }
            (Ask::Get | Ask::QuietGet, Outcome::Miss) => (Verdict::Miss, 0..0),
            (Ask::Set { generation }, Outcome::Stored) if answer.value_bytes == 0 => {
                (Verdict::Stored, values.span(request.key, generation))
            }
            (Ask::Fence { .. }, Outcome::Fenced) if answer.value_bytes == 0 => (Verdict::Fenced, 0..0),
            _ => (Verdict::Wrong, 0..0),
        };
        let mut incoming = Self {
            request,
            verdict,
            value_left: answer.value_bytes,
            tail: answer.tail,
            pattern_at: span.start,
            value_bytes: span.len(),
        };
        if verdict == Verdict::Wrong {
            incoming.condemn(shared, &|| format!("{answer:?}"));
        } else if verdict == Verdict::Hit && span.len() != answer.value_bytes {
            incoming.condemn(shared, &|| {
                format!("a value of {} bytes instead of {}", answer.value_bytes, span.len())
            });
        }
        incoming
    }

    #[inline]
    fn is_whole(&self) -> bool {
        self.value_left == 0 && self.tail.is_empty()
    }

    /// Checks what there is of the value and of what ends it, and gives back what comes behind.
    #[expect(clippy::inline_always, reason = "most answers are whole, and then most of this is known")]
    #[inline(always)]
    fn compare<'a, S>(&mut self, input: &'a [u8], shared: &mut Shared<'_, S>) -> &'a [u8] {
        let (piece, input) = input.split_at(input.len().min(self.value_left));
        self.value_left -= piece.len();
        if self.verdict == Verdict::Hit {
            let behind = self.pattern_at + piece.len();
            if shared.workload.values.pattern()[self.pattern_at..behind] != *piece {
                self.condemn(shared, &|| "the value is not the one of this key".to_owned());
            }
            self.pattern_at = behind;
        }
        if self.value_left > 0 || self.tail.is_empty() {
            return input;
        }
        let (piece, input) = input.split_at(input.len().min(self.tail.len()));
        let (right, tail) = self.tail.split_at(piece.len());
        if right != piece && self.verdict != Verdict::Wrong {
            self.condemn(shared, &|| "not the right end behind the value".to_owned());
        }
        self.tail = tail;
        input
    }

    #[inline]
    fn condemn<S>(&mut self, shared: &mut Shared<'_, S>, what: &dyn Fn() -> String) {
        self.verdict = Verdict::Wrong;
        self.value_bytes = 0;
        shared.tally.wrong(self.request.ask, self.request.key, what);
    }
}

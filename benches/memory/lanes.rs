//! Connections that are written to and read from in turns: simple, and the same sequence for every server.
//!
//! A key has its own connection, so that what happens to one key happens in the order in which it was asked for. Turns
//! of GETs and of SETs alternate and never mix: the answers to SETs and the requests of GETs are short enough to lie
//! in a socket's buffers, so neither side waits for the other one to read.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::contents::Contents;
use crate::items::key_text;
use crate::random::scramble;
use crate::signals;
use crate::syntax::{Answer, Ask, Outcome, Protocol, Syntax};

/// What is asked, and of which key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) ask: Ask,
    pub(crate) key: u32,
}

impl Request {
    pub(crate) fn get(key: u32) -> Self {
        Self { ask: Ask::Get, key }
    }

    pub(crate) fn set(key: u32, generation: u32) -> Self {
        Self { ask: Ask::Set { generation }, key }
    }
}

/// What a right answer can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    Hit {
        generation: u32,
    },
    Miss,
    Stored,
    /// There was no room, which a full server may say.
    Refused,
    Wrong,
}

/// What was answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) stored: u64,
    pub(crate) refused: u64,
    pub(crate) wrong: u64,
    pub(crate) first_wrong: Option<String>,
}

/// The connections to one server.
#[derive(Debug)]
pub(crate) struct Lanes<'a> {
    contents: &'a Contents,
    protocol: Protocol,
    all: Vec<Lane>,
    pub(crate) tally: Tally,
}

#[derive(Debug)]
struct Lane {
    stream: TcpStream,
    output: Vec<u8>,
    waiting: VecDeque<(u32, Request)>,
    next_opaque: u32,
    input: Vec<u8>,
    /// What of the input has been read from the socket, and not dealt with.
    begin: usize,
    end: usize,
}

/// An answer, or the room for one, is not given up sooner.
const PATIENCE: Duration = Duration::from_secs(20);

const INPUT_BYTES: usize = 256 << 10;

/// An answer with a longer value is none to what is asked here.
const VALUE_BYTES_MAX: usize = 4 << 20;

impl<'a> Lanes<'a> {
    /// Connects so many times.
    ///
    /// # Errors
    /// Where a connection cannot be had.
    pub(crate) fn open(
        address: SocketAddr,
        protocol: Protocol,
        count: usize,
        contents: &'a Contents,
    ) -> Result<Self, String> {
        let lanes: io::Result<Vec<Lane>> = (0..count).map(|_| Lane::open(address)).collect();
        let lanes = lanes.map_err(|error| format!("cannot connect to {address}: {error}"))?;
        Ok(Self { contents, protocol, all: lanes, tally: Tally::default() })
    }

    /// Sends requests and waits for all answers, those of earlier ones, too.
    ///
    /// # Errors
    /// Where a connection breaks, stalls, or can no longer be understood; and where a signal came.
    pub(crate) fn exchange(
        &mut self,
        requests: &[Request],
        seen: impl FnMut(Request, Seen),
    ) -> Result<(), String> {
        self.send(requests)?;
        self.receive(0, seen)
    }

    /// Sends requests, all GETs or all SETs.
    ///
    /// # Errors
    /// As [`exchange`](Self::exchange).
    pub(crate) fn send(&mut self, requests: &[Request]) -> Result<(), String> {
        if signals::came() {
            return Err("interrupted".to_owned());
        }
        for &request in requests {
            let at = scramble(u64::from(request.key)) as usize % self.all.len();
            let lane = &mut self.all[at];
            let value = match request.ask {
                Ask::Set { generation } => self.contents.value(request.key, generation).unwrap_or_default(),
                Ask::Get | Ask::QuietGet | Ask::Fence { .. } => &[],
            };
            let opaque = lane.next_opaque;
            lane.next_opaque = opaque.wrapping_add(1);
            lane.waiting.push_back((opaque, request));
            self.protocol.write(request.ask, &key_text(request.key), value, opaque, &mut lane.output);
        }
        for lane in &mut self.all {
            lane.stream.write_all(&lane.output).map_err(|error| format!("cannot write: {error}"))?;
            lane.output.clear();
        }
        Ok(())
    }

    /// Reads answers until no connection waits for more than `leave`.
    ///
    /// # Errors
    /// As [`exchange`](Self::exchange).
    pub(crate) fn receive(
        &mut self,
        leave: usize,
        mut seen: impl FnMut(Request, Seen),
    ) -> Result<(), String> {
        for lane in &mut self.all {
            while lane.waiting.len() > leave {
                match lane.take(self.protocol, self.contents, &mut self.tally)? {
                    Ok((request, verdict)) => {
                        self.tally.count(verdict);
                        seen(request, verdict);
                    }
                    Err(short) => lane.read(short)?,
                }
            }
        }
        Ok(())
    }
}

/// Bytes that an answer is known to have at least.
type Short = usize;

impl Lane {
    fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            output: Vec::new(),
            waiting: VecDeque::new(),
            next_opaque: 0,
            input: vec![0; INPUT_BYTES],
            begin: 0,
            end: 0,
        })
    }

    /// Deals with the answer at the front of the input, where it is all there.
    #[inline]
    fn take(
        &mut self,
        protocol: Protocol,
        contents: &Contents,
        tally: &mut Tally,
    ) -> Result<Result<(Request, Seen), Short>, String> {
        let input = &self.input[self.begin..self.end];
        let ask = self.waiting.front().map_or(Ask::Get, |(_, request)| request.ask);
        let Some(answer) = protocol.read(input, ask)? else { return Ok(Err(input.len() + 1)) };
        if answer.value_bytes > VALUE_BYTES_MAX {
            return Err(format!("an answer of {} bytes, limit is {VALUE_BYTES_MAX}", answer.value_bytes));
        }
        let len = answer.head_bytes + answer.value_bytes;
        let whole_len = len + answer.tail.len();
        let Some(tail) = input.get(len..whole_len) else { return Ok(Err(whole_len)) };
        let value = &input[answer.head_bytes..len];
        let Some(&(opaque, request)) = self.waiting.front() else {
            return Err(format!("an answer that nothing asked for: {answer:?}"));
        };
        if answer.opaque.is_some_and(|answered| answered != opaque) {
            return Err(format!("answers out of order: {answer:?} instead of {request:?}"));
        }
        let verdict = match judge(request, &answer, value, contents) {
            Ok(_) if tail != answer.tail => Err(format!("{request:?}: {answer:?} ends with {tail:?}")),
            judged => judged,
        };
        let verdict = verdict.unwrap_or_else(|what| {
            tally.first_wrong.get_or_insert(what);
            Seen::Wrong
        });
        self.waiting.pop_front();
        self.begin += whole_len;
        Ok(Ok((request, verdict)))
    }

    /// Reads something, into a buffer that has room for an answer of `len` bytes.
    fn read(&mut self, len: usize) -> Result<(), String> {
        self.input.copy_within(self.begin..self.end, 0);
        (self.begin, self.end) = (0, self.end - self.begin);
        if self.input.len() < len {
            self.input.resize(len.next_power_of_two(), 0);
        }
        loop {
            match self.stream.read(&mut self.input[self.end..]) {
                Ok(0) => {
                    return Err(format!("the server closed a connection: {} waiting", self.waiting.len()));
                }
                Ok(read) => {
                    self.end += read;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted && !signals::came() => {}
                Err(error) => return Err(format!("no answer, {} waiting: {error}", self.waiting.len())),
            }
        }
    }
}

/// What an answer is, or what is wrong with it.
#[inline]
fn judge(request: Request, answer: &Answer<'_>, value: &[u8], contents: &Contents) -> Result<Seen, String> {
    match (request.ask, answer.outcome) {
        (Ask::Get, Outcome::Hit { flags }) => match contents.value(request.key, flags) {
            Some(right) if right == value => Ok(Seen::Hit { generation: flags }),
            right => Err(format!(
                "GET of key {}: a value of {} bytes that is not the one of {} bytes",
                request.key,
                value.len(),
                right.map_or(0, <[u8]>::len)
            )),
        },
        (Ask::Get, Outcome::Miss) => Ok(Seen::Miss),
        (Ask::Set { .. }, Outcome::Stored) => Ok(Seen::Stored),
        (Ask::Set { .. }, Outcome::Refused(_)) => Ok(Seen::Refused),
        _ => Err(format!("{request:?}: {answer:?}")),
    }
}

impl Tally {
    #[inline]
    fn count(&mut self, verdict: Seen) {
        match verdict {
            Seen::Hit { .. } => self.hits += 1,
            Seen::Miss => self.misses += 1,
            Seen::Stored => self.stored += 1,
            Seen::Refused => self.refused += 1,
            Seen::Wrong => self.wrong += 1,
        }
    }

    pub(crate) fn requests(&self) -> u64 {
        self.hits + self.misses + self.stored + self.refused + self.wrong
    }
}

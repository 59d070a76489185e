//! A client: what it has asked for, what it has read, and whether the two agree.

use std::collections::VecDeque;

use memwire::message::Command;
use wire::{Opcode, Response, ResponseHeader, Split, Status};

use crate::ask::Ask;
use crate::link::{Link, Shared};
use crate::owed::{Dialect, Ending, Expected, Owed, Verdict};
use crate::stranger::{Made, Standing};

/// A client with one connection.
#[derive(Debug)]
pub struct Client {
    link: Shared,
    /// Requests that are made and not yet sent.
    outgoing: VecDeque<u8>,
    made_bytes: u64,
    sent_bytes: u64,
    /// What was asked for and not executed, in order.
    owed: VecDeque<Debt>,
    /// What was executed and not read, in order.
    expected: VecDeque<Expected>,
    /// What was read of the first of them.
    part: Vec<u8>,
    /// How it behaves.
    pub manner: Manner,
    /// What it speaks.
    pub dialect: Dialect,
    /// Where it stands, once all is answered that it has asked for.
    pub standing: Standing,
    /// What it has been challenged with, and has not answered.
    pub challenge: Option<Vec<u8>>,
    /// The server knows who it is.
    pub is_known: bool,
    /// The engine has refused room for its large value.
    pub has_no_room: bool,
    /// Its last request has been executed.
    is_dismissed: bool,
    /// The server has lost patience with it.
    is_given_up: bool,
    has_read_all: bool,
}

/// What one request is owed, and where it stands in all that the client sends.
#[derive(Debug)]
struct Debt {
    owed: Owed,
    /// From here on the server may answer it.
    due_at: u64,
    ends_at: u64,
}

/// How much of a request is there when it is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All that the server may wait for.
    Due,
    /// Less: there is no room for the rest.
    Head,
}

/// How a client behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It sends and reads.
    Lively,
    /// It sends, and does not read for a while.
    Paused,
    /// It does nothing any more, and stays.
    Silent,
    /// It sends no more, and reads.
    Ended,
    /// It is gone.
    Gone,
}

impl Client {
    /// A client at the end of a link.
    #[must_use]
    pub fn new(link: Shared, dialect: Dialect, standing: Standing) -> Self {
        Self {
            link,
            dialect,
            standing,
            challenge: None,
            is_known: false,
            outgoing: VecDeque::new(),
            made_bytes: 0,
            sent_bytes: 0,
            owed: VecDeque::new(),
            expected: VecDeque::new(),
            part: Vec::new(),
            manner: Manner::Lively,
            has_no_room: false,
            is_dismissed: false,
            is_given_up: false,
            has_read_all: false,
        }
    }

    /// Its connection.
    #[must_use]
    pub fn link(&self) -> std::cell::RefMut<'_, Link> {
        self.link.borrow_mut()
    }

    /// Whether it may still ask for something.
    #[must_use]
    pub fn can_ask(&self) -> bool {
        matches!(self.manner, Manner::Lively | Manner::Paused) && !self.has_read_all
    }

    /// Bytes of requests that are made and not yet sent.
    #[must_use]
    pub fn unsent_bytes(&self) -> usize {
        self.outgoing.len()
    }

    /// Makes up its mind to send a request.
    pub fn ask(&mut self, made: Made) {
        let Made { bytes, owed, standing } = made;
        let due_at = self.made_bytes + owed.due_bytes as u64;
        self.made_bytes += bytes.len() as u64;
        self.outgoing.extend(bytes);
        self.owed.push_back(Debt { owed, due_at, ends_at: self.made_bytes });
        self.challenge = None;
        self.standing = standing;
    }

    /// Sends at most so many bytes, and says how many it did.
    pub fn send(&mut self, limit: usize) -> usize {
        let mut sent = 0;
        while sent < limit {
            let front = self.outgoing.as_slices().0;
            let piece = &front[..front.len().min(limit - sent)];
            let len = self.link.borrow_mut().send(piece);
            if len == 0 {
                break;
            }
            self.outgoing.drain(..len);
            sent += len;
        }
        self.sent_bytes += sent as u64;
        sent
    }

    /// Sends no more; what was not sent is never asked for.
    pub fn end(&mut self) {
        if matches!(self.manner, Manner::Ended | Manner::Gone) {
            return;
        }
        self.manner = Manner::Ended;
        self.outgoing.clear();
        self.link().end();
    }

    /// Is gone, with all that is on its way.
    pub fn vanish(&mut self) {
        self.manner = Manner::Gone;
        self.outgoing.clear();
        self.expected.clear();
        self.link().reset();
    }

    /// The server gives it up. Says whether it has not sent what it had begun to send, or does not read.
    pub fn give_up(&mut self) -> bool {
        self.is_given_up = true;
        let is_owing = self.owed.front().is_some_and(|debt| debt.ends_at > self.sent_bytes);
        is_owing || !self.link().down.is_empty() || self.manner == Manner::Gone
    }

    /// The mark of the request that is executed next.
    #[must_use]
    pub fn next_mark(&self) -> Option<(Opcode, u32)> {
        self.owed.front().map(|debt| (debt.owed.opcode, debt.owed.opaque))
    }

    /// The next request to be executed, by what the server takes it for, and how much of it the server has.
    ///
    /// # Errors
    /// Where it has asked for no such thing.
    pub fn next_owed(&mut self, opcode: Opcode, opaque: u32, part: Part) -> Result<Owed, String> {
        if self.is_dismissed {
            return Err(format!("has {opcode} {opaque} executed behind its last request"));
        }
        let debt = self.owed.pop_front().ok_or_else(|| format!("never asked for {opcode} {opaque}"))?;
        let (asked, mark) = (debt.owed.opcode, debt.owed.opaque);
        if (asked, mark) != (opcode, opaque) {
            return Err(format!("has {opcode} {opaque} executed, and {asked} {mark} is next"));
        }
        if part == Part::Due && debt.due_at > self.sent_bytes {
            return Err(format!("has {opcode} {opaque} executed before it was sent"));
        }
        self.is_dismissed = debt.owed.ending == Ending::Close;
        Ok(debt.owed)
    }

    /// What is to change that it waits for, with its request's mark, if that is what it asks for next.
    ///
    /// # Errors
    /// Where it is not.
    pub fn watched(&self) -> Result<(&Ask, u32), String> {
        match self.owed.front() {
            Some(Debt { owed: Owed { verdict: Verdict::Asks(ask), opaque, .. }, due_at, .. })
                if matches!(ask.command, Command::Watch { .. }) && *due_at <= self.sent_bytes =>
            {
                Ok((ask, *opaque))
            }
            _ => Err("has not asked to wait for anything".into()),
        }
    }

    /// It is to read this, when its time comes.
    pub fn expect(&mut self, expected: Option<Expected>) {
        if self.manner != Manner::Gone {
            self.expected.extend(expected);
        }
    }

    /// Reads at most so many bytes, and says how many it did.
    ///
    /// # Errors
    /// Where they are not those that it is to read, or end too early.
    pub fn read(&mut self, limit: usize) -> Result<usize, String> {
        let mut read = 0;
        while read < limit {
            let piece = {
                let mut link = self.link.borrow_mut();
                let front = link.down.as_slices().0;
                let piece = front[..front.len().min(limit - read)].to_vec();
                link.down.drain(..piece.len());
                piece
            };
            if piece.is_empty() {
                break;
            }
            read += piece.len();
            self.compare(&piece)?;
        }
        if !self.has_read_all && self.link().is_at_end() {
            self.has_read_all = true;
            self.check_farewell()?;
        }
        Ok(read)
    }

    fn compare(&mut self, mut piece: &[u8]) -> Result<(), String> {
        while !piece.is_empty() {
            let is_whole = match self.expected.front() {
                None => return Err(format!("reads what nobody owes it: {}", shown(piece))),
                Some(Expected::Packet(packet)) => {
                    let rest = &packet[self.part.len()..];
                    let len = rest.len().min(piece.len());
                    let (front, behind) = piece.split_at(len);
                    if front != &rest[..len] {
                        return Err(difference(packet, self.part.len(), front));
                    }
                    self.part.extend_from_slice(front);
                    piece = behind;
                    self.part.len() == packet.len()
                }
                Some(&Expected::Challenge { opaque }) => {
                    let (front, behind) = piece.split_at(1);
                    self.part.extend_from_slice(front);
                    piece = behind;
                    self.challenge = challenge(&self.part, opaque)?;
                    self.challenge.is_some()
                }
                Some(&Expected::Statistics { opaque }) => {
                    // A byte at a time: they are few.
                    let (front, behind) = piece.split_at(1);
                    self.part.extend_from_slice(front);
                    piece = behind;
                    match statistic(&self.part, opaque)? {
                        Statistic::Partial => continue,
                        Statistic::Figure => {
                            self.part.clear();
                            false
                        }
                        Statistic::End => true,
                    }
                }
            };
            if is_whole {
                self.expected.pop_front();
                self.part.clear();
            }
        }
        Ok(())
    }

    /// The server sends no more: that must have a reason, and nothing may be missing.
    fn check_farewell(&self) -> Result<(), String> {
        if self.is_given_up {
            return Ok(());
        }
        if let Some(expected) = self.expected.front() {
            return Err(format!("reads the end before {}", described(expected)));
        }
        match self.owed.front() {
            _ if self.is_dismissed => Ok(()),
            Some(Debt { owed: Owed { verdict: Verdict::Silence, .. }, due_at, .. })
                if *due_at <= self.sent_bytes =>
            {
                Ok(())
            }
            Some(debt) if debt.due_at <= self.sent_bytes => {
                let (opcode, opaque) = (debt.owed.opcode, debt.owed.opaque);
                Err(format!("reads the end, and {opcode} {opaque} is not executed"))
            }
            _ if self.manner == Manner::Ended => Ok(()),
            _ => Err("reads the end, and has given no reason".into()),
        }
    }

    /// Whether everything that it has asked for is done and read; to be asked when everything has come to rest.
    ///
    /// # Errors
    /// A sentence that says what is missing.
    pub fn check_rest(&self) -> Result<(), String> {
        if self.has_read_all || matches!(self.manner, Manner::Gone | Manner::Silent) {
            return Ok(());
        }
        if let Some(expected) = self.expected.front() {
            return Err(format!("waits for {}", described(expected)));
        }
        match self.owed.front() {
            Some(debt) if debt.due_at <= self.sent_bytes => {
                let (opcode, opaque) = (debt.owed.opcode, debt.owed.opaque);
                Err(format!("waits for {opcode} {opaque} to be executed"))
            }
            _ if !self.outgoing.is_empty() => Err(format!("cannot send {} bytes", self.outgoing.len())),
            _ if self.is_dismissed || self.manner == Manner::Ended => {
                Err("waits for the end of its connection".into())
            }
            _ => Ok(()),
        }
    }
}

enum Statistic {
    Partial,
    Figure,
    End,
}

/// What a whole challenge says.
fn challenge(bytes: &[u8], opaque: u32) -> Result<Option<Vec<u8>>, String> {
    match wire::split::<ResponseHeader>(bytes, wire::FRAME_BODY_BYTES_MAX) {
        Ok(Split::Whole { packet, .. }) => {
            let response = Response::parse(&packet);
            if (response.opaque, response.status) != (opaque, Status::AUTH_CONTINUE) {
                return Err(format!("reads {response}, and not a challenge for {opaque}"));
            }
            Ok(Some(response.value.to_vec()))
        }
        Ok(_) => Ok(None),
        Err(reject) => Err(format!("reads no packet as a challenge: {reject}")),
    }
}

fn statistic(bytes: &[u8], opaque: u32) -> Result<Statistic, String> {
    match wire::split::<ResponseHeader>(bytes, wire::FRAME_BODY_BYTES_MAX) {
        Ok(Split::Whole { packet, .. }) => {
            let response = Response::parse(&packet);
            if (response.opcode, response.opaque, response.status.is_ok()) != (Opcode::STAT, opaque, true) {
                return Err(format!("reads {response} among the statistics of {opaque}"));
            }
            Ok(if response.key.is_empty() { Statistic::End } else { Statistic::Figure })
        }
        Ok(_) => Ok(Statistic::Partial),
        Err(reject) => Err(format!("reads no packet among statistics: {reject}")),
    }
}

fn described(expected: &Expected) -> String {
    match expected {
        Expected::Packet(bytes) => shown(bytes),
        Expected::Challenge { opaque } => format!("the challenge of {opaque}"),
        Expected::Statistics { opaque } => format!("the statistics of {opaque}"),
    }
}

/// A packet where it is one, else its first bytes.
fn shown(bytes: &[u8]) -> String {
    match wire::split::<ResponseHeader>(bytes, wire::FRAME_BODY_BYTES_MAX) {
        Ok(Split::Whole { packet, .. }) => Response::parse(&packet).to_string(),
        _ => format!("{} ({} bytes)", bytes[..bytes.len().min(60)].escape_ascii(), bytes.len()),
    }
}

fn difference(packet: &[u8], at: usize, read: &[u8]) -> String {
    let same = packet[at..].iter().zip(read).take_while(|(right, read)| right == read).count();
    let right = &packet[at + same..];
    let right = &right[..right.len().min(40)];
    let read = &read[same..];
    let read = &read[..read.len().min(40)];
    format!(
        "reads at byte {} of {}: {} and not {}",
        at + same,
        shown(packet),
        read.escape_ascii(),
        right.escape_ascii()
    )
}

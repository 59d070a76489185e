//! What a request is owed: read off its bytes by the rules of the protocol, apart from the server's own session.

use bytes::Bytes;
use memwire::config::{Config, Watch};
use memwire::figures::Group;
use memwire::message::{Command, Older, Refusal, Watched};
use memwire::storage::log::is_inline;
use wire::{
    Cas, Command as Asked, FRAME_BODY_BYTES_MAX, HEADER_BYTES, Loudness, Next, Opcode, Packet, Reject,
    Request, RequestHeader, Response, Split, Status, shape,
};

use crate::ask::{Answer, Ask, NOWHERE};

/// The opcode with which clients wait for a change.
pub const WATCH: Opcode = Opcode(0x77);
/// The status of who may not.
const BUSY: Status = Status::new(0x85);

/// What a request is owed.
#[derive(Debug)]
pub struct Owed {
    /// Its opcode.
    pub opcode: Opcode,
    /// The client's mark.
    pub opaque: u32,
    /// What it comes to.
    pub verdict: Verdict,
    /// Whether it is the last one of its connection.
    pub ending: Ending,
    /// The first so many bytes of the request are enough to answer it.
    pub due_bytes: usize,
    /// Whether its value is received in a mapping of its own, and may be refused before it is there.
    pub value: Size,
    /// How it is worded.
    pub dialect: Dialect,
}

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// memcached's binary protocol.
    Binary,
    /// memcached's text protocol.
    Text,
    /// Redis's protocol.
    Resp,
}

/// What a request comes to.
#[derive(Debug)]
pub enum Verdict {
    /// It is executed.
    Asks(Ask),
    /// An error answers it, and nothing is done.
    Fails(Status),
    /// This answers it, and nothing is done.
    Says(Vec<u8>),
    /// An authentication goes on with a challenge that only the server knows.
    Challenges,
    /// An authentication ends well, and this says so.
    Admits(Vec<u8>),
    /// An authentication ends badly, and this says so.
    Rejects(Vec<u8>),
    /// The connection is closed without a word.
    Silence,
}

/// How a value is received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// With its request.
    Small,
    /// In a mapping of its own, when there is room for it.
    Large,
}

/// Whether anything comes behind a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The next one is served.
    Stay,
    /// The connection is closed.
    Close,
}

/// What a client reads.
#[derive(Debug, PartialEq, Eq)]
pub enum Expected {
    /// Exactly these bytes.
    Packet(Vec<u8>),
    /// A challenge.
    Challenge {
        /// The request's mark.
        opaque: u32,
    },
    /// Packets with figures, and an empty one at the end.
    Statistics {
        /// The request's mark.
        opaque: u32,
    },
}

impl Owed {
    /// What `bytes` are owed, which are one request, whole.
    ///
    /// # Panics
    /// Where they are no whole request.
    #[must_use]
    pub fn of(bytes: &[u8], config: &Config) -> Self {
        match wire::split::<RequestHeader>(bytes, FRAME_BODY_BYTES_MAX) {
            Ok(Split::Whole { packet, rest: [] }) => Self::of_packet(&packet, config),
            Ok(_) => panic!("not one whole request: {}", bytes.escape_ascii()),
            Err(reject) => {
                let opaque = bytes[12..16].first_chunk().expect("four bytes");
                Self::refused(Opcode(bytes[1]), u32::from_be_bytes(*opaque), reject)
            }
        }
    }

    fn of_packet(packet: &Packet<'_, RequestHeader>, config: &Config) -> Self {
        let header = packet.header;
        let (opcode, opaque) = (header.opcode, header.opaque.get());
        if opcode == WATCH && header.body_len.get() > 0 && config.watch == Watch::Allowed {
            return Self::of_watch(packet);
        }
        if let Err(reject) = shape::check(header) {
            return Self::refused(opcode, opaque, reject);
        }
        let request = match Request::parse(packet) {
            Ok(request) if is_served(&request) => request,
            Ok(_) => return Self::refused(opcode, opaque, Reject::UnknownOpcode { opcode }),
            Err(reject) => return Self::refused(opcode, opaque, reject),
        };
        let (key, value) = request.command.key_and_value();
        let head_bytes = HEADER_BYTES + packet.extras.len() + key.len();
        let verdict = verdict(&request.command, config);
        let is_too_large = value.len() > config.item_bytes_max;
        let is_large = !is_too_large && !is_inline(key.len(), value.len(), config.memory_bytes_max);
        Self {
            opcode,
            opaque,
            verdict,
            ending: if request.command == Asked::Quit { Ending::Close } else { Ending::Stay },
            due_bytes: if is_too_large { head_bytes } else { head_bytes + value.len() },
            value: if is_large { Size::Large } else { Size::Small },
            dialect: Dialect::Binary,
        }
    }

    fn of_watch(packet: &Packet<'_, RequestHeader>) -> Self {
        let (opcode, opaque) = (packet.header.opcode, packet.header.opaque.get());
        let owed = |verdict, ending, due_bytes| Self {
            opcode,
            opaque,
            verdict,
            ending,
            due_bytes,
            value: Size::Small,
            dialect: Dialect::Binary,
        };
        let Ok(wait_ms) = packet.extras.try_into().map(u32::from_be_bytes) else {
            return owed(Verdict::Fails(Status::INVALID), Ending::Close, HEADER_BYTES);
        };
        let ask = Ask::new(
            packet.key,
            Command::Watch { known: packet.header.cas.get(), wait_ms, told: Watched::Item },
        );
        owed(Verdict::Asks(ask), Ending::Stay, HEADER_BYTES + packet.extras.len() + packet.key.len())
    }

    fn refused(opcode: Opcode, opaque: u32, reject: Reject) -> Self {
        Self {
            opcode,
            opaque,
            verdict: reject.answer().map_or(Verdict::Silence, Verdict::Fails),
            ending: if reject.next() == Next::Close { Ending::Close } else { Ending::Stay },
            // Another magic is seen on the first byte already.
            due_bytes: if matches!(reject, Reject::BadMagic { .. }) { 1 } else { HEADER_BYTES },
            value: Size::Small,
            dialect: Dialect::Binary,
        }
    }

    /// What the client reads when the request was answered so, `None` where it reads nothing.
    #[must_use]
    pub fn worded(&self, answer: &Answer) -> Option<Expected> {
        let ask = match &self.verdict {
            Verdict::Asks(ask) => ask,
            Verdict::Fails(status) => return Some(self.error(*status)),
            Verdict::Says(says) | Verdict::Admits(says) | Verdict::Rejects(says) => {
                return Some(Expected::Packet(says.clone()));
            }
            Verdict::Challenges => return Some(Expected::Challenge { opaque: self.opaque }),
            Verdict::Silence => return None,
        };
        if self.dialect != Dialect::Binary {
            return Some(Expected::Packet(lines(self.dialect, ask, answer)));
        }
        let is_quiet = self.opcode.loudness() == Loudness::Quiet;
        let is_read = matches!(ask.command, Command::Get | Command::GetAndTouch { .. });
        let success = |cas| Response::empty(self.opcode, Status::OK, self.opaque, Cas::from_wire(cas));
        let key: &[u8] = if echoes_key(self.opcode) { &ask.key } else { &[] };
        Some(match answer {
            Answer::Hit { flags, cas, value } => {
                let extras = &flags.to_be_bytes();
                packet(Response { extras, key, value: &value.0, ..success(*cas) })
            }
            Answer::NotFound if is_read && is_quiet => return None,
            Answer::NotFound if is_read && !key.is_empty() => {
                packet(Response { key, status: Status::NOT_FOUND, ..success(0) })
            }
            Answer::Done | Answer::Stored { .. } | Answer::Counted { .. } if is_quiet => return None,
            Answer::Done if self.opcode == Opcode::STAT => Expected::Statistics { opaque: self.opaque },
            Answer::Done if self.opcode == Opcode::VERSION => {
                packet(Response { value: memwire::VERSION.as_bytes(), ..success(0) })
            }
            Answer::Done => packet(success(0)),
            Answer::Stored { cas } => packet(success(*cas)),
            Answer::Counted { value, cas } => {
                packet(Response { value: &value.to_be_bytes(), ..success(*cas) })
            }
            Answer::Touched { flags, cas } => {
                packet(Response { extras: &flags.to_be_bytes(), ..success(*cas) })
            }
            Answer::Waiting => return None,
            Answer::TooManyWait => {
                let value = b"Too many wait";
                packet(Response { value, status: BUSY, ..success(0) })
            }
            Answer::NotFound => self.error(Status::NOT_FOUND),
            Answer::Exists => self.error(Status::EXISTS),
            Answer::NotStored => self.error(Status::NOT_STORED),
            Answer::NonNumeric => self.error(Status::NON_NUMERIC),
            Answer::Refused(Refusal::TooLarge) => self.error(Status::TOO_LARGE),
            Answer::Refused(Refusal::OutOfMemory) => self.error(Status::OUT_OF_MEMORY),
        })
    }

    /// An error is always sent.
    fn error(&self, status: Status) -> Expected {
        packet(Response::error(self.opcode, status, self.opaque))
    }
}

fn verdict(asked: &Asked<'_>, config: &Config) -> Verdict {
    let (key, value) = asked.key_and_value();
    let key = Bytes::copy_from_slice(key);
    let asks = |command| Verdict::Asks(Ask { key: key.clone(), command, given: None });
    let brings = |command| match command {
        _ if value.len() <= config.item_bytes_max => Verdict::Asks(Ask::new(&key, command).with(value)),
        Command::Store { mode: wire::StoreMode::Set, .. } => asks(too_large(Older::Delete)),
        _ => asks(too_large(Older::Keep)),
    };
    match *asked {
        Asked::Get { .. } => asks(Command::Get),
        Asked::GetAndTouch { expiration, .. } => asks(Command::GetAndTouch { expiration }),
        Asked::Touch { expiration, .. } => asks(Command::Touch { expiration }),
        Asked::Store { mode, flags, expiration, cas, .. } => {
            brings(Command::Store { mode, flags, expiration, cas: cas.map(Cas::get), value: NOWHERE })
        }
        Asked::Concat { side, cas, .. } => {
            brings(Command::Concat { side, cas: cas.map(Cas::get), value: NOWHERE })
        }
        Asked::Delete { cas, .. } => asks(Command::Delete { cas: cas.map(Cas::get) }),
        Asked::Count { direction, delta, on_miss, cas, .. } => {
            asks(Command::Count { direction, delta, on_miss, cas: cas.map(Cas::get) })
        }
        Asked::Flush { at } => asks(Command::Flush { at: at.unwrap_or(wire::Expiration::Never) }),
        Asked::Stat { .. } => {
            Group::parse(&key).map_or(Verdict::Fails(Status::NOT_FOUND), |group| asks(Command::Stats(group)))
        }
        _ => asks(Command::Pass),
    }
}

fn too_large(older: Older) -> Command {
    Command::Unstorable { why: Refusal::TooLarge, older }
}

/// The few answers that clients read who speak another protocol.
fn lines(dialect: Dialect, ask: &Ask, answer: &Answer) -> Vec<u8> {
    let is_text = dialect == Dialect::Text;
    match answer {
        Answer::Hit { flags, value, .. } if is_text => {
            let head = format!("VALUE {} {flags} {}\r\n", ask.key.escape_ascii(), value.0.len());
            [head.as_bytes(), &value.0, b"\r\nEND\r\n"].concat()
        }
        Answer::Hit { value, .. } => {
            [format!("${}\r\n", value.0.len()).as_bytes(), &value.0, b"\r\n"].concat()
        }
        Answer::Stored { .. } => if is_text { "STORED\r\n" } else { "+OK\r\n" }.into(),
        Answer::Done => if is_text { "DELETED\r\n" } else { ":1\r\n" }.into(),
        _ => match (ask.command, is_text) {
            (Command::Get, true) => "END\r\n",
            (Command::Get, false) => "$-1\r\n",
            (_, true) => "NOT_FOUND\r\n",
            (_, false) => ":0\r\n",
        }
        .into(),
    }
}

/// SASL is off, and VERBOSITY is what memcached does not know either.
fn is_served(request: &Request<'_>) -> bool {
    !matches!(
        request.command,
        Asked::Verbosity { .. } | Asked::SaslListMechs | Asked::SaslAuth { .. } | Asked::SaslStep { .. }
    )
}

fn echoes_key(opcode: Opcode) -> bool {
    [Opcode::GETK, Opcode::GETKQ, Opcode::GATK, Opcode::GATKQ].contains(&opcode)
}

fn packet(response: Response<'_>) -> Expected {
    let mut bytes = Vec::new();
    response.append_to(&mut bytes);
    Expected::Packet(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client had sent one byte of such a request when its connection was closed, and the run was called a failure.
    #[test]
    fn another_magic_is_seen_on_the_first_byte() {
        let request = [0x81; HEADER_BYTES];
        let owed = Owed::of(&request, &Config::default());
        assert!(matches!(owed.verdict, Verdict::Silence));
        assert_eq!((owed.due_bytes, owed.ending), (1, Ending::Close));
    }
}

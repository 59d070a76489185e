//! How a request is written and an answer is read. Everything else in the generator is the same for every protocol.

use wire::{
    Command, Expiration, FRAME_BODY_BYTES_MAX, Header, KEY_BYTES_MAX, Key, KeyEcho, Loudness, Opcode, Packet,
    Request, Response, ResponseHeader, Split, Status, StoreMode, split,
};

/// A request, apart from its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    Get,
    /// A get whose miss is not answered, and whose hit holds the key.
    QuietGet,
    Set {
        generation: u32,
    },
    /// What is answered when everything before it is.
    Fence,
}

/// A protocol.
pub(crate) trait Syntax: Copy + Send + Sync {
    /// Appends a request. `value` is that of a SET.
    fn write(self, ask: Ask, key: &[u8], value: &[u8], opaque: u32, output: &mut Vec<u8>);

    /// Reads what stands before the value in the answer at the front of `input`; `None` where it is not all there.
    ///
    /// # Errors
    /// What makes the stream unreadable from here on.
    fn read(self, input: &[u8]) -> Result<Option<Answer<'_>>, String>;
}

/// The head of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer<'a> {
    /// Which request is answered; `None` in a protocol that answers each, in their order.
    pub(crate) opaque: Option<u32>,
    pub(crate) outcome: Outcome,
    /// The key, where the answer holds it.
    pub(crate) key: Option<&'a [u8]>,
    /// Bytes before the value.
    pub(crate) head_bytes: usize,
    /// Bytes of the value, or of an error's text.
    pub(crate) value_bytes: usize,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Hit {
        flags: u32,
    },
    Miss,
    Stored,
    Fenced,
    /// Something else, in words.
    Refused(String),
}

/// memcached's binary protocol.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Binary;

impl Syntax for Binary {
    #[inline]
    fn write(self, ask: Ask, key: &[u8], value: &[u8], opaque: u32, output: &mut Vec<u8>) {
        let Ok(key) = Key::new(key) else { return };
        let (loudness, command) = match ask {
            Ask::Get => {
                let echo = KeyEcho::Without;
                (Loudness::Loud, Command::Get { key, echo })
            }
            Ask::QuietGet => {
                let echo = KeyEcho::With;
                (Loudness::Quiet, Command::Get { key, echo })
            }
            Ask::Set { generation } => (Loudness::Loud, store(key, value, generation)),
            Ask::Fence => (Loudness::Loud, Command::Noop),
        };
        let request = Request { opaque, loudness, command };
        request.append_to(output);
    }

    #[inline]
    fn read(self, input: &[u8]) -> Result<Option<Answer<'_>>, String> {
        let packet = match split::<ResponseHeader>(input, FRAME_BODY_BYTES_MAX) {
            Ok(Split::Whole { packet, .. }) => packet,
            Ok(Split::Body { header, body, .. }) => Packet::carve(header, body),
            Ok(Split::Head { .. }) => return Ok(None),
            Err(reject) => return Err(format!("unreadable answer: {reject}")),
        };
        let (extras_len, key_len) = (packet.header.extras_len(), packet.header.key_len());
        let (extras_len, key_len) = (usize::from(extras_len), usize::from(key_len));
        if key_len > KEY_BYTES_MAX {
            return Err(format!("answer with a key of {key_len} bytes, limit is {KEY_BYTES_MAX}"));
        }
        if packet.extras.len() < extras_len || packet.key.len() < key_len {
            return Ok(None);
        }
        let response = Response::parse(&packet);
        Ok(Some(Answer {
            opaque: Some(response.opaque),
            outcome: outcome_of(&response),
            key: (!response.key.is_empty()).then_some(response.key),
            head_bytes: wire::HEADER_BYTES + extras_len + key_len,
            value_bytes: packet.value_len(),
        }))
    }
}

fn store<'a>(key: Key<'a>, value: &'a [u8], flags: u32) -> Command<'a> {
    Command::Store { mode: StoreMode::Set, key, value, flags, expiration: Expiration::Never, cas: None }
}

#[inline]
fn outcome_of(response: &Response<'_>) -> Outcome {
    match (response.opcode, response.status) {
        (Opcode::GET | Opcode::GETKQ, Status::OK) => match response.flags() {
            Some(flags) => Outcome::Hit { flags },
            None => Outcome::Refused(format!("a hit with {} bytes of flags", response.extras.len())),
        },
        (Opcode::GET, Status::NOT_FOUND) => Outcome::Miss,
        (Opcode::SET, Status::OK) => Outcome::Stored,
        (Opcode::NOOP, Status::OK) => Outcome::Fenced,
        (opcode, status) => Outcome::Refused(format!("{opcode}: {status}")),
    }
}

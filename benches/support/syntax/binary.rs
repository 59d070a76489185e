//! memcached's binary protocol. A batch is GETKQs and a NOOP, as libmemcached sends it.

use wire::header::{REQUEST_MAGIC, RESPONSE_MAGIC};
use wire::{HEADER_BYTES, Opcode, RequestHeader, ResponseHeader, Status};
use zerocopy::byteorder::network_endian::{U16, U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use super::{Answer, Ask, FenceAt, Outcome, Syntax, Words};
use crate::items::KEY_BYTES;

/// The binary protocol.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Binary;

/// A hit has these: its flags.
const FLAGS_BYTES: usize = 4;

/// A SET has these: flags and expiration.
const SET_EXTRAS_BYTES: usize = 8;

impl Syntax for Binary {
    #[inline]
    fn has_flags(self) -> bool {
        true
    }

    #[inline]
    fn fence(self) -> FenceAt {
        FenceAt::Back
    }

    #[inline]
    fn begin_batch(self, _: u32, _: &mut Vec<u8>) {}

    #[inline]
    fn end_batch(self, opaque: u32, output: &mut Vec<u8>) {
        output.extend_from_slice(head(Opcode::NOOP, 0, 0, 0, opaque).as_bytes());
    }

    #[inline]
    fn write(self, ask: Ask, key: &[u8; KEY_BYTES], value: &[u8], opaque: u32, output: &mut Vec<u8>) {
        match ask {
            Ask::Get => push_get(Opcode::GET, key, opaque, output),
            Ask::QuietGet => push_get(Opcode::GETKQ, key, opaque, output),
            Ask::Set { generation } => {
                let mut start = [0; HEADER_BYTES + SET_EXTRAS_BYTES + KEY_BYTES];
                let header = head(Opcode::SET, KEY_BYTES, SET_EXTRAS_BYTES, value.len(), opaque);
                start[..HEADER_BYTES].copy_from_slice(header.as_bytes());
                start[HEADER_BYTES..HEADER_BYTES + 4].copy_from_slice(&generation.to_be_bytes());
                start[HEADER_BYTES + SET_EXTRAS_BYTES..].copy_from_slice(key);
                output.extend_from_slice(&start);
                output.extend_from_slice(value);
            }
            Ask::Fence { .. } => {}
        }
    }

    #[inline]
    fn read(self, input: &[u8], ask: Ask) -> Result<Option<Answer<'_>>, String> {
        let Ok((header, body)) = ResponseHeader::ref_from_prefix(input) else { return Ok(None) };
        if header.magic != RESPONSE_MAGIC {
            return Err(format!("unreadable answer: magic {:#04x}", header.magic));
        }
        let (extras_len, key_len) = (usize::from(header.extras_len), usize::from(header.key_len.get()));
        let Some(value_bytes) = (header.body_len.get() as usize).checked_sub(extras_len + key_len) else {
            return Err(format!("unreadable answer: {header:?}"));
        };
        let Some((extras, behind)) = body.split_at_checked(extras_len) else { return Ok(None) };
        let Some(key) = behind.get(..key_len) else { return Ok(None) };
        let flags = <[u8; FLAGS_BYTES]>::try_from(extras).ok().map(u32::from_be_bytes);
        Ok(Some(Answer {
            opaque: Some(header.opaque.get()),
            outcome: outcome(ask, header, flags),
            key: (key_len > 0).then_some(key),
            head_bytes: HEADER_BYTES + extras_len + key_len,
            value_bytes,
            tail: &[],
        }))
    }
}

#[inline]
fn head(opcode: Opcode, key_len: usize, extras_len: usize, value_len: usize, opaque: u32) -> RequestHeader {
    RequestHeader {
        magic: REQUEST_MAGIC,
        opcode,
        key_len: U16::new(key_len as u16),
        extras_len: extras_len as u8,
        data_type: 0,
        vbucket: U16::ZERO,
        body_len: U32::new((extras_len + key_len + value_len) as u32),
        opaque: U32::new(opaque),
        cas: U64::ZERO,
    }
}

#[inline]
fn push_get(opcode: Opcode, key: &[u8; KEY_BYTES], opaque: u32, output: &mut Vec<u8>) {
    let mut request = [0; HEADER_BYTES + KEY_BYTES];
    request[..HEADER_BYTES].copy_from_slice(head(opcode, KEY_BYTES, 0, 0, opaque).as_bytes());
    request[HEADER_BYTES..].copy_from_slice(key);
    output.extend_from_slice(&request);
}

/// A hit has flags, and the key where one was asked for; nothing else has a key.
#[inline]
fn outcome(ask: Ask, header: &ResponseHeader, flags: Option<u32>) -> Outcome<'static> {
    let (opcode, status) = (header.opcode, header.status);
    let has_key = header.key_len.get() > 0;
    let refused = Outcome::Refused(Words::Packet { opcode, status });
    match (ask, flags) {
        (Ask::Get, Some(flags)) if opcode == Opcode::GET && status == Status::OK && !has_key => {
            Outcome::Hit { flags }
        }
        (Ask::QuietGet, Some(flags)) if opcode == Opcode::GETKQ && status == Status::OK && has_key => {
            Outcome::Hit { flags }
        }
        (_, Some(_)) => refused,
        _ if has_key => refused,
        (Ask::Set { .. }, None) if opcode == Opcode::SET && status == Status::OK => Outcome::Stored,
        (Ask::Get, None) if opcode == Opcode::GET && status == Status::NOT_FOUND => Outcome::Miss,
        (Ask::QuietGet | Ask::Fence { .. }, None) if opcode == Opcode::NOOP && status == Status::OK => {
            Outcome::Fenced
        }
        _ => refused,
    }
}

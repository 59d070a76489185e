//! Packets as they stand on the wire, put together by hand, and what a session needs to read them.

use memwire::clock::Clock;
use memwire::config::{Config, Protocol};
use memwire::message::Batch;
use memwire::server::Server;

/// The client's mark in all packets.
pub(crate) const OPAQUE: u32 = 0xdead_beef;

/// The longest value that the server takes.
pub(crate) const ITEM_BYTES_MAX: usize = 16 << 10;

/// The longest value that is not read into a block of its own.
pub(crate) const INLINE_BYTES_MAX: usize = 8 << 10;

/// A server whose values are large from 8 KiB, and too large above 16 KiB.
/// One that takes whatever comes for binary.
pub(crate) fn server() -> Server {
    server_with(Config { protocol: Protocol::Binary, ..Config::default() })
}

pub(crate) fn server_with(config: Config) -> Server {
    let config = Config { memory_bytes_max: 1 << 20, item_bytes_max: ITEM_BYTES_MAX, ..config };
    Server::new(config, Clock::start(), 7)
}

pub(crate) fn batch() -> Batch {
    Batch::default()
}

/// A request's header, its lengths as they are given.
pub(crate) fn head(opcode: u8, key_len: u16, extras_len: u8, body_len: u32, cas: u64) -> Vec<u8> {
    let mut head = vec![0x80, opcode];
    head.extend(key_len.to_be_bytes());
    head.extend([extras_len, 0, 0, 0]);
    head.extend(body_len.to_be_bytes());
    head.extend(OPAQUE.to_be_bytes());
    head.extend(cas.to_be_bytes());
    head
}

/// A request.
pub(crate) fn request(opcode: u8, extras: &[u8], key: &[u8], value: &[u8], cas: u64) -> Vec<u8> {
    let body_len = extras.len() + key.len() + value.len();
    let head = head(opcode, key.len() as u16, extras.len() as u8, body_len as u32, cas);
    [&head[..], extras, key, value].concat()
}

/// A request of the shape that its opcode must have.
pub(crate) fn legal(opcode: u8, key: &[u8], value: &[u8], cas: u64) -> Vec<u8> {
    match opcode {
        0x01..=0x03 | 0x11..=0x13 => request(opcode, &[0, 0, 0, 9, 0, 0, 0, 60], key, value, cas),
        0x05 | 0x06 | 0x15 | 0x16 => request(opcode, &[1; 20], key, b"", cas),
        0x0e | 0x0f | 0x19 | 0x1a => request(opcode, b"", key, value, cas),
        0x1c | 0x1d | 0x1e | 0x23 | 0x24 => request(opcode, &[0, 0, 0, 60], key, b"", cas),
        0x07 | 0x08 | 0x0a | 0x0b | 0x17 | 0x18 | 0x20 => request(opcode, b"", b"", b"", cas),
        0x21 | 0x22 => request(opcode, b"", key, value, cas),
        _ => request(opcode, b"", key, b"", cas),
    }
}

/// A response.
pub(crate) fn response(
    opcode: u8,
    status: u16,
    cas: u64,
    extras: &[u8],
    key: &[u8],
    value: &[u8],
) -> Vec<u8> {
    let mut response = vec![0x81, opcode];
    response.extend((key.len() as u16).to_be_bytes());
    response.extend([extras.len() as u8, 0]);
    response.extend(status.to_be_bytes());
    response.extend(((extras.len() + key.len() + value.len()) as u32).to_be_bytes());
    response.extend(OPAQUE.to_be_bytes());
    response.extend(cas.to_be_bytes());
    [&response[..], extras, key, value].concat()
}

/// An error with its text.
pub(crate) fn error(opcode: u8, status: u16) -> Vec<u8> {
    let text: &[u8] = match status {
        0x01 => b"Not found",
        0x02 => b"Data exists for key.",
        0x03 => b"Too large.",
        0x04 => b"Invalid arguments",
        0x05 => b"Not stored.",
        0x06 => b"Non-numeric server-side value for incr or decr",
        0x20 => b"Auth failure.",
        0x81 => b"Unknown command",
        0x82 => b"Out of memory allocating item",
        other => panic!("no text for {other:#x}"),
    };
    response(opcode, status, 0, b"", b"", text)
}

//! `lru_crawler metadump` and `mgdump`: all items, page by page.

use crate::message::{Batch, Command, Op, Reply, ScannedItem};
use crate::server::Server;
use crate::session::Output;
use crate::session::number::push_number;
use crate::session::text::base64;
use crate::session::text::note::{Kind, Note, Saying, Traits};
use crate::session::text::render::len;
use crate::storage::counter::Digits;

/// Items of a page, about.
const ITEMS_PER_PAGE: u32 = 128;

/// A page of a dump that is still to be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Page {
    kind: Kind,
    cursor: u64,
}

impl Page {
    /// The first page of what is known of each item.
    pub(super) const METADUMP: Self = Self { kind: Kind::METADUMP, cursor: 0 };
    /// The first page of requests for each item.
    pub(super) const MGDUMP: Self = Self { kind: Kind::MGDUMP, cursor: 0 };

    /// The page that an operation asks for.
    pub(super) fn of(op: &Op) -> Option<Self> {
        match op.command {
            Command::Scan { cursor, .. } => Some(Self { kind: Note::of_tag(op.tag).kind, cursor }),
            _ => None,
        }
    }

    /// The operation that asks for it.
    pub(super) fn op(self, at: usize) -> Op {
        let command = Command::Scan { cursor: self.cursor, count: ITEMS_PER_PAGE };
        Note::new(self.kind, Traits::NONE).op(command, at)
    }
}

/// Words a page, and says which one comes next. Behind the last one stands the end.
pub(super) fn page(
    page: Page,
    reply: &Reply,
    batch: &Batch,
    server: &Server,
    output: &mut Output,
) -> Option<Page> {
    let Reply::Scanned(scanned) = reply else {
        output.bytes().extend_from_slice(b"SERVER_ERROR out of memory\r\n");
        return None;
    };
    for item in &scanned.items {
        let key = batch.values.get(item.key.range()).unwrap_or_default();
        if page.kind == Kind::METADUMP {
            tell(item, key, server, output.bytes());
        } else {
            request(key, output.bytes());
        }
    }
    if scanned.next != 0 {
        return Some(Page { cursor: scanned.next, ..page });
    }
    let end = if page.kind == Kind::METADUMP { Saying::End.text() } else { b"EN\r\n" };
    output.bytes().extend_from_slice(end);
    None
}

/// A line of `metadump`. Each ends with a newline alone, as in memcached.
fn tell(item: &ScannedItem, key: &[u8], server: &Server, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(b"key=");
    uri_encode(key, bytes);
    bytes.extend_from_slice(b" exp=");
    match item.expiration {
        0 => bytes.extend_from_slice(b"-1"),
        time => bytes.extend_from_slice(Digits::of(u64::from(time)).as_bytes()),
    }
    bytes.extend_from_slice(b" la");
    push_number(b'=', u64::from(item.since), bytes);
    bytes.extend_from_slice(b" cas");
    push_number(b'=', if server.config.cas_enabled() { item.cas } else { 0 }, bytes);
    let fetched: &[u8] = if item.fetched { b" fetch=yes" } else { b" fetch=no" };
    bytes.extend_from_slice(fetched);
    bytes.extend_from_slice(b" cls=1 size");
    push_number(b'=', len(item.item_bytes), bytes);
    bytes.push(b'\n');
}

/// A line of `mgdump`: a request that asks for the item.
fn request(key: &[u8], bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(b"mg ");
    if key.iter().all(u8::is_ascii_graphic) {
        bytes.extend_from_slice(key);
    } else {
        base64::encode(key, bytes);
        bytes.extend_from_slice(b" b");
    }
    bytes.extend_from_slice(b"\r\n");
}

/// RFC 3986: what is not unreserved stands as `%` and two digits.
fn uri_encode(key: &[u8], bytes: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in key {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            bytes.push(byte);
        } else {
            let digit = |bits: u8| DIGITS.get(usize::from(bits)).copied().unwrap_or(b'0');
            bytes.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_so_that_they_fit_into_a_line() {
        let (mut encoded, mut asked) = (Vec::new(), Vec::new());
        uri_encode(b"a-z.0_~ %\n\xff", &mut encoded);
        assert_eq!(encoded, b"a-z.0_~%20%25%0A%FF");
        request(b"a:%b", &mut asked);
        request(b"a b", &mut asked);
        assert_eq!(asked, b"mg a:%b\r\nmg YSBi b\r\n");
    }
}

//! Keys that nobody has named: SCAN, RANDOMKEY, and KEYS.
//!
//! KEYS tells how many there are before it tells them, so they are collected first, page by page. That takes memory for
//! all of them at once: no more than a few MiB, and none where clients hold too much already.

use std::sync::Arc;

use crate::message::{Batch, Command, KeyHash, Op, ScanPage, ScannedItem, Span};
use crate::meter::{Charge, Crowding, Meter, Use};
use crate::server::Server;
use crate::session::resp::commands::{self, ScanRequest, Word};
use crate::session::resp::frame::Args;
use crate::session::resp::glob;
use crate::session::resp::render::Writer;
use crate::session::resp::{Note, Resp};
use crate::storage::counter::Digits;
use crate::storage::scan::SCAN_ITEMS_MAX;

/// Bytes of the keys that one KEYS collects, their lengths included.
const LISTING_BYTES_MAX: usize = 4 << 20;

/// KEYS, as far as it has come.
#[derive(Debug)]
pub(super) struct Listing {
    pattern: Box<[u8]>,
    cursor: u64,
    count: u32,
    /// The answer, without its head.
    keys: Vec<u8>,
    charge: Charge,
}

impl Listing {
    fn new(pattern: &[u8], meter: &Arc<Meter>) -> Self {
        let charge = Charge::new(meter, Use::Waiting);
        Self { pattern: pattern.into(), cursor: 0, count: 0, keys: Vec::new(), charge }
    }

    /// The operation that asks for the next page.
    pub(super) fn op(&self, starts_at: u32) -> Op {
        let number = commands::find(b"keys").map_or(u8::MAX, |(number, _)| number);
        Op {
            command: Command::Scan { cursor: self.cursor, count: SCAN_ITEMS_MAX },
            key: Span::default(),
            hash: KeyHash(0),
            starts_at,
            tag: Note::of_row(number).to_tag(),
        }
    }

    /// Takes what matches of a page. Says whether there was room for it.
    fn take(&mut self, page: &ScanPage, batch: &Batch, server: &Server) -> bool {
        for item in &page.items {
            let key = key(item, batch);
            if glob::matches(&self.pattern, key) {
                self.count = self.count.saturating_add(1);
                self.keys.push(b'$');
                let len = u64::try_from(key.len()).unwrap_or(0);
                self.keys.extend_from_slice(Digits::of(len).as_bytes());
                self.keys.extend_from_slice(b"\r\n");
                self.keys.extend_from_slice(key);
                self.keys.extend_from_slice(b"\r\n");
            }
        }
        self.charge.set(self.keys.capacity());
        self.cursor = page.next;
        let is_little = self.keys.len() <= LISTING_BYTES_MAX / 64;
        self.keys.len() <= LISTING_BYTES_MAX && (is_little || server.meter.crowding() == Crowding::Ample)
    }
}

/// Answers with the keys of a page, or goes on collecting.
pub(super) fn render(
    resp: &mut Resp,
    word: Word,
    op: &Op,
    page: &ScanPage,
    batch: &Batch,
    server: &Server,
    writer: &mut Writer<'_>,
) {
    match word {
        Word::Scan => scan(op, page, batch, writer),
        Word::RandomKey => match page.items.first() {
            Some(item) => writer.bulk(key(item, batch)),
            None => writer.null(),
        },
        _ => keys(resp, op, page, batch, server, writer),
    }
}

fn scan(op: &Op, page: &ScanPage, batch: &Batch, writer: &mut Writer<'_>) {
    let args = Args::of(batch.input.filled(), op.starts_at);
    let asked = ScanRequest::parse(&args).ok();
    let is_wanted = |item: &&ScannedItem| {
        asked.as_ref().is_some_and(|scan| {
            scan.wants_strings && scan.pattern.is_none_or(|pattern| glob::matches(pattern, key(item, batch)))
        })
    };
    writer.array(2);
    writer.bulk(Digits::of(page.next).as_bytes());
    let count = page.items.iter().filter(is_wanted).count();
    writer.array(u32::try_from(count).unwrap_or(u32::MAX));
    for item in page.items.iter().filter(is_wanted) {
        writer.bulk(key(item, batch));
    }
}

fn keys(resp: &mut Resp, op: &Op, page: &ScanPage, batch: &Batch, server: &Server, writer: &mut Writer<'_>) {
    let mut listing = resp.listing.take().unwrap_or_else(|| {
        let args = Args::of(batch.input.filled(), op.starts_at);
        Box::new(Listing::new(args.get(1), &server.meter))
    });
    if !listing.take(page, batch, server) {
        return writer.error("ERR too many keys match, use SCAN");
    }
    if listing.cursor > 0 {
        resp.listing = Some(listing);
        return;
    }
    writer.array(listing.count);
    writer.output.bytes().extend_from_slice(&listing.keys);
}

fn key<'a>(item: &ScannedItem, batch: &'a Batch) -> &'a [u8] {
    batch.values.get(item.key.range()).unwrap_or_default()
}

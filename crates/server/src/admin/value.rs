//! Values on their way in and out. Both are charged: what a client is slow to send or to take counts as memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::RETRY_AFTER;
use tokio::time::timeout;

use super::Shared;
use super::answer::Refused;
use crate::limits::{HTTP_STALL_MS, RESERVE_BYTES};
use crate::message::{Batch, Command, Payload, Refusal, Reply, Span, Value};
use crate::meter::{Charge, Meter, Use};
use crate::server::{Place, Receiving};
use crate::storage::block::Block;
use crate::storage::log::is_inline;

/// A value that has arrived.
pub(super) struct Received {
    pub(super) batch: Box<Batch>,
    pub(super) payload: Payload,
    /// Until it is stored.
    pub(super) held: (Place, Charge),
}

/// Why it has not.
pub(super) enum Failed {
    /// For want of memory.
    NoMemory,
    /// For something else.
    Refused(Refused),
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// Reads a value of `len` bytes for a key of `key_len`: a large one into a mapping, for which there is room made first.
pub(super) async fn receive(
    mut body: Incoming,
    len: usize,
    key_len: usize,
    shared: &Shared,
) -> Result<Received, Failed> {
    let server = &shared.server;
    let mut batch = Box::<Batch>::default();
    if is_inline(key_len, len, server.config.memory_bytes_max) {
        let place = enter(&server.unfinished, len)?;
        let charge = Charge::of(len, &server.meter, Use::Arriving);
        while let Some(bytes) = next(&mut body).await? {
            batch.input.extend(&bytes);
        }
        let payload = Payload::Inline(Span::new(0, batch.input.len()));
        return Ok(Received { batch, payload, held: (place, charge) });
    }
    let place = enter(&server.receiving, len)?;
    let mut block = Block::unreserved(len, &server.meter).map_err(|_| Failed::NoMemory)?;
    while let Some(mut bytes) = next(&mut body).await? {
        while bytes.has_remaining() {
            if block.reserve_left() == 0 {
                reserve(&mut block, shared).await?;
            }
            let filled = block.extend(&bytes);
            bytes.advance(filled);
        }
    }
    let payload = Payload::Large(batch.push_large(block.freeze()));
    Ok(Received { batch, payload, held: (place, Charge::default()) })
}

fn enter(receiving: &Arc<Receiving>, bytes: usize) -> Result<Place, Refused> {
    receiving.enter(bytes).ok_or_else(|| {
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, "too much is being received already")
            .with(RETRY_AFTER, "1")
    })
}

/// Some bytes of a body, `None` at its end. hyper sees to it that there are as many as were announced.
async fn next(body: &mut Incoming) -> Result<Option<Bytes>, Refused> {
    loop {
        let frame = timeout(Duration::from_millis(HTTP_STALL_MS), body.frame())
            .await
            .map_err(|_| Refused::new(StatusCode::REQUEST_TIMEOUT, "the value does not arrive"))?;
        let Some(frame) = frame else { return Ok(None) };
        let frame = frame.map_err(|error| Refused::bad(format!("the value does not arrive: {error}")))?;
        if let Ok(bytes) = frame.into_data() {
            return Ok(Some(bytes));
        }
    }
}

/// Charges the next step of a large value, and has room made for it.
async fn reserve(block: &mut Block, shared: &Shared) -> Result<(), Failed> {
    let bytes = block.reserve(RESERVE_BYTES);
    if block.reserve_left() == 0 {
        return Err(Refused::bad("the value is longer than announced").into());
    }
    if shared.server.meter.take_room(bytes) {
        return Ok(());
    }
    let asked = shared.desk.ask(&shared.server, Box::default(), Command::Reserve { bytes }, b"").await;
    match asked.map_err(Refused::from)?.reply {
        Reply::Refused(Refusal::OutOfMemory | Refusal::TooLarge) => Err(Failed::NoMemory),
        _ => Ok(()),
    }
}

/// The value of an answer. A large one is sent from where it is stored; a client that is slow to take another one must
/// not hold a segment.
pub(super) fn answered(batch: &Batch, value: Value, meter: &Arc<Meter>) -> Bytes {
    match value {
        Value::Large(at) => batch.large[at as usize].clone(),
        Value::Lent(at) => copied(&batch.lent[at as usize], meter),
        Value::Copied(span) => copied(&batch.values[span.range()], meter),
    }
}

fn copied(value: &[u8], meter: &Arc<Meter>) -> Bytes {
    let charge = Charge::of(value.len(), meter, Use::Waiting);
    Bytes::from_owner(Waiting { value: value.into(), _charge: charge })
}

struct Waiting {
    value: Box<[u8]>,
    _charge: Charge,
}

impl AsRef<[u8]> for Waiting {
    fn as_ref(&self) -> &[u8] {
        &self.value
    }
}

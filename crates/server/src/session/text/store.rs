//! Requests with a value behind their line.

use bytes::Bytes;

use crate::message::{Batch, Command, Meta, MetaStore, Older, Op, Payload, Refusal, Span};
use crate::server::Server;
use crate::session::Next;
use crate::session::text::line::Front;
use crate::session::text::note::{Note, Saying, Traits};
use crate::session::text::{Asked, Place, Request, Step, meta};
use crate::storage::log::is_inline;

/// What stands behind a value.
const END: &[u8] = b"\r\n";

/// A request that waits for its value.
#[derive(Debug)]
pub(super) struct Storing {
    /// Its operation, in which the value is still to be put.
    pub(super) op: Op,
    /// What else it asks for.
    pub(super) meta: Option<MetaStore>,
    /// Bytes of the value.
    pub(super) value_len: usize,
    /// What becomes of an older value where this one cannot be stored.
    pub(super) older: Older,
    /// Whether its key is still to be decoded.
    pub(super) decodes_key: bool,
    /// Whether its client is told that the value does not end as it should.
    pub(super) tells_bad_data: Told,
}

/// Whether a client is told something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Always,
    UnlessQuiet,
}

/// Takes the value that stands behind the line, as far as it is there.
#[inline]
pub(super) fn take_value(storing: Storing, request: Request<'_>, asked: &mut Asked<'_>) -> Step {
    let Request { line, place, server } = request;
    let value_len = storing.value_len;
    let value_bytes = value_len.saturating_add(END.len());
    let bytes = line.bytes.saturating_add(value_bytes);
    if value_len > server.config.item_bytes_max {
        storing.refuse(Refusal::TooLarge, asked);
        return Step::Done { bytes };
    }
    let key_len = storing.op.key.range().len();
    if !is_inline(key_len, value_len, server.config.memory_bytes_max) {
        return Step::Incomplete(Next::ReadLarge { head_bytes: line.bytes, value_bytes });
    }
    let Some(value) = place.rest.get(line.bytes..bytes) else {
        return Step::Incomplete(Next::Read { missing: bytes.saturating_sub(place.rest.len()) });
    };
    if !value.ends_with(END) {
        return request.with_bytes(value_bytes).say_unless(storing.hides_bad_data(), Saying::BadData, asked);
    }
    let value = Span::new(place.at.saturating_add(line.bytes), value_len);
    storing.take(Payload::Inline(value), asked);
    Step::Done { bytes }
}

/// See [`Session::finish_large`](crate::session::Session::finish_large). The block holds what ends the value as well.
pub(in crate::session) fn finish_large(batch: &mut Batch, head: Span, large: u32, server: &Server) {
    let Some(block) = usize::try_from(large).ok().and_then(|at| batch.large.get_mut(at)) else { return };
    let ends_well = block.ends_with(END);
    *block = if ends_well { block.slice(..block.len().saturating_sub(END.len())) } else { Bytes::new() };
    with_head(batch, head, server, |storing, asked| {
        if ends_well {
            storing.take(Payload::Large(large), asked);
        } else if !storing.hides_bad_data() {
            asked.ops.push(Note::says(Saying::BadData).op(Command::Pass, head.range().start));
        }
    });
}

/// See [`Session::refuse_large`](crate::session::Session::refuse_large).
pub(in crate::session) fn refuse_large(batch: &mut Batch, head: Span, server: &Server) {
    with_head(batch, head, server, |storing, asked| storing.refuse(Refusal::OutOfMemory, asked));
}

/// Has something done about the request whose line is `head` in the batch's input.
fn with_head(batch: &mut Batch, head: Span, server: &Server, done: impl FnOnce(Storing, &mut Asked<'_>)) {
    let rest = batch.input.filled().get(head.range()).unwrap_or_default();
    let Front::Line(line) = Front::of(rest) else { return };
    let place = Place { rest, at: head.range().start };
    let Some(storing) = (Request { line, place, server }).storing() else { return };
    let mut asked = Asked { ops: &mut batch.ops, meta: &mut batch.meta, decodes_key: false };
    done(storing, &mut asked);
    if asked.decodes_key {
        meta::decode_last_key(batch, server);
    }
}

impl Storing {
    #[inline]
    fn take(self, value: Payload, asked: &mut Asked<'_>) {
        let command = match (self.op.command, self.meta) {
            (_, Some(meta)) => Command::MetaStore { options: asked.options(Meta::Store(meta)), value },
            (Command::Store { mode, flags, expiration, cas, .. }, None) => {
                Command::Store { mode, flags, expiration, cas, value }
            }
            (Command::Concat { side, cas, .. }, None) => Command::Concat { side, cas, value },
            (other, None) => other,
        };
        asked.ops.push(Op { command, ..self.op });
        asked.decodes_key = self.decodes_key;
    }

    fn refuse(self, why: Refusal, asked: &mut Asked<'_>) {
        asked.ops.push(Op { command: Command::Unstorable { why, older: self.older }, ..self.op });
        asked.decodes_key = self.decodes_key;
    }

    fn hides_bad_data(&self) -> bool {
        self.tells_bad_data == Told::UnlessQuiet && Note::of_tag(self.op.tag).traits.has(Traits::QUIET)
    }
}

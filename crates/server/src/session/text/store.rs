//! Requests with a value behind their line.

use bytes::Bytes;

use crate::message::{Batch, Command, Older, Op, Payload, Refusal, Span};
use crate::server::Server;
use crate::session::Next;
use crate::session::text::line::{Front, Line};
use crate::session::text::note::{Note, Saying, Traits};
use crate::session::text::{Place, Step, classic, say_unless, with_value};
use crate::storage::log::is_inline;

/// What stands behind a value.
const END: &[u8] = b"\r\n";

/// A request that waits for its value.
#[derive(Debug)]
pub(super) struct Storing {
    /// Its operation, in which the value is still to be put.
    pub(super) op: Op,
    /// Bytes of the value.
    pub(super) value_len: usize,
    /// What becomes of an older value where this one cannot be stored.
    pub(super) older: Older,
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
pub(super) fn take_value(
    storing: Storing,
    line: Line<'_>,
    place: Place<'_>,
    ops: &mut Vec<Op>,
    server: &Server,
) -> Step {
    let value_len = storing.value_len;
    let value_bytes = value_len.saturating_add(END.len());
    let bytes = line.bytes.saturating_add(value_bytes);
    if value_len > server.config.item_bytes_max {
        ops.push(storing.refused(Refusal::TooLarge));
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
        let here = Line { bytes, ..line };
        return say_unless(storing.hides_bad_data(), Saying::BadData, here, place, ops);
    }
    let value = Span::new(place.at.saturating_add(line.bytes), value_len);
    ops.push(storing.with_value(Payload::Inline(value)));
    Step::Done { bytes }
}

/// See [`Session::finish_large`](crate::session::Session::finish_large). The block holds what ends the value as well.
pub(super) fn finish_large(batch: &mut Batch, head: Span, large: u32, server: &Server) {
    let Some(storing) = storing(batch, head, server) else { return };
    let block = usize::try_from(large).ok().and_then(|at| batch.large.get_mut(at));
    if let Some(block) = block
        && block.ends_with(END)
    {
        *block = block.slice(..block.len().saturating_sub(END.len()));
        batch.ops.push(storing.with_value(Payload::Large(large)));
        return;
    }
    let starts_at = head.range().start;
    let is_hidden = storing.hides_bad_data();
    if let Some(block) = usize::try_from(large).ok().and_then(|at| batch.large.get_mut(at)) {
        *block = Bytes::new();
    }
    if !is_hidden {
        batch.ops.push(Note::says(Saying::BadData).op(Command::Pass, starts_at));
    }
}

/// See [`Session::refuse_large`](crate::session::Session::refuse_large).
pub(super) fn refuse_large(batch: &mut Batch, head: Span, server: &Server) {
    if let Some(storing) = storing(batch, head, server) {
        batch.ops.push(storing.refused(Refusal::OutOfMemory));
    }
}

/// The request whose line is `head` in the batch's input.
fn storing(batch: &Batch, head: Span, server: &Server) -> Option<Storing> {
    let rest = batch.input.filled().get(head.range())?;
    let Front::Line(line) = Front::of(rest) else { return None };
    classic::storing(line, Place { rest, at: head.range().start }, server)
}

impl Storing {
    fn with_value(self, value: Payload) -> Op {
        Op { command: with_value(self.op.command, value), ..self.op }
    }

    fn refused(self, why: Refusal) -> Op {
        Op { command: Command::Unstorable { why, older: self.older }, ..self.op }
    }

    fn hides_bad_data(&self) -> bool {
        self.tells_bad_data == Told::UnlessQuiet && Note::of_tag(self.op.tag).traits.has(Traits::QUIET)
    }
}

//! SASL, and what else a client may ask for before it has authenticated.

use wire::{FRAME_BODY_BYTES_MAX, Opcode, RequestHeader, Response, Split, Status};

use crate::auth::sasl::{Answer, Exchange};
use crate::auth::{Access, Verdict};
use crate::message::{Batch, Op};
use crate::server::Server;
use crate::session::binary::{self, Note, error, success};
use crate::session::gate::Step;
use crate::session::{Next, Output};

/// The request at the front of a stranger's input. By its header it is known whether he may make it at all.
pub(in crate::session) fn step(rest: &[u8], at: usize, server: &Server) -> Step {
    let header = match wire::split::<RequestHeader>(rest, FRAME_BODY_BYTES_MAX) {
        Ok(Split::Whole { packet, .. }) => Some(packet.header),
        Ok(Split::Body { header, .. }) => Some(header),
        Ok(Split::Head { missing }) => return Step::Missing(missing),
        Err(_) => None,
    };
    if let Some(header) = header {
        if !is_for_strangers(header.opcode) {
            return Step::Close { op: Some(Note { status: Status::AUTH_ERROR, ..Note::of(header) }.op(at)) };
        }
        if binary::is_too_long(header, server) {
            return Step::TooLong { op: Some(Note { status: Status::INVALID, ..Note::of(header) }.op(at)) };
        }
    }
    match binary::step(rest, at, server) {
        binary::Step::Answer { op, bytes } | binary::Step::Last { op, bytes } => Step::Answer { op, bytes },
        binary::Step::Close { op } => Step::Close { op },
        binary::Step::Incomplete(Next::Read { missing }) => Step::Missing(missing),
        binary::Step::Incomplete(_) => Step::Close { op: None },
    }
}

/// memcached's list.
fn is_for_strangers(opcode: Opcode) -> bool {
    matches!(opcode, Opcode::SASL_LIST_MECHS | Opcode::SASL_AUTH | Opcode::SASL_STEP | Opcode::VERSION)
}

/// Goes on with `exchange`, and words the answer. Says how it ended, if it has.
pub(in crate::session) fn answer(
    exchange: &mut Exchange,
    op: &Op,
    batch: &Batch,
    access: &Access,
    output: &mut Output,
) -> Option<Verdict> {
    let note = Note::of_tag(op.tag);
    let note = Note { status: Status::OK, ..note };
    let request = usize::try_from(op.starts_at).ok().and_then(|at| batch.input.filled().get(at..));
    let split = wire::split::<RequestHeader>(request.unwrap_or_default(), FRAME_BODY_BYTES_MAX);
    let Ok(Split::Whole { packet, .. }) = split else {
        error(note, Status::AUTH_ERROR, output);
        return Some(Verdict::Refused);
    };
    let answer = if note.opcode == Opcode::SASL_AUTH {
        exchange.start(packet.key, packet.value, access)
    } else {
        exchange.step(packet.key, packet.value, access)
    };
    match answer {
        Answer::Continue(challenge) => {
            let going_on =
                Response { status: Status::AUTH_CONTINUE, value: &challenge, ..success(note, None) };
            binary::answer(going_on, output);
            None
        }
        Answer::Done(Verdict::Accepted) => {
            binary::answer(Response { value: b"Authenticated", ..success(note, None) }, output);
            Some(Verdict::Accepted)
        }
        Answer::Done(Verdict::Refused) => {
            error(note, Status::AUTH_ERROR, output);
            Some(Verdict::Refused)
        }
    }
}

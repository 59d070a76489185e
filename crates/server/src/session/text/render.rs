//! The classic answers, in words.

use crate::figures::Group;
use crate::message::{Batch, Command, Op, Refusal, Reply};
use crate::server::Server;
use crate::session::Output;
use crate::session::number::push_number;
use crate::session::output::Body;
use crate::session::text::note::{Kind, Note, Saying, Traits};
use crate::stats;
use crate::storage::counter::Digits;

/// What stands behind a value, and behind the last one.
const VALUE_END: &[u8] = b"\r\n";
const VALUE_AND_LIST_END: &[u8] = b"\r\nEND\r\n";

/// An answer of many keys cannot go on.
#[derive(Debug)]
pub(super) struct BrokenOff;

/// The answer to one key of `get` and its like. A miss says nothing.
#[inline]
pub(super) fn value(
    op: &Op,
    note: Note,
    reply: &Reply,
    batch: &Batch,
    output: &mut Output,
) -> Result<(), BrokenOff> {
    match reply {
        Reply::Hit { flags, cas, value } => {
            let body = Body::of(*value, batch);
            let bytes = output.bytes();
            bytes.extend_from_slice(b"VALUE ");
            bytes.extend_from_slice(batch.input.filled().get(op.key.range()).unwrap_or_default());
            push_number(b' ', u64::from(*flags), bytes);
            push_number(b' ', len(body.len()), bytes);
            if note.traits.has(Traits::WITH_CAS) {
                push_number(b' ', wire::Cas::to_wire(*cas), bytes);
            }
            bytes.extend_from_slice(b"\r\n");
            body.append_to(output);
            let is_last = note.traits.has(Traits::LAST);
            output.bytes().extend_from_slice(if is_last { VALUE_AND_LIST_END } else { VALUE_END });
            return Ok(());
        }
        Reply::Refused(_) => {
            line("SERVER_ERROR out of memory writing get response", output);
            return Err(BrokenOff);
        }
        _ => {}
    }
    if note.traits.has(Traits::LAST) {
        output.bytes().extend_from_slice(Saying::End.text());
    }
    Ok(())
}

/// Every other answer.
#[inline]
pub(super) fn answer(op: &Op, note: Note, reply: &Reply, server: &Server, output: &mut Output) {
    if note.traits.has(Traits::QUIET) {
        return;
    }
    match note.kind {
        Kind::STORE => line(stored(op, reply), output),
        Kind::SAYING => output.bytes().extend_from_slice(note.saying().text()),
        Kind::DELETE => line(if matches!(reply, Reply::Done) { "DELETED" } else { "NOT_FOUND" }, output),
        Kind::TOUCH => {
            line(if matches!(reply, Reply::Touched { .. }) { "TOUCHED" } else { "NOT_FOUND" }, output);
        }
        Kind::COUNT => counted(reply, output),
        Kind::FLUSH => line("OK", output),
        Kind::VERSION => {
            output.bytes().extend_from_slice(b"VERSION ");
            line(crate::VERSION, output);
        }
        Kind::STATS => statistics(op, reply, server, output),
        _ => {}
    }
}

/// What became of a value. Without a version it matters only that it was not stored.
#[inline]
fn stored(op: &Op, reply: &Reply) -> &'static str {
    let has_cas = matches!(op.command, Command::Store { cas: Some(_), .. });
    match reply {
        Reply::Stored { .. } => "STORED",
        Reply::NotFound if has_cas => "NOT_FOUND",
        Reply::Exists if has_cas => "EXISTS",
        Reply::Refused(why) => refused(*why),
        _ => "NOT_STORED",
    }
}

/// Why a value was not taken.
pub(super) fn refused(why: Refusal) -> &'static str {
    match why {
        Refusal::TooLarge => "SERVER_ERROR object too large for cache",
        Refusal::OutOfMemory => "SERVER_ERROR out of memory storing object",
    }
}

fn counted(reply: &Reply, output: &mut Output) {
    match reply {
        Reply::Counted { value, .. } => {
            output.bytes().extend_from_slice(Digits::of(*value).as_bytes());
            output.bytes().extend_from_slice(b"\r\n");
        }
        Reply::NonNumeric => {
            line("CLIENT_ERROR cannot increment or decrement non-numeric value", output);
        }
        Reply::Refused(_) => line("SERVER_ERROR out of memory", output),
        _ => line("NOT_FOUND", output),
    }
}

fn statistics(op: &Op, reply: &Reply, server: &Server, output: &mut Output) {
    let (Command::Stats(group), Reply::Stats(figures)) = (op.command, reply) else {
        return line("SERVER_ERROR out of memory writing stats", output);
    };
    let lines = stats::answer(group, figures, server);
    match group {
        Group::Reset => return line("RESET", output),
        Group::DetailOn | Group::DetailOff => return line("OK", output),
        Group::DetailDump => {
            for (_, dump) in lines {
                output.bytes().extend_from_slice(dump.as_bytes());
            }
            return;
        }
        _ => {}
    }
    for (name, value) in lines {
        for part in ["STAT ", name.as_str(), " ", value.as_str(), "\r\n"] {
            output.bytes().extend_from_slice(part.as_bytes());
        }
    }
    output.bytes().extend_from_slice(Saying::End.text());
}

/// A line of its own.
pub(super) fn line(text: &str, output: &mut Output) {
    output.bytes().extend_from_slice(text.as_bytes());
    output.bytes().extend_from_slice(b"\r\n");
}

/// A length as a number.
#[inline]
pub(super) fn len(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

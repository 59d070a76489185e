//! memcached's authentication over the text protocol: the first command is a `set` of any key, whose value is user and
//! password with a blank between them. Nothing is stored.

use crate::auth::{Access, Verdict};
use crate::message::{Batch, Command, KeyHash, Op, Span, Tag};
use crate::session::Output;
use crate::session::gate::Step;
use crate::session::text::line::{Front, Words, unsigned};

const END: &[u8] = b"\r\n";

/// The request at the front of a stranger's input. Its operation's key is the value, and what ends it.
pub(in crate::session) fn step(rest: &[u8], at: usize, bytes_max: usize) -> Step {
    let line = match Front::of(rest.get(..bytes_max).unwrap_or(rest)) {
        Front::Line(line) => line,
        Front::Part if rest.len() < bytes_max => return Step::Missing(1),
        Front::Part | Front::Long => return Step::TooLong { op: None },
    };
    let Some(value_len) = value_len(line.text) else {
        return Step::Answer { op: op(at, Span::default()), bytes: line.bytes };
    };
    let value_bytes = value_len.saturating_add(END.len());
    let bytes = line.bytes.saturating_add(value_bytes);
    if bytes > bytes_max {
        return Step::TooLong { op: Some(op(at, Span::default())) };
    }
    match bytes.saturating_sub(rest.len()) {
        0 => Step::Answer { op: op(at, Span::new(at.saturating_add(line.bytes), value_bytes)), bytes },
        missing => Step::Missing(missing),
    }
}

/// Bytes of the value that follows `set key flags exptime bytes`; key, flags and exptime may be anything.
fn value_len(line: &[u8]) -> Option<usize> {
    let mut words = Words::of(line);
    words.next().filter(|command| *command == b"set")?;
    words.nth(3).and_then(unsigned).and_then(|bytes| usize::try_from(bytes).ok())
}

fn op(at: usize, key: Span) -> Op {
    Op { command: Command::Pass, key, hash: KeyHash(0), starts_at: Span::new(at, 0).start, tag: Tag(0) }
}

/// Answers it. Says how the authentication ended, if it was one.
pub(in crate::session) fn answer(
    op: &Op,
    batch: &Batch,
    access: &Access,
    output: &mut Output,
) -> Option<Verdict> {
    let value = batch.input.filled().get(op.key.range()).unwrap_or_default();
    let (told, verdict) = told(value, access);
    output.bytes().extend_from_slice(told);
    output.bytes().extend_from_slice(END);
    verdict
}

fn told(value: &[u8], access: &Access) -> (&'static [u8], Option<Verdict>) {
    if value.is_empty() {
        return (b"CLIENT_ERROR unauthenticated", None);
    }
    let Some(value) = value.strip_suffix(END) else {
        return (b"CLIENT_ERROR bad command line termination", None);
    };
    let Some(blank) = value.iter().position(|byte| *byte == b' ') else {
        return (b"CLIENT_ERROR bad authentication token format", None);
    };
    let (user, password) = value.split_at_checked(blank).unwrap_or_default();
    match access.check(user, password.get(1..).unwrap_or_default()) {
        Verdict::Accepted => (b"STORED", Some(Verdict::Accepted)),
        Verdict::Refused => (b"CLIENT_ERROR authentication failure", Some(Verdict::Refused)),
    }
}

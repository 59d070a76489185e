//! The gate: what a connection is before anybody knows who its client is.
//!
//! Where there are users, every connection begins here, whatever it speaks. One request at a time is taken, of the few
//! that a stranger may make, none longer than a stranger's may be; each protocol's part says which. What is asked for is
//! looked at when the answer is worded, so that it is done once, and in its place. Who is let in has the protocol's own
//! session from there on, which knows nothing of this one.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::auth::sasl::Exchange;
use crate::auth::{Access, Verdict};
use crate::message::{Batch, Op, Reply, Span};
use crate::server::Server;
use crate::session::{Next, Output, Parsed, Session, binary, text};

/// A stranger's session.
#[derive(Debug)]
pub struct Gate {
    /// What it becomes.
    session: Session,
    exchange: Exchange,
    failures: u32,
}

/// What became of the front of a stranger's input.
#[derive(Debug)]
pub(super) enum Step {
    /// A request of so many bytes, which is answered before anything else is looked at.
    Answer { op: Op, bytes: usize },
    /// So many bytes that are no request.
    Nothing { bytes: usize },
    /// At least so many bytes are missing.
    Missing(usize),
    /// The end of the connection.
    Close { op: Option<Op> },
    /// The same, because a stranger's request may not be so long.
    TooLong { op: Option<Op> },
}

impl Gate {
    /// The gate before `session`.
    pub(super) fn before(session: Session) -> Session {
        Session::Stranger(Box::new(Self { session, exchange: Exchange::default(), failures: 0 }))
    }

    /// See [`Session::parse`].
    pub(super) fn parse(
        &mut self,
        batch: &mut Batch,
        input: Span,
        server: &Server,
        access: &Access,
    ) -> Parsed {
        if self.failures >= access.limits.failures_max {
            add(&access.counters.auth_kicks);
            return Parsed { consumed: 0, next: Next::Close };
        }
        let at = input.range().start;
        let rest = batch.input.filled().get(input.range()).unwrap_or_default();
        if rest.is_empty() {
            return Parsed { consumed: 0, next: Next::Read { missing: 1 } };
        }
        let bytes_max = access.limits.request_bytes_max;
        let step = match &self.session {
            Session::Text(_) => text::stranger::step(rest, at, bytes_max),
            Session::Resp(_) => super::resp::stranger::step(rest, at, bytes_max),
            _ => binary::stranger::step(rest, at, server),
        };
        let (op, consumed, next) = match step {
            Step::Answer { op, bytes } => (Some(op), bytes, Next::Pause),
            Step::Nothing { bytes } => (None, bytes, Next::Pause),
            Step::Missing(missing) => (None, 0, Next::Read { missing }),
            Step::Close { op } => (op, 0, Next::Close),
            Step::TooLong { op } => {
                add(&access.counters.auth_too_long);
                (op, 0, Next::Close)
            }
        };
        batch.ops.extend(op);
        Parsed { consumed, next }
    }

    /// See [`Session::render`]. Gives the session of who is let in.
    pub(super) fn render(
        &mut self,
        op: &Op,
        reply: &Reply,
        batch: &Batch,
        server: &Server,
        access: &Access,
        output: &mut Output,
    ) -> Option<Session> {
        let verdict = match &mut self.session {
            Session::Text(_) => text::stranger::answer(op, batch, access, output),
            Session::Resp(resp) => {
                resp.render(op, reply, batch, server, output);
                resp.take_verdict()
            }
            _ if binary::is_exchange(op) => {
                binary::stranger::answer(&mut self.exchange, op, batch, access, output)
            }
            _ => {
                binary::render(op, reply, batch, server, output);
                None
            }
        };
        match verdict? {
            Verdict::Accepted => Some(std::mem::take(&mut self.session)),
            Verdict::Refused => {
                self.failures = self.failures.saturating_add(1);
                None
            }
        }
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

//! memcached's text protocol, classic and meta.
//!
//! A request is a line, and behind it a value where the line says so. What a line asks for is told in `classic` and
//! `meta`, for operators in `admin`; `store` takes the values, `keys` the lists of keys that are longer than a line,
//! and `render` and `meta_render` word the answers. Nothing of a request is kept but its [`Note`](note::Note): what the
//! answer repeats of the line is read there again.

mod admin;
mod classic;
mod keys;
mod line;
mod note;
mod render;
mod store;

use crate::message::{Batch, Command, Op, Payload, Reply, Span};
use crate::server::Server;
use crate::session::{Next, Output, Parsed};
use keys::List;
use line::{Front, Line};
use note::{Kind, Note, Saying, Traits};

/// One connection's state.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Text {
    state: State,
    /// Whether an answer of many keys has broken off, so that nothing more of it is sent.
    is_broken_off: bool,
}

/// What the next bytes are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A line.
    #[default]
    Line,
    /// Keys of a list.
    Keys(List),
    /// The rest of a line that nobody wants.
    Discard,
}

/// What became of the front of the input.
#[derive(Debug)]
enum Step {
    /// So many bytes are done with. Where they are not all there, the rest is of no interest.
    Done { bytes: usize },
    /// The end of the connection.
    Close,
    /// More is needed.
    Incomplete(Next),
}

/// A request's place: its bytes, and all that is behind them, from `at` in the batch's input.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    rest: &'a [u8],
    at: usize,
}

impl Text {
    /// See [`Session::parse`](crate::session::Session::parse).
    pub(super) fn parse(&mut self, batch: &mut Batch, input: Span, server: &Server) -> Parsed {
        let mut at = input.range().start;
        let next = loop {
            let rest = batch.input.filled().get(at..input.end()).unwrap_or_default();
            match self.step(Place { rest, at }, &mut batch.ops, server) {
                Step::Done { bytes } => {
                    at = at.saturating_add(rest.len().min(bytes));
                    if bytes > rest.len() {
                        break Next::Skip { bytes: bytes.saturating_sub(rest.len()) };
                    }
                }
                Step::Close => break Next::Close,
                Step::Incomplete(next) => break next,
            }
        };
        Parsed { consumed: at.saturating_sub(input.range().start), next }
    }

    #[inline]
    fn step(&mut self, place: Place<'_>, ops: &mut Vec<Op>, server: &Server) -> Step {
        match self.state {
            State::Line => match Front::of(place.rest) {
                Front::Line(line) => request(line, place, ops, server),
                Front::Part => Step::Incomplete(Next::Read { missing: 1 }),
                Front::Long => self.begin_long(place.rest),
            },
            State::Keys(list) => {
                let (step, state) = list.step(place, ops, server);
                self.state = state;
                step
            }
            State::Discard => match memchr::memchr(b'\n', place.rest) {
                Some(at) => {
                    self.state = State::Line;
                    Step::Done { bytes: at.saturating_add(1) }
                }
                None if place.rest.is_empty() => Step::Incomplete(Next::Read { missing: 1 }),
                None => Step::Done { bytes: place.rest.len() },
            },
        }
    }

    /// A line that is too long for one is a list of keys, or the end.
    fn begin_long(&mut self, rest: &[u8]) -> Step {
        match List::begin(rest) {
            Some((list, bytes)) => {
                self.state = State::Keys(list);
                Step::Done { bytes }
            }
            None => Step::Close,
        }
    }

    /// See [`Session::resume`](crate::session::Session::resume).
    pub(super) fn resume(&mut self, _batch: &mut Batch) -> bool {
        false
    }

    /// See [`Session::has_more`](crate::session::Session::has_more).
    pub(super) fn has_more(&self) -> bool {
        false
    }

    /// See [`Session::take_back`](crate::session::Session::take_back).
    pub(super) fn take_back(&mut self, first: &Op) {
        let note = Note::of_tag(first.tag);
        self.state = if note.traits.has(Traits::IN_LIST) {
            State::Keys(List::of(first, note.traits))
        } else {
            State::Line
        };
    }

    /// See [`Session::finish_large`](crate::session::Session::finish_large).
    pub(super) fn finish_large(&mut self, batch: &mut Batch, head: Span, large: u32, server: &Server) {
        store::finish_large(batch, head, large, server);
    }

    /// See [`Session::refuse_large`](crate::session::Session::refuse_large).
    pub(super) fn refuse_large(&mut self, batch: &mut Batch, head: Span, server: &Server) {
        store::refuse_large(batch, head, server);
    }

    /// See [`Session::render`](crate::session::Session::render).
    #[inline]
    pub(super) fn render(
        &mut self,
        op: &Op,
        reply: &Reply,
        batch: &Batch,
        server: &Server,
        output: &mut Output,
    ) {
        let note = Note::of_tag(op.tag);
        let is_sent = !self.is_broken_off || !note.traits.has(Traits::IN_LIST);
        if is_sent && note.kind == Kind::VALUE {
            self.is_broken_off = render::value(op, note, reply, batch, output).is_err();
        } else if is_sent {
            render::answer(op, note, reply, server, output);
        }
        if note.traits.has(Traits::LAST) {
            self.is_broken_off = false;
        }
    }
}

/// What a line asks for, and the value behind it.
#[inline]
fn request(line: Line<'_>, place: Place<'_>, ops: &mut Vec<Op>, server: &Server) -> Step {
    log::trace!("< {}", line.text.escape_ascii());
    classic::request(line, place, ops, server)
}

/// The end of a line that is answered with a saying.
fn say(saying: Saying, line: Line<'_>, place: Place<'_>, ops: &mut Vec<Op>) -> Step {
    ops.push(Note::says(saying).op(Command::Pass, place.at));
    Step::Done { bytes: line.bytes }
}

/// The same, for a request that may have asked for no answer.
fn say_unless(is_quiet: bool, saying: Saying, line: Line<'_>, place: Place<'_>, ops: &mut Vec<Op>) -> Step {
    if is_quiet { Step::Done { bytes: line.bytes } } else { say(saying, line, place, ops) }
}

/// Puts the value into a command that takes one.
fn with_value(command: Command, payload: Payload) -> Command {
    match command {
        Command::Store { mode, flags, expiration, cas, .. } => {
            Command::Store { mode, flags, expiration, cas, value: payload }
        }
        Command::Concat { side, cas, .. } => Command::Concat { side, cas, value: payload },
        other => other,
    }
}

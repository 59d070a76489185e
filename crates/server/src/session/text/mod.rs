//! memcached's text protocol, classic and meta.
//!
//! A request is a line, and behind it a value where the line says so. `plain` takes the requests that most are. What any
//! other line asks for is told in `classic` and `meta`, for operators in `admin`; `store` takes the values, `keys` the lists
//! of keys that are longer than a line, and `render` and `meta_render` word the answers. Nothing of a request is kept but
//! its `Note`: what the answer repeats of the line is read there again.

mod admin;
mod base64;
mod classic;
mod dump;
mod keys;
mod line;
mod meta;
mod meta_render;
mod note;
mod plain;
mod render;
mod store;
pub(super) mod stranger;

use crate::limits::OPS_PER_TURN;
use crate::message::{Batch, Command, Meta, Op, Reply, Span};
use crate::server::Server;
use crate::session::{Next, Output, Parsed};
use dump::Page;
use keys::List;
use line::{Front, Line, Words};
use note::{Kind, Note, Saying, Traits};
use store::Storing;
pub(super) use store::{finish_large, refuse_large};

/// One connection's state.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Text {
    state: State,
    /// Whether an answer of many keys has broken off, so that nothing more of it is sent.
    is_broken_off: bool,
    /// What comes next of all items.
    rest_of_dump: Option<Page>,
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
    /// The same, and nothing more is read before its answer.
    Pause { bytes: usize },
    /// The end of the connection.
    Close,
    /// More is needed.
    Incomplete(Next),
}

/// What has been asked for.
#[derive(Debug)]
struct Asked<'a> {
    ops: &'a mut Vec<Op>,
    meta: &'a mut Vec<Meta>,
    /// Whether the last operation's key is still to be decoded.
    decodes_key: bool,
}

/// A request's place: its bytes, and all that is behind them, from `at` in the batch's input.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    rest: &'a [u8],
    at: usize,
}

/// A request's line, where it stands, and who is asked.
#[derive(Debug, Clone, Copy)]
struct Request<'a> {
    line: Line<'a>,
    place: Place<'a>,
    server: &'a Server,
}

impl Text {
    /// See [`Session::parse`](crate::session::Session::parse).
    pub(super) fn parse(&mut self, batch: &mut Batch, input: Span, server: &Server) -> Parsed {
        let mut at = input.range().start;
        let ops_max = batch.ops.len().saturating_add(OPS_PER_TURN);
        let next = loop {
            if batch.ops.len() >= ops_max {
                break Next::Pause;
            }
            let rest = batch.input.filled().get(at..input.end()).unwrap_or_default();
            let mut asked = Asked { ops: &mut batch.ops, meta: &mut batch.meta, decodes_key: false };
            let available = rest.len();
            let step = self.step(Place { rest, at }, &mut asked, server);
            if asked.decodes_key {
                meta::decode_last_key(batch, server);
            }
            match step {
                Step::Done { bytes } => {
                    at = at.saturating_add(available.min(bytes));
                    if bytes > available {
                        break Next::Skip { bytes: bytes.saturating_sub(available) };
                    }
                }
                Step::Pause { bytes } => {
                    at = at.saturating_add(available.min(bytes));
                    break Next::Pause;
                }
                Step::Close => break Next::Close,
                Step::Incomplete(next) => break next,
            }
        };
        Parsed { consumed: at.saturating_sub(input.range().start), next }
    }

    #[inline]
    fn step(&mut self, place: Place<'_>, asked: &mut Asked<'_>, server: &Server) -> Step {
        match self.state {
            State::Line if let Some(bytes) = plain::take(place, asked, server) => Step::Done { bytes },
            State::Line => match Front::of(place.rest) {
                Front::Line(line) => Request { line, place, server }.ask(asked),
                Front::Part => Step::Incomplete(Next::Read { missing: 1 }),
                Front::Long => self.begin_long(place.rest),
            },
            State::Keys(list) => {
                let (step, state) = list.step(place, asked, server);
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
    pub(super) fn resume(&mut self, batch: &mut Batch) -> bool {
        let page = self.rest_of_dump.take();
        batch.ops.extend(page.map(|page| page.op(batch.input.len())));
        page.is_some()
    }

    /// See [`Session::has_more`](crate::session::Session::has_more).
    pub(super) fn has_more(&self) -> bool {
        self.rest_of_dump.is_some()
    }

    /// See [`Session::take_back`](crate::session::Session::take_back).
    pub(super) fn take_back(&mut self, first: &Op) {
        let note = Note::of_tag(first.tag);
        self.rest_of_dump = Page::of(first);
        self.state = if note.traits.has(Traits::IN_LIST) {
            State::Keys(List::of(first, note.traits))
        } else {
            State::Line
        };
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
        } else if note.kind.is_meta() {
            meta_render::answer(op, note, reply, batch, output);
        } else if let Some(page) = Page::of(op) {
            self.rest_of_dump = dump::page(page, reply, batch, server, output);
        } else if is_sent {
            render::answer(op, note, reply, server, output);
        }
        if note.traits.has(Traits::LAST) {
            self.is_broken_off = false;
        }
    }
}

impl Asked<'_> {
    /// Puts the options of a meta command beside its operation.
    fn options(&mut self, options: Meta) -> u32 {
        let at = self.meta.len();
        self.meta.push(options);
        Span::new(at, 0).start
    }
}

impl Request<'_> {
    /// What it asks for, and the value behind it.
    #[inline]
    fn ask(self, asked: &mut Asked<'_>) -> Step {
        log::trace!("< {}", self.line.text.escape_ascii());
        let mut words = Words::of(self.line.text);
        let Some(command) = words.next() else { return self.say(Saying::Error, asked) };
        match command {
            [b'm', what] => meta::request(*what, words, self, asked),
            _ => classic::request(command, words, self, asked),
        }
    }

    /// What it asks for where it is followed by a value.
    fn storing(self) -> Option<Storing> {
        let mut words = Words::of(self.line.text);
        match words.next()? {
            b"ms" => meta::storing(words, self),
            command => classic::storing(command, words, self),
        }
    }

    /// It is asked for.
    #[inline]
    fn done(self) -> Step {
        Step::Done { bytes: self.line.bytes }
    }

    /// A saying answers it.
    fn say(self, saying: Saying, asked: &mut Asked<'_>) -> Step {
        asked.ops.push(Note::says(saying).op(Command::Pass, self.place.at));
        self.done()
    }

    /// The same, where it may have asked for no answer.
    fn say_unless(self, is_quiet: bool, saying: Saying, asked: &mut Asked<'_>) -> Step {
        if is_quiet { self.done() } else { self.say(saying, asked) }
    }

    /// The same with so many bytes more, which nobody wants.
    fn with_bytes(self, bytes: usize) -> Self {
        let line = Line { bytes: self.line.bytes.saturating_add(bytes), ..self.line };
        Self { line, ..self }
    }
}

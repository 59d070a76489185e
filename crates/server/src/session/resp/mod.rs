//! Redis's protocol, versions 2 and 3, and the commands for strings.
//!
//! | module | what it knows |
//! | --- | --- |
//! | `frame` | arrays of bulk strings, piece by piece |
//! | `plain` | what most requests look like |
//! | `commands` | the commands, as a table, and what each asks of the storage thread |
//! | `complaint` | what is wrong with a request, in Redis's words |
//! | `render` | answers into bytes |
//! | `admin` | what is answered without an item |
//! | `listing` | KEYS: collecting |
//! | `glob` | patterns |
//!
//! A request of one key is taken when it is whole. Of a request of many keys each is an operation of its own, taken as
//! soon as it is there, so that no number of keys is too much: the session knows how many are still to come. What was
//! left unexecuted begins with a key then, whose operation knows the same. MSET is one step for everyone else as far
//! as its keys arrived in one read; MSETNX waits until it is whole, and always is, as far as there is memory.
//!
//! What differs from Redis: a key has 1 to 250 bytes, and where several are read, any other is just not there. There is
//! one database. Requests are arrays, with empty lines between them: an inline command is an error of the protocol.

mod admin;
mod commands;
mod complaint;
mod frame;
mod glob;
mod listing;
mod plain;
mod render;
pub(super) mod stranger;

use bytes::Bytes;
use wire::KEY_BYTES_MAX;

use crate::auth::Verdict;
use crate::message::{Batch, Command, KeyHash, Older, Op, Payload, Reading, Refusal, Reply, Span, Tag};
use crate::server::Server;
use crate::session::resp::admin::Client;
use crate::session::resp::commands::{Row, Shape, TABLE, Word};
use crate::session::resp::complaint::Complaint;
use crate::session::resp::frame::{ARGS_MAX, Args, Broken, Reader, Stop};
use crate::session::resp::listing::Listing;
use crate::session::{Next, Output, Parsed};
use crate::storage::log::is_inline;

/// The longest argument there may be: Redis's `proto-max-bulk-len`, or the longest value if that is more.
const BULK_BYTES_MAX: usize = 512 << 20;
/// The longest MSETNX.
const MSETNX_BYTES_MAX: usize = 128 << 10;
/// What ends an argument.
const END_BYTES: usize = 2;

/// One connection's state.
#[derive(Debug, Default)]
pub struct Resp {
    /// In the middle of what the next bytes come.
    doing: Doing,
    /// What its client has said of itself.
    client: Client,
    /// What the keys of one request come to that were answered so far, and what went wrong with one.
    sum: u64,
    failed: Option<Complaint>,
    /// KEYS, as far as it has come.
    listing: Option<Box<Listing>>,
}

/// What the next bytes belong to.
#[derive(Debug, Default)]
enum Doing {
    /// A request begins.
    #[default]
    Nothing,
    /// Keys, or keys and values.
    Keys(KeysLeft),
    /// So many arguments that nobody looks at.
    Skipping { left: usize },
    /// Arguments behind a large value.
    Options(Box<Held>),
}

/// What is left of a request of many keys.
#[derive(Debug, Clone, Copy)]
struct KeysLeft {
    row: u8,
    /// Keys, or pairs.
    left: u32,
    is_first: bool,
}

/// A request whose large value was read, and whose last arguments were not.
#[derive(Debug)]
struct Held {
    /// Everything before the value.
    head: Vec<u8>,
    value: Bytes,
    /// Arguments to come.
    left: usize,
}

/// Where reading ends for now.
#[derive(Debug)]
struct Halt {
    at: usize,
    next: Next,
}

impl Halt {
    fn missing(at: usize, bytes: usize) -> Self {
        Self { at, next: Next::Read { missing: bytes } }
    }
}

/// What a session reads from and writes to.
struct Desk<'a> {
    /// All of the batch's input.
    input: &'a [u8],
    ops: &'a mut Vec<Op>,
    server: &'a Server,
}

impl Resp {
    /// See [`Session::parse`](crate::session::Session::parse).
    pub(super) fn parse(&mut self, batch: &mut Batch, input: Span, server: &Server) -> Parsed {
        if matches!(self.doing, Doing::Options(_))
            && let Doing::Options(held) = std::mem::take(&mut self.doing)
        {
            return self.finish_options(held, batch, input, server);
        }
        let start = input.range().start;
        let filled = batch.input.filled();
        let mut desk = Desk { input: filled, ops: &mut batch.ops, server };
        let mut reader = Reader::new(filled.get(input.range()).unwrap_or_default(), start);
        let halt = loop {
            match self.step(reader, &mut desk) {
                Ok(behind) => reader = behind,
                Err(halt) => break halt,
            }
        };
        Parsed { consumed: halt.at.saturating_sub(start), next: halt.next }
    }

    /// See [`Session::resume`](crate::session::Session::resume).
    pub(super) fn resume(&mut self, batch: &mut Batch) -> bool {
        let Some(listing) = &self.listing else { return false };
        let starts_at = Span::new(batch.input.len(), 0).start;
        batch.ops.push(listing.op(starts_at));
        true
    }

    /// See [`Session::has_more`](crate::session::Session::has_more).
    pub(super) fn has_more(&self) -> bool {
        self.listing.is_some()
    }

    /// See [`Session::holds_value`](crate::session::Session::holds_value).
    pub(super) fn holds_value(&self) -> bool {
        matches!(self.doing, Doing::Options(_))
    }

    /// See [`Session::take_back`](crate::session::Session::take_back).
    pub(super) fn take_back(&mut self, first: &Op) {
        let note = Note::of(first.tag);
        self.doing = match note.shape() {
            Shape::Keys | Shape::Pairs => {
                Doing::Keys(KeysLeft { row: note.row, left: note.left, is_first: note.is_first })
            }
            _ => Doing::Nothing,
        };
    }

    /// See [`Session::finish_large`](crate::session::Session::finish_large).
    pub(super) fn finish_large(&mut self, batch: &mut Batch, head: Span, large: u32, server: &Server) {
        trim_end(batch, large);
        let filled = batch.input.filled();
        let bytes = filled.get(head.range()).unwrap_or_default();
        if let Doing::Keys(keys) = self.doing {
            let key = Reader::new(bytes, head.range().start).arg(0, usize::MAX).unwrap_or_default();
            let mut desk = Desk { input: filled, ops: &mut batch.ops, server };
            let command = commands::pair_command(keys.word(), Payload::Large(large));
            desk.push_key(keys, command, key, head.start);
            self.doing = keys.rest();
            return;
        }
        let Some(single) = Single::of_head(filled, head) else { return };
        let behind = single.behind();
        if behind > 0 {
            let value = held(batch, large);
            let head = batch.input.filled().get(head.range()).unwrap_or_default().to_vec();
            self.doing = Doing::Options(Box::new(Held { head, value, left: behind }));
            return;
        }
        let mut desk = Desk { input: filled, ops: &mut batch.ops, server };
        self.push_single(&single, Payload::Large(large), head.start, &mut desk);
    }

    /// See [`Session::refuse_large`](crate::session::Session::refuse_large).
    pub(super) fn refuse_large(&mut self, batch: &mut Batch, head: Span, server: &Server) {
        let filled = batch.input.filled();
        let mut desk = Desk { input: filled, ops: &mut batch.ops, server };
        let refused = unstorable(Refusal::OutOfMemory);
        if let Doing::Keys(keys) = self.doing {
            let bytes = filled.get(head.range()).unwrap_or_default();
            let key = Reader::new(bytes, head.range().start).arg(0, usize::MAX).unwrap_or_default();
            desk.push_key(keys, refused, key, head.start);
            self.doing = keys.rest();
        } else if let Some(single) = Single::of_head(filled, head) {
            desk.push(refused, single.args.span(1), head.start, Note::of_row(single.number));
            self.skip(single.behind());
        }
    }

    /// How the client's authentication ended, if this was one.
    pub(super) fn take_verdict(&mut self) -> Option<Verdict> {
        self.client.verdict.take()
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
        render::render(self, op, reply, batch, server, output);
    }
}

/// Parsing. Each step reads a request, a key, or an argument that is skipped, and says where the next one begins.
impl Resp {
    #[inline]
    fn step<'a>(&mut self, reader: Reader<'a>, desk: &mut Desk<'a>) -> Result<Reader<'a>, Halt> {
        match self.doing {
            Doing::Nothing => match plain::request(reader, desk) {
                Some(behind) => Ok(behind),
                None => self.request(reader, desk),
            },
            Doing::Keys(keys) => self.key(keys, reader, desk),
            Doing::Skipping { left } => self.skip_one(left, reader, desk),
            // It was taken out before.
            Doing::Options(_) => Err(Halt::missing(reader.at(), 1)),
        }
    }

    #[inline]
    fn request<'a>(&mut self, mut reader: Reader<'a>, desk: &mut Desk<'a>) -> Result<Reader<'a>, Halt> {
        reader.empty_lines().map_err(|stop| desk.halt(stop, reader.at(), reader.at()))?;
        let (start, limit) = (reader.at(), desk.bulk_bytes_max());
        let count = reader.array().map_err(|stop| desk.halt(stop, start, start))?;
        let Some(behind) = count.checked_sub(1) else {
            return Ok(reader);
        };
        let name = match reader.arg(behind.min(ARGS_MAX), limit) {
            Ok(name) => name,
            Err(Stop::TooLong) => {
                desk.complain(Complaint::ArgTooLong, start, Note::of_row(u8::MAX));
                self.skip(count);
                return Ok(reader);
            }
            Err(stop) => return Err(desk.halt(stop, start, reader.at())),
        };
        let mut args = Args::new(desk.input);
        args.push(name);
        let Some((number, row)) = commands::find(args.get(0)) else {
            return self.unknown(args, count, reader, start, desk);
        };
        if !row.takes(count) {
            desk.complain(Complaint::Arity, start, Note::of_row(number));
            self.skip(behind);
            return Ok(reader);
        }
        match row.shape {
            Shape::Keys => self.doing = KeysLeft::all(number, behind),
            Shape::Pairs => self.doing = KeysLeft::all(number, behind / 2),
            Shape::AllPairs => return self.all_pairs(number, behind, reader, start, desk),
            Shape::Plain | Shape::Key | Shape::Value(_) => {
                let single = Single { number, row, count, args };
                return self.single(single, reader, start, desk);
            }
        }
        Ok(reader)
    }

    /// A request of one key at most.
    #[inline]
    fn single<'a>(
        &mut self,
        mut single: Single<'a>,
        mut reader: Reader<'a>,
        start: usize,
        desk: &mut Desk<'a>,
    ) -> Result<Reader<'a>, Halt> {
        let limit = desk.bulk_bytes_max();
        let row = single.row;
        while single.args.len() < single.count.min(ARGS_MAX) {
            let place = single.args.len();
            let behind = single.count.min(ARGS_MAX).saturating_sub(place).saturating_sub(1);
            if row.shape == Shape::Value(place) {
                let before = reader;
                let key_len = single.args.get(1).len();
                let Some(span) = desk.value(key_len, &mut reader, behind, start)? else {
                    let key = single.args.span(1);
                    desk.push(unstorable(Refusal::TooLarge), key, place_of(start), single.note());
                    self.skip(single.behind());
                    return Ok(before);
                };
                single.args.push(span);
                continue;
            }
            let is_key = place == 1 && row.shape != Shape::Plain;
            let refused = match reader.arg(behind, limit) {
                Ok(span) => {
                    single.args.push(span);
                    if is_key { key_fault(span) } else { None }
                }
                Err(Stop::TooLong) if is_key => Some(Complaint::KeyTooLong),
                Err(Stop::TooLong) => Some(Complaint::ArgTooLong),
                Err(stop) => return Err(desk.halt(stop, start, reader.at())),
            };
            if let Some(complaint) = refused {
                desk.complain(complaint, start, single.note());
                self.skip(single.behind());
                return Ok(reader);
            }
        }
        let value = match row.shape {
            Shape::Value(place) => single.args.span(place),
            _ => Span::default(),
        };
        self.push_single(&single, Payload::Inline(value), place_of(start), desk);
        let next = match row.word {
            Word::Quit => Next::Close,
            // One at a time: what it answers is long, or comes in parts.
            Word::Keys | Word::Command => Next::Pause,
            _ => return Ok(reader),
        };
        Err(Halt { at: reader.at(), next })
    }

    /// Puts the operation of a request of one key at most into the batch; arguments beyond those that are looked at are
    /// skipped.
    #[inline]
    fn push_single(&mut self, single: &Single<'_>, value: Payload, starts_at: u32, desk: &mut Desk<'_>) {
        let row = single.row;
        if single.behind() > 0 {
            self.skip(single.behind());
            if row.shape != Shape::Plain {
                return desk.complain_at(Complaint::Syntax, starts_at, single.note());
            }
        }
        match commands::command(row, &single.args, value) {
            Ok(Command::Flush { .. }) if !desk.server.config.flush_enabled() => {
                desk.complain_at(Complaint::FlushRefused, starts_at, single.note());
            }
            Ok(command) if row.shape == Shape::Plain => {
                let hash =
                    if command == Command::Sample { self.client.roll(desk.server) } else { KeyHash(0) };
                let tag = single.note().to_tag();
                desk.ops.push(Op { command, key: Span::default(), hash, starts_at, tag });
            }
            Ok(command) => desk.push(command, single.args.span(1), starts_at, single.note()),
            Err(complaint) if row.word == Word::GetEx && complaint != Complaint::Syntax => {
                let note = Note { complaint: complaint.code(), ..single.note() };
                desk.push(Command::Peek(Reading::Noted), single.args.span(1), starts_at, note);
            }
            Err(complaint) => desk.complain_at(complaint, starts_at, single.note()),
        }
    }

    /// The next key of several, and its value.
    #[inline]
    fn key<'a>(
        &mut self,
        keys: KeysLeft,
        mut reader: Reader<'a>,
        desk: &mut Desk<'a>,
    ) -> Result<Reader<'a>, Halt> {
        let (start, limit) = (reader.at(), desk.bulk_bytes_max());
        if keys.shape() == Shape::Pairs {
            return self.pair(keys, reader, desk);
        }
        let command = match reader.arg(0, limit) {
            Ok(key) if key_fault(key).is_none() => {
                desk.push_key(keys, commands::key_command(keys.word()), key, place_of(start));
                self.doing = keys.rest();
                return Ok(reader);
            }
            Ok(_) => Ok(reader),
            Err(Stop::TooLong) => match reader.skip_arg(limit) {
                Ok(0) => Ok(reader),
                Ok(bytes) => Err(Halt { at: reader.at(), next: Next::Skip { bytes } }),
                Err(stop) => return Err(desk.halt(stop, start, start)),
            },
            Err(stop) => return Err(desk.halt(stop, start, reader.at())),
        };
        // What cannot be a key is not there.
        desk.complain_at(Complaint::KeyTooLong, place_of(start), keys.note());
        self.doing = keys.rest();
        command
    }

    /// The next key and value of several. One that cannot be a key ends the request there.
    fn pair<'a>(
        &mut self,
        keys: KeysLeft,
        mut reader: Reader<'a>,
        desk: &mut Desk<'a>,
    ) -> Result<Reader<'a>, Halt> {
        let (start, limit) = (reader.at(), desk.bulk_bytes_max());
        let behind = usize::try_from(keys.left).unwrap_or(usize::MAX).saturating_sub(1).saturating_mul(2);
        let after_key = behind.saturating_add(1);
        let last = Note { left: 1, ..keys.note() };
        let key = match reader.arg(1, limit) {
            Ok(key) => key,
            Err(Stop::TooLong) => {
                desk.complain_at(Complaint::KeyTooLong, place_of(start), last);
                self.skip(after_key.saturating_add(1));
                return Ok(reader);
            }
            Err(stop) => return Err(desk.halt(stop, start, reader.at())),
        };
        if let Some(complaint) = key_fault(key) {
            desk.complain_at(complaint, place_of(start), last);
            self.skip(after_key);
            return Ok(reader);
        }
        let before = reader;
        let key_len = key.range().len();
        let Some(value) = desk.value(key_len, &mut reader, 0, start)? else {
            desk.push(unstorable(Refusal::TooLarge), key, place_of(start), last);
            self.skip(after_key);
            return Ok(before);
        };
        let command = commands::pair_command(keys.word(), Payload::Inline(value));
        desk.push_key(keys, command, key, place_of(start));
        self.doing = keys.rest();
        Ok(reader)
    }

    /// MSETNX: all keys are guarded first, then all are set, in one run.
    fn all_pairs<'a>(
        &mut self,
        number: u8,
        count: usize,
        mut reader: Reader<'a>,
        start: usize,
        desk: &mut Desk<'a>,
    ) -> Result<Reader<'a>, Halt> {
        let (first, limit) = (reader, desk.bulk_bytes_max());
        let note = Note::of_row(number);
        let refuse = |resp: &mut Self, complaint, reader: Reader<'a>, left, desk: &mut Desk<'a>| {
            desk.complain(complaint, start, note);
            resp.skip(left);
            Ok(reader)
        };
        // Once over all of them, to see whether they are there and may be keys.
        for left in (1..=count).rev() {
            let before = reader;
            let behind = left.saturating_sub(1);
            let len = reader.arg_len(behind, limit).map_err(|stop| desk.halt(stop, start, before.at()))?;
            let end = reader.at().saturating_add(len).saturating_add(frame::bytes_min(behind));
            if end.saturating_sub(start) > MSETNX_BYTES_MAX || len > desk.server.config.item_bytes_max {
                return refuse(self, Complaint::MSetNxTooLong, before, left, desk);
            }
            let arg = reader.arg_bytes(len, behind).map_err(|stop| desk.halt(stop, start, reader.at()))?;
            if left.is_multiple_of(2)
                && let Some(complaint) = key_fault(arg)
            {
                return refuse(self, complaint, before, left, desk);
            }
        }
        let mut next = first;
        let mut guarded = 0_u32;
        let pair_count = u32::try_from(count / 2).unwrap_or(u32::MAX);
        while guarded < pair_count
            && let Some((key, _)) = next_pair(&mut next)
        {
            desk.push(Command::Guard { number: guarded }, key, place_of(start), note);
            guarded = guarded.saturating_add(1);
        }
        next = first;
        let mut left = pair_count;
        while left > 0
            && let Some((key, value)) = next_pair(&mut next)
        {
            let command = commands::pair_command(Word::MSetNx, Payload::Inline(value));
            desk.push(command, key, place_of(start), Note { left, is_first: left == pair_count, ..note });
            left = left.saturating_sub(1);
        }
        Ok(reader)
    }

    /// A command that does not exist is answered when as much of it is there as its answer quotes.
    fn unknown<'a>(
        &mut self,
        mut args: Args<'a>,
        count: usize,
        mut reader: Reader<'a>,
        start: usize,
        desk: &mut Desk<'a>,
    ) -> Result<Reader<'a>, Halt> {
        while args.len() < count.min(ARGS_MAX) {
            let behind = count.min(ARGS_MAX).saturating_sub(args.len()).saturating_sub(1);
            match reader.arg(behind, desk.bulk_bytes_max()) {
                Ok(span) => args.push(span),
                Err(Stop::TooLong) => break,
                Err(stop) => return Err(desk.halt(stop, start, reader.at())),
            }
        }
        desk.complain(Complaint::Unknown, start, Note::of_row(u8::MAX));
        self.skip(count.saturating_sub(args.len()));
        Ok(reader)
    }

    fn skip(&mut self, left: usize) {
        self.doing = if left == 0 { Doing::Nothing } else { Doing::Skipping { left } };
    }

    fn skip_one<'a>(
        &mut self,
        left: usize,
        mut reader: Reader<'a>,
        desk: &mut Desk<'a>,
    ) -> Result<Reader<'a>, Halt> {
        let start = reader.at();
        let left = left.saturating_sub(1);
        match reader.skip_arg(desk.bulk_bytes_max()) {
            Ok(missing) => {
                self.skip(left);
                match missing {
                    0 => Ok(reader),
                    bytes => Err(Halt { at: reader.at(), next: Next::Skip { bytes } }),
                }
            }
            Err(stop) => Err(desk.halt(stop, start, start)),
        }
    }

    /// Reads the arguments behind a large value. The request's head goes into the batch once more, behind what is read,
    /// so the rest of that waits for the next turn.
    fn finish_options(&mut self, held: Box<Held>, batch: &mut Batch, input: Span, server: &Server) -> Parsed {
        let (start, limit) = (input.range().start, BULK_BYTES_MAX.max(server.config.item_bytes_max));
        let mut reader = Reader::new(batch.input.filled().get(input.range()).unwrap_or_default(), start);
        let mut options = Args::new(&[]);
        let mut failed = None;
        while options.len() < held.left.min(ARGS_MAX) && failed.is_none() {
            let behind = held.left.min(ARGS_MAX).saturating_sub(options.len()).saturating_sub(1);
            match reader.arg(behind, limit) {
                Ok(span) => options.push(span),
                Err(Stop::Missing(missing)) => {
                    self.doing = Doing::Options(held);
                    return Parsed { consumed: 0, next: Next::Read { missing } };
                }
                Err(Stop::TooLong) => failed = Some(Complaint::Syntax),
                Err(Stop::Broken(broken)) => {
                    let mut desk = Desk { input: &[], ops: &mut batch.ops, server };
                    let halt = desk.halt(Stop::Broken(broken), start, reader.at());
                    return Parsed { consumed: 0, next: halt.next };
                }
            }
        }
        let consumed = reader.at().saturating_sub(start);
        let unread = held.left.saturating_sub(options.len());
        let place = Span::new(batch.input.len(), held.head.len());
        batch.input.extend(&held.head);
        let large = batch.push_large(held.value);
        let filled = batch.input.filled();
        let mut desk = Desk { input: filled, ops: &mut batch.ops, server };
        if let Some(mut single) = Single::of_head(filled, place) {
            (0..options.len()).for_each(|at| single.args.push(options.span(at)));
            match failed {
                Some(complaint) => desk.complain_at(complaint, place.start, single.note()),
                None => self.push_single(&single, Payload::Large(large), place.start, &mut desk),
            }
        }
        self.skip(unread);
        Parsed { consumed, next: Next::Pause }
    }
}

impl Desk<'_> {
    fn bulk_bytes_max(&self) -> usize {
        BULK_BYTES_MAX.max(self.server.config.item_bytes_max)
    }

    /// The value of a request that begins at `start`; `None` where it is too large. Where it is large and not whole, it
    /// is read to a place of its own.
    #[inline]
    fn value(
        &mut self,
        key_len: usize,
        reader: &mut Reader<'_>,
        behind: usize,
        start: usize,
    ) -> Result<Option<Span>, Halt> {
        let config = &self.server.config;
        let before = reader.at();
        let len = match reader.arg_len(behind, self.bulk_bytes_max()) {
            Ok(len) => len,
            Err(stop) => return Err(self.halt(stop, start, before)),
        };
        if len > config.item_bytes_max {
            return Ok(None);
        }
        let whole = len.saturating_add(END_BYTES);
        if reader.left() < whole && !is_inline(key_len, len, config.memory_bytes_max) {
            let head_bytes = reader.at().saturating_sub(start);
            return Err(Halt { at: start, next: Next::ReadLarge { head_bytes, value_bytes: whole } });
        }
        match reader.arg_bytes(len, behind) {
            Ok(span) => Ok(Some(span)),
            Err(stop) => Err(self.halt(stop, start, before)),
        }
    }

    #[inline]
    fn push(&mut self, command: Command, key: Span, starts_at: u32, note: Note) {
        let hash = self.server.hash(self.input.get(key.range()).unwrap_or_default());
        self.ops.push(Op { command, key, hash, starts_at, tag: note.to_tag() });
    }

    #[inline]
    fn push_key(&mut self, keys: KeysLeft, command: Command, key: Span, starts_at: u32) {
        self.push(command, key, starts_at, keys.note());
    }

    fn complain(&mut self, complaint: Complaint, start: usize, note: Note) {
        self.complain_at(complaint, place_of(start), note);
    }

    fn complain_at(&mut self, complaint: Complaint, starts_at: u32, note: Note) {
        let tag = Note { complaint: complaint.code(), ..note }.to_tag();
        self.ops.push(Op { command: Command::Pass, key: Span::default(), hash: KeyHash(0), starts_at, tag });
    }

    /// What comes of a request that begins at `start` and cannot be read any further than `at`.
    fn halt(&mut self, stop: Stop, start: usize, at: usize) -> Halt {
        match stop {
            Stop::Missing(missing) => Halt::missing(start, missing),
            Stop::TooLong => Halt { at: start, next: Next::Close },
            Stop::Broken(broken) => {
                log::debug!("refused a request: {broken:?}");
                let quoted = match broken {
                    Broken::NoArray(byte) | Broken::NoBulk(byte) => byte,
                    Broken::ArrayLength | Broken::BulkLength => 0,
                };
                let note = Note { quoted, ..Note::of_row(u8::MAX) };
                self.complain(broken.into(), start, note);
                Halt { at, next: Next::Close }
            }
        }
    }
}

/// A request of one key at most, as far as it was read.
struct Single<'a> {
    number: u8,
    row: &'static Row,
    /// Arguments that it says it has, its name among them.
    count: usize,
    args: Args<'a>,
}

impl<'a> Single<'a> {
    /// The request whose large value stands behind `head`. It has its place among the arguments.
    fn of_head(input: &'a [u8], head: Span) -> Option<Self> {
        let bytes = input.get(head.range())?;
        let count = Reader::new(bytes, head.range().start).array().ok()?;
        let args = Args::of(input.get(..head.end())?, head.start);
        let (number, row) = commands::find(args.get(0))?;
        let Shape::Value(place) = row.shape else { return None };
        let mut single = Self { number, row, count, args: args.within(input) };
        let is_whole = single.args.len() == place;
        single.args.push(Span::default());
        is_whole.then_some(single)
    }

    /// Arguments that were not read.
    fn behind(&self) -> usize {
        self.count.saturating_sub(self.args.len())
    }

    fn note(&self) -> Note {
        Note::of_row(self.number)
    }
}

impl KeysLeft {
    fn all(row: u8, count: usize) -> Doing {
        Doing::Keys(Self { row, left: u32::try_from(count).unwrap_or(u32::MAX), is_first: true })
    }

    /// Behind the next one.
    #[inline]
    fn rest(self) -> Doing {
        match self.left.saturating_sub(1) {
            0 => Doing::Nothing,
            left => Doing::Keys(Self { left, is_first: false, ..self }),
        }
    }

    #[inline]
    fn note(self) -> Note {
        Note { left: self.left, is_first: self.is_first, ..Note::of_row(self.row) }
    }

    fn shape(self) -> Shape {
        self.note().shape()
    }

    fn word(self) -> Word {
        self.note().row().map_or(Word::MGet, |row| row.word)
    }
}

/// What the answer needs of the request: the command, or what is wrong with it, and which of several keys this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Note {
    row: u8,
    /// 0 for nothing.
    complaint: u8,
    /// The byte that the complaint is about.
    quoted: u8,
    is_first: bool,
    /// Keys from this one on.
    left: u32,
}

impl Note {
    #[inline]
    fn of_row(row: u8) -> Self {
        Self { row, complaint: 0, quoted: 0, is_first: true, left: 1 }
    }

    #[inline]
    fn to_tag(self) -> Tag {
        let [a, b, c, d] = self.left.to_be_bytes();
        Tag(u64::from_be_bytes([self.row, self.complaint, self.quoted, self.is_first.into(), a, b, c, d]))
    }

    #[inline]
    fn of(tag: Tag) -> Self {
        let [row, complaint, quoted, is_first, a, b, c, d] = tag.0.to_be_bytes();
        Self { row, complaint, quoted, is_first: is_first > 0, left: u32::from_be_bytes([a, b, c, d]) }
    }

    #[inline]
    fn row(self) -> Option<&'static Row> {
        TABLE.get(usize::from(self.row))
    }

    fn shape(self) -> Shape {
        self.row().map_or(Shape::Plain, |row| row.shape)
    }
}

/// What is wrong with a key.
#[inline]
fn key_fault(key: Span) -> Option<Complaint> {
    match key.range().len() {
        0 => Some(Complaint::EmptyKey),
        1..=KEY_BYTES_MAX => None,
        _ => Some(Complaint::KeyTooLong),
    }
}

fn next_pair(reader: &mut Reader<'_>) -> Option<(Span, Span)> {
    let mut next = || {
        let len = reader.arg_len(0, usize::MAX).ok()?;
        reader.arg_bytes(len, 0).ok()
    };
    Some((next()?, next()?))
}

fn unstorable(why: Refusal) -> Command {
    Command::Unstorable { why, older: Older::Keep }
}

fn place_of(at: usize) -> u32 {
    Span::new(at, 0).start
}

/// Takes off what ended a large value.
fn trim_end(batch: &mut Batch, large: u32) {
    let slot = usize::try_from(large).ok().and_then(|at| batch.large.get_mut(at));
    if let Some(value) = slot {
        value.truncate(value.len().saturating_sub(END_BYTES));
    }
}

/// A large value, to be held until the rest of its request is there.
fn held(batch: &mut Batch, large: u32) -> Bytes {
    let slot = usize::try_from(large).ok().and_then(|at| batch.large.get_mut(at));
    slot.map(std::mem::take).unwrap_or_default()
}

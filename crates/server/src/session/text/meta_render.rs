//! The answers to meta commands, in words.
//!
//! Flags that tell something stand in the request's order, and then `Z`, `X` and `W` where they apply.

use std::num::NonZeroU32;

use wire::Cas;

use crate::message::{Batch, Op, Refusal, Reply, State, Told};
use crate::session::Output;
use crate::session::number::push_number;
use crate::session::output::Body;
use crate::session::text::line::Words;
use crate::session::text::meta::asks_for_version;
use crate::session::text::note::{Kind, Note, Traits};
use crate::session::text::render::{len, line, refused};
use crate::storage::counter::Digits;

/// What the flags of an answer tell.
#[derive(Default)]
struct Facts {
    cas: Option<u64>,
    size: Option<u64>,
    flags: Option<u32>,
    ttl: Ttl,
    idle: Option<u16>,
    state: Option<State>,
}

/// How long it is until an item ends.
#[derive(Default)]
enum Ttl {
    #[default]
    Untold,
    Told(Option<NonZeroU32>),
}

/// The answer to a meta command.
#[inline]
pub(super) fn answer(op: &Op, note: Note, reply: &Reply, batch: &Batch, output: &mut Output) {
    let request = Request::of(op, note, batch);
    match note.kind {
        Kind::META_GET => got(&request, reply, batch, output),
        Kind::META_SET => set(op, &request, reply, batch, output),
        Kind::META_DELETE => deleted(&request, reply, output),
        Kind::META_COUNT => counted(&request, reply, output),
        _ => described(&request, reply, output),
    }
}

/// A request, as far as its answer repeats it.
struct Request<'a> {
    line: &'a [u8],
    note: Note,
}

impl<'a> Request<'a> {
    fn of(op: &Op, note: Note, batch: &'a Batch) -> Self {
        Self { line: batch.input.filled().get(note.line(op).range()).unwrap_or_default(), note }
    }

    fn is_quiet(&self) -> bool {
        self.note.traits.has(Traits::QUIET)
    }

    /// The key as it was sent, and the flags.
    fn key_and_flags(&self) -> (&'a [u8], Words<'a>) {
        let mut words = Words::of(self.line);
        words.next();
        let key = words.next().unwrap_or_default();
        if self.note.kind == Kind::META_SET {
            words.next();
        }
        (key, words)
    }

    /// Says what the flags ask for. A key that was sent as base64 goes back so.
    #[inline]
    fn tell(&self, facts: &Facts, bytes: &mut Vec<u8>) {
        let (key, flags) = self.key_and_flags();
        for flag in flags.clone() {
            let Some(&letter) = flag.first() else { continue };
            match letter {
                b'O' => word(flag, bytes),
                b'k' => {
                    word(b"k", bytes);
                    bytes.extend_from_slice(key);
                    if flags.clone().any(|flag| flag.first() == Some(&b'b')) {
                        word(b"b", bytes);
                    }
                }
                b'c' => told(b" c", facts.cas, bytes),
                b's' => told(b" s", facts.size, bytes),
                b'f' => told(b" f", facts.flags.map(u64::from), bytes),
                b'l' => told(b" l", facts.idle.map(u64::from), bytes),
                b't' => match facts.ttl {
                    Ttl::Told(Some(seconds)) => told(b" t", Some(u64::from(seconds.get())), bytes),
                    Ttl::Told(None) => word(b"t-1", bytes),
                    Ttl::Untold => {}
                },
                b'h' => match facts.state {
                    Some(state) if state.has(State::FETCHED) => word(b"h1", bytes),
                    Some(_) => word(b"h0", bytes),
                    None => {}
                },
                _ => {}
            }
        }
    }

    /// A status, and what the flags ask for.
    fn say(&self, status: &[u8], facts: &Facts, output: &mut Output) {
        let bytes = output.bytes();
        bytes.extend_from_slice(status);
        self.tell(facts, bytes);
        bytes.extend_from_slice(b"\r\n");
    }

    /// The same where all is well, which some do not want to hear.
    fn say_done(&self, facts: &Facts, output: &mut Output) {
        if !self.is_quiet() {
            self.say(b"HD", facts, output);
        }
    }
}

fn word(word: &[u8], bytes: &mut Vec<u8>) {
    bytes.push(b' ');
    bytes.extend_from_slice(word);
}

#[inline]
fn told(before: &[u8], number: Option<u64>, bytes: &mut Vec<u8>) {
    if let (Some(number), [before @ .., last]) = (number, before) {
        bytes.extend_from_slice(before);
        push_number(*last, number, bytes);
    }
}

#[inline]
fn got(request: &Request<'_>, reply: &Reply, batch: &Batch, output: &mut Output) {
    let &Reply::Found { flags, cas, content, ttl, idle, state } = reply else {
        return match reply {
            Reply::Refused(_) => line("SERVER_ERROR out of memory writing get response", output),
            Reply::TooManyWait => line("SERVER_ERROR too many wait", output),
            _ if request.is_quiet() => {}
            _ => request.say(b"EN", &Facts::default(), output),
        };
    };
    let (body, size) = match content {
        Told::Value(value) => {
            let body = Body::of(value, batch);
            let size = len(body.len());
            (Some(body), size)
        }
        Told::Length(size) => (None, u64::from(size)),
    };
    let bytes = output.bytes();
    if body.is_some() {
        bytes.extend_from_slice(b"VA");
        push_number(b' ', size, bytes);
    } else {
        bytes.extend_from_slice(b"HD");
    }
    let facts = Facts {
        cas: Some(Cas::to_wire(cas)),
        size: Some(size),
        flags: Some(flags),
        ttl: Ttl::Told(ttl),
        idle: Some(idle),
        state: Some(state),
    };
    request.tell(&facts, bytes);
    for (mark, letter) in [(State::SENT, b"Z"), (State::STALE, b"X"), (State::WON, b"W")] {
        if state.has(mark) {
            word(letter, bytes);
        }
    }
    bytes.extend_from_slice(b"\r\n");
    if let Some(body) = body {
        body.append_to(output);
        output.bytes().extend_from_slice(b"\r\n");
    }
}

#[inline]
fn set(op: &Op, request: &Request<'_>, reply: &Reply, batch: &Batch, output: &mut Output) {
    let (cas, size) = match reply {
        Reply::Stored { cas } => (*cas, request.value_len()),
        Reply::MetaStored { cas, value_bytes } => (*cas, Some(len(*value_bytes))),
        other => return not_set(op, request, other, batch, output),
    };
    request.say_done(&Facts { cas: Some(Cas::to_wire(cas)), size, ..Facts::default() }, output);
}

impl Request<'_> {
    /// The length of the value of `ms`.
    fn value_len(&self) -> Option<u64> {
        crate::session::text::line::unsigned(Words::of(self.line).nth(2)?)
    }
}

fn not_set(op: &Op, request: &Request<'_>, reply: &Reply, batch: &Batch, output: &mut Output) {
    let status = match reply {
        Reply::Refused(why) => return line(refused(*why), output),
        Reply::Exists if asks_for_version(op, batch) => b"EX",
        Reply::NotFound if asks_for_version(op, batch) => b"NF",
        _ => b"NS",
    };
    // memcached says `c0` here, and the length that was not stored.
    let facts = Facts { cas: Some(0), size: request.value_len(), ..Facts::default() };
    request.say(status, &facts, output);
}

fn deleted(request: &Request<'_>, reply: &Reply, output: &mut Output) {
    match reply {
        Reply::Done => request.say_done(&Facts::default(), output),
        Reply::Exists => request.say(b"EX", &Facts::default(), output),
        Reply::Refused(_) => line("SERVER_ERROR out of memory", output),
        _ => request.say(b"NF", &Facts::default(), output),
    }
}

fn counted(request: &Request<'_>, reply: &Reply, output: &mut Output) {
    let (value, cas, ttl) = match reply {
        Reply::Counted { value, cas } => (*value, *cas, Ttl::Untold),
        Reply::MetaCounted { value, cas, ttl } => (*value, *cas, Ttl::Told(*ttl)),
        other => return not_counted(request, other, output),
    };
    if request.is_quiet() {
        return;
    }
    let digits = Digits::of(value);
    let is_told = request.key_and_flags().1.any(|flag| flag.first() == Some(&b'v'));
    let bytes = output.bytes();
    if is_told {
        bytes.extend_from_slice(b"VA");
        push_number(b' ', len(digits.as_bytes().len()), bytes);
    } else {
        bytes.extend_from_slice(b"HD");
    }
    request.tell(&Facts { cas: Some(Cas::to_wire(cas)), ttl, ..Facts::default() }, bytes);
    bytes.extend_from_slice(b"\r\n");
    if is_told {
        bytes.extend_from_slice(digits.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
}

fn not_counted(request: &Request<'_>, reply: &Reply, output: &mut Output) {
    match reply {
        Reply::NonNumeric => {
            line("CLIENT_ERROR cannot increment or decrement non-numeric value", output);
        }
        Reply::Refused(Refusal::TooLarge | Refusal::OutOfMemory) => {
            line("SERVER_ERROR out of memory", output);
        }
        Reply::Exists => request.say(b"EX", &Facts::default(), output),
        _ => request.say(b"NF", &Facts::default(), output),
    }
}

/// `me` tells how long it is until the end as a negative number, as memcached does.
fn described(request: &Request<'_>, reply: &Reply, output: &mut Output) {
    let &Reply::Described { cas, ttl, idle, state, item_bytes } = reply else {
        return line("EN", output);
    };
    let bytes = output.bytes();
    bytes.extend_from_slice(b"ME ");
    bytes.extend_from_slice(request.key_and_flags().0);
    told(b" exp=-", Some(ttl.map_or(1, |ttl| u64::from(ttl.get()))), bytes);
    told(b" la=", Some(u64::from(idle)), bytes);
    told(b" cas=", Some(Cas::to_wire(cas)), bytes);
    let fetched: &[u8] = if state.has(State::FETCHED) { b" fetch=yes" } else { b" fetch=no" };
    bytes.extend_from_slice(fetched);
    told(b" cls=1 size=", Some(u64::from(item_bytes)), bytes);
    bytes.extend_from_slice(b"\r\n");
}

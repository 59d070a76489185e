//! The classic commands.

use wire::{Concat, Direction, KEY_BYTES_MAX, OnMiss, StoreMode};

use crate::config::Flush;
use crate::figures::Group;
use crate::message::{Command, Older, Op, Payload, Span};
use crate::server::Server;
use crate::session::text::keys::List;
use crate::session::text::line::{Words, expiration, unsigned, unsigned_32, value_len};
use crate::session::text::note::{Kind, Note, Saying, Traits};
use crate::session::text::store::{Storing, Told, take_value};
use crate::session::text::{Asked, Place, Request, Step, admin};

/// Words of the longest line that is looked at word by word.
const WORDS_MAX: usize = 8;

/// What a line asks for.
#[inline]
pub(super) fn request(command: &[u8], words: Words<'_>, request: Request<'_>, asked: &mut Asked<'_>) -> Step {
    let list = match command {
        b"get" | b"bget" => Some((List::GET, Touches::No)),
        b"gets" => Some((List::GETS, Touches::No)),
        b"gat" => Some((List::GET, Touches::Yes)),
        b"gats" => Some((List::GETS, Touches::Yes)),
        _ => None,
    };
    if let Some((list, touches)) = list {
        return get(list, touches, words, request, asked);
    }
    if let Some(verb) = Verb::of(command) {
        return match store(verb, words, request) {
            Ok(storing) => take_value(storing, request, asked),
            Err(wrong) => request.say_unless(wrong.is_quiet, wrong.saying, asked),
        };
    }
    let sentence = Sentence::of(words);
    match simple(command, &sentence, request) {
        Some(Ok(op)) => {
            asked.ops.push(op);
            request.done()
        }
        Some(Err(wrong)) => request.say_unless(wrong.is_quiet, wrong.saying, asked),
        None => admin::request(command, &sentence, request, asked),
    }
}

/// The request of a line that is followed by a value.
pub(super) fn storing(command: &[u8], words: Words<'_>, request: Request<'_>) -> Option<Storing> {
    store(Verb::of(command)?, words, request).ok()
}

/// What is wrong with a request, and whether it has asked for no answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wrong {
    pub(super) saying: Saying,
    pub(super) is_quiet: bool,
}

impl From<Saying> for Wrong {
    fn from(saying: Saying) -> Self {
        Self { saying, is_quiet: false }
    }
}

/// Whether a list of keys has an expiration before it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Touches {
    No,
    Yes,
}

#[inline]
fn get(
    list: List,
    touches: Touches,
    mut words: Words<'_>,
    request: Request<'_>,
    asked: &mut Asked<'_>,
) -> Step {
    let Some(first) = words.clone().next() else { return request.say(Saying::Error, asked) };
    if touches == Touches::No {
        return list.whole(words, request, asked);
    }
    let Some(expiration) = expiration(first) else { return request.say(Saying::BadExptime, asked) };
    words.next();
    if words.clone().next().is_none() {
        return request.say(Saying::End, asked);
    }
    list.touching(expiration).whole(words, request, asked)
}

/// The commands that bring a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Store(StoreMode),
    Concat(Concat),
    Cas,
}

impl Verb {
    #[inline]
    fn of(command: &[u8]) -> Option<Self> {
        Some(match command {
            b"set" => Self::Store(StoreMode::Set),
            b"add" => Self::Store(StoreMode::Add),
            b"replace" => Self::Store(StoreMode::Replace),
            b"append" => Self::Concat(Concat::Append),
            b"prepend" => Self::Concat(Concat::Prepend),
            b"cas" => Self::Cas,
            _ => return None,
        })
    }
}

/// `set KEY FLAGS EXPTIME BYTES [noreply]`, and before that word a version for `cas`. Any word may stand in its place.
#[inline]
fn store(verb: Verb, mut words: Words<'_>, request: Request<'_>) -> Result<Storing, Wrong> {
    let placed_key = words.next_placed().ok_or(Saying::Error)?;
    let (flags, exptime, bytes) = (words.next(), words.next(), words.next());
    let cas = if verb == Verb::Cas { words.next() } else { Some(&b"0"[..]) };
    let last = words.next();
    let (Some(flags), Some(exptime), Some(bytes), Some(cas), None) =
        (flags, exptime, bytes, cas, words.next())
    else {
        return Err(Saying::Error.into());
    };
    // The last word, even where it stands for another one.
    let is_quiet = last.unwrap_or(if verb == Verb::Cas { cas } else { bytes }) == b"noreply";
    let wrong = Wrong { saying: Saying::BadLine, is_quiet };
    let key = Key::of(placed_key, request.place).ok_or(wrong)?;
    let flags = unsigned_32(flags).ok_or(wrong)?;
    let expiration = expiration(exptime).ok_or(wrong)?;
    let cas = unsigned(cas).ok_or(wrong)?;
    let value_len = value_len(bytes).ok_or(wrong)?;
    let value = Payload::Inline(Span::default());
    let (command, older) = match verb {
        Verb::Store(mode) => {
            let older = if mode == StoreMode::Set { Older::Delete } else { Older::Keep };
            (Command::Store { mode, flags, expiration, cas: None, value }, older)
        }
        Verb::Cas => {
            let mode = StoreMode::Set;
            (Command::Store { mode, flags, expiration, cas: Some(cas), value }, Older::Keep)
        }
        Verb::Concat(side) => (Command::Concat { side, cas: None, value }, Older::Keep),
    };
    let op = key.op(command, Note::new(Kind::STORE, quiet(is_quiet)), request);
    Ok(Storing { op, meta: None, value_len, older, decodes_key: false, tells_bad_data: Told::UnlessQuiet })
}

/// The commands of one line and one operation; `None` for what is none of them.
fn simple(command: &[u8], sentence: &Sentence<'_>, request: Request<'_>) -> Option<Result<Op, Wrong>> {
    Some(match command {
        b"delete" => delete(sentence, request),
        b"incr" => count(Direction::Increment, sentence, request),
        b"decr" => count(Direction::Decrement, sentence, request),
        b"touch" => touch(sentence, request),
        b"flush_all" => flush_all(sentence, request),
        b"stats" => stats(sentence, request),
        b"version" => Ok(Note::new(Kind::VERSION, Traits::NONE).op(Command::Pass, request.place.at)),
        _ => return None,
    })
}

/// `delete KEY [0] [noreply]`.
fn delete(sentence: &Sentence<'_>, request: Request<'_>) -> Result<Op, Wrong> {
    let is_quiet = match sentence.words() {
        [_] | [_, b"0"] => false,
        [_, b"noreply"] | [_, b"0", b"noreply"] => true,
        [_, _] | [_, _, _] => {
            return Err(Wrong { saying: Saying::BadDelete, is_quiet: sentence.is_quiet() });
        }
        _ => return Err(Saying::Error.into()),
    };
    let key = sentence.key(request).ok_or(Wrong { saying: Saying::BadLine, is_quiet })?;
    Ok(key.op(Command::Delete { cas: None }, Note::new(Kind::DELETE, quiet(is_quiet)), request))
}

/// `incr KEY DELTA [noreply]`.
fn count(direction: Direction, sentence: &Sentence<'_>, request: Request<'_>) -> Result<Op, Wrong> {
    let ([_, delta] | [_, delta, _]) = sentence.words() else { return Err(Saying::Error.into()) };
    let is_quiet = sentence.is_quiet();
    let key = sentence.key(request).ok_or(Wrong { saying: Saying::BadLine, is_quiet })?;
    let delta = unsigned(delta).ok_or(Wrong { saying: Saying::BadDelta, is_quiet })?;
    let command = Command::Count { direction, delta, on_miss: OnMiss::Fail, cas: None };
    Ok(key.op(command, Note::new(Kind::COUNT, quiet(is_quiet)), request))
}

/// `touch KEY EXPTIME [noreply]`.
fn touch(sentence: &Sentence<'_>, request: Request<'_>) -> Result<Op, Wrong> {
    let ([_, exptime] | [_, exptime, _]) = sentence.words() else { return Err(Saying::Error.into()) };
    let is_quiet = sentence.is_quiet();
    let key = sentence.key(request).ok_or(Wrong { saying: Saying::BadLine, is_quiet })?;
    let expiration = expiration(exptime).ok_or(Wrong { saying: Saying::BadExptime, is_quiet })?;
    Ok(key.op(Command::Touch { expiration }, Note::new(Kind::TOUCH, quiet(is_quiet)), request))
}

/// `flush_all [EXPTIME] [noreply]`. What is negative is now.
fn flush_all(sentence: &Sentence<'_>, request: Request<'_>) -> Result<Op, Wrong> {
    let is_quiet = sentence.is_quiet();
    let exptime = match sentence.words() {
        [] | [b"noreply"] => &b"0"[..],
        [exptime] | [exptime, _] => exptime,
        _ => return Err(Saying::Error.into()),
    };
    if request.server.config.flush == Flush::Refused {
        return Err(Wrong { saying: Saying::NoFlush, is_quiet });
    }
    let at = expiration(exptime).ok_or(Wrong { saying: Saying::BadExptime, is_quiet })?;
    Ok(Note::new(Kind::FLUSH, quiet(is_quiet)).op(Command::Flush { at }, request.place.at))
}

/// `stats [GROUP]`.
fn stats(sentence: &Sentence<'_>, request: Request<'_>) -> Result<Op, Wrong> {
    let group = match sentence.words() {
        [] => Group::General,
        [b"detail", b"on", ..] => Group::DetailOn,
        [b"detail", b"off", ..] => Group::DetailOff,
        [b"detail", b"dump", ..] => Group::DetailDump,
        [b"detail", ..] => return Err(Saying::DetailUsage.into()),
        [b"cachedump", ..] => return Err(Saying::CachedumpOff.into()),
        [group, ..] => Group::parse(group).ok_or(Saying::Error)?,
    };
    Ok(Note::new(Kind::STATS, Traits::NONE).op(Command::Stats(group), request.place.at))
}

pub(super) fn quiet(is_quiet: bool) -> Traits {
    Traits::NONE.with_if(Traits::QUIET, is_quiet)
}

/// The words behind a command.
#[derive(Debug)]
pub(super) struct Sentence<'a> {
    words: [&'a [u8]; WORDS_MAX],
    count: usize,
    key_at: usize,
}

impl<'a> Sentence<'a> {
    fn of(mut words: Words<'a>) -> Self {
        let mut sentence = Self { words: [&[]; WORDS_MAX], count: 0, key_at: 0 };
        for place in &mut sentence.words {
            let Some((at, word)) = words.next_placed() else { break };
            if sentence.count == 0 {
                sentence.key_at = at;
            }
            *place = word;
            sentence.count = sentence.count.saturating_add(1);
        }
        sentence
    }

    pub(super) fn words(&self) -> &[&'a [u8]] {
        self.words.get(..self.count).unwrap_or_default()
    }

    /// Whether the last word asks for no answer.
    pub(super) fn is_quiet(&self) -> bool {
        self.words().last() == Some(&&b"noreply"[..])
    }

    /// The first word as a key.
    fn key(&self, request: Request<'_>) -> Option<Key<'a>> {
        Key::of((self.key_at, self.words().first()?), request.place)
    }
}

/// A key, and where it lies in the batch's input.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Key<'a> {
    /// The word that begins at a place of a line, if it is short enough.
    #[inline]
    pub(super) fn of((in_line, bytes): (usize, &'a [u8]), place: Place<'_>) -> Option<Self> {
        (bytes.len() <= KEY_BYTES_MAX).then_some(Self { bytes, at: place.at.saturating_add(in_line) })
    }

    pub(super) fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    #[inline]
    pub(super) fn op(self, command: Command, note: Note, request: Request<'_>) -> Op {
        self.op_at(command, note, request.place, request.server)
    }

    /// The same for a request that begins at `place`.
    #[inline]
    pub(super) fn op_at(self, command: Command, note: Note, place: Place<'_>, server: &Server) -> Op {
        Op {
            command,
            key: Span::new(self.at, self.bytes.len()),
            hash: server.hash(self.bytes),
            starts_at: Span::new(place.at, 0).start,
            tag: note.to_tag(),
        }
    }
}

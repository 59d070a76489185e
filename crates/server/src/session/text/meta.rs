//! The meta commands: `mg`, `ms`, `md`, `ma`, `me`, `mn`.
//!
//! Behind key and length stand flags, each a letter and perhaps a token. The answer repeats some of them, in the
//! request's order: it is worded from the request's own line.

use wire::{Cas, Concat, Direction, Expiration, KEY_BYTES_MAX, OnMiss, StoreMode};

use crate::config::Watch;
use crate::limits::WATCH_WAIT_MS_MAX;
use crate::message::{
    Batch, Command, Content, Meta, MetaCount, MetaDelete, MetaGet, MetaMode, MetaStore, Moment, Older, Op,
    Payload, Reading, Span, Watched,
};
use crate::server::Server;
use crate::session::text::classic::{Key, quiet};
use crate::session::text::line::{Words, expiration, unsigned, unsigned_32, value_len};
use crate::session::text::note::{Kind, Note, Saying, Traits};
use crate::session::text::store::{Storing, Told, take_value};
use crate::session::text::{Asked, Request, Step, base64};

/// Words of the longest meta request.
const WORDS_MAX: usize = 19;
/// Bytes of the longest opaque, with its letter.
const OPAQUE_BYTES_MAX: usize = 32;

/// What a line asks for whose command is `m` and `what`.
#[inline]
pub(super) fn request(what: u8, mut words: Words<'_>, request: Request<'_>, asked: &mut Asked<'_>) -> Step {
    match what {
        b'g' | b'd' | b'a' => {}
        b's' => return set(words, request, asked),
        b'n' => return request.say(Saying::Mn, asked),
        b'e' => return debug(words, request, asked),
        _ => return request.say(Saying::Error, asked),
    }
    let Some(key) = words.next_placed() else { return request.say(Saying::Error, asked) };
    let Some(key) = Key::of(key, request.place) else { return request.say(Saying::BadLine, asked) };
    let watch = if what == b'g' { request.server.config.watch } else { Watch::Refused };
    let mut flags = Flags::default();
    let made = flags.read(words, key, 2, watch).and_then(|()| match what {
        b'g' => Ok((Kind::META_GET, get(&flags, asked))),
        b'd' => Ok((Kind::META_DELETE, delete(&flags, asked))),
        _ => Ok((Kind::META_COUNT, count(&flags, asked)?)),
    });
    match made {
        Ok((kind, command)) => {
            let note = Note::new(kind, quiet(flags.has(b'q'))).of_line(request.line.text);
            asked.ops.push(key.op(command, note, request));
            asked.decodes_key = flags.has(b'b');
            match command {
                Command::Watch { .. } => Step::Pause { bytes: request.line.bytes },
                _ => request.done(),
            }
        }
        Err(wrong) => {
            let told = if what == b'g' { wrong.saying } else { wrong.merged() };
            request.say(told, asked)
        }
    }
}

/// The last operation's key, which is base64, in its own bytes.
pub(super) fn decode_last_key(batch: &mut Batch, server: &Server) {
    let Some(op) = batch.ops.last_mut() else { return };
    let encoded = batch.input.filled().get(op.key.range()).unwrap_or_default();
    let mut room = [0; KEY_BYTES_MAX];
    let Some(key) = base64::decode(encoded, &mut room) else { return };
    op.hash = server.hash(key);
    op.key = batch.input.add_aside(key);
}

/// What is wrong with the flags of a request.
#[derive(Debug, Clone, Copy)]
struct Wrong {
    saying: Saying,
    /// Whether it was seen while they were read, which `md` and `ma` tell as one and the same.
    in_flags: bool,
}

impl Wrong {
    fn in_flags(saying: Saying) -> Self {
        Self { saying, in_flags: true }
    }

    fn merged(self) -> Saying {
        if self.in_flags { Saying::MetaInvalidOrDuplicate } else { self.saying }
    }
}

impl From<Saying> for Wrong {
    fn from(saying: Saying) -> Self {
        Self { saying, in_flags: false }
    }
}

/// The flags of a request.
#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    /// A bit for each letter that there is.
    seen: u128,
    vivify: Option<Expiration>,
    touch: Option<Expiration>,
    recache: Option<Expiration>,
    /// `F`: the client's 32 bits.
    bits: u32,
    cas: Option<u64>,
    new_cas: Option<Cas>,
    mode: Option<u8>,
    initial: u64,
    delta: Option<u64>,
    tells_ttl: Moment,
    /// `U`: for how long another version is waited for than `C`.
    wait_ms: Option<u32>,
}

impl Flags {
    /// Takes the flags among `words`, before which stand `words_before` others. What is wrong last is told, but for what
    /// cannot be read any further.
    #[inline]
    fn read(
        &mut self,
        words: Words<'_>,
        key: Key<'_>,
        words_before: usize,
        watch: Watch,
    ) -> Result<(), Wrong> {
        let mut count = words_before;
        let mut wrong = None;
        let mut opaque_len = 0;
        for word in words {
            count = count.saturating_add(1);
            if count > WORDS_MAX {
                return Err(Saying::MetaTooMany.into());
            }
            let Some((&letter, token)) = word.split_first() else { continue };
            if letter >= 127 || self.has(letter) {
                return Err(Wrong::in_flags(Saying::MetaDuplicate));
            }
            if letter == b't' && self.touch.is_none() {
                self.tells_ttl = Moment::Before;
            }
            if letter == b'O' {
                opaque_len = word.len();
            }
            let outcome = self.take(letter, token, key, watch);
            if outcome == Err(Saying::MetaInvalid) {
                return Err(Wrong::in_flags(Saying::MetaInvalid));
            }
            self.seen |= 1_u128.wrapping_shl(u32::from(letter));
            wrong = outcome.err().or(wrong);
        }
        match wrong {
            Some(saying) => Err(Wrong::in_flags(saying)),
            None if opaque_len > OPAQUE_BYTES_MAX => Err(Saying::MetaOpaque.into()),
            None => Ok(()),
        }
    }

    #[inline]
    fn has(&self, letter: u8) -> bool {
        self.seen.wrapping_shr(u32::from(letter)) & 1 == 1
    }

    #[inline]
    fn take(&mut self, letter: u8, token: &[u8], key: Key<'_>, watch: Watch) -> Result<(), Saying> {
        match letter {
            b'k' | b's' | b't' | b'c' | b'f' | b'v' | b'h' | b'l' | b'u' | b'q' | b'x' | b'I' | b'O'
            | b'P' | b'L' => {}
            b'b' => {
                let mut room = [0; KEY_BYTES_MAX];
                base64::decode(key.bytes(), &mut room).ok_or(Saying::MetaKey)?;
            }
            b'N' => self.vivify = Some(expiration(token).ok_or(Saying::MetaToken)?),
            b'T' => self.touch = Some(expiration(token).ok_or(Saying::MetaToken)?),
            b'R' => self.recache = Some(expiration(token).ok_or(Saying::MetaToken)?),
            b'F' => self.bits = unsigned_32(token).ok_or(Saying::BadLine)?,
            b'C' => self.cas = Some(unsigned(token).ok_or(Saying::MetaToken)?),
            b'E' => self.new_cas = Cas::from_wire(unsigned(token).ok_or(Saying::MetaToken)?),
            b'J' => self.initial = unsigned(token).ok_or(Saying::MetaInitial)?,
            b'D' => self.delta = Some(unsigned(token).ok_or(Saying::MetaDelta)?),
            b'M' => match token {
                [mode] => self.mode = Some(*mode),
                _ => return Err(Saying::MetaModeLength),
            },
            // Not memcached's: see `--watch`.
            b'U' if watch == Watch::Allowed => {
                let wait_ms = unsigned(token).ok_or(Saying::MetaToken)?.min(u64::from(WATCH_WAIT_MS_MAX));
                self.wait_ms = u32::try_from(wait_ms).ok();
            }
            _ => return Err(Saying::MetaInvalid),
        }
        Ok(())
    }
}

/// `mg KEY FLAGS`.
#[inline]
fn get(flags: &Flags, asked: &mut Asked<'_>) -> Command {
    let rare = MetaGet {
        vivify: flags.vivify,
        touch: flags.touch,
        tells_ttl: flags.tells_ttl,
        recache: flags.recache,
        known_cas: flags.cas,
        new_cas: flags.new_cas,
    };
    let is_plain = MetaGet { tells_ttl: Moment::After, ..rare } == MetaGet::default();
    let options = if is_plain { None } else { Some(asked.options(Meta::Get(rare))) };
    let content = if flags.has(b'v') { Content::Value } else { Content::Length };
    let reading = if flags.has(b'u') { Reading::Unnoticed } else { Reading::Noted };
    match flags.wait_ms {
        None => Command::MetaGet { content, reading, options },
        Some(wait_ms) => {
            let told = Watched::Meta { content, reading, options };
            Command::Watch { known: flags.cas.unwrap_or_default(), wait_ms, told }
        }
    }
}

/// `md KEY FLAGS`.
fn delete(flags: &Flags, asked: &mut Asked<'_>) -> Command {
    let (is_emptied, is_made_stale) = (flags.has(b'x'), flags.has(b'I'));
    if is_emptied || is_made_stale {
        let ends = flags.touch.unwrap_or(Expiration::Never);
        Command::MetaDelete {
            options: asked.options(Meta::Delete(MetaDelete {
                cas: flags.cas,
                emptied: is_emptied.then_some((flags.bits, ends)),
                is_made_stale,
                touch: flags.touch,
                new_cas: flags.new_cas,
            })),
        }
    } else {
        Command::Delete { cas: flags.cas }
    }
}

/// `ma KEY FLAGS`. Version 0 is no condition here.
fn count(flags: &Flags, asked: &mut Asked<'_>) -> Result<Command, Wrong> {
    let direction = match flags.mode {
        None | Some(b'I' | b'+') => Direction::Increment,
        Some(b'D' | b'-') => Direction::Decrement,
        Some(_) => return Err(Saying::MetaCountMode.into()),
    };
    let delta = flags.delta.unwrap_or(1);
    let cas = flags.cas.filter(|cas| *cas != 0);
    let create = |expiration| OnMiss::Create { initial: flags.initial, expiration };
    let on_miss = flags.vivify.map_or(OnMiss::Fail, create);
    let is_plain = flags.touch.is_none() && flags.new_cas.is_none() && !flags.has(b't');
    Ok(if is_plain {
        Command::Count { direction, delta, on_miss, cas }
    } else {
        let (touch, tells_ttl, new_cas) = (flags.touch, flags.tells_ttl, flags.new_cas);
        let count = MetaCount { direction, delta, on_miss, cas, touch, tells_ttl, new_cas };
        Command::MetaCount { options: asked.options(Meta::Count(count)) }
    })
}

/// `me KEY [b]`.
fn debug(mut words: Words<'_>, request: Request<'_>, asked: &mut Asked<'_>) -> Step {
    let key = words.next_placed().and_then(|key| Key::of(key, request.place));
    let is_encoded = words.next() == Some(b"b");
    let mut room = [0; KEY_BYTES_MAX];
    let Some(key) = key.filter(|key| !is_encoded || base64::decode(key.bytes(), &mut room).is_some()) else {
        return request.say(Saying::BadLine, asked);
    };
    let note = Note::new(Kind::META_DEBUG, Traits::NONE).of_line(request.line.text);
    asked.ops.push(key.op(Command::Describe, note, request));
    asked.decodes_key = is_encoded;
    request.done()
}

/// `ms KEY BYTES FLAGS`. Where the flags are wrong, but the length is known, the value is skipped.
#[inline]
fn set(words: Words<'_>, request: Request<'_>, asked: &mut Asked<'_>) -> Step {
    match parse_set(words, request) {
        Ok(storing) => take_value(storing, request, asked),
        Err((saying, value_len)) => {
            let value_bytes = value_len.map_or(0, |len| len.saturating_add(2));
            request.with_bytes(value_bytes).say(saying, asked)
        }
    }
}

/// The request of a line that is followed by a value.
pub(super) fn storing(words: Words<'_>, request: Request<'_>) -> Option<Storing> {
    parse_set(words, request).ok()
}

#[inline]
fn parse_set(mut words: Words<'_>, request: Request<'_>) -> Result<Storing, (Saying, Option<usize>)> {
    let key = words.next_placed().ok_or((Saying::Error, None))?;
    let key = Key::of(key, request.place).ok_or((Saying::BadLine, None))?;
    let value_len = words.next().and_then(value_len).ok_or((Saying::BadLine, None))?;
    let mut flags = Flags::default();
    flags.read(words, key, 3, Watch::Refused).map_err(|wrong| (wrong.saying, Some(value_len)))?;
    let (command, meta) = store(&flags).map_err(|saying| (saying, Some(value_len)))?;
    let note = Note::new(Kind::META_SET, quiet(flags.has(b'q'))).of_line(request.line.text);
    Ok(Storing {
        op: key.op(command, note, request),
        meta,
        value_len,
        older: Older::Delete,
        decodes_key: flags.has(b'b'),
        tells_bad_data: Told::Always,
    })
}

/// The command, still without its value, and what else is asked for where that is rare. Of version 0, what is appended
/// to takes no notice; who adds takes none of any version.
fn store(flags: &Flags) -> Result<(Command, Option<MetaStore>), Saying> {
    let mode = match flags.mode {
        None | Some(b'S') => MetaMode::Store(StoreMode::Set),
        Some(b'E') => MetaMode::Store(StoreMode::Add),
        Some(b'R') => MetaMode::Store(StoreMode::Replace),
        Some(b'A') => MetaMode::Concat { side: Concat::Append, vivify: flags.vivify },
        Some(b'P') => MetaMode::Concat { side: Concat::Prepend, vivify: flags.vivify },
        Some(_) => return Err(Saying::MetaSetMode),
    };
    let value = Payload::Inline(Span::default());
    let bits = flags.bits;
    let expiration = flags.touch.unwrap_or(Expiration::Never);
    let cas = match mode {
        MetaMode::Store(StoreMode::Add) => None,
        MetaMode::Store(_) => flags.cas,
        MetaMode::Concat { .. } => flags.cas.filter(|cas| *cas != 0),
    };
    let (command, is_rare) = match mode {
        MetaMode::Store(mode) => {
            (Command::Store { mode, flags: bits, expiration, cas, value }, flags.has(b'I'))
        }
        MetaMode::Concat { side, vivify } => {
            (Command::Concat { side, cas, value }, vivify.is_some() || flags.has(b's'))
        }
    };
    let meta = MetaStore {
        mode,
        flags: bits,
        expiration,
        cas,
        allows_older: flags.has(b'I'),
        new_cas: flags.new_cas,
    };
    Ok((command, (is_rare || flags.new_cas.is_some()).then_some(meta)))
}

/// Whether a store came to nothing because of the version that it asked for.
pub(super) fn asks_for_version(op: &Op, batch: &Batch) -> bool {
    match op.command {
        Command::Store { cas, .. } => cas.is_some(),
        Command::Concat { .. } => true,
        Command::MetaStore { options, .. } => {
            let options = usize::try_from(options).ok().and_then(|at| batch.meta.get(at));
            matches!(options, Some(Meta::Store(MetaStore { cas: Some(_), .. })))
        }
        _ => false,
    }
}

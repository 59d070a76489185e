//! Lists of keys.
//!
//! One operation a key. A list that fits into a line is taken whole; a longer one is taken key by key as it comes, and
//! ends with an operation of its own where its last key was not known to be one. The operations behind the first one
//! begin at their keys, so that a list which was cut short goes on there.

use memchr::{memchr, memchr2};
use wire::{Expiration, KEY_BYTES_MAX};

use crate::message::{Command, Op, Span};
use crate::server::Server;
use crate::session::Next;
use crate::session::text::line::{LINE_BYTES_MAX, Words};
use crate::session::text::note::{Kind, Note, Saying, Traits};
use crate::session::text::{Asked, Place, Request, State, Step};

/// Spaces that may stand before a list that is longer than a line.
const BLANKS_MAX: usize = 100;

/// What is asked of each key of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct List {
    traits: Traits,
    expiration: Option<Expiration>,
}

impl List {
    pub(super) const GET: Self = Self { traits: Traits::NONE, expiration: None };
    pub(super) const GETS: Self = Self { traits: Traits::WITH_CAS, expiration: None };

    /// The same, with a new expiration for each item.
    pub(super) fn touching(self, expiration: Expiration) -> Self {
        Self { expiration: Some(expiration), ..self }
    }

    /// The list that an operation belongs to.
    pub(super) fn of(op: &Op, traits: Traits) -> Self {
        let list = if traits.has(Traits::WITH_CAS) { Self::GETS } else { Self::GET };
        match op.command {
            Command::GetAndTouch { expiration } => list.touching(expiration),
            _ => list,
        }
    }

    /// All keys of a line, behind the words that say what is asked of them.
    #[inline]
    pub(super) fn whole(self, mut words: Words<'_>, request: Request<'_>, asked: &mut Asked<'_>) -> Step {
        let Request { place, server, .. } = request;
        let first_op = asked.ops.len();
        let mut next = words.next_placed();
        let mut starts_at = place.at;
        let mut traits = Traits::NONE;
        while let Some((key_at, key)) = next {
            if key.len() > KEY_BYTES_MAX {
                asked.ops.truncate(first_op);
                return request.say(Saying::BadLine, asked);
            }
            next = words.next_placed();
            let key_at = place.at.saturating_add(key_at);
            let traits_here = traits.with_if(Traits::LAST, next.is_none());
            let starts_here = if traits == Traits::NONE { starts_at } else { key_at };
            asked.ops.push(self.op(key, key_at, starts_here, traits_here, server));
            traits = Traits::IN_LIST;
            starts_at = key_at;
        }
        request.done()
    }

    /// The list that a longer line begins, and the bytes before its keys.
    pub(super) fn begin(rest: &[u8]) -> Option<(Self, usize)> {
        let blanks = rest.iter().take(LINE_BYTES_MAX).position(|&byte| byte != b' ')?;
        if blanks > BLANKS_MAX {
            return None;
        }
        let command = rest.get(blanks..)?;
        let lists = [(&b"get "[..], Self::GET), (b"gets ", Self::GETS)];
        lists
            .into_iter()
            .find(|(word, _)| command.starts_with(word))
            .map(|(word, list)| (list, blanks.saturating_add(word.len())))
    }

    /// The next key of a longer list, or its end, and what comes behind it.
    pub(super) fn step(self, place: Place<'_>, asked: &mut Asked<'_>, server: &Server) -> (Step, State) {
        let this = State::Keys(self);
        let blanks = place.rest.iter().take_while(|byte| **byte == b' ').count();
        if blanks > 0 {
            return (Step::Done { bytes: blanks }, this);
        }
        // One byte more than a key may be a carriage return.
        let looked_at = place.rest.get(..KEY_BYTES_MAX.saturating_add(2)).unwrap_or(place.rest);
        let Some(end) = memchr2(b' ', b'\n', looked_at) else {
            if looked_at.len() > KEY_BYTES_MAX.saturating_add(1) {
                return too_long(place, asked);
            }
            return (Step::Incomplete(Next::Read { missing: 1 }), this);
        };
        let word = looked_at.get(..end).unwrap_or_default();
        let is_end = looked_at.get(end) == Some(&b'\n');
        let key = match word {
            [key @ .., b'\r'] if is_end => key,
            key => key,
        };
        if key.len() > KEY_BYTES_MAX {
            return too_long(place, asked);
        }
        let traits = Traits::IN_LIST.with_if(Traits::LAST, is_end);
        if key.is_empty() {
            let note = Note::new(Kind::VALUE, traits.with(self.traits));
            asked.ops.push(note.op(Command::Pass, place.at));
        } else {
            asked.ops.push(self.op(key, place.at, place.at, traits, server));
        }
        if is_end {
            return (Step::Done { bytes: end.saturating_add(1) }, State::Line);
        }
        (Step::Done { bytes: end }, this)
    }

    #[inline]
    fn op(self, key: &[u8], key_at: usize, starts_at: usize, traits: Traits, server: &Server) -> Op {
        let command = match self.expiration {
            None => Command::Get,
            Some(expiration) => Command::GetAndTouch { expiration },
        };
        Op {
            command,
            key: Span::new(key_at, key.len()),
            hash: server.hash(key),
            starts_at: Span::new(starts_at, 0).start,
            tag: Note::new(Kind::VALUE, self.traits.with(traits)).to_tag(),
        }
    }
}

/// The end of a list with a key that is too long. What was found before it is on its way already.
fn too_long(place: Place<'_>, asked: &mut Asked<'_>) -> (Step, State) {
    let note = Note::says(Saying::BadLine).with(Traits::IN_LIST.with(Traits::LAST));
    asked.ops.push(note.op(Command::Pass, place.at));
    match memchr(b'\n', place.rest) {
        Some(at) => (Step::Done { bytes: at.saturating_add(1) }, State::Line),
        None => (Step::Done { bytes: place.rest.len() }, State::Discard),
    }
}

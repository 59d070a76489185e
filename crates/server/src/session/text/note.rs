//! What a session notes down beside an operation, to word its answer.

use crate::message::{Command, KeyHash, Op, Span, Tag};

/// A line that is answered as it stands.
macro_rules! sayings {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Answers that are known before storage is asked.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Saying {
            $($(#[$doc])* $name,)*
        }

        impl Saying {
            const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its line, with the end.
            pub(super) fn text(self) -> &'static [u8] {
                match self {
                    $(Self::$name => concat!($text, "\r\n").as_bytes(),)*
                }
            }
        }
    };
}

sayings! {
    Error = "ERROR",
    Ok = "OK",
    End = "END",
    Mn = "MN",
    Reset = "RESET",
    BadLine = "CLIENT_ERROR bad command line format",
    BadStats = "CLIENT_ERROR bad command line",
    BadDelete = "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]",
    BadData = "CLIENT_ERROR bad data chunk",
    BadExptime = "CLIENT_ERROR invalid exptime argument",
    BadDelta = "CLIENT_ERROR invalid numeric delta argument",
    NoFlush = "CLIENT_ERROR flush_all not allowed",
    DetailUsage = "CLIENT_ERROR usage: stats detail on|off|dump",
    CachedumpOff = "CLIENT_ERROR stats cachedump not allowed",
    NoWatch = "CLIENT_ERROR watch commands not allowed",
    NoTls = "Error TLS not enabled",
    ShutdownOff = "ERROR: shutdown not enabled",
    ShutdownMode = "CLIENT_ERROR invalid shutdown mode",
    MemlimitSmall = "MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m",
    MemlimitUnit = "MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes",
    MemlimitFixed = "MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust",
    ReassignOff = "CLIENT_ERROR slab reassignment disabled",
    LruShares = "ERROR hot and warm pcts must not exceed 80",
    LruFactors = "ERROR hot/warm age factors must be greater than 0",
    CrawlerSleep = "CLIENT_ERROR sleep must be one second or less",
    CrawlerClass = "BADCLASS invalid class id",
    DumpOff = "ERROR metadump not allowed",
    MetaTooMany = "CLIENT_ERROR options flags are too long",
    MetaDuplicate = "CLIENT_ERROR duplicate flag",
    MetaInvalid = "CLIENT_ERROR invalid flag",
    MetaInvalidOrDuplicate = "CLIENT_ERROR invalid or duplicate flag",
    MetaKey = "CLIENT_ERROR error decoding key",
    MetaToken = "CLIENT_ERROR bad token in command line format",
    MetaOpaque = "CLIENT_ERROR opaque token too long",
    MetaModeLength = "CLIENT_ERROR incorrect length for M token",
    MetaSetMode = "CLIENT_ERROR invalid mode for ms M token",
    MetaCountMode = "CLIENT_ERROR invalid mode for ma M token",
    MetaInitial = "CLIENT_ERROR invalid numeric initial value",
    MetaDelta = "CLIENT_ERROR invalid numeric delta value",
}

/// Which words an answer is put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind(u8);

impl Kind {
    /// A [`Saying`].
    pub(super) const SAYING: Self = Self(0);
    /// One key of `get` and its like.
    pub(super) const VALUE: Self = Self(1);
    /// `set`, `append` and their like.
    pub(super) const STORE: Self = Self(2);
    pub(super) const DELETE: Self = Self(3);
    pub(super) const TOUCH: Self = Self(4);
    pub(super) const COUNT: Self = Self(5);
    pub(super) const FLUSH: Self = Self(6);
    pub(super) const STATS: Self = Self(7);
    pub(super) const VERSION: Self = Self(8);
    pub(super) const META_GET: Self = Self(9);
    pub(super) const META_SET: Self = Self(10);
    pub(super) const META_DELETE: Self = Self(11);
    pub(super) const META_COUNT: Self = Self(12);
    pub(super) const META_DEBUG: Self = Self(13);
    /// A page of `lru_crawler metadump`.
    pub(super) const METADUMP: Self = Self(14);
    /// A page of `lru_crawler mgdump`.
    pub(super) const MGDUMP: Self = Self(15);

    #[inline]
    pub(super) fn is_meta(self) -> bool {
        (Self::META_GET.0..=Self::META_DEBUG.0).contains(&self.0)
    }
}

/// What is true of a request, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Traits(u8);

impl Traits {
    pub(super) const NONE: Self = Self(0);
    /// Its answer is not sent: `noreply`, or what `q` leaves out.
    pub(super) const QUIET: Self = Self(1);
    /// `gets`, `gats`: the version is told.
    pub(super) const WITH_CAS: Self = Self(2);
    /// The last key of its list.
    pub(super) const LAST: Self = Self(4);
    /// Not the first key of its list: the operation begins at the key, and not at the line.
    pub(super) const IN_LIST: Self = Self(8);

    pub(super) fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub(super) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn with_if(self, other: Self, holds: bool) -> Self {
        if holds { self.with(other) } else { self }
    }
}

/// What a session needs to word an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) kind: Kind,
    pub(super) traits: Traits,
    saying: u8,
    /// Bytes of the request's line without its end, where the answer repeats parts of it.
    line_len: u32,
}

impl Note {
    #[inline]
    pub(super) fn new(kind: Kind, traits: Traits) -> Self {
        Self { kind, traits, saying: 0, line_len: 0 }
    }

    pub(super) fn says(saying: Saying) -> Self {
        let at = Saying::ALL.iter().position(|other| *other == saying).unwrap_or_default();
        Self { saying: u8::try_from(at).unwrap_or_default(), ..Self::new(Kind::SAYING, Traits::NONE) }
    }

    /// The same, with more that is true of it.
    pub(super) fn with(self, traits: Traits) -> Self {
        Self { traits: self.traits.with(traits), ..self }
    }

    /// The same, with the line that it stands for.
    pub(super) fn of_line(self, line: &[u8]) -> Self {
        Self { line_len: u32::try_from(line.len()).unwrap_or_default(), ..self }
    }

    pub(super) fn saying(self) -> Saying {
        Saying::ALL.get(usize::from(self.saying)).copied().unwrap_or(Saying::Error)
    }

    /// Where the request's line lies.
    pub(super) fn line(self, op: &Op) -> Span {
        Span { start: op.starts_at, len: self.line_len }
    }

    #[inline]
    pub(super) fn to_tag(self) -> Tag {
        let [l0, l1, l2, l3] = self.line_len.to_be_bytes();
        Tag(u64::from_be_bytes([0, self.kind.0, self.traits.0, self.saying, l0, l1, l2, l3]))
    }

    #[inline]
    pub(super) fn of_tag(tag: Tag) -> Self {
        let [_, kind, traits, saying, l0, l1, l2, l3] = tag.0.to_be_bytes();
        Self {
            kind: Kind(kind),
            traits: Traits(traits),
            saying,
            line_len: u32::from_be_bytes([l0, l1, l2, l3]),
        }
    }

    /// An operation without a key, for a request at `at`.
    pub(super) fn op(self, command: Command, at: usize) -> Op {
        Op {
            command,
            key: Span::default(),
            hash: KeyHash(0),
            starts_at: Span::new(at, 0).start,
            tag: self.to_tag(),
        }
    }
}

const _: () = assert!(Saying::ALL.len() <= 256, "a tag has a byte for it");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_holds_all_of_a_note() {
        for saying in Saying::ALL {
            let note = Note::says(*saying).of_line(b"a line");
            assert_eq!(Note::of_tag(note.to_tag()), note);
            assert_eq!(note.saying(), *saying);
            assert!(saying.text().ends_with(b"\r\n"));
        }
        let traits = Traits::QUIET.with(Traits::LAST);
        let note = Note::new(Kind::MGDUMP, traits);
        assert_eq!(Note::of_tag(note.to_tag()), note);
        assert!(traits.has(Traits::QUIET) && !traits.has(Traits::IN_LIST));
    }
}

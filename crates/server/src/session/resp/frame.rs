//! Requests as they arrive: arrays of bulk strings, piece by piece.
//!
//! ```text
//! *2\r\n $3\r\nGET\r\n $3\r\nkey\r\n
//! ```
//! As in Redis, what stands behind a bulk string's bytes is passed over, not looked at.

use crate::message::Span;
use crate::session::number::read_short;
use crate::storage::counter;

/// Arguments of a request that are looked at, its name among them. No command that takes more needs them all at once.
pub(super) const ARGS_MAX: usize = 16;
/// The longest argument that is no value.
pub(super) const ARG_BYTES_MAX: usize = 32 << 10;
/// The shortest argument there is: `$0\r\n\r\n`.
const ARG_BYTES_MIN: usize = 6;
/// The longest line that tells a number, its end included.
const LINE_BYTES_MAX: usize = 32;
/// Bytes behind a line, and behind an argument.
const END_BYTES: usize = 2;

/// Why there is nothing more to be read from a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// At least so many bytes are missing.
    Missing(usize),
    /// An argument is longer than it may be.
    TooLong,
    /// It does not keep to the protocol.
    Broken(Broken),
}

/// How a request does not keep to the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// No array begins there.
    NoArray(u8),
    /// The array's length is none.
    ArrayLength,
    /// No bulk string begins there.
    NoBulk(u8),
    /// The bulk string's length is none.
    BulkLength,
}

/// What has arrived, and how far it was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// The place of `rest` in the batch's input.
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads `rest`, which begins at `at`.
    #[inline]
    pub(super) fn new(rest: &'a [u8], at: usize) -> Self {
        Self { rest, at }
    }

    /// Where it stands.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Bytes left.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    /// Passes over empty lines, which clients send between requests.
    #[inline]
    pub(super) fn empty_lines(&mut self) -> Result<(), Stop> {
        loop {
            let (bytes, rest) = match self.rest {
                [b'\n', rest @ ..] => (1, rest),
                [b'\r', b'\n', rest @ ..] => (2, rest),
                [b'\r'] => return Err(Stop::Missing(1)),
                _ => return Ok(()),
            };
            self.rest = rest;
            self.at = self.at.saturating_add(bytes);
        }
    }

    /// The next `N` bytes, and itself behind them.
    #[inline]
    pub(super) fn chunk<const N: usize>(self) -> Option<(&'a [u8; N], Self)> {
        let (chunk, rest) = self.rest.split_first_chunk()?;
        Some((chunk, Self { rest, at: self.at.saturating_add(N) }))
    }

    /// The number of a request's arguments; none where that is 0 or less.
    #[inline]
    pub(super) fn array(&mut self) -> Result<usize, Stop> {
        match self.number(b'*', Broken::NoArray, Broken::ArrayLength)? {
            Some(..=0) => Ok(0),
            Some(count) if i32::try_from(count).is_ok() => {
                usize::try_from(count).map_err(|_| Stop::Broken(Broken::ArrayLength))
            }
            _ => Err(Stop::Broken(Broken::ArrayLength)),
        }
    }

    /// The length of an argument, behind which `behind` more are to come. `limit` is the longest that is any length at
    /// all.
    #[inline]
    pub(super) fn arg_len(&mut self, behind: usize, limit: usize) -> Result<usize, Stop> {
        let number =
            self.number(b'$', Broken::NoBulk, Broken::BulkLength).map_err(|stop| stop.with(behind))?;
        let len = number.and_then(|len| usize::try_from(len).ok()).filter(|len| *len <= limit);
        len.ok_or(Stop::Broken(Broken::BulkLength))
    }

    /// An argument of `len` bytes.
    #[inline]
    pub(super) fn arg_bytes(&mut self, len: usize, behind: usize) -> Result<Span, Stop> {
        let whole = len.saturating_add(END_BYTES);
        let Some(rest) = self.rest.get(whole..) else {
            return Err(Stop::Missing(whole.saturating_sub(self.rest.len())).with(behind));
        };
        let span = Span::new(self.at, len);
        self.rest = rest;
        self.at = self.at.saturating_add(whole);
        Ok(span)
    }

    /// An argument that is no value.
    #[inline]
    pub(super) fn arg(&mut self, behind: usize, limit: usize) -> Result<Span, Stop> {
        let before = *self;
        let len = self.arg_len(behind, limit)?;
        if len > ARG_BYTES_MAX {
            *self = before;
            return Err(Stop::TooLong);
        }
        self.arg_bytes(len, behind)
    }

    /// Passes over an argument of any length. Says how many of its bytes are still to come.
    pub(super) fn skip_arg(&mut self, limit: usize) -> Result<usize, Stop> {
        let whole = self.arg_len(0, limit)?.saturating_add(END_BYTES);
        let there = whole.min(self.rest.len());
        self.rest = self.rest.get(there..).unwrap_or_default();
        self.at = self.at.saturating_add(there);
        Ok(whole.saturating_sub(there))
    }

    /// The number in a line that begins with `mark`, `None` where it is none.
    #[inline]
    fn number(&mut self, mark: u8, unmarked: fn(u8) -> Broken, endless: Broken) -> Result<Option<i64>, Stop> {
        let line = match self.rest.split_first() {
            None => return Err(Stop::Missing(1)),
            Some((first, line)) if *first == mark => line,
            Some((other, _)) => return Err(Stop::Broken(unmarked(*other))),
        };
        // A zero before other digits makes it none.
        if let Some((number, [_, rest @ ..])) = read_short(line, b'\r')
            && !matches!(line, [b'0', b'0'..=b'9', ..])
        {
            self.at = self.at.saturating_add(self.rest.len().saturating_sub(rest.len()));
            self.rest = rest;
            return Ok(Some(i64::from(number)));
        }
        let Some(end) = line.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\r') else {
            let is_endless = line.len() >= LINE_BYTES_MAX;
            return Err(if is_endless { Stop::Broken(endless) } else { Stop::Missing(END_BYTES) });
        };
        let Some(rest) = line.get(end.saturating_add(END_BYTES)..) else {
            return Err(Stop::Missing(1));
        };
        self.at = self.at.saturating_add(1).saturating_add(end).saturating_add(END_BYTES);
        self.rest = rest;
        Ok(counter::parse_exact(line.get(..end).unwrap_or_default()))
    }
}

/// Bytes that so many arguments have at the least.
pub(super) fn bytes_min(args: usize) -> usize {
    args.saturating_mul(ARG_BYTES_MIN)
}

impl Stop {
    /// The same where `behind` more arguments are to come.
    fn with(self, behind: usize) -> Self {
        match self {
            Self::Missing(bytes) => Self::Missing(bytes.saturating_add(bytes_min(behind))),
            other => other,
        }
    }
}

/// A request's first arguments, its name among them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Args<'a> {
    input: &'a [u8],
    spans: [Span; ARGS_MAX],
    len: usize,
}

impl<'a> Args<'a> {
    /// None yet, of a request in `input`, which is all of a batch's.
    #[inline]
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self { input, spans: [Span::default(); ARGS_MAX], len: 0 }
    }

    /// Those of the request that begins at `at`, as far as they are there.
    pub(super) fn of(input: &'a [u8], at: u32) -> Self {
        let mut args = Self::new(input);
        let at = Span { start: at, len: 0 }.end();
        let mut reader = Reader::new(input.get(at..).unwrap_or_default(), at);
        let count = reader.array().unwrap_or(0).min(ARGS_MAX);
        while args.len < count
            && let Ok(span) = reader.arg(0, usize::MAX)
        {
            args.push(span);
        }
        args
    }

    /// The same, where `input` reaches further.
    pub(super) fn within(self, input: &'a [u8]) -> Self {
        Self { input, ..self }
    }

    /// One more.
    #[inline]
    pub(super) fn push(&mut self, span: Span) {
        if let Some(slot) = self.spans.get_mut(self.len) {
            *slot = span;
            self.len = self.len.saturating_add(1);
        }
    }

    /// How many there are.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Where one lies; nowhere, where there is none.
    #[inline]
    pub(super) fn span(&self, number: usize) -> Span {
        self.spans.get(number).copied().unwrap_or_default()
    }

    /// One's bytes; none, where there is none.
    #[inline]
    pub(super) fn get(&self, number: usize) -> &'a [u8] {
        self.input.get(self.span(number).range()).unwrap_or_default()
    }

    /// Those from one on.
    pub(super) fn from(&self, number: usize) -> impl Iterator<Item = &'a [u8]> {
        let (input, len) = (self.input, self.len);
        let spans = self.spans;
        (number..len).filter_map(move |at| input.get(spans.get(at)?.range()))
    }

    /// Whether one is this word, in whatever case.
    pub(super) fn is(&self, number: usize, word: &str) -> bool {
        number < self.len && self.get(number).eq_ignore_ascii_case(word.as_bytes())
    }
}

//! Answers in words, ready to be written.

use std::io::IoSlice;
use std::ops::Range;

use bytes::Bytes;

use crate::limits::OUTPUT_BYTES_KEPT;
use crate::message::{Batch, Value};

/// Bytes, with values between them that are held by reference.
///
/// One is used again and again for all connections of an event loop, so that an answer costs no allocation.
#[derive(Debug, Default)]
pub struct Output {
    bytes: Vec<u8>,
    /// Each before the byte at its place.
    values: Vec<(usize, Held)>,
    value_bytes: usize,
}

/// A value that is held by reference.
#[derive(Debug)]
enum Held {
    /// For as long as it takes.
    Shared(Bytes),
    /// Until the socket was asked once: its segment is wanted back.
    Lent(Bytes),
}

impl Held {
    fn bytes(&self) -> &Bytes {
        match self {
            Self::Shared(value) | Self::Lent(value) => value,
        }
    }
}

/// The value of an answer, wherever it lies.
#[derive(Debug)]
pub enum Body<'a> {
    /// In the batch. It is copied.
    Copied(&'a [u8]),
    /// By itself.
    Shared(Bytes),
    /// In the log, until the output is cleared.
    Lent(Bytes),
}

impl<'a> Body<'a> {
    /// The value that an answer in `batch` names.
    #[inline]
    #[must_use]
    pub fn of(value: Value, batch: &'a Batch) -> Self {
        let held = |values: &[Bytes], at: u32| {
            usize::try_from(at).ok().and_then(|at| values.get(at)).cloned().unwrap_or_default()
        };
        match value {
            Value::Copied(span) => Self::Copied(batch.values.get(span.range()).unwrap_or_default()),
            Value::Large(at) => Self::Shared(held(&batch.large, at)),
            Value::Lent(at) => Self::Lent(held(&batch.lent, at)),
        }
    }

    /// Its bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Copied(bytes) => bytes.len(),
            Self::Shared(bytes) | Self::Lent(bytes) => bytes.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A part of it.
    #[must_use]
    pub fn slice(self, part: Range<usize>) -> Self {
        let part = part.start.min(self.len())..part.end.min(self.len());
        match self {
            Self::Copied(bytes) => Self::Copied(bytes.get(part).unwrap_or_default()),
            Self::Shared(bytes) => Self::Shared(bytes.slice(part)),
            Self::Lent(bytes) => Self::Lent(bytes.slice(part)),
        }
    }

    /// Appends it, by reference where that is worth it.
    #[inline]
    pub fn append_to(self, output: &mut Output) {
        match self {
            Self::Copied(bytes) => output.bytes().extend_from_slice(bytes),
            Self::Shared(bytes) => output.push_shared(bytes),
            Self::Lent(bytes) => output.push_lent(bytes),
        }
    }
}

/// A part of what is left to be written.
#[derive(Debug)]
pub enum Rest<'a> {
    /// To be copied before the output is cleared.
    Copy(&'a [u8]),
    /// May be kept.
    Keep(Bytes),
}

impl Rest<'_> {
    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Copy(bytes) => bytes,
            Self::Keep(bytes) => bytes,
        }
    }
}

impl Output {
    /// Empties it, and lets go of what it holds. A buffer that has grown beyond what is worth keeping is given back.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(OUTPUT_BYTES_KEPT);
        self.values.clear();
        self.value_bytes = 0;
    }

    /// Bytes of its buffers.
    #[must_use]
    pub fn capacity_bytes(&self) -> usize {
        let values = self.values.capacity().saturating_mul(size_of::<(usize, Held)>());
        self.bytes.capacity().saturating_add(values)
    }

    /// The bytes, to be appended to.
    #[inline]
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Appends a large value by reference, which may be held for as long as its reader takes.
    pub fn push_shared(&mut self, value: Bytes) {
        self.push(Held::Shared(value));
    }

    /// Appends a value by reference that is held only until the output is cleared.
    pub fn push_lent(&mut self, value: Bytes) {
        self.push(Held::Lent(value));
    }

    // Kept apart from those who append short values.
    #[inline(never)]
    fn push(&mut self, value: Held) {
        self.value_bytes = self.value_bytes.saturating_add(value.bytes().len());
        self.values.push((self.bytes.len(), value));
    }

    /// Bytes of all of it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len().saturating_add(self.value_bytes)
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its parts, in order, none of them empty.
    fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let mut from = 0;
        let values = self.values.iter().flat_map(move |(at, value)| {
            let before = self.bytes.get(from..*at).unwrap_or_default();
            from = *at;
            [Part::Copied(before), Part::Held(value)]
        });
        let last = self.values.last().map_or(0, |(at, _)| *at);
        let rest = self.bytes.get(last..).unwrap_or_default();
        values.chain([Part::Copied(rest)]).filter(|part| !part.as_bytes().is_empty())
    }

    /// Its parts behind the first `written` bytes as slices, as many as `slices` takes; says how many.
    pub fn fill_slices<'a>(&'a self, written: usize, slices: &mut [IoSlice<'a>]) -> usize {
        let mut skip = written;
        let rests = self.parts().filter_map(move |part| {
            let bytes = part.as_bytes();
            let rest = bytes.get(skip.min(bytes.len())..).unwrap_or_default();
            skip = skip.saturating_sub(bytes.len());
            (!rest.is_empty()).then_some(rest)
        });
        slices.iter_mut().zip(rests).map(|(slice, rest)| *slice = IoSlice::new(rest)).count()
    }

    /// Everything behind the first `written` bytes. Large values stay shared; the rest, and what is lent, must be copied.
    pub fn behind(&self, written: usize) -> impl Iterator<Item = Rest<'_>> {
        let mut skip = written;
        self.parts().filter_map(move |part| {
            let skipped = skip.min(part.as_bytes().len());
            skip = skip.saturating_sub(skipped);
            let rest = part.as_bytes().get(skipped..).unwrap_or_default();
            match part {
                _ if rest.is_empty() => None,
                Part::Held(Held::Shared(value)) => Some(Rest::Keep(value.slice(skipped..))),
                Part::Copied(_) | Part::Held(Held::Lent(_)) => Some(Rest::Copy(rest)),
            }
        })
    }
}

#[derive(Clone, Copy)]
enum Part<'a> {
    Copied(&'a [u8]),
    Held(&'a Held),
}

impl<'a> Part<'a> {
    fn as_bytes(self) -> &'a [u8] {
        match self {
            Self::Copied(bytes) => bytes,
            Self::Held(value) => value.bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn output() -> Output {
        let mut output = Output::default();
        output.push_shared(Bytes::from_static(b"AB"));
        output.bytes().extend_from_slice(b"cd");
        output.push_shared(Bytes::from_static(b"EF"));
        output.push_lent(Bytes::from_static(b"GH"));
        output.bytes().extend_from_slice(b"ij");
        output
    }

    #[test]
    fn parts_come_in_order() {
        let output = output();
        let mut slices = [IoSlice::new(&[]); 8];
        let count = output.fill_slices(0, &mut slices);
        assert_eq!(slices[..count].iter().map(|slice| slice.len()).collect::<Vec<_>>(), [2, 2, 2, 2, 2]);
        assert_eq!(
            slices[..count].iter().flat_map(|slice| slice.to_vec()).collect::<Vec<_>>(),
            b"ABcdEFGHij"
        );
        assert_eq!(output.len(), 10);
        let mut few = [IoSlice::new(&[]); 2];
        assert_eq!(output.fill_slices(0, &mut few), 2);
        for written in 0..=10 {
            let mut slices = [IoSlice::new(&[]); 8];
            let count = output.fill_slices(written, &mut slices);
            let rest: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
            assert_eq!(rest, &b"ABcdEFGHij"[written..]);
        }
    }

    #[test]
    fn what_is_behind_any_byte_is_kept() {
        let output = output();
        for written in 0..=10 {
            let rest: Vec<u8> = output.behind(written).flat_map(|rest| rest.as_bytes().to_vec()).collect();
            assert_eq!(rest, &b"ABcdEFGHij"[written..]);
        }
    }

    /// Bytes that say by their number of holders when they are let go.
    fn watched() -> (Arc<()>, Bytes) {
        struct Watched {
            holders: Arc<()>,
        }
        impl AsRef<[u8]> for Watched {
            fn as_ref(&self) -> &[u8] {
                assert!(Arc::strong_count(&self.holders) > 0);
                b"watched"
            }
        }
        let holders = Arc::new(());
        (Arc::clone(&holders), Bytes::from_owner(Watched { holders }))
    }

    #[test]
    fn a_lent_value_is_let_go_with_the_output_and_a_shared_one_with_what_was_kept() {
        let ((lent_holders, lent), (shared_holders, shared)) = (watched(), watched());
        let mut output = Output::default();
        output.push_lent(lent);
        output.push_shared(shared);
        let mut rest = output.behind(3);
        assert!(matches!(rest.next(), Some(Rest::Copy(b"ched"))));
        let kept = rest.find_map(|part| if let Rest::Keep(kept) = part { Some(kept) } else { None });
        drop(rest);
        output.clear();
        assert_eq!((Arc::strong_count(&lent_holders), Arc::strong_count(&shared_holders)), (1, 2));
        assert_eq!(kept.as_deref(), Some(&b"watched"[..]));
        drop(kept);
        assert_eq!(Arc::strong_count(&shared_holders), 1);
    }

    #[test]
    fn a_buffer_that_has_grown_is_given_back() {
        let mut output = Output::default();
        output.bytes().resize(2 * OUTPUT_BYTES_KEPT, 0);
        assert!(output.capacity_bytes() >= 2 * OUTPUT_BYTES_KEPT);
        output.clear();
        assert!(output.is_empty() && output.capacity_bytes() <= OUTPUT_BYTES_KEPT);
    }
}

//! Answers in words, ready to be written.

use std::io::IoSlice;

use bytes::Bytes;

/// Bytes, with large values between them that are held by reference.
///
/// One is used again and again for all connections of an event loop, so that an answer costs no allocation.
#[derive(Debug, Default)]
pub struct Output {
    bytes: Vec<u8>,
    /// Each before the byte at its place.
    shared: Vec<(usize, Bytes)>,
    shared_bytes: usize,
}

impl Output {
    /// Empties it.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.shared.clear();
        self.shared_bytes = 0;
    }

    /// The bytes, to be appended to.
    #[inline]
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Appends a large value by reference.
    pub fn push_shared(&mut self, value: Bytes) {
        self.shared_bytes = self.shared_bytes.saturating_add(value.len());
        self.shared.push((self.bytes.len(), value));
    }

    /// Bytes of all of it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len().saturating_add(self.shared_bytes)
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its parts, in order, none of them empty.
    fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let mut from = 0;
        let shared = self.shared.iter().flat_map(move |(at, value)| {
            let before = self.bytes.get(from..*at).unwrap_or_default();
            from = *at;
            [Part::Copied(before), Part::Shared(value)]
        });
        let last = self.shared.last().map_or(0, |(at, _)| *at);
        let rest = self.bytes.get(last..).unwrap_or_default();
        shared.chain([Part::Copied(rest)]).filter(|part| !part.as_bytes().is_empty())
    }

    /// Its first parts as slices, as many as `slices` takes; says how many.
    pub fn fill_slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        slices
            .iter_mut()
            .zip(self.parts())
            .map(|(slice, part)| *slice = IoSlice::new(part.as_bytes()))
            .count()
    }

    /// Everything behind the first `written` bytes, with a life of its own: bytes are copied, large values stay shared.
    pub fn behind(&self, written: usize) -> impl Iterator<Item = Bytes> {
        let mut skip = written;
        self.parts().filter_map(move |part| {
            let skipped = skip.min(part.as_bytes().len());
            skip = skip.saturating_sub(skipped);
            let rest = part.as_bytes().get(skipped..).unwrap_or_default();
            match part {
                _ if rest.is_empty() => None,
                Part::Copied(_) => Some(Bytes::copy_from_slice(rest)),
                Part::Shared(value) => Some(value.slice(skipped..)),
            }
        })
    }
}

#[derive(Clone, Copy)]
enum Part<'a> {
    Copied(&'a [u8]),
    Shared(&'a Bytes),
}

impl<'a> Part<'a> {
    fn as_bytes(self) -> &'a [u8] {
        match self {
            Self::Copied(bytes) => bytes,
            Self::Shared(value) => value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output() -> Output {
        let mut output = Output::default();
        output.push_shared(Bytes::from_static(b"AB"));
        output.bytes().extend_from_slice(b"cd");
        output.push_shared(Bytes::from_static(b"EF"));
        output.push_shared(Bytes::from_static(b"GH"));
        output.bytes().extend_from_slice(b"ij");
        output
    }

    #[test]
    fn parts_come_in_order() {
        let output = output();
        let mut slices = [IoSlice::new(&[]); 8];
        let count = output.fill_slices(&mut slices);
        assert_eq!(slices[..count].iter().map(|slice| slice.len()).collect::<Vec<_>>(), [2, 2, 2, 2, 2]);
        assert_eq!(
            slices[..count].iter().flat_map(|slice| slice.to_vec()).collect::<Vec<_>>(),
            b"ABcdEFGHij"
        );
        assert_eq!(output.len(), 10);
        let mut few = [IoSlice::new(&[]); 2];
        assert_eq!(output.fill_slices(&mut few), 2);
    }

    #[test]
    fn what_is_behind_any_byte_is_kept() {
        let output = output();
        for written in 0..=10 {
            let rest: Vec<u8> = output.behind(written).flat_map(|part| part.to_vec()).collect();
            assert_eq!(rest, &b"ABcdEFGHij"[written..]);
        }
    }
}

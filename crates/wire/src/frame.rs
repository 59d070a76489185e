//! A byte stream into packets, however it was cut up on its way.
//!
//! [`split`] looks at the front of what has arrived and keeps no state: call it again with more bytes. It gives the
//! header as soon as that is there, so a receiver can refuse a packet, or find a place for its value, before the
//! body arrives. Whatever the split, the packets are the same, and a packet takes exactly 24 + body length bytes.

use crate::{HEADER_BYTES, Header, Reject};

/// The longest body that memcached reads: 1 GiB.
pub const FRAME_BODY_BYTES_MAX: u32 = 1 << 30;

/// What stands at the front of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split<'a, H> {
    /// The header is not complete.
    Head {
        /// Bytes that complete it.
        missing: usize,
    },
    /// The header is complete, the body is not.
    Body {
        /// The header.
        header: &'a H,
        /// The part of the body that is there.
        body: &'a [u8],
        /// Bytes that complete it.
        missing: usize,
    },
    /// A whole packet.
    Whole {
        /// The packet.
        packet: Packet<'a, H>,
        /// What follows it.
        rest: &'a [u8],
    },
}

/// A packet, carved by the lengths in its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a, H> {
    /// The header.
    pub header: &'a H,
    /// `extras_len` bytes.
    pub extras: &'a [u8],
    /// `key_len` bytes.
    pub key: &'a [u8],
    /// The rest of the body.
    pub value: &'a [u8],
}

/// Looks at the front of `input`, where a packet begins. A server frames by [`RequestHeader`](crate::RequestHeader),
/// a client by [`ResponseHeader`](crate::ResponseHeader).
///
/// ```
/// use memwire_wire::{split, ResponseHeader, Split, FRAME_BODY_BYTES_MAX};
///
/// // Twelve bytes of a response so far: twelve more make a header.
/// let front = b"\x81\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x09";
/// assert_eq!(split::<ResponseHeader>(front, FRAME_BODY_BYTES_MAX), Ok(Split::Head { missing: 12 }));
/// ```
///
/// # Errors
/// [`Reject::BadMagic`] on the first byte already; [`Reject::Overrun`] and [`Reject::BodyTooLong`] once the header
/// is there. The stream can't be followed behind any of them.
#[inline]
pub fn split<H: Header>(input: &[u8], body_bytes_max: u32) -> Result<Split<'_, H>, Reject> {
    let Ok((header, behind)) = H::ref_from_prefix(input) else {
        return match input.first() {
            Some(&magic) if magic != H::MAGIC => Err(Reject::BadMagic { magic }),
            _ => Ok(Split::Head { missing: HEADER_BYTES.saturating_sub(input.len()) }),
        };
    };
    check(header, body_bytes_max)?;
    let body_len = to_usize(header.body_len());
    match behind.split_at_checked(body_len) {
        Some((body, rest)) => Ok(Split::Whole { packet: Packet::carve(header, body), rest }),
        None => Ok(Split::Body { header, body: behind, missing: body_len.saturating_sub(behind.len()) }),
    }
}

/// The rules that hold in both directions, whatever the opcode.
#[inline]
fn check<H: Header>(header: &H, body_bytes_max: u32) -> Result<(), Reject> {
    let (key_len, extras_len, body_len) = (header.key_len(), header.extras_len(), header.body_len());
    if header.magic() != H::MAGIC {
        return Err(Reject::BadMagic { magic: header.magic() });
    }
    if u32::from(key_len).saturating_add(u32::from(extras_len)) > body_len {
        return Err(Reject::Overrun { key_len, extras_len, body_len });
    }
    if body_len > body_bytes_max {
        return Err(Reject::BodyTooLong { body_len, limit: body_bytes_max });
    }
    Ok(())
}

impl<'a, H: Header> Packet<'a, H> {
    /// Carves `body` by the lengths in `header`. A body that is shorter than they say (the part of one that has
    /// arrived) gives parts that are shorter, and empty at last.
    #[inline]
    #[must_use]
    pub fn carve(header: &'a H, body: &'a [u8]) -> Self {
        let (extras, behind) = split_at_most(body, usize::from(header.extras_len()));
        let (key, value) = split_at_most(behind, usize::from(header.key_len()));
        Self { header, extras, key, value }
    }

    /// Bytes of the value, by the header: known before the value has arrived.
    #[inline]
    #[must_use]
    pub fn value_len(&self) -> usize {
        value_len(self.header)
    }
}

/// Bytes of the value, by the header.
#[inline]
#[must_use]
pub fn value_len<H: Header>(header: &H) -> usize {
    to_usize(header.body_len())
        .saturating_sub(usize::from(header.extras_len()))
        .saturating_sub(usize::from(header.key_len()))
}

#[inline]
fn split_at_most(bytes: &[u8], at: usize) -> (&[u8], &[u8]) {
    bytes.split_at_checked(at).unwrap_or((bytes, &[]))
}

/// A length on the wire as one in memory. Where a `usize` has fewer than 32 bits no buffer can hold such a body, and
/// the body is never complete.
#[inline]
fn to_usize(len: u32) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{RequestHeader, ResponseHeader, request, response};

    const SET: &[u8] = b"\x80\x01\x00\x01\x08\x00\x00\x00\x00\x00\x00\x0b\x00\x00\x00\x01\0\0\0\0\0\0\0\0\0\0\0\x07\0\0\0\0kvv";

    #[test]
    fn every_prefix_says_how_much_is_missing() {
        for cut in 0..SET.len() {
            match split::<RequestHeader>(&SET[..cut], 100).unwrap() {
                Split::Head { missing } => assert_eq!(cut + missing, 24),
                Split::Body { missing, body, header } => {
                    assert_eq!(cut + missing, SET.len());
                    assert_eq!(body, &SET[24..cut]);
                    assert_eq!(value_len(header), 2);
                }
                Split::Whole { .. } => panic!("whole at {cut}"),
            }
        }
    }

    #[test]
    fn a_whole_packet_is_carved_and_the_rest_is_left() {
        let mut stream = SET.to_vec();
        stream.extend_from_slice(b"\x80next");
        let Split::Whole { packet, rest } = split::<RequestHeader>(&stream, 100).unwrap() else {
            panic!("not whole")
        };
        assert_eq!(packet.extras, b"\0\0\0\x07\0\0\0\0");
        assert_eq!((packet.key, packet.value, rest), (&b"k"[..], &b"vv"[..], &b"\x80next"[..]));
    }

    #[test]
    fn bad_magic_is_seen_on_the_first_byte_and_wins_over_all_else() {
        assert_eq!(split::<RequestHeader>(b"\x81", 9), Err(Reject::BadMagic { magic: 0x81 }));
        assert_eq!(split::<ResponseHeader>(b"\x80", 9), Err(Reject::BadMagic { magic: 0x80 }));
        let mut header = [0xff; 24];
        header[0] = b'g';
        assert_eq!(split::<RequestHeader>(&header, 9), Err(Reject::BadMagic { magic: b'g' }));
    }

    #[test]
    fn an_overrun_wins_over_a_body_that_is_too_long() {
        let mut header = [0; 24];
        header[0] = 0x80;
        header[3] = 4;
        header[4] = 8;
        header[11] = 11;
        let overrun = Reject::Overrun { key_len: 4, extras_len: 8, body_len: 11 };
        assert_eq!(split::<RequestHeader>(&header, 10), Err(overrun));
        header[11] = 12;
        assert_eq!(split::<RequestHeader>(&header, 11), Err(Reject::BodyTooLong { body_len: 12, limit: 11 }));
        assert!(split::<RequestHeader>(&header, 12).is_ok());
    }

    proptest! {
        #[test]
        fn whole_packets_take_24_and_body_length(input in proptest::collection::vec(any::<u8>(), 0..300), head in any::<[u8; 6]>()) {
            let mut input = input;
            if input.len() >= 12 {
                input[0] = 0x80;
                input[2..8].copy_from_slice(&head);
                input[2] = 0;
                input[8..11].fill(0);
            }
            if let Ok(Split::Whole { packet, rest }) = split::<RequestHeader>(&input, 1000) {
                prop_assert_eq!(rest.len() + 24 + packet.header.body_len.get() as usize, input.len());
                prop_assert_eq!(packet.extras.len() + packet.key.len() + packet.value.len() + 24 + rest.len(), input.len());
                prop_assert_eq!(packet.value.len(), packet.value_len());
            }
        }

        #[test]
        fn requests_cut_up_at_random_points_give_the_same_packets(
            samples in proptest::collection::vec(request::tests::samples(), 0..6),
            behind in any::<[u8; 2]>(),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let mut stream = Vec::new();
            for sample in &samples {
                sample.request().append_to(&mut stream);
            }
            assert_same_however_cut::<RequestHeader>(stream, samples.len(), &behind, &cuts);
        }

        #[test]
        fn responses_cut_up_at_random_points_give_the_same_packets(
            samples in proptest::collection::vec(response::tests::samples(), 0..6),
            behind in any::<[u8; 2]>(),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let mut stream = Vec::new();
            for sample in &samples {
                sample.response().append_to(&mut stream);
            }
            assert_same_however_cut::<ResponseHeader>(stream, samples.len(), &behind, &cuts);
        }
    }

    fn assert_same_however_cut<H: Header>(
        mut stream: Vec<u8>,
        packet_count: usize,
        behind: &[u8],
        cuts: &[prop::sample::Index],
    ) {
        assert_eq!(receive::<H>([&stream[..]]).packets.len(), packet_count);
        stream.extend_from_slice(behind);
        assert_eq!(receive::<H>(pieces(&stream, cuts)), receive::<H>([&stream[..]]));
    }

    /// What a receiver made of a stream: header, extras, key and value of each packet, and how it ended.
    #[derive(Debug, PartialEq, Eq)]
    struct Received {
        packets: Vec<[Vec<u8>; 4]>,
        left: Vec<u8>,
        reject: Option<Reject>,
    }

    fn receive<'a, H: Header>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Received {
        let mut received = Received { packets: Vec::new(), left: Vec::new(), reject: None };
        for piece in pieces {
            received.left.extend_from_slice(piece);
            while received.reject.is_none() {
                let rest_len = match split::<H>(&received.left, FRAME_BODY_BYTES_MAX) {
                    Ok(Split::Whole { packet, rest }) => {
                        let parts = [packet.header.as_bytes(), packet.extras, packet.key, packet.value];
                        received.packets.push(parts.map(<[u8]>::to_vec));
                        rest.len()
                    }
                    Ok(_) => break,
                    Err(reject) => {
                        received.reject = Some(reject);
                        break;
                    }
                };
                let consumed = received.left.len() - rest_len;
                received.left.drain(..consumed);
            }
        }
        received
    }

    fn pieces<'a>(stream: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
        ends.push(stream.len());
        ends.sort_unstable();
        let starts = core::iter::once(0).chain(ends.iter().copied());
        starts.zip(&ends).map(|(start, &end)| &stream[start..end]).collect()
    }
}

//! Responses, typed.

#[cfg(feature = "alloc")]
use alloc::vec::Vec;

use zerocopy::byteorder::network_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::header::RESPONSE_MAGIC;
use crate::request::write_parts;
use crate::{BufferTooShort, Cas, Opcode, Packet, ResponseHeader, Status};

/// A response, in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response<'a> {
    /// The request's opcode.
    pub opcode: Opcode,
    /// What became of the request.
    pub status: Status,
    /// The request's mark.
    pub opaque: u32,
    /// The item's version.
    pub cas: Option<Cas>,
    /// The flags of an item, or nothing.
    pub extras: &'a [u8],
    /// The key of a response that echoes it, a statistic's name, or nothing.
    pub key: &'a [u8],
    /// A value, a counter, a statistic, or the text of an error.
    pub value: &'a [u8],
}

impl<'a> Response<'a> {
    /// What a packet says. Every packet is a response; [`flags`](Self::flags) and [`counter`](Self::counter) say
    /// whether it has the form that the request asks for.
    #[inline]
    #[must_use]
    pub fn parse(packet: &Packet<'a, ResponseHeader>) -> Self {
        let header = packet.header;
        Self {
            opcode: header.opcode,
            status: header.status,
            opaque: header.opaque.get(),
            cas: Cas::from_wire(header.cas.get()),
            extras: packet.extras,
            key: packet.key,
            value: packet.value,
        }
    }

    /// A response with nothing behind its header.
    #[must_use]
    pub const fn empty(opcode: Opcode, status: Status, opaque: u32, cas: Option<Cas>) -> Self {
        Self { opcode, status, opaque, cas, extras: &[], key: &[], value: &[] }
    }

    /// An error, with memcached's text.
    #[must_use]
    pub const fn error(opcode: Opcode, status: Status, opaque: u32) -> Self {
        Self { value: status.text().as_bytes(), ..Self::empty(opcode, status, opaque, None) }
    }

    /// The item's flags: in a hit of GET, GAT or TOUCH.
    #[must_use]
    pub fn flags(&self) -> Option<u32> {
        Some(U32::ref_from_bytes(self.extras).ok()?.get())
    }

    /// The counter's value: in a success of INCREMENT or DECREMENT.
    #[must_use]
    pub fn counter(&self) -> Option<u64> {
        Some(U64::ref_from_bytes(self.value).ok()?.get())
    }

    /// The header. Lengths that it cannot say (extras over 255 bytes, a key over 64 KiB, a body over 4 GiB) are cut to
    /// the most that it can.
    #[inline]
    #[must_use]
    pub fn header(&self) -> ResponseHeader {
        let body_len = self.extras.len().saturating_add(self.key.len()).saturating_add(self.value.len());
        ResponseHeader {
            magic: RESPONSE_MAGIC,
            opcode: self.opcode,
            key_len: u16::try_from(self.key.len()).unwrap_or(u16::MAX).into(),
            extras_len: u8::try_from(self.extras.len()).unwrap_or(u8::MAX),
            data_type: 0,
            status: self.status,
            body_len: u32::try_from(body_len).unwrap_or(u32::MAX).into(),
            opaque: self.opaque.into(),
            cas: Cas::to_wire(self.cas).into(),
        }
    }

    /// Writes the packet to the front of `buffer` and says how long it is.
    ///
    /// # Errors
    /// Where `buffer` is too short; nothing is written then.
    pub fn encode_into(&self, buffer: &mut [u8]) -> Result<usize, BufferTooShort> {
        write_parts(buffer, &[self.header().as_bytes(), self.extras, self.key, self.value])
    }

    /// Appends the packet to `buffer`.
    #[cfg(feature = "alloc")]
    #[inline]
    pub fn append_to(&self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(self.header().as_bytes());
        buffer.extend_from_slice(self.extras);
        buffer.extend_from_slice(self.key);
        buffer.extend_from_slice(self.value);
    }
}

/// Bytes of a [`Hit`].
pub const HIT_BYTES: usize = 28;

/// What stands before key and value in the answer that a cache sends most: 24 bytes of header, 4 of flags.
///
/// ```
/// use memwire_wire::{Cas, Hit, Opcode, Response, ResponseHeader, Split, FRAME_BODY_BYTES_MAX};
///
/// let head = Hit::new(Opcode::GETK, 7, Cas::from_wire(9), 0xbeef, 3, 5);
/// let bytes = [head.as_bytes(), b"key", b"value"].concat();
/// let Ok(Split::Whole { packet, .. }) = memwire_wire::split::<ResponseHeader>(&bytes, FRAME_BODY_BYTES_MAX) else {
///     panic!("the packet is whole");
/// };
/// let response = Response::parse(&packet);
/// assert_eq!((response.flags(), response.key, response.value), (Some(0xbeef), &b"key"[..], &b"value"[..]));
/// ```
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Hit {
    header: ResponseHeader,
    flags: U32,
}

const _: () = assert!(size_of::<Hit>() == HIT_BYTES);

impl Hit {
    /// The head of a hit. `key_len` is 0 where the key is not echoed; a `value_len` that no header can say is cut.
    #[inline]
    #[must_use]
    pub fn new(
        opcode: Opcode,
        opaque: u32,
        cas: Option<Cas>,
        flags: u32,
        key_len: u8,
        value_len: usize,
    ) -> Self {
        let body_len =
            u32::try_from(value_len).unwrap_or(u32::MAX).saturating_add(u32::from(key_len)).saturating_add(4);
        Self {
            header: ResponseHeader {
                magic: RESPONSE_MAGIC,
                opcode,
                key_len: u16::from(key_len).into(),
                extras_len: 4,
                data_type: 0,
                status: Status::OK,
                body_len: body_len.into(),
                opaque: opaque.into(),
                cas: Cas::to_wire(cas).into(),
            },
            flags: flags.into(),
        }
    }

    /// The bytes on the wire.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        IntoBytes::as_bytes(self)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::{FRAME_BODY_BYTES_MAX, Split, split};

    /// What a [`Response`] borrows from and is built of.
    #[derive(Debug, Clone)]
    pub(crate) struct Sample {
        numbers: (u8, u16, u32, u64),
        parts: [Vec<u8>; 3],
    }

    pub(crate) fn samples() -> impl Strategy<Value = Sample> {
        let bytes = |len_max| vec(any::<u8>(), 0..=len_max);
        let numbers = (any::<u8>(), any::<u16>(), any::<u32>(), prop_oneof![Just(0), any::<u64>()]);
        (numbers, bytes(255), bytes(300), bytes(300))
            .prop_map(|(numbers, extras, key, value)| Sample { numbers, parts: [extras, key, value] })
    }

    impl Sample {
        pub(crate) fn response(&self) -> Response<'_> {
            let (opcode, status, opaque, cas) = self.numbers;
            let [extras, key, value] = &self.parts;
            Response {
                opcode: Opcode(opcode),
                status: Status::new(status),
                opaque,
                cas: Cas::from_wire(cas),
                extras,
                key,
                value,
            }
        }
    }

    fn bytes_of(response: &Response<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        response.append_to(&mut bytes);
        bytes
    }

    fn parse(bytes: &[u8]) -> Response<'_> {
        match split(bytes, FRAME_BODY_BYTES_MAX) {
            Ok(Split::Whole { packet, rest: [] }) => Response::parse(&packet),
            other => panic!("not one packet: {other:?}"),
        }
    }

    proptest! {
        #[test]
        fn every_response_encodes_and_parses_back_to_itself(sample in samples()) {
            let bytes = bytes_of(&sample.response());
            prop_assert_eq!(parse(&bytes), sample.response());
        }

        #[test]
        fn encoding_writes_what_appending_writes(sample in samples()) {
            let appended = bytes_of(&sample.response());
            let mut encoded = vec![0; appended.len() + 3];
            prop_assert_eq!(sample.response().encode_into(&mut encoded), Ok(appended.len()));
            prop_assert_eq!(&encoded[..appended.len()], appended);
        }

        #[test]
        fn a_short_buffer_is_an_error_and_stays_untouched(sample in samples(), cut in any::<prop::sample::Index>()) {
            let needed = bytes_of(&sample.response()).len();
            let available = cut.index(needed);
            let mut buffer = vec![0x55; available];
            let too_short = BufferTooShort { needed, available };
            prop_assert_eq!(sample.response().encode_into(&mut buffer), Err(too_short));
            prop_assert!(buffer.iter().all(|&byte| byte == 0x55));
        }

        #[test]
        fn the_head_of_a_hit_is_the_front_of_the_response(
            (opaque, flags, cas) in any::<(u32, u32, u64)>(),
            key in vec(any::<u8>(), 0..=250),
            value in vec(any::<u8>(), 0..300),
        ) {
            let cas = Cas::from_wire(cas);
            let hit = Hit::new(Opcode::GETK, opaque, cas, flags, key.len() as u8, value.len());
            let response = Response {
                extras: &flags.to_be_bytes(),
                key: &key,
                value: &value,
                ..Response::empty(Opcode::GETK, Status::OK, opaque, cas)
            };
            prop_assert_eq!(hit.as_bytes(), &bytes_of(&response)[..HIT_BYTES]);
        }
    }

    #[test]
    fn only_four_bytes_of_extras_are_flags_and_only_eight_of_value_a_counter() {
        let with =
            |extras, value| Response { extras, value, ..Response::empty(Opcode::GET, Status::OK, 0, None) };
        assert_eq!(with(&[0, 0, 1, 2], b"").flags(), Some(0x0102));
        assert_eq!(with(&[0, 0, 1], b"").flags(), None);
        assert_eq!(with(b"", &[0, 0, 0, 0, 0, 0, 1, 2]).counter(), Some(0x0102));
        assert_eq!(with(b"", b"123456789").counter(), None);
    }

    #[test]
    fn an_error_has_a_text_and_no_cas() {
        let error = Response::error(Opcode::SETQ, Status::EXISTS, 7);
        assert_eq!((error.value, error.cas), (&b"Data exists for key."[..], None));
    }
}

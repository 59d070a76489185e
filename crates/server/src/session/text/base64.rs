//! Base64, as RFC 4648 has it, with padding and nothing else.

/// What `encoded` stands for, in `room`; `None` where it is no base64, is empty, or stands for more than there is room.
pub(super) fn decode<'a>(encoded: &[u8], room: &'a mut [u8]) -> Option<&'a [u8]> {
    let (groups, []) = encoded.as_chunks::<4>() else { return None };
    let (last, before) = groups.split_last()?;
    let mut len: usize = 0;
    for group in before {
        let bytes = decode_group(*group)?;
        room.get_mut(len..len.checked_add(3)?)?.copy_from_slice(&bytes);
        len = len.checked_add(3)?;
    }
    let (group, count) = match *last {
        [a, b, b'=', b'='] => ([a, b, b'A', b'A'], 1),
        [a, b, c, b'='] => ([a, b, c, b'A'], 2),
        whole => (whole, 3),
    };
    let bytes = decode_group(group)?;
    let (kept, rest) = bytes.split_at_checked(count)?;
    if rest.iter().any(|byte| *byte != 0) {
        return None;
    }
    let end = len.checked_add(count)?;
    room.get_mut(len..end)?.copy_from_slice(kept);
    room.get(..end)
}

/// Appends what stands for `bytes`.
pub(super) fn encode(bytes: &[u8], encoded: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in bytes.chunks(3) {
        let [a, b, c] = match *group {
            [a, b, c] => [a, b, c],
            [a, b] => [a, b, 0],
            [a] => [a, 0, 0],
            _ => [0; 3],
        };
        let bits = u32::from_be_bytes([0, a, b, c]);
        for (at, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let digit = usize::try_from(bits.wrapping_shr(shift) & 63).ok().and_then(|at| DIGITS.get(at));
            let is_there = at <= group.len();
            encoded.push(*digit.filter(|_| is_there).unwrap_or(&b'='));
        }
    }
}

fn decode_group(group: [u8; 4]) -> Option<[u8; 3]> {
    let mut bits: u32 = 0;
    for byte in group {
        bits = bits << 6 | u32::from(sextet(byte)?);
    }
    let [_, bytes @ ..] = bits.to_be_bytes();
    Some(bytes)
}

fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte.wrapping_sub(b'A')),
        b'a'..=b'z' => Some(byte.wrapping_sub(b'a').wrapping_add(26)),
        b'0'..=b'9' => Some(byte.wrapping_sub(b'0').wrapping_add(52)),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_decoded() {
        for (encoded, decoded) in [
            (&b"Zg=="[..], Some(&b"f"[..])),
            (b"Zm8=", Some(b"fo")),
            (b"Zm9v", Some(b"foo")),
            (b"Zm9vYg==", Some(b"foob")),
            (b"+/8A", Some(&[0xfb, 0xff, 0x00])),
            (b"", None),
            (b"Zg", None),
            (b"Zg=", None),
            (b"====", None),
            (b"Z===", None),
            (b"Zg==Zg==", None),
            (b"Zm9v!", None),
            (b"Zm 9", None),
            (b"Zh==", None),
        ] {
            assert_eq!(decode(encoded, &mut [0; 8]), decoded, "{}", encoded.escape_ascii());
            if let Some(decoded) = decoded {
                let mut again = Vec::new();
                encode(decoded, &mut again);
                assert_eq!(again, encoded);
            }
        }
        assert_eq!(decode(b"Zm9vYg==", &mut [0; 3]), None);
    }
}

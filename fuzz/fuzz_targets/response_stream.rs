//! Any bytes as a stream of responses: the same packets however it is cut, and every response is encoded to the bytes
//! that it came in.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memwire_fuzz::{only_packet, receive_however_cut};
use wire::{Hit, Response, ResponseHeader, Status};

/// The reserved byte of the header, which nobody looks at.
const DATA_TYPE: usize = 5;

fuzz_target!(|input: &[u8]| {
    for mut bytes in receive_however_cut::<ResponseHeader>(input).packets {
        bytes[DATA_TYPE] = 0;
        let packet = only_packet::<ResponseHeader>(&bytes);
        let response = Response::parse(&packet);
        let line = response.to_string();
        assert!(line.is_ascii() && !line.contains('\n'), "{line}");
        encodes_to(&response, &bytes);
        begins_with_its_head(&response, &bytes);
    }
});

fn encodes_to(response: &Response<'_>, bytes: &[u8]) {
    let mut encoded = vec![0; bytes.len()];
    assert_eq!(response.encode_into(&mut encoded), Ok(bytes.len()));
    assert_eq!(encoded, bytes);
    let (_, too_short) = encoded.split_last_mut().expect("a response has a header");
    assert!(response.encode_into(too_short).is_err());
}

/// What a server writes in one go before key and value.
fn begins_with_its_head(response: &Response<'_>, bytes: &[u8]) {
    let (Some(flags), Ok(key_len)) = (response.flags(), u8::try_from(response.key.len())) else {
        return;
    };
    if response.status == Status::OK {
        let value_len = response.value.len();
        let hit = Hit::new(response.opcode, response.opaque, response.cas, flags, key_len, value_len);
        assert!(bytes.starts_with(hit.as_bytes()));
    }
}

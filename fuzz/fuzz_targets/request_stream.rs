//! Any bytes as a stream of requests: the same packets however it is cut, and every request that is accepted is encoded
//! to the bytes that it came in.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memwire_fuzz::{only_packet, receive_however_cut};
use wire::{Command, OnMiss, Packet, Request, RequestHeader};

fuzz_target!(|input: &[u8]| {
    for bytes in receive_however_cut::<RequestHeader>(input).packets {
        let packet = only_packet::<RequestHeader>(&bytes);
        let line = packet.to_string();
        assert!(line.is_ascii() && !line.contains('\n'), "{line}");
        if let Ok(request) = Request::parse(&packet) {
            encodes_to(&request, bytes.clone());
            can_be_parsed_before_its_value_is_there(&packet, &request);
        }
    }
});

fn encodes_to(request: &Request<'_>, mut bytes: Vec<u8>) {
    clear_what_is_not_kept(request, &mut bytes);
    let mut encoded = vec![0; bytes.len()];
    assert_eq!(request.encode_into(&mut encoded), Ok(bytes.len()));
    assert_eq!(encoded, bytes);
    let (_, too_short) = encoded.split_last_mut().expect("a request has a header");
    assert!(request.encode_into(too_short).is_err());
}

/// Fields that no server looks at: data type and vbucket, the CAS of a command that takes none, the initial value of
/// a counter that creates nothing.
fn clear_what_is_not_kept(request: &Request<'_>, bytes: &mut [u8]) {
    bytes[5..8].fill(0);
    if request.command.cas().is_none() {
        bytes[16..24].fill(0);
    }
    if matches!(request.command, Command::Count { on_miss: OnMiss::Fail, .. }) {
        bytes[32..40].fill(0);
    }
}

fn can_be_parsed_before_its_value_is_there(packet: &Packet<'_, RequestHeader>, request: &Request<'_>) {
    let early = Packet { value: &[], ..*packet };
    let parsed = Request::parse(&early).expect("only the value differs");
    assert_eq!((parsed.opcode(), parsed.opaque), (request.opcode(), request.opaque));
    assert_eq!(parsed.command.key_and_value(), (packet.key, &[][..]));
    assert_eq!(early.value_len(), packet.value.len());
}

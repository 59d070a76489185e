//! Every kind of packet as bytes written down by hand, from the tables of memcached's protocol and not from this crate.
//!
//! A packet is written as its fields: magic, opcode, key length, extras length, data type, vbucket or status, body
//! length, opaque, CAS; then extras, key and value, with text between quotes.

use memwire_wire::{
    Cas, Command, Concat, Direction, Expiration, FRAME_BODY_BYTES_MAX, Header, Hit, Key, KeyEcho, Loudness,
    OnMiss, Opcode, Packet, Request, Response, Split, Status, StoreMode, split,
};

/// The opaque of every packet here.
const OPAQUE: u32 = 0xdead_beef;

#[test]
fn every_request_parses_and_encodes_to_the_same_bytes() {
    for (text, request) in requests() {
        let bytes = packet_bytes(text);
        assert_eq!(Request::parse(&whole(&bytes)), Ok(request), "{text}");
        assert_eq!(request.encoded_len(), bytes.len(), "{text}");
        let mut encoded = vec![0; bytes.len()];
        assert_eq!(request.encode_into(&mut encoded), Ok(bytes.len()), "{text}");
        assert_eq!(encoded, bytes, "{text}");
    }
}

#[test]
fn every_response_parses_and_encodes_to_the_same_bytes() {
    for (text, response) in responses() {
        let bytes = packet_bytes(text);
        assert_eq!(Response::parse(&whole(&bytes)), response, "{text}");
        let mut encoded = vec![0; bytes.len()];
        assert_eq!(response.encode_into(&mut encoded), Ok(bytes.len()), "{text}");
        assert_eq!(encoded, bytes, "{text}");
    }
}

#[test]
fn no_opcode_and_no_status_is_left_out() {
    for opcode in Opcode::ALL {
        let mut opcodes = requests().into_iter().map(|(text, _)| packet_bytes(text)[1]);
        assert!(opcodes.any(|seen| seen == opcode.0), "no request: {opcode}");
    }
    for status in Status::ALL {
        let mut statuses = responses().into_iter().map(|(_, response)| response.status);
        assert!(statuses.any(|seen| seen == *status), "no response: {status}");
    }
}

#[test]
fn every_hit_begins_with_the_head_of_a_hit() {
    for (text, hit) in hits() {
        let key_len = u8::try_from(hit.key.len()).unwrap();
        let flags = hit.flags().unwrap();
        let head = Hit::new(hit.opcode, OPAQUE, hit.cas, flags, key_len, hit.value.len());
        assert!(packet_bytes(text).starts_with(head.as_bytes()), "{text}");
    }
}

#[test]
fn every_error_is_built_with_memcacheds_text() {
    for (text, error) in errors() {
        assert_eq!(error, Response::error(error.opcode, error.status, OPAQUE), "{text}");
    }
}

#[test]
fn counters_and_flags_are_read_out_of_a_response() {
    let counters: Vec<_> = counted().iter().map(|(_, response)| response.counter()).collect();
    assert_eq!(counters, [Some(0x1_0000_0002), Some(u64::MAX)]);
    assert!(hits().iter().all(|(_, hit)| hit.flags() == Some(0x0102_0304)));
}

type GoldenRequest = (&'static str, Request<'static>);

fn requests() -> Vec<GoldenRequest> {
    [gets(), touches(), stores(), concats(), deletes(), counts(), flushes(), bare(), sasl()].concat()
}

fn gets() -> Vec<GoldenRequest> {
    let get = |echo| Command::Get { key: key("Hello"), echo };
    vec![
        ("80 00 0005 00 00 0000 00000005 deadbeef 0000000000000000 'Hello'", loud(get(KeyEcho::Without))),
        ("80 09 0005 00 00 0000 00000005 deadbeef 0000000000000000 'Hello'", quiet(get(KeyEcho::Without))),
        ("80 0c 0005 00 00 0000 00000005 deadbeef 0000000000000000 'Hello'", loud(get(KeyEcho::With))),
        ("80 0d 0005 00 00 0000 00000005 deadbeef 0000000000000000 'Hello'", quiet(get(KeyEcho::With))),
    ]
}

fn touches() -> Vec<GoldenRequest> {
    let touch = |expiration| Command::Touch { key: key("Hello"), expiration };
    let get_and_touch =
        |echo| Command::GetAndTouch { key: key("Hello"), echo, expiration: Expiration::After(3600) };
    vec![
        (
            "80 1c 0005 04 00 0000 00000009 deadbeef 0000000000000000 00000000 'Hello'",
            loud(touch(Expiration::Never)),
        ),
        (
            "80 1c 0005 04 00 0000 00000009 deadbeef 0000000000000000 00278d00 'Hello'",
            loud(touch(Expiration::After(30 * 24 * 60 * 60))),
        ),
        (
            "80 1c 0005 04 00 0000 00000009 deadbeef 0000000000000000 00278d01 'Hello'",
            loud(touch(Expiration::At(30 * 24 * 60 * 60 + 1))),
        ),
        (
            "80 1c 0005 04 00 0000 00000009 deadbeef 0000000000000000 ffffffff 'Hello'",
            loud(touch(Expiration::At(u32::MAX))),
        ),
        (
            "80 1d 0005 04 00 0000 00000009 deadbeef 0000000000000000 00000e10 'Hello'",
            loud(get_and_touch(KeyEcho::Without)),
        ),
        (
            "80 1e 0005 04 00 0000 00000009 deadbeef 0000000000000000 00000e10 'Hello'",
            quiet(get_and_touch(KeyEcho::Without)),
        ),
        (
            "80 23 0005 04 00 0000 00000009 deadbeef 0000000000000000 00000e10 'Hello'",
            loud(get_and_touch(KeyEcho::With)),
        ),
        (
            "80 24 0005 04 00 0000 00000009 deadbeef 0000000000000000 00000e10 'Hello'",
            quiet(get_and_touch(KeyEcho::With)),
        ),
    ]
}

fn stores() -> Vec<GoldenRequest> {
    let store = |mode, cas| Command::Store {
        mode,
        key: key("Hello"),
        value: b"World",
        flags: 0x0102_0304,
        expiration: Expiration::After(3600),
        cas: Cas::from_wire(cas),
    };
    let empty_value = Command::Store {
        mode: StoreMode::Set,
        key: key("k"),
        value: b"",
        flags: 0,
        expiration: Expiration::Never,
        cas: None,
    };
    vec![
        (
            "80 01 0005 08 00 0000 00000012 deadbeef 0000000000000000 01020304 00000e10 'Hello' 'World'",
            loud(store(StoreMode::Set, 0)),
        ),
        (
            "80 01 0005 08 00 0000 00000012 deadbeef 0102030405060708 01020304 00000e10 'Hello' 'World'",
            loud(store(StoreMode::Set, 0x0102_0304_0506_0708)),
        ),
        ("80 01 0001 08 00 0000 00000009 deadbeef 0000000000000000 00000000 00000000 'k'", loud(empty_value)),
        (
            "80 02 0005 08 00 0000 00000012 deadbeef 0000000000000000 01020304 00000e10 'Hello' 'World'",
            loud(store(StoreMode::Add, 0)),
        ),
        (
            "80 03 0005 08 00 0000 00000012 deadbeef 0000000000000009 01020304 00000e10 'Hello' 'World'",
            loud(store(StoreMode::Replace, 9)),
        ),
        (
            "80 11 0005 08 00 0000 00000012 deadbeef 0000000000000000 01020304 00000e10 'Hello' 'World'",
            quiet(store(StoreMode::Set, 0)),
        ),
        (
            "80 12 0005 08 00 0000 00000012 deadbeef 0000000000000000 01020304 00000e10 'Hello' 'World'",
            quiet(store(StoreMode::Add, 0)),
        ),
        (
            "80 13 0005 08 00 0000 00000012 deadbeef ffffffffffffffff 01020304 00000e10 'Hello' 'World'",
            quiet(store(StoreMode::Replace, u64::MAX)),
        ),
    ]
}

fn concats() -> Vec<GoldenRequest> {
    let concat =
        |side, cas| Command::Concat { side, key: key("Hello"), value: b"!", cas: Cas::from_wire(cas) };
    vec![
        (
            "80 0e 0005 00 00 0000 00000006 deadbeef 0000000000000000 'Hello' '!'",
            loud(concat(Concat::Append, 0)),
        ),
        (
            "80 0f 0005 00 00 0000 00000006 deadbeef 0000000000000009 'Hello' '!'",
            loud(concat(Concat::Prepend, 9)),
        ),
        (
            "80 19 0005 00 00 0000 00000006 deadbeef 0000000000000009 'Hello' '!'",
            quiet(concat(Concat::Append, 9)),
        ),
        (
            "80 1a 0005 00 00 0000 00000006 deadbeef 0000000000000000 'Hello' '!'",
            quiet(concat(Concat::Prepend, 0)),
        ),
    ]
}

fn deletes() -> Vec<GoldenRequest> {
    let delete = |cas| Command::Delete { key: key("Hello"), cas: Cas::from_wire(cas) };
    vec![
        ("80 04 0005 00 00 0000 00000005 deadbeef 0000000000000000 'Hello'", loud(delete(0))),
        ("80 14 0005 00 00 0000 00000005 deadbeef 0000000000000009 'Hello'", quiet(delete(9))),
    ]
}

fn counts() -> Vec<GoldenRequest> {
    let count = |direction, on_miss, cas| Command::Count {
        direction,
        key: key("counter"),
        delta: 1,
        on_miss,
        cas: Cas::from_wire(cas),
    };
    let create = OnMiss::Create { initial: 0x1_0000_0002, expiration: Expiration::After(3600) };
    vec![
        (
            "80 05 0007 14 00 0000 0000001b deadbeef 0000000000000000
             0000000000000001 0000000100000002 00000e10 'counter'",
            loud(count(Direction::Increment, create, 0)),
        ),
        (
            "80 05 0007 14 00 0000 0000001b deadbeef 0000000000000000
             0000000000000001 0000000000000000 ffffffff 'counter'",
            loud(count(Direction::Increment, OnMiss::Fail, 0)),
        ),
        (
            "80 06 0007 14 00 0000 0000001b deadbeef 0000000000000009
             0000000000000001 0000000000000000 ffffffff 'counter'",
            loud(count(Direction::Decrement, OnMiss::Fail, 9)),
        ),
        (
            "80 15 0007 14 00 0000 0000001b deadbeef 0000000000000000
             0000000000000001 0000000100000002 00000e10 'counter'",
            quiet(count(Direction::Increment, create, 0)),
        ),
        (
            "80 16 0007 14 00 0000 0000001b deadbeef 0000000000000000
             0000000000000001 0000000000000000 ffffffff 'counter'",
            quiet(count(Direction::Decrement, OnMiss::Fail, 0)),
        ),
    ]
}

fn flushes() -> Vec<GoldenRequest> {
    let flush = |at| Command::Flush { at };
    vec![
        ("80 08 0000 00 00 0000 00000000 deadbeef 0000000000000000", loud(flush(None))),
        (
            "80 08 0000 04 00 0000 00000004 deadbeef 0000000000000000 00000000",
            loud(flush(Some(Expiration::Never))),
        ),
        ("80 18 0000 00 00 0000 00000000 deadbeef 0000000000000000", quiet(flush(None))),
        (
            "80 18 0000 04 00 0000 00000004 deadbeef 0000000000000000 0000000a",
            quiet(flush(Some(Expiration::After(10)))),
        ),
    ]
}

/// Those that need neither key nor extras.
fn bare() -> Vec<GoldenRequest> {
    let stat = |group| Command::Stat { group };
    let verbosity = Command::Verbosity { extras: &[0, 0, 0, 2], key: b"", value: b"" };
    vec![
        ("80 07 0000 00 00 0000 00000000 deadbeef 0000000000000000", loud(Command::Quit)),
        ("80 17 0000 00 00 0000 00000000 deadbeef 0000000000000000", quiet(Command::Quit)),
        ("80 0a 0000 00 00 0000 00000000 deadbeef 0000000000000000", loud(Command::Noop)),
        ("80 0b 0000 00 00 0000 00000000 deadbeef 0000000000000000", loud(Command::Version)),
        ("80 10 0000 00 00 0000 00000000 deadbeef 0000000000000000", loud(stat(None))),
        ("80 10 0005 00 00 0000 00000005 deadbeef 0000000000000000 'items'", loud(stat(Some(key("items"))))),
        ("80 1b 0000 04 00 0000 00000004 deadbeef 0000000000000000 00000002", loud(verbosity)),
    ]
}

fn sasl() -> Vec<GoldenRequest> {
    vec![
        ("80 20 0000 00 00 0000 00000000 deadbeef 0000000000000000", loud(Command::SaslListMechs)),
        (
            "80 21 0005 00 00 0000 00000011 deadbeef 0000000000000000 'PLAIN' 00 'user' 00 'secret'",
            loud(Command::SaslAuth { mechanism: key("PLAIN"), message: b"\0user\0secret" }),
        ),
        (
            "80 22 0008 00 00 0000 0000000f deadbeef 0000000000000000 'CRAM-MD5' 'user 0a'",
            loud(Command::SaslStep { mechanism: key("CRAM-MD5"), message: b"user 0a" }),
        ),
    ]
}

type GoldenResponse = (&'static str, Response<'static>);

fn responses() -> Vec<GoldenResponse> {
    [hits(), misses(), stored(), done(), counted(), told(), errors()].concat()
}

fn hits() -> Vec<GoldenResponse> {
    let hit = |opcode, key, value| Response {
        extras: &[1, 2, 3, 4],
        key,
        value,
        ..Response::empty(opcode, Status::OK, OPAQUE, Cas::from_wire(9))
    };
    vec![
        (
            "81 00 0000 04 00 0000 00000009 deadbeef 0000000000000009 01020304 'World'",
            hit(Opcode::GET, b"", b"World"),
        ),
        (
            "81 09 0000 04 00 0000 00000009 deadbeef 0000000000000009 01020304 'World'",
            hit(Opcode::GETQ, b"", b"World"),
        ),
        (
            "81 0c 0005 04 00 0000 0000000e deadbeef 0000000000000009 01020304 'Hello' 'World'",
            hit(Opcode::GETK, b"Hello", b"World"),
        ),
        (
            "81 0d 0005 04 00 0000 0000000e deadbeef 0000000000000009 01020304 'Hello' 'World'",
            hit(Opcode::GETKQ, b"Hello", b"World"),
        ),
        ("81 00 0000 04 00 0000 00000004 deadbeef 0000000000000009 01020304", hit(Opcode::GET, b"", b"")),
        ("81 1c 0000 04 00 0000 00000004 deadbeef 0000000000000009 01020304", hit(Opcode::TOUCH, b"", b"")),
        (
            "81 1d 0000 04 00 0000 00000009 deadbeef 0000000000000009 01020304 'World'",
            hit(Opcode::GAT, b"", b"World"),
        ),
        (
            "81 1e 0000 04 00 0000 00000009 deadbeef 0000000000000009 01020304 'World'",
            hit(Opcode::GATQ, b"", b"World"),
        ),
        (
            "81 23 0005 04 00 0000 0000000e deadbeef 0000000000000009 01020304 'Hello' 'World'",
            hit(Opcode::GATK, b"Hello", b"World"),
        ),
        (
            "81 24 0005 04 00 0000 0000000e deadbeef 0000000000000009 01020304 'Hello' 'World'",
            hit(Opcode::GATKQ, b"Hello", b"World"),
        ),
    ]
}

/// The forms that echo the key have it for a body, and no text.
fn misses() -> Vec<GoldenResponse> {
    let miss =
        |opcode| Response { key: b"Hello", ..Response::empty(opcode, Status::NOT_FOUND, OPAQUE, None) };
    vec![
        ("81 0c 0005 00 00 0001 00000005 deadbeef 0000000000000000 'Hello'", miss(Opcode::GETK)),
        ("81 23 0005 00 00 0001 00000005 deadbeef 0000000000000000 'Hello'", miss(Opcode::GATK)),
    ]
}

fn stored() -> Vec<GoldenResponse> {
    let stored = |opcode| Response::empty(opcode, Status::OK, OPAQUE, Cas::from_wire(9));
    vec![
        ("81 01 0000 00 00 0000 00000000 deadbeef 0000000000000009", stored(Opcode::SET)),
        ("81 02 0000 00 00 0000 00000000 deadbeef 0000000000000009", stored(Opcode::ADD)),
        ("81 03 0000 00 00 0000 00000000 deadbeef 0000000000000009", stored(Opcode::REPLACE)),
        ("81 0e 0000 00 00 0000 00000000 deadbeef 0000000000000009", stored(Opcode::APPEND)),
        ("81 0f 0000 00 00 0000 00000000 deadbeef 0000000000000009", stored(Opcode::PREPEND)),
    ]
}

/// The STAT here is the packet that ends a list of statistics.
fn done() -> Vec<GoldenResponse> {
    let done = |opcode| Response::empty(opcode, Status::OK, OPAQUE, None);
    vec![
        ("81 04 0000 00 00 0000 00000000 deadbeef 0000000000000000", done(Opcode::DELETE)),
        ("81 07 0000 00 00 0000 00000000 deadbeef 0000000000000000", done(Opcode::QUIT)),
        ("81 08 0000 00 00 0000 00000000 deadbeef 0000000000000000", done(Opcode::FLUSH)),
        ("81 0a 0000 00 00 0000 00000000 deadbeef 0000000000000000", done(Opcode::NOOP)),
        ("81 10 0000 00 00 0000 00000000 deadbeef 0000000000000000", done(Opcode::STAT)),
    ]
}

fn counted() -> Vec<GoldenResponse> {
    let counted =
        |opcode, value| Response { value, ..Response::empty(opcode, Status::OK, OPAQUE, Cas::from_wire(9)) };
    vec![
        (
            "81 05 0000 00 00 0000 00000008 deadbeef 0000000000000009 0000000100000002",
            counted(Opcode::INCREMENT, &[0, 0, 0, 1, 0, 0, 0, 2]),
        ),
        (
            "81 06 0000 00 00 0000 00000008 deadbeef 0000000000000009 ffffffffffffffff",
            counted(Opcode::DECREMENT, &[0xff; 8]),
        ),
    ]
}

/// Those whose body is a text.
fn told() -> Vec<GoldenResponse> {
    let told =
        |opcode, status, key, value| Response { key, value, ..Response::empty(opcode, status, OPAQUE, None) };
    vec![
        (
            "81 0b 0000 00 00 0000 00000006 deadbeef 0000000000000000 '1.6.18'",
            told(Opcode::VERSION, Status::OK, b"", b"1.6.18"),
        ),
        (
            "81 10 0003 00 00 0000 00000007 deadbeef 0000000000000000 'pid' '3078'",
            told(Opcode::STAT, Status::OK, b"pid", b"3078"),
        ),
        (
            "81 20 0000 00 00 0000 0000000e deadbeef 0000000000000000 'CRAM-MD5 PLAIN'",
            told(Opcode::SASL_LIST_MECHS, Status::OK, b"", b"CRAM-MD5 PLAIN"),
        ),
        (
            "81 21 0000 00 00 0000 0000000d deadbeef 0000000000000000 'Authenticated'",
            told(Opcode::SASL_AUTH, Status::OK, b"", b"Authenticated"),
        ),
        (
            "81 21 0000 00 00 0021 0000000a deadbeef 0000000000000000 '<17.5@me>' 00",
            told(Opcode::SASL_AUTH, Status::AUTH_CONTINUE, b"", b"<17.5@me>\0"),
        ),
        (
            "81 22 0000 00 00 0000 0000000d deadbeef 0000000000000000 'Authenticated'",
            told(Opcode::SASL_STEP, Status::OK, b"", b"Authenticated"),
        ),
    ]
}

/// The error of a quiet request has the quiet opcode.
fn errors() -> Vec<GoldenResponse> {
    let error = |opcode, status| Response::error(opcode, status, OPAQUE);
    vec![
        (
            "81 00 0000 00 00 0001 00000009 deadbeef 0000000000000000 'Not found'",
            error(Opcode::GET, Status::NOT_FOUND),
        ),
        (
            "81 13 0000 00 00 0001 00000009 deadbeef 0000000000000000 'Not found'",
            error(Opcode::REPLACEQ, Status::NOT_FOUND),
        ),
        (
            "81 01 0000 00 00 0002 00000014 deadbeef 0000000000000000 'Data exists for key.'",
            error(Opcode::SET, Status::EXISTS),
        ),
        (
            "81 12 0000 00 00 0002 00000014 deadbeef 0000000000000000 'Data exists for key.'",
            error(Opcode::ADDQ, Status::EXISTS),
        ),
        (
            "81 01 0000 00 00 0003 0000000a deadbeef 0000000000000000 'Too large.'",
            error(Opcode::SET, Status::TOO_LARGE),
        ),
        (
            "81 11 0000 00 00 0003 0000000a deadbeef 0000000000000000 'Too large.'",
            error(Opcode::SETQ, Status::TOO_LARGE),
        ),
        (
            "81 00 0000 00 00 0004 00000011 deadbeef 0000000000000000 'Invalid arguments'",
            error(Opcode::GET, Status::INVALID),
        ),
        (
            "81 18 0000 00 00 0004 00000011 deadbeef 0000000000000000 'Invalid arguments'",
            error(Opcode::FLUSHQ, Status::INVALID),
        ),
        (
            "81 0e 0000 00 00 0005 0000000b deadbeef 0000000000000000 'Not stored.'",
            error(Opcode::APPEND, Status::NOT_STORED),
        ),
        (
            "81 1a 0000 00 00 0005 0000000b deadbeef 0000000000000000 'Not stored.'",
            error(Opcode::PREPENDQ, Status::NOT_STORED),
        ),
        (
            "81 05 0000 00 00 0006 0000002e deadbeef 0000000000000000
             'Non-numeric server-side value for incr or decr'",
            error(Opcode::INCREMENT, Status::NON_NUMERIC),
        ),
        (
            "81 16 0000 00 00 0006 0000002e deadbeef 0000000000000000
             'Non-numeric server-side value for incr or decr'",
            error(Opcode::DECREMENTQ, Status::NON_NUMERIC),
        ),
        (
            "81 22 0000 00 00 0020 0000000d deadbeef 0000000000000000 'Auth failure.'",
            error(Opcode::SASL_STEP, Status::AUTH_ERROR),
        ),
        (
            "81 09 0000 00 00 0020 0000000d deadbeef 0000000000000000 'Auth failure.'",
            error(Opcode::GETQ, Status::AUTH_ERROR),
        ),
        (
            "81 1b 0000 00 00 0081 0000000f deadbeef 0000000000000000 'Unknown command'",
            error(Opcode::VERBOSITY, Status::UNKNOWN_COMMAND),
        ),
        (
            "81 ff 0000 00 00 0081 0000000f deadbeef 0000000000000000 'Unknown command'",
            error(Opcode(0xff), Status::UNKNOWN_COMMAND),
        ),
        (
            "81 02 0000 00 00 0082 0000001d deadbeef 0000000000000000 'Out of memory allocating item'",
            error(Opcode::ADD, Status::OUT_OF_MEMORY),
        ),
        (
            "81 15 0000 00 00 0082 0000001d deadbeef 0000000000000000 'Out of memory allocating item'",
            error(Opcode::INCREMENTQ, Status::OUT_OF_MEMORY),
        ),
    ]
}

fn loud(command: Command<'static>) -> Request<'static> {
    Request { opaque: OPAQUE, loudness: Loudness::Loud, command }
}

fn quiet(command: Command<'static>) -> Request<'static> {
    Request { loudness: Loudness::Quiet, ..loud(command) }
}

fn key(text: &'static str) -> Key<'static> {
    Key::new(text.as_bytes()).unwrap()
}

fn whole<H: Header>(bytes: &[u8]) -> Packet<'_, H> {
    match split::<H>(bytes, FRAME_BODY_BYTES_MAX) {
        Ok(Split::Whole { packet, rest: [] }) => packet,
        _ => panic!("not exactly one packet: {}", bytes.escape_ascii()),
    }
}

/// The text between quotes as it is, everything else as two hexadecimal digits a byte.
fn packet_bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, part) in text.split('\'').enumerate() {
        if index % 2 == 1 {
            bytes.extend_from_slice(part.as_bytes());
        } else {
            let digits: String = part.split_whitespace().collect();
            bytes.extend((0..digits.len()).step_by(2).map(|at| hex_byte(&digits[at..at + 2])));
        }
    }
    bytes
}

fn hex_byte(digits: &str) -> u8 {
    u8::from_str_radix(digits, 16).unwrap()
}

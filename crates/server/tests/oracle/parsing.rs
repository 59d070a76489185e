//! Binary requests into operations, however they were cut up.

use memwire::message::{Batch, Command, KeyHash, Older, Payload, Refusal, Reply, Span, Tag};
use memwire::server::Server;
use memwire::session::{Next, Output, Parsed, Session};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use wire::{Expiration, StoreMode};

use crate::packets::{INLINE_BYTES_MAX, ITEM_BYTES_MAX, batch, error, head, legal, request, server};

/// What stands in the batch before the bytes of this connection.
const BEFORE: &[u8] = b"another connection's";

/// Hands `input` to a fresh session.
fn parse(input: &[u8], server: &Server) -> (Batch, Parsed) {
    let mut batch = batch();
    batch.input.extend(BEFORE);
    batch.input.extend(input);
    let parsed = Session::default().parse(&mut batch, Span::new(BEFORE.len(), input.len()), server);
    (batch, parsed)
}

/// The operations of `input`, answered as if all of them had been done.
fn answered(input: &[u8], server: &Server) -> (Vec<u8>, Parsed) {
    let (batch, parsed) = parse(input, server);
    let mut output = Output::default();
    for op in &batch.ops {
        Session::Binary.render(op, &Reply::Done, &batch, server, &mut output);
    }
    (output.bytes().clone(), parsed)
}

/// An operation that does not depend on where it lies.
#[derive(Debug, PartialEq)]
struct Seen {
    command: Command,
    key: Vec<u8>,
    hash: KeyHash,
    tag: Tag,
    value: Option<Vec<u8>>,
}

/// A connection's end of a stream that comes in pieces.
struct Receiver<'a> {
    server: &'a Server,
    session: Session,
    seen: Vec<Seen>,
    unread: Vec<u8>,
    awaits: Awaits,
}

#[derive(Debug, PartialEq)]
enum Awaits {
    Requests,
    Value { head_bytes: usize, value_bytes: usize },
    Skipped(usize),
    Nothing,
}

impl<'a> Receiver<'a> {
    fn new(server: &'a Server) -> Self {
        Self {
            server,
            session: Session::default(),
            seen: Vec::new(),
            unread: Vec::new(),
            awaits: Awaits::Requests,
        }
    }

    fn receive(&mut self, piece: &[u8]) {
        self.unread.extend_from_slice(piece);
        while self.step() {}
    }

    /// Says whether it may go on with what is there.
    fn step(&mut self) -> bool {
        match self.awaits {
            Awaits::Requests => self.parse(),
            Awaits::Skipped(bytes) => {
                let skipped = bytes.min(self.unread.len());
                self.unread.drain(..skipped);
                self.awaits = match bytes - skipped {
                    0 => Awaits::Requests,
                    rest => Awaits::Skipped(rest),
                };
                self.awaits == Awaits::Requests
            }
            Awaits::Value { head_bytes, value_bytes } => {
                if self.unread.len() < head_bytes + value_bytes {
                    return false;
                }
                let mut batch = batch();
                batch.input.extend(BEFORE);
                batch.input.extend(&self.unread[..head_bytes]);
                let value = self.unread[head_bytes..head_bytes + value_bytes].to_vec();
                let large = batch.push_large(value.into());
                let head = Span::new(BEFORE.len(), head_bytes);
                self.session.finish_large(&mut batch, head, large, self.server);
                assert_eq!(batch.ops.len(), 1);
                self.see(&batch);
                self.unread.drain(..head_bytes + value_bytes);
                self.awaits = Awaits::Requests;
                true
            }
            Awaits::Nothing => false,
        }
    }

    fn parse(&mut self) -> bool {
        let mut batch = batch();
        batch.input.extend(BEFORE);
        batch.input.extend(&self.unread);
        let input = Span::new(BEFORE.len(), self.unread.len());
        let Parsed { consumed, next } = self.session.parse(&mut batch, input, self.server);
        self.see(&batch);
        self.unread.drain(..consumed);
        match next {
            Next::Read { missing } => {
                assert!(missing > 0, "something is missing");
                return false;
            }
            Next::ReadLarge { head_bytes, value_bytes } => {
                assert!(self.unread.len() >= head_bytes, "the head is there");
                self.awaits = Awaits::Value { head_bytes, value_bytes };
            }
            Next::Skip { bytes } => {
                assert!(self.unread.is_empty(), "what is there was skipped");
                self.awaits = Awaits::Skipped(bytes);
            }
            Next::Pause => unreachable!("a binary request is one operation"),
            Next::Close => self.awaits = Awaits::Nothing,
        }
        true
    }

    fn see(&mut self, batch: &Batch) {
        for op in &batch.ops {
            let mut command = op.command;
            let mut lies_at = None;
            if let Command::Store { value, .. } | Command::Concat { value, .. } = &mut command {
                lies_at = Some(std::mem::replace(value, Payload::Inline(Span::default())));
            }
            let value = lies_at.map(|payload| match payload {
                Payload::Inline(span) => batch.input.filled()[span.range()].to_vec(),
                Payload::Large(at) => batch.large[at as usize].to_vec(),
            });
            assert!(op.starts_at as usize >= BEFORE.len(), "requests are this connection's");
            assert_eq!(batch.input.filled()[op.starts_at as usize], 0x80);
            self.seen.push(Seen {
                command,
                key: batch.input.filled()[op.key.range()].to_vec(),
                hash: op.hash,
                tag: op.tag,
                value,
            });
        }
    }
}

/// Requests of all opcodes, most of them legal.
fn requests() -> impl Strategy<Value = Vec<u8>> {
    let keys = prop_oneof![4 => vec(any::<u8>(), 1..20), 1 => vec(any::<u8>(), 250)];
    let lens = prop_oneof![
        12 => 0..100_usize,
        2 => INLINE_BYTES_MAX - 300..INLINE_BYTES_MAX + 8,
        2 => INLINE_BYTES_MAX..ITEM_BYTES_MAX + 2,
        1 => ITEM_BYTES_MAX..ITEM_BYTES_MAX + 4000,
    ];
    let opcodes = prop_oneof![
        20 => select(vec![0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x08, 0x09, 0x0a, 0x0b, 0x0c]),
        20 => select(vec![0x0d, 0x0e, 0x0f, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x18, 0x19, 0x1a]),
        10 => select(vec![0x1c, 0x1d, 0x1e, 0x20, 0x21, 0x22, 0x23, 0x24]),
        1 => select(vec![0x07, 0x17]),
    ];
    let legals = (opcodes, keys, lens, any::<u8>(), any::<u64>())
        .prop_map(|(opcode, key, len, byte, cas)| legal(opcode, &key, &vec![byte; len], cas));
    // Of an unknown opcode, and VERBOSITY, everything is skipped, whatever its lengths.
    let unknown = (
        select(vec![0x1b, 0x1f, 0x25, 0x99, 0xff]),
        vec(any::<u8>(), 0..30),
        vec(any::<u8>(), 0..30),
        vec(any::<u8>(), 0..3000),
    )
        .prop_map(|(opcode, extras, key, value)| request(opcode, &extras, &key, &value, 0));
    let illegal = select(vec![
        request(0x00, b"", b"", b"", 0),
        request(0x01, b"1234", b"key", b"value", 0),
        head(0x01, 300, 8, 400, 0),
        head(0x0a, 1, 1, 1, 0),
        b"get key\r\n".to_vec(),
    ]);
    prop_oneof![30 => legals, 6 => unknown, 1 => illegal]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_stream_means_the_same_wherever_it_is_cut(
        requests in vec(requests(), 0..12),
        cuts in vec(any::<Index>(), 0..12),
        end in any::<Index>(),
    ) {
        let server = server();
        let stream = requests.concat();
        // The last request may be cut off.
        let stream = &stream[..stream.len() - end.index(40).min(stream.len())];
        let mut whole = Receiver::new(&server);
        whole.receive(stream);

        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        at.sort_unstable();
        let mut pieces = Receiver::new(&server);
        let mut from = 0;
        for to in at.into_iter().chain([stream.len()]) {
            pieces.receive(&stream[from..to]);
            from = to;
        }
        prop_assert_eq!(&whole.seen, &pieces.seen);
        prop_assert_eq!(&whole.awaits, &pieces.awaits);
        if whole.awaits != Awaits::Nothing {
            prop_assert_eq!(&whole.unread, &pieces.unread);
        }
    }
}

#[test]
fn a_stream_means_the_same_byte_by_byte() {
    let server = server();
    let stream = [
        legal(0x01, b"key", b"value", 5),
        legal(0x0d, b"key", b"", 0),
        request(0x99, b"extras", b"key", b"value", 0),
        legal(0x05, b"counter", b"", 0),
        legal(0x11, b"large", &vec![b'v'; INLINE_BYTES_MAX + 1], 0),
        legal(0x11, b"too large", &vec![b'v'; ITEM_BYTES_MAX + 1], 0),
        legal(0x0a, b"", b"", 0),
    ]
    .concat();
    let mut whole = Receiver::new(&server);
    whole.receive(&stream);
    assert_eq!(whole.seen.len(), 7);
    let mut bytes = Receiver::new(&server);
    for byte in stream.chunks(1) {
        bytes.receive(byte);
    }
    assert_eq!(whole.seen, bytes.seen);
    assert!(bytes.unread.is_empty() && bytes.awaits == Awaits::Requests);
}

#[test]
fn what_is_missing_is_never_more_than_the_rest_of_the_request() {
    let server = server();
    for whole in [legal(0x00, b"key", b"", 0), legal(0x01, b"key", b"value", 0), legal(0x0a, b"", b"", 0)] {
        for cut in 0..whole.len() {
            let (batch, parsed) = parse(&whole[..cut], &server);
            let Next::Read { missing } = parsed.next else { panic!("{cut}: {parsed:?}") };
            assert!((1..=whole.len() - cut).contains(&missing), "{cut}: {missing}");
            assert_eq!((parsed.consumed, batch.ops.len()), (0, 0));
            if cut >= 24 {
                assert_eq!(missing, whole.len() - cut);
            }
        }
    }
}

#[test]
fn of_a_request_that_is_cut_off_nothing_is_consumed() {
    let server = server();
    let first = legal(0x00, b"key", b"", 0);
    let second = legal(0x01, b"key", b"value", 0);
    let stream = [&first[..], &second[..second.len() - 2]].concat();
    let (batch, parsed) = parse(&stream, &server);
    assert_eq!(batch.ops.len(), 1);
    assert_eq!(parsed.consumed, first.len());
    assert_eq!(parsed.next, Next::Read { missing: 2 });
    let (_, parsed) = parse(&[&first[..], &second].concat(), &server);
    assert_eq!(parsed.consumed, first.len() + second.len());
    assert_eq!(parsed.next, Next::Read { missing: 24 });
}

#[test]
fn of_a_large_value_nothing_is_consumed_and_its_head_is_waited_for() {
    let server = server();
    let before = legal(0x0a, b"", b"", 0);
    let large = legal(0x01, b"key", &vec![b'v'; INLINE_BYTES_MAX], 0);
    let head_bytes = 24 + 8 + 3;
    for there in head_bytes..large.len() {
        let (_, parsed) = parse(&[&before[..], &large[..there]].concat(), &server);
        let next = Next::ReadLarge { head_bytes, value_bytes: INLINE_BYTES_MAX };
        assert_eq!(parsed, Parsed { consumed: before.len(), next });
    }
    let (_, parsed) = parse(&large[..head_bytes - 2], &server);
    assert_eq!(parsed.next, Next::Read { missing: 2 });
}

#[test]
fn a_value_that_is_too_large_is_skipped_to_the_byte() {
    let server = server();
    let value = vec![b'v'; ITEM_BYTES_MAX + 1];
    for (opcode, older) in [
        (0x01, Older::Delete),
        (0x11, Older::Delete),
        (0x02, Older::Keep),
        (0x03, Older::Keep),
        (0x12, Older::Keep),
        (0x13, Older::Keep),
        (0x0e, Older::Keep),
        (0x0f, Older::Keep),
        (0x19, Older::Keep),
        (0x1a, Older::Keep),
    ] {
        let too_large = legal(opcode, b"key", &value, 0);
        let head_bytes = too_large.len() - value.len();
        let unstorable = Command::Unstorable { why: Refusal::TooLarge, older };
        for there in [head_bytes, head_bytes + 1, too_large.len() - 1] {
            let (batch, parsed) = parse(&too_large[..there], &server);
            assert_eq!(batch.ops[0].command, unstorable, "{opcode:#x}");
            assert_eq!(&batch.input.filled()[batch.ops[0].key.range()], b"key");
            assert_eq!(parsed.consumed, there);
            assert_eq!(parsed.next, Next::Skip { bytes: too_large.len() - there });
        }
        let (batch, parsed) = parse(&[&too_large[..], &legal(0x0a, b"", b"", 0)].concat(), &server);
        assert_eq!(batch.ops.len(), 2);
        assert_eq!(parsed.consumed, too_large.len() + 24);
    }
    let (_, parsed) = parse(&legal(0x01, b"key", &value[1..], 0), &server);
    assert!(matches!(parsed.next, Next::ReadLarge { value_bytes: ITEM_BYTES_MAX, .. }));
}

#[test]
fn the_first_rule_that_fails_decides() {
    const GIB: u32 = 1 << 30;
    let server = server();
    let answer = |opcode, status| error(opcode, status);
    let mut wrong_magic = head(0x00, 3, 0, 3, 0);
    wrong_magic[0] = 0x81;
    for (name, input, expected) in [
        ("magic", wrong_magic, Vec::new()),
        ("magic, on its first byte", b"g".to_vec(), Vec::new()),
        ("overrun", head(0x01, 4, 8, 11, 0), answer(0x01, 0x81)),
        ("overrun wins over a long key", head(0x01, 251, 8, 11, 0), answer(0x01, 0x81)),
        ("overrun of an unknown opcode", head(0x99, 4, 8, 11, 0), answer(0x99, 0x81)),
        ("body over the limit", head(0x01, 3, 8, GIB + 1, 0), answer(0x01, 0x04)),
        ("body over the limit, unknown", head(0x99, 0, 0, GIB + 1, 0), answer(0x99, 0x04)),
        ("long key", head(0x11, 251, 8, 300, 0), answer(0x11, 0x04)),
        ("long key of an unknown opcode", head(0x99, 251, 0, 251, 0), answer(0x99, 0x04)),
        ("GET without a key", head(0x00, 0, 0, 0, 0), answer(0x00, 0x04)),
        ("GET with extras", head(0x09, 3, 4, 7, 0), answer(0x09, 0x04)),
        ("GET with a value", head(0x0c, 3, 0, 4, 0), answer(0x0c, 0x04)),
        ("SET without extras", head(0x01, 3, 0, 8, 0), answer(0x01, 0x04)),
        ("NOOP with a body", head(0x0a, 0, 0, 1, 0), answer(0x0a, 0x04)),
        ("FLUSH with two bytes of extras", head(0x08, 0, 2, 2, 0), answer(0x08, 0x04)),
        ("STAT with a value", head(0x10, 3, 0, 4, 0), answer(0x10, 0x04)),
        ("TOUCH with a value", head(0x1c, 3, 4, 8, 0), answer(0x1c, 0x04)),
        ("GAT with a value", head(0x1d, 3, 4, 8, 0), answer(0x1d, 0x04)),
        ("QUIT with a key", head(0x07, 3, 0, 3, 0), answer(0x07, 0x04)),
    ] {
        let before = legal(0x0a, b"", b"", 0);
        let (answers, parsed) = answered(&[&before[..], &input].concat(), &server);
        assert_eq!(answers[24..], expected, "{name}");
        assert_eq!(parsed, Parsed { consumed: before.len(), next: Next::Close }, "{name}");
    }
}

#[test]
fn an_unknown_opcode_is_answered_and_takes_exactly_its_body() {
    let server = server();
    for opcode in (0x25..=0xff).chain([0x1f]) {
        let (answers, parsed) = answered(&legal(opcode, b"", b"", 0), &server);
        assert_eq!(answers, error(opcode, 0x81));
        assert_eq!(parsed.consumed, 24);

        let unknown = request(opcode, b"extras", b"key", b"value", 0);
        let noop = legal(0x0a, b"", b"", 0);
        let (answers, parsed) = answered(&[&unknown[..], &noop].concat(), &server);
        assert_eq!(answers.len(), error(opcode, 0x81).len() + 24);
        assert_eq!(parsed.consumed, unknown.len() + noop.len());

        let (answers, parsed) = answered(&unknown[..24], &server);
        assert_eq!(answers, error(opcode, 0x81), "the answer does not wait for the body");
        assert_eq!(parsed.next, Next::Skip { bytes: 14 });
    }
    let (_, parsed) = answered(&head(0x99, 0, 0, 1 << 30, 0), &server);
    assert_eq!(parsed.next, Next::Skip { bytes: 1 << 30 });
}

#[test]
fn sasl_and_verbosity_are_answered_as_unknown_and_the_connection_stays() {
    let server = server();
    for sasl in [
        legal(0x20, b"", b"", 0),
        legal(0x21, b"PLAIN", b"\0user\0password", 0),
        legal(0x22, b"PLAIN", b"answer", 0),
        request(0x1b, &[0, 0, 0, 1], b"", b"", 0),
    ] {
        let (answers, parsed) = answered(&sasl, &server);
        assert_eq!(answers, error(sasl[1], 0x81));
        assert_eq!(parsed.consumed, sasl.len());
        assert_eq!(parsed.next, Next::Read { missing: 24 });
    }
}

#[test]
fn data_type_and_vbucket_are_not_looked_at() {
    let server = server();
    let mut get = legal(0x00, b"key", b"", 0);
    get[5..8].fill(0xff);
    let (batch, parsed) = parse(&get, &server);
    assert_eq!(batch.ops[0].command, Command::Get);
    assert_eq!(parsed.consumed, get.len());
}

#[test]
fn what_stands_behind_quit_is_not_executed() {
    let server = server();
    for opcode in [0x07, 0x17] {
        let stream =
            [legal(0x00, b"key", b"", 0), legal(opcode, b"", b"", 0), legal(0x00, b"key", b"", 0)].concat();
        let (batch, parsed) = parse(&stream, &server);
        assert_eq!(batch.ops.len(), 2);
        assert_eq!(parsed.next, Next::Close);
    }
}

#[test]
fn nothing_read_is_nothing_known() {
    let server = server();
    let mut session = Session::default();
    let parsed = session.parse(&mut batch(), Span::default(), &server);
    assert!(matches!(session, Session::Fresh));
    assert_eq!(parsed.next, Next::Read { missing: 1 });
    let mut batch = batch();
    batch.input.extend(b"\x80");
    let parsed = session.parse(&mut batch, Span::new(0, 1), &server);
    assert!(matches!(session, Session::Binary));
    assert_eq!(parsed.next, Next::Read { missing: 23 });
}

#[test]
fn the_operation_of_a_large_value_is_that_of_its_head() {
    let server = server();
    let set = legal(0x12, b"key", &vec![b'v'; INLINE_BYTES_MAX], 77);
    let head = Span::new(BEFORE.len(), 24 + 8 + 3);
    let mut batch = batch();
    batch.input.extend(BEFORE);
    batch.input.extend(&set[..head.len as usize]);
    Session::Binary.finish_large(&mut batch, head, 3, &server);
    let op = &batch.ops[0];
    assert_eq!(
        op.command,
        Command::Store {
            mode: StoreMode::Add,
            flags: 9,
            expiration: Expiration::After(60),
            cas: Some(77),
            value: Payload::Large(3),
        }
    );
    assert_eq!(op.starts_at as usize, BEFORE.len());
    assert_eq!(&batch.input.filled()[op.key.range()], b"key");
    assert_eq!(op.hash, server.hash(b"key"));
}

#[test]
fn a_large_value_that_is_refused_deletes_the_older_one_of_a_set_alone() {
    let server = server();
    for (opcode, older) in [
        (0x01, Older::Delete),
        (0x11, Older::Delete),
        (0x02, Older::Keep),
        (0x13, Older::Keep),
        (0x0e, Older::Keep),
        (0x1a, Older::Keep),
    ] {
        let large = legal(opcode, b"key", &vec![b'v'; INLINE_BYTES_MAX], 0);
        let head = Span::new(0, large.len() - INLINE_BYTES_MAX);
        let mut batch = batch();
        batch.input.extend(&large[..head.len as usize]);
        Session::Binary.refuse_large(&mut batch, head, &server);
        let why = Refusal::OutOfMemory;
        assert_eq!(batch.ops[0].command, Command::Unstorable { why, older }, "{opcode:#x}");
        assert_eq!(&batch.input.filled()[batch.ops[0].key.range()], b"key");
        assert_eq!(batch.ops[0].hash, server.hash(b"key"));
    }
}

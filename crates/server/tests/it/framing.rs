//! Where a request begins and ends: the rules by which a malformed one is refused, and streams cut up in every way.

use std::io::{Read, Write};

use crate::client::{Answer, Client, Request, op, status, stored};
use crate::harness::{Random, Server, packet};

const BODY_BYTES_MAX: u32 = 1 << 30;

/// A header alone.
fn header(opcode: u8, key_len: u16, extras_len: u8, body_len: u32) -> Vec<u8> {
    let mut header = packet(opcode, b"", b"", b"", 0, OPAQUE);
    header[2..4].copy_from_slice(&key_len.to_be_bytes());
    header[4] = extras_len;
    header[8..12].copy_from_slice(&body_len.to_be_bytes());
    header
}

const OPAQUE: u32 = 0xfeed_beef;

/// Sends a request behind which nothing is served: the answer, if any, comes, then the close, and what stood before
/// was answered.
#[track_caller]
fn assert_closes(server: &Server, request: &[u8], answer: Option<u16>) {
    let mut client = Client::connect(server);
    let opcode = request.get(1).copied().unwrap_or_default();
    let noop = Request::new(op::NOOP).opaque(1).bytes();
    let behind = Request::store(op::SET, "behind", "").bytes();
    client.send(&[&noop[..], request, &behind].concat());
    assert_eq!(client.receive(op::NOOP, 1), Answer::done(0));
    if let Some(status) = answer {
        assert_eq!(client.receive(opcode, OPAQUE), Answer::error(status));
    }
    client.assert_closed();
    assert_eq!(Client::connect(server).get("behind"), None, "nothing behind it is executed");
}

#[test]
fn a_bad_magic_closes_without_a_word() {
    let server = Server::start(&["-B", "binary"]);
    for magic in [0x00, 0x7f, 0x81, 0xff, b'g', b'\n', b'*'] {
        // All else is wrong as well, and does not matter.
        let mut request = header(0x99, 300, 20, BODY_BYTES_MAX + 1);
        request[0] = magic;
        assert_closes(&server, &request, None);
        // The first byte is enough.
        assert_closes(&server, &[magic], None);
    }
}

#[test]
fn a_bad_magic_behind_a_request_closes_without_a_word() {
    let server = Server::start(&[]);
    for magic in [0x00, 0x81, 0xff, b'g', b'*'] {
        let mut client = Client::connect(&server);
        client.assert_in_step();
        client.send(&[magic]);
        client.assert_closed();
    }
}

#[test]
fn the_first_byte_decides_the_protocol_unless_the_operator_does() {
    let mut noop = header(op::NOOP, 0, 0, 0);
    let cases: [(&[&str], u8, &[u8]); 7] = [
        (&[], b'm', b"MN\r\n"),
        (&[], 0x80, &[0x81, op::NOOP]),
        (&[], 0x81, b"ERROR\r\n"),
        (&["-B", "ascii"], b'm', b"MN\r\n"),
        (&["-B", "ascii"], 0x80, b"ERROR\r\n"),
        (&["-B", "ascii"], b'*', b"ERROR\r\n"),
        (&["-B", "binary"], 0x80, &[0x81, op::NOOP]),
    ];
    for (options, first, answer) in cases {
        let server = Server::start(options);
        let mut stream = server.connect();
        noop[0] = first;
        let request: &[u8] = if first == b'm' { b"mn\r\n" } else { &noop };
        stream.write_all(request).unwrap();
        let mut told = vec![0; answer.len()];
        stream.read_exact(&mut told).unwrap();
        assert_eq!(told, answer, "{options:?}, {first:#04x}");
    }
}

#[test]
fn extras_and_key_longer_than_the_body_are_an_unknown_command_and_the_end() {
    let server = Server::start(&[]);
    for (opcode, key_len, extras_len, body_len) in [
        (op::GET, 1, 0, 0),
        (op::SET, 5, 8, 12),
        (op::NOOP, 0, 1, 0),
        // It comes before a key that is too long, a wrong shape and an unknown opcode.
        (op::GET, 251, 0, 250),
        (op::GET, 65535, 255, 1000),
        (op::GET, 1, 7, 7),
        (0x99, 4, 4, 7),
        (0xff, 1, 0, 0),
    ] {
        let request = header(opcode, key_len, extras_len, body_len);
        assert_closes(&server, &request, Some(status::UNKNOWN_COMMAND));
    }
}

#[test]
fn a_body_over_1_gib_is_refused_and_one_of_1_gib_is_not() {
    let server = Server::start(&[]);
    for (opcode, key_len, extras_len) in [(op::SET, 1, 8), (op::GET, 1, 0), (op::GET, 251, 0), (0x99, 0, 0)] {
        for body_len in [BODY_BYTES_MAX + 1, u32::MAX] {
            let request = header(opcode, key_len, extras_len, body_len);
            assert_closes(&server, &request, Some(status::INVALID));
        }
    }
    // The answer is known before the body comes.
    let mut client = Client::connect(&server);
    let head = [&header(op::SET, 1, 8, BODY_BYTES_MAX)[..], &stored(0, 0), b"k"];
    client.send(&head.concat());
    assert_eq!(client.receive(op::SET, OPAQUE), Answer::error(status::TOO_LARGE));
    let mut client = Client::connect(&server);
    client.send(&header(0x99, 0, 0, BODY_BYTES_MAX));
    assert_eq!(client.receive(0x99, OPAQUE), Answer::error(status::UNKNOWN_COMMAND));
}

#[test]
fn a_key_over_250_bytes_is_refused_whatever_the_opcode() {
    let server = Server::start(&[]);
    for opcode in [op::GET, op::SET, op::NOOP, op::STAT, op::VERBOSITY, 0x1f, 0xff] {
        for key_len in [251, 252, 65535] {
            let request = header(opcode, key_len, 0, u32::from(key_len));
            assert_closes(&server, &request, Some(status::INVALID));
        }
    }
    let mut client = Client::connect(&server);
    client.set([b'k'; 250], "v");
    assert_eq!(client.get([b'k'; 250]).unwrap(), b"v");
}

/// The legal shapes: extras, key, value.
fn is_legal(opcode: u8, extras: u8, key: bool, value: bool) -> bool {
    match opcode {
        op::GET | op::GETQ | op::GETK | op::GETKQ | op::DELETE | op::DELETEQ => extras == 0 && key && !value,
        op::SET | op::ADD | op::REPLACE | op::SETQ | op::ADDQ | op::REPLACEQ => extras == 8 && key,
        op::INCR | op::DECR | op::INCRQ | op::DECRQ => extras == 20 && key && !value,
        op::QUIT | op::QUITQ | op::NOOP | op::VERSION | op::SASL_LIST_MECHS => extras == 0 && !key && !value,
        op::FLUSH | op::FLUSHQ => (extras == 0 || extras == 4) && !key && !value,
        op::APPEND | op::PREPEND | op::APPENDQ | op::PREPENDQ | op::SASL_AUTH | op::SASL_STEP => {
            extras == 0 && key
        }
        op::STAT => extras == 0 && !value,
        op::TOUCH | op::GAT | op::GATQ | op::GATK | op::GATKQ => extras == 4 && key && !value,
        _ => true,
    }
}

#[test]
fn a_wrong_shape_is_refused_for_every_opcode_and_a_legal_one_is_not() {
    let server = Server::start(&[]);
    let mut refused_count = 0;
    for opcode in 0..=op::GATKQ {
        for extras in [0, 1, 4, 5, 8, 19, 20, 21] {
            for (key, value) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                if is_legal(opcode, extras, key > 0, value > 0) {
                    continue;
                }
                refused_count += 1;
                let mut client = Client::connect(&server);
                let request = header(opcode, key, extras, u32::from(extras) + u32::from(key) + value);
                // The header says it all: the body need not come.
                client.send(&request);
                assert_eq!(
                    client.receive(opcode, OPAQUE),
                    Answer::error(status::INVALID),
                    "opcode {opcode:#04x}, extras {extras}, key {key}, value {value}"
                );
                client.assert_closed();
            }
        }
    }
    assert!(refused_count > 800, "{refused_count}");

    let mut client = Client::connect(&server);
    for opcode in (0..=op::GATKQ).filter(|opcode| ![op::QUIT, op::QUITQ].contains(opcode)) {
        for extras in [0, 4, 8, 20] {
            for (key, value) in [("", ""), ("k", ""), ("", "v"), ("k", "v")] {
                if opcode != op::STAT && is_legal(opcode, extras, !key.is_empty(), !value.is_empty()) {
                    let request = Request::of(opcode, key).extras(vec![0; usize::from(extras)]).value(value);
                    client.ask_quietly(&request);
                }
            }
        }
    }
    client.assert_in_step();
}

#[test]
fn a_wrong_shape_is_refused_although_its_body_follows() {
    let server = Server::start(&[]);
    for request in [
        Request::of(op::GET, "k").value("surplus"),
        Request::of(op::GET, "k").extras([0; 4]),
        Request::store(op::SET, "k", "v").extras([0; 4]),
        Request::touch(op::TOUCH, "k", 0).value("surplus"),
        Request::touch(op::GATK, "k", 0).value("surplus"),
        Request::of(op::STAT, "settings").value("surplus"),
        Request::of(op::NOOP, "k"),
        Request::of(op::QUIT, "k"),
        Request::of(op::FLUSH, "k"),
    ] {
        assert_closes(&server, &request.opaque(OPAQUE).bytes(), Some(status::INVALID));
    }
}

#[test]
fn an_unknown_opcode_is_answered_and_exactly_its_body_is_read_past() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server);
    let unknown: Vec<u8> = (op::GATKQ + 1..=0xff).chain([0x1f, op::VERBOSITY]).collect();
    for &opcode in &unknown {
        assert_eq!(
            client.ask(&Request::new(opcode)),
            Answer::error(status::UNKNOWN_COMMAND),
            "{opcode:#04x}"
        );
    }
    client.assert_in_step();
    // The body would be a request itself, if anyone took it for one.
    let inner = Request::store(op::SET, "inner", "v").bytes();
    for (extras_len, key_len, value_len) in [
        (0, 0, inner.len()),
        (0, inner.len(), 0),
        (inner.len(), 0, 0),
        (24, 24, 24),
        (1, 0, 0),
        (0, 1, 0),
        (0, 0, 1),
        (255, 250, 5),
        (0, 3, 20_000),
        (4, 3, 300_000),
    ] {
        let body = |len: usize| inner.iter().copied().cycle().take(len).collect::<Vec<_>>();
        for opcode in [0x1f, 0x25, 0x80, 0xff] {
            let request = Request::of(opcode, body(key_len)).extras(body(extras_len)).value(body(value_len));
            assert_eq!(
                client.ask_quietly(&request),
                Some(Answer::error(status::UNKNOWN_COMMAND)),
                "opcode {opcode:#04x}, extras {extras_len}, key {key_len}, value {value_len}"
            );
        }
    }
    assert_eq!(client.get("inner"), None);
}

/// What is to be answered: opcode, status and value.
type Expected = (u8, u16, Vec<u8>);

/// Requests of every kind, each of them answered. The stream can be repeated: the first of them flushes.
fn representative_stream(large_value: &[u8]) -> (Vec<u8>, Vec<Expected>) {
    let requests = [
        (Request::new(op::FLUSH), 0, &b""[..]),
        (Request::store(op::SET, "key", "value"), 0, b""),
        (Request::of(op::GETK, "key"), 0, b"value"),
        (Request::store(op::ADDQ, "key", "x"), status::EXISTS, b"Data exists for key."),
        (Request::concat(op::APPEND, "key", "+"), 0, b""),
        (
            Request::new(0x77).extras("extras").value(b"\x80\x0a\0\0\0\0\0\0"),
            status::UNKNOWN_COMMAND,
            b"Unknown command",
        ),
        (Request::store(op::SET, "large", large_value), 0, b""),
        (Request::of(op::GET, "large"), 0, large_value),
        (Request::count(op::INCR, "n", 1, 7, 0), 0, b"\0\0\0\0\0\0\0\x07"),
        (Request::touch(op::GAT, "key", 0), 0, b"value+"),
        (Request::of(op::GET, "missing"), status::NOT_FOUND, b"Not found"),
        (Request::new(op::NOOP), 0, b""),
    ];
    let mut stream = Vec::new();
    let mut answers = Vec::new();
    for (at, (request, status, value)) in (0..).zip(requests) {
        answers.push((request.opcode, status, value.to_vec()));
        stream.extend(request.opaque(at).bytes());
    }
    (stream, answers)
}

#[track_caller]
fn assert_answers(client: &mut Client, answers: &[Expected], how: &str) {
    for (opaque, (opcode, status, value)) in (0..).zip(answers) {
        let answer = client.receive(*opcode, opaque);
        assert_eq!(answer.status, *status, "{how}: answer {opaque}");
        assert!(answer.value == *value, "{how}: value of answer {opaque}");
    }
}

/// With one event loop, everything that was sent before is read once another connection has its answer.
fn single_threaded() -> (Server, Client, Client) {
    let server = Server::start(&["-t", "1", "-m", "64"]);
    let client = Client::connect(&server);
    let barrier = Client::connect(&server);
    (server, client, barrier)
}

#[test]
fn a_stream_may_be_cut_at_every_byte() {
    const EDGE_BYTES: usize = 700;
    let (_server, mut client, mut barrier) = single_threaded();
    // Longer than an eighth of a segment: it has a mapping of its own.
    let large_value = Random::new(1).bytes(9000);
    let (stream, answers) = representative_stream(&large_value);
    // Inside of the large value one byte is like another.
    let inside = EDGE_BYTES..stream.len() - EDGE_BYTES;
    let cuts = (1..stream.len()).filter(|cut| !inside.contains(cut) || cut % 61 == 0);
    for cut in cuts {
        client.send(&stream[..cut]);
        barrier.assert_in_step();
        client.send(&stream[cut..]);
        assert_answers(&mut client, &answers, &format!("cut at {cut} of {}", stream.len()));
    }
}

#[test]
fn a_stream_may_come_one_byte_at_a_time() {
    let (_server, mut client, mut barrier) = single_threaded();
    let (stream, answers) = representative_stream(b"not so large");
    for byte in &stream {
        client.send(&[*byte]);
        barrier.assert_in_step();
    }
    assert_answers(&mut client, &answers, "byte by byte");
    // Without a pause, and with a value that is longer than what is copied from turn to turn.
    let (stream, answers) = representative_stream(&[b'v'; 6000]);
    for byte in &stream {
        client.send(&[*byte]);
    }
    assert_answers(&mut client, &answers, "byte by byte, fast");
    client.assert_in_step();
}

#[test]
fn ten_thousand_requests_in_one_segment_are_answered_in_order() {
    const COUNT: u32 = 10_000;
    let server = Server::start(&[]);
    let mut client = Client::connect(&server);
    let mut stream = Vec::new();
    let mut expected = Vec::new();
    for opaque in 0..COUNT {
        let key = format!("key {}", opaque % 100);
        let number = opaque.to_string();
        let (request, answer) = match opaque % 5 {
            0 => (Request::store(op::SETQ, &key, &number), None),
            1 => (Request::of(op::GETQ, "missing"), None),
            2 => {
                let stored_before = format!("key {}", (opaque - 2) % 100);
                let get = Request::of(op::GETKQ, &stored_before);
                let value = (opaque - 2).to_string();
                (get, Some(Answer::hit(0, value, 0).with_key(stored_before)))
            }
            3 => (Request::of(op::GET, "missing"), Some(Answer::error(status::NOT_FOUND))),
            _ => (Request::new(op::NOOP), Some(Answer::done(0))),
        };
        expected.extend(answer.map(|answer| (request.opcode, opaque, answer)));
        stream.extend(request.opaque(opaque).bytes());
    }
    client.send_meanwhile(&stream, |client| {
        for (opcode, opaque, answer) in &expected {
            let received = client.receive(*opcode, *opaque);
            assert_eq!(Answer { cas: 0, ..received }, *answer, "answer {opaque}");
        }
    });
    client.assert_in_step();
}

#[test]
fn requests_behind_quit_are_not_executed() {
    let server = Server::start(&[]);
    for quit in [op::QUIT, op::QUITQ] {
        let mut client = Client::connect(&server);
        let requests = [
            Request::store(op::SET, "before", "1"),
            Request::new(quit).opaque(1),
            Request::store(op::SET, "behind", "1"),
            Request::new(op::NOOP),
        ];
        client.send(&requests.iter().flat_map(Request::bytes).collect::<Vec<_>>());
        assert_eq!(client.receive(op::SET, 0).status, 0);
        if quit == op::QUIT {
            assert_eq!(client.receive(op::QUIT, 1), Answer::done(0));
        }
        client.assert_closed();
        let mut client = Client::connect(&server);
        assert_eq!(client.get("before").unwrap(), b"1");
        assert_eq!(client.get("behind"), None);
    }
}

#[test]
fn after_a_half_close_every_answer_arrives_and_then_the_end() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server);
    let values = [vec![b'i'; 3000], vec![b'l'; 200_000]];
    client.set("0", &values[0]);
    client.set("1", &values[1]);
    // A few requests, and some that the sockets cannot hold the answers of.
    for count in [1_u32, 3, 100, 1000] {
        let mut client = Client::connect(&server);
        let is_large = |opaque| opaque % 20 == 19;
        for opaque in 0..count {
            let key = if is_large(opaque) { "1" } else { "0" };
            client.send(&Request::of(op::GET, key).opaque(opaque).bytes());
        }
        client.finish_sending();
        for opaque in 0..count {
            let answer = client.receive(op::GET, opaque);
            assert!(answer.value == values[usize::from(is_large(opaque))], "{opaque} of {count}");
        }
        client.assert_closed();
    }
    // With nothing asked, and with a part of a request.
    for part in [0, 1, 23, 24, 30] {
        let mut client = Client::connect(&server);
        client.send(&Request::store(op::SET, "cut off", "value").bytes()[..part]);
        client.finish_sending();
        client.assert_closed();
    }
}

#[test]
fn a_body_that_was_cut_off_stores_nothing() {
    let server = Server::start(&[]);
    for value_len in [10, 5000, 100_000, 900_000] {
        let value = vec![b'v'; value_len];
        let mut observer = Client::connect(&server);
        observer.set("k", "old");
        let request = Request::store(op::SET, "k", &value).bytes();
        for missing in [1, value_len / 2, value_len] {
            let mut client = Client::connect(&server);
            client.send(&request[..request.len() - missing]);
            client.finish_sending();
            client.assert_closed();
            assert_eq!(observer.get("k").unwrap(), b"old", "{missing} of {value_len} bytes missing");
        }
    }
}

/// The system resets a connection that is closed while there is unread input, and a reset overtakes the answer.
#[test]
fn the_answer_to_a_fatal_error_arrives_although_much_follows_it() {
    let server = Server::start(&[]);
    for follows in [1, 1000, 100_000, 700_000] {
        let mut client = Client::connect(&server);
        let noop = Request::new(op::NOOP).opaque(1).bytes();
        let mut stream = noop;
        stream.extend(header(op::GET, 251, 0, 251));
        stream.resize(stream.len() + follows, 0x80);
        client.send_meanwhile(&stream, |client| {
            assert_eq!(client.receive(op::NOOP, 1), Answer::done(0));
            assert_eq!(
                client.receive(op::GET, OPAQUE),
                Answer::error(status::INVALID),
                "{follows} bytes follow"
            );
            client.assert_closed();
        });
    }
}

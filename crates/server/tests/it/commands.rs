//! Every command and every quiet form: what is answered, to the byte, and what becomes of the item.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Answer, Client, FAIL_ON_MISS, Request, number, op, status, stored, wait_until};
use crate::harness::Server;

/// No item has it: versions count up from 1.
const OTHER_CAS: u64 = u64::MAX;
/// The longest time that an expiration means relative to now.
const MONTH: u32 = 30 * 24 * 60 * 60;

const READS: [(u8, Echo, Loudness); 4] = [
    (op::GET, Echo::Without, Loudness::Loud),
    (op::GETQ, Echo::Without, Loudness::Quiet),
    (op::GETK, Echo::Key, Loudness::Loud),
    (op::GETKQ, Echo::Key, Loudness::Quiet),
];
const TOUCHING_READS: [(u8, Echo, Loudness); 4] = [
    (op::GAT, Echo::Without, Loudness::Loud),
    (op::GATQ, Echo::Without, Loudness::Quiet),
    (op::GATK, Echo::Key, Loudness::Loud),
    (op::GATKQ, Echo::Key, Loudness::Quiet),
];

/// Whether an answer repeats the key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Echo {
    Key,
    Without,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Loudness {
    Loud,
    Quiet,
}

/// A mutation that succeeds: the loud form answers, the quiet form does not.
#[track_caller]
fn assert_succeeds(client: &mut Client, loudness: Loudness, request: &Request) {
    match (client.ask_quietly(request), loudness) {
        (None, Loudness::Quiet) => {}
        (Some(answer), Loudness::Loud) => assert_eq!(answer, Answer::done(answer.cas)),
        (answer, _) => panic!("opcode {:#04x} answers {answer:?}", request.opcode),
    }
}

/// A mutation that fails: every form answers, with the text.
#[track_caller]
fn assert_fails(client: &mut Client, status: u16, request: &Request) {
    assert_eq!(client.ask_quietly(request), Some(Answer::error(status)), "opcode {:#04x}", request.opcode);
}

/// The item's version.
#[track_caller]
fn cas_of(client: &mut Client, key: impl AsRef<[u8]>) -> u64 {
    let answer = client.ask(&Request::of(op::GET, key));
    assert_eq!(answer.status, 0, "{answer:?}");
    assert_ne!(answer.cas, 0);
    answer.cas
}

#[test]
fn a_session_is_answered_byte_by_byte() {
    let server = Server::start(&[]);
    let mut stream = server.connect();
    let mut exchange = |request: &[u8], cas_at: Option<usize>, expected: &[u8]| {
        stream.write_all(request).unwrap();
        let mut answer = vec![0; expected.len()];
        stream.read_exact(&mut answer).unwrap();
        if let Some(at) = cas_at {
            assert_ne!(answer[at..at + 8], [0; 8], "a version is never 0");
            answer[at..at + 8].fill(b'C');
        }
        assert_eq!(answer.escape_ascii().to_string(), expected.escape_ascii().to_string());
    };
    // SET Hello = World, flags 0xdeadbeef, expiration 3600; data type and vbucket are not looked at.
    exchange(
        b"\x80\x01\x00\x05\x08\xff\xab\xcd\x00\x00\x00\x12\xca\xfe\xba\xbe\0\0\0\0\0\0\0\0\
          \xde\xad\xbe\xef\x00\x00\x0e\x10HelloWorld",
        Some(16),
        b"\x81\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xca\xfe\xba\xbeCCCCCCCC",
    );
    // GET
    exchange(
        b"\x80\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x01\0\0\0\0\0\0\0\0Hello",
        Some(16),
        b"\x81\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x09\x00\x00\x00\x01CCCCCCCC\xde\xad\xbe\xefWorld",
    );
    // GETK
    exchange(
        b"\x80\x0c\x00\x05\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x02\0\0\0\0\0\0\0\0Hello",
        Some(16),
        b"\x81\x0c\x00\x05\x04\x00\x00\x00\x00\x00\x00\x0e\x00\x00\x00\x02CCCCCCCC\xde\xad\xbe\xefHelloWorld",
    );
    // TOUCH
    exchange(
        b"\x80\x1c\x00\x05\x04\x00\x00\x00\x00\x00\x00\x09\x00\x00\x00\x03\0\0\0\0\0\0\0\0\x00\x00\x00\x00Hello",
        Some(16),
        b"\x81\x1c\x00\x00\x04\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x03CCCCCCCC\xde\xad\xbe\xef",
    );
    // INCREMENT n by 1, to be created with 5
    exchange(
        b"\x80\x05\x00\x01\x14\x00\x00\x00\x00\x00\x00\x15\x00\x00\x00\x04\0\0\0\0\0\0\0\0\
          \0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x05\0\0\0\0n",
        Some(16),
        b"\x81\x05\x00\x00\x00\x00\x00\x00\x00\x00\x00\x08\x00\x00\x00\x04CCCCCCCC\0\0\0\0\0\0\0\x05",
    );
    // ADDQ of what is there: an error under the request's own opcode.
    exchange(
        b"\x80\x12\x00\x05\x08\x00\x00\x00\x00\x00\x00\x0d\x00\x00\x00\x05\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0Hello",
        None,
        b"\x81\x12\x00\x00\x00\x00\x00\x02\x00\x00\x00\x14\x00\x00\x00\x05\0\0\0\0\0\0\0\0Data exists for key.",
    );
    // DELETE
    exchange(
        b"\x80\x04\x00\x05\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x06\0\0\0\0\0\0\0\0Hello",
        None,
        b"\x81\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x06\0\0\0\0\0\0\0\0",
    );
    // GET and GETK of what is gone
    exchange(
        b"\x80\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x07\0\0\0\0\0\0\0\0Hello",
        None,
        b"\x81\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x09\x00\x00\x00\x07\0\0\0\0\0\0\0\0Not found",
    );
    exchange(
        b"\x80\x0c\x00\x05\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x08\0\0\0\0\0\0\0\0Hello",
        None,
        b"\x81\x0c\x00\x05\x00\x00\x00\x01\x00\x00\x00\x05\x00\x00\x00\x08\0\0\0\0\0\0\0\0Hello",
    );
    // QUIT, and the end of the stream
    exchange(
        b"\x80\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x09\0\0\0\0\0\0\0\0",
        None,
        b"\x81\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x09\0\0\0\0\0\0\0\0",
    );
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn reads_answer_flags_value_and_version_and_the_k_forms_the_key() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server);
    for (key, value) in [(&b"k"[..], &b"v"[..]), (b"empty", b""), (&[b'K'; 250], &[0xff; 300])] {
        let set = Request::store(op::SET, key, value).extras(stored(0xdead_beef, 0));
        let cas = client.ask(&set).cas;
        let touches = TOUCHING_READS.map(|(opcode, ..)| Request::touch(opcode, key, 0));
        let reads = READS.map(|(opcode, ..)| Request::of(opcode, key));
        let echoes = READS.into_iter().chain(TOUCHING_READS).map(|(_, echo, _)| echo);
        for (read, echo) in reads.into_iter().chain(touches).zip(echoes) {
            let hit = Answer::hit(0xdead_beef, value, cas);
            let hit = if echo == Echo::Key { hit.with_key(key) } else { hit };
            assert_eq!(client.ask(&read), hit, "opcode {:#04x}", read.opcode);
        }
    }
}

#[test]
fn a_miss_is_hidden_by_quiet_reads_and_is_the_key_in_the_k_forms() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server);
    for (opcode, echo, loudness) in READS.into_iter().chain(TOUCHING_READS) {
        let touches = TOUCHING_READS.iter().any(|(touching, ..)| *touching == opcode);
        let request =
            if touches { Request::touch(opcode, "missing", 0) } else { Request::of(opcode, "missing") };
        let miss = match (loudness, echo) {
            (Loudness::Quiet, _) => None,
            (Loudness::Loud, Echo::Without) => Some(Answer::error(status::NOT_FOUND)),
            (Loudness::Loud, Echo::Key) => {
                Some(Answer { status: status::NOT_FOUND, ..Answer::done(0).with_key("missing") })
            }
        };
        assert_eq!(client.ask_quietly(&request), miss, "opcode {opcode:#04x}");
    }
}

#[test]
fn a_store_without_cas_depends_on_what_is_there() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server);
    for (loudness, set, add, replace) in
        [(Loudness::Loud, op::SET, op::ADD, op::REPLACE), (Loudness::Quiet, op::SETQ, op::ADDQ, op::REPLACEQ)]
    {
        client.ask(&Request::new(op::FLUSH));
        // REPLACE of nothing is 'not found', not 'not stored'.
        assert_fails(&mut client, status::NOT_FOUND, &Request::store(replace, "k", "0"));
        assert_eq!(client.get("k"), None);
        assert_succeeds(&mut client, loudness, &Request::store(add, "k", "1"));
        assert_fails(&mut client, status::EXISTS, &Request::store(add, "k", "2"));
        assert_eq!(client.get("k").unwrap(), b"1");
        assert_succeeds(&mut client, loudness, &Request::store(replace, "k", "3"));
        assert_eq!(client.get("k").unwrap(), b"3");
        assert_succeeds(&mut client, loudness, &Request::store(set, "k", "4"));
        assert_eq!(client.get("k").unwrap(), b"4");
        assert_succeeds(&mut client, loudness, &Request::store(set, "new", ""));
        assert_eq!(client.get("new").unwrap(), b"");
    }
}

#[test]
fn a_store_with_cas_is_a_compare_and_swap_whatever_its_opcode() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server);
    for (loudness, opcode) in [
        (Loudness::Loud, op::SET),
        (Loudness::Loud, op::ADD),
        (Loudness::Loud, op::REPLACE),
        (Loudness::Quiet, op::SETQ),
        (Loudness::Quiet, op::ADDQ),
        (Loudness::Quiet, op::REPLACEQ),
    ] {
        let swap = |cas| Request::store(opcode, "k", "new").cas(cas);
        client.ask_quietly(&Request::of(op::DELETEQ, "k"));
        assert_fails(&mut client, status::NOT_FOUND, &swap(1));
        assert_eq!(client.get("k"), None);
        let older = client.set("k", "older");
        let cas = client.set("k", "old");
        assert_fails(&mut client, status::EXISTS, &swap(OTHER_CAS));
        assert_fails(&mut client, status::EXISTS, &swap(older));
        assert_eq!((client.get("k").unwrap(), cas_of(&mut client, "k")), (b"old".to_vec(), cas));
        assert_succeeds(&mut client, loudness, &swap(cas));
        assert_eq!(client.get("k").unwrap(), b"new");
        assert_fails(&mut client, status::EXISTS, &swap(cas));
    }
}

#[test]
fn every_change_takes_a_version_of_its_own_and_answers_it() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server);
    let mut seen = Vec::new();
    for request in [
        Request::store(op::SET, "k", "1"),
        Request::store(op::SET, "k", "1"),
        Request::store(op::REPLACE, "k", "1"),
        Request::store(op::ADD, "other", "1"),
        Request::concat(op::APPEND, "k", "1"),
        Request::concat(op::PREPEND, "k", "1"),
        Request::concat(op::APPEND, "k", ""),
        Request::count(op::INCR, "k", 1, 0, 0),
        Request::count(op::DECR, "k", 1, 0, 0),
        Request::count(op::INCR, "k", 0, 0, 0),
        Request::count(op::INCR, "created", 1, 1, 0),
    ] {
        let cas = client.ask(&request).cas;
        assert!(cas != 0 && !seen.contains(&cas), "opcode {:#04x}: {cas} after {seen:?}", request.opcode);
        seen.push(cas);
    }
    // The last change of k was the third from the end.
    assert_eq!(cas_of(&mut client, "k"), seen[9]);
}

#[test]
fn append_and_prepend_keep_the_flags_and_need_an_item() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server);
    for (loudness, append, prepend) in
        [(Loudness::Loud, op::APPEND, op::PREPEND), (Loudness::Quiet, op::APPENDQ, op::PREPENDQ)]
    {
        client.ask(&Request::new(op::FLUSH));
        for (opcode, cas) in [(append, 0), (prepend, 0), (append, 1), (prepend, 1)] {
            let request = Request::concat(opcode, "k", "x").cas(cas);
            assert_fails(&mut client, status::NOT_STORED, &request);
        }
        let cas = client.ask(&Request::store(op::SET, "k", "b").extras(stored(7, 0))).cas;
        assert_fails(&mut client, status::EXISTS, &Request::concat(append, "k", "x").cas(OTHER_CAS));
        assert_succeeds(&mut client, loudness, &Request::concat(append, "k", "cd").cas(cas));
        assert_fails(&mut client, status::EXISTS, &Request::concat(prepend, "k", "x").cas(cas));
        assert_succeeds(&mut client, loudness, &Request::concat(prepend, "k", "a"));
        let cas = cas_of(&mut client, "k");
        assert_eq!(client.ask(&Request::of(op::GET, "k")), Answer::hit(7, "abcd", cas));
    }
}

#[test]
fn delete_with_a_cas_deletes_that_version_only() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server);
    for (loudness, opcode) in [(Loudness::Loud, op::DELETE), (Loudness::Quiet, op::DELETEQ)] {
        let delete = |cas| Request::of(opcode, "k").cas(cas);
        assert_fails(&mut client, status::NOT_FOUND, &delete(0));
        assert_fails(&mut client, status::NOT_FOUND, &delete(1));
        let cas = client.set("k", "v");
        assert_fails(&mut client, status::EXISTS, &delete(OTHER_CAS));
        assert_eq!(client.get("k").unwrap(), b"v");
        assert_succeeds(&mut client, loudness, &delete(cas));
        assert_eq!(client.get("k"), None);
        client.set("k", "v");
        assert_succeeds(&mut client, loudness, &delete(0));
        assert_eq!(client.get("k"), None);
    }
    client.set("k", "v");
    assert_eq!(client.ask(&Request::of(op::DELETE, "k")), Answer::done(0), "no version is left");
}

#[test]
fn counters_wrap_upwards_and_stop_at_zero_downwards() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server);
    for (text, opcode, delta, result) in [
        ("10", op::INCR, 1, 11),
        ("99", op::INCR, 1, 100),
        ("10", op::DECR, 1, 9),
        ("100", op::DECR, 1, 99),
        ("5", op::DECR, 6, 0),
        ("0", op::DECR, u64::MAX, 0),
        ("0", op::INCR, u64::MAX, u64::MAX),
        ("5", op::INCR, 0, 5),
        ("18446744073709551615", op::INCR, 1, 0),
        ("18446744073709551615", op::INCR, 12, 11),
        ("18446744073709551615", op::DECR, 1, u64::MAX - 1),
        ("9223372036854775807", op::INCR, 1, 1 << 63),
        ("007", op::INCR, 1, 8),
    ] {
        client.ask(&Request::store(op::SET, "n", text).extras(stored(9, 0)));
        let answer = client.ask(&Request::count(opcode, "n", delta, 77, 0));
        assert_eq!(answer, Answer::number(result, answer.cas), "{text} {opcode} {delta}");
        let item = client.ask(&Request::of(op::GET, "n"));
        // Spaces may stand behind the digits.
        let digits = item.value.trim_ascii_end().to_vec();
        assert_eq!(digits, result.to_string().as_bytes(), "{text} {opcode} {delta}");
        assert_eq!(item, Answer::hit(9, &item.value, answer.cas), "flags and version");
        let again = client.ask(&Request::count(op::INCR, "n", 0, 0, FAIL_ON_MISS));
        assert_eq!(again, Answer::number(result, again.cas), "it is still a number");
    }
}

#[test]
fn a_missing_counter_is_created_with_its_initial_value_or_not_at_all() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server);
    for (loudness, incr, decr) in
        [(Loudness::Loud, op::INCR, op::DECR), (Loudness::Quiet, op::INCRQ, op::DECRQ)]
    {
        for opcode in [incr, decr] {
            client.ask(&Request::new(op::FLUSH));
            let fail = Request::count(opcode, "n", 1, 5, FAIL_ON_MISS);
            assert_fails(&mut client, status::NOT_FOUND, &fail);
            assert_eq!(client.get("n"), None);
            // Neither delta nor CAS has a part in the creation.
            let create = Request::count(opcode, "n", 3, u64::MAX, 0).cas(OTHER_CAS);
            match (loudness, client.ask_quietly(&create)) {
                (Loudness::Quiet, None) => {}
                (Loudness::Loud, Some(answer)) => {
                    assert_eq!(answer, Answer::number(u64::MAX, cas_of(&mut client, "n")));
                }
                (_, answer) => panic!("{answer:?}"),
            }
            let item = client.ask(&Request::of(op::GET, "n"));
            assert_eq!(item, Answer::hit(0, "18446744073709551615", item.cas));
            let there = client.ask_quietly(&Request::count(opcode, "n", 1, 5, FAIL_ON_MISS));
            assert_eq!(there.is_some(), loudness == Loudness::Loud);
        }
    }
}

#[test]
fn a_counter_with_another_version_is_not_counted() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server);
    for opcode in [op::INCR, op::DECR, op::INCRQ, op::DECRQ] {
        let cas = client.set("n", "10");
        let count = |cas| Request::count(opcode, "n", 1, 0, 0).cas(cas);
        assert_fails(&mut client, status::EXISTS, &count(OTHER_CAS));
        assert_eq!(client.get("n").unwrap(), b"10");
        client.ask_quietly(&count(cas));
        let counted = client.get("n").unwrap();
        assert!(matches!(counted.trim_ascii_end(), b"11" | b"9"), "{counted:?}");
        assert_fails(&mut client, status::EXISTS, &count(cas));
    }
}

#[test]
fn what_is_no_number_is_not_counted() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server);
    for number in ["12", "12 ", " 12", "+12", "12 junk"] {
        client.set("n", number);
        let answer = client.ask(&Request::count(op::INCR, "n", 1, 0, 0));
        assert_eq!(answer, Answer::number(13, answer.cas), "{number:?}");
    }
    for (text, loud, quiet) in [
        ("", op::INCR, op::INCRQ),
        ("12a", op::DECR, op::DECRQ),
        ("a", op::INCR, op::DECRQ),
        ("-1", op::INCR, op::INCRQ),
        ("1.5", op::INCR, op::INCRQ),
        ("18446744073709551616", op::INCR, op::INCRQ),
        ("99999999999999999999999999999999", op::INCR, op::INCRQ),
    ] {
        let cas = client.set("n", text);
        for opcode in [loud, quiet] {
            let count = Request::count(opcode, "n", 1, 0, 0);
            assert_fails(&mut client, status::NON_NUMERIC, &count);
        }
        assert_eq!(client.ask(&Request::of(op::GET, "n")), Answer::hit(0, text, cas), "nothing changed");
    }
}

#[test]
fn an_empty_or_long_value_is_no_number_before_the_version_is_looked_at() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server);
    let digits = vec![b'1'; 600 << 10];
    for value in [&b""[..], &digits] {
        client.set("n", value);
        let count = Request::count(op::INCR, "n", 1, 0, 0).cas(OTHER_CAS);
        assert_fails(&mut client, status::NON_NUMERIC, &count);
    }
    // With digits that are wrong it is the other way round.
    client.set("n", "12a");
    assert_fails(&mut client, status::EXISTS, &Request::count(op::INCR, "n", 1, 0, 0).cas(OTHER_CAS));
}

#[test]
fn touch_and_gat_leave_the_version_and_ignore_the_one_that_is_asked_for() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server);
    assert_fails(&mut client, status::NOT_FOUND, &Request::touch(op::TOUCH, "k", 0));
    let set = Request::store(op::SET, "k", "value").extras(stored(0x0102_0304, 0));
    let cas = client.ask(&set).cas;
    for requested in [0, cas, OTHER_CAS] {
        let touched = client.ask(&Request::touch(op::TOUCH, "k", 100).cas(requested));
        assert_eq!(touched, Answer { value: Vec::new(), ..Answer::hit(0x0102_0304, "", cas) });
        let got = client.ask(&Request::touch(op::GAT, "k", 100).cas(requested));
        assert_eq!(got, Answer::hit(0x0102_0304, "value", cas));
    }
    assert_eq!(cas_of(&mut client, "k"), cas);
}

#[test]
fn a_read_ignores_the_version_that_is_asked_for() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server);
    let cas = client.set("k", "v");
    assert_eq!(client.ask(&Request::of(op::GET, "k").cas(OTHER_CAS)), Answer::hit(0, "v", cas));
}

#[test]
fn keys_hold_any_byte() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server);
    let all: Vec<u8> = (0..=255).collect();
    let keys = [&all[..128], &all[128..], b"\0", b"\0\0", b" ", b"\r\n", b"k", b"k\0", b"k "];
    for (number, key) in keys.iter().enumerate() {
        client.set(key, number.to_string());
    }
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(client.get(key).unwrap(), number.to_string().as_bytes(), "{key:?}");
    }
}

/// Each of these ends by time; all of them are made first, so that there is one wait.
#[test]
fn items_end_when_their_time_has_come() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server);
    let stats = client.stats("");
    let now = u32::try_from(number(&stats, "time")).unwrap();
    let started = now - u32::try_from(number(&stats, "uptime")).unwrap() - 1;
    let set = |key: &str, expiration| Request::store(op::SETQ, key, "1").extras(stored(0, expiration));

    // What is in one segment is executed in the same second: the items cannot end between two commands.
    let requests = [
        set("never", 0),
        set("soon", 1),
        set("later", 100),
        set("month", MONTH),
        set("past", MONTH + 1),
        set("at the start", started),
        set("absolute soon", now + 2),
        set("absolute later", now + 100),
        set("year 2106", u32::MAX),
        set("soon and appended", 1),
        Request::concat(op::APPENDQ, "soon and appended", "2"),
        set("soon and counted", 1),
        Request::count(op::INCRQ, "soon and counted", 1, 0, 0),
        Request::count(op::INCRQ, "created soon", 1, 1, 1),
        Request::count(op::INCRQ, "created for ever", 1, 1, 0),
        set("soon, then for ever", 1),
        Request::touch(op::GATQ, "soon, then for ever", 0),
        set("soon, touched for ever", 1),
        Request::touch(op::TOUCH, "soon, touched for ever", 0),
        set("soon, touched until 2106", 1),
        Request::touch(op::TOUCH, "soon, touched until 2106", u32::MAX),
        set("soon, got until 2106", 1),
        Request::touch(op::GATKQ, "soon, got until 2106", u32::MAX),
        set("for ever, touched soon", 0),
        Request::touch(op::TOUCH, "for ever, touched soon", 1),
        set("for ever, touched to the past", 0),
        Request::touch(op::TOUCH, "for ever, touched to the past", MONTH + 1),
        set("soon, then replaced", 1),
        Request::store(op::REPLACEQ, "soon, then replaced", "1"),
        Request::new(op::NOOP),
    ];
    client.send(&requests.iter().flat_map(Request::bytes).collect::<Vec<_>>());
    let gats = [op::GATQ, op::TOUCH, op::TOUCH, op::GATKQ, op::TOUCH, op::TOUCH];
    for opcode in gats {
        assert_eq!(client.receive(opcode, 0).status, 0);
    }
    assert_eq!(client.receive(op::NOOP, 0), Answer::done(0));

    for past in ["past", "at the start", "for ever, touched to the past"] {
        assert_eq!(client.get(past), None, "{past}: at once");
    }
    thread::sleep(Duration::from_millis(2100));
    for gone in [
        "soon",
        "absolute soon",
        "soon and appended",
        "soon and counted",
        "created soon",
        "for ever, touched soon",
    ] {
        assert_eq!(client.get(gone), None, "{gone}");
    }
    for there in [
        "never",
        "later",
        "month",
        "absolute later",
        "year 2106",
        "created for ever",
        "soon, then for ever",
        "soon, touched for ever",
        "soon, touched until 2106",
        "soon, got until 2106",
        "soon, then replaced",
    ] {
        assert_eq!(client.get(there).as_deref(), Some(&b"1"[..]), "{there}");
    }
    // What has ended is not there for a mutation either.
    assert_fails(&mut client, status::NOT_STORED, &Request::concat(op::APPEND, "soon", "2"));
    assert_succeeds(&mut client, Loudness::Loud, &Request::store(op::ADD, "past", "2"));
}

#[test]
fn a_flush_ends_what_was_stored_before_it_and_nothing_later() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server);
    for flush in [
        Request::new(op::FLUSH),
        Request::new(op::FLUSHQ),
        Request::touch(op::FLUSH, "", 0),
        Request::touch(op::FLUSHQ, "", 0),
        Request::new(op::FLUSH).cas(OTHER_CAS),
    ] {
        let cas = client.set("before", "1");
        let loudness = if flush.opcode == op::FLUSHQ { Loudness::Quiet } else { Loudness::Loud };
        // All in the same second, most likely: the order decides.
        assert_succeeds(&mut client, loudness, &flush);
        client.set("after", "2");
        assert_eq!(client.get("before"), None);
        assert_fails(&mut client, status::NOT_FOUND, &Request::store(op::SET, "before", "").cas(cas));
        assert_eq!(client.get("after").unwrap(), b"2");
    }
    assert_eq!(client.ask(&Request::new(op::FLUSH)), Answer::done(0));
}

/// The servers run side by side, so that there is one wait.
#[test]
fn a_delayed_flush_ends_everything_at_its_time_unless_another_one_replaces_it() {
    let [pending, replaced, cancelled] = [(); 3].map(|()| Server::start(&[]));
    let mut pending = Client::connect(&pending);
    let mut replaced = Client::connect(&replaced);
    let mut cancelled = Client::connect(&cancelled);
    let begun = Instant::now();
    let flush = |opcode, delay| Request::touch(opcode, "", delay);

    pending.set("before", "1");
    assert_succeeds(&mut pending, Loudness::Loud, &flush(op::FLUSH, 2));
    pending.set("after", "1");
    replaced.set("k", "1");
    assert_succeeds(&mut replaced, Loudness::Quiet, &flush(op::FLUSHQ, 1));
    assert_succeeds(&mut replaced, Loudness::Quiet, &flush(op::FLUSHQ, 1000));
    assert_succeeds(&mut cancelled, Loudness::Loud, &flush(op::FLUSH, 1));
    assert_succeeds(&mut cancelled, Loudness::Loud, &Request::new(op::FLUSH));
    cancelled.set("k", "1");

    if begun.elapsed() < Duration::from_millis(900) {
        assert_eq!(pending.get("before").unwrap(), b"1", "its time has not come");
        assert_eq!(pending.get("after").unwrap(), b"1", "its time has not come");
    }
    wait_until("the items are flushed", || pending.get("before").is_none());
    assert_eq!(pending.get("after"), None, "what was stored after the command goes, too");
    pending.set("late", "1");
    assert_eq!(pending.get("late").unwrap(), b"1", "the flush is over");
    assert_eq!(replaced.get("k").unwrap(), b"1", "a later flush has replaced the first");
    assert_eq!(cancelled.get("k").unwrap(), b"1", "an immediate flush has replaced the first");
}

#[test]
fn flush_is_refused_where_it_is_disabled() {
    let server = Server::start(&["-F"]);
    let mut client = Client::connect(&server);
    client.set("k", "v");
    for flush in [
        Request::new(op::FLUSH),
        Request::new(op::FLUSHQ),
        Request::touch(op::FLUSH, "", 0),
        Request::touch(op::FLUSHQ, "", 5),
    ] {
        assert_fails(&mut client, status::AUTH_ERROR, &flush);
    }
    assert_eq!(client.get("k").unwrap(), b"v");
    assert_eq!(client.stats("settings")["flush_enabled"], "no");
}

/// What writes an item whole does not look at a version that nobody was told; what changes one still does.
#[test]
fn without_versions_every_cas_reads_as_zero_and_stores_ignore_the_one_that_is_asked_for() {
    let server = Server::start(&["-C"]);
    let mut client = Client::connect(&server);
    for cas in [0, 1, OTHER_CAS] {
        client.ask(&Request::new(op::FLUSH));
        for request in [
            Request::store(op::SET, "k", "1"),
            Request::store(op::ADD, "added", "1"),
            Request::store(op::REPLACE, "k", "1"),
            Request::concat(op::APPEND, "k", "0"),
            Request::concat(op::PREPEND, "k", ""),
        ] {
            assert_eq!(client.ask(&request.cas(cas)), Answer::done(0), "version {cas}");
        }
        assert_fails(&mut client, status::EXISTS, &Request::store(op::ADD, "k", "2").cas(cas));
        assert_fails(&mut client, status::NOT_FOUND, &Request::store(op::REPLACE, "missing", "2").cas(cas));
    }
    assert_eq!(client.ask(&Request::count(op::INCR, "k", 1, 0, 0)), Answer::number(11, 0));
    assert_eq!(client.ask(&Request::of(op::GET, "k")), Answer::hit(0, "11", 0));
    assert_eq!(client.ask(&Request::touch(op::GATK, "k", 0)), Answer::hit(0, "11", 0).with_key("k"));
    for cas in [1, OTHER_CAS] {
        assert_fails(&mut client, status::EXISTS, &Request::count(op::DECR, "k", 1, 0, 0).cas(cas));
        assert_fails(&mut client, status::EXISTS, &Request::of(op::DELETE, "k").cas(cas));
    }
    assert_eq!(client.get("k").unwrap(), b"11");
    assert_eq!(client.stats("settings")["cas_enabled"], "no");
}

#[test]
fn without_evictions_a_full_server_refuses_and_loses_nothing() {
    const VALUE: [u8; 1000] = [b'v'; 1000];
    let server = Server::start(&["-M", "-m", "2"]);
    let mut client = Client::connect(&server);
    let mut stored_count = 0_u32;
    loop {
        let answer = client.ask(&Request::store(op::SET, stored_count.to_be_bytes(), VALUE));
        if answer.status != 0 {
            assert_eq!(answer, Answer::error(status::OUT_OF_MEMORY));
            break;
        }
        stored_count += 1;
        assert!(stored_count < 2200, "2 MB hold no more");
    }
    assert!(stored_count > 1000, "it was full after {stored_count} KB");
    let key = u32::MAX.to_be_bytes();
    for request in [
        Request::store(op::SETQ, key, VALUE),
        Request::store(op::ADD, key, VALUE),
        // Longer than the old one: as it is, it would take the old one's place.
        Request::store(op::REPLACE, 0_u32.to_be_bytes(), [b'w'; 1010]),
        Request::concat(op::APPEND, 0_u32.to_be_bytes(), VALUE),
        Request::concat(op::PREPENDQ, 0_u32.to_be_bytes(), VALUE),
        // A value that does not fit into the segments' share.
        Request::store(op::ADD, key, vec![b'v'; 500_000]),
    ] {
        assert_fails(&mut client, status::OUT_OF_MEMORY, &request);
    }
    for number in 0..stored_count {
        assert!(
            client.get(number.to_be_bytes()).as_deref() == Some(&VALUE[..]),
            "{number} of {stored_count} is lost"
        );
    }
    let stats = client.stats("");
    assert_eq!(number(&stats, "evictions"), 0);
    assert_eq!(number(&stats, "curr_items"), u64::from(stored_count));
    assert_eq!(number(&stats, "store_no_memory"), 7);
    assert_eq!(client.stats("settings")["evictions"], "off");
    // As with a value that is too large: whoever set a new value must not read the old one.
    let set = Request::store(op::SET, 1_u32.to_be_bytes(), vec![b'w'; 500_000]);
    assert_fails(&mut client, status::OUT_OF_MEMORY, &set);
    assert_eq!(client.get(1_u32.to_be_bytes()), None);
}

/// Where nothing may be evicted, what was deleted, replaced or has ended must make room, wherever it lies.
#[test]
fn without_evictions_the_room_of_dead_items_is_used_again() {
    const VALUE: [u8; 1000] = [b'v'; 1000];
    let server = Server::start(&["-M", "-m", "2"]);
    let mut client = Client::connect(&server);
    // A tenth of the memory stays, and lies between what goes.
    for round in 0..10_000_u32 {
        if round % 10 == 0 && round < 2000 {
            client.set(format!("stays {round}"), VALUE);
        }
        let answer = client.ask(&Request::store(op::SET, "replaced", VALUE));
        assert_eq!(answer, Answer::done(answer.cas), "round {round}");
    }
    for round in (0..2000).step_by(10) {
        assert_eq!(client.get(format!("stays {round}")).as_deref(), Some(&VALUE[..]));
    }
}

#[test]
fn a_value_that_is_too_large_is_swallowed_and_set_deletes_the_older_one() {
    const LIMIT: usize = 1 << 20;
    let server = Server::start(&[]);
    let mut client = Client::connect(&server);
    let too_large = vec![b'x'; LIMIT + 1];
    for (opcode, older) in [
        (op::SET, None),
        (op::SETQ, None),
        (op::ADD, Some(&b"old"[..])),
        (op::ADDQ, Some(b"old")),
        (op::REPLACE, Some(b"old")),
        (op::REPLACEQ, Some(b"old")),
    ] {
        client.set("k", "old");
        assert_fails(&mut client, status::TOO_LARGE, &Request::store(opcode, "k", &too_large));
        assert_eq!(client.get("k").as_deref(), older, "opcode {opcode:#04x}");
    }
    for opcode in [op::APPEND, op::APPENDQ, op::PREPEND, op::PREPENDQ] {
        client.set("k", "old");
        assert_fails(&mut client, status::TOO_LARGE, &Request::concat(opcode, "k", &too_large));
        assert_eq!(client.get("k").unwrap(), b"old");
        // Each half fits, and both together do not.
        client.set("k", &too_large[..=LIMIT / 2]);
        assert_fails(&mut client, status::NOT_STORED, &Request::concat(opcode, "k", &too_large[..LIMIT / 2]));
        assert_eq!(client.get("k").unwrap().len(), LIMIT / 2 + 1);
    }
    // A value just below the limit is none too large, for memcached neither, which counts its own header in.
    client.set("k", &too_large[..LIMIT - 512]);
    assert_eq!(client.get("k").unwrap().len(), LIMIT - 512);
}

#[test]
fn what_is_too_large_is_an_option() {
    let server = Server::start(&["-I", "2k"]);
    let mut client = Client::connect(&server);
    client.set("k", [b'x'; 1900]);
    assert_fails(&mut client, status::TOO_LARGE, &Request::store(op::SET, "k", [b'x'; 2049]));
    assert_eq!(client.get("k"), None);
    assert_eq!(client.stats("settings")["item_size_max"], "2048");
}

#[test]
fn noop_and_version_are_answered_and_version_is_three_numbers() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server);
    assert_eq!(client.ask(&Request::new(op::NOOP).cas(OTHER_CAS)), Answer::done(0));
    let version = client.ask(&Request::new(op::VERSION));
    assert_eq!(version, Answer { value: version.value.clone(), ..Answer::done(0) });
    let text = String::from_utf8(version.value).unwrap();
    let numbers: Vec<u32> = text.split('.').map(|number| number.parse().unwrap()).collect();
    assert!(matches!(numbers[..], [1..=255, _, _]), "{text}");
    assert_eq!(client.stats("")["version"], text);
}

#[test]
fn quit_answers_and_closes_and_quitq_only_closes() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server);
    assert_eq!(client.ask(&Request::new(op::QUIT)), Answer::done(0));
    client.assert_closed();
    let mut client = Client::connect(&server);
    client.send(&Request::new(op::QUITQ).bytes());
    client.assert_closed();
}

#[test]
fn what_is_not_served_is_an_unknown_command_and_the_connection_stays() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server);
    for request in [
        Request::new(op::VERBOSITY).extras([0, 0, 0, 1]),
        Request::new(op::VERBOSITY),
        Request::new(op::SASL_LIST_MECHS),
        Request::of(op::SASL_AUTH, "PLAIN").value("\0user\0password"),
        Request::of(op::SASL_STEP, "PLAIN").value("more"),
    ] {
        assert_fails(&mut client, status::UNKNOWN_COMMAND, &request);
    }
}

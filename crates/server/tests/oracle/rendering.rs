//! Answers into bytes: every form of every answer, loud and quiet.

use bytes::Bytes;
use memwire::config::{Config, Flush};
use memwire::figures::StorageStats;
use memwire::message::{Batch, Command, Payload, Refusal, Reply, Span, Value};
use memwire::server::Server;
use memwire::session::{Output, Session};
use wire::Cas;

use crate::packets::{batch, error, legal, request, response, server, server_with};

const KEY: &[u8] = b"key";
const FLAGS: [u8; 4] = [0, 0, 0xbe, 0xef];

/// Parses `request` as the only one in a batch.
fn parsed(request: &[u8], server: &Server) -> Batch {
    let mut batch = batch();
    batch.input.extend(request);
    Session::default().parse(&mut batch, Span::new(0, request.len()), server);
    assert_eq!(batch.ops.len(), 1);
    batch
}

fn render(batch: &Batch, reply: &Reply, server: &Server) -> Vec<u8> {
    let mut output = Output::default();
    Session::Binary.render(&batch.ops[0], reply, batch, server, &mut output);
    output.behind(0).flat_map(|rest| rest.as_bytes().to_vec()).collect()
}

/// The answer to a legal request of `opcode` where storage has answered `reply`.
fn rendered(opcode: u8, reply: &Reply) -> Vec<u8> {
    let server = server();
    let batch = parsed(&legal(opcode, KEY, b"value", 0), &server);
    render(&batch, reply, &server)
}

fn cas() -> Option<Cas> {
    Cas::from_wire(77)
}

#[test]
fn a_hit_is_flags_then_the_key_where_it_is_echoed_then_the_value() {
    let server = server();
    for (opcode, key) in [
        (0x00, &b""[..]),
        (0x09, b""),
        (0x0c, KEY),
        (0x0d, KEY),
        (0x1d, b""),
        (0x1e, b""),
        (0x23, KEY),
        (0x24, KEY),
    ] {
        let mut batch = parsed(&legal(opcode, KEY, b"", 0), &server);
        batch.values.extend_from_slice(b"..value..");
        let large = batch.push_large(Bytes::from_static(b"large value"));
        let hit = |cas, value| Reply::Hit { flags: 0xbeef, cas, value };
        batch.lent = vec![Bytes::from_static(b"another's"), Bytes::from_static(b"lent value")];
        let copied = Value::Copied(Span::new(2, 5));
        assert_eq!(
            render(&batch, &hit(cas(), copied), &server),
            response(opcode, 0, 77, &FLAGS, key, b"value"),
            "{opcode:#x}"
        );
        assert_eq!(
            render(&batch, &hit(None, Value::Large(large)), &server),
            response(opcode, 0, 0, &FLAGS, key, b"large value"),
            "{opcode:#x}"
        );
        assert_eq!(
            render(&batch, &hit(None, Value::Lent(1)), &server),
            response(opcode, 0, 0, &FLAGS, key, b"lent value"),
            "{opcode:#x}"
        );
        assert_eq!(
            render(&batch, &hit(cas(), Value::Copied(Span::default())), &server),
            response(opcode, 0, 77, &FLAGS, key, b""),
            "{opcode:#x}"
        );
    }
}

#[test]
fn a_miss_is_a_text_or_the_key_or_nothing() {
    for opcode in [0x00, 0x1d, 0x1c] {
        assert_eq!(rendered(opcode, &Reply::NotFound), error(opcode, 0x01));
    }
    for opcode in [0x0c, 0x23] {
        assert_eq!(rendered(opcode, &Reply::NotFound), response(opcode, 0x01, 0, b"", KEY, b""));
    }
    for opcode in [0x09, 0x0d, 0x1e, 0x24] {
        assert_eq!(rendered(opcode, &Reply::NotFound), b"", "{opcode:#x}");
    }
}

#[test]
fn quiet_mutations_hide_their_success() {
    for (loud, quiet) in [(0x01, 0x11), (0x02, 0x12), (0x03, 0x13), (0x0e, 0x19), (0x0f, 0x1a)] {
        let stored = Reply::Stored { cas: cas() };
        assert_eq!(rendered(loud, &stored), response(loud, 0, 77, b"", b"", b""));
        assert_eq!(rendered(quiet, &stored), b"");
        let untold = Reply::Stored { cas: None };
        assert_eq!(rendered(loud, &untold), response(loud, 0, 0, b"", b"", b""));
    }
    for (loud, quiet) in [(0x05, 0x15), (0x06, 0x16)] {
        let counted = Reply::Counted { value: 0x0102_0304_0506_0708, cas: cas() };
        assert_eq!(rendered(loud, &counted), response(loud, 0, 77, b"", b"", &[1, 2, 3, 4, 5, 6, 7, 8]));
        assert_eq!(rendered(quiet, &counted), b"");
    }
    for (loud, quiet) in [(0x04, 0x14), (0x08, 0x18), (0x07, 0x17)] {
        assert_eq!(rendered(loud, &Reply::Done), response(loud, 0, 0, b"", b"", b""));
        assert_eq!(rendered(quiet, &Reply::Done), b"");
    }
}

#[test]
fn errors_are_sent_with_their_text_loud_or_quiet() {
    let mutations =
        [0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0e, 0x0f, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x19, 0x1a];
    for opcode in mutations {
        for (reply, status) in [
            (Reply::NotFound, 0x01),
            (Reply::Exists, 0x02),
            (Reply::Refused(Refusal::TooLarge), 0x03),
            (Reply::NotStored, 0x05),
            (Reply::NonNumeric, 0x06),
            (Reply::Refused(Refusal::OutOfMemory), 0x82),
        ] {
            assert_eq!(rendered(opcode, &reply), error(opcode, status), "{opcode:#x}");
        }
    }
}

#[test]
fn a_touch_answers_the_flags_and_the_cas() {
    let touched = Reply::Touched { flags: 0xbeef, cas: cas() };
    assert_eq!(rendered(0x1c, &touched), response(0x1c, 0, 77, &FLAGS, b"", b""));
}

#[test]
fn noop_is_empty_and_version_tells_it() {
    assert_eq!(rendered(0x0a, &Reply::Done), response(0x0a, 0, 0, b"", b"", b""));
    assert_eq!(rendered(0x0b, &Reply::Done), response(0x0b, 0, 0, b"", b"", memwire::VERSION.as_bytes()));
}

#[test]
fn statistics_are_a_packet_each_and_an_empty_one() {
    let server = server();
    let end = response(0x10, 0, 0, b"", b"", b"");
    let stat = |group: &[u8], stats| {
        let batch = parsed(&request(0x10, b"", group, b"", 0), &server);
        render(&batch, &Reply::Stats(Box::new(stats)), &server)
    };
    let sizes = StorageStats::Sizes(Some(vec![(64, 2), (96, 1)]));
    assert_eq!(
        stat(b"sizes", sizes),
        [response(0x10, 0, 0, b"", b"64", b"2"), response(0x10, 0, 0, b"", b"96", b"1"), end.clone(),]
            .concat()
    );
    let dump = StorageStats::Detail("END\r\n".into());
    assert_eq!(
        stat(b"detail dump", dump),
        [response(0x10, 0, 0, b"", b"detailed", b"END\r\n"), end.clone()].concat()
    );
    for group in [&b"detail on"[..], b"detail off", b"reset"] {
        assert_eq!(stat(group, StorageStats::Nothing), end);
    }
}

#[test]
fn a_group_that_does_not_exist_is_not_found() {
    let server = server();
    for group in [&b"detail"[..], b"conns", b"items "] {
        let batch = parsed(&request(0x10, b"", group, b"", 0), &server);
        assert_eq!(batch.ops[0].command, Command::Pass);
        assert_eq!(render(&batch, &Reply::Done, &server), error(0x10, 0x01));
    }
}

#[test]
fn a_flush_that_is_refused_is_an_authentication_error() {
    let server = server_with(Config { flush: Flush::Refused, ..Config::default() });
    for flush in [request(0x08, b"", b"", b"", 0), request(0x18, &[0, 0, 0, 9], b"", b"", 0)] {
        let batch = parsed(&flush, &server);
        assert_eq!(batch.ops[0].command, Command::Pass);
        assert_eq!(render(&batch, &Reply::Done, &server), error(flush[1], 0x20));
    }
}

#[test]
fn the_mark_and_the_opcode_of_the_request_come_back() {
    let server = server();
    let mut set = legal(0x11, KEY, b"value", 5);
    set[12..16].copy_from_slice(&[0, 0xff, 1, 2]);
    let batch = parsed(&set, &server);
    assert!(matches!(batch.ops[0].command, Command::Store { value: Payload::Inline(_), .. }));
    let answer = render(&batch, &Reply::Exists, &server);
    assert_eq!((answer[1], &answer[12..16]), (0x11, &[0, 0xff, 1, 2][..]));
}

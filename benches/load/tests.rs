//! Tests of the load generator: its parts, and that it finds every kind of wrong answer.

#![expect(dead_code, reason = "command line and table are not here, nor what only they use")]

mod certificates;
mod client;
mod drive;
mod floor;
#[path = "../support/histogram.rs"]
mod histogram;
#[path = "../support/items.rs"]
mod items;
mod liar;
mod neighbour;
mod pace;
mod probe;
#[path = "../support/random.rs"]
mod random;
mod ratio_tests;
#[path = "../support/server.rs"]
mod server;
#[path = "../support/signals.rs"]
mod signals;
mod stream;
#[path = "../support/syntax/mod.rs"]
mod syntax;
mod versus;
mod workload;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::ValueEnum;

use crate::certificates::Certificates;
use crate::drive::{PATIENCE, Plan, Report};
use crate::histogram::Histogram;
use crate::items::KEY_BYTES;
use crate::liar::{Lie, serve};
use crate::server::{Program, Server};
use crate::stream::Greeting;
use crate::syntax::{Ask, Outcome, Protocol, Syntax, Words};
use crate::versus::chart::{self, Bar, Entry};
use crate::workload::{Mix, Popularity, Values, Workload};

const LIES: [Lie; 13] = [
    Lie::FlippedByte,
    Lie::ValueOfAnotherKey,
    Lie::ShorterValue,
    Lie::LongerValue,
    Lie::OtherFlags,
    Lie::OtherOpaque,
    Lie::OtherKey,
    Lie::OtherTail,
    Lie::AnswerLeftOut,
    Lie::AnswerTwice,
    Lie::Error,
    Lie::OtherMagic,
    Lie::Closed,
];

/// Whether an answer to this has the part that is wrong, and the client can know.
fn can_be_found(lie: Lie, protocol: Protocol, mix: Mix) -> bool {
    match lie {
        Lie::OtherFlags => protocol != Protocol::Resp,
        Lie::OtherOpaque => protocol == Protocol::Binary,
        Lie::OtherKey => protocol == Protocol::Text || (protocol != Protocol::Resp && mix != Mix::Get),
        _ => true,
    }
}

#[test]
fn right_answers_are_right_whatever_the_workload() {
    for &protocol in Protocol::value_variants() {
        for (lie, requests) in [(Lie::Nothing, 3000), (Lie::Bytewise, 300)] {
            for mix in [Mix::Get, Mix::Set, Mix::Ratio { sets: 1, gets: 3 }, Mix::Batch { gets: 10 }] {
                let tally = run(protocol, lie, mix, requests, PATIENCE).unwrap().tally;
                assert_eq!((tally.wrong, &tally.first_wrong), (0, &None), "{protocol:?} {lie:?} {mix:?}");
                assert_eq!(tally.misses, 0);
                assert!(
                    (requests..requests + 20).contains(&tally.requests()),
                    "{protocol:?} {mix:?}: {} requests",
                    tally.requests()
                );
            }
        }
    }
}

#[test]
fn every_lie_is_found() {
    for &protocol in Protocol::value_variants() {
        for lie in LIES {
            for mix in [Mix::Get, Mix::Batch { gets: 10 }] {
                if !can_be_found(lie, protocol, mix) {
                    continue;
                }
                // A quiet get that is not answered is a miss, which is counted and no error.
                let may_be_left_out =
                    protocol == Protocol::Text || (mix != Mix::Get && protocol != Protocol::Resp);
                let is_miss = lie == Lie::AnswerLeftOut && may_be_left_out;
                // Some lies leave a client waiting for an answer that never comes.
                let patience = if is_miss { PATIENCE } else { Duration::from_millis(100) };
                match run(protocol, lie, mix, 1500, patience) {
                    Ok(report) if is_miss => assert!(report.tally.misses > 0),
                    Ok(report) => assert!(report.tally.wrong > 0, "{protocol:?} {lie:?} {mix:?}"),
                    Err(error) => assert!(!is_miss, "{protocol:?} {lie:?} {mix:?}: {error}"),
                }
            }
        }
    }
}

#[test]
fn misses_are_counted() {
    for &protocol in Protocol::value_variants() {
        for mix in [Mix::Get, Mix::Batch { gets: 10 }] {
            let address = serve(protocol, Lie::Nothing);
            let tally = drive::run(&plan(address, 1000), &workload(mix), protocol).unwrap().tally;
            assert_eq!((tally.hits, tally.misses, tally.wrong), (0, 1000, 0), "{protocol:?} {mix:?}");
        }
    }
}

#[test]
fn an_open_loop_sends_at_its_rate() {
    let address = serve(Protocol::Binary, Lie::Nothing);
    let workload = workload(Mix::Set);
    let plan = Plan { rate: Some(2000), requests_max: Some(200), ..plan(address, 0) };
    let report = drive::run(&plan, &workload, Protocol::Binary).unwrap();
    assert_eq!(report.tally.stored, 200);
    // Each of the two threads sends 100, 1 ms apart. A busy machine may take longer.
    assert!(report.elapsed >= Duration::from_millis(90), "{:?}", report.elapsed);
}

#[test]
fn what_was_due_in_the_time_of_an_open_loop_counts_though_it_is_answered_later() {
    let address = silent_for(Duration::from_millis(300));
    let plan = Plan {
        rate: Some(1000),
        threads: 1,
        connections: 1,
        depth: 1,
        requests_max: None,
        time_max: Duration::from_millis(100),
        ..plan(address, 0)
    };
    let tally = drive::run(&plan, &workload(Mix::Get), Protocol::Binary).unwrap().tally;
    // 100 were due, one could be sent, and all had to wait for its answer: none for less than 200 ms, half for more than
    // 250 ms.
    assert!(tally.latency.quantile(0.01) >= 190_000_000, "{}", tally.latency.quantile(0.01));
    assert!(tally.latency.quantile(0.5) >= 240_000_000, "{}", tally.latency.quantile(0.5));
    assert!((95..=200).contains(&tally.latency.count()), "{}", tally.latency.count());
}

/// A server that misses everything, and answers nothing for some time after the first request.
fn silent_for(time: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let behind = TcpStream::connect(serve(Protocol::Binary, Lie::Nothing)).unwrap();
        stream.peek(&mut [0]).unwrap();
        thread::sleep(time);
        let (mut from, mut to) = (stream.try_clone().unwrap(), behind.try_clone().unwrap());
        thread::spawn(move || std::io::copy(&mut from, &mut to));
        std::io::copy(&mut &behind, &mut stream)
    });
    address
}

#[test]
fn requests_are_written_as_their_protocol_has_them() {
    let key = b"load:key00000001";
    let written = |protocol: Protocol| {
        let mut output = Vec::new();
        protocol.write(Ask::Set { generation: 7 }, key, b"a value", 1, &mut output);
        protocol.write(Ask::Get, key, b"", 2, &mut output);
        protocol.begin_batch(2, &mut output);
        protocol.write(Ask::QuietGet, key, b"", 3, &mut output);
        protocol.write(Ask::QuietGet, key, b"", 4, &mut output);
        protocol.end_batch(5, &mut output);
        output
    };
    let text = |protocol| String::from_utf8(written(protocol)).unwrap().replace("\r\n", "|");
    assert_eq!(
        text(Protocol::Text),
        "set load:key00000001 7 0 7|a value|get load:key00000001|get load:key00000001 load:key00000001|"
    );
    assert_eq!(
        text(Protocol::Meta),
        "ms load:key00000001 7 F7|a value|mg load:key00000001 f v|\
         mg load:key00000001 f k v q|mg load:key00000001 f k v q|mn|"
    );
    assert_eq!(
        text(Protocol::Resp),
        "*3|$3|SET|$16|load:key00000001|$7|a value|*2|$3|GET|$16|load:key00000001|\
         *3|$4|MGET|$16|load:key00000001|$16|load:key00000001|"
    );
    let key = wire::Key::new(key).unwrap();
    let get = |echo| wire::Command::Get { key, echo };
    let set = wire::Command::Store {
        mode: wire::StoreMode::Set,
        key,
        value: b"a value",
        flags: 7,
        expiration: wire::Expiration::Never,
        cas: None,
    };
    let mut packets = Vec::new();
    for (opaque, loudness, command) in [
        (1, wire::Loudness::Loud, set),
        (2, wire::Loudness::Loud, get(wire::KeyEcho::Without)),
        (3, wire::Loudness::Quiet, get(wire::KeyEcho::With)),
        (4, wire::Loudness::Quiet, get(wire::KeyEcho::With)),
        (5, wire::Loudness::Loud, wire::Command::Noop),
    ] {
        wire::Request { opaque, loudness, command }.append_to(&mut packets);
    }
    assert_eq!(written(Protocol::Binary), packets);
}

#[test]
fn answers_are_read_wherever_they_are_cut() {
    let hit = Outcome::Hit { flags: 7 };
    let key = Some(&b"key"[..]);
    let no_key: Option<&[u8]> = None;
    let get = Ask::Get;
    let fence = Ask::Fence { gets: 3 };
    let set = Ask::Set { generation: 1 };
    for (protocol, ask, answer, outcome, echoed, value_bytes) in [
        (Protocol::Text, get, &b"VALUE key 7 5\r\n"[..], hit, key, 5),
        (Protocol::Text, get, b"END\r\n", Outcome::Miss, no_key, 0),
        (Protocol::Text, Ask::QuietGet, b"END\r\n", Outcome::Fenced, no_key, 0),
        (Protocol::Text, set, b"STORED\r\n", Outcome::Stored, no_key, 0),
        (Protocol::Meta, get, b"VA 5 f7\r\n", hit, no_key, 5),
        (Protocol::Meta, Ask::QuietGet, b"VA 5 f7 kkey\r\n", hit, key, 5),
        (Protocol::Meta, get, b"EN\r\n", Outcome::Miss, no_key, 0),
        (Protocol::Meta, fence, b"MN\r\n", Outcome::Fenced, no_key, 0),
        (Protocol::Resp, get, b"$5\r\n", Outcome::Hit { flags: 0 }, no_key, 5),
        (Protocol::Resp, get, b"$-1\r\n", Outcome::Miss, no_key, 0),
        (Protocol::Resp, fence, b"*3\r\n", Outcome::Fenced, no_key, 0),
        (Protocol::Resp, set, b"+OK\r\n", Outcome::Stored, no_key, 0),
    ] {
        for cut in 0..answer.len() {
            assert_eq!(protocol.read(&answer[..cut], ask), Ok(None), "{protocol:?} {ask:?} {cut}");
        }
        let read = protocol.read(answer, ask).unwrap().unwrap();
        assert_eq!(
            (read.outcome, read.key, read.value_bytes),
            (outcome, echoed, value_bytes),
            "{protocol:?}"
        );
        assert_eq!(read.head_bytes, answer.len());
    }
}

#[test]
fn what_is_no_answer_is_refused() {
    for (protocol, ask, answer) in [
        (Protocol::Text, Ask::Get, &b"VALUE key 7 5 1\r\n"[..]),
        (Protocol::Text, Ask::Get, b"VALUE key 7 x\r\n"),
        (Protocol::Text, Ask::Get, b"VALUE key 5000000000 1\r\n"),
        (Protocol::Text, Ask::Get, b"ERROR\r\n"),
        (Protocol::Text, Ask::Get, b"END \r\n"),
        (Protocol::Meta, Ask::Get, b"VA 5\r\n"),
        (Protocol::Meta, Ask::Get, b"VA 5 f7 kkey\r\n"),
        (Protocol::Meta, Ask::QuietGet, b"VA 5 f7\r\n"),
        (Protocol::Meta, Ask::QuietGet, b"EN\r\n"),
        (Protocol::Resp, Ask::Get, b"-ERR\r\n"),
    ] {
        let answer = protocol.read(answer, ask).unwrap().unwrap();
        assert!(matches!(answer.outcome, Outcome::Refused(Words::Line(_))), "{protocol:?}: {answer:?}");
    }
    for (protocol, ask, answer) in [
        (Protocol::Text, Ask::Get, &[b'x'; 2000][..]),
        (Protocol::Text, Ask::Get, b"END\n"),
        (Protocol::Resp, Ask::Fence { gets: 3 }, b"*2\r\n"),
        (Protocol::Resp, Ask::Get, b"*1\r\n"),
        (Protocol::Resp, Ask::Get, b"$-2\r\n"),
        (Protocol::Resp, Ask::Get, b":12\r\n"),
        (Protocol::Binary, Ask::Get, &[0x80; 24]),
    ] {
        assert!(protocol.read(answer, ask).is_err(), "{protocol:?}: {}", answer.escape_ascii());
    }
}

#[test]
fn the_floor_answers_rightly_without_storing_anything() {
    for sizes in [10..=600, 5000..=200_000] {
        let (tell, told) = mpsc::channel();
        let values = Values::new(sizes);
        let of_floor = values.clone();
        thread::spawn(move || floor::serve(&of_floor, |port| tell.send(port).map_err(std::io::Error::other)));
        let address = SocketAddr::from(([127, 0, 0, 1], told.recv().unwrap()));
        for mix in [Mix::Get, Mix::Ratio { sets: 1, gets: 3 }, Mix::Batch { gets: 10 }] {
            let workload = Workload { values: values.clone(), ..workload(mix) };
            let tally = drive::run(&plan(address, 1000), &workload, Protocol::Binary).unwrap().tally;
            assert_eq!((tally.wrong, tally.misses, &tally.first_wrong), (0, 0, &None), "{mix:?}");
            assert!(tally.hits >= 600, "{mix:?}: {} hits", tally.hits);
        }
    }
}

#[test]
fn bars_are_as_long_as_their_ratios_up_to_a_limit() {
    let bar = |server: &str, ratio| Bar { server: server.to_owned(), ratio };
    let bars = vec![bar("memwire", 2.0), bar("memcached -t 4", 1.0), bar("floor", 40.0)];
    let entries = [Entry::Heading("a & b".to_owned()), Entry::Row { name: "GET <1>".to_owned(), bars }];
    let svg = chart::svg(&entries);
    let width = |line: &str| line.split("width=\"").nth(1)?.split('"').next()?.parse().ok();
    let widths: Vec<f64> = svg.lines().filter(|line| line.contains("<title>")).filter_map(width).collect();
    assert_eq!(widths.len(), 3);
    assert!((widths[0] / widths[1] - 2.0).abs() < 0.01, "{widths:?}");
    assert!((widths[2] / widths[1] - 5.0).abs() < 0.01, "{widths:?}");
    assert!(svg.contains("a &amp; b") && svg.contains("GET &lt;1&gt;") && svg.contains("40.00 →"));
    assert!(svg.contains("prefers-color-scheme:dark"));
}

#[test]
fn over_tls_the_same_is_asked_and_answered() {
    let certificates = Certificates::make().unwrap();
    let program = Program::memwire().with_tls(&certificates.chain(), &certificates.key());
    let server = Server::start(&program).unwrap();
    let greeting = Greeting { tls: Some(certificates.client().unwrap()), login: None };
    // Values of many records, and answers that are more than a socket holds.
    for values in [10..=600, 100_000..=300_000] {
        let workload = Workload { values: Values::new(values), ..workload(Mix::Ratio { sets: 1, gets: 4 }) };
        for protocol in Protocol::value_variants() {
            drive::preload(server.address(), greeting.clone(), &workload, *protocol).unwrap();
            let plan = Plan { greeting: greeting.clone(), depth: 16, ..plan(server.address(), 1000) };
            let tally = drive::run(&plan, &workload, *protocol).unwrap().tally;
            assert_eq!(
                (tally.requests(), tally.wrong, tally.misses),
                (1000, 0, 0),
                "{:?}",
                tally.first_wrong
            );
        }
    }
    // Who does not trust the server asks nothing of it.
    let tls = Some(Certificates::make().unwrap().client().unwrap());
    let plan = Plan { greeting: Greeting { tls, login: None }, ..plan(server.address(), 10) };
    let refused = drive::run(&plan, &workload(Mix::Get), Protocol::Binary).unwrap_err();
    assert!(refused.contains("cannot open connection 1"), "{refused}");
}

fn run(protocol: Protocol, lie: Lie, mix: Mix, requests: u64, patience: Duration) -> Result<Report, String> {
    let address = serve(protocol, lie);
    let workload = workload(mix);
    drive::preload(address, Greeting::default(), &workload, protocol)?;
    drive::run(&Plan { patience, ..plan(address, requests) }, &workload, protocol)
}

fn workload(mix: Mix) -> Workload {
    Workload { mix, popularity: Popularity::Uniform, key_count: 100, values: Values::new(10..=600) }
}

fn plan(address: SocketAddr, requests: u64) -> Plan {
    Plan {
        address,
        greeting: Greeting::default(),
        connections: 2,
        depth: 4,
        threads: 2,
        warm_up: Duration::ZERO,
        time_max: Duration::from_mins(1),
        requests_max: Some(requests),
        rate: None,
        patience: PATIENCE,
        server_pid: None,
    }
}

#[test]
fn cpu_time_is_found_behind_any_name() {
    let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 1 2 3 4 150 50 7 8 20 0 4 0 99";
    assert_eq!(server::ticks_in(stat), Some(200));
    assert_eq!(server::ticks_in("42 (a"), None);
}

#[test]
fn a_process_that_works_uses_time() {
    let mut child = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
    while child.try_wait().unwrap().is_none()
        && server::cpu_time(child.id()).unwrap() < Duration::from_millis(20)
    {
        thread::yield_now();
    }
    let is_running = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(is_running);
    assert!(server::cpu_time(u32::MAX).is_err());
}

#[test]
fn busy_time_is_all_but_idle_time_and_waiting() {
    let stat = "cpu  1 2 4 1000 2000 8 16 32 64 128\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
    assert_eq!(server::busy_ticks_in(stat), Some(63));
    assert_eq!(server::busy_ticks_in("cpu  1 2 3"), None);
}

#[test]
fn a_latency_is_read_back_at_most_a_64th_too_large() {
    for value in (0..200).chain((7..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 12345])) {
        let mut histogram = Histogram::new();
        histogram.record(value);
        // Something larger, or the largest value would be read back as it is.
        histogram.record(u64::MAX);
        let read = histogram.quantile(0.5);
        assert!(read >= value && read - value <= value / 64, "{value} is read as {read}");
    }
}

#[test]
fn quantiles_are_ranks() {
    let mut histogram = Histogram::new();
    assert_eq!(histogram.quantile(0.5), 0);
    (1..=100).for_each(|value| histogram.record(value));
    assert_eq!(histogram.quantile(0.5), 50);
    assert_eq!(histogram.quantile(0.99), 99);
    assert_eq!((histogram.quantile(1.0), histogram.max()), (100, 100));
}

#[test]
fn a_key_is_its_number_in_hexadecimal() {
    assert_eq!(&items::key_text(0x00c0_ffee), b"load:key00c0ffee");
    assert_eq!(items::key_text(1).len(), KEY_BYTES);
}

#[test]
fn values_have_sizes_of_the_range_and_differ_by_key_and_generation() {
    let values = Values::new(32..=500);
    let value = |key, generation| &values.pattern()[values.span(key, generation)];
    for key in 0..10_000 {
        assert!((32..=500).contains(&value(key, 7).len()));
        assert_ne!(value(key, 7), value(key + 1, 7));
        assert_ne!(value(key, 7), value(key, 8));
    }
    assert_eq!(Values::new(0..=0).span(1, 1).len(), 0);
}

#[test]
fn zipf_draws_ranks_as_often_as_their_weight_says() {
    for exponent in [0.5, 0.99, 1.0, 1.3] {
        let (count, draws) = (1000, 200_000);
        let zipf = random::Zipf::new(count, exponent);
        let mut random = random::Random::new(1);
        let mut seen = vec![0_u32; count as usize];
        (0..draws).for_each(|_| seen[zipf.rank(&mut random) as usize] += 1);
        let weight = |rank: u32| f64::from(rank).powf(-exponent);
        let all: f64 = (1..=count).map(weight).sum();
        for rank in [1, 2, 3, 10, 1000] {
            let expected = weight(rank) / all * f64::from(draws);
            let error = (f64::from(seen[rank as usize - 1]) - expected).abs();
            assert!(error < 5.0 * expected.sqrt(), "exponent {exponent}, rank {rank}: off by {error}");
        }
    }
}

#[test]
fn scattered_ranks_are_all_the_keys() {
    let choice = workload::KeyChoice::new(&Workload { key_count: 1000, ..workload(Mix::Get) });
    let mut keys: Vec<u32> = (0..1000).map(|rank| choice.scatter(rank)).collect();
    keys.sort_unstable();
    assert!(keys.into_iter().eq(0..1000));
}

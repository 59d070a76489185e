//! Tests of the load generator: its parts, and that it finds every kind of wrong answer.

#![expect(dead_code, reason = "command line and table are not here, nor what only they use")]

mod client;
mod drive;
#[path = "../support/histogram.rs"]
mod histogram;
#[path = "../support/items.rs"]
mod items;
#[path = "../support/random.rs"]
mod random;
#[path = "../support/server.rs"]
mod server;
#[path = "../support/signals.rs"]
mod signals;
#[path = "../support/syntax.rs"]
mod syntax;
mod workload;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use wire::{
    Command, FRAME_BODY_BYTES_MAX, Hit, KeyEcho, Loudness, Opcode, Request, RequestHeader, Response, Split,
    Status, split,
};

use crate::drive::{Plan, Report};
use crate::histogram::Histogram;
use crate::items::KEY_BYTES;
use crate::syntax::Binary;
use crate::workload::{Mix, Popularity, Values, Workload};

/// What a server does wrong, once in a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    Nothing,
    /// Every answer is written byte by byte, which is no lie.
    Bytewise,
    FlippedByte,
    ValueOfAnotherKey,
    ShorterValue,
    OtherFlags,
    OtherOpaque,
    AnswerLeftOut,
    AnswerTwice,
    Error,
    OtherMagic,
    Closed,
}

#[test]
fn right_answers_are_right_whatever_the_workload() {
    for lie in [Lie::Nothing, Lie::Bytewise] {
        for mix in [Mix::Get, Mix::Set, Mix::Ratio { sets: 1, gets: 3 }, Mix::Batch { gets: 10 }] {
            let tally = run(lie, mix, 3000).unwrap().tally;
            assert_eq!((tally.wrong, &tally.first_wrong), (0, &None), "{lie:?} {mix:?}");
            assert_eq!(tally.misses, 0);
            assert!((3000..3020).contains(&tally.requests()), "{mix:?}: {} requests", tally.requests());
        }
    }
}

#[test]
fn every_lie_is_found() {
    for lie in [
        Lie::FlippedByte,
        Lie::ValueOfAnotherKey,
        Lie::ShorterValue,
        Lie::OtherFlags,
        Lie::OtherOpaque,
        Lie::AnswerLeftOut,
        Lie::AnswerTwice,
        Lie::Error,
        Lie::OtherMagic,
        Lie::Closed,
    ] {
        for mix in [Mix::Get, Mix::Batch { gets: 10 }] {
            // A quiet get that is not answered is a miss, which is counted and no error.
            let is_miss = lie == Lie::AnswerLeftOut && mix != Mix::Get;
            match run(lie, mix, 3000) {
                Ok(report) if is_miss => assert!(report.tally.misses > 0),
                Ok(report) => assert!(report.tally.wrong > 0, "{lie:?} {mix:?}"),
                Err(error) => assert!(!is_miss, "{lie:?} {mix:?}: {error}"),
            }
        }
    }
}

#[test]
fn misses_are_counted() {
    for mix in [Mix::Get, Mix::Batch { gets: 10 }] {
        let address = serve(Lie::Nothing);
        let tally = drive::run(&plan(address, 1000), &workload(mix), Binary).unwrap().tally;
        assert_eq!((tally.hits, tally.misses, tally.wrong), (0, 1000, 0));
    }
}

#[test]
fn an_open_loop_sends_at_its_rate() {
    let address = serve(Lie::Nothing);
    let workload = workload(Mix::Set);
    let plan = Plan { rate: Some(2000), requests_max: Some(200), ..plan(address, 0) };
    let report = drive::run(&plan, &workload, Binary).unwrap();
    assert_eq!(report.tally.stored, 200);
    // Each of the two threads sends 100, 1 ms apart. A busy machine may take longer.
    assert!(report.elapsed >= Duration::from_millis(90), "{:?}", report.elapsed);
}

fn run(lie: Lie, mix: Mix, requests: u64) -> Result<Report, String> {
    let address = serve(lie);
    let workload = workload(mix);
    drive::preload(address, &workload, Binary)?;
    drive::run(&plan(address, requests), &workload, Binary)
}

fn workload(mix: Mix) -> Workload {
    Workload { mix, popularity: Popularity::Uniform, key_count: 100, values: Values::new(10..=600) }
}

fn plan(address: SocketAddr, requests: u64) -> Plan {
    Plan {
        address,
        connections: 2,
        depth: 4,
        threads: 2,
        warm_up: Duration::ZERO,
        time_max: Duration::from_mins(1),
        requests_max: Some(requests),
        rate: None,
        server_pid: None,
    }
}

type Items = HashMap<Vec<u8>, (u32, Vec<u8>)>;

/// A server that forgets nothing and lies in one GET of 500. It ends with the test.
fn serve(lie: Lie) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let items = std::sync::Arc::new(std::sync::Mutex::new(Items::new()));
        for stream in listener.incoming().flatten() {
            let items = std::sync::Arc::clone(&items);
            thread::spawn(move || answer_all(stream, lie, &items));
        }
    });
    address
}

/// Ends where the client, or the lie, closes the connection.
fn answer_all(mut stream: TcpStream, lie: Lie, items: &std::sync::Mutex<Items>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let (mut input, mut buffer, mut gets) = (Vec::new(), vec![0; 4096], 0);
    loop {
        let read = stream.read(&mut buffer).ok().filter(|&read| read > 0)?;
        input.extend_from_slice(&buffer[..read]);
        let mut rest = &input[..];
        let mut output = Vec::new();
        while let Split::Whole { packet, rest: behind } =
            split::<RequestHeader>(rest, FRAME_BODY_BYTES_MAX).ok()?
        {
            let request = Request::parse(&packet).ok()?;
            gets += u32::from(matches!(request.command, Command::Get { .. }));
            let lie = if gets % 500 == 499 { lie } else { Lie::Nothing };
            answer(&request, lie, &mut items.lock().unwrap(), &mut output)?;
            rest = behind;
        }
        input = rest.to_vec();
        let piece = if lie == Lie::Bytewise { 1 } else { output.len().max(1) };
        for piece in output.chunks(piece) {
            stream.write_all(piece).ok()?;
        }
    }
}

fn answer(request: &Request<'_>, lie: Lie, items: &mut Items, output: &mut Vec<u8>) -> Option<()> {
    let opcode = request.opcode();
    let empty = |status| Response::empty(opcode, status, request.opaque, None);
    match request.command {
        Command::Store { key, value, flags, .. } => {
            items.insert(key.as_bytes().to_vec(), (flags, value.to_vec()));
            empty(Status::OK).append_to(output);
        }
        Command::Get { key, echo } => {
            let Some((flags, value)) = items.get(key.as_bytes()) else {
                if request.loudness == Loudness::Loud {
                    Response::error(opcode, Status::NOT_FOUND, request.opaque).append_to(output);
                }
                return Some(());
            };
            let (mut opaque, mut flags, mut value) = (request.opaque, *flags, value.clone());
            match lie {
                Lie::FlippedByte => value[7] ^= 1,
                Lie::ShorterValue => value.truncate(9),
                Lie::OtherFlags => flags ^= 1,
                Lie::OtherOpaque => opaque ^= 1 << 30,
                Lie::ValueOfAnotherKey => {
                    let (_, other) = items.iter().find(|(other, _)| other.as_slice() != key.as_bytes())?;
                    (flags, value) = other.clone();
                }
                Lie::AnswerLeftOut => return Some(()),
                Lie::Error => {
                    Response::error(opcode, Status::OUT_OF_MEMORY, opaque).append_to(output);
                    return Some(());
                }
                Lie::OtherMagic => output.push(b'E'),
                Lie::Closed => return None,
                Lie::Nothing | Lie::Bytewise | Lie::AnswerTwice => {}
            }
            let echoed = if echo == KeyEcho::With { key.as_bytes() } else { &[] };
            let head = Hit::new(opcode, opaque, None, flags, echoed.len() as u8, value.len());
            for _ in 0..if lie == Lie::AnswerTwice { 2 } else { 1 } {
                output.extend_from_slice(head.as_bytes());
                output.extend_from_slice(echoed);
                output.extend_from_slice(&value);
            }
        }
        _ => Response::empty(Opcode::NOOP, Status::OK, request.opaque, None).append_to(output),
    }
    Some(())
}

#[test]
fn cpu_time_is_found_behind_any_name() {
    let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 1 2 3 4 150 50 7 8 20 0 4 0 99";
    assert_eq!(server::ticks_in(stat), Some(200));
    assert_eq!(server::ticks_in("42 (a"), None);
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

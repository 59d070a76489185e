//! Tests of the parts of the memory benchmark, and that it finds wrong answers. Zipf's law and what the load generator
//! has, too, is tested there.

#![expect(dead_code, reason = "command line and rows are not here, nor what only they use")]

mod contents;
#[path = "../support/items.rs"]
mod items;
mod lanes;
mod probe;
#[path = "../support/random.rs"]
mod random;
#[path = "../support/server.rs"]
mod server;
#[path = "../support/signals.rs"]
mod signals;
#[path = "../support/syntax/mod.rs"]
mod syntax;
mod table;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use wire::{Command, FRAME_BODY_BYTES_MAX, Hit, Opcode, RequestHeader, Response, Split, Status, split};

use crate::contents::{Contents, Sizes, generation};
use crate::lanes::{Lanes, Request, Seen, Tally};
use crate::syntax::Protocol;
use crate::table::Table;

/// What a server does wrong in its second GET.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    Nothing,
    /// Every answer is written in pieces, which is no lie.
    Pieces,
    FlippedByte,
    ShorterValue,
    UnknownPhase,
    OlderFlags,
    OtherOpaque,
    Error,
    Closed,
}

#[test]
fn right_answers_are_right_in_pieces_too() {
    for lie in [Lie::Nothing, Lie::Pieces] {
        let tally = run(lie).unwrap();
        assert_eq!(tally, Tally { hits: 40, misses: 10, stored: 40, ..Tally::default() }, "{lie:?}");
    }
}

#[test]
fn every_lie_is_found() {
    for lie in [
        Lie::FlippedByte,
        Lie::ShorterValue,
        Lie::UnknownPhase,
        Lie::OlderFlags,
        Lie::OtherOpaque,
        Lie::Error,
        Lie::Closed,
    ] {
        match run(lie) {
            Ok(tally) => {
                assert!(tally.wrong > 0, "{lie:?}");
                assert!(tally.first_wrong.is_some(), "{lie:?}");
            }
            Err(_) => assert!(matches!(lie, Lie::OtherOpaque | Lie::Closed), "{lie:?}"),
        }
    }
}

#[test]
fn a_server_without_room_is_no_wrong_one() {
    let contents = contents();
    let mut lanes = Lanes::open(serve(Lie::Nothing), Protocol::Binary, 2, &contents).unwrap();
    let mut seen = Vec::new();
    // The server below refuses this key.
    lanes.exchange(&[Request::set(REFUSED_KEY, 0)], |_, what| seen.push(what)).unwrap();
    assert_eq!((seen, lanes.tally.refused, lanes.tally.wrong), (vec![Seen::Refused], 1, 0));
}

#[test]
fn answers_may_wait_up_to_what_is_left() {
    let contents = contents();
    let mut lanes = Lanes::open(serve(Lie::Nothing), Protocol::Binary, 1, &contents).unwrap();
    let requests: Vec<Request> = (0..10).map(|key| Request::set(key, generation(0, 1))).collect();
    lanes.send(&requests).unwrap();
    lanes.receive(4, |_, _| ()).unwrap();
    assert_eq!(lanes.tally.stored, 6);
    lanes.receive(0, |_, _| ()).unwrap();
    assert_eq!(lanes.tally.stored, 10);
}

fn contents() -> Contents {
    Contents::new(&[Sizes::Around(300), Sizes::Exactly(300_000)])
}

const REFUSED_KEY: u32 = 0xdead;

/// Stores 40 keys, in both phases, and reads 50.
fn run(lie: Lie) -> Result<Tally, String> {
    let contents = contents();
    let mut lanes = Lanes::open(serve(lie), Protocol::Binary, 3, &contents)?;
    let sets: Vec<Request> = (0..40).map(|key| Request::set(key, generation(key % 2, key))).collect();
    lanes.exchange(&sets, |_, _| ())?;
    let gets: Vec<Request> = (0..50).map(Request::get).collect();
    lanes.exchange(&gets, |request, seen| assert!(seen != Seen::Miss || request.key >= 40))?;
    Ok(lanes.tally)
}

type Items = HashMap<Vec<u8>, (u32, Vec<u8>)>;

/// A server that forgets nothing. It ends with the test.
fn serve(lie: Lie) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let items = Arc::new(Mutex::new(Items::new()));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let items = Arc::clone(&items);
            thread::spawn(move || answer_all(stream, lie, &items));
        }
    });
    address
}

/// Ends where the client, or the lie, closes the connection.
fn answer_all(mut stream: TcpStream, lie: Lie, items: &Mutex<Items>) -> Option<()> {
    let (mut input, mut buffer, mut gets) = (Vec::new(), vec![0; 1 << 16], 0);
    loop {
        let read = stream.read(&mut buffer).ok().filter(|&read| read > 0)?;
        input.extend_from_slice(&buffer[..read]);
        let mut rest = &input[..];
        let mut output = Vec::new();
        while let Split::Whole { packet, rest: behind } =
            split::<RequestHeader>(rest, FRAME_BODY_BYTES_MAX).ok()?
        {
            let request = wire::Request::parse(&packet).ok()?;
            gets += u32::from(matches!(request.command, Command::Get { .. }));
            let lie = if gets == 2 || lie == Lie::Pieces { lie } else { Lie::Nothing };
            answer(&request, lie, &mut items.lock().unwrap(), &mut output)?;
            rest = behind;
        }
        input = rest.to_vec();
        for piece in output.chunks(if lie == Lie::Pieces { 777 } else { 1 << 20 }) {
            stream.write_all(piece).ok()?;
        }
    }
}

fn answer(request: &wire::Request<'_>, lie: Lie, items: &mut Items, output: &mut Vec<u8>) -> Option<()> {
    let (opcode, opaque) = (request.opcode(), request.opaque);
    match request.command {
        Command::Store { key, .. } if key.as_bytes() == items::key_text(REFUSED_KEY) => {
            Response::error(opcode, Status::OUT_OF_MEMORY, opaque).append_to(output);
        }
        Command::Store { key, value, flags, .. } => {
            items.insert(key.as_bytes().to_vec(), (flags, value.to_vec()));
            Response::empty(opcode, Status::OK, opaque, None).append_to(output);
        }
        Command::Get { key, .. } => {
            let Some((flags, value)) = items.get(key.as_bytes()) else {
                Response::error(opcode, Status::NOT_FOUND, opaque).append_to(output);
                return Some(());
            };
            let (mut opaque, mut flags, mut value) = (opaque, *flags, value.clone());
            match lie {
                Lie::FlippedByte => value[7] ^= 1,
                Lie::ShorterValue => value.truncate(9),
                Lie::UnknownPhase => flags = generation(2, 0),
                Lie::OlderFlags => flags ^= 1,
                Lie::OtherOpaque => opaque ^= 1 << 30,
                Lie::Error => {
                    Response::error(opcode, Status::OUT_OF_MEMORY, opaque).append_to(output);
                    return Some(());
                }
                Lie::Closed => return None,
                Lie::Nothing | Lie::Pieces => {}
            }
            output.extend_from_slice(Hit::new(opcode, opaque, None, flags, 0, value.len()).as_bytes());
            output.extend_from_slice(&value);
        }
        _ => return None,
    }
    Some(())
}

#[test]
fn resident_memory_is_read_in_bytes() {
    let status = "Name:\tVmRSS: 1 kB\nVmHWM:\t    9999 kB\nVmRSS:\t    1234 kB\nRssAnon:\t 5 kB\n";
    assert_eq!(probe::rss_bytes_in(status), Some(1234 * 1024));
    assert_eq!(probe::rss_bytes_in("VmHWM: 12 kB\n"), None);
    assert_eq!(probe::rss_bytes_in("VmRSS: 12 MB\n"), None);
}

#[test]
fn a_process_that_runs_has_resident_memory() {
    assert!(probe::rss_bytes(std::process::id()).unwrap() > 100 << 10);
    let sampler = probe::Sampler::start(std::process::id());
    while sampler.rss_bytes_max() == 0 {
        thread::yield_now();
    }
}

#[test]
fn the_number_of_items_is_found_among_the_figures() {
    let mut answers = Vec::new();
    for (key, value) in [("pid", "7"), ("curr_items", "42"), ("total_items", "43")] {
        let mut answer = Response::empty(Opcode::STAT, Status::OK, 0, None);
        (answer.key, answer.value) = (key.as_bytes(), value.as_bytes());
        answer.append_to(&mut answers);
    }
    assert_eq!(probe::figure_in(&answers, "curr_items"), Some(42));
    let whole = answers.len() - 24 - "total_items43".len();
    assert!((0..whole).all(|cut| probe::figure_in(&answers[..cut], "curr_items").is_none()));
    assert_eq!(probe::db_size_in(b":42\r\n"), Some(42));
    assert_eq!((probe::db_size_in(b":4"), probe::db_size_in(b"-no\r\n")), (None, None));
}

#[test]
fn sizes_are_what_their_phase_says() {
    let sigma = 1.0;
    let phases = [Sizes::Exactly(77), Sizes::Around(100), Sizes::Lognormal { median: 230.0, sigma }];
    let contents = Contents::new(&phases).with_large(100, 1 << 20);
    let lens = |phase| -> Vec<usize> {
        let mut lens: Vec<usize> = (0..100_000).map(|key| contents.len(key, phase).unwrap()).collect();
        lens.sort_unstable();
        lens
    };
    for phase in 0..3 {
        let mut lens = lens(phase);
        let large = lens.split_off(lens.partition_point(|&len| len < 1 << 20)).len();
        assert!((850..1150).contains(&large), "phase {phase}: {large} large values of 1000");
        let (least, middle, most) = (lens[0], lens[lens.len() / 2], lens[lens.len() - 1]);
        match phase {
            0 => assert_eq!((least, most), (77, 77)),
            1 => {
                assert_eq!((least, most), (50, 150));
                assert!((98..=102).contains(&middle), "{middle}");
            }
            _ => {
                assert!((225..=235).contains(&middle), "{middle}");
                let mean = lens.iter().sum::<usize>() as f64 / lens.len() as f64;
                // Of a lognormal distribution it is the median times e^(sigma²/2).
                assert!((mean / (230.0 * (sigma * sigma / 2.0).exp()) - 1.0).abs() < 0.02, "{mean}");
            }
        }
    }
    assert_eq!(contents.len(1, 3), None);
    assert_eq!(contents.value(1, generation(3, 0)), None);
}

#[test]
fn a_key_keeps_its_length_within_a_phase_and_changes_its_bytes() {
    let contents = Contents::new(&[Sizes::Around(100), Sizes::Around(100)]);
    let value = |key, phase, version| contents.value(key, generation(phase, version)).unwrap();
    let mut same = 0;
    for key in 0..1000 {
        assert_eq!(value(key, 0, 1).len(), value(key, 0, 2).len());
        assert_ne!(value(key, 0, 1), value(key, 0, 2));
        same += u32::from(value(key, 0, 1).len() == value(key, 1, 1).len());
    }
    assert!(same < 100, "{same} of 1000 keys have the same length in two phases");
}

#[test]
fn tables_are_markdown() {
    let mut table = Table::new(&["server", "B"]);
    table.push(vec!["memwire".to_owned(), "58.1".to_owned()]);
    assert_eq!(table.to_string(), "| server  |    B |\n|---------|-----:|\n| memwire | 58.1 |\n");
    assert_eq!(table::median(vec![3.0, 1.0, 2.0]), Some(2.0));
    assert_eq!(table::median(Vec::new()), None);
}

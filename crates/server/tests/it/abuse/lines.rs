//! The same in text and RESP: lines without an end, lengths that nobody keeps, requests that are cut off.
//!
//! What memcached 1.6.18 and Redis 7.0.15 answer was looked at for each; where they differ, the comment says so.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use super::{MIB, peak_rss_while_serving, rss_bytes};
use crate::client::{Client, wait_until};
use crate::harness::{Random, Server};

/// A RESP command.
fn command(words: &[&str]) -> String {
    let count = format!("*{}\r\n", words.len());
    words.iter().fold(count, |request, word| request + &format!("${}\r\n{word}\r\n", word.len()))
}

/// Sends all, says that this was all, and reads all. The server may close before it has read everything.
fn converse(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut reader = server.connect();
    let mut writer = reader.try_clone().expect("a socket can be cloned");
    thread::scope(|scope| {
        scope.spawn(move || {
            let _ = writer.write_all(bytes);
            let _ = writer.shutdown(Shutdown::Write);
        });
        let mut answers = Vec::new();
        if let Err(error) = reader.read_to_end(&mut answers) {
            assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "no end");
        }
        answers
    })
}

/// The end of a conversation decides: with the last answer the server shows that it has kept its place.
#[track_caller]
fn ends_with(server: &Server, bytes: &[u8], begin: &str, end: &str) {
    let answers = converse(server, bytes);
    let shown = &answers[..answers.len().min(200)];
    let fits = answers.starts_with(begin.as_bytes()) && answers.ends_with(end.as_bytes());
    assert!(fits, "{} bytes: {}", answers.len(), shown.escape_ascii());
}

#[test]
fn a_line_without_an_end_is_closed_and_costs_little() {
    const LINE_BYTES: usize = 8 * MIB;
    let server = Server::start(&[]);
    let mut observer = Client::connect(&server);
    observer.assert_in_step();
    let before = rss_bytes(&server);
    let keys = format!("get {}", format!("{} ", "k".repeat(100)).repeat(LINE_BYTES / 101)).into_bytes();
    for (line, answer) in [
        // As in memcached, which reads on for `get` alone.
        (vec![b'a'; LINE_BYTES], ""),
        (vec![b' '; LINE_BYTES], ""),
        (keys, ""),
        ([&b"get "[..], &vec![b'k'; LINE_BYTES]].concat(), "CLIENT_ERROR bad command line format\r\n"),
        (vec![b'1'; LINE_BYTES], ""),
        ([&b"*"[..], &vec![b'1'; LINE_BYTES]].concat(), "-ERR Protocol error: invalid multibulk length\r\n"),
        ([&b"*1\r\n$"[..], &vec![b'1'; LINE_BYTES]].concat(), "-ERR Protocol error: invalid bulk length\r\n"),
    ] {
        let answers = converse(&server, &line);
        let begin = line[..6].escape_ascii();
        assert_eq!(
            answers.escape_ascii().to_string(),
            answer.as_bytes().escape_ascii().to_string(),
            "{begin}"
        );
        let growth = rss_bytes(&server).saturating_sub(before);
        assert!(growth < 16 * MIB, "grew by {growth} bytes after {begin}");
    }
    observer.assert_in_step();
}

#[test]
fn a_length_that_is_announced_costs_nothing() {
    const CLIENTS: usize = 50;
    let server = Server::start(&["-m", "64"]);
    let mut client = Client::connect(&server);
    client.assert_in_step();
    let before = rss_bytes(&server);
    let mut waiting: Vec<TcpStream> = Vec::new();
    for _ in 0..CLIENTS {
        for head in [
            "set k 0 0 1048000\r\n",
            "set k 0 0 2000000000\r\n",
            "ms k 1048000\r\n",
            "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1048000\r\n",
            "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\n",
            "*1048576\r\n$4\r\nMGET\r\n",
            "*1048576\r\n$4\r\nMSET\r\n$1\r\nk\r\n$1048000\r\n",
        ] {
            let mut stream = server.connect();
            stream.write_all(head.as_bytes()).unwrap();
            waiting.push(stream);
        }
    }
    let growth = peak_rss_while_serving(&server).saturating_sub(before);
    assert!(growth < 16 * MIB, "grew by {growth} bytes");
    drop(waiting);
    wait_until("the connections are gone", || client.stat("curr_connections") == 1);
    assert!(client.get("k").is_none());
}

#[test]
fn what_is_too_large_is_skipped_and_what_follows_is_answered() {
    let server = Server::start(&[]);
    let value = "x".repeat(2_000_000);
    let too_large = "SERVER_ERROR object too large for cache\r\n";
    ends_with(&server, format!("set k 0 0 2000000\r\n{value}\r\nmn\r\n").as_bytes(), too_large, "MN\r\n");
    ends_with(&server, format!("set k 0 0 2000000 noreply\r\n{value}\r\nmn\r\n").as_bytes(), "", "MN\r\n");
    ends_with(&server, format!("ms k 2000000\r\n{value}\r\nmn\r\n").as_bytes(), too_large, "MN\r\n");
    let ping = command(&["PING"]);
    let too_large = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n";
    let set = command(&["SET", "k", &value]);
    ends_with(&server, format!("{set}{ping}").as_bytes(), too_large, "+PONG\r\n");
    // Redis takes keys and names of any length.
    for words in [&["GET", &value][..], &[&value], &["ECHO", &value], &["MGET", "k", &value, "k"]] {
        ends_with(&server, format!("{}{ping}", command(words)).as_bytes(), "", "+PONG\r\n");
    }
}

#[test]
fn requests_of_many_megabytes_are_answered() {
    const KEYS_COUNT: usize = 700_000;
    let server = Server::start(&["-m", "64"]);
    let mut client = Client::connect(&server);
    client.set("hit", "value");
    let before = rss_bytes(&server);
    let ping = command(&["PING"]);
    let keys: Vec<String> = (0..KEYS_COUNT).map(|number| format!("key {number:07}")).collect();
    let of_all = |name| {
        let words: Vec<&str> =
            [name].into_iter().chain(keys.iter().map(String::as_str)).chain(["hit"]).collect();
        format!("{}{ping}", command(&words))
    };
    let misses = "$-1\r\n".repeat(KEYS_COUNT);
    let answers = converse(&server, of_all("MGET").as_bytes());
    let expected = format!("*{}\r\n{misses}$5\r\nvalue\r\n+PONG\r\n", KEYS_COUNT + 1);
    assert!(answers == expected.as_bytes(), "{} bytes", answers.len());
    ends_with(&server, of_all("EXISTS").as_bytes(), ":1\r\n", "\r\n+PONG\r\n");
    ends_with(
        &server,
        of_all("GET").as_bytes(),
        "-ERR wrong number of arguments for 'get' command",
        "+PONG\r\n",
    );
    ends_with(&server, of_all("SET").as_bytes(), "-ERR syntax error\r\n", "+PONG\r\n");
    ends_with(&server, of_all("NONSENSE").as_bytes(), "-ERR unknown command 'NONSENSE'", "+PONG\r\n");
    ends_with(&server, of_all("DEL").as_bytes(), ":1\r\n", "\r\n+PONG\r\n");
    client.set("hit", "value");
    // memcached comes to no end with this one.
    let get = format!("get{} hit\r\nmn\r\n", " missing".repeat(KEYS_COUNT));
    ends_with(&server, get.as_bytes(), "VALUE hit 0 5\r\nvalue\r\nEND\r\n", "MN\r\n");
    let hits = format!("get{}\r\nmn\r\n", " hit".repeat(KEYS_COUNT));
    let answers = converse(&server, hits.as_bytes());
    let expected = format!("{}END\r\nMN\r\n", "VALUE hit 0 5\r\nvalue\r\n".repeat(KEYS_COUNT));
    assert!(answers == expected.as_bytes(), "{} bytes", answers.len());
    let growth = rss_bytes(&server).saturating_sub(before);
    assert!(growth < 64 * MIB, "grew by {growth} bytes");
}

#[test]
fn broken_frames_are_told_and_closed() {
    let server = Server::start(&[]);
    let ping = command(&["PING"]);
    for (frame, told) in [
        ("*1\r\n*1\r\n*1\r\n", "expected '$', got '*'"),
        ("*1\r\n:1\r\n", "expected '$', got ':'"),
        ("*x\r\n", "invalid multibulk length"),
        ("*2000000000000\r\n", "invalid multibulk length"),
        ("*1\r\n$-1\r\n", "invalid bulk length"),
        ("*1\r\n$536870913\r\n", "invalid bulk length"),
        ("*2\r\n$3\r\nGET\r\n$x\r\n", "invalid bulk length"),
    ] {
        let answers = converse(&server, format!("{ping}{frame}{ping}").as_bytes());
        let expected = format!("+PONG\r\n-ERR Protocol error: {told}\r\n");
        assert_eq!(answers.escape_ascii().to_string(), expected.as_bytes().escape_ascii().to_string());
    }
    // An array of nothing is no command, and one of less is none either.
    let nothing = "*0\r\n*-1\r\n*-5\r\n".repeat(10_000);
    ends_with(&server, format!("{nothing}{ping}").as_bytes(), "+PONG\r\n", "+PONG\r\n");
}

/// Whoever sends a byte at a time keeps nobody waiting, and is answered in the end.
#[test]
fn requests_that_trickle_in_are_answered() {
    const CLIENTS: usize = 100;
    let server = Server::start(&[]);
    let mut observer = Client::connect(&server);
    observer.set("k", "v");
    let requests = ["set n 0 0 3\r\nabc\r\n".to_owned(), "get k\r\n".to_owned(), command(&["GET", "k"])];
    let answers = ["STORED\r\n", "VALUE k 0 1\r\nv\r\nEND\r\n", "$1\r\nv\r\n"];
    let mut slow: Vec<(usize, TcpStream)> = (0..CLIENTS).map(|which| (which % 3, server.connect())).collect();
    for at in 0..requests.iter().map(String::len).max().unwrap_or(0) {
        for (which, stream) in &mut slow {
            if let Some(byte) = requests[*which].as_bytes().get(at..=at) {
                stream.write_all(byte).unwrap();
            }
        }
        observer.assert_in_step();
    }
    for (which, mut stream) in slow {
        let mut answer = vec![0; answers[which].len()];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), answers[which]);
    }
}

#[test]
fn a_pipeline_whose_answers_nobody_reads_costs_little_and_is_answered_in_the_end() {
    const REQUESTS_COUNT: usize = 10_000;
    let server = Server::start(&["-m", "64"]);
    let mut observer = Client::connect(&server);
    let value = "v".repeat(10_000);
    observer.set("k", &value);
    let before = rss_bytes(&server);
    let hit = format!("VALUE k 0 {}\r\n{value}\r\nEND\r\n", value.len());
    let bulk = format!("${}\r\n{value}\r\n", value.len());
    let meta = format!("VA {}\r\n{value}\r\n", value.len());
    for (request, answer) in [("get k\r\n", hit), ("mg k v\r\n", meta), (&command(&["GET", "k"]), bulk)] {
        let requests = request.repeat(REQUESTS_COUNT);
        let mut client = server.connect();
        let mut writer = client.try_clone().expect("a socket can be cloned");
        thread::scope(|scope| {
            scope.spawn(move || writer.write_all(requests.as_bytes()).expect("the server reads in the end"));
            let growth = peak_rss_while_serving(&server).saturating_sub(before);
            assert!(growth < 64 * MIB, "grew by {growth} bytes");
            let mut read = vec![0; answer.len()];
            for number in 0..REQUESTS_COUNT {
                client.read_exact(&mut read).expect("an answer");
                assert!(read == answer.as_bytes(), "{request}: answer {number}");
            }
        });
    }
    observer.assert_in_step();
}

#[test]
fn a_line_may_be_cut_off_at_any_point() {
    let server = Server::start(&[]);
    let mut observer = Client::connect(&server);
    observer.set("k", "old");
    let (short, long) = ("x".repeat(1000), "x".repeat(300_000));
    let requests = [
        format!("set k 0 0 1000\r\n{short}\r\n"),
        format!("set k 0 0 300000\r\n{long}\r\n"),
        format!("ms k 300000 q\r\n{long}\r\n"),
        command(&["SET", "k", &short]),
        command(&["SET", "k", &long]),
        // MSET is many SETs, so its first ones may have been done.
        command(&["MSET", "other", &short, "k", &long]),
        "append k 0 0 5\r\nabcde\r\n".into(),
        command(&["APPEND", "k", "abcde"]),
    ];
    let mut random = Random::new(8);
    println!("seed 8");
    for round in 0..400 {
        let request = random.pick(&requests).as_bytes();
        let cut = match random.below(3) {
            0 => random.below(request.len().min(50)),
            1 => random.below(request.len()),
            _ => request.len() - 1,
        };
        let mut stream = server.connect();
        stream.write_all(&request[..cut]).unwrap();
        drop(stream);
        if round % 50 == 0 {
            assert_eq!(observer.get("k").unwrap(), b"old", "round {round}");
        }
    }
    wait_until("the connections are gone", || observer.stat("curr_connections") == 1);
    assert_eq!(observer.get("k").unwrap(), b"old");
}

#[test]
fn nonsense_in_lines_neither_crashes_nor_stalls_the_server() {
    const WORDS: [&str; 36] = [
        "get",
        "gets",
        "set",
        "cas",
        "add",
        "append",
        "incr",
        "touch",
        "gat",
        "delete",
        "flush_all",
        "mg",
        "ms",
        "md",
        "ma",
        "me",
        "mn",
        "stats",
        "verbosity",
        "noreply",
        "*1",
        "*3",
        "$3",
        "$1",
        "GET",
        "SET",
        "k",
        "k2",
        "0",
        "1",
        "-1",
        "4294967295",
        "99999999999999999999",
        "q",
        "b",
        "C1",
    ];
    const ENDS: [&str; 6] = [" ", " ", " ", "\r\n", "\r\n", "\n"];
    let server = Server::start(&[]);
    let mut observer = Client::connect(&server);
    for seed in 0..500 {
        let mut random = Random::new(seed);
        let mut bytes: Vec<u8> = Vec::new();
        for _ in 0..random.below(200) {
            bytes.extend(random.pick(&WORDS).bytes());
            bytes.extend(random.pick(&ENDS).bytes());
        }
        for _ in 0..random.below(3) {
            let at = random.below(bytes.len() + 1);
            bytes.insert(at, random.next() as u8);
        }
        println!("seed {seed}");
        converse(&server, &bytes);
        observer.assert_in_step();
    }
    assert_eq!(observer.stat("pid"), u64::try_from(server.pid().as_raw()).unwrap());
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

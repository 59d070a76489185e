//! Waiting for an item to change.
//!
//! A test sees that somebody waits by the figures, and not by time passing.

mod cost;
mod meta;

use std::thread;
use std::time::Duration;

use crate::client::{Client, Request, op, stored};
use crate::example_client;
use crate::harness::{Server, skip_or_fail};
use crate::http::{Answer, Http, start};

/// Longer than any test takes.
const LONG: &str = "wait=300s";

/// Begins to wait over HTTP for another version of `key` than `index`.
fn wait(server: &Server, key: &str, index: u64) -> Http {
    let mut http = Http::connect(server.http());
    http.request("GET", &format!("/v1/keys/{key}?index={index}&{LONG}"), b"");
    http
}

/// Waits until so many wait.
fn until_waiting(probe: &mut Http, count: usize) {
    while waiting(probe) != count {
        thread::sleep(Duration::from_millis(2));
    }
}

fn waiting(probe: &mut Http) -> usize {
    let text = probe.get("/metrics").text().to_owned();
    let line =
        text.lines().find_map(|line| line.strip_prefix("memwire_watchers ")).expect("they are counted");
    line.parse().expect("a number")
}

#[track_caller]
fn answer(http: &mut Http) -> Answer {
    http.receive("GET").expect("an answer")
}

/// What `change` does to an item of version `cas` with the value `1` tells who waits for it.
fn woken_by(args: &[&str], change: impl FnOnce(&mut Client, u64)) -> Answer {
    let (server, mut probe) = start(args);
    let mut client = Client::connect(&server);
    let cas = client.set("k", "1");
    let mut waiter = wait(&server, "k", cas);
    until_waiting(&mut probe, 1);
    change(&mut client, cas);
    let answer = answer(&mut waiter);
    assert_eq!(waiting(&mut probe), 0);
    answer
}

#[test]
fn another_version_is_told_at_once_and_the_same_one_is_waited_for() {
    let (server, mut http) = start(&[]);
    let mut client = Client::connect(&server);
    let cas = client.set("k", "1");
    for index in [0, cas - 1, cas + 1, u64::MAX] {
        let answer = http.get(&format!("/v1/keys/k?index={index}&{LONG}"));
        assert_eq!(
            (answer.status, answer.text(), answer.field("etag")),
            (200, "1", &format!("\"{cas}\"")[..])
        );
    }
    assert_eq!(http.get("/v1/keys/k?index=0&wait=0").text(), "1", "even where nobody waits");
    http.get(&format!("/v1/keys/missing?index=7&{LONG}")).assert_error(404);
    let mut waiter = wait(&server, "k", cas);
    until_waiting(&mut http, 1);
    let newer = client.set("k", "2");
    let answer = answer(&mut waiter);
    assert_eq!((answer.status, answer.text(), answer.field("etag")), (200, "2", &format!("\"{newer}\"")[..]));
    assert_eq!(waiting(&mut http), 0);
}

#[test]
fn the_end_of_the_time_is_an_answer() {
    let (server, mut http) = start(&[]);
    let cas = Client::connect(&server).set("k", "1");
    let same = http.get(&format!("/v1/keys/k?index={cas}&wait=20ms"));
    assert_eq!((same.status, same.field("etag")), (304, &format!("\"{cas}\"")[..]));
    assert_eq!(http.get(&format!("/v1/keys/k?index={cas}&wait=0s")).status, 304);
    assert_eq!(http.get("/v1/keys/missing?wait=20ms").status, 304, "it is still missing");
    assert_eq!(waiting(&mut http), 0, "nobody is kept who does not wait any more");
}

#[test]
fn a_missing_item_is_waited_for() {
    let (server, mut probe) = start(&[]);
    let mut waiter = wait(&server, "k", 0);
    until_waiting(&mut probe, 1);
    let mut client = Client::connect(&server);
    client.set("other", "x");
    assert_eq!(waiting(&mut probe), 1, "another item is no change");
    client.set("k", "1");
    assert_eq!(answer(&mut waiter).text(), "1");
}

#[test]
fn every_change_is_told() {
    let told = |request: fn() -> Request| {
        woken_by(&[], |client, _| {
            client.ask(&request());
        })
    };
    assert_eq!(told(|| Request::store(op::SET, "k", "2")).text(), "2");
    assert_eq!(told(|| Request::store(op::REPLACE, "k", "longer than before")).text(), "longer than before");
    assert_eq!(told(|| Request::concat(op::APPEND, "k", "2")).text(), "12");
    assert_eq!(told(|| Request::count(op::INCR, "k", 1, 0, 0)).text(), "2", "in its place");
    assert_eq!(told(|| Request::count(op::INCR, "k", 99, 0, 0)).text(), "100", "in another");
    told(|| Request::of(op::DELETE, "k")).assert_error(404);
    told(|| Request::new(op::FLUSH)).assert_error(404);
    told(|| Request::touch(op::FLUSH, "", 1)).assert_error(404);
    woken_by(&[], |client, cas| {
        client.ask(&Request::of(op::DELETE, "k").cas(cas));
    })
    .assert_error(404);
}

#[test]
fn an_item_whose_time_ends_is_told_though_nobody_looks() {
    woken_by(&[], |client, _| {
        client.ask(&Request::touch(op::TOUCH, "k", 1));
    })
    .assert_error(404);
    let (server, mut http) = start(&[]);
    let set = Request::store(op::SET, "k", "1").extras(stored(0, 1));
    let cas = Client::connect(&server).ask(&set).cas;
    let ended = http.get(&format!("/v1/keys/k?index={cas}&{LONG}"));
    ended.assert_error(404);
}

#[test]
fn an_item_that_is_touched_to_live_longer_is_waited_for_until_then() {
    let (server, mut probe) = start(&[]);
    let mut client = Client::connect(&server);
    let cas = client.ask(&Request::store(op::SET, "k", "1").extras(stored(0, 1))).cas;
    let mut waiter = wait(&server, "k", cas);
    until_waiting(&mut probe, 1);
    assert_eq!(client.ask(&Request::touch(op::TOUCH, "k", 1000)).status, 0);
    let started = std::time::Instant::now();
    while started.elapsed() < Duration::from_millis(2500) {
        until_waiting(&mut probe, 1);
    }
    client.set("k", "2");
    assert_eq!(answer(&mut waiter).text(), "2");
}

#[test]
fn an_item_that_is_evicted_is_told() {
    woken_by(&["-m", "2", "-I", "1k"], |client, _| {
        for number in 0..20_000_u32 {
            client.set(number.to_string(), vec![7; 1000]);
        }
    })
    .assert_error(404);
}

#[test]
fn touching_is_no_change_and_conditions_hold_for_what_is_told() {
    let (server, mut probe) = start(&[]);
    let mut client = Client::connect(&server);
    let cas = client.set("k", "1");
    let mut waiter = wait(&server, "k", cas);
    until_waiting(&mut probe, 1);
    client.ask(&Request::touch(op::TOUCH, "k", 1000));
    client.get("k");
    assert_eq!(waiting(&mut probe), 1);
    client.set("k", "2");
    assert_eq!(answer(&mut waiter).text(), "2");
    let head = probe.ask("HEAD", &format!("/v1/keys/k?index={cas}"), b"");
    assert_eq!((head.status, head.field("content-length")), (200, "1"));
}

#[test]
fn many_who_wait_for_one_item_are_all_told_and_some_who_have_gone_are_forgotten() {
    let (server, mut probe) = start(&[]);
    let mut client = Client::connect(&server);
    let cas = client.set("k", "1");
    let mut waiters: Vec<_> = (0..1000).map(|_| wait(&server, "k", cas)).collect();
    until_waiting(&mut probe, 1000);
    let cas = client.set("k", "2");
    for waiter in &mut waiters {
        assert_eq!(answer(waiter).text(), "2");
        waiter.request("GET", &format!("/v1/keys/k?index={cas}&{LONG}"), b"");
    }
    until_waiting(&mut probe, 1000);
    waiters.truncate(600);
    until_waiting(&mut probe, 600);
    client.set("k", "3");
    for waiter in &mut waiters {
        assert_eq!(answer(waiter).text(), "3");
    }
    assert_eq!(waiting(&mut probe), 0);
}

#[test]
fn who_asks_for_too_much_is_told_so() {
    let (server, mut http) = start(&[]);
    for bad in ["wait=601s", "wait=11m", "wait=x", "wait=1h", "index=x", "index=-1", "index=1&index=1"] {
        http.get(&format!("/v1/keys/k?{bad}")).assert_error(400);
    }
    let waiters: Vec<_> = (0..1920).map(|_| wait(&server, "k", 0)).collect();
    until_waiting(&mut http, 1920);
    let refused = http.get(&format!("/v1/keys/k?index=0&{LONG}"));
    refused.assert_error(503);
    assert_eq!(refused.field("retry-after"), "1");
    assert_eq!(http.get("/healthz").status, 200, "others are served");
    drop(waiters);
    until_waiting(&mut http, 0);
    assert_eq!(http.get("/v1/keys/k?index=0&wait=0").status, 304);
}

#[test]
fn where_versions_are_hidden_there_is_nothing_to_wait_by() {
    let (_server, mut http) = start(&["-C"]);
    http.get("/v1/keys/k?index=1").assert_error(400);
}

#[test]
fn at_the_end_everybody_is_answered_first() {
    let (server, mut probe) = start(&[]);
    let mut waiters: Vec<_> = (0..50).map(|_| wait(&server, "k", 0)).collect();
    until_waiting(&mut probe, 50);
    drop(probe);
    let stopping = thread::spawn(move || server.stop());
    for waiter in &mut waiters {
        answer(waiter).assert_error(503);
    }
    drop(waiters);
    assert!(stopping.join().unwrap().success());
}

#[test]
fn the_example_client_prints_every_change_that_it_sees() {
    if example_client::program().is_none() {
        return skip_or_fail("the example client");
    }
    for protocol in ["binary", "meta"] {
        the_example_client_prints_every_change(protocol);
    }
}

fn the_example_client_prints_every_change(protocol: &'static str) {
    let (server, mut probe) = start(&["--watch"]);
    let address = server.addr().to_string();
    let mut writer = Client::connect(&server);
    writer.set("k", "1");
    let watching = thread::spawn(move || {
        let args = ["--protocol", protocol, "watch", "k", "--count", "4"];
        example_client::run(&address, &args, b"")
    });
    for change in
        [Request::store(op::SET, "k", "2"), Request::of(op::DELETE, "k"), Request::store(op::SET, "k", "")]
    {
        until_waiting(&mut probe, 1);
        writer.ask(&change);
    }
    let run = watching.join().unwrap();
    assert_eq!(
        (run.code, &run.out[..], &run.err[..]),
        (0, &b"k: 1\nk: 2\nk: \n"[..], "client: k: Not found\n")
    );
}

/// Waiting over the binary protocol: an opcode of memwire's own.
mod binary {
    use super::*;
    use crate::client::{Answer, status};

    const WATCH: u8 = 0x77;
    const LONG_MS: u32 = 300_000;

    fn watch(key: &str, known: u64, wait_ms: u32) -> Request {
        Request::of(WATCH, key).extras(wait_ms.to_be_bytes()).cas(known)
    }

    fn start() -> (Server, Http) {
        super::start(&["--watch"])
    }

    /// A connection that waits.
    fn waiter(server: &Server, key: &str, known: u64) -> Client {
        let mut client = Client::connect(server);
        client.send(&watch(key, known, LONG_MS).opaque(7).bytes());
        client
    }

    #[test]
    fn it_is_no_command_unless_it_is_allowed_and_where_nothing_is_asked_for() {
        let (plain, _) = super::start(&[]);
        let unknown = Answer::error(status::UNKNOWN_COMMAND);
        let mut client = Client::connect(&plain);
        assert_eq!(client.ask(&watch("k", 0, 0)), unknown);
        client.assert_in_step();
        let (server, _http) = start();
        let mut client = Client::connect(&server);
        assert_eq!(client.ask(&Request::new(WATCH)), unknown);
        client.assert_in_step();
        for malformed in [
            watch("", 0, 0),
            watch("k", 0, 0).value("x"),
            watch("k", 0, 0).extras([0; 8]),
            Request::of(WATCH, "k"),
            watch(&"k".repeat(251), 0, 0),
        ] {
            let mut client = Client::connect(&server);
            assert_eq!(client.ask(&malformed), Answer::error(status::INVALID), "{malformed:?}");
            client.assert_closed();
        }
    }

    #[test]
    fn another_version_is_told_at_once_a_change_when_it_comes_and_the_end_of_the_time() {
        let (server, mut probe) = start();
        let mut writer = Client::connect(&server);
        let set = Request::store(op::SET, "k", "1").extras(stored(9, 0));
        let cas = writer.ask(&set).cas;
        assert_eq!(writer.ask(&watch("k", 0, LONG_MS)), Answer::hit(9, "1", cas));
        assert_eq!(writer.ask(&watch("missing", 1, LONG_MS)), Answer::error(status::NOT_FOUND));
        assert_eq!(writer.ask(&watch("k", cas, 20)), Answer::done(0), "it is as it was");
        assert_eq!(writer.ask(&watch("k", cas, 0)), Answer::done(0));
        assert_eq!(waiting(&mut probe), 0);

        let mut client = waiter(&server, "k", cas);
        until_waiting(&mut probe, 1);
        let newer = writer.set("k", "2");
        assert_eq!(client.receive(WATCH, 7), Answer::hit(0, "2", newer));
        client.send(&watch("k", newer, LONG_MS).opaque(8).bytes());
        until_waiting(&mut probe, 1);
        writer.ask(&Request::of(op::DELETE, "k"));
        assert_eq!(client.receive(WATCH, 8), Answer::error(status::NOT_FOUND));
        client.send(&watch("k", 0, LONG_MS).opaque(9).bytes());
        until_waiting(&mut probe, 1);
        let large = vec![7; 500_000];
        let last = writer.set("k", &large);
        assert_eq!(client.receive(WATCH, 9), Answer::hit(0, &large, last));
        client.assert_in_step();
    }

    #[test]
    fn what_was_asked_before_is_answered_before_and_what_was_asked_behind_comes_behind() {
        let (server, mut probe) = start();
        let mut writer = Client::connect(&server);
        let cas = writer.set("k", "1");
        let mut client = Client::connect(&server);
        let behind =
            [Request::of(op::GET, "k").opaque(3).bytes(), watch("k", 0, LONG_MS).opaque(4).bytes()].concat();
        let requests =
            [Request::of(op::GET, "k").opaque(1).bytes(), watch("k", cas, LONG_MS).opaque(2).bytes(), behind]
                .concat();
        client.send(&requests);
        assert_eq!(client.receive(op::GET, 1), Answer::hit(0, "1", cas));
        until_waiting(&mut probe, 1);
        client.send(&Request::new(op::NOOP).opaque(5).bytes());
        let newer = writer.set("k", "2");
        let hit = Answer::hit(0, "2", newer);
        assert_eq!(client.receive(WATCH, 2), hit);
        assert_eq!(client.receive(op::GET, 3), hit);
        assert_eq!(client.receive(WATCH, 4), hit);
        assert_eq!(client.receive(op::NOOP, 5), Answer::done(0));
    }

    #[test]
    fn who_has_gone_is_forgotten_and_who_sends_no_more_is_answered() {
        let (server, mut probe) = start();
        let mut clients: Vec<_> = (0..100).map(|_| waiter(&server, "k", 0)).collect();
        until_waiting(&mut probe, 100);
        clients.truncate(30);
        until_waiting(&mut probe, 30);
        for client in &mut clients {
            client.finish_sending();
            assert_eq!(client.receive(WATCH, 7), Answer::done(0));
            client.assert_closed();
        }
        until_waiting(&mut probe, 0);
        assert_eq!(Client::connect(&server).set("k", "1"), 1);
    }

    #[test]
    fn many_are_told_over_and_over_while_others_write() {
        let (server, mut probe) = super::start(&["--watch", "-t", "2"]);
        let mut writer = Client::connect(&server);
        let mut known = writer.set("k", "0");
        let mut clients: Vec<_> = (0..200).map(|_| Client::connect(&server)).collect();
        for round in 1..20_u32 {
            for client in &mut clients {
                client.send(&watch("k", known, LONG_MS).opaque(round).bytes());
            }
            until_waiting(&mut probe, clients.len());
            let value = round.to_string();
            known = writer.set("k", &value);
            for client in &mut clients {
                assert_eq!(client.receive(WATCH, round), Answer::hit(0, &value, known));
            }
        }
        assert_eq!(waiting(&mut probe), 0);
    }

    #[test]
    fn at_the_end_everybody_is_answered_first() {
        let (server, mut probe) = start();
        let mut clients: Vec<_> = (0..50).map(|_| waiter(&server, "k", 0)).collect();
        until_waiting(&mut probe, 50);
        drop(probe);
        let stopping = thread::spawn(move || server.stop());
        for client in &mut clients {
            assert_eq!(client.receive(WATCH, 7), Answer::done(0));
            client.assert_closed();
        }
        assert!(stopping.join().unwrap().success());
    }
}

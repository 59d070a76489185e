//! Waiting over the text protocol: a flag of `mg`.

use std::net::Shutdown;
use std::thread;

use crate::client::Client;
use crate::harness::Server;
use crate::http::Http;
use crate::protocols::Lines;
use crate::watch::{until_waiting, waiting};

/// Longer than any test takes.
const LONG: &str = "U300000";

fn start() -> (Server, Http) {
    crate::http::start(&["--watch"])
}

/// A connection that waits.
fn waiter(server: &Server, key: &str, known: u64) -> Lines {
    let mut lines = Lines::connect(server);
    lines.send(&format!("mg {key} v c C{known} {LONG}"));
    lines
}

#[test]
fn it_is_no_flag_unless_it_is_allowed() {
    let (plain, _) = crate::http::start(&[]);
    let mut lines = Lines::connect(&plain);
    assert_eq!(lines.ask("mg k v U1"), "CLIENT_ERROR invalid flag");
    assert_eq!(lines.ask("mn"), "MN");
}

#[test]
fn another_version_is_told_at_once_a_change_when_it_comes_and_the_end_of_the_time() {
    let (server, mut probe) = start();
    let mut writer = Client::connect(&server);
    let cas = writer.set("k", "1");
    let mut lines = waiter(&server, "k", 0);
    assert_eq!((lines.line(), lines.data(1)), (format!("VA 1 c{cas}"), b"1".to_vec()));
    assert_eq!(lines.ask(format!("mg missing v C1 {LONG}")), "EN");
    assert_eq!(lines.ask(format!("mg k v c C{cas} U20")), format!("HD c{cas}"), "it is as it was");
    assert_eq!(lines.ask(format!("mg k v c C{cas} U0")), format!("HD c{cas}"));
    assert_eq!(lines.ask("mg missing v U20"), "EN");
    assert_eq!(waiting(&mut probe), 0);

    lines.send(&format!("mg k v c C{cas} {LONG}"));
    until_waiting(&mut probe, 1);
    let large = vec![7; 500_000];
    let newer = writer.set("k", &large);
    assert_eq!((lines.line(), lines.data(large.len())), (format!("VA 500000 c{newer}"), large));
    lines.send(&format!("mg k v C{newer} {LONG}"));
    until_waiting(&mut probe, 1);
    assert_eq!(Lines::connect(&server).ask("delete k"), "DELETED");
    assert_eq!(lines.line(), "EN");
    assert_eq!(waiting(&mut probe), 0);
    assert_eq!(lines.ask("mn"), "MN");
}

#[test]
fn what_was_asked_before_is_answered_before_and_what_was_asked_behind_comes_behind() {
    let (server, mut probe) = start();
    let mut writer = Client::connect(&server);
    let cas = writer.set("k", "1");
    let mut lines = Lines::connect(&server);
    lines.send(&format!("mg k c O1\r\nmg k c O2 C{cas} {LONG}\r\nmg k c O3\r\nmg k c O4 {LONG}"));
    assert_eq!(lines.line(), format!("HD c{cas} O1"));
    until_waiting(&mut probe, 1);
    lines.send("mn");
    let newer = writer.set("k", "2");
    for number in 2..=4 {
        assert_eq!(lines.line(), format!("HD c{newer} O{number}"));
    }
    assert_eq!(lines.line(), "MN");
}

#[test]
fn who_has_gone_is_forgotten_and_who_sends_no_more_is_answered() {
    let (server, mut probe) = start();
    let mut clients: Vec<_> = (0..100).map(|_| waiter(&server, "k", 0)).collect();
    until_waiting(&mut probe, 100);
    clients.truncate(30);
    until_waiting(&mut probe, 30);
    for client in &mut clients {
        client.writer.shutdown(Shutdown::Write).unwrap();
        assert_eq!((client.line(), client.line()), ("EN".into(), String::new()), "and that was the end");
    }
    until_waiting(&mut probe, 0);
}

#[test]
fn many_are_told_over_and_over_in_two_protocols() {
    let (server, mut probe) = crate::http::start(&["--watch", "-t", "2"]);
    let mut writer = Client::connect(&server);
    let mut known = writer.set("k", "0");
    let mut clients: Vec<_> = (0..100).map(|_| Lines::connect(&server)).collect();
    for round in 1..10_u32 {
        let mut others: Vec<_> = (0..20).map(|_| crate::watch::wait(&server, "k", known)).collect();
        for client in &mut clients {
            client.send(&format!("mg k v c C{known} {LONG}"));
        }
        until_waiting(&mut probe, clients.len() + others.len());
        let value = round.to_string();
        known = writer.set("k", &value);
        for client in &mut clients {
            assert_eq!((client.line(), client.data(1)), (format!("VA 1 c{known}"), value.clone().into()));
        }
        for other in &mut others {
            assert_eq!(crate::watch::answer(other).text(), value);
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
        assert_eq!((client.line(), client.line()), ("EN".into(), String::new()));
    }
    assert!(stopping.join().unwrap().success());
}

//! Snapshots, as an operator has them: files that outlive the server, whatever becomes of it.

mod full_disk;
mod slow_disk;

use std::fs;
use std::io::{BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use memwire::snapshot::Reader;
use memwire::snapshot::reader::Damage;
use nix::sys::signal::{Signal, kill};
use tempfile::TempDir;

use crate::client::{Answer, Client, Request, number, op, stored, wait_until};
use crate::harness::{Memcached, Random, Server, skip_or_fail};

/// Written by hand, as `docs/snapshot.md` has it: four items, one of which has expired, and a flush in 2099.
const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/snapshot-1");
/// As `sysexits.h` has it.
const EXIT_DATA: i32 = 65;

/// A folder with a snapshot in it, or with none yet.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self) -> PathBuf {
        self.path("snapshot")
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn start(&self, args: &[&str]) -> Server {
        let file = self.file();
        Server::start(&[&["--snapshot", file.to_str().unwrap()], args].concat())
    }

    /// A run that is not to get as far as serving: how it ended, and what it said.
    fn start_in_vain(&self, args: &[&str]) -> (Option<i32>, String) {
        let run = Command::new(env!("CARGO_BIN_EXE_memwire"))
            .args(["-l", "127.0.0.1", "-p", "-1", "--snapshot"])
            .arg(self.file())
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (run.status.code(), String::from_utf8(run.stderr).unwrap())
    }
}

/// An item as a client has stored it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    key: Vec<u8>,
    flags: u32,
    expiration: u32,
    value: Vec<u8>,
}

/// Items of all kinds: short and long ones, with bytes of all values, some that end and some that do not.
fn items(count: usize) -> Vec<Item> {
    const VALUE_LENS: [usize; 8] = [0, 1, 100, 700, 3000, 20_000, 300, 40];
    let mut random = Random::new(7);
    let item = |number: usize| Item {
        key: format!("key-{number}").into_bytes(),
        flags: random.next() as u32,
        expiration: if number.is_multiple_of(3) { 5000 + number as u32 } else { 0 },
        value: random.bytes(VALUE_LENS[number % VALUE_LENS.len()] / 8),
    };
    let mut items: Vec<_> = (0..count).map(item).collect();
    for (at, len) in [(3, 200_000), (10, 1 << 20), (11, 8_000)] {
        items[at].value = random.bytes(len / 8);
    }
    items[5].key = random.bytes(31);
    items
}

fn store(client: &mut Client, items: &[Item]) {
    for items in items.chunks(50) {
        let requests = items.iter().flat_map(|item| {
            let extras = stored(item.flags, item.expiration);
            Request::of(op::SETQ, &item.key).extras(extras).value(&item.value).bytes()
        });
        client.send(&requests.collect::<Vec<_>>());
        client.assert_in_step();
    }
}

#[track_caller]
fn assert_stored(client: &mut Client, items: &[Item]) {
    for item in items {
        let answer = client.ask(&Request::of(op::GET, &item.key));
        assert_eq!(answer, Answer::hit(item.flags, &item.value, answer.cas));
    }
}

/// Seconds until an item ends, by `mg`.
fn ttl(server: &Server, key: &str) -> i64 {
    let mut stream = server.connect();
    stream.write_all(format!("mg {key} t\r\n").as_bytes()).unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut BufReader::new(stream), &mut line).unwrap();
    line.trim_end().strip_prefix("HD t").unwrap_or_else(|| panic!("{line}")).parse().unwrap()
}

fn take_snapshot(server: &Server, client: &mut Client) {
    let before = client.stat("snapshot_count");
    kill(server.pid(), Signal::SIGUSR1).unwrap();
    wait_until("a snapshot is taken", || client.stat("snapshot_count") > before);
}

fn is_good(file: &Path) -> bool {
    read(&fs::read(file).unwrap()).1.is_none()
}

/// What is read of a file, and what is wrong with it.
fn read(bytes: &[u8]) -> (Vec<Item>, Option<Damage>) {
    let mut items = Vec::new();
    let mut reader = match Reader::open(bytes, bytes.len() as u64) {
        Ok(reader) => reader,
        Err(damage) => return (items, Some(damage)),
    };
    loop {
        match reader.next_items() {
            Ok(Some(sealed)) => items.extend(sealed.map(|item| Item {
                key: item.key.to_vec(),
                flags: item.flags,
                expiration: item.expiration.to_wire(),
                value: item.value.to_vec(),
            })),
            Ok(None) => return (items, None),
            Err(damage) => return (items, Some(damage)),
        }
    }
}

#[test]
fn a_restart_loses_nothing() {
    let (folder, items) = (Folder::new(), items(3000));
    let server = folder.start(&["-m", "64"]);
    let mut client = Client::connect(&server);
    store(&mut client, &items);
    let newest_cas = client.set("last", "1");
    assert_eq!(client.stat("snapshot_time"), 0);
    assert!(server.stop().success());

    assert_eq!(folder.names(), ["snapshot"]);
    assert_eq!(fs::metadata(folder.file()).unwrap().permissions().mode() & 0o777, 0o600);
    let server = folder.start(&["-m", "64"]);
    let mut client = Client::connect(&server);
    assert_stored(&mut client, &items);
    let stats = client.stats("");
    assert_eq!((number(&stats, "curr_items"), number(&stats, "snapshot_restored_items")), (3001, 3001));
    assert_eq!((number(&stats, "cmd_set"), number(&stats, "evictions")), (0, 0));
    assert_eq!((ttl(&server, "key-1"), stats["snapshot_state"].as_str()), (-1, "idle"));
    let left = ttl(&server, "key-900");
    assert!((5000..=5900).contains(&left), "{left}");
    let oldest_cas = client.ask(&Request::of(op::GET, "last")).cas;
    assert!(oldest_cas > newest_cas, "{oldest_cas} is told again, {newest_cas} was told");
}

#[test]
fn a_file_of_version_1_is_restored() {
    let folder = Folder::new();
    fs::copy(FIXTURE, folder.file()).unwrap();
    let server = folder.start(&[]);
    let mut client = Client::connect(&server);
    let mut hit = |key: &str| {
        let answer = client.ask(&Request::of(op::GET, key));
        assert!(answer.cas > 77, "a version that was told: {answer:?}");
        Answer { cas: 0, ..answer }
    };
    assert_eq!(hit("greeting"), Answer::hit(7, "hello, world", 0));
    assert_eq!(hit("ends"), Answer::hit(0xdead_beef, "in 2096", 0));
    assert_eq!(hit("empty\0key"), Answer::hit(0, "", 0));
    assert_eq!((client.get("past"), client.stat("curr_items")), (None, 3));
    assert_eq!(ttl(&server, "greeting"), -1);
}

#[test]
fn a_snapshot_is_taken_on_a_signal_and_the_server_goes_on() {
    let (folder, items) = (Folder::new(), items(100));
    let server = folder.start(&[]);
    let mut client = Client::connect(&server);
    store(&mut client, &items);
    take_snapshot(&server, &mut client);
    assert_stored(&mut client, &items);
    client.set("later", "1");
    let stats = client.stats("");
    let figures = ["items", "errors", "count"].map(|name| number(&stats, &format!("snapshot_{name}")));
    assert_eq!(figures, [100, 0, 1]);
    let bytes = fs::metadata(folder.file()).unwrap().len();
    assert_eq!(number(&stats, "snapshot_bytes"), bytes);
    // Nobody is asked to write a last one.
    kill(server.pid(), Signal::SIGKILL).unwrap();
    drop(server);

    let server = folder.start(&[]);
    let mut client = Client::connect(&server);
    assert_stored(&mut client, &items);
    assert_eq!(client.get("later"), None, "it came behind the snapshot");
}

#[test]
fn snapshots_are_taken_every_so_often() {
    let folder = Folder::new();
    let server = folder.start(&["--snapshot-every", "1s"]);
    let mut client = Client::connect(&server);
    client.set("k", "1");
    wait_until("two snapshots are taken", || client.stat("snapshot_count") >= 2);
    assert!(is_good(&folder.file()));
}

#[test]
fn without_a_snapshot_file_the_signal_ends_the_server() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server);
    assert_eq!(client.stats("")["snapshot_state"], "off");
    kill(server.pid(), Signal::SIGUSR1).unwrap();
    client.assert_closed();
}

#[test]
fn a_server_that_is_killed_while_it_writes_leaves_a_file_that_restores() {
    let (folder, items) = (Folder::new(), items(20_000));
    let server = folder.start(&["-m", "64"]);
    store(&mut Client::connect(&server), &items);
    assert!(server.stop().success());
    let mut random = Random::new(11);
    let mut unfinished = 0;
    // A few kills that meet it while it writes are enough.
    for _ in 0..40 {
        if unfinished == 4 {
            break;
        }
        let server = folder.start(&["-m", "64"]);
        let mut client = Client::connect(&server);
        assert_eq!(client.stat("snapshot_restored_items"), 20_000);
        kill(server.pid(), Signal::SIGUSR1).unwrap();
        thread::sleep(Duration::from_millis(random.below(60) as u64));
        kill(server.pid(), Signal::SIGKILL).unwrap();
        drop(server);
        assert!(is_good(&folder.file()));
        unfinished += usize::from(folder.path("snapshot.tmp").exists());
    }
    assert!(unfinished > 0, "none was met while it wrote");
    let server = folder.start(&["-m", "64"]);
    assert_eq!(folder.names(), ["snapshot"], "what was not finished is gone");
    assert_stored(&mut Client::connect(&server), &items);
}

#[test]
fn a_server_answers_while_it_writes() {
    let folder = Folder::new();
    let server = folder.start(&["-m", "100", "-t", "1"]);
    let mut client = Client::connect(&server);
    let items: Vec<_> = (0..40)
        .map(|number| Item {
            key: format!("k{number}").into(),
            flags: 1,
            expiration: 0,
            value: vec![b'x'; 1 << 20],
        })
        .collect();
    store(&mut client, &items);
    kill(server.pid(), Signal::SIGUSR1).unwrap();
    let mut answered = 0;
    wait_until("it is written", || {
        let hit = client.ask(&Request::of(op::GET, "k7"));
        assert_eq!(hit, Answer::hit(1, &items[7].value, hit.cas));
        client.set("k8", "changed");
        let stats = client.stats("");
        answered += usize::from(stats["snapshot_state"] == "writing");
        number(&stats, "snapshot_count") == 1
    });
    assert!(answered > 0, "nothing was asked while it wrote");
    assert!(is_good(&folder.file()));
}

#[test]
fn a_file_that_may_not_grow_is_told_and_written_again_the_next_time() {
    let (folder, items) = (Folder::new(), items(3000));
    let server = folder.start(&["-v"]);
    let mut client = Client::connect(&server);
    store(&mut client, &items[..50]);
    take_snapshot(&server, &mut client);
    let good = fs::read(folder.file()).unwrap();
    store(&mut client, &items);

    let limit = |bytes: &str| {
        let pid = server.pid().to_string();
        Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:unlimited")]).status()
    };
    if limit("65536").is_err() {
        return skip_or_fail("prlimit");
    }
    kill(server.pid(), Signal::SIGUSR1).unwrap();
    wait_until("it fails", || client.stat("snapshot_errors") == 1);
    assert_eq!(client.stats("")["snapshot_state"], "failed");
    assert!(server.log().contains("no snapshot: "), "{}", server.log());
    assert_eq!(fs::read(folder.file()).unwrap(), good, "the one before stays");
    assert_eq!(folder.names(), ["snapshot"], "what was not finished takes no room");
    assert_stored(&mut client, &items);

    assert!(limit("unlimited").unwrap().success());
    take_snapshot(&server, &mut client);
    assert_eq!(client.stat("snapshot_items"), 3000);
    assert!(is_good(&folder.file()));
}

#[test]
fn a_folder_that_is_gone_is_told_and_the_server_serves() {
    let folder = Folder::new();
    let file = folder.path("gone/snapshot");
    let server = Server::start(&["--snapshot", file.to_str().unwrap()]);
    let mut client = Client::connect(&server);
    client.set("k", "1");
    kill(server.pid(), Signal::SIGUSR1).unwrap();
    wait_until("it fails", || client.stat("snapshot_errors") == 1);
    fs::create_dir(folder.path("gone")).unwrap();
    take_snapshot(&server, &mut client);
    assert!(is_good(&file));
}

/// A damaged file, and a good one to compare it with.
fn damaged(folder: &Folder, items: &[Item]) -> Vec<u8> {
    let server = folder.start(&[]);
    store(&mut Client::connect(&server), items);
    assert!(server.stop().success());
    let mut bytes = fs::read(folder.file()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(folder.file(), &bytes).unwrap();
    bytes
}

#[test]
fn a_damaged_file_is_refused_with_what_is_wrong_and_where() {
    let folder = Folder::new();
    let bytes = damaged(&folder, &items(300));
    let (code, said) = folder.start_in_vain(&[]);
    assert_eq!(code, Some(EXIT_DATA), "{said}");
    assert!(said.contains("byte") && said.contains("--snapshot-on-damage skip"), "{said}");

    fs::write(folder.file(), b"#!/bin/sh\nexit 1\n").unwrap();
    let (code, said) = folder.start_in_vain(&["--snapshot-on-damage", "refuse"]);
    assert_eq!(code, Some(EXIT_DATA));
    assert!(said.contains("byte 0: this is no snapshot"), "{said}");

    fs::write(folder.file(), &bytes[..bytes.len() / 3]).unwrap();
    let (code, said) = folder.start_in_vain(&[]);
    assert_eq!(code, Some(EXIT_DATA));
    assert!(said.contains("bytes or more are missing"), "{said}");
    assert_eq!(folder.names(), ["snapshot"]);
}

#[test]
fn a_damaged_file_is_skipped_and_kept_beside_the_next_one() {
    let folder = Folder::new();
    let bytes = damaged(&folder, &items(300));
    let server = folder.start(&["--snapshot-on-damage", "skip"]);
    let mut client = Client::connect(&server);
    assert_eq!((client.stat("curr_items"), folder.names().len()), (0, 1));
    client.set("k", "1");
    assert!(server.stop().success());
    assert_eq!(folder.names(), ["snapshot", "snapshot.damaged"]);
    assert_eq!(fs::read(folder.path("snapshot.damaged")).unwrap(), bytes);
    let server = folder.start(&[]);
    assert_eq!(Client::connect(&server).get("k").as_deref(), Some(&b"1"[..]));
    assert!(server.stop().success());
    assert_eq!(fs::read(folder.path("snapshot.damaged")).unwrap(), bytes, "it stays");
}

#[test]
fn what_stands_before_the_damage_is_salvaged() {
    let (folder, items) = (Folder::new(), items(3000));
    let bytes = damaged(&folder, &items);
    let (good, damage) = read(&bytes);
    assert!(damage.is_some() && !good.is_empty() && good.len() < 3000, "{} items", good.len());
    let server = folder.start(&["--snapshot-on-damage", "salvage"]);
    let mut client = Client::connect(&server);
    assert_eq!(client.stat("curr_items"), good.len() as u64);
    let is_good = |item: &&Item| good.iter().any(|good| good.key == item.key);
    assert_stored(&mut client, &items.iter().filter(is_good).cloned().collect::<Vec<_>>());
}

/// The bytes of a snapshot of some items, many enough for several seals.
fn snapshot_of(items: &[Item]) -> Vec<u8> {
    let folder = Folder::new();
    let server = folder.start(&["-m", "64"]);
    store(&mut Client::connect(&server), items);
    assert!(server.stop().success());
    fs::read(folder.file()).unwrap()
}

#[test]
fn whatever_is_wrong_with_a_file_nothing_wrong_is_read_of_it() {
    let mut items = items(2000);
    items[10].value.truncate(400_000);
    let bytes = snapshot_of(&items);
    let (whole, damage) = read(&bytes);
    assert_eq!((whole.len(), damage), (2000, None));
    let check = |bytes: &[u8], what: &str| {
        let (good, damage) = read(bytes);
        assert!(whole.starts_with(&good), "{what}: something else was read");
        let damage = damage.unwrap_or_else(|| panic!("{what} is not noticed"));
        assert!(
            damage.good_bytes <= damage.offset && damage.offset <= bytes.len() as u64,
            "{what}: {damage}"
        );
        good.len()
    };
    let mut random = Random::new(3);
    let mut read_counts = Vec::new();
    let ends = (0..200).chain(bytes.len() - 100..bytes.len());
    for at in (0..bytes.len()).step_by(1000).chain(ends.clone()) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << random.below(8);
        read_counts.push(check(&flipped, &format!("a bit of byte {at}")));
    }
    for len in (0..bytes.len()).step_by(2477).chain(ends) {
        read_counts.push(check(&bytes[..len], &format!("an end after {len} bytes")));
    }
    assert!(read_counts.iter().any(|count| (500..1900).contains(count)), "there are several seals");
    check(&[&bytes[..], b"x"].concat(), "a byte more");
    check(&[&bytes[..], &bytes].concat(), "the same twice");
}

#[test]
fn a_flush_that_is_to_come_still_comes() {
    let folder = Folder::new();
    let server = folder.start(&[]);
    let mut client = Client::connect(&server);
    client.set("k", "1");
    let now = client.stat("time") as u32;
    let far = now + 5000;
    assert_eq!(client.ask(&Request::touch(op::FLUSH, "", far)), Answer::done(0));
    assert!(server.stop().success());
    let pending = || {
        let bytes = fs::read(folder.file()).unwrap();
        Reader::open(&bytes[..], bytes.len() as u64).unwrap().pending_flush()
    };
    assert_eq!(pending(), Some(far));

    let server = folder.start(&[]);
    let mut client = Client::connect(&server);
    assert_eq!(client.get("k").as_deref(), Some(&b"1"[..]), "it has not come");
    assert_eq!(client.ask(&Request::touch(op::FLUSH, "", 2)), Answer::done(0));
    client.set("k", "2");
    assert!(server.stop().success());
    assert!(pending().is_some_and(|at| at < far), "the later one has replaced it");
    thread::sleep(Duration::from_secs(3));
    let server = folder.start(&[]);
    let mut client = Client::connect(&server);
    assert_eq!(client.get("k"), None, "its time came while nobody served");
    client.set("k", "3");
    assert_eq!(client.get("k").as_deref(), Some(&b"3"[..]));
}

#[test]
fn what_is_gone_for_clients_is_not_written() {
    let folder = Folder::new();
    let server = folder.start(&[]);
    let mut client = Client::connect(&server);
    client.set("flushed", "1");
    client.ask(&Request::new(op::FLUSH));
    for (key, expiration) in [("expired", 1), ("stays", 0), ("past", 40 * 24 * 3600)] {
        client.ask(&Request::of(op::SET, key).extras(stored(0, expiration)).value("1"));
    }
    for key in ["deleted", "stale"] {
        client.set(key, "1");
    }
    client.ask(&Request::of(op::DELETE, "deleted"));
    let mut text = server.connect();
    text.write_all(b"md stale I\r\n").unwrap();
    let mut answer = [0; 4];
    text.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HD\r\n");
    wait_until("it has expired", || client.get("expired").is_none());
    drop(text);
    assert!(server.stop().success());
    let (items, damage) = read(&fs::read(folder.file()).unwrap());
    assert_eq!(damage, None);
    assert_eq!(items.iter().map(|item| &item.key[..]).collect::<Vec<_>>(), [b"stays"]);
}

#[test]
fn what_does_not_fit_is_evicted() {
    let (folder, items) = (Folder::new(), items(20_000));
    let server = folder.start(&["-m", "64"]);
    store(&mut Client::connect(&server), &items);
    assert!(server.stop().success());
    let server = folder.start(&["-m", "4", "-I", "512k"]);
    let mut client = Client::connect(&server);
    let stats = client.stats("");
    assert!(number(&stats, "evictions") > 0 && number(&stats, "curr_items") > 1000, "{stats:?}");
    assert!(number(&stats, "bytes") < 4 << 20);
}

#[test]
fn the_file_fills_a_memcached() {
    let (folder, mut items) = (Folder::new(), items(3000));
    items[10].value.truncate(100_000);
    let server = folder.start(&["-m", "64"]);
    let mut client = Client::connect(&server);
    store(&mut client, &items);
    let later = client.stat("time") as u32 + 5000;
    assert_eq!(client.ask(&Request::touch(op::FLUSH, "", later)), Answer::done(0));
    assert!(server.stop().success());
    let Some(memcached) = Memcached::start(&["-m", "64"]) else { return skip_or_fail("memcached") };
    let file = fs::read(folder.file()).unwrap();
    let mut stream = memcached.connect();
    let mut reader = stream.try_clone().unwrap();
    let answers = thread::scope(|scope| {
        let answers = scope.spawn(move || {
            let mut answers = Vec::new();
            reader.read_to_end(&mut answers).map(|_| answers)
        });
        stream.write_all(&file).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        answers.join().unwrap().unwrap()
    });
    // Only the marks are answered, and nothing is an error.
    for answer in answers.chunks(24) {
        assert_eq!(answer[..8], [0x81, 0x0a, 0, 0, 0, 0, 0, 0]);
    }
    let mut client = Client::connect(&memcached);
    assert_stored(&mut client, &items);
    assert_eq!(client.stat("curr_items"), 3000);
    let left = ttl(&memcached, "key-900");
    assert!((5000..=5900).contains(&left), "{left}");
}

//! `examples/client.rs` as a program: what it prints for people, what it prints as JSON, and its exit codes, against
//! memwire and against memcached.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;

use serde_json::{Value, json};

use crate::harness::{Memcached, Random, Server, skip_or_fail};

/// What one run of the client said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

/// The example, built beside this test.
pub(crate) fn program() -> Option<PathBuf> {
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test.parent()?.parent()?;
    let program = profile.join("examples/client");
    program.exists().then_some(program)
}

/// Runs the client with `stdin` for its input.
pub(crate) fn run(address: &str, args: &[&str], stdin: &[u8]) -> Run {
    let program = program().expect("the example client is built");
    let mut child = Command::new(program)
        .args(["--server", address, "--timeout", "10"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the example client starts");
    let mut input = child.stdin.take().expect("its input is a pipe");
    let stdin = stdin.to_vec();
    let writer = thread::spawn(move || drop(input.write_all(&stdin)));
    let Output { status, stdout, stderr } = child.wait_with_output().expect("the example client ends");
    writer.join().expect("its input is written");
    Run {
        code: status.code().expect("it ends by itself"),
        out: stdout,
        err: String::from_utf8(stderr).expect("its errors are text"),
    }
}

/// memwire, and memcached where it is installed. None where the example is not built, as with `cargo test --test it`.
fn servers() -> Vec<Server> {
    if program().is_none() {
        skip_or_fail("the example client");
        return Vec::new();
    }
    let memcached = Memcached::start(&[]);
    if memcached.is_none() {
        skip_or_fail("memcached");
    }
    [Server::start(&[])].into_iter().chain(memcached).collect()
}

/// Runs the client for each of `steps`, which are: words of a command, exit code, stdout, stderr. A word `CAS` stands
/// for the CAS of the item `k`.
fn assert_talk(server: &Server, steps: &[(&str, i32, &str, &str)]) {
    let address = server.addr().to_string();
    for (words, code, out, err) in steps {
        let cas = words.contains("CAS").then(|| cas_of(&address, "k").to_string());
        let args: Vec<&str> = words
            .split(' ')
            .map(|word| match (word, &cas) {
                ("CAS", Some(cas)) => cas,
                _ => word,
            })
            .collect();
        let expected = Run { code: *code, out: out.as_bytes().to_vec(), err: (*err).to_owned() };
        let mut ran = run(&address, &args, b"");
        if let Some(at) = find(&ran.out, b", CAS ") {
            ran.out.splice(at.., *b"\n");
        }
        assert_eq!(ran, expected, "client {words}");
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

fn cas_of(address: &str, key: &str) -> u64 {
    let run = run(address, &["--json", "get", key], b"");
    let answer: Value = serde_json::from_slice(&run.out).expect("JSON");
    answer["cas"].as_u64().expect("a hit has a CAS")
}

#[test]
fn every_command_speaks_to_people() {
    for server in servers() {
        assert_talk(
            &server,
            &[
                ("noop", 0, "done\n", ""),
                ("set k one --flags 7 --ttl 100", 0, "stored\n", ""),
                ("get k", 0, "one", ""),
                ("get k missing", 1, "k: one\n", "client: missing: Not found\n"),
                ("get missing", 1, "", "client: missing: Not found\n"),
                ("add k x", 1, "", "client: k: Data exists for key.\n"),
                ("add new x", 0, "stored\n", ""),
                ("replace k two", 0, "stored\n", ""),
                ("replace missing x", 1, "", "client: missing: Not found\n"),
                ("append k -3", 0, "stored\n", ""),
                ("prepend k 1-", 0, "stored\n", ""),
                ("get k new", 0, "k: 1-two-3\nnew: x\n", ""),
                ("append missing x", 1, "", "client: missing: Not stored.\n"),
                ("prepend missing x", 1, "", "client: missing: Not stored.\n"),
                ("cas k CAS three", 0, "stored\n", ""),
                ("cas k 18446744073709551615 x", 1, "", "client: k: Data exists for key.\n"),
                ("cas missing 1 x", 1, "", "client: missing: Not found\n"),
                ("set k four --cas CAS", 0, "stored\n", ""),
                ("touch k 100", 0, "done\n", ""),
                ("touch missing 100", 1, "", "client: missing: Not found\n"),
                ("gat 100 k", 0, "four", ""),
                ("gat 0 missing new k", 1, "new: x\nk: four\n", "client: missing: Not found\n"),
                ("incr n", 1, "", "client: n: Not found\n"),
                ("incr n --initial 10 --ttl 100", 0, "10\n", ""),
                ("incr n --by 5", 0, "15\n", ""),
                ("decr n", 0, "14\n", ""),
                ("decr n --by 20", 0, "0\n", ""),
                ("incr k", 4, "", "client: k: Non-numeric server-side value for incr or decr\n"),
                ("delete k --cas 18446744073709551615", 1, "", "client: k: Data exists for key.\n"),
                ("delete k --cas CAS", 0, "done\n", ""),
                ("delete k", 1, "", "client: k: Not found\n"),
                ("stats reset", 0, "", ""),
                ("stats nonsense", 1, "", "client: nonsense: Not found\n"),
                ("flush --delay 1000", 0, "done\n", ""),
                ("get new", 0, "x", ""),
                ("flush", 0, "done\n", ""),
                ("get new", 1, "", "client: new: Not found\n"),
            ],
        );
    }
}

#[test]
fn every_command_speaks_json() {
    for server in servers() {
        let address = server.addr().to_string();
        let refused = |key: &str, status: &str| json!({"key": key, "ok": false, "status": status});
        let done = |key: &str| json!({"key": key, "ok": true, "status": "OK"});
        let hit = |key: &str, value: &str, flags: u32| json!({"key": key, "ok": true, "status": "OK", "value": value, "flags": flags});
        let number = |number: u64| json!({"key": "n", "ok": true, "status": "OK", "number": number});
        let bare = json!({"ok": true, "status": "OK"});
        for (words, code, expected) in [
            ("noop", 0, bare.clone()),
            ("set k one --flags 7", 0, done("k")),
            ("add k x", 1, refused("k", "Data exists for key.")),
            ("replace missing x", 1, refused("missing", "Not found")),
            ("append k 2", 0, done("k")),
            ("prepend missing x", 1, refused("missing", "Not stored.")),
            ("get k", 0, hit("k", "one2", 7)),
            ("get missing", 1, refused("missing", "Not found")),
            ("get k missing", 1, json!([hit("k", "one2", 7), refused("missing", "Not found")])),
            ("gat 100 k", 0, hit("k", "one2", 7)),
            ("gat 100 missing k", 1, json!([refused("missing", "Not found"), hit("k", "one2", 7)])),
            ("cas k 18446744073709551615 x", 1, refused("k", "Data exists for key.")),
            ("touch k 100", 0, done("k")),
            ("incr n --initial 18446744073709551615", 0, number(u64::MAX)),
            ("incr n", 0, number(0)),
            ("decr n", 0, number(0)),
            ("incr k", 4, refused("k", "Non-numeric server-side value for incr or decr")),
            ("delete k", 0, done("k")),
            ("delete k", 1, refused("k", "Not found")),
            ("stats nonsense", 1, refused("nonsense", "Not found")),
            ("flush", 0, bare),
        ] {
            let args: Vec<&str> = ["--json"].into_iter().chain(words.split(' ')).collect();
            let run = run(&address, &args, b"");
            assert_eq!((run.code, run.err.as_str()), (code, ""), "client --json {words}");
            let mut answer: Value = serde_json::from_slice(&run.out).expect("JSON");
            take_cas(&mut answer);
            assert_eq!(answer, expected, "client --json {words}");
        }
    }
}

/// Removes the CAS of every item: each server counts on its own.
fn take_cas(answer: &mut Value) {
    match answer {
        Value::Array(answers) => answers.iter_mut().for_each(take_cas),
        Value::Object(fields) => {
            if let Some(cas) = fields.remove("cas") {
                assert!(cas.as_u64().is_some_and(|cas| cas > 0), "{cas}");
            }
        }
        _ => panic!("neither an object nor an array: {answer}"),
    }
}

#[test]
fn statistics_and_version_are_printed() {
    for server in servers() {
        let address = server.addr().to_string();
        let version = run(&address, &["version"], b"");
        let version = String::from_utf8(version.out).expect("a version is text");
        let answer = run(&address, &["--json", "version"], b"");
        let answer: Value = serde_json::from_slice(&answer.out).expect("JSON");
        assert_eq!(answer, json!({"ok": true, "status": "OK", "version": version.trim_end()}));

        let lines = run(&address, &["stats"], b"");
        let pid = format!("pid {}\n", server.pid());
        assert!(find(&lines.out, pid.as_bytes()).is_some(), "{}", lines.out.escape_ascii());
        let answer = run(&address, &["--json", "stats"], b"");
        let answer: Value = serde_json::from_slice(&answer.out).expect("JSON");
        assert_eq!(answer["statistics"]["pid"], json!(server.pid().to_string()));

        let settings = run(&address, &["stats", "settings"], b"");
        assert!(find(&settings.out, b"maxconns ").is_some(), "{}", settings.out.escape_ascii());
    }
}

#[test]
fn a_value_goes_through_byte_for_byte_from_stdin_and_from_a_file() {
    let value = Random::new(1).bytes(300_000);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("value");
    fs::write(&path, &value).expect("a file is written");
    let path = path.to_str().expect("its path is text");
    for server in servers() {
        let address = server.addr().to_string();
        assert_eq!(run(&address, &["set", "in", "-"], &value).code, 0);
        assert_eq!(run(&address, &["set", "file", "--file", path], b"").code, 0);
        for key in ["in", "file"] {
            let read = run(&address, &["get", key], b"");
            assert!(read.code == 0 && read.out == value, "{key} came back changed: {}", read.err);
        }
        assert_eq!(run(&address, &["set", "raw", "-"], b"\xff\n").code, 0);
        let lines = run(&address, &["get", "raw", "raw"], b"");
        assert_eq!(lines.out, b"raw: \\xff\\n\nraw: \\xff\\n\n");
        let answer: Value =
            serde_json::from_slice(&run(&address, &["--json", "get", "raw"], b"").out).expect("JSON");
        assert_eq!((&answer["value_hex"], &answer["value"]), (&json!("ff0a"), &Value::Null));
    }
}

#[test]
fn many_keys_are_answered_in_their_order() {
    let keys: Vec<String> = (0..250).map(|number| format!("key{number}")).collect();
    for server in servers() {
        let address = server.addr().to_string();
        let mut expected = String::new();
        for key in keys.iter().step_by(33) {
            assert_eq!(run(&address, &["set", key, key], b"").code, 0);
            expected.extend([key, ": ", key, "\n"]);
        }
        let args: Vec<&str> = ["get"].into_iter().chain(keys.iter().map(String::as_str)).collect();
        let read = run(&address, &args, b"");
        assert_eq!((read.code, String::from_utf8(read.out).expect("text")), (1, expected));
        assert_eq!(read.err.lines().count(), 250 - 8);
    }
}

#[test]
fn wrong_usage_is_told_without_a_server() {
    if program().is_none() {
        return skip_or_fail("the example client");
    }
    let long = "k".repeat(251);
    for (args, says) in [
        (&["get", &long][..], "key too long: 251 bytes, limit is 250"),
        (&["get", ""], "key is empty"),
        (&["get"], "required"),
        (&["set", "k"], "required"),
        (&["set", "k", "v", "--file", "f"], "cannot be used with"),
        (&["set", "k", "--file", "/nonexistent"], "cannot read /nonexistent"),
        (&["cas", "k", "0", "v"], "0 is not in 1.."),
        (&["incr", "n", "--ttl", "5"], "--initial"),
        (&["nonsense"], "unrecognized"),
    ] {
        let run = run("127.0.0.1:1", args, b"");
        assert_eq!(run.code, 2, "client {args:?}: {}", run.err);
        assert!(run.err.contains(says), "client {args:?}: {}", run.err);
    }
}

#[test]
fn no_server_and_no_sense_have_codes_of_their_own() {
    if program().is_none() {
        return skip_or_fail("the example client");
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound address").to_string();
    let server = thread::spawn(move || {
        let (mut full, _) = listener.accept().expect("a connection");
        full.write_all(b"ERROR Too many open connections\r\n").expect("an answer is written");
    });
    let nonsense = run(&address, &["noop"], b"");
    server.join().expect("the server ends");
    assert_eq!(nonsense.code, 4);
    assert!(nonsense.err.contains("ERROR Too many open connections"), "{}", nonsense.err);

    let nobody = run("127.0.0.1:1", &["noop"], b"");
    assert_eq!(nobody.code, 3);
    assert!(nobody.err.starts_with("client: no server at 127.0.0.1:1: "), "{}", nobody.err);
}

#[test]
fn a_snapshot_is_inspected_up_to_its_end_or_its_damage() {
    if program().is_none() {
        return skip_or_fail("the example client");
    }
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/snapshot-1");
    let inspected = run("127.0.0.1:1", &["inspect", fixture, "--keys"], b"");
    let told = String::from_utf8(inspected.out).expect("text");
    assert_eq!(inspected.code, 0, "{told}");
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines[..2], ["7 0 12 greeting", "3735928559 4000000000 7 ends"]);
    assert_eq!(lines[3..5], ["0 0 0 empty\\x00key", "state          good"]);

    let directory = tempfile::TempDir::new().expect("a folder");
    let torn = directory.path().join("torn");
    let bytes = std::fs::read(fixture).expect("the fixture is there");
    std::fs::write(&torn, &bytes[..bytes.len() - 30]).expect("a file is written");
    let inspected = run("127.0.0.1:1", &["inspect", torn.to_str().expect("text"), "--json"], b"");
    let told: Value = serde_json::from_slice(&inspected.out).expect("JSON");
    assert_eq!(
        (inspected.code, &told["items"], &told["pending_flush"]),
        (1, &json!(2), &json!(4_100_000_000_u32))
    );
    assert!(told["state"].as_str().is_some_and(|state| state.starts_with("damaged: byte ")), "{told}");
    assert!(told["good_bytes"].as_u64() < Some(bytes.len() as u64 - 30));
}

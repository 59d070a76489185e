//! `examples/client` as a program: what it prints for people, what it prints as JSON, and its exit codes, in all of its
//! protocols, against memwire, memcached and Redis.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::rc::Rc;
use std::thread;

use serde_json::{Value, json};

use crate::harness::{Memcached, Random, Redis, Server, skip_or_fail};

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

/// A server, and a protocol that it is asked in.
struct Talk {
    server: Rc<Server>,
    protocol: &'static str,
}

/// Every protocol on memwire, and on memcached and Redis those that they speak, where they are installed. None where the
/// example is not built, as with `cargo test --test it`.
fn talks() -> Vec<Talk> {
    if program().is_none() {
        skip_or_fail("the example client");
        return Vec::new();
    }
    let servers: [(&str, Option<Server>, &[&str]); 3] = [
        ("memwire", Some(Server::start(&[])), &["binary", "text", "meta", "resp"]),
        ("memcached", Memcached::start(&[]), &["binary", "text", "meta"]),
        ("redis-server", Redis::start(&[]), &["resp"]),
    ];
    let mut talks = Vec::new();
    for (name, server, protocols) in servers {
        let Some(server) = server.map(Rc::new) else {
            skip_or_fail(name);
            continue;
        };
        talks.extend(protocols.iter().map(|protocol| Talk { server: Rc::clone(&server), protocol }));
    }
    talks
}

/// The words of a command, exit code, stdout, stderr.
type Step<'a> = (&'a str, i32, &'a str, &'a str);

impl Talk {
    fn run(&self, args: &[&str], stdin: &[u8]) -> Run {
        let args: Vec<&str> = ["--protocol", self.protocol].iter().chain(args).copied().collect();
        run(&self.server.addr().to_string(), &args, stdin)
    }

    fn json(&self, args: &[&str]) -> Value {
        let args: Vec<&str> = ["--json"].iter().chain(args).copied().collect();
        serde_json::from_slice(&self.run(&args, b"").out).expect("JSON")
    }

    /// What the server tells of an item's end, -1 for never. The client has no words for it.
    fn seconds_left(&self, key: &str) -> i64 {
        let request = match self.protocol {
            "resp" => format!("*2\r\n$3\r\nTTL\r\n${}\r\n{key}\r\n", key.len()),
            _ => format!("mg {key} t\r\n"),
        };
        let mut stream = self.server.connect();
        stream.write_all(request.as_bytes()).expect("the server reads");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("an answer");
        let left = line.trim_start_matches("HD t").trim_start_matches(':').trim_end();
        left.parse().unwrap_or_else(|_| panic!("no time is left: {line}"))
    }

    /// A word `CAS` stands for the CAS of the item `k`.
    fn assert(&self, steps: &[Step<'_>]) {
        for (words, code, out, err) in steps {
            let cas = words.contains("CAS").then(|| self.json(&["get", "k"])["cas"].to_string());
            let args: Vec<&str> = words
                .split(' ')
                .map(|word| match (word, &cas) {
                    ("CAS", Some(cas)) => cas,
                    _ => word,
                })
                .collect();
            let expected = Run { code: *code, out: out.as_bytes().to_vec(), err: (*err).to_owned() };
            let mut ran = self.run(&args, b"");
            if let Some(at) = find(&ran.out, b", CAS ") {
                ran.out.splice(at.., *b"\n");
            }
            assert_eq!(ran, expected, "client --protocol {} {words}", self.protocol);
        }
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// What all protocols say alike.
const SHARED: &[Step<'_>] = &[
    ("flush", 0, "done\n", ""),
    ("set k one --ttl 100", 0, "stored\n", ""),
    ("get k", 0, "one", ""),
    ("get missing", 1, "", "client: missing: Not found\n"),
    ("get k missing", 1, "k: one\n", "client: missing: Not found\n"),
    ("add new x", 0, "stored\n", ""),
    ("replace k two", 0, "stored\n", ""),
    ("append k -3", 0, "stored\n", ""),
    ("get k new", 0, "k: two-3\nnew: x\n", ""),
    ("touch k 100", 0, "done\n", ""),
    ("touch k 0", 0, "done\n", ""),
    ("touch k 0", 0, "done\n", ""),
    ("touch k 2000000000", 0, "done\n", ""),
    ("touch missing 100", 1, "", "client: missing: Not found\n"),
    ("touch missing 0", 1, "", "client: missing: Not found\n"),
    ("gat 100 k", 0, "two-3", ""),
    ("gat 2000000000 k", 0, "two-3", ""),
    ("gat 0 missing new k", 1, "new: x\nk: two-3\n", "client: missing: Not found\n"),
    // A time that has passed.
    ("set past x --ttl 2592001", 0, "stored\n", ""),
    ("get past", 1, "", "client: past: Not found\n"),
    ("set past x", 0, "stored\n", ""),
    ("gat 2592001 past", 0, "x", ""),
    ("get past", 1, "", "client: past: Not found\n"),
    ("set past x", 0, "stored\n", ""),
    ("touch past 2592001", 0, "done\n", ""),
    ("get past", 1, "", "client: past: Not found\n"),
    ("set n 10 --ttl 2000000000", 0, "stored\n", ""),
    ("incr n --by 5", 0, "15\n", ""),
    ("decr n", 0, "14\n", ""),
    ("delete k", 0, "done\n", ""),
    ("delete k", 1, "", "client: k: Not found\n"),
    ("stats reset", 0, "", ""),
    ("get new", 0, "x", ""),
    ("flush", 0, "done\n", ""),
    ("get new", 1, "", "client: new: Not found\n"),
    ("set k one", 0, "stored\n", ""),
];

/// What memcached's protocols say alike.
const MEMCACHED: &[Step<'_>] = &[
    ("prepend k 1-", 0, "stored\n", ""),
    ("append missing x", 1, "", "client: missing: Not stored.\n"),
    ("prepend missing x", 1, "", "client: missing: Not stored.\n"),
    ("cas k CAS two --flags 7", 0, "stored\n", ""),
    ("set k three --cas CAS", 0, "stored\n", ""),
    ("cas k 18446744073709551615 x", 1, "", "client: k: Data exists for key.\n"),
    ("cas missing 1 x", 1, "", "client: missing: Not found\n"),
    ("incr missing", 1, "", "client: missing: Not found\n"),
    ("set n 4 --flags 4294967295", 0, "stored\n", ""),
    ("decr n --by 20", 0, "0\n", ""),
    ("incr n --by 18446744073709551615", 0, "18446744073709551615\n", ""),
    ("incr n", 0, "0\n", ""),
    ("flush --delay 1000", 0, "done\n", ""),
    ("get k", 0, "three", ""),
];

const BINARY: &[Step<'_>] = &[
    ("noop", 0, "done\n", ""),
    ("add k x", 1, "", "client: k: Data exists for key.\n"),
    ("replace missing x", 1, "", "client: missing: Not found\n"),
    ("incr count --initial 10 --ttl 100", 0, "10\n", ""),
    ("incr count --initial 10", 0, "11\n", ""),
    ("incr k", 4, "", "client: k: Non-numeric server-side value for incr or decr\n"),
    ("set a\tb x", 0, "stored\n", ""),
    ("get a\tb", 0, "x", ""),
    ("append k x --cas 18446744073709551615", 1, "", "client: k: Data exists for key.\n"),
    ("delete k --cas 18446744073709551615", 1, "", "client: k: Data exists for key.\n"),
    ("delete k --cas CAS", 0, "done\n", ""),
    ("stats nonsense", 1, "", "client: nonsense: Not found\n"),
];

const TEXT: &[Step<'_>] = &[
    ("add k x", 1, "", "client: k: Not stored.\n"),
    ("replace missing x", 1, "", "client: missing: Not stored.\n"),
    ("incr k", 4, "", "client: k: CLIENT_ERROR cannot increment or decrement non-numeric value\n"),
    ("stats nonsense", 4, "", "client: nonsense: ERROR\n"),
];

const META: &[Step<'_>] = &[
    ("noop", 0, "done\n", ""),
    ("add k x", 1, "", "client: k: Not stored.\n"),
    ("replace missing x", 1, "", "client: missing: Not stored.\n"),
    ("incr count --initial 10 --ttl 100", 0, "10\n", ""),
    ("incr count --initial 10", 0, "11\n", ""),
    ("incr k", 4, "", "client: k: CLIENT_ERROR cannot increment or decrement non-numeric value\n"),
    ("set a\tb x", 0, "stored\n", ""),
    ("get a\tb", 0, "x", ""),
    ("get a\tbc a\t", 1, "", "client: a\\tbc: Not found\nclient: a\\t: Not found\n"),
    ("append k x --cas 18446744073709551615", 1, "", "client: k: Data exists for key.\n"),
    ("delete k --cas 18446744073709551615", 1, "", "client: k: Data exists for key.\n"),
    ("delete k --cas CAS", 0, "done\n", ""),
    ("delete k --cas 1", 1, "", "client: k: Not found\n"),
];

const RESP: &[Step<'_>] = &[
    ("noop", 0, "done\n", ""),
    ("add k x", 1, "", "client: k: Not stored.\n"),
    ("replace missing x", 1, "", "client: missing: Not stored.\n"),
    ("append fresh x", 0, "stored\n", ""),
    ("incr fresh", 4, "", "client: fresh: ERR value is not an integer or out of range\n"),
    ("incr count --by 9223372036854775807", 0, "9223372036854775807\n", ""),
    ("decr other --by 7", 0, "-7\n", ""),
    ("set a\tb x", 0, "stored\n", ""),
    ("get a\tb", 0, "x", ""),
    ("stats nonsense", 0, "", ""),
];

#[test]
fn every_command_speaks_to_people() {
    for talk in talks() {
        talk.assert(SHARED);
        let own: &[&[Step<'_>]] = match talk.protocol {
            "binary" => &[MEMCACHED, BINARY],
            "text" => &[MEMCACHED, TEXT],
            "meta" => &[MEMCACHED, META],
            _ => &[RESP],
        };
        for steps in own {
            talk.assert(steps);
        }
    }
}

#[test]
fn every_command_speaks_json() {
    for talk in talks() {
        let is_resp = talk.protocol == "resp";
        let refused = |key: &str, status: &str| json!({"key": key, "ok": false, "status": status});
        let done = |key: &str| json!({"key": key, "ok": true, "status": "OK"});
        let hit = |key: &str, value: &str, flags: u32| {
            let mut hit = json!({"key": key, "ok": true, "status": "OK", "value": value});
            if !is_resp {
                hit["flags"] = json!(flags);
            }
            hit
        };
        let number = |number: u64| json!({"key": "n", "ok": true, "status": "OK", "number": number});
        let bare = json!({"ok": true, "status": "OK"});
        let kept = if is_resp { 0 } else { 7 };
        let (set, exists) = match talk.protocol {
            "binary" => ("set k one --flags 7", "Data exists for key."),
            "resp" => ("set k one", "Not stored."),
            _ => ("set k one --flags 7", "Not stored."),
        };
        for (words, code, expected) in [
            ("flush", 0, bare.clone()),
            (set, 0, done("k")),
            ("add k x", 1, refused("k", exists)),
            ("append k 2", 0, done("k")),
            ("get k", 0, hit("k", "one2", kept)),
            ("get missing", 1, refused("missing", "Not found")),
            ("get k missing", 1, json!([hit("k", "one2", kept), refused("missing", "Not found")])),
            ("gat 100 k", 0, hit("k", "one2", kept)),
            ("gat 100 missing k", 1, json!([refused("missing", "Not found"), hit("k", "one2", kept)])),
            ("touch k 100", 0, done("k")),
            ("set n 9223372036854775806", 0, done("n")),
            ("incr n", 0, number(9_223_372_036_854_775_807)),
            ("decr n --by 9223372036854775807", 0, number(0)),
            ("delete k", 0, done("k")),
            ("delete k", 1, refused("k", "Not found")),
            ("flush", 0, bare),
        ] {
            let args: Vec<&str> = ["--json"].into_iter().chain(words.split(' ')).collect();
            let run = talk.run(&args, b"");
            let about = format!("client --protocol {} --json {words}", talk.protocol);
            assert_eq!((run.code, run.err.as_str()), (code, ""), "{about}");
            let mut answer: Value = serde_json::from_slice(&run.out).expect("JSON");
            take_cas(&mut answer);
            assert_eq!(answer, expected, "{about}");
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
fn a_ttl_reaches_the_item() {
    for talk in talks() {
        for (words, left) in [
            ("set k v --ttl 5000", Some(5000)),
            ("touch k 4000", Some(4000)),
            ("gat 3000 k", Some(3000)),
            ("replace k v --ttl 2000", Some(2000)),
            ("touch k 0", None),
            ("touch k 1000", Some(1000)),
            ("gat 0 k", None),
            ("set k v", None),
        ] {
            assert_eq!(talk.run(&words.split(' ').collect::<Vec<_>>(), b"").code, 0, "{words}");
            let told = talk.seconds_left("k");
            // Some for a busy machine.
            let is_right = left.map_or(told == -1, |left| (left - 60..=left + 1).contains(&told));
            assert!(is_right, "client --protocol {} {words}: {told} s are left", talk.protocol);
        }
    }
}

#[test]
fn a_key_that_is_no_word_is_the_same_item_in_meta_and_binary() {
    let talks = talks();
    for meta in talks.iter().filter(|talk| talk.protocol == "meta") {
        let mut same = talks.iter().filter(|talk| Rc::ptr_eq(&talk.server, &meta.server));
        let binary = same.find(|talk| talk.protocol == "binary").expect("whoever speaks meta speaks binary");
        for key in ["\t", "a b", "\n\u{ff}", "?>\u{7f}", &"k ".repeat(93)] {
            assert_eq!(meta.run(&["set", key, key], b"").code, 0, "{key:?}");
            assert_eq!(binary.run(&["get", key], b"").out, key.as_bytes());
            assert_eq!(meta.run(&["delete", key], b"").code, 0, "{key:?}");
        }
    }
}

#[test]
fn a_cas_is_told_where_the_protocol_has_one() {
    for talk in talks() {
        let (on_store, on_hit) = match talk.protocol {
            "binary" | "meta" => (true, true),
            "text" => (false, true),
            _ => (false, false),
        };
        let stored = talk.json(&["set", "k", "v"]);
        assert_eq!(stored.get("cas").is_some(), on_store, "{}: {stored}", talk.protocol);
        let hit = talk.json(&["get", "k"]);
        assert_eq!(hit.get("cas").is_some(), on_hit, "{}: {hit}", talk.protocol);
    }
}

#[test]
fn statistics_and_version_are_printed() {
    for talk in talks() {
        let version = talk.run(&["version"], b"");
        let version = String::from_utf8(version.out).expect("a version is text");
        let answer = talk.json(&["version"]);
        assert_eq!(answer, json!({"ok": true, "status": "OK", "version": version.trim_end()}));
        assert!(version.starts_with(|first: char| first.is_ascii_digit()), "{version}");

        let (pid_name, group, group_has) = match talk.protocol {
            "resp" => ("process_id", "memory", "maxmemory"),
            _ => ("pid", "settings", "maxconns"),
        };
        let pid = talk.server.pid().to_string();
        let lines = talk.run(&["stats"], b"");
        let line = format!("{pid_name} {pid}\n");
        assert!(find(&lines.out, line.as_bytes()).is_some(), "{}", lines.out.escape_ascii());
        assert_eq!(talk.json(&["stats"])["statistics"][pid_name], json!(pid));

        let group = talk.json(&["stats", group]);
        assert!(group["statistics"].get(group_has).is_some(), "{group}");
        assert!(group["statistics"].get(pid_name).is_none(), "{group}");
    }
}

#[test]
fn a_value_goes_through_byte_for_byte_from_stdin_and_from_a_file() {
    let value = Random::new(1).bytes(300_000);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("value");
    fs::write(&path, &value).expect("a file is written");
    let path = path.to_str().expect("its path is text");
    for talk in talks() {
        assert_eq!(talk.run(&["set", "in", "-"], &value).code, 0);
        assert_eq!(talk.run(&["set", "file", "--file", path], b"").code, 0);
        for key in ["in", "file"] {
            let read = talk.run(&["get", key], b"");
            assert!(read.code == 0 && read.out == value, "{key} came back changed: {}", read.err);
        }
        assert_eq!(talk.run(&["set", "raw", "-"], b"\xff\n").code, 0);
        let lines = talk.run(&["get", "raw", "raw"], b"");
        assert_eq!(lines.out, b"raw: \\xff\\n\nraw: \\xff\\n\n");
        let answer = talk.json(&["get", "raw"]);
        assert_eq!((&answer["value_hex"], &answer["value"]), (&json!("ff0a"), &Value::Null));
    }
}

#[test]
fn many_keys_are_answered_in_their_order() {
    let keys: Vec<String> = (0..250).map(|number| format!("key{number}")).collect();
    for talk in talks() {
        let mut expected = String::new();
        for key in keys.iter().step_by(33) {
            assert_eq!(talk.run(&["set", key, key], b"").code, 0);
            expected.extend([key, ": ", key, "\n"]);
        }
        let args: Vec<&str> = ["get"].into_iter().chain(keys.iter().map(String::as_str)).collect();
        let read = talk.run(&args, b"");
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
fn what_a_protocol_has_no_words_for_is_refused_before_anything_is_sent() {
    if program().is_none() {
        return skip_or_fail("the example client");
    }
    let long = format!("\t{}", "k".repeat(187));
    for (protocol, args, says) in [
        ("text", &["noop"][..], "no such command"),
        ("text", &["add", "k", "v", "--cas", "1"], "no add or replace with a CAS"),
        ("text", &["append", "k", "v", "--cas", "1"], "no append or prepend with a CAS"),
        ("text", &["delete", "k", "--cas", "1"], "no delete with a CAS"),
        ("text", &["incr", "n", "--initial", "1"], "no initial number"),
        ("text", &["get", "k", "a b"], "no key with a space"),
        ("text", &["get", "a\r\nversion"], "no key with a space or a control character"),
        ("text", &["stats", "a\nb"], "no group with a control character"),
        ("meta", &["stats", "a\nb"], "no group with a control character"),
        ("meta", &["get", &long], "no key of over 250 bytes in base64"),
        ("resp", &["set", "k", "v", "--flags", "1"], "no flags"),
        ("resp", &["set", "k", "v", "--cas", "1"], "no CAS"),
        ("resp", &["cas", "k", "1", "v"], "no CAS"),
        ("resp", &["append", "k", "v", "--cas", "1"], "no CAS"),
        ("resp", &["delete", "k", "--cas", "1"], "no CAS"),
        ("resp", &["prepend", "k", "v"], "no prepend"),
        ("resp", &["incr", "n", "--initial", "1"], "no initial number"),
        ("resp", &["incr", "n", "--by", "9223372036854775808"], "no number above 9223372036854775807"),
        ("resp", &["flush", "--delay", "1"], "no flush with a delay"),
    ] {
        let args: Vec<&str> = ["--protocol", protocol].iter().chain(args).copied().collect();
        // Nobody listens there, which would be told if it were asked.
        let run = run("127.0.0.1:1", &args, b"");
        let says = format!("client: --protocol {protocol} has {says}");
        assert_eq!(run.code, 2, "client {args:?}: {}", run.err);
        assert!(run.err.starts_with(&says), "client {args:?}: {}", run.err);
    }
}

#[test]
fn a_malformed_answer_is_told_with_what_is_wrong() {
    if program().is_none() {
        return skip_or_fail("the example client");
    }
    let endless = "x".repeat(8 << 10);
    for (protocol, words, answer, says) in [
        ("text", "get k", "VALUE k 0 1\r\nx\r\nEND\r\n", "'VALUE k 0 1' for an answer to a read"),
        ("text", "get k", "VALUE k 0 +1 1\r\nx\r\nEND\r\n", "'VALUE k 0 +1 1' for an answer"),
        ("text", "get k", "VALUE k 4294967296 1 1\r\nx\r\nEND\r\n", "'VALUE k 4294967296 1 1' for"),
        ("text", "get k", "VALUE k 0 4294967295 1\r\n", "data of 4294967295 bytes, limit is"),
        ("text", "get k", "VALUE other 0 1 1\r\nx\r\nEND\r\n", "'VALUE other 0 1 1' for an answer"),
        ("text", "get k", "VALUE k 0 1 1\r\nxyz\r\nEND\r\n", "data that goes on behind its 1 bytes"),
        ("text", "get k", "VALUE k 0 1 1\r\nx\r\nVALUE k 0 1 1\r\n", "'VALUE k 0 1 1' for an answer"),
        ("text", "set k v", "stored\r\n", "'stored' for an answer to set"),
        ("text", "set k v", "EXISTS\r\n", "'EXISTS' for an answer to set"),
        ("text", "delete k", "DELETED\n", "a line that does not end with \\r\\n"),
        ("text", "incr k", "12x\r\n", "'12x' for an answer to incr"),
        ("text", "incr k", "-1\r\n", "'-1' for an answer to incr"),
        ("text", "stats", "STAT pid 1\r\nENDE\r\n", "'ENDE' for an answer to stats"),
        ("text", "version", &endless, "a line of over 8192 bytes"),
        ("meta", "get k", "VA 1 f0\r\nx\r\n", "'VA 1 f0' for an answer"),
        ("meta", "get k", "VA x f0 c1\r\nx\r\n", "'VA x f0 c1' for an answer"),
        ("meta", "get k", "VA 1 f0 f0 c1\r\nx\r\n", "'VA 1 f0 f0 c1' for an answer"),
        ("meta", "get k", "VA 1 f0 c1 s1\r\nx\r\n", "'VA 1 f0 c1 s1' for an answer"),
        ("meta", "get k", "HD f0 c1\r\n", "'HD f0 c1' for an answer"),
        ("meta", "set k v", "EN\r\n", "'EN' for an answer"),
        ("meta", "incr k", "VA 1 c1\r\nx\r\n", "'VA 1 c1' for an answer"),
        ("resp", "get k", "*1\r\n$1\r\nx\r\n", "'*1' for an answer"),
        ("resp", "get k", "$-2\r\n", "'$-2' for an answer"),
        ("resp", "get k", "$1\r\nxyz\r\n", "data that goes on behind its 1 bytes"),
        ("resp", "get k", "+OK\r\n", "'+OK' for an answer"),
        ("resp", "set k v", "$-1\r\n", "'$-1' for an answer"),
        ("resp", "delete k", ":2\r\n", "':2' for an answer"),
        ("resp", "incr k", ":9223372036854775808\r\n", "':9223372036854775808' for an answer"),
        ("resp", "noop", "\r\n", "'' for an answer"),
    ] {
        let args: Vec<&str> = ["--protocol", protocol].into_iter().chain(words.split(' ')).collect();
        let run = run_against(answer, &args);
        assert_eq!(run.code, 4, "{args:?} and {answer:?}: {}", run.err);
        let begins = "client: the server answered nonsense: ";
        assert!(
            run.err.starts_with(begins) && run.err.contains(says),
            "{args:?} and {answer:?}: {}",
            run.err
        );
    }
    let cut = run_against("VALUE k 0 5 1\r\nva", &["--protocol", "text", "get", "k"]);
    assert_eq!((cut.code, cut.out.as_slice()), (3, &b""[..]), "{}", cut.err);
}

/// Runs the client against a server that answers this to whatever it is asked, and closes.
fn run_against(answer: &str, args: &[&str]) -> Run {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound address").to_string();
    let answer = answer.as_bytes().to_vec();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        // What is asked comes in one write, and is read before this is closed, which would else be a reset.
        let asked = stream.read(&mut [0; 4096]).expect("a request is read");
        assert!(asked > 0, "a request came");
        stream.write_all(&answer).expect("an answer is written");
    });
    let ran = run(&address, args, b"");
    server.join().expect("the server ends");
    ran
}

#[test]
fn what_goes_back_and_forth_is_shown_on_demand() {
    for talk in talks() {
        let run = talk.run(&["--verbose", "set", "k", "v"], b"");
        let shown: &[&str] = match talk.protocol {
            "binary" => &["> SET", "< SET"],
            "text" => &["> set k 0 0 1\n", "< STORED\n"],
            "meta" => &["> ms k 1 c MS F0 T0\n", "< HD c"],
            _ => &["> SET k v\n", "< +OK\n"],
        };
        for line in shown {
            assert!(run.err.contains(line), "{}: {}", talk.protocol, run.err);
        }
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
fn a_line_for_the_password_file_lets_its_user_in_and_tells_no_password() {
    if program().is_none() {
        return skip_or_fail("the example client");
    }
    let made = run("127.0.0.1:1", &["passwd", "ann"], b"pencil\nand more");
    assert_eq!(made.code, 0, "{}", made.err);
    let line = String::from_utf8(made.out).expect("text");
    assert!(line.starts_with("ann:SCRAM-SHA-256$4096:") && !line.contains("pencil"), "{line}");
    let directory = tempfile::TempDir::new().expect("a folder");
    let file = directory.path().join("users");
    fs::write(&file, line).expect("a file is written");
    let server = Server::start(&["-Y", file.to_str().expect("text")]);
    for (password, answer) in [("pencil", "STORED\r\n"), ("pencil\n", "CLIENT_ERROR ")] {
        let mut stream = server.connect();
        let said = format!("set any 0 0 {}\r\nann {password}\r\n", 4 + password.len());
        stream.write_all(said.as_bytes()).expect("the server reads");
        let mut told = vec![0; answer.len()];
        stream.read_exact(&mut told).expect("the server answers");
        assert_eq!(told, answer.as_bytes(), "{password:?}");
    }
    assert_eq!(run("127.0.0.1:1", &["passwd", "a:b"], b"pencil").code, 2);
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
    let bytes = fs::read(fixture).expect("the fixture is there");
    fs::write(&torn, &bytes[..bytes.len() - 30]).expect("a file is written");
    let inspected = run("127.0.0.1:1", &["inspect", torn.to_str().expect("text"), "--json"], b"");
    let told: Value = serde_json::from_slice(&inspected.out).expect("JSON");
    assert_eq!(
        (inspected.code, &told["items"], &told["pending_flush"]),
        (1, &json!(2), &json!(4_100_000_000_u32))
    );
    assert!(told["state"].as_str().is_some_and(|state| state.starts_with("damaged: byte ")), "{told}");
    assert!(told["good_bytes"].as_u64() < Some(bytes.len() as u64 - 30));
}
